"""An event loop whose time is virtual: waiting costs nothing, and what runs next is chosen by a seed.

Unmodified asyncio code runs on it. It has no sockets, no processes and no threads, so a run depends on nothing but the
seed and the code: the same seed, the same run, on any machine.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from random import Random
from typing import Any

# Where virtual clocks begin: far from any real time, so that one that slips into a virtual run strikes the eye.
VIRTUAL_EPOCH = datetime(2050, 1, 1, tzinfo=UTC)


class StandstillError(RuntimeError):
    """Raised by the loop if nothing can run any more: every task waits for something that nobody will do."""


class SimLoop(asyncio.BaseEventLoop):
    """An asyncio loop with virtual time.

    Invariants: time moves only when nothing is ready to run, and then to the next timer; everything runs on the thread
    that runs the loop.

    Args:
        seed: chooses among what is ready; None keeps asyncio's own order, first come, first served.
        disorder: how often the seed chooses and not the order of arrival, from 0 to 1.
    """

    def __init__(self, seed: int | str | None = None, *, disorder: float = 1.0) -> None:
        super().__init__()
        self._now = 0.0
        self._choice = None if seed is None else Random(seed)
        self._disorder = disorder
        self._turns: deque[asyncio.Handle] = deque()
        self._alarms: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._alarm_count = 0

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    # ------------------------------------------------------------------ scheduling

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:
        if self.is_closed():
            raise RuntimeError("Event loop is closed")
        handle = asyncio.Handle(callback, args, self, context)
        self._turns.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """The same as `call_soon`: there are no other threads."""
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        if self.is_closed():
            raise RuntimeError("Event loop is closed")
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._alarm_count += 1
        heappush(self._alarms, (when, self._alarm_count, handle))
        return handle

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Call `func` here and now."""
        future: asyncio.Future[Any] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # whatever it raised belongs to whoever awaits the future
            future.set_exception(error)
        return future

    # ------------------------------------------------------------------ running

    def _run_once(self) -> None:
        """One turn of `run_forever`: run one thing that is ready, or let time pass until one is."""
        self._ring()
        while not self._turns:
            self._pass_time()
            self._ring()
        handle = self._take()
        if handle is not None and not handle.cancelled():
            handle._run()

    def _take(self) -> asyncio.Handle | None:
        """What runs next, which is then no longer waiting; None if its turn is to pass."""
        turns = self._turns
        choice = self._choice
        if choice is not None and len(turns) > 1 and choice.random() < self._disorder:
            number = int(choice.random() * len(turns))
            handle = turns[number]
            del turns[number]
            return handle
        return turns.popleft()

    def _ring(self) -> None:
        """Make ready what is due."""
        alarms = self._alarms
        while alarms and alarms[0][0] <= self._now:
            _, _, handle = heappop(alarms)
            if not handle.cancelled():
                self._turns.append(handle)

    def _pass_time(self) -> None:
        alarms = self._alarms
        while alarms and alarms[0][2].cancelled():
            heappop(alarms)
        if not alarms:
            raise StandstillError("nothing is left to run: every task waits for something that nobody will do")
        self._now = max(self._now, alarms[0][0])

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Told by a timer that is cancelled; it is passed over when its time comes."""

    def close(self) -> None:
        super().close()
        self._turns.clear()
        self._alarms.clear()


class VirtualClock:
    """A wall clock that runs with a virtual loop, and can be wrong.

    Attributes:
        offset: how far it is ahead of the loop's time; change it to set the clock.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, offset: timedelta = timedelta()) -> None:
        self._loop = loop
        self.offset = offset

    def now(self) -> datetime:
        return VIRTUAL_EPOCH + timedelta(seconds=self._loop.time()) + self.offset
