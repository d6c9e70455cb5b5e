"""A task hub that no host runs, through its store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import msgspec

from perdure.cli.location import HubLocation
from perdure.cli.task_hub import PAGE_SIZE, Status
from perdure.core.history_view import history_view
from perdure.core.records import Instance, InstanceQuery
from perdure.core.status_view import status_view
from perdure.engine.client import TaskHubClient
from perdure.engine.store import Store
from perdure.engine.thread import EngineThread
from perdure.errors import InstanceNotFoundError
from perdure.stores import open_store

T = TypeVar("T")


class StoredHub:
    """A task hub that no host runs, through its store.

    Reading leaves the store alone: it is opened read-only and may be another process's. Sending takes the store's
    lock, and what is sent waits there for the next host.
    """

    is_running = False

    def __init__(self, location: HubLocation) -> None:
        self._location = location

    def list(self, query: InstanceQuery) -> Iterator[Status]:
        if self._exists():
            for instance in self._read(lambda store: _listed(store, query)):
                yield status_view(instance, show_input=False, history=None)

    def show(self, instance_id: str) -> Status:
        return status_view(self._instance(instance_id), show_input=True, history=None)

    def history(self, instance_id: str) -> list[dict[str, Any]]:
        self._instance(instance_id)
        rows = self._read(lambda store: store.history(instance_id))
        return history_view([event for row in rows for event in row.events], show_input=True, show_output=True)

    def raise_event(self, instance_id: str, name: str, data: str | None) -> None:
        self._send(instance_id, lambda client: client.raise_event(instance_id, name, data))

    def terminate(self, instance_id: str, reason: str | None) -> None:
        self._send(instance_id, lambda client: client.terminate(instance_id, reason))

    def _exists(self) -> bool:
        """A hub that was never started has no instances; looking at it must not create it."""
        return self._location.file is None or self._location.file.exists()

    def _instance(self, instance_id: str) -> Instance:
        query = InstanceQuery(instance_ids=(instance_id,), limit=1)
        found = self._read(lambda store: _listed(store, query)) if self._exists() else []
        if not found:
            raise InstanceNotFoundError(instance_id)
        return found[0]

    def _read(self, read: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
        return read_store(self._location, read)

    def _send(self, instance_id: str, send: Callable[[TaskHubClient], Coroutine[Any, Any, None]]) -> None:
        if not self._exists():
            raise InstanceNotFoundError(instance_id)
        engine = EngineThread(open_store(self._location.store_url, hub=self._location.hub))
        engine.start()
        try:
            asyncio.run(send(engine.client))
        finally:
            engine.stop()


def read_store(location: HubLocation, read: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
    """What `read` returns for the hub's store, which may be another process's: it is opened for looking only.

    Raises:
        StoreRefusedError, StoreUnavailableError: the store cannot be used.
    """

    async def reading() -> T:
        store = open_store(location.store_url, hub=location.hub, read_only=True)
        await store.open()
        try:
            return await read(store)
        finally:
            await store.close()

    return asyncio.run(reading())


async def _listed(store: Store, query: InstanceQuery) -> list[Instance]:
    found: list[Instance] = []
    after: str | None = None
    while len(found) < query.limit:
        limit = min(query.limit - len(found), PAGE_SIZE)
        page = await store.query(msgspec.structs.replace(query, limit=limit, after=after))
        found += page.instances
        after = page.after
        if after is None:
            break
    return found
