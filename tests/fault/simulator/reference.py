"""What a program must have done, told from nothing but the order in which things arrived.

A second reading of the programs, independent of cursor, tasks and replay: one loop over the arrivals, one step waiting
at a time. Races are legal, so the order of arrival is taken from the history; all else, decisions, times, results and
what is left unread, must follow.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from perdure.core.events import (
    EventRaised,
    ExecutionStarted,
    ExecutionTerminated,
    HistoryEvent,
    OrchestratorStarted,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceCreated,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
    TimerCreated,
    TimerFired,
)

from .programs import ACTIVITY, ORCHESTRATOR, Node, first_input, text

ARRIVALS = (
    EventRaised,
    TaskCompleted,
    TaskFailed,
    TimerFired,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceFailed,
)


class Decision(Struct, frozen=True):
    """A task that the program asks for: in which episode, and what."""

    episode: int
    task_id: int
    what: tuple[Any, ...]


class Outcome(Struct):
    """How far the program comes: the decisions it takes, how it ends, and which events it leaves unread.

    `end` is None while it waits; else ("completed", output), ("failed",), or ("continued", next input).
    """

    decisions: list[Decision]
    end: tuple[Any, ...] | None
    unread: list[EventRaised]
    custom_status: str | None


class _Waits(Exception):
    """The program waits for something that has not arrived."""


class _Fails(Exception):
    """A task failed."""


class _Raises(Exception):
    """The program raises by itself."""


class Reading:
    """One execution's history, as far as the program got to see it. Places count arrivals, from 1; 0 is the start."""

    def __init__(self, events: Sequence[HistoryEvent]) -> None:
        self.stamps: list[datetime] = []
        self.arrivals: list[Any] = []
        self.episode_at: list[int] = [0]
        self.decided: list[Decision] = []
        self.start: ExecutionStarted | None = None
        for number, episode in enumerate(_episodes(events)):
            self.stamps.append(episode[0].timestamp)
            is_terminated = any(isinstance(event, ExecutionTerminated) for event in episode)
            for event in episode:
                if isinstance(event, ExecutionStarted) and not is_terminated:
                    self.start = event
                elif isinstance(event, TaskScheduled | TimerCreated | SubOrchestrationInstanceCreated):
                    self.decided.append(Decision(number, event.event_id, _what(event)))
                elif isinstance(event, ARRIVALS) and not is_terminated:
                    self.arrivals.append(event)
                    self.episode_at.append(number)

    def outcome(self, given: str | None) -> Outcome:
        """What follows from the arrivals for a program with this input.

        Raises:
            AssertionError: something arrived that was never asked for.
        """
        if self.start is None:
            return Outcome([], None, [], None)  # terminated before it could begin
        return _Run(self, json.loads(given or "null")).outcome()


