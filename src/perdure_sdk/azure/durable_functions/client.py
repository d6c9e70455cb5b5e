"""What client functions may do with a task hub: start, watch and steer orchestrations, and talk to entities."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import quote, urlsplit, urlunsplit

import azure.functions as func
from azure.durable_functions.builders import orchestrator_name
from azure.durable_functions.client_bindings import PLACEHOLDER, DurableOrchestrationBindings
from azure.durable_functions.client_error import DurableClientError
from azure.durable_functions.connected import connected
from azure.durable_functions.http_hub import HttpTaskHub
from azure.durable_functions.options import EntityId
from azure.durable_functions.status import (
    CleanEntityStorageResult,
    DurableEntityStatus,
    DurableOrchestrationStatus,
    EntityStateResponse,
    OrchestrationRuntimeStatus,
    PurgeHistoryResult,
    utc_time,
)

from perdure.core.codec import payloads
from perdure.core.conversion import asked_type
from perdure.core.history_view import history_view
from perdure.core.records import (
    EntityQuery,
    HistoryRow,
    Instance,
    InstancePage,
    InstanceQuery,
    RuntimeStatus,
    StartPolicy,
)
from perdure.core.status_view import json_value, status_view
from perdure.errors import (
    InstanceExistsError,
    InstanceFinishedError,
    InstanceNotFailedError,
    InstanceNotFinishedError,
    InstanceNotFoundError,
    InvalidInstanceIdError,
    UnknownFunctionError,
)

if TYPE_CHECKING:
    from azure.functions.decorators.function_app import FunctionBuilder

Links = Mapping[str, str] | Callable[[str], Mapping[str, str]]
"""Management URLs by their official names: with a placeholder, or made for an instance's id."""

StatusFilter = OrchestrationRuntimeStatus | str | Iterable[OrchestrationRuntimeStatus | str]
"""Statuses by member or by name; one alone will do."""

# Statuses read at once: a page is there within milliseconds.
_PAGE_SIZE = 500

_JSON = {"Content-Type": "application/json"}
_RETRY_AFTER_S = "10"


class TaskHub(Protocol):
    """What the client needs of a task hub; `perdure.engine.client.TaskHubClient` has it, and says what is raised."""

    async def start(
        self,
        name: str,
        input: str | None = None,
        *,
        instance_id: str | None = None,
        version: str | None = None,
        start_at: datetime | None = None,
        tags: Mapping[str, str] | None = None,
        policy: StartPolicy | None = None,
        request_id: str | None = None,
    ) -> str:
        """Start an orchestration and return its instance id; `input` is JSON text."""
        ...

    async def restart(self, instance_id: str, *, new_instance_id: bool = True, request_id: str | None = None) -> str:
        """Start an orchestration anew with the input of an instance; returns the new one's id."""
        ...

    async def get(self, instance_id: str) -> Instance | None:
        """The instance, or None if there is none."""
        ...

    def instances(self, query: InstanceQuery) -> AsyncIterator[Instance]:
        """All instances that fit."""
        ...

    async def count(self, query: InstanceQuery) -> dict[RuntimeStatus, int]:
        """How many instances fit, by status."""
        ...

    async def history(self, instance_id: str) -> Sequence[HistoryRow]:
        """The checkpoints of the instance's current execution."""
        ...

    async def wait(self, instance_id: str, timeout: timedelta | None = None) -> Instance:
        """The instance once it has ended, or as it is after `timeout`."""
        ...

    async def raise_event(
        self, instance_id: str, name: str, data: str | None = None, *, request_id: str | None = None
    ) -> None:
        """Send an external event; `data` is JSON text."""
        ...

    async def terminate(self, instance_id: str, reason: str | None = None, *, recursive: bool = False) -> None:
        """End an instance."""
        ...

    async def suspend(self, instance_id: str, reason: str | None = None) -> None:
        """Halt an instance."""
        ...

    async def resume(self, instance_id: str, reason: str | None = None) -> None:
        """Let a suspended instance go on."""
        ...

    async def rewind(self, instance_id: str, reason: str | None = None) -> None:
        """Let a failed instance try again from where it failed."""
        ...

    async def purge(self, instance_id: str, *, recursive: bool = False) -> int:
        """Remove an instance that has ended; returns how many were removed."""
        ...

    async def purge_by(self, query: InstanceQuery, *, recursive: bool = False) -> int:
        """Remove the instances that have ended and fit; returns how many were removed."""
        ...

    async def signal_entity(
        self,
        entity_id: str,
        operation: str,
        input: str | None = None,
        *,
        deliver_at: datetime | None = None,
        request_id: str | None = None,
    ) -> None:
        """Send an operation to an entity; `input` is JSON text."""
        ...

    async def entity(self, entity_id: str) -> Instance | None:
        """The entity, or None if it has no state."""
        ...

    async def entities(self, query: EntityQuery) -> InstancePage:
        """One page of entities."""
        ...

    async def clean_entities(self) -> tuple[int, int]:
        """Free entities that nobody holds; returns how many were removed, and how many locks released."""
        ...


