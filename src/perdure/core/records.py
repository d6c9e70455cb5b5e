"""The values that engine and store exchange.

Rule 1: a record is complete: whoever receives it needs no second look-up to act on it.
Rule 2: payloads are JSON text, times are aware UTC, and nothing here knows how either came about.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from zlib import crc32

from msgspec import Struct

from perdure.core.events import ExecutionRewound, HistoryEvent, ParentInstance
from perdure.core.failures import FailureDetails


class RuntimeStatus(StrEnum):
    """Where an instance stands; the names are those of the management API."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    COMPLETED = "Completed"
    FAILED = "Failed"
    TERMINATED = "Terminated"

    @property
    def is_terminal(self) -> bool:
        """Nothing more will happen to this execution by itself."""
        return self in TERMINAL


TERMINAL = frozenset({RuntimeStatus.COMPLETED, RuntimeStatus.FAILED, RuntimeStatus.TERMINATED})


class StartPolicy(StrEnum):
    """What becomes of a start whose instance id is taken by an instance that has not ended."""

    REJECT = "reject"
    IGNORE = "ignore"
    REPLACE = "replace"


def is_entity_id(instance_id: str) -> bool:
    """Whether an instance id is an entity's; such an instance needs no creation."""
    return instance_id.startswith("@")


def takes_mail(status: RuntimeStatus, event: HistoryEvent) -> bool:
    """Whether an instance in `status` can still do something with `event`: what has ended only a rewind reaches."""
    if isinstance(event, ExecutionRewound):
        return status is RuntimeStatus.FAILED
    return not status.is_terminal


class EntityState(Struct, frozen=True, omit_defaults=True, gc=False):
    """What an entity is between batches: its user's state as JSON text, or None, and whose lock it has."""

    state: str | None = None
    lock: ParentInstance | None = None


class HeldLock(Struct, frozen=True, omit_defaults=True, gc=False):
    """Locks that an execution has asked for as number `lock_id` and not given back.

    `rewinds` is how often it had been rewound by then: what it had before that was given back.
    """

    lock_id: int
    entities: tuple[str, ...]
    rewinds: int = 0

    def owner(self, holder: Instance) -> ParentInstance:
        """What entities know the holder by."""
        execution_id = holder.execution_id if not self.rewinds else f"{holder.execution_id}/r{self.rewinds}"
        return ParentInstance(holder.instance_id, execution_id, holder.name, self.lock_id)


class Instance(Struct, frozen=True, gc=False):
    """The row that everyone queries: an orchestration or entity as its last checkpoint left it.

    Attributes:
        execution_id: names one generation; new at start and at every continue-as-new.
        created_by: id of the request that made the row; a repeated request recognises its own work by it.
        output: JSON text: the result, the failure's sentence, or the reason of a termination.
        created_at: kept over all generations.
        start_at: its code does not run before this time; None for at once.
        locks: the locks of entities that it holds or waits for.
        entity: what makes it an entity; None for orchestrations.
    """

    instance_id: str
    execution_id: str
    name: str
    status: RuntimeStatus
    created_at: datetime
    updated_at: datetime
    created_by: str
    input: str | None = None
    output: str | None = None
    custom_status: str | None = None
    failure: FailureDetails | None = None
    version: str | None = None
    parent: ParentInstance | None = None
    tags: dict[str, str] | None = None
    completed_at: datetime | None = None
    start_at: datetime | None = None
    locks: tuple[HeldLock, ...] = ()
    entity: EntityState | None = None


class Message(Struct, frozen=True, gc=False):
    """An event addressed to an instance.

    Attributes:
        message_id: unique for ever; repetition of the same id is harmless.
        execution_id: only this execution may consume it; None means whichever runs.
        deliver_at: not before this time, or None for at once.
        is_carried: unread mail of the previous generation; goes before everything else.
        is_stored: the store holds a row that the consuming checkpoint has to delete. Results of this host's own
            activities are not stored: the history says that they are missing, and the activity runs again.
    """

    message_id: str
    instance_id: str
    execution_id: str | None
    event: HistoryEvent
    deliver_at: datetime | None = None
    is_carried: bool = False
    is_stored: bool = True


class ActivityTask(Struct, frozen=True, gc=False):
    """One activity call that must run at least once. `activity_id` is `execution id/task id`, the idempotency key."""

    activity_id: str
    instance_id: str
    execution_id: str
    task_id: int
    name: str
    input: str | None


