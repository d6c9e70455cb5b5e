"""What a worker process prints and logs, on its way to the host, which shows it like its own."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from perdure.host.user_code import Invocation, current_invocation
from perdure.host.workers.frames import Logged, Printed, encode

# Text without a line end is held back, so that what two calls print does not mix; but not more than this.
HELD_CHARACTERS_MAX: Final = 8192

# What every log record carries; the rest are the fields that whoever logged it gave.
_NOT_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class NumberedInvocation(Invocation, frozen=True, kw_only=True):
    """An invocation that the host knows by a number."""

    number: int


class WorkerOutput:
    """Stands in for stdout, stderr and the terminal of a worker process.

    Args:
        send: takes an encoded frame to the host.

    Attributes:
        is_silent: nothing is sent: while the app is imported, which the host has done and shown before.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self.is_silent = True
        self.send = send
        self._streams = [SentText(self, sys.stdout, is_error=False), SentText(self, sys.stderr, is_error=True)]

    def install(self, log_level: int) -> None:
        """Take what is printed and logged from now on; records below the level are left out."""
        sys.stdout, sys.stderr = self._streams
        root = logging.getLogger()
        root.addHandler(_SentRecords(self))
        root.setLevel(log_level)
        logging.captureWarnings(True)

    def ended(self, number: int) -> None:
        """A call has ended: send what it has printed without a line end."""
        for each in self._streams:
            each.send_held(number)


class SentText:
    """A text stream whose lines go to the host, each with the number of the call that printed it."""

    def __init__(self, output: WorkerOutput, stream: Any, *, is_error: bool) -> None:
        self._output = output
        self._stream = stream
        self._is_error = is_error
        self._held: dict[int, str] = {}

    def write(self, text: str) -> int:
        if not self._output.is_silent:
            number = _number()
            key = number or -threading.get_ident()
            whole = self._held.pop(key, "") + text
            if "\n" in text or len(whole) > HELD_CHARACTERS_MAX:
                self._send(number, whole)
            elif whole:
                self._held[key] = whole
        return len(text)

    def send_held(self, key: int) -> None:
        """Send what waits for its line end."""
        text = self._held.pop(key, None)
        if text is not None:
            self._send(max(key, 0), text)

    def _send(self, number: int, text: str) -> None:
        self._output.send(encode(Printed(number, self._is_error, _printable(text))))

    def writelines(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self.send_held(_number() or -threading.get_ident())

    def isatty(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _SentRecords(logging.Handler):
    def __init__(self, output: WorkerOutput) -> None:
        super().__init__()
        self._output = output
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        if self._output.is_silent:
            return
        try:
            self._output.send(encode(self._frame(record)))
        except Exception:  # user data: a record whose arguments do not fit its text must not end the call that logs it
            self.handleError(record)

    def _frame(self, record: logging.LogRecord) -> Logged:
        traceback = self._formatter.formatException(record.exc_info) if record.exc_info else ""  # it may be False, too
        stack = "" if record.stack_info is None else self._formatter.formatStack(record.stack_info)
        fields = {name: value for name, value in record.__dict__.items() if name not in _NOT_FIELDS}
        return Logged(
            number=_number(),
            logger=record.name,
            level=record.levelno,
            message=_printable(record.getMessage()),
            fields=fields,
            traceback=_printable("\n".join(each for each in (traceback, stack) if each)),
        )


def _number() -> int:
    invocation = current_invocation.get()
    return invocation.number if isinstance(invocation, NumberedInvocation) else 0


def _printable(text: str) -> str:
    """The text with a mark for each half of a surrogate pair, which no frame can hold."""
    return text.encode(errors="replace").decode()
