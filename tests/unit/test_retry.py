"""Failed calls are made again as their policy says, at the orchestrator's times."""

from datetime import timedelta

import pytest

from given import (
    calls,
    calls_child,
    child_created,
    child_failed,
    completed,
    failed,
    given,
    next_episode,
    returns,
    scheduled,
    sets_timer,
    timer_created,
    timer_fired,
)
from perdure.core.failures import FailureDetails, TaskFailedError
from perdure.core.retry import RetryPolicy, retried
from perdure.core.tasks import ActivityCall, Routine, SubOrchestrationCall, TimerTask

POLICY = RetryPolicy(timedelta(seconds=2), 3, backoff_coefficient=2.0)
BOOM = ValueError("boom")


def call(context, name, policy=POLICY, make=ActivityCall):
    cursor = context._cursor
    arguments = (name, None) if make is ActivityCall else (name, None, None, None)
    code = retried(policy, lambda: make(*arguments), lambda: cursor.now, lambda when: TimerTask(when, cursor))
    return Routine(code, cursor)


def once(context):
    return (yield call(context, "a"))


def test_g1_each_wait_is_longer_by_the_coefficient():
    history = [scheduled(0, "a"), failed(0, BOOM)]
    given(*history).run(once).expect(sets_timer(1, 1 + 2))
    history += [timer_created(1, 3), timer_fired(1, 3)]
    given(*history).run(once).expect(calls(2, "a"))
    history += [scheduled(2, "a"), failed(2, BOOM)]
    given(*history).run(once).expect(sets_timer(3, 3 + 4))
    history += [timer_created(3, 7), timer_fired(3, 7), scheduled(4, "a"), completed(4, "done")]
    given(*history).run(once).expect(returns(5, "done"))


def test_g2_the_last_failure_is_raised_at_once_without_another_timer():
    history = [scheduled(0, "a"), failed(0, BOOM), timer_created(1, 3), timer_fired(1, 3), scheduled(2, "a")]
    history += [failed(2, BOOM), timer_created(3, 7), timer_fired(3, 7), scheduled(4, "a"), failed(4, KeyError("last"))]
    given(*history).run(once).expect_failure("KeyError", "last")


@pytest.mark.parametrize(
    ("policy", "wait"),
    [
        (RetryPolicy(timedelta(seconds=2), 9, 10.0, max_interval=timedelta(seconds=5)), timedelta(seconds=5)),
        (RetryPolicy(timedelta(seconds=2), 9, 10.0), timedelta(seconds=200)),
        (RetryPolicy(timedelta(seconds=2), 9, 1e300), timedelta(days=6)),
        (RetryPolicy(timedelta(seconds=2), 3), None),
        (RetryPolicy(timedelta(seconds=2), 9, timeout=timedelta(seconds=60)), None),
        (RetryPolicy(timedelta(seconds=2), 9, timeout=timedelta(seconds=61)), timedelta(seconds=2)),
        (RetryPolicy(timedelta(seconds=2), 9, is_worth_it=lambda error: error.message == "other"), None),
    ],
)
def test_the_wait_after_the_third_failure_a_minute_after_the_first(policy, wait):
    error = TaskFailedError("reason", FailureDetails("ValueError", "boom"))

    assert policy.delay(3, error, timedelta(seconds=60)) == wait


def test_g6_a_failure_that_no_retry_can_mend_is_raised_at_once():
    error = TaskFailedError("reason", FailureDetails("ActivityNotFound", "no", is_non_retriable=True))

    assert POLICY.delay(1, error, timedelta(0)) is None


def test_g9_two_retried_calls_side_by_side_keep_their_own_schedules():
    def both(context):
        return (yield context.task_all([call(context, "a"), call(context, "b")]))

    history = [scheduled(0, "a"), scheduled(1, "b"), failed(1, BOOM)]
    given(*history).run(both).expect(sets_timer(2, 3))
    history += [timer_created(2, 3), failed(0, BOOM)]
    given(*history).run(both).expect(sets_timer(3, 4))
    history += [timer_created(3, 4), timer_fired(2, 3)]
    given(*history).run(both).expect(calls(4, "b"))
    history += [scheduled(4, "b"), completed(4, "B"), timer_fired(3, 4)]
    given(*history).run(both).expect(calls(5, "a"))
    history += [scheduled(5, "a"), completed(5, "A")]
    given(*history).run(both).expect(returns(6, ["A", "B"]))


def test_g11_a_retry_that_lost_against_a_timer_does_not_disturb_what_follows():
    def raced(context):
        deadline = context.create_timer(timedelta(seconds=2))
        yield context.task_any([call(context, "a"), deadline])
        return (yield context.call_activity("b"))

    history = [scheduled(0, "a"), timer_created(1, 2), failed(0, BOOM), timer_created(2, 3), timer_fired(1, 2)]
    given(*history).run(raced).expect(calls(3, "b"))
    history += [scheduled(3, "b"), timer_fired(2, 3)]
    given(*history).run(raced).expect(calls(4, "a"))
    history += [scheduled(4, "a"), next_episode, completed(3, "done")]
    given(*history).run(raced).expect(returns(5, "done"))


def test_each_attempt_of_a_child_is_a_call_of_its_own():
    def parent(context):
        return (yield call(context, "child", make=SubOrchestrationCall))

    history = [child_created(0, "child"), child_failed(0, BOOM), timer_created(1, 3), timer_fired(1, 3)]
    given(*history).run(parent).expect(calls_child(2, "child"))


def test_a_predicate_that_raises_fails_the_call_with_what_it_raised():
    def wrong(error):
        raise LookupError("predicate")

    def orchestrator(context):
        return (yield call(context, "a", RetryPolicy(timedelta(seconds=1), 3, is_worth_it=wrong)))

    given(scheduled(0, "a"), failed(0, BOOM)).run(orchestrator).expect_failure("LookupError", "predicate")
