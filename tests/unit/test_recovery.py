"""Which interrupted activity is begun next, and which never again."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta

from perdure.core.records import ActivityTask, Instance, Lease, RuntimeStatus, Start
from perdure.engine.executor import ActivityResult, Failed
from perdure.engine.recovery import Recovery
from perdure.engine.settings import Settings
from perdure.stores.memory import MemoryStore

NOW = datetime(2031, 5, 4, tzinfo=UTC)
SETTINGS = Settings(dispatches_alone=3, dispatches_max=10)


def alone(test: Callable[[], Coroutine[None, None, None]]) -> Callable[[], None]:
    """Has pytest run a coroutine function."""

    @functools.wraps(test)
    def run() -> None:
        asyncio.run(test())

    return run


class Life:
    """A host's life: it takes the one partition over, and begins what its forerunner left."""

    def __init__(self, store: MemoryStore) -> None:
        self.begun: list[str] = []
        self.finished: dict[str, ActivityResult] = {}
        self.recovery = Recovery(
            store,
            SETTINGS,
            start=lambda tasks: self.begun.extend(task.activity_id for task in tasks),
            finish=lambda task, result: self.finished.update({task.activity_id: result}),
            is_settled=lambda task: task in self.settled,
        )
        self.settled: list[ActivityTask] = []

    async def end(self, task: ActivityTask, *, settled: bool = True) -> None:
        self.recovery.ended(task)
        if settled:
            self.settled.append(task)
        await self.recovery.go_on()


@alone
async def test_suspects_run_one_by_one_and_the_one_begun_least_goes_first():
    store, lease = await taken_over()
    tasks = [a_task("often"), a_task("less"), a_task("new")]
    for task, count in zip(tasks, (8, 5, 0), strict=True):
        for _ in range(count):
            await store.dispatch(lease, [task])
    life = Life(store)

    await life.recovery.begin(lease, tasks)
    assert life.begun == ["new", "less"]
    await life.end(tasks[1])
    assert life.begun == ["new", "less", "often"]


@alone
async def test_a_suspect_whose_worker_process_died_is_counted_and_makes_room_for_the_next():
    store, lease = await taken_over()
    tasks = [a_task("culprit"), a_task("bystander")]
    for _ in range(3):
        await store.dispatch(lease, tasks)
    life = Life(store)
    await life.recovery.begin(lease, tasks)
    (first,) = (task for task in tasks if task.activity_id in life.begun)
    (second,) = (task for task in tasks if task is not first)
    assert not life.recovery.holds(first)
    assert life.recovery.holds(second)

    life.recovery.interrupted(first)
    await life.recovery.begin(lease, [first])

    assert life.begun == [first.activity_id, second.activity_id]
    assert life.recovery.holds(first)
    assert await store.dispatches(lease, [first, second]) == [4, 4]


@alone
async def test_the_next_suspect_waits_until_the_result_of_the_last_one_is_durable():
    store, lease = await taken_over()
    tasks = [a_task("one"), a_task("two")]
    for _ in range(3):
        await store.dispatch(lease, tasks)
    life = Life(store)
    await life.recovery.begin(lease, tasks)
    (first,) = (task for task in tasks if task.activity_id in life.begun)

    await life.end(first, settled=False)
    assert life.begun == [first.activity_id]
    await life.end(first)
    assert len(life.begun) == 2


@alone
async def test_hosts_that_die_young_take_every_suspect_forward_alike():
    store, lease = await taken_over()
    tasks = [a_task(str(number)) for number in range(5)]
    for _ in range(5 * SETTINGS.dispatches_max - 20):
        life = Life(store)
        await life.recovery.begin(lease, tasks)
        assert life.finished == {}

    assert max(await store.dispatches(lease, tasks)) < SETTINGS.dispatches_max


@alone
async def test_an_activity_that_used_up_its_dispatches_fails_and_the_next_suspect_runs():
    store, lease = await taken_over()
    poison, other = a_task("poison"), a_task("other")
    for _ in range(SETTINGS.dispatches_max):
        await store.dispatch(lease, [poison, other])
    life = Life(store)

    await life.recovery.begin(lease, [poison, other])

    assert life.begun == []
    assert life.finished.keys() == {"poison", "other"}
    assert all(isinstance(each, Failed) for each in life.finished.values())


async def taken_over() -> tuple[MemoryStore, Lease]:
    store = MemoryStore(partitions=1)
    await store.open()
    await store.create([Start(Instance("order", "generation", "order", RuntimeStatus.RUNNING, NOW, NOW, "request"))])
    (lease,) = await store.lease([0], "host", NOW, NOW + timedelta(days=1))
    return store, lease


def a_task(activity_id: str) -> ActivityTask:
    return ActivityTask(activity_id, "order", "generation", 0, "charge", None)
