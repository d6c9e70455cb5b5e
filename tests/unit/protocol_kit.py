"""Histories and contexts as the official host writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import azure.durable_functions as df

Event = dict[str, Any]

T0 = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)


def at(seconds: float) -> str:
    """A time so long after the beginning, as .NET writes it."""
    return f"{(T0 + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat(timespec='microseconds')}0Z"


def event(kind: int, seconds: float = 0, event_id: int = -1, *, played: bool = False, **members: Any) -> Event:
    return {"EventId": event_id, "IsPlayed": played, "Timestamp": at(seconds), "EventType": kind, **members}


def begun(input: str | None = None, version: str = "", *, played: bool = False) -> list[Event]:
    """The two events that every history begins with."""
    started = event(
        0, played=played, OrchestrationInstance={"InstanceId": "inst1", "ExecutionId": "e1"}, ParentInstance=None,
        Name="orch", Version=version, Input=input, Tags=None,
    )  # fmt: skip
    return [event(12, played=played), started]


def episode(seconds: float, *events: Event) -> list[Event]:
    """A further episode: the end of the one before, and what came then."""
    return [event(13, seconds - 1), event(12, seconds), *events]


def context(history: Sequence[Event], **members: Any) -> str:
    """What the official host sends; a member that is None is left out."""
    sent: dict[str, Any] = {
        "history": history,
        "input": None,
        "instanceId": "inst1",
        "isReplaying": False,
        "parentInstanceId": None,
        "upperSchemaVersion": 1,
        "upperSchemaVersionNew": 2,
        "longRunningTimerIntervalDuration": "3.00:00:00",
        "maximumShortTimerDuration": "6.00:00:00",
        "defaultHttpAsyncRequestSleepTimeMillseconds": 30000,
    }
    sent |= members
    kept = {"input", "parentInstanceId"}
    return json.dumps({name: value for name, value in sent.items() if value is not None or name in kept})


def answer(orchestrator: Callable[..., Any], history: Sequence[Event], **members: Any) -> str:
    """The JSON text that our handler gives."""
    return df.Orchestrator.create(orchestrator)(context(history, **members))


def actions(orchestrator: Callable[..., Any], history: Sequence[Event], **members: Any) -> Any:
    """The actions alone."""
    return json.loads(answer(orchestrator, history, **members))["actions"]
