"""Timer functions of a real host: on time, on startup, by hand, after failures, and past due after a restart."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from start_kit import HostProcess, copy_app, eventually, started

ENVIRON = {"EVERY": "0 30 3 29 2 *", "TZ": "Europe/Berlin"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_app("timers", tmp_path_factory.mktemp("timers"))


@pytest.fixture(scope="module")
def host(folder: Path) -> Iterator[HostProcess]:
    with started(folder, environ=ENVIRON) as host:
        yield host


def reports(host: HostProcess) -> list[dict[str, Any]]:
    """The reports that have been written, but for the one on startup."""
    found = host.request("GET", "/runtime/webhooks/durabletask/instances?showInput=true").json()
    return [each for each in found if each["instanceId"] != "startup" and each["runtimeStatus"] == "Completed"]


def test_the_start_line_has_schedules_and_says_what_is_inactive(host: HostProcess):
    functions = {each["name"]: each for each in (host.find("started") or {})["functions"]}

    assert functions["yearly"]["kind"] == "Timer"
    assert functions["yearly"]["next"][4:] == "-01-01T01:00:00+00:00"
    assert functions["startup"]["schedule"] == "0 30 3 29 2 *"
    assert "needs a storage queue" in functions["on_invoice"]["note"]


def test_on_startup_a_sync_function_starts_an_orchestration(host: HostProcess):
    eventually(lambda: host.request("GET", "/runtime/webhooks/durabletask/instances/startup").status in (200, 202))

    assert host.result("startup")["output"] == {"past_due": False}


def test_a_function_that_fails_is_run_again_as_its_policy_says_and_the_next_run_comes(host: HostProcess):
    for attempt in ("attempt 0", "attempt 1"):
        eventually(lambda attempt=attempt: host.find("function", function="restless", message=attempt))
    message = "timer function failed: ValueError: no space left"
    failed = eventually(lambda: host.find("host", function="restless", message=message))
    ends = eventually(lambda: len([each for each in host.lines if each.get("message") == message]) > 1)

    assert "function_app.py" in failed["traceback"]
    assert ends


def test_by_hand_it_runs_at_once(host: HostProcess):
    before = len(reports(host))

    answer = host.request("POST", "/admin/functions/yearly", '{"input": ""}')

    assert answer.status == 202
    eventually(lambda: len(reports(host)) > before)
    assert reports(host)[-1]["output"] == {"past_due": False, "status": {}}


def test_what_came_due_while_no_host_was_there_runs_once(tmp_path: Path):
    folder = copy_app("timers", tmp_path)
    with started(folder, environ=ENVIRON) as first:
        eventually(lambda: len(stored(folder)) == 2)
        first.process.kill()
        first.wait()
    with closing(sqlite3.connect(folder / ".perdure" / "Timers.db")) as db, db:
        db.execute("update schedules set next = 946688400000000 where name = 'yearly'")  # 2000-01-01, 02:00 in Berlin

    with started(folder, environ=ENVIRON) as again:
        eventually(lambda: reports(again))
        eventually(lambda: stored(folder)["yearly"][0] is not None)
        (report,) = reports(again)
        assert report["output"]["past_due"] is True
        assert report["output"]["status"]["Last"] == "0001-01-01T00:00:00"
        assert report["output"]["status"]["Next"] == "2000-01-01T02:00:00+01:00"
        again.process.kill()
        again.wait()

    with started(folder, environ=ENVIRON) as third:
        eventually(lambda: third.find("function", function="restless", message="attempt 0"))
        assert len(reports(third)) == 1


def stored(folder: Path) -> dict[str, tuple[int | None, int]]:
    """When timer functions ran last and run next, as the store has it."""
    with closing(sqlite3.connect(f"file:{folder / '.perdure' / 'Timers.db'}?mode=ro", uri=True)) as db:
        return {
            name: (last, following) for name, last, following in db.execute("select name, last, next from schedules")
        }
