"""Group E: sub-orchestrations."""

from __future__ import annotations

from datetime import timedelta

import pytest
from azure.durable_functions import RetryOptions
from catalogue_hub import SHARED, Hub, value
from catalogue_kit import case

from perdure.core.events import ExecutionStarted, SubOrchestrationInstanceCompleted, SubOrchestrationInstanceCreated
from perdure.core.failures import TaskFailedError
from perdure.core.records import InstanceQuery, partition_of
from perdure.core.versions import Versioning
from perdure.engine.settings import Settings
from perdure.errors import InstanceFinishedError


def with_family(hub: Hub) -> None:
    """Registers `parent`, which returns what its child `child-1` of the orchestrator in its input returns, or its
    failure, and some orchestrators to be that child."""

    @hub.orchestrator
    def parent(context):
        try:
            return (yield context.call_sub_orchestrator(context.get_input(), "input", "child-1"))
        except TaskFailedError as error:
            return [error.error_type, error.message]

    @hub.orchestrator
    def strict(context):
        return (yield context.call_sub_orchestrator(context.get_input(), "input", "child-1"))

    @hub.orchestrator
    def echo(context):
        return context.get_input()

    @hub.orchestrator
    def waiter(context):
        return (yield context.wait_for_external_event("go"))

    @hub.orchestrator
    def broken(context):
        raise ValueError("child is broken")


@case("E1", "a child's output is its parent's result")
async def test_a_child_gives_its_output(hub: Hub):
    with_family(hub)

    assert await hub.call("parent", "echo") == "input"


@case("E2", "a child that fails can be caught by its parent, with type and message")
async def test_a_failure_of_a_child_can_be_caught(hub: Hub):
    with_family(hub)

    assert await hub.call("parent", "broken") == ["ValueError", "child is broken"]


@case("E3", "a child's failure that nobody catches is its parent's failure")
async def test_an_uncaught_failure_of_a_child_is_its_parents(hub: Hub):
    with_family(hub)

    ended = await hub.run("strict", "broken")

    assert ended.status == "Failed"
    assert (ended.failure.error_type, ended.failure.message) == ("ValueError", "child is broken")
    assert "child is broken" in value(ended.output)
    assert (await hub.get("child-1")).failure == ended.failure


@case("E4", "a child with an id of its own can be looked up by it")
async def test_a_child_can_be_looked_up(hub: Hub):
    with_family(hub)
    await hub.run("parent", "echo", "parent-1")

    child = await hub.get("child-1")

    assert (child.status, value(child.input), value(child.output)) == ("Completed", "input", "input")
    assert child.parent.instance_id == "parent-1"


@case(
    "E5",
    "ids that the engine chooses differ between siblings and generations, and are the same at every replay",
    regression="rows in no order",
)
async def test_chosen_ids_of_children_are_unique_and_repeatable(hub: Hub):
    @hub.orchestrator
    def parent(context):
        children = [context.call_sub_orchestrator("child", None) for _ in range(3)]
        ids = yield context.task_all(children)
        seen = [*context.get_input(), *ids]
        if len(seen) == 6:
            return seen
        context.continue_as_new(seen)

    @hub.orchestrator
    def child(context):
        yield context.create_timer(timedelta(seconds=1))
        return context.instance_id

    await hub.start("parent", [], "one")
    await hub.settle()
    await hub.restart()
    ids = await hub.result("one")

    assert len(set(ids)) == 6
    created = await hub.of_kind("one", SubOrchestrationInstanceCreated)
    assert [each.instance_id for each in created] == ids[3:]
    assert (await hub.count_rows()) == (7, 0)


@case("E6", "ten children of ten children each")
async def test_children_of_children(hub: Hub):
    @hub.orchestrator
    def tree(context):
        if context.get_input() == 0:
            return 1
        children = [context.call_sub_orchestrator("tree", context.get_input() - 1) for _ in range(10)]
        return sum((yield context.task_all(children)))

    assert await hub.call("tree", 2) == 100


