"""What orchestrator code calls, beyond plain calls: retries, timeouts, typed results, events to others, HTTP."""

import logging
from collections.abc import Generator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import azure.durable_functions as df
import pytest
from azure.durable_functions.models.Task import (
    CompoundTask,
    RetryAbleTask,
    TaskBase,
    TimerTask,
    WhenAllTask,
)

from given import (
    EXECUTION_ID,
    START,
    calls,
    calls_child,
    cancels_timer,
    child_completed,
    child_created,
    child_failed,
    completed,
    event_sent,
    failed,
    given,
    next_episode,
    raised,
    returns,
    scheduled,
    sends_event,
    sets_timer,
    timer_created,
    timer_fired,
)
from perdure.core.actions import ContinueAsNew, CreateSubOrchestration
from perdure.core.codec import PayloadCodec
from perdure.core.cursor import OrchestrationCursor
from perdure.core.events import ExecutionStarted, OrchestratorStarted

BOOM = ValueError("boom")
RETRY = df.RetryOptions(2000, 3, 2.0)
REQUEST = {"method": "GET", "uri": "http://a/x", "content": None, "headers": {}, "tokenSource": None}

bp = df.Blueprint()


@dataclass
class Order:
    number: int


@bp.activity_trigger(input_name="number")
def make_order(number: int) -> Order:
    return Order(number)


@bp.activity_trigger(input_name="number")
def make_number(number: int) -> int:
    return number


@bp.orchestration_trigger(context_name="context")
def make_orders(context: df.DurableOrchestrationContext) -> Generator[Any, Any, list[Order]]:
    yield
    return []


# ---------------------------------------------------------------------- retries


def retries(context):
    return (yield context.call_activity_with_retry("a", RETRY, 1))


def test_a_failed_activity_is_called_again_after_its_waits():
    history = [scheduled(0, "a"), failed(0, BOOM)]
    given(*history).run(retries).expect(sets_timer(1, 1 + 2))
    history += [timer_created(1, 3), timer_fired(1, 3)]
    given(*history).run(retries).expect(calls(2, "a", 1))
    history += [scheduled(2, "a"), failed(2, BOOM)]
    given(*history).run(retries).expect(sets_timer(3, 3 + 4))
    history += [timer_created(3, 7), timer_fired(3, 7), scheduled(4, "a"), failed(4, BOOM)]
    given(*history).run(retries).expect_failure("ValueError", "boom")


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.call_activity_with_retry("a", RETRY, 1),
        lambda c: c.call_activity_with_retry("a", 1, RETRY),
        lambda c: c.call_activity_with_retry("a", input_=1, retry_options=RETRY),
        lambda c: c.call_activity_with_retry("a", None, 1),
    ],
)
def test_options_and_input_may_come_in_either_order_and_none_calls_once(call: Any):
    def orchestrator(context):
        return (yield call(context))

    given().run(orchestrator).expect(calls(0, "a", 1))


def test_without_options_a_failure_is_raised_at_once():
    def orchestrator(context):
        yield context.call_sub_orchestrator_with_retry("s", None, 1)

    given(child_created(0, "s"), child_failed(0, BOOM)).run(orchestrator).expect_failure("ValueError")


@pytest.mark.parametrize("instance_id", [None, "mine"])
def test_each_attempt_of_a_child_has_the_id_that_was_given_or_a_new_one(instance_id: str | None):
    def orchestrator(context):
        yield context.call_sub_orchestrator_with_retry("s", RETRY, 1, instance_id)

    history = [child_created(0, "s", instance_id or "auto"), child_failed(0, BOOM), timer_created(1, 3)]
    given().run(orchestrator).expect(calls_child(0, "s", 1, instance_id))
    given(*history, timer_fired(1, 3)).run(orchestrator).expect(calls_child(2, "s", 1, instance_id))


@pytest.mark.parametrize(
    ("options", "is_retried"),
    [
        ({"retry_on": ValueError}, True),
        ({"retry_on": (KeyError, ValueError)}, True),
        ({"retry_on": KeyError}, False),
        ({"retry_on": Exception}, True),
        ({"retry_on": lambda failure: "boom" in failure.message}, True),
        ({"retry_on": lambda failure: failure.error_type == "KeyError"}, False),
        ({"give_up_on": ValueError}, False),
        ({"give_up_on": (KeyError,)}, True),
        ({"give_up_on": lambda failure: False}, True),
        ({"retry_on": Exception, "give_up_on": ValueError}, False),
    ],
)
def test_options_say_which_failures_are_worth_another_attempt(options: dict[str, Any], is_retried: bool):
    def orchestrator(context):
        yield context.call_activity_with_retry("a", df.RetryOptions(1000, 3, **options))

    run = given(scheduled(0, "a"), failed(0, BOOM)).run(orchestrator)

    if is_retried:
        run.expect(sets_timer(1, 2))
    else:
        run.expect_failure("ValueError")


