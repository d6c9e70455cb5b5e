"""The statements of a task hub in SQL, and how records become rows.

Everything here runs inside a transaction that somebody else began, on a connection that somebody else owns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from sqlite3 import Connection
from typing import Any
from zlib import crc32

import msgspec

from perdure.core.answers import answers_of_missing, farewell
from perdure.core.codec import (
    decode_event,
    decode_events,
    decode_failure,
    encode_event,
    encode_events,
    encode_failure,
)
from perdure.core.events import ParentInstance
from perdure.core.records import (
    TERMINAL,
    ActivityTask,
    Batch,
    Checkpoint,
    CommitOutcome,
    EntityQuery,
    HeldLock,
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
from perdure.stores import sql_entities
from perdure.stores.rows import Row, chunks, insert_rows, marks, micros, moment, update_rows, values

REQUESTS_KEPT = timedelta(days=1)

CARRIED, AT_ONCE = -1, 0
NOTHING = "[]"

_parent_decoder = msgspec.json.Decoder(ParentInstance)
_ids_decoder = msgspec.json.Decoder(tuple[str, ...])
_tags_decoder = msgspec.json.Decoder(dict[str, str])
_locks_decoder = msgspec.json.Decoder(tuple[HeldLock, ...])

# Characters. A longer input has a row of its own: in the instance's, it is written again with every checkpoint. Where
# one of a hundred checkpoints costs 8 µs and 1.3 KB of log without an input, it costs 12 µs and 2.5 KB with one of a
# thousand characters, and 18 µs and 5.3 KB with one of two thousand.
LARGE_INPUT = 1024

INSTANCE_COLUMNS = (
    "id, execution_id, name, status, created_at, updated_at, created_by, "
    "coalesce(input, (select large.input from large_inputs large where large.instance_id = instances.id)), output, "
    "custom_status, failure, version, parent, tags, completed_at, start_at, "
    "(select held.locks from held_locks held where held.instance_id = instances.id)"
)

ENDED = ", ".join(f"'{status}'" for status in sorted(TERMINAL))


# ---------------------------------------------------------------------- leases


def beat(db: Connection, host_id: str, now: datetime, until: datetime) -> list[str]:
    """Record that a host lives, forget the dead, and name the living; also forget what nobody will ask for again."""
    db.execute("delete from requests where at < ?", (micros(now - REQUESTS_KEPT),))
    db.execute(f"delete from dispatches where (select status from instances where id = instance_id) in ({ENDED})")  # noqa: S608
    db.execute("delete from hosts where until <= ? or id = ?", (micros(now), host_id))
    if until > now:
        db.execute("insert into hosts (id, until) values (?, ?)", (host_id, micros(until)))
    return [host for (host,) in db.execute("select id from hosts order by id")]


def lease(db: Connection, partitions: Collection[int], host_id: str, now: datetime, until: datetime) -> list[Lease]:
    """Take, extend or give up leases."""
    if until <= now:
        for partition in partitions:
            db.execute("update partitions set owner = null, until = 0 where id = ? and owner = ?", (partition, host_id))
        return []
    held = [_lease_one(db, partition, host_id, now, until) for partition in sorted(partitions)]
    return [each for each in held if each is not None]


def _lease_one(db: Connection, partition: int, host_id: str, now: datetime, until: datetime) -> Lease | None:
    row = db.execute("select owner, epoch, until from partitions where id = ?", (partition,)).fetchone()
    if row is None:
        return None
    owner, epoch, held_until = row
    is_others = owner is not None and owner != host_id
    if is_others and held_until > micros(now):
        return None
    epoch += owner != host_id
    values = (host_id, epoch, micros(until), partition)
    db.execute("update partitions set owner = ?, epoch = ?, until = ? where id = ?", values)
    return Lease(partition, host_id, epoch, until, is_takeover=is_others)


def end_incarnations(db: Connection) -> None:
    """Refuse everybody who held a lease or lived before; who did not give a lease up is remembered as its holder."""
    db.execute("update partitions set epoch = epoch + 1, until = 0 where owner is not null")
    db.execute("delete from hosts")


def _is_current(db: Connection, held: Lease) -> bool:
    row = db.execute("select owner, epoch from partitions where id = ?", (held.partition,)).fetchone()
    return row == (held.host_id, held.epoch)


# ---------------------------------------------------------------------- checkpoints


def commit(db: Connection, batches: Sequence[Batch], partitions: int) -> CommitOutcome:
    """Apply the batches whose lease is current, without the checkpoints whose instance somebody changed."""
    lost: set[int] = set()
    stale: set[str] = set()
    for batch in batches:
        if not _is_current(db, batch.lease):
            lost.add(batch.lease.partition)
            continue
        for group in _independent(batch.checkpoints):
            stale |= _apply(db, group, batch.lease.epoch, partitions)
        _insert_mail(db, batch.replies, partitions)
        _delete_mail(db, batch.discarded)
    return CommitOutcome(frozenset(lost), frozenset(stale))


def _independent(checkpoints: Sequence[Checkpoint]) -> Iterable[Sequence[Checkpoint]]:
    """The checkpoints in groups whose order does not matter; it may when they know the same instance."""
    children = {child.instance_id: child.execution_id for checkpoint in checkpoints for child in checkpoint.children}
    moved = {checkpoint.instance.instance_id for checkpoint in checkpoints}
    if len(moved) < len(checkpoints) or (children and any(_touches(each, children) for each in checkpoints)):
        return [(checkpoint,) for checkpoint in checkpoints]
    return (checkpoints,)


def _touches(checkpoint: Checkpoint, children: Mapping[str, str]) -> bool:
    """Whether a checkpoint moves the instance that a child may replace, or sends it mail that is not its start."""
    return checkpoint.instance.instance_id in children or any(
        message.instance_id in children and children[message.instance_id] != message.execution_id
        for message in checkpoint.messages
    )


def _apply(db: Connection, checkpoints: Sequence[Checkpoint], epoch: int, partitions: int) -> set[str]:
    """Apply checkpoints, but for those whose instance somebody changed; returns the ids of these."""
    entities = [each for each in checkpoints if each.instance.entity is not None]
    if entities:
        return _apply_entities(db, entities, partitions) | _apply(
            db, [each for each in checkpoints if each.instance.entity is None], epoch, partitions
        )
    if len(checkpoints) == 1:
        if not _move(db, checkpoints):
            return {checkpoints[0].instance.instance_id}
    elif not _move_all(db, checkpoints):
        return {stale for each in checkpoints for stale in _apply(db, (each,), epoch, partitions)}
    _begin_anew(db, [checkpoint for checkpoint in checkpoints if checkpoint.replaces_history])
    for checkpoint in checkpoints:
        for child in checkpoint.children:
            if child.instance_id != checkpoint.instance.instance_id:
                _insert_child(db, child, partitions)
    history = [_history_row(checkpoint, epoch) for checkpoint in checkpoints if checkpoint.events]
    insert_rows(db, "insert into history values", 8, history)
    _write_locks(db, [checkpoint.instance for checkpoint in checkpoints if checkpoint.changes_locks])
    _insert_mail(db, [message for checkpoint in checkpoints for message in checkpoint.messages], partitions)
    _delete_mail(db, [message_id for checkpoint in checkpoints for message_id in checkpoint.consumed])
    return set()


def _apply_entities(db: Connection, checkpoints: Sequence[Checkpoint], partitions: int) -> set[str]:
    """Apply checkpoints of entities, but for those whose row somebody changed; returns the ids of these."""
    stale = sql_entities.move(db, checkpoints, partitions)
    applied = [each for each in checkpoints if each.instance.instance_id not in stale]
    for checkpoint in applied:
        for child in checkpoint.children:
            _insert_child(db, child, partitions)
    _insert_mail(db, [message for checkpoint in applied for message in checkpoint.messages], partitions)
    _delete_mail(db, [message_id for checkpoint in applied for message_id in checkpoint.consumed])
    return stale


def _write_locks(db: Connection, instances: Sequence[Instance]) -> None:
    _delete_of(db, [row.instance_id for row in instances], "held_locks")
    rows = [(row.instance_id, msgspec.json.encode(row.locks)) for row in instances if row.locks]
    insert_rows(db, "insert into held_locks values", 2, rows)


def _move_all(db: Connection, checkpoints: Sequence[Checkpoint]) -> bool:
    """Move the rows to their next positions, all or none."""
    db.execute("savepoint moving")
    is_whole = _move(db, checkpoints) == len(checkpoints)
    if not is_whole:
        db.execute("rollback to moving")
    db.execute("release moving")
    return is_whole


# An index is written whenever a column of it is set, to the same value or not. Most checkpoints only go on: a statement
# that sets nothing of an index costs them one page less or two (docs/decisions).
GO_ON = (
    "update instances set position = v.column3 + 1, updated_at = v.column4, custom_status = v.column5 "
    "from (values {values}) v "
    "where instances.id = v.column1 and instances.execution_id = v.column2 and instances.position = v.column3 "
    "and instances.status = 'Running'"
)
MOVE = (
    "update instances set position = v.column4, open_work = v.column5, status = v.column6, updated_at = v.column7, "
    "completed_at = v.column8, output = v.column9, custom_status = v.column10, failure = v.column11 "
    "from (values {values}) v "
    "where instances.id = v.column1 and instances.execution_id = v.column2 and instances.position = v.column3"
)


def _move(db: Connection, checkpoints: Sequence[Checkpoint]) -> int:
    """Move the rows to their next positions, where they are as expected; returns how many moved."""
    going_on: list[Checkpoint] = []
    others: list[Checkpoint] = []
    for checkpoint in checkpoints:
        goes_on = checkpoint.instance.status is RuntimeStatus.RUNNING and not checkpoint.changes_open_work
        (going_on if goes_on else others).append(checkpoint)
    moved = update_rows(db, GO_ON, 5, [_row_that_goes_on(checkpoint) for checkpoint in going_on])
    if moved < len(going_on):  # a resumed instance, or a stale checkpoint; those that have moved do not match again
        others += going_on
    return moved + update_rows(db, MOVE, 11, [_moved_row(checkpoint) for checkpoint in others])


def _row_that_goes_on(checkpoint: Checkpoint) -> Row:
    row = checkpoint.instance
    return row.instance_id, checkpoint.execution_id, checkpoint.position, micros(row.updated_at), row.custom_status


def _moved_row(checkpoint: Checkpoint) -> Row:
    row = checkpoint.instance
    position = checkpoint.position_after
    return (
        row.instance_id,
        checkpoint.execution_id,
        checkpoint.position,
        position,
        int(checkpoint.has_open_work) if position else 2,
        row.status.value,
        micros(row.updated_at),
        None if row.completed_at is None else micros(row.completed_at),
        row.output,
        row.custom_status,
        None if row.failure is None else encode_failure(row.failure),
    )


def _begin_anew(db: Connection, checkpoints: Sequence[Checkpoint]) -> None:
    """Take away the histories that are replaced, and give the rows the execution that begins."""
    rows = [checkpoint.instance for checkpoint in checkpoints]
    _delete_of(db, [row.instance_id for row in rows], "history", "large_inputs", "dispatches")
    update_rows(
        db,
        "update instances set execution_id = v.column2, input = v.column3, version = v.column4 "
        "from (values {values}) v where instances.id = v.column1",
        4,
        [(row.instance_id, row.execution_id, _input_in_row(row), row.version) for row in rows],
    )
    _insert_large_inputs(db, rows)


def _history_row(checkpoint: Checkpoint, epoch: int) -> Row:
    row = checkpoint.instance
    events = encode_events(checkpoint.events)
    consumed = msgspec.json.encode(checkpoint.consumed).decode() if checkpoint.consumed else NOTHING
    position = checkpoint.position_after - 1
    crc = _checksum(row.instance_id, position, row.execution_id, consumed, row.custom_status, events)
    return row.instance_id, position, row.execution_id, epoch, consumed, row.custom_status, crc, events


def _checksum(
    instance_id: str, position: int, execution_id: str, consumed: str, custom_status: str | None, events: bytes
) -> int:
    head = f"{instance_id}\0{position}\0{execution_id}\0{consumed}\0{custom_status}"
    return crc32(events, crc32(head.encode()))


def _insert_child(db: Connection, child: Instance, partitions: int) -> None:
    """A terminal instance gives way to a child; any other stays, and the child's start message finds out."""
    existing = _row(db, child.instance_id)
    if existing is None or existing.status.is_terminal:
        _replace(db, child, existing, partitions, open_work=0)


