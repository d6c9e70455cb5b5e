"""Events and payloads to text and back.

Rule 1: history is JSON by msgspec, one array per checkpoint; new optional fields may appear, old ones never change.
Rule 2: user payloads are JSON by the standard library with the SDK's hooks, because apps depend on its exact meaning;
        a class named by a payload is rebuilt only if this process has allowed it. Nothing is ever imported.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec

from perdure.core.events import HistoryEvent
from perdure.core.failures import FailureDetails

Json = Any  # user data: whatever JSON can hold, or a class that the app allowed

_events_encoder = msgspec.json.Encoder()
_events_decoder = msgspec.json.Decoder(tuple[HistoryEvent, ...])
_event_decoder = msgspec.json.Decoder(HistoryEvent)
_failure_decoder = msgspec.json.Decoder(FailureDetails)

encode_events: Callable[[tuple[HistoryEvent, ...]], bytes] = _events_encoder.encode
decode_events: Callable[[bytes], tuple[HistoryEvent, ...]] = _events_decoder.decode
encode_event: Callable[[HistoryEvent], bytes] = _events_encoder.encode
decode_event: Callable[[bytes], HistoryEvent] = _event_decoder.decode
encode_failure: Callable[[FailureDetails], bytes] = _events_encoder.encode
decode_failure: Callable[[bytes], FailureDetails] = _failure_decoder.decode


class PayloadCodec:
    """Encodes what users pass around, and decodes it without trusting it.

    Objects with a `to_json` travel in the SDK's envelope (`__class__`, `__module__`, `__data__`). An envelope becomes
    an object again only if its class was allowed, or was itself encoded by this process; otherwise it stays a dict.

    Source: azure.functions `_durable_functions` for the envelope; the allow-list is ours.
    """

    def __init__(self) -> None:
        self._allowed: dict[tuple[str, str], type] = {}
        # json.dumps with options makes an encoder for each call, which costs more than the encoding.
        self._encoder = json.JSONEncoder(default=self._envelope, allow_nan=False)
        self._decoder = json.JSONDecoder()

    def allow(self, kind: type) -> None:
        """Let payloads that name `kind` become its instances, through its `from_json`.

        A type that payloads cannot name, such as `int` or `list[str]`, changes nothing.
        """
        if isinstance(kind, type) and hasattr(kind, "from_json"):  # pyright: ignore[reportUnnecessaryIsInstance] - users
            self._allowed[kind.__module__, kind.__name__] = kind

    def encode(self, value: Json) -> str:
        """The value as JSON text.

        Raises:
            TypeError: part of the value is neither JSON nor an object with `to_json`.
            ValueError: a number is not finite, or the value contains itself.
        """
        return self._encoder.encode(value)

    def decode(self, text: str | None) -> Json:
        """The value that `text` stands for; None for None.

        Raises:
            ValueError: the text is not JSON.
        """
        if text is None:
            return None
        if '"__class__"' in text:
            return json.loads(text, object_hook=self._open)
        try:  # `loads` would search for white space around it first, which takes as long as the rest
            value, end = self._decoder.raw_decode(text)
        except ValueError:
            return json.loads(text)
        return value if end == len(text) else json.loads(text)

    def _envelope(self, value: object) -> dict[str, Json]:
        kind = type(value)
        to_json = getattr(kind, "to_json", None)
        if to_json is None:
            raise TypeError(f"class {kind} does not expose a `to_json` function")
        if hasattr(kind, "from_json"):
            self.allow(kind)
        return {"__class__": kind.__name__, "__module__": kind.__module__, "__data__": to_json(value)}

    def _open(self, data: dict[str, Json]) -> Json:
        if not {"__class__", "__module__", "__data__"} <= data.keys():
            return data
        name, module = data["__class__"], data["__module__"]
        if not (isinstance(name, str) and isinstance(module, str)):
            return data
        kind: Any = self._allowed.get((module, name))
        return data if kind is None else kind.from_json(data["__data__"])


payloads = PayloadCodec()
"""The codec of this process: SDK, executor and host share what the app has allowed."""
