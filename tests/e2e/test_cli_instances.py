"""`perdure instances`, beside a running host and without one."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli_kit import HUB, App, ended, lines, start
from click.testing import CliRunner

from perdure.cli.instances import instances


@pytest.fixture
def app(tmp_path: Path) -> App:
    return App(tmp_path)


@contextmanager
def hosted(app: App) -> Iterator[None]:
    """One finished and one waiting instance, and their host is running."""
    with app.host() as client:
        start(client, "greet", "order-1", "Tokyo")
        start(client, "approval", "order-2", {"total": 5})
        yield


@contextmanager
def stored(app: App) -> Iterator[None]:
    """The same instances, and nobody runs them."""
    with app.engine() as client:
        start(client, "greet", "order-1", "Tokyo")
        start(client, "approval", "order-2", {"total": 5})
    yield


both_ways = pytest.mark.parametrize("way", [hosted, stored])


# ---------------------------------------------------------------------- looking


@both_ways
def test_list_shows_instances_in_order_of_creation(app: App, way):
    with way(app):
        result = app.instances("list")

    titles, first, second = result.stdout.splitlines()
    assert titles.split() == ["INSTANCE", "ID", "NAME", "STATUS", "CREATED", "(UTC)", "UPDATED", "(UTC)"]
    assert first.split()[:3] == ["order-1", "greet", "Completed"]
    assert second.split()[:3] == ["order-2", "approval", "Running"]
    assert result.exit_code == 0


@both_ways
@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--status", "completed"], ["order-1"]),
        (["--status", "Completed", "--status", "Running"], ["order-1", "order-2"]),
        (["--prefix", "order-2"], ["order-2"]),
        (["--created-after", "2999-01-01"], []),
        (["--created-before", "2000-01-01T00:00:00Z"], []),
        (["--created-after", "2000-01-01", "--top", "1"], ["order-1"]),
    ],
)
def test_list_filters(app: App, way, options: list[str], found: list[str]):
    with way(app):
        result = app.instances("list", "--json", *options)

    assert [each["instanceId"] for each in lines(result)] == found


@both_ways
def test_list_follows_all_pages(app: App, way, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("perdure.cli.hosted_hub.PAGE_SIZE", 1)
    monkeypatch.setattr("perdure.cli.stored_hub.PAGE_SIZE", 1)

    with way(app):
        assert [each["instanceId"] for each in lines(app.instances("list", "--json"))] == ["order-1", "order-2"]


@both_ways
def test_show_prints_payloads_and_json_has_the_apis_members(app: App, way):
    with way(app):
        text = app.instances("show", "order-1").stdout
        (status,) = lines(app.instances("show", "order-2", "--json"))

    assert 'Input          "Tokyo"' in text
    assert 'Output         "Hello Tokyo"' in text
    assert list(status) == [
        "name",
        "instanceId",
        "runtimeStatus",
        "input",
        "customStatus",
        "output",
        "createdTime",
        "lastUpdatedTime",
    ]
    assert (status["input"], status["customStatus"]) == ({"total": 5}, {"asks": "Approval"})


@both_ways
def test_history_tells_what_happened(app: App, way):
    with way(app):
        text = app.instances("history", "order-1").stdout
        events = lines(app.instances("history", "order-1", "--json"))

    assert [event["EventType"] for event in events] == ["ExecutionStarted", "TaskCompleted", "ExecutionCompleted"]
    (line,) = [line for line in text.splitlines() if "TaskCompleted" in line]
    assert "hello" in line
    assert 'Result="Hello Tokyo"' in line


@both_ways
@pytest.mark.parametrize("command", [["show"], ["history"], ["terminate"], ["raise-event"]])
def test_an_unknown_instance_is_one_sentence_and_exit_code_1(app: App, way, command: list[str]):
    with way(app):
        result = app.instances(*command, "nobody", *(["Approval"] if command == ["raise-event"] else []))

    assert result.exit_code == 1
    assert result.stderr == "No instance with ID nobody found.\n"
    assert result.stdout == ""


def test_looking_at_a_hub_that_never_ran_finds_nothing_and_creates_nothing(app: App):
    assert app.instances("list").stdout == "No instances.\n"
    assert app.instances("show", "x").exit_code == 1
    assert app.instances("terminate", "x").exit_code == 1
    assert not app.database.exists()


# ---------------------------------------------------------------------- steering


def test_an_event_beside_a_host_takes_effect_at_once(app: App):
    with app.host() as client:
        start(client, "approval", "x")

        result = app.instances("raise-event", "x", "approval", "--data", '{"ok": true}')

        assert (result.exit_code, result.stdout) == (0, "Event 'approval' sent to instance 'x'.\n")
        assert ended(client, "x") == {"ok": True}


def test_a_termination_beside_a_host_takes_effect_at_once(app: App):
    with app.host() as client:
        start(client, "approval", "x")

        assert lines(app.instances("terminate", "x", "--reason", "köstlich & billig", "--json")) == [
            {"instanceId": "x", "accepted": True, "hostIsRunning": True}
        ]
        assert ended(client, "x") == "köstlich & billig"


def test_what_is_sent_without_a_host_waits_for_the_next_one_and_says_so(app: App):
    with stored(app):
        pass

    event = app.instances("raise-event", "order-2", "Approval", "--data", "7")

    assert event.exit_code == 0
    assert "No host is running: it takes effect at the next 'perdure start'." in event.stdout
    with app.engine() as client:
        assert ended(client, "order-2") == 7


def test_a_termination_without_a_host_takes_effect_at_the_next_start(app: App):
    with stored(app):
        pass

    assert app.instances("terminate", "order-2", "--reason", "late").exit_code == 0

    with app.engine() as client:
        assert ended(client, "order-2") == "late"


@both_ways
def test_a_finished_instance_takes_no_messages(app: App, way):
    with way(app):
        results = [app.instances("terminate", "order-1"), app.instances("raise-event", "order-1", "Approval")]

    for result in results:
        assert result.exit_code == 1
        assert result.stderr.startswith("Instance with ID order-1 is gone")


def test_a_time_that_is_none_is_refused(app: App):
    result = app.instances("list", "--created-after", "yesterday")

    assert result.exit_code == 2
    assert "'yesterday' is no time" in result.stderr


def test_an_events_data_may_come_from_a_file_and_has_to_be_json(app: App, tmp_path: Path):
    (tmp_path / "data.json").write_text("[1, 2]", "utf-8")
    with stored(app):
        pass

    from_file = app.instances("raise-event", "order-2", "Approval", "--data", f"@{tmp_path / 'data.json'}")
    no_json = app.instances("raise-event", "order-2", "Approval", "--data", "yes")
    no_file = app.instances("raise-event", "order-2", "Approval", "--data", "@missing.json")

    assert (from_file.exit_code, no_json.exit_code, no_file.exit_code) == (0, 2, 2)
    assert "--data is not JSON" in no_json.stderr
    assert "missing.json cannot be read" in no_file.stderr
    with app.engine() as client:
        assert ended(client, "order-2") == [1, 2]


# ---------------------------------------------------------------------- which hub


@pytest.mark.parametrize(
    "note",
    [
        {"url": "http://127.0.0.1:1", "pid": os.getpid(), "hub": HUB},  # its port is closed
        {"url": "http://127.0.0.1:1", "pid": 2**22 + 1, "hub": HUB},  # its process is gone
        {"url": "http://127.0.0.1:1", "pid": -1, "hub": HUB},
        {"url": 5},
        "{",
    ],
)
def test_a_note_that_a_killed_host_left_behind_does_no_harm(app: App, note: object):
    with stored(app):
        pass
    app.note.write_text(note if isinstance(note, str) else json.dumps(note), "utf-8")

    assert [each["instanceId"] for each in lines(app.instances("list", "--json"))] == ["order-1", "order-2"]
    assert "No host is running" in app.instances("terminate", "order-2").stdout


def test_a_proxy_of_the_environment_is_not_asked_for_the_loopback(app: App, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)

    with hosted(app):
        assert "Event 'Approval' sent" in app.instances("raise-event", "order-2", "Approval").stdout


def test_a_host_of_another_hub_is_not_asked(app: App):
    with hosted(app):
        assert app.instances("list", "--hub", "Another").stdout == "No instances.\n"


def test_a_hub_that_a_host_holds_without_a_note_can_be_read_but_not_steered(app: App):
    with hosted(app):
        app.note.unlink()

        seen = app.instances("list", "--json")
        refused = app.instances("terminate", "order-2")

    assert len(lines(seen)) == 2
    assert refused.exit_code == 3
    assert "another process" in refused.stderr


@pytest.mark.parametrize("scheme", ["sqlite:", "sqlite:///"])
def test_a_store_can_be_named_outright(app: App, monkeypatch: pytest.MonkeyPatch, scheme: str):
    with stored(app):
        pass
    monkeypatch.chdir(app.state)

    result = app.instances("list", "--json", "--store", f"{scheme}{HUB}.db")

    assert len(lines(result)) == 2


def test_a_store_named_outright_is_reached_through_the_host_that_was_told_the_same(app: App):
    with hosted(app):
        note = json.loads(app.note.read_text("utf-8"))
        app.note.write_text(json.dumps({**note, "store": f"sqlite:{app.database}"}), "utf-8")

        same = app.instances("terminate", "order-2", "--store", f"sqlite:{app.database}", "--json")
        other = app.instances("list", "--store", f"sqlite:{app.folder / 'other.db'}")

    assert lines(same)[0]["hostIsRunning"]
    assert other.stdout == "No instances.\n"


def test_the_app_is_found_from_a_folder_within_it(app: App, monkeypatch: pytest.MonkeyPatch):
    with stored(app):
        pass
    (app.folder / "src" / "deep").mkdir(parents=True)
    monkeypatch.chdir(app.folder / "src" / "deep")

    result = CliRunner().invoke(instances, ["list", "--json"])

    assert len(lines(result)) == 2


def test_a_folder_without_an_app_is_exit_code_2(tmp_path: Path):
    app = App(tmp_path)
    (tmp_path / "host.json").unlink()
    app.state.rmdir()

    result = app.instances("list")

    assert result.exit_code == 2
    assert result.stderr.startswith("DF101  No Function app here\n")


@pytest.mark.parametrize("damage", [b"this is no database, and long enough to be read as the head of one" * 20])
def test_a_store_that_cannot_be_used_is_exit_code_3(app: App, damage: bytes):
    app.database.write_bytes(damage)

    for command in (["list"], ["show", "x"], ["terminate", "x"]):
        result = app.instances(*command)
        assert result.exit_code == 3
        assert len(result.stderr.splitlines()) == 1


def test_a_store_of_another_hub_is_refused(app: App):
    with stored(app):
        pass

    result = app.instances("list", "--store", f"sqlite:{app.database}", "--hub", "Another")

    assert result.exit_code == 3
    assert "belongs to the task hub 'Orders'" in result.stderr


# ---------------------------------------------------------------------- the check


@both_ways
def test_hub_check_finds_nothing_wrong_with_a_healthy_hub(app: App, way):
    with way(app):
        text = app.hub("check")
        (report,) = lines(app.hub("check", "--json"))

    assert (text.exit_code, text.stdout.startswith("Task hub 'Orders': 2 instances, ")) == (0, True)
    assert (report["instances"], report["findings"]) == (2, [])
    assert report["events"] > 0


def test_hub_check_reports_damage_with_exit_code_5(app: App):
    with stored(app):
        pass
    with sqlite3.connect(app.database) as database:
        database.execute("update instances set status = 'Running' where id = 'order-1'")
    database.close()

    text = app.hub("check")
    result = app.hub("check", "--json")

    assert (text.exit_code, result.exit_code) == (5, 5)
    (report,) = lines(result)
    assert {finding["instanceId"] for finding in report["findings"]} == {"order-1"}
    assert "order-1" in text.stdout
    app.database.unlink()  # every other hub has to be sound in the end


def test_hub_check_changes_nothing(app: App):
    with stored(app):
        pass
    before = app.database.read_bytes()

    app.hub("check")

    assert app.database.read_bytes() == before


def test_hub_check_of_a_hub_that_never_ran_is_exit_code_3(app: App):
    result = app.hub("check")

    assert (result.exit_code, app.database.exists()) == (3, False)
    assert "it never ran" in result.stderr


# ---------------------------------------------------------------------- start-up


def test_the_commands_load_no_server_and_no_sdk():
    """They are used in scripts and completions: what they do not need, they do not wait for."""
    program = (
        "import sys, perdure.cli.instances, perdure.cli.hub;"
        "print([name for name in sys.modules if name.split('.')[0] in ('starlette', 'uvicorn', 'azure', 'anyio')])"
    )

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert loaded.stdout.strip() == "[]"