class _Run:
    """The program's course. `place` is the last arrival that it has seen."""

    def __init__(self, reading: Reading, given: Any) -> None:
        self.reading = reading
        self.given = given
        self.place = 0
        self.next_id = 0
        self.decisions: list[Decision] = []
        self.unread: list[EventRaised] = []
        self.custom_status: str | None = None

    def outcome(self) -> Outcome:
        end: tuple[Any, ...] | None
        try:
            end = self._course()
        except _Waits:
            end = None
        except (_Fails, _Raises):
            end = ("failed",)
        later = [event for event in self.reading.arrivals[self.place :] if isinstance(event, EventRaised)]
        return Outcome(self.decisions, end, self.unread + later, self.custom_status)

    def _course(self) -> tuple[Any, ...]:
        results = list(self.given["results"])
        program = self.given["program"]
        for node in program["steps"]:
            try:
                results.append(self._step(node))
            except _Fails:
                if not node.get("catch"):
                    raise
                results.append("caught")
        if program["next"] is not None:
            return "continued", text({"program": program["next"], "results": results})
        return "completed", results

    def _step(self, node: Node) -> Any:
        if "status" in node:
            self.custom_status = text(node["status"])
            return "said"
        if "raise" in node:
            raise _Raises
        parts: list[Node] = node.get("all") or node.get("any") or [node]
        asked = {task_id: number for number, part in enumerate(parts) if (task_id := self._ask(part)) is not None}
        step = _Step(parts, is_any="any" in node)
        self.unread = [event for event in self.unread if not step.raised(event)]
        while not step.is_over:
            if self.place == len(self.reading.arrivals):
                raise _Waits
            event = self.reading.arrivals[self.place]
            self.place += 1
            if isinstance(event, EventRaised):
                if not step.raised(event):
                    self.unread.append(event)
                continue
            assert event.task_id < self.next_id, f"{event} came before it was asked for"
            if event.task_id in asked:
                step.settle(asked[event.task_id], *_answer(event))
        return step.result() if "all" in node or "any" in node else step.result()[0]

    def _ask(self, node: Node) -> int | None:
        """Ask for a leaf's task; its id, unless it is a wait for an event, which has none."""
        reading = self.reading
        assert reading.start is not None
        episode = reading.episode_at[self.place]
        if "evt" in node:
            return None
        if "act" in node:
            what: tuple[Any, ...] = ("activity", ACTIVITY, text({"key": node["act"], "fail": node["fail"]}))
        elif "timer" in node:
            what = ("timer", reading.stamps[episode] + timedelta(milliseconds=node["timer"]))
        else:
            child_id = node["id"] or f"{reading.start.execution_id}:{self.next_id}"
            what = ("child", ORCHESTRATOR, child_id, text(first_input(node["sub"])))
        self.decisions.append(Decision(episode, self.next_id, what))
        self.next_id += 1
        return self.next_id - 1


class _Step:
    """What the program waits for: all of its parts, or any. A single one is all of one."""

    def __init__(self, parts: list[Node], *, is_any: bool) -> None:
        self.parts = parts
        self.is_any = is_any
        self.settled: dict[int, tuple[bool, Any]] = {}

    @property
    def is_over(self) -> bool:
        if self.is_any:
            return bool(self.settled)
        return len(self.settled) == len(self.parts) or not all(ok for ok, _ in self.settled.values())

    def settle(self, number: int, succeeded: bool, value: Any) -> None:
        self.settled[number] = (succeeded, value)

    def raised(self, event: EventRaised) -> bool:
        """The first part that still waits for an event of this name takes it, as long as the step is not over."""
        if self.is_over:
            return False
        for number, part in enumerate(self.parts):
            if part.get("evt") == event.name and number not in self.settled:
                self.settle(number, True, json.loads(event.input or "null"))
                return True
        return False

    def result(self) -> list[Any]:
        if self.is_any:
            ((number, (succeeded, value)),) = self.settled.items()
            return [number, value if succeeded else "failed"]
        if not all(ok for ok, _ in self.settled.values()):
            raise _Fails
        return [self.settled[number][1] for number in range(len(self.parts))]


def _answer(event: Any) -> tuple[bool, Any]:
    match event:
        case TaskCompleted() | SubOrchestrationInstanceCompleted():
            return True, json.loads(event.result or "null")
        case TimerFired():
            return True, None
        case _:
            return False, None


def _episodes(events: Sequence[HistoryEvent]) -> list[list[HistoryEvent]]:
    episodes: list[list[HistoryEvent]] = []
    for event in events:
        if isinstance(event, OrchestratorStarted):
            episodes.append([])
        episodes[-1].append(event)
    return episodes


def _what(event: TaskScheduled | TimerCreated | SubOrchestrationInstanceCreated) -> tuple[Any, ...]:
    match event:
        case TaskScheduled():
            return "activity", event.name, event.input
        case TimerCreated():
            return "timer", event.fire_at
        case SubOrchestrationInstanceCreated():
            return "child", event.name, event.instance_id, event.input