@case("E7", "a child whose id a running instance has fails at once, not to be tried again; that instance goes on")
async def test_a_child_with_a_taken_id_fails(hub: Hub):
    with_family(hub)
    await hub.start("waiter", instance_id="child-1")
    await hub.settle()
    before = await hub.get("child-1")

    error_type, message = await hub.call("parent", "echo")

    assert error_type == "InstanceAlreadyExists"
    assert "child-1" in message
    assert await hub.get("child-1") == before
    await hub.raise_event("child-1", "go", "unharmed")
    assert await hub.result("child-1") == "unharmed"


@case("E8", "a child whose id an instance has that has ended takes its place")
async def test_a_child_takes_the_place_of_what_has_ended(hub: Hub):
    with_family(hub)
    await hub.run("broken", instance_id="child-1")

    assert await hub.call("parent", "echo") == "input"
    assert await hub.status("child-1") == "Completed"


@case("E9", "a child that a client terminates is a failure for its parent, with the reason")
async def test_a_terminated_child_is_a_failure_for_its_parent(hub: Hub):
    with_family(hub)
    parent = await hub.start("parent", "waiter")
    await hub.settle()

    await hub.client.terminate("child-1", "not needed")

    error_type, message = await hub.result(parent)
    assert (error_type, message) == ("OrchestrationTerminated", "not needed")


@case("E10", "a parent that is terminated leaves its child alone, whose result is dropped")
async def test_a_terminated_parent_leaves_its_child_alone(hub: Hub):
    with_family(hub)
    await hub.start("parent", "waiter", "parent-1")
    await hub.settle()
    await hub.client.terminate("parent-1", "enough")
    await hub.settle()

    assert [await hub.status(each) for each in ("parent-1", "child-1")] == ["Terminated", "Running"]

    await hub.raise_event("child-1", "go", "done")
    assert await hub.result("child-1") == "done"
    await hub.settle()
    assert (await hub.get("parent-1")).status == "Terminated"
    assert await hub.mail("parent-1") == ()


@case("E11", "a recursive termination ends all descendants that are waited for; a child that has completed stays so")
async def test_a_recursive_termination_ends_all_descendants(hub: Hub):
    with_family(hub)

    @hub.orchestrator
    def root(context):
        yield context.call_sub_orchestrator("echo", 1, "done")
        yield context.task_all([context.call_sub_orchestrator("middle", each, f"middle-{each}") for each in range(2)])

    @hub.orchestrator
    def middle(context):
        yield context.call_sub_orchestrator("waiter", None, f"leaf-{context.get_input()}")

    await hub.start("root", instance_id="root")
    await hub.settle()
    await hub.client.terminate("root", "all of it", recursive=True)
    await hub.settle()

    for instance_id in ("root", "middle-0", "middle-1", "leaf-0", "leaf-1"):
        ended = await hub.get(instance_id)
        assert (ended.status, value(ended.output)) == ("Terminated", "all of it")
    assert await hub.status("done") == "Completed"


@case("E12", "a child that continues as new three times gives its last output")
async def test_a_child_may_continue_as_new(hub: Hub):
    @hub.orchestrator
    def parent(context):
        return (yield context.call_sub_orchestrator("child", 0))

    @hub.orchestrator
    def child(context):
        yield context.create_timer(timedelta(seconds=1))
        if context.get_input() == 3:
            return "last"
        context.continue_as_new(context.get_input() + 1)

    assert await hub.call("parent") == "last"


@case("E13", "while a child is suspended its parent waits")
async def test_a_parent_waits_for_a_suspended_child(hub: Hub):
    with_family(hub)
    parent = await hub.start("parent", "waiter")
    await hub.settle()
    await hub.client.suspend("child-1")
    await hub.raise_event("child-1", "go", "late")
    await hub.advance(hours=1)

    assert await hub.status(parent) == "Running"

    await hub.client.resume("child-1")
    assert await hub.result(parent) == "late"


