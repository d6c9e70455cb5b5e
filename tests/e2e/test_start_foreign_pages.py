"""What a page of somebody else's can do with the browser of a developer whose host asks for no keys: nothing."""

from __future__ import annotations

import contextlib
import itertools
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from start_kit import HostProcess, copy_app, eventually, started

from perdure.webapi.routes import ROUTES

PUBLIC, LOCAL = "/runtime/webhooks/durabletask", "/durabletask"
EVIL = "https://evil.example"

# What browsers send for a form, a fetch, an image, a frame and a beacon of a foreign page; a page cannot change these.
BROWSERS: list[dict[str, str]] = [
    {"Origin": EVIL, "Content-Type": "application/x-www-form-urlencoded"},
    {"Origin": "null", "Content-Type": "text/plain"},
    {"Origin": EVIL, "Content-Type": "multipart/form-data; boundary=x", "Sec-Fetch-Site": "cross-site"},
    {"Origin": EVIL, "Content-Type": "application/json", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"},
    {"Origin": "http://localhost:3000", "Content-Type": "application/json", "Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Content-Type": "text/plain"},
]
IMAGES: list[dict[str, str]] = [
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image", "Referer": f"{EVIL}/"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    {"X-HTTP-Method-Override": "POST", "X-Method-Override": "DELETE"},
]


class Kept:
    """A running host with something in it to lose."""

    def __init__(self, folder: Path, host: HostProcess) -> None:
        self.host = host
        self._file = folder / ".perdure" / "Fuzzed.db"
        self._queries = (
            "select * from instances order by 1, 2",
            "select * from history order by 1, 2, 3",
            "select * from mail order by 1, 2",
            "select * from large_inputs order by 1",
            "select * from entities order by 1",
            "select * from held_locks order by 1",
        )

    def rows(self) -> list[list[Any]]:
        """Everything that is stored but for who is alive."""
        with contextlib.closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True)) as store:
            return [store.execute(each).fetchall() for each in self._queries]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    folder = copy_app("fuzzed", tmp_path_factory.mktemp("pages"))
    with started(folder) as host:
        host.start("approval", "x")
        host.start("echo", "done")
        host.result("done")
        host.request("POST", f"{PUBLIC}/entities/counter/x?op=add")
        eventually(lambda: host.request("GET", f"{PUBLIC}/entities/counter/x").status == 200)
        eventually(lambda: host.status("x")["customStatus"])
        yield Kept(folder, host)


def paths(verb: str | None = None) -> list[tuple[str, str]]:
    """Every endpoint with each of two instances in it, on both mounts."""
    found: list[tuple[str, str]] = []
    for (each, template, _), base, name in itertools.product(ROUTES, (PUBLIC, LOCAL), ("x", "done")):
        filled = template.replace("{functionName}", "echo").replace("{entityName}", "counter")
        parts = [name if part.startswith("{") else part for part in filled.split("/")]
        if verb in (None, each):
            found.append((each, f"{base}/{'/'.join(parts)}"))
    return found


@pytest.mark.parametrize("headers", BROWSERS)
def test_what_it_posts_changes_nothing(kept: Kept, headers: dict[str, str]):
    before = kept.rows()
    changing = [each for each in paths() if each[0] != "GET"]
    changing += [("POST", path) for verb, path in paths() if verb == "DELETE"]  # as `_method=DELETE` would have it

    answers = {
        kept.host.request(verb, f"{path}?_method=DELETE&op=add", '{"a": 1}', headers).status for verb, path in changing
    }
    answers |= {kept.host.request("POST", "/admin/functions/echo", "{}", headers).status}

    assert answers == {403}
    assert kept.rows() == before


@pytest.mark.parametrize("headers", IMAGES)
def test_nothing_changes_by_being_looked_at(kept: Kept, headers: dict[str, str]):
    """Whatever the path: what an image or a link could ask for has no effect."""
    before = kept.rows()

    for verb in ("GET", "HEAD", "OPTIONS"):
        for _, path in paths():
            kept.host.request(verb, f"{path}?op=delete&reason=x&_method=DELETE", headers=headers)

    assert kept.rows() == before


def test_it_cannot_ask_beforehand_either(kept: Kept):
    asking = {"Origin": EVIL, "Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": "x-a"}

    for _, path in paths("DELETE"):
        headers = kept.host.request("OPTIONS", path, headers=asking).headers
        assert not [name for name in headers if name.lower().startswith("access-control-")]


def test_a_web_socket_is_not_opened(kept: Kept):
    head = (
        "GET {} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: https://evil.example\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    before = kept.rows()

    for path in ("/", f"{PUBLIC}/instances", f"{LOCAL}/orchestrators/echo"):
        with socket.create_connection(("127.0.0.1", kept.host.port), timeout=10) as connection:
            connection.sendall(head.format(path).encode())
            assert b" 101 " not in connection.recv(65536).partition(b"\r\n")[0]

    assert kept.rows() == before


def test_no_answer_of_the_host_is_kept_framed_or_taken_for_something_else(kept: Kept):
    own = [path for _, path in paths()] + ["/admin/host/status", "/admin/nothing", f"{PUBLIC}/nothing"]

    for path in own:
        headers = kept.host.request("GET", path).headers
        assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["content-type"] in (None, "application/json; charset=utf-8", "application/json")


def test_the_only_page_of_the_host_can_load_run_and_send_nothing(kept: Kept):
    page = kept.host.request("GET", "/")

    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert not any(each in page.body.lower() for each in (b"<script", b"<style", b"style=", b"onload", b"<form"))
