"""Functions behind timer triggers: what they get, and what becomes of their failures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import azure.functions as func
from azure.functions.timer import TimerRequest
from msgspec import Struct

from perdure.core.failures import text_of
from perdure.core.records import ScheduleStatus
from perdure.engine.schedules import Pause
from perdure.errors import HostStoppedError
from perdure.host.app.bindings import NO_ANNOTATION, Binding, Parameters
from perdure.host.invocation_context import InvocationContext
from perdure.host.timers.retry_policy import FunctionRetryPolicy, RetryContext, RetryException
from perdure.host.timers.schedule import CronSchedule, MachineZone, Schedule
from perdure.host.tracebacks import users_traceback
from perdure.host.user_code import Invocation, UserCode, UserCodeExit

log = logging.getLogger("perdure.host")

NEVER = "0001-01-01T00:00:00"
"""What a schedule status has as `Last` if there was no run yet."""


class TimerFunction(Struct, frozen=True):
    """A function behind a timer trigger.

    Attributes:
        function: what to call, with everything given but the request and the context.
        request_name: the parameter that gets the `TimerRequest`.
        wants_context: its parameter `context` gets the invocation's context.
        directory: what its context has as `function_directory`.
        uses_monitor: its schedule is kept, and a run made up for that came due while no host was there.
        runs_on_startup: it also runs when the host has started.
    """

    name: str
    function: Callable[..., Any]
    request_name: str
    wants_context: bool
    directory: str
    schedule: Schedule
    uses_monitor: bool
    runs_on_startup: bool
    retry: FunctionRetryPolicy | None


class TimerTrigger:
    """Runs a timer function when the engine says so."""

    def __init__(self, timer: TimerFunction, user_code: UserCode, retry: FunctionRetryPolicy | None) -> None:
        self.name = timer.name
        self.is_monitored = timer.uses_monitor and not timer.schedule.is_frequent
        self.runs_on_startup = timer.runs_on_startup
        self.next_after = timer.schedule.next_after
        self._timer = timer
        self._user_code = user_code
        self._retry = retry

    @property
    def schedule(self) -> str:
        """The expression and the zone that it counts in."""
        schedule = self._timer.schedule
        return f"{schedule.text} {schedule.zone}" if isinstance(schedule, CronSchedule) else schedule.text

    async def run(self, status: ScheduleStatus | None, *, is_past_due: bool, pause: Pause) -> None:
        """Call the function, and again as its retry policy says.

        Raises:
            HostStoppedError: the host stops before the last attempt was made.
        """
        if is_past_due and status is not None:
            log.info("timer is past due", extra={"function": self.name, "due": status.next.isoformat()})
        request = TimerRequest(
            past_due=is_past_due,
            schedule={"AdjustForDST": isinstance(self._timer.schedule, CronSchedule)},
            schedule_status=None if status is None else self._shown(status),
        )
        retries = 0
        error = await self._attempt(request, retries, None)
        while error is not None:
            delay = None if self._retry is None else self._retry.next_delay(retries)
            _log_failure(self.name, error, None if delay is None else f"; again in {delay.total_seconds():g} s")
            if delay is None:
                return
            await pause(delay)
            retries += 1
            error = await self._attempt(request, retries, error)

    async def _attempt(self, request: TimerRequest, retries: int, last_error: Exception | None) -> Exception | None:
        """Call the function; returns what it raised."""
        kwargs: dict[str, Any] = {self._timer.request_name: request}
        if self._timer.wants_context:
            kwargs["context"] = InvocationContext(
                self.name, self._timer.directory, retry_context=self._retry_context(retries, last_error)
            )
        try:
            await self._user_code.call(self._timer.function, kwargs, Invocation(self.name))
        except HostStoppedError:
            raise
        except Exception as error:  # user code: the run has failed, the next one comes
            return error
        return None

    def _retry_context(self, retries: int, error: Exception | None) -> RetryContext | None:
        policy = self._retry
        if policy is None:
            return None
        raised = None
        if error is not None:
            raised = RetryException(self.name, _described(error), users_traceback(error))
        return RetryContext(retries, policy.retries_max, raised)

    def _shown(self, status: ScheduleStatus) -> dict[str, str]:
        return {
            "Last": NEVER if status.last is None else self._local(status.last),
            "Next": self._local(status.next),
            "LastUpdated": self._local(status.updated_at),
        }

    def _local(self, when: datetime) -> str:
        schedule = self._timer.schedule
        return when.astimezone(schedule.zone if isinstance(schedule, CronSchedule) else UTC).isoformat()


def problem_of_timer(trigger: Binding, parameters: Parameters) -> str | None:
    """Why a function cannot take what its timer trigger gives, or None."""
    annotation = parameters.annotations.get(trigger.name, NO_ANNOTATION)
    if annotation is NO_ANNOTATION or annotation is Any or not isinstance(annotation, type):
        return None
    if issubclass(func.TimerRequest, annotation):
        return None
    return (
        f'type of {trigger.name} binding in the binding decorator "{trigger.kind}" does not match its Python '
        f'annotation "{annotation.__name__}"'
    )


def is_set(trigger: Binding, member: str, default: bool) -> bool:
    """Whether a member that is true or false is true; function.json files also have them as texts."""
    value = trigger.members.get(member)
    return default if value is None else str(value).strip().casefold() in ("true", "1")


def schedule_row(schedule: Schedule, now: datetime) -> str:
    """A schedule as people read it, with the next time that it fires at."""
    if not isinstance(schedule, CronSchedule):
        return f"every {schedule.text}"
    following = schedule.next_after(now)
    if following is None:
        return f"{schedule.text}  never: there is no such day"
    local = following.astimezone(schedule.zone)
    day = "" if local.date() == now.astimezone(schedule.zone).date() else f"{local:%Y-%m-%d} "
    zone = "" if isinstance(schedule.zone, MachineZone) else f" {schedule.zone}"
    time = local.strftime("%H:%M:%S" if local.second else "%H:%M")
    return f"{schedule.text}  next {day}{time}{zone}"


def _log_failure(name: str, error: Exception, more: str | None) -> None:
    extra = {"function": name, "traceback": users_traceback(error)}
    if more is None:
        log.error("timer function failed: %s", _described(error), extra=extra)
    else:
        log.warning("timer function failed: %s%s", _described(error), more, extra=extra)


def _described(error: Exception) -> str:
    return str(error) if isinstance(error, UserCodeExit) else f"{type(error).__name__}: {text_of(error)}"


def triggers_of(
    timers: Sequence[TimerFunction], user_code: UserCode, default_retry: FunctionRetryPolicy | None
) -> list[TimerTrigger]:
    """What the engine runs on time, one for each timer function.

    Args:
        default_retry: for functions without a retry policy of their own.
    """
    return [TimerTrigger(each, user_code, each.retry or default_retry) for each in timers]
