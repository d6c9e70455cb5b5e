"""Tasks that are a piece of orchestrator code: calls with retries, waits with a timeout, HTTP calls."""

from __future__ import annotations

from collections.abc import Callable, Generator
from datetime import datetime, timedelta
from typing import Any

from azure.durable_functions.options import ManagedIdentityTokenSource, RetryOptions, TokenSource

from perdure.core.codec import payloads
from perdure.core.cursor import OrchestrationCursor
from perdure.core.durable_http import HTTP_ACTIVITY, HttpRequest, Response, TokenResource, fetched
from perdure.core.retry import RetryPolicy, retried
from perdure.core.tasks import ActivityCall, EventTask, Routine, Task, TaskAll, TaskAny, TimerTask
from perdure.core.wire_actions import WireAction, create_timer, when_all


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

        code = self._attempts(
            options.to_policy(), attempt, lambda: cursor.now, lambda when: TimerTask(when, cursor)
        )  # fmt: skip
        super().__init__(code, cursor)
        self.num_attempts = 0
        self.retry_options = options

    def _attempts(
        self, policy: RetryPolicy, attempt: Callable[[], Task], now: Callable[[], datetime],
        timer: Callable[[datetime], TimerTask],
    ) -> Generator[Task, Any, Any]:  # fmt: skip
        return retried(policy, attempt, now, timer)


class LongTimerTask(Routine):
    """A timer that is longer than its host's may be: several, one after the other. Its name is the official one.

    Args:
        fire_at: when the last one fires.
        first_part: how long the first part is of a timer of some length; None if the host takes it whole.
        cursor: the running orchestration.
    """

    __slots__ = ("_fire_at", "_part", "is_cancelled")

    def __init__(
        self, fire_at: datetime, first_part: Callable[[timedelta], timedelta | None], cursor: OrchestrationCursor
    ) -> None:
        def part() -> TimerTask:
            length = first_part(fire_at - cursor.now)
            return TimerTask(fire_at if length is None else cursor.now + length, cursor)

        super().__init__(self._parts(part, lambda: cursor.now >= fire_at), cursor)
        self._fire_at = fire_at
        self._part = part()
        self.is_cancelled = False

    def _parts(self, part: Callable[[], TimerTask], is_late: Callable[[], bool]) -> Generator[Task, Any, list[None]]:
        yield TaskAll([self._part])  # the first one is written as a task made of others
        # A part may fire after the time of them all, if the host was down, and a bit before its own, if clocks differ.
        while self._part.fire_at < self._fire_at and not is_late():
            self._part = part()
            yield self._part
        return [None]  # as SDK 1.x

    def is_canceled(self) -> bool:
        """Whether it was given up."""
        return self.is_cancelled

    def cancel(self) -> None:
        """Give the timer up; cancelling twice does nothing.

        Raises:
            ValueError: it has already fired.
        """
        if self.is_completed:
            raise ValueError("Cannot cancel a completed task.")
        self.is_cancelled = True
        self._part.cancel()

    @property
    def action_repr(self) -> WireAction:
        return when_all([create_timer(self._part.fire_at, self._part.is_cancelled)])


class Calls:
    """Makes those tasks of an orchestration that depend on who hosts it: here, perdure.

    Args:
        cursor: the running orchestration.
    """

    def __init__(self, cursor: OrchestrationCursor) -> None:
        self._cursor = cursor

    def timer(self, fire_at: datetime) -> TimerTask | LongTimerTask:
        """A timer of any length."""
        return TimerTask(fire_at, self._cursor)

    def retried(self, options: RetryOptions, call: Callable[[], Task]) -> Task:
        """What `call` makes, made again if it fails."""
        return RetryAbleTask(options, call, self._cursor)

    def http(self, request: HttpRequest, retry_options: RetryOptions | None, is_polled: bool) -> Routine:
        """An HTTP request, polled if its answer asks for that."""
        return Routine(self.fetched(request, self.http_activity, retry_options, is_polled), self._cursor)

    def http_activity(self, request: HttpRequest) -> Task:
        """The call of the activity that makes an HTTP request."""
        return ActivityCall(HTTP_ACTIVITY, payloads.encode(request.as_json()))

    def fetched(
        self,
        request: HttpRequest,
        call: Callable[[HttpRequest], Task],
        retry_options: RetryOptions | None,
        is_polled: bool,
    ) -> Generator[Task, Any, Response]:
        """The code of a routine that makes a request by `call`."""
        cursor = self._cursor
        return fetched(
            request,
            call,
            lambda: cursor.now,
            lambda when: TimerTask(when, cursor),
            policy=None if retry_options is None else retry_options.to_policy(),
            is_polled=is_polled,
        )

    def require(self, feature: str) -> None:
        """Told what the code is about to use, for hosts that have less than perdure."""


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
