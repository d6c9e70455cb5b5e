"""Where something is in a value that becomes JSON: `$.items[3].when`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

_KEY_SHOWN = 40  # characters
_DEPTH_MAX = 8  # below that nobody looks, and each level measures its parts anew


class RefusedPart(NamedTuple):
    """A part of a value that JSON cannot hold, and why."""

    path: str
    part: Any
    reason: str


def refused_part(value: Any, opened: Callable[[Any], Any]) -> RefusedPart | None:
    """The first part of `value` that JSON cannot hold, or None if there is none.

    Args:
        opened: what stands for an object that is no JSON value; a TypeError of it is the reason.
    """
    levels: list[Iterator[tuple[str, Any]]] = [iter([("$", value)])]
    above: list[Any] = []
    while levels:
        found = next(levels[-1], None)
        if found is None:
            levels.pop()
            del above[-1:]
            continue
        path, part = found
        if isinstance(part, float) and not math.isfinite(part):
            return RefusedPart(path, part, f"{part} is not a number that JSON has")
        if part is None or isinstance(part, str | int | float):
            continue
        if any(each is part for each in above):
            return RefusedPart(path, part, "the value contains itself")
        try:
            levels.append(_parts(path, part, opened))
        except TypeError as error:
            return RefusedPart(path, part, str(error))
        above.append(part)
    return None


def largest_part(text: str) -> tuple[str, int]:
    """Path and size of the part that makes JSON text as large as it is."""
    path, part, size = "$", json.loads(text), len(text)
    for _ in range(_DEPTH_MAX):
        if not isinstance(part, dict | list):
            break
        sized = [(len(json.dumps(each)), place, each) for place, each in _members(path, part)]
        inner = max(sized, key=lambda found: found[0], default=None)
        if inner is None or inner[0] * 2 < size:
            break
        size, path, part = inner
    return path, size


def _parts(path: str, part: Any, opened: Callable[[Any], Any]) -> Iterator[tuple[str, Any]]:
    if not isinstance(part, dict | list | tuple):
        return iter([(path, opened(part))])
    if isinstance(part, dict):
        for key in cast("dict[Any, Any]", part):
            if not (key is None or isinstance(key, str | int | float)):
                raise TypeError(f"keys must be str, int, float, bool or None, not {type(key).__name__}")
    return _members(path, part)


def _members(path: str, part: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(part, dict):
        for key, each in cast("dict[Any, Any]", part).items():
            yield path + _step(key), each
    else:
        for number, each in enumerate(part):
            yield f"{path}[{number}]", each


def _step(key: Any) -> str:
    if isinstance(key, str) and key.isidentifier():
        return f".{key[:_KEY_SHOWN]}"
    return f"[{str(key)[:_KEY_SHOWN]!r}]"
