"""What an orchestrator yields: atomic tasks, and tasks made of tasks.

Rule 1: a task changes only when the cursor applies a history event, or the orchestrator cancels it.
Rule 2: settling is a loop, never a recursion; a composite counts what is open and never scans it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from datetime import datetime
from enum import IntEnum
from typing import Any, Protocol

from perdure.core.actions import (
    CallEntity,
    CreateSubOrchestration,
    CreateTimer,
    LockEntities,
    OrchestratorAction,
    ScheduleTask,
)
from perdure.core.conversion import ExpectedType
from perdure.core.wire_actions import (
    WireAction,
    call_activity,
    call_entity,
    call_sub_orchestrator,
    create_timer,
    wait_for_external_event,
    when_all,
    when_any,
)


class Listener(Protocol):
    """The cursor, told what happens to a task besides being waited for."""

    def timer_cancelled(self, timer: TimerTask) -> None:
        """The orchestrator gave `timer` up."""
        ...

    def event_asked_for(self, task: EventTask) -> None:
        """The orchestrator looks whether `task` has its event."""
        ...

    def wait_cancelled(self, task: EventTask) -> None:
        """The orchestrator gave the wait `task` up."""
        ...

    def begin(self, task: Task, routine: Routine) -> None:
        """`routine` waits for `task`, which is to be scheduled if it is not yet."""
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
        is_played: it settled while the code only caught up with what had already happened.
    """

    __slots__ = ("id", "is_played", "is_scheduled", "result", "settled_at", "state", "waiting")

    def __init__(self) -> None:
        self.id: int | None = None
        self.is_scheduled = False
        self.state = TaskState.RUNNING
        self.result: Any = None
        self.settled_at: int | None = None
        self.is_played = False
        self.waiting: list[TaskAll | TaskAny | Routine] = []

    @property
    def is_completed(self) -> bool:
        """The task succeeded or failed."""
        return self.state is not TaskState.RUNNING

    @property
    def parent(self) -> Task | None:
        """The task, made of others, that waits for this one; None if there is none, and once this has ended."""
        return self.waiting[-1] if self.waiting else None

    @property
    def action_repr(self) -> WireAction | None:
        """What the task is in the protocol of the official host; None if it is nothing there by itself."""
        return None

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
            task.state, task.result, task.settled_at, task.is_played = reached, value, order, self.is_played
            for composite in task.waiting:
                decision = composite.child_settled(task)
                if decision is not None:
                    settled.append((composite, *decision))
            task.waiting = []


class AtomicTask(Task):
    """One decision of the orchestrator, answered by one event; `expected` is what its result is to become."""

    __slots__ = ("expected",)

    def __init__(self, expected: ExpectedType | None = None) -> None:
        super().__init__()
        self.expected = expected

    def to_action(self, event_id: int) -> OrchestratorAction:
        """The action that puts this task into the history."""
        raise NotImplementedError


class ActivityCall(AtomicTask):
    """A call of an activity; `input` is JSON text."""

    __slots__ = ("input", "name")

    def __init__(self, name: str, input: str | None, expected: ExpectedType | None = None) -> None:
        super().__init__(expected)
        self.name = name
        self.input = input

    def to_action(self, event_id: int) -> OrchestratorAction:
        return ScheduleTask(event_id, self.name, self.input)

    @property
    def action_repr(self) -> WireAction:
        return call_activity(self.name, self.input)


