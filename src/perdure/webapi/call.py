"""One request to the management API: what of it the handlers ask for."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote_to_bytes
from uuid import UUID, uuid5

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from perdure.webapi.access import ALL_OPERATIONS
from perdure.webapi.payloads import decoded_once, json_text

if TYPE_CHECKING:
    from starlette.types import Receive, Scope

    from perdure.engine.client import TaskHubClient
    from perdure.webapi.access import ManagementAccess

# A payload is stored whole and read whole at every replay; larger ones belong in files.
BODY_BYTES_MAX = 16 * 1024 * 1024

# The two mounts. ASCII, or letters that only resemble these ones (such as a dotless i) would match too.
_PREFIX = re.compile(r"/+(?P<public>runtime/webhooks/)?durabletask(?:/+|$)", re.IGNORECASE | re.ASCII)

_REQUESTS = UUID("4f5a6e0e-6a0c-5d0b-9a5e-0d6f1c2b7a39")  # the namespace of request ids; any will do


def is_management_path(path: str) -> bool:
    """Whether a (decoded) path is below one of the management API's two mounts; case does not matter."""
    return _PREFIX.match(path) is not None


class Call:
    """One request.

    Attributes:
        client: the hub's.
        hub: its name.
        method: the verb.
        is_rpc: it came to the local mount, so an SDK 1.x client is calling: it strings URLs together without escaping,
            encodes values twice, and asks for no second page.
        access: who may call, or None if everybody may who can.
        granted: operations that this caller may hand on links to; of those that `admit` has not judged, all.
    """

    def __init__(
        self,
        client: TaskHubClient,
        hub: str,
        access: ManagementAccess | None,
        scope: Scope,
        receive: Receive,
        *,
        keeps_event_text: bool,
    ) -> None:
        self._keeps_event_text = keeps_event_text
        self.client = client
        self.hub = hub
        self.access = access
        self.granted: AbstractSet[str] = ALL_OPERATIONS
        self.method: str = scope["method"]
        self.receive = receive
        self._scope = scope
        prefix = _PREFIX.match(scope["path"])
        self.is_rpc = prefix is not None and prefix["public"] is None
        self._query: dict[str, list[str]] = {}
        for name, value in parse_qsl(scope["query_string"].decode(errors="replace"), keep_blank_values=True):
            self._query.setdefault(name.lower(), []).append(value)

    def path(self) -> list[str]:
        """The segments after the mount's prefix, decoded: `%2F` separates, and on the public mount `+` is a space.

        Raises:
            HTTPException: 400, they are no text.
        """
        segments = self._segments()
        return segments[1:] if self._opens_rpc(segments[0]) else segments

    def admit(self) -> bool:
        """Judge the caller: whether it has shown what this request needs.

        Raises:
            HTTPException: 400, the path is no text.
        """
        if self.access is None:
            return True
        if self._opens_rpc(self._segments()[0]):
            return True
        key = self.header("x-functions-key") or self.query("code") or ""
        self.granted = self.access.granted(self.method, self.path(), key)
        return bool(self.granted)

    def _opens_rpc(self, segment: str) -> bool:
        return self.is_rpc and self.access is not None and self.access.opens_rpc(segment)

    def _segments(self) -> list[str]:
        raw = self._raw_path if self.is_rpc else self._raw_path.replace(b"+", b" ")
        try:
            path = unquote_to_bytes(raw).decode()
        except UnicodeDecodeError:
            raise HTTPException(400, "The path is not valid UTF-8.") from None
        return _PREFIX.sub("", path, count=1).strip("/").split("/")

    def query(self, name: str) -> str | None:
        """The first value of a query parameter, or None."""
        return self._query[name][0] if name in self._query else None

    def queries(self, name: str) -> list[str]:
        """All values of a query parameter, whether repeated or separated by commas, without blank ones."""
        values = (each.strip() for value in self._query.get(name, ()) for each in value.split(","))
        return [each for each in values if each]

    def header(self, name: str) -> str:
        """The first value of a header, or an empty text."""
        wanted = name.encode()
        return next((value.decode("latin-1") for each, value in self._scope["headers"] if each == wanted), "")

    @property
    def request_id(self) -> str | None:
        """The same for every attempt of one request, or None if the caller gave no `Idempotency-Key`.

        A key counts for what is asked and of whom: given again for another instance, it names another request.
        """
        key = self.header("idempotency-key")
        return uuid5(_REQUESTS, "\n".join([self.method, *self.path(), key])).hex if key else None

    @property
    def origin(self) -> str:
        """Scheme, host and port as the caller wrote them, so that links work where the caller is."""
        return f"{self._scope['scheme']}://{self.header('host')}"

    @property
    def url(self) -> str:
        """The absolute URL of this request."""
        query: bytes = self._scope["query_string"]
        return self.origin + (self._raw_path + b"?" + query if query else self._raw_path).decode("latin-1")

    async def json_text(self) -> str | None:
        """The body as the JSON text of one value, or None if there is none.

        Raises:
            HTTPException: 413, the body is too large.
            ValueError: it is not JSON; the text says why.
        """
        text = json_text(await self.body())
        return decoded_once(text) if self.is_rpc else text

    async def event_text(self) -> str | None:
        """The data of an event as JSON text, or None if there is none; raises what `json_text` does."""
        return json_text(await self.body()) if self._keeps_event_text else await self.json_text()

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            HTTPException: 413, as soon as it is known to be larger than allowed.
        """
        declared = self.header("content-length")
        if declared.isdecimal() and int(declared[:20]) > BODY_BYTES_MAX:
            raise _too_large()
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > BODY_BYTES_MAX:
                raise _too_large()
            chunks.append(chunk)
            if not message.get("more_body", False):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    @property
    def _raw_path(self) -> bytes:
        return self._scope.get("raw_path") or self._scope["path"].encode()


def _too_large() -> HTTPException:
    return HTTPException(413, f"The request body is larger than {BODY_BYTES_MAX // 1024 // 1024} MB.")
