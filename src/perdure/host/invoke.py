"""Calls user functions: orchestrators on the engine's thread, async functions on a loop of theirs, sync ones in a pool.

A sync function that blocks hurts nobody; a coroutine that blocks hurts other coroutines; an orchestrator that blocks is
reported with its stack after a second, and everything else resumes after it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from queue import SimpleQueue
from typing import Any, Protocol

from msgspec import Struct

from perdure.core.actions import CompleteOrchestration
from perdure.core.codec import payloads
from perdure.core.cursor import OrchestrationCursor
from perdure.core.failures import FailureDetails
from perdure.core.records import ActivityTask
from perdure.engine.crossing import Crossing
from perdure.engine.executor import (
    ActivityFinished,
    ActivityResult,
    Completed,
    Failed,
    FunctionNames,
    OrchestratorRequest,
    OrchestratorResult,
)
from perdure.errors import HostStoppedError, NonDeterminismError, UnknownFunctionError

log = logging.getLogger("perdure.host")

# An orchestrator step takes microseconds; one that takes so long is blocking.
BLOCKED_AFTER_S = 1.0


class Invocation(Struct, frozen=True):
    """Whose call the current code is: shown with everything that it prints or logs, unless it is replaying."""

    function: str
    instance_id: str | None = None
    is_replaying: bool = False


current_invocation: ContextVar[Invocation | None] = ContextVar("current_invocation", default=None)


class UserCodeExit(Exception):
    """Raised by `UserCode.call` if the function raised SystemExit or the like: it fails its call, not the host."""


class Activity(Struct, frozen=True):
    """An activity function and the parameter that takes its input."""

    name: str
    function: Callable[..., Any]
    input_name: str


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
        self._loop.call_soon_threadsafe(_settle, self._future, value, error)


class _ActivityCall:
    """A call that the engine waits for."""

    __slots__ = ("_activity", "_finished", "_task")

    def __init__(self, activity: Activity, task: ActivityTask, finished: ActivityFinished) -> None:
        self._activity = activity
        self._task = task
        self._finished = finished

    @property
    def function(self) -> Callable[..., Any]:
        return self._activity.function

    @property
    def invocation(self) -> Invocation:
        return Invocation(self._activity.name, self._task.instance_id)

    def arguments(self) -> dict[str, Any]:
        return {self._activity.input_name: payloads.decode(self._task.input)}

    def done(self, value: Any, error: BaseException | None) -> None:
        self._finished(self._task, _result(self._activity.name, value, error))


class UserCode:
    """The user's event loop and the pool for sync functions; each holds back what exceeds its limit.

    Args:
        threads: size of the pool.
        concurrency: async functions that run at the same time.
    """

    def __init__(self, *, threads: int, concurrency: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop_thread = threading.Thread(target=self._run_loop, name="perdure-user-loop", daemon=True)
        self._async_calls: Crossing[Call] = Crossing(self._loop, self._receive)
        self._waiting: deque[Call] = deque()
        self._concurrency = concurrency
        self._tasks: set[asyncio.Task[None]] = set()
        # The host's own calls, such as HTTP functions, wait for no slot: they may be waiting for orchestrations whose
        # activities need one.
        self._host_calls: Crossing[Call] = Crossing(self._loop, self._begin_host_calls)
        self._host_tasks: set[asyncio.Task[None]] = set()
        self._sync_calls: SimpleQueue[Call | None] = SimpleQueue()
        self._pool = [
            threading.Thread(target=self._work, name=f"perdure-user-{number}", daemon=True) for number in range(threads)
        ]
        self._busy_threads = 0
        self._count = threading.Lock()
        self._is_draining = False

    def start(self) -> None:
        """Start the threads."""
        self._loop_thread.start()
        for thread in self._pool:
            thread.start()

    def stop(self) -> None:
        """End the loop and the idle threads; a sync function that still runs is left to end with the process."""
        if not self._loop_thread.is_alive():
            return
        for _ in self._pool:
            self._sync_calls.put(None)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._loop_thread.join()

    async def drain(self, timeout_s: float) -> None:
        """Begin no more calls, and wait for those that run, at most so long."""
        self._is_draining = True
        deadline = time.monotonic() + timeout_s
        while (self._tasks or self._busy_threads) and time.monotonic() < deadline:
            await asyncio.sleep(0.01)

    async def call(self, function: Callable[..., Any], kwargs: dict[str, Any], invocation: Invocation) -> Any:
        """Call a user function from any event loop and return what it returns.

        Raises:
            UserCodeExit: the function tried to end the process.
            Exception: whatever it raised.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        call = _HostCall(function, kwargs, invocation, loop, future)
        if is_async(function):
            self._host_calls.put(call)
        else:
            self._sync_calls.put(call)
        return await future

    def submit(self, call: Call, *, is_async: bool) -> None:
        """Queue a call for the loop or for the pool."""
        if is_async:
            self._async_calls.put(call)
        else:
            self._sync_calls.put(call)

    # ------------------------------------------------------------------ the loop

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            tasks = [*self._tasks, *self._host_tasks]
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def _receive(self, calls: Any) -> None:
        self._waiting.extend(calls)
        self._begin()

    def _begin(self) -> None:
        while self._waiting and len(self._tasks) < self._concurrency and not self._is_draining:
            self._tasks.add(self._loop.create_task(self._await(self._waiting.popleft())))

    def _begin_host_calls(self, calls: Any) -> None:
        for call in calls:
            self._host_tasks.add(self._loop.create_task(self._await_host_call(call)))

    async def _await_host_call(self, call: Call) -> None:
        current_invocation.set(call.invocation)
        try:
            value, error = await call.function(**call.arguments()), None
        except BaseException as raised:
            value, error = None, raised
        call.done(value, error)
        task: Any = asyncio.current_task()
        self._host_tasks.discard(task)

    async def _await(self, call: Call) -> None:
        current_invocation.set(call.invocation)
        task: Any = asyncio.current_task()
        try:
            value, error = await call.function(**call.arguments()), None
        except BaseException as raised:
            if task.cancelling():
                return  # the host stops: what was not finished runs again
            value, error = None, raised
        call.done(value, error)
        self._tasks.discard(task)
        if self._waiting:
            self._begin()

    # ------------------------------------------------------------------ the pool

    def _work(self) -> None:
        while (call := self._sync_calls.get()) is not None:
            if self._is_draining:
                if isinstance(call, _HostCall):
                    call.done(None, HostStoppedError("the host is stopping"))
                continue
            with self._count:
                self._busy_threads += 1
            token = current_invocation.set(call.invocation)
            try:
                value, error = call.function(**call.arguments()), None
            except BaseException as raised:
                value, error = None, raised
            current_invocation.reset(token)
            call.done(value, error)
            with self._count:
                self._busy_threads -= 1


