"""Tasks that are a piece of orchestrator code: calls with retries, waits with a timeout, HTTP calls."""

from __future__ import annotations

from collections.abc import Callable, Generator
from datetime import datetime
from typing import Any

from azure.durable_functions.options import ManagedIdentityTokenSource, RetryOptions, TokenSource

from perdure.core.codec import payloads
from perdure.core.cursor import OrchestrationCursor
from perdure.core.durable_http import HTTP_ACTIVITY, HttpRequest, Response, TokenResource, fetched
from perdure.core.retry import retried
from perdure.core.tasks import ActivityCall, EventTask, Routine, Task, TaskAny, TimerTask


class RetryAbleTask(Routine):
    """A call that is made again if it fails; its name is the official one.

    Attributes:
        num_attempts: how many attempts have been begun.
        retry_options: when and how often there is another one.
    """

    __slots__ = ("num_attempts", "retry_options")

    def __init__(self, options: RetryOptions, call: Callable[[], Task], cursor: OrchestrationCursor) -> None:
        def attempt() -> Task:
            self.num_attempts += 1
            return call()

        code = retried(options.to_policy(), attempt, lambda: cursor.now, lambda when: TimerTask(when, cursor))
        super().__init__(code, cursor)
        self.num_attempts = 0
        self.retry_options = options


def event_until(event: EventTask, fire_at: datetime, cursor: OrchestrationCursor) -> Routine:
    """A wait for an event that raises TimeoutError at a time, and then leaves the event to the next wait for it."""

    def waiting() -> Generator[Task, Any, Any]:
        timer = TimerTask(fire_at, cursor)
        if (yield TaskAny([event, timer])) is timer:
            event.cancel()
            raise TimeoutError(f"no event '{event.name}' came until {fire_at:%Y-%m-%d %H:%M:%S} UTC")
        timer.cancel()
        return (yield event)

    return Routine(waiting(), cursor)


def http_call(
    request: HttpRequest, cursor: OrchestrationCursor, retry_options: RetryOptions | None, is_polled: bool
) -> Routine:
    """An HTTP request, polled if its answer asks for that."""

    def call(asked: HttpRequest) -> Task:
        return ActivityCall(HTTP_ACTIVITY, payloads.encode(asked.as_json()))

    code: Generator[Task, Any, Response] = fetched(
        request,
        call,
        lambda: cursor.now,
        lambda when: TimerTask(when, cursor),
        policy=None if retry_options is None else retry_options.to_policy(),
        is_polled=is_polled,
    )
    return Routine(code, cursor)


def http_request(
    method: str, uri: str, content: Any, headers: dict[str, str] | None, token_source: TokenSource | None
) -> HttpRequest:
    """The request that the arguments of `call_http` describe; content that is no text becomes JSON.

    Raises:
        ValueError: the method is empty, or the address is not a complete one.
        TypeError: the content cannot be written as JSON, or a header or the token source is something else.
    """
    if not method:
        raise ValueError("call_http: the method cannot be empty")
    if not uri.casefold().startswith(("http://", "https://")):
        raise ValueError(f"call_http: '{uri}' is no complete address: it must begin with http:// or https://")
    if headers is not None and not all(isinstance(each, str) for pair in headers.items() for each in pair):  # pyright: ignore[reportUnnecessaryIsInstance] - users
        raise TypeError(f"call_http: names and values of headers must be str, but got {headers!r}")
    return HttpRequest(
        method,
        uri,
        content if content is None or isinstance(content, str) else payloads.encode(content),
        dict(headers or {}),
        _token_resource(token_source),
    )


def _token_resource(source: TokenSource | None) -> TokenResource | None:
    if source is None:
        return None
    if not isinstance(source, ManagedIdentityTokenSource):
        raise TypeError(f"call_http: expected a ManagedIdentityTokenSource, but got {source!r}")
    return TokenResource(source.resource)
