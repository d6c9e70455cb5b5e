"""Functions behind HTTP triggers, as one ASGI application.

Source: the Functions host for paths, methods and status codes; the Python worker for requests and results.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import azure.functions as func
from azure.functions.http import HttpRequest
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from perdure.core.failures import text_of
from perdure.errors import HostStoppedError
from perdure.host.app.functions import HttpFunction
from perdure.host.http.extension import extension_app, put_route_values
from perdure.host.http.request_queue import RequestQueue
from perdure.host.http.routing import Match, Route, Router, matchable_path
from perdure.host.http.web_app import LIFESPAN_ENDS_WITHIN_S, AsgiWebApp, WebApp, extended_scope
from perdure.host.invocation_context import InvocationContext
from perdure.host.tracebacks import users_traceback
from perdure.host.user_code import Invocation, UserCode, UserCodeExit

log = logging.getLogger("perdure.host")

BODY_BYTES_MAX = 100 * 1024 * 1024  # the official host's limit

STOP_WITHIN_S = LIFESPAN_ENDS_WITHIN_S + 1.0

PLAIN_TEXT = b"text/plain; charset=utf-8"

# What the server says about the body by itself.
_FRAMING = frozenset({"content-length", "transfer-encoding"})
_HEADER_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_IN_HEADERS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

# Where a request carries the values of its route to a function of the web extension.
_ROUTE_VALUES = "perdure.route_values"

# Statuses whose responses have no body, so no length either.
_BODILESS = frozenset({204, 304})

HOME_PAGE = b"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>perdure</title></head>
<body><h1>Your Durable Functions app is up and running</h1>
<p>perdure serves it. Its functions are listed in the terminal; instances are at
<a href="/runtime/webhooks/durabletask/instances">/runtime/webhooks/durabletask/instances</a>.</p></body></html>
"""

# The page has no scripts, styles or forms of its own, so it needs to be allowed nothing.
HOME_PAGE_HEADERS = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)

ClientFor = Callable[[str, Callable[..., Any], bool], Any]
"""Makes what a function gets for a client binding, from the origin of the links, and whether it wants that as text."""

MayCall = Callable[[Scope, str, str], bool]
"""Judges a request by the function's name and level."""

Headers = Sequence[tuple[bytes, bytes]]


