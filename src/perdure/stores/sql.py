"""The statements of a task hub in SQL, and how records become rows.

Everything here runs inside a transaction that somebody else began, on a connection that somebody else owns. Statements
take many rows at once: each call of SQLite's `step` gives up Python's global lock, and a busy thread takes milliseconds
to give it back, so a row must not cost a call (docs/decisions).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from sqlite3 import Connection
from typing import Any
from zlib import crc32

import msgspec

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
    Batch,
    Checkpoint,
    CommitOutcome,
    HistoryRow,
    Instance,
    InstanceDump,
    InstancePage,
    InstanceQuery,
    Lease,
    MailPage,
    Message,
    RuntimeStatus,
    Start,
    StoredInstance,
    partition_of,
)

Row = tuple[Any, ...]

# Rows of one statement come in these numbers, so that few texts are prepared, and each once. SQLite takes at most
# 32,766 parameters; the widest statement here has 17 a row.
CHUNKS = (256, 64, 16, 4, 1)

REQUESTS_KEPT = timedelta(days=1)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

CARRIED, AT_ONCE = -1, 0
NOTHING = "[]"

_parent_decoder = msgspec.json.Decoder(ParentInstance)
_ids_decoder = msgspec.json.Decoder(tuple[str, ...])
_tags_decoder = msgspec.json.Decoder(dict[str, str])

INSTANCE_COLUMNS = (
    "id, execution_id, name, status, created_at, updated_at, created_by, input, output, custom_status, failure, "
    "version, parent, tags, completed_at"
)


# ---------------------------------------------------------------------- leases


def beat(db: Connection, host_id: str, now: datetime, until: datetime) -> list[str]:
    """Record that a host lives, forget the dead, and name the living; also forget answers nobody will ask for again."""
    db.execute("delete from requests where at < ?", (micros(now - REQUESTS_KEPT),))
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
    held: list[Lease] = []
    for partition in sorted(partitions):
        rows = db.execute(
            "update partitions set epoch = case when owner = ?1 then epoch else epoch + 1 end, owner = ?1, until = ?2 "
            "where id = ?3 and (owner is null or owner = ?1 or until <= ?4) returning epoch",
            (host_id, micros(until), partition, micros(now)),
        ).fetchall()
        held += [Lease(partition, host_id, epoch, until) for (epoch,) in rows]
    return held


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
            checkpoints, refused = _move_instances(db, group)
            stale |= refused
            _apply(db, checkpoints, batch.lease.epoch, partitions)
        _insert_mail(db, batch.replies, partitions)
        _delete_mail(db, batch.discarded)
    return CommitOutcome(frozenset(lost), frozenset(stale))


def _independent(checkpoints: Sequence[Checkpoint]) -> Iterable[Sequence[Checkpoint]]:
    """The checkpoints in groups whose order does not matter; it does when one calls a child by another's id."""
    children = {child.instance_id for checkpoint in checkpoints for child in checkpoint.children}
    if any(checkpoint.instance.instance_id in children for checkpoint in checkpoints):
        return [(checkpoint,) for checkpoint in checkpoints]
    return (checkpoints,)


def _apply(db: Connection, checkpoints: Sequence[Checkpoint], epoch: int, partitions: int) -> None:
    history: list[Row] = []
    messages: list[Message] = []
    consumed: list[str] = []
    for checkpoint in checkpoints:
        if checkpoint.continues_as_new:
            row = checkpoint.instance
            db.execute("delete from history where instance_id = ?", (row.instance_id,))
            generation = (row.execution_id, row.input, row.instance_id)
            db.execute("update instances set execution_id = ?, input = ? where id = ?", generation)
        else:
            history.append(_history_row(checkpoint, epoch))
        messages += checkpoint.messages
        consumed += checkpoint.consumed
        for child in checkpoint.children:
            if child.instance_id != checkpoint.instance.instance_id:
                _insert_child(db, child, partitions)
    insert_rows(db, "insert into history values", 8, history)
    _insert_mail(db, messages, partitions)
    _delete_mail(db, consumed)


MOVE = (
    "update instances set position = v.column4, {open_work}status = v.column6, updated_at = v.column7, "
    "completed_at = v.column8, output = v.column9, custom_status = v.column10, failure = v.column11 "
    "from (values {values}) v "
    "where instances.id = v.column1 and instances.execution_id = v.column2 and instances.position = v.column3"
)
# The index on open_work is written whenever the column is set, to the same value or not: one page less per commit.
MOVE_ONLY = MOVE.replace("{open_work}", "")
MOVE_AND_INDEX = MOVE.replace("{open_work}", "open_work = v.column5, ")


