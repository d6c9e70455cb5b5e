"""Entities as apps write them: functions and classes, their context, and critical sections with their rules."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import azure.durable_functions as df
import pytest
from azure.durable_functions.entity import Entity, InternalEntityException

from perdure.core.actions import (
    CallEntity,
    CompleteOrchestration,
    ContinueAsNew,
    LockEntities,
    OrchestratorAction,
    SignalEntity,
    UnlockEntities,
)
from perdure.core.codec import payloads
from perdure.core.cursor import OrchestrationCursor
from perdure.core.entities import BatchResult, OrchestrationStart, Signal, operation_rules
from perdure.core.events import (
    EntityLockGranted,
    EntityLockRequested,
    EntityOperation,
    EntityOperationCalled,
    EntityOperationCompleted,
    EntityOperationFailed,
    EntityOperationSignaled,
    EntityUnlockSent,
    ExecutionStarted,
    HistoryEvent,
    OrchestratorCompleted,
    OrchestratorStarted,
)
from perdure.core.failures import EntityOperationFailedError, FailureDetails
from perdure.errors import InvalidInstanceIdError

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
A, B, C = (df.EntityId("Account", each) for each in "abc")
BOOM = FailureDetails("ValueError", "boom")


def run(code: Any, *operations: str | tuple[str, Any], state: Any = None, entity_id: str = "@counter@c") -> BatchResult:
    """What a batch of operations comes to: names, or names with inputs."""
    asked: list[EntityOperation] = []
    for each in operations:
        name, *given = (each,) if isinstance(each, str) else each
        asked.append(EntityOperation(NOW, name, payloads.encode(given[0]) if given else None))
    text = None if state is None else payloads.encode(state)
    return asyncio.run(Entity(code).run(entity_id, NOW, text, asked))


def results(batch: BatchResult) -> list[Any]:
    """The results of operations that must not have failed."""
    assert [each.failure for each in batch.results if each.failure is not None] == []
    return [payloads.decode(each.result) for each in batch.results]


def state(batch: BatchResult) -> Any:
    return None if batch.state is None else payloads.decode(batch.state)


def told(function: Callable[[df.DurableEntityContext], Any], *args: Any, **fields: Any) -> Any:
    """What a function learns from its context: it is one operation's result."""
    return results(run(function, *(args or ("op",)), **fields))[0]


# ---------------------------------------------------------------------- the context (sdk.md 1.12 and 6)


def test_names_arrive_in_lower_case_and_keys_as_they_are():
    found = told(lambda c: [c.entity_name, c.entity_key, str(c.entity_id)], entity_id="@counter@Key@more")

    assert found == ["counter", "Key@more", "@counter@Key@more"]
    assert df.DurableEntityContext("COUNTER", "K").entity_name == "counter"


def test_the_name_of_the_operation():
    assert told(lambda c: c.operation_name, "add") == "add"
    with pytest.raises(Exception, match="Entity operation is unassigned"):
        _ = df.DurableEntityContext("n", "k").operation_name


def test_whether_it_is_new():
    assert told(lambda c: c.is_newly_constructed) is True
    assert told(lambda c: c.is_newly_constructed, state=5) is False


@pytest.mark.parametrize("given", [None, 5, "text", [1, {"a": None}], True])
def test_the_input_is_what_was_sent(given: Any):
    assert told(lambda c: c.get_input(), ("add", given)) == given
    assert told(lambda c: c.get_input()) is None


@dataclass
class Order:
    number: int
    lines: list[str] = field(default_factory=list)


def test_the_input_becomes_the_type_that_is_asked_for():
    assert told(lambda c: c.get_input(Order).number, ("add", {"number": 3, "lines": ["x"]})) == 3


def test_the_initial_state_is_made_only_if_there_is_none():
    assert told(lambda c: c.get_state(lambda: 7)) == 7
    assert told(lambda c: c.get_state()) is None
    assert told(lambda c: c.get_state(lambda: 7), state=5) == 5


