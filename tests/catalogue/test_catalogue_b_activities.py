"""Group B: activities."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

from catalogue_hub import SHARED, Hub, value
from catalogue_kit import case, case_apart

from perdure.core.events import TaskCompleted, TaskFailed, TaskScheduled
from perdure.core.failures import FailureDetails, TaskFailedError
from perdure.engine.thread import EngineThread
from perdure.host.invoke import Activity, LocalExecutor
from perdure.host.user_code import UserCode, current_invocation
from perdure.stores.memory import MemoryStore


def with_gate(hub: Hub) -> tuple[asyncio.Event, list[str]]:
    """Registers `gated`, whose activity notes that it begins and ends when the gate opens."""
    gate, begun = asyncio.Event(), []

    @hub.orchestrator
    def gated(context):
        return (yield context.call_activity("slow", "once"))

    @hub.activity
    async def slow(name):
        begun.append(name)
        await gate.wait()
        return name

    return gate, begun


@case("B1", "one activity: its result comes back, and the history has the two episodes in order")
async def test_one_activity_gives_its_result(hub: Hub):
    @hub.orchestrator
    def greet(context):
        return (yield context.call_activity("hello", "Tokyo"))

    @hub.activity
    def hello(city):
        return f"Hello {city}"

    instance_id = await hub.start("greet")

    assert await hub.result(instance_id) == "Hello Tokyo"
    assert await hub.kinds(instance_id) == [
        "OrchestratorStarted", "ExecutionStarted", "TaskScheduled", "OrchestratorCompleted",
        "OrchestratorStarted", "TaskCompleted", "ExecutionCompleted", "OrchestratorCompleted",
    ]  # fmt: skip
    scheduled, completed = await hub.of_kind(instance_id, TaskScheduled | TaskCompleted)
    assert (scheduled.event_id, completed.task_id) == (0, 0)


@case(
    "B2",
    "ten activities in a row, each with the result of the one before; a live session never loads its history",
    regression="history loaded for every episode",
)
async def test_activities_in_a_row_pass_their_results_on(hub: Hub):
    @hub.orchestrator
    def chain(context):
        number = 0
        for _ in range(10):
            number = yield context.call_activity("increment", number)
        return number

    @hub.activity
    def increment(number):
        return number + 1

    assert await hub.call("chain") == 10
    assert hub.replays or hub.engine.counters.cold_loads == 0


def with_fan_out(hub: Hub) -> None:
    @hub.orchestrator
    def fan_out(context):
        squares = yield context.task_all(
            [context.call_activity("square", number) for number in range(context.get_input())]
        )
        return sum(squares)

    @hub.activity
    def square(number):
        return number * number


@case("B3", "a hundred activities at once, and the sum of their results")
async def test_a_hundred_activities_at_once(hub: Hub):
    with_fan_out(hub)

    assert await hub.call("fan_out", 100) == sum(number * number for number in range(100))


@case("B4", "two thousand activities at once; none gets lost")
async def test_two_thousand_activities_at_once(hub: Hub):
    with_fan_out(hub)
    count = hub.many(2_000)

    assert await hub.call("fan_out", count) == sum(number * number for number in range(count))


@case("B5", "an activity's exception that nobody catches fails the instance, with the exception's type and message")
async def test_an_uncaught_exception_of_an_activity_fails_the_instance(hub: Hub):
    @hub.orchestrator
    def order(context):
        yield context.call_activity("charge", 5)

    @hub.activity
    def charge(amount):
        raise ValueError(f"card declined for {amount}")

    ended = await hub.run("order")

    assert ended.status == "Failed"
    assert (ended.failure.error_type, ended.failure.message) == ("ValueError", "card declined for 5")
    assert "card declined for 5" in value(ended.output)


@case("B6", "an activity's exception can be caught, and the code takes another way")
async def test_an_exception_of_an_activity_can_be_caught(hub: Hub):
    @hub.orchestrator
    def order(context):
        try:
            yield context.call_activity("charge", "card")
        except TaskFailedError as error:
            return [error.error_type, (yield context.call_activity("charge", "invoice"))]

    @hub.activity
    def charge(way):
        if way == "card":
            raise ConnectionError("bank is down")
        return way

    assert await hub.call("order") == ["ConnectionError", "invoice"]


@case("B7", "the causes of an exception are kept")
async def test_the_causes_of_an_exception_are_kept(hub: Hub):
    @hub.orchestrator
    def order(context):
        try:
            yield context.call_activity("charge", None)
        except TaskFailedError as error:
            inner = error.details.inner
            return [error.details.error_type, inner.error_type, inner.inner.error_type, inner.inner.message]

    @hub.activity
    def charge(_):
        try:
            try:
                raise KeyError("account")
            except KeyError as error:
                raise LookupError("no account") from error
        except LookupError as error:
            raise RuntimeError("cannot charge") from error

    assert await hub.call("order") == ["RuntimeError", "LookupError", "KeyError", "'account'"]


@case("B8", "an activity that returns nothing gives None")
async def test_an_activity_may_return_nothing(hub: Hub):
    @hub.orchestrator
    def work(context):
        result = yield context.call_activity("nothing", None)
        return {"result": result}

    @hub.activity
    def nothing(given):
        assert given is None

    assert await hub.call("work") == {"result": None}


@case("B9", "inputs and results of five megabytes stay whole")
async def test_large_payloads_stay_whole(hub: Hub):
    large = "äöü-" * (hub.many(5_000_000) // 4)

    @hub.orchestrator
    def work(context):
        return (yield context.call_activity("same", context.get_input()))

    @hub.activity
    def same(given):
        assert given == large
        return given

    assert await hub.call("work", large) == large


@case("B10", "a result that JSON cannot hold fails the activity, not to be tried again, and says which one")
async def test_a_result_that_is_no_json_fails_the_activity(hub: Hub):
    @hub.orchestrator
    def work(context):
        try:
            yield context.call_activity("unfit", None)
        except TaskFailedError as error:
            return [error.error_type, error.message, error.details.is_non_retriable]

    @hub.activity
    def unfit(_):
        return {1, 2}

    error_type, message, is_final = await hub.call("work")

    assert error_type == "TypeError"
    assert "'unfit'" in message
    assert is_final is True


@case("B11", "an activity that the app does not have fails its call at once, not to be tried again")
async def test_an_unknown_activity_fails_its_call(hub: Hub):
    @hub.orchestrator
    def work(context):
        try:
            yield context.call_activity("wrok", None)
        except TaskFailedError as error:
            return [error.error_type, error.details.is_non_retriable, error.message]

    @hub.activity
    def actual(_):
        return None

    error_type, is_final, message = await hub.call("work")

    assert (error_type, is_final) == ("ActivityNotFound", True)
    assert "'actual'" in message
    assert hub.engine.counters.activities == 1


@case("B12", "an activity whose host dies runs again on the next one, and answers once")
async def test_an_activity_whose_host_dies_runs_again(hub: Hub):
    gate, begun = with_gate(hub)
    instance_id = await hub.start("gated")
    await hub.settle()

    await hub.restart()
    gate.set()

    assert await hub.result(instance_id) == "once"
    assert begun == ["once", "once"]
    assert len(await hub.of_kind(instance_id, TaskCompleted)) == 1


@case("B13", "a result whose commit fails, before or after its effect, is answered once")
async def test_a_result_whose_commit_fails_is_answered_once(hub: Hub):
    runs: list[str] = []

    @hub.orchestrator
    def work(context):
        first = yield context.call_activity("note", context.instance_id)
        return [first, (yield context.call_activity("note", "second"))]

    @hub.activity
    def note(name):
        runs.append(name)
        return name

    for number in (1, 2, 3, 4):
        for after in (False, True):
            instance_id = f"{number}{after}"
            await hub.up()
            hub.fail("commit", after=after, number=number)
            assert await hub.call("work", instance_id=instance_id) == [instance_id, "second"]
            assert len(await hub.of_kind(instance_id, TaskCompleted)) == 2
            hub.troubles.clear()

    assert runs.count("2False") == 2  # its result was not durable: it ran again
    assert runs.count("2True") == 1


@case(
    "B14",
    "two hosts finish the same activity because one lost its lease: one result counts",
    only="memory",
    why="only this store is shared by hosts",
    regression="split brain",
    settings=SHARED,
)
async def test_of_two_hosts_that_finish_an_activity_one_counts(hub: Hub):
    gate, begun = with_gate(hub)
    instance_id = await hub.start("gated")
    await hub.settle()
    first = hub.host

    first.pause()
    second = await hub.add_host()
    await hub.advance(seconds=45)
    gate.set()
    await hub.settle()
    first.go_on()
    ended = await second.client.wait(instance_id)
    await hub.advance(seconds=45)

    assert value(ended.output) == "once"
    assert begun == ["once", "once"]
    assert len(await hub.of_kind(instance_id, TaskCompleted)) == 1


@case("B15", "an activity that takes longer than a lease lasts runs once", settings=SHARED)
async def test_an_activity_may_outlast_a_lease(hub: Hub):
    begun = []

    @hub.orchestrator
    def work(context):
        return (yield context.call_activity("long", "result"))

    @hub.activity
    async def long(name):
        begun.append(name)
        await asyncio.sleep(300)
        return name

    instance_id = await hub.start("work")
    if hub.is_memory:
        await hub.add_host()

    assert await hub.result(instance_id) == "result"
    assert begun == ["result"]


@case_apart("B16", "sync and async activities share one limit of how many run at once", why="real threads, once")
def test_sync_and_async_activities_share_one_limit():
    limit, count = 3, 12
    lock = threading.Lock()
    running, most = 0, 0
    enough = threading.Event()  # set once as many run as may

    def begin() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == limit:
                enough.set()

    def end() -> None:
        nonlocal running
        with lock:
            running -= 1

    def blocking(given):
        begin()
        assert enough.wait(10)
        end()
        return given

    async def awaiting(given):
        begin()
        assert await asyncio.to_thread(enough.wait, 10)
        end()
        return given

    def fan_out(cursor):
        from perdure.core.tasks import ActivityCall, TaskAll

        return (yield TaskAll([ActivityCall(("blocking", "awaiting")[each % 2], str(each)) for each in range(count)]))

    user_code = UserCode(threads=8, concurrency=limit)
    activities = {each.__name__: Activity(each.__name__, each, "given") for each in (blocking, awaiting)}
    engine = EngineThread(MemoryStore(1), LocalExecutor({"fan_out": fan_out}, activities, user_code))
    user_code.start()
    engine.start()
    try:

        async def run():
            return await engine.client.wait(await engine.client.start("fan_out"), timedelta(seconds=20))

        ended = asyncio.run(run())
    finally:
        engine.stop()
        user_code.stop()

    assert value(ended.output) == list(range(count))
    assert most == limit


@case(
    "B17",
    "an activity that nobody waits for any more when the code returns",
    changed="as in SDK 1.x a call is made when it is first yielded, so one that never was does not run; one that was, "
    "in a task_any that it lost, runs to its end and its result is dropped",
)
async def test_an_activity_that_nobody_waits_for_does_not_hold_the_instance(hub: Hub):
    gate, begun = with_gate(hub)

    @hub.orchestrator
    def hasty(context):
        context.call_activity("slow", "never yielded")
        slow = context.call_activity("slow", "loser")
        yield context.task_any([slow, context.call_activity("quick", None)])
        return "done"

    @hub.activity
    def quick(_):
        return None

    instance_id = await hub.start("hasty")
    await hub.settle()

    assert await hub.status(instance_id) == "Completed"
    assert begun == ["loser"]

    before = await hub.history(instance_id)
    gate.set()
    await hub.settle()
    assert await hub.history(instance_id) == before
    assert await hub.mail(instance_id) == ()


@case("B18", "a task that is yielded twice runs once and gives the same value twice")
async def test_a_task_yielded_twice_runs_once(hub: Hub):
    runs = []

    @hub.orchestrator
    def work(context):
        task = context.call_activity("note", 7)
        return [(yield task), (yield task)]

    @hub.activity
    def note(number):
        runs.append(number)
        return number

    assert await hub.call("work") == [7, 7]
    assert runs == [7]


@case("B19", "an activity of an instance that was terminated runs to its end; its result is dropped")
async def test_an_activity_of_a_terminated_instance_is_dropped(hub: Hub):
    gate, begun = with_gate(hub)
    instance_id = await hub.start("gated")
    await hub.settle()

    await hub.client.terminate(instance_id, "enough")
    await hub.settle()
    gate.set()
    await hub.settle()

    assert (await hub.get(instance_id)).status == "Terminated"
    assert await hub.of_kind(instance_id, TaskCompleted) == []
    assert begun == ["once"]
    episodes = hub.engine.counters.episodes
    await hub.advance(hours=3)
    assert hub.engine.counters.episodes == episodes


@case("B20", "results go to their calls, in whatever order the activities end")
async def test_results_go_to_their_calls(hub: Hub):
    gates = [asyncio.Event() for _ in range(5)]

    @hub.orchestrator
    def work(context):
        return (yield context.task_all([context.call_activity("gated", number) for number in range(5)]))

    @hub.activity
    async def gated(number):
        await gates[number].wait()
        return number * 10

    instance_id = await hub.start("work")
    for gate in reversed(gates):
        await hub.settle()
        gate.set()

    assert await hub.result(instance_id) == [0, 10, 20, 30, 40]
    assert [each.task_id for each in await hub.of_kind(instance_id, TaskCompleted)] == [4, 3, 2, 1, 0]


def with_activity_then_event(hub: Hub) -> None:
    """Registers `work`, which returns the result of an activity once it has its event `go`."""

    @hub.orchestrator
    def work(context):
        result = yield context.call_activity("first", None)
        yield context.wait_for_external_event("go")
        return result

    @hub.activity
    def first(_):
        return "first"


@case("B21", "a result that comes a second time is ignored")
async def test_a_result_that_comes_again_is_ignored(hub: Hub):
    with_activity_then_event(hub)
    instance_id = await hub.start("work")
    await hub.settle()

    await hub.inject(instance_id, TaskCompleted(hub.now, 0, '"again"'))
    await hub.raise_event(instance_id, "go")

    assert await hub.result(instance_id) == "first"
    assert len(await hub.of_kind(instance_id, TaskCompleted)) == 1


@case("B22", "a result for a call that was never made is ignored")
async def test_a_result_for_no_call_is_ignored(hub: Hub):
    with_activity_then_event(hub)
    instance_id = await hub.start("work")
    await hub.settle()

    await hub.inject(instance_id, TaskCompleted(hub.now, 99, '"nobody asked"'))
    await hub.raise_event(instance_id, "go")

    assert await hub.result(instance_id) == "first"


@case("B23", "a failure that comes after the result of the same call is ignored")
async def test_a_failure_after_the_result_is_ignored(hub: Hub):
    with_activity_then_event(hub)
    instance_id = await hub.start("work")
    await hub.settle()

    await hub.inject(instance_id, TaskFailed(hub.now, 0, FailureDetails("ValueError", "late")))
    await hub.raise_event(instance_id, "go")

    assert await hub.result(instance_id) == "first"
    assert await hub.of_kind(instance_id, TaskFailed) == []


@case(
    "B24",
    "an activity that kills its host is given up after some attempts; the call fails and others are not affected",
    regression="poison messages",
)
async def test_an_activity_that_kills_its_host_is_given_up(hub: Hub):
    runs = []

    @hub.orchestrator
    def work(context):
        try:
            yield context.call_activity("deadly", None)
        except TaskFailedError as error:
            return [error.error_type, error.details.is_non_retriable]

    @hub.orchestrator
    def harmless(context):
        return (yield context.call_activity("hello", "Tokyo"))

    @hub.activity
    async def deadly(_):
        runs.append(None)
        hub.crash()
        await asyncio.Event().wait()

    @hub.activity
    async def hello(city):
        await asyncio.sleep(1)
        return f"Hello {city}"

    async with hub.together() as client:
        await client.start("work", instance_id="deadly")
        await client.start("harmless", instance_id="harmless")
    for _ in range(3 * hub.settings.dispatches_max):
        await hub.advance(seconds=5)
        if hub.host.is_up:
            break
        await hub.restart()

    assert await hub.result("deadly") == ["PoisonMessage", True]
    assert await hub.result("harmless") == "Hello Tokyo"
    assert len(runs) == 1 + hub.settings.dispatches_max


@case("B25", "a host that stops lets activities finish for a while; those that take longer run again at the next start")
async def test_a_host_that_stops_lets_activities_finish(hub: Hub):
    begun = []

    @hub.orchestrator
    def work(context):
        return (yield context.call_activity("slow", context.get_input()))

    @hub.activity
    async def slow(seconds):
        begun.append(seconds)
        await asyncio.sleep(seconds)
        return seconds

    short, long = await hub.start("work", 5), await hub.start("work", 60)
    await hub.settle()
    await hub.shut_down(timedelta(seconds=10))
    await hub.restart()

    assert await hub.status(short) == "Completed"
    assert await hub.result(long) == 60
    assert sorted(begun) == [5, 60, 60]


@case(
    "B26",
    "an activity can tell whose call it is",
    changed="its `context` is that of every function, as in the official worker, and has no instance id; what an "
    "activity logs or prints is shown with it",
)
async def test_what_an_activity_says_is_shown_with_its_instance(hub: Hub):
    @hub.orchestrator
    def work(context):
        return (yield context.call_activity("whose", None))

    @hub.activity
    def whose(_):
        invocation = current_invocation.get()
        return [invocation.function, invocation.instance_id]

    assert await hub.call("work", instance_id="order-17") == ["whose", "order-17"]
