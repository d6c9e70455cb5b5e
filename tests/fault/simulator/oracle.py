"""Sees every effect on the store at the moment it takes place, and says which promise it breaks.

The oracle keeps a model of the hub of its own: rows, executions with their events, mail, epochs, activities. A finding
carries the name of the invariant of our reliability notes (H1 to P2, D1), or one of

    A2   nothing leaves a checkpoint before it is durable
    A3   what was acknowledged is there, once
    E1   an operation counts once: an entity's state is what its mail, used up once and whole, has made of it
    K1   an entity that is locked does nothing for others, and a lock is granted when all of it is held
    K2   a lock is given back when its owner ends, and to nobody else's cost
    S2   a suspended instance takes no decision, and its row says so
    W1   a rewind takes out of a history what depends on its failures, and nothing else
    O1   a purge removes what has ended, whole, and nothing else
    P4   who ends an instance and all below it ends them all, and no others
    N    no instance runs on a host that is too old for it
    L4   leases do not churn, sessions are let go, mail is read in time
    L-A  activities run, and no more often than they need to
    Q    no instance is quarantined, and no engine dies
    R    the outcome is what the program says
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct, field

from perdure.core.answers import answers_of_missing, farewell
from perdure.core.automaton import EventAutomaton
from perdure.core.codec import encode_event
from perdure.core.events import (
    EntityLock,
    EntityLockGranted,
    EntityOperation,
    EntityOperationCalled,
    EntityOperationCompleted,
    EntityOperationFailed,
    EntityOperationSignaled,
    EntityUnlock,
    EntityUnlockSent,
    EventRaised,
    EventSent,
    ExecutionResumed,
    ExecutionRewound,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
    HistoryEvent,
    OrchestratorStarted,
    ParentInstance,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceCreated,
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
    HeldLock,
    Instance,
    Lease,
    Message,
    RuntimeStatus,
    Start,
    is_entity_id,
    partition_of,
    takes_mail,
)
from perdure.engine.executor import ActivityResult, Completed
from perdure.errors import IllegalHistoryError
from perdure.testing.loop import VIRTUAL_EPOCH

from .boxes import Box
from .programs import ORCHESTRATOR
from .reference import DECISIONS, what_left

# How late mail may be consumed while nothing is wrong: a few polls, walks of many small pages, and busy instances.
LATE_S = 30.0

# So long nothing may happen for an instance that waits for a client, before that client helps it on.
IDLE_S = 5.0

Answer = SubOrchestrationInstanceCompleted | SubOrchestrationInstanceFailed
NO_CHILD = ("InstanceAlreadyExists", "InstanceReplaced", "InstancePurged", "InstanceGone")
STEERING = (ExecutionSuspended, ExecutionResumed, ExecutionRewound)


class Finding(Struct, frozen=True):
    """A promise that was broken: its name, at which virtual second, and how."""

    invariant: str
    at: float
    sentence: str


class Execution(Struct):
    """One generation of an instance, as its commits made it.

    Attributes:
        ends: how it has ended, each time: a rewind takes the end away.
        rewinds_before: by number of a decision, after how many rewinds it was made.
        is_over: it was replaced or purged.
        born_at: when its first generation came into being.
        steered_at, rewound_at: when it was last suspended, resumed or rewound, and when it was last rewound.
        changed_at: when it was last committed, or came into being.
        locks: the locks that it has asked for and not given back, by number.
    """

    execution_id: str
    instance_id: str
    created_by: str
    given: str | None
    parent: ParentInstance | None
    automaton: EventAutomaton
    version: str | None = None
    start_at: datetime | None = None
    ends: list[Instance] = field(default_factory=list)
    rewinds: int = 0
    rewinds_before: dict[int, int] = field(default_factory=dict)
    is_over: bool = False
    is_born_suspended: bool = False
    born_at: float = 0.0
    steered_at: float = 0.0
    rewound_at: float = 0.0
    changed_at: float = 0.0
    locks: dict[int, HeldLock] = field(default_factory=dict)
    carried: list[bytes] = field(default_factory=list)
    events: list[HistoryEvent] = field(default_factory=list)
    position: int = 0
    inherited_status: str | None = None
    custom_status: str | None = None
    end: Instance | None = None
    continued_with: str | None = None
    passed_on: list[EventRaised] | None = None


class Letter(Struct):
    """Stored mail: since when it could have been delivered, which execution or entity sent it, as the so-manieth."""

    message: Message
    stored_at: float
    since: float
    sender: str
    number: int


class Activity(Struct):
    """A call of an activity; `grants` counts the leases of its partition when it was scheduled."""

    grants: int
    given: str | None
    begun: int = 0
    results: set[str | None] = field(default_factory=set)
    dispatches: int = 0


class Raised(Struct):
    """An event that was sent: to which start of which instance, if a client sent it, and where it arrived.

    A ghost arrived at another instance than the one that was there when it was stored.
    """

    message: Message
    created_by: str | None
    arrival: tuple[int, int] | None = None
    discarded: str | None = None
    is_ghost: bool = False


class HostView(Struct):
    """What the oracle must know about a host whose commit it sees; `version` is that of its orchestrations."""

    name: str
    latest: Callable[[], datetime]
    taken_in: dict[str, tuple[HistoryEvent, ...]]
    version: str | None


class Oracle:
    """The model of the hub, and the findings so far.

    Attributes:
        is_calm: nothing is made to fail, so nothing may be late, repeated or lost.
    """

    def __init__(
        self,
        partitions: int,
        time: Callable[[], float],
        *,
        is_calm: bool,
        dispatches_max: int,
        trace: Callable[[str], None],
    ):
        self.partitions = partitions
        self.dispatches_max = dispatches_max
        self.is_calm = is_calm
        self.findings: list[Finding] = []
        self.rows: dict[str, Execution] = {}
        self.executions: dict[str, Execution] = {}
        self.mail: dict[str, Letter] = {}
        self.raised: dict[str, Raised] = {}
        self.activities: dict[str, Activity] = {}
        self._called: dict[tuple[str, int], Activity] = {}
        self.created: dict[str, int] = {}  # by request: how often it has made an instance
        self.replaced_running = 0
        self.known: set[str] = set()  # ids of all instances that there have been
        self.interferences = 0  # rewinds, replacements, purges, terminations of trees
        self.counts: Counter[str] = Counter()
        self.answers: dict[str, RuntimeStatus | None] = {}  # by message id: what `send` said
        self.grants = [0] * partitions
        self.holders: dict[int, tuple[int, str]] = {}
        self.is_settled = False  # leases have found their holders, so in a calm run they stay
        self.repeated_starts = 0
        self.committed = 0
        self.refused: set[tuple[str, int]] = set()  # calls of children, by execution and number
        self.boxes: dict[str, Box] = {}
        self.taken_from_clients: dict[str, tuple[int, int]] = {}  # by input: in which checkpoint, as the so-manieth
        self._entity_answers: dict[tuple[str, int], list[HistoryEvent]] = {}  # by caller
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

    def box(self, entity_id: str) -> Box:
        """The model of an entity."""
        return self.boxes.setdefault(entity_id, Box(entity_id, [None]))

    def note(self, line: str) -> None:
        """Put a line into the trace."""
        self._trace(line)

    def expect(self, holds: object, invariant: str, sentence: str) -> None:
        """Find a breach unless it holds."""
        if not holds:
            self.find(invariant, sentence)

    @property
    def idle(self) -> list[Execution]:
        """Instances that have not ended, and for which nothing has happened of late nor is on its way."""
        addressed = {letter.message.instance_id for letter in self.mail.values()}
        return [
            row
            for instance_id, row in sorted(self.rows.items())
            if row.end is None
            and instance_id not in addressed
            and not row.automaton.open_activities
            and self._time() - row.changed_at > IDLE_S
        ]

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
            self.counts["scheduled start"] += start.message is not None
            if start.message is not None:
                self._store(start.message)

    def _begin(self, row: Instance) -> None:
        """An instance comes into being, perhaps where another was."""
        request, instance_id = row.created_by, row.instance_id
        old = self.rows.get(instance_id)
        if old is not None:
            self.replaced_running += old.end is None
            self._let_go(old, (None, old.execution_id), "its instance was replaced")
            for answer in () if old.end is not None else farewell(_row_of(old), row.created_at):
                self.counts["replaced child answers"] += 1
                self._store(answer)
        self.created[request] = self.created.get(request, 0) + 1
        if self.created[request] > 1:
            self.find("A3", f"request {request} started {instance_id} {self.created[request]} times")
        self._add_execution(
            Execution(
                row.execution_id,
                instance_id,
                request,
                row.input,
                row.parent,
                EventAutomaton(instance_id),
                version=row.version,
                start_at=row.start_at,
                born_at=self._time(),
            )
        )

    def _let_go(self, old: Execution, takers: tuple[str | None, ...] | None, why: str) -> list[Message]:
        """An instance goes, and with it the mail of these executions of it, or all; returns that mail."""
        old.is_over = True
        self.interferences += 1
        gone = [
            letter.message
            for letter in self.mail.values()
            if letter.message.instance_id == old.instance_id
            and (takers is None or letter.message.execution_id in takers)
        ]
        for message in gone:
            del self.mail[message.message_id]
            self._gone[message.message_id] = message
            self._discarded(message, why)
        return gone

    def purging(
        self, instance_ids: Iterable[str], now: datetime, purged: frozenset[str], left: Callable[[list[str]], list[str]]
    ) -> None:
        """A store was asked to remove instances, and has removed some; `left` tells which messages are still there."""
        self._trace(f"purge {sorted(instance_ids)}: {sorted(purged)}")
        ended = {each for each in instance_ids if each in self.rows and self.rows[each].end is not None}
        self.expect(purged == ended, "O1", f"purged were {sorted(purged)}, but ended have {sorted(ended)}")
        self.counts["purged"] += len(purged)
        for instance_id in sorted(purged & self.rows.keys()):
            mail = self._let_go(self.rows.pop(instance_id), None, "its instance was purged")
            kept = left([message.message_id for message in mail])
            self.expect(not kept, "O1", f"{instance_id} was purged, but of its mail {kept} are left")
            for answer in answers_of_missing(mail, now):
                self._store(answer)

    def _add_execution(self, execution: Execution) -> None:
        execution.changed_at = self._time()
        self.known.add(execution.instance_id)
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
            if is_entity_id(message.instance_id):
                is_taken = status is RuntimeStatus.RUNNING
                self.expect(is_taken, "A3", f"mail for {message.instance_id} was not taken, but answered {status}")
                self._store(message)
                continue
            row = self.rows.get(message.instance_id)
            if row is None:
                self.expect(status is None, "A3", f"there is no {message.instance_id}, but the answer was {status}")
                continue
            self.expect(status == _status(row), "A3", f"{message.instance_id} is {_status(row)}, not {status}")
            if status is not None and takes_mail(status, message.event):
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
                is_stale = checkpoint.instance.instance_id in outcome.stale
                if not is_stale:
                    self._check_children(checkpoint)
                    for child in checkpoint.children:  # they come first: nobody becomes their own child by ending
                        if is_child(child):
                            self._child(child)
                        else:
                            self._refused(child)
                self._checkpoint(host, checkpoint, is_stale)
            for message_id in batch.discarded:
                self._discard(message_id)
            for message in batch.replies:
                self._store(message)

    def _batch(self, host: HostView, checkpoint: Checkpoint, is_stale: bool) -> None:
        """An entity has used up mail."""
        entity_id = checkpoint.instance.instance_id
        box = self.box(entity_id)
        is_current = box.follows(checkpoint)
        if is_stale:
            self._trace(f"{host.name} is stale on {entity_id} at {checkpoint.position}")
            self.expect(not is_current, "H2", f"the checkpoint of {entity_id} was refused as stale, but it is not")
            return
        self.expect(is_current, "H2", f"a checkpoint of {entity_id} does not follow what is stored")
        self.committed += 1
        mail: list[Message] = []
        for message_id in checkpoint.consumed:
            letter = self.mail.pop(message_id, None)
            if letter is None:
                self.find("M1", f"{entity_id} used up {message_id}, which is not in its mailbox")
                continue
            mail.append(letter.message)
            # What a lock holds up waits as long as that is held.
            since = max(letter.since, box.lock_moved_at if box.lock is None else self._time())
            self._check_promptness(letter, since + sum(box.batches_s))
            self._check_order(host, box, letter, len(mail))
        lock = box.lock
        sends: Counter[tuple[object, ...]] = Counter()
        for each in box.take(mail, checkpoint.instance.updated_at):
            if isinstance(each, Message):
                sends[_kind_of(each)] += 1
            else:
                self.find(*each)
        if lock != box.lock or any(isinstance(message.event, EntityLock | EntityUnlock) for message in mail):
            box.lock_moved_at = self._time()
        names = " ".join(type(message.event).__name__ for message in mail)
        self._trace(f"{host.name} commits {entity_id} at {checkpoint.position}: {names}")
        said = checkpoint.instance.entity
        self.expect(said == box.state, "E1", f"{entity_id} is {said}, not {box.state}, after {names}")
        sent = Counter(map(_kind_of, checkpoint.messages))
        self.expect(sent == sends, "E1", f"{entity_id} sent {sent - sends} too much and {sends - sent} not at all")
        is_gone = box.states[-1] is None and box.lock is None
        self.expect(checkpoint.deletes == is_gone, "E1", f"{entity_id} is gone or is not, but {box.state}")
        box.execution_id = None if checkpoint.deletes else checkpoint.execution_id
        box.position = 0 if checkpoint.deletes else checkpoint.position + 1
        self.counts["operation"] += sum(isinstance(message.event, EntityOperation) for message in mail)
        self.counts["locked"] += lock is None and box.lock is not None
        self.counts["entity gone"] += checkpoint.deletes
        for message in checkpoint.messages:
            if isinstance(message.event, EntityOperationCompleted | EntityOperationFailed):
                caller = (message.execution_id or "", message.event.task_id)
                self._entity_answers.setdefault(caller, []).append(message.event)
            self._store(message, entity_id)

    def _check_order(self, host: HostView, box: Box, letter: Letter, letter_place: int) -> None:
        """What one sender sends at once is run in its order, what is to come later not too early."""
        message = letter.message
        if message.deliver_at is not None:
            is_due = message.deliver_at <= host.latest()
            self.expect(is_due, "T1", f"{message.event} for {box.instance_id} ran before {message.deliver_at}")
        elif isinstance(message.event, EntityOperation) and not letter.sender:
            self.taken_from_clients[message.event.input or ""] = (self.committed, letter_place)
        elif isinstance(message.event, EntityOperation):
            is_next = letter.number > box.last_taken.get(letter.sender, -1)
            self.expect(is_next, "M4", f"{box.instance_id} ran {message.event} of {letter.sender} out of order")
            box.last_taken[letter.sender] = letter.number

    def _check_sends(self, row: Execution, checkpoint: Checkpoint, episode: Sequence[HistoryEvent]) -> None:
        """What is decided about entities is sent, and locks are given back in the end."""
        sent = [(each.instance_id, each.event) for each in checkpoint.messages]
        operations = [(to, event) for to, event in sent if isinstance(event, EntityOperation)]
        signals = Counter(
            (each.instance_id, each.event.operation, each.event.input, each.deliver_at)
            for each in checkpoint.messages
            if isinstance(each.event, EntityOperation) and each.event.caller is None
        )
        called = {(to, each.caller.task_id) for to, each in operations if each.caller is not None}
        for event in episode:
            if isinstance(event, EntityOperationCalled):
                is_sent = (event.instance_id, event.event_id) in called
                self.expect(is_sent, "E1", f"{row.instance_id} called, but did not send {event}")
            elif isinstance(event, EntityOperationSignaled):
                key = (event.instance_id, event.operation, event.input, event.deliver_at)
                signals[key] -= 1
                self.expect(signals[key] >= 0, "E1", f"{row.instance_id} signalled, but did not send {event}")
            elif isinstance(event, EntityUnlockSent):
                self._check_release(row, row.locks.pop(event.lock_id), sent)
        for to, event in sent:
            if isinstance(event, EntityLock):
                # What is asked for and given up in one go is not known before.
                rewinds = event.owner.execution_id.partition("/r")[2]
                held = HeldLock(event.owner.task_id, event.entities, int(rewinds or 0))
                if not any(isinstance(each, EntityUnlockSent) and each.lock_id == held.lock_id for each in episode):
                    row.locks[held.lock_id] = held
                self.expect(to == event.entities[0], "K1", f"{row.instance_id} asked {to} first for {event.entities}")
        if checkpoint.instance.status.is_terminal or not checkpoint.position_after:
            self.counts["ended under a lock"] += bool(row.locks)
            for held in row.locks.values():
                self._check_release(row, held, sent)
            row.locks.clear()

    def _check_release(self, row: Execution, held: HeldLock, sent: Sequence[tuple[str, HistoryEvent]]) -> None:
        freed = [
            (to, event) for to, event in sent if isinstance(event, EntityUnlock) and event.owner.task_id == held.lock_id
        ]
        told = {to for to, _ in freed} | {each for _, event in freed for each in event.entities}
        self.expect(told == {*held.entities}, "K2", f"{row.instance_id} gave back {told} of {held.entities}")

    def _grant(self, row: Execution, message: Message, event: EntityLockGranted) -> None:
        held = row.locks.get(event.task_id)
        if held is None:
            self.find("K1", f"{row.instance_id} was granted a lock that it does not want: {event}")
            return
        self.counts["granted"] += 1
        for entity_id in held.entities:
            lock = self.box(entity_id).lock
            is_held = lock is not None and (lock.instance_id, lock.execution_id, lock.task_id) == (
                row.instance_id,
                message.execution_id,
                event.task_id,
            )
            self.expect(is_held, "K1", f"{row.instance_id} was granted {held}, but {entity_id} is locked for {lock}")

    def _checkpoint(self, host: HostView, checkpoint: Checkpoint, is_stale: bool) -> None:
        instance_id = checkpoint.instance.instance_id
        if is_entity_id(instance_id):
            self._batch(host, checkpoint, is_stale)
            return
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
        self.committed += 1
        events = host.taken_in.get(row.execution_id, ()) if not checkpoint.position_after else checkpoint.events
        episode = events
        is_rewind = checkpoint.replaces_history and any(isinstance(event, ExecutionRewound) for event in events)
        if is_rewind:
            episode = self._rewound(row, checkpoint, events)
        self.expect(row.end is None, "H3", f"a checkpoint of {what} follows the end")
        names = " ".join(type(event).__name__ for event in episode)
        self._trace(f"{host.name} commits {what}: {names}{' and goes on as new' * (not checkpoint.position_after)}")
        self._take_in(host, row, checkpoint, episode)
        self._check_halt(host, row, checkpoint, episode)
        for event in episode:
            try:
                row.automaton.step(event)
            except IllegalHistoryError as error:
                self.find("H2", str(error))
        row.events.extend(episode)
        row.rewinds_before.update({event.event_id: row.rewinds for event in episode if isinstance(event, DECISIONS)})
        row.position = checkpoint.position_after or checkpoint.position + 1
        row.changed_at = self._time()
        self._count(episode)
        if any(isinstance(event, STEERING) for event in episode):
            row.steered_at = self._time()
        row.custom_status = checkpoint.instance.custom_status
        for task in checkpoint.activities:
            self._scheduled(task)
        end = next((event for event in episode if isinstance(event, ExecutionTerminated)), None)
        if end is not None and end.recursive:
            self._check_descent(row, checkpoint)
        self._check_status(row, checkpoint)
        self._check_sends(row, checkpoint, episode)
        for message in checkpoint.messages:
            self._store(message, row.execution_id)
            if isinstance(message.event, EventRaised) and not message.is_carried:
                self.raised[message.message_id] = Raised(message, None)

    def _count(self, episode: Sequence[HistoryEvent]) -> None:
        names = Counter(type(event) for event in episode)
        self.counts["suspended"] += names[ExecutionSuspended]
        self.counts["told"] += names[EventSent]
        self.counts["tried again"] += bool(names[TaskFailed] and names[TimerCreated])

    def _scheduled(self, task: ActivityTask) -> None:
        """A call is durable; after a rewind perhaps once more, and its result may be that of a run from before."""
        grants = self.grants[partition_of(task.instance_id, self.partitions)]
        activity = Activity(grants, task.input)
        before = self.activities.get(task.activity_id)
        if before is not None and before.given == task.input:
            activity.results = before.results
        self.activities[task.activity_id] = activity
        self._called[task.execution_id, task.task_id] = activity

    def _rewound(
        self, row: Execution, checkpoint: Checkpoint, events: Sequence[HistoryEvent]
    ) -> Sequence[HistoryEvent]:
        """A failed execution goes on from what is left of its history; returns the events of the episode itself."""
        place = max(number for number, event in enumerate(events) if isinstance(event, ExecutionRewound))
        begin = max(number for number in range(place) if isinstance(events[number], OrchestratorStarted))
        kept = list(events[:begin])
        self.counts["rewound"] += 1
        self.interferences += 1
        is_failed = row.end is not None and row.end.status is RuntimeStatus.FAILED
        self.expect(is_failed, "W1", f"{row.instance_id} was rewound, but is {_status(row)}")
        failure = checkpoint.instance.failure
        if failure is None or failure.error_type != "VersionMismatch":  # then the program was not even asked
            for breach in what_left(row.events, kept, row.given):
                self.find("W1", f"{row.instance_id} was rewound: {breach}")
        row.automaton = EventAutomaton(row.instance_id)
        for event in kept:
            try:
                row.automaton.step(event)
            except IllegalHistoryError as error:
                self.find("W1", str(error))
        row.events = kept
        row.position = 0
        row.end = None
        row.rewinds += 1
        row.rewound_at = self._time()
        return events[begin:]

    def _check_children(self, checkpoint: Checkpoint) -> None:
        """A child that has completed is not called again."""
        for child in checkpoint.children:
            there = self.rows.get(child.instance_id)
            is_done = there is not None and there.end is not None and there.end.status is RuntimeStatus.COMPLETED
            is_again = is_done and there is not None and there.parent == child.parent
            self.expect(not is_again, "W1", f"{child.instance_id} has completed, but is called again")

    def _check_halt(
        self, host: HostView, row: Execution, checkpoint: Checkpoint, events: Sequence[HistoryEvent]
    ) -> None:
        """Nothing is decided while suspended, or too early."""
        end = next((event for event in events if isinstance(event, ExecutionTerminated)), None)
        # A rewind brings back what was decided, or how it ended, before the suspension that still lasts.
        is_resumed = any(isinstance(event, ExecutionResumed | ExecutionRewound) for event in events)
        decided = [event for event in events if isinstance(event, DECISIONS)]
        is_over = checkpoint.instance.status.is_terminal or not checkpoint.position_after
        if row.automaton.is_suspended and not is_resumed and end is None:
            self.expect(
                not decided and not is_over, "S2", f"{row.instance_id} decided {decided} while it was suspended"
            )
            is_same = checkpoint.instance.custom_status == row.custom_status
            self.expect(is_same, "S2", f"{row.instance_id} spoke while it was suspended")
        if end is None and host.version is not None and (row.version or "") > host.version:
            failure = checkpoint.instance.failure
            is_refused = failure is not None and failure.error_type == "VersionMismatch"
            self.counts["wrong version"] += 1
            self.expect(is_refused, "N", f"{row.instance_id} of {row.version} ran on {host.name} of {host.version}")
        is_first = row.position == 0 and not row.rewinds
        if is_first and row.start_at is not None and end is None:
            self.expect(host.latest() >= row.start_at, "T1", f"{row.instance_id} began before {row.start_at}")

    def _check_descent(self, row: Execution, checkpoint: Checkpoint) -> None:
        """What ends with all below it says so to all below it."""
        self.interferences += 1
        told = {
            (message.instance_id, message.event.parent.task_id)
            for message in checkpoint.messages
            if isinstance(message.event, ExecutionTerminated) and message.event.recursive and message.event.parent
        }
        for call in row.automaton.open.values():
            if isinstance(call, SubOrchestrationInstanceCreated):
                self.counts["terminated with its parent"] += 1
                is_told = (call.instance_id, call.event_id) in told
                self.expect(is_told, "P4", f"{row.instance_id} ends with all below it, but {call.instance_id} does not")

    def _check_status(self, row: Execution, checkpoint: Checkpoint) -> None:
        instance = checkpoint.instance
        is_suspended = row.automaton.is_suspended
        if not checkpoint.position_after:
            row.continued_with = instance.execution_id
            row.passed_on = [
                each.event for each in checkpoint.messages if each.is_carried and isinstance(each.event, EventRaised)
            ]
            halts = [each for each in checkpoint.messages if isinstance(each.event, ExecutionSuspended)]
            self.expect(
                bool(halts) == is_suspended, "S2", f"{row.instance_id} goes on as new and forgets that it is suspended"
            )
            self._add_execution(
                Execution(
                    instance.execution_id,
                    instance.instance_id,
                    row.created_by,
                    instance.input,
                    row.parent,
                    EventAutomaton(instance.instance_id),
                    version=instance.version,
                    is_born_suspended=is_suspended,
                    born_at=row.born_at,
                    steered_at=row.steered_at,
                    rewound_at=row.rewound_at,
                    carried=[encode_event(each) for each in row.passed_on],
                    inherited_status=instance.custom_status,
                    custom_status=instance.custom_status,
                )
            )
        elif instance.status.is_terminal:
            row.end = instance
            row.ends.append(instance)
        if row.end is None:
            halted = RuntimeStatus.SUSPENDED if is_suspended else RuntimeStatus.RUNNING
            self.expect(
                instance.status is halted, "S2", f"the row of {row.instance_id} says {instance.status}, not {halted}"
            )
        has_open_work = (not checkpoint.position_after) or (row.end is None and row.automaton.open_activities > 0)
        self.expect(checkpoint.has_open_work == has_open_work, "L3", f"open work of {instance.instance_id} is wrong")

    def _take_in(self, host: HostView, row: Execution, checkpoint: Checkpoint, events: Sequence[HistoryEvent]) -> None:
        """What arrived came from somewhere, and what was consumed has arrived, or was dropped for a reason."""
        scheduled = {event.event_id for event in row.events if hasattr(event, "event_id")}
        is_terminated = any(isinstance(event, ExecutionTerminated) for event in events)
        is_rewind = any(isinstance(event, ExecutionRewound) for event in events)  # what came before it came too late
        # A timer that was cancelled is consumed again at the end, if the history was read since: it does not say so.
        own_timers = {f"{row.execution_id}/{event.event_id}" for event in row.events if isinstance(event, TimerCreated)}
        own_timers |= {f"{each}/r{row.rewinds}" for each in own_timers}
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
        unexplained: dict[bytes, list[Message]] = {}
        for message in letters:
            unexplained.setdefault(encode_event(message.event), []).append(message)
        for number, event in enumerate(events):
            match event:
                case TaskCompleted() | TaskFailed():
                    self._result(row, event)
                case (
                    EventRaised()
                    | TimerFired()
                    | ExecutionTerminated()
                    | ExecutionSuspended()
                    | ExecutionResumed()
                    | ExecutionRewound()
                    | SubOrchestrationInstanceCompleted()
                    | SubOrchestrationInstanceFailed()
                    | EntityOperationCompleted()
                    | EntityOperationFailed()
                    | EntityLockGranted()
                ):
                    alike = unexplained.get(encode_event(event))
                    if not alike:
                        self.find("M1", f"{row.instance_id} took in {event}, which it did not consume")
                        continue
                    # What was for an execution that was replaced may be just the same.
                    message = next((each for each in alike if self._is_addressed(row, each)), alike[0])
                    alike.remove(message)
                    if message.message_id in self.raised:
                        self._arrived(self.raised[message.message_id], row, number)
                    if isinstance(event, EntityLockGranted):
                        self._grant(row, message, event)
                    elif isinstance(event, EntityOperationCompleted | EntityOperationFailed):
                        known = self._entity_answers.get((message.execution_id or "", event.task_id), [])
                        self.expect(event in known, "E1", f"{row.instance_id} has {event}, which no entity answered")
                    sender = getattr(event, "parent", None)
                    self.expect(sender in (None, row.parent), "P4", f"{row.instance_id} obeyed another's parent")
                case _:
                    pass
            if isinstance(event, TimerFired):
                is_due = event.fire_at <= host.latest()
                self.expect(is_due, "T1", f"timer {event.task_id} of {row.instance_id} fired before {event.fire_at}")
            elif isinstance(event, Answer):
                self._check_answer(row, event)
        halts = {type(event) for event in events if isinstance(event, ExecutionSuspended | ExecutionResumed)}
        answered = {getattr(event, "task_id", None) for event in events} - {None}
        for message in [each for alike in unexplained.values() for each in alike]:
            is_dropped = is_terminated or is_rewind or self._may_drop(row, message, scheduled)
            is_dropped = is_dropped or type(message.event) in halts
            is_dropped = is_dropped or getattr(message.event, "task_id", None) in answered
            self.expect(is_dropped, "M2", f"{row.instance_id} consumed {message.message_id} without effect")
            self._discarded(message, "dropped by an episode")

    def _arrived(self, raised: Raised, row: Execution, number: int) -> None:
        self.expect(raised.arrival is None, "M1", f"an event arrived at {row.instance_id} twice")
        is_for_it = raised.created_by in (None, row.created_by) or raised.discarded is not None
        self.expect(is_for_it, "M1", f"an event for another start of {row.instance_id} came")
        raised.is_ghost = raised.discarded is not None
        raised.arrival, raised.discarded = (self.committed, number), None

    def _result(self, row: Execution, event: TaskCompleted | TaskFailed) -> None:
        activity = self._called.get((row.execution_id, event.task_id))
        result = event.result if isinstance(event, TaskCompleted) else None
        is_known = activity is not None and result in activity.results
        if isinstance(event, TaskFailed) and event.failure.error_type == "PoisonMessage":
            is_known = activity is not None and activity.dispatches > self.dispatches_max
            self.counts["poison"] += 1
        self.expect(is_known, "L-A", f"no activity gave {row.instance_id} the result of its task {event.task_id}")

    def _check_answer(self, row: Execution, event: Answer) -> None:
        """A child's answer is what the child came to; or there is no such child."""
        call = row.automaton.open.get(event.task_id)
        children = self._children(row.execution_id, event.task_id)
        if isinstance(call, SubOrchestrationInstanceCreated):
            children = [each for each in children if each.instance_id == call.instance_id]
        ends = [end for each in children for end in each.ends]
        if isinstance(event, SubOrchestrationInstanceCompleted):
            is_true = any(end.failure is None and end.output == event.result for end in ends)
        elif event.failure.error_type == "InstanceAlreadyExists":
            is_true = (row.execution_id, event.task_id) in self.refused or any(each.is_over for each in children)
            is_true = is_true or any(end.failure == event.failure for end in ends)
        elif event.failure.error_type in NO_CHILD:
            is_true = any(each.is_over for each in children) or any(end.failure == event.failure for end in ends)
            is_true = is_true or (row.execution_id, event.task_id) in self.refused
        else:
            is_true = any(end.failure == event.failure for end in ends)
        self.expect(is_true, "P2", f"{row.instance_id} has an answer that its child did not give: {event}")

    def _children(self, execution_id: str, task_id: int) -> list[Execution]:
        """All generations of the children that a call has made."""
        return [
            each
            for each in self.executions.values()
            if each.parent is not None
            and (_caller(each.parent.execution_id), each.parent.task_id) == (execution_id, task_id)
        ]

    def _may_drop(self, row: Execution, message: Message, scheduled: set[int]) -> bool:
        event: Any = message.event
        if message.execution_id is not None and not self._is_addressed(row, message):
            return True
        if isinstance(event, ExecutionRewound):
            is_meant = event.parent in (None, row.parent)
            return not is_meant or row.end is None or row.end.status is not RuntimeStatus.FAILED
        if isinstance(event, ExecutionStarted) or row.end is not None:
            return True
        if isinstance(event, ExecutionTerminated):
            return event.parent not in (None, row.parent)
        if isinstance(event, ExecutionSuspended | ExecutionResumed):
            return row.automaton.is_suspended is isinstance(event, ExecutionSuspended)
        if isinstance(event, EventRaised):
            return False
        if isinstance(event, EntityLockGranted) and event.task_id not in row.locks:
            return True
        return (
            event.task_id not in scheduled or event.task_id not in row.automaton.open or isinstance(event, TimerFired)
        )

    def _is_addressed(self, row: Execution, message: Message) -> bool:
        """Whether a message is for this execution, and for the call that has the number now."""
        if message.execution_id is None or _caller(message.execution_id) != row.execution_id:
            return message.execution_id is None
        if isinstance(message.event, EntityLockGranted):
            held = row.locks.get(message.event.task_id)
            rewinds = 0 if held is None else held.rewinds
            return message.execution_id == (f"{row.execution_id}/r{rewinds}" if rewinds else row.execution_id)
        if not isinstance(message.event, Answer | EntityOperationCompleted | EntityOperationFailed):
            return message.execution_id == row.execution_id
        rewinds = row.rewinds_before.get(message.event.task_id, 0)
        return message.execution_id == (f"{row.execution_id}/r{rewinds}" if rewinds else row.execution_id)

    def _child(self, child: Instance) -> None:
        known = self.executions.get(child.execution_id)
        if known is None:
            self._begin(child)

    def _refused(self, child: Instance) -> None:
        if child.parent is not None:
            self.refused.add((_caller(child.parent.execution_id), child.parent.task_id))

    def _discard(self, message_id: str) -> None:
        letter = self.mail.pop(message_id, None)
        if letter is not None and is_entity_id(letter.message.instance_id):
            self.find("E1", f"{letter.message.event} for {letter.message.instance_id} was discarded")
            return
        if letter is None:
            is_gone = self._gone.pop(message_id, None) is not None
            self.expect(is_gone, "M1", f"{message_id} was discarded, but is not there")
            return
        self._check_promptness(letter)
        message = letter.message
        row = self.rows.get(message.instance_id)
        if row is not None and not self._may_discard(row, letter):
            self.find("M2", f"{message.event} for {message.instance_id} was discarded without reason")
        self._discarded(message, "discarded")

    def _may_discard(self, row: Execution, letter: Letter) -> bool:
        """Whether an instance may leave a message unread. When that was decided, it may have been in another state."""
        if letter.stored_at <= row.born_at:
            return True
        if isinstance(letter.message.event, STEERING) and letter.stored_at <= row.steered_at:
            return True
        if letter.stored_at <= row.rewound_at:  # then it had ended
            return True
        return self._may_drop(row, letter.message, {*row.automaton.open})

    def _discarded(self, message: Message, why: str) -> None:
        raised = self.raised.get(message.message_id)
        if raised is not None and raised.arrival is None:
            raised.discarded = why

    # ------------------------------------------------------------------ mail

    def _store(self, message: Message, sender: str = "") -> None:
        if message.message_id in self._ids_seen:
            if message.message_id not in self.mail:
                self.find("M3", f"message {message.message_id} was stored again after it was used up")
            return
        self._ids_seen.add(message.message_id)
        since = self._time()
        if message.deliver_at is not None:
            since = max(since, _seconds(message.deliver_at))
        self.mail[message.message_id] = Letter(message, self._time(), since, sender, len(self._ids_seen))

    def _check_promptness(self, letter: Letter, since: float = 0.0) -> None:
        since = max(since, letter.since)
        row = self.rows.get(letter.message.instance_id)
        if row is not None and row.start_at is not None:  # until then, mail waits
            since = max(since, _seconds(row.start_at))
        if self.is_calm and self.is_settled and self._time() - since > LATE_S:
            late = self._time() - since
            self.find("L4", f"{letter.message.event} for {letter.message.instance_id} was read {late:.1f} s late")

    # ------------------------------------------------------------------ activities

    def dispatched(self, activities: Sequence[ActivityTask], counts: Sequence[int]) -> None:
        """Activities that a crash interrupted are about to run again, for the so-manieth time."""
        for task, count in zip(activities, counts, strict=True):
            activity = self.activities.get(task.activity_id)
            if activity is not None and count:
                self.expect(count == activity.dispatches + 1, "L-A", f"{task.activity_id} was counted to {count}")
                activity.dispatches = count

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
        if activity is not None and activity.given == task.input:
            activity.results.add(result.result if isinstance(result, Completed) else None)

    def reads(self, host: str, instance_id: str, execution_id: str, events: Sequence[HistoryEvent]) -> None:
        """A host shows new events to an orchestrator: what another sent must be durable by then."""
        for event in events:
            if isinstance(event, EntityOperationCompleted | EntityOperationFailed):
                known_answers = [
                    each
                    for (caller, task_id), answers in self._entity_answers.items()
                    if (_caller(caller), task_id) == (execution_id, event.task_id)
                    for each in answers
                ]
                self.expect(event in known_answers, "A2", f"{host}: {instance_id} hears {event} before it is durable")
            if isinstance(event, Answer):
                is_refused = isinstance(event, SubOrchestrationInstanceFailed) and event.failure.error_type in NO_CHILD
                known = [] if is_refused else self._children(execution_id, event.task_id)
                if known and not any(each.ends or each.is_over for each in known):
                    self.find("A2", f"{host}: {instance_id} hears of a child that has not ended durably")


