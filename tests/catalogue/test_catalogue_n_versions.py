"""Group N: versions and nondeterminism."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import azure.durable_functions as df
import pytest
from azure.durable_functions.mistakes import DecorationError
from catalogue_hub import ALONE, Hub, value
from catalogue_kit import case

from perdure.core.failures import TaskFailedError
from perdure.core.records import Instance
from perdure.core.versions import VersionFailure, Versioning, VersionMatch
from perdure.engine.settings import Settings


def with_activities(hub: Hub) -> None:
    """Registers the activities `first`, `second` and `other`, and the orchestrator `child`."""

    @hub.activity
    def first(given):
        return given

    @hub.activity
    def second(given):
        return given

    @hub.activity
    def other(given):
        return given

    @hub.orchestrator
    def child(context):
        return "child"


async def changed_under_way(hub: Hub, old: Callable, new: Callable) -> Instance:
    """Run `old` up to its wait for `go`, then go on with `new` in its place."""
    with_activities(hub)
    old.__name__ = new.__name__ = "work"
    hub.orchestrator(old)
    if hub.hosts:
        await hub.restart()
    await hub.start("work", instance_id="one")
    await hub.settle()
    hub.orchestrator(new)
    await hub.restart()
    await hub.raise_event("one", "go")
    return await hub.wait("one")


def is_nondeterminism(ended: Instance, *texts: str) -> bool:
    """It failed as nondeterministic, and says so with these texts."""
    assert ended.status == "Failed", ended.output
    assert ended.failure.error_type == "NonDeterministicOrchestrationException"
    assert ended.failure.is_non_retriable
    for each in (*texts, "Non-Deterministic workflow detected"):
        assert each in ended.failure.message, ended.failure.message
    return True


def usual(context):
    yield context.call_activity("first", 1)
    yield context.wait_for_external_event("go")


@case("N1", "an activity has another name in the new code: failed as nondeterministic, naming both")
async def test_another_activity_is_found_out(hub: Hub):
    def new(context):
        yield context.call_activity("other", 1)
        yield context.wait_for_external_event("go")

    assert is_nondeterminism(await changed_under_way(hub, usual, new), "'first'", "'other'")


@case("N2", "an activity has become a timer: failed as nondeterministic")
async def test_another_kind_of_task_is_found_out(hub: Hub):
    def new(context):
        yield context.create_timer(timedelta(seconds=1))
        yield context.wait_for_external_event("go")

    assert is_nondeterminism(await changed_under_way(hub, usual, new), "TaskScheduled('first')", "CreateTimer")


@case("N3", "an activity is gone: failed as nondeterministic")
async def test_a_missing_activity_is_found_out(hub: Hub):
    def new(context):
        yield context.wait_for_external_event("go")

    assert is_nondeterminism(await changed_under_way(hub, usual, new), "'first'")


@case("N4", "an activity has been put before the others: failed as nondeterministic")
async def test_an_inserted_activity_is_found_out(hub: Hub):
    def new(context):
        yield context.call_activity("other", 1)
        yield context.call_activity("first", 1)
        yield context.wait_for_external_event("go")

    assert is_nondeterminism(await changed_under_way(hub, usual, new), "'first'", "'other'")


@case("N5", "an activity has been added at the end: fine")
async def test_an_activity_may_be_added_at_the_end(hub: Hub):
    def new(context):
        yield from usual(context)
        return (yield context.call_activity("second", 2))

    assert value((await changed_under_way(hub, usual, new)).output) == 2


@case("N6", "only an input has changed: fine")
async def test_an_input_may_change(hub: Hub):
    def new(context):
        result = yield context.call_activity("first", "another input")
        yield context.wait_for_external_event("go")
        return result

    assert value((await changed_under_way(hub, usual, new)).output) == 1


@case("N7", "a name has changed in its case only: fine")
async def test_the_case_of_a_name_may_change(hub: Hub):
    def new(context):
        result = yield context.call_activity("FIRST", 1)
        yield context.wait_for_external_event("go")
        return result

    assert value((await changed_under_way(hub, usual, new)).output) == 1


@case("N8", "a child, or the target or name of an event, is another one: failed as nondeterministic")
async def test_another_child_or_event_is_found_out(hub: Hub):
    def calls_child(context):
        yield context.call_sub_orchestrator("child")
        yield context.wait_for_external_event("go")

    def calls_other(context):
        yield context.call_sub_orchestrator("work")
        yield context.wait_for_external_event("go")

    assert is_nondeterminism(await changed_under_way(hub, calls_child, calls_other), "'child'", "'work'")

    def sends(target: str, name: str) -> Callable:
        def work(context):
            context.send_event(target, name)
            yield context.wait_for_external_event("go")

        return work

    for new in (sends("elsewhere", "item"), sends("nobody", "thing")):
        await hub.client.purge("one")
        assert is_nondeterminism(await changed_under_way(hub, sends("nobody", "item"), new), "'item'")


@case(
    "N9",
    "a branch on the wall clock is found out when every episode replays",
    only=" replay",
    why="a live session never replays",
)
async def test_a_branch_on_the_clock_is_found_out(hub: Hub):
    with_activities(hub)

    @hub.orchestrator
    def moody(context):
        yield context.call_activity("first" if hub.age < timedelta(seconds=1) else "other", 1)
        yield context.create_timer(timedelta(seconds=5))
        yield context.call_activity("second", 2)

    assert is_nondeterminism(await hub.run("moody"), "'first'", "'other'")


@case("N10", "to yield what is not a task fails at once and says what to do")
async def test_yielding_no_task_fails_at_once(hub: Hub):
    @hub.orchestrator
    def work(context):
        yield [1, 2, 3]

    ended = await hub.run("work")

    assert ended.status == "Failed"
    assert "task_all" in ended.failure.message
    assert "DF203" in ended.failure.message


@case(
    "N11", "`async def` with `await` works as an orchestrator; with `yield` it is refused when it is registered (DF201)"
)
async def test_async_orchestrators_work_and_async_generators_do_not(hub: Hub):
    with_activities(hub)

    @hub.orchestrator
    async def fine(context):
        results = await context.task_all([context.call_activity("first", each) for each in (1, 2)])
        winner = await context.task_any([context.call_activity("second", 3), context.create_timer(timedelta(days=1))])
        try:
            await context.call_activity("unknown", None)
        except TaskFailedError as error:
            return [results, winner.result, error.error_type]

    assert await hub.call("fine") == [[1, 2], 3, "ActivityNotFound"]

    with pytest.raises(DecorationError, match="DF201"):

        @df.DFApp().orchestration_trigger(context_name="context")
        async def mixed(context):
            yield context.call_activity("first", 1)


@case("N12", "new ids are the same at a replay, differ from call to call, and from generation to generation")
async def test_new_ids_are_repeatable_and_unique(hub: Hub):
    @hub.orchestrator
    def work(context):
        ids = [*context.get_input(), context.new_uuid(), str(context.new_guid())]
        yield context.create_timer(timedelta(seconds=1))
        ids += [context.new_uuid(), str(context.new_guid())]
        if len(ids) == 8:
            return ids
        context.continue_as_new(ids)

    await hub.start("work", [], "one")
    await hub.settle()
    await hub.restart()
    ids = await hub.result("one")

    assert len(set(ids)) == 8
    assert all(str(UUID(each)) == each for each in ids)


def versioned(default: str | None, **options: object) -> Settings:
    """The settings of a host of that version."""
    return Settings(
        lease_ttl=ALONE.lease_ttl, lease_interval=ALONE.lease_interval, poll_interval=ALONE.poll_interval,
        timer_horizon=ALONE.timer_horizon, watch_interval=ALONE.watch_interval,
        versioning=Versioning(default, **options),
    )  # fmt: skip


def with_version(hub: Hub) -> None:
    """Registers `version`, which returns its version, and `parent`, which returns its own and its child's."""

    @hub.orchestrator
    def version(context):
        return context.version

    @hub.orchestrator
    def parent(context):
        return [context.version, (yield context.call_sub_orchestrator("version"))]


