"""The host's engine, as the durable clients of a worker process ask it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

import msgspec

from perdure.core.records import HistoryRow, Instance, InstancePage, RuntimeStatus
from perdure.engine.clock import Clock, SystemClock
from perdure.engine.executor import FunctionNames
from perdure.engine.ids import new_id
from perdure.engine.requests import (
    Count,
    Create,
    Entities,
    History,
    Purge,
    Query,
    Question,
    Request,
    Send,
    Unwatch,
    Watch,
)
from perdure.engine.settings import Settings
from perdure.errors import HostStoppedError, StoreUnavailableError
from perdure.host.workers.frames import Answer, Ask, BindingText, Links, Unask, encode

_REPLIES: Final[dict[type[Question | Links | BindingText], Any]] = {
    Create: Instance | None,
    Send: RuntimeStatus | None,
    Query: InstancePage,
    Count: dict[RuntimeStatus, int],
    Entities: InstancePage,
    Purge: frozenset[str],
    History: tuple[HistoryRow, ...],
    Watch: Instance | None,
    Links: dict[str, str],
    BindingText: str,
}
_DECODERS = {question: msgspec.msgpack.Decoder(reply) for question, reply in _REPLIES.items()}

_ERRORS: Final[dict[str, type[Exception]]] = {each.__name__: each for each in (StoreUnavailableError, ValueError)}


class DistantEngine:
    """Passes the requests of `TaskHubClient`s on to the engine of the host.

    Args:
        send: takes an encoded frame to the host.
        settings: those of the host's engine.
        functions: what can be run there.
    """

    def __init__(self, send: Callable[[bytes], None], settings: Settings, functions: FunctionNames) -> None:
        self.new_id = new_id
        self.clock: Clock = SystemClock()
        self.settings = settings
        self.functions = functions
        self.runs_code = True
        self._send = send
        self._numbers = itertools.count(1)
        self._asked: dict[int, tuple[Question | Links | BindingText, Callable[[Any], None]]] = {}

    def submit(self, request: Request) -> None:
        """Ask for an operation, from any thread; its reply comes on the thread that reads the host's frames."""
        if isinstance(request.operation, Unwatch):
            self._give_up(request.operation.watch)
        else:
            self._ask(request.operation, request.reply)

    def links(self, instance_id: str) -> dict[str, str]:
        """The management URLs of an instance; waits the fraction of a millisecond until the host has made them."""
        return self._ask_and_wait(Links(instance_id))

    def binding_text(self) -> str:
        """The JSON text of a client binding; waits for the host likewise."""
        return self._ask_and_wait(BindingText())

    def _ask_and_wait(self, question: Links | BindingText) -> Any:
        reply: Future[Any] = Future()
        self._ask(question, reply.set_result)
        return reply.result()

    def _ask(self, question: Question | Links | BindingText, reply: Callable[[Any], None]) -> None:
        number = next(self._numbers)
        frame = encode(Ask(number, question))
        self._asked[number] = question, reply
        self._send(frame)

    def _give_up(self, watch: Request) -> None:
        for number, (_, reply) in list(self._asked.items()):
            if reply is watch.reply and self._asked.pop(number, None) is not None:
                self._send(encode(Unask(number)))

    def answered(self, answer: Answer) -> None:
        """The host has answered."""
        question, reply = self._asked.pop(answer.number, (None, _ignore))
        if question is not None:
            reply(_reply(question, answer))


def _ignore(reply: Any) -> None:
    """Nobody waits for it any longer."""


def _reply(question: Question | Links | BindingText, answer: Answer) -> Any:
    if answer.error is not None:
        name, text = answer.error
        return _ERRORS.get(name, HostStoppedError)(text)
    return _DECODERS[type(question)].decode(answer.reply)
