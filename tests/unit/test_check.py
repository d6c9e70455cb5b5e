"""The checker finds every breach that stored data can show, and nothing in a hub that is merely busy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from perdure.core.actions import (
    CancelTimer,
    CompleteOrchestration,
    ContinueAsNew,
    CreateSubOrchestration,
    CreateTimer,
    OrchestratorAction,
    ScheduleTask,
)
from perdure.core.answers import farewell
from perdure.core.events import (
    EventRaised,
    ExecutionRewound,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
    HistoryEvent,
    OrchestratorStarted,
    ParentInstance,
    TaskCompleted,
    TaskScheduled,
    TimerFired,
)
from perdure.core.failures import FailureDetails
from perdure.core.records import (
    Checkpoint,
    HistoryRow,
    Instance,
    InstanceDump,
    InstancePage,
    InstanceQuery,
    Message,
    RuntimeStatus,
    StoredInstance,
)
from perdure.core.state import RuntimeState
from perdure.engine.check import INVARIANTS, CheckReport, check_hub

NOW = datetime(2031, 5, 4, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Life:
    """An instance, and what a store would keep of it."""

    def __init__(self, instance_id: str, *, parent: ParentInstance | None = None, has_open_work: bool = True) -> None:
        execution_id = f"execution-of-{instance_id}"
        instance = Instance(
            instance_id, execution_id, "order", RuntimeStatus.PENDING, NOW, NOW, execution_id, '"secret"', parent=parent
        )
        self.state = RuntimeState(StoredInstance(instance, 0))
        self.has_open_work = has_open_work
        self.rows: list[HistoryRow] = []
        self.mail: list[Message] = []
        self.now = NOW

    def episode(self, *actions: OrchestratorAction, mail: Sequence[Message] = (), epoch: int = 1) -> Checkpoint:
        self.now += SECOND
        before = self.state.instance.execution_id
        episode = self.state.accept(mail, self.now)
        checkpoint = self.state.apply(episode, actions, '"secret"')
        row = (checkpoint.position, before, epoch, checkpoint.consumed, '"secret"', checkpoint.events, True)
        self.rows = [] if not checkpoint.position_after else [*self.rows, HistoryRow(*row)]
        to_itself = [each for each in checkpoint.messages if each.instance_id == self.state.instance.instance_id]
        self.mail = [each for each in (*self.mail, *to_itself) if each.message_id not in checkpoint.consumed]
        self.has_open_work = checkpoint.has_open_work
        return checkpoint

    def event(self, name: str = "go") -> Message:
        instance_id = self.state.instance.instance_id
        return Message(f"{name}-to-{instance_id}", instance_id, None, EventRaised(NOW, name))

    def answer(self, task_id: int, event: HistoryEvent | None = None) -> Message:
        row = self.state.instance
        event = event or TaskCompleted(self.now, task_id, "1")
        return Message(f"answer/{task_id}", row.instance_id, row.execution_id, event, is_stored=False)

    def dump(self) -> InstanceDump:
        row, position = self.state.instance, self.state.position
        return InstanceDump(row, position, self.has_open_work, tuple(self.rows), tuple(self.mail))


class Dumps:
    """A hub that consists of snapshots; each walk sees the next list of them, the last one again and again."""

    def __init__(self, *walks: Sequence[InstanceDump]) -> None:
        self.walks = list(walks)
        self.current: Sequence[InstanceDump] = ()

    async def dump(self) -> AsyncIterator[InstanceDump]:
        self.current = self.walks[0]
        self.walks = self.walks[1:] or self.walks
        for each in self.current:
            yield each

    async def query(self, query: InstanceQuery) -> InstancePage:
        wanted = query.instance_ids or ()
        return InstancePage(tuple(each.instance for each in self.current if each.instance.instance_id in wanted), None)


def check(*walks: Sequence[InstanceDump]) -> CheckReport:
    store: Any = Dumps(*walks)
    return asyncio.run(check_hub(store))


def found(*walks: Sequence[InstanceDump]) -> list[tuple[str, str]]:
    return [(each.instance_id, each.invariant) for each in check(*walks).findings]


def working() -> Life:
    """Two checkpoints: an activity called, answered, another called; a timer set."""
    life = Life("order-17")
    life.episode(ScheduleTask(0, "charge", '"secret"'), CreateTimer(1, NOW + 60 * SECOND), mail=[life.event("first")])
    life.episode(ScheduleTask(2, "ship", None), mail=[life.answer(0), life.event("second")])
    return life


def ended() -> Life:
    life = working()
    life.episode(CompleteOrchestration(3, '"secret"'), mail=[life.answer(2)])
    return life


# ---------------------------------------------------------------------- what is lawful


def test_a_hub_without_instances_is_in_order():
    assert check([]) == CheckReport(0, 0, ())


def test_instances_in_every_state_are_in_order():
    waiting, timer, renewed = Life("waiting"), Life("timer"), Life("renewed")
    waiting.episode()
    timer.episode(CreateTimer(0, NOW + 60 * SECOND))
    renewed.episode(ScheduleTask(0, "charge", None))
    renewed.episode(ContinueAsNew(1, "1", (EventRaised(NOW, "unread"),)), mail=[renewed.answer(0)])
    failed = Life("failed")
    failed.episode(CompleteOrchestration(0, failure=FailureDetails("ValueError", "bang")))

    report = check([each.dump() for each in (Life("new"), waiting, timer, renewed, failed, working(), ended())])

    assert report.findings == ()
    assert report.instances == 7
    assert report.events == 3 + 4 + 4 + (6 + 5) + (6 + 5 + 4)


def test_mail_that_waits_is_in_order_whatever_it_is():
    life = ended()
    life.mail = [life.event("late"), replace(life.event("old"), execution_id="an execution that is over")]

    assert found([life.dump()]) == []


def test_a_timer_cancelled_once_more_after_a_reload_is_in_order():
    life = Life("order-17")
    life.episode(CreateTimer(0, NOW + 60 * SECOND))
    life.episode(CancelTimer(0), mail=[life.event("a")])
    life.state = RuntimeState(StoredInstance(life.state.instance, 2, tuple(e for row in life.rows for e in row.events)))

    life.episode(CompleteOrchestration(1), mail=[life.event("b")])

    assert found([life.dump()]) == []
    assert sum("execution-of-order-17/0" in row.consumed for row in life.rows) == 2


# ---------------------------------------------------------------------- breaches in one instance

Tamper = Callable[[InstanceDump], InstanceDump]


def row(number: int, **fields: Any) -> Tamper:
    """Changes one history row."""
    return lambda dump: replace(
        dump, rows=tuple(replace(each, **fields) if each.position == number else each for each in dump.rows)
    )


def events(number: int, change: Callable[[list[HistoryEvent]], None]) -> Tamper:
    """Changes the events of one history row."""

    def tamper(dump: InstanceDump) -> InstanceDump:
        changed = list(dump.rows[number].events)
        change(changed)
        return row(number, events=tuple(changed))(dump)

    return tamper


def instance(**fields: Any) -> Tamper:
    """Changes the row."""
    return lambda dump: replace(dump, instance=replace(dump.instance, **fields))


def dump(**fields: Any) -> Tamper:
    return lambda dump: replace(dump, **fields)


def without_row(number: int) -> Tamper:
    return lambda dump: replace(dump, rows=tuple(each for each in dump.rows if each.position != number))


LATE = OrchestratorStarted(NOW - 60 * SECOND)
AGAIN = TaskCompleted(NOW, 0, "2")
UNKNOWN = TaskCompleted(NOW, 7, "2")
EARLY = TimerFired(NOW + 60 * SECOND, 1, NOW + 60 * SECOND)
TWIN = TaskScheduled(NOW, 2, "ship")

BREACHES: dict[str, tuple[Callable[[], Life], Tamper, str, str]] = {
    "a row of another execution": (working, row(1, execution_id="other"), "H1", "checkpoint 1 is of execution other"),
    "a row lost at the end": (working, without_row(1), "H2", "counts 2 checkpoints, but those stored are 1 (0)"),
    "a row lost at the beginning": (working, without_row(0), "H2", "those stored are 1 (1)"),
    "a row too many": (working, dump(position=1), "H2", "counts 1 checkpoints, but those stored are 2 (0, 1)"),
    "a damaged row": (working, row(1, is_intact=False, events=()), "H2", "checkpoint 1 is damaged"),
    "an event lost": (working, events(0, lambda some: some.pop(0)), "H2", "ExecutionStarted while unborn"),
    "an episode without an end": (working, events(1, lambda some: some.pop()), "H2", "does not end its episode"),
    "a row without events": (working, events(0, lambda some: some.clear()), "H2", "stops while unborn"),
    "time that goes back": (working, events(1, lambda some: some.__setitem__(0, LATE)), "H2", "time goes back"),
    "an event after the end": (
        ended,
        events(2, lambda some: some.append(LATE)),
        "H3",
        "OrchestratorStarted while ended",
    ),
    "an answer given twice": (
        working,
        events(1, lambda some: some.insert(1, AGAIN)),
        "H4",
        "task 0, which is not open",
    ),
    "an answer to nothing": (
        working,
        events(1, lambda some: some.insert(1, UNKNOWN)),
        "H4",
        "task 7, which is not open",
    ),
    "an answer of the wrong kind": (
        working,
        events(1, lambda some: some.insert(1, TaskCompleted(NOW, 1))),
        "H4",
        "task 1",
    ),
    "a number used twice": (working, events(1, lambda some: some.insert(-1, TWIN)), "H6", "event id 2"),
    "a timer that fired early": (working, events(1, lambda some: some.insert(1, EARLY)), "T1", "fired before"),
    "a status ahead of history": (working, instance(status=RuntimeStatus.COMPLETED), "S1", "status"),
    "a status behind history": (
        ended,
        instance(status=RuntimeStatus.RUNNING),
        "S1",
        "'Running', but history says 'Comp",
    ),
    "an output nobody returned": (ended, instance(output="2"), "S1", "output"),
    "an output before the end": (working, instance(output="2"), "S1", "output"),
    "a failure nobody raised": (ended, instance(failure=FailureDetails("E", "x")), "S1", "failure"),
    "an end at another time": (ended, instance(completed_at=NOW), "S1", "completed_at"),
    "a custom status nobody set": (working, instance(custom_status="2"), "S1", "custom_status"),
    "another input": (working, instance(input="2"), "S1", "input"),
    "another name": (working, instance(name="invoice"), "S1", "'invoice', but history says 'order'"),
    "another time of change": (working, instance(updated_at=NOW), "S1", "updated_at"),
    "an end without history": (lambda: Life("order-17"), instance(status=RuntimeStatus.FAILED), "S1", "no history"),
    "an epoch that goes back": (working, row(0, epoch=2), "F1", "epoch 1, after one under 2"),
    "open work that nobody would find": (working, dump(has_open_work=False), "L3", "waits for activities"),
    "a start that nobody would find": (
        lambda: Life("order-17"),
        dump(has_open_work=False),
        "L3",
        "nothing will start it",
    ),
    "an end that is not over": (ended, dump(has_open_work=True), "L3", "has ended, but is marked"),
}


@pytest.mark.parametrize("what", BREACHES)
def test_a_breach_in_one_instance_is_found(what: str):
    make, tamper, invariant, words = BREACHES[what]
    life = make()
    assert found([life.dump()]) == []

    findings = check([tamper(life.dump())]).findings

    assert any(each.invariant == invariant and words in each.sentence for each in findings), findings
    assert {each.instance_id for each in findings} == {"order-17"}
    assert {each.invariant for each in findings} <= INVARIANTS.keys()


def test_a_row_that_claims_open_activities_and_has_none_is_found():
    life = Life("order-17")
    life.episode()

    assert found([replace(life.dump(), has_open_work=True)]) == [("order-17", "L3")]


def test_mail_that_was_consumed_and_is_still_there_is_found():
    life = working()
    life.mail.append(life.event("first"))

    (finding,) = check([life.dump()]).findings

    assert (finding.invariant, "first-to-order-17 was consumed by checkpoint 0" in finding.sentence) == ("M1", True)


def test_mail_that_was_consumed_twice_is_found():
    life = working()
    life.episode(mail=[life.event("first")])

    (finding,) = check([life.dump()]).findings

    assert (finding.invariant, "consumed again by checkpoint 2" in finding.sentence) == ("M1", True)


def test_mail_in_the_wrong_mailbox_is_found():
    life = working()
    life.mail.append(Life("order-18").event())

    assert found([life.dump()]) == [("order-17", "M3")]


def test_findings_repeat_no_payload():
    tampered = [
        instance(**{field: "2"})(ended().dump()) for field in ("input", "output", "custom_status", "version", "name")
    ]

    assert not any("secret" in each.sentence for each in check(tampered).findings)


def test_one_damaged_instance_does_not_hide_the_others():
    broken = replace(row(0, is_intact=False, events=())(working().dump()), has_open_work=True)
    other = Life("order-18", has_open_work=False)

    assert found([broken, other.dump()]) == [("order-17", "H2"), ("order-18", "L3")]


# ---------------------------------------------------------------------- parents and children


def family() -> tuple[Life, Life, Message]:
    """A parent that waits for its child, the child, and the child's start message."""
    parent = Life("parent")
    checkpoint = parent.episode(CreateSubOrchestration(0, "ship", None, "child", None))
    child = Life("child", has_open_work=False)
    child.state = RuntimeState(StoredInstance(checkpoint.children[0], 0))
    (start,) = checkpoint.messages
    child.mail = [start]
    return parent, child, start


