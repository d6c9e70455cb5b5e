"""What a timer function gets, and what becomes of its failures."""

import asyncio
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import azure.functions as func
import pytest

from perdure.core.records import ScheduleStatus
from perdure.errors import HostStoppedError
from perdure.host.settings.host_json import FunctionRetry
from perdure.host.timers.retry_policy import FOR_EVER, FunctionRetryPolicy, InvalidRetryError
from perdure.host.timers.schedule import Schedule, parse_schedule
from perdure.host.timers.trigger import TimerFunction, TimerTrigger, triggers_of
from perdure.host.user_code import UserCode

ZONE = timezone(timedelta(hours=2))
SECOND = timedelta(seconds=1)
AT = datetime(2031, 5, 4, 12, 0, tzinfo=UTC)
THREE_TIMES = {"strategy": "fixed_delay", "max_retry_count": "2", "delay_interval": "00:00:10"}


def schedule(text: str) -> Schedule:
    return parse_schedule(text, str, lambda: ZONE)


def a_timer(
    function: Any, text: str = "0 0 12 * * *", retry: FunctionRetryPolicy | None = None, **fields: Any
) -> TimerFunction:
    given: dict[str, Any] = {"wants_context": False, "uses_monitor": True, "runs_on_startup": False, **fields}
    return TimerFunction("nightly", function, "timer", directory="/app", schedule=schedule(text), retry=retry, **given)


@pytest.fixture(scope="module")
def code() -> Iterator[UserCode]:
    code = UserCode(threads=2, concurrency=2)
    code.start()
    yield code
    code.stop()


def run(trigger: TimerTrigger, *, status: ScheduleStatus | None = None, is_past_due: bool = False) -> list[timedelta]:
    """Run it once, without waiting; returns the pauses between its attempts."""
    pauses: list[timedelta] = []

    async def pause(length: timedelta) -> None:
        pauses.append(length)

    asyncio.run(trigger.run(status, is_past_due=is_past_due, pause=pause))
    return pauses


class TestRequest:
    @pytest.mark.parametrize("is_async", [False, True])
    def test_it_says_what_the_schedule_is_and_how_it_stands(self, code: UserCode, is_async: bool):
        requests: list[func.TimerRequest] = []

        def sync(timer: func.TimerRequest) -> None:
            requests.append(timer)

        async def coroutine(timer: func.TimerRequest) -> None:
            requests.append(timer)

        status = ScheduleStatus("nightly", "…", None, AT, AT - timedelta(days=1))
        trigger = TimerTrigger(a_timer(coroutine if is_async else sync), code, None)

        run(trigger, status=status, is_past_due=True)

        (request,) = requests
        assert isinstance(request, func.TimerRequest)
        assert request.past_due is True
        assert request.schedule == {"AdjustForDST": True}
        assert request.schedule_status == {
            "Last": "0001-01-01T00:00:00",
            "Next": "2031-05-04T14:00:00+02:00",
            "LastUpdated": "2031-05-03T14:00:00+02:00",
        }

    def test_without_a_monitor_there_is_no_status(self, code: UserCode):
        requests: list[func.TimerRequest] = []
        trigger = TimerTrigger(a_timer(lambda timer: requests.append(timer), "00:05:00"), code, None)

        run(trigger)

        (request,) = requests
        assert (request.past_due, request.schedule, request.schedule_status) == (False, {"AdjustForDST": False}, {})

    @pytest.mark.parametrize(
        ("text", "asked", "is_monitored"),
        [("0 0 12 * * *", True, True), ("0 0 12 * * *", False, False), ("* * * * * *", True, False)],
    )
    def test_what_fires_more_than_once_a_minute_is_not_monitored(
        self, code: UserCode, text: str, asked: bool, is_monitored: bool
    ):
        assert TimerTrigger(a_timer(print, text, uses_monitor=asked), code, None).is_monitored is is_monitored

    def test_another_expression_or_zone_is_another_schedule(self, code: UserCode):
        texts = {
            TimerTrigger(a_timer(print, each), code, None).schedule for each in ("* * * * *", "0 * * * *", "01:00:00")
        }

        assert texts == {"* * * * * UTC+02:00", "0 * * * * UTC+02:00", "01:00:00"}


class TestFailure:
    def test_it_is_logged_with_its_traceback_and_ends_the_run(self, code: UserCode, caplog: pytest.LogCaptureFixture):
        def fails(timer: Any) -> None:
            raise ValueError("no space left")

        assert run(TimerTrigger(a_timer(fails), code, None)) == []

        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert record.getMessage() == "timer function failed: ValueError: no space left"
        assert "in fails" in record.__dict__["traceback"]
        assert record.__dict__["function"] == "nightly"

    @pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration()])
    def test_an_exit_fails_the_run_and_not_the_host(
        self, code: UserCode, caplog: pytest.LogCaptureFixture, error: BaseException
    ):
        def leaves(timer: Any) -> None:
            raise error

        run(TimerTrigger(a_timer(leaves), code, None))

        assert type(error).__name__ in caplog.text

    def test_a_host_that_stops_is_no_failure(self, code: UserCode, caplog: pytest.LogCaptureFixture):
        def stopped(timer: Any) -> None:
            raise HostStoppedError("the host is stopping")

        with pytest.raises(HostStoppedError):
            run(TimerTrigger(a_timer(stopped, retry=FunctionRetryPolicy.parse(THREE_TIMES)), code, None))

        assert caplog.records == []


