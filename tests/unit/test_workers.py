"""Real worker processes, without a host around them: what they are given, and what becomes of it when they die."""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure.core.codec import payloads
from perdure.core.cursor import OrchestrationCursor
from perdure.core.records import ActivityTask, Instance, RuntimeStatus
from perdure.core.tasks import ActivityCall, EventTask, TaskAny
from perdure.engine.executor import ActivityResult, Completed, Failed, Interrupted
from perdure.engine.requests import Request
from perdure.engine.settings import Settings
from perdure.engine.thread import EngineThread
from perdure.errors import HostStoppedError
from perdure.host.invoke import Activity, LocalExecutor
from perdure.host.user_code import UserCode
from perdure.host.workers.frames import Setup
from perdure.host.workers.pool import Workers, worker_count, worker_log
from perdure.host.workers.process import how_it_ended
from perdure.stores.memory import MemoryStore

APP = Path(__file__).parents[1] / "e2e" / "apps" / "workers"
DEADLINE_S = 20.0
ASYNC = {"pid_async", "waits_and_cleans_up"}


class NoHub:
    """A host whose engine has stopped."""

    def submit(self, request: Request) -> None:
        request.reply(HostStoppedError("the engine is not running"))

    def links(self, instance_id: str) -> dict[str, str]:
        return {"id": instance_id}

    def binding_text(self) -> str:
        return "{}"


class Pool:
    """Workers, and what they have been asked for."""

    def __init__(self, folder: Path, workers: Workers) -> None:
        self.folder = folder
        self.workers = workers
        self.results: queue.SimpleQueue[tuple[str, ActivityResult]] = queue.SimpleQueue()

    def begin(self, name: str, text: str = "null", instance_id: str = "i") -> None:
        task = ActivityTask(f"e/{name}", instance_id, "e", 0, name, text)
        self.workers.begin(task, self._finished, is_async=name in ASYNC)

    def _finished(self, task: ActivityTask, result: ActivityResult) -> None:
        self.results.put((task.name, result))

    def next(self) -> tuple[str, ActivityResult]:
        return self.results.get(timeout=DEADLINE_S)

    def call(self, name: str, text: str = "null") -> ActivityResult:
        self.begin(name, text)
        return self.next()[1]

    def touch(self, name: str) -> None:
        (self.folder / name).touch()

    def ledger(self, name: str) -> Sequence[str]:
        file = self.folder / "ledger"
        return [line for line in file.read_text().splitlines() if line.split()[0] == name] if file.exists() else []


def setup_of(folder: Path, *, threads: int, concurrency: int) -> Setup:
    return Setup(
        str(folder), "api", None, "Hub", "ours", Settings(), threads, concurrency, logging.INFO, time_limit=None
    )


@contextmanager
def pool(folder: Path, count: int, *, threads: int = 4, concurrency: int = 20) -> Iterator[Pool]:
    app = Path(shutil.copytree(APP, folder / "app"))
    setup = setup_of(app, threads=threads, concurrency=concurrency)
    workers = Workers(count, setup, os.environ, NoHub())
    workers.start()
    try:
        workers.wait_until_ready()
        yield Pool(app, workers)
    finally:
        workers.stop()


def eventually(look: Callable[[], Any]) -> Any:
    until = time.monotonic() + DEADLINE_S
    while not (found := look()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.005)
    return found


