"""A task hub from outside: through the host that runs it, or through its store when none does."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Struct

from perdure.core.history_view import history_view
from perdure.core.records import Instance, InstanceQuery
from perdure.core.status_view import status_view
from perdure.engine.client import TaskHubClient
from perdure.engine.store import Store
from perdure.engine.thread import EngineThread
from perdure.errors import (
    AppError,
    HostStoppedError,
    InstanceFinishedError,
    InstanceNotFoundError,
    StoreUnavailableError,
)
from perdure.host.config import HOST_JSON, read_host_json, read_local_settings
from perdure.stores import open_store
from perdure.webapi.links import BASE_PATH

STATE_FOLDER = ".perdure"
HOST_FILE = "host.json"  # in the state folder: where the running host listens

PAGE_SIZE = 500

# A host that is alive answers within milliseconds, unless the machine is overloaded or a debugger holds it.
ANSWER_TIMEOUT_S = 30.0

T = TypeVar("T")
Status = Mapping[str, Any]  # an instance as the management API shows it


class RunningHost(Struct, frozen=True):
    """What a host says about itself in its state folder while it runs.

    Attributes:
        url: its origin.
        pid: its process.
        hub: name of its task hub.
        store: its store's URL, if it is not the app's default one.
    """

    url: str
    pid: int
    hub: str
    store: str | None = None


class HubLocation(Struct, frozen=True):
    """Which task hub is meant, and where.

    Attributes:
        file: the file of an embedded store, or None if the store is something else.
        host: the host that says it runs this hub; it may be gone.
    """

    hub: str
    store_url: str
    file: Path | None
    host: RunningHost | None


class TaskHub(Protocol):
    """What commands do with instances. Statuses and events look as the management API shows them.

    Raises (all methods):
        InstanceNotFoundError: no instance of that id.
        InstanceFinishedError: it has ended and takes no more messages.
        StoreUnavailableError, StoreRefusedError, HostStoppedError: the hub cannot be reached or used.
    """

    is_running: bool
    """A host acts on what is sent at once; otherwise it is stored until one starts."""

    def list(self, query: InstanceQuery) -> Iterator[Status]:
        """The first `query.limit` instances that fit."""
        ...

    def show(self, instance_id: str) -> Status:
        """One instance."""
        ...

    def history(self, instance_id: str) -> list[dict[str, Any]]:
        """Its history events."""
        ...

    def raise_event(self, instance_id: str, name: str, data: str | None) -> None:
        """Send an event; `data` is JSON text."""
        ...

    def terminate(self, instance_id: str, reason: str | None) -> None:
        """End an instance."""
        ...


def locate(asked: Path | None, store_url: str | None, hub: str | None) -> HubLocation:
    """Find the task hub of an app, or of a store named outright.

    Args:
        asked: the app's folder; None for the current one, or the nearest above it that is an app's.

    Raises:
        AppError: there is neither an app nor a store to go by, or host.json cannot be read.
    """
    app = _app_folder(asked, is_needed=store_url is None)
    host = _running_host(app / STATE_FOLDER / HOST_FILE)
    if store_url is not None:
        store_url = _absolute(store_url)
        if host is not None and host.store != store_url:
            host = None
    environ = {**read_local_settings(app, os.environ).values, **os.environ}
    name = read_host_json(app, environ, hub or (host.hub if host is not None else None)).hub
    if host is not None and host.hub != name:
        host = None
    url = store_url or (host.store if host is not None else None) or default_store_url(app, name)
    scheme, _, path = url.partition(":")
    return HubLocation(name, url, Path(path) if scheme == "sqlite" else None, host)


def default_store_url(app: Path, hub: str) -> str:
    """Where an app's state is kept if nobody says otherwise."""
    return f"sqlite:{app / STATE_FOLDER / f'{hub}.db'}"


def open_hub(location: HubLocation) -> TaskHub:
    """The hub through its host if that answers, or else through its store."""
    if location.host is not None:
        hosted = HostedHub(location.host)
        if hosted.answers():
            return hosted
    return StoredHub(location)


