"""The statements about entities: one row each, written by the checkpoints of their batches.

Everything here runs inside a transaction that somebody else began, like that of `stores.sql`, whose ways it follows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from sqlite3 import Connection
from typing import Any

import msgspec

from perdure.core.events import ParentInstance
from perdure.core.instance_ids import INSTANCE_ID_LENGTH_MAX
from perdure.core.records import (
    Checkpoint,
    EntityQuery,
    EntityState,
    Instance,
    InstancePage,
    RuntimeStatus,
    StoredInstance,
    partition_of,
)
from perdure.stores.rows import Row, chunks, insert_rows, marks, micros, moment, update_rows

_parent_decoder = msgspec.json.Decoder(ParentInstance)

COLUMNS = "id, execution_id, position, created_at, updated_at, state, lock"

MOVE = (
    "update entities set position = v.column3 + 1, updated_at = v.column4, state = v.column5, lock = v.column6 "
    "from (values {values}) v "
    "where entities.id = v.column1 and entities.execution_id = v.column2 and entities.position = v.column3"
)


def move(db: Connection, checkpoints: Sequence[Checkpoint], partitions: int) -> set[str]:
    """Write the rows of entities, where they are as expected; returns the ids of those that are not."""
    kept = [each for each in checkpoints if not (each.creates or each.deletes)]
    stale = _move_kept(db, kept)
    for each in checkpoints:
        if each.creates and each.deletes:
            continue  # it never had a row, and needs none
        if each.creates:
            done = insert_rows(db, INSERT, 8, [_row(each, partitions)], " on conflict (id) do nothing")
        elif each.deletes:
            place = (each.instance.instance_id, each.execution_id, each.position)
            done = db.execute("delete from entities where id = ? and execution_id = ? and position = ?", place).rowcount
        else:
            continue
        if not done:
            stale.add(each.instance.instance_id)
    return stale


LAST = "\U0010ffff" * INSTANCE_ID_LENGTH_MAX
"""No id comes after this text."""

INSERT = "insert into entities (id, partition, execution_id, position, created_at, updated_at, state, lock) values"


def _move_kept(db: Connection, checkpoints: Sequence[Checkpoint]) -> set[str]:
    rows = [_moved(each) for each in checkpoints]
    db.execute("savepoint entities")
    is_whole = update_rows(db, MOVE, 6, rows) == len(rows)
    if not is_whole:
        db.execute("rollback to entities")
    db.execute("release entities")
    return set() if is_whole else {row[0] for row in rows if not update_rows(db, MOVE, 6, [row])}


def _moved(checkpoint: Checkpoint) -> Row:
    row, entity = checkpoint.instance, checkpoint.instance.entity or EntityState()
    place = (row.instance_id, checkpoint.execution_id, checkpoint.position)
    return (*place, micros(row.updated_at), entity.state, _lock(entity))


def _row(checkpoint: Checkpoint, partitions: int) -> Row:
    row, entity = checkpoint.instance, checkpoint.instance.entity or EntityState()
    return (
        row.instance_id,
        partition_of(row.instance_id, partitions),
        row.execution_id,
        checkpoint.position_after,
        micros(row.created_at),
        micros(row.updated_at),
        entity.state,
        _lock(entity),
    )


def _lock(entity: EntityState) -> bytes | None:
    return None if entity.lock is None else msgspec.json.encode(entity.lock)


def load(db: Connection, ids: Collection[str]) -> list[StoredInstance]:
    """Snapshots of those entities that have a row."""
    found: list[StoredInstance] = []
    for chunk in chunks(sorted(set(ids))):
        rows = db.execute(f"select {COLUMNS} from entities where id in ({marks(len(chunk))})", chunk)  # noqa: S608
        found += [_stored(row) for row in rows]
    return found


def query(db: Connection, wanted: EntityQuery) -> InstancePage:
    """One page of entities in order of id."""
    # The bounds are for the index: without the upper one, reading one entity would walk over all that come after it.
    where = ["substr(id, 1, ?) = ?", "id >= ?", "id <= ?"]
    parameters: list[Any] = [len(wanted.prefix), wanted.prefix, wanted.prefix, wanted.prefix + LAST]
    for condition, value in (("updated_at >= ?", wanted.updated_from), ("updated_at <= ?", wanted.updated_to)):
        if value is not None:
            where.append(condition)
            parameters.append(micros(value))
    if wanted.locked_only:
        where.append("lock is not null")
    if wanted.after is not None:
        where.append("id > ?")
        parameters.append(wanted.after)
    rows = db.execute(
        f"select {COLUMNS} from entities where {' and '.join(where)} order by id limit ?",  # noqa: S608
        (*parameters, wanted.limit + 1),
    ).fetchall()
    page = tuple(_stored(row).instance for row in rows[: wanted.limit])
    return InstancePage(page, page[-1].instance_id if len(rows) > wanted.limit else None)


def purge(db: Connection, ids: Sequence[str]) -> list[str]:
    """Remove entities; returns the ids of those that had a row."""
    found: list[str] = []
    for chunk in chunks(sorted(set(ids))):
        rows = db.execute(f"delete from entities where id in ({marks(len(chunk))}) returning id", chunk)  # noqa: S608
        found += [entity_id for (entity_id,) in rows]
    return found


def _stored(row: Row) -> StoredInstance:
    entity_id, execution_id, position, created_at, updated_at, state, lock = row
    entity = EntityState(state, None if lock is None else _parent_decoder.decode(lock))
    instance = Instance(
        instance_id=entity_id,
        execution_id=execution_id,
        name=entity_id.split("@", 2)[1],
        status=RuntimeStatus.RUNNING,
        created_at=moment(created_at),
        updated_at=moment(updated_at),
        created_by=execution_id,
        entity=entity,
    )
    return StoredInstance(instance, position)
