"""How many requests to functions are taken, and how many run: `maxOutstandingRequests`, `maxConcurrentRequests`.

Source: the Functions host's request queue; only requests that some function answers count.
"""

from __future__ import annotations

import asyncio
from types import TracebackType


class RequestQueue:
    """Admits requests up to a number, and lets so many of them run; the others wait for their turn, first come first.

    `if queue.is_full: ...` refuses, `async with queue:` is one request's place and turn. All on one event loop.

    Args:
        outstanding: how many may be here, running and waiting together; None for any number.
        concurrent: how many may run; None for any number.
    """

    def __init__(self, outstanding: int | None = None, concurrent: int | None = None) -> None:
        self._outstanding_max = outstanding
        self._outstanding = 0
        self._turns = None if concurrent is None else asyncio.Semaphore(concurrent)

    @property
    def is_full(self) -> bool:
        """Whether one more is too many."""
        return self._outstanding_max is not None and self._outstanding >= self._outstanding_max

    async def __aenter__(self) -> None:
        self._outstanding += 1
        if self._turns is None:
            return
        try:
            await self._turns.acquire()
        except BaseException:
            self._outstanding -= 1
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._outstanding -= 1
        if self._turns is not None:
            self._turns.release()
