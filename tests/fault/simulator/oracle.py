"""Sees every effect on the store at the moment it takes place, and says which promise it breaks.

The oracle keeps a model of the hub of its own: rows, executions with their events, mail, epochs, activities. A finding
carries the name of the invariant of our reliability notes (H1 to P2, D1), or one of

    A2   nothing leaves a checkpoint before it is durable
    A3   what was acknowledged is there, once
    L4   leases do not churn, sessions are let go, mail is read in time
    L-A  activities run, and no more often than they need to
    Q    no instance is quarantined, and no engine dies
    R    the outcome is what the program says
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct, field

from perdure.core.automaton import EventAutomaton
from perdure.core.codec import encode_event
from perdure.core.events import (
    EventRaised,
    ExecutionStarted,
    ExecutionTerminated,
    HistoryEvent,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
    TimerCreated,
    TimerFired,
)
from perdure.core.records import (
    ActivityTask,
    Batch,
    Checkpoint,
    CommitOutcome,
    Instance,
    Lease,
    Message,
    RuntimeStatus,
    Start,
    partition_of,
)
from perdure.engine.executor import ActivityResult, Completed
from perdure.errors import IllegalHistoryError
from perdure.testing.loop import VIRTUAL_EPOCH

# How late mail may be consumed while nothing is wrong: a few polls, walks of many small pages, and busy instances.
LATE_S = 30.0

Answer = SubOrchestrationInstanceCompleted | SubOrchestrationInstanceFailed


class Finding(Struct, frozen=True):
    """A promise that was broken: its name, at which virtual second, and how."""

    invariant: str
    at: float
    sentence: str


class Execution(Struct):
    """One generation of an instance, as its commits made it."""

    execution_id: str
    instance_id: str
    created_by: str
    given: str | None
    parent: tuple[str, int] | None
    automaton: EventAutomaton
    carried: list[bytes] = field(default_factory=list)
    events: list[HistoryEvent] = field(default_factory=list)
    position: int = 0
    inherited_status: str | None = None
    custom_status: str | None = None
    end: Instance | None = None
    continued_with: str | None = None
    passed_on: list[EventRaised] | None = None


class Letter(Struct):
    """Stored mail: since when it could have been delivered."""

    message: Message
    since: float


class Activity(Struct):
    """A call of an activity; `grants` counts the leases of its partition when it was scheduled."""

    grants: int
    begun: int = 0
    results: set[str | None] = field(default_factory=set)
    is_answered: bool = False


class Raised(Struct):
    """An event that a client sent: to which start of which instance, and where it arrived."""

    message: Message
    created_by: str
    arrival: tuple[int, int] | None = None
    discarded: str | None = None


class HostView(Struct):
    """What the oracle must know about a host whose commit it sees."""

    name: str
    latest: Callable[[], datetime]
    taken_in: dict[str, tuple[HistoryEvent, ...]]


class Oracle:
    """The model of the hub, and the findings so far.

    Attributes:
        is_calm: nothing is made to fail, so nothing may be late, repeated or lost.
    """

    def __init__(self, partitions: int, time: Callable[[], float], *, is_calm: bool, trace: Callable[[str], None]):
        self.partitions = partitions
        self.is_calm = is_calm
        self.findings: list[Finding] = []
        self.rows: dict[str, Execution] = {}
        self.executions: dict[str, Execution] = {}
        self.mail: dict[str, Letter] = {}
        self.raised: dict[str, Raised] = {}
        self.activities: dict[str, Activity] = {}
        self.created: dict[str, int] = {}  # by request: how often it has made an instance
        self.replaced_running = 0
        self.answers: dict[str, RuntimeStatus | None] = {}  # by message id: what `send` said
        self.grants = [0] * partitions
        self.holders: dict[int, tuple[int, str]] = {}
        self.is_settled = False  # leases have found their holders, so in a calm run they stay
        self.repeated_starts = 0
        self.committed = 0
        self.refusals = 0
        self._ids_seen: set[str] = set()
        # Mail that went with an instance that was replaced. A host that had read it may still show it to the new one,
        # once: it was for whichever runs.
        self._gone: dict[str, Message] = {}
        self._time = time
        self._trace = trace

    def find(self, invariant: str, sentence: str) -> None:
        """Note that a promise is broken."""
        self._trace(f"FOUND {invariant}: {sentence}")
        self.findings.append(Finding(invariant, self._time(), sentence))

    def note(self, line: str) -> None:
        """Put a line into the trace."""
        self._trace(line)

    def expect(self, holds: object, invariant: str, sentence: str) -> None:
        """Find a breach unless it holds."""
        if not holds:
            self.find(invariant, sentence)

    @property
    def unfinished(self) -> list[str]:
        """Instances that have not ended."""
        return [each for each, execution in self.rows.items() if execution.end is None]

    # ------------------------------------------------------------------ leases

    def leased(self, host: HostView, leases: Sequence[Lease]) -> None:
        """A host has been told that it holds these."""
        for lease in leases:
            epoch, holder = self.holders.get(lease.partition, (0, ""))
            if lease.epoch == epoch:
                self.expect(holder == lease.host_id, "F1", f"epoch {epoch} of {lease.partition} has two holders")
                continue
            self.expect(lease.epoch > epoch, "F1", f"epoch {lease.epoch} of {lease.partition} came after {epoch}")
            self.holders[lease.partition] = (lease.epoch, lease.host_id)
            self.grants[lease.partition] += 1
            self._trace(f"{host.name} takes {lease.partition} epoch {lease.epoch}")
            if self.is_calm and self.is_settled:
                self.find("L4", f"the lease of partition {lease.partition} changed though nothing was wrong")

    # ------------------------------------------------------------------ clients

    def started(self, starts: Sequence[Start], results: Sequence[Instance | None]) -> None:
        """Instances were created, or not."""
        for start, in_the_way in zip(starts, results, strict=True):
            instance = start.instance
            old = self.rows.get(instance.instance_id)
            self._trace(f"create {instance.instance_id} {'refused' if in_the_way else 'done'}")
            if in_the_way is not None:
                is_true = old is not None and _status(old) not in start.replace
                self.expect(is_true, "A3", f"{instance.instance_id} was refused, but nothing is in the way")
                continue
            if instance.created_by in self.created:
                self.repeated_starts += 1
                continue
            if old is not None:
                is_true = _status(old) in start.replace
                self.expect(is_true, "A3", f"{instance.instance_id} was replaced while {_status(old)}")
            self._begin(instance)

    def _begin(self, row: Instance) -> None:
        """An instance comes into being, perhaps where another was."""
        request, instance_id = row.created_by, row.instance_id
        old = self.rows.get(instance_id)
        if old is not None:
            self.replaced_running += old.end is None
            takers = (None, old.execution_id)
            gone = [
                each
                for each, letter in self.mail.items()
                if letter.message.instance_id == instance_id and letter.message.execution_id in takers
            ]
            for message_id in gone:
                self._gone[message_id] = self.mail.pop(message_id).message
                self._discarded(self._gone[message_id], "its instance was replaced")
        self.created[request] = self.created.get(request, 0) + 1
        if self.created[request] > 1:
            self.find("A3", f"request {request} started {instance_id} {self.created[request]} times")
        parent = None if row.parent is None else (row.parent.execution_id, row.parent.task_id)
        self._add_execution(
            Execution(row.execution_id, instance_id, request, row.input, parent, EventAutomaton(instance_id))
        )

    def _add_execution(self, execution: Execution) -> None:
        is_new = execution.execution_id not in self.executions
        self.expect(is_new, "H1", f"{execution.execution_id} began twice")
        self.executions[execution.execution_id] = execution
        self.rows[execution.instance_id] = execution

    def sent(self, messages: Sequence[Message], statuses: Sequence[RuntimeStatus | None]) -> None:
        """Clients' messages were stored, or not."""
        for message, status in zip(messages, statuses, strict=True):
            self._trace(f"send {message.message_id[:6]} to {message.instance_id}: {status}")
            if message.message_id in self.answers:
                is_same = self.answers[message.message_id] == status
                self.expect(is_same, "A3", f"{message.message_id} was answered {status}, before otherwise")
                continue
            self.answers[message.message_id] = status
            row = self.rows.get(message.instance_id)
            if row is None:
                self.expect(status is None, "A3", f"there is no {message.instance_id}, but the answer was {status}")
                continue
            self.expect(status == _status(row), "A3", f"{message.instance_id} is {_status(row)}, not {status}")
            if status is not None and not status.is_terminal:
                self._store(message)
                if isinstance(message.event, EventRaised):
                    self.raised[message.message_id] = Raised(message, row.created_by)

    # ------------------------------------------------------------------ commits

    def commit(self, host: HostView, batches: Sequence[Batch], outcome: CommitOutcome, is_child: _IsChild) -> None:
        """A commit took effect; `is_child` tells whether an instance is the child that a checkpoint wanted."""
        for batch in batches:
            lease = batch.lease
            if lease.partition in outcome.lost:
                self._trace(f"{host.name} has lost {lease.partition} epoch {lease.epoch}")
                continue
            is_holder = self.holders.get(lease.partition) == (lease.epoch, lease.host_id)
            self.expect(is_holder, "F1", f"{host.name} wrote to {lease.partition} under epoch {lease.epoch}, not its")
            for checkpoint in batch.checkpoints:
                self._checkpoint(host, checkpoint, checkpoint.instance.instance_id in outcome.stale)
            for checkpoint in batch.checkpoints:
                if checkpoint.instance.instance_id not in outcome.stale:
                    for child in checkpoint.children:
                        if is_child(child):
                            self._child(child)
                        else:
                            self.refusals += 1
            for message_id in batch.discarded:
                self._discard(message_id)
            for message in batch.replies:
                self._store(message)

    def _checkpoint(self, host: HostView, checkpoint: Checkpoint, is_stale: bool) -> None:
        instance_id = checkpoint.instance.instance_id
        row = self.rows.get(instance_id)
        is_current = row is not None and (row.execution_id, row.position) == (
            checkpoint.execution_id,
            checkpoint.position,
        )
        what = f"{instance_id} at {checkpoint.position}"
        if is_stale:
            self._trace(f"{host.name} is stale on {what}")
            self.expect(not is_current, "H2", f"the checkpoint of {what} was refused as stale, but it is not")
            return
        if row is None or not is_current:
            self.find("H2", f"a checkpoint of {what} of {checkpoint.execution_id} does not follow what is stored")
            return
        self.expect(row.end is None, "H3", f"a checkpoint of {what} follows the end")
        self.committed += 1
        events = host.taken_in.get(row.execution_id, ()) if checkpoint.continues_as_new else checkpoint.events
        names = " ".join(type(event).__name__ for event in events)
        self._trace(f"{host.name} commits {what}: {names}{' and goes on as new' * checkpoint.continues_as_new}")
        self._take_in(host, row, checkpoint, events)
        for event in events:
            try:
                row.automaton.step(event)
            except IllegalHistoryError as error:
                self.find("H2", str(error))
        row.events.extend(events)
        row.position += 1
        row.custom_status = checkpoint.instance.custom_status
        for task in checkpoint.activities:
            grants = self.grants[partition_of(instance_id, self.partitions)]
            self.activities[task.activity_id] = Activity(grants)
        self._check_status(row, checkpoint)
        for message in checkpoint.messages:
            self._store(message)

    def _check_status(self, row: Execution, checkpoint: Checkpoint) -> None:
        instance = checkpoint.instance
        if checkpoint.continues_as_new:
            row.continued_with = instance.execution_id
            row.passed_on = [
                each.event for each in checkpoint.messages if each.is_carried and isinstance(each.event, EventRaised)
            ]
            self._add_execution(
                Execution(
                    instance.execution_id,
                    instance.instance_id,
                    row.created_by,
                    instance.input,
                    row.parent,
                    EventAutomaton(instance.instance_id),
                    carried=[encode_event(each) for each in row.passed_on],
                    inherited_status=instance.custom_status,
                    custom_status=instance.custom_status,
                )
            )
        elif instance.status.is_terminal:
            row.end = instance
        has_open_work = checkpoint.continues_as_new or (row.end is None and row.automaton.open_activities > 0)
        self.expect(checkpoint.has_open_work == has_open_work, "L3", f"open work of {instance.instance_id} is wrong")

    def _take_in(self, host: HostView, row: Execution, checkpoint: Checkpoint, events: Sequence[HistoryEvent]) -> None:
        """What arrived came from somewhere, and what was consumed has arrived, or was dropped for a reason."""
        scheduled = {event.event_id for event in row.events if hasattr(event, "event_id")}
        is_terminated = any(isinstance(event, ExecutionTerminated) for event in events)
        # A timer that was cancelled is consumed again at the end, if the history was read since: it does not say so.
        own_timers = {f"{row.execution_id}/{event.event_id}" for event in row.events if isinstance(event, TimerCreated)}
        letters: list[Message] = []
        for message_id in dict.fromkeys(checkpoint.consumed):
            letter = self.mail.pop(message_id, None)
            if letter is None:
                if message_id in self._gone:
                    letters.append(self._gone.pop(message_id))
                elif message_id not in own_timers:
                    self.find("M1", f"{row.instance_id} consumed {message_id}, which is not in its mailbox")
                continue
            letters.append(letter.message)
            self._check_promptness(letter)
        unexplained = {encode_event(message.event): message for message in letters}
        for number, event in enumerate(events):
            match event:
                case TaskCompleted() | TaskFailed():
                    self._result(row, event)
                case (
                    EventRaised()
                    | TimerFired()
                    | ExecutionTerminated()
                    | SubOrchestrationInstanceCompleted()
                    | SubOrchestrationInstanceFailed()
                ):
                    message = unexplained.pop(encode_event(event), None)
                    if message is None:
                        self.find("M1", f"{row.instance_id} took in {event}, which it did not consume")
                    elif isinstance(event, EventRaised) and message.message_id in self.raised:
                        self._arrived(self.raised[message.message_id], row, number)
                case _:
                    pass
            if isinstance(event, TimerFired):
                is_due = event.fire_at <= host.latest()
                self.expect(is_due, "T1", f"timer {event.task_id} of {row.instance_id} fired before {event.fire_at}")
            elif isinstance(event, Answer):
                self._check_answer(row, event)
        for message in unexplained.values():
            is_dropped = is_terminated or self._may_drop(row, message, scheduled)
            self.expect(is_dropped, "M2", f"{row.instance_id} consumed {message.message_id} without effect")
            self._discarded(message, "dropped by an episode")

    def _arrived(self, raised: Raised, row: Execution, number: int) -> None:
        self.expect(raised.arrival is None, "M1", f"an event arrived at {row.instance_id} twice")
        is_for_it = raised.created_by == row.created_by or raised.discarded is not None
        self.expect(is_for_it, "M1", f"an event for another start of {row.instance_id} came")
        raised.arrival, raised.discarded = (self.committed, number), None

    def _result(self, row: Execution, event: TaskCompleted | TaskFailed) -> None:
        activity = self.activities.get(f"{row.execution_id}/{event.task_id}")
        result = event.result if isinstance(event, TaskCompleted) else None
        is_known = activity is not None and result in activity.results
        self.expect(is_known, "L-A", f"no activity gave {row.instance_id} the result of its task {event.task_id}")
        if activity is not None:
            activity.is_answered = True

    def _check_answer(self, row: Execution, event: Answer) -> None:
        """A child's answer is what the child came to; or there is no such child."""
        key = (row.execution_id, event.task_id)
        ends = [each.end for each in self.executions.values() if each.parent == key and each.end is not None]
        children = [each for each in self.executions.values() if each.parent == key]
        if isinstance(event, SubOrchestrationInstanceCompleted):
            is_true = any(end.failure is None and end.output == event.result for end in ends)
        elif event.failure.error_type == "InstanceAlreadyExists":
            is_true = not children or any(end.failure == event.failure for end in ends)
        else:
            is_true = any(end.failure == event.failure for end in ends)
        self.expect(is_true, "P2", f"the answer of task {event.task_id} of {row.instance_id} is not its child's")

    def _may_drop(self, row: Execution, message: Message, scheduled: set[int]) -> bool:
        event: Any = message.event
        if message.execution_id is not None and message.execution_id != row.execution_id:
            return True
        if isinstance(event, ExecutionStarted) or row.end is not None:
            return True
        if isinstance(event, EventRaised):
            return False
        return (
            event.task_id not in scheduled or event.task_id not in row.automaton.open or isinstance(event, TimerFired)
        )

    def _child(self, child: Instance) -> None:
        known = self.executions.get(child.execution_id)
        if known is None:
            self._begin(child)

    def _discard(self, message_id: str) -> None:
        letter = self.mail.pop(message_id, None)
        if letter is None:
            is_gone = self._gone.pop(message_id, None) is not None
            self.expect(is_gone, "M1", f"{message_id} was discarded, but is not there")
            return
        self._check_promptness(letter)
        message = letter.message
        row = self.rows.get(message.instance_id)
        if row is not None and not self._may_drop(row, message, {*row.automaton.open}):
            self.find("M2", f"{message.event} for {message.instance_id} was discarded without reason")
        self._discarded(message, "discarded")

    def _discarded(self, message: Message, why: str) -> None:
        raised = self.raised.get(message.message_id)
        if raised is not None and raised.arrival is None:
            raised.discarded = why

    # ------------------------------------------------------------------ mail

    def _store(self, message: Message) -> None:
        if message.message_id in self._ids_seen:
            if message.message_id not in self.mail:
                self.find("M3", f"message {message.message_id} was stored again after it was used up")
            return
        self._ids_seen.add(message.message_id)
        since = self._time()
        if message.deliver_at is not None:
            since = max(since, (message.deliver_at - VIRTUAL_EPOCH) / timedelta(seconds=1))
        self.mail[message.message_id] = Letter(message, since)

    def _check_promptness(self, letter: Letter) -> None:
        if self.is_calm and self.is_settled and self._time() - letter.since > LATE_S:
            late = self._time() - letter.since
            self.find("L4", f"{letter.message.event} for {letter.message.instance_id} was read {late:.1f} s late")

    # ------------------------------------------------------------------ activities

    def activity_begins(self, host: str, task: ActivityTask) -> None:
        """A host runs an activity."""
        self._trace(f"{host} runs {task.activity_id[:6]}…/{task.task_id} of {task.instance_id}")
        activity = self.activities.get(task.activity_id)
        if activity is None:
            self.find("A2", f"task {task.task_id} of {task.instance_id} runs before it is durable")
            return
        activity.begun += 1
        grants = self.grants[partition_of(task.instance_id, self.partitions)]
        if self.is_calm and self.is_settled:
            grants -= activity.grants
        # Otherwise a holder of old may start it too, until it hears that it is none any more.
        if activity.begun > 1 + grants:
            self.find(
                "L-A", f"task {task.task_id} of {task.instance_id} ran {activity.begun} times, {grants} leases on"
            )

    def activity_ends(self, task: ActivityTask, result: ActivityResult) -> None:
        """An activity has a result."""
        activity = self.activities.get(task.activity_id)
        if activity is not None:
            activity.results.add(result.result if isinstance(result, Completed) else None)

    def reads(self, host: str, instance_id: str, execution_id: str, events: Sequence[HistoryEvent]) -> None:
        """A host shows new events to an orchestrator: what another sent must be durable by then."""
        for event in events:
            if isinstance(event, Answer):
                key = (execution_id, event.task_id)
                known = [each for each in self.executions.values() if each.parent == key]
                if known and not any(each.end for each in known):
                    self.find("A2", f"{host}: {instance_id} hears of a child that has not ended durably")


_IsChild = Callable[[Instance], bool]


def _status(execution: Execution) -> RuntimeStatus:
    if execution.end is not None:
        return execution.end.status
    is_first = execution.position == 0 and execution.execution_id == execution.created_by
    return RuntimeStatus.PENDING if is_first else RuntimeStatus.RUNNING
