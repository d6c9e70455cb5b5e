"""A task hub that another process runs, reached through the address that a client binding names.

Rule 1: requests are those of SDK 1.x, so that the official host understands them; what only perdure's own has is
        refused before anything is sent.
Rule 2: the standard library does it, on a thread: the app's environment need have nothing for it.

Source: `DurableOrchestrationClient` of SDK 1.x.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, cast
from urllib.parse import quote, urlencode

from azure.durable_functions.client_bindings import DurableOrchestrationBindings
from azure.durable_functions.client_error import DurableClientError
from azure.durable_functions.constants import DATETIME_STRING_FORMAT
from azure.durable_functions.later import not_there
from azure.durable_functions.options import EntityId
from azure.durable_functions.status import DurableOrchestrationStatus, utc_time
from msgspec import Struct

from perdure.core.records import (
    EntityQuery,
    EntityState,
    HistoryRow,
    Instance,
    InstancePage,
    InstanceQuery,
    RuntimeStatus,
    StartPolicy,
)
from perdure.errors import InstanceFinishedError, InstanceNotFoundError

ANSWER_TIMEOUT_S = 240.0  # the official client's

# How long to sleep between two looks at an instance: soon at first, because most end at once.
_FIRST_LOOK_S, _LOOKS_EVERY_S = 0.05, 1.0

_TOKEN_HEADER = "x-ms-continuation-token"

# Statuses of the official host in which instances here never are.
_OTHER_STATUSES = {"ContinuedAsNew": RuntimeStatus.RUNNING, "Canceled": RuntimeStatus.TERMINATED}

_NEVER = datetime.min.replace(tzinfo=UTC)


class _Answer(Struct, frozen=True):
    """Status code, decoded body (None if there is none) and the token of the next page, or an empty text."""

    status: int
    body: Any
    token: str


class HttpTaskHub:
    """A task hub behind HTTP, with the operations that the client needs.

    Args:
        binding: where it is.
        invocation_id: id of the function's invocation, for the host's log; None if it is not known.
    """

    def __init__(self, binding: DurableOrchestrationBindings, invocation_id: str | None) -> None:
        self._base = binding.rpc_base_url
        self._is_perdures = binding.is_perdures
        self._invocation_id = invocation_id
        # Without proxies: a proxy of the environment would be asked for our own loopback.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    # ------------------------------------------------------------------ start

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
        """Start an orchestration and return its instance id; `input` is JSON text.

        Raises:
            DurableClientError: the host refuses it.
            NotImplementedError: it is the official host, and has no such option.
        """
        self._require({"start_at": start_at, "tags": tags, "policy": policy, "request_id": request_id})
        answer = await self._post(
            f"orchestrators/{_part(name)}" + (f"/{_part(instance_id)}" if instance_id else ""),
            {
                "version": version,
                "startAt": None if start_at is None else start_at.isoformat(),
                "tags": None if tags is None else json.dumps(dict(tags)),
                "policy": None if policy is None else policy.value,
            },
            _twice(input),
            request_id,
        )
        if answer.status <= 202 and answer.body:
            return answer.body["id"]
        raise DurableClientError(_sentence(answer))

    async def restart(self, instance_id: str, *, new_instance_id: bool = True, request_id: str | None = None) -> str:
        """Start an orchestration anew with the input of an instance; returns the new one's id."""
        self._require({"request_id": request_id})
        query = {"restartWithNewInstanceId": str(new_instance_id).lower()}
        answer = await self._post(_instance(instance_id, "restart"), query, None, request_id)
        if answer.status == 404:
            raise InstanceNotFoundError(instance_id)
        if answer.status not in (202, 410):
            _unexpected(answer)
        body: Any = answer.body
        return cast("dict[str, Any]", body).get("id") or instance_id if isinstance(body, dict) else instance_id

    # ------------------------------------------------------------------ watch

    async def status(
        self, instance_id: str, *, show_history: bool, show_output: bool, show_input: bool
    ) -> DurableOrchestrationStatus:
        """The status of an instance as the host shows it; false if there is none."""
        shown = {"showInput": show_input, "showHistory": show_history, "showHistoryOutput": show_output}
        flags = {name: "True" for name, is_shown in shown.items() if is_shown}
        answer = await self._ask("GET", _instance(instance_id), flags)
        if answer.status not in (200, 202, 400, 404, 500):
            _unexpected(answer)
        return DurableOrchestrationStatus.from_json("" if answer.body is None else answer.body)

    async def get(self, instance_id: str) -> Instance | None:
        """The instance, or None if there is none."""
        answer = await self._ask("GET", _instance(instance_id), {"showInput": "True"})
        if answer.status == 404:
            return None
        if answer.status not in (200, 202, 500):
            _unexpected(answer)
        return _instance_of(answer.body)

    async def instances(self, query: InstanceQuery) -> AsyncIterator[Instance]:
        """All instances that fit."""
        asked = {**_filters(query), "top": str(query.limit)}
        async for page in self._pages("instances/", asked):
            for each in page:
                yield _instance_of(each)

    async def count(self, query: InstanceQuery) -> dict[RuntimeStatus, int]:
        """How many instances fit, by status; the official host counts none, so that they are listed for it."""
        counts: dict[RuntimeStatus, int] = {}
        async for each in self.instances(query):
            counts[each.status] = counts.get(each.status, 0) + 1
        return counts

    async def history(self, instance_id: str) -> Sequence[HistoryRow]:
        """Not to be had: the host shows its history only with a status, and in another form."""
        raise not_there(f"the stored history of '{instance_id}'")

    async def wait(self, instance_id: str, timeout: timedelta | None = None) -> Instance:
        """The instance once it has ended, or as it is after `timeout`.

        Raises:
            InstanceNotFoundError: there is none.
        """
        loop = asyncio.get_running_loop()
        ends_at = None if timeout is None else loop.time() + timeout.total_seconds()
        pause = _FIRST_LOOK_S
        while True:
            instance = await self.get(instance_id)
            if instance is None:
                raise InstanceNotFoundError(instance_id)
            left = pause if ends_at is None else ends_at - loop.time()
            if instance.status.is_terminal or left <= 0:
                return instance
            await asyncio.sleep(min(pause, left))
            pause = min(2 * pause, _LOOKS_EVERY_S)

    # ------------------------------------------------------------------ steer

    async def raise_event(
        self, instance_id: str, name: str, data: str | None = None, *, request_id: str | None = None
    ) -> None:
        """Send an external event; `data` is JSON text.

        Orchestrators get from it what they get under perdure: the data itself. SDK 1.x would encode it twice, so that
        they got a text.
        """
        self._require({"request_id": request_id})
        text = "null" if data is None else data
        body = _twice(text) if self._is_perdures else text  # perdure's host takes every value of this mount for double
        answer = await self._post(_instance(instance_id, "raiseEvent", name), {}, body, request_id)
        match answer.status:
            case 202:
                return
            case 404:
                raise InstanceNotFoundError(instance_id)
            case 410:
                raise InstanceFinishedError(instance_id, "gone")
            case 400:
                raise DurableClientError("Only application/json request content is supported")
            case status:
                raise DurableClientError(f"Webhook returned unrecognized status code {status}")

    async def terminate(self, instance_id: str, reason: str | None = None, *, recursive: bool = False) -> None:
        """End an instance."""
        self._require({"recursive": recursive or None})
        await self._steer(instance_id, "terminate", reason, {"recursive": "true" if recursive else None})

    async def suspend(self, instance_id: str, reason: str | None = None) -> None:
        """Halt an instance."""
        await self._steer(instance_id, "suspend", reason, {})

    async def resume(self, instance_id: str, reason: str | None = None) -> None:
        """Let a suspended instance go on."""
        await self._steer(instance_id, "resume", reason, {})

    async def _steer(
        self, instance_id: str, operation: str, reason: str | None, query: Mapping[str, str | None]
    ) -> None:
        answer = await self._post(_instance(instance_id, operation), {"reason": reason, **query}, None)
        if answer.status == 404:
            raise InstanceNotFoundError(instance_id)
        if answer.status == 410:
            raise InstanceFinishedError(instance_id, "gone")
        if answer.status != 202:
            _unexpected(answer)

    async def rewind(self, instance_id: str, reason: str | None = None) -> None:
        """Let a failed instance try again from where it failed."""
        answer = await self._post(_instance(instance_id, "rewind"), {"reason": reason}, None)
        match answer.status:
            case 200 | 202:
                return
            case 404:
                raise InstanceNotFoundError(instance_id)
            case 410:
                raise DurableClientError("The rewind operation is only supported on failed orchestration instances.")
            case _ if isinstance(answer.body, str):
                raise DurableClientError(answer.body)
            case status:
                raise DurableClientError(
                    f"Received unexpected payload from the durable-extension: {[status, answer.body]}"
                )

    # ------------------------------------------------------------------ purge

    async def purge(self, instance_id: str, *, recursive: bool = False) -> int:
        """Remove an instance that has ended; returns how many were removed."""
        self._require({"recursive": recursive or None})
        return _purged(await self._ask("DELETE", _instance(instance_id), _recursive(recursive)))

    async def purge_by(self, query: InstanceQuery, *, recursive: bool = False) -> int:
        """Remove the instances that have ended and fit; returns how many were removed."""
        self._require({"recursive": recursive or None})
        return _purged(await self._ask("DELETE", "instances/", {**_filters(query), **_recursive(recursive)}))

    # ------------------------------------------------------------------ entities

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
        self._require({"scheduled_time": deliver_at, "request_id": request_id})
        query = {"op": operation, "scheduledTime": None if deliver_at is None else deliver_at.isoformat()}
        answer = await self._post(_entity(entity_id), query, _twice(input), request_id)
        if answer.status != 202:
            _unexpected(answer)

    async def entity(self, entity_id: str) -> Instance | None:
        """The entity, or None if it has no state."""
        answer = await self._ask("GET", _entity(entity_id), {})
        if answer.status == 404:
            return None
        if answer.status != 200:
            _unexpected(answer)
        return _entity_instance(entity_id, _NEVER, answer.body)

    async def entities(self, query: EntityQuery) -> InstancePage:
        """One page of entities."""
        _, name, prefix = (*query.prefix.split("@", 2), "", "")[:3]
        asked = {
            "fetchState": "true",
            "top": str(query.limit),
            "lastOperationTimeFrom": _time_text(query.updated_from),
            "lastOperationTimeTo": _time_text(query.updated_to),
        }
        answer = await self._ask("GET", f"entities/{_part(name)}" if name else "entities/", asked, query.after or "")
        if answer.status != 200:
            _unexpected(answer)
        found: list[Instance] = []
        for each in cast("list[dict[str, Any]]", answer.body or []):
            entity_id = each["entityId"]
            if entity_id["key"].startswith(prefix):
                time = utc_time(each.get("lastOperationTime")) or _NEVER
                found.append(_entity_instance(f"@{entity_id['name']}@{entity_id['key']}", time, each.get("state")))
        return InstancePage(tuple(found), answer.token or None)

    async def clean_entities(self) -> tuple[int, int]:
        """Free entities that nobody holds; returns how many were removed, and how many locks released."""
        self._require({"clean_entity_storage": True})
        answer = await self._post("cleanEntityStorage", {}, None)
        if answer.status != 200:
            _unexpected(answer)
        return answer.body["emptyEntitiesRemoved"], answer.body["orphanedLocksReleased"]

    # ------------------------------------------------------------------ requests

    def _require(self, options: Mapping[str, Any]) -> None:
        """Refuse options that the official host would not see, and quietly do something else."""
        used = [name for name, value in options.items() if value is not None]
        if used and not self._is_perdures:
            raise not_there(", ".join(used))

    async def _pages(self, path: str, query: Mapping[str, str | None]) -> AsyncIterator[list[dict[str, Any]]]:
        token = ""
        while True:
            answer = await self._ask("GET", path, query, token)
            if answer.status != 200:
                _unexpected(answer)
            yield answer.body or []
            token = answer.token
            if not token or token == "null":
                return

    async def _post(
        self, path: str, query: Mapping[str, str | None], body: str | None, request_id: str | None = None
    ) -> _Answer:
        headers = {} if body is None else {"Content-Type": "application/json"}
        if self._invocation_id is not None:
            headers["X-Azure-Functions-InvocationId"] = self._invocation_id
        if request_id is not None:
            headers["Idempotency-Key"] = quote(request_id, safe=" ")
        return await asyncio.to_thread(self._answer, "POST", path, query, body or "", headers)

    async def _ask(self, verb: str, path: str, query: Mapping[str, str | None], token: str = "") -> _Answer:
        headers = {_TOKEN_HEADER: token} if token else {}
        return await asyncio.to_thread(self._answer, verb, path, query, None, headers)

    def _answer(
        self, verb: str, path: str, query: Mapping[str, str | None], body: str | None, headers: Mapping[str, str]
    ) -> _Answer:
        if self._base is None:
            raise ValueError("orchestration bindings has not RPC base url")
        given = urlencode({name: value for name, value in query.items() if value is not None}, quote_via=quote)
        url = f"{self._base}{path}" + (f"?{given}" if given else "")
        data = None if body is None else body.encode()
        request = urllib.request.Request(url, data, dict(headers), method=verb)
        if data == b"":
            request.add_header("Content-Type", "application/octet-stream")
        try:
            with self._open(request) as answer:
                text = answer.read()
                return _Answer(answer.status, json.loads(text) if text else None, answer.headers.get(_TOKEN_HEADER, ""))
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionError(f"The host of the task hub does not answer: {error}") from error

    def _open(self, request: urllib.request.Request) -> Any:
        """The answer, also when its code says that something is wrong."""
        try:
            return self._opener.open(request, timeout=ANSWER_TIMEOUT_S)
        except urllib.error.HTTPError as error:
            return error


