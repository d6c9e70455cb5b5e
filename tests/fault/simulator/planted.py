"""Faults to plant into the product, to see whether the simulator finds them.

Each plant takes a guard away, or does a thing too early, twice or never, as somebody might by mistake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from perdure.core import cursor, entities, rewind, state
from perdure.core.actions import OrchestratorAction, SignalEntity
from perdure.core.automaton import EventAutomaton
from perdure.core.cursor import LIFE, OrchestrationCursor
from perdure.core.draft import Draft
from perdure.core.entities import BatchResult, Entity, EntityBatch, OperationResult
from perdure.core.episode import Episode
from perdure.core.events import (
    EntityLock,
    EntityOperation,
    EntityUnlock,
    EventRaised,
    ExecutionCompleted,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
    HistoryEvent,
    SubOrchestrationInstanceFailed,
    TaskFailed,
)
from perdure.core.failures import TaskFailedError
from perdure.core.records import (
    ActivityTask,
    Checkpoint,
    CommitOutcome,
    Instance,
    Lease,
    Message,
    RuntimeStatus,
    Start,
)
from perdure.core.retry import RetryPolicy
from perdure.core.state import RuntimeState
from perdure.core.tasks import EventTask, TaskAll
from perdure.core.versions import Versioning
from perdure.engine import engine
from perdure.engine.client import TaskHubClient
from perdure.engine.engine import Engine
from perdure.engine.partition import Partition, Released
from perdure.engine.recovery import Recovery
from perdure.host import invoke
from perdure.stores import memory, sql
from perdure.stores.memory import MemoryStore

Plant = Callable[[pytest.MonkeyPatch], None]

END_OF_TIME = datetime.max.replace(tzinfo=UTC)


# ---------------------------------------------------------------------- fencing


def epoch_check_removed(patch: pytest.MonkeyPatch) -> None:
    """Whoever has ever held a lease may commit."""
    patch.setattr(MemoryStore, "_is_current", lambda self, lease: True)
    patch.setattr(sql, "_is_current", lambda db, lease: True)


def position_guard_removed(patch: pytest.MonkeyPatch) -> None:
    """A checkpoint is applied whatever it was computed from."""
    applied = MemoryStore._apply

    def apply(self: MemoryStore, checkpoint: Checkpoint, lease: Lease) -> bool:
        row = self._rows.get(checkpoint.instance.instance_id)
        if row is not None:
            checkpoint = replace(checkpoint, execution_id=row.instance.execution_id, position=row.position)
        return applied(self, checkpoint, lease)

    patch.setattr(MemoryStore, "_apply", apply)


def epoch_used_again(patch: pytest.MonkeyPatch) -> None:
    """A partition dropped with a commit under way is opened again under the same epoch."""
    patch.setattr(Engine, "_is_spent", lambda self, lease: False)


def lost_lease_ignored(patch: pytest.MonkeyPatch) -> None:
    """The host goes on with a partition whose commit was refused."""
    committed = Engine._committed

    def go_on(self: Engine, partition: Partition, outcome: CommitOutcome, *more: Any) -> None:
        committed(self, partition, replace(outcome, lost=frozenset()), *more)

    patch.setattr(Engine, "_committed", go_on)


def unknown_outcome_retried(patch: pytest.MonkeyPatch) -> None:
    """A commit that raised is taken for one that did nothing, and made again."""

    def retry(self: Engine, partition: Partition, error: Exception) -> None:
        batch = partition._in_flight
        if batch is None:
            self._drop(partition)
            return
        partition._in_flight = None
        partition._computed = [*batch.checkpoints, *partition._computed]
        partition._discarded = [*batch.discarded, *partition._discarded]
        partition._replies = [*batch.replies, *partition._replies]
        asyncio.get_running_loop().call_later(0.1, self._has_checkpoints.set)

    patch.setattr(Engine, "_fail", retry)


def leases_churn(patch: pytest.MonkeyPatch) -> None:
    """Extending a lease makes a new one of it."""
    lease = MemoryStore.lease

    async def take(self: MemoryStore, partitions: Iterable[int], host_id: str, now: datetime, until: datetime) -> Any:
        partitions = list(partitions)
        for partition in partitions:
            if partition in self._leases and self._leases[partition].host_id == host_id:
                del self._leases[partition]
        return await lease(self, partitions, host_id, now, until)

    patch.setattr(MemoryStore, "lease", take)


# ---------------------------------------------------------------------- the outbox rule


def activities_before_commit(patch: pytest.MonkeyPatch) -> None:
    """Activities start when they are decided."""
    computed = Partition.computed
    run_episode = Engine._run_episode

    def run(self: Engine, partition: Partition, item: Any, past: Any, now: datetime) -> None:
        def early(self_: Partition, checkpoint: Checkpoint) -> None:
            computed(self_, checkpoint)
            self._start_activities(checkpoint.activities)

        patch.setattr(Partition, "computed", early)
        run_episode(self, partition, item, past, now)

    patch.setattr(Engine, "_run_episode", run)


def messages_before_commit(patch: pytest.MonkeyPatch) -> None:
    """Mail is handed over when it is decided."""
    computed = Partition.computed
    run_episode = Engine._run_episode

    def run(self: Engine, partition: Partition, item: Any, past: Any, now: datetime) -> None:
        def early(self_: Partition, checkpoint: Checkpoint) -> None:
            computed(self_, checkpoint)
            self._deliver(checkpoint.messages, self._partitions)

        patch.setattr(Partition, "computed", early)
        run_episode(self, partition, item, past, now)

    patch.setattr(Engine, "_run_episode", run)


# ---------------------------------------------------------------------- mail


def held_mail_taken_again(patch: pytest.MonkeyPatch) -> None:
    """Mail that is in memory already is taken in again."""
    receive = Partition.receive

    def take(self: Partition, mail: Iterable[Message], now: datetime) -> None:
        mail = list(mail)
        self._held.difference_update(each.message_id for each in mail)
        receive(self, mail, now)

    patch.setattr(Partition, "receive", take)


def answers_not_matched(patch: pytest.MonkeyPatch) -> None:
    """An answer is taken in whether its task is open or not."""
    patch.setattr(EventAutomaton, "answers_open", lambda self, event, task_id: True)


def consumed_forgotten_at_once(patch: pytest.MonkeyPatch) -> None:
    """Used-up mail is forgotten while a page with it may be on its way."""
    committed = Partition.committed

    def forget(self: Partition, outcome: CommitOutcome) -> Released:
        released = committed(self, outcome)
        self._held -= self._consumed
        return released

    patch.setattr(Partition, "committed", forget)


def own_sends_not_expected(patch: pytest.MonkeyPatch) -> None:
    """What a walk finds before the send of it returns is taken in when that returns."""
    patch.setattr(Partition, "expect", lambda self, message_id: None)


def consumed_not_deleted(patch: pytest.MonkeyPatch) -> None:
    """The store keeps what a checkpoint has used up."""
    patch.setattr(MemoryStore, "_remove", lambda self, message_ids: None)


def mail_during_an_episode_unnoticed(patch: pytest.MonkeyPatch) -> None:
    """Mail that came while its instance was busy does not wake it afterwards."""
    committed = Partition.committed

    def sleep_on(self: Partition, outcome: CommitOutcome) -> Released:
        busy = {each for each in self._busy if each not in self._woken}
        released = committed(self, outcome)
        for instance_id in busy - self._busy.keys():
            if instance_id not in self._woken:
                self._ready.pop(instance_id, None)
        return released

    patch.setattr(Partition, "committed", sleep_on)


def take_over_runs_before_reading(patch: pytest.MonkeyPatch) -> None:
    """A partition runs as soon as it is leased, its mail read or not."""
    made = Partition.__init__

    def open_at_once(self: Partition, lease: Lease) -> None:
        made(self, lease)
        self.is_open = True

    patch.setattr(Partition, "__init__", open_at_once)


def open_work_ignored(patch: pytest.MonkeyPatch) -> None:
    """A take-over looks for mail only, not for activities that nobody runs."""
    wake = Engine._wake

    async def wake_some(self: Engine, partition: Partition, *, unstarted_only: bool) -> None:
        if unstarted_only:
            await wake(self, partition, unstarted_only=True)

    patch.setattr(Engine, "_wake", wake_some)


# ---------------------------------------------------------------------- timers


def timer_lost(patch: pytest.MonkeyPatch) -> None:
    """A timer that comes due is dropped."""

    def drop(self: Partition, now: datetime) -> None:
        while self._timers and self._timers[0][0] <= now:
            self._timer_ids.discard(self._timers.pop(0)[2].message_id)

    patch.setattr(Partition, "tick", drop)


def timer_early(patch: pytest.MonkeyPatch) -> None:
    """A timer fires when it is read."""
    receive = Partition.receive
    patch.setattr(Partition, "receive", lambda self, mail, now: receive(self, mail, END_OF_TIME))


def cancelled_timer_kept(patch: pytest.MonkeyPatch) -> None:
    """A timer that was cancelled fires all the same."""
    settle = Partition._settle

    def keep(self: Partition, checkpoint: Checkpoint, mail: Sequence[Message]) -> None:
        ids = set(self._timer_ids)
        settle(self, checkpoint, mail)
        self._timer_ids = ids

    patch.setattr(Partition, "_settle", keep)


# ---------------------------------------------------------------------- instances


def carried_events_dropped(patch: pytest.MonkeyPatch) -> None:
    """Continue-as-new forgets the events that nobody has read."""
    patch.setattr(OrchestrationCursor, "_carried", lambda self: ())


def next_generation_not_woken(patch: pytest.MonkeyPatch) -> None:
    """Continue-as-new waits for mail."""
    committed = Partition.committed

    def leave(self: Partition, outcome: CommitOutcome) -> Released:
        batch = self._in_flight
        released = committed(self, outcome)
        for checkpoint in batch.checkpoints if batch is not None else ():
            instance_id = checkpoint.instance.instance_id
            if not checkpoint.position_after and instance_id not in self._mail:
                self._woken.discard(instance_id)
                self._ready.pop(instance_id, None)
        return released

    patch.setattr(Partition, "committed", leave)


def finished_takes_mail(patch: pytest.MonkeyPatch) -> None:
    """An instance that has ended goes on."""
    patch.setattr(RuntimeState, "is_finished", property(lambda self: False))


def start_not_first(patch: pytest.MonkeyPatch) -> None:
    """What came before the first episode stands before the start."""
    accept = RuntimeState.accept

    def reorder(self: RuntimeState, mail: Sequence[Message], now: datetime) -> Episode:
        episode = accept(self, mail, now)
        events = [each for each in episode.events if not isinstance(each, ExecutionStarted)]
        started = [each for each in episode.events if isinstance(each, ExecutionStarted)]
        return replace(episode, events=(*events, *started))

    patch.setattr(RuntimeState, "accept", reorder)


def child_does_not_answer(patch: pytest.MonkeyPatch) -> None:
    """A child that fails does not tell its parent."""
    apply = RuntimeState.apply

    def keep_quiet(
        self: RuntimeState, episode: Episode, actions: Iterable[OrchestratorAction], *more: Any
    ) -> Checkpoint:
        checkpoint = apply(self, episode, actions, *more)
        if checkpoint.instance.status is not RuntimeStatus.FAILED:
            return checkpoint
        return replace(checkpoint, messages=tuple(m for m in checkpoint.messages if not m.message_id.endswith("/end")))

    patch.setattr(RuntimeState, "apply", keep_quiet)


def refusal_not_answered(patch: pytest.MonkeyPatch) -> None:
    """A child whose id is taken is not started, and its parent is not told."""
    accept = RuntimeState.accept

    def keep_quiet(self: RuntimeState, mail: Sequence[Message], now: datetime) -> Episode:
        return replace(accept(self, mail, now), replies=())

    patch.setattr(RuntimeState, "accept", keep_quiet)


def refusal_by_generation(patch: pytest.MonkeyPatch) -> None:
    """A child that has continued as new before it reads its own start message refuses itself."""
    accept = RuntimeState.accept

    def refuse(self: RuntimeState, mail: Sequence[Message], now: datetime) -> Episode:
        row = self.instance
        try:
            self.instance = replace(row, created_by=row.execution_id)
            return accept(self, mail, now)
        finally:
            self.instance = row

    patch.setattr(RuntimeState, "accept", refuse)


def results_in_order_of_completion(patch: pytest.MonkeyPatch) -> None:
    """`task_all` gives results in the order in which they came."""
    settled = TaskAll.child_settled

    def sort(self: TaskAll, child: Any) -> Any:
        decision = settled(self, child)
        if decision is None or not isinstance(decision[1], list):
            return decision
        return decision[0], [each.result for each in sorted(self.children, key=lambda task: task.settled_at or 0)]

    patch.setattr(TaskAll, "child_settled", sort)


# ---------------------------------------------------------------------- suspended, ended, scheduled


def suspension_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Code is shown everything at once, suspended or not."""

    def show(self: OrchestrationCursor, event: HistoryEvent) -> bool:
        if self._starting is not None and not isinstance(event, LIFE):
            self._begin_code()
        return False

    patch.setattr(OrchestrationCursor, "_hold", show)