@pytest.mark.parametrize("falsy", [0, "", [], {}, False])
def test_a_state_that_is_false_is_a_state(falsy: Any):
    assert told(lambda c: c.get_state(lambda: 7), state=falsy) == falsy


def test_the_initial_state_is_not_kept_by_itself():
    assert run(lambda c: c.get_state(lambda: 7), "get").state is None


def test_an_initializer_has_to_be_callable_if_it_is_needed():
    (result,) = run(lambda c: c.get_state(7), "get").results
    assert result.failure is not None
    assert result.failure.message == "initializer argument needs to be a callable function"
    assert told(lambda c: c.get_state(7), state=5) == 5


def test_the_state_becomes_the_type_that_is_asked_for():
    assert told(lambda c: c.get_state(expected_type=Order).number, state={"number": 3}) == 3


def test_a_state_that_is_set_is_seen_by_what_comes_after():
    def counter(context):
        context.set_state(context.get_state(lambda: 0) + context.get_input())
        return context.get_state()

    batch = run(counter, ("add", 2), ("add", 3))

    assert (results(batch), state(batch)) == ([2, 5], 5)


def test_to_set_the_state_to_none_leaves_an_entity_with_that_state():
    assert run(lambda c: c.set_state(None), "clear", state=5).state == "null"


def test_a_state_that_is_changed_in_place_is_kept():
    batch = run(lambda c: c.get_state().append(2), "append", state=[1])

    assert state(batch) == [1, 2]


def test_a_state_that_nobody_looks_at_stays_as_it_was_written():
    text = '{"a" :  1}'
    batch = asyncio.run(Entity(lambda c: None).run("@n@k", NOW, text, [EntityOperation(NOW, "op")]))

    assert batch.state == text


def test_an_entity_that_is_destructed_is_gone_unless_it_is_set_again():
    def code(context):
        if context.operation_name == "gone":
            context.set_state(1)
            context.destruct_on_exit()
        elif context.operation_name == "back":
            context.destruct_on_exit()
            context.set_state(2)
        return [context.is_newly_constructed, context.get_state(lambda: "new")]

    assert run(code, "gone", state=5).state is None
    assert state(run(code, "back", state=5)) == 2
    assert results(run(code, "gone", "look", state=5))[1] == [True, "new"]


def test_the_result_is_what_was_set_or_else_what_is_returned():
    def code(context):
        if context.operation_name == "set":
            context.set_result("set")
        if context.operation_name == "none":
            context.set_result(None)
        return "returned"

    assert results(run(code, "set", "other", "none")) == ["set", "returned", None]


def test_results_do_not_make_an_entity():
    assert run(lambda c: c.set_result(5), "op").state is None


# ---------------------------------------------------------------------- what goes out


def test_signals_go_out_with_the_operation():
    def code(context):
        context.signal_entity(df.EntityId("Other", "o"), "add", {"a": 1})
        context.signal_entity(context.entity_id, "later", scheduled_time=timedelta(seconds=5))
        context.signal_entity(entityId=context.entity_id, operation_name="at", scheduled_time=datetime(2026, 2, 1))
        zone = timezone(timedelta(hours=2))
        context.signal_entity(A, "at", None, datetime(2026, 2, 1, 2, tzinfo=zone))

    assert run(code, "op").results[0].actions == (
        Signal("@other@o", "add", '{"a": 1}'),
        Signal("@counter@c", "later", None, NOW + timedelta(seconds=5)),
        Signal("@counter@c", "at", None, datetime(2026, 2, 1, tzinfo=UTC)),
        Signal("@account@a", "at", None, datetime(2026, 2, 1, tzinfo=UTC)),
    )


bp = df.Blueprint()


@bp.orchestration_trigger(context_name="context", orchestration="shipping")
def ship(context):
    return None


def test_orchestrations_are_started_with_the_operation():
    def code(context):
        context.start_new_orchestration("ship", {"a": 1}, "ship-17", "2.0")
        context.start_new_orchestration(ship)
        context.start_new_orchestration("ship", instance_id="")

    assert run(code, "op").results[0].actions == (
        OrchestrationStart("ship", '{"a": 1}', "ship-17", "2.0"),
        OrchestrationStart("shipping"),
        OrchestrationStart("ship"),
    )


