"""Lines to a stream that may stand still.

Rule 1: whoever prints never waits for the terminal: lines go through a queue to one writer thread, which drops what a
        terminal that stands still cannot take, and says so.
"""

from __future__ import annotations

import queue
import threading
from typing import IO

# Lines waiting for the terminal. At 200 bytes each this is 20 MB: enough for any burst, and bounded.
WAITING_LINES_MAX = 100_000


class LineWriter:
    """Writes lines to a stream on a thread of its own."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._lines: queue.SimpleQueue[str | threading.Event | None] = queue.SimpleQueue()
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="perdure-terminal", daemon=True)
        self._thread.start()

    def put(self, text: str) -> None:
        """Queue text, line ends included; returns at once."""
        if self._lines.qsize() < WAITING_LINES_MAX:
            self._lines.put(text)
        else:
            self._dropped += 1

    def flush(self, timeout_s: float) -> None:
        """Wait until what was queued is written, at most so long."""
        written = threading.Event()
        self._lines.put(written)
        written.wait(timeout_s)

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is left, and end the thread."""
        self._lines.put(None)
        self._thread.join(timeout_s)

    def _write(self) -> None:
        while True:
            batch = [self._lines.get()]
            while not self._lines.empty() and len(batch) < 1000:
                batch.append(self._lines.get())
            text = "".join(each for each in batch if isinstance(each, str))
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                text += f"({dropped} lines dropped: the terminal could not keep up)\n"
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):
                pass  # the reader has gone; the host goes on without one
            for each in batch:
                if isinstance(each, threading.Event):
                    each.set()
            if None in batch:
                return
