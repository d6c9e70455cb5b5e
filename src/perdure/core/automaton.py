"""Which sequences of history events are legal: one table, used by the engine, the checker, the simulator and the docs.

Rule 1: the engine steps a copy of this through every event before it commits; a breach is a defect, never user error.
Rule 2: the automaton knows order and pairing only: what is open, what may follow. What events *do* is in `state`.

Source: spec of DurableTask.Core's order inside an episode.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from perdure.core.events import (
    DecisionEvent,
    EntityLockGranted,
    EntityLockRequested,
    EntityOperationCalled,
    EntityOperationCompleted,
    EntityOperationFailed,
    EntityOperationSignaled,
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
    SchedulingEvent,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceCreated,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
    TimerCreated,
    TimerFired,
)
from perdure.errors import IllegalHistoryError

# Phases of an execution.
UNBORN: Final = "unborn"  # no event yet
STARTING: Final = "starting"  # its first episode has begun
RECEIVING: Final = "receiving"  # an episode takes in mail
DECIDING: Final = "deciding"  # the episode has begun to record decisions
TERMINATED: Final = "terminated"  # a termination was taken in: only the end may follow
FINISHED: Final = "finished"  # the end is recorded, the episode not yet closed
IDLE: Final = "idle"  # between episodes
ENDED: Final = "ended"  # nothing may follow

MAIL = (
    TaskCompleted,
    TaskFailed,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceFailed,
    TimerFired,
    EntityOperationCompleted,
    EntityOperationFailed,
    EntityLockGranted,
    EventRaised,
    ExecutionSuspended,
    ExecutionResumed,
    ExecutionRewound,
)
# Decisions that nothing answers.
SENDING = (EventSent, EntityOperationSignaled, EntityUnlockSent)
DECISIONS = (
    TaskScheduled,
    SubOrchestrationInstanceCreated,
    TimerCreated,
    EntityOperationCalled,
    EntityLockRequested,
    *SENDING,
)

LEGAL: Final[dict[tuple[str, type], str]] = {
    (UNBORN, OrchestratorStarted): STARTING,
    (STARTING, ExecutionStarted): RECEIVING,
    (IDLE, OrchestratorStarted): RECEIVING,
    **{(RECEIVING, kind): RECEIVING for kind in MAIL},
    (RECEIVING, ExecutionTerminated): TERMINATED,
    **{(phase, kind): DECIDING for phase in (RECEIVING, DECIDING) for kind in DECISIONS},
    **{(phase, ExecutionCompleted): FINISHED for phase in (RECEIVING, DECIDING, TERMINATED)},
    **{(phase, OrchestratorCompleted): IDLE for phase in (RECEIVING, DECIDING)},
    (FINISHED, OrchestratorCompleted): ENDED,
}
"""(phase, event type) → next phase; what is not here is illegal."""

AnsweringEvent = (
    TaskCompleted
    | TaskFailed
    | SubOrchestrationInstanceCompleted
    | SubOrchestrationInstanceFailed
    | TimerFired
    | EntityOperationCompleted
    | EntityOperationFailed
    | EntityLockGranted
)

ANSWERS: Final[dict[type, type]] = {
    TaskCompleted: TaskScheduled,
    TaskFailed: TaskScheduled,
    SubOrchestrationInstanceCompleted: SubOrchestrationInstanceCreated,
    SubOrchestrationInstanceFailed: SubOrchestrationInstanceCreated,
    TimerFired: TimerCreated,
    EntityOperationCompleted: EntityOperationCalled,
    EntityOperationFailed: EntityOperationCalled,
    EntityLockGranted: EntityLockRequested,
}
"""Event type that settles → event type that it settles; each at most once."""


class EventAutomaton:
    """What a sequence of events amounts to: its phase, and what it has left open.

    Attributes:
        phase: one of the phases above.
        open: decisions without an answer, by their event id.
        open_activities: how many of them are activity calls.
        is_suspended: what happens is not shown to the code.
        rewinds: how often the execution was rewound.
        rewinds_before: by event id, how often it had been when a decision was made; only for those made after a rewind.
        stamp: time of the last OrchestratorStarted; never goes back.
        next_event_id: every decision's id is at least this.
    """

    __slots__ = (
        "instance_id", "is_suspended", "next_event_id", "open", "open_activities", "phase", "rewinds", "rewinds_before",
        "stamp",
    )  # fmt: skip

    def __init__(self, instance_id: str) -> None:
        self.instance_id = instance_id
        self.phase = UNBORN
        self.open: dict[int, SchedulingEvent] = {}
        self.open_activities = 0
        self.is_suspended = False
        self.rewinds = 0
        self.rewinds_before: dict[int, int] = {}
        self.stamp: datetime | None = None
        self.next_event_id = 0

    def step(self, event: HistoryEvent) -> None:
        """Take in the next event.

        Raises:
            IllegalHistoryError: it may not follow, or it answers nothing that is open.
        """
        kind = type(event)
        move = _MOVES[self.phase].get(kind)
        if move is None:
            raise IllegalHistoryError(self.instance_id, f"{kind.__name__} while {self.phase}")
        self.phase, effect = move
        if effect is not None:
            effect(self, event)

    def answers_open(self, event: HistoryEvent, task_id: int) -> bool:
        """Whether `event`, an answer to `task_id`, settles something that is open."""
        return type(self.open.get(task_id)) is ANSWERS[type(event)]


def _answered(automaton: EventAutomaton, event: AnsweringEvent) -> None:
    task_id, decision = event.task_id, ANSWERS[type(event)]
    scheduled = automaton.open.pop(task_id, None)
    if type(scheduled) is not decision:
        raise IllegalHistoryError(
            automaton.instance_id,
            f"{type(event).__name__} for task {task_id}, which is not open as {decision.__name__}",
        )
    automaton.open_activities -= decision is TaskScheduled
    if isinstance(event, TimerFired) and automaton.stamp is not None and event.fire_at > automaton.stamp:
        raise IllegalHistoryError(automaton.instance_id, f"timer {task_id} fired before {event.fire_at}")


def _decided(automaton: EventAutomaton, event: DecisionEvent) -> None:
    event_id, kind = event.event_id, type(event)
    if event_id < automaton.next_event_id:
        raise IllegalHistoryError(automaton.instance_id, f"event id {event_id} of {kind.__name__} is used twice")
    automaton.next_event_id = event_id + 1
    if automaton.rewinds:
        automaton.rewinds_before[event_id] = automaton.rewinds
    if not isinstance(event, SENDING):
        automaton.open[event_id] = event
        automaton.open_activities += kind is TaskScheduled


def _began(automaton: EventAutomaton, event: OrchestratorStarted) -> None:
    if automaton.stamp is not None and event.timestamp < automaton.stamp:
        raise IllegalHistoryError(automaton.instance_id, f"time goes back from {automaton.stamp} to {event.timestamp}")
    automaton.stamp = event.timestamp


def _suspended(automaton: EventAutomaton, event: ExecutionSuspended | ExecutionResumed) -> None:
    automaton.is_suspended = isinstance(event, ExecutionSuspended)


def _rewound(automaton: EventAutomaton, event: ExecutionRewound) -> None:
    automaton.rewinds += 1


_EFFECTS: Final[dict[type, Callable[[EventAutomaton, Any], None]]] = {
    **dict.fromkeys(ANSWERS, _answered),
    **dict.fromkeys(DECISIONS, _decided),
    OrchestratorStarted: _began,
    ExecutionSuspended: _suspended,
    ExecutionResumed: _suspended,
    ExecutionRewound: _rewound,
}

# `LEGAL` by phase, and what else the event does: to build keys or ask for types would cost more than all the rest.
_MOVES: Final[dict[str, dict[type, tuple[str, Callable[[EventAutomaton, Any], None] | None]]]] = {ENDED: {}}
for (_phase, _kind), _next in LEGAL.items():
    _MOVES.setdefault(_phase, {})[_kind] = (_next, _EFFECTS.get(_kind))