# ---------------------------------------------------------------------- mail


def _insert_mail(db: Connection, messages: Sequence[Message], partitions: int) -> None:
    rows = [
        (
            message.message_id,
            partition_of(message.instance_id, partitions),
            message.instance_id,
            message.execution_id,
            _due(message),
            encode_event(message.event),
        )
        for message in messages
    ]
    sql = "insert into mail (id, partition, instance_id, execution_id, due, event) values"
    insert_rows(db, sql, 6, rows, " on conflict (id) do nothing")


def _due(message: Message) -> int:
    if message.is_carried:
        return CARRIED
    return AT_ONCE if message.deliver_at is None else max(micros(message.deliver_at), 1)


def _delete_mail(db: Connection, message_ids: Sequence[str]) -> None:
    for chunk in chunks(message_ids):
        db.execute(f"delete from mail where id in ({marks(len(chunk))})", chunk)  # noqa: S608


def receive(db: Connection, held: Lease, before: datetime, after: tuple[int, int] | None, limit: int) -> MailPage:
    """The next page of a partition's mail that is due before a time."""
    due, seq = after or (CARRIED - 1, 0)
    rows = db.execute(
        "select id, instance_id, execution_id, due, event, seq from mail "
        "where partition = ? and due <= ? and (due, seq) > (?, ?) order by due, seq limit ?",
        (held.partition, micros(before), due, seq, limit),
    ).fetchall()
    mail = tuple(_message(*row[:5]) for row in rows)
    return MailPage(mail, (rows[-1][3], rows[-1][5]) if len(rows) == limit else None)


