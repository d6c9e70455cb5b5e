"""Tests of replay in one line: `given(*history).run(orchestrator).expect(*actions)`.

The history is written without its episode marks: a new episode begins where an answer follows a decision, or where
`next_episode` stands. What follows the last decision is new; all before it is the past. Each run is done twice: live,
episode by episode with one cursor, and cold, with the past replayed. Both must decide the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from azure.durable_functions import Orchestrator

from perdure.core.actions import (
    CancelTimer,
    CompleteOrchestration,
    CreateSubOrchestration,
    CreateTimer,
    OrchestratorAction,
    ScheduleTask,
    SendEvent,
)
from perdure.core.codec import PayloadCodec, payloads
from perdure.core.cursor import OrchestrationCursor
from perdure.core.events import (
    EventRaised,
    EventSent,
    ExecutionResumed,
    ExecutionStarted,
    ExecutionSuspended,
    HistoryEvent,
    OrchestratorCompleted,
    OrchestratorStarted,
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

START = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)
"""When the first episode begins; each further one begins a second later."""

INSTANCE_ID = "inst1"
EXECUTION_ID = "0123456789abcdef0123456789abcdef"
DECISIONS = (TaskScheduled, TimerCreated, SubOrchestrationInstanceCreated, EventSent)


class _NextEpisode:
    """Where a new episode begins although nothing was decided in the one before."""


next_episode = _NextEpisode()
HistoryPart = HistoryEvent | _NextEpisode


def text(value: Any) -> str | None:
    """A payload as it is stored."""
    return None if value is None else payloads.encode(value)


def scheduled(number: int, name: str, input: Any = None) -> TaskScheduled:
    return TaskScheduled(START, number, name, text(input))


def completed(number: int, result: Any = None) -> TaskCompleted:
    return TaskCompleted(START, number, text(result))


def failed(number: int, error: BaseException) -> TaskFailed:
    return TaskFailed(START, number, FailureDetails.of(error))


def timer_created(number: int, after_s: float) -> TimerCreated:
    return TimerCreated(START, number, START + timedelta(seconds=after_s))


def timer_fired(number: int, after_s: float) -> TimerFired:
    fire_at = START + timedelta(seconds=after_s)
    return TimerFired(fire_at, number, fire_at)


def child_created(number: int, name: str, instance_id: str = "child") -> SubOrchestrationInstanceCreated:
    return SubOrchestrationInstanceCreated(START, number, name, instance_id)


def child_completed(number: int, result: Any = None) -> SubOrchestrationInstanceCompleted:
    return SubOrchestrationInstanceCompleted(START, number, text(result))


def child_failed(number: int, error: BaseException) -> SubOrchestrationInstanceFailed:
    return SubOrchestrationInstanceFailed(START, number, FailureDetails.of(error))


def raised(name: str, data: Any = None) -> EventRaised:
    return EventRaised(START, name, text(data))


def event_sent(number: int, instance_id: str, name: str, data: Any = None) -> EventSent:
    return EventSent(START, number, instance_id, name, text(data))


def suspended() -> ExecutionSuspended:
    return ExecutionSuspended(START)


def resumed() -> ExecutionResumed:
    return ExecutionResumed(START)


def sends_event(number: int, instance_id: str, name: str, data: Any = None) -> SendEvent:
    return SendEvent(number, instance_id, name, text(data))


def calls(number: int, name: str, input: Any = None) -> ScheduleTask:
    return ScheduleTask(number, name, text(input))


def sets_timer(number: int, after_s: float) -> CreateTimer:
    return CreateTimer(number, START + timedelta(seconds=after_s))


def cancels_timer(number: int) -> CancelTimer:
    return CancelTimer(number)


def calls_child(number: int, name: str, input: Any = None, instance_id: str | None = None) -> CreateSubOrchestration:
    return CreateSubOrchestration(number, name, text(input), instance_id, None)


def returns(number: int, result: Any = None) -> CompleteOrchestration:
    return CompleteOrchestration(number, payloads.encode(result))


class Run:
    """What an orchestrator decided in the newest episode."""

    def __init__(self, cursor: OrchestrationCursor, actions: Sequence[OrchestratorAction]) -> None:
        self.cursor = cursor
        self.actions = list(actions)

    def expect(self, *actions: OrchestratorAction) -> Run:
        """The newest episode decided exactly this."""
        assert self.actions == list(actions)
        return self

    def expect_result(self, result: Any) -> Run:
        """The newest episode ended the orchestration with this result."""
        assert payloads.decode(self.end.result) == result, self.actions
        assert self.end.failure is None
        return self

    def expect_failure(self, error_type: str, message: str = "") -> Run:
        """The newest episode ended the orchestration with this failure; `message` is part of its text."""
        failure = self.end.failure
        assert failure is not None, self.actions
        assert failure.error_type == error_type
        assert message in failure.message
        return self

    @property
    def end(self) -> CompleteOrchestration:
        assert self.actions, "nothing was decided"
        end = self.actions[-1]
        assert isinstance(end, CompleteOrchestration), self.actions
        return end


class Given:
    """A history, ready to run orchestrators on."""

    def __init__(self, history: Sequence[HistoryPart], input: str | None, instance_id: str) -> None:
        self._instance_id = instance_id
        started = ExecutionStarted(START, EXECUTION_ID, "orchestrator", input)
        self._episodes = _episodes([started, *history])

    def run(self, orchestrator: Callable[[Any], Any]) -> Run:
        """Run the orchestrator live and cold; both must decide the same."""
        live, cold = self.live(orchestrator), self.cold(orchestrator)
        assert _comparable(live.actions) == _comparable(cold.actions)
        assert live.cursor.custom_status == cold.cursor.custom_status
        assert live.cursor.is_done == cold.cursor.is_done
        return cold

    def live(self, orchestrator: Callable[[Any], Any]) -> Run:
        """Run the orchestrator with one cursor from the first episode to the last."""
        cursor = self._cursor(orchestrator)
        for past in self._past:
            cursor.advance([event for event in past if not isinstance(event, DECISIONS)])
        return Run(cursor, cursor.advance(self._new))

    def cold(self, orchestrator: Callable[[Any], Any]) -> Run:
        """Replay the past, then run the newest episode."""
        cursor = self._cursor(orchestrator)
        cursor.replay([event for past in self._past for event in past])
        return Run(cursor, cursor.advance(self._new))

    def replayed(self, orchestrator: Callable[[Any], Any], *end: HistoryEvent) -> OrchestrationCursor:
        """A cursor that has replayed everything, and `end` as part of the last episode."""
        cursor = self._cursor(orchestrator)
        events = [event for episode in self._episodes for event in episode]
        cursor.replay([*events[:-1], *end, events[-1]])
        return cursor

    @property
    def _past(self) -> list[list[HistoryEvent]]:
        return self._episodes if self._ends_decided else self._episodes[:-1]

    @property
    def _new(self) -> list[HistoryEvent]:
        return [] if self._ends_decided else self._episodes[-1][:-1]

    @property
    def _ends_decided(self) -> bool:
        return isinstance(self._episodes[-1][-2], DECISIONS)

    def _cursor(self, orchestrator: Callable[[Any], Any]) -> OrchestrationCursor:
        return OrchestrationCursor(self._instance_id, Orchestrator.create(orchestrator), PayloadCodec())


def given(*history: HistoryPart, input: Any = None, instance_id: str = INSTANCE_ID) -> Given:
    """What has happened to an orchestration after its start."""
    return Given(history, text(input), instance_id)


def _episodes(history: Sequence[HistoryPart]) -> list[list[HistoryEvent]]:
    parts: list[list[HistoryEvent]] = [[]]
    for event in history:
        after_decision = parts[-1] and isinstance(parts[-1][-1], DECISIONS) and not isinstance(event, DECISIONS)
        if isinstance(event, _NextEpisode) or after_decision:
            parts.append([])
        if not isinstance(event, _NextEpisode):
            parts[-1].append(event)
    times = [START + timedelta(seconds=number) for number in range(len(parts))]
    return [
        [OrchestratorStarted(time), *events, OrchestratorCompleted(time)]
        for time, events in zip(times, parts, strict=True)
    ]


def _comparable(actions: Sequence[OrchestratorAction]) -> list[Any]:
    """Actions without the stack traces, which name the caller's lines."""
    return [
        (each.event_id, each.result, each.reason) if isinstance(each, CompleteOrchestration) else each
        for each in actions
    ]