def suspension_lost_by_continuing(patch: pytest.MonkeyPatch) -> None:
    """A generation that is suspended while it continues as new does not pass that on."""
    checkpoint = Draft.checkpoint

    def forget(self: Draft) -> Checkpoint:
        made = checkpoint(self)
        return replace(made, messages=tuple(m for m in made.messages if not isinstance(m.event, ExecutionSuspended)))

    patch.setattr(Draft, "checkpoint", forget)


def withheld_events_dropped(patch: pytest.MonkeyPatch) -> None:
    """Continue-as-new passes on what was unread, but not what was withheld."""
    carried = OrchestrationCursor._carried

    def forget(self: OrchestrationCursor) -> tuple[EventRaised, ...]:
        self._withheld = []
        return carried(self)

    patch.setattr(OrchestrationCursor, "_carried", forget)


def cancelled_wait_reads(patch: pytest.MonkeyPatch) -> None:
    """Giving a wait up looks first whether its event is there, and so takes it."""

    def cancel(self: EventTask) -> None:
        if not self.is_completed:
            self.is_cancelled = True
            self.cursor.wait_cancelled(self)

    patch.setattr(EventTask, "cancel", cancel)


def descendants_spared(patch: pytest.MonkeyPatch) -> None:
    """Who is terminated with all below it tells nobody."""
    patch.setattr(Draft, "_open_calls", lambda self: [])


