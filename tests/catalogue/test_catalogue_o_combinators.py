"""Group O: combinators."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from catalogue_hub import Hub
from catalogue_kit import case

from perdure.core.failures import TaskFailedError


def with_delays(hub: Hub) -> None:
    """Registers `after`, an activity that returns its number after that many seconds, or raises if it is negative."""

    @hub.activity
    async def after(seconds):
        await asyncio.sleep(abs(seconds))
        if seconds < 0:
            raise ValueError(f"failed after {-seconds}")
        return seconds


@case("O1", "task_all gives results in the order of its tasks")
async def test_task_all_keeps_the_order(hub: Hub):
    with_delays(hub)

    @hub.orchestrator
    def work(context):
        return (yield context.task_all([context.call_activity("after", each) for each in (3, 1, 2)]))

    assert await hub.call("work") == [3, 1, 2]
    assert timedelta(seconds=3) <= hub.age < timedelta(seconds=3.1)


@case("O2", "task_all of nothing is an empty list, at once")
async def test_task_all_of_nothing(hub: Hub):
    @hub.orchestrator
    def work(context):
        return [(yield context.task_all([])), "at once"]

    instance_id = await hub.start("work")

    assert await hub.result(instance_id) == [[], "at once"]
    assert (await hub.kinds(instance_id)).count("OrchestratorStarted") == 1


@case("O3", "task_all fails with the first failure, without waiting for the others")
async def test_task_all_fails_with_the_first_failure(hub: Hub):
    with_delays(hub)

    @hub.orchestrator
    def work(context):
        try:
            yield context.task_all([context.call_activity("after", each) for each in (100, -2, -1)])
        except TaskFailedError as error:
            return error.message

    assert await hub.call("work") == "failed after 1"
    assert hub.age < timedelta(seconds=1.1)


@case("O4", "task_any gives the task itself that ended first, by the history's order even if all have ended")
async def test_task_any_gives_the_task(hub: Hub):
    with_delays(hub)

    @hub.orchestrator
    def work(context):
        tasks = [context.call_activity("after", each) for each in (3, 1, 2)]
        order = []
        while tasks:
            winner = yield context.task_any(tasks)
            order.append(winner.result)
            tasks.remove(winner)
        slow, fast = context.call_activity("after", 5), context.call_activity("after", 4)
        yield context.task_all([slow, fast])
        late = yield context.task_any([slow, fast])
        return [*order, late is fast]

    assert await hub.call("work") == [1, 2, 3, True]


@case("O5", "a task that failed ends a task_any; its failure is raised when it is read")
async def test_a_failed_task_ends_task_any(hub: Hub):
    with_delays(hub)

    @hub.orchestrator
    def work(context):
        failing = context.call_activity("after", -1)
        winner = yield context.task_any([failing, context.call_activity("after", 5)])
        try:
            yield winner
        except TaskFailedError as error:
            return [winner is failing, error.message]

    assert await hub.call("work") == [True, "failed after 1"]


@case("O6", "a task_all inside a task_any, against a timer")
async def test_nested_combinators(hub: Hub):
    with_delays(hub)

    @hub.orchestrator
    def work(context):
        everything = context.task_all([context.call_activity("after", each) for each in (1, 2)])
        deadline = context.create_timer(timedelta(seconds=context.get_input()))
        winner = yield context.task_any([everything, deadline])
        return winner.result if winner is everything else "too late"

    assert await hub.call("work", 10) == [1, 2]
    assert await hub.call("work", 1.5) == "too late"


@case("O7", "task_all over tasks that have ended goes on at once")
async def test_task_all_over_ended_tasks(hub: Hub):
    with_delays(hub)

    @hub.orchestrator
    def work(context):
        first, second = context.call_activity("after", 1), context.call_activity("after", 2)
        yield first
        yield second
        before = context.current_utc_datetime
        results = yield context.task_all([first, second])
        return [results, context.current_utc_datetime == before]

    assert await hub.call("work") == [[1, 2], True]


@case("O8", "a task in two combinators settles both")
async def test_a_task_in_two_combinators(hub: Hub):
    with_delays(hub)

    @hub.orchestrator
    def work(context):
        shared = context.call_activity("after", 1)
        one = context.task_all([shared, context.call_activity("after", 2)])
        two = context.task_any([shared, context.call_activity("after", 3)])
        both = yield context.task_all([one, two])
        return [both[0], both[1] is shared]

    assert await hub.call("work") == [[1, 2], True]


@case("O9", "in a task_any the loser, a timer or a wait, can be cancelled; the event goes to the next wait")
async def test_the_loser_can_be_cancelled(hub: Hub):
    @hub.orchestrator
    def work(context):
        event = context.wait_for_external_event("item")
        timer = context.create_timer(timedelta(seconds=10))
        first = yield context.task_any([event, timer])
        if first is timer:
            event.cancel()
            event.cancel()
            return ["timer", (yield context.wait_for_external_event("item"))]
        timer.cancel()
        return ["event", event.result]

    fast, slow = await hub.start("work"), await hub.start("work")
    await hub.raise_event(fast, "item", 1)
    await hub.advance(seconds=20)
    await hub.raise_event(slow, "item", 2)

    assert await hub.result(fast) == ["event", 1]
    assert await hub.result(slow) == ["timer", 2]


@case("O10", "of a hundred tasks exactly one wins, the same one at every replay")
async def test_of_a_hundred_tasks_one_wins(hub: Hub):
    gates = {number: asyncio.Event() for number in range(100)}

    @hub.orchestrator
    def work(context):
        tasks = [context.call_activity("gated", number) for number in range(100)]
        winner = yield context.task_any(tasks)
        yield context.wait_for_external_event("go")
        return [winner.result, sum(task.is_completed for task in tasks)]

    @hub.activity
    async def gated(number):
        await gates[number].wait()
        return number

    instance_id = await hub.start("work")
    await hub.settle()
    for number in (42, 17, 99, 0):
        gates[number].set()
        await hub.settle()
    await hub.restart()
    await hub.raise_event(instance_id, "go")

    assert await hub.result(instance_id) == [42, 4]


@case("O11", "task_any of nothing is a ValueError")
async def test_task_any_of_nothing_is_an_error(hub: Hub):
    @hub.orchestrator
    def work(context):
        try:
            yield context.task_any([])
        except ValueError as error:
            return str(error)

    assert "at least one" in await hub.call("work")