@case(
    "N13",
    "an instance gets the host's version, unless its start names one; the code can read it",
    settings=versioned("2.0"),
)
async def test_an_instance_gets_a_version(hub: Hub):
    with_version(hub)

    assert await hub.call("version") == "2.0"
    assert await hub.call("version", version="1.5") == "1.5"
    assert (await hub.get(await hub.start("version"))).version == "2.0"


@case(
    "N14",
    "an instance of another version waits for a host that fits, or fails, as the host's settings say",
    changed="it waits until a host of its version holds its partition: instances do not move between hosts one by one",
    settings=versioned("2.0", match=VersionMatch.STRICT),
)
async def test_an_instance_of_another_version_waits_or_fails(hub: Hub):
    with_version(hub)

    await hub.start("version", instance_id="one", version="1.0")
    await hub.advance(hours=3)
    assert await hub.status("one") == "Pending"
    assert await hub.kinds("one") == []

    hub.settings = versioned("1.0", match=VersionMatch.STRICT)
    await hub.restart()
    assert await hub.result("one") == "1.0"

    hub.settings = versioned("2.0", match=VersionMatch.STRICT, failure=VersionFailure.FAIL)
    await hub.restart()
    ended = await hub.run("version", version="1.0")
    assert (ended.status, ended.failure.error_type) == ("Failed", "VersionMismatch")
    assert "'1.0'" in ended.failure.message


