"""What an entity is between batches, which of its mail makes the next batch, and what that changes.

Rule 1: mail is taken in the order in which it lies in the mailbox. What an entity locked by another must not do yet
        stays there: the mailbox is the only queue, and survives whatever the entity does.
Rule 2: a batch's results, state and messages are one checkpoint; an operation counts once, however often it was run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from perdure.core.events import (
    EntityLock,
    EntityLockGranted,
    EntityOperation,
    EntityOperationCompleted,
    EntityOperationFailed,
    EntityUnlock,
    ExecutionStarted,
    HistoryEvent,
    ParentInstance,
)
from perdure.core.failures import FailureDetails
from perdure.core.instance_ids import derived_id
from perdure.core.records import Checkpoint, EntityState, Instance, Message, RuntimeStatus


class Signal(Struct, frozen=True, gc=False):
    """An operation that an entity's code sent to an entity. `input` is JSON text."""

    instance_id: str
    operation: str
    input: str | None = None
    deliver_at: datetime | None = None


class OrchestrationStart(Struct, frozen=True, gc=False):
    """An orchestration that an entity's code started. `input` is JSON text."""

    name: str
    input: str | None = None
    instance_id: str | None = None
    version: str | None = None


EntityAction = Signal | OrchestrationStart


class OperationRules:
    """How operations run in this process.

    Attributes:
        rolls_back: one that raises changes nothing and sends nothing.
    """

    def __init__(self) -> None:
        self.rolls_back = True


operation_rules = OperationRules()
"""The host sets it from host.json before it runs anything."""


class OperationResult(Struct, frozen=True, gc=False):
    """What one operation came to: its result as JSON text, or its failure, and what it decided."""

    result: str | None = None
    failure: FailureDetails | None = None
    actions: tuple[EntityAction, ...] = ()


class BatchResult(Struct, frozen=True, gc=False):
    """What a batch came to: one result per operation, in order, and the state that they left (JSON text, or None)."""

    results: Sequence[OperationResult]
    state: str | None


class EntityBatch(Struct, frozen=True, gc=False):
    """What an entity is to do next.

    Attributes:
        now: the batch's time.
        operations: to be run in this order.
        lock: who has the lock after the batch.
        used: the mail that is used up, operations included.
        messages: what taking and giving locks sends.
        rest: mail for later, in order.
        is_cut: some of the rest could run now, but the batch is full.
    """

    now: datetime
    operations: Sequence[Message]
    lock: ParentInstance | None
    used: Sequence[Message]
    messages: Sequence[Message]
    rest: Sequence[Message]
    is_cut: bool


class Entity:
    """An entity in memory.

    Attributes:
        instance: its row, as it is or would be.
        position: how many checkpoints the row has seen.
        is_stored: there is a row.
    """

    __slots__ = ("instance", "is_stored", "position")

    is_finished = False

    def __init__(self, instance: Instance, position: int, *, is_stored: bool = True) -> None:
        self.instance = instance
        self.position = position
        self.is_stored = is_stored

    @classmethod
    def unborn(cls, instance_id: str, cause: str, now: datetime) -> Entity:
        """An entity that nothing is stored about; `cause` is the id of the message that calls it into being."""
        execution_id = derived_id(cause, instance_id)
        name = instance_id.split("@", 2)[1]
        row = Instance(
            instance_id, execution_id, name, RuntimeStatus.RUNNING, now, now, execution_id, entity=EntityState()
        )
        return cls(row, 0, is_stored=False)

    @property
    def state(self) -> EntityState:
        """Its user's state and its lock."""
        return self.instance.entity or EntityState()

    def accept(self, mail: Sequence[Message], now: datetime, batch_max: int) -> EntityBatch:
        """Choose from mail what the entity does next.

        Args:
            mail: all of it, in order.
            now: the engine's time; the batch's own is never before the last one's.
            batch_max: operations in one batch.
        """
        now = max(now, self.instance.updated_at)
        chosen = _Choice(self.instance.instance_id, self.state.lock, now)
        rest = chosen.of(mail, batch_max)
        return EntityBatch(
            now,
            chosen.operations,
            chosen.lock,
            chosen.used,
            chosen.messages,
            rest,
            len(chosen.operations) >= batch_max and bool(rest),
        )

    def apply(self, batch: EntityBatch, result: BatchResult) -> Checkpoint:
        """Turn a batch and what came of it into its checkpoint; this entity becomes what follows it."""
        messages = list(batch.messages)
        children: list[Instance] = []
        for message, each in zip(batch.operations, result.results, strict=True):
            messages += _answer(message, each, batch.now)
            for number, action in enumerate(each.actions):
                cause = f"{message.message_id}/{number}"
                if isinstance(action, Signal):
                    signal = EntityOperation(batch.now, action.operation, action.input)
                    messages.append(Message(cause, action.instance_id, None, signal, action.deliver_at))
                else:
                    child, start = _started(action, cause, batch.now)
                    children.append(child)
                    messages.append(start)
        row = replace(self.instance, entity=EntityState(result.state, batch.lock), updated_at=batch.now)
        deletes = result.state is None and batch.lock is None
        checkpoint = Checkpoint(
            instance=row,
            execution_id=row.execution_id,
            position=self.position,
            events=(),
            messages=tuple(messages),
            children=tuple(children),
            consumed=tuple(message.message_id for message in batch.used if message.is_stored),
            changes_open_work=False,
            creates=not self.is_stored,
            deletes=deletes,
        )
        self._move(row, deletes)
        return checkpoint

    def _move(self, row: Instance, deletes: bool) -> None:
        self.is_stored = not deletes
        if deletes:  # whatever comes next is another life
            next_id = derived_id(row.execution_id, "next")
            row = replace(row, execution_id=next_id, created_by=next_id, created_at=row.updated_at)
        self.instance = row
        self.position = 0 if deletes else self.position + 1


