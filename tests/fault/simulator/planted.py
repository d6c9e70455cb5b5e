"""Faults to plant into the product, to see whether the simulator finds them.

Each plant takes a guard away, or does a thing too early, twice or never, as somebody might by mistake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from perdure.core.actions import OrchestratorAction
from perdure.core.automaton import EventAutomaton
from perdure.core.cursor import OrchestrationCursor
from perdure.core.events import ExecutionStarted
from perdure.core.records import (
    Checkpoint,
    CommitOutcome,
    Instance,
    Lease,
    Message,
    RuntimeStatus,
    Start,
)
from perdure.core.state import Episode, RuntimeState
from perdure.core.tasks import TaskAll
from perdure.engine.engine import Engine
from perdure.engine.partition import Partition, Released
from perdure.stores import sql
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
    patch.setattr(EventAutomaton, "answers_open", lambda self, event: True)


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
            if (not checkpoint.position_after) and instance_id not in self._mail:
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
        self: RuntimeState, episode: Episode, actions: Iterable[OrchestratorAction], custom_status: str | None
    ) -> Checkpoint:
        checkpoint = apply(self, episode, actions, custom_status)
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
