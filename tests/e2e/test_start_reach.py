"""Where `call_http` gets to from a host that others can reach: nowhere but the public web, however it is asked."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from start_kit import HostProcess, copy_app, eventually, started

from address_tricks import urls

BASE = "/runtime/webhooks/durabletask"
REFUSALS = (
    "call_http does not go to",  # by the rule
    "Name or service not known",  # by the name service, which knows no such name
    "is not http or https",
    "Invalid ",
    "Request URL is missing",
    "idna",
    "Nodename nor servname",  # as other systems say it
    "label empty or too long",
    "has no address",
    "is no complete address",
    "does not appear to be an IPv4 or IPv6 address",
)


class Canary:
    """Listens at one port of every address of this machine, and remembers who came."""

    def __init__(self) -> None:
        self.visits: list[str] = []
        if socket.has_dualstack_ipv6():
            self._socket = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        else:
            self._socket = socket.create_server(("0.0.0.0", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.visits.append(connection.recv(65536).decode("latin-1").partition("\r\n")[0])
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\ncanary")

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Leader(BaseHTTPRequestHandler):
    """Leads on: `/STATUS?address` answers with that status, and the address as its Location."""

    def do_GET(self) -> None:
        path, _, target = self.path.partition("?")
        self.send_response(int(path.strip("/")))
        self.send_header("Location", target)
        self.send_header("Retry-After", "0")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def canary() -> Iterator[Canary]:
    found = Canary()
    yield found
    found.close()


@pytest.fixture
def leader() -> Iterator[str]:
    """Where a server is that leads elsewhere, as `host:port`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Leader) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def visited(host: HostProcess, folder: Path, addresses: list[str]) -> dict[str, str]:
    """What became of calls to these addresses."""
    keys = folder / ".perdure" / "keys.json"
    key = {"x-functions-key": json.loads(keys.read_text())["master"]} if keys.exists() else {}
    started_one = host.request("POST", f"{BASE}/orchestrators/visits/all", json.dumps(addresses), key)
    assert started_one.status == 202

    def ended() -> Any:
        status = host.request("GET", f"{BASE}/instances/all", headers=key).json()
        return status if status["runtimeStatus"] not in ("Pending", "Running") else None

    status = eventually(ended)
    assert status["runtimeStatus"] == "Completed", status
    return dict(zip(addresses, status["output"], strict=True))


def own_address() -> str:
    """An address of this machine that is no loopback, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        try:
            sender.connect(("192.0.2.1", 9))  # nothing is sent
            return sender.getsockname()[0]
        except OSError:
            return "127.0.0.1"


@pytest.mark.parametrize("options", [("--address", "0.0.0.0"), ("--address", "127.0.0.1")])
def test_nothing_private_is_connected_to_however_its_address_is_written(
    tmp_path: Path, canary: Canary, leader: str, options: tuple[str, ...]
):
    """The proxy may stand on this machine, too: then the address is a loopback, and yet everybody gets in."""
    folder = copy_app("reaching", tmp_path)
    direct = [*urls(canary.port), f"http://{own_address()}:{canary.port}/"]
    some = [f"http://{each}:{canary.port}/" for each in ("127.0.0.1", "localhost", "[::1]", "2130706433", "loop.test")]
    some += [f"https://127.0.0.1:{canary.port}/", f"//127.1:{canary.port}/", f"http://{own_address()}:{canary.port}/"]
    led = [f"http://{leader}/{code}?{each}" for code in (301, 302, 303, 307, 308, 202) for each in some]
    led += [f"http://{leader}/302?http://{leader}/{code}?{some[0]}" for code in (302, 307, 202)]  # in two steps
    led += [f"http://{leader}/202?http://{leader}/{code}?{some[0]}" for code in (302, 202)]
    allowed = {"PERDURE_CALL_HTTP_ALLOW": f"{leader}, *:{canary.port}"}  # so that no port is what stops it

    with started(folder, *options, "--behind-tls-proxy", environ=allowed) as host:
        became = visited(host, folder, direct + led)

    assert canary.visits == []
    assert len(direct) >= 200
    assert [(url, text) for url, text in became.items() if not any(each in text for each in REFUSALS)] == []
    by_rule = [url for url in became if "call_http does not go to" in became[url]]
    assert len(by_rule) > 150
    assert [url for url in led if url not in by_rule] == []


def test_other_ports_than_those_of_the_web_are_not_connected_to(tmp_path: Path, canary: Canary):
    folder = copy_app("reaching", tmp_path)
    addresses = [f"http://8.8.8.8:{port}/" for port in (22, 8080, canary.port)]

    with started(folder, "--behind-tls-proxy", environ={"PERDURE_CALL_HTTP_ALLOW": "*"}) as host:
        became = visited(host, folder, addresses)
        printed = "".join(host.text)

    assert all("none of the ports of the web" in text for text in became.values())
    assert "'*', which allows nothing" in printed


def test_a_host_that_nobody_else_reaches_gets_there(tmp_path: Path, canary: Canary, leader: str):
    """So the canary of the tests above would sing."""
    folder = copy_app("reaching", tmp_path)
    addresses = [f"http://{each}:{canary.port}/" for each in ("127.0.0.1", "2130706433", "0x7f.1", "loop.test")]
    addresses += [f"http://{leader}/{code}?http://127.0.0.1:{canary.port}/" for code in (302, 202)]

    with started(folder) as host:
        became = visited(host, folder, addresses)

    assert set(became.values()) == {"canary"}
    assert len(canary.visits) == len(addresses)


def test_what_the_owner_allows_is_reached_and_nothing_beside_it(tmp_path: Path, canary: Canary):
    folder = copy_app("reaching", tmp_path)
    allowed = [f"http://{name}:{canary.port}/" for name in ("loop.test", "LOOP.test.")]
    addresses = [f"http://127.0.0.1:{canary.port}/", "http://loop.test:1/", f"http://zero.test:{canary.port}/"]

    with started(folder, "--behind-tls-proxy", environ={"PERDURE_CALL_HTTP_ALLOW": f"loop.test:{canary.port}"}) as host:
        became = visited(host, folder, allowed + addresses)

    assert [became.pop(each) for each in allowed] == ["canary", "canary"]
    assert all("call_http does not go to" in text for text in became.values())
    assert len(canary.visits) == 2
