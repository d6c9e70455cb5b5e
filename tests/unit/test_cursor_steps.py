"""An orchestrator is stepped through its history: `yield` and `await` alike, and what may be yielded."""

from collections.abc import Generator
from datetime import timedelta
from typing import Any

import pytest

from given import (
    START,
    calls,
    calls_child,
    child_completed,
    child_created,
    child_failed,
    completed,
    failed,
    given,
    next_episode,
    raised,
    returns,
    scheduled,
    timer_created,
    timer_fired,
)
from perdure.core.tasks import Task


def chain(context):
    first = yield context.call_activity("hello", "Tokyo")
    second = yield context.call_activity("hello", first)
    return [first, second]


async def awaited_chain(context):
    first = await context.call_activity("hello", "Tokyo")
    second = await context.call_activity("hello", first)
    return [first, second]


both_forms = pytest.mark.parametrize("orchestrator", [chain, awaited_chain])


@both_forms
def test_the_first_episode_calls_the_first_activity(orchestrator):
    given().run(orchestrator).expect(calls(0, "hello", "Tokyo"))


@both_forms
def test_a_result_leads_to_the_next_call(orchestrator):
    given(scheduled(0, "hello", "Tokyo"), completed(0, "a")).run(orchestrator).expect(calls(1, "hello", "a"))


@both_forms
def test_the_last_result_ends_the_orchestration(orchestrator):
    history = given(scheduled(0, "hello"), completed(0, "a"), scheduled(1, "hello"), completed(1, "b"))

    history.run(orchestrator).expect(returns(2, ["a", "b"]))


def test_a_plain_function_returns_at_once():
    given(input="x").run(lambda context: context.get_input() * 2).expect(returns(0, "xx"))


def test_a_callable_object_may_be_an_orchestrator():
    class Flow:
        def __call__(self, context: Any) -> Generator[Task, Any, Any]:
            return (yield context.call_activity("a"))

    given(scheduled(0, "a"), completed(0, 5)).run(Flow()).expect_result(5)


def test_helpers_may_yield_and_await():
    def generator_helper(context):
        return (yield context.call_activity("a"))

    def with_generator(context):
        return (yield from generator_helper(context)) + 1

    async def async_helper(context):
        return await context.call_activity("a")

    async def with_coroutine(context):
        return await async_helper(context) + 1

    history = given(scheduled(0, "a"), completed(0, 1))

    history.run(with_generator).expect_result(2)
    history.run(with_coroutine).expect_result(2)


def test_a_task_that_is_never_yielded_is_not_scheduled():
    def orchestrator(context):
        context.call_activity("forgotten")
        yield context.call_activity("a")

    given().run(orchestrator).expect(calls(0, "a"))


def test_two_tasks_yielded_in_turn_run_in_turn():
    def orchestrator(context):
        a, b = context.call_activity("a"), context.call_activity("b")
        return [(yield b), (yield a)]

    given().run(orchestrator).expect(calls(0, "b"))
    given(scheduled(0, "b"), completed(0, 1)).run(orchestrator).expect(calls(1, "a"))


def test_a_completed_task_yielded_again_gives_its_result_again():
    def orchestrator(context):
        task = context.call_activity("a")
        return [(yield task), (yield task)]

    given(scheduled(0, "a"), completed(0, 7)).run(orchestrator).expect_result([7, 7])


def test_a_failed_task_yielded_again_raises_again():
    def orchestrator(context):
        task, caught = context.call_activity("a"), 0
        for _ in range(2):
            try:
                yield task
            except Exception:
                caught += 1
        return caught

    given(scheduled(0, "a"), failed(0, ValueError("boom"))).run(orchestrator).expect_result(2)


def test_a_failed_activity_raises_with_the_official_text_and_with_attributes():
    def orchestrator(context):
        try:
            yield context.call_activity("A")
        except Exception as error:
            return [str(error).partition(" \n ")[0], error.error_type, error.message]

    history = given(scheduled(0, "A"), failed(0, ValueError("boom")))

    history.run(orchestrator).expect_result(["Activity function 'A' failed:  ValueError: boom", "ValueError", "boom"])


