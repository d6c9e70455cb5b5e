"""What may reach a host at all, decided from the head of a request alone."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})

# The servers below let megabytes and thousands of fields through; these are the usual limits of web servers.
HEADER_FIELDS_MAX = 100
HEADER_BYTES_MAX = 32 * 1024
URL_BYTES_MAX = 8 * 1024

# Matched more widely than any router does, by slashes and by letters that resemble these: no path may get around it.
_OWN_PATH = re.compile(r"/*(?:runtime|admin|durabletask)(?:/|$)", re.IGNORECASE)
_RPC_PATH = re.compile(r"/*durabletask(?:/|$)", re.IGNORECASE)
_FORWARDED = frozenset({b"forwarded", b"x-forwarded-for", b"x-forwarded-host"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SAFE_SITES = frozenset({b"same-origin", b"none"})
_DISTRUSTED = frozenset({400, 414, 431})  # after these, what follows on the connection may not be what it seems
_AUTHORITY = re.compile(r"(?P<host>[^:\[\]/@\s]+|\[[0-9a-f:.]+\])(?P<port>:\d{1,5})?")
_SECURITY_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),  # links have codes in them
)


class Guard:
    """Lets through what the developer's own tools send, and stops what a foreign web page could make a browser send.

    Loopback is no boundary: a page can have a browser post to it, or reach it under a name of its own (DNS
    rebinding). So `Host` must be a known name on every request, and a request that changes something through the
    management API must not come from another origin. Functions behind HTTP triggers decide about origins themselves.

    The local mount `/durabletask/` is for the app's own processes, which have no key. Only loopback reaches it,
    wherever the host listens, and nothing that a proxy on this machine passes on.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: frozenset[str] = LOOPBACK_HOSTS,
        knows_addresses: bool = False,
        trusts_forwarded: bool = False,
        admits: Callable[[bytes], bool] = lambda _: False,
    ) -> None:
        """Guard `app`.

        Args:
            hosts: names that clients may use for this host; one without a port stands for any port.
            knows_addresses: whether they may use any address, too. No page can be served under one that is not its
                own, so it is names that have to be known.
            trusts_forwarded: whether `app` sees the scheme and host that a proxy in front was asked for.
            admits: whether pages of another origin may use the management API.
        """
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._knows_addresses = knows_addresses
        self._trusts_forwarded = trusts_forwarded
        self._admits = admits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # nothing here speaks it
            return
        if refused := self._refused(scope):
            await _answer(refused, send)
            return
        if self._trusts_forwarded:
            scope = _as_forwarded(scope)
        if not _is_own(scope["path"]):
            await self._app(scope, receive, send)
        elif scope["method"] not in _SAFE_METHODS and _is_foreign(scope, self._admits):
            await _answer(403, send)
        else:
            await self._app(scope, receive, _with_security_headers(send))

    def _refused(self, scope: Scope) -> int | None:
        """The status code that refuses this request, or None to let it through."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"]) > URL_BYTES_MAX:
            return 414
        if len(headers) > HEADER_FIELDS_MAX or sum(map(_bytes_of, headers)) > HEADER_BYTES_MAX:
            return 431
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1:
            return 400
        if not self._knows(hosts[0].decode("latin-1").lower()):
            return 421
        if _RPC_PATH.match(scope["path"]) and not _is_local(scope, hosts[0]):
            return 403
        return None

    def _knows(self, authority: str) -> bool:
        found = _AUTHORITY.fullmatch(authority)
        if found is None:
            return False
        if found["host"] in self._hosts or authority in self._hosts:
            return True
        return self._knows_addresses and _is_address(found["host"])


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _as_forwarded(scope: Scope) -> Scope:
    """The request as a proxy in front got it, if it tells both scheme and host."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    told = dict(reversed(headers))
    scheme, host = told.get(b"x-forwarded-proto"), told.get(b"x-forwarded-host")
    if scheme not in (b"http", b"https") or host is None or not _AUTHORITY.fullmatch(host.decode("latin-1").lower()):
        return scope
    others = [each for each in headers if each[0] != b"host"]
    return {**scope, "scheme": scheme.decode(), "headers": [(b"host", host), *others]}


def _bytes_of(header: tuple[bytes, bytes]) -> int:
    return len(header[0]) + len(header[1]) + 4  # colon, space and line end


def _is_own(path: str) -> bool:
    return _OWN_PATH.match(path) is not None


def _is_local(scope: Scope, host: bytes) -> bool:
    """Whether a process of this machine calls, for itself, by a name of this machine."""
    address = (scope.get("client") or ("", 0))[0]
    name = _AUTHORITY.fullmatch(host.decode("latin-1").lower())
    return (
        (address == "::1" or address.startswith("127."))
        and name is not None
        and name["host"] in LOOPBACK_HOSTS
        and not any(header in _FORWARDED for header, _ in scope["headers"])
    )


def _is_foreign(scope: Scope, admits: Callable[[bytes], bool]) -> bool:
    """Whether a browser says that the request comes from elsewhere. Tools that are no browsers say nothing."""
    origins = [value for name, value in scope["headers"] if name == b"origin"]
    if len(origins) == 1 and admits(origins[0]) and not _RPC_PATH.match(scope["path"]):
        return False
    host = next(value for name, value in scope["headers"] if name == b"host")
    here = scope["scheme"].encode() + b"://" + host.lower()
    for name, value in scope["headers"]:
        if name == b"origin" and value.lower() != here:
            return True
        if name == b"sec-fetch-site" and value not in _SAFE_SITES:
            return True
    return False


async def _answer(status: int, send: Send) -> None:
    headers = [(b"content-length", b"0"), *_SECURITY_HEADERS]
    if status in _DISTRUSTED:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _with_security_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *_SECURITY_HEADERS]
        await send(message)

    return send_with_headers
