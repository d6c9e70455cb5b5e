"""What an instance is between episodes, and how an episode changes it.

Rule 1: `accept` decides which mail becomes history, `apply` what the code's actions become; nobody else does either.
Rule 2: no clock: the episode's time is the `now` of `accept`, never before the last one nor before a timer it fires.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, assert_never
from uuid import NAMESPACE_OID, UUID, uuid5

from msgspec import Struct
from msgspec.structs import replace

from perdure.core.actions import (
    CallEntity,
    CancelTimer,
    CompleteOrchestration,
    ContinueAsNew,
    CreateSubOrchestration,
    CreateTimer,
    LockEntities,
    OrchestratorAction,
    ScheduleTask,
    SendEvent,
    SignalEntity,
    UnlockEntities,
)
from perdure.core.automaton import EventAutomaton
from perdure.core.codec import payloads
from perdure.core.events import (
    EntityLock,
    EntityLockGranted,
    EntityLockRequested,
    EntityOperation,
    EntityOperationCalled,
    EntityOperationCompleted,
    EntityOperationFailed,
    EntityOperationSignaled,
    EntityUnlock,
    EntityUnlockSent,
    EventRaised,
    EventSent,
    ExecutionCompleted,
    ExecutionResumed,
    ExecutionRewound,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
    HistoryEvent,
    OrchestratorCompleted,
    OrchestratorStarted,
    ParentInstance,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceCreated,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
    TimerCreated,
    TimerFired,
)
from perdure.core.failures import FailureDetails
from perdure.core.records import (
    ActivityTask,
    Checkpoint,
    HeldLock,
    Instance,
    Message,
    RuntimeStatus,
    StoredInstance,
)


class Episode(Struct, frozen=True):
    """What one episode takes in.

    Attributes:
        events: the new events, OrchestratorStarted first; empty if no mail survived and nothing is to run.
        now: the episode's time.
        consumed: ids of all stored mail that was looked at, taken in or not.
        dropped: how many messages were not taken in, by reason.
        replies: answers that dropping owes to others.
        is_terminated: the code does not run: the instance ends here.
        is_rewind: a failed execution tries again; its history is `RuntimeState.rewind`'s to write.
        is_early: the instance is not to start yet: nothing happens now, and all the mail waits.
        rest: mail for after this episode.
    """

    events: tuple[HistoryEvent, ...]
    now: datetime
    consumed: tuple[str, ...]
    dropped: dict[str, int]
    replies: tuple[Message, ...]
    is_terminated: bool
    is_rewind: bool = False
    is_early: bool = False
    rest: tuple[Message, ...] = ()


class RuntimeState:
    """An instance's row, its position, and what its history leaves open.

    Invariants: `position` counts the checkpoints of this execution, the one being committed included; the automaton
    has seen exactly their events.
    """

    __slots__ = ("automaton", "instance", "position")

    def __init__(self, stored: StoredInstance) -> None:
        self.instance = stored.instance
        self.position = stored.position
        self.automaton = EventAutomaton(stored.instance.instance_id)
        for event in stored.events:
            self.automaton.step(event)

    @property
    def is_finished(self) -> bool:
        """Nothing more will happen to this execution."""
        return self.instance.status.is_terminal

    def open_activities(self) -> list[ActivityTask]:
        """The activity calls without an answer, in order."""
        if not self.automaton.open_activities:
            return []
        return [self.activity(event) for event in self.automaton.open.values() if isinstance(event, TaskScheduled)]

    # ------------------------------------------------------------------ mail → events

    def accept(self, mail: Sequence[Message], now: datetime) -> Episode:
        """Turn mail into the new events of an episode; what is stale, repeated or too late is dropped.

        Args:
            mail: what arrived, in order of delivery.
            now: the engine's time; the episode's own may be later, never earlier than anything it has seen.
        """
        if self.is_finished:
            return self._accept_late(mail, now)
        instance, automaton = self.instance, self.automaton
        taken: list[HistoryEvent] = []
        answered: set[int] = set()
        dropped: dict[str, int] = {}
        replies: list[Message] = []
        stamp = now if automaton.stamp is None else max(now, automaton.stamp)
        is_terminated, is_suspended = False, automaton.is_suspended
        is_due = instance.start_at is None or instance.start_at <= now or instance.execution_id != instance.created_by
        for message in mail:
            event = message.event
            task_id: int | None = getattr(event, "task_id", None)
            reason = None
            if isinstance(event, ExecutionStarted):
                if event.execution_id in (instance.created_by, instance.execution_id):
                    # It only wakes the instance, whose event is made from the row, perhaps generations ago.
                    is_due = is_due or event.execution_id == instance.execution_id
                    continue
                reason = "of another execution"
                replies += _refusals(instance, event, now)
            elif message.execution_id is not None and (
                self._is_of_another_call(message, task_id)
                if automaton.rewinds
                else message.execution_id != instance.execution_id
            ):
                reason = "of another execution"
            elif is_terminated:
                reason = "after termination"
            elif task_id is None:
                reason = self._pointless(event, is_suspended)
            elif task_id in answered or not automaton.answers_open(event):
                reason = "repeated"
            elif type(event) is EntityLockGranted and self._lock_owner(event.task_id) is None:
                reason = "withdrawn"
            if reason is not None:
                dropped[reason] = dropped.get(reason, 0) + 1
                replies += self._refused_rewind(message, now)
                continue
            taken.append(event)
            if task_id is not None:
                answered.add(task_id)
                if isinstance(event, TimerFired):
                    stamp = max(stamp, event.fire_at)
            elif isinstance(event, ExecutionTerminated):
                is_terminated = True
            elif isinstance(event, ExecutionSuspended | ExecutionResumed):
                is_suspended = isinstance(event, ExecutionSuspended)
        events: tuple[HistoryEvent, ...] = ()
        if self.position == 0:
            if not is_due and not is_terminated:
                return Episode((), now, (), {}, (), False, is_early=True)
            if instance.start_at is not None and not is_terminated:
                stamp = max(stamp, instance.start_at)
            events = (OrchestratorStarted(stamp), self._execution_started(stamp), *taken)
        elif taken:
            events = (OrchestratorStarted(stamp), *taken)
        return Episode(events, stamp, _stored_ids(mail), dropped, tuple(replies), is_terminated)

    def _accept_late(self, mail: Sequence[Message], now: datetime) -> Episode:
        """What mail to a finished instance comes to: nothing, unless it is to rewind a failed one."""
        automaton = self.automaton
        stamp = now if automaton.stamp is None else max(now, automaton.stamp)
        dropped: dict[str, int] = {}
        replies: list[Message] = []
        for number, message in enumerate(mail):
            event = message.event
            if isinstance(event, ExecutionStarted):
                if event.execution_id in (self.instance.created_by, self.instance.execution_id):
                    continue
                replies += _refusals(self.instance, event, now)
            if self._can_rewind(event):
                consumed, rest = _stored_ids(mail[: number + 1]), tuple(mail[number + 1 :])
                events = (OrchestratorStarted(stamp), event)
                return Episode(events, stamp, consumed, dropped, tuple(replies), False, is_rewind=True, rest=rest)
            replies += self._refused_rewind(message, now)
            dropped["for a finished instance"] = dropped.get("for a finished instance", 0) + 1
        return Episode((), stamp, _stored_ids(mail), dropped, tuple(replies), False)

    def _is_of_another_call(self, message: Message, task_id: int | None) -> bool:
        """A message is for another execution, or answers a call whose number another has since a rewind took it."""
        match message.event:
            case TaskCompleted() | TaskFailed() if task_id is not None:
                is_ours = message.message_id == f"{self.call_id(task_id)}/{task_id}"
                return not is_ours or message.execution_id != self.instance.execution_id
            case SubOrchestrationInstanceCompleted() | SubOrchestrationInstanceFailed() if task_id is not None:
                return message.execution_id != self.call_id(task_id)
            case EntityOperationCompleted() | EntityOperationFailed() if task_id is not None:
                return message.execution_id != self.call_id(task_id)
            case EntityLockGranted() if task_id is not None:
                owner = self._lock_owner(task_id)
                return owner is not None and message.execution_id != owner.execution_id
            case _:
                return message.execution_id != self.instance.execution_id

    def _lock_owner(self, lock_id: int) -> ParentInstance | None:
        """What entities know this execution by as the owner of locks, or None if it has given these back."""
        return next((held.owner(self.instance) for held in self.instance.locks if held.lock_id == lock_id), None)

    def call_id(self, task_id: int) -> str:
        """The execution's id, as calls know it: those made after a rewind may have numbers that others had before."""
        rewinds = self.automaton.rewinds_before.get(task_id)
        return self.instance.execution_id if rewinds is None else f"{self.instance.execution_id}/r{rewinds}"

    def _refused_rewind(self, message: Message, now: datetime) -> list[Message]:
        """What a parent hears whose child gave way to this instance before it could be rewound."""
        event = message.event
        if not isinstance(event, ExecutionRewound) or event.parent in (None, self.instance.parent):
            return []
        return answers_to_rewinds([message], now)

    def _can_rewind(self, event: HistoryEvent) -> bool:
        is_meant = isinstance(event, ExecutionRewound) and event.parent in (None, self.instance.parent)
        return is_meant and self.instance.status is RuntimeStatus.FAILED

    def _pointless(self, event: HistoryEvent, is_suspended: bool) -> str | None:
        """Why an event that steers the instance is not taken in, or None."""
        match event:
            case EventRaised():
                return None
            case ExecutionTerminated():
                return None if event.parent in (None, self.instance.parent) else "of another execution"
            case ExecutionSuspended():
                return "already suspended" if is_suspended else None
            case ExecutionResumed():
                return None if is_suspended else "not suspended"
            case _:
                return "not failed"

    def _execution_started(self, now: datetime) -> ExecutionStarted:
        row = self.instance
        return ExecutionStarted(
            now, row.execution_id, row.name, row.input, row.version, row.parent, row.tags, row.start_at
        )

    # ------------------------------------------------------------------ actions → checkpoint

    def apply(
        self,
        episode: Episode,
        actions: Iterable[OrchestratorAction],
        custom_status: str | None,
        default_version: str | None = None,
    ) -> Checkpoint:
        """Turn an episode and what the code decided in it into its checkpoint; this state becomes what follows it.

        Args:
            actions: in order of decision.
            custom_status: JSON text of what the code last set; None if this execution has set none, and the one of
                the execution before it stays.
            default_version: of children whose call names none.

        Raises:
            IllegalHistoryError: the events that result may not follow this history (a defect).
        """
        draft = _Draft(self, episode, custom_status, default_version)
        if episode.is_terminated:
            draft.terminate()
        else:
            for action in actions:
                draft.act(action)
        return self._moved(draft.checkpoint())

    def rewind(
        self,
        episode: Episode,
        kept: Sequence[HistoryEvent],
        actions: Iterable[OrchestratorAction],
        custom_status: str | None,
        awaited: Collection[int],
        children: Mapping[str, Instance],
        default_version: str | None = None,
    ) -> Checkpoint:
        """Turn an episode that rewinds a failed execution into its checkpoint, as `apply` does with others.

        Args:
            kept: what is left of the history, from `core.rewind`.
            awaited: numbers of the decisions that the code, run over `kept`, expects an answer to.
            children: the rows, by instance id, that those decisions' child orchestrations have now.

        Raises:
            IllegalHistoryError: what is left is not a legal history (a defect).
        """
        self.automaton = EventAutomaton(self.instance.instance_id)
        for event in kept:
            self.automaton.step(event)
        draft = _Draft(self, episode, custom_status, default_version, kept)
        decided = list(actions)
        if not any(isinstance(each, CompleteOrchestration) and each.failure is not None for each in decided):
            draft.take_up_again(awaited, children)
        for action in decided:
            draft.act(action)
        return self._moved(draft.checkpoint())

    def open_children(self, kept: Iterable[HistoryEvent]) -> list[str]:
        """Ids of the children that a history calls and that have not answered in it."""
        automaton = EventAutomaton(self.instance.instance_id)
        for event in kept:
            automaton.step(event)
        return [each.instance_id for each in automaton.open.values() if isinstance(each, CALL)]

    def _moved(self, checkpoint: Checkpoint) -> Checkpoint:
        self.instance = checkpoint.instance
        self.position = checkpoint.position_after
        if self.position == 0:
            self.automaton = EventAutomaton(self.instance.instance_id)
        return checkpoint

    def activity(self, event: TaskScheduled) -> ActivityTask:
        """The call that `event` records."""
        row = self.instance
        activity_id = f"{self.call_id(event.event_id)}/{event.event_id}"
        return ActivityTask(activity_id, row.instance_id, row.execution_id, event.event_id, event.name, event.input)


