"""The threads that user functions run on: async ones share a loop, sync ones have a pool.

Rule 1: activities share one limit, whichever kind they are; the host's own calls, such as HTTP functions, are not
        counted, because they may be waiting for orchestrations whose activities need a slot.
Rule 2: what runs next on a thread is found on that thread: only what was idle has to be woken.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from datetime import timedelta
from queue import SimpleQueue
from typing import Any, Protocol

from msgspec import Struct

from perdure.engine.crossing import Crossing
from perdure.errors import HostStoppedError
from perdure.host.activity_slots import ActivitySlots
from perdure.host.time_limit import TimeLimit

# Cancelled coroutines end in milliseconds; one that blocks, or will not be cancelled, is not waited for any longer.
LOOP_ENDS_WITHIN_S = 1.0

THREADS_SETTING = "PYTHON_THREADPOOL_THREAD_COUNT"


def thread_count(environ: Mapping[str, str]) -> tuple[int, list[str]]:
    """How many threads sync functions have, and what is wrong with the setting. Source: the Python worker's texts."""
    default = min(32, (os.cpu_count() or 1) + 4)
    text = environ.get(THREADS_SETTING)
    if text is None:
        return default, []
    if not text.removeprefix("-").isdecimal():
        return default, [f"{THREADS_SETTING} must be an integer"]
    if int(text) < 1:
        return default, [
            f"{THREADS_SETTING} must be set to a value between 1 and sys.maxint. "
            "Reverting to default value for max_workers"
        ]
    return int(text), []


class Invocation(Struct, frozen=True):
    """Whose call the current code is: shown with everything that it prints or logs, unless it is replaying."""

    function: str
    instance_id: str | None = None
    is_replaying: bool = False


current_invocation: ContextVar[Invocation | None] = ContextVar("current_invocation", default=None)


class UserCodeExit(Exception):
    """Raised by `UserCode.call` if the function raised SystemExit or the like: it fails its call, not the host."""


class Call(Protocol):
    """One call of a user function. All of it happens where the function runs: `arguments`, the call, then `done`."""

    @property
    def function(self) -> Callable[..., Any]:
        """What to call."""
        ...

    @property
    def invocation(self) -> Invocation:
        """Whose call it is."""
        ...

    def arguments(self) -> dict[str, Any]:
        """With what to call it; what this raises counts as raised by the function."""
        ...

    def done(self, value: Any, error: BaseException | None) -> None:
        """How it ended."""
        ...


class _HostCall:
    """A call that some event loop of the host waits for."""

    __slots__ = ("_future", "_kwargs", "_loop", "function", "invocation")

    def __init__(
        self, function: Callable[..., Any], kwargs: dict[str, Any], invocation: Invocation,
        loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any],
    ) -> None:  # fmt: skip
        self.function = function
        self.invocation = invocation
        self._kwargs = kwargs
        self._loop = loop
        self._future = future

    def arguments(self) -> dict[str, Any]:
        return self._kwargs

    def done(self, value: Any, error: BaseException | None) -> None:
        if not self._loop.is_closed():  # nobody waits any longer
            self._loop.call_soon_threadsafe(_settle, self._future, value, error)


