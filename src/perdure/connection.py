"""A client of a task hub for programs that are no function app: scripts, services, notebooks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from perdure.engine.client import TaskHubClient
from perdure.engine.engine import Engine
from perdure.engine.store import Store
from perdure.errors import StoreLockedError, StoreRefusedError
from perdure.state_folder import HostNote, StateFolder, absolute_store_url, store_file
from perdure.stores import open_store
from perdure.webapi.remote import ManagementApi, RemoteTaskHubClient

DEFAULT_HUB = "TestHubName"
"""The official host's name for the task hub of an app that names none."""


@asynccontextmanager
async def connect(where: str | Path, hub: str | None = None) -> AsyncGenerator[TaskHubClient]:
    """A client of a task hub, for `async with`; closed at its end.

    If a host runs a hub that is kept in a file, the client reads the file and has that host change it. If none does,
    the client holds the file meanwhile: what it starts and sends waits there for the next host, which cannot come
    before the client has let go.

    Args:
        where: folder of the app, beside its host.json, or the URL of a store, such as `sqlite:/data/hub.db`.
        hub: name of the task hub; None for the one that a host runs there or that alone is kept there, or else
            `TestHubName`.

    Raises:
        StoreRefusedError: there is no such folder, the URL names no store or one in memory, or the store cannot be
            used; StoreLockedError if a host holds it that does not answer.
    """
    url, name, host = _located(where, hub)
    if host is not None:
        api = ManagementApi(host.url, name, host.token)
        if await asyncio.to_thread(api.answers):
            async with _engine_on(open_store(url, hub=name, read_only=True)) as engine:
                yield RemoteTaskHubClient(engine, api)
            return
    async with _engine_on(open_store(url, hub=name)) as engine:
        yield TaskHubClient(engine)


@asynccontextmanager
async def _engine_on(store: Store) -> AsyncGenerator[Engine]:
    """An engine that runs nothing and serves one client."""
    try:
        await store.open()
    except StoreLockedError as error:
        raise StoreLockedError(
            f"{error} Or, if that host serves an app, connect to the folder of the app: the client then asks the host."
        ) from error
    try:
        engine = Engine(store)
        running = asyncio.create_task(engine.run())
        try:
            await engine.ready()
            yield engine
        finally:
            running.cancel()
            await asyncio.wait([running])
    finally:
        await store.close()


def _located(where: str | Path, hub: str | None) -> tuple[str, str, HostNote | None]:
    """The store's URL, the hub's name, and the host that says it runs that hub."""
    if isinstance(where, Path) or Path(where).is_dir():
        return _located_in(Path(where), hub)
    if where.casefold().startswith("memory:"):
        raise StoreRefusedError("memory: is seen by the process that made it only: name a folder or a file's URL")
    url = absolute_store_url(where)
    file = store_file(url)
    if file is not None:
        state = StateFolder(file.parent.parent)
        host = state.running_host()
        if host is not None and hub in (None, host.hub) and _url_of(host, state) == url:
            return url, host.hub, host
    return url, hub or DEFAULT_HUB, None


def _located_in(folder: Path, hub: str | None) -> tuple[str, str, HostNote | None]:
    if not folder.is_dir():
        raise StoreRefusedError(f"{folder} is no folder: name the one beside an app's host.json, or a store's URL")
    state = StateFolder(folder.absolute())
    host = state.running_host()
    if host is not None and hub in (None, host.hub):
        return _url_of(host, state), host.hub, host
    kept = sorted(state.path.glob("*.db"))
    name = hub or (kept[0].stem if len(kept) == 1 else DEFAULT_HUB)
    return state.store_url(name), name, None


def _url_of(host: HostNote, state: StateFolder) -> str:
    return host.store or state.store_url(host.hub)
