"""The only loops: leases, mail, episodes, commits, activities, clients.

Nothing leaves a checkpoint before it is durable: `_commit` releases effects, and only after the store has said so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, assert_never

from perdure.core.events import HistoryEvent, TaskCompleted, TaskFailed
from perdure.core.records import (
    ActivityTask,
    Batch,
    CommitOutcome,
    Instance,
    InstanceQuery,
    Lease,
    Message,
    RuntimeStatus,
    partition_of,
)
from perdure.core.state import RuntimeState
from perdure.engine.balance import balance
from perdure.engine.clock import Clock, SystemClock
from perdure.engine.crossing import Crossing
from perdure.engine.executor import (
    ActivityResult,
    Completed,
    Executor,
    FunctionNames,
    OrchestratorRequest,
)
from perdure.engine.ids import new_id
from perdure.engine.partition import Partition, Released, WorkItem
from perdure.engine.requests import Create, History, Query, Request, Send, Unwatch, Watch
from perdure.engine.settings import Settings
from perdure.engine.store import Store
from perdure.engine.telemetry import Counters
from perdure.errors import HostStoppedError, IllegalHistoryError, StoreUnavailableError

log = logging.getLogger("perdure.engine")

Observe = Callable[[Instance], None]

# A store that failed is asked again after this, doubling up to the second figure: soon enough after a blip, and no
# storm while it is down.
RETRY_AFTER_S = 0.1
RETRY_AFTER_MAX_S = 5.0


class Engine:
    """Runs a task hub on a store, or, without an executor, only serves clients.

    The store is opened before `run` and closed after it by whoever made it. `submit` may be called from any thread;
    everything else belongs to the loop that `run` runs on.

    Args:
        executor: who runs user code; None for an engine that holds no partitions.
        observe: called on this engine's thread with each committed row that began an instance's life or ended it.
        new_id: makes ids that nobody else makes.
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
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self.new_id = new_id
        self.host_id = new_id()
        self.counters = Counters()
        self._store = store
        self._executor = executor
        self._settings = settings or Settings()
        self._observe = observe
        self._partitions: dict[int, Partition] = {}
        self._running: set[str] = set()  # activities handed to the executor that have not finished
        self._creating: set[str] = set()  # instances whose creation was asked for here, and nothing heard or seen of
        self._spent: dict[int, int] = {}  # last epoch under which a partition was dropped here; it is not used again
        self._watches: dict[str, list[Request]] = {}
        self._unsure: set[str] = set()  # watched instances that may have ended before their partition came here
        self._tasks: dict[asyncio.Task[None], Sequence[Request]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._requests: Crossing[Request] | None = None
        self._results: Crossing[tuple[ActivityTask, ActivityResult]] | None = None
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
        loop = self._loop = asyncio.get_running_loop()
        self._requests = Crossing(loop, self._requested)
        self._results = Crossing(loop, self._activities_finished)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch_others())
                if self._executor is None:
                    self._is_ready.set()
                else:
                    group.create_task(self._keep_leases())
                    group.create_task(self._receive_mail())
                    group.create_task(self._run_work())
                    group.create_task(self._commit())
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
                await self._executor.drain(timeout.total_seconds())
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
        asked = [each for requests in self._tasks.values() for each in requests]
        asked += [each for watches in self._watches.values() for each in watches]
        for task in self._tasks:
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        for partition in list(self._partitions.values()):
            self._drop(partition)
        self._refuse(asked)
        self._watches.clear()

    def _refuse(self, requests: Iterable[Request]) -> None:
        stopped = HostStoppedError("the engine has stopped")
        for request in requests:
            request.reply(stopped)

    def _spawn(self, work: Coroutine[Any, Any, None], *answers: Request) -> None:
        """Do some work beside the loops; if it is cut short, the requests that it `answers` hear so."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = answers
        task.add_done_callback(self._tasks.pop)

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
        self._unsure.update(each for each in self._watches if self._partition_of(each) in gained)
        self._signal()

    def _drop(self, partition: Partition) -> None:
        """Forget a partition: whatever of it was not durable never happened."""
        if partition.is_dropped:
            return
        partition.is_dropped = True
        self._spent[partition.lease.partition] = partition.lease.epoch
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
            self._signal()

    async def _read_again(self, partition: Partition) -> None:
        """Walk through a partition's mail out of turn."""
        try:
            async with self._walking:
                await self._walk(partition)
        except StoreUnavailableError as error:
            self._fail(partition, error)
        self._signal()

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
                partition.walk_ended()
                return

    async def _wake(self, partition: Partition, *, unstarted_only: bool) -> None:
        """Wake the instances that go on without mail and are not in memory."""
        after: str | None = None
        limit = self._settings.page_size
        while not partition.is_dropped:
            ids = await self._store.open_work(partition.lease, after, limit, unstarted_only=unstarted_only)
            for instance_id in ids:
                if instance_id in self._creating:
                    continue
                if unstarted_only and partition.found_unstarted(instance_id):
                    self._forget(instance_id)
                if instance_id not in partition.sessions:
                    partition.wake(instance_id)
            if len(ids) < limit:
                return
            after = ids[-1]

    def _deliver(self, messages: Iterable[Message]) -> None:
        """Hand stored mail to those of its partitions that are here; the others will read it."""
        now = self.clock.now()
        for message in messages:
            partition = self._partition_of(message.instance_id)
            if partition is not None and not self._is_beyond_horizon(message, now):
                partition.hand_over(message, now)

    def _is_beyond_horizon(self, message: Message, now: datetime) -> bool:
        return message.deliver_at is not None and message.deliver_at > now + self._settings.timer_horizon

    def _partition_of(self, instance_id: str) -> Partition | None:
        partitions = self._store.partitions
        return self._partitions.get(partition_of(instance_id, partitions) if partitions > 1 else 0)

    # ------------------------------------------------------------------ timers

    def _signal(self) -> None:
        """Wake whichever loop has something to do, and set the clock for the next timer."""
        due: datetime | None = None
        for partition in self._partitions.values():
            if partition.has_work:
                self._has_work.set()
            if partition.has_checkpoints:
                self._has_checkpoints.set()
            if partition.next_due is not None and (due is None or partition.next_due < due):
                due = partition.next_due
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
        self._signal()

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
            self._signal()
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
            self._run_episode(partition, item, past.get(item.instance_id), now)

    async def _load(self, partition: Partition, instance_ids: Sequence[str]) -> dict[str, Sequence[HistoryEvent]]:
        past: dict[str, Sequence[HistoryEvent]] = {}
        self._creating.difference_update(instance_ids)
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
            if not state.is_finished:
                lost = [task for task in state.open_activities() if not partition.has_result(task.activity_id)]
                self._start_activities(lost)
        return past

    def _run_episode(
        self, partition: Partition, item: WorkItem, past: Sequence[HistoryEvent] | None, now: datetime
    ) -> None:
        state = partition.sessions.get(item.instance_id)
        if state is None:
            partition.discard(item.instance_id, None)
            return
        episode = state.accept(item.mail, now)
        if episode.dropped:
            self.counters.drop(episode.dropped)
        if state.is_finished:
            del partition.sessions[item.instance_id]
        if not episode.events:
            partition.discard(item.instance_id, episode)
            if past is not None:  # the session was loaded for nothing: its cursor was not built
                partition.sessions.pop(item.instance_id, None)
            return
        self.counters.episodes += 1
        try:
            if episode.is_terminated:
                actions, custom_status = (), state.instance.custom_status
            else:
                assert self._executor is not None, "an engine without an executor holds no partitions"
                request = self._request(state, () if state.position == 0 else past, episode.events)
                result = self._executor.orchestrate(request)
                actions, custom_status = result.actions, result.custom_status
            partition.computed(state.apply(episode, actions, custom_status))
        except Exception as error:
            self._quarantine(partition, item.instance_id, repr(error))

    def _request(
        self, state: RuntimeState, past: Sequence[HistoryEvent] | None, new: Sequence[HistoryEvent]
    ) -> OrchestratorRequest:
        row = state.instance
        return OrchestratorRequest(row.instance_id, row.execution_id, row.name, past, new)

    def _forget(self, instance_id: str) -> None:
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
        self._forget(instance_id)

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
            try:
                outcome = await self._store.commit(batches)
            except StoreUnavailableError as error:
                for partition in taking:
                    self._fail(partition, error)
                continue
            self._count(batches)
            for partition in taking:
                if not partition.is_dropped:
                    self._committed(partition, outcome)
            self._signal()

    def _committed(self, partition: Partition, outcome: CommitOutcome) -> None:
        if partition.lease.partition in outcome.lost:
            self.counters.lost += 1
            log.warning("lease lost", extra={"partition": partition.lease.partition, "epoch": partition.lease.epoch})
            self._drop(partition)
            self._lease_now.set()
            return
        self.counters.stale += len(outcome.stale) if outcome.stale else 0
        self._release(partition, partition.committed(outcome))

    def _release(self, partition: Partition, released: Released) -> None:
        """The outbox rule: only here do effects of checkpoints leave."""
        self._start_activities(released.activities)
        if released.messages:
            self._deliver(released.messages)
        for instance_id in released.ended:
            self._forget(instance_id)
        for instance in released.turned:
            self._report(instance)
        for instance_id in partition.idle_sessions(0 if self._settings.replay_always else self._settings.sessions_max):
            self._forget(instance_id)
        if partition.wants_walk:
            self._spawn(self._read_again(partition))

    def _count(self, batches: Sequence[Batch]) -> None:
        self.counters.commits += 1
        self.counters.checkpoints += sum(len(batch.checkpoints) for batch in batches)

    def _fail(self, partition: Partition, error: StoreUnavailableError) -> None:
        """One of the three places: the outcome is unknown, so the partition is dropped and loaded again."""
        log.warning("partition dropped", extra={"partition": partition.lease.partition, "reason": str(error)})
        self._drop(partition)
        self._lease_now.set()

    # ------------------------------------------------------------------ activities

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
        for task, result in results:
            self._running.discard(task.activity_id)
            partition = self._partition_of(task.instance_id)
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
        self._signal()

    # ------------------------------------------------------------------ clients

    def _requested(self, requests: Sequence[Request]) -> None:
        if self._requests is None:
            self._refuse(requests)
            return
        creates: list[tuple[Request, Create]] = []
        sends: list[tuple[Request, Send]] = []
        unknown: list[str] = []
        for request in requests:
            operation = request.operation
            match operation:
                case Create():
                    creates.append((request, operation))
                case Send():
                    sends.append((request, operation))
                case Watch():
                    if not self._watch(request, operation.instance_id):
                        unknown.append(operation.instance_id)
                case Query():
                    self._spawn(self._answer(request, self._store.query(operation.query)), request)
                case History():
                    self._spawn(self._answer(request, self._store.history(operation.instance_id)), request)
                case Unwatch():
                    self._unwatch(operation.watch)
                case _:
                    assert_never(operation)
        if creates:
            self._spawn(self._create(creates), *(request for request, _ in creates))
        if sends:
            self._spawn(self._send(sends), *(request for request, _ in sends))
        if unknown:
            self._spawn(self._look_at(unknown))

    async def _answer(self, request: Request, answer: Coroutine[Any, Any, Any]) -> None:
        try:
            reply = await answer
        except (StoreUnavailableError, ValueError) as error:
            reply = error
        request.reply(reply)

    async def _create(self, creates: Sequence[tuple[Request, Create]]) -> None:
        instance_ids = {create.start.instance.instance_id for _, create in creates}
        self._creating |= instance_ids
        try:
            in_the_way = await self._store.create([create.start for _, create in creates])
        except StoreUnavailableError as error:
            for request, _ in creates:
                request.reply(error)
            return
        finally:
            unseen = instance_ids & self._creating
            self._creating -= instance_ids
        for (request, create), existing in zip(creates, in_the_way, strict=True):
            if existing is None:
                self._created(create.start.instance, is_unseen=create.start.instance.instance_id in unseen)
            request.reply(existing)
        self._signal()

    def _created(self, instance: Instance, *, is_unseen: bool) -> None:
        """Begin an instance's session; if it has been looked for meanwhile, it is found where it stands by now."""
        partition = self._partition_of(instance.instance_id)
        if partition is None:
            return
        if not is_unseen:
            partition.wake(instance.instance_id)
            return
        session = partition.sessions.get(instance.instance_id)
        partition.created(instance)
        if session is not None and partition.sessions.get(instance.instance_id) is not session:
            self._forget(instance.instance_id)
        if partition.wants_walk:
            self._spawn(self._read_again(partition))

    async def _send(self, sends: Sequence[tuple[Request, Send]]) -> None:
        messages = [send.message for _, send in sends]
        holders = [self._partition_of(message.instance_id) for message in messages]
        for partition, message in zip(holders, messages, strict=True):
            if partition is not None:
                partition.expect(message.message_id)
        try:
            statuses = await self._store.send(messages, self.clock.now())
        except StoreUnavailableError as error:
            for partition, message in zip(holders, messages, strict=True):
                if partition is not None:
                    partition.not_expected(message.message_id)
            for request, _ in sends:
                request.reply(error)
            return
        await self._sent(messages, statuses, holders)
        for (request, _), status in zip(sends, statuses, strict=True):
            request.reply(status)
        self._signal()

    async def _sent(
        self,
        messages: Sequence[Message],
        statuses: Sequence[RuntimeStatus | None],
        holders: Sequence[Partition | None],
    ) -> None:
        """Hand messages over to their partitions; one that came here meanwhile reads its mail, as it may know them."""
        now = self.clock.now()
        came: dict[int, Partition] = {}
        for message, status, holder in zip(messages, statuses, holders, strict=True):
            partition = self._partition_of(message.instance_id)
            if status is None or status.is_terminal or partition is not holder:
                if holder is not None:
                    holder.not_expected(message.message_id)
                if partition is not None and partition is not holder:
                    came[partition.lease.partition] = partition
            elif partition is not None:
                partition.hand_over(message, now)
        for partition in came.values():
            await self._read_again(partition)

    def _watch(self, request: Request, instance_id: str) -> bool:
        """Note who waits; returns whether the instance is known to be running here."""
        self._watches.setdefault(instance_id, []).append(request)
        partition = self._partition_of(instance_id)
        is_here = partition is not None and instance_id in partition.sessions
        if not is_here:
            self._unsure.add(instance_id)
        return is_here

    def _unwatch(self, watch: Request) -> None:
        instance_id = watch.operation.instance_id if isinstance(watch.operation, Watch) else ""
        remaining = [each for each in self._watches.pop(instance_id, ()) if each is not watch]
        if remaining:
            self._watches[instance_id] = remaining
        else:
            self._unsure.discard(instance_id)

    async def _watch_others(self) -> None:
        """Instances that run elsewhere cannot tell us when they end: look at them."""
        while True:
            await asyncio.sleep(self._settings.watch_interval.total_seconds())
            foreign = [each for each in self._watches if each in self._unsure or self._partition_of(each) is None]
            for start in range(0, len(foreign), self._settings.page_size):
                await self._look_at(foreign[start : start + self._settings.page_size])

    async def _look_at(self, instance_ids: Sequence[str]) -> None:
        query = InstanceQuery(instance_ids=tuple(instance_ids), limit=len(instance_ids))
        held = {number: partition for number, partition in self._partitions.items() if partition.is_open}
        try:
            page = await self._store.query(query)
        except StoreUnavailableError as error:
            log.warning("watched instances not read", extra={"reason": str(error)})
            return
        found = {instance.instance_id: instance for instance in page.instances}
        for instance_id in instance_ids:
            instance = found.get(instance_id)
            if instance is None or instance.status.is_terminal:
                self._reply_to_watches(instance_id, instance)
                continue
            partition = self._partition_of(instance_id)
            if partition is not None and held.get(partition.lease.partition) is partition:
                self._unsure.discard(instance_id)  # it was running when it was ours already: we shall see its end

    def _report(self, instance: Instance) -> None:
        if instance.status.is_terminal and instance.instance_id in self._watches:
            self._reply_to_watches(instance.instance_id, instance)
        if self._observe is not None:
            self._observe(instance)

    def _reply_to_watches(self, instance_id: str, instance: Instance | None) -> None:
        self._unsure.discard(instance_id)
        for request in self._watches.pop(instance_id, ()):
            request.reply(instance)

    def _idle(self) -> bool:
        return not self._running and all(partition.is_idle for partition in self._partitions.values())


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        pass
