"""The way from one host to the store: slow, and now and then broken, before or after the effect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from contextvars import Context
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import Any, TypeVar

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
    Start,
    StoredInstance,
)
from perdure.engine.store import Store
from perdure.errors import StoreUnavailableError
from perdure.stores.memory import MemoryStore
from perdure.stores.sqlite import SqliteStore

from .oracle import HostView, Oracle
from .processes import ProcessLoop

T = TypeVar("T")

# Four of them, before and after the two calls that renew a lease, do not lose it.
LONGEST_DELAY_S = 1.2

WRITES_THAT_MAY_COME_LATE = ("commit", "create", "send", "purge", "dispatch")


class Weather(Struct):
    """How the store behaves; probabilities from 0 to 1.

    Attributes:
        slowness: factor on all delays.
        fails_before: a call raises and has no effect.
        fails_after: a call has its effect and then raises.
        comes_late: a write raises, and takes effect later.
    """

    slowness: float = 1.0
    fails_before: float = 0.0
    fails_after: float = 0.0
    comes_late: float = 0.0

    def clear_up(self) -> None:
        """Good weather from now on."""
        self.slowness, self.fails_before, self.fails_after, self.comes_late = 1.0, 0.0, 0.0, 0.0


def at_once(operation: Coroutine[Any, Any, T]) -> T:
    """The result of a store operation that awaits nothing."""
    try:
        operation.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("a store of the simulator must not wait inside an operation")


def _still_stored(store: Store, message_ids: list[str]) -> list[str]:
    """Which of these messages a store still has, for whomever."""
    if isinstance(store, MemoryStore):
        return [each for each in message_ids if each in store._mail]
    assert isinstance(store, SqliteStore)
    assert store._db is not None
    select = store._db.execute
    return [each for each in message_ids if select("select 1 from mail where id = ?", (each,)).fetchone()]


class FaultyStore:
    """A `Store` as one host sees it. Each operation takes effect at one moment between two delays."""

    def __init__(
        self, store: Store, host: HostView, oracle: Oracle, weather: Weather, loop: ProcessLoop, rng: Random
    ) -> None:
        self._store = store
        self._host = host
        self._oracle = oracle
        self._weather = weather
        self._loop = loop
        self._rng = rng

    @property
    def partitions(self) -> int:
        return self._store.partitions

    async def open(self) -> None:
        """It is open."""

    async def close(self) -> None:
        """Others use it."""

    async def changed(self, timeout: timedelta) -> None:
        await self._store.changed(timeout)

    async def _call(self, name: str, effect: Callable[[], T]) -> T:
        weather, rng = self._weather, self._rng
        await self._delay()
        luck = rng.random()
        if luck < weather.fails_before:
            raise StoreUnavailableError(f"{name} failed before it did anything")
        luck -= weather.fails_before
        if luck < weather.comes_late and name in WRITES_THAT_MAY_COME_LATE:
            self._loop.call_later(rng.choice((0.1, 1.0, 5.0, 20.0)), effect, context=Context())
            raise StoreUnavailableError(f"{name} failed, and comes late")
        luck -= weather.comes_late
        result = effect()
        await self._delay()
        if 0 <= luck < weather.fails_after:
            raise StoreUnavailableError(f"{name} failed after it was done")
        return result

    async def _delay(self) -> None:
        kind = self._rng.random()
        if kind < 0.5:
            return
        longest = 0.004 if kind < 0.9 else 0.3 if kind < 0.98 else LONGEST_DELAY_S
        await asyncio.sleep(self._rng.random() * longest * self._weather.slowness)

    # ------------------------------------------------------------------ writes

    async def beat(self, host_id: str, now: datetime, until: datetime) -> Sequence[str]:
        return await self._call("beat", lambda: at_once(self._store.beat(host_id, now, until)))

    async def lease(self, partitions: Collection[int], host_id: str, now: datetime, until: datetime) -> Sequence[Lease]:
        def effect() -> Sequence[Lease]:
            leases = at_once(self._store.lease(partitions, host_id, now, until))
            self._oracle.leased(self._host, leases)
            return leases

        return await self._call("lease", effect)

    async def commit(self, batches: Sequence[Batch]) -> CommitOutcome:
        def effect() -> CommitOutcome:
            outcome = at_once(self._store.commit(batches))
            self._oracle.commit(self._host, batches, outcome, self._is_there)
            return outcome

        return await self._call("commit", effect)

    def _is_there(self, child: Instance) -> bool:
        rows = at_once(self._store.load_instances([child.instance_id]))
        return bool(rows) and rows[0].instance.created_by == child.created_by

    async def create(self, starts: Sequence[Start]) -> Sequence[Instance | None]:
        def effect() -> Sequence[Instance | None]:
            results = at_once(self._store.create(starts))
            self._oracle.started(starts, results)
            return results

        return await self._call("create", effect)

    async def send(self, messages: Sequence[Message], now: datetime) -> Sequence[RuntimeStatus | None]:
        def effect() -> Sequence[RuntimeStatus | None]:
            statuses = at_once(self._store.send(messages, now))
            self._oracle.sent(messages, statuses)
            return statuses

        return await self._call("send", effect)

    async def purge(self, instance_ids: Collection[str], now: datetime) -> frozenset[str]:
        def effect() -> frozenset[str]:
            purged = at_once(self._store.purge(instance_ids, now))
            self._oracle.purging(instance_ids, now, purged, partial(_still_stored, self._store))
            return purged

        return await self._call("purge", effect)

    async def dispatch(self, lease: Lease, activities: Sequence[ActivityTask]) -> Sequence[int]:
        def effect() -> Sequence[int]:
            counts = at_once(self._store.dispatch(lease, activities))
            self._oracle.dispatched(activities, counts)
            return counts

        return await self._call("dispatch", effect)

    # ------------------------------------------------------------------ reads

    async def dispatches(self, lease: Lease, activities: Sequence[ActivityTask]) -> Sequence[int]:
        return await self._call("dispatches", lambda: at_once(self._store.dispatches(lease, activities)))

    async def open_work(
        self, lease: Lease, after: str | None, limit: int, *, unstarted_only: bool = False
    ) -> Sequence[str]:
        return await self._call(
            "open_work",
            lambda: at_once(self._store.open_work(lease, after, limit, unstarted_only=unstarted_only)),
        )

    async def receive(self, lease: Lease, before: datetime, after: tuple[int, int] | None, limit: int) -> MailPage:
        return await self._call("receive", lambda: at_once(self._store.receive(lease, before, after, limit)))

    async def load_instances(self, instance_ids: Collection[str]) -> Sequence[StoredInstance]:
        return await self._call("load_instances", lambda: at_once(self._store.load_instances(instance_ids)))

    async def query(self, query: InstanceQuery) -> InstancePage:
        return await self._call("query", lambda: at_once(self._store.query(query)))

    async def count(self, query: InstanceQuery) -> Mapping[RuntimeStatus, int]:
        return await self._call("count", lambda: at_once(self._store.count(query)))

    async def entities(self, query: EntityQuery) -> InstancePage:
        return await self._call("entities", lambda: at_once(self._store.entities(query)))

    async def history(self, instance_id: str) -> Sequence[HistoryRow]:
        return await self._call("history", lambda: at_once(self._store.history(instance_id)))

    def dump(self) -> AsyncIterator[InstanceDump]:
        return self._store.dump()