CALL = SubOrchestrationInstanceCreated


class _Draft:
    """A checkpoint in the making. With `kept`, it replaces the history by that and what the episode adds."""

    __slots__ = (
        "_locks", "activities", "children", "consumed", "default_version", "episode", "events", "fields",
        "had_open_work", "kept", "messages", "next_execution", "row", "state",
    )  # fmt: skip

    def __init__(
        self,
        state: RuntimeState,
        episode: Episode,
        custom_status: str | None,
        default_version: str | None,
        kept: Sequence[HistoryEvent] | None = None,
    ) -> None:
        self.state = state
        self.row = state.instance
        self.episode = episode
        self.default_version = default_version
        self.kept = kept
        self.events: list[HistoryEvent] = []
        self.messages: dict[str, Message] = {}
        self.children: list[Instance] = []
        self.activities: list[ActivityTask] = []
        self.consumed: list[str] = list(episode.consumed)
        self.next_execution: str | None = None
        self._locks: list[HeldLock] = list(state.instance.locks)
        self.fields: dict[str, Any] = {"updated_at": episode.now}
        if custom_status is not None:
            self.fields["custom_status"] = custom_status
        self.had_open_work = state.automaton.open_activities > 0
        for event in episode.events:
            state.automaton.step(event)
        self.fields["status"] = RuntimeStatus.SUSPENDED if state.automaton.is_suspended else RuntimeStatus.RUNNING

    def act(self, action: OrchestratorAction) -> None:
        now = self.episode.now
        match action:
            case ScheduleTask():
                event = TaskScheduled(now, action.event_id, action.name, action.input)
                self._record(event)
                self.activities.append(self.state.activity(event))
            case CompleteOrchestration():
                self._complete(action)
            case CreateTimer():
                self._record(TimerCreated(now, action.event_id, action.fire_at))
                self._set_timer(action.event_id, action.fire_at)
            case CancelTimer():
                self._cancel(action.event_id)
            case CreateSubOrchestration():
                self._call_child(action)
            case SendEvent():
                self._record(EventSent(now, action.event_id, action.instance_id, action.name, action.input))
                raised = EventRaised(now, action.name, action.input)
                self._send(self._id(f"{action.event_id}/event"), action.instance_id, None, raised)
            case CallEntity():
                call = EntityOperationCalled(now, action.event_id, action.instance_id, action.operation, action.input)
                self._record(call)
                self._call_entity(call)
            case SignalEntity():
                self._signal_entity(action)
            case LockEntities():
                self._record(EntityLockRequested(now, action.event_id, action.entities))
                self._lock(action.event_id, action.entities)
            case UnlockEntities():
                self._unlock(action)
            case ContinueAsNew():
                self._continue_as_new(action)
            case _:
                assert_never(action)

    def terminate(self) -> None:
        end = next(event for event in self.episode.events if isinstance(event, ExecutionTerminated))
        reason = end.reason
        if end.recursive:
            for call in self._open_calls():
                parent = self._parent(call.event_id)
                terminated = ExecutionTerminated(self.episode.now, reason, recursive=True, parent=parent)
                self._send(self._id(f"{call.event_id}/terminate"), call.instance_id, None, terminated)
        failure = FailureDetails("OrchestrationTerminated", reason or "the orchestration was terminated")
        output = None if reason is None else payloads.encode(reason)
        self._end(self.state.automaton.next_event_id, RuntimeStatus.TERMINATED, output, failure)

    def take_up_again(self, awaited: Collection[int], children: Mapping[str, Instance]) -> None:
        """What the kept history leaves open goes on: activities run again, timers are set, failed children rewound."""
        self.fields.update(output=None, failure=None, completed_at=None)
        withdrawn = {event.lock_id for event in self.kept or () if isinstance(event, EntityUnlockSent)}
        for event in list(self.state.automaton.open.values()):
            match event:
                case TaskScheduled():
                    self.activities.append(self.state.activity(event))
                case TimerCreated() if event.event_id in awaited:
                    self._set_timer(event.event_id, event.fire_at)
                case TimerCreated():
                    pass  # the code has cancelled it
                case SubOrchestrationInstanceCreated():
                    self._take_up_child(event, children.get(event.instance_id))
                case EntityOperationCalled():
                    self._call_entity(event)
                case EntityLockRequested():
                    if event.event_id not in withdrawn:
                        self._lock(event.event_id, event.entities)

    def checkpoint(self) -> Checkpoint:
        state, automaton = self.state, self.state.automaton
        continues = self.next_execution is not None
        locks = tuple(self._locks)
        if locks != self.row.locks:
            self.fields["locks"] = locks
        instance = replace(self.row, **self.fields)
        has_open_work = continues or (automaton.open_activities > 0 and not instance.status.is_terminal)
        events: tuple[HistoryEvent, ...] = ()
        if not continues:
            completed = OrchestratorCompleted(self.episode.now)
            automaton.step(completed)
            events = (*(self.kept or ()), *self.episode.events, *self.events, completed)
        replaces = continues or self.kept is not None
        return Checkpoint(
            instance=instance,
            execution_id=self.row.execution_id,
            position=state.position,
            events=events,
            messages=(*self.messages.values(), *self.episode.replies),
            children=tuple(self.children),
            activities=tuple(self.activities),
            consumed=tuple(self.consumed),
            has_open_work=has_open_work,
            changes_open_work=state.position == 0 or replaces or has_open_work != self.had_open_work,
            replaces_history=replaces,
            changes_locks=locks != self.row.locks,
        )

    def _record(self, event: HistoryEvent) -> None:
        self.state.automaton.step(event)
        self.events.append(event)

    def _send(
        self,
        message_id: str,
        target: str,
        execution_id: str | None,
        event: HistoryEvent,
        deliver_at: datetime | None = None,
    ) -> None:
        self.messages[message_id] = Message(message_id, target, execution_id, event, deliver_at)

    def _id(self, what: str) -> str:
        """The id of a message of this execution; after a rewind another one, for what is sent once more."""
        rewinds = self.state.automaton.rewinds
        return f"{self.row.execution_id}/{what}" if not rewinds else f"{self.row.execution_id}/{what}/r{rewinds}"

    def _set_timer(self, event_id: int, fire_at: datetime) -> None:
        fired = TimerFired(fire_at, event_id, fire_at)
        self._send(self._id(str(event_id)), self.row.instance_id, self.row.execution_id, fired, fire_at)

    def _call_entity(self, call: EntityOperationCalled) -> None:
        request = EntityOperation(self.episode.now, call.operation, call.input, self._parent(call.event_id))
        self._send(self._id(f"{call.event_id}/call"), call.instance_id, None, request)

    def _signal_entity(self, action: SignalEntity) -> None:
        now = self.episode.now
        self._record(
            EntityOperationSignaled(
                now, action.event_id, action.instance_id, action.operation, action.input, action.deliver_at
            )
        )
        signal = EntityOperation(now, action.operation, action.input)
        self._send(self._id(f"{action.event_id}/signal"), action.instance_id, None, signal, action.deliver_at)

    def _lock(self, lock_id: int, entities: tuple[str, ...]) -> None:
        held = HeldLock(lock_id, entities, self.state.automaton.rewinds)
        request = EntityLock(self.episode.now, held.owner(self.row), entities)
        self._send(self._id(f"{lock_id}/lock"), entities[0], None, request)
        self._locks.append(held)

    def _unlock(self, action: UnlockEntities) -> None:
        now = self.episode.now
        self._record(EntityUnlockSent(now, action.event_id, action.lock_id))
        for held in self._locks:
            if held.lock_id != action.lock_id:
                continue
            if held.lock_id in self.state.automaton.open:  # not granted yet: it must not overtake its request
                self._send_all(releases(self.row, [held], now))
                continue
            free = EntityUnlock(now, held.owner(self.row))
            for number, entity_id in enumerate(held.entities):
                self._send(self._id(f"{action.event_id}/unlock/{number}"), entity_id, None, free)
        self._locks = [held for held in self._locks if held.lock_id != action.lock_id]

    def _release_locks(self) -> None:
        """The execution ends: whatever locks it has or is still to get are given back."""
        self._send_all(releases(self.row, self._locks, self.episode.now))
        self._locks = []

    def _send_all(self, messages: Iterable[Message]) -> None:
        self.messages.update((message.message_id, message) for message in messages)

    def _cancel(self, event_id: int) -> None:
        """The timer's mail goes with this checkpoint, or is never stored; a firing already on its way is ignored."""
        message_id = self._id(str(event_id))
        self.state.automaton.open.pop(event_id, None)
        if self.messages.pop(message_id, None) is None:
            self.consumed.append(message_id)

    def _cancel_open_timers(self) -> None:
        for event in list(self.state.automaton.open.values()):
            if isinstance(event, TimerCreated):
                self._cancel(event.event_id)

    def _open_calls(self) -> list[SubOrchestrationInstanceCreated]:
        return [event for event in self.state.automaton.open.values() if isinstance(event, CALL)]

    def _parent(self, event_id: int) -> ParentInstance:
        return ParentInstance(self.row.instance_id, self.state.call_id(event_id), self.row.name, event_id)

    def _call_child(self, action: CreateSubOrchestration) -> None:
        rewinds = self.state.automaton.rewinds
        number = f"{action.event_id}/r{rewinds}" if rewinds else str(action.event_id)
        created = SubOrchestrationInstanceCreated(
            self.episode.now,
            action.event_id,
            action.name,
            action.instance_id or f"{self.row.execution_id}:{number.replace('/', ':')}",
            action.input,
            action.version or self.default_version,
            action.tags,
        )
        self._record(created)
        self._create_child(created, derived_id(self.row.execution_id, number))

    def _create_child(self, call: SubOrchestrationInstanceCreated, execution_id: str) -> None:
        row, now, parent = self.row, self.episode.now, self._parent(call.event_id)
        self.children.append(
            Instance(
                instance_id=call.instance_id,
                execution_id=execution_id,
                name=call.name,
                status=RuntimeStatus.PENDING,
                created_at=now,
                updated_at=now,
                created_by=execution_id,
                input=call.input,
                version=call.version,
                parent=parent,
                tags={**(row.tags or {}), **call.tags} if call.tags else row.tags,
            )
        )
        # The row holds the input; the message only has to name the execution and whom to answer if it was refused.
        start = ExecutionStarted(now, execution_id, call.name, parent=parent)
        self._send(f"{execution_id}/start", call.instance_id, execution_id, start)

    def _take_up_child(self, call: SubOrchestrationInstanceCreated, child: Instance | None) -> None:
        """Go on waiting for a child, let it try again, hear once more what it said, or call it again if it is gone."""
        now, parent = self.episode.now, self._parent(call.event_id)
        if child is not None and child.parent == parent:
            if not child.status.is_terminal:
                return
            if child.status is RuntimeStatus.FAILED:
                rewound = ExecutionRewound(now, self._rewind_reason(), parent)
                # To no execution of the child's id: like its start message, it outlives the child's row.
                message_id = self._id(f"{call.event_id}/rewind")
                self._send(message_id, call.instance_id, parent.execution_id, rewound)
                return
            if child.status is RuntimeStatus.COMPLETED:
                answer = SubOrchestrationInstanceCompleted(now, call.event_id, child.output)
                self._send(self._id(f"{call.event_id}/answer"), self.row.instance_id, parent.execution_id, answer)
                return
        execution_id = derived_id(self.row.execution_id, f"{call.event_id}/r{self.state.automaton.rewinds}")
        self._create_child(call, execution_id)

    def _rewind_reason(self) -> str | None:
        return next((event.reason for event in self.episode.events if isinstance(event, ExecutionRewound)), None)

    def _complete(self, action: CompleteOrchestration) -> None:
        if action.failure is None:
            self._end(action.event_id, RuntimeStatus.COMPLETED, action.result, None)
        else:
            sentence = f"Orchestrator function '{self.row.name}' failed: {action.reason or action.failure.message}"
            self._end(action.event_id, RuntimeStatus.FAILED, payloads.encode(sentence), action.failure)

    def _end(self, event_id: int, status: RuntimeStatus, output: str | None, failure: FailureDetails | None) -> None:
        now, row = self.episode.now, self.row
        self._cancel_open_timers()
        self._release_locks()
        event_id = max(event_id, self.state.automaton.next_event_id)
        self._record(ExecutionCompleted(now, event_id, status, output, failure))
        self.fields.update(status=status, output=output, failure=failure, completed_at=now)
        if row.parent is not None:
            answer = (
                SubOrchestrationInstanceCompleted(now, row.parent.task_id, output)
                if failure is None
                else SubOrchestrationInstanceFailed(now, row.parent.task_id, failure)
            )
            self._send(self._id("end"), row.parent.instance_id, row.parent.execution_id, answer)

    def _continue_as_new(self, action: ContinueAsNew) -> None:
        self._cancel_open_timers()
        self._release_locks()
        self.next_execution = derived_id(self.row.execution_id, "next")
        self.fields.update(execution_id=self.next_execution, input=action.input)
        if action.version is not None:
            self.fields["version"] = action.version
        if self.state.automaton.is_suspended:  # by mail of this very episode, which has no history to stand in
            message_id, suspended = f"{self.next_execution}/suspended", ExecutionSuspended(self.episode.now)
            self.messages[message_id] = Message(message_id, self.row.instance_id, None, suspended, is_carried=True)
        for number, event in enumerate(action.carried):
            message_id = f"{self.next_execution}/carried/{number}"
            self.messages[message_id] = Message(message_id, self.row.instance_id, None, event, is_carried=True)