def _message(message_id: str, instance_id: str, execution_id: str | None, due: int, event: bytes) -> Message:
    deliver_at = moment(due) if due > 0 else None
    return Message(message_id, instance_id, execution_id, decode_event(event), deliver_at, due == CARRIED)


# ---------------------------------------------------------------------- instances: clients


def create(db: Connection, starts: Sequence[Start], partitions: int) -> list[Instance | None]:
    """Insert instances; a repeated request finds its own, another's is replaced if it may be."""
    if _create_all(db, starts, partitions):
        return [None] * len(starts)
    return [_create_one(db, start, partitions) for start in starts]


def _create_all(db: Connection, starts: Sequence[Start], partitions: int) -> bool:
    """Insert all the instances, or none if one is there, or was."""
    if _is_any_known(db, [start.instance.created_by for start in starts]):
        return False
    rows = [_instance_row(start.instance, partitions, _open_work(start)) for start in starts]
    db.execute("savepoint creating")
    inserted = insert_rows(db, INSERT_INSTANCE, 19, rows, " on conflict (id) do nothing")
    if inserted < len(rows):
        db.execute("rollback to creating")
        db.execute("release creating")
        return False
    db.execute("release creating")
    _insert_large_inputs(db, [start.instance for start in starts])
    _insert_mail(db, [start.message for start in starts if start.message is not None], partitions)
    return True


