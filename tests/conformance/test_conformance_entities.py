"""Sentences 3, 7 and 8 of the store contract for entities: rows without history, and the locks that others hold."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest
from conformance_kit import NOW, SECOND, Hub, an_event, ids
from msgspec.structs import replace

from perdure.core.actions import CompleteOrchestration, LockEntities, ScheduleTask, UnlockEntities
from perdure.core.entities import BatchResult, Entity, OperationResult, OrchestrationStart, Signal
from perdure.core.events import (
    EntityLock,
    EntityLockGranted,
    EntityOperation,
    EntityOperationFailed,
    EntityUnlock,
    ParentInstance,
)
from perdure.core.records import (
    Checkpoint,
    CommitOutcome,
    EntityQuery,
    EntityState,
    HeldLock,
    Instance,
    InstanceQuery,
    Message,
    RuntimeStatus,
    Start,
)
from perdure.engine.store import Store

ADA = "@counter@ada"
OWNER = ParentInstance("order-17", "some-execution", "order", 3)


def signal(entity_id: str = ADA, message_id: str = "signal", deliver_at: datetime | None = None) -> Message:
    return Message(message_id, entity_id, None, EntityOperation(NOW, "add", "1"), deliver_at)


async def entity_of(hub: Hub, entity_id: str) -> Entity:
    found = await hub.store.load_instances([entity_id])
    return Entity(found[0].instance, found[0].position) if found else Entity.unborn(entity_id, f"of {entity_id}", NOW)


def computed(entity: Entity, state: str | None, *mail: Message, now: datetime = NOW) -> Checkpoint:
    """The checkpoint of a batch that takes in `mail` and leaves `state`."""
    batch = entity.accept(mail, now, 100)
    return entity.apply(batch, BatchResult([OperationResult() for _ in batch.operations], state))


async def batch(hub: Hub, state: str | None, *mail: Message, entity_id: str = ADA) -> Checkpoint:
    """Run one batch to its durable end."""
    checkpoint = computed(await entity_of(hub, entity_id), state, *mail, now=hub.now)
    assert await hub.commit(checkpoint) == CommitOutcome()
    return checkpoint


async def states(hub: Hub, **query: object) -> dict[str, str | None]:
    page = await hub.store.entities(EntityQuery(**query))  # type: ignore[arg-type]
    return {each.instance_id: each.entity.state for each in page.instances if each.entity is not None}


async def row(hub: Hub, entity_id: str = ADA) -> Instance:
    (found,) = await hub.store.load_instances([entity_id])
    return found.instance


# ---------------------------------------------------------------------- rows that come and go


async def test_a_first_batch_makes_a_row_and_the_next_moves_it(hub: Hub):
    first = await batch(hub, '{"ü": 1}')
    hub.now += SECOND
    second = await batch(hub, "2")

    (stored,) = await hub.store.load_instances([ADA])
    assert (stored.instance, stored.position, stored.events) == (second.instance, 2, ())
    assert (stored.instance.created_at, stored.instance.updated_at) == (NOW, hub.now)
    assert stored.instance.execution_id == first.execution_id
    assert (stored.instance.status, stored.instance.name) == (RuntimeStatus.RUNNING, "counter")


async def test_a_batch_that_leaves_nothing_takes_the_row_away(hub: Hub):
    await batch(hub, "1")
    await batch(hub, None)
    assert list(await hub.store.load_instances([ADA])) == []

    again = await batch(hub, "5")

    (stored,) = await hub.store.load_instances([ADA])
    assert (stored.position, stored.instance) == (1, again.instance)


async def test_a_batch_may_come_and_go_without_a_row(hub: Hub):
    assert await hub.store.send([signal()], NOW) == [RuntimeStatus.RUNNING]
    checkpoint = await batch(hub, None, *await hub.mail(ADA))

    assert (checkpoint.creates, checkpoint.deletes) == (True, True)
    assert (list(await hub.store.load_instances([ADA])), await hub.mail(ADA)) == ([], [])


async def test_a_locked_entity_has_a_row_without_a_state(hub: Hub):
    checkpoint = await batch(hub, None, Message("lock", ADA, None, EntityLock(NOW, OWNER, (ADA,)), is_stored=False))

    assert (await row(hub)).entity == EntityState(None, OWNER)
    assert [each.event for each in checkpoint.messages] == [EntityLockGranted(NOW, 3)]
    await batch(hub, None, Message("unlock", ADA, None, EntityUnlock(NOW, OWNER), is_stored=False))
    assert list(await hub.store.load_instances([ADA])) == []


async def test_several_batches_of_one_entity_in_one_commit(hub: Hub):
    entity = await entity_of(hub, ADA)

    assert await hub.commit(*[computed(entity, state) for state in ("1", "2", None, "4")]) == CommitOutcome()

    (stored,) = await hub.store.load_instances([ADA])
    assert (stored.position, stored.instance.entity) == (1, EntityState("4"))


async def test_entities_and_orchestrations_in_one_commit(hub: Hub):
    some = [each for each, _ in zip(hub.neighbours("order"), range(3), strict=False)]
    for each in some:
        await hub.create(each)
    checkpoints = [await hub.compute(each, ScheduleTask(0, "charge", None)) for each in some]
    entities = [each for each, _ in zip(hub.neighbours("@counter@x"), range(3), strict=False)]
    checkpoints += [computed(await entity_of(hub, each), "1") for each in entities]

    assert await hub.commit(*checkpoints[::2], *checkpoints[1::2]) == CommitOutcome()

    assert [(await hub.load(each)).position for each in (*some, *entities)] == [1] * 6


async def test_a_large_state_comes_back_unchanged(hub: Hub):
    text = '"' + "ä😀" * 500_000 + '"'
    await batch(hub, text)

    assert (await row(hub)).entity == EntityState(text)


# ---------------------------------------------------------------------- fencing


@pytest.mark.parametrize("state", ["9", None])
async def test_a_batch_at_another_position_is_stale_and_changes_nothing(hub: Hub, state: str | None):
    await hub.store.send([signal()], NOW)
    await batch(hub, "1")
    late = computed(await entity_of(hub, ADA), state, *await hub.mail(ADA))
    await batch(hub, "2")
    before = await hub.dump()

    outcome = await hub.commit(replace(late, messages=(an_event("order-17"),)))

    assert outcome == CommitOutcome(stale=frozenset([ADA]))
    assert await hub.dump() == before
    assert ids(await hub.mail(ADA)) == ["signal"]


async def test_a_batch_that_creates_what_is_there_is_stale(hub: Hub):
    first = computed(Entity.unborn(ADA, "one cause", NOW), "1")
    second = computed(Entity.unborn(ADA, "another", NOW), "2")

    assert await hub.commit(first) == CommitOutcome()
    assert await hub.commit(second) == CommitOutcome(stale=frozenset([ADA]))
    assert await states(hub) == {ADA: "1"}


async def test_a_batch_of_an_entity_that_was_purged_is_stale(hub: Hub):
    await batch(hub, "1")
    late = computed(await entity_of(hub, ADA), "2")
    await hub.store.purge([ADA], NOW)

    assert await hub.commit(late) == CommitOutcome(stale=frozenset([ADA]))
    assert await states(hub) == {}


async def test_a_batch_of_an_earlier_life_is_stale(hub: Hub):
    await batch(hub, "1")
    late = computed(await entity_of(hub, ADA), "2")
    await batch(hub, None)
    await hub.commit(computed(Entity.unborn(ADA, "another cause", NOW), "5"))

    assert (await hub.commit(late)).stale == {ADA}
    assert await states(hub) == {ADA: "5"}


async def test_the_rest_of_a_commit_with_a_stale_batch_is_applied(hub: Hub):
    some = [each for each, _ in zip(hub.neighbours("@counter@x"), range(4), strict=False)]
    for each in some:
        await batch(hub, "1", entity_id=each)
    late = [computed(await entity_of(hub, each), "2") for each in some]
    await batch(hub, "7", entity_id=some[2])

    assert await hub.commit(*late) == CommitOutcome(stale=frozenset([some[2]]))

    assert await states(hub) == dict(zip(some, ["2", "2", "7", "2"], strict=True))


async def test_a_lease_that_is_lost_commits_no_batch(hub: Hub):
    old = dict(hub.leases)
    hub.now += 400 * 24 * 3600 * SECOND
    await hub.take_leases("host-2")

    outcome = await hub.commit(computed(await entity_of(hub, ADA), "1"), leases=old)

    assert outcome.lost
    assert await states(hub) == {}


# ---------------------------------------------------------------------- mail, and what goes out


async def test_mail_to_an_entity_without_a_row_is_stored_and_answered(hub: Hub):
    statuses = await hub.store.send([signal(), signal(message_id="other"), signal()], NOW)

    assert list(statuses) == [RuntimeStatus.RUNNING] * 3
    assert ids(await hub.mail(ADA)) == ["signal", "other"]
    assert list(await hub.store.load_instances([ADA])) == []
    assert await states(hub) == {}


async def test_a_signal_that_was_used_up_is_not_stored_again(hub: Hub):
    await hub.store.send([signal()], NOW)
    await batch(hub, "1", *await hub.mail(ADA))

    assert list(await hub.store.send([signal()], NOW)) == [RuntimeStatus.RUNNING]
    assert await hub.mail(ADA) == []


async def test_a_delayed_signal_waits_for_its_time(hub: Hub):
    await hub.store.send([signal(deliver_at=NOW + 5 * SECOND)], NOW)

    assert await hub.mail(ADA, NOW + 4 * SECOND) == []
    assert ids(await hub.mail(ADA, NOW + 5 * SECOND)) == ["signal"]


async def test_what_a_batch_uses_up_goes_and_what_it_sends_is_there_in_order(hub: Hub):
    await hub.store.send([signal(), signal(message_id="kept")], NOW)
    entity = await entity_of(hub, ADA)
    used = [each for each in await hub.mail(ADA) if each.message_id == "signal"]
    actions = (*(Signal("@log@l", "append", str(number)) for number in range(5)), OrchestrationStart("ship", "1", "s"))
    prepared = entity.accept(used, NOW, 10)

    assert await hub.commit(entity.apply(prepared, BatchResult([OperationResult("1", None, actions)], "1"))) == (
        CommitOutcome()
    )

    assert ids(await hub.mail(ADA)) == ["kept"]
    inputs = [each.event.input for each in await hub.mail("@log@l") if isinstance(each.event, EntityOperation)]
    assert inputs == ["0", "1", "2", "3", "4"]
    child = await hub.get("s")
    assert (child.status, child.input, child.name) == (RuntimeStatus.PENDING, "1", "ship")
    assert len(await hub.mail("s")) == 1
    await hub.step("s", CompleteOrchestration(0, "2"))


async def test_an_orchestration_in_the_way_of_a_batch_stays(hub: Hub):
    running = await hub.create("s")
    await hub.step("s")
    entity = await entity_of(hub, ADA)
    prepared = entity.accept([replace(signal(), is_stored=False)], NOW, 10)
    start = OperationResult(None, None, (OrchestrationStart("ship", "1", "s"),))

    assert await hub.commit(entity.apply(prepared, BatchResult([start], "1"))) == CommitOutcome()

    assert (await hub.get("s")).execution_id == running.execution_id


# ---------------------------------------------------------------------- reading


async def test_entities_are_listed_in_pages_in_order_of_id(hub: Hub):
    names = [f"@counter@{number * 7 % 20:02}" for number in range(20)] + ["@log@l", "@Counter@x", "@counterx@1"]
    for each in names:
        await batch(hub, f'"{each}"', entity_id=each)

    found: list[str] = []
    after: str | None = None
    sizes: list[int] = []
    while True:
        page = await hub.store.entities(EntityQuery("@counter@", limit=6, after=after))
        found += [each.instance_id for each in page.instances]
        sizes.append(len(page.instances))
        after = page.after
        if after is None:
            break

    assert found == [f"@counter@{number:02}" for number in range(20)]
    assert sizes == [6, 6, 6, 2]
    assert set(await states(hub)) == set(names)
    assert await states(hub, limit=100, prefix="@log@") == {"@log@l": '"@log@l"'}


async def test_a_full_last_page_has_no_next_one(hub: Hub):
    for key in "abcd":
        await batch(hub, "1", entity_id=f"@counter@{key}")

    page = await hub.store.entities(EntityQuery(limit=2))
    last = await hub.store.entities(EntityQuery(limit=2, after=page.after))

    assert ([each.instance_id for each in last.instances], last.after) == (["@counter@c", "@counter@d"], None)


@pytest.mark.parametrize("prefix", ["@counter@_", "@counter@%", "@counter@A", "@counter@ä", "@counter@a@"])
async def test_a_prefix_is_meant_literally(hub: Hub, prefix: str):
    for key in ("_1", "%1", "A1", "a1", "ä1", "a@1", "x1"):
        await batch(hub, "1", entity_id=f"@counter@{key}")

    assert list(await states(hub, prefix=prefix)) == [f"{prefix}1"]


async def test_entities_are_found_by_the_time_of_their_last_batch(hub: Hub):
    for key in "abc":
        await batch(hub, "1", entity_id=f"@counter@{key}")
        hub.now += SECOND
    await batch(hub, "2", entity_id="@counter@a")

    assert list(await states(hub, updated_from=NOW + 2 * SECOND)) == ["@counter@a", "@counter@c"]
    assert list(await states(hub, updated_to=NOW + SECOND)) == ["@counter@b"]
    assert list(await states(hub, updated_from=NOW + SECOND, updated_to=NOW + 2 * SECOND)) == [
        "@counter@b",
        "@counter@c",
    ]


async def test_locked_entities_can_be_asked_for(hub: Hub):
    await batch(hub, "1")
    lock = Message("lock", "@counter@b", None, EntityLock(NOW, OWNER, ("@counter@b",)), is_stored=False)
    await batch(hub, None, lock, entity_id="@counter@b")

    assert list(await states(hub, locked_only=True)) == ["@counter@b"]


async def test_entities_are_no_instances_and_instances_no_entities(hub: Hub):
    await hub.create("order-17")
    await batch(hub, "1")

    page = await hub.store.query(InstanceQuery())
    assert [each.instance_id for each in page.instances] == ["order-17"]
    assert (await hub.store.query(InstanceQuery(instance_ids=(ADA,)))).instances == ()
    assert dict(await hub.store.count(InstanceQuery())) == {RuntimeStatus.PENDING: 1}
    assert list(await states(hub)) == [ADA]
    assert list(await hub.store.history(ADA)) == []
    assert await hub.open_work() == ["order-17"]
    loaded = await hub.store.load_instances(["order-17", ADA, "@counter@nobody"])
    assert {each.instance.instance_id for each in loaded} == {"order-17", ADA}


async def test_a_dump_shows_entities_with_their_mail(hub: Hub):
    await hub.create("order-17")
    for key in "abc":
        await batch(hub, f'"{key}"', entity_id=f"@counter@{key}")
    await hub.store.send([signal("@counter@b")], NOW)

    dump = await hub.dump()

    assert set(dump) == {"order-17", "@counter@a", "@counter@b", "@counter@c"}
    shown = dump["@counter@b"]
    assert (shown.instance.entity, shown.position, shown.rows, shown.has_open_work) == (
        EntityState('"b"'),
        1,
        (),
        False,
    )
    assert ids(shown.mail) == ["signal"]


async def test_entities_survive_the_process(hub: Hub, make_store: Callable[[], Store]):
    lock = Message("lock", ADA, None, EntityLock(NOW, OWNER, (ADA,)), is_stored=False)
    await batch(hub, '{"a": 1}', lock)

    await hub.reopen()

    assert (await row(hub)).entity == EntityState('{"a": 1}', OWNER)


# ---------------------------------------------------------------------- purging


async def test_an_entity_is_purged_with_its_mail_whatever_it_is_doing(hub: Hub):
    await batch(hub, "1")
    await batch(hub, "1", entity_id="@counter@other")
    await hub.store.send([signal(), signal("@counter@other", "other")], NOW)

    assert await hub.store.purge([ADA, "@counter@nobody"], NOW) == {ADA}

    assert (await states(hub), await hub.mail(ADA)) == ({"@counter@other": "1"}, [])
    assert ids(await hub.mail("@counter@other")) == ["other"]


async def test_who_called_a_purged_entity_hears_so_and_requests_for_its_lock_stay(hub: Hub):
    await hub.create("order-17")
    await hub.step("order-17")
    await batch(hub, "1")
    call = Message("call", ADA, None, EntityOperation(NOW, "add", None, OWNER))
    lock = Message("lock", ADA, None, EntityLock(NOW, OWNER, (ADA,)))
    await hub.store.send([call, lock], NOW)

    await hub.store.purge([ADA], NOW)

    assert [each.event for each in await hub.mail(ADA)] == [lock.event]
    (answer,) = await hub.mail("order-17")
    assert isinstance(answer.event, EntityOperationFailed)
    assert (answer.execution_id, answer.event.failure.error_type) == ("some-execution", "EntityPurged")


# ---------------------------------------------------------------------- locks that orchestrations hold


async def test_the_locks_of_an_execution_are_part_of_its_row(hub: Hub):
    await hub.create("order-17")
    await hub.step("order-17", LockEntities(0, (ADA, "@counter@b")))
    held = (HeldLock(0, (ADA, "@counter@b")),)

    assert (await hub.load("order-17")).instance.locks == (await hub.get("order-17")).locks == held
    await hub.raise_event("order-17")
    await hub.step("order-17", ScheduleTask(1, "charge", None))
    assert (await hub.get("order-17")).locks == held
    await hub.reopen()
    assert (await hub.get("order-17")).locks == held
    assert (await hub.dump())["order-17"].instance.locks == held

    await hub.raise_event("order-17")
    await hub.step("order-17", UnlockEntities(2, 0))
    assert (await hub.load("order-17")).instance.locks == ()


async def test_the_locks_of_an_execution_go_with_its_end(hub: Hub):
    await hub.create("order-17")
    await hub.step("order-17", LockEntities(0, (ADA,)))
    await hub.raise_event("order-17")

    await hub.step("order-17", CompleteOrchestration(1, "1"))

    assert (await hub.get("order-17")).locks == ()
    assert [type(each.event) for each in await hub.mail(ADA)] == [EntityLock, EntityUnlock]


async def test_an_instance_that_is_replaced_gives_its_locks_back_in_the_same_transaction(hub: Hub):
    old = await hub.create("order-17")
    await hub.step("order-17", LockEntities(0, (ADA, "@counter@b")))
    new = replace(old, execution_id="next-life", created_by="next-life")

    assert list(await hub.store.create([Start(new, frozenset(RuntimeStatus))])) == [None]

    owner = ParentInstance("order-17", old.execution_id, old.name, 0)
    assert (await hub.mail(ADA))[-1].event == EntityUnlock(new.created_at, owner, (ADA, "@counter@b"))
    assert (await hub.get("order-17")).locks == ()
