"""What a running host shows: the start screen, a line per instance event, and every line that user code prints or logs.

Rule 1: whoever prints never waits for the terminal: lines go through a queue to one writer thread, which drops what a
        terminal that stands still cannot take, and says so.
Rule 2: pretty lines and JSON lines carry the same facts; the keys of JSON lines never change their meaning.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, Any

from perdure.cli.render import printable
from perdure.core.records import Instance, RuntimeStatus
from perdure.host.app import Listing
from perdure.host.invoke import Invocation, current_invocation

# Lines waiting for the terminal. At 200 bytes each this is 20 MB: enough for any burst, and bounded.
WAITING_LINES_MAX = 100_000

SHORT_ID_LENGTH = 6
NAME_WIDTH = 18

# Above this many functions of one kind, the start screen names them in one row.
ROWS_PER_KIND_MAX = 20

_PLACES = (("Store", "store"), ("Task hub", "hub"), ("SDK", "sdk"))

_PARTIAL_LINES_MAX = 1000

LEVELS: Mapping[str, int] = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "information": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "none": logging.CRITICAL + 10,
}
_LEVEL_NAMES = (
    (logging.CRITICAL, "critical"),
    (logging.ERROR, "error"),
    (logging.WARNING, "warning"),
    (logging.INFO, "information"),
    (logging.DEBUG, "debug"),
)

INSTANCE_CATEGORY = "Host.Triggers.DurableTask"

# Without settings, users see their own lines from Information on, and the host's only when something is wrong.
DEFAULT_LEVELS: Mapping[str, str] = {
    "default": "Information",
    "Host": "Warning",
    INSTANCE_CATEGORY: "Information",
}


class LogLevels:
    """Levels by category, as host.json's `logging.logLevel` gives them: the longest prefix wins.

    Source: Microsoft.Extensions.Logging's filter rules.
    """

    def __init__(self, configured: Mapping[str, str]) -> None:
        self._levels: dict[str, int] = {}
        for category, level in {**DEFAULT_LEVELS, **configured}.items():
            if level.casefold() in LEVELS:
                self._levels[category.casefold()] = LEVELS[level.casefold()]
        # A level for everything is meant for the host's lines, too, as long as it asks for fewer of them.
        folded = [each.casefold() for each in configured]
        if "default" in folded and not any(each.startswith("host") for each in folded):
            for category in ("host", INSTANCE_CATEGORY.casefold()):
                self._levels[category] = max(self._levels["default"], self._levels[category])
        self._cache: dict[str, int] = {}

    @property
    def lowest(self) -> int:
        """Nothing below this level is shown in any category."""
        return min(self._levels.values())

    def level_of(self, category: str) -> int:
        """From which level on the category is shown."""
        level = self._cache.get(category)
        if level is None:
            level = self._cache[category] = self._found(category.casefold())
        return level

    def _found(self, category: str) -> int:
        fitting = [each for each in self._levels if category == each or category.startswith(f"{each}.")]
        return self._levels[max(fitting, key=len, default="default")]


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


class Terminal:
    """Prints for one host.

    Args:
        out: where lines go.
        as_json: one JSON object per line instead of text for people.
        levels: what is shown.
    """

    def __init__(self, out: IO[str], *, as_json: bool, levels: LogLevels) -> None:
        self.as_json = as_json
        self.levels = levels
        self._writer = LineWriter(out)

    # ------------------------------------------------------------------ lines

    def note(self, message: str, level: int = logging.INFO, **facts: Any) -> None:
        """A line of the host itself."""
        mark = "!" if level >= logging.WARNING else "i"
        self._line("host", level, message, f" {mark} {message}", facts)

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
        category = "Host" if record.name.startswith(("perdure", "uvicorn", "asyncio")) else "default"
        level = max(self.levels.level_of(category), logging.WARNING) if category == "default" else None
        if record.levelno < (self.levels.level_of("Host.General") if level is None else level):
            return
        message = record.getMessage()
        facts: dict[str, Any] = {"logger": record.name}
        function, instance_id = getattr(record, "function", None), getattr(record, "instance_id", None)
        if function is not None:
            facts["function"] = function
        if instance_id is not None:
            facts["instance_id"] = instance_id
        whose = f"{function}: " if function is not None else ""
        trace: str = getattr(record, "traceback", "")
        if record.exc_info:
            trace = "".join(traceback.format_exception(*record.exc_info))
        if trace:
            facts["traceback"] = trace
        mark = "!" if record.levelno >= logging.WARNING else "i"
        pretty = f" {mark} {_clock()}  {whose}{message}" + (f"\n{_indented(trace)}" if trace else "")
        self._line("host", record.levelno, message, pretty, facts)

    def _line(self, kind: str, level: int, message: str, pretty: str, facts: Mapping[str, Any]) -> None:
        if not self.as_json:
            self._writer.put(pretty + "\n")
            return
        line = {"time": _timestamp(), "kind": kind, "level": _level_name(level), "message": message, **facts}
        self._writer.put(json.dumps(line, default=str) + "\n")

    # ------------------------------------------------------------------ the start screen

    def show_start(self, facts: Mapping[str, Any], listings: Sequence[Listing], url: str) -> None:
        """The start screen, or its facts as one JSON line.

        Args:
            facts: title, sdk, store, hub, resumed and warnings.
        """
        if self.as_json:
            functions = [_listing_facts(each, url) for each in listings]
            self._line("started", logging.INFO, "started", "", {**facts, "url": url, "functions": functions})
            return
        lines = ["", f" {facts['title']}", ""]
        lines += _function_rows(listings, url)
        lines += ["", *(f" {title:<10}  {facts[key]}" for title, key in _PLACES), ""]
        lines += [f" ! {each}" for each in facts["warnings"]]
        lines += [f" i {each}" for each in facts["notes"]]
        lines += ["", f" Serving {url}      Ctrl-C stops", "─" * 80, ""]
        self._writer.put("\n".join(lines))

    # ------------------------------------------------------------------ taking over the process's output

    def capture(self) -> None:
        """Send what the process prints and logs through here."""
        self._stdout, self._stderr = sys.stdout, sys.stderr
        sys.stdout = LinesOf(self, sys.stdout, "stdout", logging.INFO)
        sys.stderr = LinesOf(self, sys.stderr, "stderr", logging.INFO)
        root = logging.getLogger()
        root.addHandler(_Handler(self))
        root.setLevel(min(self.levels.lowest, logging.WARNING))
        logging.captureWarnings(True)

    def release(self) -> None:
        """Give the process its output back, once everything is written."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, LinesOf):
                stream.finish()
        sys.stdout, sys.stderr = self._stdout, self._stderr
        self._writer.close()

    def flush(self, timeout_s: float) -> None:
        """Wait until everything is written, at most so long."""
        self._writer.flush(timeout_s)


