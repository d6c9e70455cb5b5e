"""What a running host shows."""

import io
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure.cli.capture import LinesOf
from perdure.cli.line_writer import LineWriter
from perdure.cli.log_levels import LogLevels
from perdure.cli.start_screen import StartScreen
from perdure.cli.terminal import Terminal
from perdure.core.failures import FailureDetails
from perdure.core.records import Instance, RuntimeStatus
from perdure.host.app.functions import Listing, Source
from perdure.host.user_code import Invocation, current_invocation

NOW = datetime(2026, 1, 31, tzinfo=UTC)


class Screen:
    """A terminal that writes into a text."""

    def __init__(self, as_json: bool = False, **levels: str) -> None:
        self.out = io.StringIO()
        self.terminal = Terminal(self.out, as_json=as_json, levels=LogLevels(levels))
        self.stdout = LinesOf(self.terminal, self.out, "stdout")

    def text(self) -> str:
        self.terminal.flush(5)
        return self.out.getvalue()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]


@contextmanager
def inside(function: str, instance_id: str | None = "order-000017", is_replaying: bool = False) -> Iterator[None]:
    token = current_invocation.set(Invocation(function, instance_id, is_replaying))
    try:
        yield
    finally:
        current_invocation.reset(token)


def instance(status: RuntimeStatus, failure: FailureDetails | None = None, name: str = "order_flow") -> Instance:
    return Instance(
        instance_id="order-000017",
        execution_id="e",
        name=name,
        status=status,
        created_at=NOW,
        updated_at=NOW + timedelta(milliseconds=18),
        created_by="e",
        failure=failure,
        completed_at=NOW + timedelta(milliseconds=18) if status.is_terminal else None,
    )


