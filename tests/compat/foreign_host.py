"""Plays the official host: schedules what an SDK answers, lets it happen in some order, and asks again.

One thing happens in each episode while the host itself has retries to number, because answers have no numbers and the
official host numbers in the order of events; else there may be two.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from programs import Program

T0 = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)
EPISODES_MAX = 30

_ACTIVITY, _CHILD = (5, 6), (8, 9)  # the events of their success and failure


@dataclass
class Scheduled:
    """Something that is to happen.

    Attributes:
        attempts: how many more there may be after a failure; None if the host does not make it again.
        is_pause: the timer between two attempts.
    """

    event_id: int
    kind: str
    action: dict[str, Any]
    attempts: int | None = None
    fire_at: datetime = T0
    is_pause: bool = False


@dataclass
class ForeignHost:
    """One orchestration.

    Args:
        schema: the members that say how the answer is to be written.
        marks_played: whether events of earlier episodes are marked; some back ends never do.
        early: whether events may come before anybody waits for them.
    """

    rng: random.Random
    program: Program
    schema: dict[str, Any]
    marks_played: bool
    early: bool
    input: Any = None
    now: datetime = T0
    history: list[dict[str, Any]] = field(default_factory=list)
    open: list[Scheduled] = field(default_factory=list)
    seen: int = 0
    next_id: int = 0

    def contexts(self, answer: Callable[[str], dict[str, Any]]) -> Iterator[str]:
        """What the host sends, episode by episode, while `answer` replays it."""
        self._add(12)
        self._add(
            0, OrchestrationInstance={"InstanceId": "inst1", "ExecutionId": "e1"}, ParentInstance=None, Name="orch",
            Version="1.0", Input=json.dumps(self.input), Tags=None,
        )  # fmt: skip
        names = event_names(self.program)
        for _ in range(EPISODES_MAX):
            text = self._context()
            yield text
            state = answer(text)
            self._schedule(state)
            if state["isDone"] or state.get("error"):
                return
            waiting = {each.action["externalEventName"] for each in self.open if each.kind == "event"}
            choices: list[Any] = [each for each in self.open if each.kind != "event"]
            choices += [name for name in names if self.early or name in waiting]
            if not choices:
                return
            self._end_episode()
            for _ in range(1 if any(each.attempts is not None or each.is_pause for each in self.open) else 2):
                if choices:
                    chosen = choices.pop(self.rng.randrange(len(choices)))
                    if isinstance(chosen, str):
                        names.remove(chosen)
                    self._happens(chosen)

    def _context(self) -> str:
        sent = {
            "history": self.history, "input": self.input, "instanceId": "inst1", "isReplaying": len(self.history) > 2,
            "parentInstanceId": "p1", **self.schema, "longRunningTimerIntervalDuration": "3.00:00:00",
            "maximumShortTimerDuration": "6.00:00:00", "defaultHttpAsyncRequestSleepTimeMillseconds": 30000,
        }  # fmt: skip
        return json.dumps(sent)

    def _end_episode(self) -> None:
        self._add(13)
        if self.marks_played:
            for each in self.history:
                each["IsPlayed"] = True
        self.now += timedelta(seconds=self.rng.choice([0, 1, 7.25]))
        self._add(12)

    def _add(self, kind: int, event_id: int = -1, **members: Any) -> None:
        event = {"EventId": event_id, "IsPlayed": False, "Timestamp": _text(self.now), "EventType": kind, **members}
        self.history.append(event)

    def _take_id(self) -> int:
        self.next_id += 1
        return self.next_id - 1

    # ------------------------------------------------------------------ what was decided

    def _schedule(self, state: dict[str, Any]) -> None:
        leaves = [leaf for group in state["actions"] for each in group for leaf in _leaves(each)]
        for action in leaves[self.seen :]:
            self._schedule_one(action)
        self.seen = len(leaves)
        cancelled = {json.dumps({**each, "isCanceled": False}) for each in leaves if each.get("isCanceled")}
        self.open = [each for each in self.open if each.is_pause or json.dumps(each.action) not in cancelled]

    def _schedule_one(self, action: dict[str, Any]) -> None:
        match action["actionType"]:
            case 0 | 1 | 2 | 3:
                options = action.get("retryOptions")
                kind = "activity" if action["actionType"] < 2 else "child"
                attempts = None if options is None else options["maxNumberOfAttempts"] - 1
                self._call(kind, action, attempts)
            case 4:
                self.next_id += 1
            case 5:
                timer = datetime.fromisoformat(action["fireAt"])
                self._timer(action, timer, is_pause=False)
            case 6:
                self.open.append(Scheduled(-1, "event", action))
            case 8:
                event_id = self._take_id()
                self._add(
                    4, event_id, Name="BuiltIn::HttpActivity", Version="", Input=json.dumps(action["httpRequest"])
                )
                self.open.append(Scheduled(event_id, "http", action))
            case 7 | 9:
                event_id = self._take_id()
                is_signal = action["actionType"] == 9
                request = {"op": action["operation"], "signal": is_signal, "input": action["input"], "parent": "inst1"}
                request["id"] = _guid(0 if is_signal else event_id + 1)
                self._add(14, event_id, InstanceId=action["instanceId"], Name="op", Input=json.dumps(request))
                if not is_signal:
                    self.open.append(Scheduled(event_id, "entity", action))

    def _call(self, kind: str, action: dict[str, Any], attempts: int | None) -> None:
        event_id = self._take_id()
        self._add(4 if kind == "activity" else 7, event_id, Name=action["functionName"], Version="", Input="[]")
        self.open.append(Scheduled(event_id, kind, action, attempts))

    def _timer(self, action: dict[str, Any], fire_at: datetime, *, is_pause: bool, attempts: int | None = None) -> None:
        event_id = self._take_id()
        self._add(10, event_id, FireAt=_text(fire_at))
        self.open.append(Scheduled(event_id, "timer", action, attempts, fire_at, is_pause))

    # ------------------------------------------------------------------ what happens

    def _happens(self, what: Scheduled | str) -> None:
        if isinstance(what, str):
            self.open = [each for each in self.open if each.action.get("externalEventName") != what]
            self._add(15, Name=what, Input=json.dumps(self._value()))
            return
        self.open.remove(what)
        match what.kind:
            case "activity" | "child":
                self._call_ends(what)
            case "timer":
                self.now = max(self.now, what.fire_at)
                began = next(each for each in reversed(self.history) if each["EventType"] == 12)
                began["Timestamp"] = _text(self.now)
                self._add(11, TimerId=what.event_id, FireAt=_text(what.fire_at))
                if what.is_pause and what.attempts is not None and what.attempts >= 0:
                    kind = "activity" if what.action["actionType"] == 1 else "child"
                    self._call(kind, what.action, what.attempts)
            case "http":
                answered = {"statusCode": 200, "headers": {"A": "b"}, "content": "text"}
                self._add(5, TaskScheduledId=what.event_id, Result=json.dumps(answered))
            case _:
                answer = {"result": json.dumps(self._value())}
                if self.rng.random() < 0.2:
                    answer = {"result": '"bad operation"', "exceptionType": "Error"}
                self._add(15, Name=_guid(what.event_id + 1), Input=json.dumps(answer))

    def _call_ends(self, call: Scheduled) -> None:
        succeeded, failed = _ACTIVITY if call.kind == "activity" else _CHILD
        if self.rng.random() < (0.3 if call.attempts is None else 0.6):
            name = call.action["functionName"]
            kind = "Activity" if call.kind == "activity" else "Orchestrator"
            reason = f"{kind} function '{name}' failed:  ValueError: no {name}{call.event_id}"
            self._add(failed, TaskScheduledId=call.event_id, Reason=reason, Details='{"Message": "no"}')
            if call.attempts is not None:
                pause = self.now + timedelta(seconds=2)
                self._timer(call.action, pause, is_pause=True, attempts=call.attempts - 1)
        else:
            self._add(succeeded, TaskScheduledId=call.event_id, Result=json.dumps(self._value()))

    def _value(self) -> Any:
        return self.rng.choice([None, 0, 17, "text", "ü", [1, [2]], {"a": {"b": None}}, True, 1.5])


def _leaves(action: dict[str, Any]) -> list[dict[str, Any]]:
    if "compoundActions" not in action:
        return [action]
    return [leaf for part in action["compoundActions"] for leaf in _leaves(part)]


def event_names(written: Any) -> list[str]:
    """The events that a part of a program waits for."""
    if isinstance(written, list):
        own = [written[1]] if len(written) == 2 and written[0] == "event" else []
        return [*own, *(name for each in written for name in event_names(each))]
    return []


def _text(time: datetime) -> str:
    return f"{time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}0Z"


def _guid(number: int) -> str:
    return str(UUID(int=number))