def _create_one(db: Connection, start: Start, partitions: int) -> Instance | None:
    request_id = start.instance.created_by
    if _known_request(db, request_id) is not None:
        return None
    existing = _row(db, start.instance.instance_id)
    if existing is not None:
        if existing.created_by == request_id:
            return None
        if existing.status not in start.replace:
            return existing
    _replace(db, start.instance, existing, partitions, _open_work(start))
    _insert_mail(db, () if start.message is None else (start.message,), partitions)
    return None


def _open_work(start: Start) -> int:
    return 2 if start.message is None else 0


INSERT_INSTANCE = (
    "insert into instances (id, partition, execution_id, open_work, name, status, created_at, updated_at, "
    "completed_at, start_at, created_by, version, parent, parent_id, tags, custom_status, failure, output, input) "
    "values"
)


def _replace(db: Connection, instance: Instance, existing: Instance | None, partitions: int, open_work: int) -> None:
    """Put an instance at position 0 where perhaps another was, whose history and mail go.

    Mail to yet another execution stays: the start of a child that is to be refused owes its parent an answer.
    """
    if existing is not None:
        _note_request(db, existing.created_by, None, instance.created_at)
        _remove(db, [existing.instance_id])
        db.execute(
            "delete from mail where instance_id = ? and (execution_id is null or execution_id = ?)",
            (existing.instance_id, existing.execution_id),
        )
        _insert_mail(db, farewell(existing, instance.created_at), partitions)
    insert_rows(db, INSERT_INSTANCE, 19, [_instance_row(instance, partitions, open_work)])
    _insert_large_inputs(db, [instance])