class Checkpoint(Struct, frozen=True, gc=False):
    """Everything one episode changes, applied whole or not at all.

    Attributes:
        instance: the row as it will be.
        execution_id, position: what the stored row must still say, or the checkpoint is stale. `position` counts the
            checkpoints of that execution so far.
        events: the episode's delta of history, or if that is replaced, the whole of it.
        messages: mail to store, timers (mail to oneself) included.
        children: rows of child orchestrations to insert; a terminal instance in the way is replaced, any other stays.
        activities: calls that may start once this is durable. They need no row: the history says that they are open.
        consumed: ids of stored mail that this episode used up or made obsolete.
        has_open_work: the instance goes on without mail: it has open activities, or a generation to begin.
        changes_locks: `instance.locks` may differ from what is stored.
        creates: there is no row yet: it is inserted first.
        deletes: nothing of the row is worth keeping: it goes. With `creates`, there is none before or after.
        changes_open_work: `has_open_work` may differ from what the row says; a store may leave its index alone if not.
        replaces_history: the stored history goes; the row, with another execution id and input perhaps, stands at
            position 1 with `events` as its first checkpoint, or at position 0 if there are none.
    """

    instance: Instance
    execution_id: str
    position: int
    events: tuple[HistoryEvent, ...]
    messages: tuple[Message, ...] = ()
    children: tuple[Instance, ...] = ()
    activities: tuple[ActivityTask, ...] = ()
    consumed: tuple[str, ...] = ()
    has_open_work: bool = False
    changes_open_work: bool = True
    replaces_history: bool = False
    changes_locks: bool = False
    creates: bool = False
    deletes: bool = False

    @property
    def position_after(self) -> int:
        """What the stored row says once this is applied."""
        return int(bool(self.events)) if self.replaces_history else self.position + 1


class Lease(Struct, frozen=True, gc=False):
    """The right to run a partition until a time.

    `epoch` fences out former holders and is never used twice. `is_takeover`: the last holder did not give the lease up,
    so it may have died of what it was running.
    """

    partition: int
    host_id: str
    epoch: int
    until: datetime
    is_takeover: bool = False


class Batch(Struct, frozen=True, gc=False):
    """What the holder of one lease commits at once.

    `discarded` are ids of stored mail that no instance wants any more (stale, duplicate, or for nobody), and `replies`
    is mail that the discarding itself sends, such as "that instance id is taken" to the parent of a refused child.
    """

    lease: Lease
    checkpoints: Sequence[Checkpoint]
    discarded: Sequence[str] = ()
    replies: Sequence[Message] = ()


class CommitOutcome(Struct, frozen=True):
    """What a commit did not apply: partitions whose lease is lost, and instances that somebody else changed."""

    lost: frozenset[int] = frozenset()
    stale: frozenset[str] = frozenset()


class StoredInstance(Struct, frozen=True):
    """One snapshot of an instance: its row, its position, and the history of its current execution.

    `damage` says what is wrong with a history that cannot be read; `events` is then empty.
    """

    instance: Instance
    position: int
    events: tuple[HistoryEvent, ...] = ()
    damage: str | None = None


class MailPage(Struct, frozen=True):
    """Some due mail in order of delivery; `after` continues the walk, None ends it."""

    mail: tuple[Message, ...]
    after: tuple[int, int] | None


class Start(Struct, frozen=True):
    """A request to create an instance.

    Attributes:
        replace: statuses in which an existing instance gives way.
        message: what starts the instance when its time comes; without one its row does, at once.
    """

    instance: Instance
    replace: frozenset[RuntimeStatus] = TERMINAL
    message: Message | None = None


class ScheduleStatus(Struct, frozen=True):
    """Where the schedule of a timer function stands.

    Attributes:
        name: the function's.
        schedule: the expression that `next` was computed from; with another one, `next` means nothing.
        last: when the function ran last, or None if it never did.
        next: when it is to run next. If that is past, nobody was there to run it.
        updated_at: when this was stored.
    """

    name: str
    schedule: str
    last: datetime | None
    next: datetime
    updated_at: datetime


class InstanceQuery(Struct, frozen=True):
    """Which instances to list: all given conditions hold. Times are inclusive; pages are in order of creation.

    `parents` are ids of instances whose children are wanted.
    """

    instance_ids: tuple[str, ...] | None = None
    statuses: frozenset[RuntimeStatus] | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    prefix: str | None = None
    parents: tuple[str, ...] | None = None
    limit: int = 100
    after: str | None = None


class EntityQuery(Struct, frozen=True):
    """Which entities to list: all given conditions hold. Times are inclusive; pages are in order of id.

    `prefix` is the beginning of an instance id, so `@counter@` asks for all of that name.
    """

    prefix: str = "@"
    updated_from: datetime | None = None
    updated_to: datetime | None = None
    locked_only: bool = False
    limit: int = 100
    after: str | None = None


class InstancePage(Struct, frozen=True):
    """One page of instances; `after` asks for the next, None says there is none."""

    instances: tuple[Instance, ...]
    after: str | None


class HistoryRow(Struct, frozen=True):
    """One stored checkpoint, as the checker reads it."""

    position: int
    execution_id: str
    epoch: int
    consumed: tuple[str, ...]
    custom_status: str | None
    events: tuple[HistoryEvent, ...]
    is_intact: bool


class InstanceDump(Struct, frozen=True):
    """All that a store keeps about one instance."""

    instance: Instance
    position: int
    has_open_work: bool
    rows: tuple[HistoryRow, ...]
    mail: tuple[Message, ...]


def partition_of(instance_id: str, partitions: int) -> int:
    """The partition that an instance belongs to; the same for ever and on every host."""
    return crc32(instance_id.encode()) % partitions
