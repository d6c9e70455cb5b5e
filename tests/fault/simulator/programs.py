"""Random orchestrations: trees written as JSON, and one orchestrator that does what its input says.

A program is `{"steps": [node, ...], "next": program or None}`; with a next one it continues as new, `"keep"` says
whether with the events that nobody has read, and `"version"`, if it is there, in which version. A node is one of

    {"act": key, "fails": n}          an activity, whose result follows from its input; it fails the first n times,
                                      or kills its host
    {"timer": milliseconds}
    {"evt": name}                     {"evt": name, "within": milliseconds}
    {"sub": program, "id": id or None}
    {"all": [node, ...]}              {"any": [node, ...], "cancel": whether timers that lost are cancelled,
                                       "then": [what is done if the first wins, the second, ...]}
    {"ent": entity id, "operation": name, "given": input}
    {"status": text}                  {"raise": text}                  {"tell": instance id, "evt": name, "key": key}
    {"sig": entity id, "operation": name, "given": input, "delay": milliseconds or None}
    {"lock": [entity id, ...], "body": [node, ...], "keeps": whether it never gives the locks back}

where those of the last three lines are steps only, as are "cancel" and "then", `"retry": policy` beside an activity or
a child tries again, and `"catch": True` beside any step goes on after a failure. The output is the list of what the
steps gave, over all generations.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any

from perdure.core.cursor import OrchestrationCursor
from perdure.core.failures import TaskFailedError
from perdure.core.retry import RetryPolicy, retried
from perdure.core.tasks import (
    ActivityCall,
    EntityCall,
    EventTask,
    LockTask,
    Routine,
    SubOrchestrationCall,
    Task,
    TaskAll,
    TaskAny,
    TaskState,
    TimerTask,
)

from .boxes import OPERATIONS

ORCHESTRATOR = "tree"
ACTIVITY = "work"
ALWAYS = 1_000_000  # times that an activity fails
KILLS = -1  # instead: it ends the process that it runs in

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
    yield from _steps(cursor, program["steps"], results)
    if program["next"] is not None:
        following = text({"program": program["next"], "results": results})
        cursor.continue_as_new(following, save_events=program["keep"], version=program.get("version"))
        return None
    return results


def _steps(cursor: OrchestrationCursor, nodes: list[Node], results: list[Any]) -> Generator[Task, Any, None]:
    for node in nodes:
        try:
            results.append((yield from _step(cursor, node)))
        except TaskFailedError:
            if not node.get("catch"):
                raise
            results.append("caught")


def _section(cursor: OrchestrationCursor, node: Node) -> Generator[Task, Any, list[Any]]:
    """Do something under locks."""
    lock = LockTask(tuple(node["lock"]))
    yield lock
    results: list[Any] = []
    try:
        yield from _steps(cursor, node["body"], results)
    finally:
        if not node["keeps"]:
            assert lock.id is not None
            cursor.unlock(lock.id)
    return results


def _step(cursor: OrchestrationCursor, node: Node) -> Generator[Task, Any, Any]:
    if "lock" in node:
        return (yield from _section(cursor, node))
    if "sig" in node:
        delay = node["delay"]
        due = None if delay is None else cursor.now + timedelta(milliseconds=delay)
        cursor.signal_entity(node["sig"], node["operation"], text(node["given"]), due)
        return "signalled"
    if "status" in node:
        cursor.custom_status = text(node["status"])
        return "said"
    if "raise" in node:
        raise Deliberate(node["raise"])
    if "tell" in node:
        cursor.send_event(node["tell"], node["evt"], text(node["key"]))
        return "told"
    task = _task(cursor, node)
    yield task
    if node.get("cancel"):
        assert isinstance(task, TaskAny)
        for each in task.children:
            if isinstance(each, TimerTask) and not each.is_completed:
                each.cancel()
    value = _value(task)
    if "then" in node:
        value.append((yield from _step(cursor, node["then"][value[0]])))
    return value


def _value(task: Task) -> Any:
    """What a task that succeeded gives, in JSON."""
    match task:
        case TaskAll() if any(isinstance(each, TaskAll | TaskAny) for each in task.children):
            return [_value(each) for each in task.children]
        case TaskAny():
            winner = task.result
            number = next(number for number, each in enumerate(task.children) if each is winner)
            return [number, _value(winner) if winner.state is TaskState.SUCCEEDED else "failed"]
        case _:
            return task.result


def _task(cursor: OrchestrationCursor, node: Node) -> Task:
    if "all" in node:
        return TaskAll([_task(cursor, each) for each in node["all"]])
    if "any" in node:
        return TaskAny([_task(cursor, each) for each in node["any"]])
    if "retry" in node:
        code = retried(
            policy_of(node["retry"]), partial(_call, node), lambda: cursor.now, lambda when: TimerTask(when, cursor)
        )
        return Routine(code, cursor)
    if "timer" in node:
        return TimerTask(cursor.now + timedelta(milliseconds=node["timer"]), cursor)
    if "within" in node:
        return Routine(_wait(cursor, node), cursor)
    if "evt" in node:
        return EventTask(node["evt"], cursor)
    return _call(node)


def _call(node: Node) -> Task:
    if "act" in node:
        return ActivityCall(ACTIVITY, activity_input(node))
    if "ent" in node:
        return EntityCall(node["ent"], node["operation"], text(node["given"]))
    return SubOrchestrationCall(ORCHESTRATOR, text(first_input(node["sub"])), node["id"], None)


def _wait(cursor: OrchestrationCursor, node: Node) -> Generator[Task, Any, Any]:
    """Wait for an event, but not for ever."""
    event = EventTask(node["evt"], cursor)
    timer = TimerTask(cursor.now + timedelta(milliseconds=node["within"]), cursor)
    winner = yield TaskAny([event, timer])
    if winner is timer:
        event.cancel()
        return "late"
    timer.cancel()
    return event.result


def policy_of(retry: dict[str, Any]) -> RetryPolicy:
    """The policy that a node describes; all its times are milliseconds."""
    timeout = retry["timeout"]
    return RetryPolicy(
        timedelta(milliseconds=retry["first"]),
        retry["attempts"],
        retry["factor"],
        timedelta(milliseconds=retry["longest"]),
        None if timeout is None else timedelta(milliseconds=timeout),
    )


def activity_input(node: Node) -> str:
    """What a node's activity is called with."""
    return text({"key": node["act"], "fails": node["fails"]})


