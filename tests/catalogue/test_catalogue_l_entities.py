"""Group L: entities."""

from __future__ import annotations

import asyncio
import itertools
from datetime import datetime, timedelta

import pytest
from azure.durable_functions import DurableEntity, EntityId
from catalogue_hub import SHARED, Hub, value
from catalogue_kit import case

from perdure.core.events import EntityOperationCompleted
from perdure.core.failures import EntityOperationFailedError
from perdure.core.instance_ids import check_entity_id
from perdure.core.records import EntityQuery, InstanceQuery, partition_of
from perdure.engine.settings import Settings
from perdure.errors import UnknownFunctionError

C = EntityId("Counter", "c")
LOG = EntityId("Log", "l")
ONE_HOST = "only a store that hosts share can be tested with two"


def with_counter(hub: Hub) -> None:
    """Registers the entity `Counter` and `ask`, which calls an operation: (name, key, operation, input)."""

    @hub.entity
    def Counter(context):
        count = context.get_state(lambda: 0)
        match context.operation_name:
            case "add":
                context.set_state(count + context.get_input())
                return count + context.get_input()
            case "get":
                return count
            case "reset":
                context.set_state(0)
            case "delete":
                context.destruct_on_exit()
            case "boom":
                context.set_state(-1)
                raise ValueError("the counter is broken")
            case other:
                raise LookupError(other)
        return None

    @hub.orchestrator
    def ask(context):
        name, key, operation, given = context.get_input()
        return (yield context.call_entity(EntityId(name, key), operation, given))


def with_log(hub: Hub) -> None:
    """Registers the entity `Log`, which keeps what it is sent, in order."""

    @hub.entity
    def Log(context):
        lines = context.get_state(list)
        if context.operation_name == "append":
            lines.append(context.get_input())
            context.set_state(lines)
        return lines


async def ask(hub: Hub, operation: str, given: object = None, entity: EntityId = C) -> object:
    """The result of an operation."""
    return await hub.call("ask", [entity.name, entity.key, operation, given])


async def failure(hub: Hub, operation: str, given: object = None, entity: EntityId = C) -> str:
    """How the failure of an operation looks to a caller that does not catch it."""
    ended = await hub.run("ask", [entity.name, entity.key, operation, given])
    assert (ended.status, ended.failure is None) == ("Failed", False)
    assert ended.failure is not None
    return f"{ended.failure.error_type}: {ended.failure.message}"


# ---------------------------------------------------------------------- operations and state


@case("L1", "a signal creates an entity; its state can be read once it has run")
async def test_a_signal_creates_an_entity(hub: Hub):
    with_counter(hub)

    assert await hub.state("@counter@c") is None
    await hub.signal("@counter@c", "add", 5)
    await hub.settle()

    assert await hub.state("@counter@c") == 5
    row = await hub.entity_row("@counter@c")
    assert row is not None
    assert (row.name, row.created_at) == ("counter", hub.now.replace(microsecond=row.created_at.microsecond))


@case("L2", "a call returns what the operation returns")
async def test_a_call_returns_the_operations_result(hub: Hub):
    with_counter(hub)

    @hub.orchestrator
    def work(context):
        first = yield context.call_entity(C, "add", 5)
        second = yield context.call_entity(C, "add", -2)
        return [first, second, (yield context.call_entity(C, "get")), (yield context.call_entity(C, "reset"))]

    assert await hub.call("work", instance_id="one") == [5, 3, 3, None]
    assert (await hub.kinds("one")).count("EntityOperationCompleted") == 4


@case("L3", "names of entities ignore case, keys do not")
async def test_names_ignore_case_and_keys_do_not(hub: Hub):
    with_counter(hub)

    for entity in (EntityId("Counter", "c"), EntityId("COUNTER", "c"), EntityId("counter", "C")):
        await ask(hub, "add", 1, entity)

    assert (await hub.state("@counter@c"), await hub.state("@counter@C")) == (2, 1)


