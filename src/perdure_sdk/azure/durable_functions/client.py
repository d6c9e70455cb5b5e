"""What client functions may do with a task hub: start, watch and steer orchestrations."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlsplit, urlunsplit

import azure.functions as func
from azure.durable_functions.builders import orchestrator_name
from azure.durable_functions.later import not_yet
from azure.durable_functions.options import EntityId
from azure.durable_functions.status import (
    DurableOrchestrationStatus,
    EntityStateResponse,
    OrchestrationRuntimeStatus,
    PurgeHistoryResult,
)

from perdure.core.codec import payloads
from perdure.core.history_view import history_view
from perdure.core.records import HistoryRow, Instance, RuntimeStatus
from perdure.core.status_view import json_value, status_view
from perdure.errors import (
    InstanceExistsError,
    InstanceFinishedError,
    InstanceNotFoundError,
    InvalidInstanceIdError,
    UnknownFunctionError,
)

if TYPE_CHECKING:
    from azure.functions.decorators.function_app import FunctionBuilder

PLACEHOLDER = "INSTANCEID"
"""What stands for the instance's id in the management URLs."""

_JSON = {"Content-Type": "application/json"}
_RETRY_AFTER_S = "10"


class TaskHub(Protocol):
    """What the client needs of a task hub; `perdure.engine.client.TaskHubClient` has it."""

    async def start(
        self, name: str, input: str | None = None, *, instance_id: str | None = None, version: str | None = None
    ) -> str:
        """Start an orchestration and return its instance id; `input` is JSON text."""
        ...

    async def get(self, instance_id: str) -> Instance | None:
        """The instance, or None if there is none."""
        ...

    async def history(self, instance_id: str) -> Sequence[HistoryRow]:
        """The checkpoints of the instance's current execution."""
        ...

    async def raise_event(self, instance_id: str, name: str, data: str | None = None) -> None:
        """Send an external event; `data` is JSON text."""
        ...

    async def terminate(self, instance_id: str, reason: str | None = None) -> None:
        """End an instance."""
        ...

    async def wait(self, instance_id: str, timeout: timedelta | None = None) -> Instance:
        """The instance once it has ended, or as it is after `timeout`."""
        ...


class DurableClientError(Exception):
    """Raised by the client where the official SDK raises a plain `Exception`, with its text."""


