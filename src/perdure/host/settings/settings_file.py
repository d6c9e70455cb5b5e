"""The JSON that people write by hand: comments, stray commas, a byte order mark, names in any case."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from perdure.errors import AppError

JsonObject = dict[str, Any]

_JSON_PARTS = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
_JSON_TOKENS = re.compile(r'"(?:\\.|[^"\\])*"|[{}\[\],:]')
_JSON_COMMAS = re.compile(r'"(?:\\.|[^"\\])*"|,(?=\s*[}\]])', re.DOTALL)


def read_settings_file(path: Path) -> JsonObject:
    """The one JSON object in the file.

    Raises:
        AppError: the file cannot be read, is not JSON, or holds something else.
    """
    try:
        data = json.loads(strip_json_comments(path.read_text("utf-8-sig")))
    except (ValueError, OSError, RecursionError) as error:
        raise AppError(
            "DF107",
            f"{path.name} cannot be read",
            f"Unable to parse host configuration file '{path}'.",
            str(error),
            "It has to be one JSON object.",
        ) from error
    if not isinstance(data, dict):
        raise AppError("DF107", f"{path.name} cannot be read", f"'{path}' has to be one JSON object.")
    return as_object(data)


def strip_json_comments(text: str) -> str:
    """JSON text without `//` and `/* */` comments and without commas before a closing bracket."""
    text = _JSON_PARTS.sub(lambda part: part[0] if part[0].startswith('"') else " " + "\n" * part[0].count("\n"), text)
    return _JSON_COMMAS.sub(lambda part: part[0] if part[0].startswith('"') else "", text)


def line_of(text: str, path: Sequence[str]) -> int | None:
    """The line, counted from 1, where a member of a JSON document stands; None if it is not there.

    Args:
        text: the document, as it can be read by `read_settings_file`.
        path: names from the outside in, places in lists as digits. The last of several members of one name counts.
    """
    text = strip_json_comments(text)
    found: int | None = None
    at: list[str | int] = []  # where the scan is: names, and places in lists
    name = ""
    for token in _JSON_TOKENS.finditer(text):
        match token[0]:
            case "{":
                at.append("")
            case "[":
                at.append(0)
            case "}" | "]":
                at.pop()
            case ",":
                last = at[-1]
                at[-1] = last + 1 if isinstance(last, int) else ""
            case ":":
                at[-1] = name
            case string:
                name = json.loads(string, strict=False)
                continue
        if token[0] in ":[," and [str(each) for each in at] == list(path):
            begins = token.start() if token[0] == ":" else len(text) - len(text[token.end() :].lstrip())
            found = text.count("\n", 0, begins) + 1
    return found


def as_object(value: Any) -> JsonObject:
    """The value if it is a JSON object, or else an empty one."""
    return cast("JsonObject", value) if isinstance(value, dict) else {}


def member(owner: Any, name: str) -> Any:
    """The member of a JSON object under any spelling of its name, or None."""
    return next((value for each, value in as_object(owner).items() if each.casefold() == name.casefold()), None)
