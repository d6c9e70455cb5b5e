"""The official client of SDK 1.x, in a process and an environment of its own."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from start_kit import DEADLINE_S, clean_environment

from official_sdk import official_python

DRIVER = Path(__file__).with_name("official_driver.py")


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


def _environment() -> dict[str, str]:
    environ = clean_environment()
    environ.pop("PYTHONPATH", None)
    return environ