def test_an_uncaught_activity_failure_fails_the_orchestration_with_its_root_cause():
    run = given(scheduled(0, "hello"), failed(0, ValueError("boom"))).run(chain)

    run.expect_failure("ValueError", "boom")
    assert run.actions[-1].reason == "Activity function 'hello' failed:  ValueError: boom"


def test_a_failed_child_raises():
    def orchestrator(context):
        yield context.call_sub_orchestrator("S")

    run = given(child_created(0, "S"), child_failed(0, KeyError("k"))).run(orchestrator)

    run.expect_failure("KeyError")
    assert run.actions[-1].reason.startswith("Orchestrator function 'S' failed: ")


def test_a_child_is_called_and_answers():
    def orchestrator(context):
        return (yield context.call_sub_orchestrator("S", {"a": 1}, "child"))

    given().run(orchestrator).expect(calls_child(0, "S", {"a": 1}, "child"))
    given(child_created(0, "S"), child_completed(0, 7)).run(orchestrator).expect_result(7)


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_whatever_the_code_raises_fails_the_orchestration(error: BaseException):
    def orchestrator(context):
        raise error
        yield

    given().run(orchestrator).expect_failure(type(error).__name__)


def test_whatever_a_plain_function_raises_fails_the_orchestration():
    def orchestrator(context):
        raise ValueError("no")

    given().run(orchestrator).expect_failure("ValueError", "no")


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("value", [5, "task", None, [], (1,), {"a": 1}, Task, Unprintable(), Task()])
def test_yielding_what_is_no_task_raises_at_the_yield(value: object):
    def orchestrator(context):
        try:
            yield value
        except TypeError as error:
            return str(error)

    assert given().run(orchestrator).end


def test_a_list_of_tasks_is_refused_with_the_way_to_do_it():
    def orchestrator(context):
        yield [context.call_activity("a")]

    given().run(orchestrator).expect_failure("TypeError", "context.task_all([...])")


def test_a_foreign_awaitable_is_refused():
    class Foreign:
        def __await__(self):
            yield self

    async def orchestrator(context):
        await Foreign()

    given().run(orchestrator).expect_failure("TypeError", "not a task")


def test_async_def_with_yield_is_refused():
    async def orchestrator(context):
        yield context.call_activity("a")

    given().run(orchestrator).expect_failure("TypeError", "DF201")


def test_returning_a_task_is_refused():
    given().run(lambda context: context.call_activity("a")).expect_failure("TypeError", "yield it first")


@pytest.mark.parametrize("result", [object(), float("nan"), {1, 2}])
def test_a_result_that_json_cannot_hold_fails_the_orchestration(result: object):
    run = given().run(lambda context: result)

    assert run.end.failure is not None


def test_a_result_that_contains_itself_fails_the_orchestration():
    result: list[Any] = []
    result.append(result)

    given().run(lambda context: result).expect_failure("ValueError")


def test_the_time_is_that_of_the_episode():
    def orchestrator(context):
        first = context.current_utc_datetime
        yield context.call_activity("a")
        return [str(first), str(context.current_utc_datetime)]

    expected = [str(START), str(START + timedelta(seconds=1))]
    given(scheduled(0, "a"), completed(0)).run(orchestrator).expect_result(expected)


def test_replaying_is_over_when_the_new_event_arrives():
    seen: list[bool] = []

    def orchestrator(context):
        seen.append(context.is_replaying)
        yield context.call_activity("a")
        seen.append(context.is_replaying)
        yield context.call_activity("b")
        seen.append(context.is_replaying)

    given(scheduled(0, "a"), completed(0), scheduled(1, "b"), completed(1)).cold(orchestrator)

    assert seen == [True, True, False]


def test_nothing_happens_after_the_end():
    def orchestrator(context):
        yield context.task_any([context.call_activity("a"), context.call_activity("b")])
        return "done"

    run = given(scheduled(0, "a"), scheduled(1, "b"), completed(0)).run(orchestrator)
    run.expect(returns(2, "done"))

    assert run.cursor.advance([completed(1, "late")]) == []


