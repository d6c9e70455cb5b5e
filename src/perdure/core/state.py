"""What an instance is between episodes, and how an episode changes it.

Rule 1: `accept` decides which mail becomes history, `apply` what the code's actions become; nobody else does either.
Rule 2: no clock: the episode's time is the `now` of `accept`, never before the last one nor before a timer it fires.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, assert_never
from uuid import NAMESPACE_OID, UUID, uuid5

from msgspec import Struct
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
from perdure.core.automaton import EventAutomaton
from perdure.core.codec import payloads
from perdure.core.events import (
    ExecutionCompleted,
    ExecutionStarted,
    ExecutionTerminated,
    HistoryEvent,
    OrchestratorCompleted,
    OrchestratorStarted,
    ParentInstance,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceCreated,
    SubOrchestrationInstanceFailed,
    TaskScheduled,
    TimerCreated,
    TimerFired,
)
from perdure.core.failures import FailureDetails
from perdure.core.records import ActivityTask, Checkpoint, Instance, Message, RuntimeStatus, StoredInstance


class Episode(Struct, frozen=True):
    """What one episode takes in.

    Attributes:
        events: the new events, OrchestratorStarted first; empty if no mail survived and nothing is to run.
        now: the episode's time.
        consumed: ids of all stored mail that was looked at, taken in or not.
        dropped: how many messages were not taken in, by reason.
        replies: answers that dropping owes to others.
        is_terminated: the code does not run: the instance ends here.
    """

    events: tuple[HistoryEvent, ...]
    now: datetime
    consumed: tuple[str, ...]
    dropped: dict[str, int]
    replies: tuple[Message, ...]
    is_terminated: bool


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
        instance, automaton = self.instance, self.automaton
        taken: list[HistoryEvent] = []
        answered: set[int] = set()
        dropped: dict[str, int] = {}
        replies: list[Message] = []
        stamp = now if automaton.stamp is None else max(now, automaton.stamp)
        is_terminated = False
        for message in mail:
            event = message.event
            task_id: int | None = getattr(event, "task_id", None)
            reason = None
            if isinstance(event, ExecutionStarted):
                if event.execution_id in (instance.created_by, instance.execution_id):
                    continue  # it only wakes the instance, whose event is made from the row, perhaps generations ago
                reason = "of another execution"
                if event.parent is not None:
                    replies.append(_refusal(instance, event, event.parent, now))
            elif message.execution_id is not None and message.execution_id != instance.execution_id:
                reason = "of another execution"
            elif self.is_finished:
                reason = "for a finished instance"
            elif is_terminated:
                reason = "after termination"
            elif not automaton.answers_open(event) or task_id in answered:
                reason = "repeated"
            if reason is not None:
                dropped[reason] = dropped.get(reason, 0) + 1
                continue
            taken.append(event)
            if isinstance(event, ExecutionTerminated):
                is_terminated = True
            elif isinstance(event, TimerFired):
                stamp = max(stamp, event.fire_at)
            if task_id is not None:
                answered.add(task_id)
        events: tuple[HistoryEvent, ...] = ()
        if self.position == 0 and not self.is_finished:
            events = (OrchestratorStarted(stamp), self._execution_started(stamp), *taken)
        elif taken:
            events = (OrchestratorStarted(stamp), *taken)
        consumed = tuple(message.message_id for message in mail if message.is_stored)
        return Episode(events, stamp, consumed, dropped, tuple(replies), is_terminated)

    def _execution_started(self, now: datetime) -> ExecutionStarted:
        row = self.instance
        return ExecutionStarted(now, row.execution_id, row.name, row.input, row.version, row.parent, row.tags)

    # ------------------------------------------------------------------ actions → checkpoint

    def apply(self, episode: Episode, actions: Iterable[OrchestratorAction], custom_status: str | None) -> Checkpoint:
        """Turn an episode and what the code decided in it into its checkpoint; this state becomes what follows it.

        Args:
            actions: in order of decision.
            custom_status: JSON text of what the code last set; None if this execution has set none, and the one of
                the execution before it stays.

        Raises:
            IllegalHistoryError: the events that result may not follow this history (a defect).
        """
        draft = _Draft(self, episode, custom_status)
        if episode.is_terminated:
            draft.terminate()
        else:
            for action in actions:
                draft.act(action)
        checkpoint = draft.checkpoint()
        self.instance = checkpoint.instance
        if checkpoint.continues_as_new:
            self.position = 0
            self.automaton = EventAutomaton(self.instance.instance_id)
        else:
            self.position += 1
        return checkpoint

    def activity(self, event: TaskScheduled) -> ActivityTask:
        """The call that `event` records."""
        row = self.instance
        activity_id = f"{row.execution_id}/{event.event_id}"
        return ActivityTask(activity_id, row.instance_id, row.execution_id, event.event_id, event.name, event.input)


class _Draft:
    """A checkpoint in the making."""

    __slots__ = (
        "activities", "children", "consumed", "episode", "events", "fields", "had_open_work", "messages",
        "next_execution", "row", "state",
    )  # fmt: skip

    def __init__(self, state: RuntimeState, episode: Episode, custom_status: str | None) -> None:
        self.state = state
        self.row = state.instance
        self.episode = episode
        self.events: list[HistoryEvent] = []
        self.messages: dict[str, Message] = {}
        self.children: list[Instance] = []
        self.activities: list[ActivityTask] = []
        self.consumed: list[str] = list(episode.consumed)
        self.next_execution: str | None = None
        self.fields: dict[str, Any] = {"status": RuntimeStatus.RUNNING, "updated_at": episode.now}
        if custom_status is not None:
            self.fields["custom_status"] = custom_status
        self.had_open_work = state.automaton.open_activities > 0
        for event in episode.events:
            state.automaton.step(event)

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
                fired = TimerFired(action.fire_at, action.event_id, action.fire_at)
                self._send(self._timer_id(action.event_id), self.row.instance_id, self.row.execution_id, fired)
            case CancelTimer():
                self._cancel(action.event_id)
            case CreateSubOrchestration():
                self._create_child(action)
            case ContinueAsNew():
                self._continue_as_new(action)
            case _:
                assert_never(action)

    def terminate(self) -> None:
        reason = next(event.reason for event in self.episode.events if isinstance(event, ExecutionTerminated))
        failure = FailureDetails("OrchestrationTerminated", reason or "the orchestration was terminated")
        output = None if reason is None else payloads.encode(reason)
        self._end(self.state.automaton.next_event_id, RuntimeStatus.TERMINATED, output, failure)

    def checkpoint(self) -> Checkpoint:
        state, automaton = self.state, self.state.automaton
        events = (*self.episode.events, *self.events)
        instance = replace(self.row, **self.fields)
        continues = self.next_execution is not None
        has_open_work = continues or (automaton.open_activities > 0 and not instance.status.is_terminal)
        if not continues:
            completed = OrchestratorCompleted(self.episode.now)
            automaton.step(completed)
            events = (*events, completed)
        return Checkpoint(
            instance=instance,
            execution_id=self.row.execution_id,
            position=state.position,
            events=() if continues else events,
            messages=(*self.messages.values(), *self.episode.replies),
            children=tuple(self.children),
            activities=tuple(self.activities),
            consumed=tuple(self.consumed),
            has_open_work=has_open_work,
            changes_open_work=state.position == 0 or continues or has_open_work != self.had_open_work,
            continues_as_new=continues,
        )

    def _record(self, event: HistoryEvent) -> None:
        self.state.automaton.step(event)
        self.events.append(event)

    def _send(self, message_id: str, target: str, execution_id: str | None, event: HistoryEvent) -> None:
        deliver_at = event.fire_at if isinstance(event, TimerFired) else None
        self.messages[message_id] = Message(message_id, target, execution_id, event, deliver_at)

    def _timer_id(self, event_id: int) -> str:
        return f"{self.row.execution_id}/{event_id}"

    def _cancel(self, event_id: int) -> None:
        """The timer's mail goes with this checkpoint, or is never stored; a firing already on its way is ignored."""
        message_id = self._timer_id(event_id)
        self.state.automaton.open.pop(event_id, None)
        if self.messages.pop(message_id, None) is None:
            self.consumed.append(message_id)

    def _cancel_open_timers(self) -> None:
        for event in list(self.state.automaton.open.values()):
            if isinstance(event, TimerCreated):
                self._cancel(event.event_id)

    def _create_child(self, action: CreateSubOrchestration) -> None:
        row, now = self.row, self.episode.now
        instance_id = action.instance_id or f"{row.execution_id}:{action.event_id}"
        execution_id = derived_id(row.execution_id, str(action.event_id))
        parent = ParentInstance(row.instance_id, row.execution_id, row.name, action.event_id)
        self._record(
            SubOrchestrationInstanceCreated(
                now, action.event_id, action.name, instance_id, action.input, action.version
            )
        )
        self.children.append(
            Instance(
                instance_id=instance_id,
                execution_id=execution_id,
                name=action.name,
                status=RuntimeStatus.PENDING,
                created_at=now,
                updated_at=now,
                created_by=execution_id,
                input=action.input,
                version=action.version,
                parent=parent,
                tags=row.tags,
            )
        )
        # The row holds the input; the message only has to name the execution and whom to answer if it was refused.
        start = ExecutionStarted(now, execution_id, action.name, parent=parent)
        self._send(f"{execution_id}/start", instance_id, execution_id, start)

    def _complete(self, action: CompleteOrchestration) -> None:
        if action.failure is None:
            self._end(action.event_id, RuntimeStatus.COMPLETED, action.result, None)
        else:
            sentence = f"Orchestrator function '{self.row.name}' failed: {action.reason or action.failure.message}"
            self._end(action.event_id, RuntimeStatus.FAILED, payloads.encode(sentence), action.failure)

    def _end(self, event_id: int, status: RuntimeStatus, output: str | None, failure: FailureDetails | None) -> None:
        now, row = self.episode.now, self.row
        self._cancel_open_timers()
        event_id = max(event_id, self.state.automaton.next_event_id)
        self._record(ExecutionCompleted(now, event_id, status, output, failure))
        self.fields.update(status=status, output=output, failure=failure, completed_at=now)
        if row.parent is not None:
            answer = (
                SubOrchestrationInstanceCompleted(now, row.parent.task_id, output)
                if failure is None
                else SubOrchestrationInstanceFailed(now, row.parent.task_id, failure)
            )
            self._send(f"{row.execution_id}/end", row.parent.instance_id, row.parent.execution_id, answer)

    def _continue_as_new(self, action: ContinueAsNew) -> None:
        self._cancel_open_timers()
        self.next_execution = derived_id(self.row.execution_id, "next")
        self.fields.update(execution_id=self.next_execution, input=action.input)
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


def _refusal(instance: Instance, event: ExecutionStarted, parent: ParentInstance, now: datetime) -> Message:
    failure = FailureDetails(
        "InstanceAlreadyExists",
        f"An Orchestration instance with the id '{instance.instance_id}' and the status {instance.status} already "
        "exists: give the child another id, or let the engine choose one.",
        is_non_retriable=True,
    )
    failed = SubOrchestrationInstanceFailed(now, parent.task_id, failure)
    return Message(f"{event.execution_id}/refused", parent.instance_id, parent.execution_id, failed)