@case("L4", "a key may hold @, blanks and any script; the empty key is one, too")
async def test_a_key_may_hold_anything(hub: Hub):
    with_counter(hub)
    keys = ["a@b", "@", "two words", "größe", "鍵", ""]

    @hub.orchestrator
    def work(context):
        name, key = context.get_input()
        return (yield context.call_entity(EntityId.get_entity_id(f"@{name}@{key}"), "add", 1))

    for number, key in enumerate(keys):
        check_entity_id(f"@counter@{key}")
        await hub.signal(f"@counter@{key}", "add", number)
        if key:
            assert await hub.call("work", ["counter", key]) == number + 1

    assert [await hub.state(f"@counter@{key}") for key in keys] == [1, 2, 3, 4, 5, 5]


@case("L5", "a thousand signals of one orchestration and then a call: it sees them all, in order")
async def test_signals_and_calls_of_one_sender_keep_their_order(hub: Hub):
    with_log(hub)
    count = hub.many(1000)

    @hub.orchestrator
    def work(context):
        for number in range(count):
            context.signal_entity(LOG, "append", number)
        return (yield context.call_entity(LOG, "read"))

    assert await hub.call("work") == list(range(count))


@case("L6", "a hundred orchestrations call one entity ten times each: no addition is lost")
async def test_no_addition_is_lost(hub: Hub):
    with_counter(hub)
    count = hub.many(100)

    @hub.orchestrator
    def work(context):
        for _ in range(10):
            yield context.call_entity(C, "add", 1)

    await hub.up()
    await asyncio.gather(*(hub.call("work") for _ in range(count)))

    assert await hub.state("@counter@c") == 10 * count


# ---------------------------------------------------------------------- failures


@case("L7", "an operation raises: its caller gets type and text as an exception, and the state is what it was")
async def test_an_operation_that_raises_changes_nothing(hub: Hub):
    with_counter(hub)

    @hub.orchestrator
    def work(context):
        yield context.call_entity(C, "add", 5)
        try:
            yield context.call_entity(C, "boom")
        except EntityOperationFailedError as error:
            found = [error.error_type, str(error), error.entity_id, error.operation, error.is_caused_by(ValueError)]
        return [*found, (yield context.call_entity(C, "get"))]

    assert await hub.call("work") == ["ValueError", "the counter is broken", "@counter@c", "boom", True, 5]
    assert await failure(hub, "boom") == "ValueError: the counter is broken"
    assert await hub.state("@counter@c") == 5


@case("L8", "an operation raises after it signalled others and started an orchestration: none of that happens")
async def test_what_an_operation_sent_before_it_raised_is_not_sent(hub: Hub):
    with_log(hub)

    @hub.entity
    def Sender(context):
        context.signal_entity(LOG, "append", context.operation_name)
        context.start_new_orchestration("other", None, context.operation_name)
        if context.operation_name == "bad":
            raise ValueError

    @hub.orchestrator
    def other(context):
        return context.instance_id

    await hub.signal("@sender@s", "bad")
    await hub.signal("@sender@s", "good")
    await hub.settle()

    assert await hub.state("@log@l") == ["good"]
    assert [each.instance_id for each in (await hub.client.list(InstanceQuery())).instances] == ["good"]


@case("L9", "a failing operation amid a batch: what stands before and behind it has its effect")
async def test_the_neighbours_of_a_failing_operation_have_their_effect(hub: Hub):
    with_counter(hub)
    async with hub.together() as client:
        for operation, given in (("add", "1"), ("boom", None), ("add", "2"), ("boom", None), ("add", "4")):
            await client.signal_entity("@counter@c", operation, given)

    assert await hub.state("@counter@c") == 7
    row = await hub.store.load_instances(["@counter@c"])
    assert row[0].position == 1, "they were one batch"


