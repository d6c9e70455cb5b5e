"""Group J: restart and purge."""

from __future__ import annotations

import asyncio

import pytest
from azure.durable_functions import EntityId
from catalogue_hub import Hub, at, gather, value
from catalogue_kit import case

from perdure.core.failures import TaskFailedError
from perdure.core.records import InstanceQuery, RuntimeStatus
from perdure.errors import (
    InstanceExistsError,
    InstanceNotFinishedError,
    InstanceNotFoundError,
    StoreUnavailableError,
)


def with_family(hub: Hub) -> None:
    """Registers `echo`, `waiter`, and `parent`, which calls `echo` twice as its children."""

    @hub.orchestrator
    def echo(context):
        context.set_custom_status("echoing")
        return context.get_input()

    @hub.orchestrator
    def waiter(context):
        return (yield context.wait_for_external_event("go"))

    @hub.orchestrator
    def broken(context):
        raise ValueError("broken")

    @hub.orchestrator
    def parent(context):
        level = context.get_input()
        name = "parent" if level else "echo"
        ids = [f"{context.instance_id}.{number}" for number in range(2)]
        yield context.task_all([context.call_sub_orchestrator(name, (level or 1) - 1, each) for each in ids])


async def ids(hub: Hub, **query: object) -> set[str]:
    """Ids of the instances that fit."""
    return {each.instance_id async for each in hub.client.instances(InstanceQuery(**query))}


@case("J1", "restarted under a new id: the same orchestrator, input and tags; the old instance stays as it is")
async def test_restarted_under_a_new_id(hub: Hub):
    with_family(hub)
    old = await hub.run("echo", {"order": 17}, "one", version="1.2", tags={"team": "red"})

    instance_id = await hub.client.restart("one")

    assert instance_id != "one"
    new = await hub.wait(instance_id)
    assert (new.name, value(new.input), new.version, new.tags) == ("echo", {"order": 17}, "1.2", {"team": "red"})
    assert value(new.output) == {"order": 17}
    assert await hub.get("one") == old


@case("J2", "restarted under its own id: the old instance is replaced")
async def test_restarted_under_its_own_id(hub: Hub):
    with_family(hub)
    old = await hub.run("echo", 17, "one")

    assert await hub.client.restart("one", new_instance_id=False) == "one"

    assert await hub.result("one") == 17
    assert (await hub.get("one")).execution_id != old.execution_id
    assert await hub.count_rows() == (1, 0)


@case("J3", "what still runs cannot be restarted under its own id")
async def test_a_running_instance_keeps_its_id(hub: Hub):
    with_family(hub)
    await hub.start("waiter", "input", "one")
    await hub.settle()
    before = await hub.get("one")

    with pytest.raises(InstanceExistsError):
        await hub.client.restart("one", new_instance_id=False)

    assert await hub.get("one") == before
    other = await hub.client.restart("one")
    await hub.settle()
    assert value((await hub.get(other)).input) == "input"


@case("J4", "what does not exist cannot be restarted")
async def test_an_unknown_instance_cannot_be_restarted(hub: Hub):
    with_family(hub)
    await hub.up()

    for new_instance_id in (False, True):
        with pytest.raises(InstanceNotFoundError):
            await hub.client.restart("unknown", new_instance_id=new_instance_id)

    assert await hub.count_rows() == (0, 0)


@case("J5", "a completed instance is purged: nothing of it is left")
async def test_a_completed_instance_is_purged(hub: Hub):
    with_family(hub)
    await hub.run("echo", "x" * 100_000, "one")

    assert await hub.client.purge("one") == 1

    assert not await hub.exists("one")
    assert await hub.history("one") == []
    assert await hub.count_rows() == (0, 0)


@case("J6", "to purge what does not exist: nothing for the SDK's client, not found for HTTP (404)")
async def test_an_unknown_instance_is_not_purged(hub: Hub):
    with_family(hub)
    await hub.up()

    with pytest.raises(InstanceNotFoundError):
        await hub.client.purge("unknown")
    assert (await hub.sdk.purge_instance_history("unknown")).instances_deleted == 0
    assert (await hub.http("DELETE", "instances/unknown")).status_code == 404


