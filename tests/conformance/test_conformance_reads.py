"""Sentence 7 of the store contract, and what clients read: queries, histories, snapshots, dumps."""

from __future__ import annotations

import base64
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from conformance_kit import NOW, SECOND, Hub, an_event, an_instance, ids

from perdure.core.actions import CompleteOrchestration, ContinueAsNew, CreateSubOrchestration, CreateTimer, ScheduleTask
from perdure.core.records import Instance, InstanceQuery, RuntimeStatus, Start


async def pages(hub: Hub, **conditions: object) -> list[list[str]]:
    """The ids of all pages of a query."""
    found: list[list[str]] = []
    after: str | None = None
    while True:
        page = await hub.store.query(InstanceQuery(after=after, **conditions))  # type: ignore[arg-type]
        found.append([each.instance_id for each in page.instances])
        if page.after is None:
            return found
        after = page.after


async def found(hub: Hub, **conditions: object) -> list[str]:
    return [each for page in await pages(hub, **conditions) for each in page]


async def some_orders(hub: Hub, count: int) -> list[Instance]:
    """Instances created a second apart, the last first."""
    orders = [an_instance(f"order-{number}", created_at=NOW + (count - number) * SECOND) for number in range(count)]
    await hub.store.create([Start(each) for each in orders])
    return orders


# ---------------------------------------------------------------------- 7. reads see only durable changes


async def test_all_there_is_survives_a_reopening(hub: Hub):
    await some_orders(hub, 3)
    await hub.step("order-1", ScheduleTask(0, "charge", None), CreateSubOrchestration(1, "ship", None, "ship-1", None))
    await hub.step("order-2", CreateTimer(0, NOW + SECOND), custom_status="1")
    await hub.raise_event("order-2")
    before = await hub.dump()

    await hub.reopen()

    assert await hub.dump() == before
    assert await found(hub) == ["ship-1", "order-2", "order-1", "order-0"]
    await hub.step("order-2", CompleteOrchestration(1))


async def test_opening_twice_is_harmless(hub: Hub):
    await hub.create("order-17")

    await hub.store.open()

    assert await found(hub) == ["order-17"]
    assert await hub.store.lease([0], hub.host, hub.now, hub.now + SECOND)


async def test_the_number_of_partitions_stays_what_it_was(hub: Hub):
    before = hub.store.partitions

    await hub.reopen()

    assert hub.store.partitions == before


async def test_an_empty_hub_answers_every_question(hub: Hub):
    assert await hub.dump() == {}
    assert await pages(hub) == [[]]
    assert list(await hub.store.history("order-17")) == []
    assert list(await hub.store.load_instances(["order-17"])) == []
    assert list(await hub.store.load_instances([])) == []
    assert await hub.open_work() == []
    assert await hub.store.create([]) == []
    assert await hub.store.send([], hub.now) == []


async def test_load_instances_gives_a_snapshot_of_each_that_exists(hub: Hub):
    await some_orders(hub, 300)
    checkpoint = await hub.step("order-1", ScheduleTask(0, "charge", None))

    stored = await hub.store.load_instances([f"order-{number}" for number in range(-5, 300)])

    by_id = {each.instance.instance_id: each for each in stored}
    assert len(stored) == len(by_id) == 300
    assert (by_id["order-1"].position, by_id["order-1"].events) == (1, checkpoint.events)
    assert all(each.position == 0 and each.events == () for key, each in by_id.items() if key != "order-1")
    assert all(each.damage is None for each in stored)


# ---------------------------------------------------------------------- queries


async def test_a_query_lists_in_order_of_creation_and_then_of_id(hub: Hub):
    await some_orders(hub, 3)
    for each in ("b", "a", "c"):
        await hub.store.create([Start(an_instance(each, created_at=NOW + 2 * SECOND))])

    assert await found(hub) == ["order-2", "a", "b", "c", "order-1", "order-0"]


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6, 100])
async def test_pages_hold_at_most_the_limit_and_the_last_says_that_it_is(hub: Hub, limit: int):
    await some_orders(hub, 6)

    lists = await pages(hub, limit=limit)

    assert [each for page in lists for each in page] == [f"order-{number}" for number in reversed(range(6))]
    assert all(len(page) == limit for page in lists[:-1])
    assert 0 < len(lists[-1]) <= limit


async def test_an_instance_that_exists_throughout_is_listed_once_while_others_come_and_go(hub: Hub):
    orders = {each.instance_id for each in await some_orders(hub, 20)}
    listed: list[str] = []
    after: str | None = None
    number = 0
    while True:
        page = await hub.store.query(InstanceQuery(limit=3, after=after))
        listed += [each.instance_id for each in page.instances]
        after = page.after
        if after is None:
            break
        number += 1
        for offset in (number, 30 - number):
            await hub.store.create([Start(an_instance(f"new-{number}-{offset}", created_at=NOW + offset * SECOND))])
        await hub.step(f"order-{number}", CompleteOrchestration(0))

    assert sorted(each for each in listed if each in orders) == sorted(orders)
    assert len(listed) == len(set(listed))


