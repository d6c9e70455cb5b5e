"""Mail and numbers that cross a rewind, a suspension or a replacement; each of these was found by the simulator."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from given import EXECUTION_ID, given, raised, scheduled, suspended
from perdure.core.actions import CompleteOrchestration, ContinueAsNew, CreateSubOrchestration, ScheduleTask
from perdure.core.codec import PayloadCodec
from perdure.core.cursor import OrchestrationCursor
from perdure.core.events import (
    ExecutionCompleted,
    ExecutionRewound,
    ExecutionStarted,
    HistoryEvent,
    OrchestratorCompleted,
    OrchestratorStarted,
    ParentInstance,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
    TimerCreated,
)
from perdure.core.failures import FailureDetails
from perdure.core.records import Checkpoint, Instance, Message, RuntimeStatus, StoredInstance
from perdure.core.retry import RetryPolicy, retried
from perdure.core.rewind import rewound
from perdure.core.state import RuntimeState
from perdure.core.tasks import ActivityCall, EventTask, Routine, TaskAll, TaskAny, TimerTask

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SECOND = timedelta(seconds=1)
BOOM = FailureDetails("ValueError", "boom")


def instance(**fields: object) -> Instance:
    row: dict[str, object] = {
        "instance_id": "i",
        "execution_id": EXECUTION_ID,
        "name": "orchestrator",
        "status": RuntimeStatus.PENDING,
        "created_at": NOW,
        "updated_at": NOW,
        "created_by": EXECUTION_ID,
    }
    return Instance(**(row | fields))


# ---------------------------------------------------------------------- events


def test_giving_a_wait_up_takes_no_event_that_is_kept():
    def waits(context):
        cursor = context._cursor
        lost = EventTask("e", cursor)
        yield TaskAny([lost, ActivityCall("a", None)])
        yield ActivityCall("b", None)  # the event comes meanwhile, and is kept
        lost.cancel()
        return (yield EventTask("e", cursor))

    history = (scheduled(0, "a"), TaskCompleted(NOW, 0), scheduled(1, "b"), raised("e", 7), TaskCompleted(NOW, 1))

    given(*history).run(waits).expect(CompleteOrchestration(2, "7"))


def test_events_withheld_by_a_suspension_that_came_with_the_end_of_a_generation_are_carried():
    def goes_on(context):
        yield context.wait_for_external_event("go")
        context.continue_as_new(1)

    later = raised("later", 7)

    given(raised("go"), suspended(), later).run(goes_on).expect(ContinueAsNew(0, "1", (later,)))


# ---------------------------------------------------------------------- numbers


def test_after_a_failure_that_goes_a_timer_of_another_call_is_not_kept():
    """Both calls fail; without the first failure, the second one's pause would have the number of the first one's."""

    def both(cursor: OrchestrationCursor):
        def attempt(name: str, seconds: int) -> Routine:
            policy = RetryPolicy(seconds * SECOND, 2)
            call = ActivityCall
            timer = TimerTask
            return Routine(
                retried(policy, lambda: call(name, None), lambda: cursor.now, lambda when: timer(when, cursor)), cursor
            )

        yield TaskAll([attempt("quick", 1), attempt("slow", 100)])

    history: list[HistoryEvent] = [
        OrchestratorStarted(NOW),
        ExecutionStarted(NOW, EXECUTION_ID, "orchestrator"),
        TaskScheduled(NOW, 0, "quick"),
        TaskScheduled(NOW, 1, "slow"),
        OrchestratorCompleted(NOW),
        OrchestratorStarted(NOW),
        TaskFailed(NOW, 0, BOOM),
        TaskFailed(NOW, 1, BOOM),
        TimerCreated(NOW, 2, NOW + SECOND),
        TimerCreated(NOW, 3, NOW + 100 * SECOND),
        OrchestratorCompleted(NOW),
    ]
    cursor = OrchestrationCursor("i", both, PayloadCodec())

    kept = cursor.retrace(history, {0})

    assert [event for event in kept if isinstance(event, TimerCreated)] == []
    (pause,) = cursor.advance([OrchestratorStarted(NOW + 5 * SECOND), ExecutionRewound(NOW)])
    assert (pause.event_id, getattr(pause, "fire_at", None)) == (2, NOW + 100 * SECOND)


def test_a_program_that_fails_without_a_failed_task_keeps_its_history():
    def fails(cursor: OrchestrationCursor):
        yield ActivityCall("a", None)
        raise ValueError("by itself")

    history: list[HistoryEvent] = [
        OrchestratorStarted(NOW),
        ExecutionStarted(NOW, EXECUTION_ID, "orchestrator"),
        TaskScheduled(NOW, 0, "a"),
        OrchestratorCompleted(NOW),
        OrchestratorStarted(NOW),
        TaskCompleted(NOW, 0),
        ExecutionCompleted(NOW, 1, RuntimeStatus.FAILED, None, BOOM),
        OrchestratorCompleted(NOW),
    ]

    _, kept = rewound(history, lambda: OrchestrationCursor("i", fails, PayloadCodec()))

    assert kept == [event for event in history if not isinstance(event, ExecutionCompleted)]


class Life:
    """An instance that failed, and calls something else under number 0 since it was rewound."""

    def __init__(self, former: ScheduleTask | CreateSubOrchestration, later: ScheduleTask | CreateSubOrchestration):
        self.state = RuntimeState(StoredInstance(instance(), 0))
        self.first = self._step([], former)
        end = self.state.automaton.next_event_id
        failing = Message("event", "i", None, raised("fail"))
        self._step([failing], CompleteOrchestration(end, None, BOOM, "boom"))
        rewind = Message("rewind", "i", None, ExecutionRewound(NOW))
        episode = self.state.accept([rewind], NOW + SECOND)
        kept = [
            OrchestratorStarted(NOW),
            ExecutionStarted(NOW, EXECUTION_ID, "orchestrator"),
            OrchestratorCompleted(NOW),
        ]
        self.second = self.state.rewind(episode, kept, [later], None, set(), {})

    def _step(self, mail: Sequence[Message], *actions: ScheduleTask | CreateSubOrchestration | CompleteOrchestration):
        return self.state.apply(self.state.accept(mail, NOW), actions, None)

    def takes(self, message: Message) -> bool:
        """Whether the mail becomes history."""
        return message.event in self.state.accept([message], NOW + 2 * SECOND).events


def result_of(checkpoint: Checkpoint) -> Message:
    """The result of the activity that a checkpoint calls."""
    (task,) = checkpoint.activities
    event = TaskCompleted(NOW, task.task_id, "1")
    return Message(task.activity_id, task.instance_id, task.execution_id, event, is_stored=False)


def test_the_result_of_an_activity_that_a_rewind_took_away_is_not_taken_for_that_of_its_successor():
    life = Life(ScheduleTask(0, "a", "1"), ScheduleTask(0, "b", "2"))

    assert not life.takes(result_of(life.first))
    assert life.takes(result_of(life.second))


def test_the_answer_of_a_child_that_a_rewind_took_away_is_not_taken_for_that_of_its_successor():
    life = Life(CreateSubOrchestration(0, "a", None, None, None), CreateSubOrchestration(0, "b", None, None, None))
    (former,), (later,) = life.first.children, life.second.children

    assert former.instance_id != later.instance_id
    assert former.execution_id != later.execution_id
    for child, is_taken in ((former, False), (later, True)):
        assert child.parent is not None
        answer = SubOrchestrationInstanceCompleted(NOW, 0, "1")
        assert life.takes(Message(child.instance_id, "i", child.parent.execution_id, answer)) is is_taken


# ---------------------------------------------------------------------- whom a parent asks to try again


def test_a_parent_hears_that_whom_it_rewinds_is_another_by_now():
    parent = ParentInstance("parent", "p" * 32, "outer", 4)
    for status in (RuntimeStatus.PENDING, RuntimeStatus.FAILED):
        state = RuntimeState(StoredInstance(instance(status=status), 0))

        episode = state.accept([Message("rewind", "i", parent.execution_id, ExecutionRewound(NOW, None, parent))], NOW)

        (reply,) = episode.replies
        assert (reply.instance_id, reply.execution_id, type(reply.event)) == (
            "parent",
            parent.execution_id,
            SubOrchestrationInstanceFailed,
        )


# ---------------------------------------------------------------------- clocks


def test_an_instance_whose_start_message_came_starts_even_if_the_clock_was_set_back():
    start_at = NOW + 60 * SECOND
    state = RuntimeState(StoredInstance(instance(start_at=start_at), 0))
    start = Message("start", "i", EXECUTION_ID, ExecutionStarted(NOW, EXECUTION_ID, "orchestrator"), start_at)

    episode = state.accept([start], NOW)

    assert (episode.is_early, episode.now) == (False, start_at)


def test_a_later_generation_waits_for_no_time():
    state = RuntimeState(StoredInstance(instance(start_at=NOW + 60 * SECOND, execution_id="next"), 0))

    assert not state.accept([], NOW).is_early
