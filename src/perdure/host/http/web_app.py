"""Whole web applications behind one HTTP trigger: ASGI and WSGI apps, run where user code runs, and streamed.

Source: azure.functions, whose own middleware holds whole requests and responses in memory.

Rule 1: an application runs on the user's loop or threads, the connection belongs to the host's loop; messages cross one
        at a time, so whoever is slower slows the other down, and nothing piles up in between.
"""

from __future__ import annotations

import asyncio
import inspect
import io
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable, MutableMapping, Sequence
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote_to_bytes

import azure.functions as func
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perdure.host.invocation_context import InvocationContext
from perdure.host.user_code import Invocation, UserCode

log = logging.getLogger("perdure.host")

# What the application's own end may take when the host stops.
LIFESPAN_ENDS_WITHIN_S = 5.0

_ASGI = {"version": "3.0", "spec_version": "2.3"}

T = TypeVar("T")


class WebApp(Protocol):
    """An application that answers requests by itself."""

    async def answer(self, scope: Scope, receive: Receive, send: Send, user_code: UserCode, name: str) -> None:
        """Answer one request.

        Args:
            scope, receive, send: of the host's loop, on which this is called.
            name: the function's, whose call it is.

        Raises:
            UserCodeExit: the application tried to end the process.
            Exception: whatever the application raised.
        """
        ...

    async def stop(self, user_code: UserCode, name: str) -> None:
        """Let the application end what it began; nothing that it raises gets out."""
        ...


def web_app_of(function: Callable[..., Any]) -> WebApp | None:
    """The application behind a function that `AsgiFunctionApp` or `WsgiFunctionApp` made, or a middleware's `main`."""
    owner = function.__self__ if inspect.ismethod(function) else None
    if type(owner) is func.AsgiMiddleware:
        return AsgiWebApp(_given_to(owner), has_lifespan=False)  # this way, it has none on Azure either
    if type(owner) is func.WsgiMiddleware:
        return WsgiWebApp(_given_to(owner))
    if not inspect.isfunction(function) or function.__module__ != func.AsgiFunctionApp.__module__:
        return None
    for each in inspect.getclosurevars(function).nonlocals.values():
        if isinstance(each, func.AsgiMiddleware):
            return AsgiWebApp(_given_to(each), has_lifespan=True)
        if isinstance(each, func.WsgiMiddleware):
            return WsgiWebApp(_given_to(each))
    return None


def _given_to(middleware: Any) -> Any:
    return middleware._app  # the library has no public name for it


def extended_scope(scope: Scope, context: InvocationContext, **more: Any) -> Scope:
    """A request's scope as applications on Azure see it: the path with its prefix, and the function's context."""
    return {
        **scope,
        "asgi": _ASGI,
        # The library writes these instead of the standard's dictionary.
        "asgi.version": "2.1",
        "asgi.spec_version": "2.1",
        **_context_values(context),
        **more,
    }


def _context_values(context: InvocationContext) -> dict[str, Any]:
    return {
        "azure_functions.function_directory": context.function_directory,
        "azure_functions.function_name": context.function_name,
        "azure_functions.invocation_id": context.invocation_id,
        "azure_functions.thread_local_storage": context.thread_local_storage,
        "azure_functions.trace_context": context.trace_context,
        "azure_functions.retry_context": context.retry_context,
    }


# ---------------------------------------------------------------------- ASGI


class AsgiWebApp:
    """An ASGI application on the user's loop.

    Its start-up runs with the first request, as on Azure, and once; one that fails is tried again with the next.

    Args:
        has_lifespan: whether it is told of its start and its end.
    """

    def __init__(self, app: ASGIApp, *, has_lifespan: bool) -> None:
        self._app = app
        self._lifespan = _Lifespan(app) if has_lifespan else None

    async def answer(self, scope: Scope, receive: Receive, send: Send, user_code: UserCode, name: str) -> None:
        await user_code.call(self._run, {"scope": scope, "receive": receive, "send": send,
                                         "loop": asyncio.get_running_loop()}, Invocation(name))  # fmt: skip

    async def stop(self, user_code: UserCode, name: str) -> None:
        if self._lifespan is not None and self._lifespan.has_begun:
            await user_code.call(self._lifespan.end, {}, Invocation(name))

    async def _run(self, scope: Scope, receive: Receive, send: Send, loop: asyncio.AbstractEventLoop) -> None:
        if self._lifespan is not None:
            scope["state"] = await self._lifespan.begun()
        exchange = _Exchange(scope, receive, send, loop)
        await self._app(scope, exchange.receive, exchange.send)