@pytest.mark.parametrize("instance_id", ["@counter@c", "a/b", "x" * 257])
def test_an_orchestration_cannot_be_started_under_an_id_that_breaks_a_rule(instance_id: str):
    (result,) = run(lambda c: c.start_new_orchestration("ship", None, instance_id), "op").results

    assert result.failure is not None
    assert InvalidInstanceIdError.__name__ in result.failure.error_type


# ---------------------------------------------------------------------- failures


def test_an_operation_that_raises_has_not_been():
    def code(context):
        context.get_state(list).append(context.operation_name)
        context.set_state([*context.get_state(list), context.operation_name])
        context.signal_entity(A, "op")
        context.start_new_orchestration("ship")
        context.set_result("fine")
        if context.operation_name == "bad":
            raise ValueError("boom")

    batch = run(code, "one", "bad", "two")

    assert state(batch) == run_state(code)
    assert [each.failure is not None for each in batch.results] == [False, True, False]
    failed = batch.results[1]
    assert (failed.result, failed.actions) == (None, ())
    assert failed.failure is not None
    assert (failed.failure.error_type, failed.failure.message) == ("ValueError", "boom")
    assert "boom" in (failed.failure.stack_trace or "")


def run_state(code: Any) -> Any:
    """What the same code leaves without the operation that raises."""
    return state(run(code, "one", "two"))


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()])
def test_whatever_is_raised_fails_the_operation_only(error: BaseException):
    def code(context):
        if context.operation_name == "bad":
            raise error
        return "fine"

    assert [each.failure is None for each in run(code, "one", "bad", "two").results] == [True, False, True]


@pytest.mark.parametrize("spoil", ["set_state", "set_result"])
def test_what_json_cannot_hold_fails_the_operation_only(spoil: str):
    def code(context):
        if context.operation_name == "bad":
            context.set_state(9)
            getattr(context, spoil)(object())
        else:
            context.set_state(context.get_state(lambda: 0) + 1)

    batch = run(code, "one", "bad", "two")

    assert [each.failure is None for each in batch.results] == [True, False, True]
    assert state(batch) == 2


def test_an_input_or_a_state_that_cannot_be_read_fails_the_operation_that_asks_for_it():
    def code(context):
        return context.get_input(Order).number if context.operation_name == "input" else context.get_state(None, Order)

    batch = run(code, ("input", "nonsense"), "state", state="nonsense")

    assert all(each.failure is not None for each in batch.results)
    assert state(batch) == "nonsense"


def test_an_async_entity_that_is_stopped_leaves_no_result():
    async def code(context):
        await asyncio.sleep(3600)

    async def stopped() -> None:
        batch = asyncio.ensure_future(Entity(code).run("@n@k", NOW, None, [EntityOperation(NOW, "op")] * 2))
        await asyncio.sleep(0)
        batch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await batch

    asyncio.run(stopped())


def test_the_official_exception_is_there():
    assert issubclass(InternalEntityException, Exception)


# ---------------------------------------------------------------------- kinds of code


def test_async_functions_and_callable_objects():
    async def function(context):
        await asyncio.sleep(0)
        context.set_state("from a coroutine")
        return context.operation_name

    class Callable_:
        async def __call__(self, context):
            return await function(context)

    for code in (function, Callable_()):
        assert Entity(code).is_async
        batch = run(code, "op")
        assert (results(batch), state(batch)) == (["op"], "from a coroutine")
    assert not Entity(lambda c: None).is_async


def test_create_makes_what_a_host_knows_and_keeps_the_users_function():
    def counter(context):
        """Counts."""
        return 1

    handle = df.Entity.create(counter)

    assert (handle.__name__, handle.__doc__, handle.entity_function) == ("counter", "Counts.", counter)
    assert isinstance(handle.entity, Entity)
    assert handle(df.DurableEntityContext("n", "k")) == 1


# ---------------------------------------------------------------------- classes


