"""Tracebacks as users want them: their own frames, not ours."""

from __future__ import annotations

import contextlib
import importlib
from pathlib import Path
from traceback import StackSummary, TracebackException

import perdure
from perdure.host.sdk.sdk import SDK_ROOT

_OURS = (
    str(Path(perdure.__path__[0]).resolve()),
    str(SDK_ROOT),
    "<frozen importlib",
    str(importlib.__file__),
    contextlib.__file__,
)


def users_traceback(error: BaseException) -> str:
    """The traceback that Python would print, without frames of perdure and of the import system.

    What caused the error is left out where no frame of it is the user's: it is ours to know.
    """
    summary = TracebackException.from_exception(error, compact=True)
    _keep_users(summary)
    return "".join(summary.format()).rstrip()


def _keep_users(summary: TracebackException) -> None:
    summary.stack = StackSummary.from_list([each for each in summary.stack if not each.filename.startswith(_OURS)])
    for each in summary.exceptions or ():
        _keep_users(each)
    if summary.__cause__ is not None:
        _keep_users(summary.__cause__)
        if not summary.__cause__.stack:
            summary.__cause__ = None
    if summary.__context__ is not None:
        _keep_users(summary.__context__)
        if not summary.__context__.stack:
            summary.__context__ = None
