"""The client for functions without `async`: the same methods, which return when the work is done."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

from azure.durable_functions.client import DurableOrchestrationClient


class SyncDurableOrchestrationClient:
    """Has what `DurableOrchestrationClient` has, without `await`; what that iterates over with `async for`, `for` does.

    It may be used on any thread that runs no event loop.

    Args:
        client: who does the work.
    """

    def __init__(self, client: DurableOrchestrationClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if inspect.iscoroutinefunction(attribute):
            return _blocking(attribute)
        if inspect.isasyncgenfunction(attribute):
            return _iterating(attribute)
        return attribute

    def __dir__(self) -> list[str]:
        return dir(self._client)


def _blocking(method: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        _refuse_inside_loop(method.__name__)
        return asyncio.run(method(*args, **kwargs))

    return call


def _iterating(method: Callable[..., AsyncIterator[Any]]) -> Callable[..., Iterator[Any]]:
    @functools.wraps(method)
    def iterate(*args: Any, **kwargs: Any) -> Iterator[Any]:
        _refuse_inside_loop(method.__name__)
        items = method(*args, **kwargs)
        with asyncio.Runner() as runner:
            while found := runner.run(_next(items)):
                yield found[0]

    return iterate


async def _next(items: AsyncIterator[Any]) -> tuple[Any] | None:
    async for item in items:
        return (item,)
    return None


def _refuse_inside_loop(name: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        f"client.{name} would block the event loop that runs here: make the function that got the client `async def`, "
        f"and write  await client.{name}(...)"
    )
