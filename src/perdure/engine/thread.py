"""An engine on a thread of its own, with its store: what a host or a bench starts and stops."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta

from perdure.engine.client import TaskHubClient
from perdure.engine.clock import Clock
from perdure.engine.engine import Engine, Observe
from perdure.engine.executor import Executor
from perdure.engine.schedules import ScheduledFunction
from perdure.engine.settings import Settings
from perdure.engine.store import Store

log = logging.getLogger("perdure.engine")

# Thousands of parked instances are long-lived objects that the collector would visit again and again: with the default
# of 700 new objects between collections they cost a quarter of all time at ten thousand instances (docs/decisions).
COLLECT_AFTER_OBJECTS = 50_000

# Beyond the drain, the loop only has to turn a few times; an orchestrator that blocks it is not waited for.
ENDS_WITHIN_S = 5.0


class EngineThread:
    """Opens a store, runs an engine on it, and ends both in order.

    User code that blocks the host's own loop, or HTTP requests in masses, do not hold up leases and commits here.

    Args:
        scheduled: functions that time starts.
        stopped: called on the engine's thread if the engine ends by itself, which only a defect can make it do.
    """

    def __init__(
        self,
        store: Store,
        executor: Executor | None = None,
        clock: Clock | None = None,
        settings: Settings | None = None,
        observe: Observe | None = None,
        stopped: Callable[[BaseException], None] | None = None,
        scheduled: Sequence[ScheduledFunction] = (),
    ) -> None:
        self._stopped = stopped
        self.store = store
        self.engine = Engine(store, executor, clock=clock, settings=settings, observe=observe, scheduled=scheduled)
        self.client = TaskHubClient(self.engine)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="perdure-engine", daemon=True)
        self._is_ready = threading.Event()
        self._error: BaseException | None = None
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Return once the store is open and the first partitions are held.

        Raises:
            StoreRefusedError: the store cannot be used.
        """
        gc.set_threshold(max(COLLECT_AFTER_OBJECTS, gc.get_threshold()[0]), *gc.get_threshold()[1:])
        self._thread.start()
        self._is_ready.wait()
        if self._error is not None:
            raise self._error

    def stop(self, drain_s: float = 0.0) -> None:
        """Let running activities finish for at most `drain_s` seconds, then end engine and store."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop, drain_s)
        self._thread.join(drain_s + ENDS_WITHIN_S)
        if self._thread.is_alive():
            log.error("engine does not end: an orchestrator blocks its thread; what it had not committed runs again")

    @property
    def is_alive(self) -> bool:
        """The engine runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._life())
        except BaseException as error:  # the third place: what stops the engine stops the host, which is told why
            is_late = self._is_ready.is_set()
            self._error = error
            if is_late:
                log.critical("engine stopped", exc_info=error)
                if self._stopped is not None:
                    self._stopped(error)
        finally:
            self._is_ready.set()

    async def _life(self) -> None:
        await self.store.open()
        try:
            self._running = asyncio.create_task(self.engine.run())
            ready = asyncio.create_task(self.engine.ready())
            await asyncio.wait([self._running, ready], return_when=asyncio.FIRST_COMPLETED)
            ready.cancel()
            if not self._running.done():
                self._is_ready.set()
            await self._running
        except asyncio.CancelledError:
            pass
        finally:
            await self.store.close()

    def _stop(self, drain_s: float) -> None:
        async def end() -> None:
            if drain_s:
                await self.engine.drain(timedelta(seconds=drain_s))
            if self._running is not None:
                self._running.cancel()

        self._ending = asyncio.ensure_future(end())