def strangers_terminated(patch: pytest.MonkeyPatch) -> None:
    """A termination from a parent is obeyed by whoever has the id of its child."""
    pointless = RuntimeState._pointless

    def obey(self: RuntimeState, event: HistoryEvent, *more: Any) -> str | None:
        return None if isinstance(event, ExecutionTerminated) else pointless(self, event, *more)

    patch.setattr(RuntimeState, "_pointless", obey)


def scheduled_start_early(patch: pytest.MonkeyPatch) -> None:
    """Any mail starts an instance that is to start later."""
    accept = RuntimeState.accept

    def begin(self: RuntimeState, mail: Sequence[Message], now: datetime) -> Episode:
        row = self.instance
        try:
            self.instance = replace(row, start_at=None)
            return accept(self, mail, now)
        finally:
            self.instance = row

    patch.setattr(RuntimeState, "accept", begin)


def scheduled_start_missed(patch: pytest.MonkeyPatch) -> None:
    """An instance whose start message came looks at its own clock once more, which may have been set back."""
    accept = RuntimeState.accept

    def doubt(self: RuntimeState, mail: Sequence[Message], now: datetime) -> Episode:
        start_at = self.instance.start_at
        if self.position == 0 and start_at is not None and start_at > now and len(mail) == 1:
            return Episode((), now, (), {}, (), False, is_early=True)
        return accept(self, mail, now)

    patch.setattr(RuntimeState, "accept", doubt)