def test_a_parent_and_its_child_are_in_order_at_every_moment():
    parent, child, start = family()
    assert found([parent.dump(), child.dump()]) == []

    child.episode(ScheduleTask(0, "pack", None), mail=[start])
    assert found([parent.dump(), child.dump()]) == []

    (answer,) = child.episode(CompleteOrchestration(1, "1"), mail=[child.answer(0)]).messages
    parent.mail.append(answer)
    assert found([parent.dump(), child.dump()]) == []

    parent.episode(mail=[answer])
    assert found([parent.dump(), child.dump()]) == []


def test_a_child_that_ended_without_answering_is_found():
    parent, child, start = family()
    child.episode(CompleteOrchestration(0, "1"), mail=[start])

    (finding,) = check([parent.dump(), child.dump()]).findings

    assert (finding.instance_id, finding.invariant) == ("parent", "P2")
    assert "its child 'child', which has ended" in finding.sentence


def test_a_child_that_is_not_there_is_found():
    parent, _, _ = family()

    (finding,) = check([parent.dump()]).findings

    assert (finding.instance_id, finding.invariant) == ("parent", "P1")
    assert "its child 'child', which is not there" in finding.sentence


def test_a_child_whose_id_was_taken_is_in_order_while_its_refusal_is_on_its_way():
    parent, _, start = family()
    other = Life("child")
    other.episode()
    other.mail = [start]
    assert found([parent.dump(), other.dump()]) == []

    (refusal,) = other.state.accept([start], NOW).replies
    other.mail, parent.mail = [], [refusal]
    assert found([parent.dump(), other.dump()]) == []

    parent.mail = []
    assert found([parent.dump(), other.dump()]) == [("parent", "P1")]


