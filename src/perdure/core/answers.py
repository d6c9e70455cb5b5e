"""What others have to hear when an instance gives way, is gone, or was never theirs.

Rule 1: whoever waits for an instance is answered in the transaction that takes it away, or by whoever finds it gone.
Rule 2: these are functions of rows and mail; stores and engine call them, and neither decides what to say.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from msgspec.structs import replace

from perdure.core.events import (
    EntityLock,
    EntityOperation,
    EntityOperationFailed,
    EntityUnlock,
    ExecutionRewound,
    ExecutionStarted,
    ParentInstance,
    SubOrchestrationInstanceFailed,
)
from perdure.core.failures import FailureDetails
from perdure.core.records import (
    HeldLock,
    Instance,
    Message,
)


def farewell(instance: Instance, now: datetime) -> list[Message]:
    """What others have to hear when an instance is replaced before it has ended: its parent, and entities it locked."""
    messages = releases(instance, instance.locks, now)
    if instance.parent is not None and not instance.status.is_terminal:
        messages.append(_replaced(instance, instance.parent, now))
    return messages


def _replaced(instance: Instance, parent: ParentInstance, now: datetime) -> Message:
    failure = FailureDetails(
        "InstanceReplaced",
        f"The child orchestration '{instance.instance_id}' gave way to another start with its id before it ended.",
        is_non_retriable=True,
    )
    failed = SubOrchestrationInstanceFailed(now, parent.task_id, failure)
    return Message(f"{instance.execution_id}/replaced", parent.instance_id, parent.execution_id, failed)


def answers_of_missing(mail: Iterable[Message], now: datetime) -> list[Message]:
    """What others have to hear whose mail finds nobody, because that was purged.

    Parents hear so whose start or rewind it was, and callers of entities. Requests for locks are to find the next life
    of the entity: who asks for several waits for all of them.
    """
    answers: list[Message] = []
    for message in mail:
        event = message.event
        match event:
            case ExecutionStarted() | ExecutionRewound() if event.parent is not None:
                sentence = f"The child orchestration '{message.instance_id}' was purged before it could answer."
                answers.append(_never(message, event.parent, "purged", FailureDetails("InstancePurged", sentence), now))
            case EntityOperation() if event.caller is not None:
                sentence = f"The entity '{message.instance_id}' was purged before it could run '{event.operation}'."
                failure = FailureDetails("EntityPurged", sentence, is_non_retriable=True)
                failed = EntityOperationFailed(now, event.caller.task_id, failure)
                answer_id, caller = f"{message.message_id}/answer", event.caller
                answers.append(Message(answer_id, caller.instance_id, caller.execution_id, failed))
            case EntityLock() | EntityUnlock():
                answers.append(replace(message, message_id=f"{message.message_id}/again"))
            case _:
                pass
    return answers


def releases(owner: Instance, locks: Iterable[HeldLock], now: datetime) -> list[Message]:
    """What gives back the locks of an execution that ends: it follows each request as far as that has come."""
    messages: list[Message] = []
    for held in locks:
        free = EntityUnlock(now, held.owner(owner), held.entities)
        message_id = f"{owner.execution_id}/{held.lock_id}/release/r{held.rewinds}"
        messages.append(Message(message_id, held.entities[0], None, free))
    return messages


def answers_to_rewinds(mail: Iterable[Message], now: datetime) -> list[Message]:
    """What parents have to hear whose rewind finds nobody, or somebody else.

    A start that finds nobody was answered when what had been there was purged.
    """
    answers: list[Message] = []
    for message in mail:
        event = message.event
        if isinstance(event, ExecutionRewound) and event.parent is not None:
            sentence = f"The child orchestration '{message.instance_id}' was gone before it could be rewound."
            answers.append(_never(message, event.parent, "gone", FailureDetails("InstanceGone", sentence), now))
    return answers


def _never(message: Message, parent: ParentInstance, what: str, failure: FailureDetails, now: datetime) -> Message:
    failed = SubOrchestrationInstanceFailed(now, parent.task_id, replace(failure, is_non_retriable=True))
    return Message(f"{message.message_id}/{what}", parent.instance_id, parent.execution_id, failed)


def refusals(instance: Instance, event: ExecutionStarted, now: datetime) -> list[Message]:
    """What the caller of a child hears whose id another instance has."""
    parent = event.parent
    if parent is None:
        return []
    failure = FailureDetails(
        "InstanceAlreadyExists",
        f"An Orchestration instance with the id '{instance.instance_id}' and the status {instance.status} already "
        "exists: give the child another id, or let the engine choose one.",
        is_non_retriable=True,
    )
    failed = SubOrchestrationInstanceFailed(now, parent.task_id, failure)
    return [Message(f"{event.execution_id}/refused", parent.instance_id, parent.execution_id, failed)]
