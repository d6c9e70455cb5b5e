"""Entities between batches: which mail makes a batch, what a batch becomes, and how locks travel."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from perdure.core.entities import (
    BatchResult,
    Entity,
    EntityAction,
    EntityBatch,
    OperationResult,
    OrchestrationStart,
    Signal,
)
from perdure.core.events import (
    EntityLock,
    EntityLockGranted,
    EntityOperation,
    EntityOperationCompleted,
    EntityOperationFailed,
    EntityUnlock,
    EventRaised,
    ExecutionStarted,
    HistoryEvent,
    ParentInstance,
)
from perdure.core.failures import FailureDetails
from perdure.core.records import Checkpoint, EntityState, Instance, Message, RuntimeStatus

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HERE, FIRST, LAST = "@counter@m", "@counter@a", "@counter@z"
BOOM = FailureDetails("ValueError", "boom")


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def owner(name: str, task_id: int = 0) -> ParentInstance:
    return ParentInstance(name, f"{name}-execution", "orchestrator", task_id)


def letter(number: int, event: HistoryEvent) -> Message:
    return Message(f"m{number}", HERE, None, event)


def call(by: str, operation: str = "add", task_id: int = 7) -> EntityOperation:
    return EntityOperation(NOW, operation, caller=owner(by, task_id))


def signal(operation: str = "add", input: str | None = None) -> EntityOperation:
    return EntityOperation(NOW, operation, input)


def lock(by: str, *entities: str) -> EntityLock:
    entities = entities or (HERE,)
    return EntityLock(NOW, owner(by), entities, entities.index(HERE))


def unlock(by: str) -> EntityUnlock:
    return EntityUnlock(NOW, owner(by))


def release(by: str, *entities: str) -> EntityUnlock:
    return EntityUnlock(NOW, owner(by), entities, entities.index(HERE))


class Life:
    """An entity that lives from batch to batch; what its batches leave over is first in the next."""

    def __init__(self, lock: ParentInstance | None = None, state: str | None = "1") -> None:
        row = Instance(
            HERE, "e" * 32, "counter", RuntimeStatus.RUNNING, NOW, NOW, "e" * 32, entity=EntityState(state, lock)
        )
        self.entity = Entity(row, 3)
        self.rest: Sequence[Message] = ()
        self._mailed = 0

    def letters(self, events: Sequence[HistoryEvent]) -> list[Message]:
        self._mailed += len(events)
        return [letter(self._mailed - len(events) + 1 + number, event) for number, event in enumerate(events)]

    def accept(self, *events: HistoryEvent, now: datetime = NOW, batch_max: int = 100) -> EntityBatch:
        batch = self.entity.accept([*self.rest, *self.letters(events)], now, batch_max)
        self.rest = batch.rest
        return batch

    def run(self, *events: HistoryEvent) -> EntityBatch:
        """A batch in which all operations succeed."""
        batch = self.accept(*events)
        self.checkpoint = self.entity.apply(batch, BatchResult([OperationResult() for _ in batch.operations], "1"))
        return batch

    def step(self, *events: HistoryEvent) -> Checkpoint:
        """The checkpoint of such a batch."""
        self.run(*events)
        return self.checkpoint


def ids(messages: Sequence[Message]) -> list[str]:
    return [each.message_id for each in messages]


# ---------------------------------------------------------------------- what is taken


def test_operations_are_taken_in_the_order_of_the_mail():
    batch = Life().accept(signal(), call("o"), signal())

    assert ids(batch.operations) == ids(batch.used) == ["m1", "m2", "m3"]
    assert (list(batch.rest), batch.is_cut, batch.lock, list(batch.messages)) == ([], False, None, [])


def test_a_full_batch_leaves_the_rest_in_order_and_says_so():
    life = Life()

    first = life.accept(*[signal() for _ in range(5)], batch_max=2)
    second = life.accept(batch_max=2)
    third = life.accept(batch_max=2)

    assert [ids(each.operations) for each in (first, second, third)] == [["m1", "m2"], ["m3", "m4"], ["m5"]]
    assert [each.is_cut for each in (first, second, third)] == [True, True, False]
    assert ids(first.rest) == ["m3", "m4", "m5"]


def test_a_batch_that_takes_all_it_may_is_not_cut():
    batch = Life().accept(signal(), signal(), batch_max=2)

    assert not batch.is_cut


def test_mail_that_no_entity_understands_is_used_up():
    batch = Life().accept(EventRaised(NOW, "go"), signal())

    assert (ids(batch.used), ids(batch.operations)) == (["m1", "m2"], ["m2"])


def test_time_never_goes_back():
    life = Life()
    life.entity.apply(life.accept(now=at(9)), BatchResult((), "1"))

    assert life.accept(signal(), now=at(5)).now == at(9)


# ---------------------------------------------------------------------- what a batch becomes


def applied(*results: OperationResult, state: str | None = "5", life: Life | None = None) -> Checkpoint:
    life = life or Life()
    batch = life.accept(*[call(f"o{number}", task_id=number) for number in range(len(results))])
    return life.entity.apply(batch, BatchResult(results, state))


def test_a_batch_is_one_checkpoint_with_the_state_and_all_answers():
    checkpoint = applied(OperationResult("4"), OperationResult(failure=BOOM))

    assert (checkpoint.execution_id, checkpoint.position, checkpoint.position_after) == ("e" * 32, 3, 4)
    assert checkpoint.instance.entity == EntityState("5")
    assert checkpoint.consumed == ("m1", "m2")
    assert (checkpoint.events, checkpoint.creates, checkpoint.deletes, checkpoint.has_open_work) == ((), *[False] * 3)
    first, second = checkpoint.messages
    assert (first.message_id, first.instance_id, first.execution_id) == ("m1/answer", "o0", "o0-execution")
    assert first.event == EntityOperationCompleted(NOW, 0, "4")
    assert second.event == EntityOperationFailed(NOW, 1, BOOM)


def test_nobody_is_answered_for_a_signal():
    life = Life()

    batch = life.accept(signal(), signal())
    checkpoint = life.entity.apply(batch, BatchResult([OperationResult("1"), OperationResult(failure=BOOM)], "1"))

    assert checkpoint.messages == ()


def test_mail_without_a_row_is_not_consumed():
    life = Life()
    unstored = Message("x", HERE, None, signal(), is_stored=False)
    batch = life.entity.accept([unstored], NOW, 9)

    assert life.entity.apply(batch, BatchResult([OperationResult()], "1")).consumed == ()


def test_signals_of_an_operation_are_sent_in_order_and_under_ids_that_a_repeat_has_too():
    actions: tuple[EntityAction, ...] = (Signal(LAST, "add", "1"), Signal(HERE, "tick", None, at(5)))

    first, again = applied(OperationResult(None, None, actions)), applied(OperationResult(None, None, actions))

    assert first.messages == again.messages
    _, one, two = first.messages
    assert (one.message_id, one.instance_id, one.event) == ("m1/0", LAST, EntityOperation(NOW, "add", "1"))
    assert (two.message_id, two.instance_id, two.deliver_at) == ("m1/1", HERE, at(5))


def test_an_orchestration_that_an_operation_starts_is_a_row_and_what_wakes_it():
    start = OrchestrationStart("ship", "1", "ship-17", "2.0")

    checkpoint = applied(OperationResult(None, None, (start,)))

    (child,) = checkpoint.children
    assert (child.instance_id, child.name, child.input, child.version) == ("ship-17", "ship", "1", "2.0")
    assert (child.status, child.parent, child.created_by) == (RuntimeStatus.PENDING, None, child.execution_id)
    message = checkpoint.messages[1]
    assert (message.instance_id, message.execution_id) == ("ship-17", child.execution_id)
    assert message.event == ExecutionStarted(NOW, child.execution_id, "ship")


def test_an_orchestration_without_an_id_gets_one_that_a_repeat_gets_too():
    two = (OrchestrationStart("ship"), OrchestrationStart("ship"))

    first, again = applied(OperationResult(None, None, two)), applied(OperationResult(None, None, two))

    assert first.children == again.children
    assert len({each.instance_id for each in first.children}) == 2


# ---------------------------------------------------------------------- coming and going


def unborn() -> Entity:
    return Entity.unborn(HERE, "cause", NOW)


def one(entity: Entity, state: str | None, event: HistoryEvent | None = None) -> Checkpoint:
    batch = entity.accept([letter(1, event or signal())], NOW, 9)
    return entity.apply(batch, BatchResult([OperationResult() for _ in batch.operations], state))


def test_an_entity_that_nobody_has_heard_of_is_created_by_its_first_batch():
    entity = unborn()

    first, second = one(entity, "1"), one(entity, "2")

    assert (first.creates, first.deletes, first.position, first.instance.name) == (True, False, 0, "counter")
    assert (second.creates, second.position, second.execution_id) == (False, 1, first.execution_id)
    assert (entity.is_stored, entity.position) == (True, 2)


def test_the_same_first_mail_makes_the_same_execution():
    assert unborn().instance == unborn().instance
    assert unborn().instance.execution_id != Entity.unborn(HERE, "another cause", NOW).instance.execution_id


def test_a_batch_that_leaves_no_state_leaves_no_row():
    entity = unborn()

    never = one(entity, None)
    born, dead = one(entity, "1"), one(entity, None)
    again = one(entity, "1")

    assert (never.creates, never.deletes) == (True, True)
    assert (born.creates, born.deletes, born.position) == (True, False, 0)
    assert (dead.creates, dead.deletes, dead.position) == (False, True, 1)
    assert (again.creates, again.deletes, again.position) == (True, False, 0)
    assert len({each.execution_id for each in (never, born, again)}) == 3


def test_a_locked_entity_keeps_its_row_without_a_state():
    entity = unborn()

    locked = one(entity, None, lock("o"))
    free = one(entity, None, unlock("o"))

    assert (locked.creates, locked.deletes) == (True, False)
    assert locked.instance.entity == EntityState(None, owner("o"))
    assert (free.deletes, entity.is_stored) == (True, False)


# ---------------------------------------------------------------------- locks


def test_the_last_of_a_set_grants_the_lock_to_the_execution_that_asked():
    checkpoint = Life().step(lock("o", FIRST, HERE))

    (granted,) = checkpoint.messages
    assert (granted.instance_id, granted.execution_id, granted.event) == ("o", "o-execution", EntityLockGranted(NOW, 0))
    assert checkpoint.instance.entity == EntityState("1", owner("o"))


def test_every_other_of_the_set_passes_the_request_on():
    checkpoint = Life().step(lock("o", FIRST, HERE, LAST))

    (passed,) = checkpoint.messages
    assert (passed.message_id, passed.instance_id, passed.execution_id) == ("m1/next", LAST, None)
    assert passed.event == EntityLock(NOW, owner("o"), (FIRST, HERE, LAST), 2)


def test_what_came_before_the_request_runs_before_the_lock():
    batch = Life().accept(call("other"), lock("o"), call("other"), signal(), call("o"))

    assert ids(batch.operations) == ["m1", "m5"]
    assert (ids(batch.rest), batch.lock, batch.is_cut) == (["m3", "m4"], owner("o"), False)


def test_a_locked_entity_serves_nobody_else_and_no_signals():
    batch = Life(owner("o")).accept(call("other"), signal(), lock("other"))

    assert (list(batch.used), ids(batch.rest), batch.lock) == ([], ["m1", "m2", "m3"], owner("o"))


def test_another_execution_of_the_holder_is_somebody_else():
    stranger = ParentInstance("o", "another-execution", "orchestrator", 0)
    batch = Life(owner("o")).accept(EntityOperation(NOW, "add", caller=stranger), EntityUnlock(NOW, stranger))

    assert (ids(batch.rest), batch.lock, ids(batch.used)) == (["m1"], owner("o"), ["m2"])


def test_what_the_lock_held_up_comes_first_once_it_is_free():
    batch = Life(owner("o")).accept(signal(), call("other"), call("o"), unlock("o"), signal())

    assert ids(batch.operations) == ["m3", "m1", "m2", "m5"]
    assert (batch.lock, list(batch.rest)) == (None, [])


def test_requests_for_the_lock_are_granted_in_their_order():
    life = Life(owner("o"))

    batch = life.run(lock("second"), call("x"), lock("third"), unlock("o"))

    assert batch.lock == owner("second")
    assert ids(batch.rest) == ["m2", "m3"]
    assert [each.instance_id for each in batch.messages] == ["second"]
    assert life.run(unlock("second")).lock == owner("third")


def test_to_give_back_a_lock_that_one_does_not_have_does_nothing():
    life = Life(owner("o"))

    assert life.run(unlock("other")).lock == owner("o")
    assert life.run(unlock("o")).lock is None
    assert life.run(unlock("o")).lock is None


def test_a_lock_is_given_back_only_by_the_request_that_took_it():
    earlier = EntityUnlock(NOW, owner("o", task_id=4))

    assert Life(owner("o", task_id=9)).accept(earlier).lock == owner("o", task_id=9)


# ---------------------------------------------------------------------- the end of an owner


def test_a_release_frees_the_entity_and_goes_where_the_request_went():
    checkpoint = Life(owner("o")).step(release("o", FIRST, HERE, LAST))

    (passed,) = checkpoint.messages
    assert (passed.instance_id, passed.event) == (LAST, EntityUnlock(NOW, owner("o"), (FIRST, HERE, LAST), 2))
    assert checkpoint.instance.entity == EntityState("1")


def test_a_release_ends_where_the_request_waits_and_takes_it_along():
    life = Life(owner("other"))
    life.accept(lock("o", FIRST, HERE, LAST), call("x"))

    batch = life.accept(release("o", FIRST, HERE, LAST))

    assert (ids(batch.used), list(batch.messages)) == (["m1", "m3"], [])
    assert (ids(batch.rest), batch.lock) == (["m2"], owner("other"))


def test_a_release_ends_where_the_request_never_was():
    batch = Life().accept(release("o", FIRST, HERE, LAST))

    assert (list(batch.messages), batch.lock, ids(batch.used)) == ([], None, ["m1"])


@pytest.mark.parametrize("batch_max", [1, 2, 100])
def test_a_request_that_is_withdrawn_does_not_hide_the_mail_behind_it(batch_max: int):
    life = Life(owner("holder"))
    life.accept(lock("o"), lock("p"), signal(), batch_max=batch_max)

    batch = life.accept(release("o", HERE), call("holder"), batch_max=batch_max)

    assert ids(batch.operations) == ["m5"]
    assert ids(batch.rest) == ["m2", "m3"]


def test_a_lock_that_is_asked_for_again_after_its_release_is_another_one():
    life = Life(owner("other"))

    batch = life.accept(lock("o"), release("o", HERE), lock("o"), unlock("other"))

    assert batch.lock == owner("o")
    assert [each.event for each in batch.messages] == [EntityLockGranted(NOW, 0)]
