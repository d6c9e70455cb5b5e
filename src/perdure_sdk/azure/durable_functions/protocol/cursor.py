"""An orchestrator that is replayed for the official host.

Rule 1: decisions are numbered by the cursor as ever, and the host counts alike; the answer has no numbers, so it lists
        them in that order, and what the host decides by itself (retries, polling) is numbered but not listed.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from azure.durable_functions.protocol.history import (
    WireFailure,
    events_of,
    first_time,
    parent_of,
    version_of,
)
from azure.durable_functions.protocol.request import ReplayRequest, wire_time
from azure.durable_functions.protocol.state import OrchestratorFailed, OrchestratorState

from perdure.core.actions import CompleteOrchestration
from perdure.core.codec import payloads
from perdure.core.cursor import OrchestrationCursor, Orchestrator
from perdure.core.failures import FailureDetails, TaskFailedError, text_of
from perdure.core.tasks import AtomicTask, CompoundTask, Routine, Task, TaskAny, TimerTask
from perdure.core.wire_actions import WireAction, continue_as_new, signal_entity, when_all, when_any


class HostRoutine(Routine):
    """A routine that the host runs by itself: one action, and the code only counts along."""

    __slots__ = ()


class _Group:
    """A composite, and those of its children that it was the first to wait for."""

    def __init__(self, composite: CompoundTask, members: list[_Entry]) -> None:
        self.composite = composite
        self.members = members


class _Begun:
    """A routine of our own: in its place stands the first task that it began, if there was one."""

    def __init__(self) -> None:
        self.entry: _Entry | None = None


_Entry = Task | WireAction | _Group | _Begun


class ReplayCursor(OrchestrationCursor):
    """A cursor for one replay: it takes a request, and gives the answer.

    Args:
        request: what the host sent.
    """

    __slots__ = ("_begun", "_entries", "_failed_after_continuing", "_raised", "request")

    def __init__(self, request: ReplayRequest) -> None:
        super().__init__(request.instance_id, _no_code, payloads)
        self.request = request
        self.input = request.input
        self.now = wire_time(first_time(request))
        self.parent = parent_of(request)
        self.version = version_of(request)
        self._entries: list[_Entry] = []
        self._begun: dict[Routine, _Begun] = {}
        self._raised: BaseException | None = None
        self._failed_after_continuing: str | None = None

    def run(self, orchestrator: Orchestrator) -> str:
        """Replay the code and return the answer, as the host wants it.

        Raises:
            OrchestratorFailed: the code failed; its text has the answer.
        """
        self._orchestrator = orchestrator
        output: str | None = None
        for event, is_played in events_of(self.request):
            self.is_replaying = is_played
            for action in self.advance((event,)):
                if isinstance(action, CompleteOrchestration):
                    output = action.result
            if self.is_done:
                break
        if not self.is_done:
            self.close()
            return self._state(False, None).to_json_string()
        if self._raised is None:
            return self._state(True, output).to_json_string()
        message = text_of(self._raised)
        state = self._state(self._failed_after_continuing is not None, None, message or str(type(self._raised)))
        raise OrchestratorFailed(message, state) from self._raised

    def signal_entity(self, instance_id: str, operation: str, input: str | None, deliver_at: datetime | None) -> None:
        """Send an operation to an entity, and list that."""
        if not self.is_done:
            self._take_number()
            self._entries.append(signal_entity(instance_id, operation, input, deliver_at))

    def begin(self, task: Task, routine: Routine) -> None:
        """Number a routine's next task, and list it if the host does not begin it by itself."""
        if isinstance(routine, HostRoutine):
            super()._number(task)
            return
        entry = self._entry(task, set())
        begun = self._begun.pop(routine, None)
        if begun is not None:
            begun.entry = entry
        elif entry is not None:
            self._entries.append(entry)
        super()._number(task)

    def _number(self, root: Task) -> None:
        entry = self._entry(root, set())
        if entry is not None:
            self._entries.append(entry)
        super()._number(root)

    def _entry(self, task: Task, listed: set[Task]) -> _Entry | None:
        """What is to be listed for a task that is waited for from now on; None for what is listed already."""
        if task.is_scheduled or task in listed or (isinstance(task, TimerTask) and task.is_cancelled):
            return None
        listed.add(task)
        match task:
            case CompoundTask():
                entries = (self._entry(child, listed) for child in task.children)
                return _Group(task, [each for each in entries if each is not None])
            case Routine() if not isinstance(task, HostRoutine):
                begun = self._begun[task] = _Begun()
                return begun
            case _:
                return task

    def _raised_by(self, task: AtomicTask, failure: FailureDetails) -> TaskFailedError | None:
        if not isinstance(failure, WireFailure):
            return super()._raised_by(task, failure)
        error = TaskFailedError(failure.reason, failure)
        error.args = (failure.text,)
        return error

    def _fail(self, error: BaseException) -> None:
        self._raised = error
        self._failed_after_continuing = self._continued
        super()._fail(error)

    # ------------------------------------------------------------------ the answer

    def _state(self, is_done: bool, output: str | None, error: str | None = None) -> OrchestratorState:
        actions = [each for entry in self._entries if (each := _written(entry)) is not None]
        continued = self._continued or self._failed_after_continuing
        if continued is not None:
            actions.append(continue_as_new(continued))
        return OrchestratorState(
            is_done, actions, self.request.schema, _value(output), error, _value(self.custom_status)
        )


def _written(entry: _Entry | None) -> WireAction | None:
    match entry:
        case WireAction() | None:
            return entry
        case Task():
            return entry.action_repr
        case _Begun():
            return _written(entry.entry)
        case _Group():
            parts = [each for member in entry.members if (each := _written(member)) is not None]
            if not parts:
                return None
            return when_any(parts) if isinstance(entry.composite, TaskAny) else when_all(parts)


def _value(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _no_code(cursor: OrchestrationCursor) -> None:
    """Stands in the orchestrator's place until `run` says which it is."""