def first_input(program: Program) -> Any:
    """What an instance is started with to run a program."""
    return {"program": program, "results": []}


# ---------------------------------------------------------------------- what a program needs


def leaves(program: Program | None) -> Iterator[Node]:
    """All nodes of all generations that are not made of others, without those of children."""
    while program is not None:
        stack = list(reversed(program["steps"]))
        while stack:
            node = stack.pop()
            parts = node.get("all", node.get("any"))
            if parts is None:
                yield node
            else:
                stack.extend(reversed([*parts, *node.get("then", ())]))
        program = program["next"]


def events_needed(program: Program) -> list[str]:
    """The names of the events that it may wait for, as often as it may."""
    return [node["evt"] for node in leaves(program) if "evt" in node and "tell" not in node]


def named_children(program: Program) -> Iterator[tuple[str, Program]]:
    """Ids and programs of the children that clients know by name, and of theirs."""
    for node in leaves(program):
        if "sub" in node:
            if node["id"] is not None:
                yield node["id"], node["sub"]
            yield from named_children(node["sub"])


# ---------------------------------------------------------------------- writing programs

KINDS = (
    "act", "act", "act", "timer", "evt", "evt_or_timer", "late", "sub", "all", "any", "status", "raise", "next",
    "flaky", "retry", "nest", "tell", "poison", "version", "ent", "ent", "sig", "lock", "lock",
)  # fmt: skip
ENTITY_KINDS = ("ent", "sig", "lock")
MILLISECONDS = (0, 20, 500, 1000, 3000, 9000, 20_000)
NAMES = ("a", "a", "b")
VERSIONS = ("1.0", "2.0")


