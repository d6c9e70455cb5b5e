"""Which activity begins when: at most so many at the same time, whichever kind they are.

Rule 1: a freed slot is filled by its own kind where possible, on the thread that freed it, without a crossing.
Rule 2: neither kind keeps the other from running, however much of it waits.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Lane(Generic[T]):
    """The activities of one kind: how many run, how many of them can, which wait, and the way to where they run."""

    __slots__ = ("begin", "running", "size", "waiting")

    def __init__(self, size: int, begin: Callable[[T], None]) -> None:
        self.size = size
        self.begin = begin
        self.running = 0
        self.waiting: deque[T] = deque()


class ActivitySlots(Generic[T]):
    """Hands the slots for activities to async ones and sync ones; may be told from any thread.

    Invariant: while a slot is free, nobody waits but sync activities that have no thread to run on.

    Args:
        count: activities that run at the same time.
        threads: how many of them may be sync.
        begin_async, begin_sync: take an activity to where it runs.
    """

    def __init__(
        self, count: int, *, threads: int, begin_async: Callable[[T], None], begin_sync: Callable[[T], None]
    ) -> None:
        self._lock = threading.Lock()
        self._free = count
        self._async: _Lane[T] = _Lane(count, begin_async)
        self._sync: _Lane[T] = _Lane(threads, begin_sync)
        self._is_closed = False

    @property
    def running(self) -> int:
        """How many activities have been given a slot and not ended."""
        return self._async.running + self._sync.running

    def submit(self, activity: T, *, is_async: bool) -> None:
        """Begin an activity, or let it wait for a slot."""
        lane = self._async if is_async else self._sync
        with self._lock:
            if self._is_closed or not self._free or lane.running == lane.size:
                lane.waiting.append(activity)
                return
            self._free -= 1
            lane.running += 1
        lane.begin(activity)

    def ended(self, *, is_async: bool) -> T | None:
        """An activity has ended; returns the one to run in its place on the same thread, if there is one."""
        own, other = (self._async, self._sync) if is_async else (self._sync, self._async)
        with self._lock:
            own.running -= 1
            next_lane = None if self._is_closed else _next_lane(own, other)
            if next_lane is None:
                self._free += 1
                return None
            next_lane.running += 1
            activity = next_lane.waiting.popleft()
        if next_lane is own:
            return activity
        other.begin(activity)
        return None

    def close(self) -> None:
        """Begin nothing more: what waits is left waiting."""
        with self._lock:
            self._is_closed = True


def _next_lane(own: _Lane[T], other: _Lane[T]) -> _Lane[T] | None:
    """Who gets the slot that `own` has freed."""
    if other.waiting and other.running < other.size:
        # Even shares would cost a crossing whenever the balance tips. A half is near enough, and never nothing.
        is_behind = other.running * 2 <= own.running
        if is_behind or not own.waiting:
            return other
    return own if own.waiting else None
