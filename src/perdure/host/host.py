"""One running app: configuration, port, functions, store, engine and HTTP, put together in order and ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import Future
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

from msgspec import Struct
from starlette.types import ASGIApp

from perdure.core.durable_http import polling
from perdure.core.entities import operation_rules
from perdure.core.records import Instance, InstanceQuery, RuntimeStatus
from perdure.engine.client import TaskHubClient
from perdure.engine.requests import Request
from perdure.engine.thread import EngineThread
from perdure.errors import AppError, HostStoppedError
from perdure.host.app.app_folder import prepare_path
from perdure.host.app.loading import LoadedApp, load_app
from perdure.host.app.payload_classes import limit_payloads
from perdure.host.http.access import Access, link_lifetime
from perdure.host.http.added_headers import AddedHeaders
from perdure.host.http.cors import Cors, CorsPolicy
from perdure.host.http.keys import Keys
from perdure.host.http.request_queue import RequestQueue
from perdure.host.http.server import LOOPBACKS, HttpServer, bind, is_loopback
from perdure.host.http.trigger import BODY_BYTES_MAX, HttpTriggers
from perdure.host.http_activity import http_activity
from perdure.host.http_reach import reach_of
from perdure.host.invoke import LocalExecutor
from perdure.host.notifications import Notifications
from perdure.host.sdk.client_binding import client_binding
from perdure.host.sdk.sdk import OURS, ClientRequest, Sdk, chosen_sdk
from perdure.host.settings.host_json import HostConfig, read_host_json
from perdure.host.settings.local_settings import DEFAULT_PORT, added_environment, read_local_settings
from perdure.host.settings.storage_note import StorageNote, storage_note
from perdure.host.timers.retry_policy import FunctionRetryPolicy
from perdure.host.timers.trigger import triggers_of
from perdure.host.user_code import UserCode, thread_count
from perdure.host.workers.frames import Setup
from perdure.host.workers.pool import Workers, worker_count
from perdure.state_folder import HostNote, StateFolder, absolute_store_url
from perdure.stores import open_store

# Activities that run when the host stops get so long; what has not finished by then runs again at the next start.
DRAIN_S = 10.0

# What still has to be told of orchestrations when the host stops gets so long.
NOTIFICATIONS_END_WITHIN_S = 2.0

ACTIVITIES_PER_CPU = 10  # the official host's default

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # how tools on this machine reach a host on every address

_RESUMED_MAX = 10_000
_PAGE = 1000

ManagementUrls = Callable[[str, str, str | None], dict[str, str]]
"""Origin, hub and instance id to the management URLs; without an id they have `INSTANCEID` in its place."""


class HostOptions(Struct, frozen=True):
    """What the command line may say; None is for what nobody said."""

    folder: Path
    port: int | None = None
    address: str | None = None
    store: str | None = None
    hub: str | None = None
    strict: bool = False
    sdk: str = OURS
    enable_auth: bool = False
    behind_tls_proxy: bool = False
    cors: str | None = None
    cors_credentials: bool = False


class Host:
    """Runs the app of one folder on one task hub.

    Its steps are taken in this order: construct, `load`, `start`, `serve`. `close` may come after any of them.

    Attributes:
        folder: the app's.
        config: what host.json says.
        sdk: runs the app's durable functions.
        storage: what becomes of AzureWebJobsStorage.
        warnings: about the settings files; `app.warnings` has those about the app.
        address, port: where HTTP is served; of the two loopbacks, the first.
        is_exposed: other machines may reach it, by its address or through a proxy.
        names: what it is called by those that call it, if it is exposed.
        access: judges callers by their keys; None if everybody may who can.
        link_lifetime: how long the links that it hands out get in without a key; None for ever.
        cors: which pages of other origins may call.
    """

    def __init__(self, options: HostOptions, environ: MutableMapping[str, str]) -> None:
        """Read the settings, apply them to `environ`, and take the port.

        Raises:
            AppError: a setting cannot be used, or the port is taken.
        """
        self.folder = options.folder
        prepare_path(self.folder)  # before looking for the app's SDK, which may be among the app's packages
        self.sdk: Sdk = chosen_sdk(options.sdk)
        self._sdk_name = options.sdk
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
        self.warnings = [*limit_payloads(environ), *local.warnings, *self.config.warnings]
        self.cors = CorsPolicy.of(options.cors or local.cors or "", options.cors_credentials or local.cors_credentials)
        self.warnings += [*self.sdk.warnings, *self.cors.warnings]
        self._threads, mistakes = thread_count(environ)
        self.worker_processes, more_mistakes = worker_count(environ)
        self.warnings += [*mistakes, *more_mistakes]
        asked_port = options.port if options.port is not None else local.port
        asked_address = options.address or local.address or "127.0.0.1"
        is_local = is_loopback(asked_address)
        if not is_local and not options.behind_tls_proxy:
            raise _without_tls(asked_address)
        self.is_exposed = not is_local or options.behind_tls_proxy  # a proxy on this machine passes everybody on
        self._reach, wrong_entries = reach_of(environ, is_exposed=self.is_exposed)
        self.link_lifetime, wrong_lifetimes = link_lifetime(environ)
        self.warnings += [*wrong_entries, *wrong_lifetimes]
        self.names = _names_of(asked_address, environ)
        self.access = Access(Keys(self._state.keys_file)) if self.is_exposed or options.enable_auth else None
        self._sockets = bind(asked_address, DEFAULT_PORT if asked_port is None else asked_port)
        self.address: str
        self.port: int
        self.address, self.port = self._sockets[0].getsockname()[:2]
        environ.update(added_environment(local, self.folder, self.port, environ))
        self._management_urls: ManagementUrls | None = None
        self._app: LoadedApp | None = None
        self._engine: EngineThread | None = None
        self._notifications: Notifications | None = None
        self._engine_failure: Future[BaseException] = Future()  # its result is set on the engine's thread
        self._user_code: UserCode | None = None
        self._workers: Workers | None = None
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
        began = time.monotonic()
        self._app = load_app(
            self.folder,
            self._environ,
            self.config.route_prefix,
            self.config.functions,
            self.config.hub,
            self.sdk,
            lambda function, is_text: self._client_for(self.url, function, is_text),
        )
        took, allowed = time.monotonic() - began, self.config.metadata_timeout.total_seconds()
        if took > allowed:
            self.warnings.append(f"loading the app took {took:.1f} s; metadataProviderTimeout allows {allowed:g} s")

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
        if self.access is not None:
            self.access.prepare(each.name for each in self.app.http)
        self._management_urls = management_urls
        self._user_code = UserCode(
            threads=self._threads, concurrency=self._activities_max, time_limit=self.config.function_timeout
        )
        if self.worker_processes > 1:
            self._workers = Workers(self.worker_processes, self._setup(), self._environ, clients=self)
            self._workers.start()  # they import the app while the engine starts
        operation_rules.rolls_back = self.config.rolls_back
        polling.interval = timedelta(milliseconds=self.config.http_poll_ms)
        if self.config.topic is not None:
            self._notifications = Notifications(self.config.topic, self.config.hub)
            self._notifications.start()
        engine = self._engine_thread(self._user_code, observe)
        self._engine = engine  # before it starts: activities that a crash interrupted begin at once, some with clients
        self._user_code.start()
        try:
            engine.start()
        except BaseException:
            self._engine = None
            self._user_code.stop()
            raise
        if self._workers is not None:
            self._workers.wait_until_ready()
        self._triggers = HttpTriggers(
            self.app.http,
            self._user_code,
            self._client_for,
            may_call=None if self.access is None else self.access.may_call,
            queue=_queue(self.config),
            body_bytes_max=_body_bytes_max(self._environ),
            has_home_page=self._environ.get("AzureWebJobsDisableHomepage", "").casefold() != "true",
        )

    @property
    def _activities_max(self) -> int:
        return self.config.activities_max or ACTIVITIES_PER_CPU * (os.cpu_count() or 1)

    def _setup(self) -> Setup:
        """What the worker processes are told."""
        return Setup(
            str(self.folder),
            self.config.route_prefix,
            None if self.config.functions is None else tuple(self.config.functions),
            self.config.hub,
            self._sdk_name,
            self.config.engine_settings(),
            threads=self._threads,
            concurrency=self._activities_max,
            log_level=logging.getLogger().level,
            time_limit=self.config.function_timeout,
        )

    def _engine_thread(self, user_code: UserCode, observe: Callable[[Instance], None] | None) -> EngineThread:
        config, app = self.config, self.app
        http = http_activity(self._reach)
        executor = LocalExecutor(
            app.orchestrators,
            {**app.activities, http.name: http},
            user_code,
            config.actions_max,
            app.entities,
            self.sdk.new_cursor,
            self._workers,
            config.entities_max,
        )
        default_retry = None if config.retry is None else FunctionRetryPolicy.of_setting(config.retry)
        return EngineThread(
            open_store(self.store_url, hub=config.hub, partitions=config.partitions),
            executor,
            settings=config.engine_settings(),
            observe=self._told(observe),
            stopped=self._engine_failure.set_result,
            scheduled=triggers_of(app.timers, user_code, default_retry),
        )

    def _told(self, observe: Callable[[Instance], None] | None) -> Callable[[Instance], None] | None:
        """Who is told of every execution that began or ended: the caller, the notifications, or both."""
        notifications = self._notifications
        if notifications is None:
            return observe

        def both(instance: Instance) -> None:
            notifications.observe(instance)
            if observe is not None:
                observe(instance)

        return both

    def _client_for(self, origin: str, function: Callable[..., Any], is_text: bool) -> Any:
        assert self._management_urls is not None, "start comes first"
        links = partial(self._management_urls, origin, self.config.hub)
        text = partial(self.binding_text, origin)
        return self.sdk.client(ClientRequest(function, is_text, self.client, links, text))

    def binding_text(self, origin: str | None = None) -> str:
        """The JSON text of a client binding.

        Args:
            origin: what its URLs begin with, if that is not the host's own.
        """
        assert self._management_urls is not None, "start comes first"
        urls = self._management_urls(origin or self.url, self.config.hub, None)
        return client_binding(self.config.hub, urls, self._local_origin, self.access)

    def links(self, instance_id: str) -> dict[str, str]:
        """The management URLs of an instance."""
        assert self._management_urls is not None, "start comes first"
        return self._management_urls(self.url, self.config.hub, instance_id)

    def runs(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What runs a timer function once, now or after the run that is under way, by its name."""
        return {each.name: partial(self._run_timer, each.name) for each in self.app.timers}

    async def _run_timer(self, name: str) -> None:
        if self._engine is not None:
            self._engine.engine.schedules.start(name)

    def submit(self, request: Request) -> None:
        """Ask the engine, from any thread."""
        engine = self._engine
        if engine is None:
            request.reply(HostStoppedError("the host is stopping"))
        else:
            engine.engine.submit(request)

    def answered(self, app: ASGIApp, is_hosts: Callable[[str], bool]) -> ASGIApp:
        """`app` with the headers that the settings ask for in its answers.

        Args:
            is_hosts: whether a path is the host's own.
        """
        if self.cors.origins:
            app = Cors(app, self.cors, is_hosts)
        return AddedHeaders(app, self.config.http_headers) if self.config.http_headers else app

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
            await self.triggers.stop()
            await asyncio.to_thread(self.close, DRAIN_S)
            await serving
            stopping.cancel()
        if self._engine_failure.done():
            raise _engine_failed(self._engine_failure.result())

    @property
    def _local_origin(self) -> str:
        """The origin by which a process on this machine reaches this host."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{host}:{self.port}"

    def _note(self) -> HostNote:
        token = None if self.access is None else self.access.token
        return HostNote(self._local_origin, os.getpid(), self.config.hub, self._asked_store, token)

    def close(self, drain_s: float = 0.0) -> None:
        """End everything that was begun; harmless when repeated."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.stop(drain_s)
        notifications, self._notifications = self._notifications, None
        if notifications is not None:
            notifications.stop(NOTIFICATIONS_END_WITHIN_S)
        user_code, self._user_code = self._user_code, None
        if user_code is not None:
            user_code.stop()
        workers, self._workers = self._workers, None
        if workers is not None:
            workers.stop()
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


