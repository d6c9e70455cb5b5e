"""What a handler of the out-of-process protocol answers: the actions so far, in order, and how the code stands.

Rule 1: the list is cumulative; composites are opened up, because which of their actions the code waits for is its
        business: everything that it has scheduled is begun at once.

Source: OrchestratorState of SDK 1.x; OutOfProcOrchestrationShim.cs for how a failure travels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from perdure.core.wire_actions import ActionType

# What stands between an exception's text and the state of an orchestrator that raised it. The text may have the words
# too, and then the state repeats them; but in JSON there are no line breaks.
FAILURE_LABEL = "\n\n$OutOfProcData$:"


class RetryPolicyMembers(Struct, frozen=True, rename="camel"):
    """When and how often a call is made again."""

    first_retry_interval_in_milliseconds: float
    max_number_of_attempts: int


class _Action(Struct, frozen=True, rename="camel", tag_field="actionType"):
    pass


class CallActivity(_Action, frozen=True, rename="camel", tag=int(ActionType.CALL_ACTIVITY)):
    """Call an activity. Inputs of all actions are JSON text."""

    function_name: str
    input: str | None = None


class CallActivityWithRetry(_Action, frozen=True, rename="camel", tag=int(ActionType.CALL_ACTIVITY_WITH_RETRY)):
    """Call an activity, again if it fails."""

    function_name: str
    retry_options: RetryPolicyMembers
    input: str | None = None


class CallSubOrchestrator(_Action, frozen=True, rename="camel", tag=int(ActionType.CALL_SUB_ORCHESTRATOR)):
    """Call a child orchestration."""

    function_name: str
    input: str | None = None
    instance_id: str | None = None
    version: str | None = None


class CallSubOrchestratorWithRetry(
    _Action, frozen=True, rename="camel", tag=int(ActionType.CALL_SUB_ORCHESTRATOR_WITH_RETRY)
):
    """Call a child orchestration, again if it fails."""

    function_name: str
    retry_options: RetryPolicyMembers
    input: str | None = None
    instance_id: str | None = None
    version: str | None = None


class ContinueAsNew(_Action, frozen=True, rename="camel", tag=int(ActionType.CONTINUE_AS_NEW)):
    """Begin again."""

    input: str | None = None


class CreateTimer(_Action, frozen=True, rename="camel", tag=int(ActionType.CREATE_TIMER)):
    """Set a timer, which later answers may say is cancelled."""

    fire_at: datetime
    is_canceled: bool = False


class WaitForExternalEvent(_Action, frozen=True, rename="camel", tag=int(ActionType.WAIT_FOR_EXTERNAL_EVENT)):
    """Wait for an event."""

    external_event_name: str


class CallEntity(_Action, frozen=True, rename="camel", tag=int(ActionType.CALL_ENTITY)):
    """Call an operation of an entity."""

    instance_id: str
    operation: str
    input: str | None = None


class TokenSourceMembers(Struct, frozen=True):
    """What a token is to give access to."""

    resource: str
    kind: str = "AzureManagedIdentity"


class HttpRequestMembers(Struct, frozen=True, rename="camel"):
    """An HTTP request."""

    method: str
    uri: str
    content: str | None = None
    headers: dict[str, str] | None = None
    token_source: TokenSourceMembers | None = None


class CallHttp(_Action, frozen=True, rename="camel", tag=int(ActionType.CALL_HTTP)):
    """Make an HTTP request."""

    http_request: HttpRequestMembers


class SignalEntity(_Action, frozen=True, rename="camel", tag=int(ActionType.SIGNAL_ENTITY)):
    """Send an operation to an entity."""

    instance_id: str
    operation: str
    input: str | None = None


class ScheduledSignalEntity(_Action, frozen=True, rename="camel", tag=int(ActionType.SCHEDULED_SIGNAL_ENTITY)):
    """Send an operation to an entity at a time."""

    instance_id: str
    operation: str
    fire_at: datetime
    input: str | None = None


class WhenAny(_Action, frozen=True, rename="camel", tag=int(ActionType.WHEN_ANY)):
    """Actions of which the code waits for the first."""

    compound_actions: list[Action]


class WhenAll(_Action, frozen=True, rename="camel", tag=int(ActionType.WHEN_ALL)):
    """Actions of which the code waits for all."""

    compound_actions: list[Action]


AtomicAction = (
    CallActivity
    | CallActivityWithRetry
    | CallSubOrchestrator
    | CallSubOrchestratorWithRetry
    | ContinueAsNew
    | CreateTimer
    | WaitForExternalEvent
    | CallEntity
    | CallHttp
    | SignalEntity
    | ScheduledSignalEntity
)
Action = AtomicAction | WhenAny | WhenAll


class OrchestratorState(Struct, frozen=True, rename="camel"):
    """An answer.

    Attributes:
        is_done: the code has returned, or continued as new.
        actions: everything that it has scheduled from its beginning.
        output, custom_status: JSON values.
        error: the text of what it raised.
    """

    is_done: bool
    actions: list[list[Action]]
    output: Any = None
    custom_status: Any = None
    error: str | None = None

    @property
    def is_ended(self) -> bool:
        """The code has returned, continued as new or raised."""
        return self.is_done or bool(self.error)

    def atoms(self) -> list[AtomicAction]:
        """The actions without composites, in the order in which the SDK numbers them."""
        return [atom for row in self.actions for atom in _atoms(row)]


def orchestrator_state(text: str) -> OrchestratorState:
    """The answer that a handler returned.

    Raises:
        ValueError: it is none; the text says why.
    """
    return msgspec.convert(json.loads(text), OrchestratorState)


def labelled_state(message: str) -> OrchestratorState | None:
    """The answer within the text of an exception that a handler raised, or None if it has none."""
    _, label, text = message.rpartition(FAILURE_LABEL)
    if not label:
        return None
    try:
        return orchestrator_state(text)
    except ValueError:
        return None


def _atoms(actions: Sequence[Action]) -> Iterator[AtomicAction]:
    for each in actions:
        if isinstance(each, WhenAny | WhenAll):
            yield from _atoms(each.compound_actions)
        else:
            yield each
