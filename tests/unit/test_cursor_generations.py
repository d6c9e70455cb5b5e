"""`continue_as_new`: the first call wins, unread events go along, nothing else does."""

from datetime import timedelta

from given import (
    calls,
    completed,
    given,
    raised,
    scheduled,
    sets_timer,
)
from perdure.core.actions import ContinueAsNew
from perdure.core.codec import payloads


def continues(number, input, *carried):
    return ContinueAsNew(number, payloads.encode(input), carried)


def counter(context):
    yield context.wait_for_external_event("add")
    context.continue_as_new(context.get_input() + 1)


def test_the_generation_ends_when_the_code_returns():
    given(raised("add"), input=1).run(counter).expect(continues(0, 2))


def test_the_generation_ends_when_the_code_yields_and_later_calls_are_dropped():
    def orchestrator(context):
        context.continue_as_new(1)
        yield context.call_activity("never")
        raise AssertionError("the code went on")

    given().run(orchestrator).expect(continues(0, 1))


def test_the_first_call_wins():
    def orchestrator(context):
        context.continue_as_new("first")
        assert context.will_continue_as_new
        context.continue_as_new("second")
        return "ignored"

    given().run(orchestrator).expect(continues(0, "first"))


def test_raising_afterwards_fails_the_orchestration():
    def orchestrator(context):
        context.continue_as_new(1)
        raise ValueError("no")

    given().run(orchestrator).expect_failure("ValueError")


def test_unread_events_go_along_in_order_of_arrival():
    a, b, c = raised("a", 1), raised("b", 2), raised("a", 3)

    given(a, raised("add"), b, c, input=0).run(counter).expect(continues(0, 1, a, b, c))


def test_an_event_that_came_to_a_wait_that_was_given_up_goes_along():
    def orchestrator(context):
        yield context.task_any([context.wait_for_external_event("E"), context.call_activity("a")])
        yield context.call_activity("b")
        context.continue_as_new(None)

    event = raised("E", 1)
    history = given(scheduled(0, "a"), completed(0), scheduled(1, "b"), event, completed(1))

    history.run(orchestrator).expect(continues(2, None, event))


def test_unread_events_stay_behind_when_asked_to():
    def orchestrator(context):
        yield context.wait_for_external_event("add")
        context.continue_as_new(1, save_events=False)

    given(raised("a"), raised("add"), raised("b")).run(orchestrator).expect(continues(0, 1))


def test_what_was_called_before_in_the_same_episode_still_goes_out():
    def orchestrator(context):
        yield context.wait_for_external_event("go")
        yield context.task_any([context.call_activity("a"), context.create_timer(timedelta(1)), context.task_all([])])
        context.continue_as_new(None)

    given(raised("go")).run(orchestrator).expect(calls(0, "a"), sets_timer(1, 86400), continues(2, None))


def test_finally_blocks_run_and_cannot_go_on():
    closed: list[str] = []

    def orchestrator(context):
        try:
            context.continue_as_new(1)
            yield context.call_activity("a")
        finally:
            closed.append("finally")
            yield context.call_activity("b")

    given().live(orchestrator).expect(continues(0, 1))

    assert closed == ["finally"]


def test_a_coroutine_continues_as_new():
    async def orchestrator(context):
        await context.wait_for_external_event("add")
        context.continue_as_new(2)

    given(raised("add")).run(orchestrator).expect(continues(0, 2))


def test_an_argument_is_required():
    def orchestrator(context):
        context.continue_as_new()

    given().run(orchestrator).expect_failure("TypeError")
