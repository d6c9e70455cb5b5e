"""A task hub in one SQLite file: WAL, `synchronous=FULL`, one writer."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from importlib import resources
from pathlib import Path
from queue import SimpleQueue
from sqlite3 import Connection
from typing import Any, TypeVar
from uuid import uuid4

from msgspec import Struct

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
    partition_of,
)
from perdure.engine.crossing import Crossing
from perdure.errors import StoreLockedError, StoreRefusedError, StoreUnavailableError
from perdure.stores import sql, sql_entities

T = TypeVar("T")

# UPDATE ... FROM, RETURNING and STRICT tables.
SQLITE_MIN = (3, 38, 0)

SCHEMA_VERSION = 4

# A transaction this small is done where it is asked for, if the writer is idle: two thread hops cost more than its
# flush. A larger one would keep the engine from computing meanwhile.
INLINE_ROWS_MAX = 4

# Another program may hold the file for a moment (a backup, a shell); longer is an outage.
BUSY_TIMEOUT_S = 10.0

NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "afs", "glusterfs", "ceph"})


class _Job(Struct):
    """A change to make, and who waits for it."""

    change: Callable[[Connection], Any]
    crossing: Crossing[tuple[asyncio.Future[Any], Any]]
    future: asyncio.Future[Any]


class SqliteStore:
    """The seam on a file. One process is its host; others may open it read-only.

    Args:
        path: the file; created with its folder if `open` finds none.
        hub: name of the task hub; a file of another hub is refused.
        partitions: how many a new hub gets.
        read_only: take no lock and change nothing.
        inline: no threads: every operation is done at once on the caller's (for the simulator).
    """

    def __init__(
        self,
        path: Path,
        *,
        hub: str = "TestHubName",
        partitions: int = 1,
        read_only: bool = False,
        inline: bool = False,
    ) -> None:
        self.path = path
        self.hub = hub
        self.rows_changed = 0
        self._partitions = partitions
        self._read_only = read_only
        self._inline = inline
        self._lock: _ProcessLock | None = None
        self._db: Connection | None = None
        self._reader: Connection | None = None
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._outstanding = 0  # changes handed to the writer thread; it leaves the connection alone when there are none
        self._writer: threading.Thread | None = None
        self._listing: ThreadPoolExecutor | None = None
        self._crossings: dict[asyncio.AbstractEventLoop, Crossing[tuple[asyncio.Future[Any], Any]]] = {}
        self._waiters: dict[asyncio.Event, None] = {}  # in order, so that a simulated run can be repeated

    @property
    def partitions(self) -> int:
        return self._partitions

    # ------------------------------------------------------------------ life

    async def open(self) -> None:
        """Take the file's lock, create or migrate the hub, and end every older incarnation.

        Raises:
            StoreLockedError: another process is its host.
            StoreRefusedError: the file cannot be used; the text says why and what to do.
        """
        if self._db is not None:
            return
        if sqlite3.sqlite_version_info < SQLITE_MIN:
            wanted = ".".join(map(str, SQLITE_MIN))
            raise StoreRefusedError(f"SQLite {sqlite3.sqlite_version} is too old: perdure needs {wanted} or later.")
        try:
            self._open()
        except sqlite3.Error as error:
            self._let_go()
            raise StoreRefusedError(f"cannot open {self.path} as a task hub: {error}") from error
        except BaseException:
            self._let_go()
            raise

    def _open(self) -> None:
        if self._read_only:
            if not self.path.is_file():
                raise StoreRefusedError(f"there is no task hub at {self.path}.")
            self._db = self._reader = self._connect("ro")
            self._check_schema(self._db)
            self._check_meta(self._db)
            return
        self._make_file()
        self._lock = _ProcessLock(Path(f"{self.path}.lock"))
        self._lock.take()
        self._db = self._connect("rwc")
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = full")
        self._migrate(self._db)
        self._check_meta(self._db)
        self._db.execute("begin immediate")
        sql.end_incarnations(self._db)
        self._db.execute("commit")
        self._reader = self._connect("rw")
        self._reader.execute("pragma query_only = on")
        if not self._inline:
            self._writer = threading.Thread(target=self._write_jobs, name="perdure-sqlite", daemon=True)
            self._writer.start()
            self._listing = ThreadPoolExecutor(1, "perdure-sqlite-list")

    async def close(self) -> None:
        """Finish what is queued, and let the file and its lock go."""
        if self._writer is not None:
            self._jobs.put(None)
            self._writer.join()
            self._writer = None
        if self._listing is not None:
            self._listing.shutdown()
            self._listing = None
        self._let_go()

    def _let_go(self) -> None:
        for db in {self._reader, self._db}:
            if db is not None:
                with suppress(sqlite3.Error):
                    db.close()
        self._db = self._reader = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _make_file(self) -> None:
        """The folder and the file, readable by nobody else: payloads may hold secrets."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise StoreRefusedError(
                f"cannot write {self.path}: {error.strerror}. Choose another place with --store sqlite:PATH, or make "
                "the folder writable."
            ) from error
        system = _file_system(self.path)
        if system in NETWORK_FILE_SYSTEMS:
            raise StoreRefusedError(
                f"{self.path} is on a network file system ({system}), where SQLite's log does not work. Choose a local "
                "disk with --store sqlite:PATH."
            )

    def _connect(self, mode: str) -> Connection:
        db = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        db.execute("pragma trusted_schema = off")
        db.execute("pragma cell_size_check = on")
        db.execute("pragma mmap_size = 0")
        # 16 MiB instead of 2: the pages of some ten thousand running instances.
        db.execute("pragma cache_size = -16384")
        return db

    def _migrate(self, db: Connection) -> None:
        """Bring the file to this version's schema, one numbered script at a time, each in a transaction."""
        version = self._schema_version(db)
        if version == 0 and db.execute("select count(*) from sqlite_master").fetchone() != (0,):
            raise StoreRefusedError(f"{self.path} is a SQLite file, but not a task hub. Use another file.")
        scripts = sorted(resources.files("perdure.stores").joinpath("schema").iterdir(), key=lambda file: file.name)
        for number, script in enumerate(scripts, 1):
            if number <= version:
                continue
            db.executescript(f"begin immediate; {script.read_text('utf-8')} pragma user_version = {number}; commit;")
        if version == 0:
            meta = {"hub": self.hub, "partitions": str(self._partitions), "id": uuid4().hex}
            db.execute("begin immediate")
            db.executemany("insert into meta values (?, ?)", list(meta.items()))
            db.executemany("insert into partitions (id) values (?)", [(each,) for each in range(self._partitions)])
            db.execute("commit")

    def _check_schema(self, db: Connection) -> None:
        """Whoever only looks cannot migrate."""
        version = self._schema_version(db)
        if version < SCHEMA_VERSION:
            raise StoreRefusedError(
                f"{self.path} was written by an older perdure (schema {version}, this one reads {SCHEMA_VERSION}). Run "
                "`perdure start` on it once, which brings it up to date."
            )

    def _schema_version(self, db: Connection) -> int:
        (version,) = db.execute("pragma user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise StoreRefusedError(
                f"{self.path} was written by a newer perdure (schema {version}, this one knows {SCHEMA_VERSION}). "
                "Upgrade perdure, or use another file."
            )
        return version

    def _check_meta(self, db: Connection) -> None:
        meta: dict[str, str] = dict(db.execute("select key, value from meta").fetchall())
        if meta.get("hub") != self.hub:
            raise StoreRefusedError(
                f"{self.path} belongs to the task hub '{meta.get('hub')}', not to '{self.hub}'. Use --hub "
                f"{meta.get('hub')}, or another file."
            )
        self._partitions = int(meta["partitions"])

    # ------------------------------------------------------------------ writing

    async def _write(self, change: Callable[[Connection], T], rows: int) -> T:
        """Make a change; it is durable when this returns.

        Raises:
            StoreUnavailableError: whether it was made is not known.
        """
        if self._inline or (rows <= INLINE_ROWS_MAX and not self._outstanding):
            return self._transaction([change])[0]
        loop = asyncio.get_running_loop()
        crossing = self._crossings.get(loop)
        if crossing is None:
            crossing = self._crossings[loop] = Crossing(loop, _resolve)
        future: asyncio.Future[T] = loop.create_future()
        self._outstanding += 1
        self._jobs.put(_Job(change, crossing, future))
        try:
            return await future
        finally:
            self._outstanding -= 1

    def _write_jobs(self) -> None:
        """The writer thread: everything that gathered while the last transaction ran goes into the next."""
        while True:
            job = self._jobs.get()
            jobs: list[_Job] = []
            while job is not None:
                jobs.append(job)
                if self._jobs.empty():
                    break
                job = self._jobs.get()
            if jobs:
                self._write_together(jobs)
            if job is None:
                return

    def _write_together(self, jobs: Sequence[_Job]) -> None:
        try:
            results: Sequence[Any] = self._transaction([job.change for job in jobs])
        except StoreUnavailableError as error:
            results = [error] * len(jobs)
        except Exception as error:  # one of them was given what no database takes: the others are not to suffer
            if len(jobs) > 1:
                for job in jobs:
                    self._write_together([job])
                return
            results = [error]
        for job, result in zip(jobs, results, strict=True):
            job.crossing.put((job.future, result))

    def _transaction(self, changes: Sequence[Callable[[Connection], T]]) -> list[T]:
        db = self._db
        if db is None:
            raise StoreUnavailableError(f"{self.path} is closed")
        before = db.total_changes
        try:
            db.execute("begin immediate")
            results = [change(db) for change in changes]
            db.execute("commit")
        except BaseException as error:
            with suppress(sqlite3.Error):
                if db.in_transaction:
                    db.execute("rollback")
            if isinstance(error, sqlite3.Error):
                raise StoreUnavailableError(f"{self.path} could not be written: {error}") from error
            raise
        self.rows_changed += db.total_changes - before
        return results

    # ------------------------------------------------------------------ what lease holders do

    async def beat(self, host_id: str, now: datetime, until: datetime) -> Sequence[str]:
        return await self._write(lambda db: sql.beat(db, host_id, now, until), 2)

    async def lease(self, partitions: Collection[int], host_id: str, now: datetime, until: datetime) -> Sequence[Lease]:
        return await self._write(lambda db: sql.lease(db, partitions, host_id, now, until), len(partitions))

    async def open_work(
        self, lease: Lease, after: str | None, limit: int, *, unstarted_only: bool = False
    ) -> Sequence[str]:
        return self._read(lambda db: sql.open_work(db, lease, after, limit, unstarted_only=unstarted_only))

    async def receive(self, lease: Lease, before: datetime, after: tuple[int, int] | None, limit: int) -> MailPage:
        return self._read(lambda db: sql.receive(db, lease, before, after, limit))

    async def commit(self, batches: Sequence[Batch]) -> CommitOutcome:
        rows = sum(len(batch.checkpoints) + len(batch.discarded) for batch in batches)
        outcome = await self._write(lambda db: sql.commit(db, batches, self._partitions), rows)
        held = {batch.lease.partition for batch in batches}
        if any(partition_of(each.instance_id, self._partitions) not in held for each in _messages(batches)):
            self._signal()
        return outcome

    async def dispatch(self, lease: Lease, activities: Sequence[ActivityTask]) -> Sequence[int]:
        return await self._write(lambda db: sql.dispatch(db, lease, activities), len(activities))

    async def dispatches(self, lease: Lease, activities: Sequence[ActivityTask]) -> Sequence[int]:
        return self._read(lambda db: sql.dispatches(db, activities))

    async def load_instances(self, instance_ids: Collection[str]) -> Sequence[StoredInstance]:
        return self._read(lambda db: sql.load_instances(db, instance_ids))

    async def save_schedule(self, lease: Lease, status: ScheduleStatus) -> bool:
        return await self._write(lambda db: sql.save_schedule(db, lease, status), 1)

    # ------------------------------------------------------------------ what clients do

    async def create(self, starts: Sequence[Start]) -> Sequence[Instance | None]:
        outcome = await self._write(lambda db: sql.create(db, starts, self._partitions), len(starts))
        self._signal()
        return outcome

    async def send(self, messages: Sequence[Message], now: datetime) -> Sequence[RuntimeStatus | None]:
        outcome = await self._write(lambda db: sql.send(db, messages, now, self._partitions), len(messages))
        self._signal()
        return outcome

    async def query(self, query: InstanceQuery) -> InstancePage:
        if query.instance_ids is not None:
            return self._read(lambda db: sql.query(db, query))
        return await self._list(lambda db: sql.query(db, query))

    async def entities(self, query: EntityQuery) -> InstancePage:
        return await self._list(lambda db: sql_entities.query(db, query))

    async def count(self, query: InstanceQuery) -> Mapping[RuntimeStatus, int]:
        return await self._list(lambda db: sql.count(db, query))

    async def purge(self, instance_ids: Collection[str], now: datetime) -> frozenset[str]:
        outcome = await self._write(lambda db: sql.purge(db, instance_ids, now, self._partitions), len(instance_ids))
        self._signal()
        return outcome

    async def schedules(self) -> Sequence[ScheduleStatus]:
        return self._read(sql.schedules)

    async def history(self, instance_id: str) -> Sequence[HistoryRow]:
        return await self._list(lambda db: sql.history(db, instance_id))

    async def dump(self) -> AsyncIterator[InstanceDump]:
        db = self._connect("ro")
        pages: Iterator[list[InstanceDump]] = sql.dump(db)
        try:
            while page := await self._list(lambda _: next(pages, None)):
                for instance in page:
                    yield instance
        finally:
            db.close()

    # ------------------------------------------------------------------ reading

    def _read(self, read: Callable[[Connection], T]) -> T:
        """A short read, done here: it costs less than a hop to another thread."""
        if self._reader is None:
            raise StoreUnavailableError(f"{self.path} is closed")
        self._reader.execute("begin")
        try:
            return read(self._reader)
        except sqlite3.Error as error:
            raise StoreUnavailableError(f"{self.path} could not be read: {error}") from error
        finally:
            self._reader.execute("commit")

    async def _list(self, read: Callable[[Connection], T]) -> T:
        """A read that may take long, on a thread and a connection of its own."""
        if self._listing is None:
            return self._read(read) if self._reader is not None else read(self._connect("ro"))
        return await asyncio.get_running_loop().run_in_executor(self._listing, self._read_apart, read)

    def _read_apart(self, read: Callable[[Connection], T]) -> T:
        db = self._connect("ro")
        try:
            return read(db)
        except sqlite3.Error as error:
            raise StoreUnavailableError(f"{self.path} could not be read: {error}") from error
        finally:
            db.close()

    # ------------------------------------------------------------------ being told

    async def changed(self, timeout: timedelta) -> None:
        event = asyncio.Event()
        self._waiters[event] = None
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            self._waiters.pop(event, None)

    def _signal(self) -> None:
        """Engines share a store only on one event loop, which is the one that called."""
        for event in self._waiters:
            event.set()


