"""The built-in HTTP activity against real servers on this machine."""

import asyncio
import gzip
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from typing import Any

import pytest

from perdure.core.codec import payloads
from perdure.core.durable_http import HttpRequest, TokenResource
from perdure.errors import ForbiddenAddressError
from perdure.host import http_client
from perdure.host.http_activity import HttpActivity
from perdure.host.http_reach import EVERYWHERE, Reach

SECRETS = {"Authorization": "Bearer x", "Cookie": "c=1", "X-Functions-Key": "k"}


class Handler(BaseHTTPRequestHandler):
    """Answers by path: `/status/N`, `/to/METHODSTATUS?address`, or else with what it was asked."""

    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: bytes = b"", *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def respond(self) -> None:
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        match path.strip("/").split("/"):
            case ["status", status]:
                self.answer(int(status), b"as asked", ("X-Odd-Case", "1"), ("Set-Cookie", "a=1"), ("set-cookie", "b=2"))
            case ["to", status]:
                self.answer(int(status), b"elsewhere", ("Location", query))
            case ["latin"]:
                self.answer(200, "é".encode("latin-1"), ("Content-Type", "text/plain; charset=latin-1"))
            case ["unknown-charset"]:
                self.answer(200, "é".encode(), ("Content-Type", "text/plain; charset=klingon"))
            case ["large"]:
                self.answer(200, bytes(20_000))
            case ["bomb"]:
                self.answer(200, gzip.compress(bytes(50_000_000)), ("Content-Encoding", "gzip"))
            case ["heads", many]:
                self.answer(200, b"", *((f"X-{number}", "y" * 1000) for number in range(int(many))))
            case ["drips"]:
                self.send_response(200)
                self.end_headers()
                while not self.server.stopping.wait(0.01):  # type: ignore[attr-defined]
                    try:
                        self.wfile.write(b".")
                    except OSError:
                        return
            case ["silent"]:
                self.server.stopping.wait(10)  # type: ignore[attr-defined]
                self.close_connection = True
            case _:
                seen = {"method": self.command, "path": self.path, "body": body.decode(), "headers": dict(self.headers)}
                self.answer(200, json.dumps(seen).encode(), ("Content-Type", "application/json"))

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = respond

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.stopping = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def serve() -> Iterator[Callable[[], Server]]:
    servers: list[Server] = []

    def start() -> Server:
        server = Server()
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for each in servers:
        each.stopping.set()
        each.shutdown()
        each.server_close()


@pytest.fixture
def server(serve: Callable[[], Server]) -> Server:
    return serve()


LIMITED = Reach(is_limited=True)


def fetched(request: HttpRequest, *, reach: Reach = EVERYWHERE, names: Any = None) -> dict[str, Any]:
    """What the activity answers; `names` stands for the name service of the machine."""

    async def run() -> dict[str, Any]:
        if names is not None:
            asyncio.get_running_loop().getaddrinfo = names  # type: ignore[method-assign]
        return await HttpActivity(reach)(request)

    return asyncio.run(run())


def seen(answer: dict[str, Any]) -> dict[str, Any]:
    """What the server was asked."""
    assert answer["statusCode"] == 200, answer
    return json.loads(answer["content"])


def pointing_to(*addresses: str) -> tuple[Any, list[str]]:
    asked: list[str] = []

    async def resolve(host: str, port: int | None, **_: Any) -> list[Any]:
        asked.append(host)
        if not addresses:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port or 0)) for each in addresses]

    return resolve, asked


# ---------------------------------------------------------------------- requests and answers


def test_a_request_is_made_as_it_was_given(server: Server):
    headers = {"X-One": "1", "Content-Type": "application/json"}

    asked = seen(fetched(HttpRequest("PUT", f"{server.url}/a%20b?c=d%2Fe", '{"é": 1}', headers)))

    assert (asked["method"], asked["path"], asked["body"]) == ("PUT", "/a%20b?c=d%2Fe", '{"é": 1}')
    assert (asked["headers"]["X-One"], asked["headers"]["Content-Type"]) == ("1", "application/json")
    assert asked["headers"]["Host"] == server.url.removeprefix("http://")


def test_content_without_a_type_is_plain_text_and_no_content_has_none(server: Server):
    assert seen(fetched(HttpRequest("POST", server.url, "x")))["headers"]["Content-Type"] == "text/plain; charset=utf-8"
    assert "Content-Type" not in seen(fetched(HttpRequest("GET", server.url)))["headers"]