class Writer:
    """Writes programs; each seed uses some of the features only, so that the rare ones meet undisturbed.

    Args:
        kinds: the kinds of nodes to use. Not all are nodes of their own: "next" is continue-as-new, "flaky" makes
            activities fail that succeed later, and more failures go uncaught, "retry" tries calls again, "nest" puts
            combinations into combinations, "version" lets generations have versions.
        shared_ids: ids that children of several parents may want at the same time.
        hearers: instances that may be told something.
        boxes: ids of the entities, in their order.
    """

    def __init__(
        self,
        rng: Random,
        kinds: frozenset[str],
        shared_ids: tuple[str, ...],
        hearers: tuple[str, ...],
        boxes: tuple[str, ...] = (),
    ) -> None:
        self._rng = rng
        self._kinds = tuple(each for each in KINDS if each in kinds)
        self._shared_ids = shared_ids
        self._hearers = hearers
        self._boxes = boxes
        self._count = 0

    def program(self, owner: str | None, *, depth: int = 2, steps_max: int = 4, events: bool = True) -> Program:
        """A program for the instance `owner`, or for one whose id nobody knows, which gets no events."""
        rng = self._rng
        kinds = [each for each in self._kinds if (events and owner is not None) or each not in WAITS]
        steps = [self._node(rng.choice(kinds), owner, depth, kinds) for _ in range(rng.randint(1, steps_max))]
        steps = [each for each in steps if each is not None]
        if steps and "lock" in steps[-1] and rng.random() < 0.4:
            steps[-1]["keeps"] = True
        goes_on = "next" in kinds and depth > 0 and rng.random() < 0.5
        follows = self.program(owner, depth=depth - 1, steps_max=2, events=events) if goes_on else None
        program: Program = {"steps": steps, "next": follows, "keep": rng.random() < 0.8}
        if "version" in self._kinds and rng.random() < 0.5:
            program["version"] = rng.choice(VERSIONS)
        return program

    def _node(self, kind: str, owner: str | None, depth: int, kinds: list[str]) -> Node | None:
        rng = self._rng
        node: Node
        match kind:
            case "all" | "any" | "nest":
                node = self._combination(kind, owner, depth, kinds)
                if "any" in node:
                    node["cancel"] = rng.random() < 0.7
                    if rng.random() < 0.3:
                        node["then"] = [self._leaf("act", owner, depth) for _ in node["any"]]
            case "evt_or_timer":
                node = {"any": [self._leaf("evt", owner, depth), self._leaf("timer", owner, depth)], "cancel": True}
            case "status":
                node = {"status": self._key()}
            case "raise":
                if rng.random() > 0.15:
                    return None
                node = {"raise": self._key()}
            case "tell":
                node = {"tell": rng.choice(self._hearers), "evt": rng.choice(NAMES), "key": self._key()}
            case "next" | "version":
                return None
            case "sig":
                delay = rng.choice((None, None, None, 500, 9000))
                node = {"sig": rng.choice(self._boxes), **self._operation(), "delay": delay}
            case "lock":
                node = self._section(owner)
            case _:
                node = self._leaf(kind, owner, depth)
        if rng.random() < (0.4 if "flaky" in kinds else 0.8):
            node["catch"] = True
        return node

    def _combination(self, kind: str, owner: str | None, depth: int, kinds: list[str], nesting: int = 2) -> Node:
        rng = self._rng
        how = rng.choice(("all", "any")) if kind == "nest" else kind
        size = rng.randint(1, 8) if kind == "all" and rng.random() < 0.2 else rng.randint(1, 3)
        simple = [each for each in kinds if each in SIMPLE] or ["act"]
        parts: list[Node] = []
        for _ in range(size):
            if kind == "nest" and nesting and rng.random() < 0.5:
                parts.append(self._combination(kind, owner, depth, kinds, nesting - 1))
            else:
                parts.append(self._leaf(rng.choice(simple), owner, depth))
        return {how: parts}

    def _section(self, owner: str | None) -> Node:
        """Calls of the locked entities, and what takes its time; in a section nobody else may be waited for."""
        rng = self._rng
        locked = sorted(rng.sample(self._boxes, rng.randint(1, len(self._boxes))))
        body: list[Node] = []
        for _ in range(rng.randint(1, 4)):
            luck = rng.random()
            if luck < 0.55:
                body.append({"ent": rng.choice(locked), **self._operation()})
            elif luck < 0.8:
                body.append(self._leaf(rng.choice(("act", "timer")), owner, 0))
            elif luck < 0.9:
                body.append({"all": [{"ent": rng.choice(locked), **self._operation()} for _ in range(3)]})
            elif luck < 0.95:
                body.append({"raise": self._key()})
            else:
                body.append({"any": [{"ent": rng.choice(locked), **self._operation()}, {"timer": 500}], "cancel": True})
            if rng.random() < 0.7:
                body[-1]["catch"] = True
        return {"lock": locked, "body": body, "keeps": False}

    def _operation(self) -> Node:
        operation = self._rng.choice(OPERATIONS)
        given = {"token": self._key()}
        if operation == "pass":
            given["to"] = self._rng.choice(self._boxes)
        return {"operation": operation, "given": given}

    def _leaf(self, kind: str, owner: str | None, depth: int) -> Node:
        rng = self._rng
        if kind == "ent":
            return {"ent": rng.choice(self._boxes), **self._operation()}
        if kind == "timer":
            return {"timer": rng.choice(MILLISECONDS)}
        if kind == "evt":
            return {"evt": rng.choice(NAMES)}
        if kind == "late":
            return {"evt": rng.choice(NAMES), "within": rng.choice(MILLISECONDS)}
        node = self._child(owner, depth) if kind == "sub" and depth > 0 else self._activity(kind)
        if "retry" in self._kinds and (kind == "retry" or rng.random() < 0.3):
            node["retry"] = {
                "first": rng.choice((1, 20, 500, 3000)),
                "attempts": rng.randint(1, 4),
                "factor": rng.choice((1.0, 2.0)),
                "longest": rng.choice((1000, 100_000)),
                "timeout": rng.choice((None, None, 2000)),
            }
        return node

    def _activity(self, kind: str) -> Node:
        rng = self._rng
        if kind == "poison" and rng.random() < 0.3:
            return {"act": self._key(), "fails": KILLS}
        if kind == "flaky" or ("flaky" in self._kinds and rng.random() < 0.3):
            return {"act": self._key(), "fails": rng.choice((1, 1, 2, 3, 5))}
        return {"act": self._key(), "fails": ALWAYS if rng.random() < 0.1 else 0}

    def _child(self, owner: str | None, depth: int) -> Node:
        if self._shared_ids and self._rng.random() < 0.4:
            child = self.program(None, depth=0, steps_max=2, events=False)
            return {"sub": child, "id": self._rng.choice(self._shared_ids)}
        child_id = None if owner is None or self._rng.random() < 0.5 else f"{owner}.{self._key()}"
        return {"sub": self.program(child_id, depth=depth - 1, steps_max=3), "id": child_id}

    def _key(self) -> str:
        self._count += 1
        return f"k{self._count}"


WAITS = frozenset({"evt", "evt_or_timer", "late"})
SIMPLE = frozenset({"act", "timer", "evt", "late", "sub", "flaky", "retry", "ent"})