class HostedHub:
    """A task hub behind the management API of the host that runs it."""

    is_running = True

    def __init__(self, host: RunningHost) -> None:
        self._base = host.url.rstrip("/") + BASE_PATH
        self._hub = host.hub
        # Without proxies: a proxy of the environment would be asked for our own loopback.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def answers(self) -> bool:
        """Whether the host is there and serves this hub; its note about itself outlives a `kill -9`."""
        try:
            return self._request("GET", "instances", {"top": "1", "showInput": "false"})[0] == 200
        except HostStoppedError:
            return False

    def list(self, query: InstanceQuery) -> Iterator[Status]:
        asked = {"showInput": "false", "top": str(min(query.limit, PAGE_SIZE))}
        if query.statuses is not None:
            asked["runtimeStatus"] = ",".join(sorted(query.statuses))
        if query.prefix:
            asked["instanceIdPrefix"] = query.prefix
        if query.created_from is not None:
            asked["createdTimeFrom"] = query.created_from.isoformat()
        if query.created_to is not None:
            asked["createdTimeTo"] = query.created_to.isoformat()
        left, token = query.limit, ""
        while left > 0:
            _, page, token = self._request("GET", "instances", asked, headers={"x-ms-continuation-token": token})
            yield from page[:left]
            left -= len(page)
            if not token:
                return

    def show(self, instance_id: str) -> Status:
        return self._instance("GET", instance_id, "", {})

    def history(self, instance_id: str) -> list[dict[str, Any]]:
        status = self._instance("GET", instance_id, "", {"showHistory": "true", "showHistoryOutput": "true"})
        return status.get("historyEvents") or []

    def raise_event(self, instance_id: str, name: str, data: str | None) -> None:
        self._instance("POST", instance_id, f"/raiseEvent/{quote(name, safe='')}", {}, data or "")

    def terminate(self, instance_id: str, reason: str | None) -> None:
        self._instance("POST", instance_id, "/terminate", {"reason": reason} if reason else {}, "")

    def _instance(
        self, verb: str, instance_id: str, operation: str, query: Mapping[str, str], sent: str | None = None
    ) -> Any:
        path = f"instances/{quote(instance_id, safe='')}{operation}"
        status, answer, _ = self._request(verb, path, query, sent)
        if status == 404:
            raise InstanceNotFoundError(instance_id)
        if status == 410:
            raise InstanceFinishedError(instance_id, "finished")
        if status >= 400:
            body: dict[str, str] = answer or {}
            sentence = body.get("ExceptionMessage") or body.get("Message") or f"The host answered with code {status}."
            raise StoreUnavailableError(sentence)
        return answer

    def _request(
        self,
        verb: str,
        path: str,
        query: Mapping[str, str],
        body: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any, str]:
        """Status code, decoded body and continuation token of the answer.

        Raises:
            HostStoppedError: nobody answers, or not a host of ours.
        """
        url = f"{self._base}/{path}?{urlencode({**query, 'taskHub': self._hub})}"
        request = urllib.request.Request(
            url, method=verb, headers={"Content-Type": "application/json", **(headers or {})}
        )
        request.data = None if body is None else body.encode()
        try:
            with self._open(request) as answer:
                text = answer.read()
                token = answer.headers.get("x-ms-continuation-token", "")
                return answer.status, json.loads(text) if text else None, token
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise HostStoppedError(f"The host at {self._base} does not answer: {error}") from error

    def _open(self, request: urllib.request.Request) -> Any:
        """The answer, also when its code says that something is wrong."""
        try:
            return self._opener.open(request, timeout=ANSWER_TIMEOUT_S)
        except urllib.error.HTTPError as error:
            return error


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
        return asyncio.run(_reading(self._location, read))

    def _send(self, instance_id: str, send: Callable[[TaskHubClient], Coroutine[Any, Any, None]]) -> None:
        if not self._exists():
            raise InstanceNotFoundError(instance_id)
        engine = EngineThread(open_store(self._location.store_url, hub=self._location.hub))
        engine.start()
        try:
            asyncio.run(send(engine.client))
        finally:
            engine.stop()


async def _reading(location: HubLocation, read: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
    store = open_store(location.store_url, hub=location.hub, read_only=True)
    await store.open()
    try:
        return await read(store)
    finally:
        await store.close()


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


def _app_folder(asked: Path | None, *, is_needed: bool) -> Path:
    here = (asked or Path()).absolute()
    for folder in (here,) if asked is not None else (here, *here.parents):
        if (folder / HOST_JSON).exists() or (folder / STATE_FOLDER).exists():
            return folder
    if is_needed:
        raise AppError(
            "DF101",
            "No Function app here",
            f"{here}{'' if asked is not None else ' and its parents'}: no {HOST_JSON} there.",
            "Name the app's folder with  --app DIR  or its store with  --store URL",
        )
    return here


def _absolute(store_url: str) -> str:
    """The URL as a host writes it down, whichever folder it was started from."""
    scheme, _, path = store_url.partition(":")
    if scheme.lower() != "sqlite" or not path:
        return store_url
    return f"sqlite:{Path(path.removeprefix('///')).absolute()}"


def _running_host(file: Path) -> RunningHost | None:
    """What the file says, unless its process is gone; a damaged file says nothing."""
    try:
        host = msgspec.json.decode(file.read_bytes(), type=RunningHost)
    except (OSError, msgspec.MsgspecError):
        return None
    return host if host.url.startswith("http://") and _is_alive(host.pid) else None


def _is_alive(pid: int) -> bool:
    if sys.platform == "win32":
        return True  # a signal cannot ask there, it kills; whether the host answers decides
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return pid > 0