def derived_id(execution_id: str, what: str) -> str:
    """The id of an execution that follows from another: the same however often it is derived."""
    try:
        namespace = UUID(hex=execution_id)
    except ValueError:  # a client's request id, which may be any text
        namespace = uuid5(NAMESPACE_OID, execution_id)
    return uuid5(namespace, what).hex


def farewell(instance: Instance, now: datetime) -> list[Message]:
    """What others have to hear when an instance is replaced before it has ended: its parent, and entities it locked."""
    messages = releases(instance, instance.locks, now)
    if instance.parent is not None and not instance.status.is_terminal:
        messages.append(_replaced(instance, instance.parent, now))
    return messages


def _replaced(instance: Instance, parent: ParentInstance, now: datetime) -> Message:
    failure = FailureDetails(
        "InstanceReplaced",
        f"The child orchestration '{instance.instance_id}' gave way to another start with its id before it ended.",
        is_non_retriable=True,
    )
    failed = SubOrchestrationInstanceFailed(now, parent.task_id, failure)
    return Message(f"{instance.execution_id}/replaced", parent.instance_id, parent.execution_id, failed)


def answers_of_missing(mail: Iterable[Message], now: datetime) -> list[Message]:
    """What others have to hear whose mail finds nobody, because that was purged.

    Parents hear so whose start or rewind it was, and callers of entities. Requests for locks are to find the next life
    of the entity: who asks for several waits for all of them.
    """
    answers: list[Message] = []
    for message in mail:
        event = message.event
        match event:
            case ExecutionStarted() | ExecutionRewound() if event.parent is not None:
                sentence = f"The child orchestration '{message.instance_id}' was purged before it could answer."
                answers.append(_never(message, event.parent, "purged", FailureDetails("InstancePurged", sentence), now))
            case EntityOperation() if event.caller is not None:
                sentence = f"The entity '{message.instance_id}' was purged before it could run '{event.operation}'."
                failure = FailureDetails("EntityPurged", sentence, is_non_retriable=True)
                failed = EntityOperationFailed(now, event.caller.task_id, failure)
                answer_id, caller = f"{message.message_id}/answer", event.caller
                answers.append(Message(answer_id, caller.instance_id, caller.execution_id, failed))
            case EntityLock() | EntityUnlock():
                answers.append(replace(message, message_id=f"{message.message_id}/again"))
            case _:
                pass
    return answers


