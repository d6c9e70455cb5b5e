"""A batch of operations that the official host sends to an entity, and what is answered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

from msgspec import Struct

from perdure.core.codec import payloads
from perdure.core.entities import OperationResult, Signal


class BatchOperation(Struct, frozen=True):
    """One operation; its name is None if the host sent none. `input` is JSON text."""

    name: str | None
    input: str | None


class BatchRequest(Struct, frozen=True):
    """An entity as it is, and what it is to do; `state` is JSON text, or None."""

    name: str
    key: str
    state: str | None
    operations: Sequence[BatchOperation]

    @classmethod
    def parse(cls, text: str | bytes) -> BatchRequest:
        """The request that the context of an entity trigger is.

        Raises:
            TypeError: it lacks a member that every host sends.
            ValueError: it is no JSON.
        """
        sent: Any = json.loads(text)
        members = cast("dict[str, Any]", sent) if isinstance(sent, dict) else {}
        missing = [each for each in ("self", "exists", "state", "batch") if each not in members]
        if missing:
            raise TypeError(f"the context of the entity trigger lacks {', '.join(missing)}")
        return cls(
            members["self"]["name"],
            members["self"]["key"],
            members["state"] if members["exists"] else None,
            operations_of(members["batch"]),
        )


def operations_of(batch: Sequence[dict[str, Any]]) -> Sequence[BatchOperation]:
    """The operations under their names on the wire."""
    return [BatchOperation(each.get("name"), _input_text(each.get("input"))) for each in batch]


class Timed(Struct, frozen=True):
    """What an operation came to, when it began (milliseconds since 1970), and how many milliseconds it took."""

    result: OperationResult
    began_ms: int
    took_ms: int


def batch_answer(results: Sequence[Timed], state: str | None) -> str:
    """The answer as the handler returns it; `state` is JSON text, or None if there is no entity any more."""
    signals = [each for timed in results for each in timed.result.actions if isinstance(each, Signal)]
    return json.dumps({
        "entityExists": state is not None,
        "entityState": "null" if state is None else state,
        "results": [_result(each) for each in results],
        "signals": [_signal(each) for each in signals],
    })  # fmt: skip


def _result(timed: Timed) -> dict[str, Any]:
    failure, result = timed.result.failure, timed.result.result
    text = ("null" if result is None else result) if failure is None else payloads.encode(failure.message)
    return {"isError": failure is not None, "duration": timed.took_ms, "startTime": timed.began_ms, "result": text}


def _signal(signal: Signal) -> dict[str, Any]:
    name, key = signal.instance_id[1:].split("@", 1)
    text = "null" if signal.input is None else signal.input
    return {"target": {"name": name, "key": key}, "name": signal.operation, "input": text}


def _input_text(text: str | None) -> str | None:
    """Clients of the SDK encode an input twice, others once."""
    if text is None:
        return None
    try:
        inner: Any = json.loads(text)
        if isinstance(inner, str):
            json.loads(inner)
            return inner
    except ValueError:
        pass  # a text that was encoded once, or not at all
    return text