def test_a_child_whose_start_was_lost_is_found():
    parent, child, _ = family()
    child.mail = []

    assert found([parent.dump(), child.dump()]) == [("child", "L3")]


def test_a_child_that_its_parent_does_not_know_is_found():
    parent = Life("parent")
    parent.episode()
    child = Life("child", parent=ParentInstance("parent", "execution-of-parent", "order", 3))

    (finding,) = check([parent.dump(), child.dump()]).findings

    assert (finding.instance_id, finding.invariant) == ("child", "P1")
    assert "its parent 'parent' has no task 3" in finding.sentence


@pytest.mark.parametrize("gone", ["the parent", "the execution"])
def test_a_child_of_a_parent_that_is_gone_is_in_order(gone: str):
    parent, child, _ = family()
    parent.episode(ContinueAsNew(1, None, ()), mail=[parent.event()])

    assert found([child.dump()] if gone == "the parent" else [parent.dump(), child.dump()]) == []


def test_nothing_is_said_about_the_children_of_a_parent_that_cannot_be_read():
    parent, child, _ = family()
    broken = row(0, is_intact=False, events=())(parent.dump())

    assert found([broken, child.dump()]) == [("parent", "H2")]


def test_a_parent_that_has_ended_waits_for_no_child():
    parent, child, start = family()
    parent.episode(CompleteOrchestration(1), mail=[parent.event()])
    child.episode(CompleteOrchestration(0), mail=[start])

    assert found([parent.dump(), child.dump()]) == []


