"""Orchestrators of the out-of-process protocol: the examples of the official SDK, as our histories and actions.

What the code answers is what the official SDK 1.7 answers to the same histories; after how many events that code can
see it does so, is the key of each answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure.core.actions import (
    CallEntity,
    CancelTimer,
    CompleteOrchestration,
    ContinueAsNew,
    CreateSubOrchestration,
    CreateTimer,
    OrchestratorAction,
    ScheduleTask,
    SignalEntity,
)
from perdure.core.codec import payloads
from perdure.core.durable_http import HTTP_ACTIVITY
from perdure.core.events import (
    EntityOperationCalled,
    EntityOperationCompleted,
    EntityOperationFailed,
    EntityOperationSignaled,
    EventRaised,
    ExecutionStarted,
    HistoryEvent,
    OrchestratorCompleted,
    OrchestratorStarted,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceCreated,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
    TimerCreated,
    TimerFired,
)
from perdure.core.failures import FailureDetails
from perdure.core.rewind import rewound
from perdure.errors import NonDeterminismError
from perdure.host.protocol.cursor import ProtocolCursor, ProtocolHandler

T0 = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)
VISIBLE = {5, 6, 8, 9, 11, 15}

Action = dict[str, Any]


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def text(seconds: float) -> str:
    """A time as .NET writes it."""
    return at(seconds).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")


class Code:
    """Answers by how many events it has seen come, and keeps what it was asked."""

    def __init__(self, answers: Mapping[int, Action | str]) -> None:
        self.answers = answers
        self.contexts: list[dict[str, Any]] = []

    def __call__(self, context: Any) -> str:
        self.contexts.append(json.loads(context.body))
        seen = sum(event["EventType"] in VISIBLE for event in self.contexts[-1]["history"])
        answer = self.answers[max(each for each in self.answers if each <= seen)]
        if isinstance(answer, str):
            raise Exception(answer)
        return json.dumps(answer)

    @property
    def history(self) -> list[dict[str, Any]]:
        """What it saw last, without the marks of what is new."""
        return [{name: each[name] for name in each if name != "IsPlayed"} for each in self.contexts[-1]["history"]]


class Run:
    """One instance; every episode is also run by a cursor that has to replay everything before it."""

    def __init__(self, answers: Mapping[int, Action | str], input: str | None = None) -> None:
        self.code = Code(answers)
        self.history: list[HistoryEvent] = []
        self.cursor = self.new_cursor()
        self.input = input

    def new_cursor(self) -> ProtocolCursor:
        return ProtocolCursor("inst1", ProtocolHandler(self.code), payloads, 100)

    def begin(self) -> list[OrchestratorAction]:
        return self.episode(0, ExecutionStarted(at(0), "e1", "orch", self.input))

    def episode(self, seconds: float, *events: HistoryEvent) -> list[OrchestratorAction]:
        new = [OrchestratorStarted(at(seconds)), *events]
        replayed = self.new_cursor()
        if self.history:
            replayed.replay(self.history)
        again = replayed.advance(new)
        actions = self.cursor.advance(new)
        assert again == actions
        assert replayed.custom_status == self.cursor.custom_status
        decided = [_event(each, at(seconds)) for each in actions]
        self.history += [*new, *(each for each in decided if each is not None), OrchestratorCompleted(at(seconds))]
        return actions


def _event(action: OrchestratorAction, now: datetime) -> HistoryEvent | None:
    match action:
        case ScheduleTask():
            return TaskScheduled(now, action.event_id, action.name, action.input)
        case CreateTimer():
            return TimerCreated(now, action.event_id, action.fire_at)
        case CreateSubOrchestration():
            child = action.instance_id or "generated"
            return SubOrchestrationInstanceCreated(now, action.event_id, action.name, child, action.input)
        case CallEntity():
            return EntityOperationCalled(now, action.event_id, action.instance_id, action.operation, action.input)
        case SignalEntity():
            return EntityOperationSignaled(now, action.event_id, action.instance_id, action.operation, action.input)
        case _:
            return None


def state(*actions: Action, **members: Any) -> Action:
    return {"isDone": False, "schemaVersion": 2, "actions": [list(actions)], **members}


def done(*actions: Action, **members: Any) -> Action:
    return state(*actions, **members) | {"isDone": True}


def failed(error: str, *actions: Action) -> str:
    """What the handler raises."""
    answer = state(*actions, error=error)
    return f"{error}\n\n$OutOfProcData$:{json.dumps(answer)}"


def call(name: str, input: str) -> Action:
    return {"actionType": 0, "functionName": name, "input": input}


def retried(name: str, input: str, attempts: int) -> Action:
    options = {"firstRetryIntervalInMilliseconds": 5000, "maxNumberOfAttempts": attempts}
    return all_of({"actionType": 1, "functionName": name, "input": input, "retryOptions": options})


def timer(seconds: float, *, is_cancelled: bool = False) -> Action:
    fire_at = at(seconds).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"actionType": 5, "fireAt": fire_at, "isCanceled": is_cancelled}


def event(name: str) -> Action:
    return {"actionType": 6, "externalEventName": name, "reason": "ExternalEvent"}


def all_of(*actions: Action) -> Action:
    return {"actionType": 12, "compoundActions": list(actions)}


def any_of(*actions: Action) -> Action:
    return {"actionType": 11, "compoundActions": list(actions)}


def wire(seconds: float, kind: int, number: int = -1, **members: Any) -> dict[str, Any]:
    return {"EventId": number, "Timestamp": text(seconds), "EventType": kind, **members}


def wire_begun(input: str | None = None) -> list[dict[str, Any]]:
    instance = {"InstanceId": "inst1", "ExecutionId": "e1"}
    started = wire(
        0, 0, OrchestrationInstance=instance, ParentInstance=None, Name="orch", Version="", Input=input, Tags=None
    )
    return [wire(0, 12), started]


class TestOfficialExamples:
    def test_e1_chain_of_two_activities(self):
        first, second = call("Hello", '"Tokyo"'), call("Hello", '{"x": 1}')
        output = ["Hello Tokyo!", "Hello X!"]
        run = Run({0: state(first), 1: state(first, second), 2: done(first, second, output=output)}, '{"k": "v"}')

        assert run.begin() == [ScheduleTask(0, "Hello", '"Tokyo"')]
        assert run.episode(1, TaskCompleted(at(1), 0, '"Hello Tokyo!"')) == [ScheduleTask(1, "Hello", '{"x": 1}')]
        assert run.episode(2, TaskCompleted(at(2), 1, '"Hello X!"')) == [
            CompleteOrchestration(2, '["Hello Tokyo!", "Hello X!"]')
        ]
        assert run.code.history == [
            *wire_begun('{"k": "v"}'),
            wire(0, 4, 0, Name="Hello", Version="", Input='["\\"Tokyo\\""]'),
            wire(0, 13),
            wire(1, 12),
            wire(1, 5, TaskScheduledId=0, Result='"Hello Tokyo!"'),
            wire(1, 4, 1, Name="Hello", Version="", Input='["{\\"x\\": 1}"]'),
            wire(1, 13),
            wire(2, 12),
            wire(2, 5, TaskScheduledId=1, Result='"Hello X!"'),
        ]

    def test_e1_the_other_members_of_the_context(self):
        run = Run({0: done()}, '{"k": "v"}')

        run.begin()

        assert list(run.code.contexts[0].items())[1:] == [
            ("input", '{"k": "v"}'),
            ("instanceId", "inst1"),
            ("isReplaying", False),
            ("parentInstanceId", None),
            ("upperSchemaVersion", 1),
            ("upperSchemaVersionNew", 2),
            ("defaultHttpAsyncRequestSleepTimeMillseconds", 30000),
        ]

    def test_e1_what_was_seen_before_is_marked(self):
        run = Run({0: state(call("a", "1")), 1: done(call("a", "1"))})
        run.begin()

        run.episode(1, TaskCompleted(at(1), 0, "1"))

        played = [each["IsPlayed"] for each in run.code.contexts[-1]["history"]]
        assert played == [True, True, True, True, False, False]
        assert run.code.contexts[-1]["isReplaying"] is True

    @pytest.mark.parametrize("is_v1", [False, True])
    def test_e2_fan_out_and_in(self, is_v1: bool):
        calls = [call("F", str(each)) for each in range(3)]
        answer = {"isDone": False, "actions": [calls]} if is_v1 else state(all_of(*calls))
        run = Run({0: answer, 3: answer | {"isDone": True, "output": 111}})

        assert run.begin() == [ScheduleTask(each, "F", str(each)) for each in range(3)]
        assert run.episode(1, TaskCompleted(at(1), 1, "10")) == []
        results = [TaskCompleted(at(2), 0, "1"), TaskCompleted(at(2), 2, "100")]
        assert run.episode(2, *results) == [CompleteOrchestration(3, "111")]
        assert [each["EventType"] for each in run.code.history] == [12, 0, 4, 4, 4, 13, 12, 5, 13, 12, 5, 5]

    def test_e3_the_event_wins_and_the_timer_is_cancelled(self):
        waits = state(any_of(timer(90), event("Approval")))
        won = done(any_of(timer(90, is_cancelled=True), event("Approval")), output={"approved": "yes"})
        run = Run({0: waits, 1: won})

        assert run.begin() == [CreateTimer(0, at(90))]
        actions = run.episode(5, EventRaised(at(5), "Approval", '"yes"'))

        assert actions == [CancelTimer(0), CompleteOrchestration(1, '{"approved": "yes"}')]
        assert run.code.history == [
            *wire_begun(),
            wire(0, 10, 0, FireAt=text(90)),
            wire(0, 13),
            wire(5, 12),
            wire(5, 15, Name="Approval", Input='"yes"'),
        ]

    def test_e3_the_timer_wins(self):
        waits = state(any_of(timer(90), event("Approval")))
        run = Run({0: waits, 1: waits | {"isDone": True, "output": "timeout"}})
        run.begin()

        assert run.episode(90, TimerFired(at(90), 0, at(90))) == [CompleteOrchestration(1, '"timeout"')]
        assert run.code.history[-1] == wire(90, 11, TimerId=0, FireAt=text(90))

    def test_e4_entities_are_signalled_and_called(self):
        signal = {"actionType": 9, "instanceId": "@counter@k", "operation": "add", "input": "5"}
        asked = {"actionType": 7, "instanceId": "@counter@k", "operation": "get", "input": "null"}
        run = Run({0: state(signal, asked), 1: done(signal, asked, output=5)})

        assert run.begin() == [
            SignalEntity(0, "@counter@k", "add", "5", None), CallEntity(1, "@counter@k", "get", "null"),
        ]  # fmt: skip
        assert run.episode(1, EntityOperationCompleted(at(1), 1, "5")) == [CompleteOrchestration(2, "5")]
        sent, called = [each for each in run.code.history if each["EventType"] == 14]
        request = json.loads(called["Input"])
        assert json.loads(sent["Input"]) == {
            "op": "add", "signal": True, "input": '"5"', "id": json.loads(sent["Input"])["id"], "parent": "inst1",
        }  # fmt: skip
        assert (called["EventId"], called["InstanceId"], called["Name"]) == (1, "@counter@k", "op")
        assert request == {"op": "get", "input": '"null"', "id": request["id"], "parent": "inst1"}
        assert run.code.history[-1] == wire(1, 15, Name=request["id"], Input='{"result": "5"}')

    def test_e4_an_operation_fails(self):
        asked = {"actionType": 7, "instanceId": "@counter@k", "operation": "get", "input": "null"}
        run = Run({0: state(asked), 1: failed("bad op", asked)})
        run.begin()

        (end,) = run.episode(1, EntityOperationFailed(at(1), 0, FailureDetails("Exception", "bad op")))

        assert isinstance(end, CompleteOrchestration)
        assert end.reason == "bad op"
        assert json.loads(run.code.history[-1]["Input"]) == {"result": '"bad op"', "exceptionType": "Error"}

    def test_e5_an_activity_fails(self):
        details = {
            "$type": "System.Exception, System.Private.CoreLib", "ClassName": "System.Exception",
            "Message": " ValueError: boom", "Data": None, "InnerException": None, "StackTraceString": None,
        }  # fmt: skip
        error = f"Activity function 'A' failed:  ValueError: boom \n {json.dumps(details)}"
        run = Run({0: state(call("A", "null")), 1: failed(error, call("A", "null"))})
        run.begin()

        (end,) = run.episode(1, TaskFailed(at(1), 0, FailureDetails("ValueError", "boom")))

        assert isinstance(end, CompleteOrchestration)
        assert end.failure is not None
        assert (end.reason, end.failure.message) == (error, error)
        assert run.code.history[-1] == wire(
            1, 6, TaskScheduledId=0, Reason="Activity function 'A' failed:  ValueError: boom",
            Details=json.dumps(details),
        )  # fmt: skip

    def test_e6_the_second_attempt_succeeds_and_the_code_sees_nothing_of_the_first(self):
        action = retried("A", '"in"', 2)
        run = Run({0: state(action), 1: done(action, output="ok")})

        assert run.begin() == [ScheduleTask(0, "A", '"in"')]
        assert run.episode(1, TaskFailed(at(1), 0, FailureDetails("E", "0"))) == [CreateTimer(1, at(6))]
        assert run.episode(6, TimerFired(at(6), 1, at(6))) == [ScheduleTask(2, "A", '"in"')]
        assert run.episode(7, TaskCompleted(at(7), 2, '"ok"')) == [CompleteOrchestration(3, '"ok"')]
        assert [each for each in run.code.history if each["EventType"] in VISIBLE] == [
            wire(7, 5, TaskScheduledId=0, Result='"ok"')
        ]

    def test_e6_all_attempts_fail_and_the_code_sees_them_with_the_timers_that_it_expects(self):
        action = retried("A", '"in"', 2)
        run = Run({0: state(action), 4: failed("E: 2", action)})
        run.begin()
        run.episode(1, TaskFailed(at(1), 0, FailureDetails("E", "0")))
        run.episode(6, TimerFired(at(6), 1, at(6)))

        (end,) = run.episode(7, TaskFailed(at(7), 2, FailureDetails("E", "2")))

        assert isinstance(end, CompleteOrchestration)
        seen = [each for each in run.code.history if each["EventType"] in VISIBLE]
        assert [(each["EventType"], each.get("TaskScheduledId"), each.get("TimerId")) for each in seen] == [
            (6, 0, None), (11, None, 1), (6, 2, None), (11, None, 3),
        ]  # fmt: skip
        assert {each["Reason"] for each in seen if each["EventType"] == 6} == {"Activity function 'A' failed:  E: 2"}

    def test_e7_a_child_and_continue_as_new(self):
        child = {
            "actionType": 2, "functionName": "Child", "input": '{"a": 1}', "instanceId": "child-1", "version": None,
        }  # fmt: skip
        again = {"actionType": 4, "input": '{"n": 7}'}
        run = Run({0: state(child), 1: done(child, again, customStatus={"n": 7})})

        assert run.begin() == [CreateSubOrchestration(0, "Child", '{"a": 1}', "child-1", None)]
        assert run.episode(1, SubOrchestrationInstanceCompleted(at(1), 0, "7")) == [ContinueAsNew(1, '{"n": 7}', ())]
        assert run.cursor.custom_status == '{"n": 7}'
        assert run.code.history[2:] == [
            wire(0, 7, 0, Name="Child", Version="", InstanceId="child-1", Input='"{\\"a\\": 1}"'),
            wire(0, 13),
            wire(1, 12),
            wire(1, 8, TaskScheduledId=0, Result="7"),
        ]

    def test_e8_further_parts_of_a_long_timer_are_timers(self):
        days = 24 * 3600
        first, second = all_of(timer(3 * days)), timer(8 * days)
        run = Run({0: state(first), 1: state(first, second), 2: done(first, second, output=[[None], "LongTimerTask"])})

        assert run.begin() == [CreateTimer(0, at(3 * days))]
        assert run.episode(3 * days, TimerFired(at(3 * days), 0, at(3 * days))) == [CreateTimer(1, at(8 * days))]
        (end,) = run.episode(8 * days, TimerFired(at(8 * days), 1, at(8 * days)))
        assert isinstance(end, CompleteOrchestration)


class TestWhatIsScheduled:
    def test_nothing_waits_for_what_the_code_no_longer_waits_for(self):
        """An official host begins the last call only when both of the first two have ended."""
        both = all_of(call("slow", "1"), call("boom", "1"))
        run = Run({0: state(both), 1: state(both, call("cleanup", "1"))})
        run.begin()

        assert run.episode(1, TaskFailed(at(1), 1, FailureDetails("E", "x"))) == [ScheduleTask(2, "cleanup", "1")]

    def test_what_was_scheduled_before_a_failure_is_begun(self):
        run = Run({0: failed("bad", call("a", "1"))})

        begun, end = run.begin()

        assert begun == ScheduleTask(0, "a", "1")
        assert isinstance(end, CompleteOrchestration)
        assert end.failure is not None

    def test_polling_is_not_seen_by_the_code(self):
        fetch = {"actionType": 8, "httpRequest": {"method": "GET", "uri": "http://h/a", "content": None, "headers": {}}}
        run = Run({0: state(fetch), 1: state(fetch, call("a", "1"))})
        later = json.dumps({"statusCode": 202, "headers": {"Location": "/b", "Retry-After": "2"}, "content": ""})
        there = json.dumps({"statusCode": 200, "headers": {}, "content": "x"})

        (first,) = run.begin()
        assert isinstance(first, ScheduleTask)
        assert first.name == HTTP_ACTIVITY
        assert run.episode(1, TaskCompleted(at(1), 0, later)) == [CreateTimer(1, at(3))]
        (second,) = run.episode(3, TimerFired(at(3), 1, at(3)))
        assert isinstance(second, ScheduleTask)
        assert json.loads(second.input or "")["uri"] == "http://h/b"
        assert run.episode(4, TaskCompleted(at(4), 2, there)) == [ScheduleTask(3, "a", "1")]
        assert [each["EventId"] for each in run.code.history if each["EventType"] == 4] == [0]

    @pytest.mark.parametrize("child_id", ["inst1", "@x", "a/b"])
    def test_an_id_that_breaks_a_rule_fails_the_instance(self, child_id: str):
        child = {"actionType": 2, "functionName": "Child", "input": "1", "instanceId": child_id, "version": None}
        run = Run({0: state(child)})

        (end,) = run.begin()

        assert isinstance(end, CompleteOrchestration)
        assert "InvalidInstanceId" in (end.failure.error_type if end.failure else "")

    def test_too_many_decisions_fail_the_instance(self):
        run = Run({0: state(*(call("a", "1") for _ in range(101)))})

        *_, end = run.begin()

        assert isinstance(end, CompleteOrchestration)
        assert "100" in (end.reason or "")


class TestAnswers:
    def test_an_exception_without_an_answer_says_what_the_official_host_says(self):
        run = Run({0: "no answer"})

        (end,) = run.begin()

        assert isinstance(end, CompleteOrchestration)
        assert (end.reason or "").startswith(
            "One or more errors occurred. (Result: Failure\nException: Exception: no answer\nStack: Traceback"
        )

    def test_an_exception_whose_text_has_the_label_too_is_read_to_its_end(self):
        error = "odd $OutOfProcData$:{} and\n\n$OutOfProcData$:{}"
        run = Run({0: failed(error)})

        (end,) = run.begin()

        assert isinstance(end, CompleteOrchestration)
        assert end.reason == error

    def test_a_number_that_is_not_finite_is_no_output(self):
        run = Run({0: done(output=float("nan"))})

        (end,) = run.begin()

        assert isinstance(end, CompleteOrchestration)
        assert end.failure is not None

    def test_a_handler_that_returns_no_text_fails_its_instance(self):
        cursor = ProtocolCursor("inst1", ProtocolHandler(lambda context: None), payloads, 100)

        (end,) = cursor.advance([OrchestratorStarted(at(0)), ExecutionStarted(at(0), "e1", "orch")])

        assert isinstance(end, CompleteOrchestration)
        assert "returned a NoneType, but has to return text" in (end.reason or "")


class TestEvents:
    def test_events_that_nobody_waited_for_go_along(self):
        run = Run({0: state(event("op")), 2: done(event("op"), {"actionType": 4, "input": "1"})})
        run.begin()

        (again,) = run.episode(1, EventRaised(at(1), "other", "1"), EventRaised(at(1), "op", "2"))

        assert again == ContinueAsNew(0, "1", (EventRaised(at(1), "other", "1"),))

    def test_events_that_came_after_the_end_go_along(self):
        waits = any_of(timer(1), event("op"))
        run = Run({0: state(waits), 1: done(waits, {"actionType": 4, "input": "1"})})
        run.begin()

        (again,) = run.episode(1, TimerFired(at(1), 0, at(1)), EventRaised(at(1), "op", "2"))

        assert again == ContinueAsNew(1, "1", (EventRaised(at(1), "op", "2"),))


class TestDeterminism:
    def test_a_list_that_has_changed_is_told(self):
        run = Run({0: state(call("a", "1")), 1: state(call("b", "1"))})
        run.begin()

        (end,) = run.cursor.advance([OrchestratorStarted(at(1)), TaskCompleted(at(1), 0, "1")])

        assert isinstance(end, CompleteOrchestration)
        assert end.failure is not None
        assert end.failure.error_type == "NonDeterministicOrchestrationException"
        assert "'a'" in end.failure.message
        assert "'b'" in end.failure.message

    @pytest.mark.parametrize(
        "now",
        [state(), state(call("b", "1")), state(timer(5)), state(call("a", "1"), call("b", "1")), done(call("a", "1"))],
    )
    def test_a_history_that_the_code_does_not_go_along_with_is_told(self, now: Action):
        run = Run({0: state(call("a", "1"))})
        run.begin()
        changed = ProtocolCursor("inst1", ProtocolHandler(Code({0: now})), payloads, 100)

        with pytest.raises(NonDeterminismError):
            changed.replay(run.history)

    @pytest.mark.parametrize("seen", [0, 1])
    def test_what_the_code_raises_instead_is_told(self, seen: int):
        run = Run({0: state(call("a", "1")), 1: state(call("a", "1"), call("b", "1"))})
        run.begin()
        run.episode(1, TaskCompleted(at(1), 0, "1"))
        answers = {0: state(call("a", "1")), seen: "it has gone"}
        changed = ProtocolCursor("inst1", ProtocolHandler(Code(answers)), payloads, 100)

        with pytest.raises(NonDeterminismError) as raised:
            changed.replay(run.history)

        assert "it has gone" in str(raised.value)

    def test_an_id_that_was_fine_once_and_breaks_a_rule_now_is_told(self):
        child = {"actionType": 2, "functionName": "Child", "input": "1", "instanceId": "x", "version": None}
        run = Run({0: state(child)})
        run.begin()
        changed = ProtocolCursor(
            "inst1", ProtocolHandler(Code({0: state(child | {"instanceId": "@x"})})), payloads, 100
        )

        with pytest.raises(NonDeterminismError):
            changed.replay(run.history)


class TestRewind:
    def test_the_code_goes_on_before_its_failure(self):
        first, second = call("a", "1"), retried("b", "1", 2)
        run = Run({0: state(first), 1: state(first, second), 5: failed("b is down", first, second)})
        run.begin()
        run.episode(1, TaskCompleted(at(1), 0, "1"))
        run.episode(2, TaskFailed(at(2), 1, FailureDetails("E", "0")))
        run.episode(7, TimerFired(at(7), 2, at(7)))
        (end,) = run.episode(8, TaskFailed(at(8), 3, FailureDetails("E", "1")))
        assert isinstance(end, CompleteOrchestration)

        cursor, kept = rewound(run.history, run.new_cursor)

        assert _decided(kept) == [0, 1]
        assert cursor.open_ids == {1}
        run.cursor, run.history = cursor, list(kept)
        run.code.answers = {0: state(first), 1: state(first, second), 2: done(first, second, output="well")}
        assert run.episode(9, TaskCompleted(at(9), 1, '"now"')) == [CompleteOrchestration(2, '"well"')]


def _decided(events: Sequence[HistoryEvent]) -> list[int]:
    return [each.event_id for each in events if isinstance(each, TaskScheduled | TimerCreated)]