class HttpTriggers:
    """Answers requests by calling the app's functions; what none of them answers is 404.

    Args:
        client_for: makes what a function gets for a client binding.
        may_call: tells whether a request may call the function of that name and level; other requests are 401.
        queue: admits the requests that some function answers; for one too many it is 429.
        body_bytes_max: a longer request body is refused with 413.
        has_home_page: whether `/` shows a page if no function answers it.
    """

    def __init__(
        self,
        functions: Iterable[HttpFunction],
        user_code: UserCode,
        client_for: ClientFor,
        *,
        may_call: MayCall | None = None,
        queue: RequestQueue | None = None,
        body_bytes_max: int = BODY_BYTES_MAX,
        has_home_page: bool = True,
    ) -> None:
        functions = list(functions)
        routes = [
            Route(each.name, each.template, None if each.methods is None else frozenset(each.methods), each)
            for each in functions
        ]
        self.router = Router(routes)
        self._user_code = user_code
        self._client_for = client_for
        self._may_call = may_call
        self._queue = queue
        self._apps = {each.name: app for each in functions if (app := self._app_of(each)) is not None}
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
        function = match.route.target
        if self._may_call is not None and not self._may_call(scope, function.name, function.level):
            await _send(send, 401, [], b"")
        elif self._queue is None:
            await self._answer(match, scope, receive, send)
        elif self._queue.is_full:
            await _send(send, 429, [], b"")
        else:
            async with self._queue:
                await self._answer(match, scope, receive, send)

    async def stop(self) -> None:
        """Tell the app's web applications that the host stops, and wait for them, for some seconds at most."""
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                for name, app in self._apps.items():
                    await app.stop(self._user_code, name)
        except TimeoutError:
            log.warning("web application cannot end: other code blocks its event loop")

    async def _answer(self, match: Match[HttpFunction], scope: Scope, receive: Receive, send: Send) -> None:
        if _declared_bytes(scope) > self._body_bytes_max:
            await _send(send, 413, [], b"")
            return
        app = self._apps.get(match.route.name)
        if app is not None:
            await self._stream(app, match, scope, _limited(receive, self._body_bytes_max), send)
            return
        body = await _body(receive, self._body_bytes_max)
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
            await _send(send, 200, HOME_PAGE_HEADERS, HOME_PAGE)
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
        headers = _headers(scope)
        origin = _origin(scope, headers)
        request = _request(scope, headers, origin, match.values, body)
        try:
            return _encoded(await self._result(function, request, origin, headers))
        except Exception as error:  # user code: the request fails, the host goes on
            return _failed(function, error), [], b""

    async def _result(self, function: HttpFunction, request: Any, origin: str, headers: Mapping[str, str]) -> Any:
        """What the function answers, whichever way it says it."""
        kwargs: dict[str, Any] = {function.request_name: request}
        for name in function.client_names:
            kwargs[name] = self._client_for(origin, function.function, name in function.client_texts)
        out: _Out | None = None
        if function.response_name is not None:
            kwargs[function.response_name] = out = _Out()
        if function.wants_context:
            kwargs["context"] = InvocationContext(function.name, function.directory, headers)
        result = await self._user_code.call(function.function, kwargs, Invocation(function.name))
        return result if out is None else _set_value(function, result, out)

    # ------------------------------------------------------------------ what streams

    def _app_of(self, function: HttpFunction) -> WebApp | None:
        if not function.takes_extension_request:
            return function.web_app

        async def answer(request: Any) -> Any:
            put_route_values(request, request.scope[_ROUTE_VALUES])
            headers = _headers(request.scope)
            result = await self._result(function, request, _origin(request.scope, headers), headers)
            return _as_extension_response(result) if isinstance(result, func.HttpResponse) else result

        return AsgiWebApp(extension_app(answer), has_lifespan=False)

    async def _stream(
        self, app: WebApp, match: Match[HttpFunction], scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Let a web application answer. Where it fails in the middle of its answer, the connection ends."""
        function = match.route.target
        context = InvocationContext(function.name, function.directory, _headers(scope))
        response = _CheckedResponse(send)
        try:
            asked = extended_scope(scope, context, **{_ROUTE_VALUES: match.values})
            await app.answer(asked, receive, response.send, self._user_code, function.name)
            if not response.has_begun:
                raise RuntimeError("the web application has not answered")
        except Exception as error:  # user code: the request fails, the host goes on
            status = 413 if isinstance(error, _BodyTooLargeError) else _failed(function, _from_app(error, function))
            if not response.has_begun:
                await _send(send, status, [], b"")


def _failed(function: HttpFunction, error: Exception) -> int:
    """Say in the log how a function failed, and what status that is."""
    if isinstance(error, HostStoppedError):
        log.warning("the host stopped before the function could answer", extra={"function": function.name})
        return 503
    what = str(error) if isinstance(error, UserCodeExit) else f"{type(error).__name__}: {text_of(error)}"
    extra = {"function": function.name, "traceback": users_traceback(error)}
    log.error("function failed: %s", what, extra=extra)
    return 500


def _from_app(error: Exception, function: HttpFunction) -> Exception:
    """The error without the frames of the web framework through which the app's own code was reached."""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file.startswith(function.directory) and "site-packages" not in file:
            return error.with_traceback(trace)
        trace = trace.tb_next
    return error


class _CheckedResponse:
    """Passes on what a web application sends, if it is something that can be sent."""

    def __init__(self, send: Send) -> None:
        self.has_begun = False
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            _check_head(message["status"], message.get("headers") or ())
            self.has_begun = True
        await self._send(message)


class _Out(func.Out[Any]):
    """Takes what a function sets instead of returning it."""

    def __init__(self) -> None:
        self._value: Any = None

    def set(self, val: Any) -> None:
        self._value = val

    def get(self) -> Any:
        return self._value


def _headers(scope: Scope) -> dict[str, str]:
    """The headers as functions see them: names in lower case, values of one name joined by commas."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def _origin(scope: Scope, headers: Mapping[str, str]) -> str:
    """Scheme, host and port that the caller used."""
    return f"{scope['scheme']}://{headers.get('host', 'localhost')}"


def _request(
    scope: Scope, headers: Mapping[str, str], origin: str, route_params: dict[str, str], body: bytes
) -> HttpRequest:
    """The request as functions see it."""
    params: dict[str, str] = {}
    query: bytes = scope["query_string"]
    for name, value in parse_qsl(query.decode("utf-8", "replace"), keep_blank_values=True):
        params[name] = f"{params[name]},{value}" if name in params else value
    raw_path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
    url = f"{origin}{raw_path}{'?' if query else ''}{query.decode('latin-1')}"
    return HttpRequest(
        scope["method"],
        url,
        headers=headers,
        params=params,
        route_params=route_params,
        body_type="bytes",
        body=body,
    )


def _declared_bytes(scope: Scope) -> int:
    """How long the body is to be, or 0 if the head does not say."""
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(declared) if declared.isdigit() else 0


class _BodyTooLargeError(HTTPException):
    """Raised by `receive` beyond the limit, as an exception that frameworks turn into the right answer."""


def _limited(receive: Receive, limit: int) -> Receive:
    """`receive`, for an application that reads the body by itself; beyond `limit` bytes it raises."""
    size = 0

    async def receive_limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise _BodyTooLargeError(413)
        return message

    return receive_limited


async def _body(receive: Receive, limit: int) -> bytes | None:
    """The whole body, or None as soon as it is known to be longer than `limit` bytes."""
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


def _set_value(function: HttpFunction, result: Any, out: _Out) -> Any:
    """What a function that sets its response has set."""
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
        if name.lower() not in _FRAMING
    ]
    if not any(name == b"content-type" for name, _ in headers):
        is_text = result.mimetype.startswith("text/")
        content_type = f"{result.mimetype}; charset={result.charset}" if is_text else result.mimetype
        headers.append((b"content-type", content_type.encode("latin-1")))
    _check_head(result.status_code, headers)
    return result.status_code, headers, result.get_body()


def _as_extension_response(result: func.HttpResponse) -> Response:
    status, headers, body = _encoded(result)
    response = Response(body, status)
    response.raw_headers = [*headers, (b"content-length", str(len(body)).encode())]
    return response


def _check_head(status: Any, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse what a client could not take for the head of one answer.

    Raises:
        ValueError: the text says what is wrong.
    """
    if not isinstance(status, int) or not 200 <= status <= 599:
        raise ValueError(f"{status!r} is not a status that a function can answer with: they are 200 to 599")
    for name, value in headers:
        if not _HEADER_NAME.fullmatch(name) or _NOT_IN_HEADERS.search(value):
            raise ValueError(f"there can be no header {name.decode('latin-1')!r}: {value.decode('latin-1')!r}")


async def _send(
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]], status: int, headers: Headers, body: bytes
) -> None:
    if status in _BODILESS:
        body = b""
    else:
        headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
