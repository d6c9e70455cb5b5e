"""The guide's app whose orchestrations time starts."""

from __future__ import annotations

import asyncio
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

from azure.durable_functions import DurableOrchestrationClient
from azure.functions.timer import TimerRequest
from start_kit import eventually, started

from examples_kit import FOLDER, program
from perdure.engine.thread import EngineThread
from perdure.host.invocation_context import InvocationContext
from perdure.host.invoke import LocalExecutor
from perdure.host.sdk.our_sdk import OurSdk, fitting_client
from perdure.host.timers.retry_policy import RetryContext
from perdure.host.user_code import UserCode
from perdure.stores.memory import MemoryStore
from perdure.webapi.links import management_urls

LATE = TimerRequest(past_due=True, schedule_status={"Next": "2031-05-05T02:30:00+02:00"})


def test_each_day_is_closed_once_and_a_sync_function_starts_too():
    with program("timers") as module:
        functions: dict[str, Any] = {
            each.get_function_name(): each.get_user_function() for each in module.app.get_functions()
        }
        code = UserCode(threads=1, concurrency=1)
        executor = LocalExecutor({"close_books": OurSdk().orchestrator(functions["close_books"])}, {}, code)
        engine = EngineThread(MemoryStore(1), executor)
        code.start()
        engine.start()
        try:
            client = DurableOrchestrationClient(
                engine.client, management_urls("http://localhost:7071", "TestHub", "INSTANCEID")
            )

            async def played() -> dict[str, str | None]:
                for _ in range(2):
                    await functions["close_of_day"](LATE, client)
                context = InvocationContext("cleanup", ".", retry_context=RetryContext(0, 5, None))
                sync_client = fitting_client(functions["cleanup"], client)
                await asyncio.to_thread(functions["cleanup"], TimerRequest(), sync_client, context)
                ids = ("close-2031-05-05", "cleanup")
                return {each: (await engine.client.wait(each, timedelta(seconds=20))).output for each in ids}

            outputs = asyncio.run(played())
        finally:
            engine.stop()
            code.stop()

    assert outputs == {"close-2031-05-05": '"2031-05-05"', "cleanup": '"everything"'}


def test_the_app_runs_with_its_schedule_from_a_setting(tmp_path: Path):
    shutil.copy(FOLDER / "timers.py", tmp_path / "function_app.py")
    (tmp_path / "host.json").write_text('{ "version": "2.0" }')

    with started(tmp_path, environ={"CLEANUP_SCHEDULE": "0 0 3 * * sun"}) as host:
        functions = {each["name"]: each for each in (host.find("started") or {})["functions"]}
        path = "/runtime/webhooks/durabletask/instances/cleanup"
        eventually(lambda: host.request("GET", path).status in (200, 202))

        assert functions["cleanup"]["schedule"] == "0 0 3 * * sun"
        assert host.result("cleanup")["output"] == "everything"
