"""Hosts: a machine with a clock of its own, on which one engine after the other runs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextvars import Context
from datetime import datetime, timedelta
from random import Random

from perdure.core.codec import payloads
from perdure.core.failures import FailureDetails
from perdure.core.records import ActivityTask
from perdure.engine.client import TaskHubClient
from perdure.engine.engine import Engine
from perdure.engine.executor import (
    ActivityFinished,
    ActivityResult,
    Completed,
    EntityFinished,
    EntityRequest,
    Failed,
    OrchestratorRequest,
    OrchestratorResult,
    RewindResult,
)
from perdure.engine.settings import Settings
from perdure.engine.store import Store
from perdure.engine.telemetry import Counters
from perdure.host.invoke import LocalExecutor
from perdure.testing.loop import VirtualClock

from .boxes import BOX, operate_all
from .faulty_store import FaultyStore, Weather
from .oracle import HostView, Oracle
from .processes import Process, ProcessLoop
from .programs import ACTIVITY, KILLS, ORCHESTRATOR, activity_result, tree


class HostClock(VirtualClock):
    """A clock that remembers the latest time it has shown."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.latest = super().now()

    def now(self) -> datetime:
        now = super().now()
        self.latest = max(self.latest, now)
        return now

    def __call__(self) -> datetime:
        return self.latest


class World:
    """What activities act on. It gets better: who fails often enough is served in the end.

    Attributes:
        runs: how often the activity of each key has run.
    """

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()

    def run(self, given: str | None) -> ActivityResult:
        """Do what an activity does."""
        wanted = payloads.decode(given)
        self.runs[wanted["key"]] += 1
        if self.runs[wanted["key"]] <= wanted["fails"]:
            return Failed(FailureDetails("ValueError", wanted["key"]))
        return Completed(payloads.encode(activity_result(given)))


class SimExecutor(LocalExecutor):
    """The local executor without threads: activities take virtual time, as long as chance will have it."""

    def __init__(
        self,
        process: Process,
        view: HostView,
        oracle: Oracle,
        loop: ProcessLoop,
        rng: Random,
        lease_s: float,
        world: World,
        die: Callable[[], None],
    ):
        # No user code runs outside the loop.
        super().__init__({ORCHESTRATOR: tree}, {}, None, entities={BOX: None})  # type: ignore[arg-type,dict-item]
        self._process = process
        self._view = view
        self._oracle = oracle
        self._loop = loop
        self._rng = rng
        self._world = world
        self._die = die
        self._durations = (0.0, 0.0, 0.01, 0.05, 0.5, 0.5, 2.0, lease_s * 0.9, lease_s * 1.3)
        self.open = 0
        self.open_batches = 0

    def _watch(self, thread_id: int) -> None:
        """Nothing blocks here but by a defect of the simulator."""

    @property
    def session_ids(self) -> frozenset[str]:
        """Instances with a live cursor."""
        return frozenset(self._sessions)

    def orchestrate(self, request: OrchestratorRequest) -> OrchestratorResult:
        self._view.taken_in[request.execution_id] = tuple(request.new)
        self._oracle.reads(self._view.name, request.instance_id, request.execution_id, request.new)
        return super().orchestrate(request)

    def rewind(self, request: OrchestratorRequest) -> RewindResult:
        result = super().rewind(request)
        self._view.taken_in[request.execution_id] = (*result.kept, *request.new)
        return result

    def start_activity(self, task: ActivityTask, finished: ActivityFinished) -> None:
        assert task.name == ACTIVITY
        self._oracle.activity_begins(self._view.name, task)
        self.open += 1
        delay = self._rng.choice(self._durations) * self._rng.random()
        self._loop.call(self._process, delay, self._end, task, finished)

    def _end(self, task: ActivityTask, finished: ActivityFinished) -> None:
        if payloads.decode(task.input)["fails"] == KILLS:
            self._die()
            return
        result = self._world.run(task.input)
        self._oracle.activity_ends(task, result)
        self.open -= 1
        finished(task, result)

    def start_entity(self, request: EntityRequest, finished: EntityFinished) -> None:
        self._oracle.note(f"{self._view.name} begins {len(request.operations)} operations of {request.instance_id}")
        self._oracle.counts["batch of several"] += len(request.operations) > 1
        self.open_batches += 1
        delay = self._rng.choice(self._durations) * self._rng.random()
        box = self._oracle.box(request.instance_id)
        box.batches_s = (box.batches_s[1], delay)
        self._loop.call(self._process, delay, self._end_batch, request, finished)

    def _end_batch(self, request: EntityRequest, finished: EntityFinished) -> None:
        self.open_batches -= 1
        finished(request, operate_all(request.state, request.operations))

    async def drain(self, timeout_s: float) -> None:
        async with asyncio.timeout(timeout_s):
            while self.open or self.open_batches:
                await asyncio.sleep(0.05)


