"""Activities in worker processes are as good as in the host's own, and what happens to these processes harms little."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from start_kit import HostProcess, copy_app, eventually, refused, started

TWO = {"FUNCTIONS_WORKER_PROCESS_COUNT": "2"}

on_posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


class Running:
    """A host with two workers."""

    def __init__(self, folder: Path, host: HostProcess) -> None:
        self.folder = folder
        self.host = host

    def start(self, orchestrator: str, value: Any) -> str:
        path = f"/runtime/webhooks/durabletask/orchestrators/{orchestrator}"
        return self.host.request("POST", path, json.dumps(value)).json()["id"]

    def output(self, orchestrator: str, value: Any) -> Any:
        status = self.host.result(self.start(orchestrator, value))
        assert status["runtimeStatus"] == "Completed", status["output"]
        return status["output"]

    def calls(self, activity: str, value: Any = None) -> Any:
        return self.output("calls", [activity, value])

    def touch(self, name: str) -> None:
        (self.folder / name).touch()

    def ledger(self, name: str) -> Sequence[list[str]]:
        """What activities have noted under a name."""
        file = self.folder / "ledger"
        lines = file.read_text().splitlines() if file.exists() else []
        return [rest.split() for line in lines for key, _, rest in [line.partition(" ")] if key == name]

    def deaths(self, *texts: str) -> Sequence[dict[str, Any]]:
        """The host's reports of workers that died, those with these texts in their facts."""
        found = [line for line in list(self.host.lines) if line["message"] == "worker process died"]
        return [line for line in found if all(text in json.dumps(line) for text in texts)]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = copy_app("workers", tmp_path_factory.mktemp("app"))
    with started(folder, environ=TWO) as host:
        yield Running(folder, host)


@pytest.fixture
def own_app(tmp_path: Path) -> Path:
    return copy_app("workers", tmp_path)


# ---------------------------------------------------------------------- as good as in the host


@pytest.mark.parametrize("activity", ["pid", "pid_async"])
def test_activities_run_in_processes_of_their_own(app: Running, activity: str):
    pids = set(app.output("calls_all", [[activity, None]] * 12))

    assert len(pids) <= 2
    assert app.host.process.pid not in pids
    assert activity == "pid_async" or len(pids) == 2


def test_what_an_activity_prints_and_logs_is_shown_with_its_function_and_instance(app: Running):
    instance_id = app.start("calls", ["says", "Grüezi"])
    app.host.result(instance_id)
    shown = eventually(
        lambda: len(found := [x for x in list(app.host.lines) if x.get("function") == "says"]) >= 6 and found
    )

    assert {line["instance_id"] for line in shown} == {instance_id}
    assert [line["message"] for line in shown if line["stream"] == "stdout"] == [
        f"Grüezi {number}: grüße" for number in range(3)
    ]
    logged = [line for line in shown if line["stream"] == "log"]
    assert [line["message"] for line in logged][:2] == ["Grüezi logs", "it is an exception"]
    assert logged[0]["level"] == "warning"
    assert logged[-1]["message"] == "it is none"
    assert "OrderError: Grüezi" in "\n".join(line["message"] for line in logged)


def test_what_the_app_prints_while_it_is_imported_is_shown_once(app: Running):
    app.calls("echo", 1)

    assert "".join(app.host.text).count("the app is imported") == 1


def test_an_exception_keeps_its_type_message_traceback_and_causes(app: Running):
    caught = app.output("catches", None)

    assert caught["type"] == "function_app.OrderError"
    assert caught["message"] == "no seven"
    assert caught["cause"] == "ZeroDivisionError"
    assert caught["caused"] == [True, True, True, False]
    assert "raise OrderError(" in caught["trace"]
    assert "perdure" not in caught["trace"].replace(str(app.folder), "")


def test_an_exception_whose_text_is_no_unicode_fails_its_activity_alone(app: Running):
    status = app.host.result(app.start("calls", ["raises_half_a_character", None]))

    assert status["runtimeStatus"] == "Failed"
    assert "caf\\udce9" in status["output"]


def test_typed_inputs_and_classes_of_the_app_travel(app: Running):
    assert app.calls("doubles", {"name": "tea", "count": 2}) == {"name": "tea", "count": 4}
    assert app.output("sums", None) == 3


def test_payloads_of_megabytes_and_of_all_scripts_travel_whole(app: Running):
    text = "Fünf Mägde – 五人の女中 – \U0001f9f9 " * 100_000

    assert app.calls("echo", text) == text


def test_durable_clients_in_activities_do_all_that_they_do_in_the_host(app: Running):
    told = app.calls("steers", {"tea": 2})

    assert told["before"] == {"tea": 2}
    assert told["output"] == "gone"
    assert told["events"] >= 3
    assert told["missing"] is None
    assert "The function 'nobody' doesn't exist" in told["refusal"]
    answer = app.host.request("GET", told["links"]["statusQueryGetUri"].partition(str(app.host.port))[2])
    assert answer.json()["output"] == "gone"


