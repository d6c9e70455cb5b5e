"""Whether what a task hub stores can have come about lawfully: the read-only checker.

Rule 1: a finding is a defect or damage. Nothing that a healthy hub passes through is one: no check needs a quiet hub.
Rule 2: a claim about one instance is judged on its own snapshot. A claim about two, whose snapshots are of different
        moments, counts only if a second walk in the same order finds it again and neither has moved on meanwhile.

What the stored data do not show is not checked: cancelled timers and waits for external events leave no trace, nor does
what a rewind has taken out of a history, and mail to an instance that does not exist is in no snapshot.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from msgspec import Struct

from perdure.core.automaton import ANSWERS, ENDED, IDLE, LEGAL, EventAutomaton
from perdure.core.events import (
    ExecutionCompleted,
    ExecutionRewound,
    ExecutionStarted,
    ExecutionTerminated,
    HistoryEvent,
    ParentInstance,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceCreated,
    SubOrchestrationInstanceFailed,
    TimerFired,
)
from perdure.core.records import EntityState, HistoryRow, InstanceDump, InstanceQuery, Message, RuntimeStatus
from perdure.engine.store import InstanceStore
from perdure.errors import IllegalHistoryError

INVARIANTS: Final[dict[str, str]] = {
    "H1": "All checkpoints of an instance are of its current execution.",
    "H2": "Its history is whole, undamaged, and one event may follow the other.",
    "H3": "Nothing follows its end.",
    "H4": "A task is answered at most once, and only after it was scheduled.",
    "H6": "No two decisions have the same number.",
    "S1": "Its row says what its history says.",
    "F1": "Its checkpoints were committed under epochs that never go back.",
    "M1": "A message is consumed once, and then it is gone.",
    "M3": "Mail lies in the mailbox that it is addressed to.",
    "T1": "No timer fires early, and nothing begins before it is to start.",
    "L3": "What is not over has something that wakes it, and what has nothing to do is not marked as having it.",
    "P1": "Parent and child know of each other.",
    "P2": "A child that has ended has answered its parent.",
}
"""What is checked, by the names that findings carry. Source: the names are those of our reliability notes."""

PAYLOADS = frozenset({"input", "output", "custom_status", "failure", "tags"})  # a finding may be shown to anyone
PARENTS_PER_QUERY = 100

# After the execution's own: the number of the timer, and if it was set anew by a rewind, which that was.
TIMER_ID = re.compile(r"[0-9]+(/r[0-9]+)?")
REWINDS = re.compile(r"/r[0-9]+$")  # what the calls of a rewound execution have after its id


class Finding(Struct, frozen=True, order=True):
    """One breach of an invariant: its name in `INVARIANTS`, whose data it is, and what is wrong."""

    instance_id: str
    invariant: str
    sentence: str


class CheckReport(Struct, frozen=True):
    """What a check saw: how many instances, how many history events, and what is wrong with them."""

    instances: int
    events: int
    findings: tuple[Finding, ...]


async def check_hub(store: InstanceStore) -> CheckReport:
    """Check everything that a hub stores, one instance in memory at a time; safe beside running hosts.

    Raises:
        StoreUnavailableError: the store could not be read.
    """
    walk = await _walk(store)
    findings = list(walk.findings)
    suspicions = await walk.suspicions(store)
    if suspicions:
        again = await _walk(store)
        findings += [each.finding for each in suspicions & await again.suspicions(store)]
    return CheckReport(walk.instances, walk.events, tuple(sorted(findings)))


async def _walk(store: InstanceStore) -> _Walk:
    walk = _Walk()
    dump: AsyncIterator[InstanceDump] = store.dump()
    async for each in dump:
        walk.visit(each)
    return walk


# ---------------------------------------------------------------------- one instance


def _check_instance(dump: InstanceDump, automaton: EventAutomaton) -> Iterator[tuple[str, str]]:
    """(invariant, sentence) of every breach that one snapshot shows; `automaton` is left after its last event."""
    if dump.instance.entity is not None:
        yield from _check_entity(dump)
        return
    yield from _check_rows(dump)
    yield from _check_mail(dump)
    if not all(row.is_intact for row in dump.rows):
        return
    breach = _replay(dump.rows, automaton)
    if breach is not None:
        yield breach
        return
    if dump.rows:
        yield from _check_fold(dump, automaton)
        yield from _check_start(dump.rows[0])
    elif dump.instance.status.is_terminal:
        yield "S1", f"the row says {dump.instance.status}, but there is no history"
    yield from _check_wake_up(dump, automaton)


def _check_entity(dump: InstanceDump) -> Iterator[tuple[str, str]]:
    """An entity has a state or a lock, and neither a history nor anything to do without mail."""
    if dump.rows or dump.has_open_work:
        yield "H2", "an entity has no history and no open work, but this one has"
    if dump.instance.entity == EntityState():
        yield "S1", "it has neither a state nor a lock, and so should have no row"
    yield from _check_mail(dump)


def _check_rows(dump: InstanceDump) -> Iterator[tuple[str, str]]:
    positions = [row.position for row in dump.rows]
    if positions != list(range(dump.position)):
        yield "H2", f"the row counts {dump.position} checkpoints, but those stored are {_shortened(positions)}"
    epoch = 0
    for row in dump.rows:
        if not row.is_intact:
            yield "H2", f"checkpoint {row.position} is damaged"
        if row.execution_id != dump.instance.execution_id:
            yield "H1", f"checkpoint {row.position} is of execution {row.execution_id}, not of the current one"
        if row.epoch < epoch:
            yield "F1", f"checkpoint {row.position} was committed under epoch {row.epoch}, after one under {epoch}"
        epoch = row.epoch


def _check_mail(dump: InstanceDump) -> Iterator[tuple[str, str]]:
    waiting = {message.message_id for message in dump.mail}
    consumed: set[str] = set()
    for row in dump.rows:
        for message_id in frozenset(row.consumed):
            if message_id in waiting:
                yield (
                    "M1",
                    f"message {message_id} was consumed by checkpoint {row.position} and is still in the mailbox",
                )
            if message_id in consumed and not _is_timer(message_id, row):
                yield "M1", f"message {message_id} was consumed again by checkpoint {row.position}"
            consumed.add(message_id)
    for message in dump.mail:
        if message.instance_id != dump.instance.instance_id:
            yield "M3", f"message {message.message_id} in the mailbox is addressed to '{message.instance_id}'"


def _is_timer(message_id: str, row: HistoryRow) -> bool:
    """A cancelled timer may be consumed again: cancelling leaves no trace, so whoever loads the history repeats it."""
    prefix = f"{row.execution_id}/"
    return message_id.startswith(prefix) and TIMER_ID.fullmatch(message_id, len(prefix)) is not None


def _replay(rows: tuple[HistoryRow, ...], automaton: EventAutomaton) -> tuple[str, str] | None:
    """Step through all events; the first that is not legal, or None."""
    for row in rows:
        event: HistoryEvent | None = None
        try:
            for event in row.events:
                automaton.step(event)
        except IllegalHistoryError as error:
            return _broken_rule(automaton, event), f"checkpoint {row.position}: {error.reason}"
        if automaton.phase not in (IDLE, ENDED):
            return "H2", f"checkpoint {row.position} does not end its episode: it stops while {automaton.phase}"
    return None


def _broken_rule(automaton: EventAutomaton, event: HistoryEvent | None) -> str:
    """Which invariant the event breaks that `automaton` has just refused."""
    if LEGAL.get((automaton.phase, type(event))) is None:
        return "H3" if automaton.phase == ENDED else "H2"
    if type(event) not in ANSWERS:
        return "H6"
    is_early = isinstance(event, TimerFired) and automaton.stamp is not None and event.fire_at > automaton.stamp
    return "T1" if is_early else "H4"


def _check_fold(dump: InstanceDump, automaton: EventAutomaton) -> Iterator[tuple[str, str]]:
    for field, said in _fold(dump.rows, automaton).items():
        stored = getattr(dump.instance, field)
        if stored != said:
            values = "" if field in PAYLOADS else f": '{stored}', but history says '{said}'"
            yield "S1", f"the row's {field} does not follow from history{values}"


def _check_start(row: HistoryRow) -> Iterator[tuple[str, str]]:
    if any(isinstance(event, ExecutionTerminated) for event in row.events):
        return  # that may come before the start
    start = next(event for event in row.events if isinstance(event, ExecutionStarted))
    if start.start_at is not None and row.events[0].timestamp < start.start_at:
        yield "T1", f"it began at {row.events[0].timestamp}, before {start.start_at}"


def _fold(rows: tuple[HistoryRow, ...], automaton: EventAutomaton) -> dict[str, Any]:
    """What the row must say after a legal history, but for the time of its creation, which survives generations."""
    start = next(event for event in rows[0].events if isinstance(event, ExecutionStarted))
    ends = rows[-1].events if automaton.phase == ENDED else ()
    end = next((event for event in ends if isinstance(event, ExecutionCompleted)), None)
    going_on = RuntimeStatus.SUSPENDED if automaton.is_suspended else RuntimeStatus.RUNNING
    return {
        "execution_id": start.execution_id,
        "name": start.name,
        "input": start.input,
        "version": start.version,
        "parent": start.parent,
        "tags": start.tags,
        "start_at": start.start_at,
        "custom_status": rows[-1].custom_status,
        "updated_at": automaton.stamp,
        "status": going_on if end is None else end.status,
        "output": None if end is None else end.result,
        "failure": None if end is None else end.failure,
        "completed_at": None if end is None else end.timestamp,
    }


def _check_wake_up(dump: InstanceDump, automaton: EventAutomaton) -> Iterator[tuple[str, str]]:
    if dump.instance.status.is_terminal:
        if dump.has_open_work:
            yield "L3", "it has ended, but is marked as going on without mail"
    elif dump.position == 0:
        if not dump.has_open_work and not any(_starts(message, dump) for message in dump.mail):
            yield "L3", "it is stuck: nothing will start it"
    elif automaton.open_activities and not dump.has_open_work:
        yield "L3", "it is stuck: it waits for activities that nobody will find when its host is gone"
    elif dump.has_open_work and not automaton.open_activities:
        yield "L3", "it is marked as having open activities, but has none"


def _starts(message: Message, dump: InstanceDump) -> bool:
    return isinstance(message.event, ExecutionStarted) and message.execution_id == dump.instance.execution_id


# ---------------------------------------------------------------------- parents and children


class _Suspicion(Struct, frozen=True):
    """A claim about two instances, and the moment of each that it was seen in."""

    finding: Finding
    moments: tuple[object, ...] = ()


class _Awaited(Struct, frozen=True, gc=False):
    """A child that its parent waits for, when no answer is in the parent's mailbox."""

    parent_id: str
    position: int
    task_id: int
    child_id: str


