"""The storage seam as an executable specification: one task hub in dictionaries.

Rule 1: where a sentence of `engine.store` leaves room, this file says what is meant, and other stores agree with it.
Rule 2: no clock and no thread; nothing awaits inside an operation, so each is one transaction.

Events are kept as bytes and rows are copied, so that nobody can change what is stored by changing what was passed.
"""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from heapq import nsmallest
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary
from zlib import crc32

import msgspec
from msgspec.structs import replace

from perdure.core.answers import answers_of_missing, farewell
from perdure.core.codec import decode_event, decode_events, encode_event, encode_events
from perdure.core.events import HistoryEvent
from perdure.core.records import (
    ActivityTask,
    Batch,
    Checkpoint,
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
    is_entity_id,
    partition_of,
    takes_mail,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

# First part of a message's place in the order of delivery; timers come after both, by their time.
CARRIED, AT_ONCE, FIRST_TIMER = -1, 0, 1

Place = tuple[int, int]

_encode_instance = msgspec.json.Encoder().encode
_decode_instance = msgspec.json.Decoder(Instance).decode


class MemoryStore:
    """A task hub that lasts as long as this object. Any number of hosts on one event loop may share it.

    Invariants: `_mail`, `_mailboxes` and `_order` hold the same messages: by id, by instance, and by partition in order
    of delivery. `_going_on` are the ids of the rows with open work, by partition. `_outlived` are the requests whose
    instance has given way to another or was purged: repeated, they must not begin the same execution twice. Epochs and
    places in the order only grow; nothing is used twice.
    """

    def __init__(self, partitions: int = 4) -> None:
        self._partitions = partitions
        self._rows: dict[str, _Row] = {}
        self._mail: dict[str, _Letter] = {}
        self._mailboxes: dict[str, set[str]] = {}
        self._order: list[list[tuple[int, int, str]]] = [[] for _ in range(partitions)]
        self._going_on: list[set[str]] = [set() for _ in range(partitions)]
        self._sequence = 0
        self._answers: dict[str, RuntimeStatus | None] = {}
        self._outlived: set[str] = set()
        self._hosts: dict[str, datetime] = {}
        self._leases: dict[int, Lease] = {}
        self._epochs = [0] * partitions
        self._schedules: dict[str, ScheduleStatus] = {}
        self._changes = 0
        self._seen: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()
        self._waiters: dict[asyncio.Future[None], None] = {}  # in order, so that a simulated run can be repeated

    @property
    def partitions(self) -> int:
        """How many partitions the hub has."""
        return self._partitions

    async def open(self) -> None:
        """Nothing to do: the hub came with the object."""

    async def close(self) -> None:
        """Nothing to let go: what is stored stays, and may be opened again."""

    async def changed(self, timeout: timedelta) -> None:
        """Return as soon as something is stored that a host may not know of, or after `timeout`.

        What was stored since the same task last returned from here counts too: it may have been busy meanwhile. The
        first time, everything does.
        """
        task = asyncio.current_task()
        assert task is not None, "only a task can wait"
        if self._seen.get(task, 0) == self._changes:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters[waiter] = None
            try:
                await asyncio.wait([waiter], timeout=timeout.total_seconds())
            finally:
                self._waiters.pop(waiter, None)
        self._seen[task] = self._changes

    # ------------------------------------------------------------------ hosts and leases

    async def beat(self, host_id: str, now: datetime, until: datetime) -> Sequence[str]:
        """Say that this host lives until `until`, and hear which hosts do."""
        self._hosts[host_id] = until
        self._hosts = {each: end for each, end in self._hosts.items() if end > now}
        return sorted(self._hosts)

    async def lease(self, partitions: Collection[int], host_id: str, now: datetime, until: datetime) -> Sequence[Lease]:
        """Take, extend or give up leases."""
        held: list[Lease] = []
        for partition in sorted(set(partitions)):
            current = self._leases.get(partition)
            is_own = current is not None and current.host_id == host_id
            if until <= now:
                if is_own:
                    del self._leases[partition]
                continue
            if current is not None and not is_own and current.until > now:
                continue
            self._epochs[partition] += not is_own
            is_takeover = current is not None and not is_own
            lease = Lease(partition, host_id, self._epochs[partition], until, is_takeover)
            self._leases[partition] = lease
            held.append(lease)
        return held

    def _is_current(self, lease: Lease) -> bool:
        """An expired lease is current until somebody else takes the partition: the store has no clock to say more."""
        current = self._leases.get(lease.partition)
        return current is not None and (current.host_id, current.epoch) == (lease.host_id, lease.epoch)

    # ------------------------------------------------------------------ what a lease holder reads

    async def open_work(
        self, lease: Lease, after: str | None, limit: int, *, unstarted_only: bool = False
    ) -> Sequence[str]:
        """Ids of instances that go on without mail, in order of id; none for a lease that is lost."""
        if not self._is_current(lease):
            return []
        return nsmallest(
            limit,
            (
                each
                for each in self._going_on[lease.partition]
                if (after is None or each > after) and (self._rows[each].position == 0 or not unstarted_only)
            ),
        )

    async def receive(self, lease: Lease, before: datetime, after: Place | None, limit: int) -> MailPage:
        """The next page of mail to deliver until and at `before`; none for a lease that is lost."""
        if not self._is_current(lease):
            return MailPage((), None)
        order = self._order[lease.partition]
        start = 0 if after is None else bisect_left(order, (after[0], after[1] + 1))
        end = bisect_right(order, (_timer_key(before) + 1,))
        page = order[start : min(start + limit, end)]
        is_last = start + limit >= end
        mail = tuple(self._mail[message_id].open() for _, _, message_id in page)
        return MailPage(mail, None if is_last else page[-1][:2])

    async def dispatch(self, lease: Lease, activities: Sequence[ActivityTask]) -> Sequence[int]:
        """Count activities; of an execution that has ended, or by a lease that is lost, nothing is counted."""
        counts: Counter[str] = Counter()
        for activity in activities if self._is_current(lease) else ():
            row = self._rows.get(activity.instance_id)
            if row is not None and row.is_running(activity.execution_id):
                row.dispatched[activity.activity_id] += 1
                counts[activity.activity_id] = row.dispatched[activity.activity_id]
        return [counts[activity.activity_id] for activity in activities]

    async def dispatches(self, lease: Lease, activities: Sequence[ActivityTask]) -> Sequence[int]:
        """How often activities have been counted; 0 for one whose execution has ended."""
        rows = [self._rows.get(each.instance_id) for each in activities]
        return [
            row.dispatched[each.activity_id] if row is not None and row.is_running(each.execution_id) else 0
            for row, each in zip(rows, activities, strict=True)
        ]

    async def load_instances(self, instance_ids: Collection[str]) -> Sequence[StoredInstance]:
        """Snapshots of those instances that exist."""
        return [self._rows[each].snapshot() for each in instance_ids if each in self._rows]

    async def save_schedule(self, lease: Lease, status: ScheduleStatus) -> bool:
        """Store where a schedule stands; nothing by a lease that is lost."""
        if not self._is_current(lease):
            return False
        self._schedules[status.name] = status
        return True

    async def schedules(self) -> Sequence[ScheduleStatus]:
        """Where schedules stand, in order of name."""
        return [self._schedules[name] for name in sorted(self._schedules)]

    # ------------------------------------------------------------------ commit

    async def commit(self, batches: Sequence[Batch]) -> CommitOutcome:
        """Apply the batches of one host."""
        lost: set[int] = set()
        stale: set[str] = set()
        stored: list[Message] = []
        for batch in batches:
            if not self._is_current(batch.lease):
                lost.add(batch.lease.partition)
                continue
            replies = [_Letter(each) for each in batch.replies]
            for checkpoint in batch.checkpoints:
                if self._apply(checkpoint, batch.lease):
                    stored += checkpoint.messages
                else:
                    stale.add(checkpoint.instance.instance_id)
            self._remove(batch.discarded)
            self._insert(replies)
            stored += batch.replies
        # Mail to its own partitions the committing host has in memory; only others have to be told.
        own = {batch.lease.partition for batch in batches}
        if any(self._partition(message.instance_id) not in own for message in stored):
            self._has_changed()
        return CommitOutcome(frozenset(lost), frozenset(stale))

    def _apply(self, checkpoint: Checkpoint, lease: Lease) -> bool:
        """Apply one checkpoint whole, or if it is stale, not at all."""
        instance_id = checkpoint.instance.instance_id
        assert self._partition(instance_id) == lease.partition, f"{instance_id!r} is not of partition {lease.partition}"
        row = self._rows.get(instance_id)
        if checkpoint.creates and row is None:
            row = _Row(checkpoint.instance)
        if row is None or (row.instance.execution_id, row.position) != (checkpoint.execution_id, checkpoint.position):
            return False

        # What could fail comes before the first change.
        instance = _copy(checkpoint.instance)
        stored = _StoredCheckpoint(checkpoint, lease.epoch)
        letters = [_Letter(each) for each in checkpoint.messages]
        children = [_Row(_copy(each)) for each in checkpoint.children if each.instance_id != instance_id]

        for child in children:
            self._insert_child(child)
        if checkpoint.replaces_history:
            row.history.clear()
            row.dispatched.clear()
        if checkpoint.events:
            row.history.append(stored)
        row.instance = instance
        row.has_open_work = checkpoint.has_open_work
        row.batches += instance.entity is not None
        self._rows[instance_id] = row
        self._note_open_work(row)
        if checkpoint.deletes:
            del self._rows[instance_id]
        self._remove(checkpoint.consumed)
        self._insert(letters)
        return True

    def _insert_child(self, child: _Row) -> None:
        """A child's start message follows and wakes it, or tells its owner that the id was taken."""
        existing = self._rows.get(child.instance.instance_id)
        if existing is None or existing.instance.status.is_terminal:
            self._replace(child)

    def _replace(self, row: _Row) -> None:
        """Put a new row in the place of what was there, and drop the mail that the old execution could have taken.

        Mail to yet another execution stays: the start of a child that is to be refused owes its parent an answer.
        """
        instance_id = row.instance.instance_id
        old = self._rows.get(instance_id)
        if old is not None:
            self._outlived.add(old.instance.created_by)
            takers = (None, old.instance.execution_id)
            letters = self._letters(instance_id)
            self._remove([each.message.message_id for each in letters if each.message.execution_id in takers])
            self._insert(map(_Letter, farewell(old.instance, row.instance.created_at)))
        self._rows[instance_id] = row
        self._note_open_work(row)

    def _note_open_work(self, row: _Row) -> None:
        instance_id = row.instance.instance_id
        going_on = self._going_on[self._partition(instance_id)]
        going_on.add(instance_id) if row.has_open_work else going_on.discard(instance_id)

    # ------------------------------------------------------------------ mail

    def _insert(self, letters: Iterable[_Letter]) -> None:
        for letter in letters:
            message = letter.message
            if message.message_id in self._mail:
                continue
            self._sequence += 1
            letter.place = (_key(message), self._sequence)
            self._mail[message.message_id] = letter
            self._mailboxes.setdefault(message.instance_id, set()).add(message.message_id)
            insort(self._order[self._partition(message.instance_id)], (*letter.place, message.message_id))

    def _remove(self, message_ids: Iterable[str]) -> None:
        for message_id in message_ids:
            letter = self._mail.pop(message_id, None)
            if letter is None:
                continue
            instance_id = letter.message.instance_id
            mailbox = self._mailboxes[instance_id]
            mailbox.remove(message_id)
            if not mailbox:
                del self._mailboxes[instance_id]
            order = self._order[self._partition(instance_id)]
            del order[bisect_left(order, letter.place)]

    def _letters(self, instance_id: str) -> list[_Letter]:
        """The mail of an instance, in order of delivery."""
        letters = map(self._mail.__getitem__, self._mailboxes.get(instance_id, ()))
        return sorted(letters, key=lambda each: each.place)

    def _partition(self, instance_id: str) -> int:
        return partition_of(instance_id, self._partitions)

    def _has_changed(self) -> None:
        self._changes += 1
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    # ------------------------------------------------------------------ clients

    async def create(self, starts: Sequence[Start]) -> Sequence[Instance | None]:
        """Create instances; a request that is repeated finds its own instance and is content."""
        answers = [self._create(each) for each in starts]
        self._has_changed()
        return answers

    def _create(self, start: Start) -> Instance | None:
        existing = self._rows.get(start.instance.instance_id)
        if start.instance.created_by in self._outlived:
            return None
        if existing is not None:
            if existing.instance.created_by == start.instance.created_by:
                return None
            if existing.instance.status not in start.replace:
                return existing.instance
        self._replace(_Row(_copy(start.instance), has_open_work=start.message is None))
        self._insert([] if start.message is None else [_Letter(start.message)])
        return None

    async def send(self, messages: Sequence[Message], now: datetime) -> Sequence[RuntimeStatus | None]:
        """Store messages; a repeat is answered as the first was, even when that has been consumed since."""
        answers = [self._send(_Letter(each)) for each in messages]
        self._has_changed()
        return answers

    def _send(self, letter: _Letter) -> RuntimeStatus | None:
        message = letter.message
        if message.message_id in self._answers:
            return self._answers[message.message_id]
        row = self._rows.get(message.instance_id)
        status = None if row is None else row.instance.status
        if is_entity_id(message.instance_id):
            status = RuntimeStatus.RUNNING
        if status is not None and takes_mail(status, message.event):
            self._insert([letter])
        self._answers[message.message_id] = status
        return status

    async def query(self, query: InstanceQuery) -> InstancePage:
        """List instances in order of creation.

        Raises:
            ValueError: `after` is not a token that a page gave.
        """
        after = None if query.after is None else _place_of(query.after)
        beyond = (each for each in self._matching(query) if after is None or _creation(each) > after)
        found = nsmallest(query.limit + 1, beyond, key=_creation)
        page = tuple(found[: query.limit])
        return InstancePage(page, _token(page[-1]) if len(found) > query.limit and page else None)

    async def count(self, query: InstanceQuery) -> Mapping[RuntimeStatus, int]:
        """How many instances there are in each status; 0 for one that the mapping does not name."""
        return Counter(each.status for each in self._matching(query))

    async def purge(self, instance_ids: Collection[str], now: datetime) -> frozenset[str]:
        """Remove those of these instances that have ended, with all that is kept about them; returns their ids."""
        rows = [self._rows[each] for each in sorted(set(instance_ids)) if each in self._rows]
        ended = [row for row in rows if row.instance.status.is_terminal or row.instance.entity is not None]
        answers: list[Message] = []
        for row in ended:
            instance_id = row.instance.instance_id
            mail = [each.open() for each in self._letters(instance_id)]
            answers += answers_of_missing(mail, now)
            self._remove([each.message_id for each in mail])
            self._outlived.add(row.instance.created_by)
            self._going_on[self._partition(instance_id)].discard(instance_id)
            del self._rows[instance_id]
        self._insert(map(_Letter, answers))
        self._has_changed()
        return frozenset(row.instance.instance_id for row in ended)

    def _matching(self, query: InstanceQuery) -> Iterator[Instance]:
        ids = self._rows.keys() if query.instance_ids is None else set(query.instance_ids) & self._rows.keys()
        instances = (self._rows[each].instance for each in ids)
        return (each for each in instances if each.entity is None and _matches(each, query))

    async def entities(self, query: EntityQuery) -> InstancePage:
        """List entities in order of id."""
        ids = sorted(each for each in self._rows if each.startswith(query.prefix) and is_entity_id(each))
        beyond = (self._rows[each].instance for each in ids if query.after is None or each > query.after)
        found = list(islice((each for each in beyond if _matches_entity(each, query)), query.limit + 1))
        page = tuple(found[: query.limit])
        return InstancePage(page, page[-1].instance_id if len(found) > query.limit else None)

    async def history(self, instance_id: str) -> Sequence[HistoryRow]:
        """The stored checkpoints of the current execution, in order."""
        return self._rows[instance_id].rows() if instance_id in self._rows else ()

    async def dump(self) -> AsyncIterator[InstanceDump]:
        """Everything there is about every instance, in order of id; each as it is when its turn comes."""
        for instance_id in sorted(self._rows):
            row = self._rows.get(instance_id)
            if row is None:
                continue
            mail = tuple(each.open() for each in self._letters(instance_id))
            yield InstanceDump(row.instance, row.position, row.has_open_work, row.rows(), mail)


class _Row:
    """One instance: its row, the checkpoints of its current execution, and how often activities were dispatched."""

    __slots__ = ("batches", "dispatched", "has_open_work", "history", "instance")

    def __init__(self, instance: Instance, has_open_work: bool = False) -> None:
        self.instance = instance
        self.has_open_work = has_open_work
        self.history: list[_StoredCheckpoint] = []
        self.batches = 0  # of an entity, which has no history
        self.dispatched: Counter[str] = Counter()

    @property
    def position(self) -> int:
        return len(self.history) + self.batches

    def is_running(self, execution_id: str) -> bool:
        return self.instance.execution_id == execution_id and not self.instance.status.is_terminal

    def snapshot(self) -> StoredInstance:
        events = tuple(event for each in self.history for event in decode_events(each.events))
        return StoredInstance(self.instance, self.position, events)

    def rows(self) -> tuple[HistoryRow, ...]:
        return tuple(each.open() for each in self.history)


class _StoredCheckpoint:
    """A row of history, its events as bytes."""

    __slots__ = ("checksum", "consumed", "custom_status", "epoch", "events", "execution_id", "position")

    def __init__(self, checkpoint: Checkpoint, epoch: int) -> None:
        self.position = checkpoint.position_after - 1
        self.execution_id = checkpoint.instance.execution_id
        self.epoch = epoch
        self.consumed = checkpoint.consumed
        self.custom_status = checkpoint.instance.custom_status
        self.events = encode_events(checkpoint.events)
        self.checksum = crc32(self.events)

    def open(self) -> HistoryRow:
        is_intact = crc32(self.events) == self.checksum
        events: tuple[HistoryEvent, ...] = decode_events(self.events) if is_intact else ()
        return HistoryRow(
            self.position, self.execution_id, self.epoch, self.consumed, self.custom_status, events, is_intact
        )


class _Letter:
    """A message, its event as bytes, and once it is stored, its place in the order of delivery."""

    __slots__ = ("event", "message", "place")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.event = encode_event(message.event)
        self.place: Place = (AT_ONCE, 0)

    def open(self) -> Message:
        return replace(self.message, event=decode_event(self.event), is_stored=True)


def _key(message: Message) -> int:
    if message.is_carried:
        return CARRIED
    return AT_ONCE if message.deliver_at is None else _timer_key(message.deliver_at)


def _timer_key(when: datetime) -> int:
    """Microseconds since 1970; a timer set before that is due like one of its first microsecond."""
    return max(FIRST_TIMER, _microseconds(when))


def _microseconds(when: datetime) -> int:
    return (when - EPOCH) // MICROSECOND


def _copy(instance: Instance) -> Instance:
    return _decode_instance(_encode_instance(instance))


def _matches(instance: Instance, query: InstanceQuery) -> bool:
    return (
        (query.statuses is None or instance.status in query.statuses)
        and (query.created_from is None or instance.created_at >= query.created_from)
        and (query.created_to is None or instance.created_at <= query.created_to)
        and (query.prefix is None or instance.instance_id.startswith(query.prefix))
        and (query.parents is None or (instance.parent is not None and instance.parent.instance_id in query.parents))
    )


def _matches_entity(entity: Instance, query: EntityQuery) -> bool:
    return (
        (query.updated_from is None or entity.updated_at >= query.updated_from)
        and (query.updated_to is None or entity.updated_at <= query.updated_to)
        and not (query.locked_only and (entity.entity is None or entity.entity.lock is None))
    )


def _creation(instance: Instance) -> tuple[int, str]:
    return _microseconds(instance.created_at), instance.instance_id


def _token(instance: Instance) -> str:
    created_at, instance_id = _creation(instance)
    return urlsafe_b64encode(f"{created_at}/{instance_id}".encode()).decode()


def _place_of(token: str) -> tuple[int, str]:
    try:
        created_at, _, instance_id = urlsafe_b64decode(token).decode().partition("/")
        return int(created_at), instance_id
    except ValueError:
        raise ValueError(
            f"the page token {token!r} is not one that this hub gave: ask for the first page again"
        ) from None
