"""What the command line prints: plain text for people, JSON lines for programs.

Rule 1: nothing that users or their payloads contain reaches a terminal as a control sequence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

# A history line longer than a few terminal lines hides the next one; `--json` has everything.
DETAIL_LENGTH_MAX = 160

# Control characters move cursors and set titles; bidirectional and invisible ones make one id look like another.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")

_MEMBERS_SHOWN_OTHERWISE = frozenset({"EventType", "Timestamp", "FunctionName", "Name", "ScheduledTime"})
_MEMBERS_WITHOUT_NEWS = frozenset({"Correlation", "ScheduledStartTime", "Generation", "ParentTraceContext"})


def printable(text: str) -> str:
    """The text with every character that a terminal would obey, or not show, written as an escape."""
    return _UNSAFE.sub(_escaped, text)


def json_line(value: Any) -> str:
    """A value as one line of JSON; all beyond ASCII is escaped, so nothing in it is a control sequence."""
    return json.dumps(value)


def payload(value: Any) -> str:
    """A JSON value as people read it."""
    try:
        return printable(json.dumps(value, ensure_ascii=False))
    except RecursionError:
        return "(too deep to show)"


def shortened(text: str, length: int = DETAIL_LENGTH_MAX) -> str:
    """The text, cut with an ellipsis if it is longer."""
    return text if len(text) <= length else text[: length - 1] + "…"


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Left-aligned columns under their titles."""
    lines = [titles, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_line(cells, widths) for cells in lines)


def block(members: Mapping[str, str]) -> str:
    """Names and values below each other; values stand aligned."""
    width = max(map(len, members))
    return "\n".join(f"{name:<{width}}  {printable(value)}" for name, value in members.items())


def time(text: str | None) -> str:
    """The time of an answer, without its letters and to the millisecond at most."""
    if not text:
        return ""
    date, _, rest = text.rstrip("Z").partition("T")
    seconds, dot, fraction = rest.partition(".")
    return f"{date} {seconds}{dot}{fraction[:3]}"


def instances_table(statuses: Sequence[Mapping[str, Any]]) -> str:
    """Instances, one per line."""
    titles = ("INSTANCE ID", "NAME", "STATUS", "CREATED (UTC)", "UPDATED (UTC)")
    return table(
        titles,
        ((each["instanceId"], each["name"], each["runtimeStatus"], *_times(each)) for each in statuses),
    )


def instance_block(status: Mapping[str, Any]) -> str:
    """One instance with its payloads."""
    return block(
        {
            "Instance ID": status["instanceId"],
            "Name": status["name"],
            "Status": status["runtimeStatus"],
            "Created": f"{time(status['createdTime'])} UTC",
            "Updated": f"{time(status['lastUpdatedTime'])} UTC",
            "Input": payload(status["input"]),
            "Output": payload(status["output"]),
            "Custom status": payload(status["customStatus"]),
        }
    )


def history_table(events: Sequence[Mapping[str, Any]]) -> str:
    """History events, one per line."""
    titles = ("TIME (UTC)", "EVENT", "NAME", "DETAILS")
    return table(
        titles,
        (
            (
                time(event.get("Timestamp")),
                str(event["EventType"]),
                str(event.get("FunctionName") or event.get("Name") or ""),
                shortened(_details(event)),
            )
            for event in events
        ),
    )


def _times(status: Mapping[str, Any]) -> tuple[str, str]:
    return time(status["createdTime"]), time(status["lastUpdatedTime"])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


def _details(event: Mapping[str, Any]) -> str:
    took = _took(event)
    parts = [] if took is None else [f"took {took}"]
    for name, value in event.items():
        if name not in _MEMBERS_SHOWN_OTHERWISE | _MEMBERS_WITHOUT_NEWS and value is not None:
            # Inputs are JSON text in a history; results are values.
            parts.append(f"{name}={value if isinstance(value, str) and name != 'Result' else payload(value)}")
    return "  ".join(parts)


def _took(event: Mapping[str, Any]) -> str | None:
    """From scheduling to completion, with a unit that suits."""
    if not event.get("ScheduledTime") or not event.get("Timestamp"):
        return None
    began, ended = (datetime.fromisoformat(event[name]) for name in ("ScheduledTime", "Timestamp"))
    seconds = max((ended - began).total_seconds(), 0.0)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