def _body_bytes_max(environ: Mapping[str, str]) -> int:
    asked = environ.get("FUNCTIONS_REQUEST_BODY_SIZE_LIMIT", "")
    return int(asked) if asked.isdecimal() and len(asked) < 19 else BODY_BYTES_MAX


def _queue(config: HostConfig) -> RequestQueue | None:
    outstanding, concurrent = config.outstanding_requests_max, config.concurrent_requests_max
    return None if outstanding is None and concurrent is None else RequestQueue(outstanding, concurrent)


def _without_tls(address: str) -> AppError:
    return AppError(
        "DF405",
        f"perdure does not serve on {address} without TLS",
        "Other machines reach it there, and keys would travel where others can read them.",
        "Put a proxy with TLS in front, and say so with  --behind-tls-proxy",
        "For this machine alone, leave --address out.",
    )


def _names_of(address: str, environ: Mapping[str, str]) -> frozenset[str]:
    """What callers may call a host by: its machine's name, and the public one if WEBSITE_HOSTNAME gives it."""
    return frozenset(filter(None, (address, socket.gethostname(), environ.get("WEBSITE_HOSTNAME"))))


def _engine_failed(error: BaseException) -> HostStoppedError:
    while isinstance(error, BaseExceptionGroup):  # of its loops, the first that failed
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return HostStoppedError(
        f"The engine failed, so this host has stopped: {type(error).__name__}: {error}\n"
        "What was unfinished goes on at the next start. It is a defect of perdure: report it with the traceback above."
    )
