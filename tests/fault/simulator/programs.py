"""Random orchestrations: trees written as JSON, and one orchestrator that does what its input says.

A program is `{"steps": [node, ...], "next": program or None}`; with a next one it continues as new. A node is one of

    {"act": key, "fail": bool}        an activity, whose result follows from its input
    {"timer": milliseconds}           {"evt": name}
    {"sub": program, "id": id or None}
    {"all": [leaf, ...]}              {"any": [leaf, ...], "cancel": whether timers that lost are cancelled}
    {"status": text}                  {"raise": text}

and `"catch": True` beside any of them goes on after a failure. The output is the list of what the steps gave, over all
generations.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from datetime import timedelta
from random import Random
from typing import Any

from perdure.core.cursor import OrchestrationCursor
from perdure.core.failures import TaskFailedError
from perdure.core.tasks import (
    ActivityCall,
    EventTask,
    SubOrchestrationCall,
    Task,
    TaskAll,
    TaskAny,
    TaskState,
    TimerTask,
)

ORCHESTRATOR = "tree"
ACTIVITY = "work"

Node = dict[str, Any]
Program = dict[str, Any]


class Deliberate(Exception):
    """Raised by a program that says so."""


def text(value: Any) -> str:
    """JSON text, the same for the same value."""
    return json.dumps(value, sort_keys=True)


def activity_result(given: str | None) -> str:
    """What the activity returns for an input."""
    return f"done {json.loads(given or 'null')['key']}"


# ---------------------------------------------------------------------- the orchestrator


def tree(cursor: OrchestrationCursor) -> Generator[Task, Any, Any]:
    """Do what the input says."""
    given = json.loads(cursor.input or "null")
    results = list(given["results"])
    program = given["program"]
    for node in program["steps"]:
        try:
            results.append((yield from _step(cursor, node)))
        except TaskFailedError:
            if not node.get("catch"):
                raise
            results.append("caught")
    if program["next"] is not None:
        cursor.continue_as_new(text({"program": program["next"], "results": results}))
        return None
    return results


def _step(cursor: OrchestrationCursor, node: Node) -> Generator[Task, Any, Any]:
    if "status" in node:
        cursor.custom_status = text(node["status"])
        return "said"
    if "raise" in node:
        raise Deliberate(node["raise"])
    if "all" in node:
        return (yield TaskAll([_task(cursor, each) for each in node["all"]]))
    if "any" in node:
        tasks = [_task(cursor, each) for each in node["any"]]
        winner = yield TaskAny(tasks)
        if node["cancel"]:
            for task in tasks:
                if isinstance(task, TimerTask) and not task.is_completed:
                    task.cancel()
        won = winner.result if winner.state is TaskState.SUCCEEDED else "failed"
        return [next(number for number, task in enumerate(tasks) if task is winner), won]
    return (yield _task(cursor, node))


def _task(cursor: OrchestrationCursor, node: Node) -> Task:
    if "act" in node:
        return ActivityCall(ACTIVITY, text({"key": node["act"], "fail": node["fail"]}))
    if "timer" in node:
        return TimerTask(cursor.now + timedelta(milliseconds=node["timer"]), cursor)
    if "evt" in node:
        return EventTask(node["evt"], cursor)
    return SubOrchestrationCall(ORCHESTRATOR, text(first_input(node["sub"])), node["id"], None)


def first_input(program: Program) -> Any:
    """What an instance is started with to run a program."""
    return {"program": program, "results": []}


# ---------------------------------------------------------------------- what a program needs


def leaves(program: Program | None) -> Iterator[Node]:
    """All nodes of all generations that are not made of others, without those of children."""
    while program is not None:
        for node in program["steps"]:
            yield from node.get("all", node.get("any", (node,)))
        program = program["next"]


def events_needed(program: Program) -> list[str]:
    """The names of the events that it may wait for, as often as it may."""
    return [node["evt"] for node in leaves(program) if "evt" in node]


def named_children(program: Program) -> Iterator[tuple[str, Program]]:
    """Ids and programs of the children that clients know by name, and of theirs."""
    for node in leaves(program):
        if "sub" in node:
            if node["id"] is not None:
                yield node["id"], node["sub"]
            yield from named_children(node["sub"])


# ---------------------------------------------------------------------- writing programs

KINDS = ("act", "act", "act", "timer", "evt", "evt_or_timer", "sub", "all", "any", "status", "raise", "next")
MILLISECONDS = (0, 20, 500, 1000, 3000, 9000, 20_000)


class Writer:
    """Writes programs; each seed uses some of the features only, so that the rare ones meet undisturbed.

    Args:
        kinds: the kinds of nodes to use, "next" for continue-as-new among them.
        shared_ids: ids that children of several parents may want at the same time.
    """

    def __init__(self, rng: Random, kinds: frozenset[str], shared_ids: tuple[str, ...]) -> None:
        self._rng = rng
        self._kinds = tuple(each for each in KINDS if each in kinds)
        self._shared_ids = shared_ids
        self._count = 0

    def program(self, owner: str | None, *, depth: int = 2, steps_max: int = 4, events: bool = True) -> Program:
        """A program for the instance `owner`, or for one whose id nobody knows, which gets no events."""
        rng = self._rng
        kinds = [each for each in self._kinds if (events and owner is not None) or not each.startswith("evt")]
        steps = [self._node(rng.choice(kinds), owner, depth, kinds) for _ in range(rng.randint(1, steps_max))]
        steps = [each for each in steps if each is not None]
        goes_on = "next" in kinds and depth > 0 and rng.random() < 0.5
        follows = self.program(owner, depth=depth - 1, steps_max=2, events=events) if goes_on else None
        return {"steps": steps, "next": follows}

    def _node(self, kind: str, owner: str | None, depth: int, kinds: list[str]) -> Node | None:
        rng = self._rng
        node: Node
        match kind:
            case "all" | "any":
                size = rng.randint(1, 8) if kind == "all" and rng.random() < 0.2 else rng.randint(1, 3)
                simple = [each for each in kinds if each in ("act", "timer", "evt", "sub")]
                node = {kind: [self._leaf(rng.choice(simple or ["act"]), owner, depth) for _ in range(size)]}
                if kind == "any":
                    node["cancel"] = rng.random() < 0.7
            case "evt_or_timer":
                node = {"any": [self._leaf("evt", owner, depth), self._leaf("timer", owner, depth)], "cancel": True}
            case "status":
                node = {"status": self._key()}
            case "raise":
                if rng.random() > 0.15:
                    return None
                node = {"raise": self._key()}
            case "next":
                return None
            case _:
                node = self._leaf(kind, owner, depth)
        if rng.random() < 0.8:
            node["catch"] = True
        return node

    def _leaf(self, kind: str, owner: str | None, depth: int) -> Node:
        rng = self._rng
        if kind == "timer":
            return {"timer": rng.choice(MILLISECONDS)}
        if kind == "evt":
            return {"evt": rng.choice(("a", "a", "b"))}
        if kind == "sub" and depth > 0:
            return self._child(owner, depth)
        return {"act": self._key(), "fail": rng.random() < 0.1}

    def _child(self, owner: str | None, depth: int) -> Node:
        if self._shared_ids and self._rng.random() < 0.4:
            child = self.program(None, depth=0, steps_max=2, events=False)
            return {"sub": child, "id": self._rng.choice(self._shared_ids)}
        child_id = None if owner is None or self._rng.random() < 0.5 else f"{owner}.{self._key()}"
        return {"sub": self.program(child_id, depth=depth - 1, steps_max=3), "id": child_id}

    def _key(self) -> str:
        self._count += 1
        return f"k{self._count}"
