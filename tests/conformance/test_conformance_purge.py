"""Sentence 8 of the store contract: who gives way, what purging takes, and who hears of either."""

from __future__ import annotations

import pytest
from conformance_kit import EXPLOSION, FAR, NOW, SECOND, Hub, activities_of, an_instance, ids

from perdure.core.actions import CompleteOrchestration, CreateSubOrchestration, CreateTimer, ScheduleTask
from perdure.core.answers import answers_of_missing, farewell
from perdure.core.events import (
    ExecutionRewound,
    ExecutionSuspended,
    ExecutionTerminated,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceFailed,
)
from perdure.core.records import InstanceQuery, RuntimeStatus, Start

DONE = CompleteOrchestration(9, '"done"')
FAILED = CompleteOrchestration(9, failure=EXPLOSION)
EVERY_STATUS = frozenset(RuntimeStatus)


def child(instance_id: str, event_id: int = 0) -> CreateSubOrchestration:
    return CreateSubOrchestration(event_id, "ship", None, instance_id, None)


# ---------------------------------------------------------------------- purging takes what has ended, and nothing else


async def test_purging_takes_instance_history_mail_and_payloads(hub: Hub):
    await hub.create("order-17", input="x" * 1_000_000)
    await hub.create("order-18")
    await hub.raise_event("order-17", "too late")
    await hub.step("order-17", ScheduleTask(0, "charge", None), DONE, mail=())
    await hub.step("order-18", DONE)

    assert await hub.store.purge(["order-17", "nobody"], hub.now) == {"order-17"}

    assert list(await hub.dump()) == ["order-18"]
    assert await hub.mail("order-17") == []
    assert list(await hub.store.history("order-17")) == []
    assert list(await hub.store.load_instances(["order-17"])) == []
    assert await hub.store.count(InstanceQuery()) == {RuntimeStatus.COMPLETED: 1}


async def test_an_id_that_was_purged_can_be_used_as_if_it_had_never_been(hub: Hub):
    await hub.create("order-17", input="x" * 1_000_000)
    await hub.raise_event("order-17", "too late")
    old = await hub.step("order-17", DONE, mail=())
    await hub.store.purge(["order-17"], hub.now)

    created = await hub.create("order-17")

    dump = (await hub.dump())["order-17"]
    assert (dump.instance, dump.position, dump.rows, dump.mail) == (created, 0, (), ())
    assert (await hub.commit(old)).stale == {"order-17"}
    await hub.step("order-17", DONE)


async def test_purging_takes_only_instances_that_have_ended(hub: Hub):
    statuses = ["pending", "scheduled", "running", "suspended", "completed", "failed", "terminated"]
    for each in statuses:
        await (hub.schedule(each, NOW + FAR) if each == "scheduled" else hub.create(each))
    await hub.step("running", ScheduleTask(0, "charge", None))
    await hub.tell("suspended", ExecutionSuspended(NOW))
    await hub.step("suspended", CreateTimer(0, NOW + FAR))
    await hub.step("completed", DONE)
    await hub.step("failed", FAILED)
    await hub.tell("terminated", ExecutionTerminated(NOW))
    await hub.step("terminated")
    before = await hub.dump()

    assert await hub.store.purge(statuses, hub.now) == {"completed", "failed", "terminated"}

    after = await hub.dump()
    assert sorted(after) == ["pending", "running", "scheduled", "suspended"]
    assert all(before[each] == dump for each, dump in after.items())


async def test_purging_again_or_nothing_is_harmless(hub: Hub):
    await hub.create("order-17")
    await hub.step("order-17", DONE)

    assert await hub.store.purge(["order-17", "order-17"], hub.now) == {"order-17"}
    assert await hub.store.purge(["order-17"], hub.now) == frozenset()
    assert await hub.store.purge([], hub.now) == frozenset()


async def test_thousands_can_be_purged_in_one_call(hub: Hub):
    orders = [f"order-{number}" for number in range(3000)]
    await hub.store.create([Start(an_instance(each)) for each in orders])
    some = [await hub.compute(each, DONE, mail=()) for each in orders[:2500]]
    await hub.commit(*some)

    assert await hub.store.purge(orders, hub.now) == set(orders[:2500])

    assert sorted(await hub.dump()) == sorted(orders[2500:])


