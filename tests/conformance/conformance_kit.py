"""What conformance tests are written with: a store, leases on it, and checkpoints made as the engine makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count

from perdure.core.actions import CompleteOrchestration, OrchestratorAction
from perdure.core.events import (
    EventRaised,
    ExecutionCompleted,
    ExecutionRewound,
    ExecutionStarted,
    HistoryEvent,
    OrchestratorCompleted,
    OrchestratorStarted,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
)
from perdure.core.failures import FailureDetails
from perdure.core.records import (
    ActivityTask,
    Batch,
    Checkpoint,
    CommitOutcome,
    Instance,
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

NOW = datetime(2031, 5, 4, 12, 30, 15, 123456, tzinfo=UTC)
SECOND = timedelta(seconds=1)
FAR = timedelta(days=365)
EXPLOSION = FailureDetails("ValueError", "bang")

_numbers = count(1)


class Hub:
    """A hub in a store, `host` holding the leases of all its partitions. `now` is the test's to move."""

    def __init__(self, make_store: Callable[[], Store]) -> None:
        self._make_store = make_store
        self.store = make_store()
        self.host = "host-1"
        self.now = NOW
        self.leases: dict[int, Lease] = {}

    async def __aenter__(self) -> Hub:
        await self.store.open()
        await self.take_leases(self.host)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                findings = (await check_hub(self.store)).findings
                assert findings == ()
        finally:
            await self.store.close()

    async def reopen(self) -> None:
        """Close the store and open it again, as a new process would; its leases are taken by a new incarnation."""
        await self.store.close()
        self.store = self._make_store()
        await self.store.open()
        self.now += 2 * FAR
        await self.take_leases(f"incarnation-{next(_numbers)}")

    async def take_leases(self, host: str) -> None:
        self.host = host
        held = await self.store.lease(range(self.store.partitions), host, self.now, self.now + FAR)
        self.leases = {lease.partition: lease for lease in held}
        assert len(held) == self.store.partitions

    def lease_of(self, instance_id: str) -> Lease:
        return self.leases[partition_of(instance_id, self.store.partitions)]

    def neighbours(self, name: str) -> Iterator[str]:
        """Ids that all belong to one partition."""
        names = (f"{name}-{number}" for number in count())
        return (each for each in names if partition_of(each, self.store.partitions) == 0)

    # ------------------------------------------------------------------ clients

    async def create(self, instance_id: str, **fields: object) -> Instance:
        """Start an instance that nothing is in the way of."""
        instance = an_instance(instance_id, created_at=self.now, **fields)
        assert await self.store.create([Start(instance)]) == [None]
        return instance

    async def schedule(self, instance_id: str, start_at: datetime, **fields: object) -> Start:
        """Start an instance later."""
        start = a_scheduled_start(instance_id, start_at, created_at=self.now, **fields)
        assert await self.store.create([start]) == [None]
        return start

    async def tell(self, instance_id: str, event: HistoryEvent) -> RuntimeStatus | None:
        """Send an event that steers an instance."""
        (status,) = await self.store.send([Message(f"told-{next(_numbers)}", instance_id, None, event)], self.now)
        return status

    async def raise_event(self, instance_id: str, name: str = "go", input: str | None = None) -> Message:
        message = an_event(instance_id, name, input)
        (status,) = await self.store.send([message], self.now)
        assert status is not None
        assert not status.is_terminal
        return message

    async def get(self, instance_id: str) -> Instance:
        (found,) = (await self.store.query(InstanceQuery(instance_ids=(instance_id,)))).instances
        return found

    async def load(self, instance_id: str) -> StoredInstance:
        (found,) = await self.store.load_instances([instance_id])
        return found

    async def dump(self) -> dict[str, InstanceDump]:
        return {each.instance.instance_id: each async for each in self.store.dump()}

    # ------------------------------------------------------------------ the lease holder

    async def mail(self, instance_id: str, before: datetime | None = None, limit: int = 100) -> list[Message]:
        """All mail of an instance that is due, each message once."""
        lease = self.lease_of(instance_id)
        return [each for each in await self.walk(lease, before, limit) if each.instance_id == instance_id]

    async def walk(self, lease: Lease, before: datetime | None = None, limit: int = 100) -> list[Message]:
        """All due mail of a partition, page by page, each message once."""
        found: dict[str, Message] = {}
        after: tuple[int, int] | None = None
        while True:
            page = await self.store.receive(lease, before or self.now, after, limit)
            assert len(page.mail) <= limit
            for message in page.mail:
                found.setdefault(message.message_id, message)
            if page.after is None:
                return list(found.values())
            assert after is None or page.after > after, "the walk does not come forward"
            after = page.after

    async def open_work(self, *, unstarted_only: bool = False, limit: int = 100) -> list[str]:
        """Ids of all instances that go on without mail, of all partitions, page by page."""
        found: list[str] = []
        for lease in self.leases.values():
            after: str | None = None
            while page := await self.store.open_work(lease, after, limit, unstarted_only=unstarted_only):
                assert len(page) <= limit
                assert list(page) == sorted(page)
                found += page
                after = page[-1]
        return sorted(found)

    async def compute(
        self,
        instance_id: str,
        *actions: OrchestratorAction,
        mail: Sequence[Message] | None = None,
        custom_status: str | None = None,
    ) -> Checkpoint:
        """The checkpoint of an episode that takes in `mail`, or all there is, and decides `actions`."""
        state = RuntimeState(await self.load(instance_id))
        episode = state.accept(await self.mail(instance_id) if mail is None else mail, self.now)
        return state.apply(episode, actions, custom_status)

    async def commit(self, *checkpoints: Checkpoint, leases: dict[int, Lease] | None = None) -> CommitOutcome:
        """Commit checkpoints in this order, in one batch a partition."""
        leases = leases or self.leases
        batches: dict[int, list[Checkpoint]] = {}
        for each in checkpoints:
            batches.setdefault(partition_of(each.instance.instance_id, self.store.partitions), []).append(each)
        return await self.store.commit([Batch(leases[partition], some) for partition, some in batches.items()])

    async def discard(self, *messages: Message, replies: Sequence[Message] = ()) -> CommitOutcome:
        lease = self.lease_of(messages[0].instance_id)
        return await self.store.commit([Batch(lease, (), [each.message_id for each in messages], replies)])

    async def step(
        self,
        instance_id: str,
        *actions: OrchestratorAction,
        mail: Sequence[Message] | None = None,
        custom_status: str | None = None,
    ) -> Checkpoint:
        """Run one episode to its durable end."""
        checkpoint = await self.compute(instance_id, *actions, mail=mail, custom_status=custom_status)
        assert await self.commit(checkpoint) == CommitOutcome()
        return checkpoint

    async def fail(
        self, instance_id: str, *actions: OrchestratorAction, custom_status: str | None = None
    ) -> Checkpoint:
        """Run an instance until its first open activity has failed, and it with it."""
        if actions:
            await self.step(instance_id, *actions, custom_status=custom_status)
        activity = RuntimeState(await self.load(instance_id)).open_activities()[0]
        event = TaskFailed(self.now, activity.task_id, EXPLOSION)
        mail = Message(activity.activity_id, instance_id, activity.execution_id, event, is_stored=False)
        return await self.step(instance_id, CompleteOrchestration(99, failure=EXPLOSION), mail=[mail])

    async def compute_rewind(self, instance_id: str, *actions: OrchestratorAction) -> Checkpoint:
        """The checkpoint by which a failed instance takes up again what it did before it failed."""
        stored = await self.load(instance_id)
        state = RuntimeState(stored)
        mail = await self.mail(instance_id)
        if not any(isinstance(each.event, ExecutionRewound) for each in mail):
            event = ExecutionRewound(self.now, "try again")
            mail = [*mail, Message(f"rewind-{next(_numbers)}", instance_id, None, event, is_stored=False)]
        episode = state.accept(mail, self.now)
        assert episode.is_rewind
        kept = without_failures(stored.events)
        children = {
            each.instance.instance_id: each.instance
            for each in await self.store.load_instances(state.open_children(kept))
        }
        awaited = range(len(stored.events))
        return state.rewind(episode, kept, actions, None, awaited, children)

    async def rewind(self, instance_id: str, *actions: OrchestratorAction) -> Checkpoint:
        """Take a failed instance back to before it failed, durably."""
        checkpoint = await self.compute_rewind(instance_id, *actions)
        assert await self.commit(checkpoint) == CommitOutcome()
        return checkpoint


