"""Every operation of the task hub's client, on an engine that runs, in virtual time."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest
from client_kit import Hub, on_hub

from perdure.core.codec import payloads
from perdure.core.events import ExecutionRewound, ExecutionSuspended, ExecutionTerminated
from perdure.core.records import TERMINAL, InstanceQuery, RuntimeStatus, StartPolicy
from perdure.core.versions import Versioning
from perdure.engine.settings import Settings
from perdure.engine.thread import EngineThread
from perdure.errors import (
    InstanceExistsError,
    InstanceFinishedError,
    InstanceNotFailedError,
    InstanceNotFinishedError,
    InstanceNotFoundError,
    InvalidInstanceIdError,
    UnknownFunctionError,
)
from perdure.stores.memory import MemoryStore

PENDING, RUNNING, SUSPENDED = RuntimeStatus.PENDING, RuntimeStatus.RUNNING, RuntimeStatus.SUSPENDED
COMPLETED, FAILED, TERMINATED = RuntimeStatus.COMPLETED, RuntimeStatus.FAILED, RuntimeStatus.TERMINATED

Operation = Callable[[Hub, str], Coroutine[Any, Any, Any]]


async def in_status(hub: Hub, status: RuntimeStatus) -> str:
    """An instance that has come to rest in a status."""
    client, instance_id = hub.client, f"it-is-{status}"
    match status:
        case RuntimeStatus.COMPLETED:
            await hub.run("echo", instance_id)
        case RuntimeStatus.FAILED:
            await hub.run("broken", instance_id)
        case RuntimeStatus.PENDING:
            await client.start("approval", instance_id=instance_id, start_at=hub.clock.now() + timedelta(days=1))
        case _:
            await client.start("approval", instance_id=instance_id)
            await hub.until(instance_id, RUNNING)
            if status is SUSPENDED:
                await client.suspend(instance_id)
            elif status is TERMINATED:
                await client.terminate(instance_id)
    await hub.until(instance_id, status)
    return instance_id


# ---------------------------------------------------------------------- start


def test_an_instance_has_the_name_input_tags_and_version_it_was_started_with():
    async def scenario(hub: Hub) -> None:
        instance_id = await hub.client.start("ECHO", '{"a": 1}', tags={"team": "red"}, version="2")
        instance = await hub.client.wait(instance_id)

        assert len(instance_id) == 32
        assert (instance.name, instance.status, instance.output) == ("echo", COMPLETED, '{"a": 1}')
        assert (instance.tags, instance.version, instance.start_at) == ({"team": "red"}, "2", None)

    on_hub(scenario)


def test_an_instance_without_a_version_gets_the_hosts():
    async def scenario(hub: Hub) -> list[str | None]:
        starts = [hub.client.start("echo"), hub.client.start("echo", version="0.9")]
        return [(await hub.client.wait(await start)).version for start in starts]

    assert on_hub(scenario, Settings(versioning=Versioning(default="1.5"))) == ["1.5", "0.9"]


@pytest.mark.parametrize("instance_id", ["@e@k", "a/b", "a\\b", "a#b", "a?b", "a\x01", "a\x7f", "x" * 257])
def test_an_id_that_breaks_a_rule_starts_nothing(instance_id: str):
    async def scenario(hub: Hub) -> None:
        with pytest.raises(InvalidInstanceIdError):
            await hub.client.start("echo", instance_id=instance_id)

        assert await hub.ids() == []

    on_hub(scenario)


def test_an_unknown_orchestrator_starts_nothing():
    async def scenario(hub: Hub) -> None:
        with pytest.raises(UnknownFunctionError, match="'echo'"):
            await hub.client.start("nobody", instance_id="i")

        assert await hub.client.get("i") is None

    on_hub(scenario)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"instance_id": 17}, TypeError),
        ({"version": 2}, TypeError),
        ({"tags": {"a": 1}}, TypeError),
        ({"tags": {1: "a"}}, TypeError),
        ({"tags": {"a": "\ud800"}}, ValueError),
        ({"version": "\udfff"}, ValueError),
    ],
)
def test_what_no_store_could_give_back_is_refused(arguments: dict[str, Any], error: type[Exception]):
    async def scenario(hub: Hub) -> None:
        with pytest.raises(error):
            await hub.client.start("echo", **arguments)

        assert await hub.ids() == []

    on_hub(scenario)


@pytest.mark.parametrize("status", [PENDING, RUNNING, SUSPENDED])
def test_a_start_over_an_unfinished_instance_is_rejected_by_default(status: RuntimeStatus):
    async def scenario(hub: Hub) -> None:
        instance_id = await in_status(hub, status)
        before = await hub.client.get(instance_id)

        with pytest.raises(InstanceExistsError, match=f"with the status {status} already exists") as caught:
            await hub.client.start("echo", instance_id=instance_id)

        assert caught.value.status is status
        assert await hub.client.get(instance_id) == before

    on_hub(scenario)


@pytest.mark.parametrize("policy", StartPolicy)
@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_an_instance_that_has_ended_gives_way_whatever_the_policy(status: RuntimeStatus, policy: StartPolicy):
    async def scenario(hub: Hub) -> None:
        instance_id = await in_status(hub, status)
        before = await hub.client.get(instance_id)

        assert await hub.client.start("echo", "1", instance_id=instance_id, policy=policy) == instance_id

        after = await hub.client.wait(instance_id)
        assert before is not None
        assert (after.output, after.status) == ("1", COMPLETED)
        assert after.execution_id != before.execution_id

    on_hub(scenario)


@pytest.mark.parametrize("status", [PENDING, RUNNING, SUSPENDED])
def test_ignore_leaves_an_unfinished_instance_alone(status: RuntimeStatus):
    async def scenario(hub: Hub) -> None:
        instance_id = await in_status(hub, status)
        before = await hub.client.get(instance_id)

        returned = await hub.client.start("echo", instance_id=instance_id, policy=StartPolicy.IGNORE)

        assert returned == instance_id
        assert await hub.client.get(instance_id) == before

    on_hub(scenario)


@pytest.mark.parametrize("status", [PENDING, RUNNING, SUSPENDED])
def test_replace_puts_a_new_instance_in_the_place_of_an_unfinished_one(status: RuntimeStatus):
    async def scenario(hub: Hub) -> None:
        instance_id = await in_status(hub, status)
        await hub.client.raise_event(instance_id, "Other", '"for the old one"')

        await hub.client.start("echo", "1", instance_id=instance_id, policy=StartPolicy.REPLACE)

        assert (await hub.client.wait(instance_id)).output == "1"

    on_hub(scenario)


def test_the_hosts_policy_counts_if_the_caller_has_none():
    async def scenario(hub: Hub) -> None:
        instance_id = await in_status(hub, RUNNING)

        with pytest.raises(InstanceExistsError):
            await hub.client.start("echo", "1", instance_id=instance_id, policy=StartPolicy.REJECT)
        await hub.client.start("echo", "2", instance_id=instance_id)

        assert (await hub.client.wait(instance_id)).output == "2"

    on_hub(scenario, Settings(start_policy=StartPolicy.REPLACE))


def test_of_many_starts_with_one_id_exactly_one_succeeds():
    async def scenario(hub: Hub) -> None:
        starts = [hub.client.start("approval", instance_id="one") for _ in range(100)]
        answers = await asyncio.gather(*starts, return_exceptions=True)

        assert sum(each == "one" for each in answers) == 1
        assert sum(isinstance(each, InstanceExistsError) for each in answers) == 99

    on_hub(scenario)


# ---------------------------------------------------------------------- scheduled start


def test_a_scheduled_instance_is_pending_until_its_time():
    async def scenario(hub: Hub) -> None:
        start_at = hub.clock.now() + timedelta(hours=2)
        await hub.client.start("clock", instance_id="later", start_at=start_at)

        await asyncio.sleep(7199)
        before = await hub.client.get("later")
        after = await hub.client.wait("later")

        assert before is not None
        assert (before.status, before.start_at) == (PENDING, start_at)
        assert payloads.decode(after.output) == start_at.isoformat()
        assert after.updated_at - start_at < timedelta(milliseconds=10)

    on_hub(scenario)


def test_scheduled_instances_that_are_far_away_are_not_kept_in_memory():
    async def scenario(hub: Hub) -> None:
        for number in range(5):
            await hub.client.start("echo", instance_id=f"far-{number}", start_at=hub.clock.now() + timedelta(days=9))
        await asyncio.sleep(60)

        assert [each.sessions for each in hub.engine._partitions.values()] == [{}, {}]
        assert [each.next_due for each in hub.engine._partitions.values()] == [None, None]

    on_hub(scenario)


def test_a_start_time_that_is_past_means_now():
    async def scenario(hub: Hub) -> None:
        await hub.client.start("echo", instance_id="i", start_at=hub.clock.now() - timedelta(days=1))
        before = hub.clock.now()

        instance = await hub.client.wait("i")

        assert instance.start_at is None
        assert hub.clock.now() - before < timedelta(seconds=1)

    on_hub(scenario)


def test_a_scheduled_instance_that_is_terminated_never_runs():
    async def scenario(hub: Hub) -> None:
        await hub.client.start("echo", instance_id="i", start_at=hub.clock.now() + timedelta(seconds=30))

        await hub.client.terminate("i", "no more")
        ended = await hub.until("i", TERMINATED)
        await asyncio.sleep(120)

        assert ended.output == '"no more"'
        assert await hub.client.get("i") == ended

    on_hub(scenario)


def test_events_sent_before_the_start_are_there_at_the_first_wait():
    async def scenario(hub: Hub) -> str | None:
        await hub.client.start("approval", instance_id="i", start_at=hub.clock.now() + timedelta(seconds=30))
        await hub.client.raise_event("i", "Approval", '"early"')
        await asyncio.sleep(20)
        assert (await hub.until("i", PENDING)).status is PENDING

        return (await hub.client.wait("i")).output

    assert on_hub(scenario) == '"early"'


def test_a_scheduled_start_in_the_place_of_a_running_instance_drops_what_was_meant_for_that():
    async def scenario(hub: Hub) -> None:
        await hub.client.start("approval", instance_id="i", start_at=hub.clock.now() + timedelta(hours=1))
        await hub.client.raise_event("i", "Approval", '"for the first"')
        await asyncio.sleep(10)
        start_at = hub.clock.now() + timedelta(seconds=30)

        await hub.client.start("approval", instance_id="i", start_at=start_at, policy=StartPolicy.REPLACE)
        await asyncio.sleep(3000)
        assert (await hub.until("i", RUNNING)).updated_at - start_at < timedelta(seconds=1)
        await hub.client.raise_event("i", "Approval", '"for the second"')

        assert (await hub.client.wait("i")).output == '"for the second"'

    on_hub(scenario)


# ---------------------------------------------------------------------- repeated requests


def test_a_repeated_start_finds_the_instance_of_the_first():
    async def scenario(hub: Hub) -> None:
        first = await hub.client.start("echo", "1", request_id="request")
        await hub.client.wait(first)
        before = await hub.client.get(first)

        assert await hub.client.start("echo", "1", request_id="request") == first
        assert await hub.ids() == [first]
        await asyncio.sleep(1)
        assert await hub.client.get(first) == before

    on_hub(scenario)


def test_a_repeated_scheduled_start_begins_once():
    async def scenario(hub: Hub) -> None:
        start_at = hub.clock.now() + timedelta(seconds=3)
        for _ in range(2):
            await hub.client.start("clock", instance_id="i", start_at=start_at, request_id="request")
        ended = await hub.client.wait("i")
        await hub.client.start("clock", instance_id="i", start_at=start_at, request_id="request")
        await asyncio.sleep(10)

        assert payloads.decode(ended.output) == start_at.isoformat()
        assert await hub.client.get("i") == ended

    on_hub(scenario)


def test_a_repeated_event_counts_once():
    async def scenario(hub: Hub) -> None:
        await hub.client.start("approval", instance_id="i")
        for _ in range(3):
            await hub.client.raise_event("i", "Approval", "1", request_id="request")
        await hub.client.wait("i")

        await hub.client.raise_event("i", "Approval", "1", request_id="request")

        with pytest.raises(InstanceFinishedError):
            await hub.client.raise_event("i", "Approval", "1", request_id="another request")

    on_hub(scenario)


@pytest.mark.parametrize("new_instance_id", [True, False])
def test_a_repeated_restart_answers_as_the_first_time(new_instance_id: bool):
    async def scenario(hub: Hub) -> None:
        await hub.run("echo", "i")

        first = await hub.client.restart("i", new_instance_id=new_instance_id, request_id="request")
        second = await hub.client.restart("i", new_instance_id=new_instance_id, request_id="request")

        assert first == second
        assert await hub.ids() == sorted({"i", first})

    on_hub(scenario)


# ---------------------------------------------------------------------- steering


STEERING: dict[str, Operation] = {
    "raise_event": lambda hub, each: hub.client.raise_event(each, "Other"),
    "terminate": lambda hub, each: hub.client.terminate(each),
    "suspend": lambda hub, each: hub.client.suspend(each),
    "resume": lambda hub, each: hub.client.resume(each),
}
OPERATIONS: dict[str, Operation] = {
    **STEERING,
    "rewind": lambda hub, each: hub.client.rewind(each),
    "restart": lambda hub, each: hub.client.restart(each),
    "purge": lambda hub, each: hub.client.purge(each),
    "wait": lambda hub, each: hub.client.wait(each),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_on_nothing_says_so(name: str):
    async def scenario(hub: Hub) -> None:
        with pytest.raises(InstanceNotFoundError, match="No instance with ID nobody found"):
            await OPERATIONS[name](hub, "nobody")

    on_hub(scenario)


@pytest.mark.parametrize("name", STEERING)
@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_an_instance_that_has_ended_cannot_be_steered(name: str, status: RuntimeStatus):
    async def scenario(hub: Hub) -> None:
        instance_id = await in_status(hub, status)
        before = await hub.client.get(instance_id)

        with pytest.raises(InstanceFinishedError):
            await STEERING[name](hub, instance_id)

        await asyncio.sleep(1)
        assert await hub.client.get(instance_id) == before

    on_hub(scenario)


@pytest.mark.parametrize("status", [PENDING, RUNNING, SUSPENDED])
def test_an_unfinished_instance_can_be_terminated(status: RuntimeStatus):
    async def scenario(hub: Hub) -> None:
        instance_id = await in_status(hub, status)

        await hub.client.terminate(instance_id, "enough")

        ended = await hub.client.wait(instance_id)
        assert (ended.status, ended.output) == (TERMINATED, '"enough"')

    on_hub(scenario)


def test_a_suspended_instance_sees_an_event_when_it_is_resumed():
    async def scenario(hub: Hub) -> None:
        instance_id = await in_status(hub, SUSPENDED)
        await hub.client.raise_event(instance_id, "Approval", "1")
        await asyncio.sleep(1)
        assert (await hub.until(instance_id, SUSPENDED)).output is None

        await hub.client.resume(instance_id, "go on")

        assert (await hub.client.wait(instance_id)).output == "1"

    on_hub(scenario)


def test_suspending_and_resuming_twice_changes_nothing_more():
    async def scenario(hub: Hub) -> None:
        instance_id = await in_status(hub, SUSPENDED)
        await hub.client.suspend(instance_id)
        await asyncio.sleep(1)
        assert (await hub.until(instance_id, SUSPENDED)).status is SUSPENDED

        await hub.client.resume(instance_id)
        await hub.client.resume(instance_id)

        assert (await hub.until(instance_id, RUNNING)).status is RUNNING

    on_hub(scenario)


def test_the_reason_stands_in_the_history():
    async def scenario(hub: Hub) -> list[Any]:
        await hub.client.start("approval", instance_id="i")
        await hub.until("i", RUNNING)
        await hub.client.suspend("i", "a pause")
        await hub.until("i", SUSPENDED)
        await hub.client.terminate("i", "the end")
        await hub.client.wait("i")
        return [event for row in await hub.client.history("i") for event in row.events]

    events = on_hub(scenario)

    assert [each.reason for each in events if isinstance(each, ExecutionSuspended)] == ["a pause"]
    assert [each.reason for each in events if isinstance(each, ExecutionTerminated)] == ["the end"]


@pytest.mark.parametrize("is_recursive", [True, False])
def test_termination_reaches_children_if_it_is_recursive(is_recursive: bool):
    async def scenario(hub: Hub) -> RuntimeStatus:
        await hub.client.start("family", "[1, 1, 0]", instance_id="a")
        await hub.until("a.0.0", RUNNING)

        await hub.client.terminate("a", recursive=is_recursive)
        await hub.until("a", TERMINATED)
        await asyncio.sleep(10)

        return {(await hub.until(each, each_is)).status for each, each_is in children.items()} == {*children.values()}

    children = dict.fromkeys(["a.0", "a.0.0"], TERMINATED if is_recursive else RUNNING)
    assert on_hub(scenario)


@pytest.mark.parametrize("status", [PENDING, RUNNING, SUSPENDED, COMPLETED, TERMINATED])
def test_only_a_failed_instance_can_be_rewound(status: RuntimeStatus):
    async def scenario(hub: Hub) -> None:
        instance_id = await in_status(hub, status)

        with pytest.raises(InstanceNotFailedError) as caught:
            await hub.client.rewind(instance_id)

        assert (caught.value.instance_id, caught.value.status) == (instance_id, status)
        assert str(caught.value) == (
            f'This orchestration has status {status}, but only orchestrations in the "Failed" state can be rewound.'
        )

    on_hub(scenario)


def test_a_failed_instance_is_rewound_once_for_each_request():
    async def scenario(hub: Hub) -> list[str | None]:
        await hub.run("broken", "i")
        for request_id in ("one", "one", "two"):
            await hub.client.rewind("i", request_id, request_id=request_id)
            await asyncio.sleep(1)
            await hub.until("i", FAILED)

        events = [event for row in await hub.client.history("i") for event in row.events]
        return [each.reason for each in events if isinstance(each, ExecutionRewound)]

    assert on_hub(scenario) == ["one", "two"]


@pytest.mark.parametrize(("text", "error"), [(5, TypeError), ("\ud800", ValueError)])
def test_a_text_that_is_none_is_refused_before_it_is_sent(text: Any, error: type[Exception]):
    async def scenario(hub: Hub) -> None:
        client, instance_id = hub.client, await in_status(hub, RUNNING)
        for send in (client.terminate, client.suspend, client.resume, client.rewind, client.raise_event):
            with pytest.raises(error):
                await send(instance_id, text)
            with pytest.raises(error):
                await send(text, "a text")

        assert (await hub.until(instance_id, RUNNING)).status is RUNNING

    on_hub(scenario)


# ---------------------------------------------------------------------- restart


@pytest.mark.parametrize("status", RuntimeStatus)
def test_an_instance_of_any_status_can_be_restarted_under_a_new_id(status: RuntimeStatus):
    async def scenario(hub: Hub) -> None:
        instance_id = await in_status(hub, status)
        before = await hub.client.get(instance_id)

        new_id = await hub.client.restart(instance_id)

        assert await hub.client.get(instance_id) == before
        new = await hub.client.get(new_id)
        assert before is not None
        assert new is not None
        assert new_id != instance_id
        assert (new.name, new.input, new.start_at, new.parent) == (before.name, before.input, None, None)

    on_hub(scenario)


def test_a_restart_takes_input_version_and_tags_along():
    async def scenario(hub: Hub) -> None:
        await hub.client.start("echo", "[1]", instance_id="i", version="3", tags={"a": "b"})
        before = await hub.client.wait("i")

        assert await hub.client.restart("i", new_instance_id=False) == "i"

        after = await hub.client.wait("i")
        assert (after.input, after.version, after.tags) == ("[1]", "3", {"a": "b"})
        assert after.execution_id != before.execution_id

    on_hub(scenario, Settings(start_policy=StartPolicy.REPLACE))


@pytest.mark.parametrize("status", [PENDING, RUNNING, SUSPENDED])
def test_an_unfinished_instance_cannot_be_restarted_under_its_own_id(status: RuntimeStatus):
    async def scenario(hub: Hub) -> None:
        instance_id = await in_status(hub, status)

        with pytest.raises(InstanceExistsError):
            await hub.client.restart(instance_id, new_instance_id=False)

    on_hub(scenario, Settings(start_policy=StartPolicy.REPLACE))


# ---------------------------------------------------------------------- purge


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_an_instance_that_has_ended_is_purged_with_its_history(status: RuntimeStatus):
    async def scenario(hub: Hub) -> None:
        instance_id = await in_status(hub, status)

        assert await hub.client.purge(instance_id) == 1

        assert await hub.client.get(instance_id) is None
        assert list(await hub.client.history(instance_id)) == []
        with pytest.raises(InstanceNotFoundError):
            await hub.client.purge(instance_id)
        assert (await hub.run("echo", instance_id, 1)).output == "1"

    on_hub(scenario)


@pytest.mark.parametrize("status", [PENDING, RUNNING, SUSPENDED])
def test_an_unfinished_instance_is_not_purged(status: RuntimeStatus):
    async def scenario(hub: Hub) -> None:
        instance_id = await in_status(hub, status)
        before = await hub.client.get(instance_id)

        with pytest.raises(InstanceNotFinishedError, match=f"{instance_id} has status {status}"):
            await hub.client.purge(instance_id, recursive=True)

        assert await hub.client.get(instance_id) == before

    on_hub(scenario)


def test_a_recursive_purge_takes_all_descendants_and_another_only_the_instance():
    async def scenario(hub: Hub) -> None:
        await hub.run("family", "a", [2, 3])
        await hub.run("family", "b", [2])

        assert await hub.client.purge("b") == 1
        assert await hub.client.purge("a", recursive=True) == 1 + 2 + 6

        assert await hub.ids() == ["b.0", "b.1"]

    on_hub(scenario)


def test_a_recursive_purge_spares_what_has_not_ended_and_what_that_has_called():
    async def scenario(hub: Hub) -> None:
        await hub.client.start("family", "[2, 2, 0]", instance_id="a")
        await hub.until("a.0.0", RUNNING)
        await hub.client.raise_event("a.0.0", "Approval")
        await hub.until("a.0.1", RUNNING)
        await hub.client.terminate("a")
        await hub.until("a", TERMINATED)

        assert await hub.client.purge("a", recursive=True) == 1

        assert await hub.ids() == ["a.0", "a.0.0", "a.0.1"]

    on_hub(scenario)


def test_thousands_of_descendants_go_in_one_call():
    async def scenario(hub: Hub) -> None:
        await hub.client.start("family", "[3, 40, 10]", instance_id="a")
        while (await hub.client.wait("a")).status is not COMPLETED:
            pass
        await hub.run("echo", "other")

        assert await hub.client.purge("a", recursive=True) == 1 + 3 + 120 + 1200
        assert await hub.ids() == ["other"]

    on_hub(scenario)


def test_purging_by_a_filter_removes_exactly_what_has_ended_and_fits():
    async def scenario(hub: Hub) -> None:
        for name, instance_id in [("echo", "a-1"), ("broken", "a-2"), ("echo", "b-1")]:
            await hub.run(name, instance_id)
        await hub.client.start("approval", instance_id="a-3")
        middle = hub.clock.now() + timedelta(seconds=5)
        await asyncio.sleep(10)
        await hub.run("echo", "a-4")

        query = InstanceQuery(prefix="a", statuses=frozenset({COMPLETED}), created_to=middle, limit=1)
        assert await hub.client.purge_by(query) == 1
        assert await hub.ids() == ["a-2", "a-3", "a-4", "b-1"]
        assert await hub.client.purge_by(query) == 0
        assert await hub.client.purge_by(InstanceQuery(prefix="a")) == 2
        assert await hub.ids() == ["a-3", "b-1"]

    on_hub(scenario)


def test_purging_by_a_filter_goes_through_all_pages_and_counts_descendants_once():
    async def scenario(hub: Hub) -> None:
        await asyncio.gather(*(hub.client.start("echo", instance_id=f"e-{number}") for number in range(1200)))
        await hub.run("family", "f", [2, 2])
        await asyncio.gather(*(hub.client.wait(each) for each in await hub.ids()))

        assert await hub.client.purge_by(InstanceQuery(prefix="f"), recursive=True) == 7
        assert await hub.client.purge_by(InstanceQuery(), recursive=True) == 1200
        assert await hub.ids() == []

    on_hub(scenario)


def test_purging_by_a_status_that_is_no_end_is_refused():
    async def scenario(hub: Hub) -> None:
        await hub.run("echo", "i")

        with pytest.raises(ValueError, match="asks for: Running"):
            await hub.client.purge_by(InstanceQuery(statuses=frozenset({RUNNING, COMPLETED})))

        assert await hub.ids() == ["i"]

    on_hub(scenario)


# ---------------------------------------------------------------------- lists


def test_all_pages_are_listed_while_others_are_being_created():
    async def scenario(hub: Hub) -> None:
        for number in range(95):
            await hub.client.start("approval", instance_id=f"old-{number:02}")
        found: list[str] = []
        async for instance in hub.client.instances(InstanceQuery(limit=10)):
            found.append(instance.instance_id)
            if len(found) < 50:
                await hub.client.start("approval", instance_id=f"new-{len(found)}")

        assert [each for each in found if each.startswith("old")] == [f"old-{number:02}" for number in range(95)]

    on_hub(scenario)


def test_a_token_that_no_page_gave_is_refused():
    async def scenario(hub: Hub) -> None:
        with pytest.raises(ValueError, match="token"):
            await hub.client.list(InstanceQuery(after="nonsense"))

    on_hub(scenario)


def test_instances_are_counted_by_status():
    async def scenario(hub: Hub) -> None:
        for status in RuntimeStatus:
            await in_status(hub, status)
        for number in range(3):
            await hub.run("echo", f"more-{number}")

        counts = await hub.client.count(InstanceQuery(limit=1))
        some = await hub.client.count(InstanceQuery(prefix="more"))

        assert counts == {**dict.fromkeys(RuntimeStatus, 1), COMPLETED: 4}
        assert some == {COMPLETED: 3}

    on_hub(scenario)


# ---------------------------------------------------------------------- event loops


def test_many_threads_may_each_use_it_on_loops_of_their_own():
    engine = EngineThread(MemoryStore())
    engine.start()
    failures: list[BaseException] = []

    def many(number: int) -> None:
        try:
            for count in range(30):
                asyncio.run(engine.client.start("any", instance_id=f"{number}-{count}"))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=many, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    counts = asyncio.run(engine.client.count(InstanceQuery()))
    engine.stop()

    assert failures == []
    assert counts == {PENDING: 240}
