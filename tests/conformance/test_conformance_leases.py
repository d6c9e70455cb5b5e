"""Sentences 1 and 2 of the store contract: hosts, leases, epochs, the lock of an embedded store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from conformance_kit import FAR, NOW, SECOND, Hub, an_event, ids

from perdure.core.actions import CompleteOrchestration, ScheduleTask
from perdure.core.records import Batch, CommitOutcome
from perdure.engine.store import Store
from perdure.errors import StoreLockedError


async def expire(hub: Hub) -> None:
    """Move time beyond the leases that the hub fixture took."""
    hub.now += 2 * FAR


# ---------------------------------------------------------------------- 1. leases


async def test_lease_leaves_out_partitions_that_others_hold(hub: Hub):
    assert await hub.store.lease(range(hub.store.partitions), "host-2", hub.now, hub.now + FAR) == []


async def test_lease_grants_expired_partitions_with_a_higher_epoch(hub: Hub):
    (before,) = await hub.store.lease([0], "host-1", hub.now, hub.now + 10 * SECOND)

    (after,) = await hub.store.lease([0], "host-2", hub.now + 10 * SECOND, hub.now + FAR)

    assert (after.partition, after.host_id, after.until) == (0, "host-2", hub.now + FAR)
    assert after.epoch > before.epoch


async def test_a_lease_holds_until_its_last_moment(hub: Hub):
    await hub.store.lease([0], "host-1", hub.now, hub.now + 10 * SECOND)

    assert await hub.store.lease([0], "host-2", hub.now + 9 * SECOND, hub.now + FAR) == []


async def test_lease_extends_the_holders_own_with_the_same_epoch(hub: Hub):
    before = hub.leases[0]

    (after,) = await hub.store.lease([0], "host-1", hub.now + SECOND, hub.now + 2 * FAR)

    assert (after.epoch, after.until) == (before.epoch, hub.now + 2 * FAR)


async def test_lease_extends_the_holders_own_even_after_it_expired_if_nobody_took_it(hub: Hub):
    before = hub.leases[0]
    await expire(hub)

    (after,) = await hub.store.lease([0], "host-1", hub.now, hub.now + FAR)

    assert after.epoch == before.epoch


async def test_until_not_after_now_gives_leases_up(hub: Hub):
    before = hub.leases[0]

    assert await hub.store.lease([0], "host-1", hub.now, hub.now) == []
    (after,) = await hub.store.lease([0], "host-2", hub.now, hub.now + FAR)

    assert after.epoch > before.epoch


async def test_giving_up_what_another_host_holds_changes_nothing(hub: Hub):
    assert await hub.store.lease([0], "host-2", hub.now, hub.now) == []

    (after,) = await hub.store.lease([0], "host-1", hub.now, hub.now + FAR)
    assert after.epoch == hub.leases[0].epoch


async def test_an_epoch_is_never_used_again_however_often_a_lease_is_given_up_or_runs_out(hub: Hub):
    epochs = [hub.leases[0].epoch]
    for number in range(20):
        host = f"host-{number % 3}"
        if number % 2:
            await hub.store.lease([0], hub.host, hub.now, hub.now)
        else:
            await expire(hub)
        (lease,) = await hub.store.lease([0], host, hub.now, hub.now + FAR)
        if host != hub.host or number % 2:
            epochs.append(lease.epoch)
        hub.host = host

    assert epochs == sorted(set(epochs))


async def test_epochs_keep_growing_over_a_reopening(hub: Hub):
    before = hub.leases

    await hub.reopen()

    assert all(lease.epoch > before[partition].epoch for partition, lease in hub.leases.items())


async def test_lease_answers_for_each_partition_by_itself(hub: Hub):
    partitions = list(range(hub.store.partitions))
    await hub.store.lease(partitions[:1], "host-1", hub.now, hub.now)

    taken = await hub.store.lease(partitions, "host-2", hub.now, hub.now + FAR)

    assert [lease.partition for lease in taken] == partitions[:1]


# ---------------------------------------------------------------------- 1. take-overs


async def test_what_was_not_given_up_is_granted_as_a_takeover(hub: Hub):
    await expire(hub)

    (taken,) = await hub.store.lease([0], "host-2", hub.now, hub.now + FAR)

    assert taken.is_takeover


async def test_what_was_given_up_or_never_held_is_not_granted_as_a_takeover(
    hub: Hub, make_empty_store: Callable[[], Store]
):
    await hub.store.lease([0], "host-1", hub.now, hub.now)
    (given_up,) = await hub.store.lease([0], "host-2", hub.now, hub.now + FAR)
    new = make_empty_store()
    await new.open()
    (first,) = await new.lease([0], "host-1", NOW, NOW + FAR)
    await new.close()

    assert (given_up.is_takeover, first.is_takeover) == (False, False)


async def test_extending_ones_own_lease_is_not_a_takeover_even_of_one_that_was(hub: Hub):
    await expire(hub)
    await hub.store.lease([0], "host-2", hub.now, hub.now + SECOND)

    for now in (hub.now, hub.now + FAR):
        (extended,) = await hub.store.lease([0], "host-2", now, now + FAR)
        assert not extended.is_takeover


async def test_who_takes_over_and_gives_up_hands_over_in_peace(hub: Hub):
    await expire(hub)
    await hub.store.lease([0], "host-2", hub.now, hub.now + FAR)
    await hub.store.lease([0], "host-2", hub.now, hub.now)

    (next_one,) = await hub.store.lease([0], "host-3", hub.now, hub.now + FAR)

    assert not next_one.is_takeover


@pytest.mark.parametrize("is_given_up", [True, False])
async def test_a_takeover_is_known_after_a_reopening(hub: Hub, is_given_up: bool):
    if is_given_up:
        await hub.store.lease(range(hub.store.partitions), hub.host, hub.now, hub.now)

    await hub.reopen()

    assert {lease.is_takeover for lease in hub.leases.values()} == {not is_given_up}


# ---------------------------------------------------------------------- 1. hosts


async def test_beat_names_the_hosts_that_live(hub: Hub):
    await hub.store.beat("host-a", NOW, NOW + 10 * SECOND)
    await hub.store.beat("host-b", NOW, NOW + 20 * SECOND)

    assert sorted(await hub.store.beat("host-c", NOW, NOW + 30 * SECOND)) == ["host-a", "host-b", "host-c"]
    assert sorted(await hub.store.beat("host-c", NOW + 10 * SECOND, NOW + 30 * SECOND)) == ["host-b", "host-c"]


async def test_a_host_that_says_goodbye_is_named_no_more(hub: Hub):
    await hub.store.beat("host-a", NOW, NOW + FAR)
    await hub.store.beat("host-b", NOW, NOW + FAR)

    assert await hub.store.beat("host-a", NOW, NOW) == ["host-b"]
    assert await hub.store.beat("host-b", NOW, NOW + FAR) == ["host-b"]


# ---------------------------------------------------------------------- 1, 3. fencing


async def test_a_former_holder_commits_nothing(hub: Hub):
    await hub.create("order-17")
    event = await hub.raise_event("order-17")
    late = await hub.compute("order-17", ScheduleTask(0, "charge", None))
    old = hub.leases
    await expire(hub)
    await hub.take_leases("host-2")

    outcome = await hub.commit(late, leases=old)

    assert outcome == CommitOutcome(lost=frozenset([hub.lease_of("order-17").partition]))
    assert (await hub.load("order-17")).position == 0
    assert ids(await hub.mail("order-17")) == [event.message_id]


async def test_who_gave_a_lease_up_commits_nothing_even_if_nobody_took_it(hub: Hub):
    await hub.create("order-17")
    late = await hub.compute("order-17")
    lease = hub.lease_of("order-17")
    await hub.store.lease([lease.partition], hub.host, hub.now, hub.now)

    assert await hub.commit(late) == CommitOutcome(lost=frozenset([lease.partition]))

    await hub.take_leases(hub.host)
    assert (await hub.load("order-17")).position == 0


async def test_a_host_that_lost_and_regained_a_partition_cannot_commit_under_its_first_epoch(hub: Hub):
    await hub.create("order-17")
    late = await hub.compute("order-17")
    old = hub.leases
    for host in ("host-2", "host-1"):
        await expire(hub)
        await hub.take_leases(host)

    assert (await hub.commit(late, leases=old)).lost == {hub.lease_of("order-17").partition}
    assert await hub.commit(late) == CommitOutcome()


async def test_an_expired_lease_that_nobody_took_still_commits(hub: Hub):
    """The store has no clock: the epoch is the fence, the time only says who may ask for the next one."""
    await hub.create("order-17")
    await expire(hub)

    await hub.step("order-17")


async def test_a_lost_batch_takes_nothing_with_it_and_costs_the_others_nothing(hub: Hub):
    if hub.store.partitions == 1:
        pytest.skip("needs two partitions")
    orders = [f"order-{number}" for number in range(99)]
    mine, others = (next(each for each in orders if hub.lease_of(each).partition == number) for number in (0, 1))
    await hub.create(mine)
    await hub.create(others)
    event = await hub.raise_event(others)
    reply = an_event(mine, "reply")
    checkpoints = [await hub.compute(mine), await hub.compute(others, mail=())]
    old = hub.leases[1]
    await hub.store.lease([1], "host-1", hub.now, hub.now)
    await hub.store.lease([1], "host-2", hub.now, hub.now + FAR)

    outcome = await hub.store.commit(
        [Batch(hub.leases[0], checkpoints[:1]), Batch(old, checkpoints[1:], [event.message_id], [reply])]
    )

    hub.leases[1] = (await hub.store.lease([1], "host-2", hub.now, hub.now + FAR))[0]
    assert outcome == CommitOutcome(lost=frozenset([1]))
    assert [(await hub.load(each)).position for each in (mine, others)] == [1, 0]
    assert ids(await hub.mail(others)) == [event.message_id]
    assert await hub.mail(mine) == []


async def test_reading_by_a_lost_lease_raises_nothing(hub: Hub):
    """A host learns from its commit that it lost a partition, not from an error while reading."""
    await hub.create("order-17")
    await hub.raise_event("order-17")
    old = hub.lease_of("order-17")
    await expire(hub)
    await hub.take_leases("host-2")

    await hub.store.receive(old, hub.now, None, 10)
    await hub.store.open_work(old, None, 10)


async def test_each_checkpoint_keeps_the_epoch_that_it_was_committed_under(hub: Hub):
    await hub.create("order-17")
    await hub.step("order-17", ScheduleTask(0, "charge", None))
    first = hub.lease_of("order-17").epoch
    await expire(hub)
    await hub.take_leases("host-2")
    await hub.raise_event("order-17")
    await hub.step("order-17", CompleteOrchestration(1))

    rows = await hub.store.history("order-17")

    assert [row.epoch for row in rows] == [first, hub.lease_of("order-17").epoch]
    assert rows[0].epoch < rows[1].epoch


# ---------------------------------------------------------------------- 2. an embedded store


def embedded(store_url: str) -> None:
    if not store_url.startswith("sqlite:"):
        pytest.skip("sentence 2 is about embedded stores: hosts share this one at the same time")


async def test_an_embedded_store_has_one_host_at_a_time(hub: Hub, store_url: str, make_store: Callable[[], Store]):
    embedded(store_url)

    with pytest.raises(StoreLockedError):
        await make_store().open()


async def test_who_gets_the_lock_of_an_embedded_store_ends_every_older_incarnation_at_once(
    hub: Hub, store_url: str, make_store: Callable[[], Store]
):
    """After a crash nobody waits for leases to run out."""
    embedded(store_url)
    await hub.store.beat("host-1", hub.now, hub.now + FAR)
    before = hub.leases
    await hub.store.close()
    hub.store = make_store()
    await hub.store.open()

    await hub.create("order-17")
    late = await hub.compute("order-17")
    assert (await hub.commit(late, leases=before)).lost == {before[hub.lease_of("order-17").partition].partition}

    await hub.take_leases("host-2")

    assert all(lease.epoch > before[partition].epoch for partition, lease in hub.leases.items())
    assert all(lease.is_takeover for lease in hub.leases.values())
    assert await hub.store.beat("host-2", hub.now, hub.now + FAR) == ["host-2"]


# ---------------------------------------------------------------------- 7. no clock


@pytest.mark.parametrize("year", [1990, 2200])
async def test_a_lease_runs_out_by_the_times_given_whatever_the_clock_says(hub: Hub, year: int):
    now = datetime(year, 1, 1, tzinfo=UTC)
    await hub.store.lease([0], hub.host, now, now)
    (mine,) = await hub.store.lease([0], "host-2", now, now + SECOND)

    assert await hub.store.lease([0], "host-3", now, now + SECOND) == []
    (theirs,) = await hub.store.lease([0], "host-3", now + SECOND, now + 2 * SECOND)

    assert theirs.epoch > mine.epoch
