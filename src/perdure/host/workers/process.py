"""One worker process as its host sees it: started, spoken to, and buried."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any, Final, cast

from perdure.host.workers.frames import FromWorker, frames_from_worker

_COMMAND: Final = (sys.executable, "-P", "-m", "perdure.host.workers.main")  # -P: not the app folder's own `perdure`

# What a process has sent before it died is there at once; a child of its own may keep the pipe open for ever.
_LAST_FRAMES_S: Final = 1.0


class WorkerProcess:
    """A process that runs activities.

    Args:
        folder: the app's, which becomes its current one.
        environ: its environment.
        received: told of each frame that it sends, in order, on a thread of its own.

    Raises:
        OSError: the system starts no process.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str], received: Callable[[FromWorker], None]) -> None:
        # A Ctrl-C in the terminal is meant for the host alone, which drains: so this is none of the terminal's group.
        apart: dict[str, Any] = (
            {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if sys.platform == "win32" else {"process_group": 0}
        )
        self._process = subprocess.Popen(
            _COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder, env=dict(environ), **apart
        )
        self._received = received
        self._frames: SimpleQueue[bytes | None] = SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="perdure-to-worker", daemon=True)
        self._reader = threading.Thread(target=self._read, name="perdure-from-worker", daemon=True)
        self._writer.start()
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, frame: bytes) -> None:
        """Queue an encoded frame; returns at once."""
        self._frames.put(frame)

    def kill(self) -> None:
        """End it without a word."""
        self._process.kill()

    def wait(self) -> str:
        """Wait until it has ended and all that it sent has been received; returns how it ended."""
        code = self._process.wait()
        self._frames.put(None)
        self._reader.join(_LAST_FRAMES_S)
        return how_it_ended(code)

    def _write(self) -> None:
        pipe = cast("IO[bytes]", self._process.stdin)
        try:
            while (frame := self._frames.get()) is not None:
                frames = [frame, *self._waiting()]
                pipe.write(b"".join(frames) if len(frames) > 1 else frame)
                pipe.flush()
        except (OSError, ValueError):
            pass  # it has died, as `wait` tells
        finally:
            _close(pipe)

    def _waiting(self) -> Sequence[bytes]:
        """What else is to be written; the end is left for the next look."""
        found: list[bytes] = []
        try:
            while (frame := self._frames.get_nowait()) is not None:
                found.append(frame)
            self._frames.put(None)
        except Empty:
            pass
        return found

    def _read(self) -> None:
        pipe = cast("IO[bytes]", self._process.stdout)
        for frame in frames_from_worker(pipe):
            self._received(frame)
        _close(pipe)
        try:
            self._process.wait(_LAST_FRAMES_S)
        except subprocess.TimeoutExpired:  # it lives, but cannot be heard any longer
            self._process.kill()


def how_it_ended(code: int) -> str:
    """An exit code in words: of a signal its name, and for Windows the code as it is looked up."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"{name} (killed, perhaps for want of memory)" if name == "SIGKILL" else name
    return f"exit code {code:#x}" if os.name == "nt" and code > 0xFF else f"exit code {code}"


def _close(pipe: IO[bytes]) -> None:
    try:
        pipe.close()
    except (OSError, ValueError):
        pass  # what was still to be written has no reader
