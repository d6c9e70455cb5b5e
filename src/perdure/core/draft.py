"""A checkpoint in the making: actions become events, messages, children and activities.

Rule 1: everything is recorded through the automaton, so that a draft cannot become an illegal history.
Rule 2: ids of messages follow from the execution and the action alone: made again, they are the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, assert_never

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
from perdure.core.answers import releases
from perdure.core.codec import payloads
from perdure.core.episode import Episode
from perdure.core.events import (
    EntityLock,
    EntityLockRequested,
    EntityOperation,
    EntityOperationCalled,
    EntityOperationSignaled,
    EntityUnlock,
    EntityUnlockSent,
    EventRaised,
    EventSent,
    ExecutionCompleted,
    ExecutionRewound,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
    HistoryEvent,
    OrchestratorCompleted,
    ParentInstance,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceCreated,
    SubOrchestrationInstanceFailed,
    TaskScheduled,
    TimerCreated,
    TimerFired,
)
from perdure.core.failures import FailureDetails
from perdure.core.instance_ids import derived_id
from perdure.core.records import (
    ActivityTask,
    Checkpoint,
    HeldLock,
    Instance,
    Message,
    RuntimeStatus,
)

if TYPE_CHECKING:
    from perdure.core.state import RuntimeState


CALL = SubOrchestrationInstanceCreated


class Draft:
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
        if self._locks:
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
