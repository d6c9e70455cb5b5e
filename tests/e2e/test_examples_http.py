"""The examples of the guide to HTTP, each on a host of its own."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from azure.durable_functions import DurableOrchestrationClient

from examples_kit import HUB_NAME, example
from perdure.engine.client import TaskHubClient
from perdure.engine.thread import EngineThread
from perdure.host.app.loading import LoadedApp
from perdure.host.http.trigger import HttpTriggers
from perdure.host.invoke import LocalExecutor
from perdure.host.sdk.our_sdk import fitting_client
from perdure.host.user_code import UserCode
from perdure.stores.memory import MemoryStore
from perdure.webapi.links import management_urls

ORIGIN = "http://localhost:7071"


@contextmanager
def running(app: LoadedApp) -> Iterator[tuple[TaskHubClient, HttpTriggers]]:
    """The app's task hub and its HTTP functions."""
    user_code = UserCode(threads=2, concurrency=4)
    engine = EngineThread(MemoryStore(1), LocalExecutor(app.orchestrators, app.activities, user_code))
    user_code.start()
    engine.start()
    client = DurableOrchestrationClient(engine.client, management_urls(ORIGIN, HUB_NAME, "INSTANCEID"))

    def client_for(origin: str, function: Any, is_text: bool) -> Any:
        return fitting_client(function, client)

    try:
        yield engine.client, HttpTriggers(app.http, user_code, client_for)
    finally:
        engine.stop()
        user_code.stop()


@pytest.fixture
def _without_extension() -> Iterator[None]:
    """Ends that the web extension is imported: with it, all apps of a process get its requests."""
    yield
    for name in [name for name in sys.modules if name.startswith("azurefunctions.")]:
        del sys.modules[name]


def asked(functions: HttpTriggers, *requests: tuple[str, str, dict[str, Any]]) -> list[httpx2.Response]:
    """The answers to some requests: method, path, and what `httpx2` takes besides."""

    async def ask() -> list[httpx2.Response]:
        transport = httpx2.ASGITransport(functions)
        async with httpx2.AsyncClient(transport=transport, base_url=f"{ORIGIN}/api") as http:
            answers = [await http.request(method, path, **more) for method, path, more in requests]
        await functions.stop()
        return answers

    return asyncio.run(ask())


def output(hub: TaskHubClient, instance_id: str) -> str | None:
    return asyncio.run(hub.wait(instance_id, timedelta(seconds=20))).output


def test_http_functions():
    photos = [("photo", ("a.png", b"12345")), ("photo", ("b.png", b"123"))]

    with example("http_functions") as (_, app), running(app) as (hub, functions):
        order, part, none, start, photo, visit = asked(
            functions,
            ("GET", "/orders/7", {}),
            ("GET", "/orders/7/address", {}),
            ("GET", "/orders/0", {}),
            ("POST", "/orders", {"json": {"item": "tea"}}),
            ("POST", "/photos", {"data": {"album": "sea"}, "files": photos}),
            ("GET", "/visit", {}),
        )
        assert output(hub, start.json()["id"]) == '"tea"'

    assert [order.text, part.text, none.status_code] == ["order 7, all of it", "order 7, address", 404]
    assert photo.text == "sea: a.png: 5 bytes, b.png: 3 bytes"
    assert visit.headers.get_list("set-cookie") == ["seen=yes; Path=/", "theme=dark; Path=/"]
    assert (visit.headers["content-type"], len(visit.headers["x-call"])) == ("text/html; charset=utf-8", 36)


def test_web_app():
    with example("web_app") as (_, app), running(app) as (hub, functions):
        price, count, start = asked(
            functions,
            ("GET", "/prices/tea", {}),
            ("GET", "/count/3", {}),
            ("POST", "/orders", {"json": {"item": "tea"}}),
        )
        assert output(hub, start.json()["id"]) == '"tea"'

    assert (price.json(), count.text) == ({"price": 3}, "0\n1\n2\n")


@pytest.mark.usefixtures("_without_extension")
def test_streams():
    with example("streams") as (_, app), running(app) as (_, functions):
        upload, rows = asked(functions, ("POST", "/upload", {"content": b"x" * 100_000}), ("GET", "/rows/2", {}))

    assert (upload.json(), rows.text) == ({"bytes": 100_000}, "0\n1\n")
