"""The official client of SDK 1.x, in a process and an environment of its own."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from start_kit import DEADLINE_S, clean_environment

OFFICIAL = "azure-functions-durable==1.*"
DRIVER = Path(__file__).with_name("official_driver.py")

_PYTHON = "Scripts/python.exe" if os.name == "nt" else "bin/python"

# What pip says when it reached no index, besides its own conclusion that there is no such package.
_UNREACHED = ("connection broken by", "ConnectTimeoutError", "Could not fetch URL")


class OfficialError(Exception):
    """What the official client raised.

    Attributes:
        kind: the exception's type.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class OfficialClient:
    """Calls methods of the official client by name."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._answers: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def call(self, method: str, **arguments: Any) -> Any:
        """What the method returned, as JSON.

        Raises:
            OfficialError: it raised.
        """
        self.send({"method": method, "arguments": arguments})
        answer = json.loads(self._answers.get(timeout=DEADLINE_S))
        if "error" in answer:
            raise OfficialError(answer["error"], answer["text"])
        return answer["result"]

    def send(self, line: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)


@contextmanager
def official_client(cache: Path, binding: dict[str, Any]) -> Iterator[OfficialClient]:
    """An official client with this binding; its environment is made once in `cache`."""
    command = [str(official_python(cache)), str(DRIVER)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=_environment()
    ) as process:
        client = OfficialClient(process)
        client.send(binding)
        try:
            yield client
        finally:
            process.kill()


def official_python(cache: Path) -> Path:
    """The interpreter of an environment with the official SDK; the test is skipped if no package index is reached."""
    environment = cache / f"python-{sys.version_info.major}.{sys.version_info.minor}"
    if not environment.exists():
        making = Path(tempfile.mkdtemp(dir=cache))
        _make(making)
        try:
            making.rename(environment)
        except OSError:  # another run was faster
            shutil.rmtree(making)
    return environment / _PYTHON


def _make(environment: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True, env=_environment())
    install = [str(environment / _PYTHON), "-m", "pip", "install", "--disable-pip-version-check", OFFICIAL]
    installed = subprocess.run(install, capture_output=True, text=True, check=False, env=_environment())
    if installed.returncode == 0:
        return
    shutil.rmtree(environment)
    said = installed.stdout + installed.stderr
    if any(each in said for each in _UNREACHED):
        pytest.skip(f"no package index is reached to install {OFFICIAL} from")
    raise AssertionError(f"{OFFICIAL} cannot be installed:\n{said}")


def _environment() -> dict[str, str]:
    environ = clean_environment()
    environ.pop("PYTHONPATH", None)
    return environ
