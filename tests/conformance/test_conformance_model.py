"""Random operations on a store and on the memory store, which is the specification, must agree in every answer.

After each step all that both have stored is compared too. CONFORMANCE_SEEDS asks for more seeds than the usual few.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random
from typing import Any

import pytest
from conformance_kit import (
    EXPLOSION,
    NOW,
    SECOND,
    a_scheduled_start,
    activities_of,
    an_event,
    an_instance,
    without_failures,
)
from msgspec.structs import replace

from perdure.core.actions import (
    CancelTimer,
    CompleteOrchestration,
    ContinueAsNew,
    CreateSubOrchestration,
    CreateTimer,
    OrchestratorAction,
    ScheduleTask,
    SendEvent,
)
from perdure.core.events import (
    EventRaised,
    ExecutionResumed,
    ExecutionRewound,
    ExecutionSuspended,
    ExecutionTerminated,
    TaskCompleted,
    TaskFailed,
    TimerCreated,
)
from perdure.core.records import (
    TERMINAL,
    Batch,
    Checkpoint,
    InstanceDump,
    InstanceQuery,
    Lease,
    Message,
    RuntimeStatus,
    Start,
    StoredInstance,
    partition_of,
)
from perdure.core.state import RuntimeState
from perdure.engine.check import check_hub
from perdure.engine.store import Store
from perdure.stores.memory import MemoryStore

SEEDS = int(os.environ.get("CONFORMANCE_SEEDS", "12"))
STEPS = 150
IDS = ["a", "b", "B", "ä"]
HOSTS = ["host-1", "host-2"]
INPUTS = [None, "1", '"' + "x" * 3000 + '"']

Held = dict[tuple[str, int], Lease]


class Agreement:
    """A model, a store under test, and one seed's operations on both. Leases differ between them, nothing else may."""

    def __init__(self, store: Store, seed: int) -> None:
        self.random = Random(seed)
        self.stores: list[Store] = [MemoryStore(store.partitions), store]
        self.held: list[Held] = [{}, {}]
        self.partitions = store.partitions
        self.now = NOW
        self.starts: list[Start] = []
        self.sent: list[Message] = []
        self.checkpoints: list[Checkpoint] = []
        self.steps: list[str] = []
        self.operations: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (30, self.run),
            (12, self.send),
            (10, self.create),
            (8, self.lease),
            (8, self.pass_time),
            (6, self.read),
            (5, self.query),
            (8, self.steer),
            (3, self.purge),
            (3, self.dispatch),
            (3, self.send_again),
            (3, self.create_again),
            (3, self.commit_again),
            (2, self.beat),
            (1, self.reopen),
        ]

    async def live(self, steps: int) -> None:
        weights, operations = zip(*self.operations, strict=True)
        for _ in range(steps):
            (operation,) = self.random.choices(operations, weights)
            await operation()
            await self.both("compare", normalised)
        for store in self.stores:
            assert (await check_hub(store)).findings == ()

    async def both(self, step: str, operation: Callable[[Store, Held], Awaitable[Any]]) -> Any:
        """Do the same on both stores; they must answer alike."""
        self.steps.append(step)
        model, tested = [await operation(store, held) for store, held in zip(self.stores, self.held, strict=True)]
        assert tested == model, f"\n{step}: {tested}\nmodel: {model}\nafter " + ", ".join(self.steps[-40:])
        return model

    # ------------------------------------------------------------------ hosts

    async def lease(self) -> None:
        host = self.random.choice(HOSTS)
        wanted = self.some(list(range(self.partitions)), self.partitions)
        until = self.now + self.random.choice([10, 10, 10, 30, 0]) * SECOND

        async def take(store: Store, held: Held) -> list[tuple[int, bool]]:
            taken = await store.lease(wanted, host, self.now, until)
            for lease in taken:
                epochs = [old.epoch for (_, partition), old in held.items() if partition == lease.partition]
                assert lease.epoch >= max(epochs, default=0)
                assert (lease.host_id, lease.until) == (host, until)
                held[host, lease.partition] = lease
            return sorted((lease.partition, lease.is_takeover) for lease in taken)

        await self.both(f"lease {host} {wanted} for {until - self.now}", take)

    async def beat(self) -> None:
        host, until = self.random.choice(HOSTS), self.now + self.random.randint(0, 20) * SECOND
        await self.both(f"beat {host}", lambda store, _: in_order(store.beat(host, self.now, until)))

    async def pass_time(self) -> None:
        self.now += self.random.randint(1, 12) * SECOND

    async def reopen(self) -> None:
        """A new process; hosts say goodbye first, because stores differ in what they know of one that did not."""
        everything = range(self.partitions)
        for host in HOSTS:
            await self.both("give up", lambda store, _, host=host: store.lease(everything, host, self.now, self.now))
            await self.both("goodbye", lambda store, _, host=host: in_order(store.beat(host, self.now, self.now)))
        await self.stores[1].close()
        await self.stores[1].open()

    # ------------------------------------------------------------------ clients

    async def create(self) -> None:
        starts = [self._start(each) for each in self.some(IDS, 2)]
        self.starts += starts
        await self._create(starts)

    def _start(self, instance_id: str) -> Start:
        choice = self.random.choice
        nothing, everything = frozenset[RuntimeStatus](), frozenset(RuntimeStatus)
        statuses = choice([TERMINAL, TERMINAL, nothing, frozenset({RuntimeStatus.COMPLETED}), everything])
        fields = {"created_at": self.now, "input": choice(INPUTS)}
        if self.random.random() < 0.7:
            return Start(an_instance(instance_id, **fields), statuses)
        start_at = self.now + self.random.randint(0, 30) * SECOND
        return replace(a_scheduled_start(instance_id, start_at, **fields), replace=statuses)

    async def create_again(self) -> None:
        await self._create(self.some(self.starts, 3))

    async def _create(self, starts: Sequence[Start]) -> None:
        step = f"create {[start.instance.instance_id for start in starts]}"
        await self.both(step, lambda store, _: as_list(store.create(starts)))

    async def send(self) -> None:
        messages = [an_event(each) for each in self.some([*IDS, "nobody"], 3)]
        self.sent += messages
        await self._send(messages)

    async def steer(self) -> None:
        """Mostly what may have an effect; what is pointless is for whoever runs the instance to drop."""
        messages: list[Message] = []
        for instance_id, dump in self.some(list((await dumped(self.stores[0])).items()), 3):
            stop = ExecutionTerminated(self.now, "enough", recursive=self.random.random() < 0.5)
            again, pause = ExecutionRewound(self.now, "again"), ExecutionSuspended(self.now)
            likely = {RuntimeStatus.FAILED: again, RuntimeStatus.SUSPENDED: ExecutionResumed(self.now)}
            event = self.random.choice([likely.get(dump.instance.status, pause)] * 3 + [stop, again])
            messages.append(replace(an_event(instance_id), event=event))
        self.sent += messages
        await self._send(messages)

    async def send_again(self) -> None:
        await self._send(self.some(self.sent, 3))

    async def _send(self, messages: Sequence[Message]) -> None:
        step = f"send {[message.instance_id for message in messages]}"
        await self.both(step, lambda store, _: as_list(store.send(messages, self.now)))

    async def query(self) -> None:
        maybe = self.random.random
        parents = frozenset(self.some([*IDS, "nobody"], 3)) if maybe() < 0.3 else None
        conditions: dict[str, Any] = {
            "parents": None if parents is None else tuple(sorted(parents)),
            "instance_ids": tuple(self.some([*IDS, "nobody"], 5)) if maybe() < 0.3 else None,
            "statuses": frozenset(self.some(list(RuntimeStatus), 3)) if maybe() < 0.4 else None,
            "prefix": self.random.choice(["a", "B", ""]) if maybe() < 0.3 else None,
            "created_from": NOW + self.random.randint(0, 60) * SECOND if maybe() < 0.3 else None,
            "created_to": NOW + self.random.randint(0, 200) * SECOND if maybe() < 0.3 else None,
            "limit": self.random.randint(1, 4),
        }

        async def walk(store: Store, _: Held) -> list[Any]:
            pages: list[Any] = []
            after: str | None = None
            while not pages or after is not None:
                page = await store.query(InstanceQuery(after=after, **conditions))
                pages.append(page.instances)
                after = page.after
            counts = await store.count(InstanceQuery(**conditions))
            assert counts == Counter(each.status for page in pages for each in page)
            return pages

        await self.both(f"query {conditions}", walk)

    async def purge(self) -> None:
        some = self.some([*(await dumped(self.stores[0])), "nobody"], 3)
        await self.both(f"purge {some}", lambda store, _: store.purge(some, self.now))

    # ------------------------------------------------------------------ lease holders

    async def run(self) -> None:
        """Commit an episode of some instances, under the last leases that a host had."""
        host = self.random.choice(HOSTS)
        dump = await dumped(self.stores[0])
        batches: dict[int, Batch] = {}
        for instance_id in self.some(list(dump), 4):
            partition = partition_of(instance_id, self.partitions)
            if (host, partition) in self.held[0]:
                batch = batches.setdefault(partition, Batch(self.held[0][host, partition], [], [], []))
                self._run(dump[instance_id], dump, batch)
        await self._commit(host, list(batches.values()))

    def _run(self, dump: InstanceDump, dumps: Mapping[str, InstanceDump], batch: Any) -> None:
        events = tuple(event for row in dump.rows for event in row.events)
        state = RuntimeState(StoredInstance(dump.instance, dump.position, events))
        mail = [each for each in dump.mail if each.deliver_at is None or each.deliver_at <= self.now]
        if self.random.random() < 0.3:
            mail = mail[: self.random.randint(0, len(mail))]
        for activity in state.open_activities():
            if self.random.random() < 0.7:
                is_well = self.random.random() < 0.8
                done, failed = (
                    TaskCompleted(self.now, activity.task_id, "1"),
                    TaskFailed(self.now, activity.task_id, EXPLOSION),
                )
                result = done if is_well else failed
                message_id, target = activity.activity_id, activity.instance_id
                mail.append(Message(message_id, target, activity.execution_id, result, is_stored=False))
        episode = state.accept(mail, self.now)
        custom_status = self.random.choice([None, "1"])
        if episode.is_rewind:
            kept = without_failures(events)
            children = {each: dumps[each].instance for each in state.open_children(kept) if each in dumps}
            numbers = range(state.automaton.next_event_id)
            checkpoint = state.rewind(episode, kept, self._actions(state), custom_status, numbers, children)
        elif episode.events:
            checkpoint = state.apply(episode, self._actions(state), custom_status)
        else:
            checkpoint = None
        if checkpoint is not None:
            batch.checkpoints.append(checkpoint)
            self.checkpoints.append(checkpoint)
        else:
            batch.discarded.extend(episode.consumed)
            batch.replies.extend(episode.replies)

    def _actions(self, state: RuntimeState) -> list[OrchestratorAction]:
        number = state.automaton.next_event_id + self.random.randint(0, 3)  # numbers may leave gaps
        timers = [each.event_id for each in state.automaton.open.values() if isinstance(each, TimerCreated)]
        actions: list[OrchestratorAction] = [CancelTimer(each) for each in timers if self.random.random() < 0.2]
        end = self.random.random()
        if end < 0.15:
            unread = EventRaised(self.now, "unread")
            carried = (unread,) * self.random.randint(0, 2)
            return [
                *actions,
                ContinueAsNew(number, self.random.choice(INPUTS), carried, self.random.choice([None, "2"])),
            ]
        for _ in range(self.random.choice([0, 0, 1, 1, 2, 4])):
            number += 1
            called, told = self.random.choice([*IDS, None]), self.random.choice([*IDS, "nobody"])
            child = CreateSubOrchestration(number, "ship", self.random.choice(INPUTS), called, None)
            timer = CreateTimer(number, self.now + self.random.randint(0, 20) * SECOND)
            event = SendEvent(number, told, "hello", None)
            actions.append(self.random.choice([ScheduleTask(number, "charge", None), timer, child, event]))
        if end < 0.45:
            failure = EXPLOSION if end < 0.2 else None
            actions.append(CompleteOrchestration(number + 1, "1", failure))
        return actions

    async def commit_again(self) -> None:
        """A checkpoint that the instance has outgrown, unless its commit was refused.

        An execution that was rewound has been at its positions before; only epochs keep its past from coming again.
        """
        host = self.random.choice(HOSTS)
        rewound = {each.execution_id for each in self.checkpoints if each.replaces_history and each.events}
        for checkpoint in self.some([each for each in self.checkpoints if each.execution_id not in rewound], 1):
            partition = partition_of(checkpoint.instance.instance_id, self.partitions)
            if (host, partition) in self.held[0]:
                await self._commit(host, [Batch(self.held[0][host, partition], [checkpoint])])

    async def _commit(self, host: str, batches: Sequence[Batch]) -> None:
        async def commit(store: Store, held: Held) -> Any:
            return await store.commit(
                [
                    Batch(held[host, batch.lease.partition], batch.checkpoints, batch.discarded, batch.replies)
                    for batch in batches
                ]
            )

        moved = [checkpoint.instance.instance_id for batch in batches for checkpoint in batch.checkpoints]
        await self.both(f"commit {host} {moved}", commit)

    async def dispatch(self) -> None:
        host = self.random.choice(HOSTS)
        for instance_id in self.some(list(await dumped(self.stores[0])), 1):
            partition = partition_of(instance_id, self.partitions)
            if (host, partition) not in self.held[0]:
                return
            checkpoints = [each for each in self.checkpoints if each.instance.instance_id == instance_id]
            activities = [each for checkpoint in self.some(checkpoints, 2) for each in activities_of(checkpoint, 2)]
            activities = list({each.activity_id: each for each in activities}.values())

            async def count(store: Store, held: Held, lease: Any = (host, partition), some: Any = activities) -> Any:
                return [*await store.dispatch(held[lease], some), *await store.dispatches(held[lease], some)]

            await self.both(f"dispatch {host} {instance_id}", count)

    async def read(self) -> None:
        """By a current lease: what one that is lost reads is not said."""
        partition, host = self.random.randrange(self.partitions), self.random.choice(HOSTS)
        limit, before = self.random.randint(1, 5), self.now + self.random.randint(0, 30) * SECOND
        unstarted_only = self.random.random() < 0.5
        lease = self.held[0].get((host, partition))
        if lease is None or (await self.stores[0].commit([Batch(lease, ())])).lost:
            return

        async def walk(store: Store, held: Held) -> tuple[list[Message], list[str]]:
            found: list[Message] = []
            after: tuple[int, int] | None = None
            while True:
                page = await store.receive(held[host, partition], before, after, limit)
                found += page.mail
                after = page.after
                if after is None:
                    break
            ids: list[str] = []
            last: str | None = None
            while some := await store.open_work(held[host, partition], last, limit, unstarted_only=unstarted_only):
                ids += some
                last = ids[-1]
            return found, ids

        await self.both(f"read {partition}", walk)

    def some(self, choices: Sequence[Any], at_most: int) -> list[Any]:
        """One or more of the choices, none twice, in any order; none if there is no choice."""
        count = min(len(choices), self.random.randint(1, at_most))
        return self.random.sample(choices, count)


