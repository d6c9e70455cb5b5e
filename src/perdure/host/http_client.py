"""HTTP requests to whatever address an orchestration names.

Rule 1: the address that was checked is the one that is connected to; a name is resolved once for each request.
Rule 2: nothing but the request decides where it goes: no proxy settings, no `.netrc`, no redirect unseen.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cache
from importlib import import_module
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import httpx2

from perdure.core.codec import payloads
from perdure.core.durable_http import HttpRequest, TokenResource
from perdure.errors import ForbiddenAddressError
from perdure.host.http_reach import EVERYWHERE, Reach

TIMEOUT_S: Final = 100.0  # for all of it, redirects included; the official extension's
CONNECT_TIMEOUT_S: Final = 10.0  # for each address of a name, so that one that is dead leaves time for the next
POST_TIMEOUT_S: Final = 30.0  # for each step of a post that nobody waits for
REDIRECTS_MAX: Final = 10

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_BODY_IS_KEPT: Final = frozenset({307, 308})
_PORTS: Final = {"http": 80, "https": 443}
_TEXT: Final = "text/plain; charset=utf-8"  # the official extension's, whatever the content

# Resources whose scope the official extension spells out; others are the scope themselves.
_SCOPED: Final = frozenset(
    {"https://management.core.windows.net", "https://management.azure.com", "https://graph.microsoft.com"}
)


async def fetch(request: HttpRequest, *, reach: Reach) -> dict[str, Any]:
    """Make a request, follow redirects, and return the answer as orchestrators get it.

    Args:
        reach: where it may go; asked again for every redirect.

    Raises:
        ConnectionError: there was no answer, or too many redirects.
        TimeoutError: there was none within `TIMEOUT_S`.
        ForbiddenAddressError: the address, or that of a redirect, may not be reached.
        ValueError: the request cannot be made, or the answer is larger than a payload may be.
        ModuleNotFoundError: it needs a token, and `azure.identity` is not installed.
    """
    shown = _shown(request.uri)
    # Causes are left out: the history would keep a traceback of each of the client's layers.
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await _fetched(request, reach)
    except (TimeoutError, httpx2.TimeoutException):
        raise TimeoutError(f"{request.method} {shown}: no answer in time (at most {TIMEOUT_S:g} seconds)") from None
    except (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, httpx2.InvalidURL) as error:
        raise ValueError(f"{request.method} {shown}: {error}") from None
    except (httpx2.RequestError, OSError) as error:
        raise ConnectionError(f"{request.method} {shown}: {_reason(error)}") from None


async def _fetched(request: HttpRequest, reach: Reach) -> dict[str, Any]:
    async with httpx2.AsyncClient(
        transport=_CheckedTransport(reach),
        trust_env=False,
        follow_redirects=False,
        timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S),
    ) as client:
        for redirects in range(REDIRECTS_MAX + 1):
            response = await client.send(await _built(client, request), stream=True)
            try:
                location = response.headers.get("location")
                if location is None or response.status_code not in _REDIRECTS:
                    return await _answer(response, request.uri if redirects else None)
            finally:
                await response.aclose()
            request = request.moved(_method(request.method, response.status_code), location)
    raise httpx2.TooManyRedirects(f"more than {REDIRECTS_MAX} redirects")


@asynccontextmanager
async def posting() -> AsyncGenerator[Callable[[str, bytes, Mapping[str, str]], Awaitable[int]], None]:
    """What posts a body to a URL, with headers, and returns the status of the answer; redirects are not followed.

    It raises ConnectionError, TimeoutError, or ValueError if the URL is none; none of their texts has a header's value.
    """
    async with httpx2.AsyncClient(
        transport=_CheckedTransport(EVERYWHERE),
        trust_env=False,
        follow_redirects=False,
        timeout=httpx2.Timeout(POST_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
    ) as client:

        async def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
            try:
                return (await client.post(url, content=body, headers=headers)).status_code
            except httpx2.TimeoutException:
                raise TimeoutError(f"{_shown(url)} does not answer") from None
            except (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, httpx2.InvalidURL):
                raise ValueError(f"{_shown(url)} cannot be posted to") from None
            except (httpx2.RequestError, OSError) as error:
                raise ConnectionError(f"{_shown(url)}: {_reason(error)}") from None

        yield post


class _CheckedTransport(httpx2.AsyncHTTPTransport):
    """Connects to addresses that it has resolved, and checked, itself."""

    def __init__(self, reach: Reach) -> None:
        super().__init__(verify=_tls(), trust_env=False)
        self._reach = reach

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url, host = request.url, request.url.raw_host.decode("ascii")
        request.extensions = {**request.extensions, "sni_hostname": host}  # certificates are for names
        if url.scheme not in _PORTS:
            raise httpx2.UnsupportedProtocol(f"'{url.scheme}' is not http or https")
        failure: Exception | None = None
        for address in await self._addresses(host, url.port or _PORTS[url.scheme]):
            request.url = url.copy_with(host=address)  # the header Host was made before
            try:
                return await super().handle_async_request(request)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                failure = error
            finally:
                request.url = url
        raise failure or httpx2.ConnectError(f"'{host}' has no address")

    async def _addresses(self, host: str, port: int) -> list[str]:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        allowed: list[str] = []
        refusal: ForbiddenAddressError | None = None
        for address in dict.fromkeys(str(each[4][0]) for each in found):
            try:
                self._reach.check(host, port, address)
                allowed.append(address)
            except ForbiddenAddressError as error:
                refusal = refusal or error
        if refusal is not None and not allowed:
            raise refusal
        return allowed


@cache
def _tls() -> ssl.SSLContext:
    return httpx2.create_ssl_context()  # reads the certificates of the system, which takes longer than many requests


async def _built(client: httpx2.AsyncClient, request: HttpRequest) -> httpx2.Request:
    headers = httpx2.Headers(request.headers)
    if request.content is not None and "content-type" not in headers:
        headers["Content-Type"] = _TEXT
    if request.token_source is not None:
        headers["Authorization"] = f"Bearer {await asyncio.to_thread(_token, request.token_source)}"
    content = None if request.content is None else request.content.encode()
    return client.build_request(request.method, request.uri, content=content, headers=headers)


def _token(source: TokenResource) -> str:
    try:
        identity = import_module("azure.identity")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "ManagedIdentityTokenSource needs the package azure-identity, which is not installed. "
            "Install it where the app runs: pip install azure-identity"
        ) from error
    resource = source.resource.rstrip("/")
    scope = f"{resource}/.default" if resource in _SCOPED else source.resource
    with identity.DefaultAzureCredential() as credential:
        return credential.get_token(scope).token


async def _answer(response: httpx2.Response, redirected_to: str | None) -> dict[str, Any]:
    content = bytearray()
    async for part in response.aiter_bytes():
        content += part
        if len(content) > payloads.limit_bytes:
            raise ValueError(
                f"the answer is larger than {payloads.limit_bytes:,} bytes, the limit of payloads (DF302). Let an "
                "activity of your own fetch it and store it elsewhere, or raise PERDURE_MAX_PAYLOAD_BYTES."
            )
    headers = _headers(response, redirected_to)
    return {"statusCode": response.status_code, "headers": headers, "content": _text(response, bytes(content))}


def _text(response: httpx2.Response, content: bytes) -> str:
    try:
        return content.decode(response.charset_encoding or "utf-8", "replace")
    except LookupError:  # a charset that Python does not know
        return content.decode("utf-8", "replace")


def _headers(response: httpx2.Response, redirected_to: str | None) -> dict[str, str | list[str]]:
    """The headers as they were spelt; those that came repeatedly have a list.

    A relative Location is relative to where redirects led, which nobody else knows.
    """
    spelt: dict[str, str] = {}
    headers: dict[str, str | list[str]] = {}
    for raw_name, raw_value in response.headers.raw:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if redirected_to is not None and name.casefold() == "location":
            value = urljoin(redirected_to, value)
        name = spelt.setdefault(name.casefold(), name)
        before = headers.get(name)
        if before is None:
            headers[name] = value
        else:
            headers[name] = [*before, value] if isinstance(before, list) else [before, value]
    return headers


def _method(method: str, status: int) -> str:
    """The method after a redirect, as browsers choose it."""
    if status in _BODY_IS_KEPT or method.upper() in ("GET", "HEAD"):
        return method
    return "GET" if status == 303 or method.upper() == "POST" else method


def _shown(uri: str) -> str:
    """The address without its query and its user, which may hold secrets."""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _reason(error: BaseException) -> str:
    """The text of what lies at the bottom: what is above says only that something failed."""
    while (inner := error.__cause__ or error.__context__) is not None and str(inner):
        error = inner
    return str(error) or type(error).__name__
