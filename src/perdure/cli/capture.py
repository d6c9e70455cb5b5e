"""What the process prints and logs, on its way to the terminal: whose line it is, and when it is whole."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import IO, Any

from perdure.cli.terminal import Terminal
from perdure.host.user_code import Invocation, current_invocation
from perdure.host.workers.pool import worker_log

_PARTIAL_LINES_MAX = 1000


@contextmanager
def captured(terminal: Terminal, *, shows_replays: bool = False) -> Generator[None, None, None]:
    """Send what the process prints and logs to the terminal; in the end, what was sent has been written.

    Args:
        shows_replays: also what orchestrators print and log while they are replayed, which they have said before.
    """
    stdout, stderr = sys.stdout, sys.stderr
    lines = (
        LinesOf(terminal, stdout, "stdout", shows_replays=shows_replays),
        LinesOf(terminal, stderr, "stderr", shows_replays=shows_replays),
    )
    sys.stdout, sys.stderr = lines
    root, handler = logging.getLogger(), _Handler(terminal, shows_replays)
    root.addHandler(handler)
    worker_log.addHandler(handler)
    root.setLevel(min(terminal.levels.lowest, logging.WARNING))
    logging.captureWarnings(True)
    try:
        yield
    finally:
        for each in lines:
            each.finish()
        sys.stdout, sys.stderr = stdout, stderr
        terminal.close()


class LinesOf:
    """Stands in for stdout or stderr: lines printed by user code are marked as its own, all others pass through.

    Invariant: text without a line end is held back per call, so that what two functions print at once does not mix.
    Outside of calls people see such text at once, as it may be a prompt; programs only get whole lines.
    """

    def __init__(self, terminal: Terminal, stream: IO[str], name: str, *, shows_replays: bool = False) -> None:
        self._terminal = terminal
        self._stream = stream
        self._name = name
        self._shows_replays = shows_replays
        self._partial: dict[int, tuple[Invocation | None, str]] = {}

    def write(self, text: str) -> int:
        invocation = current_invocation.get()
        if invocation is None and not self._terminal.as_json:
            self._terminal.write_raw(text)
        elif invocation is None or self._shows_replays or not invocation.is_replaying:
            self._write_lines(invocation, text)
        return len(text)

    def _write_lines(self, invocation: Invocation | None, text: str) -> None:
        key = threading.get_ident() if invocation is None else id(invocation)
        _, held = self._partial.pop(key, (invocation, ""))
        *lines, rest = (held + text).split("\n")
        for line in lines:
            self._write_line(invocation, line)
        if rest:
            self._partial[key] = (invocation, rest)
            if len(self._partial) > _PARTIAL_LINES_MAX:
                self.finish()

    def _write_line(self, invocation: Invocation | None, line: str) -> None:
        if invocation is None:
            self._terminal.write_output_line(line, self._name)
        else:
            self._terminal.write_user_line(invocation, line, stream=self._name)

    def finish(self) -> None:
        """Write what still waits for its line end."""
        while self._partial:
            try:
                _, (invocation, rest) = self._partial.popitem()
            except KeyError:
                return  # another thread was quicker
            self._write_line(invocation, rest)

    def writelines(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        pass  # lines leave when they are complete

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Handler(logging.Handler):
    def __init__(self, terminal: Terminal, shows_replays: bool) -> None:
        super().__init__()
        self._terminal = terminal
        self._shows_replays = shows_replays
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        invocation = current_invocation.get()
        try:
            if invocation is None or record.name.startswith("perdure."):
                self._terminal.write_system_record(record)
            elif self._shows_replays or not invocation.is_replaying:
                for line in self.format(record).splitlines() or [""]:
                    self._terminal.write_user_line(invocation, line, record.levelno)
        except Exception:  # user data: a record whose arguments do not fit its text must not end the call that logs it
            self.handleError(record)
