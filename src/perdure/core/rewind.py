"""What is left of a failed execution's history when its failures are taken out.

Rule 1: the code itself says what depends on a failure: it is run again over the history without it, and whatever it
        then does not do any more goes too. So retries, timers and compensations need no rules of their own.
Rule 2: what is kept is a legal history in its original order; numbers of decisions keep ascending.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from perdure.core.cursor import OrchestrationCursor
from perdure.core.events import (
    DecisionEvent,
    EntityLockGranted,
    EntityOperationFailed,
    EntityUnlockSent,
    ExecutionCompleted,
    HistoryEvent,
    OrchestratorCompleted,
    OrchestratorStarted,
    SubOrchestrationInstanceFailed,
    TaskFailed,
)

Failure = TaskFailed | SubOrchestrationInstanceFailed | EntityOperationFailed


def rewound(
    history: Sequence[HistoryEvent], new_cursor: Callable[[], OrchestrationCursor]
) -> tuple[OrchestrationCursor, list[HistoryEvent]]:
    """The history to go on from, and a cursor that stands at its end.

    Failures are hidden, the latest first, until the code no longer fails. If it fails without any, it fails by itself:
    then nothing is taken out, as the code may yet be corrected. Of a call with a retry policy the first attempt is
    hidden, so that it has all its attempts before it again. Locks of entities were given back at the failure: where the
    code would still hold some, their grant is hidden too, and what was done under them is done again.

    Args:
        history: of the failed execution.
        new_cursor: makes a cursor at the beginning.
    """
    past: Sequence[HistoryEvent] = [event for event in history if not isinstance(event, ExecutionCompleted)]
    hidden: set[int] = set()
    while True:
        cursor = new_cursor()
        kept = cursor.retrace(past, hidden)
        new_number = min(cursor.pending_ids, default=None)
        if new_number is not None and any(_is_beyond(event, new_number) for event in kept):
            past = [event for event in past if not _is_beyond(event, new_number)]
        else:
            failed = [event.task_id for event in kept if isinstance(event, Failure)]
            held = _held_locks(kept)
            if cursor.failure is None and held:
                hidden |= held
            elif cursor.failure is None:
                return cursor, _without_idle_episodes(kept)
            elif not failed:
                return cursor, [event for event in history if not isinstance(event, ExecutionCompleted)]
            else:
                # What came after the code's end would be hidden one by one, and change nothing: hide it at once.
                after = [event.task_id for event in kept[cursor.ended_at :] if isinstance(event, Failure)]
                for task_id in after or failed[-1:]:
                    first = cursor.first_attempt(task_id)
                    hidden.add(first if first in failed else task_id)
        cursor.close()


def _held_locks(events: Iterable[HistoryEvent]) -> set[int]:
    """Numbers of the requests whose locks are held at the end of a history."""
    held: set[int] = set()
    for event in events:
        if isinstance(event, EntityLockGranted):
            held.add(event.task_id)
        elif isinstance(event, EntityUnlockSent):
            held.discard(event.lock_id)
    return held


def _is_beyond(event: HistoryEvent, number: int) -> bool:
    return isinstance(event, DecisionEvent) and event.event_id > number


def _without_idle_episodes(events: Iterable[HistoryEvent]) -> list[HistoryEvent]:
    """The events without the episodes of which nothing is left."""
    kept: list[HistoryEvent] = []
    for event in events:
        if isinstance(event, OrchestratorCompleted) and kept and isinstance(kept[-1], OrchestratorStarted):
            kept.pop()
        else:
            kept.append(event)
    return kept
