"""What happened to an instance: one frozen struct per DurableTask event type.

Rule 1: an event is a fact; it is never changed, and its meaning never depends on later ones.
Rule 2: `event_id` numbers what the orchestrator decided, from 0 in the order it decided; `task_id` points back at it.

Source of names and fields: DurableTask.Core History/*.cs.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from perdure.core.failures import FailureDetails


class ParentInstance(Struct, frozen=True, gc=False):
    """Which call of which execution started a child, so that its result finds the way back."""

    instance_id: str
    execution_id: str
    name: str
    task_id: int


class Event(Struct, frozen=True, tag=True, omit_defaults=True, gc=False):
    """Common to all events: when it was recorded, or for mail, when it was sent (aware UTC)."""

    timestamp: datetime


class OrchestratorStarted(Event, frozen=True, tag=True, gc=False):
    """An episode begins; its timestamp is the time that orchestrator code sees until the next one."""


class OrchestratorCompleted(Event, frozen=True, tag=True, gc=False):
    """The episode ends: everything that it decided stands before this."""


class ExecutionStarted(Event, frozen=True, tag=True, omit_defaults=True, gc=False):
    """The execution begins. `input` is JSON text."""

    execution_id: str
    name: str
    input: str | None = None
    version: str | None = None
    parent: ParentInstance | None = None
    tags: dict[str, str] | None = None
    start_at: datetime | None = None


class ExecutionCompleted(Event, frozen=True, tag=True, omit_defaults=True, gc=False):
    """The execution ended. `status` is Completed, Failed or Terminated; `result` is JSON text."""

    event_id: int
    status: str
    result: str | None = None
    failure: FailureDetails | None = None


class ExecutionTerminated(Event, frozen=True, tag=True, omit_defaults=True, gc=False):
    """A client asked to end the execution at once, and if `recursive`, whatever it is waiting for.

    With a `parent` it comes from there, and is meant only for the child that this call made.
    """

    reason: str | None = None
    recursive: bool = False
    parent: ParentInstance | None = None


class ExecutionSuspended(Event, frozen=True, tag=True, omit_defaults=True, gc=False):
    """A client asked to halt the execution: until it is resumed, what happens is recorded and not shown to the code."""

    reason: str | None = None


class ExecutionResumed(Event, frozen=True, tag=True, omit_defaults=True, gc=False):
    """A client asked to go on: the code now sees what happened meanwhile, in order."""

    reason: str | None = None


class ExecutionRewound(Event, frozen=True, tag=True, omit_defaults=True, gc=False):
    """A client, or the `parent` that made this child, asked the failed execution to try again from where it failed.

    Recorded in the history that is left when the failures are taken out of it.
    """

    reason: str | None = None
    parent: ParentInstance | None = None


class TaskScheduled(Event, frozen=True, tag=True, omit_defaults=True, gc=False):
    """The orchestrator called an activity. `input` is JSON text."""

    event_id: int
    name: str
    input: str | None = None


class TaskCompleted(Event, frozen=True, tag=True, omit_defaults=True, gc=False):
    """The activity returned. `result` is JSON text."""

    task_id: int
    result: str | None = None


class TaskFailed(Event, frozen=True, tag=True, gc=False):
    """The activity raised."""

    task_id: int
    failure: FailureDetails


class SubOrchestrationInstanceCreated(Event, frozen=True, tag=True, omit_defaults=True, gc=False):
    """The orchestrator called a child orchestration."""

    event_id: int
    name: str
    instance_id: str
    input: str | None = None
    version: str | None = None
    tags: dict[str, str] | None = None


class SubOrchestrationInstanceCompleted(Event, frozen=True, tag=True, omit_defaults=True, gc=False):
    """The child completed."""

    task_id: int
    result: str | None = None


class SubOrchestrationInstanceFailed(Event, frozen=True, tag=True, gc=False):
    """The child failed, was terminated, or could not be started."""

    task_id: int
    failure: FailureDetails


class TimerCreated(Event, frozen=True, tag=True, gc=False):
    """The orchestrator set a timer."""

    event_id: int
    fire_at: datetime


class TimerFired(Event, frozen=True, tag=True, gc=False):
    """The timer's time came."""

    task_id: int
    fire_at: datetime


