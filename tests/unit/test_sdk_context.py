"""What orchestrator code can ask and call."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import azure.durable_functions as df
import azure.functions as func
import pytest

from given import (
    EXECUTION_ID,
    START,
    calls,
    calls_child,
    completed,
    given,
    scheduled,
)
from perdure.core.codec import PayloadCodec
from perdure.core.cursor import OrchestrationCursor
from perdure.core.events import ExecutionStarted, OrchestratorStarted, ParentInstance

RETRY = df.RetryOptions(1000, 3)

bp = df.Blueprint()


@bp.activity_trigger(input_name="city")
def plain(city):
    return city


@bp.function_name("functionName")
@bp.activity_trigger(input_name="city")
def renamed(city):
    return city


@bp.function_name("functionName2")
@bp.activity_trigger(input_name="city", activity="activityName")
def overridden(city):
    return city


@bp.orchestration_trigger(context_name="context", orchestration="orchestrationName")
def child(context):
    return None


def asked(question, **fields: Any) -> Any:
    """What a plain orchestrator function returns."""
    return given(**fields).run(question).end


def value(question, **fields: Any) -> Any:
    return PayloadCodec().decode(asked(question, **fields).result)


# ---------------------------------------------------------------------- who and when


def test_an_orchestration_knows_itself():
    def seen(context: df.DurableOrchestrationContext) -> Any:
        return [context.instance_id, context.parent_instance_id, context.version, context.will_continue_as_new]

    assert value(seen) == ["inst1", None, None, False]


def test_a_child_knows_its_parent_and_version():
    parent = ParentInstance("outer", "e", "n", 0)
    started = ExecutionStarted(START, EXECUTION_ID, "o", None, "2", parent)
    cursor = OrchestrationCursor(
        "i", df.Orchestrator.create(lambda c: [c.parent_instance_id, c.version]), PayloadCodec()
    )

    [end] = cursor.advance([OrchestratorStarted(START), started])

    assert end.result == '["outer", "2"]'


def test_function_context_says_what_the_official_host_does():
    assert value(lambda context: vars(context.function_context)) == {
        "defaultHttpAsyncRequestSleepTimeMillseconds": 30_000
    }


# ---------------------------------------------------------------------- input


@pytest.mark.parametrize("input", [None, 1, "text", '{"a": 1}', [1, 2], {"a": None}, True])
def test_the_input_is_the_value_that_was_given(input: Any):
    assert value(lambda context: context.get_input(), input=input) == input


def test_each_call_of_get_input_decodes_anew():
    def mutates(context):
        context.get_input().append(1)
        return context.get_input()

    assert value(mutates, input=[]) == []


def test_an_input_that_is_not_json_is_its_text():
    started = ExecutionStarted(START, EXECUTION_ID, "o", "not json")
    cursor = OrchestrationCursor("i", df.Orchestrator.create(lambda context: context.get_input()), PayloadCodec())

    [end] = cursor.advance([OrchestratorStarted(START), started])

    assert end.result == '"not json"'


class Order:
    def __init__(self, number: int) -> None:
        self.number = number

    @staticmethod
    def to_json(order: "Order") -> dict[str, int]:
        return {"number": order.number}

    @staticmethod
    def from_json(data: dict[str, int]) -> "Order":
        return Order(data["number"])


ENVELOPE = {"__class__": "Order", "__module__": __name__, "__data__": {"number": 7}}


def test_an_input_becomes_an_object_of_the_expected_type():
    assert value(lambda context: context.get_input(Order).number, input=ENVELOPE) == 7
    assert value(lambda context: context.get_input(expected_type=Order).number, input=ENVELOPE) == 7


def test_the_input_type_of_the_decorator_is_the_default_expected_type():
    class Local(Order):
        @staticmethod
        def from_json(data: dict[str, int]) -> "Local":
            return Local(data["number"])

    @df.Blueprint().orchestration_trigger(context_name="context", input_type=Local)
    def orchestrator(context):
        return type(context.get_input()).__name__

    started = ExecutionStarted(START, EXECUTION_ID, "o", order_text("Local", Local.__module__))
    handle = orchestrator.build().get_user_function()
    cursor = OrchestrationCursor("i", handle, PayloadCodec())

    assert cursor.advance([OrchestratorStarted(START), started])[0].result == '"Local"'
    assert handle._df_input_type is Local


def order_text(name: str, module: str) -> str:
    return PayloadCodec().encode(ENVELOPE | {"__class__": name, "__module__": module})


def test_objects_with_to_json_travel_as_inputs():
    def orchestrator(context):
        yield context.call_activity("a", Order(7))

    given().run(orchestrator).expect(calls(0, "a", ENVELOPE))


def test_an_input_that_json_cannot_hold_is_refused_at_the_call():
    def orchestrator(context):
        yield context.call_activity("a", object())

    given().run(orchestrator).expect_failure("TypeError", "does not expose a `to_json` function")


# ---------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "registered"),
    [("byName", "byName"), (plain, "plain"), (renamed, "functionName"), (overridden, "activityName")],
)
def test_an_activity_is_called_by_name_or_by_function(name: Any, registered: str):
    def orchestrator(context):
        yield context.call_activity(name, 1)

    given().run(orchestrator).expect(calls(0, registered, 1))


def test_a_child_is_called_by_name_or_by_function():
    def orchestrator(context):
        yield context.task_all([context.call_sub_orchestrator(child, 1), context.call_sub_orchestrator("other")])

    given().run(orchestrator).expect(calls_child(0, "orchestrationName", 1), calls_child(1, "other"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.call_activity(len), "received a `Callable` without an associated Azure Functions trigger-type"),
        (lambda c: c.call_activity(child), "Trigger-type `orchestrationTrigger` but expected `ActivityTrigger`"),
        (lambda c: c.call_sub_orchestrator(plain), "`activityTrigger` but expected `OrchestrationTrigger`"),
        (lambda c: c.call_activity(""), "function_name cannot be empty"),
        (lambda c: c.call_activity(None), "function_name cannot be empty"),
        (lambda c: c.call_activity(5), "expected the name of a function"),
        (lambda c: c.call_sub_orchestrator("s", None, "@entity"), "must not start with @"),
        (lambda c: c.call_sub_orchestrator("s", None, "a/b"), "must not contain"),
        (lambda c: c.call_sub_orchestrator("s", None, "x" * 257), "256"),
        (lambda c: c.call_sub_orchestrator("s", None, "inst1"), "must be different than the instance ID of a parent"),
        (lambda c: c.create_timer("soon"), "fireAt: Expected valid datetime object but got"),
        (lambda c: c.wait_for_external_event(""), "external_event_name cannot be empty"),
        (lambda c: c.task_any([]), "task_any"),
        (lambda c: c.wait_for_external_event("e", timeout=5), "fireAt: Expected valid datetime object but got"),
        (lambda c: c.send_event("", "e"), "instance_id cannot be empty"),
        (lambda c: c.send_event("i", ""), "event_name cannot be empty"),
        (lambda c: c.send_event("@counter@k", "e"), "must not start with @"),
        (lambda c: c.call_activity_with_retry("", RETRY), "function_name cannot be empty"),
        (lambda c: c.call_sub_orchestrator_with_retry("s", RETRY, None, "inst1"), "must be different than"),
        (lambda c: c.call_http("", "http://x"), "the method cannot be empty"),
        (lambda c: c.call_http("GET", "/relative"), "'/relative' is no complete address"),
    ],
)
def test_wrong_arguments_are_refused_at_the_call(call: Any, message: str):
    end = asked(call)

    assert end.failure.error_type in ("ValueError", "perdure.errors.InvalidInstanceIdError")
    assert message in end.failure.message


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.call_activity_with_retry("a", 3), "retry_options must be a RetryOptions, but is 3"),
        (lambda c: c.call_http("GET", "http://x", headers={"n": 5}), "names and values of headers must be str"),
        (lambda c: c.call_http("GET", "http://x", token_source="t"), "expected a ManagedIdentityTokenSource"),
        (lambda c: c.call_http("GET", "http://x", {"a": 1}, is_raw_str=True), "Invalid use of 'is_raw_str' parameter"),
        (lambda c: c.call_http("GET", "http://x", is_raw_str=True), "Invalid use of 'is_raw_str' parameter"),
        (lambda c: c.call_http("POST", "http://x", {"a": b"x"}), "the value at $.a cannot be written as JSON (DF301)"),
        (lambda c: c.send_event("i", "e", data={1}), "the value at $ cannot be written as JSON (DF301)"),
        (lambda c: c.call_activity("a", {"items": [1, {2}]}), "the value at $.items[1] cannot be written as JSON"),
    ],
)
def test_arguments_of_a_wrong_type_are_refused_at_the_call(call: Any, message: str):
    given().run(call).expect_failure("TypeError", message)


def test_an_empty_child_id_lets_the_engine_choose():
    def orchestrator(context):
        yield context.call_sub_orchestrator("s", None, "")

    given().run(orchestrator).expect(calls_child(0, "s"))


def test_what_is_not_there_yet_says_so():
    given().run(lambda context: context.histories).expect_failure(
        "NotImplementedError", "This version of perdure does not have"
    )


# ---------------------------------------------------------------------- ids


def test_ids_are_those_of_the_official_sdk():
    made = value(lambda context: [context.new_uuid(), context.new_uuid(), str(context.new_guid())])

    assert made == [
        "9538663f-1997-5460-8c11-2efa410f3537",
        "02482dc7-3c5f-5bb3-a4c7-0c58094057ff",
        "729b1258-9e4d-5c95-b6df-ebe1a1b1022b",
    ]


def test_ids_of_a_whole_second_are_those_of_the_official_sdk():
    def makes(context):
        guid = context.new_guid()
        assert isinstance(guid, UUID)
        return [str(guid), context.new_uuid()]

    cursor = OrchestrationCursor("inst1", df.Orchestrator.create(makes), PayloadCodec())
    whole = START.replace(microsecond=0)
    [end] = cursor.advance([OrchestratorStarted(whole), ExecutionStarted(whole, EXECUTION_ID, "o")])

    assert PayloadCodec().decode(end.result) == [
        "697530a1-2c69-5f7b-beec-06e0240a3850",
        "e782d6c8-f5c7-5e8d-bb80-83ba370cb163",
    ]


# ---------------------------------------------------------------------- custom status


def sets(status: Any) -> Any:
    return lambda context: context.set_custom_status(status)


@pytest.mark.parametrize("status", [0, "", False, [], {}, None, "é" * 8190, "x" * 8190])
def test_any_json_value_up_to_16_kb_may_be_the_custom_status(status: Any):
    run = given().run(sets(status))

    assert PayloadCodec().decode(run.cursor.custom_status) == status
    assert run.end.failure is None


@pytest.mark.parametrize("status", ["x" * 8191, "é" * 8191, "😀" * 4096, list(range(4000))])
def test_a_larger_custom_status_is_refused(status: Any):
    expected = "The UTF-16 size of the JSON-serialized payload must not exceed 16 KB. The current payload size is"

    given().run(sets(status)).expect_failure("ValueError", expected)


def test_a_custom_status_that_json_cannot_hold_is_refused():
    given().run(sets(object())).expect_failure("TypeError", "to_json")


# ---------------------------------------------------------------------- the handler


def test_a_handler_takes_the_context_by_position_whatever_its_name():
    @df.Blueprint().orchestration_trigger(context_name="anything")
    def orchestrator(anything):
        return (yield anything.call_activity("a"))

    handle = orchestrator.build().get_user_function()
    cursor = OrchestrationCursor("i", handle, PayloadCodec())
    first = [OrchestratorStarted(START), ExecutionStarted(START, EXECUTION_ID, "o"), scheduled(0, "a")]
    cursor.replay(first)

    assert cursor.advance([completed(0, 5)])[0].result == "5"


def test_a_handler_called_with_a_context_starts_the_function():
    cursor = OrchestrationCursor("i", lambda cursor: None, PayloadCodec())

    assert df.Orchestrator.create(lambda context: context.instance_id)(df.DurableOrchestrationContext(cursor)) == "i"
    assert df.Orchestrator(lambda context: 5).handle(cursor) == 5


@pytest.mark.parametrize("body", ['{"history": []}', func.OrchestrationContext("{}")])
def test_a_handler_says_what_the_official_host_should_have_sent(body: Any):
    with pytest.raises(TypeError, match=r"lacks .*instanceId, isReplaying, parentInstanceId"):
        df.Orchestrator.create(lambda context: None)(body)


def test_a_task_answers_the_official_questions():
    def orchestrator(context):
        task = context.call_activity("a")
        before = [task.is_completed, int(task.state), task.result]
        yield task
        return [*before, task.is_completed, int(task.state), task.result, task.id]

    expected = [False, 0, None, True, 1, 5, 0]
    given(scheduled(0, "a"), completed(0, 5)).run(orchestrator).expect_result(expected)


def test_a_timer_takes_a_duration():
    def orchestrator(context):
        timer = context.create_timer(timedelta(seconds=5))
        yield timer

    assert given().run(orchestrator).actions[0].fire_at == START + timedelta(seconds=5)
