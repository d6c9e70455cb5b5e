"""An app with the official SDK 1.x in its own environment, run by `perdure start --sdk app`."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from start_kit import HostProcess, clean_environment, copy_app, eventually, refused, started

from official_sdk import app_environment, packages_of

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_app("official", tmp_path_factory.mktemp("app"))
    app_environment(folder / ".venv")
    return folder


@pytest.fixture(scope="module")
def host(folder: Path) -> Iterator[HostProcess]:
    """One host for most tests; the hub that it leaves behind is sound."""
    with started(folder, "--sdk", "app") as running:
        yield running
    check = [sys.executable, "-m", "perdure", "hub", "check", "--app", str(folder)]
    checked = subprocess.run(check, capture_output=True, text=True, check=False, env=clean_environment())
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """A server that has its answer ready when it is asked for the third time."""
    asked: list[str] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200 if len(asked) > 2 else 202)
            if len(asked) <= 2:
                self.send_header("Location", "/again")
                self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(b"found")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/first"
        server.shutdown()


def start(host: HostProcess, name: str, given: Any = None, instance_id: str | None = None) -> str:
    """Start an orchestration with the app's own client; returns the id."""
    answer = host.request("POST", f"/api/start/{name}?id={instance_id or name}", json.dumps(given))
    assert answer.status == 202, answer.body
    assert answer.json()["statusQueryGetUri"].startswith(f"http://127.0.0.1:{host.port}/")
    return answer.json()["id"]


def output(host: HostProcess, name: str, given: Any = None) -> Any:
    """What an orchestration that completes comes to."""
    ended = host.result(start(host, name, given))
    assert ended["runtimeStatus"] == "Completed", ended
    return ended["output"]


def client(host: HostProcess, method: str, **arguments: Any) -> Any:
    """What a method of the official client returns inside the app."""
    answer = host.request("POST", f"/api/client/{method}", json.dumps(arguments))
    assert answer.status == 200, answer.body
    return answer.json()


def raise_event(host: HostProcess, instance_id: str, name: str, data: Any) -> None:
    path = f"/runtime/webhooks/durabletask/instances/{instance_id}/raiseEvent/{name}"
    assert host.request("POST", path, json.dumps(data), JSON).status == 202