async def test_a_purge_survives_a_reopening(hub: Hub):
    await hub.create("order-17")
    await hub.step("order-17", DONE)
    await hub.store.purge(["order-17"], hub.now)

    await hub.reopen()

    assert await hub.dump() == {}


async def test_a_checkpoint_of_an_instance_that_was_purged_is_stale(hub: Hub):
    await hub.create("order-17")
    await hub.fail("order-17", ScheduleTask(0, "charge", None))
    rewinding = await hub.compute_rewind("order-17")
    await hub.store.purge(["order-17"], hub.now)

    assert (await hub.commit(rewinding)).stale == {"order-17"}
    assert await hub.dump() == {}


async def test_create_recognises_a_request_whose_instance_was_purged(hub: Hub):
    start, other = Start(an_instance("order-17")), Start(an_instance("order-18"))
    await hub.store.create([start])
    await hub.step("order-17", DONE)
    await hub.store.purge(["order-17"], hub.now)

    assert await hub.store.create([start]) == [None]
    assert await hub.dump() == {}
    assert await hub.store.create([start, other]) == [None, None]
    assert list(await hub.dump()) == ["order-18"]


# ---------------------------------------------------------------------- parents whose children are purged


async def test_a_parent_hears_if_the_start_of_its_child_is_purged_unread(hub: Hub):
    """It was to be refused, because another instance has the id."""
    await hub.create("ship-17")
    await hub.create("order-17")
    refused = await hub.step("order-17", child("ship-17"))
    await hub.step("ship-17", DONE, mail=())

    await hub.store.purge(["ship-17"], hub.now)

    (answer,) = await hub.mail("order-17")
    assert [answer] == answers_of_missing(refused.messages, hub.now)
    assert isinstance(answer.event, SubOrchestrationInstanceFailed)
    assert answer.event.failure.error_type == "InstancePurged"
    await hub.step("order-17", DONE)


async def test_a_parent_hears_if_a_child_is_purged_that_it_has_told_to_try_again(hub: Hub):
    await hub.create("order-17")
    await hub.step("order-17", child("ship-17"))
    await hub.step("ship-17", FAILED)
    (failed,) = await hub.mail("order-17")
    await hub.step("order-17", FAILED, mail=[failed])
    (call,) = [event for event in (await hub.load("order-17")).events if getattr(event, "event_id", None) == 0]
    (ship,) = (await hub.store.query(InstanceQuery(parents=("order-17",)))).instances
    told = ExecutionRewound(NOW, None, ship.parent)
    assert (call.instance_id, await hub.tell("ship-17", told)) == ("ship-17", "Failed")  # type: ignore[union-attr]

    await hub.store.purge(["ship-17"], hub.now)

    (answer,) = await hub.mail("order-17")
    assert isinstance(answer.event, SubOrchestrationInstanceFailed)
    assert answer.execution_id == (await hub.get("order-17")).execution_id


async def test_parents_purged_together_with_their_children_leave_no_answers(hub: Hub):
    await hub.create("ship-17")
    await hub.create("order-17")
    await hub.step("order-17", child("ship-17"), DONE)
    await hub.step("ship-17", DONE, mail=())

    assert await hub.store.purge(["order-17", "ship-17"], hub.now) == {"order-17", "ship-17"}

    assert await hub.dump() == {}


async def test_a_child_may_be_purged_before_its_parent_has_read_the_answer(hub: Hub):
    await hub.create("order-17")
    await hub.step("order-17", child("ship-17"))
    await hub.step("ship-17", DONE)

    await hub.store.purge(["ship-17"], hub.now)

    (answer,) = await hub.mail("order-17")
    assert isinstance(answer.event, SubOrchestrationInstanceCompleted)
    await hub.step("order-17", DONE)


# ---------------------------------------------------------------------- parents whose children give way


@pytest.mark.parametrize("is_started", [False, True])
async def test_the_parent_of_an_instance_that_gives_way_before_it_ended_hears_so(hub: Hub, is_started: bool):
    await hub.create("order-17")
    await hub.step("order-17", child("ship-17"))
    if is_started:
        await hub.step("ship-17", ScheduleTask(0, "pack", None))
    replaced = await hub.get("ship-17")
    later = an_instance("ship-17", created_at=hub.now + SECOND)

    assert await hub.store.create([Start(later, EVERY_STATUS)]) == [None]

    assert await hub.mail("order-17") == farewell(replaced, later.created_at)
    assert await hub.mail("ship-17") == []
    hub.now += SECOND
    await hub.step("order-17", DONE)