def releases(owner: Instance, locks: Iterable[HeldLock], now: datetime) -> list[Message]:
    """What gives back the locks of an execution that ends: it follows each request as far as that has come."""
    messages: list[Message] = []
    for held in locks:
        free = EntityUnlock(now, held.owner(owner), held.entities)
        message_id = f"{owner.execution_id}/{held.lock_id}/release/r{held.rewinds}"
        messages.append(Message(message_id, held.entities[0], None, free))
    return messages


def answers_to_rewinds(mail: Iterable[Message], now: datetime) -> list[Message]:
    """What parents have to hear whose rewind finds nobody, or somebody else.

    A start that finds nobody was answered when what had been there was purged.
    """
    answers: list[Message] = []
    for message in mail:
        event = message.event
        if isinstance(event, ExecutionRewound) and event.parent is not None:
            sentence = f"The child orchestration '{message.instance_id}' was gone before it could be rewound."
            answers.append(_never(message, event.parent, "gone", FailureDetails("InstanceGone", sentence), now))
    return answers


def _never(message: Message, parent: ParentInstance, what: str, failure: FailureDetails, now: datetime) -> Message:
    failed = SubOrchestrationInstanceFailed(now, parent.task_id, replace(failure, is_non_retriable=True))
    return Message(f"{message.message_id}/{what}", parent.instance_id, parent.execution_id, failed)


def _stored_ids(mail: Sequence[Message]) -> tuple[str, ...]:
    return tuple(message.message_id for message in mail if message.is_stored)


def _refusals(instance: Instance, event: ExecutionStarted, now: datetime) -> list[Message]:
    """What the caller of a child hears whose id another instance has."""
    parent = event.parent
    if parent is None:
        return []
    failure = FailureDetails(
        "InstanceAlreadyExists",
        f"An Orchestration instance with the id '{instance.instance_id}' and the status {instance.status} already "
        "exists: give the child another id, or let the engine choose one.",
        is_non_retriable=True,
    )
    failed = SubOrchestrationInstanceFailed(now, parent.task_id, failure)
    return [Message(f"{event.execution_id}/refused", parent.instance_id, parent.execution_id, failed)]