@case(
    "J7",
    "what has not ended is not purged (412; the SDK's client reports 0), and goes on",
    regression="purge leaves ghosts",
)
async def test_a_running_instance_is_not_purged(hub: Hub):
    with_family(hub)
    await hub.start("waiter", instance_id="running")
    await hub.start("waiter", instance_id="scheduled", start_at=at(3600))
    await hub.start("waiter", instance_id="suspended")
    await hub.client.suspend("suspended")
    await hub.settle()

    for each in ("running", "scheduled", "suspended"):
        before = await hub.get(each)
        with pytest.raises(InstanceNotFinishedError):
            await hub.client.purge(each)
        assert (await hub.sdk.purge_instance_history(each)).instances_deleted == 0
        assert (await hub.http("DELETE", f"instances/{each}")).status_code == 412
        assert await hub.get(each) == before

    await hub.raise_event("running", "go", "still here")
    assert await hub.result("running") == "still here"


@case("J8", "purged by time of creation and status: exactly those that fit, and their number")
async def test_purged_by_time_and_status(hub: Hub):
    with_family(hub)
    for number in range(4):
        await hub.run("echo", instance_id=f"echo-{number}")
        await hub.run("broken", instance_id=f"broken-{number}")
        await hub.start("waiter", instance_id=f"waiter-{number}")
        await hub.advance(minutes=1)

    first, last = (await hub.get("echo-1")).created_at, (await hub.get("echo-2")).created_at
    query = InstanceQuery(created_from=first, created_to=last, statuses=frozenset({RuntimeStatus.COMPLETED}))
    assert await hub.client.purge_by(query) == 2

    assert await ids(hub, prefix="echo") == {"echo-0", "echo-3"}
    assert len(await ids(hub, prefix="broken")) == 4
    assert await hub.client.purge_by(InstanceQuery()) == 6
    assert await ids(hub) == {f"waiter-{number}" for number in range(4)}


@case(
    "J9",
    "HTTP refuses to purge by a filter without the earliest time of creation (400)",
    only="memory live",
    why="HTTP, whatever the store",
)
async def test_http_wants_a_time_to_purge_from(hub: Hub):
    with_family(hub)
    await hub.run("echo", instance_id="one")

    assert (await hub.http("DELETE", "instances?runtimeStatus=Completed")).status_code == 400
    assert await hub.exists("one")

    with pytest.raises(ValueError, match="created_time_from"):
        await hub.sdk.purge_instance_history_by()
    answer = await hub.http("DELETE", "instances?runtimeStatus=Completed&createdTimeFrom=2020-01-01T00:00:00Z")
    assert (answer.status_code, answer.json()) == (200, {"instancesDeleted": 1})


@case("J10", "what is still running cannot be asked to be purged: ValueError, and 400 over HTTP")
async def test_running_instances_cannot_be_asked_to_be_purged(hub: Hub):
    with_family(hub)
    await hub.start("waiter", instance_id="one")
    await hub.run("echo", instance_id="two")

    with pytest.raises(ValueError, match="Running"):
        await hub.client.purge_by(InstanceQuery(statuses=frozenset({RuntimeStatus.RUNNING, RuntimeStatus.COMPLETED})))
    answer = await hub.http("DELETE", "instances?runtimeStatus=Running&createdTimeFrom=2020-01-01T00:00:00Z")

    assert answer.status_code == 400
    assert await ids(hub) == {"one", "two"}


@case("J11", "purged recursively all descendants go as well; otherwise they stay")
async def test_descendants_are_purged_if_asked_for(hub: Hub):
    with_family(hub)
    for root in ("alone", "together"):
        await hub.run("parent", 1, root)
    assert len(await ids(hub)) == 14

    assert await hub.client.purge("alone") == 1
    assert await hub.client.purge("together", recursive=True) == 7

    left = await ids(hub)
    assert "alone" not in left
    assert len(left) == 6


@case("J12", "a purged id can be started again as if it had never been")
async def test_a_purged_id_can_be_started_again(hub: Hub):
    with_family(hub)
    await hub.run("echo", "first life", "one")
    await hub.client.purge("one")

    await hub.start("waiter", "second life", "one")
    await hub.settle()

    row = await hub.get("one")
    assert (row.name, value(row.input), row.custom_status, row.output) == ("waiter", "second life", None, None)
    assert (await hub.kinds("one")).count("ExecutionStarted") == 1
    await hub.raise_event("one", "go", "done")
    assert await hub.result("one") == "done"


