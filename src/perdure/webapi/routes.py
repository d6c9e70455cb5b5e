"""The management API: paths and verbs to `TaskHubClient`, and its answers to status codes, headers and bodies.

Source: HttpApiHandler.cs of the Durable Functions extension. Where it answers with an internal error for what the
caller did (start over a running id), this answers with the code that says so.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote_to_bytes

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from perdure.core.history_view import history_view
from perdure.core.records import Instance, InstanceQuery, RuntimeStatus
from perdure.core.status_view import status_view
from perdure.engine.client import TaskHubClient
from perdure.errors import (
    HostStoppedError,
    InstanceExistsError,
    InstanceFinishedError,
    InstanceNotFoundError,
    InvalidInstanceIdError,
    StoreUnavailableError,
    UnknownFunctionError,
)
from perdure.webapi.links import check_status_payload
from perdure.webapi.payloads import http_error, json_body, json_text, parsed_bool, parsed_seconds, parsed_time

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

BODY_BYTES_MAX = (
    16 * 1024 * 1024
)  # a payload is stored whole and read whole at every replay; larger ones belong in files
PAGE_SIZE = 100  # the official host's default
PAGE_SIZE_MAX = 1000

TOKEN_HEADER = "x-ms-continuation-token"

# Seconds after which a client may ask again: about an instance it just started, and about one it looked at.
RETRY_AFTER_START = "10"
RETRY_AFTER_STATUS = "5"
RETRY_AFTER_FAILURE = "1"

# Numbers and names of the official runtime statuses; instances here are never in one of the others.
_OFFICIAL_STATUSES = {
    "0": "Running",
    "1": "Completed",
    "2": "ContinuedAsNew",
    "3": "Failed",
    "4": "Canceled",
    "5": "Terminated",
    "6": "Pending",
    "7": "Suspended",
}

_PREFIX = re.compile(r"/+runtime/webhooks/durabletask(?:/+|$)", re.IGNORECASE)


def is_management_path(path: str) -> bool:
    """Whether a (decoded) path is the management API's; case does not matter."""
    return _PREFIX.match(path) is not None


