"""Replays for the official host: the examples that were made by running the official SDK, answered in the same way."""

import json
from datetime import timedelta
from typing import Any

import azure.durable_functions as df
import pytest
from protocol_kit import answer, at, begun, episode, event


def label(text: str) -> dict[str, Any]:
    """What stands behind the label in the text of a failed replay."""
    return json.loads(text.split("\n\n$OutOfProcData$:")[1])


# ---------------------------------------------------------------------- a chain of two activities


def chain(context):
    a = yield context.call_activity("Hello", "Tokyo")
    b = yield context.call_activity("Hello", {"x": 1})
    return [a, b]


TOKYO = '{"actionType": 0, "functionName": "Hello", "input": "\\"Tokyo\\""}'
X = '{"actionType": 0, "functionName": "Hello", "input": "{\\"x\\": 1}"}'
FIRST = [*begun('{"k": "v"}'), event(4, event_id=0, Name="Hello", Version="", Input='["\\"Tokyo\\""]')]
FIRST_DONE = [*FIRST, *episode(1, event(5, 1, TaskScheduledId=0, Result='"Hello Tokyo!"'))]
SECOND_DONE = [
    *FIRST_DONE,
    event(4, 1, 1, Name="Hello", Version="", Input='["{\\"x\\": 1}"]'),
    *episode(2, event(5, 2, TaskScheduledId=1, Result='"Hello X!"')),
]


def test_a_chain_begins_with_its_first_activity():
    assert answer(chain, begun('{"k": "v"}'), input={"k": "v"}) == (
        f'{{"isDone": false, "schemaVersion": 2, "actions": [[{TOKYO}]]}}'
    )


def test_a_chain_lists_all_that_it_has_called_so_far():
    assert answer(chain, FIRST_DONE) == f'{{"isDone": false, "schemaVersion": 2, "actions": [[{TOKYO}, {X}]]}}'


def test_a_chain_ends_with_its_output():
    assert answer(chain, SECOND_DONE) == (
        f'{{"isDone": true, "schemaVersion": 2, "actions": [[{TOKYO}, {X}]], "output": ["Hello Tokyo!", "Hello X!"]}}'
    )


# ---------------------------------------------------------------------- fan-out


def fan(context):
    results = yield context.task_all([context.call_activity("F", i) for i in range(3)])
    return sum(results)


PARTS = ", ".join(f'{{"actionType": 0, "functionName": "F", "input": "{i}"}}' for i in range(3))
FANNED = [*begun(), *(event(4, event_id=i, Name="F", Version="", Input=f'["{i}"]') for i in range(3))]


def test_a_fan_out_waits_as_one_action():
    one_done = [*FANNED, *episode(1, event(5, 1, TaskScheduledId=1, Result="10"))]

    for history in (begun(), one_done):
        assert answer(fan, history) == (
            '{"isDone": false, "schemaVersion": 2, "actions": [[{"actionType": 12, "compoundActions": ['
            f"{PARTS}]}}]]}}"
        )


def test_a_fan_out_ends_when_all_have():
    done = [
        *FANNED,
        *episode(1, event(5, 1, TaskScheduledId=1, Result="10")),
        *episode(2, event(5, 2, TaskScheduledId=0, Result="1"), event(5, 2, TaskScheduledId=2, Result="100")),
    ]

    assert answer(fan, done) == (
        '{"isDone": true, "schemaVersion": 2, "actions": [[{"actionType": 12, "compoundActions": ['
        f'{PARTS}]}}]], "output": 111}}'
    )


@pytest.mark.parametrize("old", [0, None])
def test_the_oldest_schema_has_no_compound_actions(old: int | None):
    given = answer(fan, begun(), upperSchemaVersion=old, upperSchemaVersionNew=None)

    assert given == f'{{"isDone": false, "actions": [[{PARTS}]]}}'


# ---------------------------------------------------------------------- a race against a timer


def race(context):
    timer = context.create_timer(context.current_utc_datetime + timedelta(seconds=90))
    approval = context.wait_for_external_event("Approval")
    winner = yield context.task_any([timer, approval])
    if winner == approval:
        timer.cancel()
        return {"approved": approval.result}
    return "timeout"


def raced(is_cancelled: str, output: str) -> str:
    return (
        '{"isDone": true, "schemaVersion": 2, "actions": [[{"actionType": 11, "compoundActions": ['
        f'{{"actionType": 5, "fireAt": "2026-01-02T03:05:35.678900Z", "isCanceled": {is_cancelled}}}, '
        '{"actionType": 6, "externalEventName": "Approval", "reason": "ExternalEvent"}]}]], '
        f'"output": {output}}}'
    )


RACING = [*begun(), event(10, event_id=0, FireAt=at(90))]


def test_a_timer_that_lost_is_cancelled_in_its_action():
    history = [*RACING, *episode(5, event(15, 5, Name="Approval", Input='"yes"'))]

    assert answer(race, history) == raced("true", '{"approved": "yes"}')


