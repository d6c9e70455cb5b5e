"""What is left of a failed history when its failures are taken out, and where the code then stands."""

from datetime import timedelta

from azure.durable_functions import Orchestrator

from given import (
    EXECUTION_ID,
    INSTANCE_ID,
    START,
    child_created,
    completed,
    failed,
    raised,
    scheduled,
    timer_created,
    timer_fired,
)
from perdure.core.actions import CompleteOrchestration, ScheduleTask
from perdure.core.automaton import EventAutomaton
from perdure.core.codec import PayloadCodec
from perdure.core.cursor import OrchestrationCursor
from perdure.core.events import (
    DecisionEvent,
    ExecutionCompleted,
    ExecutionRewound,
    ExecutionStarted,
    OrchestratorCompleted,
    OrchestratorStarted,
)
from perdure.core.failures import FailureDetails, TaskFailedError
from perdure.core.retry import RetryPolicy, retried
from perdure.core.rewind import rewound
from perdure.core.tasks import ActivityCall, Routine, TimerTask

BOOM = ValueError("boom")


def history(*episodes):
    """A failed history; each episode is a list of its events, without its marks."""
    events = []
    last = len(episodes) - 1
    for number, given in enumerate(episodes):
        time = START + timedelta(seconds=number)
        events.append(OrchestratorStarted(time))
        if number == 0:
            events.append(ExecutionStarted(time, EXECUTION_ID, "orchestrator", None))
        events += given
        if number == last:
            decided = [event.event_id for event in events if isinstance(event, DecisionEvent)]
            failure = FailureDetails("ValueError", "boom")
            events.append(ExecutionCompleted(time, len(decided), "Failed", None, failure))
        events.append(OrchestratorCompleted(time))
    return events


def rewind(orchestrator, *episodes):
    """(what is kept without marks, actions of the rewinding episode, cursor); the kept history must be legal."""
    cursor, kept = rewound(
        history(*episodes), lambda: OrchestrationCursor(INSTANCE_ID, Orchestrator.create(orchestrator), PayloadCodec())
    )
    now = START + timedelta(minutes=1)
    new = (OrchestratorStarted(now), ExecutionRewound(now))
    automaton = EventAutomaton(INSTANCE_ID)
    for event in (*kept, *new):
        automaton.step(event)
    marks = (OrchestratorStarted, OrchestratorCompleted, ExecutionStarted)
    return [event for event in kept if not isinstance(event, marks)], cursor.advance(new), cursor


def steps(context):
    results = []
    for name in "abc":
        results.append((yield context.call_activity(name)))
    return results


def test_i2_only_the_failed_step_is_open_again():
    kept, actions, cursor = rewind(
        steps,
        [scheduled(0, "a")],
        [completed(0, 1), scheduled(1, "b")],
        [completed(1, 2), scheduled(2, "c")],
        [failed(2, BOOM)],
    )

    assert kept == [scheduled(0, "a"), completed(0, 1), scheduled(1, "b"), completed(1, 2), scheduled(2, "c")]
    assert actions == []
    assert cursor.open_ids == {2}


def test_i3_of_a_fan_out_only_the_failed_are_open_again():
    def fan_out(context):
        return (yield context.task_all([context.call_activity(name) for name in "abcde"]))

    calls = [scheduled(number, name) for number, name in enumerate("abcde")]
    kept, actions, cursor = rewind(
        fan_out, calls, [completed(0), completed(2), completed(4), failed(1, BOOM), failed(3, BOOM)]
    )

    assert cursor.open_ids == {1, 3}
    assert [*calls, completed(0), completed(2), completed(4)] == kept
    assert actions == []


def test_i10_a_call_with_a_retry_policy_has_all_its_attempts_again():
    policy = RetryPolicy(timedelta(seconds=1), 2)

    def orchestrator(context):
        cursor = context._cursor
        code = retried(
            policy, lambda: ActivityCall("a", None), lambda: cursor.now, lambda when: TimerTask(when, cursor)
        )
        first = yield context.call_activity("before")
        return [first, (yield Routine(code, cursor))]

    kept, actions, cursor = rewind(
        orchestrator,
        [scheduled(0, "before")],
        [completed(0, 1), scheduled(1, "a")],
        [failed(1, BOOM), timer_created(2, 3)],
        [timer_fired(2, 3), scheduled(3, "a")],
        [failed(3, BOOM)],
    )

    assert kept == [scheduled(0, "before"), completed(0, 1), scheduled(1, "a")]
    assert (actions, cursor.open_ids) == ([], {1})