class TestOrchestrators:
    def test_a_chain_passes_on_results_and_its_input(self, host: HostProcess):
        assert output(host, "chain", {"k": 1}) == ["Hello Tokyo", "Hello {'x': 1}", {"k": 1}]

    @pytest.mark.parametrize("given", [[1], "text", 5, True, None, {"a": None}, '"'])
    def test_every_value_arrives_as_input(self, host: HostProcess, given: Any):
        ended = host.result(start(host, "plain", given, f"plain-{json.dumps(given).encode().hex()}"))

        assert ended["output"] == given

    def test_activities_run_side_by_side(self, host: HostProcess):
        assert output(host, "fan_out", 5) == 30

    def test_all_tasks_fail_with_the_first_that_does(self, host: HostProcess):
        failure = "Activity function 'boom' failed:  ValueError: boom now"

        assert output(host, "fails_fast") == [failure, "Hello cleanup"]

    def test_a_task_that_lost_a_race_can_still_be_waited_for(self, host: HostProcess):
        assert output(host, "waits_for_the_loser") == [True, "slept", "Hello after"]

    def test_people_decide_or_time_does(self, host: HostProcess):
        start(host, "approval", None, "decided")
        raise_event(host, "decided", "Approval", True)

        assert host.result("decided")["output"] == {"approved": True}
        assert host.result(start(host, "approval", 0.01, "undecided"))["output"] == "too late"

    def test_children_know_their_parent_and_their_failures_come_back(self, host: HostProcess):
        names, failure = output(host, "parent")

        assert names == [["Hello a", "parent"], ["Hello b", "parent"]]
        assert failure == (
            "Orchestrator function 'failing' failed: Activity function 'boom' failed:  ValueError: boom x"
        )

    def test_calls_are_made_again_until_they_succeed(self, host: HostProcess):
        assert output(host, "retrying") == [3, "Hello other", 2]

    def test_a_call_that_never_succeeds_fails_while_the_code_goes_on(self, host: HostProcess):
        failure = "Activity function 'boom' failed:  ValueError: boom again"

        assert output(host, "giving_up") == ["Hello before", "Hello between", failure, "Hello after"]

    def test_an_http_call_is_polled_and_comes_back_once(self, host: HostProcess, elsewhere: str):
        assert output(host, "fetching", elsewhere) == [200, "found", "Hello after"]

    def test_entities_are_signalled_and_called_and_fail(self, host: HostProcess):
        assert output(host, "counting") == [5, 7, "bad operation"]

    def test_objects_travel_as_objects(self, host: HostProcess):
        assert output(host, "ordering") == ["Order", "TEA", 3]

    def test_it_continues_as_new_with_the_events_that_it_has_not_read(self, host: HostProcess):
        start(host, "looping", [])
        for each in "abc":
            raise_event(host, "looping", "op", each)

        assert host.result("looping")["output"] == ["a", "b", "c"]

    def test_its_custom_status_is_shown(self, host: HostProcess):
        start(host, "telling")
        eventually(lambda: host.status("telling")["customStatus"] == {"step": 1})
        raise_event(host, "telling", "go", None)

        assert host.result("telling")["customStatus"] == "done"

    def test_an_exception_is_the_failure_of_its_instance(self, host: HostProcess):
        ended = host.result(start(host, "raising"))

        assert ended["runtimeStatus"] == "Failed"
        assert ended["output"] == "Orchestrator function 'raising' failed: no more"

    def test_code_that_has_changed_is_told_apart_from_its_history(self, host: HostProcess, folder: Path):
        start(host, "changing")
        eventually(lambda: host.status("changing")["customStatus"] == "waiting")
        (folder / "changed").write_text("")
        raise_event(host, "changing", "go", None)

        ended = host.result("changing")

        assert ended["runtimeStatus"] == "Failed"
        assert "Non-Deterministic workflow detected" in ended["output"]


class TestClient:
    def test_an_event_of_the_client_is_the_text_that_it_has_made_of_the_data(self, host: HostProcess):
        """SDK 1.x encodes it twice and decodes it once, so apps decode it themselves."""
        start(host, "approval_from_a_client")
        client(host, "raise_event", instance_id="approval_from_a_client", event_name="Approval",
               event_data={"approved": [1]})  # fmt: skip

        assert host.result("approval_from_a_client")["output"] == [1]

    def test_a_failed_instance_is_rewound(self, host: HostProcess):
        assert host.result(start(host, "repeatable"))["runtimeStatus"] == "Failed"

        client(host, "rewind", instance_id="repeatable", reason="again")

        eventually(lambda: host.status("repeatable")["runtimeStatus"] == "Completed")
        assert host.status("repeatable")["output"] == "fine repeatable"

    def test_a_suspended_instance_reads_its_events_when_it_is_resumed(self, host: HostProcess):
        start(host, "approval", None, "halted")
        client(host, "suspend", instance_id="halted", reason="wait")
        eventually(lambda: host.status("halted")["runtimeStatus"] == "Suspended")
        raise_event(host, "halted", "Approval", 1)
        client(host, "resume", instance_id="halted", reason="go")

        assert host.result("halted")["output"] == {"approved": 1}

    def test_instances_are_looked_at_ended_and_removed(self, host: HostProcess):
        start(host, "approval", 9, "watched")

        status = client(host, "get_status", instance_id="watched", show_input=True)
        client(host, "terminate", instance_id="watched", reason="enough")
        ended = host.result("watched")
        purged = client(host, "purge_instance_history", instance_id="watched")

        assert (status["_runtime_status"], status["_input"]) == ("OrchestrationRuntimeStatus.Running", 9)
        assert (ended["runtimeStatus"], ended["output"]) == ("Terminated", "enough")
        assert purged == {"_instances_deleted": 1}

    def test_an_instance_is_started_anew(self, host: HostProcess):
        output(host, "plain", "again")

        restarted = client(host, "restart", instance_id="plain")

        assert host.result(restarted["id"])["output"] == "again"

    def test_entities_are_signalled_and_read(self, host: HostProcess):
        for number in (1, 20):
            client(host, "signal_entity", entityId=["Counter", "own"], operation_name="add", operation_input=number)

        eventually(
            lambda: (
                client(host, "read_entity_state", entityId=["Counter", "own"])
                == {"_entity_exists": True, "_entity_state": 21}
            )
        )

    def test_waiting_for_the_end_gives_the_output(self, host: HostProcess):
        start(host, "plain", [1, 2], "waited")
        method = "wait_for_completion_or_create_check_status_response"

        assert client(host, method, instance_id="waited", with_request=True) == [1, 2]

    def test_the_links_lead_to_this_host(self, host: HostProcess):
        links = client(host, "create_http_management_payload", instance_id="x")

        assert links["statusQueryGetUri"].startswith(f"http://127.0.0.1:{host.port}/runtime/webhooks/durabletask/")


