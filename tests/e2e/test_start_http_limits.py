"""What the listener refuses before there is a request, spoken to over raw sockets."""

import asyncio
import errno
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from starlette.responses import PlainTextResponse

from perdure.errors import AppError
from perdure.host.http import server as http_server
from perdure.host.http.server import HttpServer, bind

DEADLINE_S = 0.4


async def app(scope, receive, send):  # type: ignore[no-untyped-def]
    while (await receive()).get("more_body"):
        pass
    if scope["path"] == "/slow":
        await asyncio.sleep(DEADLINE_S * 3)
    await PlainTextResponse(scope["path"])(scope, receive, send)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    patch = pytest.MonkeyPatch()
    patch.setattr(http_server, "HEAD_DEADLINE_S", DEADLINE_S)
    sockets = bind("127.0.0.1", 0)
    server = HttpServer(app, stop_within_s=1)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=sockets)))
    thread.start()
    yield sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()
    patch.undo()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def read_to_end(connection: socket.socket) -> bytes:
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass  # the server had closed before it read all that was sent
    return received


def answer(port: int, request: bytes) -> bytes:
    with connect(port) as connection:
        try:
            connection.sendall(request)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return read_to_end(connection)


def request(*headers: bytes, path: bytes = b"/ok") -> bytes:
    return b"\r\n".join([b"GET " + path + b" HTTP/1.1", b"Host: localhost", b"Connection: close", *headers, b"", b""])


def test_an_ordinary_request_is_answered(port: int):
    assert answer(port, request()).endswith(b"/ok")


def test_a_hundred_header_fields_pass_and_one_more_does_not(port: int):
    fields = [b"X-%d: y" % number for number in range(98)]

    assert answer(port, request(*fields)).endswith(b"/ok")
    assert answer(port, request(*fields, b"X: y")).startswith(b"HTTP/1.1 431 ")


def test_a_header_of_a_megabyte_is_refused(port: int):
    assert answer(port, request(b"X: " + b"y" * 1_000_000)).startswith(b"HTTP/1.1 431 ")


def test_ten_thousand_header_fields_are_refused(port: int):
    assert answer(port, request(*(b"X-%d: y" % number for number in range(10_000)))).startswith(b"HTTP/1.1 431 ")


def test_a_field_that_never_ends_is_cut_off(port: int):
    with connect(port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        try:
            for _ in range(100):
                connection.sendall(b"y" * 10_000)
        except (BrokenPipeError, ConnectionResetError):
            return
        assert read_to_end(connection).startswith(b"HTTP/1.1 431 ")


def test_an_url_of_more_than_8_kb_is_refused(port: int):
    assert answer(port, request(path=b"/" + b"a" * 9000)).startswith(b"HTTP/1.1 414 ")


@pytest.mark.parametrize("begin", [b"", b"G", b"GET / HTTP/1.1\r\nHost: x\r\n", b"\r\n"])
def test_a_head_that_drips_is_cut_off_at_its_deadline(port: int, begin: bytes):
    with connect(port) as connection:
        connection.sendall(begin)
        since = time.monotonic()

        received = read_to_end(connection)

    assert received.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - since < DEADLINE_S * 10


def test_a_second_request_on_a_connection_has_the_same_deadline(port: int):
    with connect(port) as connection:
        connection.sendall(b"GET /first HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while not connection.recv(65536).endswith(b"/first"):
            pass
        connection.sendall(b"GET /second HTTP/1.1\r\nHost")

        assert read_to_end(connection).startswith(b"HTTP/1.1 408 ")


def test_a_slow_answer_is_waited_for(port: int):
    assert answer(port, request(path=b"/slow")).endswith(b"/slow")


def test_a_body_may_take_its_time(port: int):
    with connect(port) as connection:
        connection.sendall(b"POST /body HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\n\r\na")
        threading.Event().wait(DEADLINE_S * 2)
        connection.sendall(b"b")

        assert read_to_end(connection).endswith(b"/body")


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0_3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
def test_ambiguous_framing_is_refused(port: int, head: bytes):
    received = answer(port, head)

    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.count(b"HTTP/1.1") == 1


def test_both_loopbacks_get_the_same_port():
    sockets = bind("localhost", 0)
    try:
        assert len({each.getsockname()[1] for each in sockets}) == 1
        assert len(sockets) == (2 if socket.has_ipv6 else 1)
    finally:
        for each in sockets:
            each.close()


def test_a_port_that_is_taken_on_one_loopback_is_taken():
    try:
        taken = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        pytest.skip("this machine has no IPv6")
    with taken, pytest.raises(AppError, match="DF402"):
        bind("127.0.0.1", taken.getsockname()[1])