def purge(db: Connection, instance_ids: Collection[str], now: datetime, partitions: int) -> frozenset[str]:
    """Remove instances that have ended, with all that is kept about them; the requests that made them stay known."""
    ended: list[str] = sql_entities.purge(db, [each for each in instance_ids if is_entity_id(each)])
    answers: list[Message] = []
    for chunk in chunks(sorted(set(instance_ids))):
        rows = db.execute(
            "select id, created_by from instances "  # noqa: S608
            f"where id in ({marks(len(chunk))}) and status in ({ENDED}) order by id",
            chunk,
        ).fetchall()
        ended += [instance_id for instance_id, _ in rows]
        requests = [(created_by, None, micros(now)) for _, created_by in rows]
        insert_rows(db, "insert into requests values", 3, requests, " on conflict (id) do nothing")
    for chunk in chunks(ended):
        mail = db.execute(
            "select id, instance_id, execution_id, due, event from mail "  # noqa: S608
            f"where instance_id in ({marks(len(chunk))}) order by instance_id, due, seq",
            chunk,
        )
        answers += answers_of_missing([_message(*row) for row in mail], now)
    _remove(db, ended)
    _delete_of(db, ended, "mail")
    _insert_mail(db, answers, partitions)
    return frozenset(ended)


def _remove(db: Connection, instance_ids: Sequence[str]) -> None:
    """Take instances away, but for their mail."""
    for chunk in chunks(instance_ids):
        db.execute(f"delete from instances where id in ({marks(len(chunk))})", chunk)  # noqa: S608
    _delete_of(db, instance_ids, "history", "large_inputs", "dispatches", "held_locks")


def _delete_of(db: Connection, instance_ids: Sequence[str], *tables: str) -> None:
    for chunk in chunks(instance_ids):
        for table in tables:
            db.execute(f"delete from {table} where instance_id in ({marks(len(chunk))})", chunk)  # noqa: S608


def _insert_large_inputs(db: Connection, instances: Iterable[Instance]) -> None:
    rows = [(row.instance_id, row.input) for row in instances if row.input is not None and _input_in_row(row) is None]
    insert_rows(db, "insert into large_inputs values", 2, rows)


def _input_in_row(row: Instance) -> str | None:
    return row.input if row.input is None or len(row.input) <= LARGE_INPUT else None


def _instance_row(row: Instance, partitions: int, open_work: int) -> Row:
    return (
        row.instance_id,
        partition_of(row.instance_id, partitions),
        row.execution_id,
        open_work,
        row.name,
        row.status.value,
        micros(row.created_at),
        micros(row.updated_at),
        None if row.completed_at is None else micros(row.completed_at),
        None if row.start_at is None else micros(row.start_at),
        row.created_by,
        row.version,
        None if row.parent is None else msgspec.json.encode(row.parent),
        None if row.parent is None else row.parent.instance_id,
        None if row.tags is None else msgspec.json.encode(row.tags),
        row.custom_status,
        None if row.failure is None else encode_failure(row.failure),
        row.output,
        _input_in_row(row),
    )


def send(db: Connection, messages: Sequence[Message], now: datetime, partitions: int) -> list[RuntimeStatus | None]:
    """Store messages to instances that can still take them, each request once."""
    answers: list[RuntimeStatus | None] = []
    taken: list[Message] = []
    for message in messages:
        known = _known_request(db, message.message_id)
        if known is None:
            status = _status(db, message.instance_id)
            _note_request(db, message.message_id, status, now)
            if status is not None and takes_mail(RuntimeStatus(status), message.event):
                taken.append(message)
        else:
            (status,) = known
        answers.append(None if status is None else RuntimeStatus(status))
    _insert_mail(db, taken, partitions)
    return answers


