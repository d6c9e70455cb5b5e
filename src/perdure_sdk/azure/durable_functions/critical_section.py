"""Locks of entities that an orchestration holds, and what it must not do meanwhile."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from perdure.core.cursor import OrchestrationCursor
from perdure.core.tasks import EntityCall, LockTask, Routine


class LockingRulesViolationError(Exception):
    """Raised by the context if an orchestration does what it must not do while it holds locks, or waits for them."""


class CriticalSection:
    """The time between getting locks and giving them back; leaving it gives them back.

    Attributes:
        entities: instance ids of the locked entities, in the order in which they were locked.
    """

    def __init__(self, cursor: OrchestrationCursor, lock: LockTask) -> None:
        self.entities = lock.entities
        self._cursor = cursor
        self._lock = lock
        self._calls: dict[str, EntityCall] = {}
        self.is_over = False

    @property
    def is_held(self) -> bool:
        """The locks have been granted and not given back."""
        return self._lock.is_completed and not self.is_over

    def check_call(self, entity_id: str) -> None:
        """Refuse a call that could wait for ever, or break the isolation.

        Raises:
            LockingRulesViolationError: with what is wrong.
        """
        if not self._lock.is_completed:
            raise LockingRulesViolationError(
                "Must await the completion of the lock request prior to calling any entity."
            )
        if entity_id not in self.entities:
            raise LockingRulesViolationError(
                "Must not call an entity from a critical section if it is not one of the locked entities."
            )
        pending = self._calls.get(entity_id)
        if pending is not None and not pending.is_completed:
            raise LockingRulesViolationError(
                "Must not call an entity from a critical section while a prior call to the same entity is still "
                "pending."
            )

    def called(self, call: EntityCall) -> None:
        """Note a call of one of the locked entities."""
        self._calls[call.instance_id] = call

    def check_signal(self, entity_id: str) -> None:
        """Refuse a signal to a locked entity.

        Raises:
            LockingRulesViolationError: it is one.
        """
        if entity_id in self.entities:
            raise LockingRulesViolationError("Must not signal a locked entity from a critical section.")

    def check_child(self) -> None:
        """Refuse a sub-orchestration: it could wait for the very locks that its caller holds.

        Raises:
            LockingRulesViolationError: locks are held or waited for.
        """
        if not self.is_over:
            raise LockingRulesViolationError("While holding locks, cannot call suborchestrators.")

    def release(self) -> None:
        """Give the locks back; once is enough."""
        if not self.is_over and self._lock.id is not None:
            self.is_over = True
            self._cursor.unlock(self._lock.id)

    def __enter__(self) -> CriticalSection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not GeneratorExit:  # given up by the host: whatever the code does now has no effect
            self.release()


class Locking(Routine):
    """Waits for locks; its result is the `CriticalSection`. For `async with` it is the section itself."""

    __slots__ = ("section",)

    def __init__(self, cursor: OrchestrationCursor, lock: LockTask) -> None:
        self.section = CriticalSection(cursor, lock)
        super().__init__(self._wait(lock), cursor)

    def _wait(self, lock: LockTask) -> Any:
        yield lock
        return self.section

    async def __aenter__(self) -> CriticalSection:
        return await self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.section.__exit__(kind, error, trace)