class Account(df.DurableEntity):
    state: int = 100
    limit = 1000

    def add(self, amount: int) -> int:
        self.state += amount
        return self.state

    def get(self) -> int:
        return self.state

    async def slowly(self, order: Order) -> int:
        await asyncio.sleep(0)
        self.state += order.number
        return self.state

    def who(self) -> list[str]:
        return [str(self.entity_id), self.context.operation_name]

    def tell(self) -> None:
        self.context.signal_entity(A, "op")

    def raises(self) -> None:
        self.state = -1
        raise ValueError("boom")

    @staticmethod
    def help() -> str:
        return "static"

    def _secret(self) -> None:
        self.state = -1


class Cart(df.DurableEntity):
    state: Order = Order(1)

    def put(self, line: str) -> int:
        self.state.lines.append(line)
        return len(self.state.lines)


def test_each_method_is_an_operation():
    batch = run(Account, ("add", 5), "get", ("slowly", {"number": 2}), "who")

    assert results(batch) == [105, 105, 107, ["@counter@c", "who"]]
    assert state(batch) == 107
    assert Entity(Account).is_async
    assert not Entity(Cart).is_async


def test_names_of_operations_ignore_case():
    assert results(run(Account, ("ADD", 5), "Get")) == [105, 105]


def test_a_method_that_leaves_the_state_alone_makes_no_entity():
    assert run(Account, "get", "who").state is None


def test_the_state_becomes_the_annotated_type_and_the_initial_one_is_nobody_elses():
    batch = run(Cart, ("put", "book"), ("put", "pen"))

    assert (results(batch), state(batch)) == ([1, 2], {"number": 1, "lines": ["book", "pen"]})
    assert results(run(Cart, ("put", "other"))) == [1]
    assert results(run(Cart, ("put", "pen"), state={"number": 7, "lines": ["book"]})) == [2]


def test_a_method_that_raises_has_not_been():
    batch = run(Account, ("add", 1), "raises", "get")

    assert [each.failure is None for each in batch.results] == [True, False, True]
    assert (state(batch), payloads.decode(batch.results[2].result)) == (101, 101)


def test_delete_is_there_without_being_written_and_can_be():
    class Kept(df.DurableEntity):
        state: int = 1

        def delete(self) -> str:
            self.state = 0
            return "kept"

    assert run(Account, ("add", 5), "delete").state is None
    assert run(Account, "Delete", state=5).state is None
    batch = run(Kept, "delete", state=5)
    assert (results(batch), state(batch)) == (["kept"], 0)


@pytest.mark.parametrize("operation", ["steal", "_secret", "__init__", "__class__", "state", "limit", "context", ""])
def test_what_is_no_operation_is_refused(operation: str):
    batch = run(Account, operation, state=5)

    (failure,) = [each.failure for each in batch.results]
    assert failure is not None
    assert failure.message == f"entity 'Account' has no operation '{operation}'"
    assert state(batch) == 5


def test_a_class_has_to_be_an_entitys():
    with pytest.raises(TypeError, match=r"class Order must derive from df\.DurableEntity to be an entity"):
        df.Entity.create(Order)  # type: ignore[arg-type]


def test_the_decorator_takes_functions():
    app = df.DFApp()

    @app.entity_trigger(context_name="context", entity_name="Named")
    def counter(context):
        return 1

    handle = counter.build().get_user_function()
    assert isinstance(handle.entity, Entity)


# ---------------------------------------------------------------------- orchestrators: calls and signals


Part = HistoryEvent | OrchestratorAction