class DurableOrchestrationClient:
    """Starts, watches and steers the orchestrations of one task hub.

    Args:
        hub: the task hub.
        urls: the management URLs by their official names, with `INSTANCEID` for the instance's id.
    """

    def __init__(self, hub: TaskHub, urls: dict[str, str]) -> None:
        self._hub = hub
        self._urls = urls

    # ------------------------------------------------------------------ start, watch, steer

    async def start_new(
        self,
        orchestration_function_name: str | FunctionBuilder,
        instance_id: str | None = None,
        client_input: Any = None,
        version: str | None = None,
    ) -> str:
        """Start an orchestration and return its instance id.

        Args:
            orchestration_function_name: the orchestrator's name, or the decorated function.
            instance_id: the id to give it, or None for a new one.
            client_input: its input: JSON, or an object with `to_json`.
            version: its version.

        Raises:
            TypeError: the input cannot be written as JSON.
            DurableClientError: there is no such orchestrator, the id breaks a rule, or an instance has it.
        """
        name = orchestrator_name(orchestration_function_name)
        with _official_errors():
            return await self._hub.start(name, _encoded(client_input), instance_id=instance_id, version=version)

    async def get_status(
        self,
        instance_id: str,
        show_history: bool = False,
        show_history_output: bool = False,
        show_input: bool = False,
    ) -> DurableOrchestrationStatus:
        """The status of an instance, false if there is no such instance.

        Args:
            instance_id: the instance's.
            show_history: its `history` says what has happened.
            show_history_output: with the results.
            show_input: without effect: inputs are always shown, as by the official service, whose default that is.
        """
        instance = await self._hub.get(instance_id)
        if instance is None:
            return DurableOrchestrationStatus(message="")
        history: list[dict[str, Any]] | None = None
        if show_history and instance.status is not RuntimeStatus.PENDING:
            rows = await self._hub.history(instance_id)
            events = (event for row in rows for event in row.events)
            history = history_view(events, show_input=True, show_output=show_history_output)
        return _status(instance, history)

    async def raise_event(
        self,
        instance_id: str,
        event_name: str,
        event_data: Any = None,
        task_hub_name: str | None = None,
        connection_name: str | None = None,
    ) -> None:
        """Send an external event to an instance.

        Args:
            instance_id: the instance's.
            event_name: the event's; case does not matter.
            event_data: what `wait_for_external_event` gives the orchestrator.
            task_hub_name: must be the app's own; another is not reached.
            connection_name: likewise.

        Raises:
            ValueError: the name is empty.
            TypeError: the data cannot be written as JSON.
            DurableClientError: there is no such instance, or it has ended.
        """
        if not event_name:
            raise ValueError("event_name must be a non-empty string.")
        with _official_errors():
            await self._hub.raise_event(instance_id, event_name, _encoded(event_data))

    async def terminate(self, instance_id: str, reason: str | None = None) -> None:
        """End an instance without running its code again; nothing happens if it has ended already.

        Raises:
            DurableClientError: there is no such instance.
        """
        try:
            await self._hub.terminate(instance_id, reason)
        except InstanceFinishedError:
            pass
        except InstanceNotFoundError as error:
            raise DurableClientError(f"No instance with ID '{instance_id}' found.") from error

    # ------------------------------------------------------------------ answers to HTTP requests

    def create_http_management_payload(self, instance_id: str) -> dict[str, str]:
        """The URLs to manage an instance with."""
        return self.get_client_response_links(None, instance_id)

    def get_client_response_links(self, request: func.HttpRequest | None, instance_id: str) -> dict[str, str]:
        """The URLs to manage an instance with, at the address that `request` came to."""
        in_url = quote(instance_id, safe="")
        origin = None if request is None else urlsplit(request.url)
        links: dict[str, str] = {}
        for name, template in self._urls.items():
            if name == "id":
                links[name] = instance_id
                continue
            link = template.replace(PLACEHOLDER, in_url)
            if origin is not None and origin.netloc:
                link = urlunsplit(urlsplit(link)._replace(scheme=origin.scheme, netloc=origin.netloc))
            links[name] = link
        return links

    def create_check_status_response(self, request: func.HttpRequest | None, instance_id: str) -> func.HttpResponse:
        """The answer 202 that tells the caller where to ask for the instance's status."""
        links = self.get_client_response_links(request, instance_id)
        headers = {**_JSON, "Location": links["statusQueryGetUri"], "Retry-After": _RETRY_AFTER_S}
        return _response(json.dumps(links), 202, headers)

    async def wait_for_completion_or_create_check_status_response(
        self,
        request: func.HttpRequest | None,
        instance_id: str,
        timeout_in_milliseconds: float | timedelta = 10000,
        retry_interval_in_milliseconds: float | timedelta = 1000,
        *,
        timeout: timedelta | float | None = None,
        retry_interval: timedelta | float | None = None,
    ) -> func.HttpResponse:
        """The result of an instance if it ends in time, or else the answer of `create_check_status_response`.

        Args:
            request: whose address the links have.
            instance_id: the instance's.
            timeout_in_milliseconds: how long to wait.
            retry_interval_in_milliseconds: at most as long; the engine tells when the instance ends, nobody polls.
            timeout: how long to wait, as `timedelta` or in seconds; goes before the milliseconds.
            retry_interval: likewise.

        Raises:
            DurableClientError: the interval is longer than the timeout.
        """
        limit = _milliseconds(timeout_in_milliseconds, timeout)
        if timeout is None or retry_interval is not None:
            interval = _milliseconds(retry_interval_in_milliseconds, retry_interval)
            if interval > limit:
                raise DurableClientError(
                    f"Total timeout {limit:g} (ms) should be bigger than retry timeout {interval:g} (ms)"
                )
        try:
            instance = await self._hub.wait(instance_id, timedelta(milliseconds=limit))
        except InstanceNotFoundError:
            return self.create_check_status_response(request, instance_id)
        if not instance.status.is_terminal:
            return self.create_check_status_response(request, instance_id)
        if instance.status is RuntimeStatus.COMPLETED:
            output = json_value(instance.output)
            return _response(output if isinstance(output, str) else json.dumps(output), 200, _JSON)
        body = json.dumps(_status(instance, None).to_json())
        return _response(body, 500 if instance.status is RuntimeStatus.FAILED else 200, _JSON)

    # ------------------------------------------------------------------ not yet

    async def get_status_all(self) -> list[DurableOrchestrationStatus]:
        """The status of all instances.

        Raises:
            NotImplementedError: always.
        """
        raise not_yet("client.get_status_all")

    async def get_status_by(
        self,
        created_time_from: datetime | None = None,
        created_time_to: datetime | None = None,
        runtime_status: list[OrchestrationRuntimeStatus] | None = None,
        instance_id_prefix: str | None = None,
    ) -> list[DurableOrchestrationStatus]:
        """The status of all instances that a filter lets through.

        Raises:
            NotImplementedError: always.
        """
        raise not_yet("client.get_status_by")

    async def suspend(self, instance_id: str, reason: str | None = None) -> None:
        """Halt an instance.

        Raises:
            NotImplementedError: always.
        """
        raise not_yet("client.suspend")

    async def resume(self, instance_id: str, reason: str | None = None) -> None:
        """Let a suspended instance go on.

        Raises:
            NotImplementedError: always.
        """
        raise not_yet("client.resume")

    async def rewind(
        self,
        instance_id: str,
        reason: str | None = None,
        task_hub_name: str | None = None,
        connection_name: str | None = None,
    ) -> None:
        """Let a failed instance try again from where it failed.

        Raises:
            NotImplementedError: always.
        """
        raise not_yet("client.rewind")

    async def restart(self, instance_id: str, restart_with_new_instance_id: bool = True) -> str:
        """Start an instance anew with the input that it had.

        Raises:
            NotImplementedError: always.
        """
        raise not_yet("client.restart")

    async def purge_instance_history(self, instance_id: str) -> PurgeHistoryResult:
        """Remove an instance that has ended.

        Raises:
            NotImplementedError: always.
        """
        raise not_yet("client.purge_instance_history")

    async def purge_instance_history_by(
        self,
        created_time_from: datetime | None = None,
        created_time_to: datetime | None = None,
        runtime_status: list[OrchestrationRuntimeStatus] | None = None,
    ) -> PurgeHistoryResult:
        """Remove the instances that have ended and that a filter lets through.

        Raises:
            NotImplementedError: always.
        """
        raise not_yet("client.purge_instance_history_by")

    async def read_entity_state(
        self, entityId: EntityId, task_hub_name: str | None = None, connection_name: str | None = None
    ) -> EntityStateResponse:
        """The state of an entity.

        Raises:
            NotImplementedError: always.
        """
        raise not_yet("client.read_entity_state")

    async def signal_entity(
        self,
        entityId: EntityId,
        operation_name: str,
        operation_input: Any = None,
        task_hub_name: str | None = None,
        connection_name: str | None = None,
    ) -> None:
        """Send an operation to an entity.

        Raises:
            NotImplementedError: always.
        """
        raise not_yet("client.signal_entity")


def _encoded(value: Any) -> str | None:
    return None if value is None else payloads.encode(value)


@contextmanager
def _official_errors() -> Generator[None]:
    """The texts of these errors are the official ones, but apps expect no class of ours."""
    try:
        yield
    except (
        InstanceExistsError,
        InstanceFinishedError,
        InstanceNotFoundError,
        InvalidInstanceIdError,
        UnknownFunctionError,
    ) as error:
        raise DurableClientError(str(error)) from error


def _status(instance: Instance, history: list[dict[str, Any]] | None) -> DurableOrchestrationStatus:
    view = status_view(instance, show_input=True, history=history)
    return DurableOrchestrationStatus.from_json(
        {**view, "createdTime": instance.created_at, "lastUpdatedTime": instance.updated_at}
    )


def _milliseconds(milliseconds: float | timedelta, other: timedelta | float | None) -> float:
    if other is not None:
        return other / timedelta(milliseconds=1) if isinstance(other, timedelta) else other * 1000
    return milliseconds / timedelta(milliseconds=1) if isinstance(milliseconds, timedelta) else milliseconds


def _response(body: str, status_code: int, headers: dict[str, str]) -> func.HttpResponse:
    return func.HttpResponse(body, status_code=status_code, headers=headers)
