"""The command line and a real `perdure start`: together, after a `kill -9`, and after the next start."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FUNCTION_APP = """
import azure.durable_functions as df

app = df.DFApp()


@app.orchestration_trigger(context_name="context")
def approval(context):
    return (yield context.wait_for_external_event("Approval"))
"""

READY_WITHIN_S = 20.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "host.json").write_text('{"version": "2.0"}', "utf-8")
    (tmp_path / "function_app.py").write_text(FUNCTION_APP, "utf-8")
    return tmp_path


@contextmanager
def running_host(folder: Path) -> Iterator[str]:
    """A host process and its origin; in the end it is killed without a warning."""
    log = folder / "host.log"
    command = [sys.executable, "-m", "perdure", "start", "--app", str(folder), "--port", "0"]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            yield origin_of(folder, process)
        finally:
            process.kill()


def origin_of(folder: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            note = json.loads((folder / ".perdure" / "host.json").read_text("utf-8"))
            if note["pid"] == process.pid:
                with urllib.request.urlopen(f"{note['url']}/admin/host/status", timeout=5):
                    return note["url"]
        except (OSError, ValueError):
            pass
        time.sleep(0.02)
    raise AssertionError(f"the host did not get ready: {(folder / 'host.log').read_text('utf-8')}")


def post(origin: str, path: str, body: str = "") -> int:
    url = f"{origin}/runtime/webhooks/durabletask/{path}"
    with urllib.request.urlopen(urllib.request.Request(url, body.encode(), method="POST"), timeout=10) as answer:
        return answer.status


def perdure(folder: Path, *arguments: str) -> str:
    """Standard output of a command that works."""
    command = [sys.executable, "-m", "perdure", *arguments, "--app", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ended(folder: Path, instance_id: str) -> dict[str, object]:
    """An instance's status once it has ended."""
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        status = json.loads(perdure(folder, "instances", "show", instance_id, "--json"))
        if status["runtimeStatus"] not in ("Pending", "Running"):
            return status
        assert time.monotonic() < deadline, status


def test_commands_work_beside_a_host_after_its_death_and_for_its_successor(folder: Path):
    with running_host(folder) as origin:
        assert post(origin, "orchestrators/approval/order-1") == 202
        assert post(origin, "orchestrators/approval/order-2") == 202

        sent = perdure(folder, "instances", "raise-event", "order-1", "Approval", "--data", '"yes"')

        assert sent == "Event 'Approval' sent to instance 'order-1'.\n"
        assert "0 findings" in perdure(folder, "hub", "check")
        if os.name == "posix":
            assert (folder / ".perdure" / "host.json").stat().st_mode & 0o777 == 0o600

    assert (folder / ".perdure" / "host.json").exists()
    listed = [json.loads(line) for line in perdure(folder, "instances", "list", "--json").splitlines()]
    terminated = perdure(folder, "instances", "terminate", "order-2", "--reason", "too late")

    assert [each["instanceId"] for each in listed] == ["order-1", "order-2"]
    assert "takes effect at the next 'perdure start'" in terminated

    with running_host(folder):
        statuses = [ended(folder, instance_id) for instance_id in ("order-1", "order-2")]

    assert [(each["runtimeStatus"], each["output"]) for each in statuses] == [
        ("Completed", "yes"),
        ("Terminated", "too late"),
    ]
    assert "0 findings" in perdure(folder, "hub", "check")
