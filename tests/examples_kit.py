"""The examples of the reference as apps, and which of their lines have run."""

from __future__ import annotations

import ast
import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from azure.durable_functions import DurableOrchestrationClient

from perdure.host.app.loading import LoadedApp, load_app
from perdure.host.sdk.our_sdk import OurSdk, fitting_client

FOLDER = Path(__file__).parents[1] / "docs" / "reference" / "examples"
HUB_NAME = "TestHub"


@contextmanager
def example(
    name: str, client: Callable[[], DurableOrchestrationClient] | None = None
) -> Iterator[tuple[ModuleType, LoadedApp]]:
    """An example as a module and as the app that it is; in the end, every statement in it has to have run.

    Args:
        client: makes the client of activities that ask for one.
    """

    def client_for(function: Callable[..., Any], is_text: bool) -> Any:
        assert client is not None, "this example's activities have no client"
        return fitting_client(function, client())

    with _played(name):
        environ = {"PYTHON_SCRIPT_FILE_NAME": f"{name}.py"}
        app = load_app(FOLDER, environ, "api", None, HUB_NAME, OurSdk(), client_for)
        assert [each.note for each in app.listings if each.note] == []
        yield sys.modules[name], app


@contextmanager
def program(name: str) -> Iterator[ModuleType]:
    """An example that is no app, as a module; in the end, every statement in it has to have run."""
    with _played(name):
        sys.path.insert(0, str(FOLDER))
        yield importlib.import_module(name)


@contextmanager
def _played(name: str) -> Iterator[None]:
    file = FOLDER / f"{name}.py"
    seen: set[int] = set()
    before = list(sys.path)
    try:
        with _traced(file, seen):
            yield
    finally:
        sys.path[:] = before
        sys.modules.pop(name, None)
    missed = sorted(statements(file) - seen)
    assert not missed, f"these lines of {file.name} have not run: {missed}"


def statements(file: Path) -> set[int]:
    """The first lines of all statements inside functions that leave a trace when they run."""
    lines: set[int] = set()
    for function in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for each in function.body:
                lines.update(_lines_of(each))
    return lines


def _lines_of(statement: ast.stmt) -> Iterator[int]:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return  # a docstring
    if not isinstance(statement, ast.Try):
        yield statement.lineno
    for block in ("body", "orelse", "finalbody"):
        for each in getattr(statement, block, []):
            yield from _lines_of(each)
    for handler in getattr(statement, "handlers", []):
        for each in handler.body:
            yield from _lines_of(each)


@contextmanager
def _traced(file: Path, seen: set[int]) -> Iterator[None]:
    """Note which lines of a file run, on this thread and on those that begin meanwhile."""
    wanted = os.fspath(file)

    def in_frame(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            seen.add(frame.f_lineno)
        return in_frame

    def at_call(frame: FrameType, event: str, argument: Any) -> Any:
        return in_frame if frame.f_code.co_filename == wanted else None

    tracing = sys.gettrace()
    threading.settrace(at_call)
    sys.settrace(at_call)
    try:
        yield
    finally:
        sys.settrace(tracing)
        threading.settrace(tracing)  # pyright: ignore[reportArgumentType]
