"""An instance's history as the management API and the SDK show it.

Rule 1: a call and its answer are one row, at the place of the answer; a call without an answer stands for itself.
Rule 2: only what was asked for is shown: inputs as the JSON text that was stored, results as JSON values.

Source: the Durable Functions extension's `historyEvents` (PascalCase keys, times with seven fractional digits).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, assert_never

from perdure.core.events import (
    EntityLock,
    EntityLockGranted,
    EntityLockRequested,
    EntityOperation,
    EntityOperationCalled,
    EntityOperationCompleted,
    EntityOperationFailed,
    EntityOperationSignaled,
    EntityUnlock,
    EntityUnlockSent,
    EventRaised,
    EventSent,
    ExecutionCompleted,
    ExecutionResumed,
    ExecutionRewound,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
    HistoryEvent,
    OrchestratorCompleted,
    OrchestratorStarted,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceCreated,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
    TimerCreated,
    TimerFired,
)
from perdure.core.failures import FailureDetails, activity_failed, child_failed, details_json
from perdure.core.status_view import json_value

Call = TaskScheduled | SubOrchestrationInstanceCreated
Row = dict[str, Any]


def history_view(rows_events: Iterable[HistoryEvent], *, show_input: bool, show_output: bool) -> list[Row]:
    """The history as rows for people and clients.

    Args:
        rows_events: all events of the current execution, in order.
        show_input: rows have their `Input`.
        show_output: rows have their `Result`.
    """
    rows: list[Row] = []
    open_calls: dict[int, tuple[Call, Row]] = {}
    answered: set[int] = set()
    for event in rows_events:
        row = _row(event, show_input, show_output)
        if row is None:
            continue
        match event:
            case TaskScheduled() | SubOrchestrationInstanceCreated():
                open_calls[event.event_id] = event, row
            case (
                TaskCompleted() | TaskFailed() | SubOrchestrationInstanceCompleted() | SubOrchestrationInstanceFailed()
            ):
                call, call_row = open_calls.pop(event.task_id, (None, None))
                if call is not None:
                    answered.add(id(call_row))
                    row |= _of_call(call, show_input)
                if isinstance(event, TaskFailed | SubOrchestrationInstanceFailed):
                    row |= _failure(call, event.failure)
            case _:
                pass
        rows.append(row)
    return [row for row in rows if id(row) not in answered]


def _row(event: HistoryEvent, show_input: bool, show_output: bool) -> Row | None:
    row: Row = {"EventType": type(event).__name__, "Timestamp": time_text(event.timestamp)}
    match event:
        case OrchestratorStarted() | OrchestratorCompleted():
            return None
        case ExecutionStarted():
            start_at = None if event.start_at is None else time_text(event.start_at)
            row |= {"FunctionName": event.name, "Correlation": None, "ScheduledStartTime": start_at, "Generation": 0}
            row |= _input(event.input, show_input)
        case TaskScheduled():
            row |= {"Name": event.name} | _input(event.input, show_input)
        case SubOrchestrationInstanceCreated():
            row |= {"Name": event.name, "InstanceId": event.instance_id} | _input(event.input, show_input)
        case TaskCompleted() | SubOrchestrationInstanceCompleted():
            row |= _result(event.result, show_output)
        case TaskFailed() | SubOrchestrationInstanceFailed():
            pass  # what failed is said by the call that it answers
        case TimerCreated() | TimerFired():
            row |= {"FireAt": time_text(event.fire_at)}
        case EventRaised():
            row |= {"Name": event.name} | _input(event.input, show_input)
        case EntityOperationCalled() | EntityOperationSignaled():
            row |= {"EventType": "EventSent", "Name": "op", "InstanceId": event.instance_id}
            row |= {"Operation": event.operation} | _input(event.input, show_input)
        case EntityOperationCompleted():
            row |= {"EventType": "EventRaised"} | _result(event.result, show_output)
        case EntityOperationFailed():
            row |= {"EventType": "EventRaised", "FailureDetails": failure_view(event.failure)}
        case EntityLockRequested():
            row |= {"EventType": "EventSent", "Name": "op", "LockSet": list(event.entities)}
        case EntityLockGranted():
            row |= {"EventType": "EventRaised"}
        case EntityUnlockSent():
            row |= {"EventType": "EventSent", "Name": "release"}
        case EntityOperation() | EntityLock() | EntityUnlock():
            return None  # mail of entities, which have no history
        case EventSent():
            row |= {"Name": event.name, "InstanceId": event.instance_id} | _input(event.input, show_input)
        case ExecutionTerminated() | ExecutionSuspended() | ExecutionResumed() | ExecutionRewound():
            row |= {"Reason": event.reason}
        case ExecutionCompleted():
            row |= {"OrchestrationStatus": str(event.status)} | _result(event.result, show_output)
            if event.failure is not None:
                row |= {"FailureDetails": failure_view(event.failure)}
        case _:
            assert_never(event)
    return row


def _of_call(call: Call, show_input: bool) -> Row:
    return {"ScheduledTime": time_text(call.timestamp), "FunctionName": call.name} | _input(call.input, show_input)


def _failure(call: Call | None, failure: FailureDetails) -> Row:
    name = "" if call is None else call.name
    kind = child_failed if isinstance(call, SubOrchestrationInstanceCreated) else activity_failed
    reason = kind(name, failure).reason
    return {"Reason": reason, "Details": details_json(failure), "FailureDetails": failure_view(failure)}


def _input(text: str | None, show_input: bool) -> Row:
    return {"Input": text} if show_input else {}


def _result(text: str | None, show_output: bool) -> Row:
    return {"Result": json_value(text)} if show_output else {}


def failure_view(failure: FailureDetails) -> Row:
    """A failure with its causes, under the extension's member names."""
    return {
        "ErrorType": failure.error_type,
        "ErrorMessage": failure.message,
        "StackTrace": failure.stack_trace,
        "InnerFailure": None if failure.inner is None else failure_view(failure.inner),
        "IsNonRetriable": failure.is_non_retriable,
    }


def time_text(time: datetime) -> str:
    """The time in UTC with seven fractional digits, as .NET writes it."""
    return f"{time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}0Z"
