"""Who runs user code: this process, or later others. The engine hands over requests and receives results.

An executor keeps a sticky session, the orchestrator's live cursor, per instance: an episode then costs O(new events).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from perdure.core.actions import OrchestratorAction
from perdure.core.entities import BatchResult
from perdure.core.events import EntityOperation, HistoryEvent
from perdure.core.failures import FailureDetails
from perdure.core.records import ActivityTask


class FunctionNames(Struct, frozen=True):
    """What an executor can run, as registered; look-ups ignore case."""

    orchestrators: frozenset[str] = frozenset()
    activities: frozenset[str] = frozenset()
    entities: frozenset[str] = frozenset()


class OrchestratorRequest(Struct, frozen=True, gc=False):
    """One episode to run.

    `past` is the history so far if the executor has to build the session anew (it drops one it may still have), or
    None to go on with the session it keeps.
    """

    instance_id: str
    execution_id: str
    name: str
    past: Sequence[HistoryEvent] | None
    new: Sequence[HistoryEvent]


class OrchestratorResult(Struct, frozen=True, gc=False):
    """What the episode decided; `custom_status` is JSON text of what the code last set."""

    actions: Sequence[OrchestratorAction]
    custom_status: str | None


class RewindResult(Struct, frozen=True, gc=False):
    """What a failed execution can go on from.

    Attributes:
        kept: what is left of its history.
        actions, custom_status: as of the episode that rewinds it.
        awaited: numbers of the decisions, those just made aside, that the code expects an answer to.
    """

    kept: Sequence[HistoryEvent]
    actions: Sequence[OrchestratorAction]
    custom_status: str | None
    awaited: frozenset[int]


class EntityRequest(Struct, frozen=True, gc=False):
    """Operations to run one after the other, at the time `now`, on an entity with `state` (JSON text, or None)."""

    instance_id: str
    now: datetime
    state: str | None
    operations: Sequence[EntityOperation]


EntityFinished = Callable[[EntityRequest, BatchResult], None]


class Completed(Struct, frozen=True, gc=False):
    """The activity returned; `result` is JSON text."""

    result: str | None


class Failed(Struct, frozen=True, gc=False):
    """The activity raised, or could not be run."""

    failure: FailureDetails


class Interrupted(Struct, frozen=True, gc=False):
    """The process that ran the activity died before it ended; what it has done by then, nobody knows."""


ActivityResult = Completed | Failed | Interrupted
ActivityFinished = Callable[[ActivityTask, ActivityResult], None]


class Executor(Protocol):
    """Runs user code. Only `start_activity`'s work leaves the engine's thread."""

    def functions(self) -> FunctionNames:
        """What it can run."""
        ...

    def orchestrate(self, request: OrchestratorRequest) -> OrchestratorResult:
        """Run one episode to its end; user exceptions become actions, never raised."""
        ...

    def rewind(self, request: OrchestratorRequest) -> RewindResult:
        """Find what a failed execution can go on from, build its session there, and run the episode that rewinds it."""
        ...

    def start_activity(self, task: ActivityTask, finished: ActivityFinished) -> None:
        """Queue an activity and return at once; `finished` is called exactly once, from any thread.

        How many run at the same time is the executor's business: it holds the rest back, next to where they run, so
        that a freed slot is filled without a crossing of threads.
        """
        ...

    def start_entity(self, request: EntityRequest, finished: EntityFinished) -> None:
        """Queue a batch and return at once; `finished` is called exactly once, from any thread.

        Whatever the user's code does becomes the operations' results, one each.
        """
        ...

    def forget(self, instance_id: str) -> None:
        """Drop the instance's session, if any."""
        ...

    async def drain(self, timeout_s: float) -> None:
        """Start no more activities and wait for the running ones, at most so long."""
        ...
