"""At most so many of something at the same time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class Turns:
    """Begins what is asked for as soon as fewer than `limit` are under way, in the order of asking.

    May be told from any thread.

    Args:
        limit: how many, or None for any number.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._running = 0
        self._waiting: deque[Callable[[], None]] = deque()

    def take(self, begin: Callable[[], None]) -> None:
        """Call `begin` now, or when it is its turn."""
        if self._limit is not None:
            with self._lock:
                if self._running == self._limit:
                    self._waiting.append(begin)
                    return
                self._running += 1
        begin()

    def ended(self) -> None:
        """One that was begun has ended; the next begins."""
        if self._limit is None:
            return
        with self._lock:
            if not self._waiting:
                self._running -= 1
                return
            begin = self._waiting.popleft()
        begin()
