"""Group H: suspend, resume, terminate."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from random import Random

import pytest
from catalogue_hub import Hub, at, value
from catalogue_kit import case

from perdure.core.events import ExecutionResumed, ExecutionSuspended, TaskScheduled
from perdure.errors import InstanceFinishedError, InstanceNotFoundError


def with_waiter(hub: Hub) -> list[str]:
    """Registers `waiter`, which completes with the data of its event `go`; returns the ids whose code has begun."""
    begun = []

    @hub.orchestrator
    def waiter(context):
        if not context.is_replaying:
            begun.append(context.instance_id)
        return (yield context.wait_for_external_event("go"))

    return begun


@case(
    "H1",
    "while an instance is suspended the result of its activity comes in and its code does not go on",
    regression="suspension that providers lack",
)
async def test_a_suspended_instance_does_not_go_on(hub: Hub):
    gate, ran = asyncio.Event(), []

    @hub.orchestrator
    def work(context):
        for number in range(2):
            ran.append((yield context.call_activity("gated", number)))
        return "done"

    @hub.activity
    async def gated(number):
        await gate.wait()
        return number

    await hub.start("work", instance_id="one")
    await hub.settle()
    await hub.client.suspend("one", "for a while")
    await hub.settle()
    gate.set()
    await hub.advance(hours=1)

    assert await hub.status("one") == "Suspended"
    assert "TaskCompleted" in await hub.kinds("one")
    assert ran == []
    assert len(await hub.of_kind("one", TaskScheduled)) == 1

    await hub.client.resume("one", "go on")
    assert await hub.result("one") == "done"
    assert set(ran) == {0, 1}


@case("H2", "to suspend twice and to resume twice is no error, and changes nothing more")
async def test_suspending_and_resuming_twice_is_no_error(hub: Hub):
    with_waiter(hub)
    await hub.start("waiter", instance_id="one")

    for _ in range(2):
        await hub.client.suspend("one")
        await hub.settle()
        assert await hub.status("one") == "Suspended"
    for _ in range(2):
        await hub.client.resume("one")
        await hub.settle()
        assert await hub.status("one") == "Running"

    assert len(await hub.of_kind("one", ExecutionSuspended | ExecutionResumed)) == 2
    await hub.raise_event("one", "go", 1)
    assert await hub.result("one") == 1


@case("H3", "an instance that is suspended before it begins runs no code until it is resumed")
async def test_an_instance_suspended_before_it_begins_runs_nothing(hub: Hub):
    begun = with_waiter(hub)
    await hub.start("waiter", instance_id="one", start_at=at(10))
    await hub.client.suspend("one")
    await hub.advance(seconds=20)

    assert await hub.status("one") == "Suspended"
    assert begun == []

    await hub.client.resume("one")
    await hub.raise_event("one", "go", 1)
    assert await hub.result("one") == 1
    assert begun == ["one"]


@case("H4", "three events during a suspension keep their order")
async def test_events_during_a_suspension_keep_their_order(hub: Hub):
    @hub.orchestrator
    def collect(context):
        items = []
        for _ in range(3):
            items.append((yield context.wait_for_external_event("item")))
        return items

    await hub.start("collect", instance_id="one")
    await hub.settle()
    await hub.client.suspend("one")
    for number in range(3):
        await hub.raise_event("one", "item", number)
        await hub.settle()
    await hub.client.resume("one")

    assert await hub.result("one") == [0, 1, 2]


@case("H5", "a suspended instance can be terminated", regression="suspension that providers lack")
async def test_a_suspended_instance_can_be_terminated(hub: Hub):
    with_waiter(hub)
    await hub.start("waiter", instance_id="one")
    await hub.client.suspend("one")
    await hub.settle()

    await hub.client.terminate("one", "enough")
    ended = await hub.wait("one")

    assert (ended.status, value(ended.output)) == ("Terminated", "enough")


@case(
    "H6",
    "to suspend or resume what has completed is refused (410; the SDK's client does nothing); to resume what "
    "runs is accepted and does nothing",
)
async def test_what_can_be_suspended_and_resumed(hub: Hub):
    with_waiter(hub)
    await hub.start("waiter", instance_id="running")
    await hub.start("waiter", instance_id="completed")
    await hub.raise_event("completed", "go")
    await hub.wait("completed")

    for operation in (hub.client.suspend, hub.client.resume):
        with pytest.raises(InstanceFinishedError):
            await operation("completed")
        with pytest.raises(InstanceNotFoundError):
            await operation("unknown")
    await hub.client.resume("running")
    await hub.sdk.suspend("completed")
    await hub.sdk.resume("completed")
    await hub.settle()

    assert [await hub.status(each) for each in ("running", "completed")] == ["Running", "Completed"]
    codes = [
        (await hub.http("POST", f"instances/{instance_id}/{verb}")).status_code
        for instance_id in ("completed", "running", "unknown")
        for verb in ("suspend", "resume")
    ]
    assert codes == [410, 410, 202, 202, 404, 404]


@case(
    "H7",
    "suspended, its host restarted, and resumed: the same result, and no activity called twice",
    regression="suspension diverges at replay",
)
async def test_a_suspension_outlives_its_host(hub: Hub):
    runs = []

    @hub.orchestrator
    def work(context):
        first = yield context.call_activity("note", 1)
        data = yield context.wait_for_external_event("go")
        return [first, data, (yield context.call_activity("note", 2))]

    @hub.activity
    def note(number):
        runs.append(number)
        return number

    await hub.start("work", instance_id="one")
    await hub.settle()
    await hub.client.suspend("one")
    await hub.settle()
    await hub.raise_event("one", "go", "withheld")
    await hub.settle()
    await hub.restart()
    await hub.advance(hours=3)

    assert await hub.status("one") == "Suspended"

    await hub.client.resume("one")
    assert await hub.result("one") == [1, "withheld", 2]
    assert runs == [1, 2]


@case(
    "H8",
    "suspended and resumed a hundred times while activities and events come in: it ends, and replays",
    regression="suspension diverges at replay",
)
async def test_a_hundred_suspensions_between_activities(hub: Hub):
    runs = []

    @hub.orchestrator
    def work(context):
        total = 0
        for number in range(50):
            results = yield context.task_all([context.call_activity("slow", number) for _ in range(3)])
            total += sum(results)
        return total

    @hub.activity
    async def slow(number):
        runs.append(number)
        await asyncio.sleep(number % 3 / 10)
        return number

    rng = Random(8)
    await hub.start("work", instance_id="one")
    for round in range(100):
        try:
            await hub.client.suspend("one")
            await asyncio.sleep(rng.choice((0, 0, 0.01, 0.15)))
            await hub.client.resume("one")
            await asyncio.sleep(rng.choice((0, 0, 0.01, 0.15)))
        except InstanceFinishedError:
            break
        if round == 20:
            await hub.restart()

    assert await hub.result("one") == 3 * sum(range(50))
    assert 150 <= len(runs) <= 153


@case("H9", "a running instance that is terminated: its output is the reason, and it has an end")
async def test_a_terminated_instance_has_the_reason_as_its_output(hub: Hub):
    with_waiter(hub)
    await hub.start("waiter", instance_id="one")
    await hub.settle()

    await hub.client.terminate("one", "no longer needed")
    ended = await hub.wait("one")

    assert (ended.status, value(ended.output)) == ("Terminated", "no longer needed")
    assert ended.completed_at == ended.updated_at
    assert (await hub.kinds("one"))[-3:] == ["ExecutionTerminated", "ExecutionCompleted", "OrchestratorCompleted"]


@case("H10", "an instance that is terminated before it begins never runs")
async def test_an_instance_terminated_before_it_begins_never_runs(hub: Hub):
    begun = with_waiter(hub)

    async with hub.together() as client:
        await client.start("waiter", instance_id="one")
        await client.terminate("one", "at once")
    ended = await hub.wait("one")

    assert (ended.status, value(ended.output)) == ("Terminated", "at once")
    assert begun == []


@case(
    "H11",
    "to terminate what has ended is refused (410; the SDK's client does nothing), and what does not exist, "
    "too (404; that client raises)",
)
async def test_what_can_be_terminated(hub: Hub):
    with_waiter(hub)
    await hub.start("waiter", instance_id="one")
    await hub.raise_event("one", "go", "done")
    before = await hub.wait("one")

    with pytest.raises(InstanceFinishedError):
        await hub.client.terminate("one", "too late")
    with pytest.raises(InstanceNotFoundError):
        await hub.client.terminate("unknown", "nobody")
    await hub.sdk.terminate("one", "too late")
    with pytest.raises(Exception, match="No instance with ID 'unknown' found"):
        await hub.sdk.terminate("unknown", "nobody")
    codes = [(await hub.http("POST", f"instances/{each}/terminate")).status_code for each in ("one", "unknown")]

    assert codes == [410, 404]
    assert await hub.get("one") == before


@case("H12", "an instance that waits for a timer of a day is terminated at once")
async def test_a_sleeping_instance_is_terminated_at_once(hub: Hub):
    @hub.orchestrator
    def sleeper(context):
        yield context.create_timer(timedelta(days=1))

    await hub.start("sleeper", instance_id="one")
    await hub.settle()
    await hub.client.terminate("one", "wake up")

    assert (await hub.wait("one")).status == "Terminated"
    assert hub.age < timedelta(seconds=1)
    assert await hub.mail("one") == ()


@case("H13", "code that computes is never interrupted: its instance is terminated as soon as it yields")
async def test_code_is_not_interrupted_between_two_yields(hub: Hub):
    seen = []
    tasks = []

    @hub.orchestrator
    def busy(context):
        if not tasks:
            tasks.append(asyncio.ensure_future(hub.client.terminate("one", "while it computes")))
            for number in range(1000):
                seen.append(number)
        yield context.call_activity("nothing", None)
        yield context.wait_for_external_event("never")

    @hub.activity
    def nothing(_):
        return None

    await hub.start("busy", instance_id="one")
    ended = await hub.wait("one")

    assert (ended.status, value(ended.output)) == ("Terminated", "while it computes")
    assert seen == list(range(1000))


@case("H14", "a generator that yields in its finally block cannot hold a termination up")
async def test_a_finally_block_cannot_hold_a_termination_up(hub: Hub):
    ran = []

    @hub.orchestrator
    def stubborn(context):
        try:
            yield context.wait_for_external_event("never")
        finally:
            ran.append("finally")
            yield context.call_activity("note", "from the finally block")

    @hub.activity
    def note(what):
        ran.append(what)

    await hub.start("stubborn", instance_id="one")
    await hub.settle()
    await hub.client.terminate("one", "enough")

    assert (await hub.wait("one")).status == "Terminated"
    await hub.advance(hours=1)
    assert "from the finally block" not in ran
    assert await hub.of_kind("one", TaskScheduled) == []


@case("H15", "a terminated instance can be started again under its id")
async def test_a_terminated_instance_can_be_started_again(hub: Hub):
    with_waiter(hub)
    await hub.start("waiter", instance_id="one")
    await hub.client.terminate("one")
    await hub.wait("one")

    await hub.start("waiter", instance_id="one")
    await hub.raise_event("one", "go", "second life")

    assert await hub.result("one") == "second life"


@case("H16", "a termination without a reason leaves no output")
async def test_a_termination_without_a_reason_leaves_no_output(hub: Hub):
    with_waiter(hub)
    await hub.start("waiter", instance_id="one")
    await hub.client.terminate("one")

    assert (await hub.wait("one")).output is None
    assert (await hub.sdk.get_status("one")).output is None


@case("H17", "a timer whose time comes during a suspension is seen right after it")
async def test_a_timer_of_a_suspension_is_seen_right_after_it(hub: Hub):
    @hub.orchestrator
    def work(context):
        yield context.create_timer(timedelta(seconds=10))
        return "after the timer"

    await hub.start("work", instance_id="one")
    await hub.settle()
    await hub.client.suspend("one")
    await hub.advance(seconds=30)
    assert "TimerFired" in await hub.kinds("one")

    await hub.client.resume("one")
    assert await hub.result("one") == "after the timer"
    assert hub.age < timedelta(seconds=31)


@case("H18", "what completes the code and a termination come together: Terminated, and the return value is dropped")
async def test_a_termination_wins_against_a_return(hub: Hub):
    with_waiter(hub)
    await hub.start("waiter", instance_id="one")
    await hub.settle()
    episodes = hub.engine.counters.episodes

    async with hub.together() as client:
        await client.raise_event("one", "go", '"the return value"')
        await client.terminate("one", "the reason")
    ended = await hub.wait("one")

    assert hub.engine.counters.episodes == episodes + 1
    assert (ended.status, value(ended.output)) == ("Terminated", "the reason")


@case(
    "H19",
    "start and suspension come together: after the resumption the code runs once",
    regression="suspension diverges at replay",
)
async def test_start_and_suspension_come_together(hub: Hub):
    begun = with_waiter(hub)

    async with hub.together() as client:
        await client.start("waiter", instance_id="one")
        await client.suspend("one")

    assert await hub.status("one") == "Suspended"
    assert begun == []
    assert (await hub.kinds("one"))[:3] == ["OrchestratorStarted", "ExecutionStarted", "ExecutionSuspended"]

    await hub.raise_event("one", "go", "withheld")
    await hub.client.resume("one")
    assert await hub.result("one") == "withheld"
    assert begun == ["one"]


@case("H20", "suspended, terminated and resumed all at once: Terminated")
async def test_suspended_terminated_and_resumed_at_once(hub: Hub):
    with_waiter(hub)
    await hub.start("waiter", instance_id="one")
    await hub.settle()

    async with hub.together() as client:
        await client.suspend("one")
        await client.terminate("one", "first")
        await client.resume("one")

    assert value((await hub.wait("one")).output) == "first"