class UserCode:
    """The user's event loop and the threads for sync functions.

    Args:
        threads: how many activities that are sync functions run at the same time, and how many of the host's calls.
        concurrency: how many activities run at the same time, sync and async ones together.
        time_limit: how long an activity or a call of the host may take, or None for ever.
    """

    def __init__(self, *, threads: int, concurrency: int, time_limit: timedelta | None = None) -> None:
        self._limit = TimeLimit(time_limit)
        self._loop = asyncio.new_event_loop()
        self._loop_thread = threading.Thread(target=self._run_loop, name="perdure-user-loop", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._async_activities: Crossing[Call] = Crossing(self._loop, self._begin_activities)
        self._async_host_calls: Crossing[Call] = Crossing(self._loop, self._begin_host_calls)
        self._sync_activities: SimpleQueue[Call | None] = SimpleQueue()
        self._sync_host_calls: SimpleQueue[Call | None] = SimpleQueue()
        self._activity_threads = _threads(min(threads, concurrency), self._run_activities, "perdure-activity")
        self._host_threads = _threads(threads, self._run_host_calls, "perdure-function")
        self._slots: ActivitySlots[Call] = ActivitySlots(
            concurrency,
            threads=len(self._activity_threads),
            begin_async=self._async_activities.put,
            begin_sync=self._sync_activities.put,
        )
        self._is_draining = False

    def start(self) -> None:
        """Start the threads."""
        self._loop_thread.start()
        for thread in (*self._activity_threads, *self._host_threads):
            thread.start()

    def stop(self) -> None:
        """End the loop and the idle threads; a function that will not end is left to end with the process."""
        self._limit.stop()
        if not self._loop_thread.is_alive():
            return
        for _ in self._activity_threads:
            self._sync_activities.put(None)
        for _ in self._host_threads:
            self._sync_host_calls.put(None)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._loop_thread.join(LOOP_ENDS_WITHIN_S)

    async def drain(self, timeout_s: float) -> None:
        """Begin no more activities, and wait for those that run, at most so long."""
        self._is_draining = True
        self._slots.close()
        deadline = time.monotonic() + timeout_s
        while self._slots.running and time.monotonic() < deadline:
            await asyncio.sleep(0.01)

    async def call(self, function: Callable[..., Any], kwargs: dict[str, Any], invocation: Invocation) -> Any:
        """Call a user function for the host, from any event loop, and return what it returns.

        Raises:
            UserCodeExit: the function tried to end the process.
            HostStoppedError: the function is a sync one, and did not begin before the host stopped.
            Exception: whatever it raised.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        waits = is_async(function)
        call = self._limit.limited(_HostCall(function, kwargs, invocation, loop, future), is_async=waits)
        (self._async_host_calls if waits else self._sync_host_calls).put(call)
        return await future

    def run(self, call: Call, *, is_async: bool) -> None:
        """Run an entity's operations: at once, however many activities are running."""
        (self._async_host_calls if is_async else self._sync_host_calls).put(call)

    def submit(self, call: Call, *, is_async: bool) -> None:
        """Run an activity as soon as there is a slot for it."""
        self._slots.submit(self._limit.limited(call, is_async=is_async), is_async=is_async)

    # ------------------------------------------------------------------ the loop

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            tasks = [*self._tasks]
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def _begin_activities(self, calls: Sequence[Call]) -> None:
        for call in calls:
            self._begin(self._run_activity(call))

    def _begin_host_calls(self, calls: Sequence[Call]) -> None:
        for call in calls:
            self._begin(self._run_host_call(call))

    def _begin(self, running: Any) -> None:
        self._tasks.add(self._loop.create_task(running))

    async def _run_activity(self, call: Call) -> None:
        task: Any = asyncio.current_task()
        if not self._is_draining:
            value, error = await _awaited(call)
            if error is not None and task.cancelling():
                return  # the host stops: what was not finished runs again
            call.done(value, error)
        self._tasks.discard(task)
        successor = self._slots.ended(is_async=True)
        if successor is not None:
            self._begin(self._run_activity(successor))

    async def _run_host_call(self, call: Call) -> None:
        call.done(*await _awaited(call))
        task: Any = asyncio.current_task()
        self._tasks.discard(task)

    # ------------------------------------------------------------------ the pool

    def _run_activities(self) -> None:
        while (begun := self._sync_activities.get()) is not None:
            call: Call | None = begun
            while call is not None:
                if not self._is_draining:
                    call.done(*_called(call))
                call = self._slots.ended(is_async=False)

    def _run_host_calls(self) -> None:
        while (call := self._sync_host_calls.get()) is not None:
            if self._is_draining:
                call.done(None, HostStoppedError("the host is stopping"))
            else:
                call.done(*_called(call))


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling the function gives something to await."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _threads(count: int, target: Callable[[], None], name: str) -> list[threading.Thread]:
    return [threading.Thread(target=target, name=f"{name}-{number}", daemon=True) for number in range(count)]


def _called(call: Call) -> tuple[Any, BaseException | None]:
    token = current_invocation.set(call.invocation)
    try:
        return call.function(**call.arguments()), None
    except BaseException as error:
        return None, error
    finally:
        current_invocation.reset(token)


async def _awaited(call: Call) -> tuple[Any, BaseException | None]:
    current_invocation.set(call.invocation)
    try:
        return await call.function(**call.arguments()), None
    except BaseException as error:
        return None, error


def _settle(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    elif isinstance(error, Exception) and not isinstance(error, StopIteration):
        future.set_exception(error)
    else:
        exit_error = UserCodeExit(f"the function raised {type(error).__name__}: {error}")
        exit_error.__cause__ = error
        future.set_exception(exit_error)
