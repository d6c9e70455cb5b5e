"""The storage seam: what the engine needs from a database, and what it may rely on.

The contract; `tests/conformance` quotes these sentences as its test names.

1. A host id is an incarnation: new with every process start. `lease` grants free or expired partitions with a higher
   epoch, extends the holder's own with the same epoch, leaves out the others; `until <= now` gives them up. What was
   not given up is granted as a take-over.
2. An embedded store holds a process-lifetime lock; who gets it ends every older incarnation at once.
3. `commit` is one transaction. A batch whose epoch is not current is refused whole and reported as lost; a checkpoint
   whose (execution id, position) is not the stored one is left out and reported as stale; the rest is applied in its
   order, each checkpoint whole or not at all, its children before its own row. If `commit` raises, any subset may have
   been applied.
4. A message is delivered by `receive` until a checkpoint that consumed it, or a batch that discarded it, is durable,
   and never after. `create` and `send` recognise a repeated request and answer it as they did the first time, even
   after the instance of a `create` gave way to another.
5. `receive` walks the mail due up to a time, in pages, oldest first: carried mail, then mail for at once in the order
   it was stored, then timers by time. Repeats are allowed, missing is not. A lease that is lost reads anything, and
   raises nothing.
6. `open_work` names every instance that goes on without mail: not yet started, begun anew, or with open activities. An
   instance created with a message is not among them before that message has been consumed.
7. Reads see only durable changes. A store never reads a clock: every time comes in as an argument.
8. An instance that gives way to another takes its history along, and its mail, but for mail to yet another execution:
   the start of a child that is to be refused owes its parent an answer. If it had not ended, its own parent hears so
   in the same transaction (`farewell`). Purging takes instance, history, mail and payloads, of instances that
   have ended and of no others.
   Entities are rows without history; nothing waits for their creation.
9. A payload of any size goes in and comes out unchanged; a large input is not written again with every checkpoint.
10. `save_schedule` replaces what was stored under that name; by a lease whose epoch is not current it stores nothing,
   and says so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from perdure.core.records import (
    ActivityTask,
    Batch,
    CommitOutcome,
    EntityQuery,
    HistoryRow,
    Instance,
    InstanceDump,
    InstancePage,
    InstanceQuery,
    Lease,
    MailPage,
    Message,
    RuntimeStatus,
    ScheduleStatus,
    Start,
    StoredInstance,
)


class PartitionStore(Protocol):
    """What a lease holder does with its partitions."""

    @property
    def partitions(self) -> int:
        """How many partitions the hub has; fixed when it was created."""
        ...

    async def beat(self, host_id: str, now: datetime, until: datetime) -> Sequence[str]:
        """Say that this host lives until `until` (or no longer, if that is past), and hear which hosts do."""
        ...

    async def lease(self, partitions: Collection[int], host_id: str, now: datetime, until: datetime) -> Sequence[Lease]:
        """Take, extend or give up leases; returns those that `host_id` now holds among `partitions`."""
        ...

    async def open_work(
        self, lease: Lease, after: str | None, limit: int, *, unstarted_only: bool = False
    ) -> Sequence[str]:
        """Ids of instances that go on without mail, in order of id, beginning after `after`.

        With `unstarted_only` just those at position 0, which another host's client may have created.
        """
        ...

    async def receive(self, lease: Lease, before: datetime, after: tuple[int, int] | None, limit: int) -> MailPage:
        """The next page of mail to deliver before a time."""
        ...

    async def commit(self, batches: Sequence[Batch]) -> CommitOutcome:
        """Apply the batches of one host in one transaction.

        Raises:
            StoreUnavailableError: whether it was applied is not known.
        """
        ...

    async def dispatch(self, lease: Lease, activities: Sequence[ActivityTask]) -> Sequence[int]:
        """Count that activities are about to run which a crash interrupted; how often each has been counted by now."""
        ...

    async def dispatches(self, lease: Lease, activities: Sequence[ActivityTask]) -> Sequence[int]:
        """How often each of these activities has been counted."""
        ...

    async def load_instances(self, instance_ids: Collection[str]) -> Sequence[StoredInstance]:
        """Snapshots of those instances that exist."""
        ...

    async def save_schedule(self, lease: Lease, status: ScheduleStatus) -> bool:
        """Store where the schedule of a timer function stands; False if the lease is lost.

        Raises:
            StoreUnavailableError: whether it was stored is not known.
        """
        ...


class InstanceStore(Protocol):
    """What clients do."""

    async def create(self, starts: Sequence[Start]) -> Sequence[Instance | None]:
        """Create instances; for each, None if it is there now, or the instance that is in the way."""
        ...

    async def send(self, messages: Sequence[Message], now: datetime) -> Sequence[RuntimeStatus | None]:
        """Store messages to instances; for each, the status of its target in the same transaction.

        None means that there is no such instance. A message that its target does not take (`takes_mail`) is not stored.
        Entities are always there.
        """
        ...

    async def query(self, query: InstanceQuery) -> InstancePage:
        """List instances."""
        ...

    async def entities(self, query: EntityQuery) -> InstancePage:
        """List entities."""
        ...

    async def count(self, query: InstanceQuery) -> Mapping[RuntimeStatus, int]:
        """How many instances there are in each status; `limit` and `after` do not matter."""
        ...

    async def purge(self, instance_ids: Collection[str], now: datetime) -> frozenset[str]:
        """Remove those of these that have ended or are entities, with all that is kept of them; returns their ids."""
        ...

    async def schedules(self) -> Sequence[ScheduleStatus]:
        """Where the schedules of timer functions stand, in order of name."""
        ...

    async def history(self, instance_id: str) -> Sequence[HistoryRow]:
        """The stored checkpoints of the current execution, in order."""
        ...

    def dump(self) -> AsyncIterator[InstanceDump]:
        """Everything there is about every instance, for the checker."""
        ...


class Store(PartitionStore, InstanceStore, Protocol):
    """The durable state of one task hub."""

    async def open(self) -> None:
        """Create or migrate the hub; harmless when repeated.

        Raises:
            StoreRefusedError: what is there is not this hub, or newer than this program, or cannot be used.
        """
        ...

    async def close(self) -> None:
        """Finish what was begun and let go."""
        ...

    async def changed(self, timeout: timedelta) -> None:
        """Return when there may be something to receive, or after `timeout`."""
        ...
