"""Calls that the official host runs by itself, or that it has no words for."""

from __future__ import annotations

from collections.abc import Callable, Generator
from datetime import datetime
from typing import Any

from azure.durable_functions.later import not_there
from azure.durable_functions.options import RetryOptions
from azure.durable_functions.protocol.cursor import HostRoutine, ReplayCursor
from azure.durable_functions.routines import Calls, LongTimerTask, RetryAbleTask

from perdure.core.durable_http import HttpRequest, Response
from perdure.core.failures import TaskFailedError
from perdure.core.retry import RetryPolicy
from perdure.core.tasks import ActivityCall, Routine, SubOrchestrationCall, Task, TimerTask
from perdure.core.wire_actions import WireAction, call_activity, call_http, call_sub_orchestrator, when_all


class ProtocolCalls(Calls):
    """Makes the tasks of an orchestrator that is replayed for the official host."""

    def __init__(self, cursor: ReplayCursor) -> None:
        super().__init__(cursor)
        self._replay = cursor

    def timer(self, fire_at: datetime) -> TimerTask | LongTimerTask:
        """A timer, in parts if it is longer than the host's may be."""
        request = self._replay.request
        if request.first_part(fire_at - self._replay.now) is None:
            return super().timer(fire_at)
        return LongTimerTask(fire_at, request.first_part, self._replay)

    def retried(self, options: RetryOptions, call: Callable[[], Task]) -> Task:
        """A call that the host makes again; if the options ask what no host can answer, the code does."""
        if options.retry_on is not None or options.give_up_on is not None:
            return super().retried(options, call)
        return RetriedByHost(options, call, self._replay)

    def http(self, request: HttpRequest, retry_options: RetryOptions | None, is_polled: bool) -> Routine:
        """A request that the host makes, and polls for; if it may be made again, the code does both."""
        if retry_options is None:
            return self._by_host(request, is_polled)
        code = self.fetched(request, lambda asked: self._by_host(asked, False), retry_options, is_polled)
        return Routine(code, self._replay)

    def _by_host(self, request: HttpRequest, is_polled: bool) -> HttpByHost:
        code = self.fetched(request, self.http_activity, None, is_polled)
        return HttpByHost(request, is_polled, code, self._replay)

    def require(self, feature: str) -> None:
        """Refuse what the host cannot be told.

        Raises:
            NotImplementedError: always (DF130).
        """
        raise not_there(feature)


class RetriedByHost(HostRoutine, RetryAbleTask):
    """A call that the host makes again if it fails, with a timer after each failure: after the last one, too."""

    __slots__ = ("_action",)

    def __init__(self, options: RetryOptions, call: Callable[[], Task], cursor: ReplayCursor) -> None:
        super().__init__(options, call, cursor)
        self._action = _with_retry(call(), options)

    def _attempts(
        self, policy: RetryPolicy, attempt: Callable[[], Task], now: Callable[[], datetime],
        timer: Callable[[datetime], TimerTask],
    ) -> Generator[Task, Any, Any]:  # fmt: skip
        began = now()
        while True:
            try:
                return (yield attempt())
            except TaskFailedError:
                if policy.timeout is not None and now() - began >= policy.timeout:
                    raise
                # When it fires is the host's to say; that there is one takes a number.
                yield timer(now() + policy.first_interval)
                if self.num_attempts >= policy.max_attempts:
                    raise

    @property
    def action_repr(self) -> WireAction:
        return when_all([self._action])


class HttpByHost(HostRoutine):
    """An HTTP request that the host makes, and polls for."""

    __slots__ = ("_action",)

    def __init__(
        self, request: HttpRequest, is_polled: bool, code: Generator[Task, Any, Response], cursor: ReplayCursor
    ) -> None:
        super().__init__(code, cursor)
        members: dict[str, Any] = {
            "method": request.method,
            "uri": request.uri,
            "content": request.content,
            "headers": request.headers or None,
        }
        if request.token_source is not None:
            members["tokenSource"] = {"resource": request.token_source.resource, "kind": request.token_source.kind}
        if not is_polled:
            members["asynchronousPatternEnabled"] = False
        self._action = call_http(members)

    @property
    def action_repr(self) -> WireAction:
        return self._action


def _with_retry(call: Task, options: RetryOptions) -> WireAction:
    match call:
        case ActivityCall():
            return call_activity(call.name, call.input, options.to_json())
        case SubOrchestrationCall():
            return call_sub_orchestrator(call.name, call.input, call.instance_id, call.version, options.to_json())
        case _:
            raise TypeError(f"{type(call).__name__} is nothing that a host makes again")
