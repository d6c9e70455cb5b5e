"""The management API: which handler a path and a verb lead to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from perdure.webapi.answers import empty, failed
from perdure.webapi.call import Call, is_management_path
from perdure.webapi.entities import clean_entities, delete_entity, list_entities, show_entity, signal_entity
from perdure.webapi.orchestrations import (
    list_instances,
    purge,
    purge_by,
    raise_event,
    restart,
    resume,
    rewind,
    show,
    start,
    suspend,
    terminate,
)

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from perdure.engine.client import TaskHubClient
    from perdure.webapi.access import ManagementAccess

__all__ = ["ROUTES", "is_management_path", "management_app"]


def management_app(
    client: TaskHubClient,
    hub: str,
    access: ManagementAccess | None = None,
    *,
    serves_rpc: bool = True,
    keeps_event_text: bool = False,
) -> ASGIApp:
    """The management API of one task hub as an ASGI application, to be given whole paths below either mount.

    The local mount trusts whoever calls: `Guard` has to stand in front.

    Args:
        client: the hub's.
        hub: its name; requests that name another hub find nothing.
        access: judges callers; None to answer all.
        serves_rpc: whether the local mount answers, too.
        keeps_event_text: whether orchestrators expect the data of events as the text that SDK 1.x makes of it.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(client, hub, access, scope, receive, keeps_event_text=keeps_event_text)
        try:
            response = await _response(call) if serves_rpc or not call.is_rpc else empty(404)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    return app


async def _response(call: Call) -> Response:
    """The answer to a call; the one place that turns errors into status codes."""
    try:
        if not call.admit():
            return empty(401)
        handler, values = _handler(call.method, call.path())
        hub = call.query("taskhub")
        if hub and hub.casefold() != call.hub.casefold():
            return empty(404)
        return await handler(call, *values)
    except ClientDisconnect:
        raise
    except Exception as error:  # clients expect the official body for a defect of ours too, and the log gets it whole
        return failed(error)


async def _make_primary(call: Call) -> Response:
    return empty(200)  # there is one region, and this host is it


Handler = Callable[..., Awaitable[Response]]

# The first that fits decides; what fits none, verbs included, is 404. Names in braces are handed to the handler.
ROUTES: Sequence[tuple[str, str, Handler]] = (
    ("POST", "orchestrators/{functionName}", start),
    ("POST", "orchestrators/{functionName}/{instanceId}", start),
    ("GET", "entities", list_entities),
    ("GET", "entities/{entityName}", list_entities),
    ("GET", "entities/{entityName}/{entityKey}", show_entity),
    ("POST", "entities/{entityName}", signal_entity),
    ("POST", "entities/{entityName}/{entityKey}", signal_entity),
    ("DELETE", "entities/{entityName}", delete_entity),
    ("DELETE", "entities/{entityName}/{entityKey}", delete_entity),
    ("POST", "cleanEntityStorage", clean_entities),
    ("GET", "instances", list_instances),
    ("DELETE", "instances", purge_by),
    ("GET", "instances/{instanceId}", show),
    ("DELETE", "instances/{instanceId}", purge),
    ("POST", "instances/{instanceId}/terminate", terminate),
    ("POST", "instances/{instanceId}/suspend", suspend),
    ("POST", "instances/{instanceId}/resume", resume),
    ("POST", "instances/{instanceId}/rewind", rewind),
    ("POST", "instances/{instanceId}/restart", restart),
    ("POST", "instances/{instanceId}/raiseEvent/{eventName}", raise_event),
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
    raise HTTPException(404, "")
