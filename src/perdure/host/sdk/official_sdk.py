"""The official SDK of the app's own environment: it and the host talk as they do on Azure, in JSON."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

from azure.functions.decorators.function_app import DecoratorApi

from perdure.core.codec import PayloadCodec
from perdure.core.cursor import OrchestrationCursor, Orchestrator
from perdure.errors import AppError
from perdure.host.invoke import EntityRunner
from perdure.host.protocol.cursor import ProtocolCursor, ProtocolHandler
from perdure.host.protocol.entity import ProtocolEntity
from perdure.host.sdk.sdk import DISTRIBUTION, SDK_MODULE, SDK_ROOT, ClientRequest, leave_path, official_version


class OfficialSdk:
    """Runs apps with the official `azure.durable_functions` 1.x.

    Raises:
        AppError: the environment has none, or one that does not speak the protocol.
    """

    default_blueprint: DecoratorApi | None = None
    sends_events_twice_encoded = True

    def __init__(self) -> None:
        leave_path()
        version = official_version()
        if version is None:
            raise AppError(
                "DF125",
                "The app's environment has no official Durable Functions SDK",
                f"--sdk app runs the app with {DISTRIBUTION} 1.x, but it is not installed for {sys.executable}.",
                f'Run:  {sys.executable} -m pip install "{DISTRIBUTION}<2"',
                "or leave --sdk app out: perdure has an SDK of its own.",
            )
        if not version.startswith("1."):
            raise AppError(
                "DF126",
                f"The app's environment has version {version} of the official Durable Functions SDK",
                f"--sdk app runs the app with {DISTRIBUTION} 1.x, which talks to its host in JSON; 2.x does not.",
                f'Run:  {sys.executable} -m pip install "{DISTRIBUTION}<2"',
                "or leave --sdk app out: perdure has an SDK of its own.",
            )
        spec = importlib.util.find_spec(SDK_MODULE)
        place = None if spec is None else spec.origin
        if place is None or place.startswith(str(SDK_ROOT)):
            raise AppError(
                "DF127",
                "The official Durable Functions SDK is installed, but cannot be imported",
                f"{DISTRIBUTION} {version} is there, but  import {SDK_MODULE}  finds {place or 'nothing'}.",
                "A folder or file called azure hides it, or it was imported before: look at  sys.path  there.",
            )
        self.warnings: list[str] = []
        self.description = f"the app's {DISTRIBUTION} {version} ({place})"

    def new_cursor(
        self, instance_id: str, orchestrator: Orchestrator, codec: PayloadCodec, actions_max: int
    ) -> OrchestrationCursor:
        return ProtocolCursor(instance_id, orchestrator, codec, actions_max)

    def orchestrator(self, function: Callable[..., Any]) -> Orchestrator:
        return ProtocolHandler(function)

    def entity(self, function: Callable[..., Any]) -> EntityRunner:
        return ProtocolEntity(function)

    def client(self, request: ClientRequest) -> Any:
        text = request.text()
        if request.is_text or hasattr(request.function, "client_function"):  # the SDK's decorator makes a client of it
            return text
        return importlib.import_module(SDK_MODULE).DurableOrchestrationClient(text)
