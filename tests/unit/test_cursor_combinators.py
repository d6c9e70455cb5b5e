"""`task_all`, `task_any` and timers: who wins, in which order, and what is left."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from given import (
    START,
    calls,
    cancels_timer,
    completed,
    failed,
    given,
    next_episode,
    raised,
    returns,
    scheduled,
    sets_timer,
    timer_created,
    timer_fired,
)


def fan_out(context):
    return (yield context.task_all([context.call_activity("a", number) for number in range(3)]))


def race(context):
    tasks = [context.call_activity("a"), context.call_activity("b")]
    winner = yield context.task_any(tasks)
    return [tasks.index(winner), winner == tasks[0], (yield winner)]


THREE = [scheduled(number, "a", number) for number in range(3)]
TWO = [scheduled(0, "a"), scheduled(1, "b")]


def test_a_fan_out_calls_all_at_once():
    given().run(fan_out).expect(calls(0, "a", 0), calls(1, "a", 1), calls(2, "a", 2))


def test_results_are_in_list_order_whatever_order_they_came_in():
    given(*THREE, completed(2, "z"), completed(0, "x"), next_episode, completed(1, "y")).run(fan_out).expect_result(
        ["x", "y", "z"]
    )


def test_a_fan_out_fails_with_the_first_failure_in_history_order():
    history = given(*THREE, failed(2, ValueError("first")), failed(0, KeyError("second")), completed(1))

    history.run(fan_out).expect_failure("ValueError", "first")


def test_the_siblings_of_a_failure_still_complete():
    def orchestrator(context):
        tasks = [context.call_activity("a"), context.call_activity("b")]
        try:
            yield context.task_all(tasks)
        except Exception:
            return (yield tasks[1])

    given(*TWO, failed(0, ValueError()), next_episode, completed(1, "late")).run(orchestrator).expect_result("late")


def test_all_of_nothing_is_an_empty_list():
    def orchestrator(context):
        return (yield context.task_all([]))

    given().run(orchestrator).expect(returns(0, []))


def test_any_of_nothing_is_refused():
    def orchestrator(context):
        yield context.task_any([])

    given().run(orchestrator).expect_failure("ValueError", "task_any")


@pytest.mark.parametrize("many", ["task_all", "task_any"])
def test_combinators_take_any_iterable_of_tasks_and_nothing_else(many: str):
    def orchestrator(context):
        try:
            getattr(context, many)([5])
        except TypeError:
            yield getattr(context, many)(context.call_activity(name) for name in ("a", "b"))

    given().run(orchestrator).expect(calls(0, "a"), calls(1, "b"))


def test_the_winner_is_the_first_in_history_order():
    given(*TWO, completed(1, "b"), completed(0, "a")).run(race).expect_result([1, False, "b"])


def test_the_loser_may_be_waited_for_again():
    def orchestrator(context):
        pending, order = [context.call_activity("a"), context.call_activity("b")], []
        while pending:
            winner = yield context.task_any(pending)
            pending.remove(winner)
            order.append(winner.result)
        return order

    given(*TWO, completed(1, "b"), next_episode, completed(0, "a")).run(orchestrator).expect_result(["b", "a"])


def test_among_completed_tasks_the_first_in_history_wins():
    def orchestrator(context):
        a, b = context.call_activity("a"), context.call_activity("b")
        yield context.task_all([a, b])
        winner = yield context.task_any([a, b])
        return winner.result

    given(*TWO, completed(1, "b"), completed(0, "a")).run(orchestrator).expect_result("b")


def test_a_failed_winner_wins_and_raises_when_it_is_yielded():
    def orchestrator(context):
        winner = yield context.task_any([context.call_activity("a"), context.call_activity("b")])
        state, kind = winner.state, type(winner.result).__name__
        try:
            yield winner
        except Exception as error:
            return [int(state), kind, error.message]

    given(*TWO, failed(0, ValueError("x"))).run(orchestrator).expect_result([2, "TaskFailedError", "x"])


def test_composites_nest():
    def orchestrator(context):
        pair = context.task_all([context.call_activity("a"), context.call_activity("b")])
        timer = context.create_timer(timedelta(seconds=9))
        winner = yield context.task_any([pair, timer])
        timer.cancel()
        return [winner is pair, winner.result]

    history = given(*TWO, timer_created(2, 9), completed(0, 1), next_episode, completed(1, 2))

    history.run(orchestrator).expect(cancels_timer(2), returns(3, [True, [1, 2]]))


def test_a_task_may_be_in_two_composites_and_twice_in_one():
    def orchestrator(context):
        a, b = context.call_activity("a"), context.call_activity("b")
        first = yield context.task_any([context.task_all([a, a]), context.task_all([a, b])])
        return first.result

    given(*TWO, completed(0, 1)).run(orchestrator).expect_result([1, 1])


def test_a_wide_and_deep_tree_settles_without_recursion():
    def orchestrator(context):
        tree = context.call_activity("a")
        for _ in range(50_000):
            tree = context.task_all([tree])
        result = yield tree
        depth = 0
        while isinstance(result, list):
            result, depth = result[0], depth + 1
        return depth

    given(scheduled(0, "a"), completed(0, 1)).run(orchestrator).expect_result(50_000)


# ---------------------------------------------------------------------- timers


@pytest.mark.parametrize(
    "fire_at",
    [
        START + timedelta(seconds=5),
        (START + timedelta(seconds=5)).replace(tzinfo=None),
        (START + timedelta(seconds=5)).astimezone(timezone(timedelta(hours=-8))),
        timedelta(seconds=5),
    ],
)
def test_a_timer_takes_aware_and_naive_times_and_durations(fire_at: datetime | timedelta):
    def orchestrator(context):
        timer = context.create_timer(fire_at)
        assert timer.fire_at.tzinfo is UTC
        yield timer

    given().run(orchestrator).expect(sets_timer(0, 5))


def test_a_fired_timer_gives_none():
    def orchestrator(context):
        return [(yield context.create_timer(timedelta(seconds=5)))]

    given(timer_created(0, 5), timer_fired(0, 5)).run(orchestrator).expect_result([None])


def test_a_timer_in_the_past_waits_for_a_later_episode():
    def orchestrator(context):
        yield context.create_timer(timedelta(seconds=-5))

    given().run(orchestrator).expect(sets_timer(0, -5))


@pytest.mark.parametrize("fire_at", ["soon", 5, None, START.date()])
def test_a_timer_for_no_time_is_refused(fire_at: object):
    def orchestrator(context):
        yield context.create_timer(fire_at)

    given().run(orchestrator).expect_failure("ValueError", "fireAt: Expected valid datetime object but got ")


def event_or_timeout(context):
    timer = context.create_timer(timedelta(seconds=60))
    event = context.wait_for_external_event("go")
    winner = yield context.task_any([event, timer])
    if winner == event:
        timer.cancel()
    yield context.call_activity("next")
    return [winner == event, timer.is_cancelled]


def test_a_timer_that_lost_can_be_cancelled_in_the_same_episode():
    given(timer_created(0, 60), raised("go")).run(event_or_timeout).expect(cancels_timer(0), calls(1, "next"))


def test_a_timer_created_and_cancelled_in_one_episode_leaves_both_decisions():
    def orchestrator(context):
        yield context.wait_for_external_event("early")
        timer = context.create_timer(timedelta(seconds=1))
        yield context.task_any([timer, context.task_all([])])
        timer.cancel()
        timer.cancel()
        yield context.call_activity("a")

    given(raised("early")).run(orchestrator).expect(sets_timer(0, 1), cancels_timer(0), calls(1, "a"))


def test_a_cancelled_timer_does_not_come_back_at_replay():
    history = given(timer_created(0, 60), raised("go"), scheduled(1, "next"), completed(1))

    history.run(event_or_timeout).expect_result([True, True])


def test_a_firing_of_a_cancelled_timer_is_ignored():
    history = given(timer_created(0, 60), raised("go"), timer_fired(0, 60), scheduled(1, "next"), completed(1))

    history.run(event_or_timeout).expect_result([True, True])


def test_cancelling_a_fired_timer_is_refused():
    def orchestrator(context):
        timer = context.create_timer(timedelta(seconds=5))
        yield timer
        timer.cancel()

    history = given(timer_created(0, 5), timer_fired(0, 5))

    history.run(orchestrator).expect_failure("ValueError", "Cannot cancel a completed task.")


def test_a_timer_cancelled_before_it_is_yielded_is_never_set_and_cannot_be_waited_for():
    def orchestrator(context):
        timer = context.create_timer(timedelta(seconds=5))
        timer.cancel()
        yield timer

    given().run(orchestrator).expect_failure("ValueError", "cancelled")
