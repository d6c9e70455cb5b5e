"""perdure's own SDK: its orchestrators step with the cursor, and its clients call the task hub of this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import azure.durable_functions
from azure.durable_functions.app import default_blueprint
from azure.durable_functions.client import DurableOrchestrationClient
from azure.durable_functions.connected import connect
from azure.durable_functions.entity import Entity
from azure.durable_functions.sync_client import SyncDurableOrchestrationClient
from azure.functions.decorators.function_app import DecoratorApi

from perdure.core.codec import PayloadCodec
from perdure.core.cursor import OrchestrationCursor, Orchestrator
from perdure.host.invoke import EntityRunner
from perdure.host.protocol.cursor import ProtocolCursor, ProtocolHandler
from perdure.host.protocol.entity import ProtocolEntity
from perdure.host.sdk.sdk import DISTRIBUTION, ClientRequest, official_version
from perdure.host.user_code import is_async


class OurSdk:
    """Runs apps with perdure's `azure.durable_functions`."""

    sends_events_twice_encoded = False

    @property
    def description(self) -> str:
        return f"perdure's azure.durable_functions ({azure.durable_functions.__file__})"

    @property
    def warnings(self) -> list[str]:
        version = official_version()
        if version is None or version.startswith(("0.", "1.")):
            return []
        return [
            f"the app's environment has {DISTRIBUTION} {version}, which is not used: perdure's own SDK runs the app, "
            "and it has the names of 1.x"
        ]

    @property
    def default_blueprint(self) -> DecoratorApi | None:
        return default_blueprint

    def new_cursor(
        self, instance_id: str, orchestrator: Orchestrator, codec: PayloadCodec, actions_max: int
    ) -> OrchestrationCursor:
        kind = ProtocolCursor if isinstance(orchestrator, ProtocolHandler) else OrchestrationCursor
        return kind(instance_id, orchestrator, codec, actions_max)

    def orchestrator(self, function: Callable[..., Any]) -> Orchestrator:
        return function if hasattr(function, "orchestrator_function") else ProtocolHandler(function)

    def entity(self, function: Callable[..., Any]) -> EntityRunner:
        entity = getattr(function, "entity", None)
        return entity if isinstance(entity, Entity) else ProtocolEntity(function)

    def client(self, request: ClientRequest) -> Any:
        if request.is_text:
            text = request.text()
            connect(text, request.hub, request.links)  # a client that the function makes of it asks nobody over HTTP
            return text
        return fitting_client(request.function, DurableOrchestrationClient(request.hub, request.links))


def fitting_client(
    function: Callable[..., Any], client: DurableOrchestrationClient
) -> DurableOrchestrationClient | SyncDurableOrchestrationClient:
    """The client as a function can use it: one to await, or one for functions that cannot."""
    return client if is_async(function) else SyncDurableOrchestrationClient(client)
