"""An app folder to a `LoadedApp`: what it defines, what of it runs here, and what is wrong with the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from azure.durable_functions.client import DurableOrchestrationClient
from msgspec import Struct

from perdure.core.cursor import OrchestrationCursor
from perdure.host.app_folder import imported, script_of
from perdure.host.app_object import app_object, functions_of, unregistered_warnings
from perdure.host.functions import FunctionIndex, HttpFunction, Listing, disabled_by, resolved_by
from perdure.host.invoke import Activity, EntityRunner
from perdure.host.payload_classes import allow_payload_classes


class LoadedApp(Struct, frozen=True):
    """A function app, ready to run. Names are those registered; `listings` has every function there is."""

    folder: Path
    script: str
    orchestrators: Mapping[str, Callable[[OrchestrationCursor], Any]]
    activities: Mapping[str, Activity]
    entities: Mapping[str, EntityRunner]
    http: Sequence[HttpFunction]
    listings: Sequence[Listing]
    warnings: Sequence[str]


def load_app(
    folder: Path,
    environ: Mapping[str, str],
    route_prefix: str,
    only: Sequence[str] | None,
    hub: str,
    client: Callable[[], DurableOrchestrationClient],
) -> LoadedApp:
    """Import the app in `folder` and collect its functions. The caller has made `folder` the current directory.

    Args:
        route_prefix: what stands before the routes, without slashes.
        only: names of the only functions to run, or None for all.
        hub: the task hub's name.
        client: makes the durable client of an activity, while the host runs.

    Raises:
        AppError: the app cannot be run.
    """
    script = script_of(folder, environ)
    module = imported(folder, script)
    app = app_object(module, script, folder)
    index = FunctionIndex(folder, route_prefix, disabled_by(environ, only), hub, resolved_by(environ), client)
    for each in functions_of(app, module, script, folder):
        index.add(each)
    allow_payload_classes(folder, index.users_functions)
    return LoadedApp(
        folder=folder,
        script=script,
        orchestrators=index.orchestrators,
        activities=index.activities,
        entities=index.entities,
        http=index.http,
        listings=index.listings,
        warnings=[*index.warnings, *unregistered_warnings(app, folder)],
    )
