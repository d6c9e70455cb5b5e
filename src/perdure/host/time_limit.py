"""How long the functions of an app may run: `functionTimeout` in host.json.

Rule 1: who runs out of time has failed at once, and once only; a coroutine is cancelled too, a thread cannot be.
Rule 2: nobody runs out of time while a debugger is attached.

Source: the Functions host, which ends the whole worker process instead.
"""

from __future__ import annotations

import asyncio
import bdb
import logging
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from perdure.errors import FunctionTimeoutError

if TYPE_CHECKING:
    from perdure.host.user_code import Call, Invocation

log = logging.getLogger("perdure.host")


class TimeLimit:
    """Fails calls of user functions that take longer than `limit`; may be told of them on any thread.

    Args:
        limit: None for no limit.
        is_debugged: whether somebody is debugging this process now.
    """

    def __init__(self, limit: timedelta | None, is_debugged: Callable[[], bool] | None = None) -> None:
        self.limit_s = None if limit is None else limit.total_seconds()
        self._is_debugged = is_debugged or debugger_is_attached
        self._running: dict[_LimitedCall, float] = {}  # with their deadlines; all have the same limit, so in order
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._watcher: threading.Thread | None = None

    def limited(self, call: Call, *, is_async: bool) -> Call:
        """The call, which will fail if it takes too long from when its function begins."""
        return call if self.limit_s is None else _LimitedCall(self, call, is_async=is_async)

    def stop(self) -> None:
        """Let whatever runs run on."""
        self._stopped.set()

    def began(self, call: _LimitedCall) -> None:
        """A call's function begins now."""
        assert self.limit_s is not None, "without a limit nobody is watched"
        with self._lock:
            self._running[call] = time.monotonic() + self.limit_s
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="perdure-time-limit", daemon=True)
                self._watcher.start()

    def ended(self, call: _LimitedCall) -> bool:
        """A call's function has ended; returns whether that was in time."""
        with self._lock:
            return self._running.pop(call, None) is not None

    def _watch(self) -> None:
        assert self.limit_s is not None, "without a limit nobody is watched"
        wait_s = self.limit_s
        while not self._stopped.wait(wait_s):
            wait_s = self.limit_s  # what begins from now on is not due before
            for call in self._due():
                call.expire()
            with self._lock:
                first = next(iter(self._running.values()), None)
            if first is not None:
                wait_s = max(first - time.monotonic(), 0.0)

    def _due(self) -> list[_LimitedCall]:
        """The calls whose time is up, which are forgotten; while debugging, they begin anew."""
        assert self.limit_s is not None, "without a limit nobody is watched"
        now = time.monotonic()
        with self._lock:
            due = [call for call, _ in takewhile(lambda each: each[1] <= now, self._running.items())]
            is_debugged = bool(due) and self._is_debugged()
            for call in due:
                del self._running[call]
                if is_debugged:
                    self._running[call] = now + self.limit_s
        return [] if is_debugged else due


class _LimitedCall:
    """A call whose outcome is told once: its own, or that it has taken too long."""

    __slots__ = ("_call", "_has_begun", "_is_async", "_limit", "_loop", "_scope")

    def __init__(self, limit: TimeLimit, call: Call, *, is_async: bool) -> None:
        self._limit = limit
        self._call = call
        self._is_async = is_async
        self._has_begun = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scope: asyncio.Timeout | None = None

    @property
    def function(self) -> Callable[..., Any]:
        return self._cancellable if self._is_async else self._call.function

    @property
    def invocation(self) -> Invocation:
        return self._call.invocation

    def arguments(self) -> dict[str, Any]:
        self._has_begun = True
        self._limit.began(self)
        return self._call.arguments()

    def done(self, value: Any, error: BaseException | None) -> None:
        if self._limit.ended(self) or not self._has_begun:  # the host may stop before it begins
            self._call.done(value, error)

    def expire(self) -> None:
        """Its time is up, and nobody else says so."""
        invocation = self._call.invocation
        assert self._limit.limit_s is not None, "without a limit nobody is watched"
        error = FunctionTimeoutError(invocation.function, timedelta(seconds=self._limit.limit_s))
        log.warning(
            "function takes longer than functionTimeout allows; its invocation has failed",
            extra={"function": invocation.function, "instance_id": invocation.instance_id},
        )
        self._call.done(None, error)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._cancel)

    async def _cancellable(self, **arguments: Any) -> Any:
        self._loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as self._scope:
            try:
                return await self._call.function(**arguments)
            finally:
                self._loop = None  # it has ended, whichever way

    def _cancel(self) -> None:
        if self._loop is not None and self._scope is not None:
            self._scope.reschedule(self._loop.time())


def debugger_is_attached() -> bool:
    """Whether somebody debugs this process: with debugpy, PyCharm, a tool of `sys.monitoring`, or pdb right now."""
    debugpy: Any = sys.modules.get("debugpy")
    if debugpy is not None:
        return bool(debugpy.is_client_connected())
    if "pydevd" in sys.modules:
        return True
    monitoring: Any = getattr(sys, "monitoring", None)  # from Python 3.12 on
    if monitoring is not None and monitoring.get_tool(monitoring.DEBUGGER_ID) is not None:
        return True
    return any(_is_in_debugger(frame) for frame in sys._current_frames().values())  # pyright: ignore[reportPrivateUsage] - documented, only named so


def _is_in_debugger(frame: Any) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == bdb.__file__:
            return True
        frame = frame.f_back
    return False