def parked_mail_lost(patch: pytest.MonkeyPatch) -> None:
    """The mail of an instance that is to start later is put away and not found again."""
    park = Partition.park

    def lose(self: Partition, instance_id: str) -> None:
        self._busy[instance_id] = [each for each in self._busy[instance_id] if isinstance(each.event, ExecutionStarted)]
        park(self, instance_id)

    patch.setattr(Partition, "park", lose)


def replaced_child_silent(patch: pytest.MonkeyPatch) -> None:
    """A child that gives way to another start does not tell its parent."""
    patch.setattr(memory, "farewell", lambda instance, now: [])


def successor_robbed(patch: pytest.MonkeyPatch) -> None:
    """The session of an instance that was replaced drops mail that is for its successor."""

    def drop(self: Partition, instance_id: str) -> None:
        self.sessions.pop(instance_id, None)
        mail = self._busy.pop(instance_id)
        self._results.difference_update(each.message_id for each in mail)
        self._discarded.extend(each.message_id for each in mail if each.is_stored)
        if instance_id in self._mail:
            self._ready[instance_id] = None

    patch.setattr(Partition, "look_again", drop)


def version_ignored(patch: pytest.MonkeyPatch) -> None:
    """A host runs whatever comes."""
    patch.setattr(Versioning, "accepts", lambda self, version: True)


