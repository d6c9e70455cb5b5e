"""Sentence 10 of the store contract: where the schedules of timer functions stand."""

from __future__ import annotations

from conformance_kit import FAR, SECOND, Hub

from perdure.core.records import ScheduleStatus

HOUR = 3600 * SECOND


def a_status(hub: Hub, name: str = "nightly", **fields: object) -> ScheduleStatus:
    given = {"schedule": "0 0 2 * * * UTC", "last": None, "next": hub.now + HOUR, "updated_at": hub.now, **fields}
    return ScheduleStatus(name, **given)  # type: ignore[arg-type]


async def test_a_schedule_is_read_as_it_was_stored(hub: Hub):
    statuses = [
        a_status(hub, "hourly", schedule="% '\" \0 ü", last=hub.now - HOUR),
        a_status(hub, "nightly", next=hub.now + 1000 * FAR),
    ]
    for each in reversed(statuses):
        assert await hub.store.save_schedule(hub.leases[0], each)

    assert list(await hub.store.schedules()) == statuses


async def test_there_are_no_schedules_before_one_is_stored(hub: Hub):
    assert list(await hub.store.schedules()) == []


async def test_a_schedule_replaces_what_was_stored_under_its_name(hub: Hub):
    await hub.store.save_schedule(hub.leases[0], a_status(hub))
    later = a_status(hub, last=hub.now + HOUR, next=hub.now + 2 * HOUR, updated_at=hub.now + HOUR)

    assert await hub.store.save_schedule(hub.leases[0], later)

    assert list(await hub.store.schedules()) == [later]


async def test_names_that_differ_in_case_only_are_two(hub: Hub):
    for name in ("Nightly", "nightly"):
        await hub.store.save_schedule(hub.leases[0], a_status(hub, name))

    assert [each.name for each in await hub.store.schedules()] == ["Nightly", "nightly"]


async def test_schedules_are_there_after_a_reopening(hub: Hub):
    status = a_status(hub)
    await hub.store.save_schedule(hub.leases[0], status)

    await hub.reopen()

    assert list(await hub.store.schedules()) == [status]


async def test_a_former_holder_stores_no_schedule_and_hears_so(hub: Hub):
    status = a_status(hub)
    await hub.store.save_schedule(hub.leases[0], status)
    old = hub.leases[0]
    hub.now += 2 * FAR
    await hub.take_leases("host-2")

    assert not await hub.store.save_schedule(old, a_status(hub, last=hub.now))

    assert list(await hub.store.schedules()) == [status]


async def test_who_gave_a_lease_up_stores_no_schedule_even_if_nobody_took_it(hub: Hub):
    old = hub.leases[0]
    await hub.store.lease([0], hub.host, hub.now, hub.now)

    assert not await hub.store.save_schedule(old, a_status(hub))

    await hub.take_leases(hub.host)
    assert list(await hub.store.schedules()) == []


async def test_an_expired_lease_that_nobody_took_still_stores_a_schedule(hub: Hub):
    hub.now += 2 * FAR

    assert await hub.store.save_schedule(hub.leases[0], a_status(hub))