def test_i11_a_compensation_after_a_caught_failure_goes_too():
    def orchestrator(context):
        try:
            yield context.call_activity("a")
        except TaskFailedError:
            yield context.call_activity("undo")
            raise

    kept, actions, cursor = rewind(
        orchestrator, [scheduled(0, "a")], [failed(0, BOOM), scheduled(1, "undo")], [completed(1)]
    )

    assert kept == [scheduled(0, "a")]
    assert (actions, cursor.open_ids) == ([], {0})


def test_i12_a_failure_that_was_handled_long_ago_stays():
    def orchestrator(context):
        try:
            yield context.call_activity("a")
        except TaskFailedError:
            pass
        return (yield context.call_activity("b"))

    kept, _, cursor = rewind(orchestrator, [scheduled(0, "a")], [failed(0, BOOM), scheduled(1, "b")], [failed(1, BOOM)])

    assert kept == [scheduled(0, "a"), failed(0, BOOM), scheduled(1, "b")]
    assert cursor.open_ids == {1}


def test_i13_after_a_correction_the_code_goes_on_from_where_it_raised():
    kept, actions, _ = rewind(steps, [scheduled(0, "a")], [completed(0, 1)])

    assert kept == [scheduled(0, "a"), completed(0, 1)]
    assert actions == [ScheduleTask(1, "b", None)]


def test_code_that_still_raises_by_itself_keeps_its_history():
    def broken(context):
        raise KeyError("not corrected")

    episodes = [scheduled(0, "a")], [completed(0, 1)]
    kept, actions, _ = rewind(broken, *episodes)

    assert kept == [scheduled(0, "a"), completed(0, 1)]
    assert isinstance(actions[-1], CompleteOrchestration)
    assert actions[-1].failure is not None


def test_i15_events_that_nobody_had_read_are_still_there():
    def orchestrator(context):
        yield context.call_activity("a")
        return (yield context.wait_for_external_event("e"))

    kept, _, cursor = rewind(orchestrator, [scheduled(0, "a")], [raised("e", 7)], [failed(0, BOOM)])

    assert kept == [scheduled(0, "a"), raised("e", 7)]
    cursor.advance([completed(0)])
    assert cursor.is_done


def test_a_timer_that_had_fired_stays_and_one_that_the_end_cancelled_is_awaited_again():
    def orchestrator(context):
        slow = context.create_timer(timedelta(days=1))
        yield context.task_any([slow, context.create_timer(timedelta(seconds=1))])
        yield context.call_activity("a")
        yield slow

    kept, actions, cursor = rewind(
        orchestrator,
        [timer_created(0, 86400), timer_created(1, 1)],
        [timer_fired(1, 1), scheduled(2, "a")],
        [failed(2, BOOM)],
    )

    assert kept == [timer_created(0, 86400), timer_created(1, 1), timer_fired(1, 1), scheduled(2, "a")]
    assert (actions, cursor.open_ids) == ([], {0, 2})


def test_what_corrected_code_decides_otherwise_replaces_everything_decided_after_it():
    def corrected(context):
        yield context.call_activity("a")
        yield context.call_activity("new")
        yield context.call_activity("c")

    kept, actions, cursor = rewind(
        corrected,
        [scheduled(0, "a")],
        [completed(0, 1), scheduled(1, "b")],
        [completed(1, 2), scheduled(2, "c")],
        [failed(2, BOOM)],
    )

    assert kept == [scheduled(0, "a"), completed(0, 1)]
    assert actions == [ScheduleTask(1, "new", None)]
    assert cursor.open_ids == {1}


def test_a_child_without_an_answer_stays_called():
    def orchestrator(context):
        yield context.task_all([context.call_sub_orchestrator("child", None, "x"), context.call_activity("a")])

    kept, _, cursor = rewind(orchestrator, [child_created(0, "child", "x"), scheduled(1, "a")], [failed(1, BOOM)])

    assert kept == [child_created(0, "child", "x"), scheduled(1, "a")]
    assert cursor.open_ids == {0, 1}


def test_times_that_the_code_saw_are_the_same_after_the_rewind():
    seen = []

    def orchestrator(context):
        yield context.call_activity("a")
        seen.append(context.current_utc_datetime)
        yield context.call_activity("b")

    rewind(orchestrator, [scheduled(0, "a")], [raised("x")], [completed(0), scheduled(1, "b")], [failed(1, BOOM)])

    assert set(seen) == {START + timedelta(seconds=2)}
