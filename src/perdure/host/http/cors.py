"""Which web pages a browser lets read this host's answers (CORS).

Rule 1: an origin is named in the answer only if the settings name it; with `*`, the answer says `*`, and never that
        credentials may come with it.
Rule 2: for what the host itself serves, `*` means any page of this machine: whoever can read or end all instances
        because a developer once opened the app's own functions to everybody would be a surprise.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec import Struct
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# How long a browser may go by an answer to its preflight, in seconds; two hours is the most that Chromium heeds.
PREFLIGHT_AGE_S = 7200

ANY = "*"

_LOOPBACK = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?")


class CorsPolicy(Struct, frozen=True):
    """What local.settings.json and the command line say about origins.

    Attributes:
        origins: those that are named, in lower case and without a slash at the end; `*` among them stands for any.
        credentials: whether pages of named origins may send cookies and the like.
    """

    origins: frozenset[str] = frozenset()
    credentials: bool = False

    @classmethod
    def of(cls, origins: str, credentials: bool) -> CorsPolicy:
        """The policy that people mean who write origins separated by commas, in any case, with a slash at the end."""
        written = (each.strip().rstrip("/").lower() for each in origins.split(","))
        return cls(frozenset(each for each in written if each), credentials)

    @property
    def warnings(self) -> list[str]:
        """What of the policy no browser would accept, or is likely a mistake."""
        found: list[str] = []
        if self.credentials and ANY in self.origins:
            found.append("CORS: browsers refuse credentials where any origin may come: name the origins instead of '*'")
        for each in sorted(self.origins - {ANY}):
            if "://" not in each or each.count("/") > 2:
                found.append(f"CORS: '{each}' is not an origin; one looks like  http://localhost:3000")
        return found

    def admits(self, origin: bytes, *, to_host: bool) -> bool:
        """Whether pages of this origin may use the app's functions or, with `to_host`, the host's own paths."""
        text = origin.decode("latin-1").lower()
        if text in self.origins:
            return True
        return ANY in self.origins and (not to_host or _LOOPBACK.fullmatch(text) is not None)

    def headers_for(self, origin: bytes) -> list[tuple[bytes, bytes]]:
        """What an answer to a page of an admitted origin says."""
        if ANY in self.origins:
            return [(b"access-control-allow-origin", b"*")]
        headers = [(b"access-control-allow-origin", origin)]
        if self.credentials:
            headers.append((b"access-control-allow-credentials", b"true"))
        return headers


class Cors:
    """Answers the preflights of browsers, and tells them which pages may read the answers of `app`.

    Args:
        is_hosts: whether a path is the host's own.
    """

    def __init__(self, app: ASGIApp, policy: CorsPolicy, is_hosts: Callable[[str], bool]) -> None:
        self._app = app
        self._policy = policy
        self._is_hosts = is_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin, asks_method, asks_headers = _preflight(scope)
        if origin is None:
            await self._app(scope, receive, self._with(send, []))
            return
        is_admitted = self._policy.admits(origin, to_host=self._is_hosts(scope["path"]))
        headers = self._policy.headers_for(origin) if is_admitted else []
        if scope["method"] == "OPTIONS" and asks_method is not None:
            if headers:
                headers += [
                    (b"access-control-allow-methods", asks_method),
                    (b"access-control-max-age", str(PREFLIGHT_AGE_S).encode()),
                ]
                if asks_headers is not None:
                    headers.append((b"access-control-allow-headers", asks_headers))
            await send({"type": "http.response.start", "status": 204, "headers": [*headers, *self._vary]})
            await send({"type": "http.response.body", "body": b""})
            return
        await self._app(scope, receive, self._with(send, headers))

    @property
    def _vary(self) -> list[tuple[bytes, bytes]]:
        # Where each named origin gets its own answer, a cache must not give one page's answer to another.
        return [] if ANY in self._policy.origins else [(b"vary", b"Origin")]

    def _with(self, send: Send, headers: list[tuple[bytes, bytes]]) -> Send:
        added = [*headers, *self._vary]
        if not added:
            return send

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                # What a function says about origins itself would contradict the settings: browsers refuse two answers.
                own = [each for each in message["headers"] if not headers or each[0].lower() not in _DECIDED]
                message["headers"] = [*own, *added]
            await send(message)

        return send_with_headers


_DECIDED = frozenset({b"access-control-allow-origin", b"access-control-allow-credentials"})


def _preflight(scope: Scope) -> tuple[bytes | None, bytes | None, bytes | None]:
    """Origin, and the method and headers that a preflight asks for."""
    origin = method = headers = None
    for name, value in scope["headers"]:
        if name == b"origin":
            origin = value
        elif name == b"access-control-request-method":
            method = value
        elif name == b"access-control-request-headers":
            headers = value
    return origin, method, headers
