"""How history and status are shown, as the management API and the SDK do."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from perdure.core.events import (
    EventRaised,
    ExecutionCompleted,
    ExecutionStarted,
    ExecutionTerminated,
    HistoryEvent,
    OrchestratorCompleted,
    OrchestratorStarted,
    ParentInstance,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceCreated,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
    TimerCreated,
    TimerFired,
)
from perdure.core.failures import FailureDetails
from perdure.core.history_view import history_view, time_text
from perdure.core.records import Instance, RuntimeStatus
from perdure.core.status_view import status_view

NOW = datetime(2026, 2, 1, 10, 0, 0, 123456, tzinfo=UTC)
AT = "2026-02-01T10:00:00.1234560Z"
LATER = NOW + timedelta(seconds=1)
AT_LATER = "2026-02-01T10:00:01.1234560Z"


def shown(*events: HistoryEvent, show_input: bool = True, show_output: bool = True) -> list[dict[str, object]]:
    return history_view(events, show_input=show_input, show_output=show_output)


def test_the_start_has_no_parent_version_or_tags():
    started = ExecutionStarted(NOW, "e", "hello", '"x"', "1", ParentInstance("p", "e", "n", 0), {"a": "b"})

    assert shown(OrchestratorStarted(NOW), started, OrchestratorCompleted(NOW)) == [
        {
            "EventType": "ExecutionStarted",
            "Correlation": None,
            "ScheduledStartTime": None,
            "Generation": 0,
            "Input": '"x"',
            "Timestamp": AT,
            "FunctionName": "hello",
        }
    ]


def test_an_answer_takes_the_place_of_its_call():
    rows = shown(
        TaskScheduled(NOW, 0, "hello", '"Tokyo"'), EventRaised(NOW, "E", "true"), TaskCompleted(LATER, 0, '"Hello"')
    )

    assert rows == [
        {"EventType": "EventRaised", "Name": "E", "Input": "true", "Timestamp": AT},
        {
            "EventType": "TaskCompleted",
            "Result": "Hello",
            "Timestamp": AT_LATER,
            "ScheduledTime": AT,
            "FunctionName": "hello",
            "Input": '"Tokyo"',
        },
    ]


def test_a_child_is_shown_like_an_activity():
    created = SubOrchestrationInstanceCreated(NOW, 0, "inner", "child", "1", "v")

    assert shown(created) == [
        {
            "EventType": "SubOrchestrationInstanceCreated",
            "Name": "inner",
            "InstanceId": "child",
            "Input": "1",
            "Timestamp": AT,
        }
    ]
    [row] = shown(created, SubOrchestrationInstanceCompleted(LATER, 0, "2"))
    assert (row["EventType"], row["FunctionName"], row["Result"]) == ("SubOrchestrationInstanceCompleted", "inner", 2)


def test_a_failure_has_its_reason_and_details():
    failure = FailureDetails("ValueError", "boom", inner=FailureDetails("KeyError", "k"))

    [activity] = shown(TaskScheduled(NOW, 0, "a"), TaskFailed(LATER, 0, failure))
    [child] = shown(
        SubOrchestrationInstanceCreated(NOW, 0, "c", "i"), SubOrchestrationInstanceFailed(LATER, 0, failure)
    )

    assert activity["Reason"] == "Activity function 'a' failed:  ValueError: boom"
    assert child["Reason"] == "Orchestrator function 'c' failed: boom"
    assert '"ClassName": "System.Exception"' in str(activity["Details"])
    assert activity["FailureDetails"]["InnerFailure"]["ErrorType"] == "KeyError"
    assert activity["ScheduledTime"] == AT


def test_timers_are_two_rows_without_ids():
    assert shown(TimerCreated(NOW, 0, LATER), TimerFired(LATER, 0, LATER)) == [
        {"EventType": "TimerCreated", "FireAt": AT_LATER, "Timestamp": AT},
        {"EventType": "TimerFired", "FireAt": AT_LATER, "Timestamp": AT_LATER},
    ]


def test_the_end_and_a_termination():
    rows = shown(ExecutionTerminated(NOW, "enough"), ExecutionCompleted(NOW, 1, RuntimeStatus.TERMINATED, '"enough"'))

    assert rows == [
        {"EventType": "ExecutionTerminated", "Reason": "enough", "Timestamp": AT},
        {"EventType": "ExecutionCompleted", "OrchestrationStatus": "Terminated", "Result": "enough", "Timestamp": AT},
    ]


def test_inputs_and_results_are_left_out_unless_asked_for():
    rows = shown(
        ExecutionStarted(NOW, "e", "o", "1"),
        TaskScheduled(NOW, 0, "a", "1"),
        TaskCompleted(NOW, 0, "1"),
        EventRaised(NOW, "E", "1"),
        TaskScheduled(NOW, 1, "b", "1"),
        SubOrchestrationInstanceCreated(NOW, 2, "c", "i", "1"),
        ExecutionCompleted(NOW, 3, "Completed", "1"),
        show_input=False,
        show_output=False,
    )

    assert len(rows) == 6
    assert all("Input" not in row and "Result" not in row for row in rows)


def test_no_row_has_a_number():
    rows = shown(TaskScheduled(NOW, 0, "a"), TimerCreated(NOW, 1, NOW), TimerFired(NOW, 1, NOW), TaskCompleted(NOW, 0))

    assert not {"EventId", "TaskScheduledId", "TimerId", "IsPlayed", "Version"} & {key for row in rows for key in row}


def test_results_that_are_not_json_are_shown_as_text():
    [row] = shown(ExecutionCompleted(NOW, 0, "Completed", "not json"))

    assert row["Result"] == "not json"


def test_times_are_in_utc_with_seven_digits():
    assert time_text(NOW.astimezone(timezone(timedelta(hours=2)))) == AT
    assert time_text(datetime(33, 1, 2, tzinfo=UTC)) == "0033-01-02T00:00:00.0000000Z"


def row(**fields: object) -> Instance:
    values: dict[str, object] = {
        "instance_id": "i",
        "execution_id": "e",
        "name": "hello",
        "status": RuntimeStatus.COMPLETED,
        "created_at": NOW,
        "updated_at": LATER,
        "created_by": "r",
    }
    return Instance(**(values | fields))


def test_a_status_has_all_members_in_order():
    view = status_view(row(input='{"a": 1}', output="[1]", custom_status='"x"'), show_input=True, history=None)

    assert list(view.items()) == [
        ("name", "hello"),
        ("instanceId", "i"),
        ("runtimeStatus", "Completed"),
        ("input", {"a": 1}),
        ("customStatus", "x"),
        ("output", [1]),
        ("createdTime", "2026-02-01T10:00:00Z"),
        ("lastUpdatedTime", "2026-02-01T10:00:01Z"),
    ]
    assert type(view["runtimeStatus"]) is str


def test_input_and_history_are_shown_on_request():
    view = status_view(row(input="1"), show_input=False, history=[])

    assert view["input"] is None
    assert view["historyEvents"] == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (None, None),
        ("null", None),
        ("", ""),
        ("  1 ", 1),
        (" enough ", "enough"),
        ("NaN", "NaN"),
        ('"2026-02-01T10:00:00Z"', "2026-02-01T10:00:00Z"),
        ('{"__class__": "A", "__module__": "m", "__data__": 1}', {"__class__": "A", "__module__": "m", "__data__": 1}),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_payloads_are_shown_as_values_or_else_as_text(text: str | None, value: object):
    assert status_view(row(output=text), show_input=True, history=None)["output"] == value
