"""Who gets past the guard, judged by the head of a request."""

import asyncio
from typing import Any, NamedTuple

import pytest

from perdure.webapi.guard import HEADER_BYTES_MAX, HEADER_FIELDS_MAX, URL_BYTES_MAX, Guard

START = "/runtime/webhooks/durabletask/orchestrators/hello"
STATUS = "/runtime/webhooks/durabletask/instances/x"
RPC = "/durabletask/orchestrators/hello"
FUNCTION = "/api/orders"

HOST = ("Host", "localhost:7071")


async def host_app(scope: Any, receive: Any, send: Any) -> None:
    """Stands behind the guard and lets everything happen."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"public")]})
    await send({"type": "http.response.body", "body": b"done"})


def answer(
    verb: str,
    path: str,
    *headers: tuple[str, str],
    query: str = "",
    hosts: frozenset[str] | None = None,
    client: str | None = "127.0.0.1",
    guard: Guard | None = None,
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """What a client gets for this head: status code, headers, body."""
    guard = guard or (Guard(host_app) if hosts is None else Guard(host_app, hosts=hosts))
    scope = {
        "type": "http",
        "method": verb,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
        "client": None if client is None else (client, 50123),
    }
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        raise AssertionError("the guard reads no body")

    asyncio.run(guard(scope, receive, send))
    return sent[0]["status"], sent[0]["headers"], sent[1]["body"]


def status(verb: str, path: str, *headers: tuple[str, str], **options: Any) -> int:
    return answer(verb, path, *headers, **options)[0]


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:7071", "LOCALHOST:7071", "127.0.0.1:7071", "127.0.0.1", "[::1]:7071", "[::1]"]
)
def test_the_names_of_the_loopback_are_let_through(host: str):
    assert status("GET", STATUS, ("Host", host)) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:7071",
        "localhost.",
        "localhost.evil.example",
        "localhost:7071@evil.example",
        "evil.example#localhost",
        "localhost:port",
        "localhost:",
        "localhost:123456",
        "[::2]",
        "::1",
        "[::1",
        "127.0.0.1.nip.io",
        "0x7f000001",
        "",
        " localhost",
        "localhost\n",
    ],
)
@pytest.mark.parametrize("path", [STATUS, FUNCTION, "/"])
def test_any_other_name_is_refused_on_every_path(host: str, path: str):
    """A page of evil.example that resolves to 127.0.0.1 sends its own name (DNS rebinding)."""
    code, _, body = answer("GET", path, ("Host", host))

    assert (code, body) == (421, b"")


def test_a_request_has_exactly_one_host():
    assert status("GET", STATUS) == 400
    assert status("GET", STATUS, HOST, HOST) == 400
    assert status("GET", STATUS, HOST, ("Host", "evil.example")) == 400


def test_a_name_given_with_a_port_stands_for_that_port_only():
    hosts = frozenset({"Build-Server:7071", "localhost"})

    assert status("GET", STATUS, ("Host", "build-server:7071"), hosts=hosts) == 200
    assert status("GET", STATUS, ("Host", "build-server:7072"), hosts=hosts) == 421
    assert status("GET", STATUS, ("Host", "build-server"), hosts=hosts) == 421
    assert status("GET", STATUS, ("Host", "localhost:1"), hosts=hosts) == 200


@pytest.mark.parametrize("host", ["10.0.0.5:7071", "10.0.0.5", "[fe80::1]:80", "[2001:db8::1]", "0.0.0.0:7071"])
def test_a_host_that_others_reach_is_called_by_any_address_but_only_by_names_that_it_knows(host: str):
    """A page can only be served under an address by who has it; a name can be made to lead anywhere."""
    hosts = frozenset({"build-server"})

    assert asked_as(host, hosts, knows_addresses=True).status == 200
    assert asked_as(host, hosts, knows_addresses=False).status == 421
    assert asked_as("build-server:7071", hosts, knows_addresses=True).status == 200
    for name in ("evil.example", "10.0.0.5.nip.io", "0x0a000005", "167772165", "10.0.5", "[fe80::1%25eth0]"):
        assert asked_as(name, hosts, knows_addresses=True).status == 421


class Asked(NamedTuple):
    """What became of a request: the status code, and scheme and host as the app behind the guard saw them."""

    status: int
    origin: str | None


def asked_as(host: str, hosts: frozenset[str], *headers: tuple[str, str], verb: str = "GET", **options: bool) -> Asked:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        host = dict(scope["headers"])[b"host"].decode()
        seen.append(f"{scope['scheme']}://{host}")
        await host_app(scope, receive, send)

    guard = Guard(app, hosts=hosts, **options)
    code = answer(verb, STATUS, ("Host", host), *headers, guard=guard)[0]
    return Asked(code, seen[0] if seen else None)


FORWARDED = (("X-Forwarded-Host", "orders.example"), ("X-Forwarded-Proto", "https"))


def test_what_a_proxy_was_asked_for_counts_only_if_the_settings_say_so():
    hosts = frozenset({"localhost"})

    assert asked_as("localhost", hosts, *FORWARDED, trusts_forwarded=True).origin == "https://orders.example"
    assert asked_as("localhost", hosts, *FORWARDED, trusts_forwarded=False).origin == "http://localhost"


@pytest.mark.parametrize(
    "headers",
    [
        FORWARDED[:1],
        FORWARDED[1:],
        (FORWARDED[0], ("X-Forwarded-Proto", "ftp")),
        (("X-Forwarded-Host", "a/b"), FORWARDED[1]),
        (("X-Forwarded-Host", "a, b"), FORWARDED[1]),
        (("X-Forwarded-Host", ""), FORWARDED[1]),
    ],
)
def test_a_proxy_has_to_tell_both_scheme_and_host(headers: tuple[tuple[str, str], ...]):
    asked = asked_as("localhost", frozenset({"localhost"}), *headers, trusts_forwarded=True)

    assert asked == Asked(200, "http://localhost")


def test_what_a_proxy_tells_opens_no_door_to_other_names_or_pages():
    hosts = frozenset({"localhost"})
    page = ("Origin", "https://orders.example")

    assert asked_as("evil.example", hosts, *FORWARDED, trusts_forwarded=True).status == 421
    assert asked_as("localhost", hosts, *FORWARDED, page, verb="POST", trusts_forwarded=True).status == 200
    assert asked_as("localhost", hosts, page, verb="POST", trusts_forwarded=True).status == 403
    assert asked_as("localhost", hosts, *FORWARDED, page, verb="POST", trusts_forwarded=False).status == 403


@pytest.mark.parametrize("verb", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize(
    "header",
    [
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        ("Origin", "http://localhost:3000"),
        ("Origin", "https://localhost:7071"),
        ("Origin", "http://127.0.0.1:7071"),
        ("Origin", ""),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
        ("Sec-Fetch-Site", "anything-new"),
    ],
)
@pytest.mark.parametrize(
    "path",
    [START, START.upper(), f"//{START}", START.replace("runtime", "runt\u0131me"), "/admin/functions/hello", RPC],
)
def test_a_foreign_page_cannot_change_anything(verb: str, header: tuple[str, str], path: str):
    code, _, body = answer(verb, path, HOST, header)

    assert (code, body) == (403, b"")


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("Origin", "http://localhost:7071"), ("Sec-Fetch-Site", "same-origin")),
        (("Origin", "HTTP://LOCALHOST:7071"),),
        (("Sec-Fetch-Site", "none"),),
    ],
)
def test_tools_and_the_hosts_own_pages_can(headers: tuple[tuple[str, str], ...]):
    assert status("POST", START, HOST, *headers) == 200


def test_reading_and_function_routes_are_left_to_the_browser_and_the_app():
    foreign = ("Origin", "https://evil.example")

    assert status("GET", STATUS, HOST, foreign) == 200
    assert status("POST", FUNCTION, HOST, foreign) == 200
    assert status("POST", "/runtimes", HOST, foreign) == 200
    assert status("POST", "/durabletasks", HOST, foreign) == 200


@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.9.10", "::1"])
@pytest.mark.parametrize("host", ["localhost:7071", "127.0.0.1:7071", "[::1]:7071"])
def test_processes_of_this_machine_reach_the_local_mount(client: str, host: str):
    assert status("POST", RPC, ("Host", host), client=client) == 200


@pytest.mark.parametrize("path", [RPC, RPC.upper(), f"//{RPC}", "/durabletask", RPC.replace("sk", "\u017fk")])
@pytest.mark.parametrize("client", ["10.0.0.7", "2001:db8::1", "::ffff:10.0.0.7", "", None])
def test_nobody_else_reaches_the_local_mount(path: str, client: str | None):
    code, _, body = answer("GET", path, HOST, client=client)

    assert (code, body) == (403, b"")
    assert status("GET", STATUS, HOST, client=client) == 200


@pytest.mark.parametrize(
    "header", [("X-Forwarded-For", "10.0.0.7"), ("Forwarded", "for=10.0.0.7"), ("X-Forwarded-Host", "x")]
)
def test_a_proxy_of_this_machine_does_not_reach_the_local_mount_for_others(header: tuple[str, str]):
    assert status("GET", RPC, HOST, header) == 403
    assert status("GET", STATUS, HOST, header) == 200


def test_the_local_mount_is_called_by_a_name_of_this_machine():
    hosts = frozenset({"localhost", "build-server"})

    assert status("GET", RPC, ("Host", "build-server"), hosts=hosts) == 403
    assert status("GET", STATUS, ("Host", "build-server"), hosts=hosts) == 200


def test_the_number_of_header_fields_is_limited():
    fields = [HOST, *((f"x-{number}", "1") for number in range(HEADER_FIELDS_MAX - 1))]

    assert status("GET", STATUS, *fields) == 200
    assert status("GET", STATUS, *fields, ("x-more", "1")) == 431


def test_the_size_of_headers_is_limited():
    used = sum(len(part) for part in HOST) + 4 + len("x") + 4

    assert status("GET", STATUS, HOST, ("x", "1" * (HEADER_BYTES_MAX - used))) == 200
    assert status("GET", STATUS, HOST, ("x", "1" * (HEADER_BYTES_MAX - used + 1))) == 431


def test_the_length_of_the_url_is_limited():
    left = URL_BYTES_MAX - len(STATUS)

    assert status("GET", STATUS, HOST, query="q" * left) == 200
    assert status("GET", STATUS, HOST, query="q" * (left + 1)) == 414
    assert status("GET", "/" + "p" * URL_BYTES_MAX, HOST) == 414


def test_answers_of_the_management_api_are_not_stored_or_guessed_at():
    for path in (STATUS, "/admin/host/status", RPC):
        _, headers, _ = answer("GET", path, HOST)
        assert headers[-3:] == [
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
        ]


def test_answers_of_functions_keep_their_own_headers():
    assert answer("GET", FUNCTION, HOST)[1] == [(b"cache-control", b"public")]


@pytest.mark.parametrize(("headers", "closes"), [((HOST, HOST), True), ((("Host", "evil.example"),), False)])
def test_a_connection_is_closed_if_its_framing_cannot_be_trusted(headers: tuple[tuple[str, str], ...], closes: bool):
    assert ((b"connection", b"close") in answer("GET", STATUS, *headers)[1]) is closes


def test_websockets_are_closed_and_the_lifespan_passes():
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def passed(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "passed"})

    asyncio.run(Guard(passed)({"type": "websocket", "path": "/", "headers": []}, receive, send))
    asyncio.run(Guard(passed)({"type": "lifespan"}, receive, send))

    assert [message["type"] for message in sent] == ["websocket.close", "passed"]
