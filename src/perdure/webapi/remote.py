"""A task hub that another process runs, through the management API of that host."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, cast
from urllib.parse import quote, urlencode

from msgspec import Struct

from perdure.core.events import (
    EntityOperation,
    EventRaised,
    ExecutionResumed,
    ExecutionRewound,
    ExecutionSuspended,
    ExecutionTerminated,
)
from perdure.core.records import Message, RuntimeStatus, StartPolicy
from perdure.engine.client import TaskHubClient
from perdure.engine.engine import Engine
from perdure.engine.requests import Operation, Purge, Send
from perdure.errors import (
    HostStoppedError,
    InstanceExistsError,
    InvalidInstanceIdError,
    StoreUnavailableError,
    UnknownFunctionError,
)
from perdure.webapi.links import BASE_PATH, EMPTY_KEY

# A host that is alive answers within milliseconds, unless the machine is overloaded or a debugger holds it.
ANSWER_TIMEOUT_S = 30.0


class Answer(Struct, frozen=True):
    """What the host said: its status code, the decoded body, and the token of the next page or an empty text."""

    status: int
    body: Any
    token: str

    @property
    def sentence(self) -> str:
        """What an answer that is not the wanted one says about it."""
        body: Any = self.body
        if isinstance(body, str) and body:
            return body
        members = cast("dict[str, Any]", body) if isinstance(body, dict) else {}
        said = members.get("ExceptionMessage") or members.get("Message")
        return str(said or f"The host answered with code {self.status}.")


class ManagementApi:
    """Asks the management API of one host about one task hub.

    Args:
        origin: scheme, host and port.
        hub: name of the task hub.
        key: opens the API of a host that asks for keys, or None.
    """

    def __init__(self, origin: str, hub: str, key: str | None = None) -> None:
        self._base = origin.rstrip("/") + BASE_PATH
        self._hub = hub
        self._key = {} if key is None else {"x-functions-key": key}
        # Without proxies: a proxy of the environment would be asked for our own loopback.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def answers(self) -> bool:
        """Whether the host is there and serves this hub; its note about itself outlives a `kill -9`."""
        try:
            return self.ask("GET", "instances", {"top": "1", "showInput": "false"}).status == 200
        except HostStoppedError:
            return False

    def ask(
        self,
        verb: str,
        path: str,
        query: Mapping[str, str],
        body: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """The answer to one request, whatever its status code.

        Args:
            path: below the API's own, escaped.
            body: JSON text.

        Raises:
            HostStoppedError: nobody answers, or not a host of ours.
        """
        url = f"{self._base}/{path}?{urlencode({**query, 'taskHub': self._hub})}"
        request = urllib.request.Request(
            url, method=verb, headers={"Content-Type": "application/json", **self._key, **(headers or {})}
        )
        request.data = None if body is None else body.encode()
        try:
            with self._open(request) as answer:
                text = answer.read()
                token = answer.headers.get("x-ms-continuation-token", "")
                return Answer(answer.status, json.loads(text) if text else None, token)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise HostStoppedError(f"The host at {self._base} does not answer: {error}") from error

    def _open(self, request: urllib.request.Request) -> Any:
        """The answer, also when its code says that something is wrong."""
        try:
            return self._opener.open(request, timeout=ANSWER_TIMEOUT_S)
        except urllib.error.HTTPError as error:
            return error


class RemoteTaskHubClient(TaskHubClient):
    """A client of a task hub that another process runs: it reads from the store, and has the host change it.

    Args:
        engine: on the store, opened for reading only.
        api: the host's.
    """

    def __init__(self, engine: Engine, api: ManagementApi) -> None:
        super().__init__(engine)
        self._api = api

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
        start = self._new_start(
            name, input, instance_id, version, start_at, tags, policy or StartPolicy.REJECT, request_id
        )
        instance = start.instance
        query = {
            "version": instance.version,
            "startAt": None if instance.start_at is None else instance.start_at.isoformat(),
            "tags": None if instance.tags is None else json.dumps(instance.tags),
            "policy": None if policy is None else policy.value,
        }
        path = f"orchestrators/{quote(name, safe='')}/{quote(instance.instance_id, safe='')}"
        answer = await self._ask_host("POST", path, query, input or "", request_id)
        match answer.status:
            case 202:
                return instance.instance_id
            case 409:
                existing = await self.get(instance.instance_id)
                raise InstanceExistsError(instance.instance_id, "unknown" if existing is None else existing.status)
            case _:
                raise _refused(answer, name, "orchestrator")

    async def clean_entities(self) -> tuple[int, int]:
        answer = await self._ask_host("POST", "cleanEntityStorage", {}, None, None)
        if answer.status != 200:
            raise StoreUnavailableError(answer.sentence)
        return answer.body["emptyEntitiesRemoved"], answer.body["orphanedLocksReleased"]

    async def _ask(self, operation: Operation, timeout: timedelta | None = None) -> Any:
        match operation:
            case Send(message=message, may_repeat=may_repeat):
                return await self._send_to_host(message, message.message_id if may_repeat else None)
            case Purge(instance_ids=instance_ids):
                return frozenset([each for each in instance_ids if await self._purge_at_host(each)])
            case _:
                return await super()._ask(operation, timeout)

    async def _send_to_host(self, message: Message, request_id: str | None) -> RuntimeStatus | None:
        """The status in which the instance took the message, or for which it did not; None if there is none."""
        if isinstance(message.event, EntityOperation):
            return await self._signal_at_host(message, message.event, request_id)
        path, query, body = _steering(message)
        answer = await self._ask_host(
            "POST", f"instances/{quote(message.instance_id, safe='')}/{path}", query, body, request_id
        )
        match answer.status:
            case 202:
                is_rewind = isinstance(message.event, ExecutionRewound)
                return RuntimeStatus.FAILED if is_rewind else RuntimeStatus.RUNNING
            case 404:
                return None
            case 410 | 412:
                refused = await self.get(message.instance_id)
                return None if refused is None else refused.status
            case _:
                raise StoreUnavailableError(answer.sentence)

    async def _signal_at_host(
        self, message: Message, operation: EntityOperation, request_id: str | None
    ) -> RuntimeStatus:
        _, name, key = message.instance_id.split("@", 2)
        if key == EMPTY_KEY:
            raise InvalidInstanceIdError(
                f"The key of '{message.instance_id}' stands for the empty key in URLs, so no host can be asked to send "
                "it anything: choose another key, or stop the host and connect to the store."
            )
        query = {
            "op": operation.operation,
            "scheduledTime": None if message.deliver_at is None else message.deliver_at.isoformat(),
        }
        path = f"entities/{quote(name, safe='')}/{quote(key, safe='') or EMPTY_KEY}"
        answer = await self._ask_host("POST", path, query, operation.input or "", request_id)
        if answer.status != 202:
            raise _refused(answer, name, "entity")
        return RuntimeStatus.RUNNING

    async def _purge_at_host(self, instance_id: str) -> bool:
        answer = await self._ask_host("DELETE", f"instances/{quote(instance_id, safe='')}", {}, None, None)
        if answer.status not in (200, 404, 412):
            raise StoreUnavailableError(answer.sentence)
        return answer.status == 200

    async def _ask_host(
        self, verb: str, path: str, query: Mapping[str, str | None], body: str | None, request_id: str | None
    ) -> Answer:
        given = {name: value for name, value in query.items() if value is not None}
        headers = {} if request_id is None else {"Idempotency-Key": quote(request_id, safe=" ")}
        return await asyncio.to_thread(self._api.ask, verb, path, given, body, headers)


def _refused(answer: Answer, name: str, kind: str) -> Exception:
    """What an answer means that says no to running the function `name`."""
    if answer.status != 400:
        return StoreUnavailableError(answer.sentence)
    if "doesn't exist" not in answer.sentence:
        return ValueError(answer.sentence)
    known = re.findall(r"'([^']*)'", answer.sentence.partition("Additional info:")[2])
    return UnknownFunctionError(name, kind, known)


def _steering(message: Message) -> tuple[str, dict[str, str | None], str]:
    """Path below the instance's, query and body of the request that sends an event."""
    match message.event:
        case EventRaised(name=name, input=data):
            return f"raiseEvent/{quote(name, safe='')}", {}, data or ""
        case ExecutionTerminated(reason=reason, recursive=recursive):
            return "terminate", {"reason": reason, "recursive": str(recursive).lower()}, ""
        case ExecutionSuspended(reason=reason):
            return "suspend", {"reason": reason}, ""
        case ExecutionResumed(reason=reason):
            return "resume", {"reason": reason}, ""
        case ExecutionRewound(reason=reason):
            return "rewind", {"reason": reason}, ""
        case event:
            raise AssertionError(f"no client sends {type(event).__name__}")
