"""An app folder to a `LoadedApp`: what it defines, what of it runs here, and what is wrong with the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import Struct

from perdure.core.cursor import OrchestrationCursor
from perdure.host.app.app_folder import imported, no_script, script_of
from perdure.host.app.app_object import app_object, declarations_of, unregistered_warnings
from perdure.host.app.function_folder import classic_functions, function_folders
from perdure.host.app.functions import (
    Declaration,
    FunctionIndex,
    HttpFunction,
    Listing,
    Unloaded,
    disabled_by,
    resolved_by,
)
from perdure.host.app.payload_classes import allow_payload_classes
from perdure.host.invoke import Activity, EntityRunner
from perdure.host.sdk.sdk import Sdk
from perdure.host.timers.schedule import time_zone
from perdure.host.timers.trigger import TimerFunction


class LoadedApp(Struct, frozen=True):
    """A function app, ready to run. Names are those registered; `listings` and `declared` have every function."""

    folder: Path
    orchestrators: Mapping[str, Callable[[OrchestrationCursor], Any]]
    activities: Mapping[str, Activity]
    entities: Mapping[str, EntityRunner]
    http: Sequence[HttpFunction]
    timers: Sequence[TimerFunction]
    listings: Sequence[Listing]
    declared: Sequence[Declaration | Unloaded]
    warnings: Sequence[str]


def load_app(
    folder: Path,
    environ: Mapping[str, str],
    route_prefix: str,
    only: Sequence[str] | None,
    hub: str,
    sdk: Sdk,
    client: Callable[[Callable[..., Any], bool], Any],
) -> LoadedApp:
    """Import the app in `folder` and collect its functions. The caller has made `folder` the current directory.

    Args:
        route_prefix: what stands before the routes, without slashes.
        only: names of the only functions to run, or None for all.
        hub: the task hub's name.
        sdk: runs its durable functions.
        client: what an activity gets for a client binding while the host runs, and whether it wants that as text.

    Raises:
        AppError: the app cannot be run.
    """
    script, folders = script_of(folder, environ), function_folders(folder)
    disabled = disabled_by(environ, only)
    index = FunctionIndex(
        folder, route_prefix, disabled, hub, resolved_by(environ), sdk, client, partial(time_zone, environ)
    )
    if script is not None:
        warnings = _add_decorated(index, folder, script, sdk)
        if folders:
            names = ", ".join(each.name for each in folders)
            warnings.append(
                f"Detected mixed function app: {script} is there, so folders with function.json are ignored: {names}"
            )
    elif folders:
        _add_classic(index, classic_functions(folder, environ, disabled))
        warnings = []
    else:
        raise no_script(folder, environ)
    allow_payload_classes(folder, index.users_functions)
    return LoadedApp(
        folder=folder,
        orchestrators=index.orchestrators,
        activities=index.activities,
        entities=index.entities,
        http=index.http,
        timers=index.timers,
        listings=index.listings,
        declared=index.declared,
        warnings=[*index.warnings, *warnings],
    )


def _add_decorated(index: FunctionIndex, folder: Path, script: str, sdk: Sdk) -> list[str]:
    """Add what the decorators of `script` declare; returns what should not stay as it is."""
    module = imported(folder, script)
    app = app_object(module, script, folder, sdk.default_blueprint)
    for each in declarations_of(app, module, script, folder):
        index.add(each)
    return unregistered_warnings(app, folder)


def _add_classic(index: FunctionIndex, functions: Sequence[Declaration | Unloaded]) -> None:
    for each in functions:
        if isinstance(each, Declaration):
            index.add(each)
        else:
            index.add_unloaded(each)
