"""What the command line prints: aligned for people, whole for programs, harmless for terminals."""

import json

import pytest

from perdure.cli import render

STATUS = {
    "name": "order_flow",
    "instanceId": "order-17",
    "runtimeStatus": "Running",
    "input": {"total": 5},
    "customStatus": None,
    "output": None,
    "createdTime": "2026-02-01T10:00:00Z",
    "lastUpdatedTime": "2026-02-01T10:00:07Z",
}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("order-17", "order-17"),
        ("größe 日本 😀", "größe 日本 😀"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b2J", "\\x9b2J"),
        ("a\r\nb\tc\x00", "a\\x0d\\x0ab\\x09c\\x00"),
        ("\u202etxt.exe", "\\u202etxt.exe"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("\ud800", "\\ud800"),
    ],
)
def test_nothing_that_a_terminal_obeys_is_printed(text: str, shown: str):
    assert render.printable(text) == shown


def test_tables_blocks_and_payloads_are_harmless_too():
    hostile = "\x1b]0;title\x07\u202e"

    printed = [
        render.table(("ID",), [(hostile,)]),
        render.block({"Output": hostile}),
        render.payload({hostile: [hostile]}),
        render.json_line({hostile: hostile}),
        render.instances_table([{**STATUS, "instanceId": hostile, "name": hostile}]),
        render.instance_block({**STATUS, "input": hostile, "output": hostile}),
        render.history_table([{"EventType": hostile, "Name": hostile, "Reason": hostile, "Input": hostile}]),
    ]

    for text in printed:
        assert not {"\x1b", "\x07", "\u202e"} & set(text)


def test_columns_stand_below_their_titles():
    assert render.table(("ID", "NAME"), [("a", "x"), ("longer", "y")]) == "ID      NAME\na       x\nlonger  y"


def test_an_instance_is_one_line_of_a_table():
    assert render.instances_table([STATUS]).splitlines() == [
        "INSTANCE ID  NAME        STATUS   CREATED (UTC)        UPDATED (UTC)",
        "order-17     order_flow  Running  2026-02-01 10:00:00  2026-02-01 10:00:07",
    ]


def test_an_instance_shown_alone_has_its_payloads():
    assert render.instance_block(STATUS).splitlines() == [
        "Instance ID    order-17",
        "Name           order_flow",
        "Status         Running",
        "Created        2026-02-01 10:00:00 UTC",
        "Updated        2026-02-01 10:00:07 UTC",
        'Input          {"total": 5}',
        "Output         null",
        "Custom status  null",
    ]


@pytest.mark.parametrize(
    ("ended", "took"),
    [
        ("2026-02-01T10:00:00.0180000Z", "took 18 ms"),
        ("2026-02-01T10:00:02.5000000Z", "took 2.5 s"),
        ("2026-02-01T10:03:00.0000000Z", "took 3.0 min"),
        ("2026-02-01T09:59:59.0000000Z", "took 0 ms"),
    ],
)
def test_an_answer_says_how_long_it_took(ended: str, took: str):
    event = {
        "EventType": "TaskCompleted",
        "Timestamp": ended,
        "FunctionName": "hello",
        "ScheduledTime": "2026-02-01T10:00:00.0000000Z",
        "Input": '"Tokyo"',
        "Result": "Hello",
    }

    line = render.history_table([event]).splitlines()[1]

    assert line.endswith(f'TaskCompleted  hello  {took}  Input="Tokyo"  Result="Hello"')


def test_long_details_are_cut_and_empty_ones_left_out():
    events = [
        {
            "EventType": "ExecutionStarted",
            "Timestamp": "2026-02-01T10:00:00.1234567Z",
            "Correlation": None,
            "Input": "1" * 500,
        },
        {"EventType": "ExecutionTerminated", "Timestamp": "2026-02-01T10:00:01Z", "Reason": None},
    ]

    _, first, second = render.history_table(events).splitlines()

    assert first.startswith("2026-02-01 10:00:00.123  ExecutionStarted")
    assert first.endswith("11…")
    assert second == "2026-02-01 10:00:01      ExecutionTerminated"


def test_a_json_line_is_one_line_and_reads_back():
    value = {"text": "a\nb\u2028c", "number": 1.5}

    line = render.json_line(value)

    assert line.isascii()
    assert "\n" not in line
    assert json.loads(line) == value