def _status(db: Connection, instance_id: str) -> str | None:
    if is_entity_id(instance_id):
        return RuntimeStatus.RUNNING
    row = db.execute("select status from instances where id = ?", (instance_id,)).fetchone()
    return None if row is None else row[0]


def _known_request(db: Connection, request_id: str) -> Row | None:
    """The status that a request was answered with, in a row, if it was answered at all."""
    return db.execute("select status from requests where id = ?", (request_id,)).fetchone()


def _is_any_known(db: Connection, request_ids: Sequence[str]) -> bool:
    return any(
        db.execute(f"select 1 from requests where id in ({marks(len(chunk))}) limit 1", chunk).fetchone()  # noqa: S608
        for chunk in chunks(request_ids)
    )


def _note_request(db: Connection, request_id: str, status: str | None, now: datetime) -> None:
    db.execute("insert into requests values (?, ?, ?) on conflict (id) do nothing", (request_id, status, micros(now)))


# ---------------------------------------------------------------------- instances: reading


def open_work(db: Connection, held: Lease, after: str | None, limit: int, *, unstarted_only: bool) -> list[str]:
    """Ids of a partition's instances that go on without mail."""
    rows = db.execute(
        "select id from instances where partition = ? and open_work > 0 and open_work >= ? and id > ? "
        "order by id limit ?",
        (held.partition, 2 if unstarted_only else 1, after or "", limit),
    )
    return [instance_id for (instance_id,) in rows]


def dispatch(db: Connection, held: Lease, activities: Sequence[ActivityTask]) -> list[int]:
    """Count activities; of an execution that has ended, or by a lease that is lost, nothing is counted."""
    counts: dict[str, int] = {}
    for chunk in chunks(activities) if _is_current(db, held) else ():
        rows = db.execute(
            "insert into dispatches select v.column1, v.column3, 1 "  # noqa: S608
            f"from (values {values(len(chunk), 3)}) v join instances on id = v.column1 and execution_id = v.column2 "
            f"where status not in ({ENDED}) "
            "on conflict (instance_id, activity_id) do update set count = count + 1 returning activity_id, count",
            [value for each in chunk for value in (each.instance_id, each.execution_id, each.activity_id)],
        )
        counts.update(rows.fetchall())
    return [counts.get(activity.activity_id, 0) for activity in activities]


def dispatches(db: Connection, activities: Sequence[ActivityTask]) -> list[int]:
    """How often activities have been counted; 0 for one whose execution has ended."""
    counts: dict[str, int] = {}
    for chunk in chunks(activities):
        rows = db.execute(
            "select activity_id, count from dispatches join instances on id = instance_id "  # noqa: S608
            f"where status not in ({ENDED}) and (instance_id, activity_id) in (values {values(len(chunk), 2)})",
            [value for each in chunk for value in (each.instance_id, each.activity_id)],
        )
        counts.update(rows.fetchall())
    return [counts.get(activity.activity_id, 0) for activity in activities]


def save_schedule(db: Connection, held: Lease, status: ScheduleStatus) -> bool:
    """Store where a schedule stands; nothing by a lease that is lost."""
    if not _is_current(db, held):
        return False
    last = None if status.last is None else micros(status.last)
    db.execute(
        "insert or replace into schedules values (?, ?, ?, ?, ?)",
        (status.name, status.schedule, last, micros(status.next), micros(status.updated_at)),
    )
    return True


def schedules(db: Connection) -> list[ScheduleStatus]:
    """Where schedules stand, in order of name."""
    rows = db.execute("select name, schedule, last, next, updated_at from schedules order by name")
    return [
        ScheduleStatus(name, schedule, None if last is None else moment(last), moment(next_one), moment(updated_at))
        for name, schedule, last, next_one, updated_at in rows
    ]


