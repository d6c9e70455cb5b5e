"""Functions that time starts: on time, one run at a time, on one host of a hub, and what was missed is made up for."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, cast

from perdure.core.records import ScheduleStatus
from perdure.engine.engine import Engine
from perdure.engine.schedules import Pause
from perdure.engine.settings import Settings
from perdure.errors import HostStoppedError, StoreUnavailableError
from perdure.host.invoke import LocalExecutor
from perdure.stores.memory import MemoryStore
from perdure.testing.loop import VIRTUAL_EPOCH, SimLoop, VirtualClock

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
Test = Callable[..., Coroutine[Any, Any, None]]


def virtual(test: Test) -> Callable[..., None]:
    """Has pytest run a coroutine function in virtual time."""

    @functools.wraps(test)
    def run(*args: Any) -> None:
        loop = SimLoop()
        try:
            loop.run_until_complete(test(*args))
        finally:
            loop.close()

    return run


class Job:
    """A function that runs every so often, at whole multiples of its period since the virtual epoch."""

    def __init__(
        self, period: timedelta = 5 * MINUTE, *, monitored: bool = True, on_startup: bool = False, text: str = "often"
    ) -> None:
        self.name = "cleanup"
        self.schedule = text
        self.is_monitored = monitored
        self.runs_on_startup = on_startup
        self.lasts = timedelta()
        self.runs: list[str] = []  # when each began, and what is to be said of it
        self.statuses: list[ScheduleStatus | None] = []
        self.running = self.most = 0
        self._period = period

    def next_after(self, when: datetime) -> datetime | None:
        return VIRTUAL_EPOCH + ((when - VIRTUAL_EPOCH) // self._period + 1) * self._period

    async def run(self, status: ScheduleStatus | None, *, is_past_due: bool, pause: Pause) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        self.runs.append(f"{now():%H:%M:%S}{' past due' if is_past_due else ''}")
        self.statuses.append(status)
        try:
            await asyncio.sleep(self.lasts.total_seconds())
        finally:
            self.running -= 1


class NeverJob(Job):
    def next_after(self, when: datetime) -> datetime | None:
        return None


class Host:
    """An engine with a job, on the store of a hub."""

    def __init__(self, store: Any, job: Job) -> None:
        self.clock = VirtualClock(asyncio.get_running_loop())
        executor = LocalExecutor({}, {}, cast("Any", IdleCode()))
        self.engine = Engine(store, executor, clock=self.clock, settings=Settings(), scheduled=[job])
        self._running = asyncio.ensure_future(self.engine.run())

    async def ready(self) -> Host:
        await self.engine.ready()
        return self

    async def stop(self) -> None:
        """An orderly end."""
        await self.engine.drain(timedelta(seconds=10))
        await self.crash()

    async def crash(self) -> None:
        self._running.cancel()
        await asyncio.wait([self._running])


class IdleCode:
    """There is no user code here."""

    async def drain(self, timeout_s: float) -> None: ...


def now() -> datetime:
    return VIRTUAL_EPOCH + timedelta(seconds=asyncio.get_running_loop().time())


async def until(minutes: float) -> None:
    """Let virtual time go on until so many minutes after it began."""
    await asyncio.sleep(minutes * 60 - asyncio.get_running_loop().time())


class TestOnTime:
    @virtual
    async def test_a_function_runs_each_time_that_its_time_comes(self):
        job = Job()
        host = await Host(MemoryStore(), job).ready()

        await until(16)

        assert job.runs == ["00:05:00", "00:10:00", "00:15:00"]
        await host.stop()

    @virtual
    async def test_it_is_told_when_it_ran_and_runs_next_if_it_is_monitored(self):
        job, store = Job(), MemoryStore()
        host = await Host(store, job).ready()

        await until(11)

        first, second = job.statuses
        assert first is not None
        assert second is not None
        assert (first.last, first.next) == (None, VIRTUAL_EPOCH + 5 * MINUTE)
        assert (second.last, second.next) == (VIRTUAL_EPOCH + 5 * MINUTE, VIRTUAL_EPOCH + 10 * MINUTE)
        (stored,) = await store.schedules()
        assert (stored.last, stored.next) == (VIRTUAL_EPOCH + 10 * MINUTE, VIRTUAL_EPOCH + 15 * MINUTE)
        await host.stop()

    @virtual
    async def test_one_that_is_not_monitored_is_told_nothing_and_leaves_nothing(self):
        job, store = Job(monitored=False), MemoryStore()
        host = await Host(store, job).ready()

        await until(11)

        assert (len(job.runs), job.statuses, list(await store.schedules())) == (2, [None, None], [])
        await host.stop()

    @virtual
    async def test_runs_do_not_overlap_and_what_came_due_meanwhile_is_left_out(self):
        job = Job()
        job.lasts = 7 * MINUTE
        host = await Host(MemoryStore(), job).ready()

        await until(31)

        assert job.runs == ["00:05:00", "00:15:00", "00:25:00"]
        assert job.most == 1
        await host.crash()

    @virtual
    async def test_on_startup_it_runs_at_once_and_then_on_time(self):
        job = Job(on_startup=True)
        host = await Host(MemoryStore(), job).ready()

        await until(6)

        assert job.runs == ["00:00:00", "00:05:00"]
        await host.stop()

    @virtual
    async def test_one_that_never_fires_runs_only_by_hand(self):
        job = NeverJob(on_startup=True)
        host = await Host(MemoryStore(), job).ready()

        await until(60)
        assert job.runs == []
        host.engine.schedules.start("cleanup")
        await until(61)

        assert job.runs == ["01:00:00"]
        await host.stop()
        host.engine.schedules.start("cleanup")
        await until(62)
        assert job.runs == ["01:00:00"]

    @virtual
    async def test_by_hand_it_runs_at_once_or_after_the_run_under_way_and_its_schedule_stays(self):
        job, store = Job(), MemoryStore()
        host = await Host(store, job).ready()
        job.lasts = 2 * MINUTE

        await until(1)
        host.engine.schedules.start("cleanup")
        await until(6)
        host.engine.schedules.start("cleanup")
        await until(10.5)

        assert job.runs == ["00:01:00", "00:05:00", "00:07:00", "00:10:00"]
        assert job.most == 1
        (stored,) = await store.schedules()
        assert stored.last == VIRTUAL_EPOCH + 5 * MINUTE
        await host.crash()


class TestMissed:
    @virtual
    async def test_what_came_due_while_no_host_was_there_is_made_up_for_once(self):
        store, job = MemoryStore(), Job()
        host = await Host(store, job).ready()
        await until(6)
        await host.stop()
        await until(23)

        host = await Host(store, job).ready()
        await until(26)

        assert job.runs == ["00:05:00", "00:23:00 past due", "00:25:00"]
        await host.stop()

    @virtual
    async def test_a_new_function_is_not_past_due_but_one_that_never_came_to_its_first_run_is(self):
        store, job = MemoryStore(), Job()
        host = await Host(store, job).ready()
        await until(1)
        await host.stop()
        await until(6)

        host = await Host(store, job).ready()
        await until(7)

        assert job.runs == ["00:06:00 past due"]
        await host.stop()

    @virtual
    async def test_a_past_due_run_takes_the_place_of_the_one_on_startup(self):
        store, job = MemoryStore(), Job(on_startup=True)
        host = await Host(store, job).ready()
        await until(1)
        await host.stop()
        await until(6)

        host = await Host(store, job).ready()
        await until(7)

        assert job.runs == ["00:00:00", "00:06:00 past due"]
        await host.stop()

    @virtual
    async def test_with_another_schedule_nothing_is_past_due(self):
        store = MemoryStore()
        host = await Host(store, Job()).ready()
        await until(1)
        await host.stop()
        await until(6)

        job = Job(2 * MINUTE, text="more often")
        host = await Host(store, job).ready()
        await until(9)

        assert job.runs == ["00:08:00"]
        await host.stop()

    @virtual
    async def test_without_a_monitor_nothing_is_past_due(self):
        store, job = MemoryStore(), Job(monitored=False)
        host = await Host(store, job).ready()
        await until(1)
        await host.stop()
        await until(6)

        host = await Host(store, job).ready()
        await until(9)

        assert job.runs == []
        await host.stop()

    @virtual
    async def test_a_run_that_a_crash_interrupted_is_made_up_for(self):
        store, job = MemoryStore(), Job()
        host = await Host(store, job).ready()
        job.lasts = 3 * MINUTE
        await until(6)
        await host.crash()

        host = await Host(store, job).ready()
        await until(12)

        first, again, following = job.runs
        assert (first, again[8:], following) == ("00:05:00", " past due", "00:10:00")
        assert "00:06:30" <= again[:8] <= "00:06:40", "the lease of the dead host runs out, and is looked for"
        await host.crash()

    @virtual
    async def test_after_a_sleep_of_the_machine_the_run_is_past_due(self):
        job = Job()
        host = await Host(MemoryStore(), job).ready()
        await until(6)

        host.clock.offset = 14 * MINUTE  # the wall clock has gone on without the process
        await until(7)

        assert [each[8:] for each in job.runs] == ["", " past due"]
        await host.stop()


class TestOnce:
    @virtual
    async def test_of_several_hosts_one_runs_it(self):
        store, jobs = MemoryStore(), [Job() for _ in range(3)]
        hosts = [await Host(store, job).ready() for job in jobs]

        await until(61)

        runs = sorted(run for job in jobs for run in job.runs)
        assert runs == [f"{hour:02}:{minute:02}:00" for hour in (0, 1) for minute in range(0, 60, 5)][1:13]
        for host in hosts:
            await host.stop()

    @virtual
    async def test_after_a_crash_another_host_takes_over(self):
        store, jobs = MemoryStore(), [Job() for _ in range(2)]
        hosts = [await Host(store, job).ready() for job in jobs]
        await until(6)
        (runner,) = [number for number, job in enumerate(jobs) if job.runs]

        await hosts[runner].crash()
        await until(16)

        assert jobs[1 - runner].runs == ["00:10:00", "00:15:00"]
        await hosts[1 - runner].stop()

    @virtual
    async def test_a_host_that_was_suspended_until_it_had_a_successor_does_not_run(self):
        """It wakes up past the time to run, with a lease that it believes to hold."""
        store, job, other = MemoryStore(1), Job(), Job()
        gate = Gate(store)
        host = await Host(gate, job).ready()
        await until(6)
        gate.is_shut = True

        successor = await Host(store, other).ready()
        await until(11)
        gate.is_shut = False
        await until(11.5)

        assert (job.runs, other.runs) == (["00:05:00"], ["00:10:00"])
        await host.crash()
        await successor.stop()

    @virtual
    async def test_a_store_that_fails_for_a_while_costs_a_run_no_more_than_its_time(self):
        store, job = MemoryStore(1), Job()
        gate = Gate(store)
        host = await Host(gate, job).ready()
        await until(4)
        gate.fails = True
        await until(6)
        gate.fails = False
        await until(11)

        assert [job.runs[0][-8:], *job.runs[1:]] == ["past due", "00:10:00"]
        await host.stop()


class TestStop:
    @virtual
    async def test_a_host_that_stops_lets_a_run_finish_and_accounts_for_it(self):
        store, job = MemoryStore(), Job()
        host = await Host(store, job).ready()
        job.lasts = 5 * SECOND
        await until(5.05)

        await host.stop()

        (stored,) = await store.schedules()
        assert (job.running, stored.next) == (0, VIRTUAL_EPOCH + 10 * MINUTE)

    @virtual
    async def test_a_run_that_takes_longer_is_made_up_for_at_the_next_start(self):
        store, job = MemoryStore(), Job()
        host = await Host(store, job).ready()
        job.lasts = 5 * MINUTE
        await until(5.05)

        await host.stop()

        (stored,) = await store.schedules()
        assert stored.next == VIRTUAL_EPOCH + 5 * MINUTE

    @virtual
    async def test_a_pause_between_attempts_ends_when_the_host_stops(self):
        class Retrying(Job):
            ended: BaseException | None = None

            async def run(self, status: ScheduleStatus | None, *, is_past_due: bool, pause: Pause) -> None:
                try:
                    await pause(timedelta(days=1))
                except HostStoppedError as error:
                    self.ended = error
                    raise

        store, job = MemoryStore(), Retrying()
        host = await Host(store, job).ready()
        await until(6)

        before = now()
        await host.stop()

        assert isinstance(job.ended, HostStoppedError)
        assert now() - before < SECOND
        (stored,) = await store.schedules()
        assert stored.next == VIRTUAL_EPOCH + 5 * MINUTE


class Gate:
    """The way from one host to a store. While it is shut, calls wait; while it fails, they raise."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.is_shut = False
        self.fails = False

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._store, name)
        if name == "changed" or not asyncio.iscoroutinefunction(operation):
            return operation

        async def call(*args: Any, **kwargs: Any) -> Any:
            while self.is_shut:
                await asyncio.sleep(1)
            if self.fails:
                raise StoreUnavailableError("not now")
            return await operation(*args, **kwargs)

        return call


@virtual
async def test_a_lease_is_lost_when_the_store_says_so():
    store = MemoryStore(1)
    host = await Host(store, Job()).ready()
    lease = host.engine.held_lease(0)
    assert lease is not None
    assert await host.engine.confirm(lease)

    await store.lease([0], host.engine.host_id, lease.until, lease.until)
    await store.lease([0], "another", now(), now() + timedelta(days=1))

    assert not await host.engine.confirm(lease)
    assert host.engine.held_lease(0) is None
    await host.crash()
