"""Entities that speak the out-of-process protocol: a batch of operations goes in, their results and the state come out.

Source: DurableTaskExtension's entity shim; Entity.handle of SDK 1.x.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import azure.functions as func
import msgspec
from msgspec import Struct

from perdure.core.entities import BatchResult, EntityAction, OperationResult, Signal
from perdure.core.events import EntityOperation
from perdure.core.failures import FailureDetails


class _Result(Struct, frozen=True, rename="camel"):
    is_error: bool
    result: str | None = None


class _Target(Struct, frozen=True):
    name: str
    key: str


class _Signal(Struct, frozen=True):
    target: _Target
    name: str
    input: str | None = None


class _EntityState(Struct, frozen=True, rename="camel"):
    entity_exists: bool
    entity_state: str | None
    results: list[_Result]
    signals: list[_Signal] = []


class ProtocolEntity:
    """Runs an entity through its handler, which takes and returns JSON text.

    What an operation that fails has changed stays changed, as on the official host: only the SDK knows it.
    """

    is_async = False

    def __init__(self, handler: Callable[[Any], Any]) -> None:
        self._handler = handler

    async def run(
        self, instance_id: str, now: datetime, state: str | None, operations: Sequence[EntityOperation]
    ) -> BatchResult:
        """What the operations come to.

        Raises:
            ValueError: the handler's answer is none.
        """
        name, key = instance_id[1:].split("@", 1)
        request = {
            "self": {"name": name, "key": key},
            "exists": state is not None,
            "state": state,
            "batch": [
                {
                    "name": each.operation,
                    "input": json.dumps("null" if each.input is None else each.input),
                    "isSignal": each.caller is None,
                }
                for each in operations
            ],
        }
        text = self._handler(func.EntityContext(json.dumps(request)))
        answer = msgspec.convert(json.loads(text), _EntityState)
        if len(answer.results) != len(operations):
            raise ValueError(f"the entity answered {len(answer.results)} of {len(operations)} operations")
        results = [_result(each) for each in answer.results]
        if answer.signals:  # nobody says which operation sent them
            last = results[-1]
            signals: tuple[EntityAction, ...] = tuple(
                Signal(f"@{each.target.name.lower()}@{each.target.key}", each.name, each.input)
                for each in answer.signals
            )
            results[-1] = OperationResult(last.result, last.failure, signals)
        return BatchResult(results, answer.entity_state if answer.entity_exists else None)


def _result(result: _Result) -> OperationResult:
    if not result.is_error:
        return OperationResult(result.result)
    text: Any = None if result.result is None else json.loads(result.result)
    return OperationResult(failure=FailureDetails("Exception", str(text)))