class _Choice:
    """Which mail an entity takes now, under which lock."""

    def __init__(self, instance_id: str, lock: ParentInstance | None, now: datetime) -> None:
        self.lock = lock
        self.operations: list[Message] = []
        self.used: list[Message] = []
        self.messages: list[Message] = []
        self._instance_id = instance_id
        self._now = now

    def of(self, mail: Sequence[Message], batch_max: int) -> list[Message]:
        """Take what may be taken; returns the rest in order."""
        waiting = list(mail)
        place = 0
        while place < len(waiting) and len(self.operations) < batch_max:
            message = waiting[place]
            had_lock, count = self.lock, len(waiting)
            if not self._take(message, waiting):
                place += 1
                continue
            is_withdrawn = len(waiting) < count  # a request for the lock, perhaps one that stood before this
            waiting.remove(message)
            self.used.append(message)
            if is_withdrawn or (had_lock is not None and self.lock is None):
                place = 0  # what the lock held up comes first
        return waiting

    def _take(self, message: Message, waiting: list[Message]) -> bool:
        event = message.event
        match event:
            case EntityOperation():
                if self.lock is not None and not _is_of(event.caller, self.lock):
                    return False
                self.operations.append(message)
            case EntityLock():
                if self.lock is not None:
                    return False
                self.lock = event.owner
                self._pass_on(event, f"{message.message_id}/next")
            case EntityUnlock():
                self._unlock(event, f"{message.message_id}/next", waiting)
            case _:
                pass  # nothing that an entity could do anything with
        return True

    def _pass_on(self, event: EntityLock, message_id: str) -> None:
        owner, place = event.owner, event.place + 1
        if place < len(event.entities):
            following = EntityLock(self._now, owner, event.entities, place)
            self.messages.append(Message(message_id, event.entities[place], None, following))
        else:
            granted = EntityLockGranted(self._now, owner.task_id)
            self.messages.append(Message(message_id, owner.instance_id, owner.execution_id, granted))

    def _unlock(self, event: EntityUnlock, message_id: str, waiting: list[Message]) -> None:
        if self.lock == event.owner:
            self.lock = None
            place = event.place + 1
            if place < len(event.entities):
                following = EntityUnlock(self._now, event.owner, event.entities, place)
                self.messages.append(Message(message_id, event.entities[place], None, following))
            return
        for message in waiting:  # its request has come no further than here, and goes no further
            if isinstance(message.event, EntityLock) and message.event.owner == event.owner:
                waiting.remove(message)
                self.used.append(message)
                return


def _is_of(caller: ParentInstance | None, owner: ParentInstance) -> bool:
    """Whether a call comes from the execution that has the lock."""
    return caller is not None and (caller.instance_id, caller.execution_id) == (owner.instance_id, owner.execution_id)


def _answer(message: Message, result: OperationResult, now: datetime) -> Iterable[Message]:
    caller = message.event.caller if isinstance(message.event, EntityOperation) else None
    if caller is None:
        return ()
    event: HistoryEvent = (
        EntityOperationCompleted(now, caller.task_id, result.result)
        if result.failure is None
        else EntityOperationFailed(now, caller.task_id, result.failure)
    )
    return (Message(f"{message.message_id}/answer", caller.instance_id, caller.execution_id, event),)


def _started(action: OrchestrationStart, cause: str, now: datetime) -> tuple[Instance, Message]:
    execution_id = derived_id(cause, "start")
    instance_id = action.instance_id or derived_id(cause, "instance")
    row = Instance(
        instance_id,
        execution_id,
        action.name,
        RuntimeStatus.PENDING,
        now,
        now,
        execution_id,
        input=action.input,
        version=action.version,
    )
    start = ExecutionStarted(now, execution_id, action.name)
    return row, Message(f"{execution_id}/start", instance_id, execution_id, start)
