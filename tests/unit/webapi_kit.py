"""A task hub in memory, with orchestrators to talk about, behind the management API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import azure.durable_functions as df
import httpx2

from perdure.core.codec import payloads
from perdure.core.cursor import OrchestrationCursor
from perdure.core.tasks import ActivityCall, EventTask, SubOrchestrationCall, TaskAll
from perdure.engine.check import check_hub
from perdure.engine.store import Store
from perdure.engine.thread import EngineThread
from perdure.host.invoke import Activity, EntityRunner, LocalExecutor
from perdure.host.user_code import UserCode
from perdure.stores.memory import MemoryStore
from perdure.webapi.routes import management_app

ORIGIN = "http://localhost:7071"
BASE = "/runtime/webhooks/durabletask"
RPC_BASE = "/durabletask"
DEADLINE_S = 10.0
HUB = "TestHub"

Code = Generator[Any, Any, Any]


def echo(cursor: OrchestrationCursor) -> Any:
    """Returns its input."""
    return payloads.decode(cursor.input)


def greet(cursor: OrchestrationCursor) -> Code:
    """Calls one activity with its input."""
    return (yield ActivityCall("hello", cursor.input))


def approval(cursor: OrchestrationCursor) -> Code:
    """Waits for an event and returns what it carries."""
    cursor.custom_status = '"waiting"'
    return (yield EventTask("Approval", cursor))


def broken(cursor: OrchestrationCursor) -> Code:
    """Fails."""
    yield ActivityCall("hello", '"nobody"')
    raise ValueError("no stock")


def unlucky(cursor: OrchestrationCursor) -> Code:
    """Fails the first time, because its activity does."""
    return (yield ActivityCall("fails_once", cursor.input))


def family(cursor: OrchestrationCursor) -> Code:
    """Has two children that wait for an event; they are called like itself and a number."""
    ids = [f"{cursor.instance_id}-{number}" for number in (1, 2)]
    yield TaskAll([SubOrchestrationCall("approval", None, each, None) for each in ids])


def counter(context: df.DurableEntityContext) -> Any:
    """Adds, and shows what it got."""
    match context.operation_name:
        case "add":
            context.set_state(context.get_state(int) + context.get_input())
        case "set":
            context.set_state(context.get_input())
        case "fail":
            context.set_state("half done")
            raise ValueError("no stock")
        case "delete":
            context.destruct_on_exit()
        case other:
            context.set_state(["?", other])


def executor(user_code: UserCode, entities: Mapping[str, EntityRunner] | None = None) -> LocalExecutor:
    """Who runs these, and `entities` beside the counter."""
    seen: set[str] = set()

    def fails_once(name: str) -> str:
        if name not in seen:
            seen.add(name)
            raise ConnectionError("not this time")
        return f"Hello {name}"

    activities = (Activity("hello", lambda name: f"Hello {name}", "name"), Activity("fails_once", fails_once, "name"))
    orchestrators = (echo, greet, approval, broken, unlucky, family)
    return LocalExecutor(
        {each.__name__: each for each in orchestrators},
        {each.name: each for each in activities},
        user_code,
        entities={"Counter": df.Entity(counter), **(entities or {})},
    )


@contextmanager
def running_engine(store: Store, entities: Mapping[str, EntityRunner] | None = None) -> Iterator[EngineThread]:
    """An engine on `store` that runs the orchestrators above."""
    user_code = UserCode(threads=2, concurrency=2)
    user_code.start()
    engine = EngineThread(store, executor(user_code, entities))
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()
        user_code.stop()


class Api:
    """Sends requests to the management API of an engine."""

    def __init__(self, engine: EngineThread) -> None:
        self.client = engine.client
        self.app = management_app(engine.client, HUB)

    def request(self, verb: str, path: str, *, base: str = BASE, **options: Any) -> httpx2.Response:
        """Send one request and return its answer."""

        async def send() -> httpx2.Response:
            transport = httpx2.ASGITransport(self.app)
            async with httpx2.AsyncClient(transport=transport, base_url=ORIGIN) as http:
                return await http.request(verb, f"{base}/{path}", **options)

        return asyncio.run(send())

    def get(self, path: str, **options: Any) -> httpx2.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx2.Response:
        return self.request("POST", path, **options)

    def delete(self, path: str, **options: Any) -> httpx2.Response:
        return self.request("DELETE", path, **options)

    def start(self, name: str, instance_id: str, body: str = "") -> None:
        """Start an instance and expect that to work."""
        assert self.post(f"orchestrators/{name}/{instance_id}", content=body).status_code == 202

    def run(self, name: str, instance_id: str, body: str = "") -> httpx2.Response:
        """Start an instance and return its status once it has ended."""
        self.post(f"orchestrators/{name}/{instance_id}?timeout=10", content=body)
        answer = self.get(f"instances/{instance_id}")
        assert answer.status_code == 200, answer.text
        return answer

    def until(self, instance_id: str, status: str) -> dict[str, Any]:
        """The status of an instance once it is this one."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            answer = self.get(f"instances/{instance_id}")
            if answer.content and answer.json()["runtimeStatus"] == status:
                return answer.json()
            assert time.monotonic() < deadline, f"{instance_id} is not {status}: {answer.text}"

    def signal(self, entity: str, operation: str, value: Any) -> None:
        """Send an operation to an entity, such as `counter/a`, and expect that to work."""
        assert self.post(f"entities/{entity}?op={operation}", json=value).status_code == 202

    def until_state(self, entity: str, state: Any) -> httpx2.Response:
        """The answer with the state of an entity once it is this one; `...` stands for none."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            answer = self.get(f"entities/{entity}")
            if (answer.json() if answer.status_code == 200 else ...) == state:
                return answer
            assert time.monotonic() < deadline, f"{entity} is not {state!r}: {answer.status_code} {answer.text}"

    def ended(self, instance_id: str) -> None:
        """Wait until an instance has ended."""
        asyncio.run(self.client.wait(instance_id))


@contextmanager
def running_api(entities: Mapping[str, EntityRunner] | None = None) -> Iterator[Api]:
    """The API on a hub of its own, which the checker looks at in the end."""
    store = MemoryStore(partitions=1)
    with running_engine(store, entities) as engine:
        yield Api(engine)
    assert asyncio.run(check_hub(store)).findings == ()