def test_a_retried_call_shows_its_attempts_and_options():
    def orchestrator(context):
        task = context.call_activity_with_retry("a", RETRY)
        assert isinstance(task, RetryAbleTask)
        before = task.num_attempts
        yield task
        return [before, task.num_attempts, task.retry_options is RETRY]

    history = [scheduled(0, "a"), failed(0, BOOM), timer_created(1, 3), timer_fired(1, 3), scheduled(2, "a")]
    given(*history, completed(2)).run(orchestrator).expect_result([0, 2, True])


def test_retried_calls_are_parts_of_composites():
    def orchestrator(context):
        tasks = [context.call_activity_with_retry(name, RETRY) for name in "ab"]
        return (yield context.task_all(tasks))

    history = [scheduled(0, "a"), scheduled(1, "b"), failed(0, BOOM), completed(1, "b"), timer_created(2, 3)]
    given(*history, timer_fired(2, 3), scheduled(3, "a"), completed(3, "a")).run(orchestrator).expect_result(["a", "b"])


# ---------------------------------------------------------------------- waits with a timeout


def waits(context):
    try:
        return (yield context.wait_for_external_event("e", int, timeout=timedelta(seconds=5)))
    except TimeoutError as error:
        return str(error)


def test_a_wait_with_a_timeout_gives_the_event_and_cancels_its_timer():
    given().run(waits).expect(sets_timer(0, 5))
    given(timer_created(0, 5), raised("E", 7)).run(waits).expect(cancels_timer(0), returns(1, 7))


def test_an_event_that_came_early_ends_the_wait_at_once():
    def orchestrator(context):
        yield context.call_activity("a")
        return (yield from waits(context))

    history = [scheduled(0, "a"), raised("e", 7), completed(0)]
    assert given(*history).run(orchestrator).end == returns(2, 7)


def test_a_wait_with_a_timeout_raises_when_its_time_has_come():
    given(timer_created(0, 5), timer_fired(0, 5)).run(waits).expect_result(
        "no event 'e' came until 2026-01-02 03:04:10 UTC"
    )


def test_an_event_after_the_timeout_is_kept_for_the_next_wait():
    def orchestrator(context):
        first = yield from waits(context)
        return [first.startswith("no event"), (yield context.wait_for_external_event("e"))]

    given(timer_created(0, 5), timer_fired(0, 5), next_episode, raised("e", "late")).run(orchestrator).expect_result(
        [True, "late"]
    )


def test_a_wait_may_last_until_a_time_and_lose_against_something_else():
    def orchestrator(context):
        event = context.wait_for_external_event("e", timeout=START + timedelta(seconds=5))
        work = context.call_activity("a")
        winner = yield context.task_any([event, work])
        return winner is work

    given(timer_created(0, 5), scheduled(1, "a"), completed(1)).run(orchestrator).expect_result(True)


def test_data_that_does_not_fit_is_raised_by_the_wait():
    def orchestrator(context):
        try:
            yield context.wait_for_external_event("e", Order, timeout=timedelta(seconds=5))
        except TypeError as error:
            return str(error)

    given(timer_created(0, 5), raised("e", {"number": "x"})).run(orchestrator).expect_result(
        "the value is no Order: Expected `int`, got `str` - at `$.number`"
    )


# ---------------------------------------------------------------------- typed values


def test_the_input_becomes_what_is_expected():
    def orchestrator(context):
        orders = context.get_input(list[Order])
        return [type(each).__name__ for each in orders] + [sum(each.number for each in orders)]

    given(input=[{"number": 1}, {"number": 2}]).run(orchestrator).expect_result(["Order", "Order", 3])


def test_an_input_that_does_not_fit_is_refused_with_its_place():
    given(input={"number": "x"}).run(lambda context: context.get_input(Order)).expect_failure(
        "TypeError", "the value is no Order: Expected `int`, got `str` - at `$.number`"
    )


