"""The product's own pieces in this process: store, engine thread, local executor, the bench's app."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from meter import Meter

from perdure.core.records import EntityQuery
from perdure.engine.client import TaskHubClient
from perdure.engine.thread import EngineThread
from perdure.host.app.loading import LoadedApp, load_app
from perdure.host.host import ACTIVITIES_PER_CPU
from perdure.host.invoke import LocalExecutor
from perdure.host.sdk.sdk import OURS, chosen_sdk
from perdure.host.user_code import UserCode
from perdure.stores import open_store

APP = Path(__file__).parent / "apps" / "hello"

# What a host uses unless it is told something else.
POOL_THREADS = min(32, (os.cpu_count() or 1) + 4)
ASYNC_CONCURRENCY = ACTIVITIES_PER_CPU * (os.cpu_count() or 1)


class Cost(Meter):
    """A meter that also knows what the store wrote, and when the activities of a chain ran.

    `commits` are the engine's; the starts of instances are commits of their own.
    """

    rows_written: int | None = None
    commits: int = 0
    ticks: list[float]


def hello_at_once(url: str, folder: Path, activity: str, n: int, warm_up: int) -> Cost:
    """Start `n` orchestrations of three activities at once, and wait for all of them."""

    async def measured(client: TaskHubClient, measure: Measure) -> None:
        await at_once(client, activity, warm_up)
        with measure():
            await at_once(client, activity, n)

    return run(url, folder, measured)


def one(url: str, folder: Path, name: str, input: Any) -> Cost:
    """Run one orchestration to its end."""

    async def measured(client: TaskHubClient, measure: Measure) -> None:
        await at_once(client, "say_hello", 10)
        ticks().clear()
        with measure():
            await completed(client, name, json.dumps(input))

    return run(url, folder, measured)


def one_at_a_time(url: str, folder: Path, activity: str, n: int, warm_up: int) -> tuple[Cost, list[float]]:
    """Run `n` orchestrations of three activities one after the other; seconds of each."""
    latencies: list[float] = []

    async def measured(client: TaskHubClient, measure: Measure) -> None:
        for _ in range(warm_up):
            await completed(client, "hello", json.dumps(activity))
        with measure():
            for _ in range(n):
                before = time.perf_counter()
                await completed(client, "hello", json.dumps(activity))
                latencies.append(time.perf_counter() - before)

    return run(url, folder, measured), latencies


def entity_calls(url: str, folder: Path, callers: int, calls: int, keys: int) -> Cost:
    """Let `callers` orchestrations, spread over `keys` counters, add one `calls` times each, and wait for all."""

    async def called(client: TaskHubClient, name: str, callers: int, calls: int) -> None:
        ticks().clear()
        inputs = [json.dumps([f"{name}-{number % keys}", calls]) for number in range(callers)]
        await asyncio.gather(*[completed(client, "count_up", input) for input in inputs])
        await counted(client, name, callers * calls)

    async def measured(client: TaskHubClient, measure: Measure) -> None:
        await called(client, "warm", 10, 10)
        with measure():
            await called(client, "c", callers, calls)

    return run(url, folder, measured)


def entity_signals(url: str, folder: Path, keys: int, signals: int) -> Cost:
    """Signal each of `keys` counters `signals` times, all at once, and wait until they have counted all of them."""

    async def signalled(client: TaskHubClient, name: str, keys: int, signals: int) -> None:
        ticks().clear()
        ids = [f"@counter@{name}-{number}" for number in range(keys)]
        await asyncio.gather(*[client.signal_entity(each, "add", "1") for _ in range(signals) for each in ids])
        await counted(client, name, keys * signals)

    async def measured(client: TaskHubClient, measure: Measure) -> None:
        await signalled(client, "warm", 10, 10)
        with measure():
            await signalled(client, "c", keys, signals)

    return run(url, folder, measured)


async def counted(client: TaskHubClient, name: str, total: int) -> None:
    """Return when the counters whose keys begin with `name` have come to `total`, as their stored states say."""
    while len(ticks()) < total or await sum_of(client, f"@counter@{name}-") < total:
        await asyncio.sleep(0.002)
    if await sum_of(client, f"@counter@{name}-") != total:
        raise AssertionError(f"the counters have come to more than {total}")


async def sum_of(client: TaskHubClient, prefix: str) -> int:
    page = await client.entities(EntityQuery(prefix=prefix, limit=1000))
    return sum(int(each.entity.state) for each in page.instances if each.entity and each.entity.state)


# ---------------------------------------------------------------- what they share

Measure = Callable[[], Any]


def run(url: str, folder: Path, measured: Callable[[TaskHubClient, Measure], Awaitable[None]]) -> Cost:
    """Start an engine on a fresh store, and meter the part of `measured` that asks for it."""
    cost = Cost(folder)
    with engine(url) as running:

        @contextmanager
        def measure() -> Iterator[None]:
            gc.collect()
            before = getattr(running.store, "rows_changed", None)
            commits = running.engine.counters.commits
            with cost:
                yield
            cost.commits = running.engine.counters.commits - commits
            if before is not None:
                cost.rows_written = running.store.rows_changed - before  # type: ignore[attr-defined]

        asyncio.run(measured(running.client, measure))
    cost.ticks = list(ticks())
    return cost


@contextmanager
def engine(url: str) -> Iterator[EngineThread]:
    user_code = UserCode(threads=POOL_THREADS, concurrency=ASYNC_CONCURRENCY)
    executor = LocalExecutor(app().orchestrators, app().activities, user_code, entities=app().entities)
    running = EngineThread(open_store(url), executor)
    user_code.start()
    running.start()
    try:
        yield running
    finally:
        running.stop()
        user_code.stop()


@cache
def app() -> LoadedApp:
    """The bench's app, loaded as a host loads it."""
    return load_app(APP, os.environ, "api", None, "bench", chosen_sdk(OURS), _no_client)


def _no_client(function: Callable[..., Any], is_text: bool) -> NoReturn:
    raise AssertionError("the bench's activities ask for no client")


def ticks() -> list[float]:
    """When the activities of `chain`, or the operations of `counter`, ran, as the app noted."""
    return sys.modules["function_app"].TICKS


async def at_once(client: TaskHubClient, activity: str, n: int) -> None:
    input = json.dumps(activity)
    await asyncio.gather(*[completed(client, "hello", input) for _ in range(n)])


async def completed(client: TaskHubClient, name: str, input: str) -> None:
    instance = await client.wait(await client.start(name, input))
    if instance.status != "Completed":
        raise AssertionError(f"{name} ended as {instance.status}: {instance.output}")