@pytest.mark.parametrize("status", [200, 202, 204, 304, 404, 500])
def test_whatever_the_status_the_answer_is_given(server: Server, status: int):
    answer = fetched(HttpRequest("GET", f"{server.url}/status/{status}"))

    assert answer["statusCode"] == status
    assert answer["content"] == ("" if status in (204, 304) else "as asked")


def test_headers_keep_their_spelling_and_repeated_ones_are_a_list(server: Server):
    headers = fetched(HttpRequest("GET", f"{server.url}/status/200"))["headers"]

    assert headers["X-Odd-Case"] == "1"
    assert headers["Set-Cookie"] == ["a=1", "b=2"]


@pytest.mark.parametrize("path", ["latin", "unknown-charset"])
def test_the_content_is_text_by_its_charset(server: Server, path: str):
    assert fetched(HttpRequest("GET", f"{server.url}/{path}"))["content"] == "é"


def test_an_answer_larger_than_a_payload_may_be_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(payloads, "limit_bytes", 10_000)

    with pytest.raises(ValueError, match=r"the answer is larger than 10,000 bytes.*DF302"):
        fetched(HttpRequest("GET", f"{server.url}/large"))
    with pytest.raises(ValueError, match=r"the answer is larger than 10,000 bytes.*DF302"):
        fetched(HttpRequest("GET", f"{server.url}/bomb"))


# ---------------------------------------------------------------------- failures


def test_a_refused_connection_fails_without_showing_the_query():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

        with pytest.raises(ConnectionError) as caught:
            fetched(HttpRequest("GET", f"http://user:pass@127.0.0.1:{port}/path?code=secret"))

    assert str(caught.value).startswith(f"GET http://127.0.0.1:{port}/path: ")
    assert "connect call failed" in str(caught.value).lower()
    assert "secret" not in str(caught.value)


def test_a_name_that_nobody_knows_fails():
    names, _ = pointing_to()

    with pytest.raises(ConnectionError, match=r"GET http://nobody\.test/: .*Name or service not known"):
        fetched(HttpRequest("GET", "http://nobody.test/"), names=names)


def test_an_answer_that_does_not_come_fails_in_time(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http_client, "TIMEOUT_S", 0.2)

    with pytest.raises(TimeoutError, match=r"/silent: no answer in time \(at most 0\.2 seconds\)"):
        fetched(HttpRequest("GET", f"{server.url}/silent"))


@pytest.mark.parametrize("uri", ["ftp://127.0.0.1/", "http://127.0.0.1:x/"])
def test_an_address_that_means_nothing_is_refused(uri: str):
    with pytest.raises(ValueError, match="GET "):
        fetched(HttpRequest("GET", uri))


def test_a_header_that_would_be_two_is_refused(server: Server):
    with pytest.raises(ValueError, match="GET "):
        fetched(HttpRequest("GET", server.url, None, {"a": "b\nc: d"}))


def test_an_answer_whose_head_does_not_end_is_refused(server: Server):
    assert fetched(HttpRequest("GET", f"{server.url}/heads/30"))["statusCode"] == 200
    with pytest.raises(ConnectionError):
        fetched(HttpRequest("GET", f"{server.url}/heads/3000"))


def test_an_answer_that_drips_has_the_same_time_as_any_other(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http_client, "TIMEOUT_S", 0.2)

    with pytest.raises(TimeoutError, match=r"/drips: no answer in time"):
        fetched(HttpRequest("GET", f"{server.url}/drips"))


# ---------------------------------------------------------------------- redirects


@pytest.mark.parametrize(
    ("method", "status", "then"),
    [
        ("POST", 301, "GET"),
        ("POST", 302, "GET"),
        ("POST", 303, "GET"),
        ("PUT", 303, "GET"),
        ("PUT", 302, "PUT"),
        ("POST", 307, "POST"),
        ("POST", 308, "POST"),
        ("GET", 302, "GET"),
    ],
)
def test_a_redirect_is_followed_with_the_method_that_browsers_take(server: Server, method: str, status: int, then: str):
    content = None if method == "GET" else "body"

    asked = seen(fetched(HttpRequest(method, f"{server.url}/to/{status}?/there", content, SECRETS)))

    assert (asked["method"], asked["path"]) == (then, "/there")
    assert asked["body"] == ("body" if then == method and content else "")
    assert SECRETS.items() <= asked["headers"].items()


