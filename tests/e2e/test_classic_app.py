"""An app of the classic model, folders with a function.json, runs unmodified."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from start_kit import HostProcess, copy_app, eventually, started


@pytest.fixture(scope="module")
def classic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    """One host for all tests that only talk to it."""
    with started(copy_app("classic", tmp_path_factory.mktemp("app"))) as host:
        yield host


def ran(host: HostProcess, name: str, input: Any = None) -> Any:
    """What an orchestration that its HTTP function starts comes to."""
    answer = host.request("POST", f"/api/orchestrators/{name}", json.dumps(input) if input is not None else None)
    assert answer.status == 202
    links = answer.json()
    assert links["statusQueryGetUri"].startswith(f"http://127.0.0.1:{host.port}/runtime/webhooks/durabletask/")
    ended = host.result(links["id"])
    assert ended["runtimeStatus"] == "Completed", ended
    return ended["output"]


def raised(host: HostProcess, instance_id: str, name: str, data: Any) -> None:
    """Send an event through the management API."""
    path = f"/runtime/webhooks/durabletask/instances/{instance_id}/raiseEvent/{name}"
    answer = host.request("POST", path, json.dumps(data), {"Content-Type": "application/json"})
    assert answer.status == 202


class TestPatterns:
    def test_chaining(self, classic: HostProcess):
        assert ran(classic, "HelloCities") == ["Hello Tokyo!", "Hello Seattle!", "Hello London!"]
        assert ran(classic, "HelloCities", ["Oslo"]) == ["Hello Oslo!"]

    def test_fan_out_and_in(self, classic: HostProcess):
        assert ran(classic, "SumOfSquares", 20) == sum(n * n for n in range(20))

    def test_sub_orchestrations(self, classic: HostProcess):
        assert ran(classic, "Parent") == ["Hello Ann!", "Hello Bob!"]

    def test_a_human_decides_in_time(self, classic: HostProcess):
        links = classic.request("POST", "/api/orchestrators/Approval", "3600").json()
        eventually(lambda: classic.status(links["id"])["customStatus"] == "waiting")

        raised(classic, links["id"], "Decision", "approved")

        assert classic.result(links["id"])["output"] == "approved"

    def test_a_human_does_not_decide_in_time(self, classic: HostProcess):
        assert ran(classic, "Approval", 0.01) == "nobody decided"

    def test_an_entity_counts(self, classic: HostProcess):
        assert ran(classic, "Tally") == 7

        assert classic.request("GET", "/api/counters/tally").json() == 7

    def test_orchestrators_and_entities_may_make_their_handlers_for_each_call(self, classic: HostProcess):
        links = classic.request("POST", "/api/orchestrators/Old").json()
        raised(classic, links["id"], "Go", {"right": "twice"})

        ended = classic.result(links["id"])

        assert (ended["runtimeStatus"], ended["output"]) == ("Completed", ["Hello once!", "Hello once! twice", 17])


class TestFunctions:
    def test_a_client_parameter_with_the_clients_class_is_a_client(self, classic: HostProcess):
        instance_id = classic.request("GET", "/api/Typed").body.decode()

        assert classic.result(instance_id)["output"] == ["Hello Oslo!"]

    def test_methods_are_those_of_function_json(self, classic: HostProcess):
        assert classic.request("PUT", "/api/orchestrators/HelloCities").status == 404
        assert classic.request("DELETE", "/api/Typed").status == 200

    def test_the_start_screen_lists_every_function_with_its_place(self, classic: HostProcess):
        started = classic.find("started")
        assert started is not None
        functions = {each["name"]: each for each in started["functions"]}

        assert functions["HelloCities"]["source"] == f"{Path('HelloCities/__init__.py')}:4"
        assert functions["ChildOfParent"]["kind"] == "Orchestrator"
        assert functions["Square"]["source"] == f"{Path('shared/arithmetic.py')}:1"
        assert functions["Counter"]["kind"] == "Entity"
        assert functions["HttpStart"]["url"].endswith("/api/orchestrators/{functionName}")
        assert not any(each.get("is_error") for name, each in functions.items() if name not in ("Broken", "Unread"))

    def test_functions_in_error_are_listed_with_the_reason_while_the_others_run(self, classic: HostProcess):
        started = classic.find("started")
        assert started is not None
        functions = {each["name"]: each for each in started["functions"]}

        assert "(DF102)" in functions["Broken"]["note"]
        assert "ModuleNotFoundError: No module named 'no_such_package_at_all'" in functions["Broken"]["details"]
        assert functions["Unread"]["source"] == f"{Path('Unread/function.json')}:3"
        assert "is not JSON" in functions["Unread"]["note"]
        assert "leaves it out" in functions["LeftOut"]["note"]


def test_what_runs_when_the_host_is_killed_goes_on_afterwards(tmp_path: Path):
    folder = copy_app("classic", tmp_path)
    with started(folder) as host:
        links = host.request("POST", "/api/orchestrators/Approval", "3600").json()
        eventually(lambda: host.status(links["id"])["customStatus"] == "waiting")
        host.process.kill()

    with started(folder) as host:
        raised(host, links["id"], "Decision", "late, but approved")
        assert host.result(links["id"])["output"] == "late, but approved"
