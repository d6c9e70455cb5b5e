"""What this machine allows: a bare loop that makes generators durable, and nothing else.

An orchestration is a live generator. Each time it yields, what happened since the last time becomes one history row,
and its state one instance row; a writer thread commits whatever has queued up while it wrote the commit before (SQLite,
WAL, synchronous=FULL). Nothing acts before its commit: the start is acknowledged, and an activity begins, after it.
There are no leases, fences, messages, timers, checks, replay, HTTP: an engine that keeps promises is slower than this.

    python bench/ceiling.py --n 10000 --threads 4
"""

from __future__ import annotations

import argparse
import asyncio
import json
import queue
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

CITIES = ("Tokyo", "Seattle", "London")

SCHEMA = """
pragma journal_mode = wal;
pragma synchronous = full;
create table instances
  (id text primary key, name text, status int, input text, output text, updated real) without rowid;
create table history (id text, position int, events blob, primary key (id, position)) without rowid;
"""
PUT_INSTANCE = (
    "insert into instances values {} on conflict (id) "
    "do update set status = excluded.status, output = excluded.output, updated = excluded.updated"
)
PUT_HISTORY = "insert into history values {}"

# Rows per statement. `executemany` gives up the interpreter lock once per row, one statement for many rows once; while
# another thread computes, getting it back takes up to 5 ms.
ROWS_PER_STATEMENT = 100


class Started(msgspec.Struct, tag=True):
    at: float
    name: str
    input: str


class Scheduled(msgspec.Struct, tag=True):
    at: float
    task: int
    name: str
    input: str


class Completed(msgspec.Struct, tag=True):
    at: float
    task: int
    result: str


class Ended(msgspec.Struct, tag=True):
    at: float
    result: str


encode = msgspec.json.Encoder().encode


def say_hello(city: str) -> str:
    """The activity."""
    return f"Hello {city}!"


def hello(cities: Sequence[str]) -> Generator[str, str, list[str]]:
    """The orchestrator: yields an activity's input, gets its result."""
    greetings: list[str] = []
    for city in cities:
        greetings.append((yield city))
    return greetings


class Running:
    """An orchestration in memory."""

    __slots__ = ("code", "ended", "id", "input", "position", "task")

    def __init__(self, id: str, cities: Sequence[str], ended: asyncio.Future[str]) -> None:
        self.id = id
        self.input = json.dumps(cities)
        self.code = hello(cities)
        self.position = 0
        self.task = 0
        self.ended = ended


class Ceiling:
    """The loop. To be used on the event loop that made it."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(threads) if threads else None
        self._writer = Writer(path, self._committed)

    def start(self, id: str, cities: Sequence[str] = CITIES) -> asyncio.Future[str]:
        """Begin an orchestration; the future gets its result once that is durable."""
        running = Running(id, cities, self._loop.create_future())
        self._turn(running, None, [Started(time.time(), "hello", running.input)])
        return running.ended

    def close(self) -> int:
        """End the threads; returns how many commits there were."""
        if self._pool is not None:
            self._pool.shutdown()
        return self._writer.close()

    def _turn(self, running: Running, value: str | None, events: list[Any]) -> None:
        """Step the generator, and queue what follows from it to be written."""
        now = time.time()
        try:
            city = running.code.send(value)  # type: ignore[arg-type]
        except StopIteration as end:
            result = json.dumps(end.value)
            events.append(Ended(now, result))
            self._write(running, events, 1, result, now, lambda: running.ended.set_result(result))
            return
        events.append(Scheduled(now, running.task, "say_hello", json.dumps(city)))
        self._write(running, events, 0, None, now, lambda: self._activity(running, city))

    def _write(
        self, running: Running, events: list[Any], status: int, output: str | None, now: float, then: Callable[[], None]
    ) -> None:
        history = (running.id, running.position, encode(events))
        running.position += 1
        self._writer.put((history, (running.id, "hello", status, running.input, output, now), then))

    def _committed(self, thens: Sequence[Callable[[], None]]) -> None:
        self._loop.call_soon_threadsafe(self._release, thens)

    def _release(self, thens: Sequence[Callable[[], None]]) -> None:
        for then in thens:
            then()

    def _activity(self, running: Running, city: str) -> None:
        if self._pool is None:
            self._loop.call_soon(self._finished, running, say_hello(city))
        else:
            self._pool.submit(self._in_thread, running, city)

    def _in_thread(self, running: Running, city: str) -> None:
        self._loop.call_soon_threadsafe(self._finished, running, say_hello(city))

    def _finished(self, running: Running, result: str) -> None:
        event = Completed(time.time(), running.task, json.dumps(result))
        running.task += 1
        self._turn(running, result, [event])


class Writer:
    """Group commit: everything that queued up during one commit is the next."""

    def __init__(self, path: Path, committed: Callable[[Sequence[Callable[[], None]]], None]) -> None:
        self._path = path
        self._told = committed
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.put = self._queue.put
        self._commits = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> int:
        self._queue.put(None)
        self._thread.join()
        return self._commits

    def _run(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        connection.executescript(SCHEMA)
        while (first := self._queue.get()) is not None:
            batch = [first, *(self._queue.get() for _ in range(self._queue.qsize()))]
            is_last = batch[-1] is None
            histories, instances, thens = zip(*(each for each in batch if each is not None), strict=True)
            connection.execute("begin immediate")
            insert(connection, PUT_HISTORY, histories)
            insert(connection, PUT_INSTANCE, instances)
            connection.execute("commit")
            self._commits += 1
            self._told(thens)
            if is_last:
                break
        connection.close()


def insert(connection: sqlite3.Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert `rows` with as few statements as may be."""
    mark = f"({','.join('?' * len(rows[0]))})"
    for begin in range(0, len(rows), ROWS_PER_STATEMENT):
        part = rows[begin : begin + ROWS_PER_STATEMENT]
        values = [value for row in part for value in row]
        connection.execute(statement.format(",".join([mark] * len(part))), values)


async def measured(path: Path, n: int, threads: int) -> float:
    """Seconds for `n` orchestrations started at once, on a fresh database."""
    ceiling = Ceiling(path, threads)
    try:
        await asyncio.gather(*[ceiling.start(f"warm-{number}") for number in range(50)])
        before = time.perf_counter()
        await asyncio.gather(*[ceiling.start(f"hello-{number}") for number in range(n)])
        return time.perf_counter() - before
    finally:
        ceiling.close()


def rows_in(path: Path) -> tuple[int, int]:
    """How many instances have ended, and how many history rows there are."""
    connection = sqlite3.connect(path)
    try:
        ended = connection.execute("select count(*) from instances where status = 1").fetchone()[0]
        return ended, connection.execute("select count(*) from history").fetchone()[0]
    finally:
        connection.close()


def run(folder: Path, n: int, threads: int) -> float:
    """Orchestrations per second; checks that everything is in the database."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        path = Path(scratch) / "ceiling.db"
        seconds = asyncio.run(measured(path, n, threads))
        if rows_in(path) != (n + 50, 4 * (n + 50)):
            raise AssertionError(f"the ceiling lost rows: {rows_in(path)}")
    return n / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000, help="orchestrations started at once")
    parser.add_argument("--threads", type=int, default=0, help="run activities in so many threads; 0 runs them inline")
    parser.add_argument("--dir", type=Path, default=Path(), help="where the database is made; should be on a real disk")
    arguments = parser.parse_args()
    per_second = run(arguments.dir, arguments.n, arguments.threads)
    print(json.dumps({"n": arguments.n, "threads": arguments.threads, "orchestrations_per_s": round(per_second)}))


if __name__ == "__main__":
    main()