@case("E14", "a child that completes while its parent is suspended is seen once that is resumed")
async def test_a_suspended_parent_sees_its_child_later(hub: Hub):
    with_family(hub)
    parent = await hub.start("parent", "waiter")
    await hub.settle()
    await hub.client.suspend(parent)
    await hub.settle()
    await hub.raise_event("child-1", "go", "early")
    await hub.settle()

    assert [await hub.status(each) for each in (parent, "child-1")] == ["Suspended", "Completed"]

    await hub.client.resume(parent)
    assert await hub.result(parent) == "early"


@case("E15", "a child that fails twice and then completes, called with retries: three runs and the result")
async def test_a_child_is_called_again_if_it_fails(hub: Hub):
    failures = [ValueError("first"), ValueError("second")]

    @hub.orchestrator
    def parent(context):
        options = RetryOptions(1000, 3)
        return (yield context.call_sub_orchestrator_with_retry("child", options, "input"))

    @hub.orchestrator
    def child(context):
        yield context.call_activity("may_fail", None)
        return context.get_input()

    @hub.activity
    def may_fail(_):
        if failures:
            raise failures.pop(0)

    instance_id = await hub.start("parent")

    assert await hub.result(instance_id) == "input"
    created = await hub.of_kind(instance_id, SubOrchestrationInstanceCreated)
    assert len({each.instance_id for each in created}) == 3
    assert [await hub.status(each.instance_id) for each in created] == ["Failed", "Failed", "Completed"]


@case("E16", "a child with its parent's id is an error at the call")
async def test_a_child_cannot_have_its_parents_id(hub: Hub):
    @hub.orchestrator
    def selfish(context):
        try:
            yield context.call_sub_orchestrator("selfish", None, context.instance_id)
        except ValueError as error:
            return str(error)

    assert "must be different" in await hub.call("selfish")


@case("E17", "a child with an id that begins with @ is an error at the call")
async def test_a_child_cannot_have_an_entitys_id(hub: Hub):
    @hub.orchestrator
    def parent(context):
        try:
            yield context.call_sub_orchestrator("parent", None, "@counter@a")
        except ValueError as error:
            return str(error)

    assert "@" in await hub.call("parent")
    assert (await hub.count_rows())[0] == 1


@case("E18", "a recursion of twenty levels")
async def test_a_recursion_of_twenty_levels(hub: Hub):
    @hub.orchestrator
    def deep(context):
        if context.get_input() == 0:
            return 0
        return 1 + (yield context.call_sub_orchestrator("deep", context.get_input() - 1))

    assert await hub.call("deep", 20) == 20


@case("E19", "a parent that returns without its child is completed at once; the child goes on by itself")
async def test_a_parent_may_return_before_its_child(hub: Hub):
    with_family(hub)

    @hub.orchestrator
    def hasty(context):
        child = context.call_sub_orchestrator("waiter", None, "child-1")
        yield context.task_any([child, context.create_timer(timedelta(seconds=1))])
        return "not waiting"

    await hub.start("hasty", instance_id="parent-1")

    assert await hub.result("parent-1") == "not waiting"
    assert await hub.status("child-1") == "Running"

    await hub.raise_event("child-1", "go", "by myself")
    assert await hub.result("child-1") == "by myself"
    await hub.settle()
    assert await hub.mail("parent-1") == ()


@case("E20", "a child that is purged leaves the history of its parent whole")
async def test_purging_a_child_leaves_its_parents_history_whole(hub: Hub):
    with_family(hub)
    await hub.run("parent", "echo", "parent-1")
    before = await hub.history("parent-1")

    await hub.client.purge("child-1")

    assert not await hub.exists("child-1")
    assert await hub.history("parent-1") == before
    assert (await hub.get("parent-1")).status == "Completed"