@case("L10", "a state that cannot be written fails the operation that set it, and only that")
async def test_a_state_that_cannot_be_written_fails_its_operation(hub: Hub):
    @hub.entity
    def Counter(context):
        if context.operation_name == "bad":
            context.set_state(object())
        else:
            context.set_state(context.get_state(lambda: 0) + 1)

    async with hub.together() as client:
        for operation in ("good", "bad", "good"):
            await client.signal_entity("@counter@c", operation)

    assert await hub.state("@counter@c") == 2


@case("L11", "the failure of a signal's operation is told to nobody, and the entity lives on")
async def test_an_entity_outlives_failing_signals(hub: Hub):
    with_counter(hub)

    for operation, given in (("add", 1), ("boom", None), ("no such thing", None), ("add", "text"), ("add", 1)):
        await hub.signal("@counter@c", operation, given)
    await hub.settle()

    assert await hub.state("@counter@c") == 2
    assert await hub.count_rows() == (1, 0)


# ---------------------------------------------------------------------- coming and going


@case("L12", "an entity is deleted: it does not exist, and its next operation begins anew")
async def test_a_deleted_entity_begins_anew(hub: Hub):
    with_counter(hub)
    await ask(hub, "add", 5)

    await ask(hub, "delete")
    assert (await hub.client.entity("@counter@c"), await hub.entity_row("@counter@c")) == (None, None)

    assert await ask(hub, "add", 1) == 1
    assert await ask(hub, "delete") is None
    assert await ask(hub, "get") == 0
    assert await hub.entity_row("@counter@c") is None


@case("L13", "deleted and set again in one batch: it exists with the new state")
async def test_deleted_and_set_again_in_one_batch(hub: Hub):
    with_counter(hub)
    await hub.signal("@counter@c", "add", 5)
    await hub.settle()

    async with hub.together() as client:
        for operation, given in (("add", "1"), ("delete", None), ("add", "7")):
            await client.signal_entity("@counter@c", operation, given)

    assert await hub.state("@counter@c") == 7


@case("L14", "an operation that does not touch the state of a new entity leaves none behind")
async def test_an_operation_without_a_state_leaves_nothing(hub: Hub):
    with_counter(hub)

    assert await ask(hub, "get") == 0
    await hub.signal("@counter@c", "get")
    await hub.signal("@counter@c", "boom")
    await hub.settle()

    assert await hub.entity_row("@counter@c") is None
    assert [each async for each in hub.store.dump() if each.instance.entity is not None] == []


# ---------------------------------------------------------------------- time, and other targets


@case("L15", "a delayed signal comes when it is due and not before; an entity that signals itself ticks five times")
async def test_delayed_signals(hub: Hub):
    ticks: list[datetime] = []

    @hub.entity
    def Clock(context):
        left = context.get_input()
        ticks.append(hub.now)
        context.set_state(left)
        if left:
            context.signal_entity(context.entity_id, "tick", left - 1, scheduled_time=timedelta(seconds=2))

    @hub.orchestrator
    def work(context):
        context.signal_entity(EntityId("Clock", "k"), "tick", 5, context.current_utc_datetime + timedelta(seconds=2))

    await hub.run("work")
    began = hub.now
    await hub.advance(seconds=1.9)
    assert ticks == []
    await hub.restart()
    await hub.advance(seconds=20)

    assert [round((each - began).total_seconds()) for each in ticks] == [2, 4, 6, 8, 10, 12]
    assert await hub.state("@clock@k") == 0


@case("L16", "an entity signals another: in order")
async def test_an_entity_signals_another(hub: Hub):
    with_log(hub)

    @hub.entity
    def Sender(context):
        for number in range(3):
            context.signal_entity(LOG, "append", f"{context.operation_name}{number}")

    for operation in "abc":
        await hub.signal("@sender@s", operation)
    await hub.settle()

    assert await hub.state("@log@l") == [f"{each}{number}" for each in "abc" for number in range(3)]