async def test_the_parent_of_an_instance_that_gives_way_after_it_ended_hears_nothing_more(hub: Hub):
    await hub.create("order-17")
    await hub.step("order-17", child("ship-17"))
    await hub.step("ship-17", DONE)
    before = await hub.mail("order-17")

    await hub.create("ship-17")

    assert await hub.mail("order-17") == before
    assert len(before) == 1


async def test_an_instance_without_a_parent_gives_way_silently(hub: Hub):
    await hub.create("order-17")
    await hub.step("order-17", CreateTimer(0, NOW + SECOND))

    assert await hub.store.create([Start(an_instance("order-17"), EVERY_STATUS)]) == [None]

    dump = await hub.dump()
    assert (list(dump), dump["order-17"].mail) == (["order-17"], ())


async def test_who_gave_way_was_answered_for_once(hub: Hub):
    await hub.create("order-17")
    await hub.step("order-17", child("ship-17"))
    start = Start(an_instance("ship-17"), EVERY_STATUS)
    await hub.store.create([start])
    before = ids(await hub.mail("order-17"))

    assert await hub.store.create([start, start]) == [None, None]

    assert ids(await hub.mail("order-17")) == before


# ---------------------------------------------------------------------- how often activities were dispatched


async def test_dispatch_counts_each_activity_by_itself(hub: Hub):
    await hub.create("order-17")
    first, second, third = activities_of(await hub.step("order-17", ScheduleTask(0, "charge", None)), 3)
    lease = hub.lease_of("order-17")

    assert list(await hub.store.dispatches(lease, [first, second])) == [0, 0]
    assert list(await hub.store.dispatch(lease, [first, second])) == [1, 1]
    assert list(await hub.store.dispatch(lease, [third, first])) == [1, 2]
    assert list(await hub.store.dispatches(lease, [first, second, third])) == [2, 1, 1]
    assert list(await hub.store.dispatch(lease, [])) == []


async def test_dispatches_are_counted_over_hosts_and_reopenings(hub: Hub):
    await hub.create("order-17")
    (activity,) = (await hub.step("order-17", ScheduleTask(0, "charge", None))).activities
    counts: list[int] = []
    for _ in range(3):
        counts += await hub.store.dispatch(hub.lease_of("order-17"), [activity])
        await hub.store.beat(hub.host, hub.now, hub.now + FAR)
        await hub.reopen()

    assert counts == [1, 2, 3]


async def test_thousands_of_dispatches_are_counted_in_one_call(hub: Hub):
    await hub.create("order-17")
    many = activities_of(await hub.step("order-17", ScheduleTask(0, "charge", None)), 3000)
    lease = hub.lease_of("order-17")
    await hub.store.dispatch(lease, many[1000:])

    assert list(await hub.store.dispatch(lease, many)) == [1] * 1000 + [2] * 2000
    assert list(await hub.store.dispatches(lease, many)) == [1] * 1000 + [2] * 2000


@pytest.mark.parametrize("how", ["end", "replace", "purge", "rewind"])
async def test_a_count_ends_with_what_it_is_about(hub: Hub, how: str):
    await hub.create("order-17")
    (activity,) = (await hub.step("order-17", ScheduleTask(0, "charge", None))).activities
    lease = hub.lease_of("order-17")
    await hub.store.dispatch(lease, [activity])

    if how == "replace":
        await hub.store.create([Start(an_instance("order-17"), EVERY_STATUS)])
    else:
        await hub.fail("order-17")
        await hub.store.purge(["order-17"] if how == "purge" else [], hub.now)
    if how == "rewind":
        (again,) = (await hub.rewind("order-17")).activities
        assert again.activity_id == activity.activity_id

    assert list(await hub.store.dispatches(lease, [activity])) == [0]
    assert list(await hub.store.dispatch(lease, [activity])) == [int(how == "rewind")]


async def test_a_lease_that_is_lost_counts_nothing(hub: Hub):
    await hub.create("order-17")
    (activity,) = (await hub.step("order-17", ScheduleTask(0, "charge", None))).activities
    lost = hub.lease_of("order-17")
    await hub.store.lease([lost.partition], hub.host, hub.now, hub.now)

    assert list(await hub.store.dispatch(lost, [activity])) == [0]

    await hub.take_leases(hub.host)
    assert list(await hub.store.dispatch(hub.lease_of("order-17"), [activity])) == [1]