class TestStarting:
    def test_the_start_says_which_sdk_runs_the_app(self, host: HostProcess):
        line = host.find("started")

        assert line is not None
        assert line["sdk"].startswith("the app's azure-functions-durable 1.")
        assert "perdure_sdk" not in line["sdk"]

    def test_perdures_own_runs_the_same_app_unless_it_is_asked_for(self, folder: Path, tmp_path: Path):
        copy = copy_app("official", tmp_path)
        app_environment(copy / ".venv")

        with started(copy) as running:
            line = running.find("started")
            assert line is not None
            assert line["sdk"].startswith("perdure's azure.durable_functions")
            assert output(running, "chain", 1) == ["Hello Tokyo", "Hello {'x': 1}", 1]
            assert output(running, "counting") == [5, 7, "bad operation"]

    def test_what_was_unfinished_when_the_host_was_killed_goes_on(self, folder: Path, tmp_path: Path):
        copy = copy_app("official", tmp_path)
        app_environment(copy / ".venv")
        with started(copy, "--sdk", "app") as running:
            start(running, "long_chain")
            assert running.wait() == -9

        with started(copy, "--sdk", "app") as running:
            assert running.result("long_chain")["output"] == sum(range(12))

        done = (copy / "ledger").read_text().split()[1::2]
        assert done == [str(each) for each in range(12)]

    def test_without_the_official_package_the_start_says_what_to_do(self, tmp_path: Path):
        code, said = refused(app_with_version(tmp_path, None), "--sdk", "app")

        assert code != 0
        assert "DF125" in said
        assert '-m pip install "azure-functions-durable<2"' in said

    def test_version_2_is_refused_and_named(self, tmp_path: Path):
        code, said = refused(app_with_version(tmp_path, "2.0.0b2"), "--sdk", "app")

        assert code != 0
        assert "DF126" in said
        assert "2.0.0b2" in said

    def test_beside_version_2_perdures_own_runs_the_app_and_says_so(self, tmp_path: Path):
        with started(app_with_version(tmp_path, "2.0.0b2")) as running:
            assert any("azure-functions-durable 2.0.0b2" in line for line in running.text)


def app_with_version(folder: Path, version: str | None) -> Path:
    """An app whose environment pretends to have a version of the official package, or has none."""
    app = copy_app("hello", folder)
    app_environment(app / ".venv")
    packages = packages_of(app / ".venv")
    seen = (packages / "zz_seen.pth").read_text().splitlines()[1:]
    (packages / "zz_seen.pth").write_text("\n".join(seen))
    if version is not None:
        (packages / f"azure_functions_durable-{version}.dist-info").mkdir()
        metadata = f"Metadata-Version: 2.1\nName: azure-functions-durable\nVersion: {version}\n"
        (packages / f"azure_functions_durable-{version}.dist-info" / "METADATA").write_text(metadata)
    shutil.rmtree(app / ".perdure", ignore_errors=True)
    return app
