"""Functions of the app when the host stops: what runs is waited for, what will not end is not."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from perdure.core.records import ActivityTask
from perdure.host.invoke import Activity, LocalExecutor
from perdure.host.user_code import UserCode

DEADLINE_S = 10.0


@pytest.fixture
def user_code() -> Iterator[UserCode]:
    user_code = UserCode(threads=4, concurrency=4)
    user_code.start()
    yield user_code
    user_code.stop()


def _call(user_code: UserCode, function: Callable[..., Any], times: int = 1) -> list[Any]:
    """Start calls of an activity; the list gets their results."""
    executor = LocalExecutor({}, {"work": Activity("work", function, "given")}, user_code)
    results: list[Any] = []
    for number in range(times):
        task = ActivityTask(f"x/{number}", "x", "x", number, "work", None)
        executor.start_activity(task, lambda _, result: results.append(result))
    return results


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_has_begun_when_a_drain_ends_has_also_ended(user_code: UserCode, kind: str):
    begun: list[None] = []

    def sync_work(given: Any) -> None:
        begun.append(None)
        time.sleep(0.001)

    async def async_work(given: Any) -> None:
        begun.append(None)
        await asyncio.sleep(0.001)

    results = _call(user_code, sync_work if kind == "sync" else async_work, times=200)
    asyncio.run(user_code.drain(DEADLINE_S))

    assert len(results) == len(begun) < 200


@pytest.mark.parametrize("kind", ["blocks", "will not be cancelled"])
def test_a_coroutine_that_does_not_end_does_not_keep_the_host_from_ending(kind: str):
    user_code = UserCode(threads=1, concurrency=1)
    user_code.start()
    begun, released = threading.Event(), threading.Event()

    async def endless(given: Any) -> None:
        begun.set()
        while not released.is_set():
            try:
                released.wait(DEADLINE_S) if kind == "blocks" else await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                pass

    _call(user_code, endless)
    assert begun.wait(DEADLINE_S)
    before = time.monotonic()
    user_code.stop()
    took_s = time.monotonic() - before
    released.set()

    assert took_s < DEADLINE_S / 2