def load_instances(db: Connection, instance_ids: Collection[str]) -> list[StoredInstance]:
    """Snapshots of those instances that exist; one whose history cannot be read says so."""
    found = sql_entities.load(db, [each for each in instance_ids if is_entity_id(each)])
    for chunk in chunks(sorted({each for each in instance_ids if not is_entity_id(each)})):
        wanted = marks(len(chunk))
        rows = db.execute(
            f"select {INSTANCE_COLUMNS}, position from instances where id in ({wanted})",  # noqa: S608 - question marks
            chunk,
        ).fetchall()
        events: dict[str, list[bytes]] = {}
        for instance_id, body in db.execute(
            f"select instance_id, events from history where instance_id in ({wanted}) order by instance_id, position",  # noqa: S608
            chunk,
        ):
            events.setdefault(instance_id, []).append(body)
        for row in rows:
            found.append(_stored(_instance(row[:-1]), row[-1], events.get(row[0], [])))
    return found


def _stored(instance: Instance, position: int, bodies: Sequence[bytes]) -> StoredInstance:
    if len(bodies) != position:
        return StoredInstance(instance, position, damage=f"{len(bodies)} history rows where {position} should be")
    try:
        return StoredInstance(instance, position, tuple(event for body in bodies for event in decode_events(body)))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return StoredInstance(instance, position, damage=f"a history row cannot be read: {error}")


def query(db: Connection, wanted: InstanceQuery) -> InstancePage:
    """One page of instances in order of creation."""
    where, parameters = _conditions(wanted)
    if wanted.after is not None:
        where += " and (created_at, id) > (?, ?)"
        parameters += page_key(wanted.after)
    statuses = _statuses(wanted)
    if not statuses:
        return InstancePage((), None)
    # Each status is walked in order of creation, as far as a page goes; the few of some ids or parents are sorted.
    parts = [statuses] if _is_of_few(wanted) else [[status] for status in statuses]
    walks = " union all ".join(
        [
            "select * from (select rowid as number, created_at, id from instances "  # noqa: S608
            f"where {_status_among(part, wanted)}{where} order by created_at, id limit ?)"
            for part in parts
        ]
    )
    limit = wanted.limit + 1
    rows = db.execute(
        f"select {INSTANCE_COLUMNS} from instances "  # noqa: S608
        f"where rowid in (select number from ({walks}) order by created_at, id limit ?) order by created_at, id",
        [*(value for part in parts for value in (*part, *parameters, limit)), limit],
    ).fetchall()
    instances = tuple(_instance(row) for row in rows[: wanted.limit])
    after = page_token(instances[-1]) if len(rows) > wanted.limit else None
    return InstancePage(instances, after)


def count(db: Connection, wanted: InstanceQuery) -> Mapping[RuntimeStatus, int]:
    """How many instances there are in each status; 0 for one that the mapping does not name."""
    where, parameters = _conditions(wanted)
    statuses = _statuses(wanted)
    rows = db.execute(
        f"select status, count(*) from instances where {_status_among(statuses, wanted)}{where} group by status",  # noqa: S608
        (*statuses, *parameters),
    )
    return Counter({RuntimeStatus(status): number for status, number in rows})


def _statuses(wanted: InstanceQuery) -> list[str]:
    return sorted(each.value for each in (RuntimeStatus if wanted.statuses is None else wanted.statuses))


def _is_of_few(wanted: InstanceQuery) -> bool:
    return wanted.instance_ids is not None or wanted.parents is not None


def _status_among(statuses: Sequence[str], wanted: InstanceQuery) -> str:
    """The + keeps SQLite from walking whole statuses where it has ids or parents to look up."""
    return f"{'+' if _is_of_few(wanted) else ''}status in ({marks(len(statuses))})"


def _conditions(wanted: InstanceQuery) -> tuple[str, list[Any]]:
    """What must hold besides the status, each condition with an "and" before it, and the parameters."""
    where, parameters = "", list[Any]()
    for condition, ids in (
        (" and id in (select value from json_each(?))", wanted.instance_ids),
        (" and parent_id in (select value from json_each(?))", wanted.parents),
    ):
        if ids is not None:
            where += condition
            parameters.append(msgspec.json.encode(ids).decode())
    for condition, time in ((" and created_at >= ?", wanted.created_from), (" and created_at <= ?", wanted.created_to)):
        if time is not None:
            where += condition
            parameters.append(micros(time))
    if wanted.prefix is not None:
        where += " and substr(id, 1, ?) = ?"
        parameters += [len(wanted.prefix), wanted.prefix]
    return where, parameters


