"""Events and payloads to text and back.

Rule 1: history is JSON by msgspec, one array per checkpoint; new optional fields may appear, old ones never change.
Rule 2: user payloads are JSON by the standard library with the SDK's hooks, because apps depend on its exact meaning;
        a class named by a payload is rebuilt only if this process has allowed it. Nothing is ever imported.
Rule 3: plain values pay nothing for what others need: types, limits and places are looked at when they matter.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from json.encoder import encode_basestring_ascii
from typing import Any, Final

import msgspec

from perdure.core.conversion import ExpectedType, converted, opened, shown_type
from perdure.core.events import HistoryEvent
from perdure.core.failures import FailureDetails
from perdure.core.json_path import largest_part, refused_part
from perdure.errors import PayloadTooLargeError

Json = Any  # user data: whatever JSON can hold, or a class that the app allowed

# The whole history is in memory while it is replayed, so one payload must not fill that.
LIMIT_BYTES: Final = 64 * 1024 * 1024

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
    Dataclasses, enums, times, UUIDs, decimals and pydantic models are written as plain JSON, and become objects again
    where a type is expected.

    Source: azure.functions `_durable_functions` for the envelope; the allow-list and the plain kinds are ours.

    Attributes:
        limit_bytes: no payload is larger.
        misfit: told once for each function whose annotation a value did not fit: its name, and why.
    """

    def __init__(self) -> None:
        self.limit_bytes = LIMIT_BYTES
        self.misfit: Callable[[str, str], None] | None = None
        self._allowed: dict[tuple[str, str], type] = {}
        self._misfits: set[str] = set()
        # json.dumps with options makes an encoder for each call, which costs more than the encoding.
        self._encoder = json.JSONEncoder(default=self._opened, allow_nan=False)
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
            TypeError: part of the value is nothing that can be written; the text names the part (DF301).
            ValueError: likewise for a number that is not finite, and for a value that contains itself or is nested
                too deeply.
            PayloadTooLargeError: the text is larger than `limit_bytes` (DF302).
        """
        if type(value) is str:
            text = encode_basestring_ascii(value)
        else:
            try:
                text = "".join(self._encoder.iterencode(value, True))  # what `encode` does, without its checks
            except (TypeError, ValueError) as error:
                raise self._refused(value, error) from error
            except RecursionError:
                raise ValueError(
                    "the value is nested too deeply to be written as JSON (DF301): pass flat data, such as a list of "
                    "parts that name each other"
                ) from None
        if len(text) > self.limit_bytes:  # it is all ASCII
            raise PayloadTooLargeError(len(text), self.limit_bytes, *largest_part(text))
        return text

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

    def decode_as(self, text: str | None, expected: ExpectedType) -> Json:
        """The value that `text` stands for as the type that is expected; None for None.

        Raises:
            ValueError: the text is not JSON.
            TypeError: the value does not fit a type that was asked for; the text names the place.
        """
        for each in expected.classes:
            self.allow(each)
        return None if text is None else self.fitted(self.decode(text), expected)

    def fitted(self, value: Json, expected: ExpectedType) -> Json:
        """A decoded value as the type that is expected; as it is if only an annotation wants another.

        Raises:
            TypeError: the value does not fit a type that was asked for.
        """
        if expected.function is None:
            return converted(value, expected)
        try:
            return converted(value, expected)
        except Exception as error:  # the app's own classes raise what they like, and nobody asked for them
            self._tell(expected, error)
            return value

    def _tell(self, expected: ExpectedType, error: Exception) -> None:
        function = expected.function
        if self.misfit is None or function is None or function in self._misfits:
            return
        self._misfits.add(function)
        self.misfit(function, f"{shown_type(expected.kind)}: {error}")

    def _refused(self, value: Json, error: TypeError | ValueError) -> TypeError | ValueError:
        """The error with the place of the part that was refused."""
        found = refused_part(value, self._opened)
        if found is None:
            return error
        path, part, reason = found
        message = f"{reason}, so the value at {path} cannot be written as JSON (DF301): {_advice(part)}"
        return TypeError(message) if isinstance(error, TypeError) else ValueError(message)

    def _opened(self, value: object) -> Json:
        kind = type(value)
        to_json = getattr(kind, "to_json", None)
        if to_json is None:
            return opened(value)
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


def _advice(part: object) -> str:
    match part:
        case set() | frozenset():
            return "pass a list, such as sorted(...) makes of it"
        case bytes() | bytearray() | memoryview():
            return "pass text, such as base64.b64encode(...).decode()"
        case float():
            return "pass None or a text instead"
        case dict() | list() | tuple():
            return "pass plain data"
        case _:
            return "pass plain data, make the class a dataclass, or give it to_json() and from_json()"


payloads = PayloadCodec()
"""The codec of this process: SDK, executor and host share what the app has allowed."""