def an_instance(instance_id: str, **fields: object) -> Instance:
    execution_id = f"execution-{next(_numbers)}"
    given: dict[str, object] = {
        "execution_id": execution_id,
        "name": "order",
        "status": RuntimeStatus.PENDING,
        "created_at": NOW,
        "created_by": execution_id,
        **fields,
    }
    given.setdefault("updated_at", given["created_at"])
    return Instance(instance_id=instance_id, **given)  # type: ignore[arg-type]


def a_scheduled_start(instance_id: str, start_at: datetime, **fields: object) -> Start:
    """A start as a client makes it: the row holds everything, the message wakes it."""
    instance = an_instance(instance_id, start_at=start_at, **fields)
    event = ExecutionStarted(instance.created_at, instance.execution_id, instance.name)
    message_id, execution_id = f"{instance.execution_id}/start", instance.execution_id
    return Start(instance, message=Message(message_id, instance_id, execution_id, event, deliver_at=start_at))


def an_event(instance_id: str, name: str = "go", input: str | None = None, message_id: str | None = None) -> Message:
    event = EventRaised(NOW, name, input)
    return Message(message_id or f"event-{next(_numbers)}", instance_id, None, event)


def a_result(checkpoint: Checkpoint, task_id: int, result: str | None = None) -> Message:
    """The unstored mail by which an activity of this host answers."""
    activity = next(each for each in checkpoint.activities if each.task_id == task_id)
    event: HistoryEvent = TaskCompleted(NOW, task_id, result)
    return Message(activity.activity_id, activity.instance_id, activity.execution_id, event, is_stored=False)


def activities_of(checkpoint: Checkpoint, count: int) -> list[ActivityTask]:
    """So many calls of one execution; a store need not know them."""
    row = checkpoint.instance
    return [
        ActivityTask(f"{row.execution_id}/{number}", row.instance_id, row.execution_id, number, "charge", None)
        for number in range(count)
    ]


def without_failures(events: Sequence[HistoryEvent]) -> list[HistoryEvent]:
    """What a rewind keeps of the history of an execution whose code awaits what failed, and nothing else."""
    kept: list[HistoryEvent] = []
    for event in events:
        if isinstance(event, TaskFailed | SubOrchestrationInstanceFailed | ExecutionCompleted):
            continue
        if isinstance(event, OrchestratorCompleted) and isinstance(kept[-1], OrchestratorStarted):
            kept.pop()
        else:
            kept.append(event)
    return kept


def ids(messages: Sequence[Message]) -> list[str]:
    return [each.message_id for each in messages]
