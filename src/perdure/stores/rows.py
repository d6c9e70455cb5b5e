"""Rows in and out of SQLite: many with each statement, times as whole numbers.

Each call of SQLite's `step` gives up Python's global lock, and a busy thread takes milliseconds to give it back, so a
row must not cost a call (docs/decisions).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from sqlite3 import Connection
from typing import Any

Row = tuple[Any, ...]

# Rows of one statement come in these numbers, so that few texts are prepared, and each once. SQLite takes at most
# 32,766 parameters; the widest statement here has 19 a row.
CHUNKS = (256, 64, 16, 4, 1)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def insert_rows(db: Connection, sql: str, columns: int, rows: Sequence[Row], end: str = "") -> int:
    """Insert rows with few statements; returns how many were inserted."""
    return _run_rows(db, rows, lambda count: sql + values(count, columns) + end)


def update_rows(db: Connection, sql: str, columns: int, rows: Sequence[Row]) -> int:
    """Run an update `from (values {values})` with few statements; returns how many rows it changed."""
    return _run_rows(db, rows, lambda count: sql.replace("{values}", values(count, columns)))


def _run_rows(db: Connection, rows: Sequence[Row], statement: Callable[[int], str]) -> int:
    changed = 0
    for chunk in chunks(rows):
        changed += db.execute(statement(len(chunk)), [value for row in chunk for value in row]).rowcount
    return changed


@lru_cache
def marks(count: int) -> str:
    return ",".join("?" * count)


@lru_cache
def values(count: int, columns: int) -> str:
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