async def dumped(store: Store) -> dict[str, InstanceDump]:
    return {each.instance.instance_id: each async for each in store.dump()}


async def normalised(store: Store, _: Held) -> dict[str, Any]:
    """What is stored, without epochs, which are each store's own."""
    found: dict[str, Any] = {}
    for instance_id, each in (await dumped(store)).items():
        rows = [(row.position, row.execution_id, row.consumed, row.custom_status, row.events) for row in each.rows]
        found[instance_id] = (each.instance, each.position, each.has_open_work, rows, each.mail)
    return found


async def as_list(answer: Awaitable[Sequence[Any]]) -> list[Any]:
    return list(await answer)


async def in_order(answer: Awaitable[Sequence[str]]) -> list[str]:
    return sorted(await answer)


async def agree(make_store: Callable[[], Store], seed: int, steps: int = STEPS) -> None:
    """Let one seed's operations run on a new store.

    Raises:
        AssertionError: the store and the model differ, or what they stored is not lawful.
    """
    store = make_store()
    await store.open()
    try:
        await Agreement(store, seed).live(steps)
    except AssertionError as error:
        error.add_note(f"seed {seed}")
        raise
    finally:
        await store.close()


def test_random_operations_agree_with_the_memory_store(make_empty_store: Callable[[], Store]):
    for seed in range(SEEDS):
        asyncio.run(agree(make_empty_store, seed))