def _part(text: str) -> str:
    return quote(text, safe="")


def _instance(instance_id: str, *operation: str) -> str:
    return "/".join(["instances", _part(instance_id), *map(_part, operation)])


def _entity(entity_id: str) -> str:
    entity = EntityId.get_entity_id(entity_id)
    return f"entities/{_part(entity.name)}/{_part(entity.key) or '$'}"


def _twice(text: str | None) -> str | None:
    """JSON text as a JSON string: then what kind of value it is is never a guess."""
    return None if text is None else json.dumps(text)


def _recursive(recursive: bool) -> dict[str, str | None]:
    return {"recursive": "true" if recursive else None}


def _time_text(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).strftime(DATETIME_STRING_FORMAT)


def _filters(query: InstanceQuery) -> dict[str, str | None]:
    statuses = None if query.statuses is None else ",".join(sorted(query.statuses))
    return {
        "createdTimeFrom": _time_text(query.created_from),
        "createdTimeTo": _time_text(query.created_to),
        "instanceIdPrefix": query.prefix,
        "runtimeStatus": statuses,
    }


def _purged(answer: _Answer) -> int:
    if answer.status == 404:
        return 0
    if answer.status != 200:
        _unexpected(answer)
    return answer.body["instancesDeleted"]


def _instance_of(view: dict[str, Any]) -> Instance:
    """A status of the management API as the row that it was made from, as far as it shows that."""
    status = view["runtimeStatus"]
    return Instance(
        view["instanceId"],
        "",
        view.get("name") or "",
        _OTHER_STATUSES.get(status) or RuntimeStatus(status),
        utc_time(view["createdTime"]) or _NEVER,
        utc_time(view["lastUpdatedTime"]) or _NEVER,
        "",
        _text(view.get("input")),
        _text(view.get("output")),
        _text(view.get("customStatus")),
    )


def _entity_instance(entity_id: str, time: datetime, state: Any) -> Instance:
    name = entity_id.split("@", 2)[1]
    return Instance(
        entity_id, "", name, RuntimeStatus.RUNNING, time, time, "", entity=EntityState(json.dumps(state))
    )  # fmt: skip


def _text(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def _sentence(answer: _Answer) -> str:
    """What an answer that refuses a start says about it."""
    body: Any = answer.body
    members = cast("dict[str, Any]", body) if isinstance(body, dict) else {}
    said = members.get("ExceptionMessage") or members.get("Message")
    text = body if isinstance(body, str) else json.dumps(body) if body else ""
    return str(said or text or f"The operation failed with an unexpected status code {answer.status}")


def _unexpected(answer: _Answer) -> NoReturn:
    raise DurableClientError(f"The operation failed with an unexpected status code {answer.status}")
