"""The only loops: leases, mail, episodes, commits, activities, clients.

Nothing leaves a checkpoint before it is durable: `_commit` releases effects, and only after the store has said so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence, Set
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from perdure.core.actions import CompleteOrchestration
from perdure.core.answers import answers_to_rewinds
from perdure.core.entities import BatchResult, Entity, EntityBatch
from perdure.core.episode import Episode
from perdure.core.events import EntityOperation, ExecutionCompleted, HistoryEvent, TaskCompleted, TaskFailed
from perdure.core.failures import FailureDetails
from perdure.core.records import (
    ActivityTask,
    Batch,
    Checkpoint,
    CommitOutcome,
    Instance,
    InstanceQuery,
    Lease,
    Message,
    is_entity_id,
    partition_of,
)
from perdure.core.state import RuntimeState
from perdure.core.versions import VersionFailure
from perdure.engine.balance import balance
from perdure.engine.clients import Clients
from perdure.engine.clock import Clock, SystemClock
from perdure.engine.crossing import Crossing
from perdure.engine.executor import (
    ActivityResult,
    Completed,
    EntityRequest,
    Executor,
    FunctionNames,
    Interrupted,
    OrchestratorRequest,
    RewindResult,
)
from perdure.engine.ids import new_id
from perdure.engine.partition import Partition, Released, Session, WorkItem
from perdure.engine.recovery import Recovery
from perdure.engine.requests import Request
from perdure.engine.schedules import ScheduledFunction, Schedules
from perdure.engine.settings import Settings
from perdure.engine.store import Store
from perdure.engine.telemetry import Counters
from perdure.engine.watches import Watches
from perdure.errors import HostStoppedError, IllegalHistoryError, StoreUnavailableError

log = logging.getLogger("perdure.engine")

Observe = Callable[[Instance], None]
_FinishedBatch = tuple[Partition, Entity, EntityBatch, BatchResult]

# A store that failed is asked again after this, doubling up to the second figure: soon enough after a blip, and no
# storm while it is down.
RETRY_AFTER_S = 0.1
RETRY_AFTER_MAX_S = 1.0


class Engine:
    """Runs a task hub on a store, or, without an executor, only serves clients.

    The store is opened before `run` and closed after it by whoever made it. `submit` may be called from any thread;
    everything else belongs to the loop that `run` runs on.

    Args:
        executor: who runs user code; None for an engine that holds no partitions.
        observe: called on this engine's thread with each committed row that began an instance's life or ended it.
        new_id: makes ids that nobody else makes.
        scheduled: functions that time starts.
    """

    def __init__(
        self,
        store: Store,
        executor: Executor | None = None,
        *,
        clock: Clock | None = None,
        settings: Settings | None = None,
        observe: Observe | None = None,
        new_id: Callable[[], str] = new_id,
        scheduled: Sequence[ScheduledFunction] = (),
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self.new_id = new_id
        self.host_id = new_id()
        self.counters = Counters()
        self._store = store
        self._executor = executor
        self._settings = settings or Settings()
        self._observe = observe
        self._is_versioned = self._settings.versioning.default is not None
        self._partitions: dict[int, Partition] = {}
        self._running: set[str] = set()  # activities handed to the executor that have not finished
        self._spent: dict[int, int] = {}  # last epoch under which a partition was dropped here; it is not used again
        self._watches = Watches(store, self.partition_of, self._settings.watch_interval)
        self._recovery = Recovery(
            store, self._settings, self._start_activities, self._activity_finished, self._is_settled
        )
        self._clients = Clients(store, self.clock, self, self._watches)
        self.schedules = Schedules(scheduled, store, self.clock, self, self._settings)
        self._tasks: set[asyncio.Task[None]] = set()
        self._requests: Crossing[Request] | None = None
        self._results: Crossing[tuple[ActivityTask, ActivityResult]] | None = None
        self._batch_results: Crossing[_FinishedBatch] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due: datetime | None = None
        self._is_draining = False
        self._walking = asyncio.Lock()
        self._lease_now = asyncio.Event()
        self._has_work = asyncio.Event()
        self._has_checkpoints = asyncio.Event()
        self._is_ready = asyncio.Event()
        self._is_idle = asyncio.Event()

    @property
    def settings(self) -> Settings:
        """What this engine was told."""
        return self._settings

    @property
    def runs_code(self) -> bool:
        """There is an executor, so names of functions can be checked."""
        return self._executor is not None

    @property
    def functions(self) -> FunctionNames:
        """What can be run here."""
        return FunctionNames() if self._executor is None else self._executor.functions()

    @property
    def held_partitions(self) -> frozenset[int]:
        """Partitions whose lease this engine believes to hold."""
        return frozenset(self._partitions)

    # ------------------------------------------------------------------ life

    async def run(self) -> None:
        """Run until cancelled; in-memory work is then lost, stored work is not."""
        loop = asyncio.get_running_loop()
        self._requests = Crossing(loop, self._clients.requested)
        self._results = Crossing(loop, self._activities_finished)
        self._batch_results = Crossing(loop, self._batches_finished)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watches.run())
                if self._executor is None:
                    self._is_ready.set()
                else:
                    group.create_task(self._keep_leases())
                    group.create_task(self._receive_mail())
                    group.create_task(self._run_work())
                    group.create_task(self._commit())
                    if self.schedules:
                        group.create_task(self._run_schedules())
        finally:
            self._end()

    async def ready(self) -> None:
        """Return once the first leases are held and their mail has been read."""
        await self._is_ready.wait()

    async def drain(self, timeout: timedelta) -> None:
        """Start nothing new, let running activities finish and everything computed become durable, at most so long.

        Then the leases are given up, so that another host need not wait for them to run out.
        """
        self._is_draining = True
        if self._executor is None:
            return
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                await asyncio.gather(self._executor.drain(timeout.total_seconds()), self.schedules.drain())
                await asyncio.sleep(0)  # the last results have crossed over by the next turn of the loop
                self._running.clear()
                while not self._idle():
                    self._is_idle.clear()
                    await self._is_idle.wait()
        except TimeoutError:
            log.warning("drain ran out of time", extra={"activities": len(self._running)})
        held = list(self._partitions)
        for partition in list(self._partitions.values()):
            self._drop(partition)
        now = self.clock.now()
        try:
            await self._store.lease(held, self.host_id, now, now)
            await self._store.beat(self.host_id, now, now)
        except StoreUnavailableError as error:
            log.warning("leases not given up", extra={"reason": str(error)})

    def submit(self, request: Request) -> None:
        """Ask for an operation; its reply comes on this engine's thread, or at once if the engine has stopped."""
        if self._requests is None:
            request.reply(HostStoppedError("the engine is not running"))
        else:
            self._requests.put(request)

    def _end(self) -> None:
        self._requests = None
        for task in self._tasks:
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        for partition in list(self._partitions.values()):
            self._drop(partition)
        self._clients.stop()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ------------------------------------------------------------------ leases

    async def _keep_leases(self) -> None:
        """Hold the partitions that are ours by `balance`, and no others."""
        retry_after = RETRY_AFTER_S
        while True:
            self._lease_now.clear()
            try:
                await self._renew()
                retry_after = RETRY_AFTER_S
                wait = self._settings.lease_interval.total_seconds()
            except StoreUnavailableError as error:
                log.warning("leases not renewed", extra={"reason": str(error), "retry_s": retry_after})
                wait, retry_after = retry_after, min(retry_after * 2, RETRY_AFTER_MAX_S)
            await _wait(self._lease_now, wait)

    async def _renew(self) -> None:
        if self._is_draining:
            return
        now = self.clock.now()
        until = now + self._settings.lease_ttl
        hosts = await self._store.beat(self.host_id, now, until)
        wanted = balance(self._store.partitions, hosts, self.host_id)
        await self._give_up([each for number, each in self._partitions.items() if number not in wanted])
        leases = await self._lease(wanted)
        epochs = {lease.partition: lease.epoch for lease in leases}
        for number, partition in list(self._partitions.items()):
            if epochs.get(number) != partition.lease.epoch:
                self._drop(partition)
        gained = [each for each in leases if each.partition not in self._partitions and not self._is_spent(each)]
        if gained:
            await self._open(gained)
        self._is_ready.set()

    async def _lease(self, partitions: Collection[int]) -> Sequence[Lease]:
        """Take or extend leases, never under an epoch of old: a commit under way from then could still come through."""
        now = self.clock.now()
        leases = await self._store.lease(partitions, self.host_id, now, now + self._settings.lease_ttl)
        spent = [lease.partition for lease in leases if self._is_spent(lease)]
        if not spent:
            return leases
        now = self.clock.now()
        await self._store.lease(spent, self.host_id, now, now)
        fresh = await self._store.lease(spent, self.host_id, now, now + self._settings.lease_ttl)
        return [*(lease for lease in leases if lease.partition not in spent), *fresh]

    def _is_spent(self, lease: Lease) -> bool:
        return self._spent.get(lease.partition) == lease.epoch

    async def _give_up(self, partitions: Sequence[Partition]) -> None:
        """Let partitions go that are another host's by now."""
        for partition in partitions:
            self._drop(partition)
        if partitions:
            now = self.clock.now()
            await self._store.lease([each.lease.partition for each in partitions], self.host_id, now, now)

    async def _open(self, leases: Sequence[Lease]) -> None:
        """Take partitions over: read all mail of all partitions before running the new ones.

        Why all: a sender that moves here with a new partition may have left mail for an old one that is not read yet;
        what it sends from here is handed over in memory and must not overtake that.
        """
        gained = [Partition(lease) for lease in leases]
        for partition in gained:
            self._partitions[partition.lease.partition] = partition
        try:
            async with self._walking:
                for partition in list(self._partitions.values()):
                    await self._walk(partition)
                for partition in gained:
                    await self._wake(partition, unstarted_only=False)
        except BaseException:
            for partition in gained:
                self._drop(partition)
            raise
        for partition in gained:
            if not partition.is_dropped:
                partition.opened(self.clock.now())
                log.info("lease taken", extra={"partition": partition.lease.partition, "epoch": partition.lease.epoch})
        self._watches.gained(gained)
        self.signal()

    def _drop(self, partition: Partition) -> None:
        """Forget a partition: whatever of it was not durable never happened."""
        if partition.is_dropped:
            return
        partition.is_dropped = True
        self._spent[partition.lease.partition] = partition.lease.epoch
        self._recovery.dropped(partition.lease)
        if self._partitions.get(partition.lease.partition) is partition:
            del self._partitions[partition.lease.partition]
        if self._executor is not None:
            for instance_id in partition.sessions:
                self._executor.forget(instance_id)
        log.info("lease let go", extra={"partition": partition.lease.partition, "epoch": partition.lease.epoch})

    # ------------------------------------------------------------------ mail

    async def _receive_mail(self) -> None:
        """Read what others have sent, and everything again at each safety poll."""
        while True:
            await self._store.changed(self._settings.poll_interval)
            try:
                async with self._walking:
                    for partition in list(self._partitions.values()):
                        if partition.is_open:
                            await self._walk(partition)
                            await self._wake(partition, unstarted_only=True)
            except StoreUnavailableError as error:
                log.warning("mail not read", extra={"reason": str(error)})
                await asyncio.sleep(RETRY_AFTER_S)
            self.signal()

    async def read_again(self, partition: Partition) -> None:
        """Walk through a partition's mail out of turn."""
        try:
            async with self._walking:
                await self._walk(partition)
        except StoreUnavailableError as error:
            self._fail(partition, error)
        self.signal()

    async def _walk(self, partition: Partition) -> None:
        """Hand all mail that is due soon to its partition."""
        before = self.clock.now() + self._settings.timer_horizon
        partition.walk_began()
        after: tuple[int, int] | None = None
        while not partition.is_dropped:
            page = await self._store.receive(partition.lease, before, after, self._settings.page_size)
            partition.receive(page.mail, self.clock.now())
            after = page.after
            if after is None:
                partition.walk_ended(self.clock.now())
                return

    async def _wake(self, partition: Partition, *, unstarted_only: bool) -> None:
        """Wake the instances that go on without mail and are not in memory."""
        after: str | None = None
        limit = self._settings.page_size
        while not partition.is_dropped:
            ids = await self._store.open_work(partition.lease, after, limit, unstarted_only=unstarted_only)
            for instance_id in ids:
                if self._clients.is_creating(instance_id):
                    continue
                if unstarted_only and partition.found_unstarted(instance_id):
                    self.forget(instance_id)
                if instance_id not in partition.sessions:
                    partition.wake(instance_id)
            if len(ids) < limit:
                return
            after = ids[-1]

    def _deliver(self, messages: Iterable[Message], holders: Mapping[int, Partition]) -> None:
        """Hand stored mail to those of its partitions that are here; the others will read it.

        So does one that was not here yet, among `holders`, when the mail was being stored: who had it before may have
        used the mail up.
        """
        now = self.clock.now()
        reading: dict[int, Partition] = {}
        for message in messages:
            partition = self.partition_of(message.instance_id)
            if partition is None or self._is_beyond_horizon(message, now):
                continue
            if holders.get(partition.lease.partition) is partition:
                partition.hand_over(message, now)
            else:
                reading[partition.lease.partition] = partition
        for partition in reading.values():
            self._spawn(self.read_again(partition))

    def _is_beyond_horizon(self, message: Message, now: datetime) -> bool:
        return message.deliver_at is not None and message.deliver_at > now + self._settings.timer_horizon

    def partition_of(self, instance_id: str) -> Partition | None:
        """The partition that an instance belongs to, if its lease is held here."""
        partitions = self._store.partitions
        return self._partitions.get(partition_of(instance_id, partitions) if partitions > 1 else 0)

    # ------------------------------------------------------------------ timers

    def signal(self) -> None:
        """Wake whichever loop has something to do, and set the clock for the next timer."""
        due: datetime | None = None
        for partition in self._partitions.values():
            if partition.has_work:
                self._has_work.set()
            if partition.has_checkpoints:
                self._has_checkpoints.set()
            if partition.next_due is not None and (due is None or partition.next_due < due):
                due = partition.next_due
        if self._recovery.may_go_on and not self._is_draining:
            self._spawn(self._next_suspect())
        if self._is_draining and self._idle():
            self._is_idle.set()
        if due is not None and (self._timer_due is None or due < self._timer_due):
            self._arm(due)

    def _arm(self, due: datetime) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # Never longer than a poll: the wall clock may be set while the loop's time runs on.
        delay = min(max((due - self.clock.now()).total_seconds(), 0.0), self._settings.poll_interval.total_seconds())
        self._timer_due = due
        self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = self._timer_due = None
        now = self.clock.now()
        for partition in self._partitions.values():
            partition.tick(now)
        self.signal()

    # ------------------------------------------------------------------ episodes

    async def _run_work(self) -> None:
        while True:
            await self._has_work.wait()
            self._has_work.clear()
            for partition in list(self._partitions.values()):
                if partition.has_work and not partition.is_dropped:
                    try:
                        await self._run_slice(partition)
                    except StoreUnavailableError as error:
                        self._fail(partition, error)
            self.signal()
            await asyncio.sleep(0)

    async def _run_slice(self, partition: Partition) -> None:
        """Compute the next episodes of a partition, loading the sessions that are not in memory."""
        items = partition.take_work(self._settings.slice_size)
        cold = [item.instance_id for item in items if item.instance_id not in partition.sessions]
        past: dict[str, Sequence[HistoryEvent]] = {}
        if cold:
            past = await self._load(partition, cold)
            if partition.is_dropped:
                return
        now = self.clock.now()
        for item in items:
            if partition.is_quarantined(item.instance_id):
                continue
            if item.instance_id not in partition.sessions and item.instance_id not in cold:
                self._look_again(partition, item.instance_id)  # replaced while others were being loaded
                continue
            rewind = self._run_episode(partition, item, past.get(item.instance_id), now)
            if rewind is not None:
                await self._rewind(partition, *rewind)
                if partition.is_dropped:
                    return
        self._evict(partition)

    async def _load(self, partition: Partition, instance_ids: Sequence[str]) -> dict[str, Sequence[HistoryEvent]]:
        past: dict[str, Sequence[HistoryEvent]] = {}
        lost: list[ActivityTask] = []
        self._clients.seen(instance_ids)
        for stored in await self._store.load_instances(instance_ids):
            if partition.is_dropped:
                break
            instance_id = stored.instance.instance_id
            self.counters.cold_loads += 1
            if stored.damage is not None:
                self._quarantine(partition, instance_id, stored.damage)
                continue
            try:
                state = partition.loaded(stored)
            except IllegalHistoryError as error:
                self._quarantine(partition, instance_id, str(error))
                continue
            past[instance_id] = stored.events
            if isinstance(state, RuntimeState) and not state.is_finished:
                lost += [task for task in state.open_activities() if not partition.has_result(task.activity_id)]
        if partition.lease.is_takeover and not partition.is_dropped:
            await self._recovery.begin(partition.lease, [task for task in lost if not self._is_running(task)])
        else:
            self._start_activities([task for task in lost if not self._recovery.holds(task)])
        return past

    def _run_episode(
        self, partition: Partition, item: WorkItem, past: Sequence[HistoryEvent] | None, now: datetime
    ) -> tuple[RuntimeState, Episode, Sequence[HistoryEvent]] | None:
        """Compute an instance's checkpoint, or return what a rewind needs, whose checkpoint takes a look at others."""
        state = partition.sessions.get(item.instance_id)
        if not isinstance(state, RuntimeState):
            if is_entity_id(item.instance_id):
                self._run_batch(partition, item, state, now)
            else:
                partition.discard(item.instance_id, answers_to_rewinds(partition.mail_of(item.instance_id), now))
            return None
        episode = state.accept(partition.mail_of(item.instance_id), now)
        if episode.is_early or (self._is_versioned and not self._may_run(state, episode)):
            partition.park(item.instance_id)
            self.forget(item.instance_id)
            return None
        if past is None and episode.dropped and not episode.events:
            # A session in memory may be of an instance that another host's client has replaced: no checkpoint would
            # tell, and what the session drops may be for the successor.
            self._look_again(partition, item.instance_id)
            return None
        if episode.dropped:
            self.counters.drop(episode.dropped)
        if state.is_finished and not episode.is_rewind:
            del partition.sessions[item.instance_id]
        if not episode.events:
            partition.discard(item.instance_id, episode.replies)
            if past is not None:  # the session was loaded for nothing: its cursor was not built
                partition.sessions.pop(item.instance_id, None)
            return None
        self.counters.episodes += 1
        if episode.is_rewind:
            return state, episode, past or ()
        try:
            partition.computed(self._checkpoint(state, episode, past))
        except Exception as error:
            self._quarantine(partition, item.instance_id, repr(error))
        return None

    def _look_again(self, partition: Partition, instance_id: str) -> None:
        """Begin an instance's session anew, with the mail that the store still has for it."""
        partition.look_again(instance_id)
        self.forget(instance_id)
        if partition.wants_walk:
            self._spawn(self.read_again(partition))

    def _checkpoint(self, state: RuntimeState, episode: Episode, past: Sequence[HistoryEvent] | None) -> Checkpoint:
        actions, custom_status = (), state.instance.custom_status
        versioning = self._settings.versioning
        if episode.is_terminated:
            pass
        elif self._is_versioned and not versioning.accepts(state.instance.version):
            actions = (_version_mismatch(state, versioning.mismatch(state.instance.version)),)
        else:
            assert self._executor is not None, "an engine without an executor holds no partitions"
            request = self._request(state, () if state.position == 0 else past, episode.events)
            result = self._executor.orchestrate(request)
            actions, custom_status = result.actions, result.custom_status
        return state.apply(episode, actions, custom_status, versioning.default)

    async def _rewind(
        self, partition: Partition, state: RuntimeState, episode: Episode, past: Sequence[HistoryEvent]
    ) -> None:
        """Let a failed execution go on from what is left of its history; its children's rows say what they need.

        Raises:
            StoreUnavailableError: they could not be read.
        """
        assert self._executor is not None, "an engine without an executor holds no partitions"
        try:
            result = self._rewound(self._executor, state, episode, past)
            called = state.open_children(result.kept)
            stored = await self._store.load_instances(called) if called else ()
            if partition.is_dropped:
                return
            children = {each.instance.instance_id: each.instance for each in stored}
            version = self._settings.versioning.default
            partition.computed(
                state.rewind(
                    episode, result.kept, result.actions, result.custom_status, result.awaited, children, version
                )
            )
            partition.deliver_again(episode.rest)
        except StoreUnavailableError:
            raise
        except Exception as error:
            self._quarantine(partition, state.instance.instance_id, repr(error))

    def _rewound(
        self, executor: Executor, state: RuntimeState, episode: Episode, past: Sequence[HistoryEvent]
    ) -> RewindResult:
        """What a failed execution can go on from; one whose version must not run here fails again as it was."""
        versioning, version = self._settings.versioning, state.instance.version
        if versioning.accepts(version):
            return executor.rewind(self._request(state, past, episode.events))
        kept = [event for event in past if not isinstance(event, ExecutionCompleted)]
        again = _version_mismatch(state, versioning.mismatch(version))
        return RewindResult(kept, (again,), state.instance.custom_status, frozenset())

    def _run_batch(self, partition: Partition, item: WorkItem, entity: Session | None, now: datetime) -> None:
        """Have an entity's next operations run; their checkpoint follows when they have."""
        if not item.mail:
            partition.discard(item.instance_id, ())
            return
        if not isinstance(entity, Entity):
            entity = Entity.unborn(item.instance_id, item.mail[0].message_id, now)
            partition.begun(entity)
        if self._is_draining:
            partition.park(item.instance_id)
            return
        batch = entity.accept(partition.mail_of(item.instance_id), now, self._settings.entity_batch_max)
        if not batch.used:
            partition.park(item.instance_id)
            return
        self.counters.episodes += 1
        partition.keep(item.instance_id, batch.rest, goes_on=batch.is_cut)
        if not batch.operations:
            partition.computed(entity.apply(batch, BatchResult((), entity.state.state)))
            return
        assert self._executor is not None, "an engine without an executor holds no partitions"
        operations = [each.event for each in batch.operations if isinstance(each.event, EntityOperation)]
        request = EntityRequest(item.instance_id, batch.now, entity.state.state, operations)
        # What ends late must not be taken for a batch that another holder of the partition has begun here since.
        self._executor.start_entity(request, partial(self._entity_finished, partition, entity, batch))

    def _entity_finished(
        self, partition: Partition, entity: Entity, batch: EntityBatch, request: EntityRequest, result: BatchResult
    ) -> None:
        """Called by the executor, on any thread."""
        if self._batch_results is not None:
            self._batch_results.put((partition, entity, batch, result))

    def _batches_finished(self, results: Sequence[_FinishedBatch]) -> None:
        for partition, entity, batch, result in results:
            if partition.is_dropped:
                continue  # the new holder runs the operations again
            try:
                partition.computed(entity.apply(batch, result))
            except Exception as error:
                self._quarantine(partition, entity.instance.instance_id, repr(error))
        self.signal()

    def _may_run(self, state: RuntimeState, episode: Episode) -> bool:
        """Whether the instance's version is one for this host, or it fails or ends if it is not."""
        versioning = self._settings.versioning
        version = state.instance.version
        if versioning.accepts(version) or episode.is_terminated or not episode.events:
            return True
        if versioning.failure is VersionFailure.FAIL:
            return True
        log.warning(
            "orchestration waits for a host of its version",
            extra={"instance_id": state.instance.instance_id, "reason": versioning.mismatch(version)},
        )
        return False

    def _request(
        self, state: RuntimeState, past: Sequence[HistoryEvent] | None, new: Sequence[HistoryEvent]
    ) -> OrchestratorRequest:
        row = state.instance
        return OrchestratorRequest(row.instance_id, row.execution_id, row.name, past, new)

    def _evict(self, partition: Partition) -> None:
        for instance_id in partition.idle_sessions(0 if self._settings.replay_always else self._settings.sessions_max):
            self.forget(instance_id)

    def forget(self, instance_id: str) -> None:
        """Drop the executor's session of an instance."""
        if self._executor is not None:
            self._executor.forget(instance_id)

    def _quarantine(self, partition: Partition, instance_id: str, reason: str) -> None:
        """One of the three places that turn failure into outcome: this instance is left alone, the rest goes on."""
        self.counters.quarantined += 1
        log.error(
            "instance cannot be run; it is left as it is, see 'perdure hub check'",
            extra={"instance_id": instance_id, "reason": reason},
            exc_info=True,
        )
        partition.quarantine(instance_id)
        self.forget(instance_id)

    # ------------------------------------------------------------------ commits

    async def _commit(self) -> None:
        """Commit what was computed while the last commit ran, all at once, then release its effects."""
        while True:
            await self._has_checkpoints.wait()
            self._has_checkpoints.clear()
            taking = [each for each in self._partitions.values() if each.has_checkpoints]
            if not taking:
                continue
            batches = [partition.take_batch(self._settings.checkpoints_max) for partition in taking]
            holders = dict(self._partitions)
            try:
                outcome = await self._store.commit(batches)
            except StoreUnavailableError as error:
                for partition in taking:
                    self._fail(partition, error)
                continue
            self._count(batches, outcome)
            for partition in taking:
                if not partition.is_dropped:
                    self._committed(partition, outcome, holders)
            self.signal()

    def _committed(self, partition: Partition, outcome: CommitOutcome, holders: Mapping[int, Partition]) -> None:
        if partition.lease.partition in outcome.lost:
            self._lose(partition)
            return
        self._release(partition, partition.committed(outcome), holders)

    def _lose(self, partition: Partition) -> None:
        self.counters.lost += 1
        log.warning("lease lost", extra={"partition": partition.lease.partition, "epoch": partition.lease.epoch})
        self._drop(partition)
        self._lease_now.set()

    def _release(self, partition: Partition, released: Released, holders: Mapping[int, Partition]) -> None:
        """The outbox rule: only here do effects of checkpoints leave."""
        self._start_activities(released.activities)
        if released.messages:
            self._deliver(released.messages, holders)
        for instance_id in released.ended:
            self.forget(instance_id)
        for instance in released.turned:
            self._report(instance)
        self._evict(partition)
        if partition.wants_walk:
            self._spawn(self.read_again(partition))

    def _count(self, batches: Sequence[Batch], outcome: CommitOutcome) -> None:
        self.counters.stale += len(outcome.stale)
        self.counters.commits += 1
        self.counters.checkpoints += sum(len(batch.checkpoints) for batch in batches)

    def _fail(self, partition: Partition, error: StoreUnavailableError) -> None:
        """One of the three places: the outcome is unknown, so the partition is dropped and loaded again."""
        log.warning("partition dropped", extra={"partition": partition.lease.partition, "reason": str(error)})
        self._drop(partition)
        self._lease_now.set()

    # ------------------------------------------------------------------ schedules

    async def _run_schedules(self) -> None:
        await self._is_ready.wait()
        await self.schedules.run()

    def held_lease(self, partition: int) -> Lease | None:
        """The lease of a partition whose work is done here, as far as this host knows."""
        held = self._partitions.get(partition)
        return held.lease if held is not None and held.is_open else None

    async def confirm(self, lease: Lease) -> bool:
        """Whether the store knows this host as the holder: an empty batch is refused as any other is.

        Raises:
            StoreUnavailableError: the store could not say.
        """
        outcome = await self._store.commit([Batch(lease, ())])
        if lease.partition not in outcome.lost:
            return True
        partition = self._partitions.get(lease.partition)
        if partition is not None and partition.lease is lease:
            self._lose(partition)
        return False

    # ------------------------------------------------------------------ activities

    def _is_running(self, task: ActivityTask) -> bool:
        return task.activity_id in self._running

    def _is_settled(self, task: ActivityTask) -> bool:
        """The activity's result is durable, or none of this host's business."""
        partition = self.partition_of(task.instance_id)
        return partition is None or not partition.has_result(task.activity_id) or partition.is_parked(task.instance_id)

    def _start_activities(self, tasks: Sequence[ActivityTask]) -> None:
        if self._executor is None or self._results is None or self._is_draining:
            return
        for task in tasks:
            if task.activity_id not in self._running:
                self._running.add(task.activity_id)
                self.counters.activities += 1
                self._executor.start_activity(task, self._activity_finished)

    def _activity_finished(self, task: ActivityTask, result: ActivityResult) -> None:
        """Called by the executor, on any thread."""
        if self._results is not None:
            self._results.put((task, result))

    def _activities_finished(self, results: Sequence[tuple[ActivityTask, ActivityResult]]) -> None:
        now = self.clock.now()
        interrupted: list[ActivityTask] = []
        for task, result in results:
            self._running.discard(task.activity_id)
            if isinstance(result, Interrupted):
                self._recovery.interrupted(task)
                interrupted.append(task)
                continue
            self._recovery.ended(task)
            partition = self.partition_of(task.instance_id)
            if partition is None:
                continue  # the new holder runs the activity again
            event = (
                TaskCompleted(now, task.task_id, result.result)
                if isinstance(result, Completed)
                else TaskFailed(now, task.task_id, result.failure)
            )
            partition.activity_finished(
                Message(task.activity_id, task.instance_id, task.execution_id, event, is_stored=False)
            )
        if interrupted and not self._is_draining:
            self._spawn(self._begin_again(interrupted))
        self.signal()

    async def _begin_again(self, tasks: Sequence[ActivityTask]) -> None:
        """Begin activities anew whose process has died, unless nobody waits for them any longer."""
        for partition in list(self._partitions.values()):
            of_partition = [task for task in tasks if self.partition_of(task.instance_id) is partition]
            try:
                executions = await self._executions(partition, {task.instance_id for task in of_partition})
                awaited = [task for task in of_partition if executions.get(task.instance_id) == task.execution_id]
                await self._recovery.begin(partition.lease, awaited)
            except StoreUnavailableError as error:
                self._fail(partition, error)

    async def _executions(self, partition: Partition, instance_ids: Set[str]) -> dict[str, str]:
        """The executions of these instances that have not ended; looked up where the instance is not in memory."""
        sessions = [partition.sessions[each] for each in instance_ids if each in partition.sessions]
        instances = [each.instance for each in sessions]
        absent = tuple(instance_ids - {each.instance_id for each in instances})
        if absent:
            page = await self._store.query(InstanceQuery(instance_ids=absent, limit=len(absent)))
            instances += page.instances
        return {each.instance_id: each.execution_id for each in instances if not each.status.is_terminal}

    async def _next_suspect(self) -> None:
        try:
            await self._recovery.go_on()
        except StoreUnavailableError as error:
            for partition in list(self._partitions.values()):
                self._fail(partition, error)

    def _report(self, instance: Instance) -> None:
        if instance.status.is_terminal:
            self._watches.ended(instance)
        if self._observe is not None:
            self._observe(instance)

    def _idle(self) -> bool:
        return not self._running and all(partition.is_idle for partition in self._partitions.values())


def _version_mismatch(state: RuntimeState, sentence: str) -> CompleteOrchestration:
    failure = FailureDetails("VersionMismatch", sentence, is_non_retriable=True)
    return CompleteOrchestration(state.automaton.next_event_id, None, failure, sentence)


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        pass