def test_an_answer_to_nothing_is_ignored():
    def orchestrator(context):
        return (yield context.call_activity("a"))

    given(scheduled(0, "a"), completed(9), completed(0, 1), completed(0, 2)).run(orchestrator).expect_result(1)


def test_a_result_that_cannot_be_decoded_is_the_callers_to_handle():
    class Strict:
        def to_json(self):
            return 1

        @staticmethod
        def from_json(data):
            raise ValueError("not today")

    envelope = {"__class__": "Strict", "__module__": Strict.__module__, "__data__": 1}

    def orchestrator(context):
        try:
            yield context.call_activity("a", expected_type=Strict)
        except ValueError as error:
            return str(error)

    given(scheduled(0, "a"), completed(0, envelope)).run(orchestrator).expect_result("not today")


@pytest.mark.parametrize("kind", [int, int | None, Any, object])
def test_an_expected_type_that_fits_changes_nothing(kind: Any):
    def orchestrator(context):
        return (yield context.call_activity("a", None, kind))

    given(scheduled(0, "a"), completed(0, 3)).run(orchestrator).expect_result(3)


@pytest.mark.parametrize("kind", [str, list[str], "int"])
def test_an_expected_type_that_does_not_fit_is_raised_at_the_yield(kind: Any):
    def orchestrator(context):
        try:
            return (yield context.call_activity("a", None, kind))
        except TypeError:
            return "raised"

    given(scheduled(0, "a"), completed(0, 3)).run(orchestrator).expect_result("raised")


def test_closing_runs_finally_and_what_it_tries_has_no_effect():
    closed: list[str] = []

    def orchestrator(context):
        timer = context.create_timer(timedelta(hours=1))
        try:
            yield timer
        finally:
            closed.append("finally")
            timer.cancel()
            context.set_custom_status("given up")
            yield context.call_activity("never")

    run = given().live(orchestrator)
    run.cursor.close()

    assert closed == ["finally"]
    assert run.cursor.custom_status is None
    assert run.cursor.advance([timer_fired(0, 3600)]) == []


def test_a_custom_status_may_be_falsy_cleared_or_never_set():
    def orchestrator(context):
        seen = [context.custom_status]
        context.set_custom_status(0)
        seen.append(context.custom_status)
        yield context.call_activity("a")
        context.set_custom_status(None)
        return seen

    assert given().run(orchestrator).cursor.custom_status == "0"
    assert given(scheduled(0, "a"), completed(0)).run(orchestrator).cursor.custom_status == "null"
    assert given().run(chain).cursor.custom_status is None


def test_a_hundred_thousand_events_replay_without_recursion():
    count = 25_000

    def orchestrator(context):
        total = 0
        for _ in range(count):
            total += yield context.call_activity("one")
        return total

    history = [event for number in range(count) for event in (scheduled(number, "one"), completed(number, 1))]

    given(*history).cold(orchestrator).expect_result(count)


def test_a_hundred_thousand_events_in_one_episode_are_taken_without_recursion():
    count = 100_000

    async def orchestrator(context):
        total = 0
        for _ in range(count):
            total += await context.wait_for_external_event("one")
        return total

    given(*[raised("one", 1)] * count).live(orchestrator).expect_result(count)


def test_a_fan_out_of_fifty_thousand_settles_without_recursion_or_scans():
    count = 50_000

    def orchestrator(context):
        return sum((yield context.task_all([context.call_activity("one") for _ in range(count)])))

    history = [scheduled(number, "one") for number in range(count)]
    history += [completed(number, 1) for number in range(count)]

    given(*history).cold(orchestrator).expect_result(count)


def test_an_episode_without_a_decision_is_replayed_too():
    def orchestrator(context):
        return (yield context.task_all([context.call_activity("a"), context.call_activity("b")]))

    history = given(scheduled(0, "a"), scheduled(1, "b"), completed(1, 2), next_episode, completed(0, 1))

    history.run(orchestrator).expect_result([1, 2])


def test_a_timer_and_an_event_are_decisions_in_one_order():
    def orchestrator(context):
        yield context.create_timer(timedelta(seconds=5))
        return (yield context.call_activity("a"))

    given(timer_created(0, 5), timer_fired(0, 5)).run(orchestrator).expect(calls(1, "a"))
