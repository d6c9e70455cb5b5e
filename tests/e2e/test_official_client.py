"""The unmodified client of SDK 1.x against a running host, through the local mount."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from official_kit import OfficialClient, OfficialError, official_client
from start_kit import HostProcess, clean_environment, copy_app, eventually, started

from binding_kit import client_binding
from perdure.webapi.links import management_urls

HUB = "Managed"

OPERATIONS = ["terminate", "suspend", "resume"]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    """One host for all tests; the hub that it leaves behind is sound."""
    folder = copy_app("managed", tmp_path_factory.mktemp("app"))
    with started(folder) as running:
        yield running
    check = [sys.executable, "-m", "perdure", "hub", "check", "--app", str(folder)]
    checked = subprocess.run(check, capture_output=True, text=True, check=False, env=clean_environment())
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.fixture(scope="module")
def client(host: HostProcess, request: pytest.FixtureRequest) -> Iterator[OfficialClient]:
    cache = Path(request.config.cache.mkdir("official-sdk-1"))
    with official_client(cache, client_binding(f"http://127.0.0.1:{host.port}", HUB)) as running:
        yield running


def until(client: OfficialClient, instance_id: str, status: str) -> dict[str, Any]:
    """The status of an instance once it is this one."""

    def look() -> dict[str, Any] | None:
        found = client.call("get_status", instance_id=instance_id)
        return found if found["status"] == status else None

    found = eventually(look)
    assert found is not None
    return found


def until_state(client: OfficialClient, key: str, state: Any) -> None:
    """Wait until a counter has this state."""
    wanted = {"exists": True, "state": state}
    eventually(lambda: client.call("read_entity_state", entityId=["Counter", key]) == wanted)


def start(client: OfficialClient, name: str, instance_id: str, status: str) -> None:
    """Start an instance and wait for a status."""
    client.call("start_new", orchestration_function_name=name, instance_id=instance_id)
    until(client, instance_id, status)


def text_of(call: Callable[[], Any]) -> str:
    """What a call raises, which is a plain exception."""
    with pytest.raises(OfficialError) as raised:
        call()
    assert raised.value.kind == "Exception"
    return str(raised.value)


class TestStart:
    def test_a_start_returns_a_new_id(self, client: OfficialClient):
        instance_id = client.call("start_new", orchestration_function_name="echo")

        assert len(instance_id) == 32
        assert until(client, instance_id, "Completed")["name"] == "echo"

    @pytest.mark.parametrize("value", [{"a": [1, None]}, "text", ["1"], 0, False, "größe"])
    def test_an_input_arrives_as_the_value_that_was_given(self, client: OfficialClient, value: Any):
        instance_id = client.call("start_new", orchestration_function_name="echo", client_input=value)

        status = until(client, instance_id, "Completed")
        assert (status["input"], status["output"]) == (value, value)

    @pytest.mark.parametrize("instance_id", ["order 17", "order+17", "größe", "50%", "a&b;c"])
    def test_an_id_is_not_escaped_and_found_again(self, client: OfficialClient, instance_id: str):
        assert client.call("start_new", orchestration_function_name="echo", instance_id=instance_id) == instance_id
        assert until(client, instance_id, "Completed")["instance_id"] == instance_id

    def test_an_empty_id_is_a_new_one(self, client: OfficialClient):
        assert len(client.call("start_new", orchestration_function_name="echo", instance_id="")) == 32

    def test_a_version_is_passed_on(self, client: OfficialClient):
        instance_id = client.call("start_new", orchestration_function_name="tell_version", version="2.0 beta")

        assert until(client, instance_id, "Completed")["output"] == "2.0 beta"

    def test_an_unknown_orchestrator_is_named_with_the_known_ones(self, client: OfficialClient):
        text = text_of(lambda: client.call("start_new", orchestration_function_name="ekko"))

        assert text == (
            "The function 'ekko' doesn't exist, is disabled, or is not an orchestrator function. Additional info: "
            "The following are the known orchestrator functions: 'approval', 'echo', 'tell_version', 'unlucky'."
        )

    def test_an_id_that_breaks_a_rule_is_explained(self, client: OfficialClient):
        text = text_of(lambda: client.call("start_new", orchestration_function_name="echo", instance_id="@x"))

        assert text == "Orchestration instance ids must not start with @."

    def test_a_start_over_a_running_instance_is_refused(self, client: OfficialClient):
        start(client, "approval", "taken", "Running")

        text = text_of(lambda: client.call("start_new", orchestration_function_name="approval", instance_id="taken"))

        assert "An Orchestration instance with the status Running already exists." in text


class TestStatus:
    def test_an_unknown_instance_has_a_status_that_is_false(self, client: OfficialClient):
        status = client.call("get_status", instance_id="nobody")

        assert (status["exists"], status["status"]) == (False, None)

    def test_a_running_instance_shows_what_it_says_of_itself(self, client: OfficialClient):
        start(client, "approval", "asking", "Running")

        assert client.call("get_status", instance_id="asking")["custom_status"] == {"asks": "Approval"}

    def test_the_history_comes_with_results_when_asked_for(self, client: OfficialClient):
        instance_id = client.call("start_new", orchestration_function_name="echo", client_input="x")
        until(client, instance_id, "Completed")

        status = client.call(
            "get_status", instance_id=instance_id, show_history=True, show_history_output=True, show_input=True
        )

        assert [each["EventType"] for each in status["history"]] == ["ExecutionStarted", "ExecutionCompleted"]
        assert status["history"][1]["Result"] == "x"

    def test_all_instances_are_listed(self, client: OfficialClient):
        for number in range(3):
            start(client, "echo", f"all-{number}", "Completed")

        found = {each["instance_id"] for each in client.call("get_status_all")}

        assert found >= {"all-0", "all-1", "all-2"}

    def test_instances_are_found_by_time_status_and_prefix(self, client: OfficialClient):
        start(client, "echo", "by-done", "Completed")
        start(client, "approval", "by-open", "Running")

        def found(**filters: Any) -> set[str]:
            return {each["instance_id"] for each in client.call("get_status_by", instance_id_prefix="by-", **filters)}

        assert found() == {"by-done", "by-open"}
        assert found(runtime_status=["Completed", "Failed"]) == {"by-done"}
        assert found(created_time_from="2000-01-01", created_time_to="2999-01-01") == {"by-done", "by-open"}
        assert found(created_time_from="2999-01-01") == set()


class TestEvents:
    @pytest.mark.parametrize("data", [{"approved": True}, "yes", None])
    def test_an_event_carries_the_value_that_was_given(self, client: OfficialClient, data: Any):
        instance_id = client.call("start_new", orchestration_function_name="approval")

        client.call("raise_event", instance_id=instance_id, event_name="Approval", event_data=data)

        assert until(client, instance_id, "Completed")["output"] == data

    def test_an_event_may_name_the_hub(self, client: OfficialClient):
        start(client, "approval", "hub-named", "Running")

        client.call(
            "raise_event",
            instance_id="hub-named",
            event_name="Approval",
            task_hub_name=HUB,
            connection_name="AzureWebJobsStorage",
        )

        until(client, "hub-named", "Completed")

    def test_an_event_for_nobody_and_for_who_has_ended_are_told_apart(self, client: OfficialClient):
        start(client, "echo", "deaf", "Completed")

        def send(instance_id: str) -> str:
            return text_of(lambda: client.call("raise_event", instance_id=instance_id, event_name="Approval"))

        assert send("nobody") == "No instance with ID nobody found."
        assert send("deaf") == "Instance with ID deaf is gone: either completed or failed"


class TestSteering:
    def test_a_suspended_instance_goes_on_when_it_is_resumed(self, client: OfficialClient):
        start(client, "approval", "halted", "Running")

        client.call("suspend", instance_id="halted", reason="not now & here")
        until(client, "halted", "Suspended")
        client.call("raise_event", instance_id="halted", event_name="Approval", event_data=1)
        client.call("resume", instance_id="halted", reason="now")

        assert until(client, "halted", "Completed")["output"] == 1

    def test_a_terminated_instance_says_why(self, client: OfficialClient):
        start(client, "approval", "ended", "Running")

        client.call("terminate", instance_id="ended", reason="no longer wanted")

        assert until(client, "ended", "Terminated")["output"] == "no longer wanted"

    @pytest.mark.parametrize("method", OPERATIONS)
    def test_nobody_cannot_be_steered_and_who_has_ended_does_not_mind(self, client: OfficialClient, method: str):
        start(client, "echo", f"past-{method}", "Completed")

        text = text_of(lambda: client.call(method, instance_id="nobody", reason="x"))

        assert text == "No instance with ID 'nobody' found."
        assert client.call(method, instance_id=f"past-{method}", reason="x") is None

    def test_a_failed_instance_can_be_rewound(self, client: OfficialClient):
        start(client, "unlucky", "rewound", "Failed")

        client.call("rewind", instance_id="rewound", reason="the network is back", task_hub_name=HUB)

        assert until(client, "rewound", "Completed")["output"] == "Hello rewound"

    def test_what_cannot_be_rewound_is_explained(self, client: OfficialClient):
        start(client, "echo", "fine", "Completed")

        def rewind(instance_id: str) -> str:
            return text_of(lambda: client.call("rewind", instance_id=instance_id, reason="x"))

        assert rewind("nobody") == "No instance with ID nobody found."
        assert rewind("fine") == (
            'This orchestration has status Completed, but only orchestrations in the "Failed" state can be rewound.'
        )

    def test_a_restart_has_the_same_input(self, client: OfficialClient):
        arguments = {"orchestration_function_name": "echo", "client_input": {"a": 1}}
        client.call("start_new", instance_id="again", **arguments)
        until(client, "again", "Completed")

        new = client.call("restart", instance_id="again")
        same = client.call("restart", instance_id="again", restart_with_new_instance_id=False)

        assert new["id"] != "again"
        assert same["id"] == "again"
        assert until(client, new["id"], "Completed")["output"] == {"a": 1}

    def test_what_cannot_be_restarted_is_refused(self, client: OfficialClient):
        start(client, "approval", "busy", "Running")

        unknown = text_of(lambda: client.call("restart", instance_id="nobody"))
        running = text_of(lambda: client.call("restart", instance_id="busy", restart_with_new_instance_id=False))

        assert unknown == "The operation failed with an unexpected status code 400"
        assert running == "The operation failed with an unexpected status code 409"


class TestPurge:
    def test_an_instance_that_has_ended_is_purged(self, client: OfficialClient):
        start(client, "echo", "old", "Completed")

        assert client.call("purge_instance_history", instance_id="old") == 1
        assert client.call("purge_instance_history", instance_id="old") == 0
        assert client.call("get_status", instance_id="old")["exists"] is False

    def test_one_that_has_not_is_not(self, client: OfficialClient):
        start(client, "approval", "young", "Running")

        text = text_of(lambda: client.call("purge_instance_history", instance_id="young"))

        assert text == "The operation failed with an unexpected status code 412"

    def test_instances_are_purged_by_filter(self, client: OfficialClient):
        start(client, "unlucky", "bad", "Failed")

        filters = {"created_time_from": "2000-01-01", "runtime_status": ["Failed"]}

        assert client.call("purge_instance_history_by", created_time_to="2999-01-01", **filters) == 1
        assert client.call("purge_instance_history_by", **filters) == 0


class TestEntities:
    def test_a_missing_entity_has_no_state(self, client: OfficialClient):
        found = client.call("read_entity_state", entityId=["Counter", "nobody"])

        assert found == {"exists": False, "state": None}

    def test_signals_are_applied_in_their_order(self, client: OfficialClient):
        for number in (1, 20, 300):
            client.call("signal_entity", entityId=["Counter", "sum"], operation_name="add", operation_input=number)

        until_state(client, "sum", 321)

    @pytest.mark.parametrize("value", [{"a": [1, None]}, "text", ["1"], "größe", "5"])
    def test_a_signal_carries_the_value_that_was_given(self, client: OfficialClient, value: Any):
        client.call("signal_entity", entityId=["Counter", "value"], operation_name="set", operation_input=value)

        until_state(client, "value", value)

    @pytest.mark.parametrize("key", ["order 17", "order+17", "größe", "50%", "a&b;c", "a@b"])
    def test_a_key_is_not_escaped_and_found_again(self, client: OfficialClient, key: str):
        client.call("signal_entity", entityId=["Counter", key], operation_name="set", operation_input=key)

        until_state(client, key, key)

    def test_a_signal_and_a_question_may_name_the_hub(self, client: OfficialClient):
        names = {"entityId": ["counter", "named"], "task_hub_name": HUB, "connection_name": "AzureWebJobsStorage"}

        client.call("signal_entity", operation_name="add", operation_input=1, **names)
        until_state(client, "named", 1)

        assert client.call("read_entity_state", **names) == {"exists": True, "state": 1}

    def test_a_deleted_entity_is_missing(self, client: OfficialClient):
        client.call("signal_entity", entityId=["Counter", "old"], operation_name="add", operation_input=1)
        until_state(client, "old", 1)

        client.call("signal_entity", entityId=["Counter", "old"], operation_name="delete")

        eventually(lambda: not client.call("read_entity_state", entityId=["Counter", "old"])["exists"])

    def test_an_entity_that_there_is_no_function_for_is_refused(self, client: OfficialClient):
        text = text_of(lambda: client.call("signal_entity", entityId=["nobody", "a"], operation_name="add"))

        assert text == "The operation failed with an unexpected status code 400"


class TestHttpResponses:
    def test_the_links_of_a_check_status_response_are_the_hosts(self, client: OfficialClient, host: HostProcess):
        start(client, "approval", "linked", "Running")
        origin = f"http://localhost:{host.port}"

        answer = client.call("create_check_status_response", request=f"{origin}/api/x", instance_id="linked")
        plain = client.call("create_http_management_payload", instance_id="linked")

        links = json.loads(answer["body"])
        assert links == management_urls(origin, HUB, "linked")
        assert plain == management_urls(f"http://127.0.0.1:{host.port}", HUB, "linked")
        assert (answer["status"], answer["headers"]["Location"]) == (202, links["statusQueryGetUri"])
        url = urlsplit(links["statusQueryGetUri"])
        assert host.request("GET", f"{url.path}?{url.query}").status == 202

    def test_waiting_gives_the_output_the_failure_or_the_links(self, client: OfficialClient):
        start(client, "approval", "endless", "Running")
        done = client.call("start_new", orchestration_function_name="echo", client_input=[1])
        failed = client.call("start_new", orchestration_function_name="unlucky", instance_id="hapless")

        def wait(instance_id: str, milliseconds: int) -> dict[str, Any]:
            return client.call(
                "wait_for_completion_or_create_check_status_response",
                request="http://localhost/api/x",
                instance_id=instance_id,
                timeout_in_milliseconds=milliseconds,
                retry_interval_in_milliseconds=10,
            )

        assert [wait(done, 10_000)[each] for each in ("status", "body")] == [200, "[1]"]
        assert wait(failed, 10_000)["status"] == 500
        assert wait("endless", 50)["status"] == 202