def test_a_redirect_takes_no_credentials_to_another_origin_and_brings_none_back(serve: Callable[[], Server]):
    one, other = serve(), serve()
    back = f"{other.url}/to/302?{one.url}/back"

    for uri in (f"{one.url}/to/302?{other.url}/there", f"{one.url}/to/302?{back}"):
        asked = seen(fetched(HttpRequest("GET", uri, None, {**SECRETS, "Accept-Language": "de"})))

        assert not SECRETS.keys() & asked["headers"].keys()
        assert asked["headers"]["Accept-Language"] == "de"


def test_a_redirect_without_a_location_is_the_answer_and_so_is_a_304(server: Server):
    assert fetched(HttpRequest("GET", f"{server.url}/status/302"))["statusCode"] == 302


def test_ten_redirects_are_followed_and_not_one_more(server: Server):
    uri = "/there"
    for _ in range(10):
        uri = f"/to/302?{uri}"

    assert seen(fetched(HttpRequest("GET", server.url + uri)))["path"] == "/there"
    with pytest.raises(ConnectionError, match="more than 10 redirects"):
        fetched(HttpRequest("GET", f"{server.url}/to/302?{uri}"))


def test_a_location_after_a_redirect_is_relative_to_where_that_led(serve: Callable[[], Server]):
    one, other = serve(), serve()

    answer = fetched(HttpRequest("GET", f"{one.url}/to/307?{other.url}/to/202?/status/1"))

    assert (answer["statusCode"], answer["headers"]["Location"]) == (202, f"{other.url}/status/1")


# ---------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "2130706433", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254",
        "100.64.0.1", "224.0.0.1", "[::1]", "[::]", "[fe80::1]", "[fd00::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
    ],
)  # fmt: skip
def test_private_addresses_are_refused_unless_allowed(host: str):
    with pytest.raises(ForbiddenAddressError, match="is no public address"):
        fetched(HttpRequest("GET", f"http://{host}:9/"), reach=LIMITED)


def test_a_name_is_judged_by_what_it_stands_for():
    names, asked = pointing_to("10.0.0.1", "127.0.0.1")

    with pytest.raises(ForbiddenAddressError, match=r"does not go to 10\.0\.0\.1 \('inner\.test'\)"):
        fetched(HttpRequest("GET", "http://inner.test/"), reach=LIMITED, names=names)

    assert asked == ["inner.test"]


def test_the_address_that_was_looked_at_is_connected_to(server: Server):
    """Nobody asks for the name again, so that it cannot stand for something else by then."""
    names, asked = pointing_to("127.0.0.1")

    answer = seen(fetched(HttpRequest("GET", f"http://name.test:{server.server_port}/"), names=names))

    assert answer["headers"]["Host"] == f"name.test:{server.server_port}"
    assert asked == ["name.test"]


def test_the_next_address_of_a_name_is_tried_if_one_does_not_answer(server: Server):
    names, _ = pointing_to("127.0.0.2", "127.0.0.1")

    assert (
        fetched(HttpRequest("POST", f"http://name.test:{server.server_port}/", "x"), names=names)["statusCode"] == 200
    )


def test_settings_for_proxies_are_not_looked_at(server: Server, monkeypatch: pytest.MonkeyPatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert fetched(HttpRequest("GET", f"{server.url}/status/200"))["statusCode"] == 200


# ---------------------------------------------------------------------- tokens


def test_a_token_without_the_package_that_gets_it_names_the_package(server: Server):
    with pytest.raises(ModuleNotFoundError, match="pip install azure-identity"):
        fetched(HttpRequest("GET", server.url, token_source=TokenResource("https://x")))


@pytest.mark.parametrize(
    ("resource", "scope"),
    [
        ("https://graph.microsoft.com", "https://graph.microsoft.com/.default"),
        ("https://management.core.windows.net/", "https://management.core.windows.net/.default"),
        ("api://mine", "api://mine"),
    ],
)
def test_a_token_is_that_of_the_apps_identity(
    server: Server, monkeypatch: pytest.MonkeyPatch, resource: str, scope: str
):
    class DefaultAzureCredential:
        def __enter__(self) -> "DefaultAzureCredential":
            return self

        def __exit__(self, *_: object) -> None: ...

        def get_token(self, scope: str) -> Any:
            class Token:
                token = f"for {scope}"

            return Token

    identity = ModuleType("azure.identity")
    identity.DefaultAzureCredential = DefaultAzureCredential  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "azure.identity", identity)

    asked = seen(fetched(HttpRequest("GET", server.url, token_source=TokenResource(resource))))

    assert asked["headers"]["Authorization"] == f"Bearer for {scope}"


def test_the_client_is_loaded_by_the_first_call():
    code = "import sys, perdure.host.http_activity; sys.exit('httpx2' in sys.modules or 'httpcore2' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
