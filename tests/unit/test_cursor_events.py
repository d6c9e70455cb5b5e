"""External events: kept until read, in order, whatever the case of their names; each is read once."""

from datetime import timedelta

import pytest

from given import calls, completed, given, next_episode, raised, returns, scheduled, timer_created, timer_fired


def one(context):
    return (yield context.wait_for_external_event("Approval"))


def three(context):
    first = yield context.wait_for_external_event("E")
    second = yield context.wait_for_external_event("E")
    third = yield context.wait_for_external_event("E")
    return [first, second, third]


def test_waiting_decides_nothing():
    given().run(one).expect()


@pytest.mark.parametrize("data", [True, 0, "", None, {"approved": [1]}, "text"])
def test_an_event_delivers_its_data(data: object):
    given(raised("Approval", data)).run(one).expect(returns(0, data))


@pytest.mark.parametrize("name", ["approval", "APPROVAL", "aPPROVAL"])
def test_names_ignore_case(name: str):
    given(raised(name, 1)).run(one).expect_result(1)


def test_names_ignore_case_beyond_ascii():
    def orchestrator(context):
        return (yield context.wait_for_external_event("STRASSE"))

    given(raised("straße", 1)).run(orchestrator).expect_result(1)


def test_other_events_are_kept_aside():
    given(raised("other", 0), next_episode, raised("Approval", 1)).run(one).expect_result(1)


def test_early_events_are_all_kept_and_read_in_order():
    given(raised("E", 1), raised("e", 2), next_episode, raised("E", 3)).run(three).expect_result([1, 2, 3])


def test_one_event_is_read_once():
    given(raised("E", 1), next_episode, raised("E", 2)).run(three).expect()


def test_events_that_come_during_an_activity_are_kept():
    def orchestrator(context):
        yield context.call_activity("a")
        return (yield context.wait_for_external_event("E"))

    given(scheduled(0, "a"), raised("E", 5), next_episode, completed(0)).run(orchestrator).expect_result(5)


def test_several_waits_are_served_oldest_first():
    def orchestrator(context):
        return (yield context.task_all([context.wait_for_external_event("E") for _ in range(3)]))

    given(raised("E", 1), next_episode, raised("E", 2), raised("E", 3)).run(orchestrator).expect_result([1, 2, 3])


def test_two_names_in_crossed_order_reach_each_its_wait():
    def orchestrator(context):
        first, second = context.wait_for_external_event("first"), context.wait_for_external_event("second")
        return (yield context.task_all([first, second]))

    given(raised("second", 2), raised("first", 1)).run(orchestrator).expect_result([1, 2])


def test_of_kept_events_the_first_to_come_wins_and_the_other_stays():
    def orchestrator(context):
        yield context.wait_for_external_event("b")
        yield context.call_activity("a")
        a, b = context.wait_for_external_event("a"), context.wait_for_external_event("b")
        winner = yield context.task_any([b, a])
        again = yield context.wait_for_external_event("b")
        return [winner.result, again]

    history = given(raised("b"), scheduled(0, "a"), raised("a", "A"), raised("b", "B"), completed(0))

    history.run(orchestrator).expect_result(["A", "B"])


def test_many_kept_events_of_one_name_are_read_without_scans():
    count = 30_000

    def orchestrator(context):
        yield context.call_activity("a")
        total = 0
        for _ in range(count):
            total += yield context.wait_for_external_event("E")
        return total

    history = given(scheduled(0, "a"), *[raised("E", 1)] * count, completed(0))

    history.live(orchestrator).expect_result(count)


def reminders(context):
    """Waits anew in each round: the wait of a round that timed out is given up."""
    for _ in range(3):
        yield context.call_activity("remind")
        approval = context.wait_for_external_event("approval")
        timeout = context.create_timer(timedelta(seconds=60))
        winner = yield context.task_any([approval, timeout])
        if winner == approval:
            timeout.cancel()
            return approval.result
    return "nobody"


FIRST_ROUND = [scheduled(0, "remind"), completed(0), timer_created(1, 60), timer_fired(1, 60)]


def test_a_wait_that_lost_to_a_timeout_does_not_swallow_the_event_of_the_next_round():
    history = [*FIRST_ROUND, scheduled(2, "remind"), completed(2), timer_created(3, 120), raised("approval", "yes")]

    given(*history).run(reminders).expect_result("yes")


def test_an_event_between_two_rounds_is_kept_for_the_next():
    history = [*FIRST_ROUND, scheduled(2, "remind"), raised("approval", "yes"), next_episode, completed(2)]

    run = given(*history).run(reminders)

    run.expect_result("yes")


def test_a_wait_that_lost_may_be_waited_for_again():
    def orchestrator(context):
        event = context.wait_for_external_event("stop")
        for name in ("a", "b"):
            work = context.call_activity(name)
            winner = yield context.task_any([work, event])
            if winner == event:
                return [name, event.result]

    given(scheduled(0, "a"), completed(0), scheduled(1, "b"), raised("stop", 1)).run(orchestrator).expect_result(
        ["b", 1]
    )


def test_an_event_that_came_while_its_wait_rested_wins_when_it_is_waited_for_again():
    def orchestrator(context):
        event = context.wait_for_external_event("stop")
        yield context.task_any([context.call_activity("a"), event])
        yield context.call_activity("rest")
        winner = yield context.task_any([context.call_activity("b"), event])
        return winner is event

    history = [scheduled(0, "a"), completed(0), scheduled(1, "rest"), raised("stop", 1), completed(1)]

    given(*history).run(orchestrator).expect(calls(2, "b"), returns(3, True))


def test_looking_at_a_resting_wait_reads_its_event():
    def orchestrator(context):
        event = context.wait_for_external_event("stop")
        yield context.task_any([context.call_activity("a"), event])
        yield context.call_activity("rest")
        seen = event.is_completed
        context.continue_as_new([seen, event.result])

    history = [scheduled(0, "a"), completed(0), scheduled(1, "rest"), raised("stop", 1), completed(1)]
    [action] = given(*history).run(orchestrator).actions

    assert (action.input, action.carried) == ("[true, 1]", ())


def test_a_wait_within_a_nested_composite_is_served():
    def orchestrator(context):
        pair = context.task_all([context.wait_for_external_event("E"), context.call_activity("a")])
        winner = yield context.task_any([pair, context.create_timer(timedelta(seconds=9))])
        return winner.result

    history = given(scheduled(0, "a"), timer_created(1, 9), raised("E", 1), next_episode, completed(0, 2))

    live = history.live(orchestrator)
    live.expect_result([1, 2])
    assert history.cold(orchestrator).actions == live.actions


def test_a_nested_composite_waited_for_alone_afterwards_reads_what_was_kept():
    def orchestrator(context):
        pair = context.task_all([context.wait_for_external_event("E"), context.call_activity("a")])
        yield context.task_any([pair, context.call_activity("b")])
        yield context.call_activity("c")
        return (yield pair)

    history = given(
        scheduled(0, "a"),
        scheduled(1, "b"),
        completed(1),
        scheduled(2, "c"),
        raised("E", 1),
        completed(0, 2),
        completed(2),
    )

    history.run(orchestrator).expect_result([1, 2])


def test_an_empty_name_is_refused():
    def orchestrator(context):
        yield context.wait_for_external_event("")

    given().run(orchestrator).expect_failure("ValueError", "external_event_name cannot be empty")