@case("J13", "an entity is purged: its state is gone, and the next signal makes a new one")
async def test_a_purged_entity_begins_anew(hub: Hub):
    @hub.entity
    def Counter(context):
        context.set_state(context.get_state(lambda: 0) + 1)

    for _ in range(3):
        await hub.signal("@counter@c", "add")
    await hub.settle()
    assert await hub.state("@counter@c") == 3

    assert await hub.client.purge_entity("@counter@c") == 1
    assert await hub.client.purge_entity("@counter@c") == 0
    assert (await hub.state("@counter@c"), await hub.count_rows()) == (None, (0, 0))
    for expected in (1, 2):
        await hub.signal("@counter@c", "add")
        await hub.settle()
        assert await hub.state("@counter@c") == expected
    await purged_while_locked(hub)


async def purged_while_locked(hub: Hub) -> None:
    """Who waits for the entity hears that it is gone, or gets the lock of the next one."""
    counter = EntityId("Counter", "c")

    @hub.orchestrator
    def holder(context):
        with (yield context.lock_entities([counter])):
            yield context.wait_for_external_event("go")

    @hub.orchestrator
    def caller(context):
        try:
            return (yield context.call_entity(counter, "add"))
        except TaskFailedError as error:
            return [error.error_type, error.message]

    await hub.restart()
    for name in ("holder", "caller", "next"):
        await hub.start("holder" if name == "next" else name, instance_id=name)
        await hub.settle()
    assert await hub.client.purge_entity("@counter@c") == 1
    await hub.settle()

    gone = "The entity '@counter@c' was purged before it could run 'add'."
    assert await hub.result("caller") == ["EntityPurged", gone]
    assert await hub.lock_of("@counter@c") == "next"
    for name in ("holder", "next"):
        await hub.raise_event(name, "go")
        await hub.wait(name)
    await hub.settle()
    assert await hub.count_rows() == (3, 0)


@case(
    "J14",
    "ten thousand instances are purged page by page; what an interruption left goes at the next attempt",
    regression="deadlocks of large operations",
)
async def test_a_large_purge_can_be_interrupted(hub: Hub):
    with_family(hub)
    await hub.up()
    count = hub.many(10_000)
    await gather(*(hub.start("echo") for _ in range(count)))
    await hub.start("waiter", instance_id="running")
    await hub.settle()
    assert (await hub.client.count(InstanceQuery()))[RuntimeStatus.COMPLETED] == count

    removed = 0
    for after in (False, True):
        hub.fail("purge", after=after, number=3 if count > 1_500 else 1)
        before = len(await ids(hub))
        with pytest.raises(StoreUnavailableError):
            await hub.client.purge_by(InstanceQuery())
        removed += before - len(await ids(hub))
    purged = await hub.client.purge_by(InstanceQuery())

    assert purged + removed == count
    assert await ids(hub) == {"running"}
    assert await hub.client.purge_by(InstanceQuery()) == 0


@case(
    "J15",
    "the result of an activity that comes after the purge leaves nothing behind",
    regression="purge leaves ghosts",
)
async def test_a_result_after_the_purge_leaves_nothing(hub: Hub):
    gate = asyncio.Event()

    @hub.orchestrator
    def work(context):
        yield context.call_activity("slow", None)

    @hub.activity
    async def slow(_):
        await gate.wait()

    await hub.start("work", instance_id="one")
    await hub.settle()
    await hub.client.terminate("one")
    await hub.wait("one")
    assert await hub.client.purge("one") == 1
    gate.set()
    await hub.advance(hours=3)

    assert await hub.count_rows() == (0, 0)
    assert not await hub.exists("one")


@case(
    "J16",
    "a purge and a start of the same id at once: either order, and nothing in between",
    regression="deadlocks of large operations",
)
async def test_a_purge_and_a_start_at_once(hub: Hub):
    with_family(hub)
    await hub.up()
    for number in range(20):
        instance_id = f"one-{number}"
        await hub.run("echo", "first", instance_id)
        operations = [hub.client.purge(instance_id), hub.start("waiter", "second", instance_id)]
        answers = await gather(*(operations if number % 2 else reversed(operations)))
        await hub.settle()

        assert instance_id in answers
        if await hub.exists(instance_id):
            assert value((await hub.get(instance_id)).input) == "second"
            await hub.raise_event(instance_id, "go", number)
            assert await hub.result(instance_id) == number
        else:
            raise AssertionError("the start was acknowledged, and its instance has not ended")
