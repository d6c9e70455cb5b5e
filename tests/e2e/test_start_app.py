"""`perdure start` runs an unmodified app: over HTTP, in the terminal, through interruptions."""

import json
import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from start_kit import HostProcess, copy_app, eventually, launched, started


@pytest.fixture(scope="module")
def hello(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    """One host for all tests that only talk to it."""
    folder = copy_app("hello", tmp_path_factory.mktemp("app"))
    with started(folder) as host:
        yield host


class TestOverHttp:
    def test_a_started_orchestration_runs_to_its_result(self, hello: HostProcess):
        answer = hello.request("POST", "/api/orchestrators/chain", headers={"Host": f"localhost:{hello.port}"})

        assert answer.status == 202
        links = answer.json()
        assert links["statusQueryGetUri"].startswith(f"http://localhost:{hello.port}/runtime/webhooks/durabletask/")
        assert hello.result(links["id"])["output"] == ["Hello Tokyo!", "Hello Seattle!"]

    def test_waiting_mode_answers_with_the_output(self, hello: HostProcess):
        answer = hello.start("chain", query="?timeout=10")

        assert (answer.status, answer.json()) == (200, ["Hello Tokyo!", "Hello Seattle!"])

    def test_a_function_may_wait_for_its_orchestration(self, hello: HostProcess):
        assert hello.request("POST", "/api/wait/waits_many").body == b"ticked"

    def test_both_loopbacks_are_served(self, hello: HostProcess):
        assert hello.request("GET", "/admin/host/status", address="127.0.0.1").json()["state"] == "Running"
        assert hello.request("GET", "/admin/host/ping", address="::1").status == 200

    def test_a_request_reaches_a_function_as_on_azure(self, hello: HostProcess):
        answer = hello.request("PUT", "/API/Echo/a%20b/c?q=1&q=2", "böd".encode(), {"X-Twice": "x"})

        assert answer.status == 201
        assert answer.headers["X-Mine"] == "yes"
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert answer.body.decode().splitlines() == [
            "PUT",
            f"http://127.0.0.1:{hello.port}/API/Echo/a%20b/c?q=1&q=2",
            "a b/c",
            "1,2",
            "x",
            "echo",
            "böd",
        ]

    def test_a_text_goes_out_unchanged(self, hello: HostProcess):
        answer = hello.request("GET", "/api/text")

        assert (answer.body, answer.headers["Content-Type"]) == (b'{"not": "parsed"}', "text/plain; charset=utf-8")

    def test_bytes_and_repeated_cookies_go_out(self, hello: HostProcess):
        answer = hello.request("GET", "/api/cookies")

        assert (answer.body, answer.headers["Content-Type"]) == (b"\x00\x01", "application/octet-stream")
        assert answer.headers.get_all("Set-Cookie") == ["a=1", "b=2"]

    @pytest.mark.parametrize(
        ("path", "told"),
        [("nothing", "NoneType"), ("raises", "LookupError: no such order"), ("exits", "SystemExit")],
    )
    def test_what_goes_wrong_in_a_function_is_a_500_and_told_in_the_terminal(
        self, hello: HostProcess, path: str, told: str
    ):
        answer = hello.request("GET", f"/api/{path}")

        assert (answer.status, answer.body) == (500, b"")
        line = eventually(lambda: hello.find("host", function=path))
        assert told in line["message"]

    def test_the_traceback_of_a_failing_function_is_the_users(self, hello: HostProcess):
        hello.request("GET", "/api/raises")

        line = eventually(lambda: hello.find("host", function="raises"))

        assert "function_app.py" in line["traceback"]
        assert os.sep + "perdure" + os.sep not in line["traceback"]

    def test_a_wrong_method_is_404_with_a_word_in_the_terminal(self, hello: HostProcess):
        assert hello.request("DELETE", "/api/raises").status == 404
        eventually(lambda: hello.find("host", message="/api/raises answers to GET, not to DELETE"))

    @pytest.mark.parametrize("path", ["/nowhere", "/api/none", "/runtime/webhooks/other"])
    def test_what_nobody_serves_is_404(self, hello: HostProcess, path: str):
        assert hello.request("GET", path).status == 404

    def test_there_is_a_home_page(self, hello: HostProcess):
        answer = hello.request("GET", "/")

        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")

    def test_a_body_that_is_not_json_is_refused_by_the_management_api(self, hello: HostProcess):
        answer = hello.request("POST", "/runtime/webhooks/durabletask/orchestrators/chain", b"{")

        assert answer.status == 400

    def test_an_unknown_host_name_is_refused(self, hello: HostProcess):
        assert hello.request("GET", "/api/text", headers={"Host": "evil.example"}).status == 421


class TestTerminal:
    def test_the_start_line_has_functions_urls_store_and_sdk(self, hello: HostProcess):
        line = hello.find("started")

        assert line is not None
        functions = {each["name"]: each for each in line["functions"]}
        assert functions["http_start"]["url"].startswith(f"http://localhost:{hello.port}/api/orchestrators/")
        assert functions["chain"]["source"].startswith("function_app.py:")
        assert functions["nightly"]["schedule"] == "0 0 2 * * *"
        assert line["store"].endswith("Hello.db")
        assert "durable_functions" in line["sdk"]
        assert (line["hub"], line["resumed"]) == ("Hello", 0)

    def test_lines_of_user_code_carry_function_and_instance(self, hello: HostProcess):
        instance_id = hello.start("chain").json()["id"]

        printed = eventually(lambda: hello.find("function", instance_id=instance_id, message="printing Tokyo"))
        logged = eventually(lambda: hello.find("function", instance_id=instance_id, message="logging Seattle"))

        assert (printed["function"], printed["stream"], printed["level"]) == ("hello", "stdout", "information")
        assert (logged["function"], logged["stream"], logged["level"]) == ("hello", "log", "warning")

    def test_an_instance_has_a_line_when_it_starts_and_when_it_ends(self, hello: HostProcess):
        instance_id = hello.start("chain").json()["id"]

        eventually(lambda: hello.find("instance", instance_id=instance_id, status="Running"))
        ended = eventually(lambda: hello.find("instance", instance_id=instance_id, status="Completed"))

        assert ended["function"] == "chain"
        assert ended["duration_ms"] >= 0

    def test_an_unknown_activity_is_named_with_the_known_ones(self, hello: HostProcess):
        instance_id = hello.start("misspelt").json()["id"]

        failed = eventually(lambda: hello.find("instance", instance_id=instance_id, status="Failed"))

        assert "helo" in failed["error"]
        assert "hello" in failed["error"]

    def test_replayed_lines_are_not_shown_again(self, tmp_path: Path):
        folder = copy_app("hello", tmp_path)
        with started(folder) as host:
            instance_id = host.start("talkative").json()["id"]
            eventually(lambda: host.find("function", instance_id=instance_id, message="before"))
            eventually(lambda: host.find("instance", instance_id=instance_id, status="Running"))
            host.process.kill()
        with started(folder) as host:
            go = f"/runtime/webhooks/durabletask/instances/{instance_id}/raiseEvent/go"
            host.request("POST", go, "{}", {"Content-Type": "application/json"})
            eventually(lambda: host.find("function", instance_id=instance_id, message="after"))

            assert host.find("function", message="before") is None

    def test_log_levels_of_host_json_are_followed(self, tmp_path: Path):
        folder = copy_app("hello", tmp_path)
        levels = {"Function.hello": "Warning", "Host.Triggers.DurableTask": "None"}
        (folder / "host.json").write_text(json.dumps({"version": "2.0", "logging": {"logLevel": levels}}))
        with started(folder) as host:
            host.start("chain", query="?timeout=10")
            eventually(lambda: host.find("function", message="logging Seattle"))

            assert host.find("function", message="printing Tokyo") is None
            assert host.find("instance") is None

    def test_no_more_activities_run_at_once_than_host_json_allows(self, tmp_path: Path):
        folder = copy_app("hello", tmp_path)
        limit = {"durableTask": {"maxConcurrentActivityFunctions": 1}}
        (folder / "host.json").write_text(json.dumps({"version": "2.0", "extensions": limit}))
        with started(folder) as host:
            for instance_id in [host.start("slow_once").json()["id"] for _ in range(3)]:
                host.result(instance_id)

        assert (folder / "ledger.txt").read_text() == "begin 0\nend 0\n" * 3

    def test_people_get_a_start_screen(self, tmp_path: Path):
        folder = copy_app("hello", tmp_path)
        with launched(folder, "--log", "pretty") as host:
            eventually(lambda: "Ctrl-C stops" in "".join(host.text))
            text = "".join(host.text)

            assert "Orchestrator  chain" in text
            assert "/api/orchestrators/{functionName}" in text
            assert "embedded store takes its place" in text


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send; Ctrl-C is for the whole console")
class TestStopping:
    def test_ctrl_c_lets_the_running_activity_finish(self, tmp_path: Path):
        folder = copy_app("hello", tmp_path)
        ledger = folder / "ledger.txt"
        with started(folder) as host:
            instance_id = host.start("slow_chain").json()["id"]
            eventually(lambda: ledger.exists() and "begin 0" in ledger.read_text())
            host.signal(signal.SIGINT)

            assert host.wait() == 0
        assert ledger.read_text() == "begin 0\nend 0\n"
        assert not (folder / ".perdure" / "host.json").exists()
        with started(folder) as host:
            assert host.result(instance_id)["output"] == "done"
        assert ledger.read_text().count("begin 0") == 1

    def test_a_termination_signal_stops_like_ctrl_c(self, tmp_path: Path):
        with started(copy_app("hello", tmp_path)) as host:
            host.signal(signal.SIGTERM)

            assert host.wait() == 0

    def test_ctrl_c_twice_stops_at_once_and_nothing_is_lost(self, tmp_path: Path):
        folder = copy_app("hello", tmp_path)
        ledger = folder / "ledger.txt"
        with started(folder) as host:
            instance_id = host.start("slow_chain").json()["id"]
            eventually(lambda: ledger.exists() and "begin 0" in ledger.read_text())
            host.signal(signal.SIGINT)
            eventually(lambda: any("stopping" in line["message"] for line in host.lines))
            host.signal(signal.SIGINT)

            assert host.wait() == 130
        assert "end 0" not in ledger.read_text()
        with started(folder) as host:
            assert host.find("started", resumed=1)
            assert host.result(instance_id)["output"] == "done"

    def test_a_waiting_request_does_not_hold_up_the_end(self, tmp_path: Path):
        folder = copy_app("hello", tmp_path)
        with started(folder) as host:
            answers: list[int] = []
            waiting = threading.Thread(
                target=lambda: answers.append(host.request("POST", "/api/wait/talkative").status)
            )
            waiting.start()
            eventually(lambda: host.find("instance", function="talkative", status="Running"))
            host.signal(signal.SIGINT)

            assert host.wait(deadline_s=5) == 0
            waiting.join()
            assert answers in ([500], [503])

    def test_after_kill_9_the_next_host_goes_on(self, tmp_path: Path):
        folder = copy_app("hello", tmp_path)
        with started(folder) as host:
            instance_id = host.start("slow_chain").json()["id"]
            eventually(lambda: (folder / "ledger.txt").exists())
            host.process.kill()
            host.wait()
        with started(folder) as host:
            assert host.find("started", resumed=1)
            assert host.result(instance_id)["output"] == "done"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_state_is_for_its_owner_only_and_outside_of_version_control(tmp_path: Path):
    folder = copy_app("hello", tmp_path)
    with started(folder) as host:
        state = folder / ".perdure"
        note = json.loads((state / "host.json").read_text())

        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        assert stat.S_IMODE((state / "host.json").stat().st_mode) == 0o600
        assert (state / ".gitignore").read_text() == "*\n"
        assert note["pid"] == host.process.pid
        assert note["url"] == f"http://127.0.0.1:{host.port}"