class _ProcessLock:
    """A lock that ends with the process, however it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def take(self) -> None:
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(file, 32, 1).decode(errors="replace").strip() if sys.platform != "win32" else "unknown"
            os.close(file)
            raise StoreLockedError(
                f"another process (pid {holder or 'unknown'}) is the host of the task hub {self.path.with_suffix('')}. "
                "Stop it, or use another hub with --hub or another file with --store."
            ) from None
        os.ftruncate(file, 0)
        os.write(file, f" {os.getpid()}\n".encode())
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _messages(batches: Sequence[Batch]) -> Iterator[Message]:
    for batch in batches:
        yield from batch.replies
        for checkpoint in batch.checkpoints:
            yield from checkpoint.messages


def _file_system(path: Path) -> str | None:
    """The kind of file system that a path is on, where the system tells."""
    try:
        mounts = Path("/proc/self/mounts").read_text(errors="replace").splitlines()
    except OSError:
        return None
    folder = path.resolve()
    best: tuple[int, str] = (-1, "")
    for line in mounts:
        _, point, kind, *_ = line.split(" ")
        if folder.is_relative_to(point) and len(point) >= best[0]:
            best = (len(point), kind)
    return best[1] or None


def _resolve(results: Sequence[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, result in results:
        if future.done():
            continue
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)
