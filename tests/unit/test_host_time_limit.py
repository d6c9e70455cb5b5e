"""Functions that take longer than they may: they fail at once and once, unless somebody is debugging."""

import asyncio
import bdb
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from perdure.errors import FunctionTimeoutError, HostStoppedError
from perdure.host.time_limit import TimeLimit, debugger_is_attached
from perdure.host.user_code import Invocation, UserCode

DEADLINE_S = 10.0
SHORT = timedelta(milliseconds=30)


@contextmanager
def limited(limit: timedelta | None = SHORT, concurrency: int = 4) -> Iterator[UserCode]:
    code = UserCode(threads=concurrency, concurrency=concurrency, time_limit=limit)
    code.start()
    try:
        yield code
    finally:
        code.stop()


class Call:
    """An activity's call; `outcomes` is what it was told, and `told` is set by the first."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.invocation = Invocation("slow", "i1")
        self.outcomes: list[Any] = []
        self.told = threading.Event()

    def arguments(self) -> dict[str, Any]:
        return {}

    def done(self, value: Any, error: BaseException | None) -> None:
        self.outcomes.append(error if error is not None else value)
        self.told.set()


def eventually(look: Callable[[], bool]) -> None:
    until = time.monotonic() + DEADLINE_S
    while not look():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.001)


def test_a_thread_that_takes_too_long_has_failed_while_it_goes_on(caplog: pytest.LogCaptureFixture):
    go, ended = threading.Event(), threading.Event()

    def slow() -> str:
        go.wait(DEADLINE_S)
        ended.set()
        return "too late"

    call = Call(slow)
    with limited() as code, caplog.at_level(logging.WARNING, "perdure.host"):
        code.submit(call, is_async=False)
        assert call.told.wait(DEADLINE_S)
        assert not ended.is_set()
        go.set()
        assert ended.wait(DEADLINE_S)

    (outcome,) = call.outcomes
    assert isinstance(outcome, FunctionTimeoutError)
    assert "Timeout value of 0:00:00.030000 exceeded by function 'slow'" in str(outcome)
    assert "its invocation has failed" in caplog.text


def test_a_coroutine_that_takes_too_long_is_cancelled_and_frees_its_slot():
    cancelled = threading.Event()

    async def slow() -> None:
        try:
            await asyncio.sleep(DEADLINE_S)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def quick() -> str:
        return "ran"

    first, second = Call(slow), Call(quick)
    with limited(concurrency=1) as code:
        code.submit(first, is_async=True)
        code.submit(second, is_async=True)
        assert second.told.wait(DEADLINE_S)

    assert cancelled.is_set()
    assert isinstance(first.outcomes[0], FunctionTimeoutError)
    assert second.outcomes == ["ran"]


def test_a_coroutine_that_will_not_be_cancelled_has_failed_all_the_same():
    go = asyncio.Event()

    async def stubborn() -> str:
        try:
            await asyncio.sleep(DEADLINE_S)
        except asyncio.CancelledError:
            await go.wait()
        return "too late"

    call = Call(stubborn)
    with limited() as code:
        code.submit(call, is_async=True)
        assert call.told.wait(DEADLINE_S)

    assert [type(each) for each in call.outcomes] == [FunctionTimeoutError]


def test_calls_of_the_host_are_limited_too():
    async def slow() -> None:
        await asyncio.sleep(DEADLINE_S)

    with limited() as code, pytest.raises(FunctionTimeoutError):
        asyncio.run(code.call(slow, {}, Invocation("http")))


@pytest.mark.parametrize("limit", [None, timedelta(seconds=5)])
def test_what_ends_in_time_is_told_as_it_is(limit: timedelta | None):
    def quick() -> str:
        return "value"

    async def broken() -> None:
        raise KeyError("own")

    with limited(limit) as code:
        assert asyncio.run(code.call(quick, {}, Invocation("f"))) == "value"
        with pytest.raises(KeyError):
            asyncio.run(code.call(broken, {}, Invocation("f")))


def test_an_error_of_its_own_that_is_a_timeout_stays_one():
    async def times_out() -> None:
        async with asyncio.timeout(0):
            await asyncio.sleep(DEADLINE_S)

    with limited(timedelta(seconds=5)) as code, pytest.raises(TimeoutError):
        asyncio.run(code.call(times_out, {}, Invocation("f")))


def test_what_the_host_no_longer_begins_is_told_so():
    call = Call(lambda: None)
    limit = TimeLimit(SHORT)

    limit.limited(call, is_async=False).done(None, HostStoppedError("stopping"))

    assert isinstance(call.outcomes[0], HostStoppedError)


def test_nobody_runs_out_of_time_while_a_debugger_is_attached():
    looks: list[bool] = []
    is_debugged = True

    def look() -> bool:
        looks.append(is_debugged)
        return is_debugged

    limit = TimeLimit(SHORT, look)
    call = Call(lambda: None)
    watched = limit.limited(call, is_async=False)
    watched.arguments()
    eventually(lambda: len(looks) > 2)

    assert call.outcomes == []
    is_debugged = False
    assert call.told.wait(DEADLINE_S)
    limit.stop()


def test_a_debugger_is_noticed_when_a_thread_is_in_it():
    seen: list[bool] = []

    class Stopping(bdb.Bdb):
        def user_line(self, frame: Any) -> None:
            seen.append(debugger_is_attached())
            self.set_continue()

    assert not debugger_is_attached()
    Stopping().runcall(lambda: sum([1, 2]))
    assert seen
    assert all(seen)