def _move_instances(db: Connection, checkpoints: Sequence[Checkpoint]) -> tuple[Sequence[Checkpoint], set[str]]:
    """Move the rows to their next position; returns the checkpoints that moved and the ids of the stale ones."""
    if len(checkpoints) == 1:
        return (checkpoints, set()) if _move(db, checkpoints) else ((), {checkpoints[0].instance.instance_id})
    db.execute("savepoint moving")
    if _move(db, checkpoints) == len(checkpoints):
        db.execute("release moving")
        return checkpoints, set()
    db.execute("rollback to moving")
    db.execute("release moving")
    applied = [checkpoint for checkpoint in checkpoints if _move(db, (checkpoint,))]
    moved = {checkpoint.instance.instance_id for checkpoint in applied}
    return applied, {checkpoint.instance.instance_id for checkpoint in checkpoints} - moved


def _move(db: Connection, checkpoints: Sequence[Checkpoint]) -> int:
    only = [_move_row(checkpoint) for checkpoint in checkpoints if not checkpoint.changes_open_work]
    indexed = [_move_row(checkpoint) for checkpoint in checkpoints if checkpoint.changes_open_work]
    return update_rows(db, MOVE_ONLY, 11, only) + update_rows(db, MOVE_AND_INDEX, 11, indexed)


def _move_row(checkpoint: Checkpoint) -> Row:
    row = checkpoint.instance
    continues = checkpoint.continues_as_new
    return (
        row.instance_id,
        checkpoint.execution_id,
        checkpoint.position,
        0 if continues else checkpoint.position + 1,
        2 if continues else int(checkpoint.has_open_work),
        row.status.value,
        micros(row.updated_at),
        None if row.completed_at is None else micros(row.completed_at),
        row.output,
        row.custom_status,
        None if row.failure is None else encode_failure(row.failure),
    )


def _history_row(checkpoint: Checkpoint, epoch: int) -> Row:
    row = checkpoint.instance
    events = encode_events(checkpoint.events)
    consumed = msgspec.json.encode(checkpoint.consumed).decode() if checkpoint.consumed else NOTHING
    crc = _checksum(row.instance_id, checkpoint.position, checkpoint.execution_id, consumed, row.custom_status, events)
    return (
        row.instance_id, checkpoint.position, checkpoint.execution_id, epoch, consumed, row.custom_status, crc, events,
    )  # fmt: skip


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
        db.execute(_delete_statement(len(chunk)), chunk)


@lru_cache
def _delete_statement(count: int) -> str:
    return f"delete from mail where id in ({','.join('?' * count)})"  # noqa: S608 - only question marks


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
    rows = [_instance_row(start.instance, partitions, open_work=2) for start in starts]
    db.execute("savepoint creating")
    inserted = insert_rows(db, INSERT_INSTANCE, 17, rows, " on conflict (id) do nothing")
    if inserted == len(rows):
        db.execute("release creating")
        return [None] * len(starts)
    db.execute("rollback to creating")
    db.execute("release creating")
    return [_create_one(db, start, partitions) for start in starts]


def _create_one(db: Connection, start: Start, partitions: int) -> Instance | None:
    existing = _row(db, start.instance.instance_id)
    if existing is not None:
        request_id = start.instance.created_by
        if existing.created_by == request_id or _known_request(db, request_id) is not None:
            return None
        if existing.status not in start.replace:
            return existing
    _replace(db, start.instance, existing, partitions, open_work=2)
    return None


INSERT_INSTANCE = (
    "insert into instances (id, partition, execution_id, open_work, name, status, created_at, updated_at, "
    "completed_at, created_by, input, output, custom_status, failure, version, parent, tags) values"
)


def _replace(db: Connection, instance: Instance, existing: Instance | None, partitions: int, *, open_work: int) -> None:
    """Put an instance at position 0 where perhaps another was, whose history and mail go.

    Mail to yet another execution stays: the start of a child that is to be refused owes its parent an answer.
    """
    if existing is not None:
        instance_id = existing.instance_id
        _note_request(db, existing.created_by, None, instance.created_at)
        db.execute("delete from instances where id = ?", (instance_id,))
        db.execute("delete from history where instance_id = ?", (instance_id,))
        db.execute(
            "delete from mail where instance_id = ? and (execution_id is null or execution_id = ?)",
            (instance_id, existing.execution_id),
        )
    insert_rows(db, INSERT_INSTANCE, 17, [_instance_row(instance, partitions, open_work)])


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
        row.created_by,
        row.input,
        row.output,
        row.custom_status,
        None if row.failure is None else encode_failure(row.failure),
        row.version,
        None if row.parent is None else msgspec.json.encode(row.parent),
        None if row.tags is None else msgspec.json.encode(row.tags),
    )


def send(db: Connection, messages: Sequence[Message], now: datetime, partitions: int) -> list[RuntimeStatus | None]:
    """Store messages to instances that can still take them, each request once."""
    answers: list[RuntimeStatus | None] = []
    taken: list[Message] = []
    for message in messages:
        known = _known_request(db, message.message_id)
        if known is None:
            row = db.execute("select status from instances where id = ?", (message.instance_id,)).fetchone()
            status = None if row is None else row[0]
            _note_request(db, message.message_id, status, now)
            if status is not None and not RuntimeStatus(status).is_terminal:
                taken.append(message)
        else:
            (status,) = known
        answers.append(None if status is None else RuntimeStatus(status))
    _insert_mail(db, taken, partitions)
    return answers