def record(text: str, level: int = logging.WARNING, name: str = "perdure.engine", **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord(name, level, __file__, 1, text, (), None)
    vars(made).update(extra)
    return made


def start_screen(*listings: Listing) -> StartScreen:
    return StartScreen(
        title="perdure", sdk="ours", store="memory:", hub="Hub", asks_for_keys=False, resumed=0, warnings=(), notes=(),
        url="http://localhost:7071", listings=listings, now=NOW,
    )  # fmt: skip


class TestStart:
    def test_places_stand_below_each_other(self):
        short = Listing("HTTP", "ping", Source("function_app.py", 3), "api/ping", ("GET",))
        long = Listing("HTTP", "start", Source("blueprint.py", 9), "api/start/{name}", ("POST",))

        rows = start_screen(short, long).text().splitlines()

        first, second = (row for row in rows if "http://localhost:7071/api/" in row)
        assert first.index("function_app.py:3") == second.index("blueprint.py:9")

    @pytest.mark.parametrize("as_json", [False, True])
    def test_what_functions_do_before_it_is_shown_after_it(self, as_json: bool):
        screen = Screen(as_json)
        screen.terminal.hold()

        with inside("tick"):
            print("early", file=screen.stdout)
        screen.terminal.observe(instance(RuntimeStatus.RUNNING))
        screen.terminal.note("the host itself waits for nothing")
        screen.terminal.show_start(start_screen())
        screen.terminal.observe(instance(RuntimeStatus.COMPLETED))

        text = screen.text()
        told = ["waits for nothing", "http://localhost:7071", "early", "order_flow", "ompleted"]
        places = [text.index(each) for each in told]
        assert places == sorted(places)

    def test_what_was_held_is_not_lost_if_the_host_does_not_get_that_far(self):
        screen = Screen()
        screen.terminal.hold()

        screen.terminal.observe(instance(RuntimeStatus.RUNNING))
        screen.terminal.close()

        assert "order_flow" in screen.out.getvalue()


class TestUserLines:
    def test_a_printed_line_has_function_and_the_end_of_the_instance_id(self):
        screen = Screen()

        with inside("charge"):
            print("paid", file=screen.stdout)

        assert screen.text().split()[1:] == ["charge", "000017", "paid"]

    def test_what_two_calls_print_at_once_does_not_mix(self):
        screen = Screen(as_json=True)
        first, second = Invocation("a", "1"), Invocation("a", "1")

        for invocation, text in ((first, "one "), (second, "two "), (first, "more\n"), (second, "end\n")):
            token = current_invocation.set(invocation)
            screen.stdout.write(text)
            current_invocation.reset(token)

        assert [line["message"] for line in screen.lines()] == ["one more", "two end"]

    def test_a_line_without_end_is_written_in_the_end(self):
        screen = Screen(as_json=True)

        with inside("charge"):
            screen.stdout.write("no line end")
        screen.stdout.finish()

        assert screen.lines()[0]["message"] == "no line end"

    def test_replayed_lines_are_not_shown(self):
        screen = Screen()

        with inside("order_flow", is_replaying=True):
            print("again", file=screen.stdout)

        assert screen.text() == ""

    def test_replayed_lines_are_shown_when_asked_for(self):
        screen = Screen()

        with inside("order_flow", is_replaying=True):
            print("again", file=LinesOf(screen.terminal, screen.out, "stdout", shows_replays=True))

        assert screen.text().split()[-1] == "again"

    def test_what_is_printed_outside_of_functions_passes_through(self):
        screen = Screen()

        screen.stdout.write("Proceed? ")

        assert screen.text() == "Proceed? "

    def test_programs_get_whole_lines_of_json_only(self):
        screen = Screen(as_json=True)

        print("loading", 3, file=screen.stdout)

        (line,) = screen.lines()
        assert (line["kind"], line["message"], line["stream"]) == ("output", "loading 3", "stdout")


class TestInstanceLines:
    def test_a_start_and_an_end_are_one_line_each(self):
        screen = Screen()

        screen.terminal.observe(instance(RuntimeStatus.RUNNING))
        screen.terminal.observe(instance(RuntimeStatus.COMPLETED))

        first, second = screen.text().splitlines()
        assert first.split()[1:] == ["order_flow", "000017", "started"]
        assert second.split()[1:] == ["order_flow", "000017", "completed", "18", "ms"]

    def test_json_lines_have_the_same_facts_under_stable_keys(self):
        screen = Screen(as_json=True)
        failure = FailureDetails("PaymentError", "card declined")

        screen.terminal.observe(instance(RuntimeStatus.FAILED, failure), advice="DF000  Pay")

        (line,) = screen.lines()
        assert line.pop("time").endswith("Z")
        assert line == {
            "kind": "instance",
            "level": "error",
            "message": "failed",
            "function": "order_flow",
            "instance_id": "order-000017",
            "status": "Failed",
            "duration_ms": 18,
            "error": "PaymentError: card declined",
            "advice": "DF000  Pay",
        }

    def test_what_others_wrote_cannot_steer_the_terminal(self):
        screen = Screen()
        failure = FailureDetails("E", "red \x1b[31m\nsecond line")

        screen.terminal.observe(instance(RuntimeStatus.FAILED, failure, name="bad\x07name"))

        text = screen.text()
        assert "\x1b" not in text
        assert "\x07" not in text
        assert len(text.splitlines()) == 1


class TestLevels:
    def test_the_longest_category_wins(self):
        levels = LogLevels({"default": "Error", "Function": "Warning", "Function.charge": "Debug"})

        assert levels.level_of("Function.charge.User") == logging.DEBUG
        assert levels.level_of("Function.chargeback.User") == logging.DEBUG  # beginnings need not be whole words
        assert levels.level_of("Function.ship.User") == logging.WARNING

    def test_a_star_in_a_category_stands_for_anything(self):
        levels = LogLevels({"Function.*.User": "Error", "Function": "Debug"})

        assert levels.level_of("Function.charge.User") == logging.ERROR
        assert levels.level_of("Function.charge") == logging.DEBUG

    def test_a_default_that_asks_for_less_is_meant_for_the_host_too(self):
        assert LogLevels({"default": "Error"}).level_of("Host.Triggers.DurableTask") == logging.ERROR
        assert LogLevels({"default": "Debug"}).level_of("Host.General") == logging.WARNING
        assert LogLevels({}).level_of("Host.Triggers.DurableTask") == logging.INFO

    def test_an_unknown_level_is_ignored(self):
        assert LogLevels({"Function": "Loud"}).level_of("Function.x.User") == logging.INFO

    def test_the_hosts_own_lines_are_shown_from_warnings_on(self):
        screen = Screen(as_json=True)

        screen.terminal.write_system_record(record("lease taken", logging.INFO))
        screen.terminal.write_system_record(record("store is slow", instance_id="order-17"))

        (line,) = screen.lines()
        assert (line["message"], line["instance_id"], line["logger"]) == ("store is slow", "order-17", "perdure.engine")


class TestWriter:
    def test_nobody_waits_for_a_terminal_that_stands_still(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("perdure.cli.line_writer.WAITING_LINES_MAX", 10)
        going = threading.Event()

        class Stuck(io.StringIO):
            def write(self, text: str) -> int:
                going.wait(10)
                return super().write(text)

        out = Stuck()
        writer = LineWriter(out)
        for number in range(1000):
            writer.put(f"{number}\n")
        going.set()
        writer.close()

        assert "lines dropped: the terminal could not keep up" in out.getvalue()

    def test_a_reader_that_has_gone_ends_nothing(self):
        class Gone(io.StringIO):
            def write(self, text: str) -> int:
                raise BrokenPipeError

        writer = LineWriter(Gone())
        writer.put("x\n")
        writer.close()