class TestRetry:
    def test_it_is_run_again_until_it_succeeds_and_told_how_often(self, code: UserCode):
        contexts: list[Any] = []

        def fails_once(timer: Any, context: func.Context) -> None:
            contexts.append(context.retry_context)
            if len(contexts) < 2:
                raise ValueError("no space left")

        trigger = TimerTrigger(a_timer(fails_once, wants_context=True), code, FunctionRetryPolicy.parse(THREE_TIMES))

        assert run(trigger) == [10 * SECOND]

        first, second = contexts
        assert (first.retry_count, first.max_retry_count, first.exception) == (0, 2, None)
        assert (second.retry_count, second.max_retry_count) == (1, 2)
        assert second.exception.message == "ValueError: no space left"
        assert "in fails_once" in second.exception.stack_trace

    def test_after_the_last_retry_it_has_failed(self, code: UserCode, caplog: pytest.LogCaptureFixture):
        attempts: list[None] = []

        def fails(timer: Any) -> None:
            attempts.append(None)
            raise ValueError("no space left")

        assert run(TimerTrigger(a_timer(fails), code, FunctionRetryPolicy.parse(THREE_TIMES))) == [10 * SECOND] * 2

        assert len(attempts) == 3
        assert [each.levelname for each in caplog.records] == ["WARNING", "WARNING", "ERROR"]
        assert "again in 10 s" in caplog.messages[0]

    def test_without_a_policy_there_is_no_retry_context(self, code: UserCode):
        contexts: list[func.Context] = []

        def nightly(timer: Any, context: func.Context) -> None:
            contexts.append(context)

        run(TimerTrigger(a_timer(nightly, wants_context=True), code, None))

        (context,) = contexts
        assert (context.retry_context, context.function_name, context.function_directory) == (None, "nightly", "/app")

    def test_delays_grow_up_to_the_longest(self):
        policy = FunctionRetryPolicy.parse(
            {
                "strategy": "exponentialBackoff",
                "maxRetryCount": -1,
                "minimumInterval": "00:00:04",
                "maximumInterval": "00:01:00",
            }
        )

        assert [policy.next_delay(retries) for retries in range(5)] == [
            4 * SECOND,
            8 * SECOND,
            16 * SECOND,
            32 * SECOND,
            60 * SECOND,
        ]
        assert policy.next_delay(10_000) == 60 * SECOND

    def test_the_policy_of_the_function_comes_before_that_of_host_json(self, code: UserCode):
        own, default = FunctionRetryPolicy.parse(THREE_TIMES), FunctionRetryPolicy(FOR_EVER, SECOND, SECOND)
        seen: list[int] = []

        def nightly(timer: Any, context: Any) -> None:
            seen.append(context.retry_context.max_retry_count)

        for trigger in triggers_of(
            [a_timer(nightly, retry=each, wants_context=True) for each in (own, None)], code, default
        ):
            run(trigger)

        assert seen == [2, FOR_EVER]

    def test_the_policy_of_host_json_is_the_same_in_other_words(self):
        assert FunctionRetryPolicy.of_setting(
            FunctionRetry("fixedDelay", 2, delay=10 * SECOND)
        ) == FunctionRetryPolicy.parse(THREE_TIMES)
        assert FunctionRetryPolicy.of_setting(
            FunctionRetry("exponentialBackoff", None, least=SECOND, most=9 * SECOND)
        ) == FunctionRetryPolicy(FOR_EVER, SECOND, 9 * SECOND)

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"strategy": "often"}, "the strategy of its retry policy is 'often'"),
            ({"strategy": None}, "the strategy of its retry policy is 'None'"),
            ({"max_retry_count": None}, "needs a number as max_retry_count"),
            ({"max_retry_count": "many"}, "needs a number as max_retry_count"),
            ({"max_retry_count": "-2"}, "-1 is for ever"),
            ({"delay_interval": None}, "delay_interval of its retry policy is missing"),
            ({"delay_interval": "10 s"}, "delay_interval of its retry policy is '10 s'"),
            (
                {"strategy": "exponential_backoff", "minimum_interval": "00:01:00", "maximum_interval": "00:00:10"},
                "minimum_interval of its retry policy is longer than maximum_interval",
            ),
        ],
    )
    def test_a_policy_that_cannot_be_used_says_why(self, change: dict[str, Any], complaint: str):
        with pytest.raises(InvalidRetryError, match=complaint):
            FunctionRetryPolicy.parse({**THREE_TIMES, **change})