class Play:
    """An orchestrator that goes on with each answer; at every step a replay of all before has to decide the same."""

    def __init__(self, code: Callable[[Any], Any]) -> None:
        self._code = code
        self._live = self._new()
        self._history: list[HistoryEvent] = []
        self._episodes = 0
        self.actions = self._step([ExecutionStarted(NOW, "0" * 32, "orchestrator")])

    def _new(self) -> OrchestrationCursor:
        return OrchestrationCursor("one", df.Orchestrator.create(self._code), payloads)

    def answer(self, *events: HistoryEvent) -> list[OrchestratorAction]:
        self.actions = self._step(list(events))
        return self.actions

    def _step(self, events: list[HistoryEvent]) -> list[OrchestratorAction]:
        time = NOW + timedelta(seconds=self._episodes)
        self._episodes += 1
        new: list[HistoryEvent] = [OrchestratorStarted(time), *events]
        cold = self._new()
        if self._history:
            cold.replay(self._history)
        actions = list(self._live.advance(new))
        assert _comparable(cold.advance(new)) == _comparable(actions)
        self._history += [*new, *_events(actions), OrchestratorCompleted(time)]
        return actions

    @property
    def result(self) -> Any:
        end = self.actions[-1]
        assert isinstance(end, CompleteOrchestration), self.actions
        assert end.failure is None, end.failure
        return payloads.decode(end.result)


def _comparable(actions: Sequence[OrchestratorAction]) -> list[Any]:
    return [(each.event_id, each.result) if isinstance(each, CompleteOrchestration) else each for each in actions]


def _events(actions: Sequence[OrchestratorAction]) -> list[HistoryEvent]:
    found: list[HistoryEvent] = []
    for each in actions:
        match each:
            case CallEntity():
                found.append(EntityOperationCalled(NOW, each.event_id, each.instance_id, each.operation, each.input))
            case SignalEntity():
                found.append(EntityOperationSignaled(NOW, each.event_id, each.instance_id, each.operation, each.input))
            case LockEntities():
                found.append(EntityLockRequested(NOW, each.event_id, each.entities))
            case UnlockEntities():
                found.append(EntityUnlockSent(NOW, each.event_id, each.lock_id))
            case _:
                pass
    return found


def completed(number: int, result: Any = None) -> EntityOperationCompleted:
    return EntityOperationCompleted(NOW, number, payloads.encode(result))


def granted(number: int) -> EntityLockGranted:
    return EntityLockGranted(NOW, number)


def test_a_call_gives_the_result_and_may_be_typed():
    def code(context):
        first = yield context.call_entity(A, "get", {"a": 1})
        second = yield context.call_entity(entityId=A, operationName="order", expected_type=Order)
        return [first, second.number]

    play = Play(code)
    assert play.actions == [CallEntity(0, "@account@a", "get", '{"a": 1}')]
    assert play.answer(completed(0, 5)) == [CallEntity(1, "@account@a", "order", None)]
    play.answer(completed(1, {"number": 3}))

    assert play.result == [5, 3]


def test_a_failed_call_raises_with_the_text_of_the_failure():
    def code(context):
        try:
            yield context.call_entity(A, "boom")
        except EntityOperationFailedError as error:
            return [str(error), error.error_type, error.entity_id, error.operation, error.is_caused_by(ValueError)]

    play = Play(code)
    play.answer(EntityOperationFailed(NOW, 0, BOOM))

    assert play.result == ["boom", "ValueError", "@account@a", "boom", True]


def test_signals_are_sent_at_once_and_nothing_is_waited_for():
    def code(context):
        assert context.signal_entity(A, "add", 1) is None
        context.signal_entity(A, "add", 2, timedelta(seconds=5))
        yield context.call_entity(A, "get")

    assert Play(code).actions == [
        SignalEntity(0, "@account@a", "add", "1", None),
        SignalEntity(1, "@account@a", "add", "2", NOW + timedelta(seconds=5)),
        CallEntity(2, "@account@a", "get", None),
    ]


@pytest.mark.parametrize("method", ["call_entity", "signal_entity"])
def test_an_entity_has_to_be_named(method: str):
    def code(context):
        with pytest.raises(ValueError, match="entity_id cannot be empty"):
            getattr(context, method)(None, "op")
        return "refused"

    assert Play(code).result == "refused"


# ---------------------------------------------------------------------- critical sections