class LocalExecutor:
    """Runs an app's functions in this process.

    Args:
        orchestrators: by registered name; each takes the cursor and returns a generator, a coroutine or a result.
        activities: by registered name.
    """

    def __init__(
        self,
        orchestrators: Mapping[str, Callable[[OrchestrationCursor], Any]],
        activities: Mapping[str, Activity],
        user_code: UserCode,
    ) -> None:
        self._names = FunctionNames(frozenset(orchestrators), frozenset(activities))
        self._orchestrators = {name.casefold(): function for name, function in orchestrators.items()}
        self._activities = {name.casefold(): activity for name, activity in activities.items()}
        self._async_activities = frozenset(each.name for each in activities.values() if is_async(each.function))
        self._user_code = user_code
        self._sessions: dict[str, OrchestrationCursor] = {}
        self._stepping: tuple[float, str, str] | None = None
        self._watchdog: threading.Thread | None = None

    def functions(self) -> FunctionNames:
        return self._names

    # ------------------------------------------------------------------ orchestrators

    def orchestrate(self, request: OrchestratorRequest) -> OrchestratorResult:
        if self._watchdog is None:
            self._watch(threading.get_ident())
        self._stepping = (time.monotonic(), request.name, request.instance_id)
        token = current_invocation.set(Invocation(request.name, request.instance_id))
        try:
            return self._advance(request)
        finally:
            current_invocation.reset(token)
            self._stepping = None

    def _advance(self, request: OrchestratorRequest) -> OrchestratorResult:
        cursor = self._sessions.get(request.instance_id)
        if request.past is not None:
            if cursor is not None:
                cursor.close()
            function = self._orchestrators.get(request.name.casefold())
            if function is None:
                unknown = UnknownFunctionError(request.name, "orchestrator", sorted(self._names.orchestrators))
                return _failed(unknown)
            cursor = self._sessions[request.instance_id] = OrchestrationCursor(request.instance_id, function, payloads)
            token = current_invocation.set(Invocation(request.name, request.instance_id, is_replaying=True))
            try:
                cursor.replay(request.past)
            except NonDeterminismError as error:
                self.forget(request.instance_id)
                return _failed(error, "NonDeterministicOrchestrationException")
            finally:
                current_invocation.reset(token)
        assert cursor is not None, "the engine asked to go on with a session that it had dropped"
        return OrchestratorResult(cursor.advance(request.new), cursor.custom_status)

    def forget(self, instance_id: str) -> None:
        cursor = self._sessions.pop(instance_id, None)
        if cursor is not None:
            cursor.close()

    def _watch(self, thread_id: int) -> None:
        """Report an orchestrator that blocks the engine's thread, once each time, with its stack."""

        def watch() -> None:
            reported: tuple[float, str, str] | None = None
            while True:
                time.sleep(BLOCKED_AFTER_S / 2)
                stepping = self._stepping
                if stepping is None or stepping is reported or time.monotonic() - stepping[0] < BLOCKED_AFTER_S:
                    continue
                reported = stepping
                frame = sys._current_frames().get(thread_id)  # pyright: ignore[reportPrivateUsage] - documented, only named so
                stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
                log.warning(
                    "orchestrator blocks: nothing else advances until it yields. Move what takes long to an activity "
                    "(DF206)\n%s",
                    stack,
                    extra={"function": stepping[1], "instance_id": stepping[2]},
                )

        self._watchdog = threading.Thread(target=watch, name="perdure-watchdog", daemon=True)
        self._watchdog.start()

    # ------------------------------------------------------------------ activities

    def start_activity(self, task: ActivityTask, finished: ActivityFinished) -> None:
        activity = self._activities.get(task.name.casefold())
        if activity is None:
            unknown = UnknownFunctionError(task.name, "activity", sorted(self._names.activities))
            finished(task, Failed(FailureDetails("ActivityNotFound", str(unknown), is_non_retriable=True)))
            return

        self._user_code.submit(
            _ActivityCall(activity, task, finished), is_async=activity.name in self._async_activities
        )

    async def drain(self, timeout_s: float) -> None:
        await self._user_code.drain(timeout_s)


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling the function gives something to await."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _result(name: str, value: Any, error: BaseException | None) -> ActivityResult:
    if error is not None:
        return Failed(FailureDetails.of(error))
    try:
        return Completed(payloads.encode(value))
    except Exception as unserialisable:  # user data: a value JSON cannot hold, or a to_json that raises
        message = f"Result of activity '{name}' cannot be saved as JSON (DF301): {unserialisable}"
        return Failed(FailureDetails(type(unserialisable).__name__, message, is_non_retriable=True))


def _failed(error: Exception, error_type: str | None = None) -> OrchestratorResult:
    failure = FailureDetails(error_type or type(error).__name__, str(error), is_non_retriable=True)
    return OrchestratorResult([CompleteOrchestration(0, None, failure, str(error))], None)


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
