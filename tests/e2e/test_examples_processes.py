"""The guide's app that computes, in one process and in several."""

from __future__ import annotations

import asyncio
import json
import shutil
from datetime import timedelta
from pathlib import Path

from start_kit import started

from examples_kit import FOLDER, example
from perdure.core.codec import payloads
from perdure.engine.thread import EngineThread
from perdure.host.invoke import LocalExecutor
from perdure.host.user_code import UserCode
from perdure.stores.memory import MemoryStore


def test_primes_in_one_process():
    with example("processes") as (_, app):
        user_code = UserCode(threads=2, concurrency=4)
        engine = EngineThread(MemoryStore(1), LocalExecutor(app.orchestrators, app.activities, user_code))
        user_code.start()
        engine.start()
        try:

            async def counted() -> object:
                client = engine.client
                return await client.wait(await client.start("primes", "[100, 10]"), timedelta(seconds=20))

            instance = asyncio.run(counted())
        finally:
            engine.stop()
            user_code.stop()

    assert payloads.decode(getattr(instance, "output", None)) == 25


def test_primes_in_worker_processes(tmp_path: Path):
    shutil.copy(FOLDER / "processes.py", tmp_path / "function_app.py")
    (tmp_path / "host.json").write_text('{ "version": "2.0" }')

    with started(tmp_path, environ={"FUNCTIONS_WORKER_PROCESS_COUNT": "2"}) as host:
        path = "/runtime/webhooks/durabletask/orchestrators/primes"
        instance_id = host.request("POST", path, json.dumps([100, 10])).json()["id"]

        assert host.result(instance_id)["output"] == 25
