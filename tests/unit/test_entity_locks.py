"""Entities in the life of an orchestration: calls, signals, locks, and what every end of it gives back."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from azure.durable_functions import EntityId, Orchestrator

from perdure.core.actions import (
    CallEntity,
    CompleteOrchestration,
    ContinueAsNew,
    LockEntities,
    OrchestratorAction,
    ScheduleTask,
    SignalEntity,
    UnlockEntities,
)
from perdure.core.answers import answers_of_missing, farewell, releases
from perdure.core.codec import payloads
from perdure.core.cursor import OrchestrationCursor
from perdure.core.events import (
    EntityLock,
    EntityLockGranted,
    EntityLockRequested,
    EntityOperation,
    EntityOperationCalled,
    EntityOperationCompleted,
    EntityOperationFailed,
    EntityOperationSignaled,
    EntityUnlock,
    EntityUnlockSent,
    EventRaised,
    ExecutionCompleted,
    ExecutionRewound,
    ExecutionTerminated,
    HistoryEvent,
    ParentInstance,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
)
from perdure.core.failures import FailureDetails
from perdure.core.records import Checkpoint, HeldLock, Instance, Message, RuntimeStatus, StoredInstance
from perdure.core.rewind import rewound
from perdure.core.state import RuntimeState

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
EXECUTION = "0123456789abcdef0123456789abcdef"
A, B = "@account@a", "@account@b"
BOOM = FailureDetails("ValueError", "boom")


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def me(task_id: int, rewinds: int = 0) -> ParentInstance:
    execution_id = f"{EXECUTION}/r{rewinds}" if rewinds else EXECUTION
    return ParentInstance("i", execution_id, "orchestrator", task_id)


def instance(**fields: object) -> Instance:
    row: dict[str, object] = {
        "instance_id": "i",
        "execution_id": EXECUTION,
        "name": "orchestrator",
        "status": RuntimeStatus.PENDING,
        "created_at": NOW,
        "updated_at": NOW,
        "created_by": "request",
    }
    return Instance(**(row | fields))  # type: ignore[arg-type]


class Life:
    """An instance that lives from episode to episode."""

    def __init__(self) -> None:
        self.state = RuntimeState(StoredInstance(instance(), 0))
        self.history: list[HistoryEvent] = []
        self.now = NOW
        self._mailed = 0

    def step(self, *actions: OrchestratorAction, mail: Sequence[HistoryEvent] = ()) -> Checkpoint:
        """An episode that takes in `mail`, or an event that nobody waits for, and decides `actions`."""
        self.now += timedelta(seconds=1)
        letters = self.letters(mail or [EventRaised(self.now, "go")])
        checkpoint = self.state.apply(self.state.accept(letters, self.now), actions, None)
        self.history += checkpoint.events
        return checkpoint

    def letters(self, events: Sequence[HistoryEvent], execution_id: str | None = None) -> list[Message]:
        self._mailed += len(events)
        first = self._mailed - len(events)
        return [Message(f"m{first + number}", "i", execution_id, event) for number, event in enumerate(events)]

    def lock(self) -> Checkpoint:
        """Hold the locks of A and B, asked for as number 0."""
        self.step(LockEntities(0, (A, B)))
        return self.step(mail=[EntityLockGranted(self.now, 0)])


def sent(checkpoint: Checkpoint) -> list[tuple[str, HistoryEvent]]:
    return [(each.instance_id, each.event) for each in checkpoint.messages]


# ---------------------------------------------------------------------- calls and signals


def test_a_call_is_recorded_and_mailed_with_the_way_back():
    checkpoint = Life().step(CallEntity(0, A, "add", "5"))

    assert checkpoint.events[3] == EntityOperationCalled(at(1), 0, A, "add", "5")
    (message,) = checkpoint.messages
    assert (message.message_id, message.instance_id, message.execution_id) == (f"{EXECUTION}/0/call", A, None)
    assert message.event == EntityOperation(at(1), "add", "5", me(0))


def test_a_signal_is_recorded_and_mailed_without_one():
    checkpoint = Life().step(SignalEntity(0, A, "add", "5", at(60)))

    assert checkpoint.events[3] == EntityOperationSignaled(at(1), 0, A, "add", "5", at(60))
    (message,) = checkpoint.messages
    assert (message.deliver_at, message.event) == (at(60), EntityOperation(at(1), "add", "5"))


@pytest.mark.parametrize("answer", [EntityOperationCompleted(NOW, 0, "5"), EntityOperationFailed(NOW, 0, BOOM)])
def test_one_answer_counts_and_only_to_a_call(answer: HistoryEvent):
    life = Life()
    life.step(CallEntity(0, A, "add", "5"), ScheduleTask(1, "a", None))

    episode = life.state.accept(life.letters([answer, answer, EntityOperationCompleted(NOW, 1)]), at(9))

    assert episode.events[1:] == (answer,)
    assert episode.dropped == {"repeated": 2}


# ---------------------------------------------------------------------- asking for locks, and giving them back


def test_the_first_of_the_set_is_asked_and_the_row_remembers():
    checkpoint = Life().step(LockEntities(0, (A, B)))

    assert checkpoint.events[3] == EntityLockRequested(at(1), 0, (A, B))
    assert sent(checkpoint) == [(A, EntityLock(at(1), me(0), (A, B)))]
    assert (checkpoint.changes_locks, checkpoint.instance.locks) == (True, (HeldLock(0, (A, B)),))


def test_a_checkpoint_that_leaves_the_locks_alone_says_so():
    life = Life()

    assert not life.lock().changes_locks
    assert not life.step(CallEntity(1, A, "add", None)).changes_locks


def test_locks_are_given_back_to_each_entity_at_once():
    life = Life()
    life.lock()

    checkpoint = life.step(UnlockEntities(1, 0))

    assert checkpoint.events[2] == EntityUnlockSent(at(3), 1, 0)
    assert sent(checkpoint) == [(A, EntityUnlock(at(3), me(0))), (B, EntityUnlock(at(3), me(0)))]
    assert (checkpoint.changes_locks, checkpoint.instance.locks) == (True, ())


def test_locks_that_are_given_back_before_they_are_there_follow_their_request():
    life = Life()
    life.step(LockEntities(0, (A, B)))

    checkpoint = life.step(UnlockEntities(1, 0))
    late = life.state.accept(life.letters([EntityLockGranted(NOW, 0)], EXECUTION), at(9))

    assert sent(checkpoint) == [(A, EntityUnlock(at(2), me(0), (A, B)))]
    assert (late.events, late.dropped) == ((), {"withdrawn": 1})


def test_to_give_locks_back_again_sends_nothing():
    life = Life()
    life.lock()
    life.step(UnlockEntities(1, 0))

    assert life.step(UnlockEntities(2, 0)).messages == ()


# ---------------------------------------------------------------------- every end


ENDS: dict[str, tuple[tuple[OrchestratorAction, ...], tuple[HistoryEvent, ...]]] = {
    "completion": ((CompleteOrchestration(9, "1"),), ()),
    "failure": ((CompleteOrchestration(9, None, BOOM, "boom"),), ()),
    "termination": ((), (ExecutionTerminated(NOW, "enough"),)),
    "continue-as-new": ((ContinueAsNew(9, None, ()),), ()),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("is_granted", [True, False])
def test_every_end_gives_the_locks_back(end: str, is_granted: bool):
    actions, mail = ENDS[end]
    life = Life()
    life.lock() if is_granted else life.step(LockEntities(0, (A, B)))

    checkpoint = life.step(*actions, mail=mail)

    assert sent(checkpoint) == [(A, EntityUnlock(life.now, me(0), (A, B)))]
    assert (checkpoint.changes_locks, checkpoint.instance.locks) == (True, ())


def test_an_instance_that_is_replaced_gives_its_locks_back_and_answers_its_parent():
    parent = ParentInstance("parent", "p" * 32, "outer", 4)
    locks = (HeldLock(0, (A, B)), HeldLock(5, (B,)))
    running = instance(parent=parent, status=RuntimeStatus.RUNNING, locks=locks)

    first, second, answer = farewell(running, NOW)

    assert (first.instance_id, first.event) == (A, EntityUnlock(NOW, me(0), (A, B)))
    assert (second.instance_id, second.event) == (B, EntityUnlock(NOW, me(5), (B,)))
    assert (answer.instance_id, answer.execution_id) == ("parent", "p" * 32)
    assert isinstance(answer.event, SubOrchestrationInstanceFailed)
    assert answer.event.failure.error_type == "InstanceReplaced"


@pytest.mark.parametrize("status", [RuntimeStatus.COMPLETED, RuntimeStatus.FAILED, RuntimeStatus.TERMINATED])
def test_an_instance_that_has_ended_has_nothing_to_say(status: RuntimeStatus):
    parent = ParentInstance("parent", "p" * 32, "outer", 4)

    assert farewell(instance(parent=parent, status=status), NOW) == []


def test_releases_have_ids_that_a_repeat_has_too_and_a_later_lock_has_not():
    held = HeldLock(0, (A, B))

    (first,), (again,) = releases(instance(), [held], NOW), releases(instance(), [held], at(5))
    (later,) = releases(instance(), [HeldLock(0, (A, B), rewinds=1)], NOW)

    assert first.message_id == again.message_id != later.message_id
    assert later.event == EntityUnlock(NOW, me(0, rewinds=1), (A, B))


def test_who_waits_for_an_entity_that_is_purged_hears_so_and_requests_for_locks_stay():
    events: list[HistoryEvent] = [
        EntityOperation(NOW, "add", None, me(3)),
        EntityOperation(NOW, "signal"),
        EntityLock(NOW, me(4), (A, B)),
        EntityUnlock(NOW, me(5), (A, B)),
    ]
    mail = [Message(f"m{number}", A, None, event) for number, event in enumerate(events)]

    answer, lock, unlock = answers_of_missing(mail, NOW)

    assert (answer.message_id, answer.instance_id, answer.execution_id) == ("m0/answer", "i", EXECUTION)
    assert isinstance(answer.event, EntityOperationFailed)
    assert (answer.event.task_id, answer.event.failure.error_type) == (3, "EntityPurged")
    assert [(each.message_id, each.instance_id, each.event) for each in (lock, unlock)] == [
        ("m2/again", A, events[2]),
        ("m3/again", A, events[3]),
    ]


# ---------------------------------------------------------------------- rewind


def in_a_section(context):
    yield context.call_activity("before")
    with (yield context.lock_entities([EntityId("account", "a"), EntityId("account", "b")])):
        yield context.call_entity(EntityId("account", "a"), "add", 1)
        yield context.call_activity("within")
    return (yield context.call_activity("behind"))


def new_cursor() -> OrchestrationCursor:
    return OrchestrationCursor("i", Orchestrator.create(in_a_section), payloads)


def failed_within() -> tuple[Life, Checkpoint]:
    """`in_a_section`, failed by the activity `within`."""
    life = Life()
    cursor = new_cursor()
    answers: list[HistoryEvent | None] = [
        None,
        TaskCompleted(NOW, 0),
        EntityLockGranted(NOW, 1),
        EntityOperationCompleted(NOW, 2, "1"),
        TaskFailed(NOW, 3, BOOM),
    ]
    for answer in answers:
        mail = [] if answer is None else [answer]
        life.now += timedelta(seconds=1)
        episode = life.state.accept(life.letters(mail), life.now)
        checkpoint = life.state.apply(episode, cursor.advance(episode.events), None)
        life.history += checkpoint.events
    return life, checkpoint


def rewind(life: Life) -> tuple[list[HistoryEvent], Checkpoint, OrchestrationCursor]:
    cursor, kept = rewound(life.history, new_cursor)
    life.now += timedelta(seconds=1)
    episode = life.state.accept(life.letters([ExecutionRewound(life.now)]), life.now)
    awaited = cursor.open_ids - frozenset(cursor.pending_ids)
    checkpoint = life.state.rewind(episode, kept, cursor.advance(episode.events), None, awaited, {})
    life.history = list(checkpoint.events)
    return kept, checkpoint, cursor


def test_a_failure_within_a_section_gives_the_locks_back():
    _, checkpoint = failed_within()

    released = [each.event for each in checkpoint.messages if isinstance(each.event, EntityUnlock)]
    assert released == [EntityUnlock(at(5), me(1))] * 2
    assert isinstance(checkpoint.events[-2], ExecutionCompleted)


def test_a_rewind_takes_the_grant_back_and_all_that_was_done_under_it():
    life, _ = failed_within()

    kept, checkpoint, _ = rewind(life)

    kinds = {type(each) for each in kept}
    assert EntityLockRequested in kinds
    assert not kinds & {EntityLockGranted, EntityOperationCalled, EntityOperationCompleted, TaskFailed}
    assert sent(checkpoint) == [(A, EntityLock(at(6), me(1, rewinds=1), (A, B)))]
    assert checkpoint.instance.locks == (HeldLock(1, (A, B), rewinds=1),)


def test_the_grant_and_the_answers_from_before_a_rewind_do_not_count():
    life, _ = failed_within()
    _, _, cursor = rewind(life)

    late = life.state.accept(life.letters([EntityLockGranted(at(6), 1)], EXECUTION), at(7))
    assert late.dropped == {"of another execution": 1}
    again = life.state.accept(life.letters([EntityLockGranted(at(6), 1)], f"{EXECUTION}/r1"), at(7))
    checkpoint = life.state.apply(again, cursor.advance(again.events), None)

    (call,) = checkpoint.messages
    assert isinstance(call.event, EntityOperation)
    assert call.event.caller == me(2, rewinds=1), "the number that the call before the rewind had"
    answer = EntityOperationCompleted(at(8), 2, "1")
    assert life.state.accept(life.letters([answer], EXECUTION), at(9)).events == ()
    assert life.state.accept(life.letters([answer], f"{EXECUTION}/r1"), at(9)).events[1:] == (answer,)


def test_a_call_that_was_open_at_the_failure_is_sent_again():
    life = Life()
    life.step(CallEntity(0, A, "add", "1"), ScheduleTask(1, "a", None))
    life.step(CompleteOrchestration(2, None, BOOM, "boom"), mail=[TaskFailed(NOW, 1, BOOM)])
    kept = [each for each in life.history if not isinstance(each, ExecutionCompleted | TaskFailed)]
    episode = life.state.accept(life.letters([ExecutionRewound(NOW)]), at(9))

    checkpoint = life.state.rewind(episode, kept, (), None, {0, 1}, {})

    (call,) = checkpoint.messages
    assert (call.message_id, call.instance_id) == (f"{EXECUTION}/0/call/r1", A)
    assert call.event == EntityOperation(at(9), "add", "1", me(0))


def test_a_request_that_was_withdrawn_is_not_made_again():
    life = Life()
    life.step(LockEntities(0, (A, B)), ScheduleTask(1, "a", None))
    life.step(UnlockEntities(2, 0))
    life.step(CompleteOrchestration(3, None, BOOM, "boom"), mail=[TaskFailed(NOW, 1, BOOM)])
    kept = [each for each in life.history if not isinstance(each, ExecutionCompleted | TaskFailed)]
    episode = life.state.accept(life.letters([ExecutionRewound(NOW)]), at(9))

    checkpoint = life.state.rewind(episode, kept, (), None, {0, 1}, {})

    assert (checkpoint.messages, checkpoint.instance.locks) == ((), ())