# ---------------------------------------------------------------------- what the comparison is able to find


class ForgetsFences(MemoryStore):
    def _is_current(self, lease: Lease) -> bool:
        return True


class ReplacesRunningInstances(MemoryStore):
    def _insert_child(self, child: Any) -> None:
        self._replace(child)


class KeepsConsumedMail(MemoryStore):
    def _remove(self, message_ids: Any) -> None:
        super()._remove(list(message_ids)[:1])


class DropsStartsOfOthers(MemoryStore):
    def _replace(self, row: Any) -> None:
        self._remove(list(self._mailboxes.get(row.instance.instance_id, ())))
        super()._replace(row)


class ForgetsAnswers(MemoryStore):
    def _send(self, letter: Any) -> Any:
        self._answers.pop(letter.message.message_id, None)
        return super()._send(letter)


class ForgetsWhoCreated(MemoryStore):
    def _create(self, start: Start) -> Any:
        row = self._rows.get(start.instance.instance_id)
        return row.instance if row and row.instance.status not in start.replace else super()._create(start)


class PutsCarriedMailLast(MemoryStore):
    def _insert(self, letters: Any) -> None:
        for letter in letters:
            letter.message = Message(*[False if each is True else each for each in fields(letter.message)])
            super()._insert([letter])


class LosesThePageBoundary(MemoryStore):
    async def receive(self, lease: Lease, before: Any, after: Any, limit: int) -> Any:
        return await super().receive(lease, before, after and (after[0], after[1] + 1), limit)


