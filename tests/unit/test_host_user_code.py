"""User functions on their threads: how many at once, who waits for whom, and how it ends."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from perdure.errors import HostStoppedError
from perdure.host.user_code import Invocation, UserCode, is_async

DEADLINE_S = 10.0


@contextmanager
def user_code(*, threads: int, concurrency: int) -> Iterator[UserCode]:
    code = UserCode(threads=threads, concurrency=concurrency)
    code.start()
    try:
        yield code
    finally:
        code.stop()


def eventually(look: Callable[[], bool]) -> None:
    until = time.monotonic() + DEADLINE_S
    while not look():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.001)


class Work:
    """Activities of both kinds that run until they are let go, and how many did at once."""

    def __init__(self, code: UserCode) -> None:
        self._code = code
        self._lock = threading.Lock()
        self._go = threading.Event()
        self.running = self.most = self.ended = 0

    def submit(self, is_async: bool) -> None:
        self._code.submit(_Call(self, self.of_loop if is_async else self.of_pool), is_async=is_async)

    def let_go(self) -> None:
        self._go.set()

    def of_pool(self) -> None:
        self._began()
        self._go.wait(DEADLINE_S)

    async def of_loop(self) -> None:
        self._began()
        while not self._go.is_set():
            await asyncio.sleep(0.001)

    def _began(self) -> None:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)

    def done(self) -> None:
        with self._lock:
            self.running -= 1
            self.ended += 1


class _Call:
    invocation = Invocation("work")

    def __init__(self, work: Work, function: Callable[..., Any]) -> None:
        self._work = work
        self.function = function

    def arguments(self) -> dict[str, Any]:
        return {}

    def done(self, value: Any, error: BaseException | None) -> None:
        self._work.done()


def called(code: UserCode, function: Callable[[], Any]) -> Any:
    """What one of the host's own calls returns."""

    async def call() -> Any:
        async with asyncio.timeout(DEADLINE_S):
            return await code.call(function, {}, Invocation("f"))

    return asyncio.run(call())


async def answers_async() -> str:
    return "async"


def answers() -> str:
    return "sync"


def test_sync_and_async_activities_share_one_limit():
    with user_code(threads=4, concurrency=5) as code:
        work = Work(code)
        for number in range(200):
            work.submit(is_async=number % 2 == 0)
        eventually(lambda: work.running == 5)
        work.let_go()
        eventually(lambda: work.ended == 200)

    assert work.most == 5


@pytest.mark.parametrize("function", [answers, answers_async])
def test_http_functions_do_not_wait_for_activities(function: Callable[[], Any]):
    """Twenty sync activities block, and hold every slot and every thread that activities have."""
    with user_code(threads=6, concurrency=6) as code:
        work = Work(code)
        for _ in range(20):
            work.submit(is_async=False)
        eventually(lambda: work.running == 6)

        assert called(code, function) == ("async" if is_async(function) else "sync")
        assert work.ended == 0
        work.let_go()


def test_http_functions_are_not_counted():
    """One blocks while the only slot is free: an activity gets that all the same."""
    with user_code(threads=1, concurrency=1) as code:
        work, began, go = Work(code), threading.Event(), threading.Event()

        def blocks() -> None:
            began.set()
            go.wait(DEADLINE_S)

        request = threading.Thread(target=called, args=(code, blocks))
        request.start()
        assert began.wait(DEADLINE_S)
        work.submit(is_async=False)
        work.let_go()

        eventually(lambda: work.ended == 1)
        go.set()
        request.join()


def test_draining_waits_for_running_activities_and_begins_no_more():
    with user_code(threads=1, concurrency=2) as code:
        work = Work(code)
        for is_async_one in (True, False, True, False):
            work.submit(is_async_one)
        eventually(lambda: work.running == 2)
        threading.Timer(0.05, work.let_go).start()

        asyncio.run(code.drain(DEADLINE_S))

        assert (work.ended, work.most) == (2, 2)


def test_draining_gives_up_when_its_time_is_over():
    with user_code(threads=1, concurrency=1) as code:
        work = Work(code)
        work.submit(is_async=False)
        eventually(lambda: work.running == 1)

        asyncio.run(code.drain(0.05))

        assert work.ended == 0
        work.let_go()


def test_a_sync_function_that_is_called_while_the_host_stops_is_told_so():
    with user_code(threads=1, concurrency=1) as code:
        asyncio.run(code.drain(0))

        with pytest.raises(HostStoppedError):
            called(code, answers)
