"""The entities of the simulator: boxes that keep whatever is put into them, in order.

An operation's input is `{"token": text}`, and `"to"` beside it where the operation is passed on. The state is the list
of tokens, so whatever was lost, doubled or put in another order can be read off it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime

from msgspec import Struct, field

from perdure.core.entities import BatchResult, EntityAction, OperationResult, Signal
from perdure.core.events import (
    EntityLock,
    EntityLockGranted,
    EntityOperation,
    EntityOperationCompleted,
    EntityOperationFailed,
    EntityUnlock,
    HistoryEvent,
    ParentInstance,
)
from perdure.core.failures import FailureDetails
from perdure.core.records import Checkpoint, EntityState, Message

BOX = "box"
OPERATIONS = ("add", "add", "add", "add", "add", "pass", "fail", "empty")


def box_id(number: int) -> str:
    """The instance id of the so-manieth box."""
    return f"@{BOX}@e{number}"


def operate(state: str | None, operation: EntityOperation) -> tuple[str | None, OperationResult]:
    """Run an operation; returns the state that it leaves, and its result."""
    given = json.loads(operation.input or "null")
    content = json.loads(state or "[]")
    token = given["token"]
    actions: tuple[EntityAction, ...] = ()
    match operation.operation:
        case "fail":
            return state, OperationResult(None, FailureDetails("ValueError", token))
        case "empty":
            return None, OperationResult(json.dumps(f"{token} emptied it of {len(content)}"))
        case "pass":
            actions = (Signal(given["to"], "add", json.dumps({"token": f"{token} passed on"})),)
        case _:
            pass
    content.append(token)
    return json.dumps(content), OperationResult(json.dumps(f"{token} is number {len(content)}"), None, actions)


def operate_all(state: str | None, operations: Sequence[EntityOperation]) -> BatchResult:
    """Run a batch."""
    results: list[OperationResult] = []
    for operation in operations:
        state, result = operate(state, operation)
        results.append(result)
    return BatchResult(results, state)


# ---------------------------------------------------------------------- what a box must be


class Box(Struct):
    """An entity as its commits made it.

    Attributes:
        states: all that it has had, the latest last.
        execution_id, position: of its row, as long as there is one.
        lock_moved_at: when it was last locked or freed.
        batches_s: how long the code of the latest two batches ran; mail waits for the one, and is used up by the other.
        last_taken: by sender, the place of the latest operation of theirs that it has run.
    """

    instance_id: str
    states: list[str | None]
    lock: ParentInstance | None = None
    execution_id: str | None = None
    position: int = 0
    lock_moved_at: float = 0.0
    batches_s: tuple[float, float] = (0.0, 0.0)
    last_taken: dict[str, int] = field(default_factory=dict)

    @property
    def is_stored(self) -> bool:
        """There is a row."""
        return self.execution_id is not None

    @property
    def state(self) -> EntityState:
        """What its row must say."""
        return EntityState(self.states[-1], self.lock)

    def follows(self, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint was computed from what is stored."""
        if not self.is_stored:
            return checkpoint.creates
        return (self.execution_id, self.position) == (checkpoint.execution_id, checkpoint.position)

    def take(self, mail: Sequence[Message], now: datetime) -> Iterator[tuple[str, str] | Message]:
        """Do what the mail that a checkpoint used up says, in its order; gives what that sends, and breaches."""
        state = self.states[-1]
        name = self.instance_id
        withdrawn: ParentInstance | None = None
        for place, message in enumerate(mail):
            event = message.event
            following = mail[place + 1].event if place + 1 < len(mail) else None
            match event:
                case EntityOperation():
                    if self.lock is not None and not is_of(event.caller, self.lock):
                        yield "K1", f"{name} ran {event.operation} {event.input} while it was locked for {self.lock}"
                    state, result = operate(state, event)
                    yield from _sent(message, event, result, now)
                case EntityLock() if self.lock is not None:
                    is_withdrawn = isinstance(following, EntityUnlock) and following.owner == event.owner
                    withdrawn = event.owner
                    if not is_withdrawn:
                        yield "K1", f"{name} was locked for {event.owner} while it was locked for {self.lock}"
                case EntityLock():
                    self.lock = event.owner
                    next_place = event.place + 1
                    if next_place < len(event.entities):
                        further: HistoryEvent = EntityLock(now, event.owner, event.entities, next_place)
                        yield Message(f"{message.message_id}/next", event.entities[next_place], None, further)
                    else:
                        further = EntityLockGranted(now, event.owner.task_id)
                        owner = event.owner
                        yield Message(f"{message.message_id}/next", owner.instance_id, owner.execution_id, further)
                case EntityUnlock():
                    next_place = event.place + 1
                    if self.lock == event.owner:
                        self.lock = None
                        if next_place < len(event.entities):
                            further = EntityUnlock(now, event.owner, event.entities, next_place)
                            yield Message(f"{message.message_id}/next", event.entities[next_place], None, further)
                    elif event.owner != withdrawn:
                        yield "K2", f"{name} was to be freed for {event.owner}, but had its lock for {self.lock}"
                    withdrawn = None
                case _:
                    yield "M2", f"{name} was sent {event}"
        self.states.append(state)


def _sent(message: Message, event: EntityOperation, result: OperationResult, now: datetime) -> Iterator[Message]:
    for number, action in enumerate(result.actions):
        assert isinstance(action, Signal)
        signal = EntityOperation(now, action.operation, action.input)
        yield Message(f"{message.message_id}/{number}", action.instance_id, None, signal)
    caller = event.caller
    if caller is None:
        return
    answer: HistoryEvent = (
        EntityOperationCompleted(now, caller.task_id, result.result)
        if result.failure is None
        else EntityOperationFailed(now, caller.task_id, result.failure)
    )
    yield Message(f"{message.message_id}/answer", caller.instance_id, caller.execution_id, answer)


def is_of(caller: ParentInstance | None, owner: ParentInstance) -> bool:
    """Whether an operation comes from the execution that has the lock."""
    return caller is not None and (caller.instance_id, caller.execution_id) == (owner.instance_id, owner.execution_id)
