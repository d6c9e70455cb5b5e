"""`perdure start`: host, management API and terminal put together, and ended together."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from perdure.cli.capture import captured
from perdure.cli.log_levels import LogLevels
from perdure.cli.start_screen import StartScreen
from perdure.cli.terminal import Terminal
from perdure.host.admin import admin_app, is_host_path
from perdure.host.advice import advice_for
from perdure.host.app_folder import find_app_folder
from perdure.host.environment import hand_over
from perdure.host.host import DRAIN_S, Host, HostOptions
from perdure.host.http_server import event_loop
from perdure.host.sdk import sdk_file
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
@click.option("--address", help="Loopback address to serve on.  [default: 127.0.0.1 and ::1]")
@click.option("--store", help="Where state is kept: sqlite:PATH or memory:.  [default: .perdure/HUB.db of the app]")
@click.option("--hub", help="Name of the task hub; default is what host.json says.")
@click.option("--strict", is_flag=True, help="Refuse to replace the storage account that the app asks for.")
@click.option("--log", "log_format", type=click.Choice(["pretty", "json"]), help="Form of the output; JSON if piped.")
def start(
    *,
    folder: Path | None,
    port: int | None,
    address: str | None,
    store: str | None,
    hub: str | None,
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
    options = HostOptions(found, port=port, address=address, store=store, hub=hub, strict=strict)
    host = Host(options, os.environ)
    as_json = log_format == "json" if log_format else not sys.stdout.isatty()
    terminal = Terminal(sys.stdout, as_json=as_json, levels=LogLevels(host.config.log_levels))
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
    host.start(management_urls, observe)

    async def ready() -> None:
        _show_start(host, terminal, len(resumed | await host.unfinished(began)))

    async def serve() -> None:
        stop = asyncio.Event()
        _stop_on_signals(asyncio.get_running_loop(), stop, terminal)
        await host.serve(_web_app(host), ready, stop)

    with asyncio.Runner(loop_factory=event_loop) as runner:
        runner.run(serve())
    terminal.note("stopped")


def _web_app(host: Host) -> ASGIApp:
    """Everything behind one port: management API, the host's status, and the app's own functions."""
    management = management_app(host.client, host.config.hub)
    own = admin_app(host.status)
    triggers = host.triggers

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if is_management_path(path):
            await management(scope, receive, send)
        elif is_host_path(path):
            await own(scope, receive, send)
        else:
            await triggers(scope, receive, send)

    return Guard(app, hosts=LOOPBACK_HOSTS | {host.address})


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
        sdk=f"perdure's azure.durable_functions ({sdk_file()})",
        store=host.store_url,
        hub=host.config.hub,
        resumed=resumed,
        warnings=warnings,
        notes=notes,
        url=host.url,
        listings=host.app.listings,
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
