"""The host's own endpoints: is it there, is it ready. Source: HostController.cs of the Functions host."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_OWN = re.compile(r"/+(admin|runtime/webhooks)(/|$)", re.IGNORECASE)


def is_host_path(path: str) -> bool:
    """Whether a path belongs to the host, and no function of the app can have it."""
    return _OWN.match(path) is not None


def admin_app(status: Callable[[], dict[str, object]]) -> ASGIApp:
    """`/admin/host/status` and `/admin/host/ping`; every other path of the host's is 404."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = _response(scope["method"], scope["path"].strip("/").casefold(), status)
        await response(scope, receive, send)

    return app


def _response(method: str, path: str, status: Callable[[], dict[str, object]]) -> Response:
    match method, path:
        case ("GET" | "HEAD", "admin/host/status"):
            return JSONResponse(status())
        case ("GET" | "HEAD" | "POST", "admin/host/ping"):
            return Response(status_code=200)
        case _:
            return Response(status_code=404)
