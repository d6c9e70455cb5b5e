"""The examples of the reference that need threads, sockets or a host of their own."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2
import pytest
from azure.durable_functions import DurableOrchestrationClient
from start_kit import started

from examples_kit import FOLDER, HUB_NAME, example, program
from perdure.core.codec import payloads
from perdure.core.durable_http import HTTP_ACTIVITY
from perdure.core.records import RuntimeStatus
from perdure.engine.client import TaskHubClient
from perdure.engine.thread import EngineThread
from perdure.host.app.loading import LoadedApp
from perdure.host.http.trigger import HttpTriggers
from perdure.host.http_activity import http_activity
from perdure.host.http_reach import EVERYWHERE
from perdure.host.invoke import LocalExecutor
from perdure.host.sdk.our_sdk import fitting_client
from perdure.host.user_code import UserCode
from perdure.stores.memory import MemoryStore
from perdure.webapi.links import management_urls

ORIGIN = "http://localhost:7071"
PATIENCE = timedelta(seconds=20)


class Elsewhere(BaseHTTPRequestHandler):
    """A service: a job that takes two questions, a page that is not there at first, and a list for who has a token."""

    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: Any, *headers: tuple[str, str]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(content)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def respond(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked: list[str] = self.server.asked  # type: ignore[attr-defined]
        asked.append(self.path)
        match self.path:
            case "/videos" | "/broken":
                self.answer(202, None, ("Location", f"{self.path}/1"), ("Retry-After", "0"))
            case "/videos/1" if asked.count(self.path) < 2:
                self.answer(202, None, ("Location", self.path), ("Retry-After", "0"))
            case "/videos/1":
                self.answer(200, {"format": "mp4"})
            case "/page" if asked.count(self.path) > 1:
                self.answer(200, "here")
            case "/groups" if self.headers["Authorization"] == "Bearer token":
                self.answer(200, ["staff"])
            case _:
                self.answer(503, "not now")

    do_GET = do_POST = respond

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        server.asked = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def running(app: LoadedApp) -> Iterator[tuple[TaskHubClient, HttpTriggers]]:
    """The app on threads of its own: the task hub's client, and the app's HTTP functions."""
    user_code = UserCode(threads=2, concurrency=4)
    activities = {**app.activities, HTTP_ACTIVITY: http_activity(EVERYWHERE)}
    engine = EngineThread(MemoryStore(1), LocalExecutor(app.orchestrators, activities, user_code))
    user_code.start()
    engine.start()
    urls = management_urls(ORIGIN, HUB_NAME, "INSTANCEID")
    client = DurableOrchestrationClient(engine.client, urls)
    try:
        yield (
            engine.client,
            HttpTriggers(app.http, user_code, lambda origin, function, is_text: fitting_client(function, client)),
        )
    finally:
        engine.stop()
        user_code.stop()


def test_http_calls(elsewhere: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "azure.identity", _identity())

    async def ended(client: TaskHubClient, name: str, path: str) -> tuple[RuntimeStatus, Any]:
        instance = await client.wait(await client.start(name, json.dumps(elsewhere + path)), PATIENCE)
        return instance.status, payloads.decode(instance.output)

    with example("http_calls") as (_, app), running(app) as (client, _):
        done = asyncio.run(ended(client, "convert_video", "/videos"))
        failed = asyncio.run(ended(client, "convert_video", "/broken"))
        page = asyncio.run(ended(client, "fetch_stubbornly", "/page"))
        groups = asyncio.run(ended(client, "list_groups", "/groups"))

    assert done == (RuntimeStatus.COMPLETED, {"format": "mp4"})
    assert failed[0] is RuntimeStatus.FAILED
    assert "the job failed with 503" in failed[1]
    assert page == (RuntimeStatus.COMPLETED, '"here"')
    assert groups == (RuntimeStatus.COMPLETED, ["staff"])


def test_a_client_function_without_async():
    async def asked(functions: HttpTriggers) -> list[str]:
        transport = httpx2.ASGITransport(functions)
        async with httpx2.AsyncClient(transport=transport, base_url=ORIGIN) as http:
            return [(await http.get(f"/api/{path}")).text for path in ("double/4", "double/5", "doubled")]

    with example("sync_client") as (_, app), running(app) as (_, functions):
        answers = asyncio.run(asked(functions))

    assert answers == ["8", "10", "8, 10"]


def test_a_program_that_is_no_function_app(tmp_path: Path):
    folder = Path(shutil.copytree(FOLDER, tmp_path / "app", ignore=shutil.ignore_patterns(".perdure", "__pycache__")))

    with program("outside") as module:
        ask: Callable[..., Coroutine[Any, Any, Any]] = module.greet_everywhere
        with started(folder, environ={"PYTHON_SCRIPT_FILE_NAME": "calling.py"}):
            greetings = asyncio.run(ask(folder, ["Rome", "Oslo"]))

    assert greetings == ["Hello Rome!", "Hello Oslo!"]


def _identity() -> ModuleType:
    """Stands for the package azure-identity."""

    class DefaultAzureCredential:
        def __enter__(self) -> DefaultAzureCredential:
            return self

        def __exit__(self, *_: object) -> None: ...

        def get_token(self, scope: str) -> Any:
            class Token:
                token = "token"

            return Token

    identity = ModuleType("azure.identity")
    vars(identity)["DefaultAzureCredential"] = DefaultAzureCredential
    return identity