# ---------------------------------------------------------------------- retries


def retried_at_once(patch: pytest.MonkeyPatch) -> None:
    """Every wait between attempts is as long as the first."""
    delay = RetryPolicy.delay
    patch.setattr(
        RetryPolicy,
        "delay",
        lambda self, attempts, *more: delay(replace(self, backoff_coefficient=1.0), attempts, *more),
    )


def hopeless_call_retried(patch: pytest.MonkeyPatch) -> None:
    """A failure that says that trying again is of no use is tried again."""
    delay = RetryPolicy.delay

    def hope(self: RetryPolicy, attempts: int, failure: TaskFailedError, elapsed: timedelta) -> timedelta | None:
        details = replace(failure.details, is_non_retriable=False)
        return delay(self, attempts, TaskFailedError("", details), elapsed)

    patch.setattr(RetryPolicy, "delay", hope)


# ---------------------------------------------------------------------- rewind and purge


def rewound_failure_kept(patch: pytest.MonkeyPatch) -> None:
    """A rewind leaves the failure where it is."""

    def keep(history: Sequence[HistoryEvent], new_cursor: Callable[[], OrchestrationCursor]) -> Any:
        cursor = new_cursor()
        return cursor, cursor.retrace(event for event in history if not isinstance(event, ExecutionCompleted))

    patch.setattr(invoke, "rewound", keep)


def handled_failures_rewound(patch: pytest.MonkeyPatch) -> None:
    """A rewind takes out every failure, those that the program has coped with, too."""

    def hide(history: Sequence[HistoryEvent], new_cursor: Callable[[], OrchestrationCursor]) -> Any:
        past = [event for event in history if not isinstance(event, ExecutionCompleted)]
        cursor = new_cursor()
        hidden = [event.task_id for event in past if isinstance(event, TaskFailed | SubOrchestrationInstanceFailed)]
        return cursor, cursor.retrace(past, hidden)

    patch.setattr(invoke, "rewound", hide)


def rewound_retries_exhausted(patch: pytest.MonkeyPatch) -> None:
    """Of a retried call, a rewind repeats the last attempt only."""
    patch.setattr(OrchestrationCursor, "first_attempt", lambda self, task_id: task_id)


def rewound_numbers_confused(patch: pytest.MonkeyPatch) -> None:
    """A rewind keeps decisions of a kind that the program takes, if not these."""
    patch.setattr(cursor, "_asks_the_same", lambda event, action: True)


def rewound_timers_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Timers that were open when it failed are not set again."""
    _spoil_taking_up(patch, lambda draft: draft.messages.clear())


def rewound_activities_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Activities that failed do not run again."""
    _spoil_taking_up(patch, lambda draft: draft.activities.clear())


