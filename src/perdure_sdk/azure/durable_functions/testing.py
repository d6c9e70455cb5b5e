"""Helpers for an app's own unit tests."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any


def orchestrator_generator_wrapper(generator: Generator[Any, Any, Any]) -> Generator[Any, None, None]:
    """Drive an orchestrator whose calls are mocked; `generator` is what it returns.

    Yields each task that the orchestrator yields, and goes on with the task's `result`; an exception from reading
    `result` is raised inside the orchestrator. Last, yields what the orchestrator returns.
    """
    result: Any = None
    failure: Exception | None = None
    while True:
        try:
            task: Any = generator.send(result) if failure is None else generator.throw(failure)
        except StopIteration as stop:
            yield stop.value
            return
        yield task
        try:
            result, failure = task.result, None
        except Exception as error:  # what the mocked task fails with
            failure = error