@case("N15", "a host of 1.10 runs 1.9 and what has no version, but not 2.0", settings=versioned("1.10"))
async def test_a_host_runs_older_versions(hub: Hub):
    with_version(hub)

    assert await hub.call("version", version="1.9") == "1.9"
    assert await hub.call("version", version="") == ""
    await hub.start("version", instance_id="newer", version="2.0")
    await hub.advance(hours=3)
    assert await hub.status("newer") == "Pending"

    hub.settings = versioned("2.0")
    await hub.restart()
    assert await hub.result("newer") == "2.0"


@case("N16", "a child gets the host's version, and a restarted instance that of the old one", settings=versioned("2.0"))
async def test_the_versions_of_children_and_restarts(hub: Hub):
    with_version(hub)
    await hub.run("parent", instance_id="one", version="1.0")

    assert await hub.result("one") == ["1.0", "2.0"]
    again = await hub.client.restart("one")
    assert await hub.result(again) == ["1.0", "2.0"]


@case("N17", "more decisions than an execution may make fail it, with the setting that allows more")
async def test_too_many_decisions_fail(hub: Hub):
    hub.limits["actions_max"] = 5
    with_activities(hub)

    @hub.orchestrator
    def work(context):
        for number in range(context.get_input()):
            yield context.call_activity("first", number)

    assert (await hub.run("work", 4)).status == "Completed"
    ended = await hub.run("work", 6)

    assert ended.status == "Failed"
    assert "maxOrchestrationActions" in ended.failure.message


@case("N18", "what is logged only while not replaying is logged once")
async def test_what_is_not_replayed_is_logged_once(hub: Hub):
    with_activities(hub)
    logged: list[str] = []

    class Note(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.append(record.getMessage())

    logger = logging.getLogger("catalogue.n18")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(Note())

    @hub.orchestrator
    def work(context):
        safe = context.create_replay_safe_logger(logger)
        for number in range(5):
            if not context.is_replaying:
                logged.append(f"step {number}")
            safe.info("logged %s", number)
            yield context.call_activity("first", number)

    await hub.run("work")

    assert logged == [each for number in range(5) for each in (f"step {number}", f"logged {number}")]