class _Exchange:
    """`receive` and `send` of a request, on another loop than the connection's."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, loop: asyncio.AbstractEventLoop) -> None:
        self._receive = receive
        self._send = send
        self._loop = loop
        self._head: Message | None = None
        self._head_sent: asyncio.Future[None] | None = None
        # A crossing costs more than most applications: a body that is known to be empty needs none.
        self._is_body_known = not _has_body(scope)

    async def receive(self) -> Message:
        if self._is_body_known:
            self._is_body_known = False
            return {"type": "http.request", "body": b"", "more_body": False}
        return await self._crossed(_awaited(self._receive()))

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            # It goes with the first piece of the body, or ahead if that is still being made.
            self._head = message
            asyncio.get_running_loop().call_soon(self._send_head)
        elif self._head is not None:
            head, self._head = self._head, None
            await self._crossed(_send_all(self._send, (head, message)))
        else:
            if self._head_sent is not None:
                head_sent, self._head_sent = self._head_sent, None
                await head_sent
            await self._crossed(_send_all(self._send, (message,)))

    def _send_head(self) -> None:
        if self._head is not None:
            head, self._head = self._head, None
            self._head_sent = self._crossed(_send_all(self._send, (head,)))

    def _crossed(self, awaited: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(awaited, self._loop))


_BODY_HEADERS = frozenset({b"content-length", b"transfer-encoding"})


def _has_body(scope: Scope) -> bool:
    return any(name in _BODY_HEADERS for name, _ in scope["headers"])


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable


async def _send_all(send: Send, messages: Sequence[Message]) -> None:
    for each in messages:
        await send(each)


class _Lifespan:
    """The start and the end of an ASGI application; all of it on the user's loop."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._state: dict[str, Any] = {}
        self._running: asyncio.Task[None] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._answered: asyncio.Future[str | None] | None = None

    @property
    def has_begun(self) -> bool:
        """Whether the application is waiting to be told that it ends."""
        return self._running is not None and not self._running.done()

    async def begun(self) -> dict[str, Any]:
        """The application's state, once its start-up is over; a copy for each request.

        Raises:
            RuntimeError: the application says that it could not start.
        """
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        starting = self._starting
        try:
            await asyncio.shield(starting)
        except RuntimeError:
            if self._starting is starting:
                self._starting = None
            raise
        return dict(self._state)

    async def _start(self) -> None:
        self._inbox = asyncio.Queue()
        self._state.clear()
        self._running = asyncio.create_task(self._live())
        problem = await self._tell("lifespan.startup")
        if problem is not None:
            log.error("web application failed to start: %s", problem)
            raise RuntimeError("ASGI middleware startup failed.")

    async def end(self) -> None:
        """Tell the application that it ends, and wait for it, at most `LIFESPAN_ENDS_WITHIN_S`."""
        running = self._running
        if running is None or running.done():
            return
        try:
            async with asyncio.timeout(LIFESPAN_ENDS_WITHIN_S):
                problem = await self._tell("lifespan.shutdown")
                await asyncio.wait({running})
        except TimeoutError:
            problem = f"it took more than {LIFESPAN_ENDS_WITHIN_S:.0f} s"
            running.cancel()
        if problem is not None:
            log.error("web application failed to end: %s", problem)

    async def _tell(self, kind: str) -> str | None:
        """Why what was told failed, or None; an application that does not listen has nothing against it."""
        self._answered = asyncio.get_running_loop().create_future()
        self._inbox.put_nowait({"type": kind})
        return await self._answered

    async def _live(self) -> None:
        scope = {"type": "lifespan", "asgi": _ASGI, "asgi.version": "2.1", "asgi.spec_version": "2.1"}
        try:
            await self._app({**scope, "state": self._state}, self._inbox.get, self._hear)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # user code: most that raise here do not know the protocol
            log.debug("web application has no lifespan", exc_info=error)
        finally:
            self._settle(None)

    async def _hear(self, message: MutableMapping[str, Any]) -> None:
        if message["type"].endswith(".failed"):
            self._settle(message.get("message") or "it did not say why")
        elif message["type"].endswith(".complete"):
            self._settle(None)

    def _settle(self, problem: str | None) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(problem)


# ---------------------------------------------------------------------- WSGI


