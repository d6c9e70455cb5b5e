"""How many requests to functions are taken, and how many run."""

import asyncio

import pytest

from perdure.errors import AppError
from perdure.host.http.added_headers import AddedHeaders
from perdure.host.http.request_queue import RequestQueue


def test_so_many_run_and_the_others_wait_in_their_order():
    async def run() -> tuple[list[int], bool, bool]:
        queue, gate, begun = RequestQueue(outstanding=3, concurrent=1), asyncio.Event(), list[int]()

        async def request(number: int) -> None:
            async with queue:
                begun.append(number)
                await gate.wait()

        requests = [asyncio.create_task(request(number)) for number in range(3)]
        await asyncio.sleep(0)
        was_full, running = queue.is_full, list(begun)
        assert running == [0]
        gate.set()
        await asyncio.gather(*requests)
        return begun, was_full, queue.is_full

    assert asyncio.run(run()) == ([0, 1, 2], True, False)


def test_a_request_that_is_given_up_while_it_waits_leaves_its_place():
    async def run() -> bool:
        queue = RequestQueue(outstanding=2, concurrent=1)
        async with queue:
            waiting = asyncio.create_task(queue.__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait({waiting})
            return queue.is_full

    assert asyncio.run(run()) is False


def test_without_limits_nothing_waits():
    async def run() -> bool:
        queue = RequestQueue()
        async with queue, queue, queue:
            return queue.is_full

    assert asyncio.run(run()) is False


@pytest.mark.parametrize(("name", "value"), [("X Y", "a"), ("", "a"), ("X-A", "a\r\nX-B: b"), ("X-A", "\u20ac")])
def test_a_header_that_cannot_be_sent_is_refused_at_the_start(name: str, value: str):
    with pytest.raises(AppError, match="DF135"):
        AddedHeaders(None, {name: value})  # type: ignore[arg-type]
