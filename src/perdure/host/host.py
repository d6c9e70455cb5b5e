"""One running app: configuration, port, functions, store, engine and HTTP, put together in order and ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import Future
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast

from azure.durable_functions.client import PLACEHOLDER, DurableOrchestrationClient
from msgspec import Struct
from starlette.types import ASGIApp

from perdure.core.durable_http import polling
from perdure.core.records import Instance, InstanceQuery, RuntimeStatus
from perdure.engine.client import TaskHubClient
from perdure.engine.settings import Settings
from perdure.engine.thread import EngineThread
from perdure.errors import AppError, HostStoppedError
from perdure.host.app import LoadedApp, load_app
from perdure.host.host_json import HostConfig, read_host_json
from perdure.host.http_activity import http_activity
from perdure.host.http_server import LOOPBACKS, HttpServer, bind
from perdure.host.http_trigger import HttpTriggers
from perdure.host.invoke import LocalExecutor
from perdure.host.local_settings import DEFAULT_PORT, added_environment, read_local_settings
from perdure.host.payload_classes import limit_payloads
from perdure.host.storage_note import StorageNote, storage_note
from perdure.host.user_code import UserCode
from perdure.state_folder import HostNote, StateFolder, absolute_store_url
from perdure.stores import open_store

# Activities that run when the host stops get so long; what has not finished by then runs again at the next start.
DRAIN_S = 10.0

ACTIVITIES_PER_CPU = 10  # the official host's default
THREADS_SETTING = "PYTHON_THREADPOOL_THREAD_COUNT"

_RESUMED_MAX = 10_000
_PAGE = 1000

ManagementUrls = Callable[[str, str, str], dict[str, str]]
"""Origin, hub and instance id to the management URLs."""


class HostOptions(Struct, frozen=True):
    """What the command line may say; None is for what nobody said."""

    folder: Path
    port: int | None = None
    address: str | None = None
    store: str | None = None
    hub: str | None = None
    strict: bool = False


class Host:
    """Runs the app of one folder on one task hub.

    Its steps are taken in this order: construct, `load`, `start`, `serve`. `close` may come after any of them.

    Attributes:
        folder: the app's.
        config: what host.json says.
        storage: what becomes of AzureWebJobsStorage.
        warnings: about the settings files; `app.warnings` has those about the app.
        address, port: where HTTP is served; of the two loopbacks, the first.
    """

    def __init__(self, options: HostOptions, environ: MutableMapping[str, str]) -> None:
        """Read the settings, apply them to `environ`, and take the port.

        Raises:
            AppError: a setting cannot be used, or the port is taken.
        """
        self.folder = options.folder
        local = read_local_settings(self.folder, environ)
        self._environ = environ
        environ.update(local.values)
        self.config: HostConfig = read_host_json(self.folder, environ, options.hub)
        self.storage: StorageNote = storage_note(environ)
        if options.strict and self.storage.is_replaced:
            raise AppError(
                "DF403",
                "The app asks for a store that perdure does not use",
                self.storage.text.partition(":")[0] + ".",
                "Leave --strict out, and it runs on the embedded store. UseDevelopmentStorage=true asks for just that.",
            )
        self._state = StateFolder(self.folder)
        self._asked_store = None if options.store is None else absolute_store_url(options.store)
        self.store_url = self._asked_store or self._state.store_url(self.config.hub)
        self.warnings = [*limit_payloads(environ), *local.warnings, *self.config.warnings, *_thread_warnings(environ)]
        asked_port = options.port if options.port is not None else local.port
        self._sockets = bind(
            options.address or local.address or "127.0.0.1", DEFAULT_PORT if asked_port is None else asked_port
        )
        self.address: str
        self.port: int
        self.address, self.port = self._sockets[0].getsockname()[:2]
        environ.update(added_environment(local, self.folder, self.port, environ))
        self._management_urls: ManagementUrls | None = None
        self._app: LoadedApp | None = None
        self._engine: EngineThread | None = None
        self._engine_failure: Future[BaseException] = Future()  # its result is set on the engine's thread
        self._user_code: UserCode | None = None
        self._triggers: HttpTriggers | None = None
        self._started_at = time.monotonic()

    @property
    def url(self) -> str:
        """The origin that URLs are shown with."""
        return f"http://{'localhost' if self.address in LOOPBACKS else self.address}:{self.port}"

    @property
    def app(self) -> LoadedApp:
        """The loaded app."""
        assert self._app is not None, "load comes first"
        return self._app

    @property
    def client(self) -> TaskHubClient:
        """The task hub's client."""
        assert self._engine is not None, "start comes first"
        return self._engine.client

    @property
    def triggers(self) -> HttpTriggers:
        """The app's HTTP functions, as the ASGI application to fall back to."""
        assert self._triggers is not None, "start comes first"
        return self._triggers

    def load(self) -> None:
        """Import the app, with its folder as the current one.

        Raises:
            AppError: it cannot be run.
        """
        os.chdir(self.folder)
        self._app = load_app(
            self.folder,
            self._environ,
            self.config.route_prefix,
            self.config.functions,
            self.config.hub,
            lambda: self._client_for(self.url),
        )

    def start(self, management_urls: ManagementUrls, observe: Callable[[Instance], None] | None = None) -> None:
        """Open the store, take over what is unfinished there, and run it.

        Args:
            management_urls: makes the links that functions hand out.
            observe: told of every execution that began or ended, on the engine's thread.

        Raises:
            AppError: the state folder cannot be written.
            StoreRefusedError: the store cannot be used.
        """
        self._state.prepare()
        self._management_urls = management_urls
        activities_max = self.config.activities_max or ACTIVITIES_PER_CPU * (os.cpu_count() or 1)
        self._user_code = UserCode(threads=_threads(self._environ), concurrency=activities_max)
        polling.interval = timedelta(milliseconds=self.config.http_poll_ms)
        http = http_activity(reaches_private=self.address in LOOPBACKS)
        activities = {**self.app.activities, http.name: http}
        executor = LocalExecutor(
            self.app.orchestrators, activities, self._user_code, self.config.actions_max, self.app.entities
        )
        store = open_store(self.store_url, hub=self.config.hub)
        settings = Settings(versioning=self.config.versioning, start_policy=self.config.start_policy)
        engine = EngineThread(
            store, executor, settings=settings, observe=observe, stopped=self._engine_failure.set_result
        )
        self._engine = engine  # before it starts: activities that a crash interrupted begin at once, some with clients
        self._user_code.start()
        try:
            engine.start()
        except BaseException:
            self._engine = None
            self._user_code.stop()
            raise
        self._triggers = HttpTriggers(
            self.app.http,
            self._user_code,
            self._client_for,
            directory=str(self.folder),
            has_home_page=self._environ.get("AzureWebJobsDisableHomepage", "").casefold() != "true",
        )

    def _client_for(self, origin: str) -> DurableOrchestrationClient:
        assert self._management_urls is not None, "start comes first"
        return DurableOrchestrationClient(self.client, self._management_urls(origin, self.config.hub, PLACEHOLDER))

    async def serve(self, app: ASGIApp, ready: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
        """Answer requests until `stop` is set, then let what runs finish, for at most `DRAIN_S`.

        Raises:
            HostStoppedError: the engine has failed.
        """
        server = HttpServer(app, stop_within_s=DRAIN_S)
        serving = asyncio.create_task(server.serve(sockets=self._sockets))
        self._state.write_note(self._note())
        stopping = asyncio.create_task(stop.wait())
        engine_failure = asyncio.wrap_future(self._engine_failure)
        try:
            with contextlib.suppress(HostStoppedError):  # the engine has failed already, and is about to say why
                await ready()
            await asyncio.wait({serving, stopping, engine_failure}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._state.remove_note()
            server.should_exit = True
            await asyncio.to_thread(self.close, DRAIN_S)
            await serving
            stopping.cancel()
        if self._engine_failure.done():
            raise _engine_failed(self._engine_failure.result())

    def _note(self) -> HostNote:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return HostNote(f"http://{host}:{self.port}", os.getpid(), self.config.hub, self._asked_store)

    def close(self, drain_s: float = 0.0) -> None:
        """End everything that was begun; harmless when repeated."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.stop(drain_s)
        user_code, self._user_code = self._user_code, None
        if user_code is not None:
            user_code.stop()
        for each in self._sockets:
            each.close()

    async def unfinished(self, before: datetime) -> set[str]:
        """Ids of instances from before a time that have not ended, `_RESUMED_MAX` at most."""
        found: set[str] = set()
        after: str | None = None
        statuses = frozenset({RuntimeStatus.PENDING, RuntimeStatus.RUNNING, RuntimeStatus.SUSPENDED})
        while len(found) < _RESUMED_MAX:
            query = InstanceQuery(statuses=statuses, created_to=before, limit=_PAGE, after=after)
            page = await self.client.list(query)
            found.update(each.instance_id for each in page.instances)
            after = page.after
            if after is None:
                break
        return found

    def status(self) -> dict[str, object]:
        """What `/admin/host/status` answers."""
        return {
            "id": self.config.hub,
            "state": "Running",
            "processUptime": round((time.monotonic() - self._started_at) * 1000),
            "functionAppContentEditingState": "NotAllowed",
            "errors": [f"{each.name}: {each.note}" for each in self.app.listings if each.is_error],
        }


def _engine_failed(error: BaseException) -> HostStoppedError:
    while isinstance(error, BaseExceptionGroup):  # of its loops, the first that failed
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return HostStoppedError(
        f"The engine failed, so this host has stopped: {type(error).__name__}: {error}\n"
        "What was unfinished goes on at the next start. It is a defect of perdure: report it with the traceback above."
    )


def _threads(environ: Mapping[str, str]) -> int:
    value = environ.get(THREADS_SETTING, "")
    return int(value) if value.isdigit() and int(value) > 0 else min(32, (os.cpu_count() or 1) + 4)


def _thread_warnings(environ: Mapping[str, str]) -> list[str]:
    value = environ.get(THREADS_SETTING)
    if value is None:
        return []
    if not value.lstrip("-").isdigit():
        return [f"{THREADS_SETTING} must be an integer"]
    if int(value) < 1:
        return [
            f"{THREADS_SETTING} must be set to a value between 1 and sys.maxint. "
            "Reverting to default value for max_workers"
        ]
    return []