def test_the_clients_of_sync_activities_work_too(app: Running):
    assert app.calls("steers_in_sync", "tea") == "tea"


def test_activities_share_one_limit_and_none_waits_for_an_async_one(app: Running):
    blocked = [app.start("calls", ["waits_for_file", "all"]) for _ in range(3)]
    eventually(lambda: len(app.ledger("waits_for_file")) == 3)

    assert app.calls("echo", "meanwhile") == "meanwhile"
    app.touch("all")
    assert len({app.host.result(each)["output"] for each in blocked}) == 2


# ---------------------------------------------------------------------- workers that die


def test_a_worker_that_exits_is_replaced_and_its_activity_runs_again(app: Running):
    instance_id = app.start("calls", ["dies_once", "exit"])

    assert app.host.result(instance_id)["output"] == "alive"
    (death,) = app.deaths(instance_id)
    assert death["level"] == "error"
    assert death["ended"] == "exit code 7"
    assert death["running"] == f"dies_once of {instance_id}"
    assert "another takes its place now" in death["remedy"]
    eventually(lambda: len(set(app.output("calls_all", [["pid", None]] * 12))) == 2)


@on_posix
def test_a_segmentation_fault_is_reported_with_the_line_that_led_to_it(app: Running):
    instance_id = app.start("calls", ["dies_once", "segfault"])

    assert app.host.result(instance_id)["output"] == "alive"
    (death,) = app.deaths(instance_id)
    assert death["ended"] == "SIGSEGV"
    eventually(lambda: "in dies_once" in "".join(app.host.text))


@on_posix
def test_what_ran_in_another_worker_does_not_notice_a_kill(app: Running):
    bystanders = [app.start("calls", ["waits_for_file", "killed"]) for _ in range(2)]
    victim = app.start("calls", ["dies_once", "kill"])
    (pid,) = eventually(lambda: [x for x in app.ledger("dies_once") if (app.folder / "died_of_kill").exists()][-1:])[0]
    eventually(lambda: len([x for x in app.ledger("waits_for_file") if x[0] == "killed"]) == 2)
    beside = {int(worker) for name, worker in app.ledger("waits_for_file") if name == "killed"} - {int(pid)}

    os.kill(int(pid), signal.SIGKILL)

    assert app.host.result(victim)["output"] == "alive"
    assert "SIGKILL" in app.deaths(victim)[0]["ended"]
    app.touch("killed")
    assert beside <= {app.host.result(each)["output"] for each in bystanders}


# ---------------------------------------------------------------------- the host ends


@on_posix
def test_workers_end_with_a_host_that_is_killed_and_their_activities_run_again(own_app: Path):
    with started(own_app, environ=TWO) as host:
        app = Running(own_app, host)
        pids = set(app.output("calls_all", [["pid", None]] * 12))
        instance_id = app.start("calls_all", [["computes_for_ever", "done"], ["waits_and_cleans_up", "done"]])
        eventually(lambda: app.ledger("computes") and app.ledger("waits"))
        host.signal(signal.SIGKILL)
        host.wait()
        eventually(lambda: not any(is_alive(pid) for pid in pids))
    app.touch("done")

    with started(own_app, environ=TWO) as host:
        assert host.result(instance_id)["output"] == ["computed", "waited"]
        assert len(app.ledger("computes")) == len(app.ledger("waits")) == 2
        assert app.ledger("cancelled") == []


@on_posix
def test_a_stop_lets_activities_finish_and_workers_leave_with_the_host(own_app: Path):
    with started(own_app, environ=TWO) as host:
        app = Running(own_app, host)
        pids = set(app.output("calls_all", [["pid", None]] * 12))
        instance_id = app.start("calls", ["waits_for_file", "done"])
        eventually(lambda: app.ledger("waits_for_file"))
        host.signal(signal.SIGTERM)
        eventually(lambda: any("stopping" in line["message"] for line in list(host.lines)))
        app.touch("done")

        assert host.wait() == 0
        eventually(lambda: not any(is_alive(pid) for pid in pids))

    with started(own_app) as host:
        assert host.result(instance_id)["output"] in pids
        assert len(app.ledger("waits_for_file")) == 1


def test_a_worker_that_cannot_import_the_app_is_one_clear_error(own_app: Path):
    code, text = refused(own_app, environ={**TWO, "IMPORTED_BY_ONE_PROCESS_ONLY": "1"})

    assert code != 0
    assert "DF155  A worker process cannot start" in text
    assert "function_app.py could not be imported" in text
    assert "FileExistsError" in text
    assert "FUNCTIONS_WORKER_PROCESS_COUNT=1" in text


def is_alive(pid: int) -> bool:
    """Whether there is such a process; one that has ended and waits for its parent is none."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        try:
            os.kill(pid, 0)
        except OSError:
            return False
        return True
    return state != "Z"