def page_token(last: Instance) -> str:
    """What asks for the page after an instance."""
    return f"{micros(last.created_at)}.{last.instance_id.encode().hex()}"


def page_key(token: str) -> tuple[int, str]:
    """The place that a page token stands for.

    Raises:
        ValueError: it is not one of ours.
    """
    created_at, _, instance_id = token.partition(".")
    try:
        return micros(moment(int(created_at))), bytes.fromhex(instance_id).decode()
    except (ValueError, OverflowError):
        raise ValueError("the continuation token is not one that this task hub has given out") from None


def history(db: Connection, instance_id: str) -> list[HistoryRow]:
    """The stored checkpoints of an instance's current execution."""
    rows = db.execute(
        "select position, execution_id, epoch, consumed, custom_status, crc, events from history "
        "where instance_id = ? order by position",
        (instance_id,),
    )
    return [_read_history(instance_id, row) for row in rows]


def _read_history(instance_id: str, row: Row) -> HistoryRow:
    position, execution_id, epoch, consumed, custom_status, crc, body = row
    is_intact = crc == _checksum(instance_id, position, execution_id, consumed, custom_status, body)
    try:
        events = decode_events(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        events, is_intact = (), False
    return HistoryRow(position, execution_id, epoch, _ids_decoder.decode(consumed), custom_status, events, is_intact)


def dump(db: Connection, page_size: int = 500) -> Iterator[list[InstanceDump]]:
    """Everything about every instance, a page at a time; each page is one snapshot."""
    after = ""
    while True:
        db.execute("begin")
        rows = db.execute(
            f"select {INSTANCE_COLUMNS}, position, open_work from instances where id > ? order by id limit ?",  # noqa: S608
            (after, page_size),
        ).fetchall()
        page: list[InstanceDump] = []
        for row in rows:
            rows_of_history = tuple(history(db, row[0]))
            page.append(InstanceDump(_instance(row[:-2]), row[-2], row[-1] > 0, rows_of_history, _mailbox(db, row[0])))
        db.execute("commit")
        if page:
            yield page
        if len(rows) < page_size:
            break
        after = rows[-1][0]
    yield from _dump_entities(db, page_size)


def _dump_entities(db: Connection, page_size: int) -> Iterator[list[InstanceDump]]:
    after: str | None = ""
    while after is not None:
        db.execute("begin")
        page = sql_entities.query(db, EntityQuery(limit=page_size, after=after))
        stored = sql_entities.load(db, [each.instance_id for each in page.instances])
        dumps = [
            InstanceDump(each.instance, each.position, False, (), _mailbox(db, each.instance.instance_id))
            for each in stored
        ]
        db.execute("commit")
        yield dumps
        after = page.after


def _mailbox(db: Connection, instance_id: str) -> tuple[Message, ...]:
    rows = db.execute(
        "select id, instance_id, execution_id, due, event from mail where instance_id = ? order by due, seq",
        (instance_id,),
    )
    return tuple(_message(*row) for row in rows)


def _row(db: Connection, instance_id: str) -> Instance | None:
    row = db.execute(f"select {INSTANCE_COLUMNS} from instances where id = ?", (instance_id,)).fetchone()  # noqa: S608
    return None if row is None else _instance(row)


def _instance(row: Row) -> Instance:
    (
        instance_id, execution_id, name, status, created_at, updated_at, created_by, input, output, custom_status,
        failure, version, parent, tags, completed_at, start_at, locks,
    ) = row  # fmt: skip
    return Instance(
        instance_id=instance_id,
        execution_id=execution_id,
        name=name,
        status=RuntimeStatus(status),
        created_at=moment(created_at),
        updated_at=moment(updated_at),
        created_by=created_by,
        input=input,
        output=output,
        custom_status=custom_status,
        failure=None if failure is None else decode_failure(failure),
        version=version,
        parent=None if parent is None else _parent_decoder.decode(parent),
        tags=None if tags is None else _tags_decoder.decode(tags),
        completed_at=None if completed_at is None else moment(completed_at),
        start_at=None if start_at is None else moment(start_at),
        locks=() if locks is None else _locks_decoder.decode(locks),
    )