@case("L17", "an entity signals itself: that runs after what it has been asked already")
async def test_an_entity_signals_itself(hub: Hub):
    @hub.entity
    def Log(context):
        context.set_state([*context.get_state(list), context.operation_name])
        if context.operation_name == "first":
            context.signal_entity(context.entity_id, "own")

    async with hub.together() as client:
        await client.signal_entity("@log@l", "first")
        await client.signal_entity("@log@l", "second")

    assert await hub.state("@log@l") == ["first", "second", "own"]


@case("L18", "an entity starts orchestrations: each runs once, and one whose id is in use changes nothing")
async def test_an_entity_starts_orchestrations(hub: Hub):
    with_counter(hub)

    @hub.entity
    def Starter(context):
        context.start_new_orchestration("other", "named", "one")
        context.start_new_orchestration("other", "unnamed")
        context.set_state(context.get_state(lambda: 0) + 1)

    @hub.orchestrator
    def other(context):
        context.signal_entity(C, "add", 1)
        yield context.wait_for_external_event("go")
        return context.get_input()

    await hub.signal("@starter@s", "go")
    await hub.signal("@starter@s", "go")
    await hub.settle()

    assert await hub.state("@counter@c") == 3
    await hub.raise_event("one", "go")
    assert await hub.result("one") == "named"
    everyone = (await hub.client.list(InstanceQuery())).instances
    assert sorted(value(each.input) for each in everyone) == ["named", "unnamed", "unnamed"]


@case("L19", "calls of entities and activities in one task_all")
async def test_calls_of_entities_among_activities(hub: Hub):
    with_counter(hub)

    @hub.orchestrator
    def work(context):
        calls = [context.call_entity(C, "add", 1), context.call_activity("double", 4), context.call_entity(C, "add", 1)]
        return (yield context.task_all(calls))

    @hub.activity
    def double(number):
        return 2 * number

    assert await hub.call("work") == [1, 8, 2]


@case("L20", "a client has no way to call an entity and wait for it, and a name that no entity has is refused")
async def test_a_client_cannot_call(hub: Hub):
    with_counter(hub)
    await hub.up()

    assert not hasattr(hub.client, "call_entity")
    assert not hasattr(hub.sdk, "call_entity")
    with pytest.raises(UnknownFunctionError):
        await hub.signal("@nobody@c", "add")
    assert await hub.count_rows() == (0, 0)


# ---------------------------------------------------------------------- crashes and hosts


@case(
    "L21",
    "the host dies between an operation and its commit, or behind it: one effect, and one answer",
    regression="sent but not committed",
)
async def test_a_crash_around_the_commit_of_an_operation(hub: Hub):
    with_counter(hub)

    @hub.orchestrator
    def work(context):
        return (yield context.call_entity(C, "add", 1))

    await hub.up()
    for number in range(1, 5):
        for after in (False, True):
            expected = (await hub.state("@counter@c") or 0) + 1
            instance_id = await hub.start("work")
            hub.crash_at("commit", after=after, number=number)
            await hub.outlast(instance_id)
            await hub.settle()
            hub.troubles.clear()
            if not hub.host.is_up:
                await hub.restart()

            assert await hub.result(instance_id) == await hub.state("@counter@c") == expected
            assert (await hub.kinds(instance_id)).count("EntityOperationCompleted") == 1


@case(
    "L22",
    "two hosts, and the entity's partition moves during a thousand signals: all arrive once, in order",
    only="memory",
    why=ONE_HOST,
    settings=SHARED,
)
async def test_signals_keep_their_order_when_partitions_move(hub: Hub):
    with_log(hub)
    count = hub.many(1000)

    @hub.orchestrator
    def work(context):
        first, last = context.get_input()
        for number in range(first, min(first + 10, last)):
            context.signal_entity(LOG, "append", number)
        yield context.create_timer(timedelta(milliseconds=200))
        if first + 10 < last:
            context.continue_as_new([first + 10, last])

    await hub.start("work", [0, count], "one")
    await hub.advance(seconds=1)
    await hub.add_host()
    await hub.advance(seconds=count / 200)
    hub.hosts[0].crash()
    await hub.advance(seconds=count / 200)
    await hub.add_host()
    await hub.wait("one")
    await hub.settle()

    assert await hub.state("@log@l") == list(range(count))