def management_app(client: TaskHubClient, hub: str) -> ASGIApp:
    """The management API of one task hub as an ASGI application, to be given whole paths.

    Args:
        client: the hub's.
        hub: its name; requests that name another hub find nothing.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(client, hub, scope, receive)
        try:
            response = await _response(call)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    return app


class Call:
    """One request: what of it the handlers ask for."""

    def __init__(self, client: TaskHubClient, hub: str, scope: Scope, receive: Receive) -> None:
        self.client = client
        self.hub = hub
        self.method: str = scope["method"]
        self.receive = receive
        self._scope = scope
        self._query: dict[str, list[str]] = {}
        for name, value in parse_qsl(scope["query_string"].decode(errors="replace"), keep_blank_values=True):
            self._query.setdefault(name.lower(), []).append(value)

    def path(self) -> list[str]:
        """The segments after the API's prefix, decoded by the rules of forms: `%2F` separates, `+` is a space."""
        raw: bytes = self._scope.get("raw_path") or self._scope["path"].encode()
        path = unquote_to_bytes(raw.replace(b"+", b" ")).decode()
        return _PREFIX.sub("", path, count=1).strip("/").split("/")

    def query(self, name: str) -> str | None:
        """The first value of a query parameter, or None."""
        return self._query[name][0] if name in self._query else None

    def queries(self, name: str) -> list[str]:
        """All values of a query parameter, whether repeated or separated by commas."""
        return [each.strip() for value in self._query.get(name, ()) for each in value.split(",")]

    def header(self, name: str) -> str:
        """The first value of a header, or an empty text."""
        wanted = name.encode()
        return next((value.decode("latin-1") for each, value in self._scope["headers"] if each == wanted), "")

    @property
    def origin(self) -> str:
        """Scheme, host and port as the caller wrote them, so that links work where the caller is."""
        return f"{self._scope['scheme']}://{self.header('host')}"

    @property
    def url(self) -> str:
        """The absolute URL of this request."""
        raw: bytes = self._scope.get("raw_path") or self._scope["path"].encode()
        query: bytes = self._scope["query_string"]
        return self.origin + (raw + b"?" + query if query else raw).decode("latin-1")

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            HTTPException: 413, as soon as it is known to be larger than allowed.
        """
        declared = self.header("content-length")
        if declared.isdecimal() and int(declared[:20]) > BODY_BYTES_MAX:
            raise _too_large()
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > BODY_BYTES_MAX:
                raise _too_large()
            chunks.append(chunk)
            if not message.get("more_body", False):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _response(call: Call) -> Response:
    """The answer to a call; the one place that turns our errors into status codes."""
    try:
        handler, values = _handler(call.method, call.path())
        hub = call.query("taskhub")
        if hub and hub.casefold() != call.hub.casefold():
            return Response(status_code=404)
        return await handler(call, *values)
    except InstanceNotFoundError:
        return Response(status_code=404)
    except InstanceFinishedError:
        return Response(status_code=410)
    except (UnknownFunctionError, InvalidInstanceIdError) as error:
        return _json(http_error(str(error), str(error)), 400)
    except InstanceExistsError as error:
        return _json(http_error(str(error)), 409)
    except (StoreUnavailableError, HostStoppedError) as error:
        return _json(http_error(str(error)), 503, {"Retry-After": RETRY_AFTER_FAILURE})
    except HTTPException as error:
        return _json(http_error(error.detail), error.status_code) if error.detail else Response(status_code=404)
    except UnicodeDecodeError:
        return _json(http_error("The path is not valid UTF-8."), 400)


# ---------------------------------------------------------------------- what the official clients do


async def _start(call: Call, name: str, instance_id: str = "") -> Response:
    timeout = parsed_seconds(call.query("timeout"))
    interval = parsed_seconds(call.query("pollinginterval"))
    if timeout is not None and interval is not None and interval > timeout:
        sentence = f"Total timeout {timeout:g} should be bigger than retry timeout {interval:g}"
        return _json(http_error(sentence, sentence), 400)
    try:
        input = json_text(await call.body())
    except ValueError as error:
        return _invalid_json(error)
    instance_id = await call.client.start(name, input, instance_id=instance_id, version=call.query("version") or None)
    if timeout is not None:
        instance = await _wait(call, instance_id, timedelta(seconds=timeout))
        if instance.status is RuntimeStatus.COMPLETED:
            return _json_text(instance.output)
        if instance.status.is_terminal:
            return _json(status_view(instance, show_input=True, history=None), 200)
    payload = check_status_payload(call.origin, call.hub, instance_id)
    return _json(payload, 202, {"Location": payload["statusQueryGetUri"], "Retry-After": RETRY_AFTER_START})


async def _wait(call: Call, instance_id: str, timeout: timedelta) -> Instance:
    """The instance once it has ended, or after `timeout`; given up when the client goes away."""
    ended = asyncio.ensure_future(call.client.wait(instance_id, timeout))
    gone = asyncio.ensure_future(call.receive())  # after the body, the only thing left to receive is its going
    try:
        await asyncio.wait((ended, gone), return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            raise ClientDisconnect
        return ended.result()
    finally:
        ended.cancel()
        gone.cancel()


async def _show(call: Call, instance_id: str) -> Response:
    instance = await _existing(call, instance_id)
    show_input = parsed_bool(call.query("showinput"), True)
    body = status_view(instance, show_input=show_input, history=await _history(call, instance, show_input))
    if not instance.status.is_terminal:
        return _json(body, 202, {"Location": call.url, "Retry-After": RETRY_AFTER_STATUS})
    is_error = instance.status is RuntimeStatus.FAILED and parsed_bool(
        call.query("returninternalservererroronfailure"), False
    )
    return _json(body, 500 if is_error else 200)


async def _history(call: Call, instance: Instance, show_input: bool) -> list[dict[str, Any]] | None:
    if instance.status is RuntimeStatus.PENDING or not parsed_bool(call.query("showhistory"), False):
        return None
    rows = await call.client.history(instance.instance_id)
    events = [event for row in rows for event in row.events]
    show_output = parsed_bool(call.query("showhistoryoutput"), False)
    return history_view(events, show_input=show_input, show_output=show_output)


async def _list(call: Call) -> Response:
    statuses = _statuses(call.queries("runtimestatus"))
    if statuses is not None and not statuses:
        return _json([], 200)
    top = call.query("top") or ""
    query = InstanceQuery(
        statuses=statuses,
        created_from=parsed_time(call.query("createdtimefrom")),
        created_to=parsed_time(call.query("createdtimeto")),
        prefix=call.query("instanceidprefix") or None,
        limit=min(int(top[:9]), PAGE_SIZE_MAX) if top.isdecimal() and int(top[:9]) else PAGE_SIZE,
        after=call.header(TOKEN_HEADER) or None,
    )
    try:
        page = await call.client.list(query)
    except ValueError:
        return _json(http_error(f"The header {TOKEN_HEADER} is none that this server gave."), 400)
    show_input = parsed_bool(call.query("showinput"), True)
    body = [status_view(instance, show_input=show_input, history=None) for instance in page.instances]
    return _json(body, 200, {} if page.after is None else {TOKEN_HEADER: page.after})


async def _raise_event(call: Call, instance_id: str, name: str) -> Response:
    if call.header("content-type").partition(";")[0].strip().lower() != "application/json":
        await _unfinished(call, instance_id)
        return _json(http_error("Only application/json request content is supported"), 400)
    try:
        data = json_text(await call.body())
    except ValueError as error:
        await _unfinished(call, instance_id)
        return _invalid_json(error)
    await call.client.raise_event(instance_id, name, data)
    return Response(status_code=202)


async def _terminate(call: Call, instance_id: str) -> Response:
    await call.client.terminate(instance_id, call.query("reason") or None)
    return Response(status_code=202)


async def _make_primary(call: Call) -> Response:
    return Response()  # there is one region, and this host is it


# ---------------------------------------------------------------------- what is still to come


def _not_yet(feature: str) -> Handler:
    """A handler for a known path whose feature this version does not have."""

    async def handler(call: Call, *_: str) -> Response:
        return _json(http_error(f"{feature} is not supported yet by this version of perdure."), 501)

    return handler


def _not_yet_to(feature: str) -> Handler:
    """The same for what is done to one instance: that there is none is told first."""
    refuse = _not_yet(feature)

    async def handler(call: Call, instance_id: str) -> Response:
        await _existing(call, instance_id)
        return await refuse(call)

    return handler


Handler = Callable[..., Awaitable[Response]]

# The first that fits decides; what fits none, verbs included, is 404. Names in braces are handed to the handler.
ROUTES: Sequence[tuple[str, str, Handler]] = (
    ("POST", "orchestrators/{functionName}", _start),
    ("POST", "orchestrators/{functionName}/{instanceId}", _start),
    ("GET", "entities", _not_yet("Listing entities")),
    ("GET", "entities/{entityName}", _not_yet("Listing entities")),
    ("GET", "entities/{entityName}/{entityKey}", _not_yet("Reading an entity")),
    ("POST", "entities/{entityName}", _not_yet("Signalling an entity")),
    ("POST", "entities/{entityName}/{entityKey}", _not_yet("Signalling an entity")),
    ("DELETE", "entities/{entityName}", _not_yet("Deleting an entity")),
    ("DELETE", "entities/{entityName}/{entityKey}", _not_yet("Deleting an entity")),
    ("GET", "instances", _list),
    ("DELETE", "instances", _not_yet("Purging instances")),
    ("GET", "instances/{instanceId}", _show),
    ("DELETE", "instances/{instanceId}", _not_yet_to("Purging an instance")),
    ("POST", "instances/{instanceId}/terminate", _terminate),
    ("POST", "instances/{instanceId}/suspend", _not_yet_to("Suspending an instance")),
    ("POST", "instances/{instanceId}/resume", _not_yet_to("Resuming an instance")),
    ("POST", "instances/{instanceId}/rewind", _not_yet_to("Rewinding an instance")),
    ("POST", "instances/{instanceId}/restart", _not_yet_to("Restarting an instance")),
    ("POST", "instances/{instanceId}/raiseEvent/{eventName}", _raise_event),
    ("GET", "makeprimary", _make_primary),
    ("PUT", "makeprimary", _make_primary),
    ("POST", "makeprimary", _make_primary),
    ("DELETE", "makeprimary", _make_primary),
)


def _compiled() -> dict[tuple[str, int], list[tuple[tuple[str | None, ...], Handler]]]:
    """The routes by verb and number of segments; None stands for a segment that may be anything."""
    table: dict[tuple[str, int], list[tuple[tuple[str | None, ...], Handler]]] = {}
    for verb, template, handler in ROUTES:
        parts = tuple(None if part.startswith("{") else part.lower() for part in template.split("/"))
        table.setdefault((verb, len(parts)), []).append((parts, handler))
    return table


_TABLE = _compiled()


def _handler(verb: str, segments: list[str]) -> tuple[Handler, list[str]]:
    """Who answers, and the variable segments.

    Raises:
        HTTPException: 404, nobody.
    """
    lowered = [segment.lower() for segment in segments]
    for parts, handler in _TABLE.get((verb, len(segments)), ()):
        if all(given if part is None else part == given for part, given in zip(parts, lowered, strict=True)):
            return handler, [segment for part, segment in zip(parts, segments, strict=True) if part is None]
    raise HTTPException(404, detail="")


async def _existing(call: Call, instance_id: str) -> Instance:
    instance = await call.client.get(instance_id)
    if instance is None:
        raise InstanceNotFoundError(instance_id)
    return instance


async def _unfinished(call: Call, instance_id: str) -> None:
    """A missing or finished instance is told before what is wrong with the request."""
    instance = await _existing(call, instance_id)
    if instance.status.is_terminal:
        raise InstanceFinishedError(instance_id, instance.status)


def _statuses(names: list[str]) -> frozenset[RuntimeStatus] | None:
    """The statuses to filter by, possibly none that any instance can have; None if no name is known at all."""
    official = {_OFFICIAL_STATUSES.get(name, name) for name in names} & set(_OFFICIAL_STATUSES.values())
    return frozenset(each for each in RuntimeStatus if each.value in official) if official else None


def _too_large() -> HTTPException:
    return HTTPException(413, detail=f"The request body is larger than {BODY_BYTES_MAX // 1024 // 1024} MB.")


def _invalid_json(error: ValueError) -> Response:
    body = http_error("Invalid JSON content", str(error)) | {"ExceptionType": type(error).__name__}
    return _json(body, 400)


def _json(value: Any, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(json_body(value), status, headers, "application/json; charset=utf-8")


def _json_text(text: str | None) -> Response:
    """An output as the body of its own: it is JSON text already."""
    return Response("null" if text is None else text, 200, None, "application/json; charset=utf-8")
