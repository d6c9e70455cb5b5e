"""What a program must have done, told from nothing but the order in which things arrived.

A second reading of the programs, independent of cursor, tasks and replay: one loop over the arrivals, and parts that
are looked at again after each. Races are legal, so the order of arrival is taken from the history; all else, decisions,
times, results and what is left unread, must follow. The same reading says what a rewind may take out of a history.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from msgspec import Struct

from perdure.core.events import (
    EntityLockGranted,
    EntityLockRequested,
    EntityOperationCalled,
    EntityOperationCompleted,
    EntityOperationFailed,
    EntityOperationSignaled,
    EntityUnlockSent,
    EventRaised,
    EventSent,
    ExecutionCompleted,
    ExecutionResumed,
    ExecutionRewound,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
    HistoryEvent,
    OrchestratorCompleted,
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

from .programs import ACTIVITY, ORCHESTRATOR, Node, activity_input, first_input, text

FAILURES: Final = (TaskFailed, SubOrchestrationInstanceFailed, EntityOperationFailed)
ARRIVALS: Final = (
    EventRaised,
    TaskCompleted,
    TimerFired,
    SubOrchestrationInstanceCompleted,
    EntityOperationCompleted,
    EntityLockGranted,
    *FAILURES,
)
DECISIONS: Final = (
    TaskScheduled,
    TimerCreated,
    SubOrchestrationInstanceCreated,
    EventSent,
    EntityOperationCalled,
    EntityOperationSignaled,
    EntityLockRequested,
    EntityUnlockSent,
)


class Decision(Struct, frozen=True):
    """Something that the program asks for: in which episode, and what."""

    episode: int
    task_id: int
    what: tuple[Any, ...]


class Outcome(Struct):
    """How far the program comes: the decisions it takes, how it ends, and which events it leaves unread.

    `end` is None while it waits; else ("completed", output), ("failed",), or ("continued", next input). `awaits` are
    the names of the events that would help it on.
    """

    decisions: list[Decision]
    end: tuple[Any, ...] | None
    unread: list[EventRaised]
    custom_status: str | None
    awaits: list[str]


class _Waits(Exception):
    """The program waits for something that has not arrived."""


class _Fails(Exception):
    """A task failed."""


class _Raises(Exception):
    """The program raises by itself."""


class Reading:
    """One execution's history, as far as the program got to see it. Places count arrivals, from 1; 0 is the start.

    What comes during a suspension is seen when it is over, and the program does not begin in one: `episode_at` says in
    which episode each place was reached, `withheld` what has not been seen.
    """

    def __init__(self, events: Sequence[HistoryEvent]) -> None:
        self.stamps: list[datetime] = []
        self.arrivals: list[Any] = []
        self.episode_at: list[int] = []
        self.decided: list[Decision] = []
        self.withheld: list[Any] = []
        self.rewound_in: set[int] = set()
        self.start: ExecutionStarted | None = None
        self.is_suspended = False
        for episode in _episodes(events):
            self.stamps.append(episode[0].timestamp)
            if not any(isinstance(event, ExecutionTerminated) for event in episode):
                self._read(episode)

    @property
    def has_begun(self) -> bool:
        """The program has been run."""
        return bool(self.episode_at)

    def _read(self, episode: list[HistoryEvent]) -> None:
        number = len(self.stamps) - 1
        for event in episode:
            match event:
                case ExecutionStarted():
                    self.start = event
                case ExecutionRewound():
                    self.rewound_in.add(number)
                case ExecutionSuspended():
                    self.is_suspended = True
                case ExecutionResumed():
                    self.is_suspended = False
                    self._begin(number)
                    self.arrivals += self.withheld
                    self.episode_at += [number] * len(self.withheld)
                    self.withheld = []
                case _ if isinstance(event, DECISIONS):
                    self.decided.append(Decision(number, event.event_id, self._what(event)))
                case _ if isinstance(event, ARRIVALS):
                    if self.is_suspended:
                        self.withheld.append(event)
                    else:
                        self._begin(number)
                        self.arrivals.append(event)
                        self.episode_at.append(number)
                case _:
                    pass
        if not self.is_suspended:
            self._begin(number)

    def _what(self, event: Any) -> tuple[Any, ...]:
        """What a decision asks for, without the number that it has."""
        match event:
            case TaskScheduled():
                return "activity", event.name, event.input
            case TimerCreated():
                return "timer", event.fire_at
            case SubOrchestrationInstanceCreated():
                assert self.start is not None
                is_chosen = event.instance_id.startswith(f"{self.start.execution_id}:{event.event_id}")
                return "child", event.name, None if is_chosen else event.instance_id, event.input
            case EntityOperationCalled():
                return "call", event.instance_id, event.operation, event.input
            case EntityOperationSignaled():
                return "signal", event.instance_id, event.operation, event.input, event.deliver_at
            case EntityLockRequested():
                return "lock", event.entities
            case EntityUnlockSent():
                return "unlock", event.lock_id
            case _:
                return "event", event.instance_id, event.name, event.input

    def _begin(self, number: int) -> None:
        if not self.episode_at:
            self.episode_at.append(number)

    def agrees(self, decisions: Sequence[Decision]) -> bool:
        """Whether the history has these decisions, each in its episode, or in one that rewound the execution later."""
        return len(decisions) == len(self.decided) and all(
            (one.task_id, one.what) == (other.task_id, other.what)
            and (one.episode == other.episode or (one.episode in self.rewound_in and one.episode > other.episode))
            for one, other in zip(self.decided, decisions, strict=True)
        )

    def outcome(self, given: str | None) -> Outcome:
        """What follows from the arrivals for a program with this input.

        Raises:
            AssertionError: something arrived that was never asked for.
        """
        if not self.has_begun:
            held = [event for event in self.withheld if isinstance(event, EventRaised)]
            return Outcome([], None, held, None, [])  # terminated or suspended before it could begin
        return _Run(self, json.loads(given or "null")).outcome()


def what_left(history: Sequence[HistoryEvent], kept: Sequence[HistoryEvent], given: str | None) -> list[str]:
    """What is wrong with what a rewind has left of a failed execution's history.

    Nothing but answers and decisions may go, none of those before the first failure that went, and that failure must be
    the one that has to go: the latest that the program cannot do without.
    """
    whole = [event for event in history if not isinstance(event, ExecutionCompleted)]
    remaining = list(kept)
    gone: list[HistoryEvent] = []
    places: list[int] = []
    for place, event in enumerate(whole):
        if remaining and remaining[0] == event:
            remaining.pop(0)
        else:
            gone.append(event)
            places.append(place)
    if remaining:
        return [f"it has {remaining[0]}, which the failed history has not, or not there"]
    lost = [event for event in gone if not isinstance(event, (*ARRIVALS, *DECISIONS, *MARKS))]
    lost += [event for event in gone if isinstance(event, EventRaised)]
    if lost:
        return [f"{lost[0]} is gone"]
    hideable = (*FAILURES, EntityLockGranted)
    first = next((place for place, each in zip(places, gone, strict=True) if isinstance(each, hideable)), None)
    dispensable = _first_to_go(whole, given)
    if first != dispensable:
        failure = None if dispensable is None else whole[dispensable]
        return [f"the first failure that went is {None if first is None else whole[first]}, not {failure}"]
    early = [each for place, each in zip(places, gone, strict=True) if first is None or place < first]
    wrong = [event for event in early if not isinstance(event, MARKS)]
    return [f"{wrong[0]} is gone, which does not depend on a failure"] if wrong else []


def _first_to_go(history: Sequence[HistoryEvent], given: str | None) -> int | None:
    """Where the first failure stands that has to go so that the program does not fail; None if it fails anyway.

    A lock that the program would then hold was given back when it failed: it has to be granted again.
    """
    hidden: set[int] = set()
    while True:
        reading = Reading([event for place, event in enumerate(history) if place not in hidden])
        if not reading.has_begun:
            return None  # it was suspended, and failed for another reason than its program
        run = _Run(reading, json.loads(given or "null"), is_lenient=True)
        outcome = run.outcome()
        is_failed = outcome.end is not None and outcome.end[0] == "failed"
        if not is_failed and not run.held:
            break
        if not is_failed:
            hidden |= {place for place, event in enumerate(history) if any(event is each for each in run.held.values())}
            continue
        seen = [place for place, event in enumerate(history) if any(event is each for each in run.failures)]
        if not seen:
            return None
        last: Any = history[seen[-1]]
        ids = {history[place].task_id: place for place in seen}  # type: ignore[union-attr] - failures have one
        first = run.first_attempts.get(last.task_id, last.task_id)
        hidden.add(ids.get(first, seen[-1]))
    taken = [id(each) for each in run.failures]
    gone = [place for place, event in enumerate(history) if isinstance(event, FAILURES) and id(event) not in taken]
    return min((*gone, *hidden), default=None)


MARKS: Final = (OrchestratorStarted, OrchestratorCompleted)


# ---------------------------------------------------------------------- the program's course


class _Run:
    """The program's course. `place` is the last arrival that it has seen.

    A lenient one passes over answers to what it has not asked for, or otherwise, or later than the history says.
    """

    def __init__(self, reading: Reading, given: Any, *, is_lenient: bool = False) -> None:
        self.reading = reading
        self.given = given
        self.place = 0
        self.next_id = 0
        self.decisions: list[Decision] = []
        self.unread: list[EventRaised] = []
        self.custom_status: str | None = None
        self.failures: list[Any] = []
        self.first_attempts: dict[int, int] = {}
        self.held: dict[int, EntityLockGranted] = {}
        self._open: dict[int, _Part] = {}
        self._roots: list[_Part] = []
        self._recorded = {each.task_id: each for each in reading.decided} if is_lenient else None

    def outcome(self) -> Outcome:
        end: tuple[Any, ...] | None
        awaits: list[str] = []
        try:
            end = self._course()
        except _Waits:
            end = None
            awaits = [each.name for each in self._roots[-1].waits()]
        except (_Fails, _Raises):
            end = ("failed",)
        later = [*self.reading.arrivals[self.place :], *self.reading.withheld]
        if self._recorded is not None:  # a failure that came after the end counts, too
            self.failures += [each for each in later if isinstance(each, FAILURES) and self._is_awaited(each)]
        unread = self.unread + [event for event in later if isinstance(event, EventRaised)]
        is_dropped = end is not None and end[0] == "continued" and not self.given["program"]["keep"]
        return Outcome(self.decisions, end, [] if is_dropped else unread, self.custom_status, awaits)

    def _course(self) -> tuple[Any, ...]:
        results = list(self.given["results"])
        program = self.given["program"]
        self._steps(program["steps"], results)
        if program["next"] is not None:
            return "continued", text({"program": program["next"], "results": results})
        return "completed", results

    def _steps(self, nodes: list[Node], results: list[Any]) -> None:
        for node in nodes:
            try:
                results.append(self._step(node))
            except _Fails:
                if not node.get("catch"):
                    raise
                results.append("caught")

    def _section(self, node: Node) -> list[Any]:
        lock = _Lock(self, tuple(node["lock"]))
        self._await(lock)
        results: list[Any] = []
        try:
            self._steps(node["body"], results)
        except (_Fails, _Raises):
            self._leave(node, lock)
            raise
        self._leave(node, lock)
        return results

    def _leave(self, node: Node, lock: _Lock) -> None:
        if not node["keeps"]:
            self._decide(("unlock", lock.lock_id))
            self.held.pop(lock.lock_id, None)

    def _step(self, node: Node) -> Any:
        if "lock" in node:
            return self._section(node)
        if "sig" in node:
            delay = node["delay"]
            due = None if delay is None else self.now + timedelta(milliseconds=delay)
            self._decide(("signal", node["sig"], node["operation"], text(node["given"]), due))
            return "signalled"
        if "status" in node:
            self.custom_status = text(node["status"])
            return "said"
        if "raise" in node:
            raise _Raises
        if "tell" in node:
            self._decide(("event", node["tell"], node["evt"], text(node["key"])))
            return "told"
        root = _part(self, node)
        self._await(root)
        if node.get("cancel"):
            assert isinstance(root, _Any)
            for part in root.parts:
                part.cancel()
        assert root.state is not None
        succeeded, value = root.state
        if not succeeded:
            raise _Fails
        if "then" in node:
            value.append(self._step(node["then"][value[0]]))
        return value

    def _await(self, root: _Part) -> None:
        """Let arrivals come until it is decided."""
        self._roots.append(root)
        root.begin()
        root.look()
        for event in list(self.unread):
            if root.state is None and self._give(root, event):
                self.unread.remove(event)
        while root.state is None:
            self._take_next(root)

    def _take_next(self, root: _Part) -> None:
        """See the next arrival."""
        if self.place == len(self.reading.arrivals):
            raise _Waits
        event = self.reading.arrivals[self.place]
        self.place += 1
        if isinstance(event, EventRaised):
            if not self._give(root, event):
                self.unread.append(event)
            return
        if self._recorded is not None and not self._is_awaited(event):
            return
        assert event.task_id < self.next_id, f"{event} came before it was asked for"
        if isinstance(event, FAILURES):
            self.failures.append(event)
        if isinstance(event, EntityLockGranted):
            self.held[event.task_id] = event
        part = self._open.pop(event.task_id, None)
        if part is not None and not part.is_cancelled:
            part.state = _answer(event)
            for each in self._roots:  # what lost a race goes on in the background
                each.look()

    def _is_awaited(self, event: Any) -> bool:
        assert self._recorded is not None
        asked = next((each for each in self.decisions if each.task_id == event.task_id), None)
        recorded = self._recorded.get(event.task_id)
        if asked is None or recorded is None or event.task_id not in self._open:
            return False
        return asked.what == recorded.what and asked.episode <= recorded.episode

    def _give(self, root: _Part, event: EventRaised) -> bool:
        """The oldest wait for an event of this name takes it, if it is part of what the program waits for."""
        for wait in root.waits():
            if wait.name.casefold() == event.name.casefold():
                wait.state = True, json.loads(event.input or "null")
                root.look()
                return True
        return False

    @property
    def now(self) -> datetime:
        """The time that the program sees."""
        return self.reading.stamps[self.reading.episode_at[self.place]]

    def ask(self, part: _Part, what: tuple[Any, ...]) -> int:
        """Take a decision that something will answer."""
        self._open[self.next_id] = part
        return self._decide(what)

    def _decide(self, what: tuple[Any, ...]) -> int:
        self.decisions.append(Decision(self.reading.episode_at[self.place], self.next_id, what))
        self.next_id += 1
        return self.next_id - 1


# ---------------------------------------------------------------------- what it can wait for


class _Part:
    """Something to wait for. `state` is None while it is open, else whether it succeeded, and with what."""

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.state: tuple[bool, Any] | None = None
        self.is_cancelled = False

    def begin(self) -> None:
        """Ask for it."""

    def look(self) -> None:
        """See whether something has changed below."""

    def waits(self) -> Iterator[_Wait]:
        """The waits for events that it depends on, oldest first."""
        return iter(())

    def cancel(self) -> None:
        """It lost a race; a timer ends then."""


class _Wait(_Part):
    def __init__(self, run: _Run, name: str) -> None:
        super().__init__(run)
        self.name = name

    def waits(self) -> Iterator[_Wait]:
        if self.state is None:
            yield self


class _Timer(_Part):
    def __init__(self, run: _Run, fire_at: datetime) -> None:
        super().__init__(run)
        self.fire_at = fire_at

    def begin(self) -> None:
        self.run.ask(self, ("timer", self.fire_at))

    def cancel(self) -> None:
        self.is_cancelled = self.state is None


class _Call(_Part):
    def __init__(self, run: _Run, node: Node) -> None:
        super().__init__(run)
        self.node = node
        self.task_id = -1

    def begin(self) -> None:
        node, run = self.node, self.run
        if "act" in node:
            what: tuple[Any, ...] = ("activity", ACTIVITY, activity_input(node))
        elif "ent" in node:
            what = ("call", node["ent"], node["operation"], text(node["given"]))
        else:
            what = ("child", ORCHESTRATOR, node["id"], text(first_input(node["sub"])))
        self.task_id = run.ask(self, what)


class _Lock(_Part):
    def __init__(self, run: _Run, entities: tuple[str, ...]) -> None:
        super().__init__(run)
        self.entities = entities
        self.lock_id = -1

    def begin(self) -> None:
        self.lock_id = self.run.ask(self, ("lock", self.entities))


class _Combination(_Part):
    def __init__(self, run: _Run, nodes: Sequence[Node]) -> None:
        super().__init__(run)
        self.parts = [_part(run, node) for node in nodes]

    def begin(self) -> None:
        for part in self.parts:
            part.begin()

    def look(self) -> None:
        for part in self.parts:
            part.look()
        if self.state is None:
            self.state = self.decided()

    def decided(self) -> tuple[bool, Any] | None:
        raise NotImplementedError

    def waits(self) -> Iterator[_Wait]:
        if self.state is None:
            for part in self.parts:
                yield from part.waits()


class _All(_Combination):
    def decided(self) -> tuple[bool, Any] | None:
        states = [part.state for part in self.parts]
        if any(state is not None and not state[0] for state in states):
            return False, None
        return None if None in states else (True, [state[1] for state in states if state is not None])


class _Any(_Combination):
    def decided(self) -> tuple[bool, Any] | None:
        for number, part in enumerate(self.parts):
            if part.state is not None:
                succeeded, value = part.state
                return True, [number, value if succeeded else "failed"]
        return None


class _Within(_Part):
    """An event, or "late"."""

    def __init__(self, run: _Run, node: Node) -> None:
        super().__init__(run)
        self.wait = _Wait(run, node["evt"])
        self.delay = timedelta(milliseconds=node["within"])

    def begin(self) -> None:
        self.timer = _Timer(self.run, self.run.now + self.delay)
        self.timer.begin()

    def look(self) -> None:
        if self.state is not None:
            return
        if self.wait.state is not None:
            self.state = self.wait.state
            self.timer.cancel()
        elif self.timer.state is not None:
            self.state = True, "late"

    def waits(self) -> Iterator[_Wait]:
        if self.state is None:
            yield self.wait


class _Retried(_Part):
    """A call that is made again after a failure, and after a while."""

    def __init__(self, run: _Run, node: Node) -> None:
        super().__init__(run)
        self.node = node
        self.attempts = 0

    def begin(self) -> None:
        self.began = self.run.now
        self.first = self._call()

    def _call(self) -> int:
        self.pause: _Timer | None = None
        self.call = _Call(self.run, self.node)
        self.call.begin()
        return self.call.task_id

    def look(self) -> None:
        if self.state is None and self.pause is not None and self.pause.state is not None:
            self.run.first_attempts[self._call()] = self.first
        if self.state is not None or self.pause is not None or self.call.state is None:
            return
        succeeded, value = self.call.state
        self.attempts += 1
        if succeeded or not self._is_worth_it(value):
            self.state = self.call.state
            return
        retry = self.node["retry"]
        wait_ms = min(retry["first"] * retry["factor"] ** (self.attempts - 1), retry["longest"])
        self.pause = _Timer(self.run, self.run.now + timedelta(milliseconds=wait_ms))
        self.pause.begin()

    def _is_worth_it(self, failure: Any) -> bool:
        retry = self.node["retry"]
        if failure.is_non_retriable or self.attempts == retry["attempts"]:
            return False
        return retry["timeout"] is None or self.run.now - self.began < timedelta(milliseconds=retry["timeout"])


def _part(run: _Run, node: Node) -> _Part:
    if "all" in node:
        return _All(run, node["all"])
    if "any" in node:
        return _Any(run, node["any"])
    if "retry" in node:
        return _Retried(run, node)
    if "timer" in node:
        return _Timer(run, run.now + timedelta(milliseconds=node["timer"]))
    if "within" in node:
        return _Within(run, node)
    if "evt" in node:
        return _Wait(run, node["evt"])
    return _Call(run, node)


def _answer(event: Any) -> tuple[bool, Any]:
    match event:
        case TaskCompleted() | SubOrchestrationInstanceCompleted() | EntityOperationCompleted():
            return True, json.loads(event.result or "null")
        case TimerFired() | EntityLockGranted():
            return True, None
        case _:
            return False, event.failure


def _episodes(events: Sequence[HistoryEvent]) -> list[list[HistoryEvent]]:
    episodes: list[list[HistoryEvent]] = []
    for event in events:
        if isinstance(event, OrchestratorStarted):
            episodes.append([])
        episodes[-1].append(event)
    return episodes
