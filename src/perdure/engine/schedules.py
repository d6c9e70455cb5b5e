"""Functions that time starts: each is run by the host that holds its partition, one run after the other.

A run is accounted for when it has ended. If the host dies before that, or was not there when a run came due, the next
holder finds a time to run at that is past, and makes up for it with one run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Protocol

from perdure.core.records import Lease, ScheduleStatus, partition_of
from perdure.engine.clock import Clock
from perdure.engine.crossing import Crossing
from perdure.engine.settings import Settings
from perdure.engine.store import Store
from perdure.errors import HostStoppedError, StoreUnavailableError

log = logging.getLogger("perdure.engine")

# A run that begins so late was held up by more than a busy machine: it slept, say.
LATE = timedelta(minutes=1)

Pause = Callable[[timedelta], Awaitable[None]]
"""Waits so long; raises HostStoppedError if the host stops before."""


class ScheduledFunction(Protocol):
    """A function that time starts."""

    @property
    def name(self) -> str:
        """Whose schedule is stored; no two have the same."""
        ...

    @property
    def schedule(self) -> str:
        """What times are computed from; when it changes, what was stored counts no more."""
        ...

    @property
    def is_monitored(self) -> bool:
        """Its schedule is kept in the store."""
        ...

    @property
    def runs_on_startup(self) -> bool:
        """It also runs when the host has started."""
        ...

    def next_after(self, when: datetime) -> datetime | None:
        """The next time to run at, or None if there never is one."""
        ...

    async def run(self, status: ScheduleStatus | None, *, is_past_due: bool, pause: Pause) -> None:
        """Run it, retries included. That it fails is its own affair.

        Raises:
            HostStoppedError: it did not get to its end.
        """
        ...


class Leases(Protocol):
    """The engine, as far as schedules need it."""

    def held_lease(self, partition: int) -> Lease | None:
        """The lease of a partition whose work is done here, as far as this host knows."""
        ...

    async def confirm(self, lease: Lease) -> bool:
        """Whether the store knows this host as the holder; a host that was suspended may not be it any longer."""
        ...


class Schedules:
    """Runs scheduled functions when their time comes.

    Invariants: one run of a function at a time, those asked for by hand included; whoever begins a run on time has made
    sure of the lease; what is stored is written under a lease that is held.
    """

    def __init__(
        self, functions: Sequence[ScheduledFunction], store: Store, clock: Clock, leases: Leases, settings: Settings
    ) -> None:
        self._functions = {each.name: each for each in functions}
        self._store = store
        self._clock = clock
        self._leases = leases
        self._settings = settings
        self._locks = {name: asyncio.Lock() for name in self._functions}
        self._stopping = asyncio.Event()
        self._asked: Crossing[str] | None = None
        self._group = asyncio.TaskGroup()

    def __bool__(self) -> bool:
        """Whether there is anything to run."""
        return bool(self._functions)

    async def run(self) -> None:
        """Run until cancelled. The first leases are held by now."""
        self._asked = Crossing(asyncio.get_running_loop(), self._begin_by_hand)
        async with self._group:
            for function in self._functions.values():
                self._group.create_task(self._keep(function))
            await self._stopping.wait()  # a function that never fires can still be run by hand

    def start(self, name: str) -> None:
        """Have a function run once, now or after the run that is under way; may be called from any thread.

        Raises:
            KeyError: there is no function of that name.
        """
        self._functions[name]
        if self._asked is not None:
            self._asked.put(name)

    async def drain(self) -> None:
        """Begin nothing more, and return when no function runs."""
        self._stopping.set()
        for lock in self._locks.values():
            async with lock:
                pass

    def _begin_by_hand(self, names: Sequence[str]) -> None:
        for name in names if not self._stopping.is_set() else ():
            self._group.create_task(self._run_by_hand(self._functions[name]))

    async def _run_by_hand(self, function: ScheduledFunction) -> None:
        with suppress(HostStoppedError):
            async with self._locks[function.name]:
                await self._run(function, None, is_past_due=False)

    # ------------------------------------------------------------------ one function

    async def _keep(self, function: ScheduledFunction) -> None:
        starts_up = function.runs_on_startup
        with suppress(HostStoppedError):
            while True:
                try:
                    lease = await self._next_lease(function)
                    status = await self._status(function, lease)
                    if status is None:
                        log.warning("schedule never fires", extra={"function": function.name})
                        return
                    is_past_due = self._clock.now() > status.next
                    if starts_up or is_past_due:
                        starts_up = False
                        await self._run_and_save(function, lease, status, is_past_due=is_past_due)
                    else:
                        await self._follow(function, lease, status)
                except StoreUnavailableError as error:
                    log.warning("schedule not kept", extra={"function": function.name, "reason": str(error)})
                    await self._pause(self._settings.poll_interval)

    async def _follow(self, function: ScheduledFunction, lease: Lease, status: ScheduleStatus | None) -> None:
        """Run the function each time that its time comes, until the lease is lost or the schedule ends."""
        while status is not None:
            while (wait := status.next - self._clock.now()) > timedelta():
                # Never longer than a poll: the wall clock may be set while the loop's time runs on.
                await self._pause(min(wait, self._settings.poll_interval))
                if self._held(function) is not lease:
                    return
            is_past_due = function.is_monitored and self._clock.now() - status.next > LATE
            status = await self._run_and_save(function, lease, status, is_past_due=is_past_due)

    async def _run_and_save(
        self, function: ScheduledFunction, lease: Lease, status: ScheduleStatus, *, is_past_due: bool
    ) -> ScheduleStatus | None:
        """Run the function if the lease is held, and say when it runs next; None if that is to be found out anew."""
        async with self._locks[function.name]:
            if not await self._leases.confirm(lease):
                return None
            began = self._clock.now()
            await self._run(function, status if function.is_monitored else None, is_past_due=is_past_due)
            ended = max(began, self._clock.now())  # a clock that was set back must not bring the same time again
            following = function.next_after(ended)
            if following is None:
                return None
            after = ScheduleStatus(function.name, function.schedule, began, following, ended)
            if not function.is_monitored:
                return after
            # It ran for long, perhaps: the lease may be another one of this host's by now.
            held = self._held(function)
            if held is None or not await self._store.save_schedule(held, after):
                log.warning("lease lost while a timer function ran", extra={"function": function.name})
                return None
            return after if held is lease else None

    async def _run(self, function: ScheduledFunction, status: ScheduleStatus | None, *, is_past_due: bool) -> None:
        if self._stopping.is_set():
            raise HostStoppedError("the host is stopping")
        await function.run(status, is_past_due=is_past_due, pause=self._pause)

    async def _status(self, function: ScheduledFunction, lease: Lease) -> ScheduleStatus | None:
        """What was stored for the schedule as it is now, or the beginning of one; None if it never fires."""
        if function.is_monitored:
            stored = {each.name: each for each in await self._store.schedules()}.get(function.name)
            if stored is not None and stored.schedule == function.schedule:
                return stored
        now = self._clock.now()
        following = function.next_after(now)
        if following is None:
            return None
        status = ScheduleStatus(function.name, function.schedule, None, following, now)
        if function.is_monitored:
            await self._store.save_schedule(lease, status)
        return status

    async def _next_lease(self, function: ScheduledFunction) -> Lease:
        """The lease under which the function runs here; returns when this host has it."""
        while (lease := self._held(function)) is None:
            await self._pause(self._settings.poll_interval)
        return lease

    def _held(self, function: ScheduledFunction) -> Lease | None:
        return self._leases.held_lease(partition_of(f"schedule {function.name}", self._store.partitions))

    async def _pause(self, length: timedelta) -> None:
        try:
            async with asyncio.timeout(max(length.total_seconds(), 0.0)):
                await self._stopping.wait()
        except TimeoutError:
            return
        raise HostStoppedError("the host is stopping")