def test_no_input_is_none_whatever_is_expected():
    given().run(lambda context: context.get_input(Order)).expect_result(None)


@pytest.mark.parametrize("is_retried", [False, True])
def test_a_call_by_reference_takes_the_type_from_the_annotation(is_retried: bool):
    def orchestrator(context):
        if is_retried:
            order = yield context.call_activity_with_retry(make_order, RETRY, 5)
        else:
            order = yield context.call_activity(make_order, 5)
        return [type(order).__name__, order.number]

    history = [scheduled(0, "make_order"), completed(0, {"number": 5})]
    given(*history).run(orchestrator).expect_result(["Order", 5])


def test_the_annotation_of_a_generator_is_what_it_returns():
    def orchestrator(context):
        orders = yield context.call_sub_orchestrator(make_orders)
        return [type(each).__name__ for each in orders]

    history = [child_created(0, "make_orders"), child_completed(0, [{"number": 5}])]
    given(*history).run(orchestrator).expect_result(["Order"])


@pytest.mark.parametrize(("function", "result"), [(make_order, "odd"), (make_order, {"no": 1}), (make_number, "x")])
def test_what_does_not_fit_an_annotation_is_given_as_it_is(function: Any, result: Any):
    def orchestrator(context):
        return (yield context.call_activity(function, 5))

    name = function._function.get_function_name()
    given(scheduled(0, name), completed(0, result)).run(orchestrator).expect_result(result)


def test_an_expected_type_goes_before_the_annotation():
    def orchestrator(context):
        return (yield context.call_activity(make_order, 5, dict))

    history = [scheduled(0, "make_order"), completed(0, {"number": 5})]
    given(*history).run(orchestrator).expect_result({"number": 5})


def test_results_and_inputs_of_known_kinds_travel_as_plain_json():
    def orchestrator(context):
        yield context.call_activity("a", {"orders": [Order(1)], "at": START})
        return Order(2)

    history = [scheduled(0, "a"), completed(0)]
    given().run(orchestrator).expect(calls(0, "a", {"orders": [{"number": 1}], "at": "2026-01-02T03:04:05.678900Z"}))
    given(*history).run(orchestrator).expect_result({"number": 2})


# ---------------------------------------------------------------------- this and other orchestrations


def test_an_event_is_sent_without_waiting():
    def orchestrator(context):
        assert context.send_event("other", "go", data={"n": 1}) is None
        context.send_event("other", "stop")
        return (yield context.call_activity("a"))

    given().run(orchestrator).expect(
        sends_event(0, "other", "go", {"n": 1}), sends_event(1, "other", "stop"), calls(2, "a")
    )
    history = [
        event_sent(0, "other", "go", {"n": 1}),
        event_sent(1, "other", "stop"),
        scheduled(2, "a"),
        completed(2, 5),
    ]
    given(*history).run(orchestrator).expect_result(5)


def test_the_next_generation_may_have_another_version():
    def orchestrator(context):
        context.continue_as_new(1, version="2")

    assert given().run(orchestrator).actions == [ContinueAsNew(0, "1", (), "2")]


def test_a_child_may_have_a_version_and_tags():
    def orchestrator(context):
        yield context.call_sub_orchestrator("s", 1, "id", "2", tags={"team": "a"})

    assert given().run(orchestrator).actions == [CreateSubOrchestration(0, "s", "1", "id", "2", {"team": "a"})]


def test_a_replay_safe_logger_is_silent_during_replay(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "app")

    def orchestrator(context):
        log = context.create_replay_safe_logger(logging.getLogger("app"))
        log.info("before")
        log.debug("not at this level")
        yield context.call_activity("a")
        log.info("after %s", 1)

    given(scheduled(0, "a"), completed(0)).cold(orchestrator)

    assert [record.getMessage() for record in caplog.records] == ["after 1"]


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("set_custom_status", [1]),
        ("continue_as_new", [1]),
        ("new_uuid", []),
        ("new_guid", []),
        ("send_event", ["i", "e"]),
    ],
)
def test_what_decides_something_is_refused_while_the_code_does_not_run(method: str, arguments: list[Any]):
    kept: list[Any] = []

    def orchestrator(context):
        kept.append(context)
        yield context.call_activity("a")

    given().live(orchestrator)

    with pytest.raises(
        RuntimeError, match=rf"context\.{method} was called while the orchestrator is not running \(DF207\)"
    ):
        getattr(kept[0], method)(*arguments)


