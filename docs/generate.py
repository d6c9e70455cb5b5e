"""Writes the pages of docs/reference that are made from the code: `make docs`."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from pathlib import Path

import msgspec
from openapi import openapi_text
from sdk_page import sdk_page
from settings_page import settings_page

from perdure.core import automaton, events

REFERENCE = Path(__file__).parent / "reference"
GENERATED = "<!-- Written by docs/generate.py; run `make docs` after a change of the code. -->"

PHASES = {
    automaton.UNBORN: "no event yet",
    automaton.STARTING: "the first episode has begun",
    automaton.RECEIVING: "an episode takes in mail",
    automaton.DECIDING: "the episode records what the code decided",
    automaton.TERMINATED: "a termination was taken in: only the end may follow",
    automaton.FINISHED: "the end is recorded, the episode is still open",
    automaton.IDLE: "between episodes",
    automaton.ENDED: "nothing may follow",
}


def events_page() -> str:
    """Every event, and what may follow what."""
    lines = [
        GENERATED,
        "# History events",
        "",
        "What can happen to an orchestration, and in which order. The engine refuses to store anything else, and",
        "`perdure hub check` reports anything else that it finds stored.",
        "",
        "## Events",
        "",
        "| Event | Meaning | Fields |",
        "|---|---|---|",
    ]
    for kind in typing.get_args(events.HistoryEvent):
        fields = ", ".join(f"`{each.name}`" for each in msgspec.structs.fields(kind))
        lines.append(f"| `{kind.__name__}` | {_first_paragraph(kind)} | {fields} |")
    lines += [
        "",
        "`timestamp` is when the event was recorded or, for mail, sent. `event_id` numbers the decisions of the code",
        "from 0; `task_id` is the `event_id` of the decision that an event answers.",
        "",
        "## What may follow what",
        "",
        "| Phase | | Event | Next phase |",
        "|---|---|---|---|",
    ]
    for phase, meaning in PHASES.items():
        moves = [(kind.__name__, to) for (at, kind), to in automaton.LEGAL.items() if at == phase]
        for number, (event, to) in enumerate(sorted(moves) or [("none", "")]):
            shown, said = (f"**{phase}**", meaning) if number == 0 else ("", "")
            lines.append(f"| {shown} | {said} | {_code(event)} | {to} |")
    lines += [
        "",
        "## What answers what",
        "",
        "Each decision is answered at most once.",
        "",
        "| Answer | Decision |",
        "|---|---|",
    ]
    lines += [f"| `{answer.__name__}` | `{decision.__name__}` |" for answer, decision in automaton.ANSWERS.items()]
    return "\n".join(lines) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "events.md": events_page,
    "openapi.json": openapi_text,
    "sdk.md": lambda: f"{GENERATED}\n{sdk_page()}",
    "settings.md": lambda: f"{GENERATED}\n{settings_page()}",
}


def _first_paragraph(kind: type) -> str:
    return _joined((inspect.getdoc(kind) or "").partition("\n\n")[0])


def _joined(text: str) -> str:
    return " ".join(text.split()).rstrip(".")


def _code(name: str) -> str:
    return name if name == "none" else f"`{name}`"


def main() -> None:
    REFERENCE.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
