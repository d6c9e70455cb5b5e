"""A docstring in its parts: text, and the sections of the house style."""

from __future__ import annotations

import inspect
import re
from typing import Any, NamedTuple

_SECTION = re.compile(r"(Args|Args \(all methods\)|Attributes|Raises|Raises \(all methods\)):\Z")
_ITEM = re.compile(r"(\w[\w.]*(?:, \w[\w.]*)*): (.*)\Z")


class Docstring(NamedTuple):
    """What a docstring says.

    Attributes:
        summary: its first sentence or two.
        more: its further paragraphs.
        args, attributes: meaning by name.
        methods_args: of a class, what parameters mean whose method does not say it.
        raises: each error and when it comes.
    """

    summary: str
    more: list[str]
    args: dict[str, str]
    methods_args: dict[str, str]
    attributes: dict[str, str]
    raises: list[tuple[str, str]]


def docstring_of(thing: Any) -> Docstring:
    """The docstring of a class, function or property; empty if there is none. Sources of rules are left out."""
    paragraphs: list[str] = []
    sections: dict[str, list[tuple[str, str]]] = {}
    for block in re.split(r"\n\s*\n", inspect.getdoc(thing) or ""):
        first, _, rest = block.partition("\n")
        section = _SECTION.match(first)
        if section:
            sections[section[1]] = _items(inspect.cleandoc(rest))
        elif block and not block.startswith("Source:"):
            paragraphs.append(joined(block).partition(" Source: ")[0])
    return Docstring(
        paragraphs[0] if paragraphs else "",
        paragraphs[1:],
        _by_name(sections.get("Args", [])),
        _by_name(sections.get("Args (all methods)", [])),
        _by_name(sections.get("Attributes", [])),
        sections.get("Raises", []) + sections.get("Raises (all methods)", []),
    )


def joined(text: str) -> str:
    """The text in one line."""
    return " ".join(text.split())


def _items(text: str) -> list[tuple[str, str]]:
    items: list[tuple[str, str]] = []
    for line in text.splitlines():
        item = None if line.startswith(" ") else _ITEM.match(line)
        if item:
            items.append((item[1], item[2].strip()))
        elif items:
            items[-1] = (items[-1][0], f"{items[-1][1]} {line.strip()}")
    return items


def _by_name(items: list[tuple[str, str]]) -> dict[str, str]:
    return {name: meaning for names, meaning in items for name in names.split(", ")}