# ---------------------------------------------------------------------- steered, rewound, purged


def steered(event: HistoryEvent, name: str = "steer") -> Message:
    return Message(f"{name}-{type(event).__name__}", "order-17", None, event)


def test_a_suspended_instance_is_in_order_if_its_row_says_so():
    life = working()
    life.episode(mail=[steered(ExecutionSuspended(NOW))])
    life.episode(mail=[life.answer(2), life.event("withheld")])
    assert life.state.instance.status is RuntimeStatus.SUSPENDED

    assert found([life.dump()]) == []
    (finding,) = check([instance(status=RuntimeStatus.RUNNING)(life.dump())]).findings

    assert (finding.invariant, "'Running', but history says 'Suspended'" in finding.sentence) == ("S1", True)


def test_a_generation_that_begins_suspended_is_in_order():
    life = working()
    life.episode(ContinueAsNew(3, "1", ()), mail=[life.answer(2), steered(ExecutionSuspended(NOW))])

    assert (life.state.instance.status, [type(each.event) for each in life.mail]) == (
        RuntimeStatus.SUSPENDED,
        [ExecutionSuspended],
    )
    assert found([life.dump()]) == []


def scheduled() -> Life:
    """An instance that is to start in a minute, and its start message."""
    life = Life("order-17", has_open_work=False)
    row = replace(life.state.instance, start_at=NOW + 60 * SECOND)
    life.state = RuntimeState(StoredInstance(row, 0))
    start = ExecutionStarted(NOW, row.execution_id, row.name)
    life.mail = [Message("start", "order-17", row.execution_id, start, deliver_at=row.start_at)]
    return life