class WsgiWebApp:
    """A WSGI application on the threads for sync functions."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app

    async def answer(self, scope: Scope, receive: Receive, send: Send, user_code: UserCode, name: str) -> None:
        connection = _Connection(receive, send, asyncio.get_running_loop(), has_body=_has_body(scope))
        try:
            await user_code.call(self._run, {"scope": scope, "connection": connection}, Invocation(name))
        finally:
            connection.end()

    async def stop(self, user_code: UserCode, name: str) -> None:
        pass  # nothing tells a WSGI application that it ends

    def _run(self, scope: Scope, connection: _Connection) -> None:
        response = _WsgiResponse(connection)
        chunks = self._app(_environ(scope, connection), response.start)
        try:
            for chunk in chunks:
                if chunk:
                    response.write(chunk)
                if connection.is_gone:
                    return
            response.finish()
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()


class _Connection:
    """`receive` and `send` of a request, for a thread that waits for each.

    Attributes:
        is_gone: the client is known to have left. Seen while the response is sent only if the body has been read.
    """

    def __init__(self, receive: Receive, send: Send, loop: asyncio.AbstractEventLoop, *, has_body: bool) -> None:
        self.is_gone = False
        self._receive = receive
        self._send = send
        self._loop = loop
        self._has_more = has_body
        self._watching: asyncio.Task[None] | None = None

    def read(self) -> bytes:
        """The next piece of the request's body; an empty one is its end."""
        while self._has_more:
            message = asyncio.run_coroutine_threadsafe(_awaited(self._receive()), self._loop).result()
            self._has_more = message.get("more_body", False)
            self.is_gone = message["type"] == "http.disconnect"
            if message.get("body"):
                return message["body"]
        return b""

    def send(self, *messages: Message) -> None:
        """Send messages, and return when there is room for more."""
        asyncio.run_coroutine_threadsafe(self._send_and_watch(messages), self._loop).result()

    async def _send_and_watch(self, messages: Sequence[Message]) -> None:
        if self._watching is None and messages[-1].get("more_body") and not self._has_more:
            self._watching = asyncio.create_task(self._watch())
        await _send_all(self._send, messages)

    async def _watch(self) -> None:
        while not self.is_gone:
            self.is_gone = (await self._receive())["type"] == "http.disconnect"

    def end(self) -> None:
        """Stop watching whether the client is still there; on the connection's loop."""
        if self._watching is not None:
            self._watching.cancel()


class _WsgiResponse:
    """What PEP 3333 calls `start_response`, and where its pieces go."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._head: Message | None = None
        self._is_sent = False

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        """Take status and headers; with an exception, also instead of earlier ones that have not gone out yet."""
        if exc_info is not None and self._is_sent:
            raise exc_info[1].with_traceback(exc_info[2])
        if exc_info is None and self._head is not None:
            raise RuntimeError("start_response was called before, and this time without an exception")
        self._head = {
            "type": "http.response.start",
            "status": int(status.split(" ", 1)[0]),
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        }
        return self.write

    def write(self, chunk: bytes) -> None:
        """Send a piece of the body, after the head if it is the first."""
        self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    def finish(self) -> None:
        """Send the end of the body."""
        self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def _send(self, message: Message) -> None:
        if self._head is None:
            raise RuntimeError("the application has sent a body before it called start_response")
        messages = (message,) if self._is_sent else (self._head, message)
        self._is_sent = True
        self._connection.send(*messages)


class _WsgiInput(io.RawIOBase):
    """The request's body, read as it arrives."""

    def __init__(self, connection: _Connection) -> None:
        super().__init__()
        self._connection = connection
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if not self._rest:
            self._rest = memoryview(self._connection.read())
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def _environ(scope: Scope, connection: _Connection) -> dict[str, Any]:
    raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
    server = scope.get("server") or ("localhost", 80)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(raw_path).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": str(server[0]),
        "SERVER_PORT": str(server[1]),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": io.BufferedReader(_WsgiInput(connection)),
        "wsgi.input_terminated": True,  # reading ends where the body ends, whether its length was told or not
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        **{name: value for name, value in scope.items() if name.startswith("azure_functions.")},
    }
    client = scope.get("client")
    if client is not None:
        environ["REMOTE_ADDR"] = str(client[0])
    for raw_name, raw_value in scope["headers"]:
        if b"_" in raw_name:
            continue  # it would pass for the header with hyphens
        name = raw_name.decode("latin-1").upper().replace("-", "_")
        name = name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}"
        value = raw_value.decode("latin-1")
        environ[name] = f"{environ[name]},{value}" if name in environ else value
    return environ