@case(
    "E21",
    "parent and child on two hosts (one host where the store is one's own), of which one dies before or after each of "
    "their commits: the result is right, and the child has run once",
    regression="split brain",
    settings=SHARED,
)
async def test_parent_and_child_survive_the_death_of_their_hosts(hub: Hub):
    @hub.orchestrator
    def parent(context):
        return [
            (yield context.call_sub_orchestrator("child", context.get_input(), f"{context.get_input()}c")),
            (yield context.call_activity("double", 4)),
        ]

    @hub.orchestrator
    def child(context):
        first = yield context.call_activity("double", 1)
        yield context.create_timer(timedelta(seconds=1))
        return first + (yield context.call_activity("double", 2))

    @hub.activity
    def double(number):
        return number * 2

    for number in range(1, 8):  # parent and child commit three and four times
        for after in (False, True):
            instance_id = f"{number}{after}"
            if hub.is_memory:
                instance_id = await id_on_two_hosts(hub, instance_id)
            await hub.up()
            up = sum(each.is_up for each in hub.hosts)
            hub.crash_at("commit", after=after, number=number)
            await hub.start("parent", instance_id, instance_id)
            ended = await hub.outlast(instance_id)

            assert value(ended.output) == [6, 8], (number, after)
            assert hub.troubles == []
            assert sum(each.is_up for each in hub.hosts) == (up - 1 if hub.is_memory else 1)
            assert (await hub.get(f"{instance_id}c")).parent.execution_id == ended.execution_id
            assert len(await hub.of_kind(instance_id, SubOrchestrationInstanceCompleted)) == 1
            assert (await hub.kinds(f"{instance_id}c")).count("ExecutionStarted") == 1


async def id_on_two_hosts(hub: Hub, prefix: str) -> str:
    """An id that belongs to another host than the same one with a `c` behind it."""
    while True:
        held = [each.engine.held_partitions for each in hub.hosts if each.is_up]
        holders = {partition: number for number, each in enumerate(held) for partition in each}
        if len(set(holders.values())) > 1 and len(holders) == hub.store.partitions:
            break
        if sum(map(bool, held)) < 2:
            await hub.add_host()
        await hub.advance(seconds=60)
    for number in range(1000):
        instance_id = f"{prefix}{number}"
        if holders[partition_of(instance_id, 4)] != holders[partition_of(f"{instance_id}c", 4)]:
            return instance_id
    raise AssertionError("no such id")


@case("E22", "a start message that comes twice makes one child")
async def test_a_start_message_that_comes_twice_makes_one_child(hub: Hub):
    with_family(hub)
    parent = await hub.start("parent", "waiter")
    await hub.settle()
    child = await hub.get("child-1")

    again = ExecutionStarted(hub.now, child.execution_id, "waiter", parent=child.parent)
    await hub.inject("child-1", again, child.execution_id)
    await hub.raise_event("child-1", "go", "once")

    assert await hub.result(parent) == "once"
    assert (await hub.kinds("child-1")).count("ExecutionStarted") == 1
    with pytest.raises(InstanceFinishedError):
        await hub.raise_event("child-1", "go", "again")


@case(
    "E23",
    "a child inherits tags; its version is the host's, not its parent's",
    changed="the trace context, which it is to inherit as well, comes with tracing (Q7)",
    settings=Settings(versioning=Versioning(default="2.0")),
)
async def test_a_child_inherits_tags_and_takes_the_hosts_version(hub: Hub):
    @hub.orchestrator
    def parent(context):
        yield context.call_sub_orchestrator("child", None, "inheriting")
        yield context.call_sub_orchestrator("child", None, "explicit", "1.5")
        return context.version

    @hub.orchestrator
    def child(context):
        return context.version

    assert await hub.call("parent", version="1.0", tags={"team": "red"}) == "1.0"

    assert await hub.result("inheriting") == "2.0"
    assert await hub.result("explicit") == "1.5"
    children = [each async for each in hub.client.instances(InstanceQuery(instance_ids=("inheriting", "explicit")))]
    assert [each.tags for each in children] == [{"team": "red"}, {"team": "red"}]
