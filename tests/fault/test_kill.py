"""What a real `perdure start` promises is true through SIGKILL, SIGTERM, SIGSTOP and a disk that takes no more."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from kill_kit import (
    DEADLY,
    AppFolder,
    Case,
    Client,
    HostProcess,
    Wish,
    app_folder,
    case,
    completed_calls,
    end_of,
    events_in,
    events_of,
    eventually,
    moment,
    start_of,
)

from perdure.engine.settings import Settings

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

SHAPES = {"chain": 40, "awaited": 20, "fan": 40, "timers": 25, "approval": 25, "family": 25, "eternal": 25}
TERMINATED = 8
DISPATCHES_MAX = Settings().dispatches_max

# What happens last before a kill, and in how many lives of the host; and the how-manieth of them it is, at most.
KILLS = {"an acknowledgement": 7, "a beginning": 6, "an end": 5, "a write": 6, "its own start": 3}
COUNT_MAX = {"an acknowledgement": 10, "a beginning": 80, "an end": 80, "a write": 60}
PATIENCE_S = 1.0  # then the host is killed as it is: it has nothing to do


@pytest.fixture
def app(tmp_path: Path) -> Iterator[AppFolder]:
    with app_folder(tmp_path) as app:
        yield app


def test_everything_acknowledged_survives_kills_at_any_moment_and_happens_once(app: AppFolder):
    seed = int(os.environ.get("KILL_SEED") or time.time_ns() % 2**32)
    print(f"to kill at the same moments: KILL_SEED={seed}")
    chance = random.Random(seed)
    cases = [
        case(shape, number, takes_ms=chance.randint(5, 60))
        for shape, count in SHAPES.items()
        for number in range(count)
    ]
    doomed = [case("parked", number, takes_ms=0) for number in range(TERMINATED)]
    kills = [after for after, count in KILLS.items() for _ in range(count)]
    chance.shuffle(cases)
    chance.shuffle(kills)

    with Client() as client:
        plan = Plan(cases, doomed, chance)
        for number, after in enumerate(kills):
            host = app.launch()
            if after == "its own start":
                _until(lambda host=host: _is_opening(app, host))
            else:
                plan.check_nothing_is_lost(host.wait_until_ready())
                client.turn_to(host)
                happened = _counter(after, app, client)
                goal = happened() + chance.randint(1, COUNT_MAX[after])
                client.ask(plan.next_wishes(1 / (len(kills) - number)))
                _until(lambda happened=happened, goal=goal: happened() >= goal)
            time.sleep(chance.choice((0.0, 0.0, chance.uniform(0, 0.02), chance.uniform(0, 0.4))))
            host.kill()
        host = app.launch().wait_until_ready()
        plan.check_nothing_is_lost(host)
        client.turn_to(host)
        eventually(lambda: plan.is_done_by(client))
        statuses = host.wait_for(cases)

        assert client.troubles == []
        eventually(lambda: all(host.statuses()[each.instance_id]["runtimeStatus"] == "Terminated" for each in doomed))
    _check_outputs(cases, statuses)
    histories = {instance_id: host.history(instance_id) for instance_id in statuses}
    _check_events(plan, histories)
    _check_calls(app, cases, [row for history in histories.values() for row in history])
    assert app.checked() | {"events": 0} == {"instances": len(statuses), "events": 0, "findings": []}
    host.signal(signal.SIGTERM)
    assert host.wait() == 0
    assert app.checked()["findings"] == []
    assert [line for each in app.lives for line in each.troubles()] == []
    print(
        f"{len(kills)} kills; {plan.repeated} requests were sent and {_repeated(app)} activities began more than once"
    )


class Plan:
    """What the client is to ask for, little by little: events and ends only for what is known to have started."""

    def __init__(self, cases: Sequence[Case], doomed: Sequence[Case], chance: random.Random) -> None:
        self.starts = [start_of(each) for each in (*cases, *doomed)]
        chance.shuffle(self.starts)
        self.later = {each.instance_id: events_of(each) for each in cases}
        self.later |= {each.instance_id: [end_of(each)] for each in doomed}
        self._asked = 0
        self._asked_later: list[Wish] = []
        self._chance = chance
        self._outputs: dict[str, Any] = {}

    def is_done_by(self, client: Client) -> bool:
        """Ask for what may be asked for now; returns whether that was all, and is acknowledged."""
        client.ask(self.next_wishes(1.0))
        wanted = len(self.starts) + sum(map(len, self.later.values()))
        asked = (*self.starts[: self._asked], *self._asked_later)
        return len(asked) == wanted and all(each.is_acknowledged for each in asked)

    @property
    def repeated(self) -> int:
        """How many requests were sent more than once, or found to be carried out without an answer."""
        return sum(each.attempts > 1 or each.is_found for each in (*self.starts, *self._asked_later))

    def next_wishes(self, share: float) -> list[Wish]:
        """A share of the starts that remain, and some of what may follow on those that took place."""
        count = round((len(self.starts) - self._asked) * share)
        begun = self.starts[self._asked : self._asked + count]
        self._asked += count
        may_follow = [wish for start in self.starts if start.is_acknowledged for wish in self.later[start.instance_id]]
        fresh = [wish for wish in may_follow if wish not in self._asked_later]
        follow = fresh if share == 1.0 else self._chance.sample(fresh, round(len(fresh) * 0.4))
        self._asked_later += follow
        wishes = [*begun, *follow]
        self._chance.shuffle(wishes)
        return wishes

    def check_nothing_is_lost(self, host: HostProcess) -> None:
        """What was acknowledged before is there, and what had ended has not changed."""
        started = {each.instance_id for each in self.starts if each.is_acknowledged}
        found = host.statuses()
        assert started <= found.keys()
        assert self._outputs.items() <= {each: found[each]["output"] for each in found}.items()
        ended = [each for each, status in found.items() if status["runtimeStatus"] == "Completed"]
        self._outputs = {each: found[each]["output"] for each in ended}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_activities_finish_and_nothing_runs_twice(app: AppFolder, number: int):
    cases = [
        case(shape, number, takes_ms=150)
        for shape in ("chain", "awaited", "fan", "family", "timers")
        for number in range(6)
    ]
    with Client() as client:
        wishes = [start_of(each) for each in cases]
        host = app.launch().wait_until_ready()
        client.turn_to(host)
        client.ask(wishes[:20])
        eventually(lambda: app.ledger.size >= 40)
        client.ask(wishes[20:])  # some of these come while it stops
        host.signal(number)

        assert host.wait(deadline_s=5) == 0
        assert _open_attempts(app) == set()
        assert app.checked()["findings"] == []
        host = app.launch().wait_until_ready()
        client.turn_to(host)
        eventually(lambda: client.open == 0)
        statuses = host.wait_for(cases)
        assert client.troubles == []

    _check_outputs(cases, statuses)
    begun = app.ledger.lives("begin")
    assert begun.keys() == {key for each in cases for key in each.keys}
    assert {key: lives for key, lives in begun.items() if len(lives) > 1} == {}
    assert app.checked()["findings"] == []
    assert [line for each in app.lives for line in each.troubles()] == []


def test_a_second_interrupt_stops_at_once_and_the_next_host_repeats_what_was_cut_off(app: AppFolder):
    wanted = case("fan", 0, takes_ms=1500)
    host = app.launch().wait_until_ready()
    host.start(wanted)
    eventually(lambda: app.ledger.size >= 12)
    host.signal(signal.SIGINT)
    eventually(lambda: host.line("host", "stopping"))
    host.signal(signal.SIGINT)

    assert host.wait(deadline_s=5) == 128 + signal.SIGINT
    cut_off = _open_attempts(app)
    assert cut_off
    host = app.launch().wait_until_ready()
    assert host.wait_for([wanted])[wanted.instance_id]["output"] == wanted.output
    begun = app.ledger.lives("begin")
    assert {key for key, lives in begun.items() if lives == [0, 1]} == cut_off
    assert app.checked()["findings"] == []


def test_a_host_that_stood_still_goes_on_and_no_other_takes_its_place_meanwhile(app: AppFolder):
    cases = [case(shape, number, takes_ms=50) for shape in ("chain", "fan", "timers", "family") for number in range(6)]
    host = app.launch().wait_until_ready()
    for each in cases:
        host.start(each)
    eventually(lambda: app.ledger.size >= 40)
    host.signal(signal.SIGSTOP)
    try:
        size = app.ledger.size
        second = app.launch()
        assert second.wait() == 3
        findings = app.checked()["findings"]
    finally:
        host.signal(signal.SIGCONT)

    refusal = f"another process (pid {host.pid}) is the host of the task hub {app.database}. "
    assert refusal in second.output.read_text()
    assert findings == []
    assert size < sum(len(each.keys) for each in cases) * 2, "everything was over before it stood still"
    statuses = host.wait_for(cases)
    third = app.launch()
    assert third.wait() == 3
    assert refusal in third.output.read_text()
    _check_outputs(cases, statuses)
    assert app.ledger.lives("begin") == {key: [0] for each in cases for key in each.keys}
    assert app.checked()["findings"] == []
    assert host.troubles() == []
    assert (app.folder / ".perdure" / "host.json").exists()


def test_an_activity_that_kills_its_host_fails_in_the_end_and_the_others_complete(app: AppFolder):
    wanted = case("poisoned", 1, takes_ms=150)
    host = app.launch().wait_until_ready()
    host.start(wanted)

    deaths = 0
    while eventually(lambda host=host: host.process.poll() is not None or host.has_completed(wanted)):
        if host.process.poll() is None:
            break
        assert host.wait() == DEADLY
        deaths += 1
        assert deaths <= 1 + DISPATCHES_MAX
        host = app.launch()

    assert host.wait_for([wanted])[wanted.instance_id]["output"] == wanted.output
    begun = Counter(attempt.key for attempt in app.ledger.attempts() if attempt.what == "begin")
    assert begun[f"{wanted.instance_id}/culprit"] == deaths
    assert all(0 < begun[key] <= 1 + DISPATCHES_MAX for key in wanted.keys)
    assert app.checked()["findings"] == []
    assert [line for each in app.lives for line in each.troubles()] == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux changes the limits of a running process")
def test_when_writes_fail_nothing_is_acknowledged_and_the_host_goes_on_once_they_succeed(app: AppFolder):
    import resource

    cases = [
        case(shape, number, takes_ms=50) for shape in ("chain", "fan", "approval", "eternal") for number in range(8)
    ]
    events = [event for each in cases for event in events_of(each)]
    host = app.launch().wait_until_ready()
    for each in cases:
        host.start(each)
    eventually(lambda: app.ledger.size >= 40)
    written = Path(f"{app.database}-wal").stat().st_size
    assert written > app.ledger.size * 64 * 2, "the ledger would hit the limit first"

    limits = resource.prlimit(host.pid, resource.RLIMIT_FSIZE, (written, resource.RLIM_INFINITY))
    eventually(lambda: host.line("host", "leases not renewed"))
    refused = [host.request("POST", each.path, each.body) for each in events]
    late = start_of(case("chain", 99, takes_ms=0))
    refused.append(host.request("POST", late.path, late.body))
    read = host.statuses()
    findings = app.checked()["findings"]
    resource.prlimit(host.pid, resource.RLIMIT_FSIZE, limits)

    assert {answer.status for answer in refused} == {503}
    assert all(b"could not be written: disk I/O error" in answer.body for answer in refused)
    assert read.keys() >= {each.instance_id for each in cases}
    assert findings == []
    with Client() as client:
        client.turn_to(host)
        client.ask([*events, late])
        statuses = host.wait_for(cases)
        assert client.troubles == []
    _check_outputs(cases, statuses)
    assert app.checked()["findings"] == []
    assert host.troubles() == []


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can make a small disk")
def test_a_full_disk_loses_nothing_and_a_host_starts_again_when_there_is_room(app: AppFolder):
    cases = [
        case(shape, number, takes_ms=50) for shape in ("chain", "fan", "approval", "eternal") for number in range(8)
    ]
    with _small_disk(app.database.parent) as fill:
        host = app.launch().wait_until_ready()
        for each in cases:
            host.start(each)
        eventually(lambda: app.ledger.size >= 40)
        ballast = fill()
        eventually(lambda: host.line("host", "leases not renewed"))
        late = start_of(case("chain", 99, takes_ms=0))
        refused = host.request("POST", late.path, late.body)
        read = host.statuses()
        host.kill()
        without_room = app.launch()
        without_room.wait()
        ballast.unlink()

        assert (refused.status, b"database or disk is full" in refused.body) == (503, True)
        assert read.keys() >= {each.instance_id for each in cases}
        assert without_room.process.returncode == 3
        assert "database or disk is full" in without_room.output.read_text()
        host = app.launch().wait_until_ready()
        with Client() as client:
            client.turn_to(host)
            client.ask([event for each in cases for event in events_of(each)])
            statuses = host.wait_for(cases)
            assert client.troubles == []
        _check_outputs(cases, statuses)
        assert app.checked()["findings"] == []
        host.kill()


@contextmanager
def _small_disk(folder: Path) -> Iterator[Callable[[], Path]]:
    """A disk of 24 MB at `folder`; what this gives fills it up, and returns the file that takes the room."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], check=False).returncode:
        pytest.skip("this root may not mount")

    def fill() -> Path:
        ballast = folder / "ballast"
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        return ballast

    try:
        yield fill
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _open_attempts(app: AppFolder) -> set[str]:
    """The activities that began and did not end."""
    return app.ledger.lives("begin").keys() - app.ledger.lives("end").keys()


