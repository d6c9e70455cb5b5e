"""The JSON that people write by hand: comments, stray commas, a byte order mark, names in any case."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

from perdure.errors import AppError

JsonObject = dict[str, Any]

_JSON_PARTS = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
_JSON_COMMAS = re.compile(r'"(?:\\.|[^"\\])*"|,(?=\s*[}\]])', re.DOTALL)


def read_settings_file(path: Path) -> JsonObject:
    """The one JSON object in the file.

    Raises:
        AppError: the file cannot be read, is not JSON, or holds something else.
    """
    try:
        data = json.loads(strip_json_comments(path.read_text("utf-8-sig")))
    except (ValueError, OSError) as error:
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
    text = _JSON_PARTS.sub(lambda part: part[0] if part[0].startswith('"') else " ", text)
    return _JSON_COMMAS.sub(lambda part: part[0] if part[0].startswith('"') else "", text)


def as_object(value: Any) -> JsonObject:
    """The value if it is a JSON object, or else an empty one."""
    return cast("JsonObject", value) if isinstance(value, dict) else {}


def member(owner: Any, name: str) -> Any:
    """The member of a JSON object under any spelling of its name, or None."""
    return next((value for each, value in as_object(owner).items() if each.casefold() == name.casefold()), None)