class ExpiresLeasesEarly(MemoryStore):
    async def lease(self, partitions: Any, host_id: str, now: Any, until: Any) -> Any:
        return await super().lease(partitions, host_id, now if until <= now else min(until, now + 3 * SECOND), until)


class ForgetsTakeovers(MemoryStore):
    async def lease(self, *arguments: Any) -> Any:
        return [replace(each, is_takeover=False) for each in await super().lease(*arguments)]


class StartsScheduledInstancesAtOnce(MemoryStore):
    def _create(self, start: Start) -> Any:
        return super()._create(replace(start, message=None))


class PurgesWhateverItIsGiven(MemoryStore):
    async def purge(self, instance_ids: Any, now: Any) -> Any:
        await super().purge(instance_ids, now)
        return frozenset(instance_ids)


class ForgetsWhoCreatedWhatWasPurged(MemoryStore):
    async def purge(self, instance_ids: Any, now: Any) -> Any:
        outlived = set(self._outlived)
        purged = await super().purge(instance_ids, now)
        self._outlived = outlived
        return purged


class LeavesParentsWaiting(MemoryStore):
    def _insert(self, letters: Any) -> None:
        super()._insert([each for each in letters if not each.message.message_id.endswith(("/replaced", "/purged"))])


class KeepsHistoriesThatAreReplaced(MemoryStore):
    def _apply(self, checkpoint: Checkpoint, lease: Lease) -> bool:
        return super()._apply(replace(checkpoint, replaces_history=False), lease)