def test_a_section_locks_in_one_order_and_gives_back_at_its_end():
    def code(context):
        with (yield context.lock_entities([B, A, df.EntityId("ACCOUNT", "a")])) as section:
            assert section.is_held
            entities = section.entities
            yield context.call_entity(B, "get")
        assert not section.is_held
        yield context.call_entity(C, "get")
        return entities

    play = Play(code)
    assert play.actions == [LockEntities(0, ("@account@a", "@account@b"))]
    assert play.answer(granted(0)) == [CallEntity(1, "@account@b", "get", None)]
    assert play.answer(completed(1)) == [UnlockEntities(2, 0), CallEntity(3, "@account@c", "get", None)]
    play.answer(completed(3))
    assert play.result == ["@account@a", "@account@b"]


def test_a_section_of_a_coroutine():
    async def code(context):
        async with context.lock_entities([A]) as section:
            assert section.is_held
            first = await context.call_entity(A, "get")
        return [first, section.is_held]

    play = Play(code)
    assert play.actions == [LockEntities(0, ("@account@a",))]
    play.answer(granted(0))
    play.answer(completed(1, 5))

    assert isinstance(play.actions[0], UnlockEntities)
    assert play.result == [5, False]


@pytest.mark.parametrize("kind", ["with", "async with"])
def test_an_exception_gives_back_too(kind: str):
    def generator(context):
        with (yield context.lock_entities([A])):
            raise ValueError

    async def coroutine(context):
        async with context.lock_entities([A]):
            raise ValueError

    play = Play(generator if kind == "with" else coroutine)
    unlock, end = play.answer(granted(0))

    assert unlock == UnlockEntities(1, 0)
    assert isinstance(end, CompleteOrchestration)


def test_sections_may_follow_each_other():
    def code(context):
        for entity in (A, B):
            with (yield context.lock_entities([entity])):
                pass
        return "both"

    play = Play(code)
    assert play.answer(granted(0)) == [UnlockEntities(1, 0), LockEntities(2, ("@account@b",))]
    play.answer(granted(2))
    assert play.result == "both"


def test_to_give_back_twice_is_to_give_back_once():
    def code(context):
        with (yield context.lock_entities([A])) as section:
            section.release()
            section.release()
        return "done"

    assert [type(each) for each in Play(code).answer(granted(0))] == [UnlockEntities, CompleteOrchestration]


def test_a_session_that_is_given_up_decides_nothing():
    def code(context):
        with (yield context.lock_entities([A])):
            yield context.call_entity(A, "get")

    cursor = OrchestrationCursor("one", df.Orchestrator.create(code), payloads)
    cursor.advance([OrchestratorStarted(NOW), ExecutionStarted(NOW, "0" * 32, "orchestrator")])
    cursor.advance([OrchestratorStarted(NOW), granted(0)])
    cursor.close()
    gc.collect()

    assert cursor.advance([]) == []


def test_continue_as_new_within_a_section():
    def code(context):
        with (yield context.lock_entities([A])):
            context.continue_as_new(1)
            return None

    assert isinstance(Play(code).answer(granted(0))[-1], ContinueAsNew)


def breach(refused: Callable[[Any], Any]) -> str:
    """What is said to code that does `refused` under the lock of A; it can go on afterwards."""

    def code(context):
        with (yield context.lock_entities([A])):
            with pytest.raises(df.LockingRulesViolationError) as caught:
                refused(context)
            yield context.call_entity(A, "get")
        refused(context)  # which is nothing special any more
        return str(caught.value)

    play = Play(code)
    assert play.answer(granted(0)) == [CallEntity(1, "@account@a", "get", None)]
    play.answer(completed(1))
    return play.result


CHILD = df.RetryOptions(1000, 3)


@pytest.mark.parametrize(
    ("refused", "sentence"),
    [
        (
            lambda c: c.lock_entities([B]),
            "Must not enter another critical section from within a critical section.",
        ),
        (lambda c: c.call_sub_orchestrator("child"), "While holding locks, cannot call suborchestrators."),
        (
            lambda c: c.call_sub_orchestrator_with_retry("child", CHILD),
            "While holding locks, cannot call suborchestrators.",
        ),
        (
            lambda c: c.call_entity(B, "get"),
            "Must not call an entity from a critical section if it is not one of the locked entities.",
        ),
        (lambda c: c.signal_entity(A, "add"), "Must not signal a locked entity from a critical section."),
    ],
)
def test_what_a_section_forbids(refused: Callable[[Any], Any], sentence: str):
    assert breach(refused) == sentence