def _spoil_taking_up(patch: pytest.MonkeyPatch, spoil: Callable[[Draft], None]) -> None:
    take_up_again = Draft.take_up_again

    def take_up(self: Draft, *more: Any) -> None:
        take_up_again(self, *more)
        spoil(self)

    patch.setattr(Draft, "take_up_again", take_up)


def rewound_children_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Children that failed are not rewound."""
    patch.setattr(Draft, "_take_up_child", lambda self, call, child: None)


def rewound_children_called_again(patch: pytest.MonkeyPatch) -> None:
    """Children are called anew, whatever has become of them."""
    take_up = Draft._take_up_child
    patch.setattr(Draft, "_take_up_child", lambda self, call, child: take_up(self, call, None))


def rewound_ids_used_again(patch: pytest.MonkeyPatch) -> None:
    """What is sent once more after a rewind has the id that it had before."""
    patch.setattr(Draft, "_id", lambda self, what: f"{self.row.execution_id}/{what}")


def answers_to_former_calls_taken(patch: pytest.MonkeyPatch) -> None:
    """An answer to a call that a rewind took away is taken for that of another with its number."""

    def believe(self: RuntimeState, message: Message, task_id: int | None) -> bool:
        return message.execution_id is not None and not message.execution_id.startswith(self.instance.execution_id)

    patch.setattr(RuntimeState, "_is_of_another_call", believe)


def rewind_of_nobody_unanswered(patch: pytest.MonkeyPatch) -> None:
    """A parent that rewinds a child that is gone hears nothing."""
    patch.setattr(state, "answers_to_rewinds", lambda mail, now: [])
    patch.setattr(engine, "answers_to_rewinds", lambda mail, now: [])


def purged_mail_kept(patch: pytest.MonkeyPatch) -> None:
    """A purge leaves the mail of what it removes."""
    purge = MemoryStore.purge

    async def forget(self: MemoryStore, instance_ids: Iterable[str], now: datetime) -> frozenset[str]:
        with patch.context() as inside:
            inside.setattr(MemoryStore, "_remove", lambda self, message_ids: None)
            return await purge(self, list(instance_ids), now)

    patch.setattr(MemoryStore, "purge", forget)


def purged_mail_unanswered(patch: pytest.MonkeyPatch) -> None:
    """A purge takes the mail that a parent waits for an answer to, and does not answer."""
    patch.setattr(memory, "answers_of_missing", lambda mail, now: [])


def running_purged(patch: pytest.MonkeyPatch) -> None:
    """A purge removes what has not ended, too."""
    purge = MemoryStore.purge

    async def remove(self: MemoryStore, instance_ids: Iterable[str], now: datetime) -> frozenset[str]:
        with patch.context() as inside:
            inside.setattr(RuntimeStatus, "is_terminal", property(lambda self: True))
            return await purge(self, list(instance_ids), now)

    patch.setattr(MemoryStore, "purge", remove)


def descendants_not_purged(patch: pytest.MonkeyPatch) -> None:
    """A purge of an instance with all below it stops at its children."""
    ended = TaskHubClient._ended_children

    async def stop(self: TaskHubClient, parents: Sequence[str], seen: set[str]) -> Sequence[str]:
        return await ended(self, parents, seen) if len(seen) == len(parents) else []

    patch.setattr(TaskHubClient, "_ended_children", stop)


# ---------------------------------------------------------------------- activities


def result_delivered_twice(patch: pytest.MonkeyPatch) -> None:
    """A result comes again a little later."""
    finished = Engine._activities_finished

    def twice(self: Engine, results: Any) -> None:
        finished(self, results)
        asyncio.get_running_loop().call_later(0.4, finished, self, results)

    patch.setattr(Engine, "_activities_finished", twice)


def evicted_activity_run_again(patch: pytest.MonkeyPatch) -> None:
    """Loading an instance starts its open activities, running or not."""
    load = Engine._load

    async def forgetful(self: Engine, *arguments: Any) -> Any:
        self._running.clear()
        return await load(self, *arguments)

    patch.setattr(Engine, "_load", forgetful)


def dispatches_not_counted(patch: pytest.MonkeyPatch) -> None:
    """An activity that kills its host is begun for the first time, again and again."""
    dispatch = MemoryStore.dispatch

    async def forget(self: MemoryStore, lease: Lease, activities: Sequence[ActivityTask]) -> Sequence[int]:
        return [min(count, 1) for count in await dispatch(self, lease, activities)]

    patch.setattr(MemoryStore, "dispatch", forget)


def poison_begun_for_ever(patch: pytest.MonkeyPatch) -> None:
    """What has used its dispatches up is begun all the same."""

    async def go_on(self: Recovery) -> None:
        while self._suspects:
            _, lease, task = self._suspects.pop()
            await self._store.dispatch(lease, [task])
            self._start([task])

    patch.setattr(Recovery, "go_on", go_on)


# ---------------------------------------------------------------------- entities


def operation_without_effect(patch: pytest.MonkeyPatch) -> None:
    """A batch is used up, but its state is not written."""
    apply = Entity.apply
    patch.setattr(
        Entity, "apply", lambda self, batch, result: apply(self, batch, replace(result, state=self.state.state))
    )


def operation_forgotten_by_its_batch(patch: pytest.MonkeyPatch) -> None:
    """The mailbox keeps an operation that has run."""
    apply = Entity.apply

    def keep(self: Entity, batch: EntityBatch, result: BatchResult) -> Checkpoint:
        return apply(self, replace(batch, used=list(batch.used)[:-1]), result)

    patch.setattr(Entity, "apply", keep)


def answer_doubled(patch: pytest.MonkeyPatch) -> None:
    """A call is answered twice."""
    answer = entities._answer

    def twice(message: Message, result: OperationResult, now: datetime) -> list[Message]:
        once = list(answer(message, result, now))
        return [*once, *(replace(each, message_id=f"{each.message_id}/again") for each in once)]

    patch.setattr(entities, "_answer", twice)


def signal_not_sent(patch: pytest.MonkeyPatch) -> None:
    """A signal stands in the history, and nowhere else."""
    signal = Draft._signal_entity

    def forget(self: Draft, action: SignalEntity) -> None:
        kept = dict(self.messages)
        signal(self, action)
        self.messages = kept

    patch.setattr(Draft, "_signal_entity", forget)


def signal_sent_at_once(patch: pytest.MonkeyPatch) -> None:
    """A signal that is to come later comes now."""
    send = Draft._send

    def hurry(self: Draft, message_id: str, target: str, execution_id: str | None, event: Any, due: Any = None):
        send(self, message_id, target, execution_id, event, None if isinstance(event, EntityOperation) else due)

    patch.setattr(Draft, "_send", hurry)


def rewound_calls_of_entities_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A rewind does not call again what has not answered."""
    take_up_again = Draft.take_up_again

    def forget(self: Draft, *more: Any) -> None:
        with patch.context() as inside:
            inside.setattr(Draft, "_call_entity", lambda self, call: None)
            take_up_again(self, *more)

    patch.setattr(Draft, "take_up_again", forget)