class ListsGrandchildrenToo(MemoryStore):
    async def query(self, query: InstanceQuery) -> Any:
        parents = query.parents and (*query.parents, *IDS)
        return await super().query(replace(query, parents=parents))


class CountsOneByOne(MemoryStore):
    async def dispatch(self, lease: Lease, activities: Any) -> Any:
        await super().dispatch(lease, activities[1:])
        return await super().dispatch(lease, activities)


class RewindsNothing(MemoryStore):
    def _insert(self, letters: Any) -> None:
        super()._insert([each for each in letters if not isinstance(each.message.event, ExecutionRewound)])


def fields(message: Message) -> list[Any]:
    return [getattr(message, each) for each in message.__struct_fields__]


@pytest.mark.parametrize("fault", [
    ForgetsFences, ReplacesRunningInstances, KeepsConsumedMail, DropsStartsOfOthers, ForgetsAnswers, ForgetsWhoCreated,
    PutsCarriedMailLast, LosesThePageBoundary, ExpiresLeasesEarly, ForgetsTakeovers, StartsScheduledInstancesAtOnce,
    PurgesWhateverItIsGiven, ForgetsWhoCreatedWhatWasPurged, LeavesParentsWaiting, KeepsHistoriesThatAreReplaced,
    ListsGrandchildrenToo, CountsOneByOne, RewindsNothing,
])  # fmt: skip
def test_a_planted_fault_is_found(fault: type[MemoryStore]):
    async def look() -> None:
        for seed in range(10 * SEEDS):
            await agree(lambda: fault(2), seed)

    with pytest.raises((AssertionError, KeyError)):
        asyncio.run(look())