def test_a_second_call_has_to_wait_for_the_first():
    def code(context):
        with (yield context.lock_entities([A, B])):
            first = context.call_entity(A, "get")
            second = context.call_entity(B, "get")
            with pytest.raises(df.LockingRulesViolationError) as caught:
                context.call_entity(A, "get")
            yield context.task_all([first, second])
            try:
                yield context.call_entity(A, "get")
            except EntityOperationFailedError:
                yield context.call_entity(A, "get")
        return str(caught.value)

    play = Play(code)
    play.answer(granted(0))
    play.answer(completed(1), completed(2))
    assert play.answer(EntityOperationFailed(NOW, 3, BOOM)) == [CallEntity(4, "@account@a", "get", None)]
    play.answer(completed(4))

    assert play.result == (
        "Must not call an entity from a critical section while a prior call to the same entity is still pending."
    )


def test_nothing_is_called_before_the_locks_are_there():
    def code(context):
        lock = context.lock_entities([A])
        for entity in (A, B):
            with pytest.raises(df.LockingRulesViolationError) as caught:
                context.call_entity(entity, "get")
        with (yield lock):
            pass
        return str(caught.value)

    play = Play(code)
    play.answer(granted(0))

    assert play.result == "Must await the completion of the lock request prior to calling any entity."


def test_what_a_section_allows():
    def code(context):
        with (yield context.lock_entities([A])):
            context.signal_entity(B, "add")
            return (yield context.call_activity("a"))

    play = Play(code)
    signal, _ = play.answer(granted(0))
    assert isinstance(signal, SignalEntity)
    assert signal.instance_id == "@account@b"


def test_to_lock_nothing_is_refused():
    def code(context):
        with pytest.raises(ValueError, match="lock_entities needs at least one entity"):
            context.lock_entities([])
        return "refused"

    assert Play(code).result == "refused"


# ---------------------------------------------------------------------- operations that raise, not rolled back


@pytest.fixture
def no_rollback():
    operation_rules.rolls_back = False
    yield
    operation_rules.rolls_back = True


@pytest.mark.usefixtures("no_rollback")
def test_without_rollback_an_operation_that_raises_keeps_its_state_and_its_signals():
    def counter(context: df.DurableEntityContext) -> None:
        context.set_state(context.get_state(lambda: 0) + 1)
        context.signal_entity(A, "note")
        raise ValueError("boom")

    batch = run(counter, "add", "add", state=5)

    assert state(batch) == 7
    assert [(each.failure is not None, len(each.actions)) for each in batch.results] == [(True, 1), (True, 1)]


@pytest.mark.usefixtures("no_rollback")
@pytest.mark.parametrize("operation", ["add", "add_later"])
def test_without_rollback_a_class_keeps_its_state(operation: str):
    class Counter(df.DurableEntity):
        state: int = 0

        def add(self) -> None:
            self.state += 1
            raise ValueError("boom")

        async def add_later(self) -> None:
            self.state += 1
            await asyncio.sleep(0)
            raise ValueError("boom")

    assert state(run(Counter, operation, state=5)) == 6


@pytest.mark.usefixtures("no_rollback")
def test_without_rollback_a_state_that_cannot_be_written_is_not_kept():
    def counter(context: df.DurableEntityContext) -> None:
        context.set_state(object())
        raise ValueError("boom")

    assert state(run(counter, "add", state=5)) == 5


def test_a_class_that_raises_while_it_waits_is_rolled_back():
    class Counter(df.DurableEntity):
        state: int = 0

        async def add(self) -> None:
            self.state += 1
            await asyncio.sleep(0)
            raise ValueError("boom")

    assert state(run(Counter, "add", state=5)) == 5
