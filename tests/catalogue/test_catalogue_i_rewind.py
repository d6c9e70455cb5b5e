"""Group I: rewind."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from azure.durable_functions import EntityId, RetryOptions
from catalogue_hub import Hub, value
from catalogue_kit import case

from perdure.core.events import ExecutionRewound, TaskCompleted, TaskFailed, TimerCreated
from perdure.core.failures import TaskFailedError
from perdure.core.records import EntityQuery
from perdure.errors import HostStoppedError, InstanceNotFailedError, InstanceNotFoundError, StoreUnavailableError


class Steps:
    """An activity `step` that notes what it is called with, and fails for some of it until that is mended."""

    def __init__(self, hub: Hub, *broken: object) -> None:
        self.hub = hub
        self.broken = set(broken)
        self.runs: list[object] = []

        @hub.activity
        def step(what):
            self.runs.append(what)
            if what in self.broken:
                raise ValueError(f"{what} is broken")
            return what

    def mend(self) -> None:
        """From now on nothing fails, and what ran before is forgotten."""
        self.broken.clear()
        self.runs.clear()


async def failed(hub: Hub, name: str, input: object = None, instance_id: str = "one") -> str:
    """Run an orchestration that has to fail; returns its id."""
    ended = await hub.run(name, input, instance_id)
    assert ended.status == "Failed", ended.output
    return instance_id


@case("I1", "an activity fails, and is mended: rewound, the instance calls only that one again, and completes")
async def test_only_what_failed_runs_again(hub: Hub):
    steps = Steps(hub, "b")

    @hub.orchestrator
    def work(context):
        first = yield context.call_activity("step", "a")
        return [first, (yield context.call_activity("step", "b"))]

    await failed(hub, "work")
    steps.mend()
    await hub.rewind("one", "mended")

    assert await hub.result("one") == ["a", "b"]
    assert steps.runs == ["b"]
    row = await hub.get("one")
    assert (row.failure, value(row.output)) == (None, ["a", "b"])


@case("I2", "of four activities the last one fails: the first three are not called again")
async def test_what_succeeded_does_not_run_again(hub: Hub):
    steps = Steps(hub, 4)

    @hub.orchestrator
    def work(context):
        total = 0
        for number in (1, 2, 3, 4):
            total += yield context.call_activity("step", number)
        return total

    await failed(hub, "work")
    steps.mend()
    await hub.restart()
    await hub.rewind("one")

    assert await hub.result("one") == 10
    assert steps.runs == [4]


@case("I3", "of five activities at once two fail: only these run again")
async def test_of_a_fan_out_only_the_failures_run_again(hub: Hub):
    steps = Steps(hub, 2, 4)

    @hub.orchestrator
    def work(context):
        return sum((yield context.task_all([context.call_activity("step", number) for number in range(5)])))

    await failed(hub, "work")
    steps.mend()
    await hub.rewind("one")

    assert await hub.result("one") == 10
    assert sorted(steps.runs) == [2, 4]


def with_generations(hub: Hub) -> None:
    """Registers `tree`, which calls itself so many levels down, and there the activity `step`."""

    @hub.orchestrator
    def tree(context):
        level = context.get_input()
        if level == 0:
            return (yield context.call_activity("step", "leaf"))
        before = yield context.call_activity("step", level)
        below = yield context.call_sub_orchestrator("tree", level - 1, f"level-{level - 1}")
        return [before, below]


@case("I4", "a child failed: it is rewound, and its parent goes on")
async def test_a_failed_child_is_rewound(hub: Hub):
    steps = Steps(hub, "leaf")
    with_generations(hub)
    await failed(hub, "tree", 1)

    steps.mend()
    await hub.rewind("one")

    assert await hub.result("one") == [1, "leaf"]
    assert await hub.status("level-0") == "Completed"
    assert steps.runs == ["leaf"]


@case("I5", "a grandchild failed: over three levels only its activity runs again")
async def test_a_failed_grandchild_is_rewound(hub: Hub):
    steps = Steps(hub, "leaf")
    with_generations(hub)
    await failed(hub, "tree", 2)

    steps.mend()
    await hub.rewind("one")

    assert await hub.result("one") == [2, [1, "leaf"]]
    assert steps.runs == ["leaf"]
    for instance_id in ("one", "level-1", "level-0"):
        assert len(await hub.of_kind(instance_id, ExecutionRewound)) == 1


@case("I6", "a child that failed was purged: it is made anew")
async def test_a_purged_child_is_made_anew(hub: Hub):
    steps = Steps(hub, "leaf")
    with_generations(hub)
    await failed(hub, "tree", 1)
    await hub.client.purge("level-0")

    steps.mend()
    await hub.rewind("one")

    assert await hub.result("one") == [1, "leaf"]
    assert await hub.status("level-0") == "Completed"


@case("I7", "it fails again, and is rewound again")
async def test_an_instance_can_be_rewound_twice(hub: Hub):
    steps = Steps(hub, "a", "b")

    @hub.orchestrator
    def work(context):
        first = yield context.call_activity("step", "a")
        return [first, (yield context.call_activity("step", "b"))]

    await failed(hub, "work")
    for broken in ("a", "b"):
        steps.broken.discard(broken)
        await hub.rewind("one")
        ended = await hub.wait("one")

    assert value(ended.output) == ["a", "b"]
    assert steps.runs == ["a", "a", "b", "b"]
    assert len(await hub.of_kind("one", ExecutionRewound)) == 2


@case("I8", "only what failed can be rewound: anything else is an error, and what does not exist is not found")
async def test_only_failed_instances_can_be_rewound(hub: Hub):
    @hub.orchestrator
    def waiter(context):
        return (yield context.wait_for_external_event("go"))

    for each in ("running", "completed", "terminated"):
        await hub.start("waiter", instance_id=each)
    await hub.raise_event("completed", "go")
    await hub.client.terminate("terminated")
    await hub.settle()

    for each in ("running", "completed", "terminated"):
        with pytest.raises(InstanceNotFailedError):
            await hub.rewind(each)
        assert (await hub.http("POST", f"instances/{each}/rewind")).status_code == 412
    with pytest.raises(InstanceNotFoundError):
        await hub.rewind("unknown")
    assert (await hub.http("POST", "instances/unknown/rewind")).status_code == 404
    assert await hub.status("running") == "Running"
    assert await hub.mail("running") == ()


@case("I9", "a rewind needs no reason")
async def test_a_rewind_needs_no_reason(hub: Hub):
    steps = Steps(hub, "a")

    @hub.orchestrator
    def work(context):
        return (yield context.call_activity("step", "a"))

    await failed(hub, "work")
    steps.mend()
    await hub.rewind("one")

    assert await hub.result("one") == "a"
    assert [each.reason for each in await hub.of_kind("one", ExecutionRewound)] == [None]


@case("I10", "a call whose retries were all used up has all of them again", regression="rewind of retries and timers")
async def test_a_rewound_call_has_all_its_retries_again(hub: Hub):
    calls = []

    @hub.orchestrator
    def work(context):
        yield context.call_activity("plain", None)
        return (yield context.call_activity_with_retry("flaky", RetryOptions(1000, 3), "result"))

    @hub.activity
    def plain(_):
        return None

    @hub.activity
    def flaky(given):
        calls.append(given)
        if len(calls) < 6:
            raise ValueError(f"attempt {len(calls)}")
        return given

    await failed(hub, "work")
    assert len(calls) == 3
    await hub.restart()
    await hub.rewind("one")

    assert await hub.result("one") == "result"
    assert len(calls) == 6
    assert len(await hub.of_kind("one", TimerCreated)) == 2


@case(
    "I11",
    "a failure was caught and made good, and the code raised after all: it goes on from the failed call",
    regression="rewind of retries and timers",
)
async def test_a_compensation_is_undone_with_the_failure(hub: Hub):
    steps = Steps(hub, "charge")

    @hub.orchestrator
    def order(context):
        yield context.call_activity("step", "reserve")
        try:
            yield context.call_activity("step", "charge")
        except TaskFailedError:
            yield context.create_timer(timedelta(seconds=1))
            yield context.call_activity("step", "release")
            raise
        return (yield context.call_activity("step", "ship"))

    await failed(hub, "order")
    assert steps.runs == ["reserve", "charge", "release"]
    steps.mend()
    await hub.rewind("one")

    assert await hub.result("one") == "ship"
    assert steps.runs == ["charge", "ship"]
    await hub.restart()
    assert await hub.status("one") == "Completed"


@case(
    "I12",
    "a failure that the code handled stays handled: only the later, fatal one runs again",
    regression="rewind of retries and timers",
)
async def test_a_handled_failure_stays_handled(hub: Hub):
    steps = Steps(hub, "optional", "needed")

    @hub.orchestrator
    def work(context):
        try:
            yield context.call_activity("step", "optional")
        except TaskFailedError:
            yield context.call_activity("step", "instead")
        return (yield context.call_activity("step", "needed"))

    await failed(hub, "work")
    steps.mend()
    await hub.rewind("one")

    assert await hub.result("one") == "needed"
    assert steps.runs == ["needed"]
    assert [each.failure.message for each in await hub.of_kind("one", TaskFailed)] == ["optional is broken"]


@case("I13", "the code itself was wrong: rewound with corrected code it completes, and no activity runs again")
async def test_corrected_code_goes_on(hub: Hub):
    steps = Steps(hub)

    @hub.orchestrator
    def work(context):
        result = yield context.call_activity("step", 3)
        return 1 / (result - 3)

    await failed(hub, "work")
    steps.mend()

    def corrected(context):
        result = yield context.call_activity("step", 3)
        return result - 3

    corrected.__name__ = "work"
    hub.orchestrator(corrected)
    await hub.restart()
    await hub.rewind("one")

    assert await hub.result("one") == 0
    assert steps.runs == []


@case("I14", "the rewind stands in the history with its reason, and the custom status is kept")
async def test_a_rewind_stands_in_the_history(hub: Hub):
    steps = Steps(hub, "a")
    gate = asyncio.Event()

    @hub.orchestrator
    def work(context):
        context.set_custom_status("before the failure")
        yield context.call_activity("step", "a")
        yield context.call_activity("gated", None)

    @hub.activity
    async def gated(_):
        await gate.wait()

    await failed(hub, "work")
    steps.mend()
    await hub.rewind("one", "the reason")
    await hub.settle()

    row = await hub.get("one")
    assert (row.status, value(row.custom_status)) == ("Running", "before the failure")
    assert (row.output, row.failure, row.completed_at) == (None, None, None)
    assert [each.reason for each in await hub.of_kind("one", ExecutionRewound)] == ["the reason"]
    assert "ExecutionCompleted" not in await hub.kinds("one")
    gate.set()
    await hub.wait("one")


@case("I15", "events that were kept before the failure are still there after the rewind")
async def test_kept_events_are_still_there(hub: Hub):
    steps = Steps(hub, "a")

    @hub.orchestrator
    def work(context):
        yield context.wait_for_external_event("begin")
        yield context.call_activity("step", "a")
        first = yield context.wait_for_external_event("item")
        return [first, (yield context.wait_for_external_event("item"))]

    await hub.start("work", instance_id="one")
    for number in range(2):
        await hub.raise_event("one", "item", number)
    await hub.raise_event("one", "begin")
    assert (await hub.wait("one")).status == "Failed"
    steps.mend()
    await hub.rewind("one")

    assert await hub.result("one") == [0, 1]


@case("I16", "the host dies while it rewinds, or the store fails: the instance is either still failed or rewound")
async def test_a_rewind_is_whole_or_not_at_all(hub: Hub):
    steps = Steps(hub)

    @hub.orchestrator
    def work(context):
        yield context.call_activity("step", "a")
        return (yield context.call_activity("step", "b"))

    for operation in ("send", "commit"):
        for after in (False, True):
            for is_deadly in (False, True):
                instance_id = f"{operation}{after}{is_deadly}"
                steps.broken.add("b")
                await failed(hub, "work", instance_id=instance_id)
                before = await hub.history(instance_id)
                steps.mend()
                (hub.crash_at if is_deadly else hub.fail)(operation, after=after)
                try:
                    await hub.rewind(instance_id, request_id=f"rewind {instance_id}")
                except (StoreUnavailableError, HostStoppedError):
                    pass
                await hub.settle()
                if not hub.host.is_up:
                    await hub.restart()
                await hub.settle()
                if await hub.status(instance_id) == "Failed":
                    assert operation == "send"
                    assert not after
                    assert await hub.history(instance_id) == before
                    await hub.rewind(instance_id, request_id=f"rewind {instance_id}")
                assert await hub.result(instance_id) == "b"
                assert set(steps.runs) == {"b"}
                assert len(await hub.of_kind(instance_id, ExecutionRewound)) == 1
                assert hub.troubles == []


@case("I17", "two children failed at the same time, and their parent with the first: all are rewound")
async def test_children_that_failed_together_are_all_rewound(hub: Hub):
    steps = Steps(hub, 0, 1)

    @hub.orchestrator
    def parent(context):
        children = [context.call_sub_orchestrator("child", number, f"child-{number}") for number in range(3)]
        return (yield context.task_all(children))

    @hub.orchestrator
    def child(context):
        return (yield context.call_activity("step", context.get_input()))

    await failed(hub, "parent")
    assert [await hub.status(f"child-{number}") for number in range(3)] == ["Failed", "Failed", "Completed"]
    steps.mend()
    await hub.rewind("one")

    assert await hub.result("one") == [0, 1, 2]
    assert sorted(steps.runs) == [0, 1]


@case(
    "I18",
    "an entity's operation was the cause: it is sent again as a new request; what was done under locks is done again",
)
async def test_a_failed_operation_is_sent_again(hub: Hub):
    is_broken = True
    done: list[str] = []

    @hub.entity
    def Stock(context):
        if context.operation_name == "take" and is_broken:
            raise ValueError("there is nothing")
        done.append(f"{context.operation_name} {context.entity_key}")
        context.set_state(context.get_state(lambda: 0) + 1)
        return context.get_state()

    book, pen = EntityId("Stock", "book"), EntityId("Stock", "pen")

    @hub.orchestrator
    def order(context):
        yield context.call_entity(book, "count")
        return [(yield context.call_entity(book, "take")), (yield context.call_entity(book, "count"))]

    @hub.orchestrator
    def under_locks(context):
        with (yield context.lock_entities([pen, book])):
            yield context.call_entity(pen, "count")
            yield context.call_entity(pen, "take")
            yield context.call_entity(book, "take")
        with (yield context.lock_entities([pen])):
            return (yield context.call_entity(pen, "count"))

    for name in ("order", "under_locks"):
        await failed(hub, name, None, name)
        await hub.settle()
    assert done == ["count book", "count pen"]
    assert (await hub.client.entities(EntityQuery(locked_only=True))).instances == ()
    await hub.rewind("order")
    assert await hub.status("order") == "Failed", "and can be rewound again"

    is_broken = False
    await hub.rewind("order", "mended")
    assert await hub.result("order") == [2, 3]
    await hub.rewind("under_locks", "mended")
    assert await hub.result("under_locks") == 4
    await hub.settle()

    assert done == [
        *("count book", "count pen", "take book", "count book"),
        *("count pen", "take pen", "take book", "count pen"),
    ]
    assert (await hub.client.entities(EntityQuery(locked_only=True))).instances == ()


@case(
    "I19",
    "an activity that was still running when the instance failed",
    changed="its one result counts, and it is not called a second time while it runs: the execution id stays, so the "
    "result is that of a call that is still open",
)
async def test_an_activity_that_still_runs_is_not_called_again(hub: Hub):
    steps = Steps(hub, "broken")
    gate, runs = asyncio.Event(), []

    @hub.orchestrator
    def work(context):
        return (yield context.task_all([context.call_activity("slow", 1), context.call_activity("step", "broken")]))

    @hub.activity
    async def slow(number):
        runs.append(number)
        await gate.wait()
        return number

    await failed(hub, "work")
    steps.mend()
    await hub.rewind("one")
    await hub.settle()
    gate.set()

    assert await hub.result("one") == [1, "broken"]
    assert runs == [1]
    assert len(await hub.of_kind("one", TaskCompleted)) == 2
