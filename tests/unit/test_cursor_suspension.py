"""A suspended orchestration takes notice of everything and does nothing, and replays as it was run."""

from datetime import timedelta

from given import (
    START,
    calls,
    completed,
    event_sent,
    given,
    next_episode,
    raised,
    resumed,
    returns,
    scheduled,
    sends_event,
    suspended,
)


def two_steps(context):
    first = yield context.call_activity("a")
    second = yield context.call_activity("b", first)
    return second


def test_what_arrives_while_suspended_is_not_shown_to_the_code():
    given(scheduled(0, "a"), suspended(), next_episode, completed(0, 1)).run(two_steps).expect()


def test_what_arrived_while_suspended_is_shown_when_it_is_resumed():
    history = (scheduled(0, "a"), suspended(), next_episode, completed(0, 1), next_episode, resumed())
    given(*history).run(two_steps).expect(calls(1, "b", 1))


def test_the_code_does_not_begin_when_start_and_suspension_come_together():
    given(suspended()).run(two_steps).expect()


def test_the_code_begins_when_it_is_resumed():
    given(suspended(), next_episode, resumed()).run(two_steps).expect(calls(0, "a"))


def test_suspended_and_resumed_in_its_first_episode_it_begins_once():
    given(suspended(), resumed()).run(two_steps).expect(calls(0, "a"))


def test_events_come_in_their_order_after_the_suspension():
    def three(context):
        got = []
        for _ in range(3):
            got.append((yield context.wait_for_external_event("e")))
        return got

    history = (suspended(), next_episode, raised("e", 1), raised("e", 2), next_episode, raised("e", 3), resumed())
    given(*history).run(three).expect(returns(0, [1, 2, 3]))


def test_decisions_of_the_step_before_the_suspension_stand():
    history = (scheduled(0, "a"), completed(0, 1), suspended(), scheduled(1, "b", 1), completed(1, 2), next_episode)
    given(*history, resumed()).run(two_steps).expect(returns(2, 2))


def test_the_time_after_a_suspension_is_that_of_the_episode_which_resumed_it():
    def times(context):
        yield context.wait_for_external_event("e")
        return (context.current_utc_datetime - START) / timedelta(seconds=1)

    given(suspended(), next_episode, raised("e"), next_episode, resumed()).run(times).expect(returns(0, 2.0))


def test_an_event_is_sent_at_once_and_replays():
    def sends(context):
        context._cursor.send_event("other", "Go", "1")
        return (yield context.call_activity("a"))

    given().run(sends).expect(sends_event(0, "other", "Go", 1), calls(1, "a"))
    given(event_sent(0, "other", "Go", 1), scheduled(1, "a"), completed(1, 5)).run(sends).expect(returns(2, 5))
