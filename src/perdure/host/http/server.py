"""The HTTP listener: uvicorn with httptools, and the limits that those two leave open.

Measured: they let a header of a megabyte and ten thousand fields through, and keep a connection that sends its head one
byte per second.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import socket
import sys
from collections.abc import Generator, Sequence
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

try:
    from uvloop import new_event_loop as event_loop
except ImportError:  # not made for Windows, nor for other Pythons
    from asyncio import new_event_loop as event_loop

from perdure.errors import AppError
from perdure.host.http.ports import who_listens

__all__ = ["HttpServer", "LimitedHttpProtocol", "bind", "event_loop", "is_loopback"]

LOOPBACKS = ("127.0.0.1", "::1")
LOCALHOST_NAMES = frozenset({"localhost", *LOOPBACKS})

# From the first byte of a request to the end of its head; people's own tools need milliseconds.
HEAD_DEADLINE_S = 10.0
HEAD_BYTES_MAX = 32 * 1024
HEADER_FIELDS_MAX = 100
URL_BYTES_MAX = 8 * 1024

# Idle connections are cheap here, and a client that reuses one just as it closes sees an error.
KEEP_ALIVE_S = 75

_NO_IPV6 = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT})
_PORT_ATTEMPTS = 20

# The ASGI server cannot pass these to the application: it refuses before there is a request.
_REASONS = {408: "Request Timeout", 414: "URI Too Long", 431: "Request Header Fields Too Large"}


class LimitedHttpProtocol(HttpToolsProtocol):
    """Ends connections whose request head is too long, or takes too long.

    Invariants: while a head is incomplete and no response is due, a deadline is running; every byte of a head counts.
    """

    _deadline: asyncio.TimerHandle | None = None
    _is_in_head = False
    _head_bytes = 0
    _waiting_bytes = 0
    _refusal = 400

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._start_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        was_in_head = self._is_in_head
        super().data_received(data)
        if self._is_in_head and was_in_head:
            # The parser holds back a field until it is complete; what it holds must not grow without end.
            self._waiting_bytes += len(data)
            if self._waiting_bytes > HEAD_BYTES_MAX:
                self._refuse(431)
        elif self._deadline is None and not self._has_response_due():
            self._start_deadline()  # bytes that begin no request, such as empty lines, keep no connection open

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head = True
        self._head_bytes = self._waiting_bytes = 0
        self._start_deadline()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > URL_BYTES_MAX:
            self._fail(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > HEAD_BYTES_MAX or len(self.headers) >= HEADER_FIELDS_MAX:
            self._fail(431)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._stop_deadline()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._stop_deadline()
        if self._refusal == 400:
            super().send_400_response(msg)
        else:
            self._refuse(self._refusal)

    def _has_response_due(self) -> bool:
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is not None and not cycle.response_complete

    def _fail(self, status: int) -> None:
        """Make the parser give up, which ends in `send_400_response`."""
        self._refusal = status
        raise ValueError(_REASONS[status])

    def _refuse(self, status: int) -> None:
        self._stop_deadline()
        if not self.transport.is_closing():
            self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()

    def _start_deadline(self) -> None:
        self._stop_deadline()
        self._deadline = self.loop.call_later(HEAD_DEADLINE_S, self._refuse, 408)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _is_news(record: logging.LogRecord) -> bool:
    """Whether nobody else tells it: an answer that is cut off has an error of its own in the log."""
    return record.msg != "ASGI callable returned without completing response."


class HttpServer(uvicorn.Server):
    """Serves one ASGI application on sockets that are bound already; signals are the caller's business."""

    def __init__(self, app: ASGIApp, *, stop_within_s: float) -> None:
        logging.getLogger("uvicorn.error").addFilter(_is_news)
        super().__init__(
            uvicorn.Config(
                app,
                http=LimitedHttpProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=max(1, round(stop_within_s)),
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def bind(address: str, port: int) -> list[socket.socket]:
    """Sockets bound to the address, which nobody can connect to yet; for a loopback to both loopbacks.

    Args:
        port: 0 for one that is free.

    Raises:
        AppError: the port is taken, or there is no such address here.
    """
    addresses = LOOPBACKS if address in LOCALHOST_NAMES else (address,)
    for _ in range(_PORT_ATTEMPTS):
        sockets = _bound(addresses, port)
        if sockets is not None:
            return sockets
    raise _port_taken(port)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach an address; a name that merely may stand for a loopback is none."""
    try:
        return address in LOCALHOST_NAMES or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _bound(addresses: Sequence[str], port: int) -> list[socket.socket] | None:
    """One socket per address on the same port; None if a port chosen by the system is free for only one of them."""
    sockets: list[socket.socket] = []
    wanted = port
    try:
        for address in addresses:
            try:
                sockets.append(_listener(address, wanted))
            except OSError as error:
                if error.errno in _NO_IPV6 and sockets:
                    continue
                raise
            wanted = sockets[0].getsockname()[1]
    except OSError as error:
        for each in sockets:
            each.close()
        if error.errno not in (errno.EADDRINUSE, errno.EACCES) and getattr(error, "winerror", None) != 10013:
            raise AppError("DF402", f"Port {port} cannot be used", str(error)) from error
        if port == 0:
            return None
        raise _port_taken(port) from error
    return sockets


def _listener(address: str, port: int) -> socket.socket:
    is_six = ":" in address
    listener = socket.socket(socket.AF_INET6 if is_six else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if is_six:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if sys.platform == "win32":
            # There SO_REUSEADDR would let two hosts share the port.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        # Two sockets may be bound to one port with SO_REUSEADDR as long as neither listens; only listening decides.
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def _port_taken(port: int) -> AppError:
    return AppError("DF402", f"Port {port} is in use", *_taken_lines(port))


def _taken_lines(port: int) -> list[str]:
    other = f"Use another port:  perdure --port {port + 1 if port < 65535 else 0}"
    process = who_listens(port)
    if process is None:
        return [other]
    guess = ", probably Azure Functions Core Tools" if process.name in ("func", "func.exe") else ""
    return [f"By  {process.name}  (pid {process.pid}){guess}.     {other}     Stop it:  {process.stop_command}"]
