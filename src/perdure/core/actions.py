"""What orchestrator code decided.

Rule 1: an action says what to do, never how or when; `RuntimeState.apply` turns it into events and effects.
Rule 2: `event_id` is the action's place in the order of decisions, and so the id of its history event.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from perdure.core.events import EventRaised
from perdure.core.failures import FailureDetails


class ScheduleTask(Struct, frozen=True, gc=False):
    """Call an activity."""

    event_id: int
    name: str
    input: str | None


class CreateTimer(Struct, frozen=True, gc=False):
    """Wake me at `fire_at`."""

    event_id: int
    fire_at: datetime


class CancelTimer(Struct, frozen=True, gc=False):
    """The timer `event_id` is no longer wanted. No history event: replay derives it again."""

    event_id: int


class CreateSubOrchestration(Struct, frozen=True, gc=False):
    """Call a child orchestration.

    `instance_id` None lets the engine choose, `version` None takes the host's, `tags` are added to the parent's.
    """

    event_id: int
    name: str
    input: str | None
    instance_id: str | None
    version: str | None
    tags: dict[str, str] | None = None


class SendEvent(Struct, frozen=True, gc=False):
    """Send an external event to another instance, whether there is one or not."""

    event_id: int
    instance_id: str
    name: str
    input: str | None


class CallEntity(Struct, frozen=True, gc=False):
    """Call an operation of an entity."""

    event_id: int
    instance_id: str
    operation: str
    input: str | None


class SignalEntity(Struct, frozen=True, gc=False):
    """Send an operation to an entity, to be delivered at a time or at once."""

    event_id: int
    instance_id: str
    operation: str
    input: str | None
    deliver_at: datetime | None


class LockEntities(Struct, frozen=True, gc=False):
    """Ask for the locks of entities, in the order in which they are to be taken."""

    event_id: int
    entities: tuple[str, ...]


class UnlockEntities(Struct, frozen=True, gc=False):
    """Give the locks back that were asked for as number `lock_id`."""

    event_id: int
    lock_id: int


class CompleteOrchestration(Struct, frozen=True, gc=False):
    """The function returned or raised. `result` is JSON text; `reason` is the text of what was raised."""

    event_id: int
    result: str | None = None
    failure: FailureDetails | None = None
    reason: str | None = None


class ContinueAsNew(Struct, frozen=True, gc=False):
    """Begin again with `input` and an empty history.

    `carried` are the events that nobody has read yet; `version` None keeps the one it has.
    """

    event_id: int
    input: str | None
    carried: tuple[EventRaised, ...]
    version: str | None = None


OrchestratorAction = (
    ScheduleTask
    | CreateTimer
    | CancelTimer
    | CreateSubOrchestration
    | SendEvent
    | CallEntity
    | SignalEntity
    | LockEntities
    | UnlockEntities
    | CompleteOrchestration
    | ContinueAsNew
)
