"""What host.json, local.settings.json and the environment say shows in what a host does."""

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from start_kit import copy_app, eventually, refused, started

SECRET = "c2VjcmV0LWtleQ=="
LOCAL_SETTINGS = {
    "IsEncrypted": False,
    "Values": {
        "AzureWebJobsStorage": f"AccountName=orders;AccountKey={SECRET}",
        "SQLDB_Connection": f"Server=db;Password={SECRET}",
        "TOPIC_KEY": SECRET,
        "HUB": "FromFile",
        "GREETING": "Hello",
        "AzureFunctionsJobHost__extensions__http__routePrefix": "v2",
        "AzureFunctionsJobHost__extensions__durableTask__storageProvider__type": "AzureStorage",
        "AzureFunctionsJobHost__extensions__durableTask__storageProvider__partitionCount": "3",
    },
}


@contextmanager
def topic() -> Iterator[tuple[str, list[str]]]:
    """A server's address, and what it has been told so far."""
    told: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            (event,) = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if self.headers["aeg-sas-key"] == SECRET:
                told.append(
                    f"{event['data']['hubName']} {event['data']['instanceId']} {event['data']['runtimeStatus']}"
                )
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def settings_app(folder: Path) -> Path:
    app = copy_app("settings", folder)
    (app / "local.settings.json").write_text(json.dumps(LOCAL_SETTINGS), "utf-8")
    return app


@pytest.mark.parametrize("processes", ["1", "2"])
def test_settings_are_honoured_from_all_three_places(tmp_path: Path, processes: str):
    app = settings_app(tmp_path)
    environ = {"GREETING": "Good morning", "FUNCTIONS_WORKER_PROCESS_COUNT": processes}

    with topic() as (url, told), started(app, environ={"TOPIC": url, **environ}) as host:
        screen = host.find("started")
        begin = "/runtime/webhooks/durabletask/orchestrators"
        for name, instance_id, given in (
            ("greet", "g1", "Tokyo"),
            ("dawdle", "d1", "wait_async"),
            ("dawdle", "d2", "wait"),
        ):
            answer = host.request(
                "POST", f"{begin}/{name}/{instance_id}", json.dumps(given), {"content-type": "application/json"}
            )
            assert answer.status == 202
        slow = host.request("GET", "/v2/slow")
        results = {each: host.result(each) for each in ("g1", "d1", "d2")}
        eventually(lambda: len(told) == 5)
        rpc = host.request("GET", "/durabletask/instances/g1")
        lines = "".join(host.text)

    assert screen is not None
    assert screen["hub"] == "FromFile"
    assert any("host.json, line 4: functionTimout is not a known setting; did you mean functionTimeout?" in each
               for each in screen["warnings"])  # fmt: skip
    assert any("traceInputsAndOutputs belongs in extensions.durableTask.tracing" in each for each in screen["warnings"])
    assert any("Skipping 'GREETING' from local settings" in each for each in screen["warnings"])
    listed = {each["name"]: each.get("note") for each in screen["functions"]}
    assert listed["left_out"] is not None
    assert listed["hello"] is None
    assert results["g1"]["output"] == "Good morning Tokyo!"
    for each in ("d1", "d2"):
        assert results[each]["runtimeStatus"] == "Failed"
        assert "Timeout value of 0:00:01 exceeded by function" in results[each]["output"]
    assert slow.status == 500
    assert rpc.status == 404
    assert slow.headers["x-content-type-options"] == "nosniff"
    assert sorted(told) == [
        "FromFile d1 Failed", "FromFile d1 Running", "FromFile d2 Failed", "FromFile d2 Running", "FromFile g1 Running",
    ]  # fmt: skip
    instance_lines = [json.loads(line) for line in lines.splitlines() if '"kind": "instance"' in line]
    shown = {(line["instance_id"], line["message"]): line for line in instance_lines}
    assert shown["g1", "started"]["input"] == '"Tokyo"'
    assert shown["g1", "completed"]["output"] == '"Good morning Tokyo!"'
    assert SECRET not in lines
    with closing(sqlite3.connect(app / ".perdure" / "FromFile.db")) as db:
        assert db.execute("select count(*) from partitions").fetchone() == (3,)


def test_every_mistake_in_the_settings_is_told_at_once_with_its_line(tmp_path: Path):
    app = settings_app(tmp_path)
    text = (app / "host.json").read_text("utf-8")
    (app / "host.json").write_text(text.replace('"00:00:01"', '"a second"'), "utf-8")

    code, said = refused(
        app, environ={"TOPIC": "x", "AzureFunctionsJobHost__extensions__http__maxOutstandingRequests": "x"}
    )

    assert code == 2
    assert "host.json, line 3: functionTimeout is 'a second', but has to be a time" in said
    assert "the variable AzureFunctionsJobHost__extensions__http__maxOutstandingRequests" in said
    assert SECRET not in said


def test_a_topic_without_its_key_stops_the_start(tmp_path: Path):
    code, said = refused(copy_app("settings", tmp_path), environ={"TOPIC": "http://localhost/", "HUB": "Hub"})

    assert code == 2
    assert "DF150  Failed to start lifecycle notification feature" in said
    assert "is TOPIC_KEY, and there is no such setting" in said