def test_a_timer_that_won_is_not_cancelled():
    history = [*RACING, *episode(90, event(11, 90, TimerId=0, FireAt=at(90)))]

    assert answer(race, history) == raced("false", '"timeout"')


# ---------------------------------------------------------------------- entities


def ent(context):
    context.signal_entity(df.EntityId("Counter", "k"), "add", 5)
    return (yield context.call_entity(df.EntityId("Counter", "k"), "get"))


GUID = "11111111-2222-3333-4444-555555555555"
ASKED = (
    '[[{"actionType": 9, "instanceId": "@counter@k", "operation": "add", "input": "5"}, '
    '{"actionType": 7, "instanceId": "@counter@k", "operation": "get", "input": "null"}]]'
)


def sent(event_id: int, **members: Any) -> dict[str, Any]:
    return event(14, event_id=event_id, InstanceId="@counter@k", Name="op", Input=json.dumps(members))


ENTITY = [
    *begun(),
    sent(0, op="add", signal=True, input='"5"', id="00000000-0000-0000-0000-000000000000", parent="inst1"),
    sent(1, op="get", input='"null"', id=GUID, parent="inst1"),
]


def test_a_signal_and_a_call_are_listed_in_their_order():
    assert answer(ent, begun()) == f'{{"isDone": false, "schemaVersion": 2, "actions": {ASKED}}}'


def test_the_answer_of_an_entity_is_known_by_the_id_of_its_request():
    history = [*ENTITY, *episode(1, event(15, 1, Name=GUID, Input='{"result": "5"}'))]

    assert answer(ent, history) == f'{{"isDone": true, "schemaVersion": 2, "actions": {ASKED}, "output": 5}}'


def test_a_failed_operation_fails_the_call_with_its_text():
    answered = json.dumps({"result": '"bad op"', "exceptionType": "Error"})

    with pytest.raises(Exception, match="bad op") as raised:
        answer(ent, [*ENTITY, *episode(1, event(15, 1, Name=GUID, Input=answered))])

    assert str(raised.value) == (
        f'bad op\n\n$OutOfProcData$:{{"isDone": false, "schemaVersion": 2, "actions": {ASKED}, "error": "bad op"}}'
    )


# ---------------------------------------------------------------------- failures


def fails(context):
    return (yield context.call_activity("A"))


def catches(context):
    try:
        return (yield context.call_activity("A"))
    except Exception as error:
        return [error.error_type, error.message, str(error)]


CALL_A = '{"actionType": 0, "functionName": "A", "input": "null"}'
REASON = "Activity function 'A' failed:  ValueError: boom"
DETAILS = (
    '{"$type": "System.Exception, System.Private.CoreLib", "ClassName": "System.Exception", '
    '"Message": " ValueError: boom", "Data": null, "InnerException": null}'
)
FAILED = [
    *begun(),
    event(4, event_id=0, Name="A", Version="", Input='["null"]'),
    *episode(1, event(6, 1, TaskScheduledId=0, Reason=REASON, Details=DETAILS)),
]


def test_a_failure_that_is_not_caught_is_raised_with_the_answer_behind_a_label():
    with pytest.raises(Exception, match="ValueError") as raised:
        answer(fails, FAILED)

    text = f"{REASON} \n {DETAILS}"
    state = f'{{"isDone": false, "schemaVersion": 2, "actions": [[{CALL_A}]], "error": {json.dumps(text)}}}'
    assert str(raised.value) == f"{text}\n\n$OutOfProcData$:{state}"
    assert str(raised.value.__cause__) == text


def test_a_failure_that_is_caught_has_the_official_text_and_more():
    output = json.dumps(["ValueError", "boom", f"{REASON} \n {DETAILS}"])

    assert answer(catches, FAILED) == (
        f'{{"isDone": true, "schemaVersion": 2, "actions": [[{CALL_A}]], "output": {output}}}'
    )


# ---------------------------------------------------------------------- retries


def retries(context):
    return (yield context.call_activity_with_retry("A", df.RetryOptions(5000, 2), "in"))


RETRY = (
    '[[{"actionType": 12, "compoundActions": [{"actionType": 1, "functionName": "A", "input": "\\"in\\"", '
    '"retryOptions": {"firstRetryIntervalInMilliseconds": 5000, "maxNumberOfAttempts": 2}}]}]]'
)
ONE_FAILED = [
    *begun(),
    event(4, event_id=0, Name="A", Version="", Input='["\\"in\\""]'),
    *episode(1, event(6, 1, TaskScheduledId=0, Reason="R0", Details="D0"), event(10, 1, 1, FireAt=at(5))),
    *episode(6, event(11, 6, TimerId=1, FireAt=at(5)), event(4, 6, 2, Name="A", Version="", Input='["\\"in\\""]')),
]


