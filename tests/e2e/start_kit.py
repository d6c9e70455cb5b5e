"""A real `perdure start` of an app folder: its process, its output, and HTTP to it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

APPS = Path(__file__).parent / "apps"
DEADLINE_S = 20.0

T = TypeVar("T")


def copy_app(name: str, to: Path) -> Path:
    """A copy of an app folder, whose state and ledgers nobody else sees."""
    return Path(shutil.copytree(APPS / name, to / name, ignore=shutil.ignore_patterns(".perdure", "__pycache__")))


def eventually(look: Callable[[], T], deadline_s: float = DEADLINE_S) -> T:
    """What `look` returns once that is true; fails after a deadline."""
    until = time.monotonic() + deadline_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class HostProcess:
    """A running host; `lines` are the JSON lines that it has printed so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []
        self.text: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port = 0

    def wait_until_ready(self) -> HostProcess:
        started = eventually(lambda: self.find("started") or self.process.poll() is not None)
        assert started is not True, f"the host ended with {self.process.returncode}: {''.join(self.text)}"
        self.port = int(started["url"].rpartition(":")[2])
        return self

    def find(self, kind: str, **facts: Any) -> dict[str, Any] | None:
        """The first line of that kind with these facts."""
        for line in list(self.lines):
            if line["kind"] == kind and all(line.get(name) == value for name, value in facts.items()):
                return line
        return None

    def request(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        address: str = "127.0.0.1",
    ) -> Answer:
        connection = http.client.HTTPConnection(address, self.port, timeout=DEADLINE_S)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def start(self, name: str, instance_id: str = "", query: str = "") -> Answer:
        """Start an orchestration through the management API."""
        return self.request("POST", f"/runtime/webhooks/durabletask/orchestrators/{name}/{instance_id}{query}")

    def status(self, instance_id: str) -> dict[str, Any]:
        return self.request("GET", f"/runtime/webhooks/durabletask/instances/{instance_id}").json()

    def result(self, instance_id: str) -> dict[str, Any]:
        """The instance's status once it has ended."""
        return eventually(lambda: _ended(self.status(instance_id)))

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        """The exit code."""
        code = self.process.wait(deadline_s)
        self._reader.join(DEADLINE_S)
        return code

    def _read(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            self.text.append(text)
            if text.startswith("{"):
                self.lines.append(json.loads(text))


@contextmanager
def started(folder: Path, *options: str, environ: Mapping[str, str] | None = None) -> Iterator[HostProcess]:
    """A host of the app, ready; in the end it is killed if it still runs."""
    with launched(folder, *options, environ=environ) as host:
        yield host.wait_until_ready()


@contextmanager
def launched(folder: Path, *options: str, environ: Mapping[str, str] | None = None) -> Iterator[HostProcess]:
    """A host of the app that may not have got far yet."""
    command = [sys.executable, "-m", "perdure", "start", "--app", str(folder), "--port", "0", *options]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        env=clean_environment(environ),
    ) as process:
        host = HostProcess(process)
        try:
            yield host
        finally:
            process.kill()


def refused(folder: Path, *options: str, environ: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Exit code and output of a host that does not start."""
    command = [sys.executable, "-m", "perdure", "start", "--app", str(folder), "--port", "0", *options]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=DEADLINE_S, env=clean_environment(environ), check=False
    )
    return ended.returncode, ended.stderr + ended.stdout


def clean_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without what would change an app."""
    names = ("AzureWebJobsStorage", "AZURE_FUNCTIONS_ENVIRONMENT", "WEBSITE_SITE_NAME", "PERDURE_INTERPRETER")
    return {name: value for name, value in os.environ.items() if name not in names} | dict(more or {})


def _ended(status: dict[str, Any]) -> dict[str, Any] | None:
    return status if status.get("runtimeStatus") in ("Completed", "Failed", "Terminated") else None
