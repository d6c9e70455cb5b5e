"""What an instance is between episodes, and how an episode changes it.

Rule 1: `accept` decides which mail becomes history, `apply` what the code's actions become; nobody else does either.
Rule 2: no clock: the episode's time is the `now` of `accept`, never before the last one nor before a timer it fires.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from perdure.core.actions import (
    CompleteOrchestration,
    OrchestratorAction,
)
from perdure.core.answers import answers_to_rewinds, refusals
from perdure.core.automaton import EventAutomaton
from perdure.core.draft import Draft
from perdure.core.episode import Episode
from perdure.core.events import (
    EntityLockGranted,
    EntityOperationCompleted,
    EntityOperationFailed,
    EventRaised,
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
    TaskScheduled,
    TimerFired,
)
from perdure.core.records import (
    ActivityTask,
    Checkpoint,
    Instance,
    Message,
    RuntimeStatus,
    StoredInstance,
)


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
        consumed: list[str] = []
        stamp = now if automaton.stamp is None else max(now, automaton.stamp)
        is_terminated, is_suspended = False, automaton.is_suspended
        is_due = instance.start_at is None or instance.start_at <= now or instance.execution_id != instance.created_by
        for message in mail:
            if message.is_stored:
                consumed.append(message.message_id)
            event = message.event
            task_id: int | None = getattr(event, "task_id", None)
            reason = None
            if isinstance(event, ExecutionStarted):
                if event.execution_id in (instance.created_by, instance.execution_id):
                    # It only wakes the instance, whose event is made from the row, perhaps generations ago.
                    is_due = is_due or event.execution_id == instance.execution_id
                    continue
                reason = "of another execution"
                replies += refusals(instance, event, now)
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
            elif task_id in answered or not automaton.answers_open(event, task_id):
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
        return Episode(events, stamp, tuple(consumed), dropped, tuple(replies), is_terminated)

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
                replies += refusals(self.instance, event, now)
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
        draft = Draft(self, episode, custom_status, default_version)
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
        draft = Draft(self, episode, custom_status, default_version, kept)
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
        return [
            each.instance_id for each in automaton.open.values() if isinstance(each, SubOrchestrationInstanceCreated)
        ]

    def _moved(self, checkpoint: Checkpoint) -> Checkpoint:
        self.instance = checkpoint.instance
        self.position += 1
        if checkpoint.replaces_history:
            self.position = checkpoint.position_after
        if self.position == 0:
            self.automaton = EventAutomaton(self.instance.instance_id)
        return checkpoint

    def activity(self, event: TaskScheduled) -> ActivityTask:
        """The call that `event` records."""
        row = self.instance
        call_id = self.call_id(event.event_id) if self.automaton.rewinds else row.execution_id
        activity_id = f"{call_id}/{event.event_id}"
        return ActivityTask(activity_id, row.instance_id, row.execution_id, event.event_id, event.name, event.input)


def _stored_ids(mail: Sequence[Message]) -> tuple[str, ...]:
    return tuple(message.message_id for message in mail if message.is_stored)