async def test_times_of_a_query_are_inclusive(hub: Hub):
    await some_orders(hub, 5)

    assert await found(hub, created_from=NOW + 2 * SECOND, created_to=NOW + 4 * SECOND) == [
        "order-3", "order-2", "order-1",
    ]  # fmt: skip
    just_after = NOW + 2 * SECOND + timedelta(microseconds=1)
    assert await found(hub, created_from=just_after) == ["order-2", "order-1", "order-0"]
    assert await found(hub, created_from=NOW + 3 * SECOND, created_to=NOW + 2 * SECOND) == []


async def test_a_query_by_status_sees_the_last_checkpoint(hub: Hub):
    await some_orders(hub, 4)
    await hub.step("order-1")
    await hub.step("order-2", CompleteOrchestration(0))

    def by(*statuses: str) -> frozenset[RuntimeStatus]:
        return frozenset(map(RuntimeStatus, statuses))

    assert await found(hub, statuses=by("Pending")) == ["order-3", "order-0"]
    assert await found(hub, statuses=by("Running", "Completed")) == ["order-2", "order-1"]
    assert await found(hub, statuses=by("Failed", "Terminated")) == []
    assert await found(hub, statuses=frozenset()) == []


async def test_a_prefix_is_taken_literally(hub: Hub):
    for each in ("a%b-1", "a_b-1", "aXb-1", "A%B-1", "a%b", "ä-1", "a\u0308-1", "🜚🜚1"):
        await hub.create(each)

    assert await found(hub, prefix="a%b") == ["a%b", "a%b-1"]
    assert await found(hub, prefix="a_b") == ["a_b-1"]
    assert await found(hub, prefix="A") == ["A%B-1"]
    assert await found(hub, prefix="ä") == ["ä-1"]
    assert await found(hub, prefix="🜚") == ["🜚🜚1"]
    assert await found(hub, prefix="x" * 300) == []
    assert len(await found(hub, prefix="")) == 8


async def test_a_query_by_ids_finds_those_that_exist(hub: Hub):
    await some_orders(hub, 5)

    assert await found(hub, instance_ids=("order-3", "nobody", "order-1")) == ["order-3", "order-1"]
    assert await found(hub, instance_ids=("nobody",)) == []
    assert await found(hub, instance_ids=()) == []


async def test_all_conditions_of_a_query_hold_together(hub: Hub):
    await some_orders(hub, 6)
    await hub.step("order-4", CompleteOrchestration(0))
    wanted = tuple(f"order-{number}" for number in (1, 2, 4))

    assert await found(hub, instance_ids=wanted, statuses=frozenset([RuntimeStatus.PENDING])) == ["order-2", "order-1"]
    assert await found(hub, instance_ids=wanted, created_to=NOW + 4 * SECOND) == ["order-4", "order-2"]
    assert await found(hub, instance_ids=wanted, prefix="order-4") == ["order-4"]
    assert await pages(hub, instance_ids=wanted, limit=2) == [["order-4", "order-2"], ["order-1"]]
    assert await found(hub, prefix="order-", statuses=frozenset([RuntimeStatus.COMPLETED]), limit=1) == ["order-4"]


async def test_a_query_by_parents_finds_their_children(hub: Hub):
    parents = ["order-1", "order-2", "ä'\"%"]
    for each in parents:
        await hub.create(each)
        await hub.step(each, *[CreateSubOrchestration(k, "ship", None, f"{each}/{k}", None) for k in range(3)])
    await hub.step("order-1/1", CompleteOrchestration(0))
    await hub.step("order-1/2", CreateSubOrchestration(0, "pack", None, "grandchild", None))

    assert await found(hub, parents=("order-1",)) == ["order-1/0", "order-1/1", "order-1/2"]
    assert await found(hub, parents=("ä'\"%", "order-2")) == [*[f"order-2/{k}" for k in range(3)]] + [
        f"ä'\"%/{k}" for k in range(3)
    ]
    assert await found(hub, parents=("order-1/2",)) == ["grandchild"]
    assert await found(hub, parents=("grandchild", "nobody")) == []
    assert await found(hub, parents=()) == []
    assert await found(hub, parents=("order-1",), statuses=frozenset([RuntimeStatus.COMPLETED])) == ["order-1/1"]
    assert await found(hub, parents=("order-1",), instance_ids=("order-1/2", "order-2/0")) == ["order-1/2"]
    assert await pages(hub, parents=("order-1", "order-2"), prefix="order-", limit=4) == [
        ["order-1/0", "order-1/1", "order-1/2", "order-2/0"], ["order-2/1", "order-2/2"],
    ]  # fmt: skip


async def test_children_that_gave_way_have_no_parent_any_more(hub: Hub):
    await hub.create("order-17")
    await hub.step("order-17", CreateSubOrchestration(0, "ship", None, "ship-17", None))
    await hub.step("ship-17", CompleteOrchestration(0))

    await hub.create("ship-17")

    assert await found(hub, parents=("order-17",)) == []


