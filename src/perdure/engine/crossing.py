"""Passing items from any thread to one event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Crossing(Generic[T]):
    """A queue into an event loop with at most one wake-up pending.

    An item costs half a microsecond; a wake-up of its own would cost ten, and under load starve the loop it wakes.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, receive: Callable[[Sequence[T]], None]) -> None:
        self._loop = loop
        self._receive = receive
        self._items: deque[T] = deque()
        self._is_pending = False

    def put(self, item: T) -> None:
        """Hand an item over; it is received on the loop, in order. Dropped if that loop has closed."""
        self._items.append(item)
        if not self._is_pending:
            self._is_pending = True
            try:
                self._loop.call_soon_threadsafe(self._drain)
            except RuntimeError:
                if not self._loop.is_closed():
                    raise

    def _drain(self) -> None:
        # First the flag, then the items: a `put` in between wakes once too often, never once too few.
        self._is_pending = False
        items = self._items
        self._receive([items.popleft() for _ in range(len(items))])
