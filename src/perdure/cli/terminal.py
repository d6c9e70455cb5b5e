"""What a running host shows: the start screen, a line per instance event, and every line that user code prints or logs.

Rule 1: pretty lines and JSON lines carry the same facts; the keys of JSON lines never change their meaning.
"""

from __future__ import annotations

import json
import logging
import threading
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import IO, Any

from perdure.cli.line_writer import LineWriter
from perdure.cli.log_levels import INSTANCE_CATEGORY, LogLevels, level_name
from perdure.cli.render import printable
from perdure.cli.start_screen import StartScreen
from perdure.core.records import Instance, RuntimeStatus
from perdure.host.user_code import Invocation

SHORT_ID_LENGTH = 6
NAME_WIDTH = 18

_HELD_KINDS = frozenset({"function", "instance"})

# What every log record carries; the rest are the fields that whoever logged it gave.
_NOT_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "traceback"}


class Terminal:
    """Prints for one host.

    Args:
        out: where lines go.
        as_json: one JSON object per line instead of text for people.
        levels: what is shown.
        shows_payloads: whether the lines about instances have inputs and outputs.
    """

    def __init__(self, out: IO[str], *, as_json: bool, levels: LogLevels, shows_payloads: bool = False) -> None:
        self.as_json = as_json
        self.levels = levels
        self._shows_payloads = shows_payloads
        self._writer = LineWriter(out)
        self._holding = threading.Lock()
        self._held: list[str] | None = None

    def note(self, message: str) -> None:
        """A line of the host itself."""
        self._line("host", logging.INFO, message, f" i {message}", {})

    def write_user_line(
        self, invocation: Invocation, text: str, level: int = logging.INFO, stream: str = "log"
    ) -> None:
        """A line that user code printed or logged."""
        if level < self.levels.level_of(f"Function.{invocation.function}.User"):
            return
        pretty = f" {_clock()}  {_column(invocation.function)}  {_short_id(invocation.instance_id)}  {text}"
        facts = {"function": invocation.function, "instance_id": invocation.instance_id, "stream": stream}
        self._line("function", level, text, pretty, facts)

    def observe(self, instance: Instance, advice: str | None = None) -> None:
        """A line about an execution that began or ended; called on the engine's thread.

        Args:
            advice: what the user can do about a failure, in lines of its own.
        """
        is_failed = instance.status is RuntimeStatus.FAILED
        level = logging.ERROR if is_failed else logging.INFO
        if level < self.levels.level_of(INSTANCE_CATEGORY):
            return
        if not instance.status.is_terminal:
            word, detail = "started", ""
        elif is_failed:
            word, detail = "failed", _failure_text(instance)
        else:
            word, detail = instance.status.lower(), ""
        facts: dict[str, Any] = {
            "function": instance.name,
            "instance_id": instance.instance_id,
            "status": "Running" if word == "started" else str(instance.status),
        }
        lasted = ""
        if instance.status.is_terminal:
            seconds = ((instance.completed_at or instance.updated_at) - instance.created_at).total_seconds()
            facts["duration_ms"] = round(seconds * 1000)
            lasted = _duration(seconds)
        if detail:
            facts["error"] = detail
        payload = (instance.output if instance.status.is_terminal else instance.input) if self._shows_payloads else None
        if payload is not None and not is_failed:
            facts["output" if instance.status.is_terminal else "input"] = detail = payload
        if advice is not None:
            facts["advice"] = advice
        columns = f"{_column(instance.name)}  {_short_id(instance.instance_id)}  {word:<10} {lasted:>9}"
        pretty = f" {_clock()}  {columns}  {_first_line(detail)}".rstrip()
        self._line("instance", level, word, pretty + (f"\n{_indented(advice)}" if advice else ""), facts)

    def write_raw(self, text: str) -> None:
        """Text for people as it is: what is printed outside of any function."""
        self._writer.put(text)

    def write_output_line(self, text: str, stream: str) -> None:
        """A line for programs that was printed outside of any function."""
        self._line("output", logging.INFO, text, text, {"stream": stream})

    def write_system_record(self, record: logging.LogRecord) -> None:
        """A line logged by perdure, or by a library outside of any function."""
        is_hosts = record.name.startswith(("perdure", "uvicorn", "asyncio"))
        least = (
            self.levels.level_of("Host.General") if is_hosts else max(self.levels.level_of("default"), logging.WARNING)
        )
        if record.levelno < least:
            return
        message = record.getMessage()
        fields = {name: value for name, value in record.__dict__.items() if name not in _NOT_FIELDS}
        facts: dict[str, Any] = {"logger": record.name, **fields}
        function = fields.pop("function", None)
        whose = f"{function}: " if function is not None else ""
        told = "".join(f"  {name}={value}" for name, value in fields.items())
        trace: str = getattr(record, "traceback", "")
        if record.exc_info:
            trace = "".join(traceback.format_exception(*record.exc_info))
        if trace:
            facts["traceback"] = trace
        mark = "!" if record.levelno >= logging.WARNING else "i"
        pretty = f" {mark} {_clock()}  {whose}{message}{told}" + (f"\n{_indented(trace)}" if trace else "")
        self._line("host", record.levelno, message, pretty, facts)

    def hold(self) -> None:
        """Keep lines about functions and instances until the start screen is there, which the first may overtake."""
        self._held = []

    def show_start(self, screen: StartScreen) -> None:
        """The start screen, or its facts as one JSON line, and then what was held."""
        if self.as_json:
            self._line("started", logging.INFO, "started", "", screen.facts())
        else:
            self._writer.put(screen.text())
        self._release()

    def flush(self, timeout_s: float) -> None:
        """Wait until everything is written, at most so long."""
        self._writer.flush(timeout_s)

    def close(self) -> None:
        """Write what is left, and take no more."""
        self._release()
        self._writer.close()

    def _line(self, kind: str, level: int, message: str, pretty: str, facts: Mapping[str, Any]) -> None:
        text = pretty
        if self.as_json:
            line = {"time": _timestamp(), "kind": kind, "level": level_name(level), "message": message, **facts}
            text = json.dumps(line, default=str)
        with self._holding:
            if self._held is not None and kind in _HELD_KINDS:
                self._held.append(text + "\n")
            else:
                self._writer.put(text + "\n")

    def _release(self) -> None:
        with self._holding:
            held, self._held = self._held or (), None
            for each in held:
                self._writer.put(each)


def _failure_text(instance: Instance) -> str:
    failure = instance.failure
    return "" if failure is None else f"{failure.error_type}: {failure.message}"


def _first_line(text: str) -> str:
    return printable(next(iter(text.splitlines()), ""))


def _column(name: str) -> str:
    return f"{printable(name):<{NAME_WIDTH}}"


def _short_id(instance_id: str | None) -> str:
    return f"{printable(instance_id or '')[-SHORT_ID_LENGTH:]:<{SHORT_ID_LENGTH}}"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _clock() -> str:
    return datetime.now().strftime("%H:%M:%S")


def _timestamp() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _indented(text: str) -> str:
    return "\n".join(f"     {line}" for line in text.rstrip().splitlines())
