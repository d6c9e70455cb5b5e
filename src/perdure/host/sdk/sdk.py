"""Which SDK runs the app: perdure's `azure.durable_functions`, or the official one of the app's own environment.

Rule 1: only the implementation that was chosen imports `azure.durable_functions`; until then that name is nobody's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

import perdure
from perdure.errors import AppError

if TYPE_CHECKING:
    from azure.functions.decorators.function_app import DecoratorApi

    from perdure.core.codec import PayloadCodec
    from perdure.core.cursor import OrchestrationCursor, Orchestrator
    from perdure.engine.client import TaskHubClient
    from perdure.host.invoke import EntityRunner

SDK_MODULE = "azure.durable_functions"
DISTRIBUTION = "azure-functions-durable"
SDK_ROOT = Path(perdure.__path__[0]).resolve().parent / "perdure_sdk"

OURS, APPS = "ours", "app"
"""The two answers to which SDK is to run the app."""


class ClientRequest(Struct, frozen=True):
    """What a function asks for with a client binding, and what a client can be made of.

    Attributes:
        function: who asks.
        is_text: it wants the binding's JSON text, not a client.
        hub: the task hub.
        links: the management URLs of an instance by their official names.
        text: makes the binding's JSON text, which most functions do not need.
    """

    function: Callable[..., Any]
    is_text: bool
    hub: TaskHubClient
    links: Callable[[str], dict[str, str]]
    text: Callable[[], str]


class Sdk(Protocol):
    """What runs the app's durable functions, and what it gives them."""

    @property
    def description(self) -> str:
        """Which one it is, its version and place, for people."""
        ...

    @property
    def warnings(self) -> list[str]:
        """What whoever starts the app should know of the choice."""
        ...

    @property
    def default_blueprint(self) -> DecoratorApi | None:
        """What the module's own decorators register on, or None if it has none."""
        ...

    @property
    def sends_events_twice_encoded(self) -> bool:
        """Whether orchestrators expect events that the client sends as the text that it has made of the data."""
        ...

    def new_cursor(
        self, instance_id: str, orchestrator: Orchestrator, codec: PayloadCodec, actions_max: int
    ) -> OrchestrationCursor:
        """A cursor at the beginning of an orchestration, to be run by what `orchestrator` returned."""
        ...

    def orchestrator(self, function: Callable[..., Any]) -> Orchestrator:
        """What the cursor begins for an orchestration of the user's `function`."""
        ...

    def entity(self, function: Callable[..., Any]) -> EntityRunner:
        """What runs the operations of the user's `function`."""
        ...

    def client(self, request: ClientRequest) -> Any:
        """The argument for a client binding."""
        ...


def put_first() -> None:
    """Make the next `import azure.durable_functions` find perdure's SDK.

    Raises:
        AppError: another one has already been imported, and its classes would not be ours.
    """
    loaded = sys.modules.get(SDK_MODULE)
    origin = getattr(loaded, "__file__", None)
    if loaded is not None and not (origin and Path(origin).resolve().is_relative_to(SDK_ROOT)):
        raise AppError(
            "DF111",
            "Another Durable Functions SDK was imported first",
            f"azure.durable_functions came from {origin}",
            f"perdure runs apps with its own, in {SDK_ROOT}",
            "Start the app with perdure itself, in a fresh interpreter:  perdure start",
        )
    root = str(SDK_ROOT)
    sys.path[:] = [root, *(each for each in sys.path if each != root)]


def leave_path() -> None:
    """Let the next `import azure.durable_functions` find the official SDK, if it is installed."""
    sys.path[:] = [each for each in sys.path if Path(each).resolve() != SDK_ROOT]


def official_version() -> str | None:
    """The version of the official SDK that is installed, or None."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return None


def chosen_sdk(name: str) -> Sdk:
    """The SDK that is to run the app: `OURS` or `APPS`.

    Raises:
        AppError: it cannot be had.
    """
    if name == APPS:
        from perdure.host.sdk.official_sdk import OfficialSdk

        return OfficialSdk()
    from perdure.host.sdk.our_sdk import OurSdk

    return OurSdk()