class Shown(logging.Handler):
    """What the host is told to show."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def shown() -> Iterator[Shown]:
    handler = Shown()
    worker_log.addHandler(handler)
    yield handler
    worker_log.removeHandler(handler)


def test_one_worker_runs_what_it_is_given_and_shows_its_output_before_the_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shown: Shown
):
    with pool(tmp_path, 1) as only:
        assert only.call("echo", '"\\ud83e\\uddf9 Mägde"') == Completed('"\\ud83e\\uddf9 M\\u00e4gde"')
        big = '"' + "x" * 5_000_000 + '"'
        assert only.call("echo", big) == Completed(big)
        only.call("says", '"it"')
        text = capsys.readouterr().out
        records = list(shown.records)
        failed = only.call("raises", '"x"')
        unknown = only.call("nothing")

    assert text == "".join(f"it {number}: grüße\n" for number in range(3))
    assert [(each.levelname, each.getMessage()) for each in records] == [
        ("WARNING", "it logs"),
        ("ERROR", "it is an exception"),
        ("ERROR", "it is none"),
    ]
    assert records[0].__dict__["colour"] == "red"
    assert "OrderError: it" in (records[1].exc_text or "")
    assert isinstance(failed, Failed)
    assert failed.failure.inner is not None
    assert failed.failure.inner.error_type == "ZeroDivisionError"
    assert isinstance(unknown, Failed)
    assert "restart the host" in unknown.failure.message


def test_the_limit_holds_over_all_workers_and_the_threads_in_each(tmp_path: Path):
    with pool(tmp_path, 2, threads=2, concurrency=5) as both:
        for _ in range(8):
            both.begin("waits_for_file", '"go"')
            both.begin("waits_and_cleans_up", '"go"')
        eventually(lambda: len(both.ledger("waits_for_file")) + len(both.ledger("waits")) == 5)
        at_once = len(both.ledger("waits_for_file"))
        by_process = [line.split()[2] for line in both.ledger("waits_for_file")]

        both.touch("go")
        results = [both.next()[1] for _ in range(16)]

    assert 1 <= at_once <= 4
    assert all(by_process.count(each) <= 2 for each in by_process)
    assert all(isinstance(each, Completed) for each in results)


def test_a_death_interrupts_just_what_ran_in_that_worker_and_all_else_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with pool(tmp_path, 2, threads=1) as both:
        both.begin("waits_for_file", '"go"', instance_id="bystander")
        eventually(lambda: both.ledger("waits_for_file"))
        both.begin("always_dies", instance_id="culprit")
        both.begin("echo", "1")

        interrupted = both.next()
        echoed = both.next()
        both.touch("go")
        waited = both.next()

    assert interrupted == ("always_dies", Interrupted())
    assert echoed == ("echo", Completed("1"))
    assert waited[0] == "waits_for_file"
    assert isinstance(waited[1], Completed)
    (report,) = [each for each in caplog.records if each.message == "worker process died"]
    assert report.__dict__["ended"] == "exit code 3"
    assert report.__dict__["running"] == "always_dies of culprit"
    assert "begins again" in report.__dict__["remedy"]


def test_a_stop_cancels_coroutines_and_reports_no_result(tmp_path: Path):
    with pool(tmp_path, 1) as only:
        only.begin("waits_and_cleans_up", '"never"')
        only.begin("waits_for_file", '"never"')
        eventually(lambda: only.ledger("waits") and only.ledger("waits_for_file"))
        began = time.monotonic()
    took = time.monotonic() - began

    assert only.ledger("cancelled") == ["cancelled never"]
    assert only.results.empty()
    assert took < 10


def test_an_activity_that_kills_its_workers_fails_after_a_bounded_number_and_others_do_not(tmp_path: Path):
    settings = Settings(dispatches_alone=1, dispatches_max=3)
    with pool(tmp_path, 2) as both, engine_with(both.workers, settings) as engine:
        culprit, *others = asyncio.run(ended(engine, ["always_dies", *["echo"] * 5]))
        begun = both.ledger("always_dies")

    assert all(each.output == '"x"' for each in others)
    assert culprit.status is RuntimeStatus.FAILED
    assert "Activity 'always_dies' was begun 3 times, and each time the process died" in str(culprit.failure)
    assert len(begun) == 1 + 3  # what was begun before the first death is not counted


def test_what_nobody_waits_for_any_more_does_not_begin_again(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with pool(tmp_path, 1) as only, engine_with(only.workers, Settings()) as engine:
        (instance,) = asyncio.run(ended(engine, ["waits_for_file"], loses=True))
        assert instance.output == '"lost"'
        (line,) = eventually(lambda: only.ledger("waits_for_file"))
        os.kill(int(line.split()[2]), signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
        eventually(lambda: [each for each in caplog.records if each.message == "worker process died"])
        asyncio.run(ended(engine, ["echo"]))

        assert len(only.ledger("waits_for_file")) == 1


@contextmanager
def engine_with(workers: Workers, settings: Settings) -> Iterator[EngineThread]:
    """An engine whose activities run in these workers."""

    def calls(cursor: OrchestrationCursor) -> Any:
        return (yield ActivityCall(payloads.decode(cursor.input), '"x"'))

    def loses(cursor: OrchestrationCursor) -> Any:
        call = ActivityCall(payloads.decode(cursor.input), '"never"')
        yield TaskAny([call, EventTask("go", cursor)])
        return "lost"

    names = ("always_dies", "echo", "waits_for_file")
    activities = {name: Activity(name, no_function, "value") for name in names}
    user_code = UserCode(threads=1, concurrency=1)
    executor = LocalExecutor({"calls": calls, "loses": loses}, activities, user_code, workers=workers)
    engine = EngineThread(MemoryStore(1), executor, settings=settings)
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()


def no_function(value: object) -> None:
    raise AssertionError("activities run in the workers")


async def ended(engine: EngineThread, activities: Sequence[str], *, loses: bool = False) -> list[Instance]:
    """The instances that have called these activities, once they have ended."""
    client = engine.client
    ids = [await client.start("loses" if loses else "calls", payloads.encode(each)) for each in activities]
    if loses:
        for each in ids:
            await client.raise_event(each, "go")
    return [await client.wait(each, timedelta(seconds=DEADLINE_S)) for each in ids]


@pytest.mark.parametrize(
    ("text", "count", "is_wrong"),
    [(None, 1, False), ("", 1, False), ("1", 1, False), ("10", 10, False), ("0", 1, True), ("-3", 1, True),
     ("11", 10, True), ("two", 1, True), ("2.5", 1, True)],
)  # fmt: skip
def test_the_setting_counts_from_one_to_ten(text: str | None, count: int, is_wrong: bool):
    environ = {} if text is None else {"FUNCTIONS_WORKER_PROCESS_COUNT": text}

    found, warnings = worker_count(environ)

    assert found == count
    assert bool(warnings) is is_wrong


@pytest.mark.parametrize(
    ("code", "words"), [(0, "exit code 0"), (7, "exit code 7"), (-11, "SIGSEGV"), (-9, "SIGKILL (killed, perhaps")]
)
def test_how_a_process_ended_is_said_in_words(code: int, words: str):
    assert how_it_ended(code).startswith(words)
