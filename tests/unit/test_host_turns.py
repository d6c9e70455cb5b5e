"""At most so many at the same time."""

import threading

import pytest

from perdure.host.turns import Turns


def test_no_more_begin_than_may_and_the_rest_in_order():
    began: list[int] = []
    turns = Turns(2)

    for number in range(5):
        turns.take(lambda number=number: began.append(number))
    at_first = list(began)
    turns.ended()
    turns.ended()

    assert at_first == [0, 1]
    assert began == [0, 1, 2, 3]


def test_places_that_nobody_wants_are_free_again():
    turns = Turns(1)
    began: list[int] = []

    for number in range(3):
        turns.take(lambda number=number: began.append(number))
        turns.ended()

    assert began == [0, 1, 2]


@pytest.mark.parametrize("limit", [None, 3])
def test_all_of_them_run_whichever_threads_they_are_on(limit: int | None):
    turns, lock, all_ran = Turns(limit), threading.Lock(), threading.Event()
    running = most = ran = 0

    def work() -> None:
        nonlocal running, most, ran
        with lock:
            running += 1
            most = max(most, running)
        with lock:
            running -= 1
            ran += 1
            if ran == 200:
                all_ran.set()
        turns.ended()

    for _ in range(200):
        turns.take(lambda: threading.Thread(target=work).start())

    assert all_ran.wait(10)
    assert limit is None or most <= limit
