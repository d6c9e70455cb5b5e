"""What an orchestrator yields: atomic tasks, and tasks made of tasks.

Rule 1: a task changes only when the cursor applies a history event, or the orchestrator cancels it.
Rule 2: settling is a loop, never a recursion; a composite counts what is open and never scans it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from datetime import datetime
from enum import IntEnum
from typing import Any, Protocol

from perdure.core.actions import CreateSubOrchestration, CreateTimer, OrchestratorAction, ScheduleTask


class Listener(Protocol):
    """The cursor, told what the orchestrator does with a task besides waiting for it."""

    def timer_cancelled(self, timer: TimerTask) -> None:
        """The orchestrator gave `timer` up."""
        ...

    def event_asked_for(self, task: EventTask) -> None:
        """The orchestrator looks whether `task` has its event."""
        ...


class TaskState(IntEnum):
    """Where a task stands. Source: SDK 1.x `TaskState`."""

    RUNNING = 0
    SUCCEEDED = 1
    FAILED = 2


class Task:
    """Something an orchestrator can wait for, with `yield` or with `await`.

    Attributes:
        id: place in the order of the orchestrator's decisions; None until first yielded, and for events and composites.
        state: running, succeeded or failed.
        result: the value of a task that succeeded, the exception of one that failed, None before.
        settled_at: how many tasks of this execution settled before; None while running.
    """

    __slots__ = ("id", "is_scheduled", "result", "settled_at", "state", "waiting")

    def __init__(self) -> None:
        self.id: int | None = None
        self.is_scheduled = False
        self.state = TaskState.RUNNING
        self.result: Any = None
        self.settled_at: int | None = None
        self.waiting: list[TaskAll | TaskAny] = []

    @property
    def is_completed(self) -> bool:
        """The task succeeded or failed."""
        return self.state is not TaskState.RUNNING

    def is_part_of(self, root: Task) -> bool:
        """This is `root`, or `root` is made of it and still open."""
        stack: list[Task] = [self]
        while stack:
            task = stack.pop()
            if task is root:
                return True
            stack.extend(composite for composite in task.waiting if composite.state is TaskState.RUNNING)
        return False

    def __await__(self) -> Generator[Task, Any, Any]:
        return (yield self)

    def settle(self, state: TaskState, result: Any, order: int) -> None:
        """Settle this task, and every composite that this decides. Told by the cursor, which counts in `order`."""
        settled: list[tuple[Task, TaskState, Any]] = [(self, state, result)]
        for task, reached, value in settled:  # grows while it runs
            if task.state is not TaskState.RUNNING:
                continue
            task.state, task.result, task.settled_at = reached, value, order
            for composite in task.waiting:
                decision = composite.child_settled(task)
                if decision is not None:
                    settled.append((composite, *decision))
            task.waiting = []


class AtomicTask(Task):
    """One decision of the orchestrator, answered by one event."""

    __slots__ = ("kind",)

    def __init__(self, kind: type | None = None) -> None:
        super().__init__()
        self.kind = kind

    def to_action(self, event_id: int) -> OrchestratorAction:
        """The action that puts this task into the history."""
        raise NotImplementedError


class ActivityCall(AtomicTask):
    """A call of an activity; `input` is JSON text."""

    __slots__ = ("input", "name")

    def __init__(self, name: str, input: str | None, kind: type | None = None) -> None:
        super().__init__(kind)
        self.name = name
        self.input = input

    def to_action(self, event_id: int) -> OrchestratorAction:
        return ScheduleTask(event_id, self.name, self.input)


class SubOrchestrationCall(AtomicTask):
    """A call of a child orchestration; `input` is JSON text."""

    __slots__ = ("input", "instance_id", "name", "version")

    def __init__(
        self, name: str, input: str | None, instance_id: str | None, version: str | None, kind: type | None = None
    ) -> None:
        super().__init__(kind)
        self.name = name
        self.input = input
        self.instance_id = instance_id
        self.version = version

    def to_action(self, event_id: int) -> OrchestratorAction:
        return CreateSubOrchestration(event_id, self.name, self.input, self.instance_id, self.version)


class TimerTask(AtomicTask):
    """A durable timer; its result is None."""

    __slots__ = ("cursor", "fire_at", "is_cancelled")

    def __init__(self, fire_at: datetime, cursor: Listener) -> None:
        super().__init__()
        self.fire_at = fire_at
        self.cursor = cursor
        self.is_cancelled = False

    def to_action(self, event_id: int) -> OrchestratorAction:
        return CreateTimer(event_id, self.fire_at)

    def cancel(self) -> None:
        """Give the timer up; cancelling twice does nothing.

        Raises:
            ValueError: the timer has already fired.
        """
        if self.is_completed:
            raise ValueError("Cannot cancel a completed task.")
        if not self.is_cancelled:
            self.is_cancelled = True
            self.cursor.timer_cancelled(self)


class EventTask(AtomicTask):
    """A wait for an external event; its result is the event's data.

    While the code waits for something else, events of this name are kept, for this wait or another one: whichever the
    code yields next, or looks at.
    """

    __slots__ = ("cursor", "name")

    def __init__(self, name: str, cursor: Listener, kind: type | None = None) -> None:
        super().__init__(kind)
        self.name = name
        self.cursor = cursor

    @property
    def is_completed(self) -> bool:
        if self.state is TaskState.RUNNING and self.is_scheduled:
            self.cursor.event_asked_for(self)
        return self.state is not TaskState.RUNNING


class TaskAll(Task):
    """Succeeds with the results in order when all children have, and fails with the first that fails."""

    __slots__ = ("children", "open")

    def __init__(self, children: Iterable[Task]) -> None:
        super().__init__()
        self.children = _tasks(children)
        self.open = 0
        for child in self.children:
            if child.state is TaskState.RUNNING:
                self.open += 1
                child.waiting.append(self)
        failed = _first_settled(each for each in self.children if each.state is TaskState.FAILED)
        if failed is not None:
            self.settle(TaskState.FAILED, failed.result, failed.settled_at or 0)
        elif not self.open:
            order = max((each.settled_at or 0 for each in self.children), default=0)
            self.settle(TaskState.SUCCEEDED, [each.result for each in self.children], order)

    def child_settled(self, child: Task) -> tuple[TaskState, Any] | None:
        """What this composite becomes now that `child` has settled, or None while that is open."""
        if child.state is TaskState.FAILED:
            return TaskState.FAILED, child.result
        self.open -= 1
        return None if self.open else (TaskState.SUCCEEDED, [each.result for each in self.children])


class TaskAny(Task):
    """Succeeds with the child that settles first, whether that succeeded or failed."""

    __slots__ = ("children",)

    def __init__(self, children: Iterable[Task]) -> None:
        super().__init__()
        self.children = _tasks(children)
        if not self.children:
            raise ValueError("task_any needs at least one task: an empty list could never complete.")
        for child in self.children:
            child.waiting.append(self)
        first = _first_settled(each for each in self.children if each.state is not TaskState.RUNNING)
        if first is not None:
            self.settle(TaskState.SUCCEEDED, first, first.settled_at or 0)

    def child_settled(self, child: Task) -> tuple[TaskState, Any] | None:
        """What this composite becomes now that `child` has settled."""
        return TaskState.SUCCEEDED, child


def _first_settled(tasks: Iterable[Task]) -> Task | None:
    """The one that settled first in history; `min` keeps list order among equals."""
    return min(tasks, key=lambda task: task.settled_at or 0, default=None)


def _tasks(children: Iterable[Task]) -> Sequence[Task]:
    tasks: list[Any] = list(children)
    for task in tasks:
        if not isinstance(task, Task):
            raise TypeError(f"expected tasks, such as context.call_activity(...) returns, but got {task!r}")
    return tasks
