"""Group D: external events."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from catalogue_hub import Hub, gather
from catalogue_kit import case

from perdure.core.events import EventRaised, TimerCreated
from perdure.errors import InstanceFinishedError, InstanceNotFoundError, StoreUnavailableError


def with_collector(hub: Hub) -> None:
    """Registers `collect`, which returns the data of as many events `item` as its input says, in order."""

    @hub.orchestrator
    def collect(context):
        items = []
        for _ in range(context.get_input()):
            items.append((yield context.wait_for_external_event("item")))
        return items


@case("D1", "an event that is waited for brings its data")
async def test_an_event_brings_its_data(hub: Hub):
    with_collector(hub)
    instance_id = await hub.start("collect", 1)
    await hub.settle()

    await hub.raise_event(instance_id, "item", {"approved": True})

    assert await hub.result(instance_id) == [{"approved": True}]


@case("D2", "an event that comes before anybody waits is kept", regression="early events")
async def test_an_early_event_is_kept(hub: Hub):
    @hub.orchestrator
    def late(context):
        yield context.create_timer(timedelta(minutes=1))
        return (yield context.wait_for_external_event("item"))

    instance_id = await hub.start("late")
    await hub.settle()
    await hub.raise_event(instance_id, "item", "early")

    assert await hub.result(instance_id) == "early"


@case(
    "D3",
    "five early events of one name come to five waits in the order in which they were sent",
    regression="early events",
)
async def test_early_events_keep_their_order(hub: Hub):
    @hub.orchestrator
    def late(context):
        yield context.create_timer(timedelta(minutes=1))
        items = []
        for _ in range(5):
            items.append((yield context.wait_for_external_event("item")))
        return items

    instance_id = await hub.start("late")
    for number in range(5):
        await hub.raise_event(instance_id, "item", number)

    assert await hub.result(instance_id) == [0, 1, 2, 3, 4]


@case("D4", "names of events ignore case; the history keeps the spelling of the sender")
async def test_names_of_events_ignore_case(hub: Hub):
    with_collector(hub)
    instance_id = await hub.start("collect", 2)

    await hub.raise_event(instance_id, "ITEM", 1)
    await hub.settle()
    await hub.raise_event(instance_id, "Item", 2)

    assert await hub.result(instance_id) == [1, 2]
    assert [each.name for each in await hub.of_kind(instance_id, EventRaised)] == ["ITEM", "Item"]


@case("D5", "waits for two names each get their own event, in whatever order they come")
async def test_waits_get_the_events_of_their_name(hub: Hub):
    @hub.orchestrator
    def both(context):
        return (
            yield context.task_all(
                [context.wait_for_external_event("first"), context.wait_for_external_event("second")]
            )
        )

    instance_id = await hub.start("both")
    await hub.settle()
    await hub.raise_event(instance_id, "second", 2)
    await hub.settle()
    await hub.raise_event(instance_id, "first", 1)

    assert await hub.result(instance_id) == [1, 2]


@case("D6", "of three waits for one name each gets one event, the oldest first")
async def test_the_oldest_wait_gets_the_first_event(hub: Hub):
    @hub.orchestrator
    def contention(context):
        return (yield context.task_all([context.wait_for_external_event("item") for _ in range(3)]))

    instance_id = await hub.start("contention")
    await hub.settle()
    for number in range(3):
        await hub.raise_event(instance_id, "item", number)
        await hub.settle()

    assert await hub.result(instance_id) == [0, 1, 2]


@case("D7", "a wait with a timeout gives up in time, and an event that comes later is kept for the next wait")
async def test_a_wait_with_a_timeout_gives_up(hub: Hub):
    @hub.orchestrator
    def patient(context):
        began = context.current_utc_datetime
        try:
            yield context.wait_for_external_event("item", timeout=timedelta(minutes=1))
        except TimeoutError:
            waited = (context.current_utc_datetime - began).total_seconds()
        yield context.create_timer(timedelta(minutes=10))
        return [waited, (yield context.wait_for_external_event("item", timeout=timedelta(minutes=1)))]

    instance_id = await hub.start("patient")
    await hub.advance(minutes=5)
    await hub.raise_event(instance_id, "item", "late")

    waited, item = await hub.result(instance_id)
    assert 60 <= waited < 61
    assert item == "late"


@case("D8", "a wait with a timeout that gets its event cancels its timer; the instance completes at once")
async def test_a_wait_with_a_timeout_that_is_answered_cancels_its_timer(hub: Hub):
    @hub.orchestrator
    def patient(context):
        return (yield context.wait_for_external_event("item", timeout=timedelta(days=1)))

    instance_id = await hub.start("patient")
    await hub.settle()
    await hub.raise_event(instance_id, "item", "in time")

    assert await hub.result(instance_id) == "in time"
    assert hub.age < timedelta(seconds=1)
    assert await hub.mail(instance_id) == ()
    assert len(await hub.of_kind(instance_id, TimerCreated)) == 1


def with_two_events(hub: Hub) -> None:
    """Registers `either`, which waits for `a` or `b`, and then for the one that lost."""

    @hub.orchestrator
    def either(context):
        a, b = context.wait_for_external_event("a"), context.wait_for_external_event("b")
        winner = yield context.task_any([a, b])
        loser = b if winner is a else a
        return [winner.result, (yield loser)]


@case("D9", "of two waits in a task_any the one that lost gets its event when it is yielded again")
async def test_a_wait_that_lost_still_gets_its_event(hub: Hub):
    with_two_events(hub)
    instance_id = await hub.start("either")
    await hub.settle()

    await hub.raise_event(instance_id, "b", "second name")
    await hub.settle()
    await hub.raise_event(instance_id, "a", "first name")

    assert await hub.result(instance_id) == ["second name", "first name"]


@case("D10", "an event to an instance that does not exist is refused (HTTP 404), and nothing is stored")
async def test_an_event_to_nobody_is_refused(hub: Hub):
    with_collector(hub)
    await hub.up()

    with pytest.raises(InstanceNotFoundError):
        await hub.raise_event("nobody", "item", 1)
    answer = await hub.http("POST", "instances/nobody/raiseEvent/item", json=1)

    assert answer.status_code == 404
    await hub.run("collect", 0, "nobody")
    assert await hub.of_kind("nobody", EventRaised) == []
    assert await hub.count_rows() == (1, 0)


@case("D11", "an event to a completed instance is refused (HTTP 410), and no mail gathers")
async def test_an_event_to_a_completed_instance_is_refused(hub: Hub):
    with_collector(hub)
    await hub.run("collect", 0, "one")

    for _ in range(3):
        with pytest.raises(InstanceFinishedError):
            await hub.raise_event("one", "item", 1)
    answer = await hub.http("POST", "instances/one/raiseEvent/item", json=1)

    assert answer.status_code == 410
    assert await hub.mail("one") == ()


@case("D12", "an event to a failed or a terminated instance is refused")
async def test_an_event_to_a_failed_instance_is_refused(hub: Hub):
    with_collector(hub)
    await hub.run("collect", "no number", "failed")
    await hub.start("collect", 1, "terminated")
    await hub.client.terminate("terminated")
    await hub.wait("terminated")

    for instance_id in ("failed", "terminated"):
        with pytest.raises(InstanceFinishedError):
            await hub.raise_event(instance_id, "item", 1)
        assert await hub.mail(instance_id) == ()


@case("D13", "events to a suspended instance come after it is resumed, in order")
async def test_events_to_a_suspended_instance_wait(hub: Hub):
    with_collector(hub)
    await hub.start("collect", 3, "one")
    await hub.client.suspend("one")
    for number in range(3):
        await hub.raise_event("one", "item", number)
    await hub.settle()

    assert await hub.status("one") == "Suspended"

    await hub.client.resume("one")
    assert await hub.result("one") == [0, 1, 2]


@case("D14", "an event to an instance that has not begun yet comes to it")
async def test_an_event_to_a_pending_instance_is_kept(hub: Hub):
    with_collector(hub)
    await hub.up()

    await hub.start("collect", 1, "one")
    await hub.raise_event("one", "item", "early")

    assert await hub.result("one") == ["early"]


@case("D15", "an event without a name is a ValueError")
async def test_an_event_without_a_name_is_refused(hub: Hub):
    with_collector(hub)
    await hub.start("collect", 1, "one")

    with pytest.raises(ValueError, match="non-empty"):
        await hub.raise_event("one", "")

    assert await hub.mail("one") == ()


@case("D16", "nothing, an object and a megabyte of text come through whole as an event's data")
async def test_the_data_of_events_comes_through_whole(hub: Hub):
    with_collector(hub)
    sent = [None, {"a": [1, None, "ü"]}, "x" * 1_000_000, 0, False, ""]
    await hub.start("collect", len(sent), "one")

    for each in sent:
        await hub.raise_event("one", "item", each)

    assert await hub.result("one") == sent


@case(
    "D17",
    "a thousand events of ten clients at once all come, each once, and in order from each client",
    regression="rows in no order",
)
async def test_a_thousand_events_all_come_once(hub: Hub):
    with_collector(hub)
    count = hub.many(1_000)
    await hub.start("collect", count, "one")

    async def client(number):
        for each in range(number, count, 10):
            await hub.raise_event("one", "item", each)

    assert await gather(*(client(number) for number in range(10))) == [None] * 10

    items = await hub.result("one")
    assert sorted(items) == list(range(count))
    for number in range(10):
        own = [each for each in items if each % 10 == number]
        assert own == sorted(own)


@case(
    "D18",
    "a counter that begins anew after each event loses and repeats none of those that come meanwhile",
    regression="events lost at continue-as-new",
)
async def test_a_counter_that_begins_anew_misses_nothing(hub: Hub):
    @hub.orchestrator
    def counter(context):
        state = context.get_input()
        state["seen"].append((yield context.wait_for_external_event("item")))
        if len(state["seen"]) == state["count"]:
            return state["seen"]
        context.continue_as_new(state)

    count = 100
    await hub.start("counter", {"count": count, "seen": []}, "one")

    async def client(start):
        for each in range(start, count, 4):
            await hub.raise_event("one", "item", each)
            await asyncio.sleep(each % 3 / 1000)

    await gather(*(client(start) for start in range(4)))

    assert sorted(await hub.result("one")) == list(range(count))


@case(
    "D19",
    "early events that nobody has read go along with continue-as-new, before newer ones",
    regression="events lost at continue-as-new",
)
async def test_unread_events_go_along_with_continue_as_new(hub: Hub):
    @hub.orchestrator
    def generations(context):
        if context.get_input() == "first":
            yield context.create_timer(timedelta(minutes=1))
            context.continue_as_new("second")
            return None
        yield context.create_timer(timedelta(minutes=1))
        items = []
        for _ in range(5):
            items.append((yield context.wait_for_external_event("item")))
        return items

    await hub.start("generations", "first", "one")
    for number in range(3):
        await hub.raise_event("one", "item", number)
    await hub.advance(seconds=59)
    async with hub.together() as client:  # a newer event is stored before the checkpoint that carries the unread ones
        await hub.advance(seconds=2)
        await client.raise_event("one", "item", "3")
    await hub.raise_event("one", "item", 4)

    assert await hub.result("one") == [0, 1, 2, 3, 4]


@case(
    "D20", "with save_events=False early events are dropped at continue-as-new; mail that was not taken in yet is kept"
)
async def test_unread_events_are_dropped_if_the_code_wants_that(hub: Hub):
    @hub.orchestrator
    def generations(context):
        if context.get_input() == "first":
            yield context.create_timer(timedelta(minutes=1))
            context.continue_as_new("second", save_events=False)
            return None
        return (yield context.wait_for_external_event("item"))

    await hub.start("generations", "first", "one")
    await hub.raise_event("one", "item", "early")
    await hub.advance(seconds=59)
    async with hub.together() as client:
        await hub.advance(seconds=2)
        await client.raise_event("one", "item", '"not taken in yet"')

    assert await hub.result("one") == "not taken in yet"


@case("D21", "an orchestration sends events to another one, in order over generations; one to nobody is dropped")
async def test_an_orchestration_sends_events(hub: Hub):
    with_collector(hub)

    @hub.orchestrator
    def sender(context):
        context.send_event("receiver", "item", data={"from": context.instance_id})
        context.send_event("nobody", "item", data=1)
        yield context.create_timer(timedelta(seconds=1))
        return "sent"

    await hub.start("collect", 1, "receiver")

    assert await hub.call("sender", instance_id="sender") == "sent"
    assert await hub.result("receiver") == [{"from": "sender"}]
    assert (await hub.kinds("sender")).count("EventSent") == 2
    assert await hub.count_rows() == (2, 0)

    @hub.orchestrator
    def generations(context):
        context.send_event("second", "item", data=context.get_input())
        if context.get_input() < 9:
            context.continue_as_new(context.get_input() + 1)

    await hub.restart()
    await hub.start("collect", 10, "second")
    await hub.start("generations", 0)
    assert await hub.result("second") == list(range(10))


@case("D22", "an event reaches a child by its id")
async def test_an_event_reaches_a_child(hub: Hub):
    with_collector(hub)

    @hub.orchestrator
    def parent(context):
        return (yield context.call_sub_orchestrator("collect", 1, "child"))

    await hub.start("parent", instance_id="parent")
    await hub.settle()
    await hub.raise_event("child", "item", "for the child")

    assert await hub.result("parent") == ["for the child"]


@case(
    "D23",
    "HTTP refuses an event that is no JSON (400) and takes one that is (202)",
    only="memory live",
    why="HTTP, whatever the store",
)
async def test_http_takes_json_events_only(hub: Hub):
    with_collector(hub)
    await hub.start("collect", 1, "one")
    path = "instances/one/raiseEvent/item"

    text_answer = await hub.http("POST", path, content='"x"', headers={"Content-Type": "text/plain"})
    bad_answer = await hub.http("POST", path, content="{", headers={"Content-Type": "application/json"})
    good_answer = await hub.http("POST", path, json={"good": True})

    assert (text_answer.status_code, bad_answer.status_code, good_answer.status_code) == (400, 400, 202)
    assert await hub.result("one") == [{"good": True}]


@case(
    "D24",
    "an acknowledged event comes although its host dies at once; one whose acknowledgement was lost can be repeated",
)
async def test_an_acknowledged_event_survives_its_host(hub: Hub):
    with_collector(hub)
    await hub.start("collect", 1, "one")
    await hub.settle()

    await hub.raise_event("one", "item", "acknowledged")
    hub.crash()
    await hub.restart()

    assert await hub.result("one") == ["acknowledged"]

    await hub.start("collect", 1, "two")
    await hub.settle()
    hub.crash_at("commit", after=False)
    await hub.raise_event("two", "item", "acknowledged, too")
    await hub.settle()
    await hub.restart()
    assert await hub.result("two") == ["acknowledged, too"]

    await hub.start("collect", 1, "three")
    hub.fail("send", after=True)
    with pytest.raises(StoreUnavailableError):
        await hub.client.raise_event("three", "item", "1", request_id="request")
    await hub.client.raise_event("three", "item", "1", request_id="request")
    assert await hub.result("three") == [1]
    assert len(await hub.of_kind("three", EventRaised)) == 1


@case("D25", "early events and lost waits come out the same when every episode replays its history")
async def test_events_come_out_the_same_at_replay(hub: Hub):
    with_two_events(hub)

    @hub.orchestrator
    def late(context):
        yield context.create_timer(timedelta(seconds=1))
        items = []
        for _ in range(4):
            items.append((yield context.wait_for_external_event("item")))
        return items

    await hub.start("late", instance_id="late")
    await hub.start("either", instance_id="either")
    for number in range(4):
        await hub.raise_event("late", "item", number)
        await hub.settle()
    await hub.raise_event("either", "b", 1)
    await hub.raise_event("either", "b", 2)
    await hub.settle()
    await hub.restart()
    await hub.raise_event("either", "a", 3)

    assert await hub.result("late") == [0, 1, 2, 3]
    assert await hub.result("either") == [1, 3]


@case(
    "D26",
    "an event does not go to a wait that was cancelled, but to the next one",
    regression="cancelled waits swallow events",
)
async def test_a_cancelled_wait_gets_no_event(hub: Hub):
    @hub.orchestrator
    def work(context):
        given_up = context.wait_for_external_event("item")
        timer = context.create_timer(timedelta(minutes=1))
        yield context.task_any([given_up, timer])
        given_up.cancel()
        yield context.create_timer(timedelta(minutes=1))
        item = yield context.wait_for_external_event("item")
        return [item, given_up.is_completed]

    await hub.start("work", instance_id="one")
    await hub.advance(seconds=90)
    await hub.raise_event("one", "item", "for the next")

    assert await hub.result("one") == ["for the next", False]


@case("D27", "early events of several names are kept apart", regression="early events")
async def test_early_events_of_several_names_are_kept_apart(hub: Hub):
    @hub.orchestrator
    def late(context):
        yield context.create_timer(timedelta(minutes=1))
        items = []
        for name in ("c", "a", "b", "a"):
            items.append((yield context.wait_for_external_event(name)))
        return items

    await hub.start("late", instance_id="one")
    for name, data in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        await hub.raise_event("one", name, data)

    assert await hub.result("one") == [4, 1, 2, 3]