def test_an_instance_that_waits_for_its_time_is_in_order():
    assert found([scheduled().dump()]) == []


def test_an_instance_that_began_at_its_time_is_in_order():
    life = scheduled()
    life.now = NOW + 60 * SECOND
    life.episode(ScheduleTask(0, "charge", None), mail=life.mail)

    assert found([life.dump()]) == []


def test_a_scheduled_instance_whose_start_was_lost_is_found():
    life = scheduled()
    life.mail = []

    assert found([life.dump()]) == [("order-17", "L3")]


def test_an_instance_that_began_before_its_time_is_found():
    life = scheduled()
    life.now = NOW + 60 * SECOND
    life.episode(ScheduleTask(0, "charge", None), mail=life.mail)
    early = NOW + SECOND

    def set_back(some: list[HistoryEvent]) -> None:
        some[0] = OrchestratorStarted(early)

    tampered = instance(updated_at=early)(events(0, set_back)(life.dump()))

    (finding,) = check([tampered]).findings
    assert (finding.invariant, "it began at" in finding.sentence) == ("T1", True)


def test_an_instance_that_was_terminated_before_its_time_is_in_order():
    life = scheduled()
    life.episode(mail=[*life.mail, steered(ExecutionTerminated(NOW))])

    assert life.state.instance.status is RuntimeStatus.TERMINATED
    assert found([life.dump()]) == []


def rewound(life: Life, kept: int, *, actions: Sequence[OrchestratorAction] = (), awaited: Sequence[int] = ()) -> None:
    """Let a failed life go on from its first checkpoints; its rows become one."""
    life.now += SECOND
    episode = life.state.accept([steered(ExecutionRewound(life.now))], life.now)
    events = [event for row in life.rows[:kept] for event in row.events]
    checkpoint = life.state.rewind(episode, events, actions, '"secret"', awaited, {})
    execution_id = life.state.instance.execution_id
    life.rows = [HistoryRow(0, execution_id, 1, checkpoint.consumed, '"secret"', checkpoint.events, True)]
    life.mail += [each for each in checkpoint.messages if each.instance_id == life.state.instance.instance_id]
    life.has_open_work = checkpoint.has_open_work


