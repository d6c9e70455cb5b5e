"""Headers that every answer gets: `customHeaders` in host.json."""

from __future__ import annotations

import re
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perdure.errors import AppError

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class AddedHeaders:
    """Adds headers to the answers of `app` that do not have them already.

    Raises:
        AppError: there can be no such header.
    """

    def __init__(self, app: ASGIApp, headers: Mapping[str, str]) -> None:
        for name, value in headers.items():
            if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
                raise AppError(
                    "DF135",
                    "host.json asks for a header that cannot be sent",
                    f"extensions.http.customHeaders: {_wrong(name)}",
                    "Names are letters, digits and hyphens; values have no line breaks. Correct it, and start again.",
                )
        self._app = app
        self._headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                more = [each for each in self._headers if each[0] not in present]
                message["headers"] = [*message["headers"], *more]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _wrong(name: str) -> str:
    """What is wrong with a header, without its value, which may be a secret."""
    return f"the value of {name}" if _NAME.fullmatch(name) else f"the name {name!r}"
