"""One limit over all activities, and both kinds get their turn."""

import random

import pytest

from perdure.host.activity_slots import ActivitySlots


class Machine:
    """Where activities run: what has been given a slot and has not ended, by kind."""

    def __init__(self, count: int, threads: int) -> None:
        self.running: dict[bool, list[str]] = {True: [], False: []}
        self.crossings = 0
        self.slots: ActivitySlots[str] = ActivitySlots(
            count, threads=threads, begin_async=self._begin(True), begin_sync=self._begin(False)
        )

    def _begin(self, is_async: bool):
        def begin(name: str) -> None:
            self.crossings += 1
            self.running[is_async].append(name)

        return begin

    def submit(self, kind: str, number: int) -> None:
        for index in range(number):
            self.slots.submit(f"{kind}{index}", is_async=kind == "async")

    def end(self, kind: str) -> None:
        """End the oldest of that kind; what takes its place runs where it ran."""
        is_async = kind == "async"
        self.running[is_async].pop(0)
        successor = self.slots.ended(is_async=is_async)
        if successor is not None:
            self.running[is_async].append(successor)

    def count(self, kind: str) -> int:
        return len(self.running[kind == "async"])


def test_both_kinds_together_never_exceed_the_limit():
    machine = Machine(count=3, threads=2)

    machine.submit("async", 2)
    machine.submit("sync", 5)

    assert (machine.count("async"), machine.count("sync"), machine.slots.running) == (2, 1, 3)


def test_a_freed_slot_is_filled_in_order_by_its_own_kind_without_a_crossing():
    machine = Machine(count=2, threads=2)
    machine.submit("async", 4)
    begun = machine.crossings

    machine.end("async")
    machine.end("async")

    assert machine.running[True] == ["async2", "async3"]
    assert machine.crossings == begun


@pytest.mark.parametrize("busy", ["async", "sync"])
@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_neither_kind_keeps_the_other_from_running(busy: str, count: int):
    other = "sync" if busy == "async" else "async"
    machine = Machine(count, threads=count)
    machine.submit(busy, count + 100)
    machine.submit(other, count)

    for _ in range(count):
        machine.end(busy)
        if machine.count(other):
            break

    assert machine.count(other) == 1


def test_sync_activities_without_a_thread_leave_their_slot_to_async_ones():
    machine = Machine(count=4, threads=1)
    machine.submit("sync", 10)

    machine.submit("async", 10)

    assert (machine.count("sync"), machine.count("async")) == (1, 3)


def test_an_idle_kind_leaves_its_slots_to_the_other():
    machine = Machine(count=2, threads=2)
    machine.submit("async", 2)
    machine.submit("sync", 2)

    machine.end("async")
    machine.end("async")

    assert machine.running[False] == ["sync0", "sync1"]


def test_nothing_begins_once_it_is_closed():
    machine = Machine(count=2, threads=2)
    machine.submit("async", 3)

    machine.slots.close()
    machine.end("async")
    machine.submit("sync", 1)

    assert (machine.count("async"), machine.count("sync"), machine.slots.running) == (1, 0, 1)


@pytest.mark.parametrize("seed", range(50))
def test_in_any_order_the_limit_holds_no_slot_is_lost_and_everything_runs(seed: int):
    rng = random.Random(seed)
    count, threads = rng.randint(1, 5), rng.randint(1, 5)
    machine = Machine(count, min(threads, count))
    left = [rng.choice(("async", "sync")) for _ in range(60)]
    ended = 0

    while left or machine.slots.running:
        running = [kind for kind in ("async", "sync") if machine.count(kind)]
        if left and (not running or rng.random() < 0.5):
            machine.submit(left.pop(), 1)
        else:
            machine.end(rng.choice(running))
            ended += 1
        assert machine.count("async") + machine.count("sync") == machine.slots.running <= count
        assert machine.count("sync") <= threads

    assert ended == 60