class _Walk:
    """What one walk through a hub has seen. A call of a child is known by `execution id/task id` of its parent."""

    def __init__(self) -> None:
        self.instances = 0
        self.events = 0
        self.findings: list[Finding] = []
        self._unreadable: set[str] = set()
        self._calls: set[str] = set()
        self._asked: set[str] = set()
        self._rewound: set[str] = set()
        self._awaited: dict[str, _Awaited] = {}
        self._children: dict[str, tuple[int, bool]] = {}
        self._links: dict[str, tuple[str, ParentInstance]] = {}

    def visit(self, dump: InstanceDump) -> None:
        """Check one snapshot, and note what it says about others."""
        instance_id = dump.instance.instance_id
        self.instances += 1
        self.events += sum(len(row.events) for row in dump.rows)
        automaton = EventAutomaton(instance_id)
        found = [Finding(instance_id, *each) for each in _check_instance(dump, automaton)]
        self.findings += found
        self._note_child(dump)
        if any(each.invariant in ("H1", "H2", "H3", "H4", "H6", "T1") for each in found):
            self._unreadable.add(instance_id)
        else:
            self._note_parent(dump, automaton)

    def _note_child(self, dump: InstanceDump) -> None:
        instance = dump.instance
        if instance.parent is not None:
            call = _call(instance.parent.execution_id, instance.parent.task_id)
            self._children[call] = (dump.position, instance.status.is_terminal)
            self._links[call] = (instance.instance_id, instance.parent)
        for message in dump.mail:
            event = message.event
            if isinstance(event, ExecutionStarted | ExecutionRewound) and event.parent is not None:
                self._asked.add(_call(event.parent.execution_id, event.parent.task_id))

    def _note_parent(self, dump: InstanceDump, automaton: EventAutomaton) -> None:
        instance = dump.instance
        if automaton.rewinds:
            self._rewound.add(instance.instance_id)
        for row in dump.rows:
            for event in row.events:
                if type(event) is SubOrchestrationInstanceCreated:
                    self._calls.add(_own_call(instance.execution_id, automaton, event.event_id))
        if instance.status.is_terminal:
            return
        answered = {
            _call(message.execution_id or instance.execution_id, message.event.task_id)
            for message in dump.mail
            if isinstance(message.event, SubOrchestrationInstanceCompleted | SubOrchestrationInstanceFailed)
        }
        for task_id, decision in automaton.open.items():
            call = _own_call(instance.execution_id, automaton, task_id)
            if isinstance(decision, SubOrchestrationInstanceCreated) and call not in answered:
                self._awaited[call] = _Awaited(instance.instance_id, dump.position, task_id, decision.instance_id)

    async def suspicions(self, store: InstanceStore) -> set[_Suspicion]:
        """What does not fit together between parents and children, as this walk saw them."""
        return {*self._unanswered(), *[each async for each in self._unknown_children(store)]}

    def _unanswered(self) -> Iterator[_Suspicion]:
        for call, awaited in self._awaited.items():
            child = self._children.get(call)
            if call in self._asked or (child is not None and not child[1]):
                continue
            if child is None and awaited.parent_id in self._rewound:
                continue  # perhaps it was purged, and is being asked to try again, in mail to nobody
            moments = (awaited.position, child)
            waits = f"it is stuck: it waits for task {awaited.task_id}, its child '{awaited.child_id}', "
            if child is None:
                sentence = f"{waits}which is not there, and no refusal is on its way"
                yield _Suspicion(Finding(awaited.parent_id, "P1", sentence), moments)
            else:
                sentence = f"{waits}which has ended, and no answer is on its way"
                yield _Suspicion(Finding(awaited.parent_id, "P2", sentence), moments)

    async def _unknown_children(self, store: InstanceStore) -> AsyncIterator[_Suspicion]:
        """Children whose parent is still in the execution that they name, and does not know them.

        A rewind may have taken the call out of the parent's history while the child went on.
        """
        links = [
            link
            for call, link in self._links.items()
            if call not in self._calls and link[1].instance_id not in self._rewound
        ]
        for start in range(0, len(links), PARENTS_PER_QUERY):
            some = links[start : start + PARENTS_PER_QUERY]
            parent_ids = tuple({parent.instance_id for _, parent in some} - self._unreadable)
            page = await store.query(InstanceQuery(instance_ids=parent_ids, limit=PARENTS_PER_QUERY))
            executions = {each.instance_id: each.execution_id for each in page.instances}
            for child_id, parent in some:
                if executions.get(parent.instance_id) in (parent.execution_id, REWINDS.sub("", parent.execution_id)):
                    sentence = f"its parent '{parent.instance_id}' has no task {parent.task_id} that called it"
                    yield _Suspicion(Finding(child_id, "P1", sentence))


def _call(execution_id: str, task_id: int) -> str:
    return f"{execution_id}/{task_id}"


def _own_call(execution_id: str, automaton: EventAutomaton, task_id: int) -> str:
    """A call as `RuntimeState.call_id` names it, by the history that `automaton` has seen."""
    rewinds = automaton.rewinds_before.get(task_id)
    return _call(execution_id if rewinds is None else f"{execution_id}/r{rewinds}", task_id)


def _shortened(positions: list[int]) -> str:
    shown = ", ".join(map(str, positions[:10]))
    return f"{len(positions)} ({shown}{', …' if len(positions) > 10 else ''})"