def test_a_rewound_history_is_in_order_with_its_timers_set_again():
    life = working()
    life.episode(CompleteOrchestration(3, failure=FailureDetails("ValueError", "bang")), mail=[life.answer(2)])

    rewound(life, 2, awaited=(1,))

    assert [each.message_id for each in life.mail] == ["execution-of-order-17/1/r1"]
    assert found([life.dump()]) == []


def test_what_a_rewind_did_not_take_out_is_found():
    life = working()
    life.episode(CompleteOrchestration(3, failure=FailureDetails("ValueError", "bang")), mail=[life.answer(2)])
    rewound(life, 2, awaited=(1,))
    again = TaskCompleted(NOW, 0, "2")

    tampered = events(0, lambda some: some.insert(-1, again))(life.dump())

    assert found([tampered]) == [("order-17", "H4")]


def rewound_family() -> tuple[Life, Life]:
    """A parent that was rewound and calls its child again, under the same number, while the former child still runs."""
    parent, former, start = family()
    former.episode(ScheduleTask(0, "pack", None), mail=[start])
    bang = FailureDetails("ValueError", "bang")
    parent.episode(CompleteOrchestration(1, failure=bang), mail=[parent.event()])
    parent.rows[0] = replace(parent.rows[0], events=(*parent.rows[0].events[:2], parent.rows[0].events[-1]))
    again = CreateSubOrchestration(0, "ship", None, "another child", None)
    rewound(parent, 1, actions=[again])
    return parent, former


def test_a_child_whose_call_a_rewind_took_away_is_in_order():
    parent, former = rewound_family()
    child = Life("another child", has_open_work=False)
    row = replace(child.state.instance, parent=ParentInstance("parent", "execution-of-parent/r1", "order", 0))
    child.state = RuntimeState(StoredInstance(row, 0))
    child.mail = [Message("start", "another child", row.execution_id, ExecutionStarted(NOW, row.execution_id, "ship"))]

    assert found([parent.dump(), former.dump(), child.dump()]) == []


def test_a_failed_child_is_in_order_while_it_is_being_asked_to_try_again():
    parent, child, start = family()
    bang = FailureDetails("ValueError", "bang")
    child.episode(CompleteOrchestration(0, failure=bang), mail=[start])
    assert found([parent.dump(), child.dump()]) == [("parent", "P2")]

    link = ParentInstance("parent", "execution-of-parent", "order", 0)
    child.mail = [Message("rewind", "child", None, ExecutionRewound(NOW, None, link))]

    assert found([parent.dump(), child.dump()]) == []


def test_a_child_that_was_replaced_is_in_order_while_its_parent_is_being_told():
    parent, child, start = family()
    child.episode(ScheduleTask(0, "pack", None), mail=[start])
    (answer,) = farewell(child.state.instance, NOW)
    successor = Life("child")

    parent.mail = [answer]

    assert found([parent.dump(), successor.dump()]) == []
    parent.mail = []
    assert found([parent.dump(), successor.dump()]) == [("parent", "P1")]


# ---------------------------------------------------------------------- beside a running host


def test_a_child_born_between_two_looks_is_in_order():
    parent, child, _ = family()
    before = Life("parent").dump()

    assert found([before, child.dump()], [parent.dump(), child.dump()]) == []
    assert found([parent.dump()], [parent.dump(), child.dump()]) == []


def test_a_child_that_answered_between_two_looks_is_in_order():
    parent, child, start = family()
    waiting = parent.dump()
    (answer,) = child.episode(CompleteOrchestration(0), mail=[start]).messages
    parent.mail = [answer]

    assert found([waiting, child.dump()], [parent.dump(), child.dump()]) == []


def test_a_second_look_that_finds_other_trouble_than_the_first_proves_nothing():
    """Both walks see a parent whose child seems not to have answered, but in between it has gone a step further."""
    parent, child, start = family()
    child.episode(CompleteOrchestration(0), mail=[start])
    first = [parent.dump(), child.dump()]
    parent.episode(mail=[parent.event()])
    second = [parent.dump(), child.dump()]

    assert found(first, second) == []
    assert found(second) == [("parent", "P2")]
