"""What an action on the wire means to the engine: its task, and what it would look like in the history."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from perdure.core import actions as decided
from perdure.core.codec import payloads
from perdure.core.conversion import ExpectedType
from perdure.core.cursor import OrchestrationCursor
from perdure.core.durable_http import HTTP_ACTIVITY, HttpRequest, TokenResource, fetched
from perdure.core.events import (
    DecisionEvent,
    EntityOperationCalled,
    EntityOperationSignaled,
    SubOrchestrationInstanceCreated,
    TaskScheduled,
    TimerCreated,
)
from perdure.core.instance_ids import check_entity_id, check_instance_id
from perdure.core.json_path import largest_part
from perdure.core.retry import RetryPolicy, retried
from perdure.core.tasks import ActivityCall, EntityCall, Routine, SubOrchestrationCall, Task, TimerTask
from perdure.errors import InvalidInstanceIdError, PayloadTooLargeError
from perdure.host.protocol.orchestrator_state import (
    AtomicAction,
    CallActivity,
    CallActivityWithRetry,
    CallEntity,
    CallHttp,
    CallSubOrchestrator,
    CallSubOrchestratorWithRetry,
    ContinueAsNew,
    CreateTimer,
    HttpRequestMembers,
    RetryPolicyMembers,
    ScheduledSignalEntity,
    SignalEntity,
    WaitForExternalEvent,
)

# Polling looks into the answer; everything else hands results on as the text that they are.
_RESPONSE: Final = ExpectedType(dict, ())


def task_of(action: AtomicAction, cursor: OrchestrationCursor) -> Task | None:
    """The task that does what an action says; None if nothing answers it.

    Raises:
        InvalidInstanceIdError: an id in it breaks a rule.
        PayloadTooLargeError: its input is too large.
    """
    match action:
        case CallActivity():
            return _activity(action)
        case CallActivityWithRetry():
            _check_size(action.input)
            return _retried(action.retry_options, lambda: _activity(action), cursor)
        case CallSubOrchestrator():
            return _child(action, cursor)
        case CallSubOrchestratorWithRetry():
            _child(action, cursor)
            return _retried(action.retry_options, lambda: _child(action, cursor), cursor)
        case CreateTimer():
            return TimerTask(action.fire_at, cursor)
        case CallEntity():
            check_entity_id(action.instance_id)
            _check_size(action.input)
            return EntityCall(action.instance_id, action.operation, action.input)
        case CallHttp():
            return _fetched(action.http_request, cursor)
        case SignalEntity() | ScheduledSignalEntity():
            check_entity_id(action.instance_id)
            _check_size(action.input)
            return None
        case WaitForExternalEvent() | ContinueAsNew():
            return None


def decision_of(action: AtomicAction, number: int, cursor: OrchestrationCursor) -> DecisionEvent | None:
    """The history event that records an action; None if none does."""
    now = cursor.now
    match action:
        case CallActivity() | CallActivityWithRetry():
            return TaskScheduled(now, number, action.function_name, action.input)
        case CallSubOrchestrator() | CallSubOrchestratorWithRetry():
            child_id = action.instance_id or ""
            return SubOrchestrationInstanceCreated(now, number, action.function_name, child_id, action.input)
        case CreateTimer():
            return TimerCreated(now, number, action.fire_at)
        case CallEntity():
            return EntityOperationCalled(now, number, action.instance_id, action.operation, action.input)
        case CallHttp():
            return TaskScheduled(now, number, HTTP_ACTIVITY)
        case SignalEntity() | ScheduledSignalEntity():
            return EntityOperationSignaled(now, number, action.instance_id, action.operation, action.input)
        case WaitForExternalEvent() | ContinueAsNew():
            return None


def decided_of(action: AtomicAction, number: int) -> decided.OrchestratorAction | None:
    """What the code has decided with an action; None if nothing that a history records."""
    match action:
        case CallActivity() | CallActivityWithRetry():
            return decided.ScheduleTask(number, action.function_name, action.input)
        case CallSubOrchestrator() | CallSubOrchestratorWithRetry():
            return decided.CreateSubOrchestration(
                number, action.function_name, action.input, action.instance_id or None, action.version
            )
        case CreateTimer():
            return decided.CreateTimer(number, action.fire_at)
        case CallEntity():
            return decided.CallEntity(number, action.instance_id, action.operation, action.input)
        case CallHttp():
            return decided.ScheduleTask(number, HTTP_ACTIVITY, None)
        case SignalEntity():
            return decided.SignalEntity(number, action.instance_id, action.operation, action.input, None)
        case ScheduledSignalEntity():
            return decided.SignalEntity(number, action.instance_id, action.operation, action.input, action.fire_at)
        case WaitForExternalEvent() | ContinueAsNew():
            return None


def _activity(action: CallActivity | CallActivityWithRetry) -> ActivityCall:
    _check_size(action.input)
    return ActivityCall(action.function_name, action.input)


def _child(
    action: CallSubOrchestrator | CallSubOrchestratorWithRetry, cursor: OrchestrationCursor
) -> SubOrchestrationCall:
    _check_size(action.input)
    if action.instance_id:
        check_instance_id(action.instance_id)
        if action.instance_id == cursor.instance_id:
            raise InvalidInstanceIdError("A child orchestration must have another instance id than its parent.")
    return SubOrchestrationCall(action.function_name, action.input, action.instance_id or None, action.version)


def _retried(options: RetryPolicyMembers, call: Any, cursor: OrchestrationCursor) -> Routine:
    policy = RetryPolicy(
        first_interval=timedelta(milliseconds=options.first_retry_interval_in_milliseconds),
        max_attempts=options.max_number_of_attempts,
    )
    return Routine(retried(policy, call, lambda: cursor.now, lambda when: TimerTask(when, cursor)), cursor)


def _fetched(members: HttpRequestMembers, cursor: OrchestrationCursor) -> Routine:
    _check_size(members.content)
    source = members.token_source
    request = HttpRequest(
        members.method,
        members.uri,
        members.content,
        dict(members.headers or {}),
        None if source is None else TokenResource(source.resource, source.kind),
    )
    code = fetched(
        request,
        lambda asked: ActivityCall(HTTP_ACTIVITY, payloads.encode(asked.as_json()), _RESPONSE),
        lambda: cursor.now,
        lambda when: TimerTask(when, cursor),
    )
    return Routine(code, cursor)


def _check_size(text: str | None) -> None:
    if text is not None and len(text) > payloads.limit_bytes:
        raise PayloadTooLargeError(len(text), payloads.limit_bytes, *largest_part(text))
