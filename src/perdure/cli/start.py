"""`perdure start`: host, management API and terminal put together, and ended together."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import sys
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from perdure.cli.capture import captured
from perdure.cli.log_levels import LogLevels
from perdure.cli.start_screen import StartScreen
from perdure.cli.terminal import Terminal
from perdure.host.advice import advice_for
from perdure.host.app.app_folder import find_app_folder
from perdure.host.app.environment import hand_over
from perdure.host.host import DRAIN_S, Host, HostOptions
from perdure.host.http.admin import AdminApi, is_host_path
from perdure.host.http.server import event_loop
from perdure.host.sdk.sdk import APPS, OURS
from perdure.webapi.access import ManagementAccess
from perdure.webapi.guard import LOOPBACK_HOSTS, Guard
from perdure.webapi.links import management_urls
from perdure.webapi.routes import is_management_path, management_app

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from perdure.core.records import Instance

# What is still queued for the terminal when the user will not wait any longer.
LAST_LINES_S = 0.2


@click.command()
@click.option("--app", "folder", type=click.Path(path_type=Path), help="The app's folder; default is the current one.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to serve on; 0 for a free one.  [default: 7071]")
@click.option("--address", help="Address to serve on.  [default: 127.0.0.1 and ::1]")
@click.option("--enable-auth", is_flag=True, help="Ask callers for keys, as Azure does; see perdure keys.")
@click.option("--behind-tls-proxy", is_flag=True, help="A proxy with TLS is in front: ask for keys, on any --address.")
@click.option("--cors", help="Origins whose web pages may call the app, separated by commas; * for any.")
@click.option("--cors-credentials", is_flag=True, help="Let the pages of those origins send cookies.")
@click.option("--store", help="Where state is kept: sqlite:PATH or memory:.  [default: .perdure/HUB.db of the app]")
@click.option("--hub", help="Name of the task hub; default is what host.json says.")
@click.option("--sdk", type=click.Choice([OURS, APPS]), default=OURS, help="Run the app with our SDK, or with its own.")
@click.option("--strict", is_flag=True, help="Refuse to replace the storage account that the app asks for.")
@click.option("--log", "log_format", type=click.Choice(["pretty", "json"]), help="Form of the output; JSON if piped.")
def start(
    *,
    folder: Path | None,
    port: int | None,
    address: str | None,
    enable_auth: bool,
    behind_tls_proxy: bool,
    cors: str | None,
    cors_credentials: bool,
    store: str | None,
    hub: str | None,
    sdk: str,
    strict: bool,
    log_format: str | None,
) -> None:
    """Run the app in this folder.

    Its state is kept in .perdure beside host.json. Ctrl-C lets running activities finish; twice stops at once.
    """
    if folder is not None and not folder.exists():
        raise click.BadParameter(f"{folder} does not exist.", param_hint="--app")
    found = find_app_folder(folder, os.environ)
    hand_over(found, sys.argv[1:], os.environ)
    options = HostOptions(
        found,
        port=port,
        address=address,
        store=store,
        hub=hub,
        sdk=sdk,
        strict=strict,
        enable_auth=enable_auth,
        behind_tls_proxy=behind_tls_proxy,
        cors=cors,
        cors_credentials=cors_credentials,
    )
    host = Host(options, os.environ)
    as_json = log_format == "json" if log_format else not sys.stdout.isatty()
    levels = LogLevels(host.config.log_levels)
    terminal = Terminal(sys.stdout, as_json=as_json, levels=levels, shows_payloads=host.config.shows_payloads)
    with captured(terminal, shows_replays=host.config.shows_replays):
        try:
            _run(host, terminal)
        finally:
            host.close()


def _run(host: Host, terminal: Terminal) -> None:
    began = datetime.now(UTC)
    resumed: set[str] = set()

    def observe(instance: Instance) -> None:
        if instance.created_at < began:
            resumed.add(instance.instance_id)
        terminal.observe(instance, advice_for(instance, host.app.listings))

    host.load()
    access = _management_access(host)
    terminal.hold()
    host.start(partial(management_urls, access=access), observe)

    async def ready() -> None:
        _show_start(host, terminal, len(resumed | await host.unfinished(began)))

    async def serve() -> None:
        stop = asyncio.Event()
        _stop_on_signals(asyncio.get_running_loop(), stop, terminal)
        await host.serve(_web_app(host, access), ready, stop)

    with asyncio.Runner(loop_factory=event_loop) as runner:
        runner.run(serve())
    terminal.note("stopped")


def _management_access(host: Host) -> ManagementAccess | None:
    if host.access is None:
        return None
    return ManagementAccess(
        host.config.hub,
        is_key=host.access.may_manage,
        rpc_segment=host.access.rpc_segment,
        signature=host.access.signature,
        lifetime=host.link_lifetime,
    )


def _web_app(host: Host, access: ManagementAccess | None) -> ASGIApp:
    """Everything behind one port: management API, the host's status, and the app's own functions."""
    management = management_app(
        host.client,
        host.config.hub,
        access,
        serves_rpc=host.config.serves_rpc,
        keeps_event_text=host.sdk.sends_events_twice_encoded,
    )
    own = AdminApi(host.status, host.app, host.runs(), host.access)
    triggers = host.triggers

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if is_management_path(path):
            await management(scope, receive, send)
        elif is_host_path(path):
            await own(scope, receive, send)
        else:
            await triggers(scope, receive, send)

    names = host.names if host.is_exposed else {host.address}
    admits = partial(host.cors.admits, to_host=True)
    return Guard(
        host.answered(app, _is_hosts),
        hosts=LOOPBACK_HOSTS | names,
        knows_addresses=host.is_exposed,
        trusts_forwarded=host.config.uses_forwarded_host,
        admits=admits,
    )


def _is_hosts(path: str) -> bool:
    return is_management_path(path) or is_host_path(path)


def _stop_on_signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event, terminal: Terminal) -> None:
    """The first signal drains, the second ends the process: what had begun runs again at the next start."""

    def on_signal(number: int, _: FrameType | None) -> None:
        if stop.is_set():
            terminal.flush(LAST_LINES_S)
            os._exit(128 + number)
        stop.set()
        loop.call_soon_threadsafe(
            terminal.note, f"stopping: running activities have {DRAIN_S:.0f} s to finish; again stops at once"
        )

    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):  # the last is Ctrl-Break, and only Windows has it
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, on_signal)


def _show_start(host: Host, terminal: Terminal, resumed: int) -> None:
    notes = [host.storage.text] if not host.storage.is_replaced else []
    if host.worker_processes > 1:
        notes.append(f"activities run in {host.worker_processes} worker processes")
    if resumed:
        notes.append(f"resumed {resumed} unfinished instance{'' if resumed == 1 else 's'} from before")
    warnings = [*host.warnings, *host.app.warnings, *host.triggers.clashes()]
    if host.storage.is_replaced:
        warnings.append(host.storage.text)
    storage_type = host.config.storage_type
    if storage_type is not None and storage_type.casefold() != "azurestorage":
        notes.append(f"host.json asks for the storage provider {storage_type}: the embedded store takes its place")
    screen = StartScreen(
        title=_title(host),
        sdk=host.sdk.description,
        store=host.store_url,
        hub=host.config.hub,
        asks_for_keys=host.access is not None,
        resumed=resumed,
        warnings=warnings,
        notes=notes,
        url=host.url,
        listings=host.app.listings,
        now=datetime.now(UTC),
    )
    terminal.show_start(screen)


def _title(host: Host) -> str:
    parts = [
        f"perdure {metadata.version('perdure')}",
        f"app {host.folder.name}",
        f"Python {platform.python_version()}",
        f"azure-functions {metadata.version('azure-functions')}",
    ]
    return "  ·  ".join(parts)
