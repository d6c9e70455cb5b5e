"""How commands end when something is wrong: a sentence on standard error, and an exit code that scripts can rely on."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import NoReturn

import click

from perdure.cli import render
from perdure.errors import AppError, InstanceFinishedError, InstanceNotFoundError, PerdureError

EXIT_REFUSED = 1  # the instance is not there, or takes no more messages
EXIT_APP = 2  # also what a wrong option ends with
EXIT_STORE = 3
EXIT_PORT = 4
EXIT_FINDINGS = 5

_CODES = {"DF401": EXIT_STORE, "DF403": EXIT_STORE, "DF402": EXIT_PORT, "DF405": EXIT_PORT}


def exit_code_of(error: PerdureError) -> int:
    """What the process ends with if this ended it."""
    match error:
        case InstanceNotFoundError() | InstanceFinishedError():
            return EXIT_REFUSED
        case AppError():
            return _CODES.get(error.code, EXIT_APP)
        case _:
            return EXIT_STORE


def fail(sentence: str, exit_code: int) -> NoReturn:
    """End the command with a sentence on standard error."""
    click.echo("\n".join(map(render.printable, sentence.splitlines())), err=True)
    raise click.exceptions.Exit(exit_code)


@contextmanager
def failures_told() -> Generator[None, None, None]:
    """Turn what can go wrong between a command and a hub into a sentence and an exit code."""
    try:
        yield
    except PerdureError as error:
        fail(str(error), exit_code_of(error))
