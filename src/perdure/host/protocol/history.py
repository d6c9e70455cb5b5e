"""An orchestration's history as the handlers of the out-of-process protocol read it.

Rule 1: `EventId` and `TaskScheduledId` are the SDK's numbers, which this module is told; ours never leave.
Rule 2: an event is written once; only the mark that says whether it was played before changes.

Source: DurableTask.Core History/*.cs as Newtonsoft writes them; OrchestrationTriggerAttributeBindingProvider.cs.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final
from uuid import NAMESPACE_OID, uuid5

from perdure.core.events import (
    EventRaised,
    ExecutionResumed,
    ExecutionRewound,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
    OrchestratorCompleted,
    OrchestratorStarted,
)
from perdure.core.failures import FailureDetails
from perdure.core.history_view import time_text

EXECUTION_STARTED: Final = 0
EXECUTION_TERMINATED: Final = 3
TASK_SCHEDULED: Final = 4
TASK_COMPLETED: Final = 5
TASK_FAILED: Final = 6
SUB_ORCHESTRATION_INSTANCE_CREATED: Final = 7
SUB_ORCHESTRATION_INSTANCE_COMPLETED: Final = 8
SUB_ORCHESTRATION_INSTANCE_FAILED: Final = 9
TIMER_CREATED: Final = 10
TIMER_FIRED: Final = 11
ORCHESTRATOR_STARTED: Final = 12
ORCHESTRATOR_COMPLETED: Final = 13
EVENT_SENT: Final = 14
EVENT_RAISED: Final = 15
EXECUTION_SUSPENDED: Final = 19
EXECUTION_RESUMED: Final = 20
EXECUTION_REWOUND: Final = 21

# The schemas that the extension says it understands: the old field ends at V2, the new one goes on to V3.
_SCHEMA, _SCHEMA_NEW = 1, 2

_PLAYED = '"IsPlayed": true'
_NEW = '"IsPlayed": false'

Life = (
    OrchestratorStarted
    | OrchestratorCompleted
    | ExecutionStarted
    | ExecutionTerminated
    | ExecutionSuspended
    | ExecutionResumed
    | ExecutionRewound
)
"""Events that say how the execution lives, and answer nothing."""


class WireHistory:
    """The events of one execution, as JSON texts.

    Attributes:
        input: the orchestration's input as JSON text.
        parent_id: the instance that called it, or None.
    """

    def __init__(self, instance_id: str) -> None:
        self.input: str | None = None
        self.parent_id: str | None = None
        self._instance_id = instance_id
        self._events: list[str] = []
        self._played = 0

    def __len__(self) -> int:
        return len(self._events)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events as values."""
        return [json.loads(each) for each in self._events]

    def request(self, end: int | None = None, default_poll_ms: int = 30_000) -> str:
        """What the handler is called with.

        Args:
            end: how many of the events; None for all.
            default_poll_ms: how long the host waits between polls that name no time.
        """
        events = self._events[:end]
        texts = [*events[: self._played], *(each.replace(_PLAYED, _NEW, 1) for each in events[self._played :])]
        rest = {
            "input": self.input,  # JSON text within JSON: the only form that `get_input` reads for every value
            "instanceId": self._instance_id,
            "isReplaying": self._played > 0,
            "parentInstanceId": self.parent_id,
            "upperSchemaVersion": _SCHEMA,
            "upperSchemaVersionNew": _SCHEMA_NEW,
            # No longest timer is named, because timers may be as long as they like here.
            "defaultHttpAsyncRequestSleepTimeMillseconds": default_poll_ms,
        }
        return f'{{"history": [{", ".join(texts)}], {json.dumps(rest)[1:]}'

    @property
    def played_count(self) -> int:
        """How many of the events are from earlier episodes."""
        return self._played

    def played(self) -> None:
        """The episode is over: what comes from now on is new."""
        self._played = len(self._events)

    # ------------------------------------------------------------------ what happened

    def lived(self, event: Life) -> None:
        """Add an event of the execution's life."""
        match event:
            case OrchestratorStarted():
                self._add(ORCHESTRATOR_STARTED, event.timestamp)
            case OrchestratorCompleted():
                self._add(ORCHESTRATOR_COMPLETED, event.timestamp)
            case ExecutionStarted():
                self._started(event)
            case ExecutionTerminated():
                self._add(EXECUTION_TERMINATED, event.timestamp, Input=event.reason)
            case ExecutionSuspended():
                self._add(EXECUTION_SUSPENDED, event.timestamp, Reason=event.reason)
            case ExecutionResumed():
                self._add(EXECUTION_RESUMED, event.timestamp, Reason=event.reason)
            case ExecutionRewound():
                self._add(EXECUTION_REWOUND, event.timestamp, Reason=event.reason)

    def _started(self, event: ExecutionStarted) -> None:
        self.input = event.input
        parent = event.parent
        self.parent_id = None if parent is None else parent.instance_id
        self._add(
            EXECUTION_STARTED,
            event.timestamp,
            OrchestrationInstance={"InstanceId": self._instance_id, "ExecutionId": event.execution_id},
            ParentInstance=None if parent is None else {
                "Name": parent.name,
                "Version": "",
                "OrchestrationInstance": {"InstanceId": parent.instance_id, "ExecutionId": parent.execution_id},
                "TaskScheduleId": parent.task_id,
            },
            Name=event.name,
            Version=event.version or "",
            Input=event.input,
            Tags=event.tags,
        )  # fmt: skip

    def raised(self, event: EventRaised) -> None:
        """Add an external event."""
        self._add(EVENT_RAISED, event.timestamp, Name=event.name, Input=event.input)

    # ------------------------------------------------------------------ what the code decided

    def scheduled(self, number: int, at: datetime, name: str, input: str | None) -> None:
        """Add the call of an activity, whose input is JSON text."""
        text = None if input is None else json.dumps([input])
        self._add(TASK_SCHEDULED, at, number, Name=name, Version="", Input=text)

    def child_created(self, number: int, at: datetime, name: str, instance_id: str | None, input: str | None) -> None:
        """Add the call of a child."""
        text = None if input is None else json.dumps(input)
        self._add(
            SUB_ORCHESTRATION_INSTANCE_CREATED, at, number, Name=name, Version="", InstanceId=instance_id, Input=text
        )

    def timer_created(self, number: int, at: datetime, fire_at: datetime) -> None:
        """Add a timer."""
        self._add(TIMER_CREATED, at, number, FireAt=time_text(fire_at))

    def operation_sent(
        self, number: int, at: datetime, entity_id: str, operation: str, input: str | None, *, is_signal: bool
    ) -> None:
        """Add the call of an entity's operation, or a signal."""
        request: dict[str, Any] = {"op": operation}
        if is_signal:
            request["signal"] = True
        request |= {"input": json.dumps(input), "id": self._request_id(number), "parent": self._instance_id}
        self._add(EVENT_SENT, at, number, InstanceId=entity_id, Name="op", Input=json.dumps(request))

    # ------------------------------------------------------------------ what came of it

    def completed(self, number: int, at: datetime, result: str | None, *, is_child: bool = False) -> None:
        """Add the result (JSON text) of an activity, or of a child."""
        kind = SUB_ORCHESTRATION_INSTANCE_COMPLETED if is_child else TASK_COMPLETED
        self._add(kind, at, TaskScheduledId=number, Result=result)

    def failed(self, number: int, at: datetime, reason: str, details: str, *, is_child: bool = False) -> None:
        """Add the failure of an activity, or of a child."""
        kind = SUB_ORCHESTRATION_INSTANCE_FAILED if is_child else TASK_FAILED
        self._add(kind, at, TaskScheduledId=number, Reason=reason, Details=details)

    def fired(self, number: int, at: datetime, fire_at: datetime) -> None:
        """Add that a timer's time came."""
        self._add(TIMER_FIRED, at, TimerId=number, FireAt=time_text(fire_at))

    def operation_completed(self, number: int, at: datetime, result: str | None) -> None:
        """Add the result (JSON text) of an entity's operation."""
        self._answered(number, at, {"result": "null" if result is None else result})

    def operation_failed(self, number: int, at: datetime, failure: FailureDetails) -> None:
        """Add the failure of an entity's operation."""
        self._answered(number, at, {"result": json.dumps(failure.message), "exceptionType": "Error"})

    def _answered(self, number: int, at: datetime, response: dict[str, str]) -> None:
        self._add(EVENT_RAISED, at, Name=self._request_id(number), Input=json.dumps(response))

    def _request_id(self, number: int) -> str:
        return str(uuid5(NAMESPACE_OID, f"{self._instance_id}/{number}"))

    def _add(self, kind: int, at: datetime, number: int = -1, **members: Any) -> None:
        event = {"EventId": number, "IsPlayed": True, "Timestamp": time_text(at), "EventType": kind, **members}
        self._events.append(json.dumps(event))
