"""An app folder with a task hub in it, and a host of that hub: what the command line finds and talks to."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import azure.durable_functions as df
import uvicorn
from click import Command
from click.testing import CliRunner, Result

from perdure.cli.hub import hub
from perdure.cli.instances import instances
from perdure.core.codec import payloads
from perdure.core.cursor import OrchestrationCursor
from perdure.core.tasks import ActivityCall, EventTask
from perdure.engine.client import TaskHubClient
from perdure.engine.thread import EngineThread
from perdure.host.invoke import Activity, LocalExecutor
from perdure.host.user_code import UserCode
from perdure.stores import open_store
from perdure.webapi.guard import Guard
from perdure.webapi.routes import management_app

HUB = "Orders"

Code = Generator[Any, Any, Any]


def greet(cursor: OrchestrationCursor) -> Code:
    """Calls one activity with its input."""
    return (yield ActivityCall("hello", cursor.input))


def approval(cursor: OrchestrationCursor) -> Code:
    """Waits for an event and returns what it carries."""
    cursor.custom_status = payloads.encode({"asks": "Approval"})
    return (yield EventTask("Approval", cursor))


def counter(context: df.DurableEntityContext) -> None:
    """Adds its input to its state."""
    context.set_state(context.get_state(int) + context.get_input())


class App:
    """An app folder whose hub is named in host.json."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / ".perdure"
        self.state.mkdir()
        self.database = self.state / f"{HUB}.db"
        self.note = self.state / "host.json"
        settings = {"version": "2.0", "extensions": {"durableTask": {"hubName": HUB}}}
        (folder / "host.json").write_text(json.dumps(settings), "utf-8")

    def instances(self, *arguments: str) -> Result:
        """Run `perdure instances` on this app."""
        return self._run(instances, *arguments)

    def hub(self, *arguments: str) -> Result:
        """Run `perdure hub` on this app."""
        return self._run(hub, *arguments)

    def _run(self, group: Command, *arguments: str) -> Result:
        return CliRunner().invoke(group, [*arguments, "--app", str(self.folder)], catch_exceptions=False)

    @contextmanager
    def engine(self) -> Iterator[TaskHubClient]:
        """Run the hub for a while."""
        user_code = UserCode(threads=1, concurrency=1)
        user_code.start()
        hello = Activity("hello", lambda name: f"Hello {name}", "name")
        orchestrators, entities = {"greet": greet, "approval": approval}, {"Counter": df.Entity(counter)}
        executor = LocalExecutor(orchestrators, {"hello": hello}, user_code, entities=entities)
        engine = EngineThread(open_store(f"sqlite:{self.database}", hub=HUB), executor)
        engine.start()
        try:
            yield engine.client
        finally:
            engine.stop()
            user_code.stop()

    @contextmanager
    def host(self) -> Iterator[TaskHubClient]:
        """Run the hub behind its API, and leave the note that a host leaves."""
        with self.engine() as client:
            app = Guard(management_app(client, HUB))
            server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", ws="none", lifespan="off"))
            thread = threading.Thread(target=server.run)
            thread.start()
            try:
                eventually(lambda: server.started)
                port = server.servers[0].sockets[0].getsockname()[1]
                self.leave_note(f"http://127.0.0.1:{port}")
                yield client
            finally:
                server.should_exit = True
                thread.join()

    def leave_note(self, url: str, pid: int | None = None) -> None:
        """Write what a running host writes about itself."""
        self.note.write_text(json.dumps({"url": url, "pid": pid or os.getpid(), "hub": HUB}), "utf-8")


def start(client: TaskHubClient, name: str, instance_id: str, value: Any = None) -> None:
    """Start an instance and wait until it has ended, or waits for an event."""
    asyncio.run(client.start(name, payloads.encode(value), instance_id=instance_id))
    eventually(lambda: _rests(client, instance_id))


def ended(client: TaskHubClient, instance_id: str) -> Any:
    """The instance's output once it has ended."""
    return payloads.decode(asyncio.run(client.wait(instance_id)).output)


def eventually(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    """Wait for something that has to come true."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def lines(result: Result) -> list[Any]:
    """The values of JSON lines."""
    return [json.loads(line) for line in result.stdout.splitlines()]


def _rests(client: TaskHubClient, instance_id: str) -> bool:
    instance = asyncio.run(client.get(instance_id))
    return instance is not None and (instance.status.is_terminal or instance.custom_status is not None)
