"""Entities of the out-of-process protocol, whose handlers take and return JSON text."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from perdure.core.entities import BatchResult, OperationResult, Signal
from perdure.core.events import EntityOperation, ParentInstance
from perdure.core.failures import FailureDetails
from perdure.host.protocol.entity import ProtocolEntity

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CALLER = ParentInstance("inst1", "e1", "orch", 0)


class Handler:
    """Answers what it is told to, and keeps what it was asked."""

    def __init__(self, **answer: Any) -> None:
        self.answer = {"signals": [], **answer}
        self.request: Any = None

    def __call__(self, context: Any) -> str:
        self.request = json.loads(context.body)
        return json.dumps(self.answer)


def run(handler: Handler, state: str | None, *operations: EntityOperation) -> BatchResult:
    return asyncio.run(ProtocolEntity(handler).run("@counter@k", NOW, state, operations))


def result(value: str, *, is_error: bool = False) -> dict[str, Any]:
    return {"isError": is_error, "duration": 0, "startTime": 1767323045678, "result": value}


def test_the_official_example_of_a_batch():
    results = [result("null"), result('"bad"', is_error=True), result("15")]
    handler = Handler(entityExists=True, entityState="15", results=results)

    ended = run(
        handler,
        "10",
        EntityOperation(NOW, "add", "5"),
        EntityOperation(NOW, "boom"),
        EntityOperation(NOW, "get", "null", CALLER),
    )

    assert handler.request == {
        "self": {"name": "counter", "key": "k"},
        "exists": True,
        "state": "10",
        "batch": [
            {"name": "add", "input": '"5"', "isSignal": True},
            {"name": "boom", "input": '"null"', "isSignal": True},
            {"name": "get", "input": '"null"', "isSignal": False},
        ],
    }
    assert ended == BatchResult(
        [OperationResult("null"), OperationResult(failure=FailureDetails("Exception", "bad")), OperationResult("15")],
        "15",
    )


def test_an_entity_that_is_not_there_has_no_state_and_one_that_deletes_itself_leaves_none():
    handler = Handler(entityExists=False, entityState="null", results=[result("null")])

    ended = run(handler, None, EntityOperation(NOW, "delete"))

    assert (handler.request["exists"], handler.request["state"]) == (False, None)
    assert ended.state is None


def test_a_key_may_have_the_mark_that_separates_it():
    handler = Handler(entityExists=True, entityState="1", results=[result("null")])

    asyncio.run(ProtocolEntity(handler).run("@counter@a@b", NOW, None, [EntityOperation(NOW, "x")]))

    assert handler.request["self"] == {"name": "counter", "key": "a@b"}


def test_signals_leave_with_the_last_operation():
    signal = {"target": {"name": "Other", "key": "k"}, "name": "add", "input": "1"}
    handler = Handler(entityExists=True, entityState="1", results=[result("null")], signals=[signal])

    ended = run(handler, None, EntityOperation(NOW, "x"))

    assert ended.results[-1].actions == (Signal("@other@k", "add", "1"),)


@pytest.mark.parametrize("results", [[], [result("1"), result("2")]])
def test_an_answer_for_another_number_of_operations_is_none(results: list[Any]):
    handler = Handler(entityExists=True, entityState="1", results=results)

    with pytest.raises(ValueError, match="of 1 operations"):
        run(handler, None, EntityOperation(NOW, "x"))