def _counter(after: str, app: AppFolder, client: Client) -> Callable[[], int]:
    """Counts what a kill is to follow on."""
    seen = app.ledger.size
    writes: list[tuple[int, int]] = []
    log = Path(f"{app.database}-wal")

    def written() -> int:
        stat = log.stat()
        state = (stat.st_size, stat.st_mtime_ns)
        if not writes or writes[-1] != state:
            writes.append(state)
        return len(writes)

    def noted(what: str) -> int:
        return sum(attempt.what == what for attempt in app.ledger.attempts(since=seen))

    match after:
        case "an acknowledgement":
            return lambda: client.acknowledged
        case "a beginning":
            return lambda: noted("begin")
        case "an end":
            return lambda: noted("end")
        case _:
            return written


def _until(happened: Callable[[], bool]) -> None:
    """Wait for what a kill is to follow on, but not longer than it makes sense to; as exactly as this process can."""
    until = time.monotonic() + PATIENCE_S
    while not happened() and time.monotonic() < until:
        time.sleep(0)


def _is_opening(app: AppFolder, host: HostProcess) -> bool:
    """It has just got the lock of its store."""
    lock = Path(f"{app.database}.lock")
    return lock.exists() and lock.read_text().strip() == str(host.pid)


def _check_outputs(cases: Sequence[Case], statuses: Mapping[str, Mapping[str, Any]]) -> None:
    found = {each.instance_id: statuses[each.instance_id]["output"] for each in cases}
    assert found == {each.instance_id: each.output for each in cases}


