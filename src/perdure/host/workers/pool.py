"""The worker processes that activities run in: who runs what, and what becomes of those that die.

Rule 1: a worker has been given just what it is running: what waits does so in the host, where no crash takes it along.
Rule 2: a worker that dies is replaced, and what it was running is handed back as interrupted. The engine counts such
        activities and begins them again, so that one which kills its workers comes to an end.
Rule 3: what dies over and over without having run anything is started ever less often.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, assert_never

from perdure.core.records import ActivityTask
from perdure.engine.executor import ActivityFinished, Completed, Failed, Interrupted
from perdure.engine.requests import Request, Unwatch, Watch
from perdure.errors import AppError, PerdureError
from perdure.host.activity_slots import ActivitySlots
from perdure.host.user_code import Invocation, current_invocation
from perdure.host.workers.frames import (
    Answer,
    Ask,
    Begin,
    BindingText,
    Ended,
    FromWorker,
    Links,
    Logged,
    Printed,
    Ready,
    Refused,
    Setup,
    Stop,
    Unask,
    encode,
    encode_reply,
)
from perdure.host.workers.process import WorkerProcess

log = logging.getLogger("perdure.host")

# What workers have logged, for the host's terminal alone: the app's own handlers have seen it in the worker process.
worker_log = logging.Logger("perdure.worker")

COUNT_SETTING: Final = "FUNCTIONS_WORKER_PROCESS_COUNT"
COUNT_MAX: Final = 10  # the official host's

# A worker that is told to stop cancels its coroutines, and runs what the app registered with `atexit`.
STOPS_WITHIN_S: Final = 2.0

# Waits before a worker is started again that has died without running anything, from the second time on.
RESTART_AFTER_S: Final = (1.0, 2.0, 5.0, 10.0, 30.0)

_NAMED_MAX: Final = 10  # activities named in the report of a death


def worker_count(environ: Mapping[str, str]) -> tuple[int, list[str]]:
    """How many worker processes the settings ask for, and what is wrong with that; 1 is for none beside the host."""
    text = environ.get(COUNT_SETTING, "").strip()
    if not text:
        return 1, []
    asked = int(text) if text.removeprefix("-").isdecimal() else 1
    count = min(max(asked, 1), COUNT_MAX)
    if str(count) == text:
        return count, []
    return count, [f"{COUNT_SETTING} is '{text}', but must be a number from 1 to {COUNT_MAX}; it counts as {count}"]


class ClientSide(Protocol):
    """What the durable clients of a worker process need of the host; called on any thread."""

    def submit(self, request: Request) -> None:
        """Have the engine answer."""
        ...

    def links(self, instance_id: str) -> dict[str, str]:
        """The management URLs of an instance."""
        ...

    def binding_text(self) -> str:
        """The JSON text of a client binding."""
        ...


class _Call:
    """An activity that the engine waits for."""

    __slots__ = ("finished", "frame", "invocation", "is_async", "number", "task")

    def __init__(self, number: int, task: ActivityTask, finished: ActivityFinished, *, is_async: bool) -> None:
        self.number = number
        self.task = task
        self.finished = finished
        self.is_async = is_async
        self.invocation = Invocation(task.name, task.instance_id)
        self.frame = encode(Begin(number, task.name, task.instance_id, task.input))


class _Worker:
    """The place of one worker process and of those that take its place.

    Attributes:
        process: the one that lives, or None.
        is_up: it has loaded the app, and takes activities.
        running: what it has been given, by number.
        sync_running: how much of that are sync functions.
        watches: questions of its clients that may stay without an answer for long.
        barren_deaths: how often in a row it has died without having run anything.
        refusal: why it could not load the app.
        first: done when its first process is up, or has failed.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: WorkerProcess | None = None
        self.is_up = False
        self.running: dict[int, _Call] = {}
        self.sync_running = 0
        self.watches: dict[int, Request] = {}
        self.barren_deaths = 0
        self.refusal: tuple[str, ...] = ()
        self.first: Future[None] = Future()


