"""An instance's status as the management API shows it.

Rule 1: payloads are shown as JSON values; what is stored but is not JSON is shown as the text that it is.
Rule 2: every member is there, null when unset; only `historyEvents` is left out.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from perdure.core.records import Instance


def status_view(instance: Instance, *, show_input: bool, history: list[dict[str, Any]] | None) -> dict[str, Any]:
    """The status of one instance, in the official order of members.

    Args:
        show_input: whether `input` is given; it is null if not.
        history: rows of `history_view`, or None to leave them out.
    """
    view: dict[str, Any] = {
        "name": instance.name,
        "instanceId": instance.instance_id,
        "runtimeStatus": str(instance.status),
        "input": json_value(instance.input) if show_input else None,
        "customStatus": json_value(instance.custom_status),
        "output": json_value(instance.output),
        "createdTime": seconds_text(instance.created_at),
        "lastUpdatedTime": seconds_text(instance.updated_at),
    }
    if history is not None:
        view["historyEvents"] = history
    return view


def json_value(text: str | None) -> Any:
    """The JSON value that a stored payload stands for, or the text itself if it is not JSON."""
    if text is None:
        return None
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text.strip()


def seconds_text(time: datetime) -> str:
    """The time in UTC to the second, without rounding."""
    return f"{time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='seconds')}Z"


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")  # Python would read it, and no client could