def test_the_host_makes_a_call_again_and_the_actions_stay_the_same():
    for history in (begun(), ONE_FAILED):
        assert answer(retries, history) == f'{{"isDone": false, "schemaVersion": 2, "actions": {RETRY}}}'

    done = [*ONE_FAILED, *episode(7, event(5, 7, TaskScheduledId=2, Result='"ok"'))]
    assert answer(retries, done) == f'{{"isDone": true, "schemaVersion": 2, "actions": {RETRY}, "output": "ok"}}'


def test_the_last_failure_is_raised_after_the_hosts_last_timer():
    both = [
        *ONE_FAILED,
        *episode(7, event(6, 7, TaskScheduledId=2, Reason="R2", Details="D2"), event(10, 7, 3, FireAt=at(10))),
    ]
    assert answer(retries, both) == f'{{"isDone": false, "schemaVersion": 2, "actions": {RETRY}}}'

    with pytest.raises(Exception, match="R2") as raised:
        answer(retries, [*both, *episode(12, event(11, 12, TimerId=3, FireAt=at(10)))])

    assert str(raised.value) == (
        f'R2 \n D2\n\n$OutOfProcData$:{{"isDone": false, "schemaVersion": 2, "actions": {RETRY}, "error": "R2 \\n D2"}}'
    )


# ---------------------------------------------------------------------- children, generations, long timers


def parent(context):
    n = yield context.call_sub_orchestrator("Child", {"a": 1}, "child-1")
    context.set_custom_status({"n": n})
    context.continue_as_new({"n": n})


def test_a_child_and_the_next_generation():
    history = [
        *begun(),
        event(7, event_id=0, Name="Child", Version="", InstanceId="child-1", Input='"{\\"a\\": 1}"'),
        *episode(1, event(8, 1, TaskScheduledId=0, Result="7")),
    ]

    assert answer(parent, history) == (
        '{"isDone": true, "schemaVersion": 2, "actions": [[{"actionType": 2, "functionName": "Child", '
        '"input": "{\\"a\\": 1}", "instanceId": "child-1", "version": null}, {"actionType": 4, "input": "{\\"n\\": 7}"}'
        ']], "customStatus": {"n": 7}}'
    )


def long(context):
    timer = context.create_timer(context.current_utc_datetime + timedelta(days=8))
    result = yield timer
    return [result, type(timer).__name__]


DAY = 24 * 3600
PART_1 = (
    '{"actionType": 12, "compoundActions": [{"actionType": 5, "fireAt": "2026-01-05T03:04:05.678900Z", '
    '"isCanceled": false}]}'
)
PART_2 = '{"actionType": 5, "fireAt": "2026-01-10T03:04:05.678900Z", "isCanceled": false}'


def test_a_long_timer_is_several():
    first = [*begun(), event(10, event_id=0, FireAt=at(3 * DAY))]
    second = [
        *first,
        *episode(3 * DAY, event(11, 3 * DAY, TimerId=0, FireAt=at(3 * DAY))),
        event(10, 3 * DAY, 1, FireAt=at(8 * DAY)),
    ]
    done = [*second, *episode(8 * DAY, event(11, 8 * DAY, TimerId=1, FireAt=at(8 * DAY)))]

    assert answer(long, first) == f'{{"isDone": false, "schemaVersion": 2, "actions": [[{PART_1}]]}}'
    assert answer(long, second) == f'{{"isDone": false, "schemaVersion": 2, "actions": [[{PART_1}, {PART_2}]]}}'
    assert answer(long, done) == (
        f'{{"isDone": true, "schemaVersion": 2, "actions": [[{PART_1}, {PART_2}]], '
        '"output": [[null], "LongTimerTask"]}'
    )


# ---------------------------------------------------------------------- an entity's batch


def counter(context):
    state = context.get_state(lambda: 0)
    operation = context.operation_name
    if operation == "add":
        state += context.get_input()
    elif operation == "get":
        context.set_result(state)
    elif operation == "boom":
        raise ValueError("bad")
    context.set_state(state)


def test_a_batch_of_an_entity():
    batch = {
        "self": {"name": "counter", "key": "k"},
        "exists": True,
        "state": "10",
        "batch": [
            {"name": "add", "input": '"5"', "isSignal": True},
            {"name": "boom", "input": '"null"', "isSignal": True},
            {"name": "get", "input": '"null"', "isSignal": False},
        ],
    }

    given = json.loads(df.Entity.create(counter)(json.dumps(batch)))

    for each in given["results"]:
        assert isinstance(each.pop("startTime"), int)
        assert isinstance(each.pop("duration"), int)
    assert given == {
        "entityExists": True,
        "entityState": "15",
        "results": [
            {"isError": False, "result": "null"},
            {"isError": True, "result": '"bad"'},
            {"isError": False, "result": "15"},
        ],
        "signals": [],
    }
