"""Requests that nobody would think of are answered, and cost nobody an instance. `make fuzz` sends twenty thousand."""

from __future__ import annotations

import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from fuzz_kit import Fuzz
from start_kit import HostProcess, copy_app, eventually, started

BASE = "/runtime/webhooks/durabletask"

REQUESTS = int(os.environ.get("FUZZ_REQUESTS") or 300)
MALFORMED = REQUESTS // 10
WAITING = 20

JSON = {"Content-Type": "application/json"}


def test_no_request_breaks_the_host_or_loses_an_instance(tmp_path: Path):
    seed = int(os.environ.get("FUZZ_SEED") or time.time_ns() % 2**32)
    print(f"for the same requests: FUZZ_SEED={seed}")
    folder = copy_app("fuzzed", tmp_path)
    with started(folder, "--enable-auth") as host:
        key = {"x-functions-key": json.loads((folder / ".perdure" / "host.json").read_text())["token"]}
        waiting = [_started(host, "approval", key) for _ in range(WAITING)]
        running = _started(host, "running", key)

        fuzz = Fuzz(host.port, key["x-functions-key"])
        fuzz.requests(REQUESTS, seed)
        fuzz.malformed(MALFORMED, seed)
        print(f"{fuzz.sent} requests, answered with {dict(sorted(fuzz.codes.items()))}")

        for instance_id in waiting:
            _send(host, instance_id, "Approval", instance_id, key)
        assert [_output(host, each, key) for each in waiting] == waiting
        _send(host, running, "stop", None, key)
        assert _output(host, running, key) > 1
    assert fuzz.findings == []
    assert fuzz.sent >= REQUESTS


class Fails(BaseHTTPRequestHandler):
    """A host that has a defect wherever one looks."""

    def do_GET(self) -> None:
        self.send_error(500)

    do_POST = do_PUT = do_DELETE = do_PATCH = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_host_that_fails_is_found_out():
    with HTTPServer(("127.0.0.1", 0), Fails) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        fuzz = Fuzz(server.server_port, "token")

        fuzz.requests(10, 1)
        fuzz.malformed(10, 1)

        server.shutdown()
    assert len(fuzz.findings) >= 10
    assert fuzz.findings[0].startswith("500: curl ")


def _started(host: HostProcess, name: str, key: dict[str, str]) -> str:
    """A new instance, under an id that no request guesses."""
    answer = host.request("POST", f"{BASE}/orchestrators/{name}", headers=key)
    assert answer.status == 202
    return answer.json()["id"]


def _send(host: HostProcess, instance_id: str, event: str, data: object, key: dict[str, str]) -> None:
    path = f"{BASE}/instances/{instance_id}/raiseEvent/{event}"
    assert host.request("POST", path, json.dumps(data), {**JSON, **key}).status == 202


def _output(host: HostProcess, instance_id: str, key: dict[str, str]) -> object:
    """The instance's output once it has completed."""

    def look() -> dict[str, object] | None:
        found = host.request("GET", f"{BASE}/instances/{instance_id}", headers=key).json()
        return found if found["runtimeStatus"] not in ("Pending", "Running") else None

    status = eventually(look)
    assert status is not None
    assert status["runtimeStatus"] == "Completed"
    return status["output"]