@case("L23", "the app has no such entity: an error for the caller, not silence")
async def test_an_entity_that_the_app_does_not_have(hub: Hub):
    with_counter(hub)

    text = await failure(hub, "add", 1, EntityId("nobody", "c"))

    assert text.startswith("EntityNotFound: ")
    assert "nobody" in text
    assert await hub.entity_row("@nobody@c") is None


@case(
    "L24",
    "a hundred operations wait and a batch takes ten: all run, in order",
    settings=Settings(
        lease_ttl=timedelta(days=10),
        lease_interval=timedelta(days=1),
        poll_interval=timedelta(hours=1),
        timer_horizon=timedelta(hours=2),
        watch_interval=timedelta(hours=1),
        entity_batch_max=10,
    ),
)
async def test_batches_are_cut(hub: Hub):
    seen: list[object] = []

    @hub.entity
    def Log(context):
        if context.operation_name == "delete":
            context.destruct_on_exit()
            seen.append("delete")
        else:
            seen.append(context.get_input())
            context.set_state(seen[-1])

    async with hub.together() as client:
        for number in range(100):
            name = "delete" if number == 49 else "append"  # the last of the fifth batch
            await client.signal_entity("@log@l", name, str(number))

    assert seen == [*range(49), "delete", *range(50, 100)]
    (row,) = await hub.store.load_instances(["@log@l"])
    assert (row.position, await hub.state("@log@l")) == (5, 99)


@case("L25", "a client reads the state of the last commit, whatever is queued")
async def test_what_is_read_is_what_is_committed(hub: Hub):
    gate = asyncio.Event()

    @hub.entity
    async def Counter(context):
        context.set_state(context.get_state(lambda: 0) + 1)
        if context.operation_name == "slow":
            await gate.wait()

    await hub.signal("@counter@c", "add")
    await hub.settle()
    await hub.signal("@counter@c", "slow")
    await hub.signal("@counter@c", "add")
    await hub.settle()

    assert await hub.state("@counter@c") == 1
    gate.set()
    await hub.settle()
    assert await hub.state("@counter@c") == 3


# ---------------------------------------------------------------------- listing


@case("L26", "entities are listed by name, in pages, with their states; those that are gone are not")
async def test_entities_are_listed(hub: Hub):
    with_counter(hub)
    with_log(hub)
    for number in range(12):
        await hub.signal(f"@counter@{number:02}", "add", number)
    await hub.signal("@log@l", "append", 1)
    await hub.signal("@counter@05", "delete")
    await hub.settle()

    found, pages, after = [], 0, None
    while True:
        page = await hub.client.entities(EntityQuery(prefix="@counter@", limit=4, after=after))
        found += [(each.instance_id, value(each.entity.state)) for each in page.instances if each.entity]
        pages, after = pages + 1, page.after
        if after is None:
            break

    assert found == [(f"@counter@{number:02}", number) for number in range(12) if number != 5]
    assert pages == 3
    everything = (await hub.client.entities(EntityQuery())).instances
    assert [each.instance_id for each in everything][-1] == "@log@l"
    since = EntityQuery(updated_from=hub.now + timedelta(seconds=1))
    assert (await hub.client.entities(since)).instances == ()


@case("L27", "entities are not listed among orchestrations, nor orchestrations among entities")
async def test_entities_and_orchestrations_are_listed_apart(hub: Hub):
    with_counter(hub)
    await ask(hub, "add", 1)
    await hub.call("ask", ["counter", "c", "get", None], "one")

    entities = (await hub.client.entities(EntityQuery())).instances
    orchestrations = (await hub.client.list(InstanceQuery())).instances

    assert [each.instance_id for each in entities] == ["@counter@c"]
    assert len(orchestrations) == 2
    assert sum((await hub.client.count(InstanceQuery())).values()) == 2
    assert await hub.client.get("@counter@c") is None
    assert await hub.client.entity("one") is None


