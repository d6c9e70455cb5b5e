"""The guide's app that asks for keys and hands out links."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
from azure.durable_functions import DurableOrchestrationClient

from examples_kit import HUB_NAME, example
from perdure.engine.thread import EngineThread
from perdure.host.http.access import Access
from perdure.host.http.keys import Keys
from perdure.host.http.trigger import HttpTriggers
from perdure.host.invoke import LocalExecutor
from perdure.host.sdk.our_sdk import fitting_client
from perdure.host.user_code import UserCode
from perdure.stores.memory import MemoryStore
from perdure.webapi.access import ManagementAccess
from perdure.webapi.links import management_urls
from perdure.webapi.routes import is_management_path, management_app

ORIGIN = "http://localhost:7071"
JSON = {"Content-Type": "application/json"}


def test_a_link_approves_what_only_a_key_could_order(tmp_path: Path):
    access = Access(Keys(tmp_path / "keys.json"))
    access.prepare(["take_order"])
    key = {"x-functions-key": access.keys.values()["functions/take_order/default"]}
    management = ManagementAccess(
        HUB_NAME, is_key=access.may_manage, rpc_segment=access.rpc_segment, signature=access.signature
    )

    with example("approvals") as (_, app):
        code = UserCode(threads=1, concurrency=1)
        engine = EngineThread(MemoryStore(1), LocalExecutor(app.orchestrators, {}, code))
        code.start()
        engine.start()
        links = partial(management_urls, ORIGIN, HUB_NAME, access=management)
        client = DurableOrchestrationClient(engine.client, links)
        functions = HttpTriggers(
            app.http, code, lambda origin, function, is_text: fitting_client(function, client), may_call=access.may_call
        )
        api = management_app(engine.client, HUB_NAME, management)

        async def both(scope: Any, receive: Any, send: Any) -> None:
            await (api if is_management_path(scope["path"]) else functions)(scope, receive, send)

        async def played() -> list[int]:
            transport = httpx2.ASGITransport(both)
            async with httpx2.AsyncClient(transport=transport, base_url=ORIGIN) as http:
                without = await http.post("/api/orders/17")
                taken = await http.post("/api/orders/17", headers=key)
                given = json.loads(taken.text)
                watched = await http.get(given["watch"])
                misused = await http.delete(given["watch"])
                approved = await http.post(given["approve"], content='"yes"', headers=JSON)
                await engine.client.wait("17", timedelta(seconds=20))
                answers = [without, taken, watched, misused, approved, await http.get(given["watch"])]
                return [each.status_code for each in answers]

        try:
            codes = asyncio.run(played())
        finally:
            engine.stop()
            code.stop()

    assert codes == [401, 202, 202, 401, 202, 200]