_IsChild = Callable[[Instance], bool]


def _status(execution: Execution) -> RuntimeStatus:
    if execution.end is not None:
        return execution.end.status
    if execution.position == 0 and execution.execution_id == execution.created_by:
        return RuntimeStatus.PENDING
    is_suspended = execution.automaton.is_suspended or (execution.is_born_suspended and not execution.position)
    return RuntimeStatus.SUSPENDED if is_suspended else RuntimeStatus.RUNNING


def _row_of(execution: Execution) -> Instance:
    """As much of a row as says whom it owes an answer."""
    now = VIRTUAL_EPOCH
    return Instance(
        execution.instance_id,
        execution.execution_id,
        ORCHESTRATOR,
        _status(execution),
        now,
        now,
        execution.created_by,
        parent=execution.parent,
        locks=tuple(execution.locks.values()),
    )


def _kind_of(message: Message) -> tuple[object, ...]:
    """What a message of an entity says, whatever its id and time."""
    event: Any = message.event
    owner = getattr(event, "owner", None)
    what = getattr(event, "input", None), getattr(event, "result", None), getattr(event, "task_id", None)
    return message.instance_id, message.execution_id, type(event).__name__, owner, getattr(event, "place", None), *what


def _caller(execution_id: str) -> str:
    """The execution that made a call; those made after a rewind say so."""
    return execution_id.partition("/r")[0]


def _seconds(when: datetime) -> float:
    return (when - VIRTUAL_EPOCH) / timedelta(seconds=1)