def _check_events(plan: Plan, histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Each event arrived, and never more often than it was sent; `eternal` keeps only those of its last generation."""
    for instance_id, wishes in plan.later.items():
        raised = events_in(histories[instance_id])
        for wish in wishes:
            name = wish.path.rpartition("/")[2]
            if "raiseEvent" in wish.path and (not instance_id.startswith("eternal") or name == "go-3"):
                assert 1 <= raised[name] <= wish.attempts, f"{name} to {instance_id}: {raised[name]} of {wish.attempts}"


def _check_calls(app: AppFolder, cases: Sequence[Case], rows: Sequence[Mapping[str, Any]]) -> None:
    """Each activity has one result, of its last attempt; it was attempted once in each life that it was open in."""
    begun, ended = app.ledger.lives("begin"), app.ledger.lives("end")
    results = dict(completed_calls(rows))
    assert begun.keys() == {key for each in cases for key in each.keys}
    assert sorted(key for key, _ in completed_calls(rows)) == sorted(key for each in cases for key in each.kept)
    assert [row for row in rows if row["EventType"] == "TaskScheduled"] == []
    for key, lives in begun.items():
        assert lives == sorted(set(lives)), f"{key} was begun twice in one life: {lives}"
        if key in results:
            first, last = (_life_at(app, results[key][name]) for name in ("ScheduledTime", "Timestamp"))
            assert first <= lives[0], f"{key} was begun in life {lives[0]}, but scheduled in {first}"
            assert last == lives[-1] == ended[key][-1], f"{key}: recorded in life {last}, attempted in {lives}"


def _life_at(app: AppFolder, time_text: str) -> int:
    at = moment(time_text)
    [life] = [each.life for each in app.lives if each.began_at <= at <= each.ended_at]
    return life


def _repeated(app: AppFolder) -> int:
    return sum(len(lives) > 1 for lives in app.ledger.lives("begin").values())
