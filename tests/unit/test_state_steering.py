"""Mail that steers an instance: suspend, resume, terminate, rewind, and starts that are not due yet."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from perdure.core.actions import (
    CompleteOrchestration,
    ContinueAsNew,
    CreateSubOrchestration,
    CreateTimer,
    OrchestratorAction,
    ScheduleTask,
    SendEvent,
)
from perdure.core.answers import farewell
from perdure.core.events import (
    EventRaised,
    EventSent,
    ExecutionCompleted,
    ExecutionResumed,
    ExecutionRewound,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
    HistoryEvent,
    OrchestratorCompleted,
    OrchestratorStarted,
    ParentInstance,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
    TimerFired,
)
from perdure.core.failures import FailureDetails
from perdure.core.instance_ids import derived_id
from perdure.core.records import Checkpoint, Instance, Message, RuntimeStatus, StoredInstance
from perdure.core.state import RuntimeState

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
EXECUTION = "0123456789abcdef0123456789abcdef"
PARENT = ParentInstance("parent", "p" * 32, "outer", 4)
BOOM = FailureDetails("ValueError", "boom")


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
        "created_by": EXECUTION,
    }
    return Instance(**(row | fields))


class Life:
    """An instance that lives from episode to episode."""

    def __init__(self, **fields: object) -> None:
        self.state = RuntimeState(StoredInstance(instance(**fields), 0))
        self.history: list[HistoryEvent] = []
        self.now = NOW
        self._mailed = 0

    def step(self, *actions: OrchestratorAction, mail: Sequence[HistoryEvent] = ()) -> Checkpoint:
        self.now += timedelta(seconds=1)
        checkpoint = self.state.apply(self.state.accept(self.letters(mail), self.now), actions, None)
        self.history += checkpoint.events
        return checkpoint

    def letters(self, events: Sequence[HistoryEvent]) -> list[Message]:
        letters: list[Message] = []
        for event in events:
            self._mailed += 1
            letters.append(Message(f"m{self._mailed}", "i", None, event))
        return letters

    def fail(self, *mail: HistoryEvent) -> Checkpoint:
        number = self.state.automaton.next_event_id
        return self.step(CompleteOrchestration(number, None, BOOM, "boom"), mail=mail)

    def rewind(
        self, kept: Sequence[HistoryEvent], awaited: set[int], children: Mapping[str, Instance] | None = None
    ) -> Checkpoint:
        self.now += timedelta(seconds=1)
        episode = self.state.accept(self.letters([ExecutionRewound(self.now, "again")]), self.now)
        assert episode.is_rewind
        return self.state.rewind(episode, kept, (), None, awaited, children or {})

    def without(self, *kinds: type) -> list[HistoryEvent]:
        return [event for event in self.history if not isinstance(event, (ExecutionCompleted, *kinds))]


# ---------------------------------------------------------------------- suspend, resume


def test_a_suspended_instance_says_so_and_a_resumed_one_runs():
    life = Life()
    life.step()

    assert life.step(mail=[ExecutionSuspended(NOW, "wait")]).instance.status is RuntimeStatus.SUSPENDED
    assert life.step(mail=[EventRaised(NOW, "E")]).instance.status is RuntimeStatus.SUSPENDED
    assert life.step(mail=[ExecutionResumed(NOW)]).instance.status is RuntimeStatus.RUNNING


def test_to_suspend_twice_or_to_resume_what_runs_does_nothing():
    life = Life()
    life.step()
    life.step(mail=[ExecutionSuspended(NOW)])

    again = life.state.accept(life.letters([ExecutionSuspended(NOW)]), at(9))
    assert (again.events, again.consumed, again.dropped) == ((), ("m2",), {"already suspended": 1})
    life.step(mail=[ExecutionResumed(NOW)])
    assert life.state.accept(life.letters([ExecutionResumed(NOW)]), at(9)).dropped == {"not suspended": 1}


def test_suspended_and_resumed_in_one_batch_both_are_recorded():
    life = Life()
    life.step()

    checkpoint = life.step(mail=[ExecutionSuspended(NOW), ExecutionResumed(NOW)])

    assert checkpoint.instance.status is RuntimeStatus.RUNNING
    assert [type(each) for each in checkpoint.events[1:-1]] == [ExecutionSuspended, ExecutionResumed]


def test_a_suspension_that_came_with_the_end_of_a_generation_is_the_next_ones_first_mail():
    life = Life()
    life.step()
    carried = EventRaised(NOW, "E", "1")

    checkpoint = life.step(
        ContinueAsNew(0, "1", (carried,), "2.0"), mail=[EventRaised(NOW, "x"), ExecutionSuspended(NOW)]
    )

    assert [type(each.event) for each in checkpoint.messages] == [ExecutionSuspended, EventRaised]
    assert all(each.is_carried for each in checkpoint.messages)
    assert (checkpoint.instance.version, checkpoint.position_after, checkpoint.events) == ("2.0", 0, ())


# ---------------------------------------------------------------------- terminate


def test_terminating_recursively_reaches_the_open_children_and_names_their_parent():
    life = Life()
    life.step(
        CreateSubOrchestration(0, "child", None, "open", None), CreateSubOrchestration(1, "child", None, "done", None)
    )

    checkpoint = life.step(
        mail=[SubOrchestrationInstanceCompleted(NOW, 1), ExecutionTerminated(NOW, "enough", recursive=True)]
    )

    (message,) = checkpoint.messages
    parent = ParentInstance("i", EXECUTION, "orchestrator", 0)
    assert message.instance_id == "open"
    assert message.event == ExecutionTerminated(at(2), "enough", recursive=True, parent=parent)


def test_a_parents_termination_is_for_its_own_child_only():
    child = Life(parent=PARENT)
    child.step()
    stranger = Life()
    stranger.step()
    terminated = ExecutionTerminated(NOW, "enough", recursive=True, parent=PARENT)

    assert child.step(mail=[terminated]).instance.status is RuntimeStatus.TERMINATED
    assert stranger.state.accept(stranger.letters([terminated]), at(9)).dropped == {"of another execution": 1}


# ---------------------------------------------------------------------- starts in the future


def test_mail_does_not_start_an_instance_before_its_time():
    life = Life(start_at=at(60))
    mail = life.letters([EventRaised(NOW, "E")])

    assert life.state.accept(mail, at(59)).is_early
    episode = life.state.accept(mail, at(60))
    assert not episode.is_early
    assert episode.events[1] == ExecutionStarted(at(60), EXECUTION, "orchestrator", start_at=at(60))


def test_a_termination_does_not_wait_for_the_start():
    life = Life(start_at=at(60))

    checkpoint = life.step(mail=[ExecutionTerminated(NOW, "never mind")])

    assert checkpoint.instance.status is RuntimeStatus.TERMINATED


# ---------------------------------------------------------------------- events between orchestrations, versions, tags


def test_an_event_to_another_instance_is_recorded_and_sent():
    checkpoint = Life().step(SendEvent(0, "other", "Go", "1"))

    assert checkpoint.events[2] == EventSent(at(1), 0, "other", "Go", "1")
    (message,) = checkpoint.messages
    assert (message.instance_id, message.execution_id) == ("other", None)
    assert message.event == EventRaised(at(1), "Go", "1")


def test_a_child_gets_the_hosts_version_and_its_parents_tags_unless_the_call_says_otherwise():
    state = RuntimeState(StoredInstance(instance(version="1", tags={"a": "1", "b": "1"}), 0))
    calls = (
        CreateSubOrchestration(0, "child", None, None, None),
        CreateSubOrchestration(1, "child", None, None, "7", {"b": "2"}),
    )

    checkpoint = state.apply(state.accept((), NOW), calls, None, "3")

    assert [(child.version, child.tags) for child in checkpoint.children] == [
        ("3", {"a": "1", "b": "1"}),
        ("7", {"a": "1", "b": "2"}),
    ]


def test_a_replaced_child_owes_its_parent_an_answer_unless_it_had_ended():
    (answer,) = farewell(instance(parent=PARENT, status=RuntimeStatus.RUNNING), NOW)

    assert (answer.instance_id, answer.execution_id) == ("parent", "p" * 32)
    assert isinstance(answer.event, SubOrchestrationInstanceFailed)
    assert answer.event.failure.error_type == "InstanceReplaced"
    assert farewell(instance(parent=PARENT, status=RuntimeStatus.COMPLETED), NOW) == []
    assert farewell(instance(status=RuntimeStatus.RUNNING), NOW) == []


# ---------------------------------------------------------------------- rewind


def test_only_a_failed_instance_is_rewound():
    life = Life()
    life.step(CompleteOrchestration(0, "1"))

    episode = life.state.accept(life.letters([ExecutionRewound(NOW)]), at(9))

    assert (episode.is_rewind, episode.events, episode.dropped) == (False, (), {"for a finished instance": 1})


def test_mail_behind_the_rewind_is_for_the_next_episode():
    life = Life()
    life.fail()
    mail = life.letters([EventRaised(NOW, "late"), ExecutionRewound(NOW), EventRaised(NOW, "next")])

    episode = life.state.accept(mail, at(9))

    assert (episode.is_rewind, episode.consumed, episode.rest) == (True, ("m1", "m2"), (mail[2],))


def test_a_rewound_instance_runs_with_the_history_that_was_kept_and_its_open_calls_again():
    life = Life()
    life.step(ScheduleTask(0, "a", None), ScheduleTask(1, "b", None))
    life.step(mail=[TaskCompleted(NOW, 0, "1")])
    life.fail(TaskFailed(NOW, 1, BOOM))
    kept = life.without(TaskFailed)[:-2]

    checkpoint = life.rewind(kept, {1})

    row = checkpoint.instance
    assert (row.status, row.output, row.failure, row.completed_at) == (RuntimeStatus.RUNNING, None, None, None)
    assert (checkpoint.position, checkpoint.position_after, checkpoint.has_open_work) == (3, 1, True)
    assert [type(each) for each in checkpoint.events[len(kept) :]] == [
        OrchestratorStarted,
        ExecutionRewound,
        OrchestratorCompleted,
    ]
    assert [task.task_id for task in checkpoint.activities] == [1]
    assert life.step(CompleteOrchestration(2, "2"), mail=[TaskCompleted(NOW, 1)]).position == 1


def test_timers_are_set_again_under_new_ids_but_for_those_that_the_code_had_cancelled():
    life = Life()
    life.step(CreateTimer(0, at(100)), CreateTimer(1, at(200)))
    ended = life.fail(EventRaised(NOW, "E"))
    assert set(ended.consumed) == {"m1", f"{EXECUTION}/0", f"{EXECUTION}/1"}

    checkpoint = life.rewind(life.history[:5], {0})

    (message,) = checkpoint.messages
    assert (message.message_id, message.event) == (f"{EXECUTION}/0/r1", TimerFired(at(100), 0, at(100)))


def children(status: RuntimeStatus, **fields: object) -> dict[str, Instance]:
    parent = ParentInstance("i", EXECUTION, "orchestrator", 0)
    return {"child": instance(instance_id="child", parent=parent, status=status, **fields)}


def rewound_parent(rows: Mapping[str, Instance]) -> Checkpoint:
    life = Life()
    life.step(CreateSubOrchestration(0, "inner", "1", "child", None))
    life.fail(SubOrchestrationInstanceFailed(NOW, 0, BOOM))
    return life.rewind(life.history[:4], {0}, rows)


def test_a_failed_child_is_rewound_and_keeps_its_execution():
    checkpoint = rewound_parent(children(RuntimeStatus.FAILED))

    (message,) = checkpoint.messages
    assert (message.instance_id, message.message_id) == ("child", f"{EXECUTION}/0/rewind/r1")
    parent = ParentInstance("i", EXECUTION, "orchestrator", 0)
    assert message.event == ExecutionRewound(at(3), "again", parent)
    assert checkpoint.children == ()


def test_a_running_child_is_waited_for():
    checkpoint = rewound_parent(children(RuntimeStatus.RUNNING))

    assert (checkpoint.messages, checkpoint.children) == ((), ())


def test_what_a_child_said_after_its_parent_had_failed_is_heard_now():
    checkpoint = rewound_parent(children(RuntimeStatus.COMPLETED, output='"done"'))

    (message,) = checkpoint.messages
    assert message.event == SubOrchestrationInstanceCompleted(at(3), 0, '"done"')
    assert (message.instance_id, message.execution_id) == ("i", EXECUTION)


def test_a_child_that_is_gone_or_was_terminated_is_called_again_as_another_execution():
    for rows in ({}, children(RuntimeStatus.TERMINATED)):
        checkpoint = rewound_parent(rows)

        (child,) = checkpoint.children
        assert (child.instance_id, child.name, child.input) == ("child", "inner", "1")
        assert child.execution_id == derived_id(EXECUTION, "0/r1") != derived_id(EXECUTION, "0")
        assert [type(each.event) for each in checkpoint.messages] == [ExecutionStarted]


def test_an_execution_that_fails_again_at_once_leaves_its_children_alone():
    life = Life()
    life.step(CreateSubOrchestration(0, "inner", None, "child", None))
    life.fail(SubOrchestrationInstanceFailed(NOW, 0, BOOM))
    kept = life.without()
    episode = life.state.accept(life.letters([ExecutionRewound(NOW)]), at(9))

    end = CompleteOrchestration(1, None, BOOM, "boom")
    checkpoint = life.state.rewind(episode, kept, [end], None, set(), children(RuntimeStatus.FAILED))

    assert (checkpoint.instance.status, checkpoint.messages) == (RuntimeStatus.FAILED, ())


def test_the_end_of_a_rewound_execution_is_told_under_another_id():
    life = Life(parent=PARENT)
    first = life.fail()
    life.rewind(life.without(), set())

    second = life.step(CompleteOrchestration(0, "1"), mail=[EventRaised(NOW, "E")])

    assert [message.message_id for message in (*first.messages, *second.messages)] == [
        f"{EXECUTION}/end",
        f"{EXECUTION}/end/r1",
    ]
