"""A real `perdure start` on the bench's app, spoken to over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

from meter import cpu_seconds

APP = Path(__file__).parent / "apps" / "hello"
DEADLINE_S = 60.0


class HostProcess:
    """Started on entry, killed on exit.

    Attributes:
        launched_at: `time.perf_counter()` just before the process was started.
    """

    def __init__(self, store: str, **environment: str) -> None:
        self._store = store
        self._environment = environment

    def __enter__(self) -> HostProcess:
        self._port = free_port()
        self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=DEADLINE_S)
        self._output = tempfile.TemporaryFile()  # a pipe that nobody reads would block the host
        command = [sys.executable, "-m", "perdure", "start", "--app", str(APP), "--port", str(self._port)]
        self.launched_at = time.perf_counter()
        self._process = subprocess.Popen(
            [*command, "--store", self._store],
            env={**os.environ, **self._environment},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._connection.close()
        if error is not None:
            self._output.seek(0)
            sys.stderr.write(self._output.read().decode(errors="replace")[-3000:])
        self._output.close()

    @property
    def pid(self) -> int:
        """The host's process id."""
        return self._process.pid

    @property
    def port(self) -> int:
        """The port that the host serves on."""
        return self._port

    def kill(self) -> None:
        """What `kill -9` does: no goodbye."""
        self._process.kill()
        self._process.wait()

    def wait_until_ready(self) -> float:
        """Seconds from the launch until the host said that it is ready."""
        end = time.perf_counter() + DEADLINE_S
        while time.perf_counter() < end:
            if self._process.poll() is not None:
                raise RuntimeError(f"the host ended with code {self._process.returncode}")
            try:
                self._connection.request("GET", "/admin/host/status")
                response = self._connection.getresponse()
                response.read()
                if response.status == 200:
                    return time.perf_counter() - self.launched_at
            except OSError:
                self._connection.close()
            time.sleep(0.005)
        raise TimeoutError("the host was not ready in time")

    def post(self, path: str, body: object = None) -> tuple[int, bytes]:
        """Status and body of the answer."""
        data = b"" if body is None else json.dumps(body).encode()
        self._connection.request("POST", path, data, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        return response.status, response.read()

    def start_and_wait(self, name: str, body: object) -> tuple[int, bytes]:
        """Start an orchestration with one request that is answered when it has ended."""
        return self.post(f"/runtime/webhooks/durabletask/orchestrators/{name}?timeout=30&pollingInterval=1", body)

    def wait_until_quiet(self) -> None:
        """Return when the host has used next to no processor time for half a second."""
        end = time.perf_counter() + DEADLINE_S
        used = cpu_seconds(self.pid) or 0.0
        while time.perf_counter() < end:
            time.sleep(0.5)
            now = cpu_seconds(self.pid) or 0.0
            if now - used <= 0.02:
                return
            used = now
        raise TimeoutError("the host did not come to rest")


def free_port() -> int:
    """A port that nobody used a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def import_ms(module: str, times: int = 7) -> float:
    """Milliseconds that a fresh interpreter takes to import `module`, beyond its own start; the best of some."""
    return max(0.0, _best("import " + module, times) - _best("pass", times)) * 1000


def _best(code: str, times: int) -> float:
    seconds: list[float] = []
    for _ in range(times):
        before = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        seconds.append(time.perf_counter() - before)
    return min(seconds)
