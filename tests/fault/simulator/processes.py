"""Processes on one virtual loop: each can be stopped like with SIGSTOP, and killed like with SIGKILL.

Everything that runs belongs to the process whose context it was scheduled from. A stopped process does not get its
turns; a killed one gets none ever again, except that its tasks are unwound at once, with nobody looking.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any

from perdure.testing.loop import SimLoop


class Process:
    """Somebody who runs, and may be stopped or killed. Once dead, for ever dead: a restart is another process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_alive = True
        self.is_stopped = False
        self.tasks: list[asyncio.Task[Any]] = []
        self.held_back: list[asyncio.Handle] = []
        self.context: Context = copy_context()
        self.context.run(current_process.set, self)


current_process: ContextVar[Process | None] = ContextVar("current_process", default=None)


class ProcessLoop(SimLoop):
    """A virtual loop that knows which process each turn belongs to."""

    def __init__(self, seed: str, *, disorder: float) -> None:
        super().__init__(seed, disorder=disorder)
        self.turns_taken = 0
        self.complaints: list[str] = []
        self._unwinding: Process | None = None
        self.set_exception_handler(self._complain)

    def start(self, process: Process, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine as part of a process."""
        return self.create_task(work, context=process.context.copy())

    def call(self, process: Process, delay: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        """Call something later as part of a process."""
        return self.call_later(delay, callback, *args, context=process.context)

    def create_task(self, coro: Any, **how: Any) -> asyncio.Task[Any]:
        task = super().create_task(coro, **how)
        context: Context | None = how.get("context")
        process = current_process.get() if context is None else context.get(current_process)
        if process is not None:
            process.tasks.append(task)
            if len(process.tasks) > 500:
                process.tasks = [each for each in process.tasks if not each.done()]
        return task

    def _take(self) -> asyncio.Handle | None:
        handle = super()._take()
        if handle is None:
            return None
        process: Process | None = handle._context.get(current_process)
        if process is not None:
            if not process.is_alive:
                return None
            if process.is_stopped:
                process.held_back.append(handle)
                return None
        self.turns_taken += 1
        return handle

    def stop_process(self, process: Process) -> None:
        """Give it no more turns until `resume_process`; time passes it by."""
        process.is_stopped = True

    def resume_process(self, process: Process) -> None:
        """Let it go on where it was."""
        process.is_stopped = False
        self._turns.extend(process.held_back)
        process.held_back = []

    def kill_process(self, process: Process) -> None:
        """End it wherever it is. Not to be called from a task: its own tasks are run to unwind them."""
        assert asyncio.current_task(self) is None, "kill from a plain callback"
        process.is_stopped = False
        turns = self._turns
        self._turns = type(turns)()
        for task in process.tasks:
            task.cancel()
        own = [*process.held_back, *(each for each in turns if each._context.get(current_process) is process)]
        others = [each for each in turns if each._context.get(current_process) is not process]
        process.held_back = []
        waiting = [*own, *self._turns]
        while waiting:
            self._turns.clear()
            for handle in waiting:
                if handle._context.get(current_process) is not process:
                    others.append(handle)
                elif not handle.cancelled():
                    handle._run()
            waiting = list(self._turns)
        process.is_alive = False
        process.tasks.clear()
        self._turns.clear()
        self._turns.extend(others)

    def _complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.complaints.append(f"{context.get('message')}: {error!r}")