# ---------------------------------------------------------------------- size and time


@case("L28", "a state of 5 MB is kept and given out")
async def test_a_large_state(hub: Hub):
    with_log(hub)
    large = "ä" * (5 * 1024 * 1024 // 2)

    @hub.orchestrator
    def work(context):
        yield context.call_entity(LOG, "append", context.get_input())
        return len((yield context.call_entity(LOG, "read"))[0])

    assert await hub.call("work", large) == len(large)
    assert await hub.state("@log@l") == [large]


@case(
    "L29",
    "an operation outlasts its host's hold on the partition: whoever holds it then, another host or the same, runs it "
    "again, and it counts once",
    settings=SHARED,
)
async def test_an_operation_that_outlasts_the_lease_counts_once(hub: Hub):
    gates: list[asyncio.Event] = []
    runs: list[datetime] = []

    @hub.entity
    async def Log(context):
        gates.append(asyncio.Event())
        number = len(gates)
        await gates[-1].wait()
        context.set_state([*context.get_state(list), f"{context.operation_name} of run {number}"])

    @hub.entity
    async def Counter(context):
        runs.append(hub.now)
        await asyncio.sleep(50)
        context.set_state(context.get_state(lambda: 0) + 1)

    @hub.orchestrator
    def work(context):
        return (yield context.call_entity(C, "add"))

    @hub.orchestrator
    def echo(context):
        return context.get_input()

    await taken_again(hub, gates)
    if hub.is_memory:
        await taken_by_another(hub, runs)


async def taken_again(hub: Hub, gates: list[asyncio.Event]) -> None:
    """The host loses a partition because a commit of it fails, and takes it again."""
    await hub.signal("@log@l", "one")
    await hub.settle()
    hub.fail("commit", after=False)
    await hub.start("echo", instance_id=neighbour(hub, "@log@l"))
    await hub.advance(seconds=2)
    await hub.signal("@log@l", "two")
    await hub.settle()
    assert len(gates) == 2

    gates[0].set()
    await hub.settle()
    assert await hub.state("@log@l") is None
    gates[1].set()
    await hub.settle()
    gates[2].set()
    await hub.settle()
    assert await hub.state("@log@l") == ["one of run 2", "two of run 3"]


async def taken_by_another(hub: Hub, runs: list[datetime]) -> None:
    """The host does not come to renew its leases, and another one takes them."""
    instance_id = await hub.start("work")
    await hub.advance(seconds=2)
    first = hub.host
    await hub.add_host()
    first.pause()
    await hub.advance(seconds=45)
    first.go_on()

    await hub.result(instance_id)
    assert len(runs) == 2
    assert await hub.state("@counter@c") == 1
    assert len(await hub.of_kind(instance_id, EntityOperationCompleted)) == 1


def neighbour(hub: Hub, instance_id: str) -> str:
    """Id of an instance in the same partition."""
    partitions = hub.store.partitions
    names = (f"neighbour-{number}" for number in itertools.count())
    return next(each for each in names if partition_of(each, partitions) == partition_of(instance_id, partitions))


# ---------------------------------------------------------------------- the caller


@case("L30", "the caller is terminated while its call is open: the operation may run, nobody hears its answer")
async def test_the_answer_to_a_terminated_caller_is_dropped(hub: Hub):
    gate = asyncio.Event()

    @hub.entity
    async def Counter(context):
        await gate.wait()
        context.set_state(1)

    @hub.orchestrator
    def work(context):
        yield context.call_entity(C, "add")

    await hub.start("work", instance_id="one")
    await hub.settle()
    await hub.client.terminate("one")
    await hub.wait("one")
    gate.set()
    await hub.settle()

    assert (await hub.state("@counter@c"), await hub.status("one")) == (1, "Terminated")
    assert await hub.count_rows() == (2, 0)


@case("L31", "the caller has continued as new while the answer was on its way: the new generation does not get it")
async def test_the_answer_to_an_earlier_generation_is_dropped(hub: Hub):
    gate = asyncio.Event()

    @hub.entity
    async def Counter(context):
        if context.operation_name == "slow":
            await gate.wait()
        return context.operation_name

    @hub.orchestrator
    def work(context):
        if context.get_input() is None:
            slow = context.call_entity(C, "slow")
            yield context.task_any([slow, context.create_timer(timedelta(seconds=1))])
            context.continue_as_new("second")
            return None
        return (yield context.call_entity(C, "second"))

    await hub.start("work", instance_id="one")
    await hub.advance(seconds=5)
    assert await hub.status("one") == "Running"
    gate.set()

    assert await hub.result("one") == "second"
    assert len(await hub.of_kind("one", EntityOperationCompleted)) == 1


@case("L32", "the caller is suspended: it sees the answer once it is resumed")
async def test_a_suspended_caller_sees_the_answer_later(hub: Hub):
    gate = asyncio.Event()

    @hub.entity
    async def Counter(context):
        await gate.wait()
        return "answer"

    @hub.orchestrator
    def work(context):
        return (yield context.call_entity(C, "get"))

    await hub.start("work", instance_id="one")
    await hub.settle()
    await hub.client.suspend("one")
    gate.set()
    await hub.settle()
    assert await hub.status("one") == "Suspended"

    await hub.client.resume("one")
    assert await hub.result("one") == "answer"


# ---------------------------------------------------------------------- classes, HTTP, upgrades


@case("L33", "of a class, an operation that it does not have is an error, and one with an underscore too")
async def test_operations_that_a_class_does_not_have(hub: Hub):
    with_counter(hub)

    @hub.entity
    class Account(DurableEntity):
        state: int = 100

        def add(self, amount: int) -> int:
            self.state += amount
            return self.state

        def _secret(self) -> None:
            self.state = -1

    account = EntityId("Account", "a")

    assert await ask(hub, "add", 5, account) == 105
    for operation in ("steal", "_secret", "__init__", "state", "context", "entity_id"):
        assert await failure(hub, operation, None, account) == (
            f"AttributeError: entity 'Account' has no operation '{operation}'"
        )
    assert await hub.state("@account@a") == 105
    assert await ask(hub, "delete", None, account) is None
    assert await hub.entity_row("@account@a") is None


@case("L34", "over HTTP: GET of none is 404, POST of a signal 202, GET of a state 200")
async def test_entities_over_http(hub: Hub):
    with_counter(hub)

    assert (await hub.http("GET", "entities/counter/c")).status_code == 404
    assert (await hub.http("POST", "entities/counter/c", params={"op": "add"}, json=5)).status_code == 202
    await hub.settle()
    state = await hub.http("GET", "entities/counter/c")
    assert (state.status_code, state.json()) == (200, 5)


@case("L35", "new code cannot read the old state: operations fail, and the state stays as it is")
async def test_a_state_that_new_code_cannot_read_stays(hub: Hub):
    with_counter(hub)

    @hub.entity
    class Account(DurableEntity):
        state: str = "old"

        def grow(self) -> str:
            self.state += "!"
            return self.state

    account = EntityId("Account", "a")
    await ask(hub, "grow", None, account)

    @hub.entity
    class Account(DurableEntity):  # noqa: F811 - the upgrade
        state: int = 0

        def grow(self) -> int:
            self.state += 1
            return self.state

    await hub.restart()
    await failure(hub, "grow", None, account)
    await hub.signal("@account@a", "grow")
    await hub.settle()

    assert await hub.state("@account@a") == "old!"
