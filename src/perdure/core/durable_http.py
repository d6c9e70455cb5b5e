"""HTTP calls of orchestrators: one request, and the polling that an answer 202 asks for.

Rule 1: each request is a call of the activity `HTTP_ACTIVITY`, each wait a durable timer; nothing here does I/O.
Rule 2: what a request carries for its own origin goes to no other, whoever names that other.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final, cast
from urllib.parse import urljoin, urlsplit

from msgspec import Struct, to_builtins

from perdure.core.failures import FailureDetails, TaskFailedError
from perdure.core.retry import RetryPolicy
from perdure.core.tasks import Task, TimerTask

HTTP_ACTIVITY: Final = "BuiltIn::HttpActivity"
"""The name that the official extension has for it, in histories and in error texts."""

# What may be said to any origin. Everything else may prove to one who is asking: keys have headers of many names.
_FOR_ALL: Final = frozenset(
    {
        "accept",
        "accept-charset",
        "accept-encoding",
        "accept-language",
        "content-encoding",
        "content-type",
        "idempotency-key",
        "user-agent",
    }
)
# What describes a body, which a request without one does not have.
_FOR_THE_BODY: Final = frozenset({"content-encoding", "content-length", "content-type", "transfer-encoding"})
_PORTS: Final = {"http": 80, "https": 443}

# Nobody else's server decides how long an orchestration sleeps; one that needs longer says so again.
_WAIT_MAX: Final = timedelta(days=1)
_DIGITS_MAX: Final = 9  # of seconds; what is longer is no number of seconds that anybody means

# Statuses by which a server says that the same request may succeed later; from 500 on all do.
_RETRIED_STATUSES: Final = frozenset({408, 429})

Response = Mapping[str, Any]
"""`statusCode`, `headers` and `content`: what orchestrators get."""


class TokenResource(Struct, frozen=True):
    """What a token of the app's managed identity is to give access to."""

    resource: str
    kind: str = "AzureManagedIdentity"


class HttpRequest(Struct, frozen=True, rename="camel"):
    """One HTTP request, as the activity gets it; the names on the wire are the official ones."""

    method: str
    uri: str
    content: str | None = None
    headers: dict[str, str] = {}
    token_source: TokenResource | None = None

    def as_json(self) -> dict[str, Any]:
        """The request as its activity gets it."""
        return to_builtins(self)

    def moved(self, method: str, uri: str) -> HttpRequest:
        """The request that follows this one to another address.

        Args:
            method: the body goes along only if this is the request's own.
            uri: may be relative.

        Raises:
            ValueError: it is no address, or one without TLS where this one has it.
        """
        target = urljoin(self.uri, uri)
        if origin(self.uri)[0] == "https" and origin(target)[0] == "http":
            raise ValueError("an address with https led to one with http, which anybody on the way could read")
        is_at_home = origin(target) == origin(self.uri)
        content = self.content if method == self.method else None
        headers = self.headers
        if not is_at_home:
            headers = {name: value for name, value in headers.items() if name.casefold() in _FOR_ALL}
        if content is None:
            headers = _without(headers, _FOR_THE_BODY)
        return HttpRequest(method, target, content, headers, self.token_source if is_at_home else None)


class Polling:
    """How this process polls.

    Attributes:
        interval: the wait if the answer does not name one.
    """

    def __init__(self) -> None:
        self.interval = timedelta(seconds=30)  # the official extension's default


polling = Polling()
"""The host sets it from host.json before it runs anything."""


def fetched(
    request: HttpRequest,
    call: Callable[[HttpRequest], Task],
    now: Callable[[], datetime],
    timer: Callable[[datetime], TimerTask],
    *,
    policy: RetryPolicy | None = None,
    is_polled: bool = True,
) -> Generator[Task, Any, Response]:
    """Make a request, and follow answers 202 to what they announce: the code of a `Routine`.

    Args:
        call: makes the call of the activity.
        now: the orchestrator's time.
        policy: when to make a request again that fails or that the server has no answer to yet.
        is_polled: whether answers 202 are followed.
    """
    response = yield from _sent(request, call, now, timer, policy)
    while is_polled and response["statusCode"] == 202:
        location = header(response, "location")
        if location is None:
            break
        yield timer(now() + _wait(response, now()))
        request = _poll(request, location)
        response = yield from _sent(request, call, now, timer, policy)
    return response


def header(response: Response, name: str) -> str | None:
    """The value of a header, the first if there are several; None if there is none. Names ignore case."""
    headers: Mapping[str, Any] = response.get("headers") or {}
    for each, value in headers.items():
        if each.casefold() == name:
            return cast("list[str]", value)[0] if isinstance(value, list) else str(value)
    return None


def origin(uri: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port: who is asked.

    Raises:
        ValueError: the port is no number.
    """
    parts = urlsplit(uri)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _sent(
    request: HttpRequest,
    call: Callable[[HttpRequest], Task],
    now: Callable[[], datetime],
    timer: Callable[[datetime], TimerTask],
    policy: RetryPolicy | None,
) -> Generator[Task, Any, Response]:
    """One request, again while `policy` says so; what it gives up with is the last answer, or else the last failure."""
    began, attempts = now(), 0
    while True:
        response: Response = {}
        try:
            response = yield call(request)
            failure = _refusal(request, response)
        except TaskFailedError as error:
            failure = error
        attempts += 1
        wait = None if policy is None or failure is None else policy.delay(attempts, failure, now() - began)
        if wait is None:
            if failure is not None and not response:
                raise failure
            return response
        yield timer(now() + wait)


def _refusal(request: HttpRequest, response: Response) -> TaskFailedError | None:
    """The failure that an answer amounts to for a retry policy, or None if another attempt would not help."""
    status = response["statusCode"]
    if status < 500 and status not in _RETRIED_STATUSES:
        return None
    message = f"{request.method} was answered with status {status}"
    return TaskFailedError(message, FailureDetails("HttpStatusError", message))


def _poll(request: HttpRequest, location: str) -> HttpRequest:
    headers = _without(request.headers, frozenset({"x-functions-key"}))
    asked = HttpRequest(request.method, request.uri, None, headers, request.token_source)
    return asked.moved("GET", location)


def _wait(response: Response, now: datetime) -> timedelta:
    """What the answer's Retry-After says, in seconds or as a date."""
    text = (header(response, "retry-after") or "").strip()
    if text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX:
        return min(timedelta(seconds=int(text)), _WAIT_MAX)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return polling.interval
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
    return min(max(when - now, timedelta()), _WAIT_MAX)


def _without(headers: dict[str, str], names: frozenset[str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.casefold() not in names}