# ---------------------------------------------------------------------- counts


async def test_count_tells_how_many_instances_there_are_in_each_status(hub: Hub):
    assert await hub.store.count(InstanceQuery()) == {}
    await some_orders(hub, 10)
    await hub.schedule("later", NOW + SECOND)
    for number in range(4):
        await hub.step(f"order-{number}", CompleteOrchestration(0))
    await hub.step("order-5", CreateTimer(0, NOW + SECOND))

    counts = await hub.store.count(InstanceQuery())

    assert counts == {RuntimeStatus.COMPLETED: 4, RuntimeStatus.RUNNING: 1, RuntimeStatus.PENDING: 6}
    assert counts[RuntimeStatus.FAILED] == 0
    await hub.reopen()
    assert await hub.store.count(InstanceQuery(limit=1, after="no token")) == counts


@pytest.mark.parametrize(
    "conditions",
    [
        {"statuses": frozenset([RuntimeStatus.COMPLETED, RuntimeStatus.FAILED])},
        {"statuses": frozenset()},
        {"created_from": NOW + 3 * SECOND, "created_to": NOW + 7 * SECOND},
        {"prefix": "order-1"},
        {"instance_ids": ("order-1", "order-8", "nobody")},
        {"instance_ids": ()},
        {"parents": ("order-1", "order-2")},
        {"parents": ("order-1",), "statuses": frozenset([RuntimeStatus.RUNNING])},
    ],
    ids=str,
)
async def test_a_count_counts_what_the_query_lists(hub: Hub, conditions: dict[str, Any]):
    await some_orders(hub, 12)
    await hub.step("order-1", *[CreateSubOrchestration(k, "ship", None, f"ship-{k}", None) for k in range(3)])
    for each in ("ship-1", "order-2", "order-5"):
        await hub.step(each, CompleteOrchestration(0))

    counts = await hub.store.count(InstanceQuery(**conditions))

    listed = (await hub.store.query(InstanceQuery(**conditions))).instances
    assert counts == Counter(each.status for each in listed)


async def test_an_id_asked_for_twice_is_found_once(hub: Hub):
    await hub.create("order-17")

    assert await found(hub, instance_ids=("order-17", "order-17")) == ["order-17"]
    assert len(await hub.store.load_instances(["order-17"])) == 1


@pytest.mark.parametrize(
    "token", ["x", "", "1.zz", "%", "äöü", "9" * 40, base64.urlsafe_b64encode(b"hello").decode(), "'; drop table x"]
)
async def test_a_token_that_no_page_gave_is_refused(hub: Hub, token: str):
    await some_orders(hub, 3)

    with pytest.raises(ValueError, match="token"):
        await hub.store.query(InstanceQuery(after=token))


# ---------------------------------------------------------------------- histories and dumps


async def test_history_is_that_of_the_current_execution(hub: Hub):
    await hub.create("order-17")
    await hub.step("order-17", ScheduleTask(0, "charge", None))
    await hub.step("order-17", ContinueAsNew(1, None, ()), mail=[an_event("order-17")])
    assert list(await hub.store.history("order-17")) == []
    hub.now += SECOND

    second = await hub.step("order-17", CompleteOrchestration(0))

    (row,) = await hub.store.history("order-17")
    assert (row.execution_id, row.events) == (second.execution_id, second.events)


async def test_a_dump_agrees_with_every_other_way_to_read(hub: Hub):
    await some_orders(hub, 12)
    for number in range(12):
        await hub.raise_event(f"order-{number}", f"for {number}")
        if number % 2:
            await hub.step(f"order-{number}", ScheduleTask(0, "charge", None), CreateTimer(1, NOW + SECOND))
        if number % 3 == 0:
            await hub.raise_event(f"order-{number}", "more")

    dump = await hub.dump()

    assert sorted(dump) == sorted(await found(hub))
    open_work = await hub.open_work()
    for instance_id, each in dump.items():
        stored = await hub.load(instance_id)
        assert (each.instance, each.position) == (stored.instance, stored.position)
        assert each.rows == tuple(await hub.store.history(instance_id))
        assert ids(each.mail) == ids(await hub.mail(instance_id, NOW + SECOND))
        assert each.has_open_work == (instance_id in open_work)


async def test_a_dump_of_many_instances_names_each_once(hub: Hub):
    await some_orders(hub, 1203)

    listed = [each.instance.instance_id async for each in hub.store.dump()]

    assert len(listed) == 1203
    assert sorted(listed) == sorted(f"order-{number}" for number in range(1203))


async def test_a_dump_goes_on_while_the_hub_lives(hub: Hub):
    before = {each.instance_id for each in await some_orders(hub, 1100)}
    listed: list[str] = []

    number = 0
    async for each in hub.store.dump():
        listed.append(each.instance.instance_id)
        if len(listed) % 300 == 1:
            number += 1
            await hub.create(f"new-{number}")
            await hub.step(f"order-{number}", CompleteOrchestration(0))

    assert len(listed) == len(set(listed))
    assert before <= set(listed)