def _known_request(db: Connection, request_id: str) -> Row | None:
    """The status that a request was answered with, in a row, if it was answered at all."""
    return db.execute("select status from requests where id = ?", (request_id,)).fetchone()


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


def load_instances(db: Connection, instance_ids: Collection[str]) -> list[StoredInstance]:
    """Snapshots of those instances that exist; one whose history cannot be read says so."""
    found: list[StoredInstance] = []
    for chunk in chunks(sorted(set(instance_ids))):
        marks = ",".join("?" * len(chunk))
        rows = db.execute(
            f"select {INSTANCE_COLUMNS}, position from instances where id in ({marks})",  # noqa: S608 - question marks
            chunk,
        ).fetchall()
        events: dict[str, list[bytes]] = {}
        for instance_id, body in db.execute(
            f"select instance_id, events from history where instance_id in ({marks}) order by instance_id, position",  # noqa: S608
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
    where, parameters = ["1"], list[Any]()
    if wanted.instance_ids is not None:
        where.append("id in (select value from json_each(?))")
        parameters.append(msgspec.json.encode(wanted.instance_ids).decode())
    for condition, value in (
        ("created_at >= ?", wanted.created_from),
        ("created_at <= ?", wanted.created_to),
    ):
        if value is not None:
            where.append(condition)
            parameters.append(micros(value))
    if wanted.statuses is not None:
        where.append(f"status in ({','.join('?' * len(wanted.statuses))})")
        parameters += sorted(status.value for status in wanted.statuses)
    if wanted.prefix is not None:
        where.append("substr(id, 1, ?) = ?")
        parameters += [len(wanted.prefix), wanted.prefix]
    if wanted.after is not None:
        where.append("(created_at, id) > (?, ?)")
        parameters += page_key(wanted.after)
    rows = db.execute(
        f"select {INSTANCE_COLUMNS} from instances where {' and '.join(where)} order by created_at, id limit ?",  # noqa: S608
        (*parameters, wanted.limit + 1),
    ).fetchall()
    instances = tuple(_instance(row) for row in rows[: wanted.limit])
    after = page_token(instances[-1]) if len(rows) > wanted.limit else None
    return InstancePage(instances, after)


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
            mail = db.execute(
                "select id, instance_id, execution_id, due, event from mail where instance_id = ? order by due, seq",
                (row[0],),
            )
            messages = tuple(_message(*each) for each in mail)
            rows_of_history = tuple(history(db, row[0]))
            page.append(InstanceDump(_instance(row[:-2]), row[-2], row[-1] > 0, rows_of_history, messages))
        db.execute("commit")
        if page:
            yield page
        if len(rows) < page_size:
            return
        after = rows[-1][0]


def _row(db: Connection, instance_id: str) -> Instance | None:
    row = db.execute(f"select {INSTANCE_COLUMNS} from instances where id = ?", (instance_id,)).fetchone()  # noqa: S608
    return None if row is None else _instance(row)


def _instance(row: Row) -> Instance:
    (
        instance_id, execution_id, name, status, created_at, updated_at, created_by, input, output, custom_status,
        failure, version, parent, tags, completed_at,
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
    )


# ---------------------------------------------------------------------- many rows at once


def insert_rows(db: Connection, sql: str, columns: int, rows: Sequence[Row], end: str = "") -> int:
    """Insert rows with few statements; returns how many were inserted."""
    return _run_rows(db, rows, lambda count: sql + _values(count, columns) + end)


def update_rows(db: Connection, sql: str, columns: int, rows: Sequence[Row]) -> int:
    """Run an update `from (values {values})` with few statements; returns how many rows it changed."""
    return _run_rows(db, rows, lambda count: sql.replace("{values}", _values(count, columns)))


def _run_rows(db: Connection, rows: Sequence[Row], statement: Callable[[int], str]) -> int:
    changed = 0
    for chunk in chunks(rows):
        changed += db.execute(statement(len(chunk)), [value for row in chunk for value in row]).rowcount
    return changed


@lru_cache
def _values(count: int, columns: int) -> str:
    return ",".join([f"({','.join('?' * columns)})"] * count)


def chunks(rows: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """The rows in pieces whose lengths are all in `CHUNKS`."""
    start = 0
    for size in CHUNKS:
        while len(rows) - start >= size:
            yield rows[start : start + size]
            start += size


def micros(when: datetime) -> int:
    """Microseconds since 1970."""
    return (when - EPOCH) // MICROSECOND


def moment(value: int) -> datetime:
    """The time that so many microseconds since 1970 are."""
    return EPOCH + value * MICROSECOND