def lock_ignored(patch: pytest.MonkeyPatch) -> None:
    """An entity that is locked runs whatever comes."""
    patch.setattr(entities, "_is_of", lambda caller, owner: True)


def lock_given_twice(patch: pytest.MonkeyPatch) -> None:
    """A lock goes to whoever asks for it."""
    take = entities._Choice._take

    def give(self: entities._Choice, message: Message, waiting: list[Message]) -> bool:
        if isinstance(message.event, EntityLock):
            self.lock = None
        return take(self, message, waiting)

    patch.setattr(entities._Choice, "_take", give)


def lock_granted_by_the_first(patch: pytest.MonkeyPatch) -> None:
    """The first entity of several says that all are locked."""
    pass_on = entities._Choice._pass_on

    def grant(self: entities._Choice, event: EntityLock, message_id: str) -> None:
        pass_on(self, replace(event, place=len(event.entities)), message_id)

    patch.setattr(entities._Choice, "_pass_on", grant)


def withdrawn_request_kept(patch: pytest.MonkeyPatch) -> None:
    """Whoever ends while they wait for a lock gets it all the same."""
    unlock = entities._Choice._unlock
    patch.setattr(
        entities._Choice, "_unlock", lambda self, event, message_id, waiting: unlock(self, event, message_id, [])
    )


