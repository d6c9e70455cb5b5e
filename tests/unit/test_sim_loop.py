"""The virtual-time event loop: asyncio runs on it unchanged, and waiting costs nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from perdure.testing.loop import VIRTUAL_EPOCH, SimLoop, StandstillError, VirtualClock


@pytest.fixture
def loop() -> Iterator[SimLoop]:
    loop = SimLoop()
    yield loop
    loop.close()


async def order_of(count: int) -> list[int]:
    """In which order tasks run that are ready at the same time."""
    order: list[int] = []

    async def note(number: int) -> None:
        order.append(number)

    await asyncio.gather(*(note(number) for number in range(count)))
    return order


def run_with_seed(seed: int | None) -> list[int]:
    loop = SimLoop(seed)
    try:
        return loop.run_until_complete(order_of(8))
    finally:
        loop.close()


def test_a_day_of_waiting_takes_no_time(loop: SimLoop):
    began = time.monotonic()

    loop.run_until_complete(asyncio.sleep(86_400))

    assert loop.time() == 86_400
    assert time.monotonic() - began < 5


def test_time_stands_still_while_anything_is_ready(loop: SimLoop):
    async def spin() -> float:
        sleeper = asyncio.ensure_future(asyncio.sleep(1))
        for _ in range(1000):
            await asyncio.sleep(0)
        now = loop.time()
        await sleeper
        return now

    assert loop.run_until_complete(spin()) == 0
    assert loop.time() == 1


def test_without_a_seed_what_came_first_runs_first():
    assert run_with_seed(None) == list(range(8))


def test_a_seed_chooses_the_order_and_the_same_seed_the_same_one():
    orders = [run_with_seed(seed) for seed in range(5)]

    assert orders == [run_with_seed(seed) for seed in range(5)]
    assert len({tuple(order) for order in orders}) > 1
    assert all(sorted(order) == list(range(8)) for order in orders)


def test_task_groups_timeouts_and_events_work(loop: SimLoop):
    async def main() -> list[str]:
        said: list[str] = []
        event = asyncio.Event()

        async def wait() -> None:
            await event.wait()
            said.append(f"heard at {loop.time()}")

        async with asyncio.TaskGroup() as group:
            group.create_task(wait())
            try:
                async with asyncio.timeout(2):
                    await asyncio.sleep(3)
            except TimeoutError:
                said.append(f"out of time at {loop.time()}")
            event.set()
        return said

    assert loop.run_until_complete(main()) == ["out of time at 2.0", "heard at 2.0"]


def test_a_cancelled_timer_does_not_hold_up_time(loop: SimLoop):
    async def main() -> None:
        loop.call_later(100, print, "never").cancel()
        await asyncio.sleep(1)

    loop.run_until_complete(main())

    assert loop.time() == 1


def test_an_executor_runs_its_function_here_and_now(loop: SimLoop):
    assert loop.run_until_complete(loop.run_in_executor(None, sum, [1, 2])) == 3
    with pytest.raises(ZeroDivisionError):
        loop.run_until_complete(loop.run_in_executor(None, lambda: 1 / 0))


def test_waiting_for_what_nobody_does_is_reported_and_not_waited_for(loop: SimLoop):
    with pytest.raises(StandstillError, match="nothing is left to run"):
        loop.run_until_complete(asyncio.shield(loop.create_future()))


def test_there_are_no_sockets(loop: SimLoop):
    with pytest.raises((NotImplementedError, AttributeError)):
        loop.run_until_complete(asyncio.open_connection("127.0.0.1", 1))


def test_a_closed_loop_takes_nothing_any_more():
    loop = SimLoop()
    loop.close()

    with pytest.raises(RuntimeError, match="closed"):
        loop.call_soon(print)
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_later(1, print)


def test_a_virtual_clock_runs_with_the_loop_and_can_be_set(loop: SimLoop):
    clock = VirtualClock(loop)

    loop.run_until_complete(asyncio.sleep(60))
    assert clock.now() == VIRTUAL_EPOCH + timedelta(minutes=1)

    clock.offset = timedelta(seconds=-90)
    assert clock.now() == VIRTUAL_EPOCH - timedelta(seconds=30)
