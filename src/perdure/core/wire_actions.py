"""What an orchestrator decided, as the out-of-process protocol of Durable Functions writes it.

Rule 1: only shapes are here, member for member in the order of the official SDK; who decides what stands elsewhere.
Rule 2: an input is JSON text inside JSON, and never absent: no input is the text `null`.

Source: `azure.durable_functions.models.actions` of SDK 1.x; OutOfProcOrchestrationShim.cs for what the SDK never sends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"

RetryMembers = dict[str, int | float]
"""`firstRetryIntervalInMilliseconds`, `maxNumberOfAttempts`, and what else the policy has."""


class ActionType(IntEnum):
    """The kinds of action."""

    CALL_ACTIVITY = 0
    CALL_ACTIVITY_WITH_RETRY = 1
    CALL_SUB_ORCHESTRATOR = 2
    CALL_SUB_ORCHESTRATOR_WITH_RETRY = 3
    CONTINUE_AS_NEW = 4
    CREATE_TIMER = 5
    WAIT_FOR_EXTERNAL_EVENT = 6
    CALL_ENTITY = 7
    CALL_HTTP = 8
    SIGNAL_ENTITY = 9
    SCHEDULED_SIGNAL_ENTITY = 10
    WHEN_ANY = 11
    WHEN_ALL = 12


class WireAction(dict[str, Any]):
    """One action under its names on the wire."""

    @property
    def action_type(self) -> ActionType:
        """Its kind."""
        return ActionType(self["actionType"])

    def to_json(self) -> dict[str, Any]:
        """The action as a plain dict."""
        return dict(self)


def call_activity(name: str, input: str | None, retry: RetryMembers | None = None) -> WireAction:
    """The call of an activity, which the host makes again as `retry` says."""
    if retry is None:
        return _action(ActionType.CALL_ACTIVITY, functionName=name, input=_text(input))
    return _action(
        ActionType.CALL_ACTIVITY_WITH_RETRY, functionName=name, input=_text(input), retryOptions=retry
    )  # fmt: skip


def call_sub_orchestrator(
    name: str, input: str | None, instance_id: str | None, version: str | None, retry: RetryMembers | None = None
) -> WireAction:
    """The call of a child orchestration, which the host makes again as `retry` says."""
    options = {} if retry is None else {"retryOptions": retry}
    kind = ActionType.CALL_SUB_ORCHESTRATOR if retry is None else ActionType.CALL_SUB_ORCHESTRATOR_WITH_RETRY
    return _action(
        kind, functionName=name, input=_text(input), **options, instanceId=instance_id, version=version
    )  # fmt: skip


def continue_as_new(input: str | None) -> WireAction:
    """The orchestration begins again."""
    return _action(ActionType.CONTINUE_AS_NEW, input=_text(input))


def create_timer(fire_at: datetime, is_cancelled: bool) -> WireAction:
    """A timer."""
    return _action(ActionType.CREATE_TIMER, fireAt=time_text(fire_at), isCanceled=is_cancelled)


def wait_for_external_event(name: str) -> WireAction:
    """A wait for an event."""
    return _action(ActionType.WAIT_FOR_EXTERNAL_EVENT, externalEventName=name, reason="ExternalEvent")


def call_entity(instance_id: str, operation: str, input: str | None) -> WireAction:
    """The call of an entity's operation."""
    return _action(ActionType.CALL_ENTITY, instanceId=instance_id, operation=operation, input=_text(input))


def call_http(request: dict[str, Any]) -> WireAction:
    """An HTTP request that the host makes, and polls for."""
    return _action(ActionType.CALL_HTTP, httpRequest=request)


def signal_entity(instance_id: str, operation: str, input: str | None, deliver_at: datetime | None) -> WireAction:
    """An operation that is sent to an entity, at once or at a time."""
    members = {"instanceId": instance_id, "operation": operation, "input": _text(input)}
    if deliver_at is None:
        return _action(ActionType.SIGNAL_ENTITY, **members)
    return _action(ActionType.SCHEDULED_SIGNAL_ENTITY, **members, fireAt=time_text(deliver_at))


def when_all(actions: Iterable[WireAction]) -> WireAction:
    """All of the actions."""
    return _action(ActionType.WHEN_ALL, compoundActions=list(actions))


def when_any(actions: Iterable[WireAction]) -> WireAction:
    """The first of the actions."""
    return _action(ActionType.WHEN_ANY, compoundActions=list(actions))


def flattened(action: WireAction) -> Sequence[WireAction]:
    """The actions that a compound one is made of, in order; the oldest schema has no other way to write it."""
    if action.action_type not in (ActionType.WHEN_ANY, ActionType.WHEN_ALL):
        return [action]
    return [each for part in action["compoundActions"] for each in flattened(part)]


def time_text(time: datetime) -> str:
    """A time (aware) in UTC, as the official SDK writes it."""
    return time.astimezone(UTC).strftime(TIME_FORMAT)


def _action(kind: ActionType, **members: Any) -> WireAction:
    return WireAction(actionType=int(kind), **members)


def _text(input: str | None) -> str:
    return "null" if input is None else input
