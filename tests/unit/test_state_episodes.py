"""Mail becomes events, actions become a checkpoint."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from perdure.core.actions import (
    CancelTimer,
    CompleteOrchestration,
    ContinueAsNew,
    CreateSubOrchestration,
    CreateTimer,
    OrchestratorAction,
    ScheduleTask,
)
from perdure.core.events import (
    EventRaised,
    ExecutionCompleted,
    ExecutionStarted,
    ExecutionTerminated,
    HistoryEvent,
    OrchestratorCompleted,
    OrchestratorStarted,
    ParentInstance,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskScheduled,
    TimerCreated,
    TimerFired,
)
from perdure.core.failures import FailureDetails
from perdure.core.instance_ids import derived_id
from perdure.core.records import Checkpoint, Instance, Message, RuntimeStatus, StoredInstance
from perdure.core.state import RuntimeState

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
EXECUTION = "0123456789abcdef0123456789abcdef"
PARENT = ParentInstance("parent", "p" * 32, "outer", 4)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def instance(**fields: object) -> Instance:
    row: dict[str, object] = {
        "instance_id": "i",
        "execution_id": EXECUTION,
        "name": "orchestrator",
        "status": RuntimeStatus.PENDING,
        "created_at": NOW,
        "updated_at": NOW,
        "created_by": "request",
        "input": "1",
    }
    return Instance(**(row | fields))


def fresh(**fields: object) -> RuntimeState:
    return RuntimeState(StoredInstance(instance(**fields), 0))


def mail(
    event: HistoryEvent, message_id: str = "m", execution_id: str | None = EXECUTION, stored: bool = True
) -> Message:
    return Message(message_id, "i", execution_id, event, is_stored=stored)


def step(
    state: RuntimeState,
    *actions: OrchestratorAction,
    received: Sequence[Message] = (),
    now: datetime = NOW,
    custom_status: str | None = None,
) -> Checkpoint:
    return state.apply(state.accept(received, now), actions, custom_status)


def running(*actions: OrchestratorAction, **fields: object) -> RuntimeState:
    """A state whose first episode decided `actions`."""
    state = fresh(**fields)
    step(state, *actions)
    return state


# ---------------------------------------------------------------------- mail


def test_the_first_episode_starts_the_execution_from_its_row():
    episode = fresh(parent=PARENT, version="2", tags={"a": "b"}).accept([], at(1))

    started = ExecutionStarted(at(1), EXECUTION, "orchestrator", "1", "2", PARENT, {"a": "b"})
    assert episode.events == (OrchestratorStarted(at(1)), started)


def test_mail_before_the_first_episode_follows_the_start():
    event = EventRaised(NOW, "E", "1")

    episode = fresh().accept([mail(event, "e", None)], NOW)

    assert episode.events[2:] == (event,)
    assert episode.consumed == ("e",)


def test_a_start_message_only_wakes():
    start = mail(ExecutionStarted(NOW, EXECUTION, "orchestrator", parent=PARENT))

    episode = fresh(parent=PARENT).accept([start], NOW)

    assert [type(each) for each in episode.events] == [OrchestratorStarted, ExecutionStarted]
    assert (episode.consumed, episode.dropped) == (("m",), {})


def test_a_repeated_answer_is_dropped_but_consumed():
    state = running(ScheduleTask(0, "a", None))
    answer = TaskCompleted(NOW, 0, "1")

    episode = state.accept([mail(answer, "1"), mail(answer, "2")], NOW)

    assert episode.events == (OrchestratorStarted(NOW), answer)
    assert (episode.consumed, episode.dropped) == (("1", "2"), {"repeated": 1})


def test_an_answer_to_nothing_open_alone_makes_no_episode():
    episode = running().accept([mail(TaskCompleted(NOW, 7))], NOW)

    assert (episode.events, episode.consumed) == ((), ("m",))


def test_mail_of_another_execution_is_dropped():
    state = running(ScheduleTask(0, "a", None))

    episode = state.accept([mail(TaskCompleted(NOW, 0), execution_id="other")], NOW)

    assert (episode.events, episode.dropped) == ((), {"of another execution": 1})


def test_unstored_mail_is_not_to_be_deleted():
    state = running(ScheduleTask(0, "a", None))

    assert state.accept([mail(TaskCompleted(NOW, 0), stored=False)], NOW).consumed == ()


def test_the_refused_start_of_a_child_is_answered():
    start = ExecutionStarted(NOW, "childexecution", "orchestrator", parent=PARENT)

    [reply] = running().accept([mail(start, execution_id="childexecution")], at(1)).replies

    assert (reply.instance_id, reply.execution_id) == (PARENT.instance_id, PARENT.execution_id)
    assert isinstance(reply.event, SubOrchestrationInstanceFailed)
    assert reply.event.task_id == PARENT.task_id
    assert reply.event.failure.error_type == "InstanceAlreadyExists"
    assert reply.event.failure.is_non_retriable


def test_time_never_goes_back_and_is_never_before_a_timer_that_fires():
    state = running(CreateTimer(0, at(9)))

    assert state.accept([mail(EventRaised(NOW, "E"))], at(-5)).now == NOW
    assert state.accept([mail(TimerFired(at(9), 0, at(9)))], at(3)).now == at(9)


def test_mail_after_a_termination_is_dropped():
    state = running(ScheduleTask(0, "a", None))
    received = [
        mail(ExecutionTerminated(NOW, "enough"), "1", None),
        mail(TaskCompleted(NOW, 0), "2"),
        mail(ExecutionTerminated(NOW, "again"), "3", None),
    ]

    episode = state.accept(received, NOW)

    assert episode.is_terminated
    assert len(episode.events) == 2
    assert episode.dropped == {"after termination": 2}


def test_mail_for_a_finished_instance_is_dropped():
    state = running(CompleteOrchestration(0, "1"))

    episode = state.accept([mail(EventRaised(NOW, "E"), execution_id=None)], NOW)

    assert (episode.events, episode.dropped) == ((), {"for a finished instance": 1})


# ---------------------------------------------------------------------- actions


def test_a_call_is_recorded_and_its_activity_goes_out():
    checkpoint = step(fresh(), ScheduleTask(0, "a", '"x"'))

    assert checkpoint.events[2:] == (TaskScheduled(NOW, 0, "a", '"x"'), OrchestratorCompleted(NOW))
    [activity] = checkpoint.activities
    assert (activity.activity_id, activity.name, activity.input) == (f"{EXECUTION}/0", "a", '"x"')
    assert (checkpoint.execution_id, checkpoint.position) == (EXECUTION, 0)
    assert checkpoint.has_open_work
    assert checkpoint.instance.status is RuntimeStatus.RUNNING


def test_open_calls_are_known_after_loading():
    state = fresh()
    checkpoint = step(state, ScheduleTask(0, "a", None), ScheduleTask(1, "b", None))
    stored = StoredInstance(checkpoint.instance, 1, checkpoint.events)

    loaded = RuntimeState(stored)

    assert loaded.open_activities() == list(checkpoint.activities) == state.open_activities()
    answer = loaded.accept([mail(TaskCompleted(at(1), 0))], at(1))
    loaded.apply(answer, [], None)
    assert [each.task_id for each in loaded.open_activities()] == [1]


def test_a_timer_is_mail_to_oneself():
    checkpoint = step(fresh(), CreateTimer(0, at(9)))

    assert checkpoint.events[2] == TimerCreated(NOW, 0, at(9))
    [message] = checkpoint.messages
    assert (message.instance_id, message.execution_id, message.deliver_at) == ("i", EXECUTION, at(9))
    assert message.event == TimerFired(at(9), 0, at(9))
    assert not checkpoint.has_open_work


def test_cancelling_takes_the_mail_back():
    same_episode = step(fresh(), CreateTimer(0, at(9)), CancelTimer(0))
    state = running(CreateTimer(0, at(9)))
    later = step(state, CancelTimer(0), received=[mail(EventRaised(NOW, "E"))])

    assert same_episode.messages == ()
    assert later.consumed == ("m", f"{EXECUTION}/0")
    assert state.accept([mail(TimerFired(at(9), 0, at(9)))], at(9)).events == ()


def test_a_child_gets_a_row_and_a_start_message():
    checkpoint = step(fresh(tags={"a": "b"}), CreateSubOrchestration(3, "inner", '"x"', None, "2"))

    [child] = checkpoint.children
    assert child.instance_id == f"{EXECUTION}:3"
    assert child.execution_id == derived_id(EXECUTION, "3")
    assert (child.name, child.input, child.version, child.tags) == ("inner", '"x"', "2", {"a": "b"})
    assert child.parent == ParentInstance("i", EXECUTION, "orchestrator", 3)
    [start] = checkpoint.messages
    assert (start.instance_id, start.execution_id) == (child.instance_id, child.execution_id)


def test_a_child_may_be_given_its_id():
    [child] = step(fresh(), CreateSubOrchestration(0, "inner", None, "mine", None)).children

    assert child.instance_id == "mine"


def test_a_result_ends_the_instance_and_answers_the_parent():
    checkpoint = step(fresh(parent=PARENT), CompleteOrchestration(0, "7"))

    row = checkpoint.instance
    assert (row.status, row.output, row.completed_at) == (RuntimeStatus.COMPLETED, "7", NOW)
    [answer] = checkpoint.messages
    assert (answer.instance_id, answer.execution_id) == (PARENT.instance_id, PARENT.execution_id)
    assert answer.event == SubOrchestrationInstanceCompleted(NOW, PARENT.task_id, "7")


def test_a_failure_ends_the_instance_with_a_sentence():
    failure = FailureDetails("ValueError", "boom")

    checkpoint = step(fresh(parent=PARENT), CompleteOrchestration(0, None, failure, "boom"))

    row = checkpoint.instance
    assert (row.status, row.failure) == (RuntimeStatus.FAILED, failure)
    assert row.output == "\"Orchestrator function 'orchestrator' failed: boom\""
    assert checkpoint.messages[0].event == SubOrchestrationInstanceFailed(NOW, PARENT.task_id, failure)


def test_the_end_cancels_open_timers_and_leaves_no_open_work():
    state = running(ScheduleTask(0, "a", None), CreateTimer(1, at(9)))

    checkpoint = step(state, CompleteOrchestration(2, None), received=[mail(EventRaised(NOW, "E"))])

    assert checkpoint.consumed == ("m", f"{EXECUTION}/1")
    assert not checkpoint.has_open_work
    assert state.is_finished


def test_a_termination_ends_the_instance_without_its_actions():
    state = running(CreateTimer(0, at(9)), parent=PARENT)

    received = [mail(ExecutionTerminated(NOW, "enough"), execution_id=None)]
    checkpoint = step(state, ScheduleTask(1, "never", None), received=received)

    assert checkpoint.activities == ()
    assert checkpoint.instance.status is RuntimeStatus.TERMINATED
    assert checkpoint.instance.output == '"enough"'
    assert isinstance(checkpoint.events[-2], ExecutionCompleted)
    assert isinstance(checkpoint.messages[0].event, SubOrchestrationInstanceFailed)


def test_a_termination_without_a_reason_has_no_output():
    checkpoint = step(running(), received=[mail(ExecutionTerminated(NOW), execution_id=None)])

    assert checkpoint.instance.output is None


def test_an_instance_can_be_terminated_before_it_has_run():
    checkpoint = step(fresh(), received=[mail(ExecutionTerminated(NOW, "enough"), execution_id=None)])

    assert checkpoint.instance.status is RuntimeStatus.TERMINATED
    assert checkpoint.position == 0


def test_continuing_as_new_begins_again_at_position_0_with_the_carried_events_first():
    state = running(CreateTimer(0, at(9)))
    event = EventRaised(NOW, "E", "1")

    checkpoint = step(state, ContinueAsNew(1, "2", (event,)), received=[mail(event)], now=at(1))

    assert (checkpoint.events, checkpoint.position_after, checkpoint.has_open_work) == ((), 0, True)
    row = checkpoint.instance
    assert (row.input, row.created_at, row.status) == ("2", NOW, RuntimeStatus.RUNNING)
    assert row.execution_id == derived_id(EXECUTION, "next") != EXECUTION
    assert checkpoint.consumed == ("m", f"{EXECUTION}/0")
    [carried] = checkpoint.messages
    assert (carried.event, carried.is_carried) == (event, True)

    again = step(state, CompleteOrchestration(0, "3"), received=[carried], now=at(2))
    assert (again.execution_id, again.position) == (row.execution_id, 0)
    assert again.events[2] == event


def test_what_a_generation_called_before_it_continued_still_goes_out():
    checkpoint = step(fresh(), ScheduleTask(0, "a", None), ContinueAsNew(1, "2", ()))

    assert [each.name for each in checkpoint.activities] == ["a"]


def test_the_custom_status_stays_over_generations_until_it_is_set():
    state = fresh()
    first = step(state, ContinueAsNew(0, None, ()), custom_status='"busy"')
    second = step(state, ScheduleTask(0, "a", None))
    third = step(
        state, CompleteOrchestration(1), received=[mail(EventRaised(NOW, "E"), execution_id=None)], custom_status="null"
    )

    assert [each.instance.custom_status for each in (first, second, third)] == ['"busy"', '"busy"', "null"]


def test_positions_count_the_checkpoints():
    state = running(ScheduleTask(0, "a", None))

    checkpoint = step(state, received=[mail(TaskCompleted(NOW, 0))])

    assert (checkpoint.position, state.position) == (1, 2)


@pytest.mark.parametrize("execution_id", [EXECUTION, "not a uuid", "x" * 32, "a" * 36])
def test_ids_that_follow_from_another_are_always_the_same(execution_id: str):
    assert derived_id(execution_id, "next") == derived_id(execution_id, "next")
    assert derived_id(execution_id, "next") != derived_id(execution_id, "0")
    assert len(derived_id(execution_id, "next")) == 32
