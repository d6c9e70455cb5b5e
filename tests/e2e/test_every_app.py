"""Every pattern, with decorators and with folders, with perdure's SDK and with the official one."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from start_kit import HostProcess, copy_app, eventually, started

from official_sdk import app_environment

JSON = {"Content-Type": "application/json"}
TWO = {"FUNCTIONS_WORKER_PROCESS_COUNT": "2"}
SDKS = {"ours": "perdure's azure.durable_functions", "app": "the app's azure-functions-durable 1."}


def equipped(name: str, to: Path) -> Path:
    """A copy of an app with an environment that has the official package, whichever SDK is to run it."""
    folder = copy_app(name, to)
    app_environment(folder / ".venv")
    return folder


@pytest.fixture(scope="module", params=[(app, sdk) for app in ("patterns", "classic") for sdk in SDKS], ids="-".join)
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    """One host for each model and each SDK."""
    app, sdk = request.param
    with started(equipped(app, tmp_path_factory.mktemp("app")), "--sdk", sdk) as running:
        line = running.find("started")
        assert line is not None
        assert line["sdk"].startswith(SDKS[sdk])
        yield running


def begun(host: HostProcess, name: str, given: Any = None) -> str:
    """Start an orchestration with the app's own HTTP function; returns the id."""
    answer = host.request("POST", f"/api/orchestrators/{name}", None if given is None else json.dumps(given))
    assert answer.status == 202, answer.body
    links = answer.json()
    assert answer.headers["Location"] == links["statusQueryGetUri"]
    return links["id"]


def ended(host: HostProcess, name: str, given: Any = None) -> dict[str, Any]:
    """The status of an orchestration that completes."""
    status = host.result(begun(host, name, given))
    assert status["runtimeStatus"] == "Completed", status
    return status


class TestPatterns:
    def test_the_quickstart_chains_activities(self, host: HostProcess):
        assert ended(host, "HelloCities")["output"] == ["Hello Tokyo!", "Hello Seattle!", "Hello London!"]
        assert ended(host, "HelloCities", ["Oslo"])["output"] == ["Hello Oslo!"]

    def test_fan_out_and_in(self, host: HostProcess):
        assert ended(host, "SumOfSquares", 20)["output"] == 2470

    def test_a_monitor_looks_until_the_job_is_done(self, host: HostProcess):
        status = ended(host, "Monitor", ["render", 60])

        assert status["output"] == "Hello render!"
        assert status["customStatus"] == {"job": "render", "state": "done"}

    def test_a_monitor_gives_up_in_the_end(self, host: HostProcess):
        status = ended(host, "Monitor", ["endless", 0.06])

        assert status["output"] == "not done in time"
        assert status["customStatus"] == {"job": "endless", "state": "running"}

    def test_a_human_decides_in_time(self, host: HostProcess):
        instance_id = begun(host, "Approval", 3600)
        eventually(lambda: host.status(instance_id)["customStatus"] == "waiting")

        path = f"/runtime/webhooks/durabletask/instances/{instance_id}/raiseEvent/Decision"
        assert host.request("POST", path, '"approved"', JSON).status == 202

        assert host.result(instance_id)["output"] == "approved"

    def test_a_human_does_not_decide_in_time(self, host: HostProcess):
        assert ended(host, "Approval", 0.01)["output"] == "nobody decided"

    def test_sub_orchestrations(self, host: HostProcess):
        assert ended(host, "Parent")["output"] == ["Hello Ann!", "Hello Bob!"]

    def test_an_entity_counts(self, host: HostProcess):
        assert ended(host, "Tally")["output"] == 7

        assert host.request("GET", "/api/counters/tally").json() == 7

    def test_objects_travel_as_objects_and_the_custom_status_is_the_last(self, host: HostProcess):
        status = ended(host, "Ordering", {"item": "tea", "price": 0})

        assert status["output"] == ["Order", "Order", "TEA", 3]
        assert status["customStatus"] == {"priced": 3}

    def test_a_timer_function_has_a_client(self, host: HostProcess):
        eventually(lambda: host.find("instance", instance_id="by-timer", message="completed"))

        assert host.status("by-timer")["output"] == ["Hello New Year!"]

    def test_an_activity_has_a_client(self, host: HostProcess):
        assert ended(host, "Relaying", "relayed")["output"] == "relayed"

        assert host.result("relayed")["output"] == ["Hello Relay!"]

    def test_what_the_app_does_while_the_host_starts_is_shown_after_the_start(self, host: HostProcess):
        eventually(lambda: host.find("instance", instance_id="by-timer"))

        assert host.lines.index(host.find("started")) < host.lines.index(host.find("instance"))


@pytest.mark.parametrize("host", [("classic", sdk) for sdk in SDKS], ids="-".join, indirect=True, scope="module")
class TestFolders:
    def test_a_client_parameter_with_the_clients_class_is_a_client(self, host: HostProcess):
        answer = host.request("GET", "/api/Typed")

        assert answer.status == 200
        assert host.result(answer.body.decode())["output"] == ["Hello Oslo!"]
        line = host.find("started")
        assert line is not None
        assert any("Typed works here, but Azure would not load it" in each for each in line["warnings"])

    def test_a_web_application_is_a_function(self, host: HostProcess):
        answer = host.request("POST", "/api/site/a/b?c=d", "hi")

        assert (answer.status, answer.body) == (200, b"POST /api/site/a/b Site hi")
        assert answer.headers["Transfer-Encoding"] == "chunked"


@pytest.mark.parametrize("sdk", SDKS)
def test_a_blueprint_is_registered_on_a_plain_function_app(tmp_path: Path, sdk: str):
    with started(equipped("blueprint", tmp_path), "--sdk", sdk) as host:
        links = host.request("GET", "/api/startOrchestrator").json()

        assert host.result(links["id"])["output"] == ["Hello Tokyo!", "Hello Seattle!", "Hello London!"]
        assert host.request("GET", "/api/ping").body == b"pong"


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("app", ["patterns", "classic"])
def test_activities_run_in_processes_of_their_own(tmp_path: Path, app: str, sdk: str):
    with started(equipped(app, tmp_path), "--sdk", sdk, environ=TWO) as host:
        assert ended(host, "Relaying", "relayed")["output"] == "relayed"
        assert host.result("relayed")["output"] == ["Hello Relay!"]
        assert ended(host, "Ordering", {"item": "tea", "price": 0})["output"] == ["Order", "Order", "TEA", 3]

        host.process.terminate()
        assert host.wait() == 0

    told = [each["message"] for each in host.lines if each["kind"] == "host" and each["level"] != "warning"]
    assert told == ["stopping: running activities have 10 s to finish; again stops at once", "stopped"]
    assert "Unclosed" not in "".join(host.text)
