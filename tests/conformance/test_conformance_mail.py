"""Sentences 4 to 6 of the store contract: what is delivered, in what order, and what goes on without mail."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from conformance_kit import FAR, NOW, SECOND, Hub, a_result, a_scheduled_start, an_event, an_instance, ids
from msgspec.structs import replace

from perdure.core.actions import (
    CancelTimer,
    CompleteOrchestration,
    ContinueAsNew,
    CreateSubOrchestration,
    CreateTimer,
    ScheduleTask,
)
from perdure.core.events import EventRaised, ExecutionRewound, ExecutionTerminated
from perdure.core.records import Batch, CommitOutcome, RuntimeStatus, Start

DONE = CompleteOrchestration(9, '"done"')


# ---------------------------------------------------------------------- 4. delivered until consumed, and never after


async def test_a_message_is_delivered_until_a_checkpoint_that_consumed_it_is_durable(hub: Hub):
    await hub.create("order-17")
    event = await hub.raise_event("order-17", "paid", '{"by": "card"}')

    for _ in range(3):
        assert await hub.mail("order-17") == [event]
    checkpoint = await hub.compute("order-17")
    assert await hub.mail("order-17") == [event]
    await hub.commit(checkpoint)

    assert await hub.mail("order-17") == []


async def test_a_message_that_was_consumed_is_never_delivered_again(hub: Hub):
    await hub.create("order-17")
    event = await hub.raise_event("order-17")
    await hub.step("order-17")

    await hub.store.send([event], hub.now)
    await hub.reopen()

    assert await hub.mail("order-17", hub.now + FAR) == []


async def test_a_message_that_was_discarded_is_never_delivered_again(hub: Hub):
    await hub.create("order-17")
    unwanted, wanted = await hub.raise_event("order-17", "a"), await hub.raise_event("order-17", "b")

    assert await hub.discard(unwanted) == CommitOutcome()
    await hub.store.send([unwanted], hub.now)
    await hub.reopen()

    assert ids(await hub.mail("order-17")) == [wanted.message_id]


async def test_discarding_or_consuming_what_is_not_there_is_harmless(hub: Hub):
    await hub.create("order-17")
    checkpoint = await hub.compute("order-17")

    assert await hub.discard(an_event("order-17")) == CommitOutcome()
    assert await hub.commit(replace(checkpoint, consumed=("never stored",))) == CommitOutcome()


async def test_replies_are_stored_with_the_discarding_that_sends_them(hub: Hub):
    await hub.create("order-17")
    unwanted, reply = await hub.raise_event("order-17"), an_event("order-17", "reply")

    await hub.discard(unwanted, replies=[reply])

    assert await hub.mail("order-17") == [reply]


async def test_a_message_inserted_again_is_stored_once(hub: Hub):
    await hub.create("order-17")
    first, twin = an_event("order-17", input="1", message_id="twin"), an_event("order-17", input="2", message_id="twin")

    for _ in range(2):
        await hub.discard(an_event("order-17"), replies=[first, twin])

    assert await hub.mail("order-17") == [first]


async def test_mail_that_arrives_during_an_episode_is_there_after_it(hub: Hub):
    await hub.create("order-17")
    await hub.raise_event("order-17", "early")
    checkpoint = await hub.compute("order-17")
    late = await hub.raise_event("order-17", "late")
    await hub.commit(checkpoint)

    assert await hub.mail("order-17") == [late]


async def test_a_cancelled_timer_is_gone(hub: Hub):
    await hub.create("order-17")
    await hub.step("order-17", CreateTimer(0, NOW + SECOND))

    await hub.step("order-17", CancelTimer(0), mail=[an_event("order-17")])

    assert await hub.mail("order-17", NOW + FAR) == []


async def test_mail_survives_a_reopening(hub: Hub):
    await hub.create("order-17")
    await hub.step("order-17", CreateTimer(0, NOW + SECOND))
    event = await hub.raise_event("order-17")
    before = await hub.dump()

    await hub.reopen()

    assert await hub.dump() == before
    assert ids(await hub.mail("order-17"))[0] == event.message_id


# ---------------------------------------------------------------------- 4. repeated requests


async def test_create_recognises_a_repeated_request(hub: Hub):
    start = Start(an_instance("order-17"), frozenset())
    assert await hub.store.create([start]) == [None]
    before = await hub.dump()

    assert await hub.store.create([start]) == [None]

    assert await hub.dump() == before


@pytest.mark.parametrize("replace_statuses", [frozenset(), frozenset(RuntimeStatus)])
async def test_create_recognises_its_request_however_far_the_instance_has_come(
    hub: Hub, replace_statuses: frozenset[RuntimeStatus]
):
    start = Start(an_instance("order-17"), replace_statuses)
    await hub.store.create([start])
    for action in (ScheduleTask(0, "charge", None), ContinueAsNew(1, "1", ()), DONE):
        await hub.step("order-17", action, mail=[an_event("order-17")])
        before = await hub.dump()

        assert await hub.store.create([start]) == [None]
        assert await hub.dump() == before


async def test_create_recognises_a_request_repeated_in_one_call_and_after_a_reopening(hub: Hub):
    start = Start(an_instance("order-17"))

    assert await hub.store.create([start, start]) == [None, None]
    await hub.reopen()
    assert await hub.store.create([start]) == [None]

    assert len(await hub.dump()) == 1


async def test_create_recognises_a_request_whose_instance_has_given_way_to_another(hub: Hub):
    """Otherwise a late repetition would begin the same execution again, under an id that fences have known."""
    first = Start(an_instance("order-17"))
    await hub.store.create([first])
    await hub.step("order-17", DONE)
    second = await hub.create("order-17")
    await hub.step("order-17", DONE)
    await hub.reopen()
    before = await hub.dump()

    assert await hub.store.create([first]) == [None]

    assert await hub.dump() == before
    assert (await hub.get("order-17")).created_by == second.created_by


async def test_create_recognises_a_request_whose_instance_has_given_way_to_a_child(hub: Hub):
    first = Start(an_instance("order-17"))
    await hub.store.create([first])
    await hub.step("order-17", DONE)
    await hub.create("parent")
    await hub.step("parent", CreateSubOrchestration(0, "ship", None, "order-17", None))
    await hub.step("order-17", DONE)
    before = await hub.dump()

    assert await hub.store.create([first]) == [None]

    assert await hub.dump() == before


async def test_create_over_a_running_instance_answers_with_the_one_in_the_way(hub: Hub):
    await hub.create("order-17")
    await hub.step("order-17", ScheduleTask(0, "charge", None), custom_status="1")
    before = await hub.dump()

    free, taken = Start(an_instance("order-18")), Start(an_instance("order-17"))
    answers = await hub.store.create([free, taken, Start(an_instance("order-18"))])

    assert answers == [None, await hub.get("order-17"), free.instance]
    assert (await hub.dump())["order-17"] == before["order-17"]


async def test_create_over_an_ended_instance_replaces_it_history_and_mail_included(hub: Hub):
    await hub.create("order-17")
    await hub.raise_event("order-17", "too late")
    await hub.step("order-17", DONE, mail=())
    start = Start(an_instance("order-17", input="2"))

    assert await hub.store.create([start]) == [None]

    dump = (await hub.dump())["order-17"]
    assert (dump.instance, dump.position, dump.rows, dump.mail) == (start.instance, 0, (), ())
    assert await hub.open_work() == ["order-17"]
    await hub.step("order-17", DONE)


async def test_only_the_statuses_named_give_way(hub: Hub):
    await hub.create("order-17")

    for statuses, answer in (({"Completed", "Running"}, "Pending"), ({"Pending"}, None)):
        start = Start(an_instance("order-17"), frozenset(map(RuntimeStatus, statuses)))
        (in_the_way,) = await hub.store.create([start])
        assert (in_the_way and in_the_way.status) == answer

    await hub.step("order-17", DONE)
    (in_the_way,) = await hub.store.create([Start(an_instance("order-17"), frozenset())])
    assert in_the_way is not None
    assert in_the_way.status == "Completed"


async def test_send_tells_the_status_of_each_target_and_stores_only_what_can_be_read(hub: Hub):
    await hub.create("new")
    await hub.create("waiting")
    await hub.step("waiting")
    await hub.create("ended")
    await hub.step("ended", DONE)
    messages = [an_event(each) for each in ("new", "waiting", "ended", "missing")]

    answers = await hub.store.send(messages, hub.now)

    assert answers == [RuntimeStatus.PENDING, RuntimeStatus.RUNNING, RuntimeStatus.COMPLETED, None]
    assert {each: list(dump.mail) for each, dump in (await hub.dump()).items()} == {
        "new": messages[:1],
        "waiting": messages[1:2],
        "ended": [],
    }


async def test_send_answers_a_repeated_request_as_it_did_the_first_time(hub: Hub):
    await hub.create("order-17")
    taken, refused = an_event("order-17"), an_event("order-18")
    assert await hub.store.send([taken, refused], hub.now) == [RuntimeStatus.PENDING, None]
    await hub.step("order-17", DONE)
    await hub.create("order-18")

    for _ in range(2):
        assert await hub.store.send([refused, taken, taken], hub.now) == [
            None,
            RuntimeStatus.PENDING,
            RuntimeStatus.PENDING,
        ]
        assert await hub.mail("order-18") == []
        await hub.store.close()
        await hub.store.open()

    assert await hub.mail("order-17") == []


@pytest.mark.parametrize("year", [1990, 2200])
async def test_an_answer_outlives_a_reopening_whatever_the_clock_says(hub: Hub, year: int):
    await hub.create("order-17")
    now, event = NOW.replace(year=year), an_event("order-17")
    await hub.store.send([event], now)
    await hub.step("order-17")

    await hub.store.close()
    await hub.store.open()

    assert await hub.store.send([event], now + SECOND) == [RuntimeStatus.PENDING]
    assert await hub.mail("order-17") == []


async def test_a_request_repeated_in_one_call_is_stored_once(hub: Hub):
    await hub.create("order-17")
    event = an_event("order-17")

    assert await hub.store.send([event, event], hub.now) == [RuntimeStatus.PENDING] * 2

    assert await hub.mail("order-17") == [event]


async def test_clients_that_ask_at_the_same_time_get_their_own_answers(hub: Hub):
    starts = [Start(an_instance(f"order-{number % 40}")) for number in range(80)]

    answers = await asyncio.gather(*[hub.store.create([start]) for start in starts])

    for start, (answer,) in zip(starts, answers, strict=True):
        found = await hub.get(start.instance.instance_id)
        assert (answer is None) == (found == start.instance)
        assert answer in (None, found)


async def test_send_stores_what_rewinds_a_failed_instance_and_no_other_that_has_ended(hub: Hub):
    await hub.create("failed")
    await hub.fail("failed", ScheduleTask(0, "charge", None))
    await hub.create("completed")
    await hub.step("completed", DONE)

    for each, is_stored in (("failed", True), ("completed", False)):
        assert await hub.tell(each, ExecutionRewound(NOW, "try again")) == each.capitalize()
        assert await hub.tell(each, ExecutionTerminated(NOW)) == each.capitalize()
        assert [type(message.event) for message in await hub.mail(each)] == [ExecutionRewound] * is_stored

    await hub.rewind("failed")
    assert await hub.mail("failed") == []


# ---------------------------------------------------------------------- 5. the order of delivery


async def neighbours(hub: Hub, count: int) -> list[str]:
    some = [each for each, _ in zip(hub.neighbours("order"), range(count), strict=False)]
    for each in some:
        await hub.create(each)
    return some


async def test_receive_gives_carried_mail_then_mail_for_at_once_as_stored_then_timers_by_time(hub: Hub):
    first, second = await neighbours(hub, 2)
    await hub.step(first, CreateTimer(0, NOW + 30 * SECOND), CreateTimer(1, NOW + 10 * SECOND))
    events = [await hub.raise_event(each, f"{number}") for number, each in enumerate([second, first, second])]
    carried = tuple(EventRaised(NOW, f"carried {number}") for number in range(3))
    await hub.step(second, ContinueAsNew(0, None, carried), mail=())

    mail = await hub.walk(hub.leases[0], NOW + 60 * SECOND)

    assert [message.event for message in mail[:3]] == list(carried)
    assert all(message.is_carried for message in mail[:3])
    assert mail[3:6] == events
    assert [message.deliver_at for message in mail[6:]] == [NOW + 10 * SECOND, NOW + 30 * SECOND]


async def test_receive_gives_what_is_due_at_or_before_the_time_asked_for(hub: Hub):
    (only,) = await neighbours(hub, 1)
    await hub.step(only, *[CreateTimer(number, NOW + number * SECOND) for number in range(5)])

    for number in range(5):
        almost = NOW + number * SECOND - timedelta(microseconds=1)
        assert len(await hub.mail(only, almost)) == number
        assert len(await hub.mail(only, NOW + number * SECOND)) == number + 1


async def test_timers_of_one_time_come_in_the_order_in_which_they_were_stored(hub: Hub):
    first, second = await neighbours(hub, 2)
    for each in (second, first):
        await hub.step(each, CreateTimer(0, NOW + SECOND), CreateTimer(1, NOW + SECOND))

    mail = await hub.walk(hub.leases[0], NOW + SECOND)

    assert [(each.instance_id, each.event.task_id) for each in mail] == [  # type: ignore[union-attr]
        (second, 0), (second, 1), (first, 0), (first, 1),
    ]  # fmt: skip


async def test_a_timer_set_for_the_distant_past_is_due_and_is_still_a_timer(hub: Hub):
    (only,) = await neighbours(hub, 1)
    long_ago = NOW.replace(year=1905)
    await hub.step(only, CreateTimer(0, long_ago))
    event = await hub.raise_event(only)

    mail = await hub.mail(only)

    assert ids(mail)[0] == event.message_id
    assert len(mail) == 2
    await hub.step(only)
    assert await hub.mail(only, NOW + FAR) == []


@pytest.mark.parametrize("limit", [1, 2, 7, 50, 1000])
async def test_receive_walks_the_whole_due_set_in_pages_of_any_size(hub: Hub, limit: int):
    some = await neighbours(hub, 5)
    for each in some:
        await hub.step(each, *[CreateTimer(number, NOW + number % 3 * SECOND) for number in range(4)])
    for number in range(30):
        await hub.raise_event(some[number % 5], f"{number}")

    walk = await hub.walk(hub.leases[0], NOW + SECOND, limit)

    assert ids(walk) == ids(await hub.walk(hub.leases[0], NOW + SECOND, 10_000))
    assert len(walk) == 30 + 15


async def test_a_walk_misses_nothing_while_mail_before_it_goes_and_mail_behind_it_comes(hub: Hub):
    (only,) = await neighbours(hub, 1)
    events = [await hub.raise_event(only, f"{number}") for number in range(10)]
    lease = hub.leases[0]

    first = await hub.store.receive(lease, NOW, None, 4)
    await hub.step(only, mail=first.mail)
    late = await hub.raise_event(only, "late")
    second = await hub.store.receive(lease, NOW, first.after, 4)
    await hub.discard(second.mail[0])
    third = await hub.store.receive(lease, NOW, second.after, 4)

    assert ids([*first.mail, *second.mail, *third.mail]) == ids([*events, late])


async def test_a_partition_is_given_its_own_mail_only(hub: Hub):
    for number in range(20):
        await hub.create(f"order-{number}")
        await hub.raise_event(f"order-{number}")

    for lease in hub.leases.values():
        mail = await hub.walk(lease)
        assert {hub.lease_of(each.instance_id) for each in mail} <= {lease}
    assert sum([len(await hub.walk(lease)) for lease in hub.leases.values()]) == 20


async def test_messages_of_one_send_and_of_one_checkpoint_keep_their_order(hub: Hub):
    (only,) = await neighbours(hub, 1)
    sent = [an_event(only, f"{number}") for number in range(300)]

    await hub.store.send(sent, hub.now)

    assert ids(await hub.mail(only)) == ids(sent)


@pytest.mark.parametrize("how", ["create", "send", "commit"])
async def test_changed_returns_when_something_was_stored_that_a_host_may_not_know_of(hub: Hub, how: str):
    """A commit tells only the partitions that are not its own: for those its host has the mail in memory."""
    if how == "commit" and hub.store.partitions == 1:
        pytest.skip("needs a second partition")
    orders = [f"order-{number}" for number in range(99)]
    target = next(each for each in orders if hub.lease_of(each).partition == hub.store.partitions - 1)
    await hub.create(target)

    async def store_something(number: int) -> None:
        if how == "create":
            await hub.create(f"new-{number}")
        elif how == "send":
            await hub.raise_event(target)
        else:
            await hub.store.commit([Batch(hub.leases[0], (), (), [an_event(target)])])

    waiters = [asyncio.create_task(hub.store.changed(timedelta(minutes=10))) for _ in range(3)]
    async with asyncio.timeout(10):
        number = 0
        while not all(waiter.done() for waiter in waiters):
            number += 1
            await store_something(number)  # again and again, as the waiters may not have begun to wait
            await asyncio.sleep(0)


async def test_changed_returns_when_its_time_is_up(hub: Hub):
    async with asyncio.timeout(10):
        await hub.store.changed(timedelta(milliseconds=20))
        await hub.store.changed(timedelta(0))


# ---------------------------------------------------------------------- 6. open work


async def test_open_work_names_exactly_what_goes_on_without_mail(hub: Hub):
    parent, unstarted, waiting, sleeping, working, renewed, ended, lost = [f"order-{number}" for number in range(8)]
    for each in (parent, unstarted, waiting, sleeping, working, renewed, ended, lost):
        await hub.create(each)
    await hub.step(parent, CreateSubOrchestration(0, "ship", None, "child", None))
    await hub.step(waiting)
    await hub.step(sleeping, CreateTimer(0, NOW + FAR))
    await hub.step(working, ScheduleTask(0, "charge", None))
    await hub.step(renewed, ContinueAsNew(0, None, ()))
    await hub.step(ended, DONE)
    checkpoint = await hub.step(lost, ScheduleTask(0, "a", None), ScheduleTask(1, "b", None))
    await hub.step(lost, CompleteOrchestration(2), mail=[a_result(checkpoint, 1)])

    assert await hub.open_work() == sorted([unstarted, working, renewed])
    assert await hub.open_work(unstarted_only=True) == sorted([unstarted, renewed])


async def test_an_instance_has_open_work_until_its_last_activity_has_answered(hub: Hub):
    await hub.create("order-17")
    assert await hub.open_work() == ["order-17"]
    checkpoint = await hub.step("order-17", ScheduleTask(0, "a", None), ScheduleTask(1, "b", None))
    assert await hub.open_work() == ["order-17"]
    await hub.step("order-17", mail=[a_result(checkpoint, 1)])
    assert await hub.open_work() == ["order-17"]
    await hub.step("order-17", mail=[a_result(checkpoint, 0)])
    assert await hub.open_work() == []


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_open_work_comes_in_pages_in_order_of_id(hub: Hub, limit: int):
    some = sorted(["b", "a", "B", "ä", "\uffff", "🜚", "a-1", "a.1", "A", *map(str, range(10))])
    for each in some:
        await hub.create(each)

    assert await hub.open_work(limit=limit) == some
    assert await hub.open_work(limit=limit, unstarted_only=True) == some


async def test_open_work_survives_a_reopening(hub: Hub):
    await hub.create("new")
    await hub.create("working")
    await hub.step("working", ScheduleTask(0, "charge", None))

    await hub.reopen()

    assert await hub.open_work() == ["new", "working"]


# ---------------------------------------------------------------------- 6. scheduled starts


async def test_an_instance_created_with_a_message_has_no_open_work_before_it_was_consumed(hub: Hub):
    start = await hub.schedule("order-17", NOW + 10 * SECOND, input="1")
    (dump,) = (await hub.dump()).values()
    assert (dump.instance, dump.position, dump.has_open_work, dump.mail) == (start.instance, 0, False, (start.message,))
    assert await hub.open_work() == []
    assert await hub.open_work(unstarted_only=True) == []
    assert await hub.mail("order-17", NOW + 9 * SECOND) == []

    hub.now += 10 * SECOND
    assert await hub.mail("order-17") == [start.message]
    await hub.step("order-17", ScheduleTask(0, "charge", None))

    assert await hub.mail("order-17") == []
    assert await hub.open_work() == ["order-17"]


async def test_the_time_an_instance_starts_at_comes_back_as_it_was(hub: Hub):
    start_at = NOW.replace(microsecond=999_999)
    for each, time in (("later", start_at), ("at-once", None), ("long-ago", NOW.replace(year=1905))):
        await hub.create(each, start_at=time)
        assert (await hub.get(each)).start_at == time
        assert (await hub.load(each)).instance.start_at == time

    await hub.reopen()
    checkpoint = await hub.step("later")

    assert (await hub.get("later")).start_at == checkpoint.instance.start_at == start_at


async def test_a_scheduled_instance_and_its_message_survive_a_reopening(hub: Hub):
    start = await hub.schedule("order-17", NOW + 10 * SECOND)

    await hub.reopen()

    assert await hub.mail("order-17", start.instance.start_at) == [start.message]


async def test_create_recognises_a_repeated_request_for_a_scheduled_start(hub: Hub):
    start = await hub.schedule("order-17", NOW + 10 * SECOND)
    before = await hub.dump()
    assert await hub.store.create([start, start]) == [None, None]
    assert await hub.dump() == before

    hub.now += 10 * SECOND
    await hub.step("order-17", DONE)
    assert await hub.store.create([start]) == [None]

    assert await hub.mail("order-17") == []


async def test_starts_at_once_and_later_can_be_created_together(hub: Hub):
    starts = [
        Start(an_instance("order-1")),
        a_scheduled_start("order-2", NOW + SECOND),
        Start(an_instance("order-3")),
        a_scheduled_start("order-4", NOW + SECOND),
    ]

    for _ in range(2):
        assert await hub.store.create(starts) == [None] * len(starts)
        starts.insert(0, Start(an_instance("order-5")))  # the second time, some are known already

    assert await hub.open_work() == ["order-1", "order-3", "order-5"]
    for each in ("order-2", "order-4"):
        assert len(await hub.mail(each, NOW + SECOND)) == 1


@pytest.mark.parametrize("is_scheduled", [True, False])
async def test_a_scheduled_instance_that_gives_way_takes_its_message_along(hub: Hub, is_scheduled: bool):
    await hub.schedule("order-17", NOW + 10 * SECOND)
    start = a_scheduled_start("order-17", NOW + SECOND) if is_scheduled else Start(an_instance("order-17"))

    assert await hub.store.create([replace(start, replace=frozenset({RuntimeStatus.PENDING}))]) == [None]

    assert await hub.mail("order-17", NOW + FAR) == ([start.message] if is_scheduled else [])
    assert await hub.open_work() == ([] if is_scheduled else ["order-17"])


async def test_a_scheduled_instance_that_does_not_give_way_keeps_its_message(hub: Hub):
    start = await hub.schedule("order-17", NOW + 10 * SECOND)

    assert await hub.store.create([a_scheduled_start("order-17", NOW + SECOND)]) == [start.instance]

    assert await hub.mail("order-17", NOW + FAR) == [start.message]


async def test_a_scheduled_instance_that_was_terminated_and_purged_leaves_no_message(hub: Hub):
    await hub.schedule("order-17", NOW + 10 * SECOND)
    await hub.tell("order-17", ExecutionTerminated(NOW, "no"))
    await hub.step("order-17")

    await hub.store.purge(["order-17"], hub.now)

    assert await hub.mail("order-17", NOW + FAR) == []
    await hub.create("order-17")
