"""Group A: start, identity, status."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from urllib.parse import quote

import pytest
from catalogue_hub import Hub, at, gather, value
from catalogue_kit import case

from perdure.core.events import ExecutionStarted, TaskCompleted
from perdure.core.records import InstanceQuery, StartPolicy
from perdure.engine.ids import new_id
from perdure.errors import (
    HostStoppedError,
    InstanceExistsError,
    InvalidInstanceIdError,
    StoreUnavailableError,
    UnknownFunctionError,
)


def with_waiter(hub: Hub) -> None:
    """Registers `waiter`, which completes with the data of its event `go`, and `failing` and `quick`, which end."""

    @hub.orchestrator
    def waiter(context):
        context.set_custom_status("waiting")
        return (yield context.wait_for_external_event("go"))

    @hub.orchestrator
    def quick(context):
        context.set_custom_status("quick")
        return context.get_input()

    @hub.orchestrator
    def failing(context):
        context.set_custom_status("about to fail")
        raise ValueError("no stock")


@case("A1", "an orchestrator that returns before its first yield completes; four events are its history")
async def test_an_orchestrator_that_yields_nothing_completes(hub: Hub):
    @hub.orchestrator
    def empty(context):
        if context.instance_id == "never":
            yield context.wait_for_external_event("nothing")
        return "done"

    instance_id = await hub.start("empty")

    assert await hub.result(instance_id) == "done"
    assert await hub.kinds(instance_id) == [
        "OrchestratorStarted", "ExecutionStarted", "ExecutionCompleted", "OrchestratorCompleted",
    ]  # fmt: skip


@case("A2", "a plain function without any yield is an orchestrator, too")
async def test_a_plain_function_is_an_orchestrator(hub: Hub):
    @hub.orchestrator
    def double(context):
        return context.get_input() * 2

    assert await hub.call("double", 21) == 42


@case("A3", "a start without an id makes a unique one of 32 hexadecimal digits")
async def test_a_start_without_an_id_makes_one(hub: Hub):
    with_waiter(hub)

    ids = [await hub.start("quick") for _ in range(20)]
    own = [new_id() for _ in range(1000)]

    assert len(set(ids)) == 20
    assert len(set(own)) == 1000
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in (*ids, *own))


@case("A4", "a start with an id makes an instance of that id")
async def test_a_start_with_an_id_keeps_it(hub: Hub):
    with_waiter(hub)

    assert await hub.start("quick", instance_id="order-17") == "order-17"

    assert (await hub.wait("order-17")).instance_id == "order-17"


@case("A5", "an empty id counts as none")
async def test_an_empty_id_counts_as_none(hub: Hub):
    with_waiter(hub)

    instance_id = await hub.start("quick", instance_id="")

    assert re.fullmatch("[0-9a-f]{32}", instance_id)


@case("A6", "an id that begins with @ is refused, and nothing is stored")
async def test_an_id_that_looks_like_an_entity_is_refused(hub: Hub):
    with_waiter(hub)

    with pytest.raises(InvalidInstanceIdError):
        await hub.start("quick", instance_id="@counter@a")

    assert await hub.count_rows() == (0, 0)


@case("A7", "ids with / \\ # or ? are refused")
async def test_ids_that_no_url_could_carry_are_refused(hub: Hub):
    with_waiter(hub)

    for character in "/\\#?":
        with pytest.raises(ValueError, match="must not contain"):
            await hub.start("quick", instance_id=f"a{character}b")

    assert await hub.count_rows() == (0, 0)


@case("A8", "ids with control characters are refused")
async def test_ids_with_control_characters_are_refused(hub: Hub):
    with_waiter(hub)

    for character in "\x00\x01\x1f\x7f\x9f":
        with pytest.raises(ValueError, match="must not contain"):
            await hub.start("quick", instance_id=f"a{character}b")

    assert await hub.count_rows() == (0, 0)


@case("A9", "an id of 256 characters works, one of 257 is refused")
async def test_the_length_of_ids_has_a_limit(hub: Hub):
    with_waiter(hub)

    with pytest.raises(ValueError, match="256"):
        await hub.start("quick", instance_id="x" * 257)

    assert await hub.call("quick", 1, instance_id="x" * 256) == 1


@case("A10", "ids that differ in case only are two instances")
async def test_ids_are_compared_with_case(hub: Hub):
    with_waiter(hub)

    await hub.start("quick", "lower", instance_id="order")
    await hub.start("quick", "upper", instance_id="ORDER")

    assert await hub.result("order") == "lower"
    assert await hub.result("ORDER") == "upper"


@case("A11", "an id of any script works from start to end, in URLs and links as well")
async def test_an_id_of_any_script_works_everywhere(hub: Hub):
    with_waiter(hub)
    instance_id = "заказ 订单 🧾+%&=é"

    started = await hub.http("POST", f"orchestrators/waiter/{quote(instance_id, safe='')}")
    await hub.settle()
    links = started.json()
    raised = await hub.http("POST", links["sendEventPostUri"].replace("{eventName}", "go"), json="ok")

    assert started.status_code == 202
    assert links["id"] == instance_id
    assert raised.status_code == 202
    assert await hub.result(instance_id) == "ok"
    shown = (await hub.http("GET", links["statusQueryGetUri"])).json()
    assert (shown["instanceId"], shown["output"]) == (instance_id, "ok")


@case("A12", "a client that starts an orchestrator that the app does not have is refused; nothing is stored")
async def test_an_unknown_orchestrator_cannot_be_started(hub: Hub):
    with_waiter(hub)

    with pytest.raises(UnknownFunctionError, match="'waiter'"):
        await hub.start("wayter", instance_id="one")

    assert not await hub.exists("one")


@case("A13", "names of orchestrators ignore case, at the start and at every replay")
async def test_names_of_orchestrators_ignore_case(hub: Hub):
    with_waiter(hub)

    instance_id = await hub.start("WAITER")
    await hub.settle()
    await hub.restart()
    await hub.raise_event(instance_id, "go", 7)

    assert await hub.result(instance_id) == 7
    assert (await hub.get(instance_id)).name == "waiter"


async def conflict(hub: Hub, instance_id: str, status: str) -> None:
    """A start over this instance is refused, and changes nothing."""
    before = await hub.get(instance_id)

    with pytest.raises(InstanceExistsError, match=f"status {status} already exists"):
        await hub.start("quick", instance_id=instance_id)

    await hub.settle()
    assert await hub.get(instance_id) == before


@case("A14", "a start over a running instance is refused with its status; that instance goes on")
async def test_a_start_over_a_running_instance_is_refused(hub: Hub):
    with_waiter(hub)
    await hub.start("waiter", instance_id="one")
    await hub.settle()

    await conflict(hub, "one", "Running")

    await hub.raise_event("one", "go", "still here")
    assert await hub.result("one") == "still here"


@case("A15", "a start over an instance that is still to start is refused")
async def test_a_start_over_a_scheduled_instance_is_refused(hub: Hub):
    with_waiter(hub)
    await hub.start("quick", "first", instance_id="one", start_at=at(60))

    await conflict(hub, "one", "Pending")

    assert await hub.result("one") == "first"


@case("A16", "a start over a suspended instance is refused")
async def test_a_start_over_a_suspended_instance_is_refused(hub: Hub):
    with_waiter(hub)
    await hub.start("waiter", instance_id="one")
    await hub.client.suspend("one")
    await hub.settle()

    await conflict(hub, "one", "Suspended")


async def begun_anew(hub: Hub, status: str) -> None:
    """A start over the instance `one`, which has ended, leaves nothing of it."""
    old = await hub.get("one")
    assert old.status == status

    await hub.start("waiter", "new", instance_id="one")
    await hub.settle()

    new = await hub.get("one")
    assert (new.status, new.output, new.completed_at, new.failure) == ("Running", None, None, None)
    assert (value(new.input), value(new.custom_status)) == ("new", "waiting")
    assert new.execution_id != old.execution_id
    assert (await hub.kinds("one")).count("ExecutionStarted") == 1
    await hub.raise_event("one", "go", "new result")
    assert await hub.result("one") == "new result"


@case("A17", "a start over a completed instance begins anew: its history, output and custom status are gone")
async def test_a_start_over_a_completed_instance_begins_anew(hub: Hub):
    with_waiter(hub)
    await hub.run("quick", "old", instance_id="one")

    await begun_anew(hub, "Completed")


@case("A18", "a start over a failed instance begins anew")
async def test_a_start_over_a_failed_instance_begins_anew(hub: Hub):
    with_waiter(hub)
    await hub.run("failing", instance_id="one")

    await begun_anew(hub, "Failed")


@case("A19", "a start over a terminated instance begins anew")
async def test_a_start_over_a_terminated_instance_begins_anew(hub: Hub):
    with_waiter(hub)
    await hub.start("waiter", instance_id="one")
    await hub.client.terminate("one", "enough")
    await hub.wait("one")

    await begun_anew(hub, "Terminated")


@case("A20", "a start that replaces a running instance runs to its end; what the old one was waiting for is dropped")
async def test_replacing_a_running_instance_drops_what_it_waited_for(hub: Hub):
    gates = {"old": asyncio.Event(), "new": asyncio.Event()}

    @hub.orchestrator
    def work(context):
        return (yield context.call_activity("slow", context.get_input()))

    @hub.activity
    async def slow(name):
        await gates[name].wait()
        return f"{name} result"

    await hub.start("work", "old", instance_id="one")
    await hub.settle()
    await hub.start("work", "new", instance_id="one", policy=StartPolicy.REPLACE)
    await hub.settle()
    gates["old"].set()
    await hub.settle()

    assert await hub.status("one") == "Running"

    gates["new"].set()
    assert await hub.result("one") == "new result"
    assert len(await hub.of_kind("one", TaskCompleted)) == 1


@case("A21", "of a hundred starts with the same id at once, one succeeds")
async def test_of_many_starts_with_one_id_one_succeeds(hub: Hub):
    with_waiter(hub)
    await hub.up()

    answers = await gather(*(hub.start("waiter", number, instance_id="one") for number in range(100)))
    await hub.settle()

    assert answers.count("one") == 1
    assert sum(isinstance(each, InstanceExistsError) for each in answers) == 99
    assert (await hub.kinds("one")).count("ExecutionStarted") == 1
    assert value((await hub.get("one")).input) == answers.index("one")


@case("A22", "a start that ignores what is running leaves it alone and reports no error")
async def test_a_start_may_ignore_a_running_instance(hub: Hub):
    with_waiter(hub)
    await hub.start("waiter", "first", instance_id="one")
    await hub.settle()
    before = await hub.get("one")

    assert await hub.start("waiter", "second", instance_id="one", policy=StartPolicy.IGNORE) == "one"

    await hub.settle()
    assert await hub.get("one") == before


@case("A23", "a start that replaces what is running ends it and begins anew")
async def test_a_start_may_replace_a_running_instance(hub: Hub):
    with_waiter(hub)
    await hub.start("waiter", "first", instance_id="one")
    await hub.raise_event("one", "other", "of the old")
    await hub.settle()
    first = await hub.get("one")

    await hub.start("waiter", "second", instance_id="one", policy=StartPolicy.REPLACE)
    await hub.settle()

    second = await hub.get("one")
    assert (second.status, value(second.input)) == ("Running", "second")
    assert second.execution_id != first.execution_id
    assert "EventRaised" not in await hub.kinds("one")


@case("A24", "a start whose policy is to reject is refused while the instance runs")
async def test_a_start_may_insist_on_being_refused(hub: Hub):
    with_waiter(hub)
    await hub.start("waiter", instance_id="one")

    with pytest.raises(InstanceExistsError):
        await hub.start("waiter", instance_id="one", policy=StartPolicy.REJECT)


@case("A25", "inputs of every JSON shape reach the code exactly as they were given")
async def test_inputs_of_every_shape_arrive_as_they_are(hub: Hub):
    @hub.orchestrator
    def echo(context):
        return {"input": context.get_input()}

    inputs = [None, {}, [], "", 0, False, 1.5, "null", {"a": [{"b": None}, 1]}, "日本 🗾 \u2028", ["\u0000", "é"]]
    for given in inputs:
        assert await hub.call("echo", given) == {"input": given}

    absent = await hub.client.start("echo")
    assert await hub.result(absent) == {"input": None}


@case("A26", "an input that JSON cannot hold is refused by the client; nothing is stored")
async def test_an_input_that_is_no_json_is_refused(hub: Hub):
    with_waiter(hub)
    await hub.up()

    for given in ({1, 2}, object(), float("nan")):
        with pytest.raises((TypeError, ValueError)):
            await hub.sdk.start_new("quick", client_input=given)

    assert await hub.count_rows() == (0, 0)


@case("A27", "the status right after a start says Pending or Running, shows the input, and has sensible times")
async def test_a_status_right_after_the_start_is_there(hub: Hub):
    with_waiter(hub)

    instance_id = await hub.start("waiter", {"order": 17})
    status = await hub.sdk.get_status(instance_id, show_input=True)

    assert str(status.runtime_status.name) in ("Pending", "Running")
    assert status.input_ == {"order": 17}
    assert status.created_time <= status.last_updated_time
    assert await hub.status(await hub.start("quick", start_at=at(60))) == "Pending"


@case("A28", "the time of creation never changes, not by continue-as-new either")
async def test_the_time_of_creation_never_changes(hub: Hub):
    @hub.orchestrator
    def generations(context):
        yield context.create_timer(timedelta(minutes=1))
        if context.get_input() < 3:
            context.continue_as_new(context.get_input() + 1)

    await hub.start("generations", 0, instance_id="one")
    created = (await hub.get("one")).created_at
    seen = set()
    for _ in range(5):
        await hub.advance(minutes=1)
        seen.add((await hub.get("one")).created_at)

    assert seen == {created}
    assert (await hub.get("one")).status == "Completed"


@case("A29", "a start for later stays Pending until then, and its code sees no earlier time")
async def test_a_start_for_later_waits(hub: Hub):
    @hub.orchestrator
    def when(context):
        return context.current_utc_datetime.isoformat()

    await hub.start("when", instance_id="one", start_at=at(2))
    await hub.advance(seconds=1.9)

    assert await hub.status("one") == "Pending"
    assert await hub.kinds("one") == []
    assert await hub.result("one") >= at(2).isoformat()
    assert at(2) <= hub.now < at(2.1)


@case("A30", "a start for a time that is past begins at once")
async def test_a_start_for_a_past_time_begins_at_once(hub: Hub):
    with_waiter(hub)

    assert await hub.call("quick", 1, start_at=at(-3600)) == 1

    assert hub.age < timedelta(seconds=1)


@case("A31", "an instance that is terminated before it starts never runs")
async def test_an_instance_terminated_before_its_start_never_runs(hub: Hub):
    runs = []

    @hub.orchestrator
    def work(context):
        runs.append(context.instance_id)

    await hub.start("work", instance_id="one", start_at=at(60))
    await hub.client.terminate("one", "not needed")
    await hub.settle()

    assert await hub.status("one") == "Terminated"

    await hub.advance(hours=3)
    assert await hub.status("one") == "Terminated"
    assert runs == []
    assert await hub.mail("one") == ()


@case("A32", "an event sent before a scheduled start is there at the first wait")
async def test_an_event_before_a_scheduled_start_is_kept(hub: Hub):
    with_waiter(hub)

    await hub.start("waiter", instance_id="one", start_at=at(60))
    await hub.raise_event("one", "go", "early")
    await hub.settle()

    assert await hub.status("one") == "Pending"
    assert await hub.result("one") == "early"
    assert hub.now >= at(60)


@case("A33", "tags are kept over generations and inherited by children, whose own tags come first")
async def test_tags_are_inherited_and_kept(hub: Hub):
    @hub.orchestrator
    def parent(context):
        if not context.get_input():
            context.continue_as_new(True)
            return
        yield context.call_sub_orchestrator("child", None, "child-1", tags={"b": "child's", "c": "own"})

    @hub.orchestrator
    def child(context):
        return "ok"

    await hub.run("parent", False, instance_id="one", tags={"a": "1", "b": "parent's"})

    assert (await hub.get("one")).tags == {"a": "1", "b": "parent's"}
    assert (await hub.get("child-1")).tags == {"a": "1", "b": "child's", "c": "own"}


@case("A34", "ten thousand starts at once all complete, each once")
async def test_ten_thousand_starts_all_complete(hub: Hub):
    ran = []

    @hub.orchestrator
    def note(context):
        ran.append(context.get_input())
        return context.get_input()

    await hub.up()
    count = hub.many(10_000)
    ids = await gather(*(hub.start("note", number) for number in range(count)))
    ended = await gather(*(hub.wait(each) for each in ids))

    assert [value(each.output) for each in ended] == list(range(count))
    assert sorted(ran) == list(range(count))


@case(
    "A35",
    "an orchestrator that its host does not know",
    changed="it fails at once and names what is known, instead of waiting for a host that may never come "
    "(decision 0015); with hosts of different code it will wait while a live one might know it",
)
async def test_an_orchestrator_that_its_host_does_not_know_fails_at_once(hub: Hub):
    with_waiter(hub)
    await hub.up()

    async with hub.visitor() as client:
        await client.start("wayter", instance_id="one")
    ended = await hub.wait("one")

    assert ended.status == "Failed"
    assert "'waiter'" in value(ended.output)


@case("A36", "a start whose answer was lost finds its own instance when it is tried again with the same request id")
async def test_a_start_whose_answer_was_lost_can_be_repeated(hub: Hub):
    ran = []

    @hub.orchestrator
    def note(context):
        ran.append(context.instance_id)
        return "once"

    await hub.up()
    hub.fail("create", after=True)
    with pytest.raises(StoreUnavailableError):
        await hub.start("note", request_id="request-1")
    first = await hub.start("note", request_id="request-1")
    assert await hub.result(first) == "once"
    hub.crash_at("create", after=True)
    with pytest.raises(HostStoppedError):
        await hub.start("note", instance_id="two", request_id="request-2")
    await hub.restart()
    assert await hub.start("note", instance_id="two", request_id="request-2") == "two"

    assert await hub.result("two") == "once"
    assert set(ran) == {first, "two"}
    assert hub.replays or len(ran) == 2
    instances = [each async for each in hub.client.instances(InstanceQuery())]
    assert len(instances) == 2
    for each in instances:
        assert len(await hub.of_kind(each.instance_id, ExecutionStarted)) == 1
