"""Group M: locks."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from random import Random

from azure.durable_functions import DurableEntity, EntityId, LockingRulesViolationError
from catalogue_hub import SHARED, Hub
from catalogue_kit import case

from perdure.core.events import EntityLock, EntityLockGranted, EntityUnlock, ParentInstance
from perdure.core.failures import EntityOperationFailedError
from perdure.core.records import EntityQuery, StartPolicy, partition_of

A, B, OTHER = EntityId("Account", "a"), EntityId("Account", "b"), EntityId("Account", "other")


def with_accounts(hub: Hub) -> None:
    """Registers the entity `Account` with 100 in it, and `holder`, which holds the locks of A and B until `go`."""

    @hub.entity
    class Account(DurableEntity):
        state: int = 100

        def add(self, amount: int) -> int:
            self.state += amount
            return self.state

        def get(self) -> int:
            return self.state

        def boom(self) -> None:
            raise ValueError("no")

    @hub.orchestrator
    def holder(context):
        with (yield context.lock_entities([A, B])):
            yield context.call_entity(A, "add", 1)
            went = yield context.wait_for_external_event("go")
            yield context.call_entity(A, "add", 1)
        return went

    @hub.orchestrator
    def transfer(context):
        source, target, amount = context.get_input()
        source, target = EntityId("Account", source), EntityId("Account", target)
        with (yield context.lock_entities([source, target])):
            yield context.call_entity(source, "add", -amount)
            yield context.call_entity(target, "add", amount)

    @hub.orchestrator
    def add(context):
        return (yield context.call_entity(EntityId("Account", context.get_input()), "add", 10))


async def locked(hub: Hub) -> list[str]:
    """Ids of all entities that are locked."""
    return [each.instance_id for each in (await hub.client.entities(EntityQuery(locked_only=True))).instances]


async def total(hub: Hub) -> int:
    states = [each.entity.state for each in (await hub.client.entities(EntityQuery())).instances if each.entity]
    return sum(int(state) for state in states if state is not None)


# ---------------------------------------------------------------------- locking


@case("M1", "fifty transfers at once between ten accounts, each under the locks of two: the sum stays")
async def test_transfers_keep_the_sum(hub: Hub):
    with_accounts(hub)
    chance = Random(1)
    keys = [f"{number}" for number in range(10)]
    for key in keys:
        await hub.signal(f"@account@{key}", "add", 0)
        await hub.signal(f"@account@{key}", "add", 900)

    transfers = [[*chance.sample(keys, 2), chance.randint(1, 50)] for _ in range(50)]
    await asyncio.gather(*(hub.call("transfer", each) for each in transfers))
    await hub.settle()

    assert await total(hub) == 10_000
    assert await locked(hub) == []
    for key in keys:
        change = sum((target == key) * amount - (source == key) * amount for source, target, amount in transfers)
        assert await hub.state(f"@account@{key}") == 1000 + change


@case("M2", "two orchestrations lock the same entities in opposite order: neither waits for ever")
async def test_opposite_orders_do_not_block(hub: Hub):
    with_accounts(hub)
    await hub.up()

    both = [["a", "b", 5], ["b", "a", 3]] * 10
    await asyncio.gather(*(hub.call("transfer", each) for each in both))

    assert (await hub.state("@account@a"), await hub.state("@account@b")) == (80, 120)


@case("M3", "an entity that is named twice is locked once")
async def test_an_entity_named_twice(hub: Hub):
    with_accounts(hub)

    @hub.orchestrator
    def work(context):
        with (yield context.lock_entities([A, EntityId("ACCOUNT", "a"), A])) as section:
            yield context.call_entity(A, "add", 1)
            return list(section.entities)

    assert await hub.call("work") == ["@account@a"]
    await hub.settle()
    assert await locked(hub) == []


@case("M4", "to lock nothing is an error")
async def test_to_lock_nothing_is_an_error(hub: Hub):
    @hub.orchestrator
    def work(context):
        yield context.lock_entities([])

    ended = await hub.run("work")

    assert ended.failure is not None
    assert (ended.failure.error_type, ended.failure.message) == (
        "ValueError",
        "lock_entities needs at least one entity",
    )


@case("M5", "calls of others wait while an entity is locked, and then run in their order")
async def test_calls_of_others_wait_for_the_lock(hub: Hub):
    order: list[str] = []

    @hub.entity
    def Account(context):
        order.append(context.get_input())
        context.set_state(order)

    @hub.orchestrator
    def holder(context):
        with (yield context.lock_entities([A])):
            yield context.call_entity(A, "note", "holder")
            yield context.wait_for_external_event("go")
            yield context.call_entity(A, "note", "holder again")

    @hub.orchestrator
    def other(context):
        yield context.call_entity(A, "note", context.instance_id)

    await hub.start("holder", instance_id="holder")
    await hub.settle()
    for name in ("first", "second", "third"):
        await hub.start("other", instance_id=name)
        await hub.settle()
    assert order == ["holder"]

    await hub.raise_event("holder", "go")
    for name in ("first", "second", "third"):
        await hub.wait(name)

    assert order == ["holder", "holder again", "first", "second", "third"]


@case("M6", "signals of others wait while an entity is locked, across a restart, and then run in their order")
async def test_signals_of_others_wait_for_the_lock(hub: Hub):
    order: list[str] = []

    @hub.entity
    def Account(context):
        order.append(context.operation_name)
        context.set_state(order)

    @hub.orchestrator
    def holder(context):
        with (yield context.lock_entities([A])):
            yield context.wait_for_external_event("go")

    await hub.start("holder", instance_id="holder")
    await hub.settle()
    for name in ("first", "second"):
        await hub.signal("@account@a", name)
    await hub.restart()
    await hub.signal("@account@a", "third")
    await hub.settle()
    assert order == []

    await hub.raise_event("holder", "go")
    await hub.wait("holder")
    await hub.settle()

    assert order == ["first", "second", "third"]


# ---------------------------------------------------------------------- rules


def with_breach(hub: Hub, breach) -> None:
    """Registers `work`, which does `breach(context)` under the lock of A, and returns what that was refused with."""
    with_accounts(hub)

    @hub.orchestrator
    def work(context):
        with (yield context.lock_entities([A])):
            try:
                breach(context)
            except LockingRulesViolationError as error:
                text = str(error)
            yield context.call_entity(A, "add", 1)
        yield context.call_entity(OTHER, "add", 1)
        return text


async def breached(hub: Hub, breach) -> str:
    """The sentence with which a breach of the rules is refused; the orchestration goes on, and gives its lock back."""
    with_breach(hub, breach)
    sentence = await hub.call("work")
    await hub.settle()
    assert await locked(hub) == []
    assert (await hub.state("@account@a"), await hub.state("@account@other")) == (101, 101)
    return sentence


@case("M7", "a lock within a lock is refused")
async def test_a_lock_within_a_lock(hub: Hub):
    assert await breached(hub, lambda context: context.lock_entities([B])) == (
        "Must not enter another critical section from within a critical section."
    )


@case("M8", "a sub-orchestration under a lock is refused")
async def test_a_child_under_a_lock(hub: Hub):
    assert await breached(hub, lambda context: context.call_sub_orchestrator("add", "b")) == (
        "While holding locks, cannot call suborchestrators."
    )


@case("M9", "a call of an entity that is not among the locked ones is refused")
async def test_a_call_outside_the_set(hub: Hub):
    assert await breached(hub, lambda context: context.call_entity(B, "get")) == (
        "Must not call an entity from a critical section if it is not one of the locked entities."
    )


@case("M10", "a second call of a locked entity while the first is open is refused")
async def test_two_calls_at_once(hub: Hub):
    with_accounts(hub)

    @hub.orchestrator
    def work(context):
        with (yield context.lock_entities([A, B])):
            first = context.call_entity(A, "add", 1)
            also = context.call_entity(B, "add", 1)
            try:
                context.call_entity(A, "add", 1)
            except LockingRulesViolationError as error:
                text = str(error)
            yield context.task_all([first, also])
            yield context.call_entity(A, "add", 1)
        return text

    assert await hub.call("work") == (
        "Must not call an entity from a critical section while a prior call to the same entity is still pending."
    )
    assert await hub.state("@account@a") == 102


@case("M11", "a signal to a locked entity is refused")
async def test_a_signal_to_a_locked_entity(hub: Hub):
    assert await breached(hub, lambda context: context.signal_entity(A, "add", 1)) == (
        "Must not signal a locked entity from a critical section."
    )


@case("M12", "a signal to an entity that is not locked is sent")
async def test_a_signal_to_another_entity(hub: Hub):
    with_accounts(hub)

    @hub.orchestrator
    def work(context):
        with (yield context.lock_entities([A])):
            context.signal_entity(B, "add", 1)

    await hub.call("work")
    await hub.settle()

    assert await hub.state("@account@b") == 101


@case("M13", "activities, timers and events under a lock")
async def test_activities_timers_and_events_under_a_lock(hub: Hub):
    with_accounts(hub)

    @hub.orchestrator
    def work(context):
        with (yield context.lock_entities([A])):
            found = [(yield context.call_activity("double", 4))]
            yield context.create_timer(timedelta(seconds=10))
            found.append((yield context.wait_for_external_event("go")))
            return [*found, (yield context.call_entity(A, "add", 1))]

    @hub.activity
    def double(number):
        return 2 * number

    await hub.start("work", instance_id="one")
    await hub.advance(seconds=20)
    await hub.raise_event("one", "go", "went")

    assert await hub.result("one") == [8, "went", 101]


# ---------------------------------------------------------------------- giving back


@case("M14", "an exception leaves the section: the locks are given back", regression="locks that are not released")
async def test_an_exception_gives_the_locks_back(hub: Hub):
    with_accounts(hub)

    @hub.orchestrator
    def work(context):
        try:
            with (yield context.lock_entities([A, B])):
                raise KeyError
        except KeyError:
            yield context.wait_for_external_event("go")

    @hub.orchestrator
    async def awaiting(context):
        try:
            async with context.lock_entities([A, B]):
                raise KeyError
        except KeyError:
            await context.wait_for_external_event("go")

    for name in ("work", "awaiting"):
        await hub.start(name, instance_id=name)
        await hub.call("add", "a")
        assert await locked(hub) == []
        assert await hub.status(name) == "Running"


@case("M15", "an operation fails under a lock: the lock stays, and the entity can be called again")
async def test_a_failed_operation_keeps_the_lock(hub: Hub):
    with_accounts(hub)

    @hub.orchestrator
    def work(context):
        with (yield context.lock_entities([A, B])):
            try:
                yield context.call_entity(A, "boom")
            except EntityOperationFailedError:
                yield context.wait_for_external_event("go")
            return (yield context.call_entity(A, "add", 1))

    await hub.start("work", instance_id="one")
    await hub.settle()
    assert await locked(hub) == ["@account@a", "@account@b"]
    await hub.raise_event("one", "go")

    assert await hub.result("one") == 101
    await hub.settle()
    assert await locked(hub) == []


@case(
    "M16",
    "an orchestration ends while it holds locks, or waits for them: they are given back",
    regression="locks that are not released",
)
async def test_the_end_gives_the_locks_back(hub: Hub):
    with_accounts(hub)

    @hub.orchestrator
    def returns(context):
        yield context.lock_entities([A, B])
        return "done"

    @hub.orchestrator
    def fails(context):
        yield context.lock_entities([A, B])
        raise ValueError

    @hub.orchestrator
    def gives_up(context):
        lock = context.lock_entities([A, B, OTHER])
        yield context.task_any([lock, context.create_timer(timedelta(seconds=1))])
        return "gave up"

    for name in ("returns", "fails"):
        await hub.run(name)
        await hub.settle()
        assert await locked(hub) == []

    await hub.start("holder", instance_id="holder")  # has A and B, so that the next one waits for A
    await hub.settle()
    assert await hub.call("gives_up") == "gave up"
    await hub.settle()
    assert await locked(hub) == ["@account@a", "@account@b"]
    await hub.raise_event("holder", "go")
    await hub.wait("holder")
    await hub.settle()
    assert await locked(hub) == []
    assert await hub.count_rows() == (5, 0)


@case(
    "M17",
    "an orchestration is terminated while it holds locks, or waits for them: they are given back",
    regression="locks that are not released",
)
async def test_termination_gives_the_locks_back(hub: Hub):
    with_accounts(hub)

    @hub.orchestrator
    def waits(context):
        with (yield context.lock_entities([EntityId("Account", "0"), A, B])):
            yield context.call_entity(A, "add", 1)

    await hub.start("holder", instance_id="holder")
    await hub.settle()
    await hub.start("waits", instance_id="waits")
    await hub.settle()
    assert await locked(hub) == ["@account@0", "@account@a", "@account@b"]

    await hub.client.terminate("waits")
    await hub.wait("waits")
    await hub.settle()
    assert await locked(hub) == ["@account@a", "@account@b"]
    await hub.client.terminate("holder")
    await hub.wait("holder")
    await hub.settle()

    assert await locked(hub) == []
    assert await hub.call("add", "a") == 111


@case(
    "M18",
    "the holder gives way to another start with its id, or is purged: its locks are given back",
    regression="locks that are not released",
)
async def test_a_replaced_holder_gives_the_locks_back(hub: Hub):
    with_accounts(hub)

    @hub.orchestrator
    def waiter(context):
        yield context.wait_for_external_event("go")

    await hub.start("holder", instance_id="one")
    await hub.settle()
    await hub.start("waiter", instance_id="one", policy=StartPolicy.REPLACE)
    await hub.settle()
    assert (await locked(hub), await hub.status("one")) == ([], "Running")

    await hub.start("holder", instance_id="two")
    await hub.settle()
    await hub.start("holder", instance_id="two", policy=StartPolicy.REPLACE)
    await hub.settle()
    assert await hub.lock_of("@account@a") == "two"
    await hub.client.terminate("two")
    await hub.wait("two")
    await hub.client.purge("two")
    await hub.settle()

    assert await locked(hub) == []


@case(
    "M19",
    "the holder continues as new: its locks are given back, and the next generation can have them",
    regression="locks that are not released",
)
async def test_continue_as_new_gives_the_locks_back(hub: Hub):
    with_accounts(hub)

    @hub.orchestrator
    def work(context):
        generation = context.get_input() or 0
        with (yield context.lock_entities([A, B])):
            yield context.call_entity(A, "add", 1)
            if generation < 3:
                context.continue_as_new(generation + 1)
                return None
        return (yield context.call_entity(A, "get"))

    assert await hub.call("work") == 104
    await hub.settle()
    assert await locked(hub) == []


# ---------------------------------------------------------------------- crashes and hosts


@case("M20", "the host dies while an orchestration holds locks: they survive, and are given back later")
async def test_locks_survive_a_crash(hub: Hub):
    with_accounts(hub)
    await hub.start("holder", instance_id="holder")
    await hub.settle()
    await hub.start("add", "a", "other")
    await hub.settle()

    await hub.restart()
    await hub.settle()
    assert (await locked(hub), await hub.status("other")) == (["@account@a", "@account@b"], "Running")
    await hub.raise_event("holder", "go", "went")

    assert await hub.result("holder") == "went"
    assert await hub.result("other") == 112
    assert await locked(hub) == []


@case(
    "M21",
    "the host dies before or after each commit of a transfer: nobody gets a lock twice, and none stays behind",
    regression="sent but not committed",
)
async def test_a_crash_around_each_commit_of_a_transfer(hub: Hub):
    with_accounts(hub)
    await hub.up()
    moved = crashes = 0
    for number in range(1, 13):
        for after in (False, True):
            hub.crash_at("commit", after=after, number=number)
            instance_id = await hub.start("transfer", ["a", "b", 1])
            await hub.outlast(instance_id)
            await hub.settle()
            crashes += not hub.troubles
            hub.troubles.clear()
            if not hub.host.is_up:
                await hub.restart()
            await hub.settle()
            moved += 1

            assert await locked(hub) == []
            assert (await hub.state("@account@a"), await hub.state("@account@b")) == (100 - moved, 100 + moved)
            assert len(await hub.of_kind(instance_id, EntityLockGranted)) == 1
    assert crashes > 6


@case(
    "M22",
    "locks across three hosts (one host where the store is one's own), of which one dies with locks in use",
    settings=SHARED,
)
async def test_locks_across_hosts(hub: Hub):
    with_accounts(hub)
    keys = [f"{number}" for number in range(8)]
    assert len({partition_of(f"@account@{key}", 4) for key in keys}) > 2
    await hub.up()
    if hub.is_memory:
        await hub.add_host()
        await hub.add_host()
        await hub.advance(seconds=30)
    chance = Random(2)
    started = [await hub.start("transfer", [*chance.sample(keys, 2), 1]) for _ in range(hub.many(100))]
    hub.hosts[0].crash()
    if not hub.is_memory:
        await hub.restart()

    for instance_id in started:
        assert (await hub.outlast(instance_id)).status == "Completed"
    await hub.advance(seconds=1)

    assert await locked(hub) == []
    states = [await hub.state(f"@account@{key}") for key in keys]
    assert sum(each for each in states if each is not None) == 100 * sum(each is not None for each in states)


# ---------------------------------------------------------------------- accidents


async def orphan(hub: Hub, key: str, holder: str = "nobody", execution_id: str = "gone") -> None:
    """Lock an account for an execution that is not there."""
    owner = ParentInstance(holder, execution_id, "holder", 0)
    await hub.inject(f"@account@{key}", EntityLock(hub.now, owner, (f"@account@{key}",)))


@case("M23", "locks that nobody could give back any more are found and given back, and counted")
async def test_orphaned_locks_are_found(hub: Hub):
    with_accounts(hub)
    await hub.start("holder", instance_id="holder")
    await hub.start("add", "other", "ended")
    await hub.settle()
    await orphan(hub, "missing")
    await orphan(hub, "of one that ended", "ended", (await hub.get("ended")).execution_id)
    await orphan(hub, "of an earlier execution", "holder")
    assert len(await locked(hub)) == 5
    waiting = await hub.start("add", "missing")
    await hub.settle()
    assert not (await hub.get(waiting)).status.is_terminal

    assert await hub.client.clean_entities() == (0, 3)
    await hub.settle()

    assert await locked(hub) == ["@account@a", "@account@b"]
    assert await hub.result(waiting) == 110
    assert await hub.client.clean_entities() == (0, 0)


@case(
    "M24",
    "cleaning removes nothing, page by page, that has a state, a lock or mail",
    changed="Entities without a state remove themselves, so cleaning finds none that is empty.",
)
async def test_cleaning_keeps_what_is_in_use(hub: Hub):
    with_accounts(hub)
    for number in range(120):
        await hub.signal(f"@account@{number:03}", "add", number)
    await hub.signal("@account@000", "delete")
    await hub.settle()
    await hub.start("holder", instance_id="holder")
    await hub.settle()
    await hub.signal("@account@b", "add", 1)
    for number in range(110):
        await orphan(hub, f"orphan-{number:03}")
    assert len(await locked(hub)) == 100, "which is a page"

    assert await hub.client.clean_entities() == (0, 110)
    await hub.settle()

    assert await locked(hub) == ["@account@a", "@account@b"]
    assert len((await hub.client.entities(EntityQuery(limit=500))).instances) == 119 + 2
    assert [type(each.event).__name__ for each in await hub.mail("@account@b")] == ["EntityOperation"]


@case("M25", "a call before the locks are there is refused")
async def test_a_call_before_the_locks_are_there(hub: Hub):
    with_accounts(hub)

    @hub.orchestrator
    def work(context):
        lock = context.lock_entities([A])
        try:
            context.call_entity(A, "add", 1)
        except LockingRulesViolationError as error:
            text = str(error)
        with (yield lock):
            yield context.call_entity(A, "add", 1)
        return text

    assert await hub.call("work") == ("Must await the completion of the lock request prior to calling any entity.")
    await hub.settle()
    assert await locked(hub) == []


async def overtaken(hub: Hub) -> None:
    """The first of the entities is busy when the request for its lock comes, and when that is withdrawn."""
    gate = asyncio.Event()

    @hub.entity
    async def AA(context):
        await gate.wait()

    @hub.orchestrator
    def gives_up(context):
        busy = EntityId("AA", "busy")
        lock = context.lock_entities([busy, A])
        yield context.task_any([lock, context.create_timer(timedelta(seconds=1))])
        lock.section.release()
        yield context.wait_for_external_event("never")

    await hub.signal("@aa@busy", "wait")
    await hub.start("gives_up", instance_id="gives up")
    await hub.advance(seconds=5)
    gate.set()
    await hub.settle()
    assert (await locked(hub), await hub.status("gives up")) == ([], "Running")
    assert await hub.of_kind("gives up", EntityLockGranted) == []


@case("M26", "to give locks back twice does nothing more; before they are there it withdraws the request")
async def test_giving_back_twice(hub: Hub):
    with_accounts(hub)

    @hub.orchestrator
    def work(context):
        section = yield context.lock_entities([A, B])
        section.release()
        section.release()
        with (yield context.lock_entities([A])) as second:
            second.release()
        return (yield context.call_entity(A, "add", 1))

    @hub.orchestrator
    def withdraws(context):
        lock = context.lock_entities([EntityId("Account", "0"), A, B])
        yield context.task_any([lock, context.create_timer(timedelta(seconds=1))])
        lock.section.release()
        first = yield context.call_entity(EntityId("Account", "0"), "add", 1)
        yield context.wait_for_external_event("go")
        return [first, (yield context.call_entity(A, "add", 1))]

    await overtaken(hub)
    assert await hub.call("work", instance_id="one") == 101
    assert (await hub.kinds("one")).count("EntityUnlockSent") == 2
    await hub.settle()
    assert await locked(hub) == []

    await hub.start("holder", instance_id="holder")
    await hub.settle()
    await hub.start("withdraws", instance_id="two")
    await hub.advance(seconds=5)
    assert await locked(hub) == ["@account@a", "@account@b"]
    await hub.raise_event("holder", "go")
    await hub.wait("holder")
    await hub.settle()
    assert await locked(hub) == []
    await hub.raise_event("two", "go")
    assert await hub.result("two") == [101, 104]
    await hub.inject("@account@a", EntityUnlock(hub.now, ParentInstance("one", "gone", "work", 0)))
    assert await hub.count_rows() == (6, 0)