class EventSent(Event, frozen=True, tag=True, omit_defaults=True, gc=False):
    """The orchestrator sent an external event to another instance. `input` is JSON text."""

    event_id: int
    instance_id: str
    name: str
    input: str | None = None


class EntityOperationCalled(Event, frozen=True, tag=True, omit_defaults=True, gc=False):
    """The orchestrator called an operation of an entity. `input` is JSON text."""

    event_id: int
    instance_id: str
    operation: str
    input: str | None = None


class EntityOperationSignaled(Event, frozen=True, tag=True, omit_defaults=True, gc=False):
    """The orchestrator sent an operation to an entity and does not wait for it. `input` is JSON text."""

    event_id: int
    instance_id: str
    operation: str
    input: str | None = None
    deliver_at: datetime | None = None


class EntityOperationCompleted(Event, frozen=True, tag=True, omit_defaults=True, gc=False):
    """The operation returned. `result` is JSON text."""

    task_id: int
    result: str | None = None


class EntityOperationFailed(Event, frozen=True, tag=True, gc=False):
    """The operation raised, and changed nothing."""

    task_id: int
    failure: FailureDetails


class EntityLockRequested(Event, frozen=True, tag=True, gc=False):
    """The orchestrator asked for the locks of entities, in the order in which they are taken."""

    event_id: int
    entities: tuple[str, ...]


class EntityLockGranted(Event, frozen=True, tag=True, gc=False):
    """All the locks are held."""

    task_id: int


class EntityUnlockSent(Event, frozen=True, tag=True, gc=False):
    """The orchestrator gave the locks back that it asked for as number `lock_id`."""

    event_id: int
    lock_id: int


class EntityOperation(Event, frozen=True, tag=True, omit_defaults=True, gc=False):
    """Mail to an entity: run an operation, and answer its `caller` if it has one. `input` is JSON text."""

    operation: str
    input: str | None = None
    caller: ParentInstance | None = None


class EntityLock(Event, frozen=True, tag=True, omit_defaults=True, gc=False):
    """Mail to an entity: be locked for `owner`, and pass this on to the next of `entities`."""

    owner: ParentInstance
    entities: tuple[str, ...]
    place: int = 0


class EntityUnlock(Event, frozen=True, tag=True, omit_defaults=True, gc=False):
    """Mail to an entity: be free again.

    With `entities` the owner ended without knowing how far its request had come: this follows it from `place` on.
    """

    owner: ParentInstance
    entities: tuple[str, ...] = ()
    place: int = 0


class EventRaised(Event, frozen=True, tag=True, omit_defaults=True, gc=False):
    """An external event arrived. `input` is JSON text."""

    name: str
    input: str | None = None


HistoryEvent = (
    OrchestratorStarted
    | OrchestratorCompleted
    | ExecutionStarted
    | ExecutionCompleted
    | ExecutionTerminated
    | ExecutionSuspended
    | ExecutionResumed
    | ExecutionRewound
    | TaskScheduled
    | TaskCompleted
    | TaskFailed
    | SubOrchestrationInstanceCreated
    | SubOrchestrationInstanceCompleted
    | SubOrchestrationInstanceFailed
    | TimerCreated
    | TimerFired
    | EventSent
    | EventRaised
    | EntityOperationCalled
    | EntityOperationSignaled
    | EntityOperationCompleted
    | EntityOperationFailed
    | EntityLockRequested
    | EntityLockGranted
    | EntityUnlockSent
    | EntityOperation
    | EntityLock
    | EntityUnlock
)

SchedulingEvent = (
    TaskScheduled | SubOrchestrationInstanceCreated | TimerCreated | EntityOperationCalled | EntityLockRequested
)
"""Decisions that something answers."""

DecisionEvent = SchedulingEvent | EventSent | EntityOperationSignaled | EntityUnlockSent
"""All decisions but the last."""

EntityMail = EntityOperation | EntityLock | EntityUnlock
"""What an entity understands; no history has it."""