def locked_out_mail_overtaken(patch: pytest.MonkeyPatch) -> None:
    """What a lock has held up comes after what lies behind the release."""

    def choose(self: entities._Choice, mail: Sequence[Message], batch_max: int) -> list[Message]:
        waiting = list(mail)
        for message in mail:
            if message in waiting and len(self.operations) < batch_max and self._take(message, waiting):
                waiting.remove(message)
                self.used.append(message)
        return waiting

    patch.setattr(entities._Choice, "of", choose)


def locked_out_mail_lost(patch: pytest.MonkeyPatch) -> None:
    """Mail that a batch leaves over is put away and not found again."""
    patch.setattr(Partition, "keep", lambda self, instance_id, mail, *, goes_on: None)


def terminated_keeps_locks(patch: pytest.MonkeyPatch) -> None:
    """Who is terminated keeps their locks."""
    _spoil_release(patch, "terminate")


def failed_keeps_locks(patch: pytest.MonkeyPatch) -> None:
    """Who fails or completes keeps their locks."""
    _spoil_release(patch, "_complete")


def continued_keeps_locks(patch: pytest.MonkeyPatch) -> None:
    """Who goes on as new keeps their locks."""
    _spoil_release(patch, "_continue_as_new")


def _spoil_release(patch: pytest.MonkeyPatch, where: str) -> None:
    end = getattr(Draft, where)

    def keep(self: Draft, *more: Any) -> None:
        with patch.context() as inside:
            inside.setattr(Draft, "_release_locks", lambda self: self._locks.clear())
            end(self, *more)

    patch.setattr(Draft, where, keep)


def replaced_keeps_locks(patch: pytest.MonkeyPatch) -> None:
    """Who gives way to another start keeps their locks."""
    farewell = memory.farewell

    def keep(instance: Instance, now: datetime) -> list[Message]:
        return [each for each in farewell(instance, now) if not isinstance(each.event, EntityUnlock)]

    patch.setattr(memory, "farewell", keep)


def rewound_locks_believed(patch: pytest.MonkeyPatch) -> None:
    """A rewind leaves the grant of locks that were given back when it failed."""
    patch.setattr(rewind, "_held_locks", lambda events: set())


# ---------------------------------------------------------------------- clients and sessions


def repeated_start_starts_again(patch: pytest.MonkeyPatch) -> None:
    """A request to start that comes again after the end makes a new instance."""

    def create(self: MemoryStore, start: Start) -> Instance | None:
        existing = self._rows.get(start.instance.instance_id)
        if existing is not None and existing.instance.status not in start.replace:
            return None if existing.instance.created_by == start.instance.created_by else existing.instance
        store_row = type(existing) if existing is not None else _row_type()
        self._replace(store_row(start.instance, has_open_work=True))
        return None

    patch.setattr(MemoryStore, "_create", create)


def _row_type() -> Any:
    from perdure.stores import memory

    return memory._Row


def repeated_send_sends_again(patch: pytest.MonkeyPatch) -> None:
    """The store does not know a message again that has been used up."""
    send = MemoryStore._send

    def forget(self: MemoryStore, letter: Any) -> Any:
        self._answers.clear()
        return send(self, letter)

    patch.setattr(MemoryStore, "_send", forget)


def waiting_clients_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Who waits for an instance hears nothing of its end."""
    patch.setattr(Engine, "_report", lambda self, instance: None)


def sessions_kept(patch: pytest.MonkeyPatch) -> None:
    """Idle sessions stay in memory."""
    patch.setattr(Partition, "idle_sessions", lambda self, sessions_max: [])