class LinesOf:
    """Stands in for stdout or stderr: lines printed by user code are marked as its own, all others pass through.

    Invariant: text without a line end is held back per call, so that what two functions print at once does not mix.
    Outside of calls people see such text at once, as it may be a prompt; programs only get whole lines.
    """

    def __init__(self, terminal: Terminal, stream: IO[str], name: str, level: int) -> None:
        self._terminal = terminal
        self._stream = stream
        self._name = name
        self._level = level
        self._partial: dict[int, tuple[Invocation | None, str]] = {}

    def write(self, text: str) -> int:
        invocation = current_invocation.get()
        if invocation is None and not self._terminal.as_json:
            self._terminal.write_raw(text)
        elif invocation is None or not invocation.is_replaying:
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
            self._terminal.write_user_line(invocation, line, self._level, self._name)

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
    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        invocation = current_invocation.get()
        try:
            if invocation is None or record.name.startswith("perdure."):
                self._terminal.write_system_record(record)
            elif not invocation.is_replaying:
                for line in self.format(record).splitlines() or [""]:
                    self._terminal.write_user_line(invocation, line, record.levelno)
        except Exception:  # user data: a record whose arguments do not fit its text must not end the call that logs it
            self.handleError(record)


def _function_rows(listings: Sequence[Listing], url: str) -> list[str]:
    rows = [" Functions"]
    width = max([len(each.name) for each in listings if each.note is None], default=0)
    kinds = ("HTTP", "Orchestrator", "Activity", "Entity")
    for kind in (*kinds, *sorted({each.kind for each in listings} - set(kinds))):
        same = [each for each in listings if each.kind == kind]
        running = [each for each in same if each.note is None]
        if len(running) > ROWS_PER_KIND_MAX:
            rows.append(f"   {kind:<13} {len(running)}: {' · '.join(each.name for each in running)}")
            running = []
        for each in running:
            where = ""
            if each.route is not None:
                where = f"{','.join(each.methods or ('ANY',)):<9} {url}/{each.route}  "
            rows.append(f"   {kind:<13} {each.name:<{width}}  {where}  {each.source}")
        for each in same:
            if each.note is not None:
                mark = "✖" if each.is_error else "-"
                rows.append(f" {mark} {kind:<13} {each.name}  {each.note}  {each.source}")
    return rows


def _listing_facts(listing: Listing, url: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"kind": listing.kind, "name": listing.name, "source": str(listing.source)}
    if listing.route is not None:
        facts |= {"url": f"{url}/{listing.route}", "methods": listing.methods}
    if listing.note is not None:
        facts |= {"note": listing.note, "is_error": listing.is_error}
    return facts


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


def _level_name(level: int) -> str:
    return next((name for least, name in _LEVEL_NAMES if level >= least), "debug")


def _indented(text: str) -> str:
    return "\n".join(f"     {line}" for line in text.rstrip().splitlines())
