"""The history that the official host sends, as events of perdure.

Rule 1: only what happened to the orchestration is translated. What it decided, the code decides again, and the host
        compares; suspension is the host's own affair, which keeps back what the code decides meanwhile.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Any, cast

from azure.durable_functions.protocol.request import ReplayRequest, wire_time

from perdure.core.events import (
    EntityOperationCompleted,
    EntityOperationFailed,
    EventRaised,
    ExecutionStarted,
    HistoryEvent,
    OrchestratorStarted,
    ParentInstance,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
    TimerFired,
)
from perdure.core.failures import FailureDetails

_FAILED = re.compile(r"\w+ function '[^']*' failed:\s+(.*)", re.DOTALL)
_RAISED = re.compile(r"([A-Za-z_][\w.]*): (.*)", re.DOTALL)
_TIMED_OUT = "Timeout value of"  # how the host begins the result of an operation that took too long


class EventType(IntEnum):
    """Those events of the wire that mean something to the code."""

    EXECUTION_STARTED = 0
    TASK_COMPLETED = 5
    TASK_FAILED = 6
    SUB_ORCHESTRATION_INSTANCE_COMPLETED = 8
    SUB_ORCHESTRATION_INSTANCE_FAILED = 9
    TIMER_FIRED = 11
    ORCHESTRATOR_STARTED = 12
    EVENT_SENT = 14
    EVENT_RAISED = 15


class WireFailure(FailureDetails, frozen=True, tag=False):
    """A failure as the official host tells it.

    Attributes:
        reason: what failed, and how.
        text: what SDK 1.x gives as the exception's text.
    """

    reason: str = ""
    text: str = ""


def first_time(request: ReplayRequest) -> str:
    """When the first episode began.

    Raises:
        ValueError: none did.
    """
    for event in request.history:
        if event.get("EventType") == EventType.ORCHESTRATOR_STARTED:
            return event["Timestamp"]
    raise ValueError("the history of the orchestration has no OrchestratorStarted: no episode of it has begun")


def parent_of(request: ReplayRequest) -> ParentInstance | None:
    """Who called this orchestration; of that, the host always says the id, and seldom more."""
    caller = request.parent_instance_id
    return None if caller is None else ParentInstance(caller, "", "", 0)


def version_of(request: ReplayRequest) -> str | None:
    """The version that the orchestration was started with."""
    for event in request.history:
        if event.get("EventType") == EventType.EXECUTION_STARTED:
            return event.get("Version")
    return None


def events_of(request: ReplayRequest) -> Iterator[tuple[HistoryEvent, bool]]:
    """The events in their order, each with whether it was there in an earlier episode already."""
    types = [each["EventType"] for each in request.history]
    now_from = max(place for place, kind in enumerate(types) if kind == EventType.ORCHESTRATOR_STARTED)
    calls: dict[str, int] = {}
    for place, wire in enumerate(request.history):
        if wire["EventType"] == EventType.EVENT_SENT:
            calls.update(_call_of_entity(wire))
            continue
        event = _event(wire, request, calls)
        if event is not None:
            yield event, bool(wire.get("IsPlayed")) or place < now_from


def _event(wire: Mapping[str, Any], request: ReplayRequest, calls: Mapping[str, int]) -> HistoryEvent | None:
    time = wire_time(wire["Timestamp"])
    match wire["EventType"]:
        case EventType.ORCHESTRATOR_STARTED:
            return OrchestratorStarted(time)
        case EventType.EXECUTION_STARTED:
            execution: Mapping[str, Any] = wire.get("OrchestrationInstance") or {}
            return ExecutionStarted(
                time,
                execution.get("ExecutionId") or "",
                wire.get("Name") or "",
                request.input,
                wire.get("Version"),
                parent_of(request),
            )
        case EventType.TASK_COMPLETED:
            return TaskCompleted(time, wire["TaskScheduledId"], wire.get("Result"))
        case EventType.TASK_FAILED:
            return TaskFailed(time, wire["TaskScheduledId"], _failure(wire))
        case EventType.SUB_ORCHESTRATION_INSTANCE_COMPLETED:
            return SubOrchestrationInstanceCompleted(time, wire["TaskScheduledId"], wire.get("Result"))
        case EventType.SUB_ORCHESTRATION_INSTANCE_FAILED:
            return SubOrchestrationInstanceFailed(time, wire["TaskScheduledId"], _failure(wire))
        case EventType.TIMER_FIRED:
            return TimerFired(time, wire["TimerId"], wire_time(wire.get("FireAt") or wire["Timestamp"]))
        case EventType.EVENT_RAISED:
            name, text = wire["Name"], wire.get("Input")
            if name in calls:
                return _answer_of_entity(wire, calls[name])
            return EventRaised(time, name, text)
        case _:
            return None


def _call_of_entity(wire: Mapping[str, Any]) -> dict[str, int]:
    """By its own id, the number of the call of an entity that an event was sent for; none for any other event."""
    try:
        sent: Any = json.loads(wire.get("Input") or "null")
    except ValueError:
        return {}
    if not isinstance(sent, dict):
        return {}
    request = cast("dict[str, Any]", sent)
    is_call = isinstance(request.get("id"), str) and "op" in request and not request.get("signal")
    return {request["id"]: wire["EventId"]} if is_call else {}


def _answer_of_entity(wire: Mapping[str, Any], task_id: int) -> HistoryEvent:
    time = wire_time(wire["Timestamp"])
    answer: dict[str, Any] = json.loads(wire["Input"])
    result: str | None = answer.get("result")
    if "exceptionType" not in answer and not (result or "").startswith(_TIMED_OUT):
        return EntityOperationCompleted(time, task_id, result)
    return EntityOperationFailed(time, task_id, FailureDetails("Exception", _text_of(result)))


def _text_of(result: str | None) -> str:
    try:
        value: Any = json.loads(result or "null")
    except ValueError:
        return result or ""
    return value if isinstance(value, str) else str(value)


def _failure(wire: Mapping[str, Any]) -> WireFailure:
    reason, details = str(wire.get("Reason")), str(wire.get("Details"))
    failed = _FAILED.match(reason)
    raised = _RAISED.match(failed[1]) if failed else None
    told = wire.get("FailureDetails")
    known: dict[str, Any] = cast("dict[str, Any]", told) if isinstance(told, dict) else {}
    error_type = raised[1] if raised else known.get("ErrorType") or "Exception"
    message = raised[2] if raised else failed[1] if failed else reason
    return WireFailure(
        error_type,
        message,
        known.get("StackTrace") or _stack_in(details),
        is_non_retriable=bool(known.get("IsNonRetriable")),
        reason=reason,
        text=f"{reason} \n {details}",
    )


def _stack_in(details: str) -> str | None:
    """The traceback in the JSON that the host makes of an exception."""
    try:
        told: Any = json.loads(details)
    except ValueError:
        return None
    stack = cast("dict[str, Any]", told).get("StackTraceString") if isinstance(told, dict) else None
    return stack if isinstance(stack, str) else None
