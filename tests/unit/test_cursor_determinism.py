"""Code that does something else than the history says is found at replay (cases N1 to N11 of the catalogue)."""

from datetime import timedelta

import pytest

from given import (
    INSTANCE_ID,
    START,
    calls,
    child_created,
    completed,
    given,
    next_episode,
    raised,
    scheduled,
    timer_created,
)
from perdure.core.actions import CreateTimer, ScheduleTask
from perdure.core.events import ExecutionCompleted, ExecutionTerminated, HistoryEvent
from perdure.errors import NonDeterminismError


def calls_a(context):
    return (yield context.call_activity("a", 1))


def sleeps(context):
    yield context.create_timer(timedelta(seconds=5))


def calls_child(context):
    yield context.call_sub_orchestrator("child", None, "child-1")


def refused(*history):
    def check(orchestrator) -> NonDeterminismError:
        with pytest.raises(NonDeterminismError) as caught:
            given(*history).cold(orchestrator)
        assert caught.value.instance_id == INSTANCE_ID
        assert str(caught.value).startswith("Non-Deterministic workflow detected:")
        return caught.value

    return check


def test_n1_the_code_does_not_do_what_the_history_has():
    def nothing(context):
        yield context.wait_for_external_event("E")

    error = refused(scheduled(0, "a"), completed(0))(nothing)

    assert error.action is None
    assert error.event == scheduled(0, "a")


def test_n2_the_code_does_something_of_another_kind():
    error = refused(scheduled(0, "a"), completed(0))(sleeps)

    assert isinstance(error.action, CreateTimer)
    assert "TaskScheduled('a')" in str(error)
    assert "CreateTimer" in str(error)


@pytest.mark.parametrize("history", [[timer_created(0, 5)], [child_created(0, "a")]])
def test_n2_for_every_kind(history: list[object]):
    assert isinstance(refused(*history)(calls_a).action, ScheduleTask)


def test_n3_the_code_calls_another_name():
    error = refused(scheduled(0, "b"), completed(0))(calls_a)

    assert "'b'" in str(error)
    assert "'a'" in str(error)


def test_n3_names_of_children_count_too():
    refused(child_created(0, "other", "child-1"))(calls_child)


def test_n3_names_ignore_case():
    given(scheduled(0, "A", 1), completed(0, 2)).cold(calls_a).expect_result(2)


def test_n4_other_inputs_are_not_looked_at():
    given(scheduled(0, "a", "other"), completed(0, 2)).cold(calls_a).expect_result(2)


def test_n5_another_time_of_a_timer_is_not_looked_at():
    given(timer_created(0, 99)).cold(sleeps).expect()


def test_n6_another_id_of_a_child_that_was_given_one_is_found():
    refused(child_created(0, "child", "child-2"))(calls_child)
    given(child_created(0, "child", "child-1")).cold(calls_child).expect()


def test_n6_an_id_that_the_engine_chose_is_accepted():
    def orchestrator(context):
        yield context.call_sub_orchestrator("child")

    given(child_created(0, "child", "chosen")).cold(orchestrator).expect()


def test_n7_the_code_does_less_than_the_history():
    refused(scheduled(0, "a"), completed(0), scheduled(1, "b"), completed(1))(calls_a)


def test_n8_the_code_does_more_than_the_history():
    def more(context):
        yield context.task_all([context.call_activity("a"), context.call_activity("b")])

    error = refused(scheduled(0, "a"))(more)

    assert error.event is None
    assert "nothing more" in str(error)


def test_n9_an_answer_to_an_unknown_call_is_ignored():
    given(scheduled(0, "a"), completed(5), next_episode, completed(0, 1)).cold(calls_a).expect_result(1)


def test_n10_the_code_ended_and_the_history_goes_on():
    refused(scheduled(0, "a"), completed(0))(lambda context: None)


ENDS = [ExecutionCompleted(START, 1, "Completed", "5"), ExecutionTerminated(START, "enough")]


@pytest.mark.parametrize("end", ENDS)
def test_n11_a_history_that_ended_replays_to_its_end(end: HistoryEvent):
    cursor = given(scheduled(0, "a"), completed(0, 5)).replayed(calls_a, end)

    assert cursor.is_done
    assert cursor.advance([raised("E")]) == []


def test_code_that_reads_something_else_than_its_history_is_found():
    names = iter(["a", "b"])

    def impure(context):
        yield context.call_activity(next(names))

    history = given(scheduled(0, "a"))
    given().live(impure).expect(calls(0, "a"))

    with pytest.raises(NonDeterminismError):
        history.cold(impure)


def test_a_wait_records_nothing_so_adding_one_before_the_end_is_found_only_by_what_follows():
    def waits(context):
        yield context.wait_for_external_event("E")
        yield context.call_activity("a")

    given(raised("E"), scheduled(0, "a")).cold(waits).expect()
