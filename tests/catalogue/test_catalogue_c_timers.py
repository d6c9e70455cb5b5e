"""Group C: timers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone

from catalogue_hub import SHARED, Hub, at, value
from catalogue_kit import case

from perdure.core.events import OrchestratorStarted, TimerCreated, TimerFired


def with_timer(hub: Hub) -> None:
    """Registers `timed`, which waits for its input in seconds, and returns the times before and after."""

    @hub.orchestrator
    def timed(context):
        before = context.current_utc_datetime
        yield context.create_timer(before + timedelta(seconds=context.get_input()))
        return [before.isoformat(), context.current_utc_datetime.isoformat()]


def times(texts: list[str]) -> list[datetime]:
    return [datetime.fromisoformat(each) for each in texts]


@case("C1", "a timer of a second fires when it is due, by the time that the code sees; meanwhile the status is Running")
async def test_a_timer_fires_when_it_is_due(hub: Hub):
    with_timer(hub)
    instance_id = await hub.start("timed", 1)
    await hub.advance(seconds=0.9)

    assert await hub.status(instance_id) == "Running"

    before, after = times(await hub.result(instance_id))
    assert timedelta(seconds=1) <= after - before < timedelta(seconds=1.1)


@case("C2", "a timer for a time that is past fires in an episode of its own")
async def test_a_timer_for_a_past_time_fires_at_once(hub: Hub):
    with_timer(hub)

    instance_id = await hub.start("timed", -3600)
    before, after = times(await hub.result(instance_id))

    assert hub.age < timedelta(seconds=1)
    assert before <= after
    assert (await hub.kinds(instance_id)).count("OrchestratorStarted") == 2


@case("C3", "a hundred timers at once fire in the order of their times")
async def test_timers_fire_in_the_order_of_their_times(hub: Hub):
    @hub.orchestrator
    def race(context):
        now = context.current_utc_datetime
        timers = {context.create_timer(now + timedelta(seconds=(each * 37) % 100)): each for each in range(100)}
        order = []
        while timers:
            first = yield context.task_any(list(timers))
            order.append(timers.pop(first) * 37 % 100)
        return order

    assert await hub.call("race") == list(range(100))


def with_deadline(hub: Hub, *, cancels: bool) -> None:
    """Registers `hurried`, in which an activity of so many seconds races a timer of an hour."""

    @hub.orchestrator
    def hurried(context):
        work = context.call_activity("work", context.get_input())
        deadline = context.create_timer(context.current_utc_datetime + timedelta(hours=1))
        winner = yield context.task_any([work, deadline])
        if winner is deadline:
            return "too late"
        if cancels:
            deadline.cancel()
        return winner.result

    @hub.activity
    async def work(seconds):
        await asyncio.sleep(seconds)
        return "in time"


@case("C4", "an activity wins against a timer, which is cancelled: the instance completes at once")
async def test_a_cancelled_timer_holds_nothing_up(hub: Hub):
    with_deadline(hub, cancels=True)

    instance_id = await hub.start("hurried", 5)

    assert await hub.result(instance_id) == "in time"
    assert hub.age < timedelta(seconds=6)
    assert await hub.mail(instance_id) == ()


@case("C5", "an activity wins against a timer that nobody cancels: completed at once, and the timer is gone with it")
async def test_a_timer_that_nobody_cancels_holds_nothing_up_either(hub: Hub):
    with_deadline(hub, cancels=False)

    instance_id = await hub.start("hurried", 5)

    assert await hub.result(instance_id) == "in time"
    assert hub.age < timedelta(seconds=6)
    assert await hub.mail(instance_id) == ()


@case("C6", "the timer wins: the code goes the other way, and the result that comes later is dropped")
async def test_a_timer_wins_against_an_activity(hub: Hub):
    with_deadline(hub, cancels=True)

    instance_id = await hub.start("hurried", 7200)

    assert await hub.result(instance_id) == "too late"
    before = await hub.history(instance_id)
    await hub.advance(hours=2)
    assert await hub.history(instance_id) == before


@case("C7", "to cancel a timer that has fired is a ValueError; to cancel one twice is none")
async def test_what_may_be_cancelled(hub: Hub):
    @hub.orchestrator
    def work(context):
        fired = context.create_timer(context.current_utc_datetime)
        yield fired
        try:
            fired.cancel()
        except ValueError as error:
            refusal = str(error)
        other = context.create_timer(timedelta(hours=1))
        other.cancel()
        other.cancel()
        return refusal

    assert await hub.call("work") == "Cannot cancel a completed task."


@case("C8", "a timer of thirty days fires once, and nothing wakes the instance before")
async def test_a_long_timer_fires_once(hub: Hub):
    with_timer(hub)
    instance_id = await hub.start("timed", 30 * 86400)
    await hub.advance(days=29)

    assert hub.engine.counters.episodes == 1

    before, after = times(await hub.result(instance_id))
    assert timedelta(days=30) <= after - before < timedelta(days=30, seconds=1)
    assert len(await hub.of_kind(instance_id, TimerFired)) == 1


@case("C9", "a timer that is due while no host runs fires at the next start")
async def test_a_timer_due_while_no_host_runs_fires_at_the_start(hub: Hub):
    with_timer(hub)
    instance_id = await hub.start("timed", 60)
    await hub.settle()

    hub.crash()
    await hub.advance(hours=1)
    await hub.restart()
    before, after = times(await hub.result(instance_id))

    assert after - before >= timedelta(hours=1)
    assert len(await hub.of_kind(instance_id, TimerFired)) == 1


@case(
    "C10",
    "another host takes over before a timer is due: it fires once, in time",
    only="memory",
    why="only this store is shared by hosts",
    settings=SHARED,
)
async def test_a_timer_is_taken_over(hub: Hub):
    with_timer(hub)
    instance_id = await hub.start("timed", 100)
    await hub.settle()
    await hub.add_host()

    hub.hosts[0].crash()

    before, after = times(await hub.result(instance_id))
    assert timedelta(seconds=100) <= after - before < timedelta(seconds=101)
    assert len(await hub.of_kind(instance_id, TimerFired)) == 1


@case("C11", "a timer of the generation before is gone: its firing, if it still came, is ignored")
async def test_a_timer_of_the_generation_before_is_ignored(hub: Hub):
    @hub.orchestrator
    def work(context):
        if context.get_input() == "first":
            late = context.create_timer(timedelta(seconds=10))
            yield context.task_any([late, context.create_timer(timedelta(seconds=1))])
            context.continue_as_new("second")
            return None
        began = context.current_utc_datetime
        yield context.create_timer(timedelta(seconds=60))
        return (context.current_utc_datetime - began).total_seconds()

    instance_id = await hub.start("work", "first")
    await hub.settle()
    first_execution = (await hub.get(instance_id)).execution_id
    await hub.advance(seconds=2)

    assert [each.event.fire_at for each in await hub.mail(instance_id)] == [at(61)]

    await hub.inject(instance_id, TimerFired(at(2), 0, at(2)), first_execution)
    assert await hub.status(instance_id) == "Running"
    assert await hub.result(instance_id) == 60


@case("C12", "a time without a zone is UTC, and one of another zone is converted")
async def test_times_of_every_zone(hub: Hub):
    @hub.orchestrator
    def work(context):
        now = context.current_utc_datetime
        yield context.create_timer(now.replace(tzinfo=None) + timedelta(minutes=1))
        there = timezone(timedelta(hours=5, minutes=30))
        yield context.create_timer((now + timedelta(minutes=2)).astimezone(there))
        return (context.current_utc_datetime - now).total_seconds()

    instance_id = await hub.start("work")

    assert await hub.result(instance_id) == 120
    first, second = await hub.of_kind(instance_id, TimerCreated)
    assert first.fire_at.tzinfo == second.fire_at.tzinfo == UTC
    assert second.fire_at - first.fire_at == timedelta(minutes=1)


@case("C13", "a timer that is due while the instance is suspended is seen once it is resumed")
async def test_a_timer_due_while_suspended_is_seen_later(hub: Hub):
    with_timer(hub)
    instance_id = await hub.start("timed", 10)
    await hub.settle()
    await hub.client.suspend(instance_id)
    await hub.advance(seconds=60)

    assert await hub.status(instance_id) == "Suspended"

    await hub.client.resume(instance_id)
    before, after = times(await hub.result(instance_id))
    assert after - before >= timedelta(seconds=60)


@case("C14", "the time that the code sees never goes back, although the host's clock is set back by an hour")
async def test_time_never_goes_back(hub: Hub):
    @hub.orchestrator
    def work(context):
        seen = [context.current_utc_datetime.isoformat()]
        for _ in range(4):
            yield context.wait_for_external_event("tick")
            seen.append(context.current_utc_datetime.isoformat())
        return seen

    instance_id = await hub.start("work")
    for number in range(4):
        await hub.advance(seconds=10)
        if number == 1:
            hub.clock.offset -= timedelta(hours=1)
        await hub.raise_event(instance_id, "tick")
        await hub.settle()

    seen = times(await hub.result(instance_id))
    assert seen == sorted(seen)
    stamps = [each.timestamp for each in await hub.of_kind(instance_id, OrchestratorStarted)]
    assert stamps == seen


@case("C15", "fifty timers in a row do not drift, live or replayed")
async def test_timers_in_a_row_do_not_drift(hub: Hub):
    @hub.orchestrator
    def metronome(context):
        seen = [context.current_utc_datetime]
        for number in range(50):
            yield context.create_timer(seen[0] + timedelta(minutes=number + 1))
            seen.append(context.current_utc_datetime)
        return [each.isoformat() for each in seen]

    instance_id = await hub.start("metronome")
    seen = times(await hub.result(instance_id))

    for number, time in enumerate(seen):
        assert timedelta() <= time - (seen[0] + timedelta(minutes=number)) < timedelta(seconds=0.01)
    stamps = [each.timestamp for each in await hub.of_kind(instance_id, OrchestratorStarted)]
    assert stamps == seen


@case("C16", "the firing of a timer that was cancelled is ignored")
async def test_the_firing_of_a_cancelled_timer_is_ignored(hub: Hub):
    @hub.orchestrator
    def work(context):
        timer = context.create_timer(timedelta(hours=1))
        event = context.wait_for_external_event("first")
        yield context.task_any([timer, event])
        timer.cancel()
        return (yield context.wait_for_external_event("second"))

    instance_id = await hub.start("work")
    await hub.raise_event(instance_id, "first")
    await hub.settle()

    await hub.inject(instance_id, TimerFired(hub.now, 0, hub.now))
    await hub.raise_event(instance_id, "second", "done")

    assert await hub.result(instance_id) == "done"


@case("C17", "the timer of a second generation fires")
async def test_the_timer_of_a_second_generation_fires(hub: Hub):
    @hub.orchestrator
    def work(context):
        if not context.get_input():
            context.continue_as_new(True)
            return None
        yield context.create_timer(timedelta(minutes=5))
        return "fired"

    instance_id = await hub.start("work", False)

    assert value((await hub.wait(instance_id)).output) == "fired"
    assert timedelta(minutes=5) <= hub.age < timedelta(minutes=5, seconds=1)