class DurableOrchestrationClient:
    """Starts, watches and steers the orchestrations of one task hub, and talks to its entities.

    Args:
        context: the text of the client binding, which a function of the older model gets; or the task hub itself.
        urls: with a task hub, the management URLs by their official names, with `INSTANCEID` for the instance's id; or
            what makes those of an instance. With a text, the id of the function's invocation, as in the official SDK.

    Raises:
        TypeError: the text lacks a member that every host sends.
        ValueError: the text is no JSON.

    Args (all methods):
        instance_id: the instance's.
        reason: stands in its history.
        request: the HTTP request to be answered, at whose address the URLs are, or None.
    """

    def __init__(self, context: str | TaskHub, urls: Links | str | None = None) -> None:
        self._hub: TaskHub
        self._urls: Links
        if isinstance(context, str):
            binding = DurableOrchestrationBindings.from_json(context)
            invocation_id = urls if isinstance(urls, str) else None
            found = connected(binding) or (HttpTaskHub(binding, invocation_id), binding.management_urls)
            self._hub, self._urls = found
        else:
            assert not isinstance(urls, str), "a task hub has URLs"
            self._hub, self._urls = context, urls or {}

    # ------------------------------------------------------------------ start

    async def start_new(
        self,
        orchestration_function_name: str | FunctionBuilder,
        instance_id: str | None = None,
        client_input: Any = None,
        version: str | None = None,
        *,
        start_at: datetime | None = None,
        tags: Mapping[str, str] | None = None,
        policy: Literal["reject", "ignore", "replace"] | None = None,
        request_id: str | None = None,
    ) -> str:
        """Start an orchestration and return its instance id.

        Args:
            orchestration_function_name: the orchestrator's name, or the decorated function.
            instance_id: the id to give it, or None for a new one.
            client_input: its input: JSON, or an object with `to_json`.
            version: its version, or None for the host's `defaultVersion`.
            start_at: not before this time; without a zone it is UTC.
            tags: what it and its children are labelled with.
            policy: what to do if an instance of that id has not ended: `reject` raises, `ignore` leaves it alone and
                returns its id, `replace` puts the new one in its place; None for what host.json says, or `reject`.
            request_id: the same for every attempt of one request, so that a repeat finds what the first one started.

        Raises:
            TypeError: the input cannot be written as JSON.
            ValueError: there is no such policy.
            DurableClientError: there is no such orchestrator, the id breaks a rule, or an instance has it.
        """
        name = orchestrator_name(orchestration_function_name)
        with _official_errors():
            return await self._hub.start(
                name,
                _encoded(client_input),
                instance_id=instance_id,
                version=version,
                start_at=utc_time(start_at),
                tags=tags,
                policy=None if policy is None else StartPolicy(policy),
                request_id=request_id,
            )

    async def restart(
        self, instance_id: str, restart_with_new_instance_id: bool = True, *, request_id: str | None = None
    ) -> str:
        """Start an orchestration anew with the name, input, version and tags of an instance; returns the new one's id.

        Args:
            instance_id: the instance's.
            restart_with_new_instance_id: under a new id; otherwise under its own, once it has ended.
            request_id: the same for every attempt of one request, so that a repeat finds what the first one started.

        Raises:
            DurableClientError: there is no such instance, or it has not ended and keeps its id.
        """
        with _official_errors(instance_id):
            return await self._hub.restart(
                instance_id, new_instance_id=restart_with_new_instance_id, request_id=request_id
            )

    # ------------------------------------------------------------------ watch

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
        if isinstance(self._hub, HttpTaskHub):
            return await self._hub.status(
                instance_id, show_history=show_history, show_output=show_history_output, show_input=show_input
            )
        instance = await self._hub.get(instance_id)
        if instance is None:
            return DurableOrchestrationStatus(message="")
        history: list[dict[str, Any]] | None = None
        if show_history and instance.status is not RuntimeStatus.PENDING:
            rows = await self._hub.history(instance_id)
            events = (event for row in rows for event in row.events)
            history = history_view(events, show_input=True, show_output=show_history_output)
        return _status(instance, history)

    async def get_status_all(self) -> list[DurableOrchestrationStatus]:
        """The status of every instance, in order of creation."""
        return [status async for status in self.iter_status()]

    async def get_status_by(
        self,
        created_time_from: datetime | None = None,
        created_time_to: datetime | None = None,
        runtime_status: StatusFilter | None = None,
        instance_id_prefix: str | None = None,
    ) -> list[DurableOrchestrationStatus]:
        """The status of every instance that all filters let through, in order of creation.

        Args:
            created_time_from: created then or later; without a zone it is UTC.
            created_time_to: created then or earlier; likewise.
            runtime_status: in one of these statuses; None, or none of them, for all.
            instance_id_prefix: with an id that begins so.

        Raises:
            ValueError: there is no such status.
        """
        filters = (created_time_from, created_time_to, runtime_status, instance_id_prefix)
        return [status async for status in self.iter_status(*filters)]

    async def iter_status(
        self,
        created_time_from: datetime | None = None,
        created_time_to: datetime | None = None,
        runtime_status: StatusFilter | None = None,
        instance_id_prefix: str | None = None,
    ) -> AsyncIterator[DurableOrchestrationStatus]:
        """The same as `get_status_by`, one by one: a long list begins at once, and is never held as a whole."""
        query = _query(created_time_from, created_time_to, runtime_status, instance_id_prefix)
        async for instance in self._hub.instances(query):
            yield _status(instance, None)

    async def count_by_status(
        self,
        created_time_from: datetime | None = None,
        created_time_to: datetime | None = None,
        runtime_status: StatusFilter | None = None,
        instance_id_prefix: str | None = None,
    ) -> dict[OrchestrationRuntimeStatus, int]:
        """How many instances the filters of `get_status_by` let through, by status; counted where they are kept."""
        query = _query(created_time_from, created_time_to, runtime_status, instance_id_prefix)
        counts = await self._hub.count(query)
        return {OrchestrationRuntimeStatus(status.value): number for status, number in counts.items()}

    # ------------------------------------------------------------------ steer

    async def raise_event(
        self,
        instance_id: str,
        event_name: str,
        event_data: Any = None,
        task_hub_name: str | None = None,
        connection_name: str | None = None,
        *,
        request_id: str | None = None,
    ) -> None:
        """Send an external event to an instance.

        Args:
            instance_id: the instance's.
            event_name: the event's; case does not matter.
            event_data: what `wait_for_external_event` gives the orchestrator.
            task_hub_name: must be the app's own; another is not reached.
            connection_name: likewise.
            request_id: the same for every attempt of one request, so that a repeat does not send the event again.

        Raises:
            ValueError: the name is empty.
            TypeError: the data cannot be written as JSON.
            DurableClientError: there is no such instance, or it has ended.
        """
        if not event_name:
            raise ValueError("event_name must be a non-empty string.")
        with _official_errors():
            await self._hub.raise_event(instance_id, event_name, _encoded(event_data), request_id=request_id)

    async def terminate(self, instance_id: str, reason: str | None = None, *, recursive: bool = False) -> None:
        """End an instance without running its code again; nothing happens if it has ended already.

        Args:
            instance_id: the instance's.
            reason: becomes its output.
            recursive: end the sub-orchestrations that it is waiting for, too, and theirs.

        Raises:
            DurableClientError: there is no such instance.
        """
        with _official_errors(instance_id), suppress(InstanceFinishedError):
            await self._hub.terminate(instance_id, reason, recursive=recursive)

    async def suspend(self, instance_id: str, reason: str | None = None) -> None:
        """Halt an instance: until it is resumed, its code sees nothing of what happens.

        Nothing happens if it is suspended already, or has ended.

        Raises:
            DurableClientError: there is no such instance.
        """
        with _official_errors(instance_id), suppress(InstanceFinishedError):
            await self._hub.suspend(instance_id, reason)

    async def resume(self, instance_id: str, reason: str | None = None) -> None:
        """Let a suspended instance go on; nothing happens if it is not suspended, or has ended.

        Raises:
            DurableClientError: there is no such instance.
        """
        with _official_errors(instance_id), suppress(InstanceFinishedError):
            await self._hub.resume(instance_id, reason)

    async def rewind(
        self,
        instance_id: str,
        reason: str | None = None,
        task_hub_name: str | None = None,
        connection_name: str | None = None,
    ) -> None:
        """Let a failed instance try again from where it failed.

        Args:
            instance_id: the instance's.
            reason: stands in its history.
            task_hub_name: must be the app's own; another is not reached.
            connection_name: likewise.

        Raises:
            DurableClientError: there is no such instance, or it has not failed.
        """
        with _official_errors():
            await self._hub.rewind(instance_id, reason)

    # ------------------------------------------------------------------ purge

    async def purge_instance_history(self, instance_id: str, *, recursive: bool = False) -> PurgeHistoryResult:
        """Remove an instance that has ended, with its history; of any other, and of none, nothing is removed.

        Args:
            instance_id: the instance's. That of an entity removes it, with what it has still to do.
            recursive: remove its sub-orchestrations that have ended, too, and theirs.
        """
        try:
            return PurgeHistoryResult(await self._hub.purge(instance_id, recursive=recursive))
        except (InstanceNotFoundError, InstanceNotFinishedError):
            return PurgeHistoryResult(0)

    async def purge_instance_history_by(
        self,
        created_time_from: datetime | None = None,
        created_time_to: datetime | None = None,
        runtime_status: StatusFilter | None = None,
        *,
        recursive: bool = False,
    ) -> PurgeHistoryResult:
        """Remove the instances that have ended and that all filters let through; it can be repeated if interrupted.

        Args:
            created_time_from: created then or later; without a zone it is UTC.
            created_time_to: created then or earlier; likewise.
            runtime_status: ended in one of these ways; None, or none of them, for all.
            recursive: remove their sub-orchestrations that have ended, too, and theirs.

        Raises:
            ValueError: `created_time_from` is missing, or a status is none of those that instances end in.
        """
        if created_time_from is None:
            raise ValueError("created_time_from is required when purging instance history")
        query = _query(created_time_from, created_time_to, runtime_status, None)
        return PurgeHistoryResult(await self._hub.purge_by(query, recursive=recursive))

    # ------------------------------------------------------------------ answers to HTTP requests

    def create_http_management_payload(self, instance_id: str) -> dict[str, str]:
        """The URLs to manage an instance with."""
        return self.get_client_response_links(None, instance_id)

    def get_client_response_links(self, request: func.HttpRequest | None, instance_id: str) -> dict[str, str]:
        """The URLs to manage an instance with, at the address that `request` came to."""
        origin = None if request is None else urlsplit(request.url)
        here = "" if origin is None else f"{origin.scheme}://{origin.netloc}/"
        links: dict[str, str] = {}
        for name, link in self._links_of(instance_id).items():
            if name == "id":
                links[name] = instance_id
                continue
            if origin is not None and origin.netloc and not link.startswith(here):
                link = urlunsplit(urlsplit(link)._replace(scheme=origin.scheme, netloc=origin.netloc))
            links[name] = link
        return links

    def _links_of(self, instance_id: str) -> Mapping[str, str]:
        if callable(self._urls):
            return self._urls(instance_id)
        in_url = quote(instance_id, safe="")
        return {name: template.replace(PLACEHOLDER, in_url) for name, template in self._urls.items()}

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

    # ------------------------------------------------------------------ entities

    async def signal_entity(
        self,
        entityId: EntityId,
        operation_name: str,
        operation_input: Any = None,
        task_hub_name: str | None = None,
        connection_name: str | None = None,
        *,
        scheduled_time: datetime | None = None,
        request_id: str | None = None,
    ) -> None:
        """Send an operation to an entity, which need not exist yet; what comes of it is not told.

        Args:
            entityId: the entity's.
            operation_name: the operation's.
            operation_input: its input: JSON, or an object with `to_json`.
            task_hub_name: must be the app's own; another is not reached.
            connection_name: likewise.
            scheduled_time: not before this time; without a zone it is UTC.
            request_id: the same for every attempt of one request, so that a repeat does not send the operation again.

        Raises:
            TypeError: the input cannot be written as JSON.
            DurableClientError: there is no such entity function, or the key breaks a rule.
        """
        input = _encoded(operation_input)
        try:
            await self._hub.signal_entity(
                str(entityId), operation_name, input, deliver_at=utc_time(scheduled_time), request_id=request_id
            )
        except (InvalidInstanceIdError, UnknownFunctionError) as error:
            # The official client has the number only, and apps compare the sentence.
            raise DurableClientError(f"The operation failed with an unexpected status code 400: {error}") from error

    async def read_entity_state(
        self,
        entityId: EntityId,
        task_hub_name: str | None = None,
        connection_name: str | None = None,
        *,
        expected_type: Any = None,
    ) -> EntityStateResponse:
        """Whether an entity exists, and its state as the last operations that are durable have left it.

        Args:
            entityId: the entity's.
            task_hub_name: must be the app's own; another is not reached.
            connection_name: likewise.
            expected_type: the type that the state is to become; without one it stays plain JSON.

        Raises:
            TypeError: the state does not fit the type.
        """
        entity = await self._hub.entity(str(entityId))
        state = None if entity is None or entity.entity is None else entity.entity.state
        if state is None:
            return EntityStateResponse(False)
        expected = asked_type(expected_type)
        return EntityStateResponse(True, json_value(state) if expected is None else payloads.decode_as(state, expected))

    async def list_entities(
        self,
        entity_name: str | None = None,
        key_prefix: str | None = None,
        last_operation_from: datetime | None = None,
        last_operation_to: datetime | None = None,
        *,
        include_state: bool = True,
        include_transient: bool = False,
    ) -> list[DurableEntityStatus]:
        """Every entity that all filters let through, in order of name and key.

        Args:
            entity_name: of this name; case does not matter.
            key_prefix: with a key that begins so; only together with a name.
            last_operation_from: that did something then or later; without a zone it is UTC.
            last_operation_to: that did nothing after this time; likewise.
            include_state: with their states.
            include_transient: also those without a state, which are there because somebody has locked them.

        Raises:
            ValueError: there is a prefix, but no name.
        """
        entities = self.iter_entities(
            entity_name,
            key_prefix,
            last_operation_from,
            last_operation_to,
            include_state=include_state,
            include_transient=include_transient,
        )
        return [each async for each in entities]

    async def iter_entities(
        self,
        entity_name: str | None = None,
        key_prefix: str | None = None,
        last_operation_from: datetime | None = None,
        last_operation_to: datetime | None = None,
        *,
        include_state: bool = True,
        include_transient: bool = False,
    ) -> AsyncIterator[DurableEntityStatus]:
        """The same as `list_entities`, one by one: a long list begins at once, and is never held as a whole."""
        if key_prefix and not entity_name:
            raise ValueError("key_prefix finds entities of one name only: give entity_name, too")
        prefix = f"@{entity_name.lower()}@{key_prefix or ''}" if entity_name else "@"
        since, until = utc_time(last_operation_from), utc_time(last_operation_to)
        after: str | None = None
        while True:
            page = await self._hub.entities(EntityQuery(prefix, since, until, limit=_PAGE_SIZE, after=after))
            for each in page.instances:
                if include_transient or (each.entity is not None and each.entity.state is not None):
                    yield _entity_status(each, include_state)
            after = page.after
            if after is None:
                return

    async def clean_entity_storage(
        self, remove_empty_entities: bool = True, release_orphaned_locks: bool = True
    ) -> CleanEntityStorageResult:
        """Free entities whose lock's holder has ended or is gone, as only an accident leaves them.

        Args:
            remove_empty_entities: without effect: entities without a state remove themselves.
            release_orphaned_locks: whether to do it at all.
        """
        return CleanEntityStorageResult(*(await self._hub.clean_entities() if release_orphaned_locks else (0, 0)))


