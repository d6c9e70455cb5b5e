"""Functions behind HTTP triggers, as one ASGI application.

Source: the Functions host for paths, methods and status codes; the Python worker for requests and results.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import azure.functions as func
from azure.durable_functions.client import DurableOrchestrationClient
from azure.functions.http import HttpRequest
from starlette.types import Receive, Scope, Send

from perdure.core.failures import text_of
from perdure.errors import HostStoppedError
from perdure.host.bindings import InvocationContext
from perdure.host.functions import HttpFunction, client_for
from perdure.host.routing import Match, Route, Router, matchable_path
from perdure.host.tracebacks import users_traceback
from perdure.host.user_code import Invocation, UserCode, UserCodeExit

log = logging.getLogger("perdure.host")

BODY_BYTES_MAX = 100 * 1024 * 1024  # the official host's limit

PLAIN_TEXT = b"text/plain; charset=utf-8"

# Statuses whose responses have no body, so no length either.
_BODILESS = frozenset({204, 304})

HOME_PAGE = b"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>perdure</title></head>
<body><h1>Your Durable Functions app is up and running</h1>
<p>perdure serves it. Its functions are listed in the terminal; instances are at
<a href="/runtime/webhooks/durabletask/instances">/runtime/webhooks/durabletask/instances</a>.</p></body></html>
"""

ClientFor = Callable[[str], DurableOrchestrationClient]
"""Makes a durable client whose links begin with the given origin."""

Headers = Sequence[tuple[bytes, bytes]]


