"""Group F: continue-as-new."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from random import Random

from azure.durable_functions import EntityId
from catalogue_hub import Hub, at, gather, value
from catalogue_kit import case

from perdure.core.events import ExecutionStarted, TaskCompleted
from perdure.errors import HostStoppedError


def with_counter(hub: Hub) -> None:
    """Registers `counter`, which counts its generations from its input to ten, one each second."""

    @hub.orchestrator
    def counter(context):
        count = context.get_input()
        if count == 10:
            return count
        yield context.create_timer(timedelta(seconds=1))
        context.continue_as_new(count + 1)


@case("F1", "a counter of ten generations: the result is ten, and the history is that of the last one")
async def test_ten_generations(hub: Hub):
    with_counter(hub)

    await hub.start("counter", 0, "one")

    assert await hub.result("one") == 10
    assert await hub.kinds("one") == [
        "OrchestratorStarted", "ExecutionStarted", "ExecutionCompleted", "OrchestratorCompleted",
    ]  # fmt: skip


@case("F2", "each generation has an execution id of its own; the instance id stays")
async def test_each_generation_has_an_execution_id(hub: Hub):
    with_counter(hub)
    await hub.start("counter", 0, "one")

    executions = set()
    for _ in range(5):
        await hub.settle()
        row = await hub.get("one")
        started = (await hub.of_kind("one", ExecutionStarted))[0]
        assert row.execution_id == started.execution_id
        executions.add(row.execution_id)
        await hub.advance(seconds=1)

    assert len(executions) == 5


@case("F3", "the custom status stays if the new generation sets none, and changes if it does")
async def test_the_custom_status_stays_over_generations(hub: Hub):
    @hub.orchestrator
    def generations(context):
        number = context.get_input()
        if number == 0:
            context.set_custom_status("set by the first")
        if number == 2:
            context.set_custom_status("set by the third")
        yield context.wait_for_external_event("next")
        context.continue_as_new(number + 1)

    await hub.start("generations", 0, "one")
    seen = []
    for _ in range(4):
        await hub.settle()
        seen.append(value((await hub.get("one")).custom_status))
        await hub.raise_event("one", "next")

    assert seen == ["set by the first", "set by the first", "set by the third", "set by the third"]


@case(
    "F4",
    "what stands after continue_as_new: code runs on to its next yield or its end, events are still sent",
    changed="the first call wins, the next yield ends the generation, and other later actions are dropped: as SDK 1.x "
    "does, so that old apps behave the same here",
)
async def test_the_first_continue_as_new_wins(hub: Hub):
    ran = []

    @hub.orchestrator
    def work(context):
        if context.get_input() != "first":
            return context.get_input()
        context.continue_as_new("second")
        ran.append("after the call")
        context.send_event("receiver", "item", data="sent after the call")
        context.continue_as_new("third")
        yield context.call_activity("note", "dropped")
        ran.append("after the yield")

    @hub.orchestrator
    def receiver(context):
        return (yield context.wait_for_external_event("item"))

    @hub.activity
    def note(what):
        ran.append(what)

    await hub.start("receiver", instance_id="receiver")

    assert await hub.call("work", "first") == "second"
    assert await hub.result("receiver") == "sent after the call"
    assert set(ran) == {"after the call"}


@case("F5", "an exception after continue_as_new fails the instance")
async def test_an_exception_after_continue_as_new_fails(hub: Hub):
    @hub.orchestrator
    def work(context):
        context.continue_as_new("second")
        raise ValueError("after all")

    ended = await hub.run("work")

    assert (ended.status, ended.failure.message) == ("Failed", "after all")


@case("F6", "with an activity still running the next generation begins at once, and the result is dropped")
async def test_a_running_activity_does_not_hold_the_next_generation_up(hub: Hub):
    gate = asyncio.Event()

    @hub.orchestrator
    def work(context):
        if context.get_input() == "second":
            return (yield context.wait_for_external_event("go"))
        yield context.task_any([context.call_activity("slow", None), context.create_timer(timedelta(seconds=1))])
        context.continue_as_new("second")

    @hub.activity
    async def slow(_):
        await gate.wait()
        return "of the first generation"

    await hub.start("work", "first", "one")
    await hub.advance(seconds=2)

    assert value((await hub.get("one")).input) == "second"

    gate.set()
    await hub.settle()
    await hub.raise_event("one", "go", "of the second")
    assert await hub.result("one") == "of the second"
    assert await hub.of_kind("one", TaskCompleted) == []


@case("F7", "five hundred generations without a pause end, and other instances go on meanwhile")
async def test_a_tight_loop_of_generations_lets_others_run(hub: Hub):
    order = []

    @hub.orchestrator
    def spinning(context):
        if context.get_input() == 500:
            order.append("spinning")
            return 500
        context.continue_as_new(context.get_input() + 1)
        return None

    @hub.orchestrator
    def modest(context):
        for number in range(20):
            yield context.call_activity("step", number)
        order.append("modest")

    @hub.activity
    def step(number):
        return number

    await hub.up()
    ids = await gather(hub.start("spinning", 0), hub.start("modest"))

    assert await hub.result(ids[0]) == 500
    await hub.wait(ids[1])
    assert order.index("modest") < order.index("spinning")


@case("F8", "a termination that comes together with what makes the code continue as new: Terminated")
async def test_a_termination_wins_against_continue_as_new(hub: Hub):
    @hub.orchestrator
    def work(context):
        yield context.wait_for_external_event("next")
        context.continue_as_new(context.get_input() + 1)

    await hub.start("work", 0, "one")
    await hub.settle()
    episodes = hub.engine.counters.episodes
    async with hub.together() as client:
        await client.raise_event("one", "next")
        await client.terminate("one", "enough")
    ended = await hub.wait("one")

    assert hub.engine.counters.episodes == episodes + 1
    assert (ended.status, value(ended.output), value(ended.input)) == ("Terminated", "enough", 0)


@case("F9", "the result of an activity of an earlier generation is ignored in a later one")
async def test_a_result_for_an_earlier_generation_is_ignored(hub: Hub):
    @hub.orchestrator
    def work(context):
        if context.get_input() == "first":
            yield context.call_activity("quick", None)
            context.continue_as_new("second")
            return None
        return (yield context.call_activity("slow", None))

    gate = asyncio.Event()

    @hub.activity
    def quick(_):
        return "quick"

    @hub.activity
    async def slow(_):
        await gate.wait()
        return "slow"

    await hub.start("work", "first", "one", start_at=at(10))
    first = (await hub.get("one")).execution_id
    await hub.advance(seconds=20)
    assert value((await hub.get("one")).input) == "second"

    await hub.inject("one", TaskCompleted(hub.now, 0, '"of the first generation"'), first)
    gate.set()

    assert await hub.result("one") == "slow"


@case("F10", "an eternal loop of timers whose host dies again and again goes on: each round counts once")
async def test_an_eternal_loop_survives_its_hosts(hub: Hub):
    @hub.orchestrator
    def eternal(context):
        yield context.create_timer(timedelta(minutes=1))
        number = yield context.call_activity("increment", context.get_input())
        context.set_custom_status(number)
        context.send_event("witness", "round", data=number)
        context.continue_as_new(number)

    @hub.orchestrator
    def witness(context):
        rounds = []
        while len(rounds) < 20:
            rounds.append((yield context.wait_for_external_event("round")))
        return rounds

    @hub.activity
    def increment(number):
        return number + 1

    rng = Random(7)
    await hub.start("witness", instance_id="witness")
    await hub.start("eternal", 0, "eternal")
    while True:
        hub.crash_at("commit", after=rng.random() < 0.5, number=rng.randint(1, 6))
        try:
            rounds = await hub.result("witness")
            break
        except HostStoppedError:
            await hub.restart()
    hub.troubles.clear()
    if not hub.host.is_up:
        await hub.restart()
    await hub.client.terminate("eternal")
    await hub.wait("eternal")

    assert rounds == list(range(1, 21))
    assert len(hub.hosts) > 10


@case("F11", "continue_as_new can change the version")
async def test_continue_as_new_can_change_the_version(hub: Hub):
    @hub.orchestrator
    def work(context):
        if context.get_input() is None:
            context.continue_as_new("again", version="2.0")
            return None
        return context.version

    await hub.start("work", instance_id="one", version="1.0")

    assert await hub.result("one") == "2.0"
    assert (await hub.get("one")).version == "2.0"


@case("F12", "signals that each generation sends before it continues as new all arrive, in order")
async def test_signals_of_generations_arrive_in_order(hub: Hub):
    @hub.entity
    def Log(context):
        context.set_state([*context.get_state(list), context.get_input()])

    @hub.orchestrator
    def work(context):
        generation = context.get_input()
        for number in range(3):
            context.signal_entity(EntityId("Log", "l"), "append", 3 * generation + number)
        if generation < 9:
            context.continue_as_new(generation + 1)

    await hub.run("work", 0)
    await hub.settle()

    assert await hub.state("@log@l") == list(range(30))
