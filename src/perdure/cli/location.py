"""Which task hub a command is about: the options that say so, and where they lead."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import click
from msgspec import Struct

from perdure.errors import AppError
from perdure.host.settings.host_json import HOST_JSON, hub_of
from perdure.host.settings.local_settings import read_local_settings
from perdure.state_folder import HostNote, StateFolder, absolute_store_url, store_file

Command = Callable[..., None]


class HubLocation(Struct, frozen=True):
    """Which task hub is meant, and where.

    Attributes:
        file: the file of an embedded store, or None if the store is something else.
        host: the host that says it runs this hub; it may be gone.
    """

    hub: str
    store_url: str
    file: Path | None
    host: HostNote | None


def hub_options(command: Command) -> Command:
    """The options that say which hub is meant and how to print, for every command on one."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON lines instead of text."),
        click.option("--hub", metavar="NAME", help="Task hub; default: the running host's, or host.json's hubName."),
        click.option("--store", metavar="URL", help="Where the hub is kept; default: .perdure/ in the app folder."),
        click.option(
            "--app",
            metavar="DIR",
            type=click.Path(file_okay=False, path_type=Path),
            help="The app folder; default: the current one, or the nearest above it.",
        ),
    ):
        command = option(command)
    return command


def locate(asked: Path | None, store_url: str | None, hub: str | None) -> HubLocation:
    """Find the task hub of an app, or of a store named outright.

    Args:
        asked: the app's folder; None for the current one, or the nearest above it that is an app's.

    Raises:
        AppError: there is neither an app nor a store to go by, or host.json cannot be read.
    """
    app = app_folder(asked, is_needed=store_url is None)
    state = StateFolder(app)
    host = state.running_host()
    if store_url is not None:
        store_url = absolute_store_url(store_url)
        if host is not None and host.store != store_url:
            host = None
    environ = {**read_local_settings(app, os.environ).values, **os.environ}
    name = hub_of(app, environ, hub or (host.hub if host is not None else None))
    if host is not None and host.hub != name:
        host = None
    url = store_url or (host.store if host is not None else None) or state.store_url(name)
    return HubLocation(name, url, store_file(url), host)


def app_folder(asked: Path | None, *, is_needed: bool = True) -> Path:
    """The app folder that is meant: `asked`, or the nearest from the current one upwards.

    Args:
        is_needed: whether not to find one is a mistake; otherwise it is where the search began.

    Raises:
        AppError: there is none.
    """
    here = (asked or Path()).absolute()
    for folder in (here,) if asked is not None else (here, *here.parents):
        if (folder / HOST_JSON).exists() or StateFolder(folder).path.exists():
            return folder
    if is_needed:
        raise AppError(
            "DF101",
            "No Function app here",
            f"{here}{'' if asked is not None else ' and its parents'}: no {HOST_JSON} there.",
            "Name the app's folder with  --app DIR  or its store with  --store URL",
        )
    return here