class Host:
    """One machine.

    Attributes:
        engine, client, process: of the running incarnation, or of the last one.
        counters: of all incarnations.
        settings, newer: of the next incarnation, and of some later one.
        died: called when it was killed by what it ran.
    """

    def __init__(
        self, name: str, store: Store, oracle: Oracle, loop: ProcessLoop, settings: Settings, rng: Random, world: World
    ) -> None:
        self.name = name
        self.clock = HostClock(loop)
        self.weather = Weather()
        self.boots = 0
        self.process: Process | None = None
        self.counters: list[Counters] = []
        self._store = store
        self._oracle = oracle
        self._loop = loop
        self._world = world
        self._rng = rng
        self.settings = self.newer = settings
        self.died: Callable[[Host], None] = Host.boot

    @property
    def is_up(self) -> bool:
        """It runs, perhaps stopped."""
        return self.process is not None and self.process.is_alive

    def boot(self) -> None:
        """Start a new incarnation."""
        assert not self.is_up
        self.boots += 1
        process = self.process = Process(f"{self.name}#{self.boots}")
        if self._rng.random() < 0.5:
            self.settings = self.newer
        view = HostView(process.name, self.clock, {}, self.settings.versioning.default)
        rng = Random(self._rng.random())
        store = FaultyStore(self._store, view, self._oracle, self.weather, self._loop, rng)
        self.executor = SimExecutor(
            process,
            view,
            self._oracle,
            self._loop,
            rng,
            self.settings.lease_ttl.total_seconds(),
            self._world,
            self._die,
        )
        ids = Random(self._rng.random())
        self.engine = Engine(
            store,
            self.executor,
            clock=self.clock,
            settings=self.settings,
            new_id=lambda: f"{ids.getrandbits(128):032x}",
        )
        self.counters.append(self.engine.counters)
        self.client = TaskHubClient(self.engine)
        self._loop.start(process, self.engine.run()).add_done_callback(self._watch_end(process.name))

    def _watch_end(self, name: str) -> Callable[[asyncio.Task[None]], None]:
        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled():
                self._oracle.find("Q", f"the engine of {name} ended: {task.exception()!r}")

        return ended

    def _die(self) -> None:
        def die(process: Process | None) -> None:
            if self.process is process:
                self.crash()
                self.died(self)

        self._loop.call_soon(die, self.process, context=Context())

    def crash(self) -> None:
        """End it where it stands. Called from a plain callback."""
        if self.process is not None and self.process.is_alive:
            is_inside = any(box.lock is not None for box in self._oracle.boxes.values())
            self._oracle.counts["crashed under a lock"] += is_inside
            self._loop.kill_process(self.process)

    def shut_down(self, timeout: timedelta) -> None:
        """End it in good order, and at once if that takes longer than the timeout."""
        process = self.process
        if process is None or not process.is_alive:
            return

        async def drain() -> None:
            await self.engine.drain(timeout)
            self._loop.call_soon(self._loop.kill_process, process)

        self._loop.start(process, drain())
