"""Bodies and parameters of the management API: what is accepted, and how values are written."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, cast

# Deeper values make one recursive reader or another give up, in other languages long before Python's thousand.
JSON_DEPTH_MAX = 100

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SHORT_YEAR = re.compile(r"^\d{1,3}(?=-)")
_OFFSET_THAT_LOST_ITS_PLUS = re.compile(r"(?<=\d) (?=\d\d:?\d\d$)")


def json_text(body: bytes) -> str | None:
    """The body as JSON text exactly as it was sent, or None if there is none.

    Accepted is what every reader understands alike (I-JSON, RFC 7493): UTF-8, unique member names, finite numbers,
    no half surrogate pairs, at most 100 levels.

    Raises:
        ValueError: it is anything else; the text says what.
    """
    if not body:
        return None
    text = body.decode("utf-8-sig")
    try:
        value = _decoder.decode(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if text.count("[") + text.count("{") > JSON_DEPTH_MAX and _depth(value) > JSON_DEPTH_MAX:
        raise ValueError(_TOO_DEEP)
    if _SURROGATE.search(text):
        _refuse_half_pairs(value)
    return text


def decoded_once(text: str | None) -> str | None:
    """The JSON text within a JSON string, or if there is none, the text as it is.

    SDK 1.x encodes every value twice: `{"a":1}` arrives as `"{\\"a\\":1}"`.
    """
    if text is None or not text.lstrip().startswith('"'):
        return text
    try:
        return json_text(json.loads(text).encode()) or text
    except ValueError:
        return text


def json_body(value: Any) -> bytes:
    """A value as the body of an answer."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half a surrogate pair, returned by an activity: it can only travel escaped
        return json.dumps(value, separators=(",", ":")).encode()


def parsed_time(text: str | None) -> datetime | None:
    """A point in time from a query; without a zone it is UTC. None if it is missing or no such thing.

    Accepts what official clients send: fractions of any length, offsets (also where a `+` became a space), and years
    without leading zeros as `strftime` on Linux writes them.
    """
    if not text:
        return None
    text = _SHORT_YEAR.sub(lambda found: found[0].zfill(4), text.strip())
    if "T" in text:
        text = _OFFSET_THAT_LOST_ITS_PLUS.sub("+", text)
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def readable_time(name: str, text: str | None) -> datetime | None:
    """A point in time from the query parameter `name`, or None if it is missing.

    Raises:
        ValueError: it is no such thing; guessing would be worse than refusing.
    """
    time = parsed_time(text)
    if text and time is None:
        raise ValueError(f"The value of '{name}' is not a point in time, such as 2026-01-31T10:00:00Z.")
    return time


def parsed_seconds(text: str | None) -> float | None:
    """A duration from a query, or None if it is missing or no finite, positive number."""
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds <= _SECONDS_MAX else None


def parsed_bool(text: str | None, default: bool) -> bool:
    """`true` or `false` in any case; anything else is the default, as on the official host."""
    return {"true": True, "false": False}.get((text or "").strip().lower(), default)


_SECONDS_MAX = 365 * 24 * 3600.0  # longer waits are mistakes, and event loops cannot count that far

_TOO_DEEP = f"The JSON value is nested more than {JSON_DEPTH_MAX} levels deep."


def _depth(value: Any) -> int:
    """Levels of arrays and objects, counted without recursion."""
    depth = 0
    level = _containers([value])
    while level:
        depth += 1
        level = _containers(child for each in level for child in _children(each))
    return depth


def _containers(values: Iterable[Any]) -> list[Any]:
    return [each for each in values if isinstance(each, dict | list)]


def _children(container: Any) -> Iterable[Any]:
    return cast("dict[str, Any]", container).values() if isinstance(container, dict) else container


def _refuse_half_pairs(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("The JSON value contains half of a surrogate pair, which is not a character.") from None


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) < len(members):
        names = [name for name, _ in members]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"The JSON object has two members named {twice!r}.")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large for a JSON number.")
    return number


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number.")


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_number)