class HttpTriggers:
    """Answers requests by calling the app's functions; what none of them answers is 404.

    Args:
        client_for: makes the durable client that a function asks for.
        directory: the app folder, which contexts name.
        body_bytes_max: a longer request body is refused with 413.
        has_home_page: whether `/` shows a page if no function answers it.
    """

    def __init__(
        self,
        functions: Iterable[HttpFunction],
        user_code: UserCode,
        client_for: ClientFor,
        *,
        directory: str,
        body_bytes_max: int = BODY_BYTES_MAX,
        has_home_page: bool = True,
    ) -> None:
        routes = [
            Route(each.name, each.template, None if each.methods is None else frozenset(each.methods), each)
            for each in functions
        ]
        self.router = Router(routes)
        self._user_code = user_code
        self._client_for = client_for
        self._directory = directory
        self._body_bytes_max = body_bytes_max
        self._has_home_page = has_home_page
        self._told: set[tuple[str, str]] = set()

    def clashes(self) -> list[str]:
        """A sentence for each pair of functions of which one can never be called for some method."""
        return [
            f"{second.name} and {first.name} have the same route /{first.template.text}: {first.name} answers"
            for first, second in self.router.clashes()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method: str = scope["method"]
        path = matchable_path((scope.get("raw_path") or scope["path"].encode()).decode("latin-1"))
        match = self.router.find(method, path)
        if match is None:
            await self._answer_without_function(method, path, send)
            return
        self._tell_original(match)
        body = await _body(scope, receive, self._body_bytes_max)
        if body is None:
            await _send(send, 413, [], b"")
            return
        status, headers, content = await self._call(match, scope, body)
        await _send(send, status, headers, content)

    async def _answer_without_function(self, method: str, path: str, send: Send) -> None:
        methods = self.router.methods_at(path)
        if methods:
            log.warning("/%s answers to %s, not to %s", path, ",".join(methods), method)
        if path or method not in ("GET", "HEAD"):
            await _send(send, 404, [], b"")
        elif self._has_home_page:
            await _send(send, 200, [(b"content-type", b"text/html; charset=utf-8")], HOME_PAGE)
        else:
            await _send(send, 204, [], b"")

    def _tell_original(self, match: Match[HttpFunction]) -> None:
        if match.original is None or (match.route.name, match.original) in self._told:
            return
        self._told.add((match.route.name, match.original))
        log.warning(
            "/%s: %s answers because its route is more specific; on Azure %s would, whose name comes first",
            match.route.template.text,
            match.route.name,
            match.original,
        )

    async def _call(self, match: Match[HttpFunction], scope: Scope, body: bytes) -> tuple[int, Headers, bytes]:
        """Status, headers and body of the answer; whatever goes wrong in the function is a 500 without a body."""
        function = match.route.target
        request, origin = _request(scope, match.values, body)
        kwargs: dict[str, Any] = {function.request_name: request}
        kwargs |= {
            name: client_for(function.function, partial(self._client_for, origin)) for name in function.client_names
        }
        out = _Out()
        if function.response_name is not None:
            kwargs[function.response_name] = out
        if function.wants_context:
            kwargs["context"] = InvocationContext(function.name, self._directory, request.headers)
        try:
            result = await self._user_code.call(function.function, kwargs, Invocation(function.name))
            return _encoded(_result(function, result, out))
        except HostStoppedError:
            log.warning("the host stopped before the function could answer", extra={"function": function.name})
            return 503, [], b""
        except Exception as error:  # user code: the request fails, the host goes on
            what = str(error) if isinstance(error, UserCodeExit) else f"{type(error).__name__}: {text_of(error)}"
            extra = {"function": function.name, "traceback": users_traceback(error)}
            log.error("function failed: %s", what, extra=extra)
            return 500, [], b""


class _Out(func.Out[Any]):
    """Takes what a function sets instead of returning it."""

    def __init__(self) -> None:
        self._value: Any = None

    def set(self, val: Any) -> None:
        self._value = val

    def get(self) -> Any:
        return self._value


def _request(scope: Scope, route_params: dict[str, str], body: bytes) -> tuple[HttpRequest, str]:
    """The request as functions see it, and the origin that the caller used."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    params: dict[str, str] = {}
    query: bytes = scope["query_string"]
    for name, value in parse_qsl(query.decode("utf-8", "replace"), keep_blank_values=True):
        params[name] = f"{params[name]},{value}" if name in params else value
    origin = f"{scope['scheme']}://{headers.get('host', 'localhost')}"
    raw_path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
    url = f"{origin}{raw_path}{'?' if query else ''}{query.decode('latin-1')}"
    request = HttpRequest(
        scope["method"],
        url,
        headers=headers,
        params=params,
        route_params=route_params,
        body_type="bytes",
        body=body,
    )
    return request, origin


async def _body(scope: Scope, receive: Receive, limit: int) -> bytes | None:
    """The whole body, or None as soon as it is known to be longer than `limit` bytes."""
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if declared.isdigit() and int(declared) > limit:
        return None
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            break  # the client has gone; nobody will read the answer, but the function may have to run
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            return None
        chunks.append(chunk)
        if not message.get("more_body"):
            break
    return b"".join(chunks)


def _result(function: HttpFunction, result: Any, out: _Out) -> Any:
    """What the function answers, whichever way it says it."""
    if function.response_name is None:
        return result
    if result is not None:
        raise RuntimeError(f"function '{function.name}' without a $return binding returned a non-None value")
    value = out.get()
    return func.HttpResponse() if value is None else value


def _encoded(result: Any) -> tuple[int, Headers, bytes]:
    if isinstance(result, str):
        return 200, [(b"content-type", PLAIN_TEXT)], result.encode()
    if not isinstance(result, func.HttpResponse):
        raise TypeError(
            f'unable to encode outgoing TypedData: unsupported type "HttpResponseConverter" for Python type '
            f'"{type(result).__name__}": an HTTP function has to return an azure.functions.HttpResponse or a str'
        )
    headers = [
        (name.lower().encode("latin-1"), str(value).encode("latin-1"))
        for name, value in result.headers.items()
        if name.lower() != "content-length"
    ]
    if not any(name == b"content-type" for name, _ in headers):
        is_text = result.mimetype.startswith("text/")
        content_type = f"{result.mimetype}; charset={result.charset}" if is_text else result.mimetype
        headers.append((b"content-type", content_type.encode("latin-1")))
    return result.status_code, headers, result.get_body()


async def _send(
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]], status: int, headers: Headers, body: bytes
) -> None:
    if status in _BODILESS:
        body = b""
    else:
        headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