def test_a_context_of_no_running_orchestration_may_be_tried_out():
    context = df.DurableOrchestrationContext(OrchestrationCursor("i", lambda cursor: None, PayloadCodec()))

    context.set_custom_status("x")
    context.continue_as_new(1)

    assert (context.custom_status, context.will_continue_as_new, len(context.new_uuid())) == ("x", True, 36)


# ---------------------------------------------------------------------- tasks


def test_a_composite_shows_its_parts_as_the_official_one():
    def orchestrator(context):
        tasks = [context.call_activity(name) for name in "abc"]
        first, every = context.task_any(tasks), context.task_all(tasks)
        yield first
        assert isinstance(every, CompoundTask)
        assert isinstance(every, WhenAllTask)
        assert isinstance(every, TaskBase)
        return [
            every.children == tasks,
            every.pending_tasks == {tasks[0], tasks[2]},
            every.completed_tasks == [tasks[1]],
        ]

    history = [scheduled(number, name) for number, name in enumerate("abc")]
    given(*history, completed(1)).run(orchestrator).expect_result([True, True, True])


def test_a_timer_of_any_length_is_one_timer():
    def orchestrator(context):
        timer = context.create_timer(timedelta(days=400))
        assert isinstance(timer, TimerTask)
        yield timer

    given().run(orchestrator).expect(sets_timer(0, 400 * 86_400))


# ---------------------------------------------------------------------- HTTP


def fetches(context):
    return (yield context.call_http("GET", "http://a/x"))


def test_an_http_call_is_an_activity_whose_result_is_a_dict():
    answer = {"statusCode": 404, "headers": {}, "content": "no"}

    given().run(fetches).expect(calls(0, "BuiltIn::HttpActivity", REQUEST))
    given(scheduled(0, "BuiltIn::HttpActivity"), completed(0, answer)).run(fetches).expect_result(answer)


@pytest.mark.parametrize(
    ("content", "sent"),
    [
        ("exactly this", "exactly this"),
        ('{"a": 1}', '{"a": 1}'),
        ({"a": 1}, '{"a": 1}'),
        ([1, "é"], '[1, "\\u00e9"]'),
        (Order(1), '{"number": 1}'),
        ("", ""),
        (None, None),
        (0, "0"),
    ],
)
def test_text_is_sent_as_it_is_and_anything_else_as_json(content: Any, sent: str | None):
    def orchestrator(context):
        yield context.call_http("POST", "http://a/x", content, {"X-A": "b"})

    expected = REQUEST | {"method": "POST", "content": sent, "headers": {"X-A": "b"}}
    given().run(orchestrator).expect(calls(0, "BuiltIn::HttpActivity", expected))


def test_raw_text_and_a_token_source_are_passed_on():
    def orchestrator(context):
        source = df.ManagedIdentityTokenSource("https://graph.microsoft.com/")
        yield context.call_http("POST", "http://a/x", "raw", None, source, True)

    expected = REQUEST | {
        "method": "POST",
        "content": "raw",
        "tokenSource": {"resource": "https://graph.microsoft.com/", "kind": "AzureManagedIdentity"},
    }
    given().run(orchestrator).expect(calls(0, "BuiltIn::HttpActivity", expected))


def test_an_http_call_without_the_pattern_gives_the_answer_202():
    def orchestrator(context):
        return (yield context.call_http("GET", "http://a/x", asynchronous_pattern_enabled=False))

    answer = {"statusCode": 202, "headers": {"Location": "/y"}, "content": ""}
    given(scheduled(0, "BuiltIn::HttpActivity"), completed(0, answer)).run(orchestrator).expect_result(answer)


def test_an_http_call_is_retried_if_it_fails():
    def orchestrator(context):
        return (yield context.call_http("GET", "http://a/x", retry_options=RETRY))

    history = [scheduled(0, "BuiltIn::HttpActivity"), failed(0, ConnectionError("refused"))]
    given(*history).run(orchestrator).expect(sets_timer(1, 3))
    given(*history).run(fetches).expect_failure("ConnectionError", "refused")


def test_an_input_type_of_the_decorator_may_be_a_form():
    handle = df.Orchestrator.create(lambda context: context.get_input()[0].number, input_type=list[Order])
    cursor = OrchestrationCursor("i", handle, PayloadCodec())

    [end] = cursor.advance([OrchestratorStarted(START), ExecutionStarted(START, EXECUTION_ID, "o", '[{"number": 5}]')])

    assert end.result == "5"