def _encoded(value: Any) -> str | None:
    return None if value is None else payloads.encode(value)


@contextmanager
def _official_errors(not_found: str | None = None) -> Generator[None]:
    """The texts of these errors are the official ones, but apps expect no class of ours.

    Args:
        not_found: id of an instance, for operations that quote it when there is none.
    """
    try:
        yield
    except InstanceNotFoundError as error:
        raise DurableClientError(
            str(error) if not_found is None else f"No instance with ID '{not_found}' found."
        ) from error
    except (
        InstanceExistsError,
        InstanceFinishedError,
        InstanceNotFailedError,
        InvalidInstanceIdError,
        UnknownFunctionError,
    ) as error:
        raise DurableClientError(str(error)) from error


def _query(
    created_time_from: datetime | None,
    created_time_to: datetime | None,
    runtime_status: StatusFilter | None,
    instance_id_prefix: str | None,
) -> InstanceQuery:
    return InstanceQuery(
        statuses=_statuses(runtime_status),
        created_from=utc_time(created_time_from),
        created_to=utc_time(created_time_to),
        prefix=instance_id_prefix or None,
        limit=_PAGE_SIZE,
    )


def _statuses(filter: StatusFilter | None) -> frozenset[RuntimeStatus] | None:
    if filter is None:
        return None
    asked = (filter,) if isinstance(filter, OrchestrationRuntimeStatus | str) else filter
    names = {OrchestrationRuntimeStatus(each).value for each in asked}
    # Of the official statuses, instances here are never in two: then there is nothing to find.
    return frozenset(each for each in RuntimeStatus if each.value in names) if names else None


def _status(instance: Instance, history: list[dict[str, Any]] | None) -> DurableOrchestrationStatus:
    view = status_view(instance, show_input=True, history=history)
    return DurableOrchestrationStatus.from_json(
        {**view, "createdTime": instance.created_at, "lastUpdatedTime": instance.updated_at}
    )


def _entity_status(entity: Instance, include_state: bool) -> DurableEntityStatus:
    state = None if entity.entity is None else entity.entity.state
    lock = None if entity.entity is None else entity.entity.lock
    return DurableEntityStatus(
        EntityId.get_entity_id(entity.instance_id),
        entity.updated_at,
        state is not None,
        json_value(state) if include_state else None,
        None if lock is None else lock.instance_id,
    )


def _milliseconds(milliseconds: float | timedelta, other: timedelta | float | None) -> float:
    if other is not None:
        return other / timedelta(milliseconds=1) if isinstance(other, timedelta) else other * 1000
    return milliseconds / timedelta(milliseconds=1) if isinstance(milliseconds, timedelta) else milliseconds


def _response(body: str, status_code: int, headers: dict[str, str]) -> func.HttpResponse:
    return func.HttpResponse(body, status_code=status_code, headers=headers)
