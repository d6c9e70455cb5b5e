"""What the official host sends to have an orchestrator replayed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any, cast

from msgspec import Struct

_MEMBERS = frozenset({
    "history", "input", "instanceId", "isReplaying", "parentInstanceId", "upperSchemaVersion", "upperSchemaVersionNew",
    "longRunningTimerIntervalDuration", "maximumShortTimerDuration",
})  # fmt: skip

_TIME_SPAN = re.compile(r"(-)?(?:(\d{1,8})\.)?(\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,7}))?\Z")


class ReplaySchema(IntEnum):
    """How actions are written: flat; with compound ones; and with long timers that the SDK splits."""

    V1 = 0
    V2 = 1
    V3 = 2


class ReplayRequest(Struct, frozen=True):
    """An orchestration, as far as it has come.

    Attributes:
        history: its events as they came, with the names on the wire.
        input: its input as JSON text.
        schema: how the answer is to be written.
        timer_max: no timer of the host's may be longer; None for no limit.
        timer_segment: the parts that a longer one is made of.
        others: what else the host said.
    """

    history: Sequence[Mapping[str, Any]]
    instance_id: str
    input: str | None
    parent_instance_id: str | None
    schema: ReplaySchema
    timer_max: timedelta | None
    timer_segment: timedelta | None
    others: Mapping[str, Any]

    @classmethod
    def parse(cls, text: str | bytes) -> ReplayRequest:
        """The request that the context of an orchestration trigger is.

        Raises:
            TypeError: it lacks a member that every host sends.
            ValueError: it is no JSON, or a member makes no sense.
        """
        sent: Any = json.loads(text)
        if not isinstance(sent, dict):
            raise TypeError("the context of an orchestration trigger is a JSON object")
        members = cast("dict[str, Any]", sent)
        missing = [each for each in ("history", "instanceId", "isReplaying", "parentInstanceId") if each not in members]
        if missing:
            raise TypeError(f"the context of the orchestration trigger lacks {', '.join(missing)}")
        return cls(
            _checked_history(members["history"]),
            members["instanceId"],
            _input_text(members.get("input")),
            members["parentInstanceId"],
            negotiated(members.get("upperSchemaVersion"), members.get("upperSchemaVersionNew")),
            _time_span(members.get("maximumShortTimerDuration")),
            _time_span(members.get("longRunningTimerIntervalDuration")),
            {name: value for name, value in members.items() if name not in _MEMBERS},
        )

    def first_part(self, length: timedelta) -> timedelta | None:
        """How long the first part is of a timer of this `length`; None if the host takes it whole."""
        if self.schema < ReplaySchema.V3 or not self.timer_max or not self.timer_segment:
            return None
        return self.timer_segment if length > self.timer_max else None


def sent_text(context: object) -> str | bytes:
    """The JSON text that a trigger's argument is, or has as its `body`.

    Raises:
        TypeError: it is nothing of the kind.
    """
    text = getattr(context, "body", context)
    if not isinstance(text, str | bytes):
        raise TypeError(f"expected JSON text, or an object with such a body, but got {context!r}")
    return text


def negotiated(old: int | None, new: int | None) -> ReplaySchema:
    """The schema to answer in, from what the host can read.

    Args:
        old: the member that hosts have stopped raising, because the SDKs of its time refuse what they do not know.
        new: the member that came in its place.

    Raises:
        ValueError: `old` is no schema.
    """
    schema = ReplaySchema(old or 0)
    if new is None or new <= schema:
        return schema
    return ReplaySchema(min(new, max(ReplaySchema)))


def wire_time(text: str) -> datetime:
    """A time of the wire in UTC; one without a zone is that already, and beyond microseconds it is cut off.

    Raises:
        ValueError: it is none.
    """
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _checked_history(history: Any) -> Sequence[Mapping[str, Any]]:
    if len(history) < 2:
        raise ValueError(
            f"Internal Durable Functions error: received History array of size {len(history)} when a minimum size of 2 "
            "is expected: no orchestration begins with less than OrchestratorStarted and ExecutionStarted."
        )
    return history


def _input_text(value: Any) -> str | None:
    """Clients of the SDK send JSON text, which arrives as a text; others send the value itself."""
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _time_span(text: str | None) -> timedelta | None:
    """A duration as .NET writes it: `3.00:00:00`."""
    if text is None:
        return None
    found = _TIME_SPAN.match(text)
    if found is None:
        raise ValueError(f"Format of TimeSpan failed attempted conversion to timedelta: {text}")
    sign, days, hours, minutes, seconds, fraction = found.groups()
    length = timedelta(
        days=int(days or 0),
        hours=int(hours),
        minutes=int(minutes),
        seconds=int(seconds),
        microseconds=int((fraction or "0").ljust(7, "0")[:6]),
    )
    return -length if sign else length
