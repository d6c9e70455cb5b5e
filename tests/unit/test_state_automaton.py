"""One table says which events may follow each other."""

from datetime import UTC, datetime, timedelta

import pytest

from perdure.core.automaton import ANSWERS, ENDED, IDLE, LEGAL, EventAutomaton
from perdure.core.events import (
    EventRaised,
    ExecutionCompleted,
    ExecutionStarted,
    ExecutionTerminated,
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
from perdure.errors import IllegalHistoryError

NOW = datetime(2026, 1, 2, tzinfo=UTC)
LATER = NOW + timedelta(seconds=1)
OOPS = FailureDetails("ValueError", "oops")

FIRST = [OrchestratorStarted(NOW), ExecutionStarted(NOW, "e", "orchestrator")]
CALLS = [TaskScheduled(NOW, 0, "a"), SubOrchestrationInstanceCreated(NOW, 1, "c", "c1"), TimerCreated(NOW, 2, LATER)]
CLOSE = OrchestratorCompleted(NOW)
NEXT = OrchestratorStarted(LATER)
END = ExecutionCompleted(LATER, 3, "Completed")


def stepped(*events: HistoryEvent) -> EventAutomaton:
    automaton = EventAutomaton("i")
    for event in events:
        automaton.step(event)
    return automaton


def test_an_execution_from_its_start_to_its_end():
    answers = [
        TaskCompleted(LATER, 0),
        SubOrchestrationInstanceFailed(LATER, 1, OOPS),
        TimerFired(LATER, 2, LATER),
        EventRaised(LATER, "E"),
    ]

    automaton = stepped(*FIRST, *CALLS, CLOSE)
    assert (automaton.phase, sorted(automaton.open), automaton.open_activities) == (IDLE, [0, 1, 2], 1)
    assert automaton.next_event_id == 3

    for event in (NEXT, *answers, END, OrchestratorCompleted(LATER)):
        automaton.step(event)
    assert (automaton.phase, automaton.open, automaton.open_activities) == (ENDED, {}, 0)
    assert automaton.stamp == LATER


def test_a_terminated_execution_ends_without_its_code():
    events = [*FIRST, *CALLS, CLOSE, NEXT, EventRaised(LATER, "E"), ExecutionTerminated(LATER), END, CLOSE]

    assert stepped(*events).phase == ENDED


@pytest.mark.parametrize(
    "events",
    [
        [FIRST[1]],
        [FIRST[0], CALLS[0]],
        [FIRST[0], EventRaised(NOW, "E")],
        [*FIRST, FIRST[1]],
        [*FIRST, NEXT],
        [*FIRST, CALLS[0], EventRaised(NOW, "E")],
        [*FIRST, CLOSE, CLOSE],
        [*FIRST, CLOSE, CALLS[0]],
        [*FIRST, CLOSE, TaskCompleted(NOW, 0)],
        [*FIRST, ExecutionTerminated(NOW), CALLS[0]],
        [*FIRST, ExecutionTerminated(NOW), CLOSE],
        [*FIRST, ExecutionTerminated(NOW), EventRaised(NOW, "E")],
        [*FIRST, END, CALLS[0]],
        [*FIRST, END, END],
        [*FIRST, END, CLOSE, NEXT],
        [*FIRST, CALLS[0], CALLS[0]],
        [*FIRST, CALLS[1], CALLS[0]],
        [*FIRST, CLOSE, OrchestratorStarted(NOW - timedelta(microseconds=1))],
    ],
)
def test_what_may_not_follow_is_refused(events: list[HistoryEvent]):
    stepped(*events[:-1])

    with pytest.raises(IllegalHistoryError):
        stepped(*events)


@pytest.mark.parametrize(
    "answer",
    [
        TaskCompleted(LATER, 1),
        TaskFailed(LATER, 2, OOPS),
        SubOrchestrationInstanceCompleted(LATER, 0),
        SubOrchestrationInstanceFailed(LATER, 2, OOPS),
        TimerFired(LATER, 0, LATER),
        TaskCompleted(LATER, 9),
    ],
)
def test_an_answer_must_fit_an_open_call(answer: HistoryEvent):
    automaton = stepped(*FIRST, *CALLS, CLOSE, NEXT)

    assert not automaton.answers_open(answer, answer.task_id)
    with pytest.raises(IllegalHistoryError):
        automaton.step(answer)


def test_a_call_is_answered_once():
    automaton = stepped(*FIRST, *CALLS, CLOSE, NEXT)
    answer = TaskCompleted(LATER, 0)

    assert automaton.answers_open(answer, answer.task_id)
    automaton.step(answer)
    assert not automaton.answers_open(answer, answer.task_id)
    with pytest.raises(IllegalHistoryError):
        automaton.step(answer)


def test_a_timer_does_not_fire_before_its_time():
    automaton = stepped(*FIRST, *CALLS, CLOSE, OrchestratorStarted(NOW))

    with pytest.raises(IllegalHistoryError, match="before"):
        automaton.step(TimerFired(NOW, 2, LATER))


def test_the_table_names_only_phases_that_can_be_reached():
    reached = {"unborn"} | set(LEGAL.values())

    assert {phase for phase, _ in LEGAL} <= reached
    assert set(ANSWERS) < {kind for _, kind in LEGAL}
