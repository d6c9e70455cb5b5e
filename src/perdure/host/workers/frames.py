"""What a host and its worker processes say to each other: each frame is four bytes of length, and MessagePack.

Rule 1: frames hold data only. Payloads stay the text that they are; no class is looked up from any of it.
Rule 2: what waits is written at once, together: a burst costs one write, and one wake-up at the other end.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import IO, Any, Final

import msgspec
from msgspec import Raw, Struct

from perdure.core.failures import FailureDetails
from perdure.engine.requests import Question
from perdure.engine.settings import Settings

_LENGTH_BYTES: Final = 4


class Setup(Struct, frozen=True, tag=0, array_like=True):
    """The first frame to a worker: what it is to load, and how it is to run it.

    Attributes:
        folder: the app's.
        route_prefix, functions, hub: as for `load_app`.
        sdk: as for `chosen_sdk`.
        settings: those of the host's engine.
        threads: for sync activities.
        concurrency: activities that the host begins at the same time, at most.
        log_level: records below it are not sent.
        time_limit: of an activity, or None for none.
    """

    folder: str
    route_prefix: str
    functions: tuple[str, ...] | None
    hub: str
    sdk: str
    settings: Settings
    threads: int
    concurrency: int
    log_level: int
    time_limit: timedelta | None


class Links(Struct, frozen=True, tag=True):
    """What are the management URLs of an instance? Reply: by their official names."""

    instance_id: str


class BindingText(Struct, frozen=True, tag=True):
    """What is the JSON text of a client binding? Reply: that."""


class Begin(Struct, frozen=True, tag=1, array_like=True, gc=False):
    """To a worker: begin an activity; `number` stands for this call from now on."""

    number: int
    name: str
    instance_id: str
    input: str | None


class Answer(Struct, frozen=True, tag=2, array_like=True, gc=False):
    """To a worker: the reply to its `Ask` of that number, encoded; or the name of an exception of ours and its text."""

    number: int
    reply: Raw = Raw(b"\xc0")
    error: tuple[str, str] | None = None


class Stop(Struct, frozen=True, tag=3, array_like=True):
    """To a worker: end now. What still runs is cancelled, and begins again another time."""


class Ready(Struct, frozen=True, tag=10, array_like=True):
    """From a worker: the app is loaded."""


class Refused(Struct, frozen=True, tag=11, array_like=True):
    """From a worker: the app cannot be loaded, for the reason that these lines tell."""

    lines: tuple[str, ...]


class Ended(Struct, frozen=True, tag=12, array_like=True, gc=False):
    """From a worker: an activity has returned `result`, JSON text, or failed."""

    number: int
    result: str | None = None
    failure: FailureDetails | None = None


class Printed(Struct, frozen=True, tag=13, array_like=True, gc=False):
    """From a worker: text for stdout or stderr, printed in the call of that number, or outside of all (0)."""

    number: int
    is_error: bool
    text: str


class Logged(Struct, frozen=True, tag=14, array_like=True, gc=False):
    """From a worker: a log record, made in the call of that number, or outside of all (0)."""

    number: int
    logger: str
    level: int
    message: str
    fields: dict[str, Any]
    traceback: str


class Ask(Struct, frozen=True, tag=15, array_like=True, gc=False):
    """From a worker: a durable client of its functions asks something, of the engine in most cases."""

    number: int
    question: Question | Links | BindingText


class Unask(Struct, frozen=True, tag=16, array_like=True, gc=False):
    """From a worker: nobody waits for the answer to that `Ask` any longer."""

    number: int


ToWorker = Setup | Begin | Answer | Stop
FromWorker = Ready | Refused | Ended | Printed | Logged | Ask | Unask

_encoder = msgspec.msgpack.Encoder(enc_hook=str)
_to_worker = msgspec.msgpack.Decoder(ToWorker)
_from_worker = msgspec.msgpack.Decoder(FromWorker)


def encode_reply(reply: Any) -> Raw:
    """What an engine replied, for an `Answer`."""
    return Raw(_encoder.encode(reply))


def encode(frame: ToWorker | FromWorker) -> bytes:
    """The bytes of a frame."""
    body = _encoder.encode(frame)
    return len(body).to_bytes(_LENGTH_BYTES, "little") + body


def frames_to_worker(stream: IO[bytes]) -> Iterator[ToWorker]:
    """The frames that a worker gets, until its host has gone or closed the stream."""
    return map(_to_worker.decode, _bodies(stream))


def frames_from_worker(stream: IO[bytes]) -> Iterator[FromWorker]:
    """The frames that a worker sends, until it has died."""
    return map(_from_worker.decode, _bodies(stream))


def _bodies(stream: IO[bytes]) -> Iterator[bytes]:
    while len(head := _read(stream, _LENGTH_BYTES)) == _LENGTH_BYTES:
        size = int.from_bytes(head, "little")
        body = _read(stream, size)
        if len(body) < size:
            return  # it died while it wrote
        yield body


def _read(stream: IO[bytes], size: int) -> bytes:
    try:
        return stream.read(size)
    except (OSError, ValueError):  # the other end has gone, or this one was closed meanwhile
        return b""


class FrameWriter:
    """Writes frames in the order in which they are put; may be used from any thread, and inside itself.

    Whoever finds nobody writing writes what waits, its own and what others put meanwhile. So nothing is lost that was
    put before a crash but what another thread was just writing, and no thread writes for long.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._waiting: deque[bytes] = deque()
        self._lock = threading.Lock()

    def put(self, frame: bytes) -> None:
        """Have an encoded frame written; if the reader has gone, nothing is."""
        waiting = self._waiting
        waiting.append(frame)
        while waiting and self._lock.acquire(blocking=False):
            try:
                _write(self._stream, _taken(waiting))
            finally:
                self._lock.release()


def _taken(waiting: deque[bytes]) -> Sequence[bytes]:
    return [waiting.popleft() for _ in range(len(waiting))]


def _write(stream: IO[bytes], frames: Sequence[bytes]) -> None:
    try:
        stream.write(frames[0] if len(frames) == 1 else b"".join(frames))
        stream.flush()
    except (OSError, ValueError):
        pass  # the reader has gone, which whoever watches it will tell
