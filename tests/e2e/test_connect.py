"""A program that is no function app, and a task hub: with a host of it beside, or without one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cli_kit import HUB, App, ended, eventually

import perdure
from perdure.core.codec import payloads
from perdure.core.records import EntityQuery, InstanceQuery, RuntimeStatus, StartPolicy
from perdure.engine.client import TaskHubClient
from perdure.errors import (
    HostStoppedError,
    InstanceExistsError,
    InstanceFinishedError,
    InstanceNotFailedError,
    InstanceNotFinishedError,
    InstanceNotFoundError,
    InvalidInstanceIdError,
    StoreLockedError,
    StoreRefusedError,
    UnknownFunctionError,
)

Scenario = Callable[[TaskHubClient], Coroutine[Any, Any, Any]]

RUNNING, COMPLETED, TERMINATED = RuntimeStatus.RUNNING, RuntimeStatus.COMPLETED, RuntimeStatus.TERMINATED


@pytest.fixture
def app(tmp_path: Path) -> App:
    return App(tmp_path)


def connected(where: str | Path, scenario: Scenario, hub: str | None = None) -> Any:
    """What a scenario returns that is played with a client."""

    async def play() -> Any:
        async with perdure.connect(where, hub) as client:
            return await scenario(client)

    return asyncio.run(play())


async def until(client: TaskHubClient, instance_id: str, status: RuntimeStatus) -> None:
    async with asyncio.timeout(10):
        while (instance := await client.get(instance_id)) is None or instance.status is not status:
            await asyncio.sleep(0.01)


# ---------------------------------------------------------------------- without a host


def test_what_is_started_without_a_host_waits_for_one(app: App):
    async def start(client: TaskHubClient) -> str:
        assert await client.count(InstanceQuery()) == {}
        return await client.start("greet", '"Tokyo"', tags={"a": "b"})

    instance_id = connected(app.folder, start, HUB)

    with app.engine() as client:
        assert ended(client, instance_id) == "Hello Tokyo"
    instance = connected(str(app.folder), lambda client: client.get(instance_id))
    assert (instance.status, instance.tags) == (COMPLETED, {"a": "b"})


def test_a_stores_url_will_do(app: App):
    url = f"sqlite:{app.database}"
    connected(url, lambda client: client.start("approval", instance_id="i", request_id="r"), HUB)
    connected(url, lambda client: client.raise_event("i", "Approval", "5"), HUB)

    with app.engine() as client:
        assert ended(client, "i") == 5
    assert connected(url, lambda client: client.purge("i"), HUB) == 1


def test_the_clients_hold_on_the_file_ends_with_it(app: App):
    async def second(client: TaskHubClient) -> None:
        with pytest.raises(StoreLockedError, match="connect to the folder of the app"):
            async with perdure.connect(app.folder, HUB):
                pass

    connected(app.folder, second, HUB)
    with app.engine():
        pass


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ("memory:", "name a folder or a file's URL"),
        ("postgres://localhost/x", "cannot begin with the scheme 'postgres'"),
        ("no-such-folder", "a path without a scheme"),
        (Path("no-such-folder"), "is no folder"),
    ],
)
def test_what_cannot_be_connected_to_says_why(where: str | Path, sentence: str):
    with pytest.raises(StoreRefusedError, match=sentence):
        connected(where, lambda client: client.get("i"))


def test_a_note_of_a_host_that_is_gone_is_passed_over(app: App):
    app.leave_note("http://127.0.0.1:9")

    connected(app.folder, lambda client: client.start("greet", instance_id="i"), HUB)

    with app.engine() as client:
        eventually(lambda: asyncio.run(client.get("i")) is not None)


# ---------------------------------------------------------------------- beside a host


def test_a_running_host_does_what_a_client_asks_for(app: App):
    async def scenario(client: TaskHubClient) -> None:
        first = await client.start("greet", '"Tokyo"', version="2", tags={"a": "b, ä"}, request_id="request")
        assert await client.start("greet", '"Tokyo"', request_id="request") == first
        instance = await client.wait(first)
        assert (instance.output, instance.version, instance.tags) == ('"Hello Tokyo"', "2", {"a": "b, ä"})

        await client.start("approval", instance_id="köstlich & 50 % + mehr")
        await client.raise_event("köstlich & 50 % + mehr", "Approval", '{"x": "ä"}', request_id="ü")
        assert (await client.wait("köstlich & 50 % + mehr")).output == payloads.encode({"x": "ä"})
        assert [each.instance_id async for each in client.instances(InstanceQuery(limit=1))] == [
            first,
            "köstlich & 50 % + mehr",
        ]
        assert await client.count(InstanceQuery()) == {COMPLETED: 2}
        assert len(await client.history(first)) == 2

    with app.host():
        connected(app.folder, scenario)
        connected(f"sqlite:{app.database}", lambda client: client.start("greet"))


def test_instances_are_steered_through_the_host(app: App):
    async def scenario(client: TaskHubClient) -> None:
        await client.start("approval", instance_id="i")
        await until(client, "i", RUNNING)
        await client.suspend("i", "a pause & more")
        await until(client, "i", RuntimeStatus.SUSPENDED)
        await client.resume("i")
        await until(client, "i", RUNNING)
        await client.terminate("i", "enough", recursive=True)
        assert (await client.wait("i")).output == '"enough"'

        assert await client.restart("i", new_instance_id=False) == "i"
        await until(client, "i", RUNNING)
        other = await client.restart("i")
        await until(client, other, RUNNING)
        await client.start("greet", '"Rome"', instance_id="i", policy=StartPolicy.REPLACE)
        assert (await client.wait("i")).output == '"Hello Rome"'
        assert await client.start("greet", instance_id=other, policy=StartPolicy.IGNORE) == other
        assert await client.purge("i", recursive=True) == 1
        await client.terminate(other)
        await client.wait(other)
        assert await client.purge_by(InstanceQuery()) == 1

    with app.host():
        connected(app.folder, scenario)


def test_a_scheduled_start_is_the_hosts(app: App):
    async def scenario(client: TaskHubClient) -> None:
        start_at = datetime.now(UTC) + timedelta(seconds=0.3)
        await client.start("greet", '"x"', instance_id="i", start_at=start_at)
        instance = await client.wait("i")
        assert (instance.start_at, instance.status) == (start_at, COMPLETED)
        assert instance.updated_at >= start_at

    with app.host():
        connected(app.folder, scenario)


def test_refusals_are_the_same_as_without_a_host(app: App):
    async def scenario(client: TaskHubClient) -> None:
        await client.start("approval", instance_id="runs")
        await client.start("greet", '"x"', instance_id="ended")
        await client.wait("ended")
        await until(client, "runs", RUNNING)

        with pytest.raises(UnknownFunctionError, match=r"'nobody'.* 'approval', 'greet'"):
            await client.start("nobody")
        with pytest.raises(InstanceExistsError, match="status Running"):
            await client.start("greet", instance_id="runs")
        with pytest.raises(InstanceExistsError):
            await client.restart("runs", new_instance_id=False)
        with pytest.raises(InstanceNotFoundError):
            await client.raise_event("nobody", "x")
        with pytest.raises(InstanceFinishedError):
            await client.terminate("ended")
        with pytest.raises(InstanceNotFailedError, match="status Completed"):
            await client.rewind("ended")
        with pytest.raises(InstanceNotFoundError):
            await client.rewind("nobody")
        with pytest.raises(InstanceNotFinishedError, match="status Running"):
            await client.purge("runs")
        with pytest.raises(InstanceNotFoundError):
            await client.purge("nobody")

    with app.host():
        connected(app.folder, scenario)


# ---------------------------------------------------------------------- entities


async def until_state(client: TaskHubClient, entity_id: str, state: str | None) -> None:
    async with asyncio.timeout(10):
        while await state_of(client, entity_id) != state:
            await asyncio.sleep(0.01)


async def state_of(client: TaskHubClient, entity_id: str) -> str | None:
    entity = await client.entity(entity_id)
    return None if entity is None or entity.entity is None else entity.entity.state


def test_a_signal_without_a_host_waits_for_one(app: App):
    connected(app.folder, lambda client: client.signal_entity("@counter@a", "add", "5"), HUB)

    with app.engine() as client:
        asyncio.run(until_state(client, "@counter@a", "5"))
    assert connected(app.folder, lambda client: state_of(client, "@counter@a"), HUB) == "5"


def test_entities_are_signalled_through_the_host_and_read_from_the_store(app: App):
    async def scenario(client: TaskHubClient) -> None:
        later = datetime.now(UTC) + timedelta(seconds=0.3)
        await client.signal_entity("@counter@später", "add", "1", deliver_at=later)
        for entity_id in ("@counter@größe & 50 %", "@counter@", "@counter@a@b+c"):
            await client.signal_entity(entity_id, "add", "1", request_id="ü")
            await client.signal_entity(entity_id, "add", "1", request_id="ü")
            await client.signal_entity(entity_id, "add", "10", request_id="other")
            await until_state(client, entity_id, "11")
        await until_state(client, "@counter@später", "1")
        assert datetime.now(UTC) >= later

        page = await client.entities(EntityQuery(prefix="@counter@", limit=2))
        assert [each.instance_id for each in page.instances] == ["@counter@", "@counter@a@b+c"]
        page = await client.entities(EntityQuery(prefix="@counter@", limit=2, after=page.after))
        assert [each.instance_id for each in page.instances] == ["@counter@größe & 50 %", "@counter@später"]

        assert await client.purge("@counter@") == await client.purge_entity("@counter@a@b+c") == 1
        assert await client.entity("@counter@") is None
        assert await client.purge_entity("@counter@") == 0
        assert await client.clean_entities() == (0, 0)

    with app.host():
        connected(app.folder, scenario)


def test_what_is_refused_of_entities_is_the_same_as_without_a_host(app: App):
    async def scenario(client: TaskHubClient) -> None:
        with pytest.raises(UnknownFunctionError, match=r"'nobody'.* known entity functions: 'Counter'"):
            await client.signal_entity("@nobody@a", "add")
        with pytest.raises(InvalidInstanceIdError, match="must not contain"):
            await client.signal_entity("@counter@a/b", "add")
        with pytest.raises(InstanceNotFoundError):
            await client.terminate("@counter@a")
        with pytest.raises(InstanceNotFoundError):
            await client.purge("@counter@a")

    with app.host():
        connected(app.folder, scenario)


def test_the_key_that_urls_cannot_name_is_not_mistaken_for_the_empty_one(app: App):
    async def scenario(client: TaskHubClient) -> None:
        with pytest.raises(InvalidInstanceIdError, match="stands for the empty key in URLs"):
            await client.signal_entity("@counter@$", "add", "1")
        assert await client.purge_entity("@counter@$") == 0

    with app.host():
        connected(app.folder, scenario)


def test_a_host_that_ends_meanwhile_is_told(app: App):
    async def scenario() -> None:
        with app.host():
            connection = perdure.connect(app.folder)
            client = await connection.__aenter__()
        with pytest.raises(HostStoppedError, match="does not answer"):
            await client.start("greet")
        await connection.__aexit__(None, None, None)

    asyncio.run(scenario())


# ---------------------------------------------------------------------- what is loaded


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import perdure", ("azure", "starlette", "uvicorn", "msgspec", "sqlite3", "asyncio")),
        ("import perdure; perdure.connect", ("azure", "starlette", "uvicorn", "click")),
    ],
)
def test_the_package_loads_no_more_than_is_asked_for(statement: str, forbidden: tuple[str, ...]):
    look = f"import sys; {statement}; print([each for each in sys.modules if each.split('.')[0] in {forbidden}])"

    run = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=30)

    assert run.stdout.strip() == "[]"


def test_there_is_nothing_else_in_the_package():
    with pytest.raises(AttributeError, match="nothing"):
        perdure.nothing
