"""The examples of the reference: pieces of small apps, each under a comment that names the members it shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "reference" / "examples"
_MARK = re.compile(r"^# example: (.*)\n", re.MULTILINE)


class Snippet(NamedTuple):
    """One piece of an example app.

    Attributes:
        file: name of the app's file.
        shows: the members that it is an example of; it stands beside the first, the others refer to that.
        code: without the comment.
    """

    file: str
    shows: tuple[str, ...]
    code: str


def snippets() -> list[Snippet]:
    """All pieces, in the order of files and lines."""
    found: list[Snippet] = []
    for file in sorted(FOLDER.glob("*.py")):
        _, *parts = _MARK.split(file.read_text("utf-8"))
        for names, code in zip(parts[::2], parts[1::2], strict=True):
            found.append(Snippet(file.name, tuple(names.split(", ")), code.strip("\n")))
    return found
