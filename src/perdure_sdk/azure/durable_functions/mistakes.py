"""Mistakes that a decorator can see, said where they are made."""

from __future__ import annotations

import difflib
import inspect
import linecache
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from perdure.errors import AppError


class _Line(NamedTuple):
    place: str  # file:line
    text: str


class DecorationError(AppError, TypeError):
    """Raised while an app is imported, by a decorator that cannot apply to its function."""


def parameter_of(function: Callable[..., Any], asked: str | None, default: str, decorator: str, keyword: str) -> str:
    """The parameter that a binding belongs to.

    Args:
        function: the user's.
        asked: the name that the decorator was given, or None to find it: `default`, or else the only parameter.
        decorator: its name, for the message.
        keyword: its argument for the parameter's name.

    Raises:
        DecorationError: the function has no such parameter (DF104).
    """
    names = _parameters(function)
    wanted = asked or default
    if names is None or wanted in names:
        return wanted
    if asked is None and len(names) == 1:
        return names[0]
    raise _disagreement(function, names, wanted, decorator, keyword if asked is not None else None)


def refuse_async_generator(function: Callable[..., Any]) -> None:
    """An orchestrator may not mix `async def` with `yield`.

    Raises:
        DecorationError: it does (DF201).
    """
    if not inspect.isasyncgenfunction(function):
        return
    name, parameters = function.__name__, ", ".join(_parameters(function) or ["context"])
    _, definition = _source_of(function, "")
    raise DecorationError(
        "DF201",
        "Orchestrator mixes async def and yield",
        f"{definition.place}   async def {name}({parameters}):  …  yield …",
        "That makes an asynchronous generator, which cannot be replayed.",
        f"Either   def {name}({parameters}): … yield …          (classic, also runs on Azure)",
        f"or       async def {name}({parameters}): … await …    (only here; not on Azure)",
    )


def _disagreement(
    function: Callable[..., Any], names: Sequence[str], wanted: str, decorator: str, keyword: str | None
) -> DecorationError:
    above, definition = _source_of(function, decorator)
    given = "" if keyword is None else f'({keyword}="{wanted}")'
    signature = f"def {getattr(function, '__name__', 'function')}({', '.join(names)}):"
    near = list(names) if len(names) == 1 else difflib.get_close_matches(wanted, names, 1, 0.4)
    hint = ""
    if near:
        hint = (
            f' Did you mean {keyword}="{near[0]}"?'
            if keyword
            else f' Did you mean "{near[0]}"? Say so: {decorator}("{near[0]}")'
        )
    return DecorationError(
        "DF104",
        "Decorator and function disagree about a parameter",
        f"{above.place}   {above.text or f'@{decorator}{given}'}",
        f'{definition.place}   {definition.text or signature}     ← no parameter called "{wanted}"',
        f"Rename one of them.{hint}",
    )


def _parameters(function: Callable[..., Any]) -> list[str] | None:
    """The names of the parameters, or None if any name will do."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(each.kind in (each.VAR_KEYWORD, each.VAR_POSITIONAL) for each in parameters):
        return None
    return [each.name for each in parameters]


def _source_of(function: Callable[..., Any], decorator: str) -> tuple[_Line, _Line]:
    """The lines of the decorator and of the `def`; without their text if the source is not there."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    file: str = getattr(code, "co_filename", "?")
    first: int = getattr(code, "co_firstlineno", 0)
    above = unknown = _Line(f"{_shown(file)}:{first}", "")
    for number, text in enumerate(linecache.getlines(file)[max(first - 1, 0) :], first):
        line = _Line(f"{_shown(file)}:{number}", text.strip())
        if decorator and line.text.startswith("@") and decorator in line.text:
            above = line
        if line.text.startswith(("def ", "async def ")):
            return above, line
    return unknown, unknown


def _shown(file: str) -> str:
    path, here = Path(file), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else file