class Workers:
    """Runs activities in processes of their own.

    Args:
        count: how many processes.
        setup: what they are told first.
        environ: their environment.
        clients: answers what their durable clients ask.
    """

    def __init__(self, count: int, setup: Setup, environ: Mapping[str, str], clients: ClientSide) -> None:
        self._folder = Path(setup.folder)
        self._setup = encode(setup)
        self._environ = environ
        self._clients = clients
        self._threads = min(setup.threads, setup.concurrency)
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._workers = [_Worker(number) for number in range(1, count + 1)]
        self._keepers = [
            threading.Thread(target=self._keep, args=(each,), name=f"perdure-worker-{each.number}", daemon=True)
            for each in self._workers
        ]
        self._slots: ActivitySlots[_Call] = ActivitySlots(
            setup.concurrency, threads=self._threads * count, begin_async=self._place, begin_sync=self._place
        )
        self._unplaced: deque[_Call] = deque()  # they have a slot, but no worker that is up has room
        self._is_draining = False
        self._stopping = threading.Event()

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        """Start the processes, and return at once."""
        for each in self._keepers:
            each.start()

    def wait_until_ready(self) -> None:
        """Return once all have loaded the app.

        Raises:
            AppError: one of them cannot.
        """
        for each in self._workers:
            each.first.result()

    async def drain(self, timeout_s: float) -> None:
        """Begin no more activities, and wait for those that run, at most so long."""
        self._slots.close()
        with self._lock:
            self._is_draining = True
            waiting, self._unplaced = self._unplaced, deque()
        for each in waiting:
            self._slots.ended(is_async=each.is_async)
        deadline = time.monotonic() + timeout_s
        while self._slots.running and time.monotonic() < deadline:
            await asyncio.sleep(0.01)

    def stop(self) -> None:
        """End all processes: what still runs is cancelled, and what will not end is killed."""
        with self._lock:
            self._is_draining = True
            self._stopping.set()
            processes = [each.process for each in self._workers if each.process is not None]
        for process in processes:
            process.send(encode(Stop()))
        self._wait_for_keepers(STOPS_WITHIN_S)
        for process in processes:
            process.kill()
        self._wait_for_keepers(STOPS_WITHIN_S)

    def _wait_for_keepers(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        for keeper in self._keepers:
            if keeper.is_alive():
                keeper.join(max(deadline - time.monotonic(), 0.0))

    # ------------------------------------------------------------------ activities

    def begin(self, task: ActivityTask, finished: ActivityFinished, *, is_async: bool) -> None:
        """Run an activity as soon as there is a slot for it; `finished` is called once, on any thread."""
        self._slots.submit(_Call(next(self._numbers), task, finished, is_async=is_async), is_async=is_async)

    def _place(self, call: _Call) -> None:
        """Give an activity that has a slot to the worker that runs least."""
        with self._lock:
            workers = [each for each in self._workers if each.is_up and self._has_room(each, call)]
            if not workers:
                self._unplaced.append(call)
                return
            worker = min(workers, key=lambda each: len(each.running))
            worker.running[call.number] = call
            worker.sync_running += not call.is_async
            assert worker.process is not None, "a worker that is up has a process"
            worker.process.send(call.frame)

    def _has_room(self, worker: _Worker, call: _Call) -> bool:
        return call.is_async or worker.sync_running < self._threads

    def _place_waiting(self) -> None:
        with self._lock:
            waiting, self._unplaced = self._unplaced, deque()
        for each in waiting:
            self._place(each)

    def _ended(self, worker: _Worker, frame: Ended) -> None:
        with self._lock:
            call = worker.running.pop(frame.number, None)
            if call is None:
                return
            worker.sync_running -= not call.is_async
            worker.barren_deaths = 0
        call.finished(call.task, Completed(frame.result) if frame.failure is None else Failed(frame.failure))
        self._freed(call)

    def _freed(self, call: _Call) -> None:
        """A call has given its slot back."""
        if self._unplaced:
            self._place_waiting()
        successor = self._slots.ended(is_async=call.is_async)
        if successor is not None:
            self._place(successor)

    # ------------------------------------------------------------------ frames

    def _receive(self, worker: _Worker, frame: FromWorker) -> None:
        """Called on the reading thread of the worker's process."""
        match frame:
            case Ended():
                self._ended(worker, frame)
            case Printed():
                self._show(worker, frame)
            case Logged():
                self._log(worker, frame)
            case Ask():
                self._ask(worker, frame)
            case Unask():
                watch = worker.watches.pop(frame.number, None)
                if watch is not None:
                    self._clients.submit(Request(Unwatch(watch), _ignore))
            case Ready():
                with self._lock:
                    worker.is_up = True
                self._place_waiting()
                if not worker.first.done():
                    worker.first.set_result(None)
            case Refused(lines=lines):
                worker.refusal = lines
            case _:
                assert_never(frame)

    def _show(self, worker: _Worker, frame: Printed) -> None:
        with _as_call(worker, frame.number):
            (sys.stderr if frame.is_error else sys.stdout).write(frame.text)

    def _log(self, worker: _Worker, frame: Logged) -> None:
        record = logging.LogRecord(frame.logger, frame.level, "", 0, frame.message, None, None)
        record.__dict__.update(frame.fields)
        if frame.traceback:
            record.exc_text = record.traceback = frame.traceback
        with _as_call(worker, frame.number):
            worker_log.handle(record)

    def _ask(self, worker: _Worker, frame: Ask) -> None:
        process = worker.process
        assert process is not None, "who asks is alive"
        answer = partial(self._answer, worker, process, frame.number)
        try:
            match frame.question:
                case Links(instance_id=instance_id):
                    answer(self._clients.links(instance_id))
                case BindingText():
                    answer(self._clients.binding_text())
                case question:
                    request = Request(question, answer)
                    if isinstance(question, Watch):
                        worker.watches[frame.number] = request
                    self._clients.submit(request)
        except PerdureError as error:  # keys that cannot be read, for instance
            answer(error)

    def _answer(self, worker: _Worker, process: WorkerProcess, number: int, reply: Any) -> None:
        """Called on the engine's thread for what the engine was asked."""
        worker.watches.pop(number, None)
        if isinstance(reply, Exception):
            answer = Answer(number, error=(type(reply).__name__, str(reply)))
        else:
            answer = Answer(number, encode_reply(reply))
        process.send(encode(answer))

    # ------------------------------------------------------------------ death and replacement

    def _keep(self, worker: _Worker) -> None:
        """Have a process in the worker's place until the host stops."""
        while not self._stopping.is_set():
            ended = self._live(worker)
            calls = self._buried(worker)
            if self._stopping.is_set():
                return
            if not worker.first.done():
                worker.first.set_exception(_cannot_start(worker.refusal or (ended,)))
                return
            wait_s = _wait_s(worker.barren_deaths)
            _report(ended, worker, calls, wait_s, is_draining=self._is_draining)
            for call in calls:
                call.finished(call.task, Interrupted())
                self._freed(call)
            self._stopping.wait(wait_s)

    def _live(self, worker: _Worker) -> str:
        """Start a process and wait until it has ended; returns how."""
        worker.refusal = ()
        try:
            process = WorkerProcess(self._folder, self._environ, partial(self._receive, worker))
        except OSError as error:
            return f"the system does not start it: {error}"
        with self._lock:
            worker.process = process
            process.send(encode(Stop()) if self._stopping.is_set() else self._setup)
        return process.wait()

    def _buried(self, worker: _Worker) -> Sequence[_Call]:
        """Forget the worker's process; returns what it was running."""
        with self._lock:
            calls, worker.running = list(worker.running.values()), {}
            watches, worker.watches = list(worker.watches.values()), {}
            worker.barren_deaths = 0 if calls else worker.barren_deaths + 1
            worker.sync_running = 0
            worker.is_up = False
            worker.process = None
        for each in watches:
            self._clients.submit(Request(Unwatch(each), _ignore))
        return calls


class _as_call:
    """While this is entered, what is shown is shown as of that call of a worker's, or as of no call."""

    __slots__ = ("_invocation", "_token")

    def __init__(self, worker: _Worker, number: int) -> None:
        call = worker.running.get(number)
        self._invocation = None if call is None else call.invocation

    def __enter__(self) -> None:
        self._token = current_invocation.set(self._invocation)

    def __exit__(self, *_: object) -> None:
        current_invocation.reset(self._token)


def _wait_s(barren_deaths: int) -> float:
    return 0.0 if barren_deaths < 2 else RESTART_AFTER_S[min(barren_deaths - 2, len(RESTART_AFTER_S) - 1)]


def _report(ended: str, worker: _Worker, calls: Sequence[_Call], wait_s: float, *, is_draining: bool) -> None:
    names = [f"{call.task.name} of {call.task.instance_id}" for call in calls[:_NAMED_MAX]]
    if len(calls) > _NAMED_MAX:
        names.append(f"and {len(calls) - _NAMED_MAX} more")
    if is_draining:
        remedy = "the host is stopping: what was running begins again at its next start"
    else:
        when = f"in {wait_s:.0f} s" if wait_s else "now"
        again = ", and what was running begins again" if calls else ""
        remedy = f"another takes its place {when}{again}"
    reason = {"reason": "\n".join(worker.refusal)} if worker.refusal else {}
    log.error(
        "worker process died",
        extra={
            "worker": worker.number,
            "ended": ended,
            "running": ", ".join(names) or "nothing",
            **reason,
            "remedy": remedy,
        },
    )


def _cannot_start(lines: Sequence[str]) -> AppError:
    return AppError(
        "DF155",
        "A worker process cannot start",
        *lines,
        f"The host itself has loaded the app. See what differs in a second process, or set {COUNT_SETTING}=1.",
    )


def _ignore(reply: Any) -> None:
    """The reply of an operation that has none."""
