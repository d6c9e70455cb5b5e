"""Which web pages may read answers, and which may use the host's own paths."""

import asyncio
from typing import Any

import pytest

from perdure.host.http.cors import Cors, CorsPolicy

SHOP = b"https://shop.example"
LOCAL = b"http://localhost:5173"


def answered(policy: CorsPolicy, *headers: tuple[bytes, bytes], own: tuple[tuple[bytes, bytes], ...] = ()) -> Any:
    """Headers of the answer of an application, which has some of its own."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": list(own)})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/api/x", "headers": list(headers)}
    asyncio.run(Cors(app, policy, lambda path: False)(scope, None, send))  # type: ignore[arg-type]
    return sent[0]["headers"]


def test_origins_are_read_as_people_write_them():
    policy = CorsPolicy.of(" https://Shop.example/ ,,http://localhost:5173", False)

    assert policy.origins == {"https://shop.example", "http://localhost:5173"}
    assert policy.warnings == []


@pytest.mark.parametrize(
    ("origins", "credentials", "told"),
    [
        ("*", True, "name the origins instead"),
        ("localhost:3000", False, "'localhost:3000' is not an origin"),
        ("http://localhost:3000/app", False, "is not an origin"),
    ],
)
def test_what_no_browser_would_accept_is_told(origins: str, credentials: bool, told: str):
    (warning,) = CorsPolicy.of(origins, credentials).warnings

    assert told in warning


@pytest.mark.parametrize("origin", [SHOP, LOCAL, b"https://evil.example", b"null", b""])
def test_any_origin_is_never_named_and_gets_no_credentials(origin: bytes):
    headers = answered(CorsPolicy.of("*", True), (b"origin", origin))

    assert headers == [(b"access-control-allow-origin", b"*")]


def test_an_origin_is_the_whole_of_it():
    policy = CorsPolicy.of("https://shop.example", True)

    admitted = [SHOP, b"https://SHOP.example"]
    others = [b"http://shop.example", b"https://shop.example:8443", b"https://shop.example.evil.example", b"null"]

    assert all(policy.admits(each, to_host=True) for each in admitted)
    assert not any(policy.admits(each, to_host=False) for each in others)


def test_any_origin_means_pages_of_this_machine_for_what_the_host_serves_itself():
    policy = CorsPolicy.of("*", False)

    assert policy.admits(b"https://evil.example", to_host=False)
    assert not policy.admits(b"https://evil.example", to_host=True)
    assert not policy.admits(b"http://localhost.evil.example", to_host=True)
    assert all(policy.admits(each, to_host=True) for each in (LOCAL, b"http://127.0.0.1:80", b"https://[::1]:3000"))


def test_what_a_function_says_about_origins_itself_gives_way():
    own = ((b"Access-Control-Allow-Origin", b"*"), (b"x-a", b"1"))

    headers = answered(CorsPolicy.of("https://shop.example", False), (b"origin", SHOP), own=own)

    assert headers == [(b"x-a", b"1"), (b"access-control-allow-origin", SHOP), (b"vary", b"Origin")]


def test_an_answer_to_nobodys_page_may_not_be_cached_for_one():
    assert answered(CorsPolicy.of("https://shop.example", False)) == [(b"vary", b"Origin")]