class SubOrchestrationCall(AtomicTask):
    """A call of a child orchestration; `input` is JSON text."""

    __slots__ = ("input", "instance_id", "name", "tags", "version")

    def __init__(
        self,
        name: str,
        input: str | None,
        instance_id: str | None,
        version: str | None,
        expected: ExpectedType | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        super().__init__(expected)
        self.name = name
        self.input = input
        self.instance_id = instance_id
        self.version = version
        self.tags = tags

    def to_action(self, event_id: int) -> OrchestratorAction:
        return CreateSubOrchestration(event_id, self.name, self.input, self.instance_id, self.version, self.tags)

    @property
    def action_repr(self) -> WireAction:
        return call_sub_orchestrator(self.name, self.input, self.instance_id, self.version)


class EntityCall(AtomicTask):
    """A call of an operation of an entity; `input` is JSON text."""

    __slots__ = ("input", "instance_id", "operation")

    def __init__(self, instance_id: str, operation: str, input: str | None, kind: Any = None) -> None:
        super().__init__(kind)
        self.instance_id = instance_id
        self.operation = operation
        self.input = input

    def to_action(self, event_id: int) -> OrchestratorAction:
        return CallEntity(event_id, self.instance_id, self.operation, self.input)

    @property
    def action_repr(self) -> WireAction:
        return call_entity(self.instance_id, self.operation, self.input)


class LockTask(AtomicTask):
    """A request for the locks of entities, in their order for the whole hub; its result is None."""

    __slots__ = ("entities",)

    def __init__(self, entities: tuple[str, ...]) -> None:
        super().__init__()
        self.entities = entities

    def to_action(self, event_id: int) -> OrchestratorAction:
        return LockEntities(event_id, self.entities)


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

    @property
    def action_repr(self) -> WireAction:
        return create_timer(self.fire_at, self.is_cancelled)

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

    __slots__ = ("cursor", "is_cancelled", "name")

    def __init__(self, name: str, cursor: Listener, expected: ExpectedType | None = None) -> None:
        super().__init__(expected)
        self.name = name
        self.cursor = cursor
        self.is_cancelled = False

    def cancel(self) -> None:
        """Give the wait up: no event goes to it any more; cancelling twice does nothing.

        Raises:
            ValueError: it has its event already.
        """
        if self.state is not TaskState.RUNNING:  # to look at `is_completed` would be to read an event that is kept
            raise ValueError("Cannot cancel a completed task.")
        if not self.is_cancelled:
            self.is_cancelled = True
            self.cursor.wait_cancelled(self)

    @property
    def action_repr(self) -> WireAction:
        return wait_for_external_event(self.name)

    @property
    def is_completed(self) -> bool:
        if self.state is TaskState.RUNNING and self.is_scheduled:
            self.cursor.event_asked_for(self)
        return self.state is not TaskState.RUNNING


class CompoundTask(Task):
    """A task made of others.

    Attributes:
        children: the others, as listed.
    """

    __slots__ = ("children",)

    def __init__(self, children: Iterable[Task]) -> None:
        super().__init__()
        self.children = _tasks(children)

    @property
    def pending_tasks(self) -> set[Task]:
        """The children that are open."""
        return {each for each in self.children if each.state is TaskState.RUNNING}

    @property
    def completed_tasks(self) -> list[Task]:
        """The children that have succeeded or failed, in that order."""
        settled = (each for each in self.children if each.state is not TaskState.RUNNING)
        return sorted(settled, key=lambda task: task.settled_at or 0)


class TaskAll(CompoundTask):
    """Succeeds with the results in order when all children have, and fails with the first that fails."""

    __slots__ = ("open",)

    def __init__(self, children: Iterable[Task]) -> None:
        super().__init__(children)
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

    @property
    def action_repr(self) -> WireAction:
        return when_all(_actions(self.children))


class TaskAny(CompoundTask):
    """Succeeds with the child that settles first, whether that succeeded or failed."""

    __slots__ = ()

    def __init__(self, children: Iterable[Task]) -> None:
        super().__init__(children)
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

    @property
    def action_repr(self) -> WireAction:
        return when_any(_actions(self.children))


class Routine(Task):
    """Succeeds or fails as a small piece of orchestrator code does, which runs beside the orchestrator's own.

    Retries and the polling of HTTP calls are such pieces. The code is begun when this task is first waited for, and
    goes on whenever the task that it yielded has settled; its tasks are numbered as they are begun.

    Attributes:
        first_id: id of the first task that it began, None before.
    """

    __slots__ = ("_code", "_cursor", "first_id")

    def __init__(self, code: Generator[Task, Any, Any], cursor: Listener) -> None:
        super().__init__()
        self._code = code
        self._cursor = cursor
        self.first_id: int | None = None

    def start(self) -> tuple[TaskState, Any] | None:
        """Begin the code; what this task becomes at once, or None while it is open."""
        return self._run(None, None)

    def child_settled(self, child: Task) -> tuple[TaskState, Any] | None:
        """What this task becomes now that `child` has settled, or None while it is open."""
        failed = child.state is TaskState.FAILED
        return self._run(None, child.result) if failed else self._run(child.result, None)

    def _run(self, value: Any, error: BaseException | None) -> tuple[TaskState, Any] | None:
        while True:
            try:
                task = self._code.send(value) if error is None else self._code.throw(error)
                self._cursor.begin(task, self)
            except StopIteration as stop:
                return TaskState.SUCCEEDED, stop.value
            except Exception as raised:  # the failure that it gives up with, or what a user's predicate raised
                return TaskState.FAILED, raised
            if task.state is TaskState.RUNNING:
                task.waiting.append(self)
                return None
            value, error = (None, task.result) if task.state is TaskState.FAILED else (task.result, None)


def _actions(children: Iterable[Task]) -> Iterable[WireAction]:
    """What those of the children are that have not been waited for yet."""
    actions = (child.action_repr for child in children if not child.is_scheduled)
    return (each for each in actions if each is not None)


def _first_settled(tasks: Iterable[Task]) -> Task | None:
    """The one that settled first in history; `min` keeps list order among equals."""
    return min(tasks, key=lambda task: task.settled_at or 0, default=None)


def _tasks(children: Iterable[Task]) -> Sequence[Task]:
    tasks: list[Any] = list(children)
    for task in tasks:
        if not isinstance(task, Task):
            raise TypeError(f"expected tasks, such as context.call_activity(...) returns, but got {task!r}")
    return tasks
