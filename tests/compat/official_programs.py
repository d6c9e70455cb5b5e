"""Runs in an environment with the official SDK: its orchestrators under the cursor, in any order that things may come.

Prints one JSON line for each program: its name, and the outcomes that were not the expected one.
"""

import json
import random
import sys
import warnings
from datetime import UTC, datetime, timedelta

from perdure.core.actions import (
    CallEntity,
    CompleteOrchestration,
    ContinueAsNew,
    CreateSubOrchestration,
    CreateTimer,
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
    ExecutionResumed,
    ExecutionStarted,
    ExecutionSuspended,
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
from perdure.host.protocol.cursor import ProtocolCursor, ProtocolHandler
from perdure.host.sdk.sdk import APPS, chosen_sdk

chosen_sdk(APPS)

import azure.durable_functions as df  # noqa: E402 - it is the official one only now

T0 = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TWICE = df.RetryOptions(1000, 2)
THRICE = df.RetryOptions(1000, 3)


def text(error):
    return str(error).partition(" \n ")[0].partition(":  ")[2]


# ---------------------------------------------------------------------- programs, and what they have to come to


def chain(context):
    first = yield context.call_activity("echo", 1)
    second = yield context.call_activity("echo", first + 1)
    return [first, second, (yield context.call_sub_orchestrator("child", second))]


def fan_out(context):
    return (yield context.task_all([context.call_activity("echo", each) for each in range(5)]))


def retries(context):
    results = yield context.task_all([
        context.call_activity_with_retry("flaky", THRICE, 1),
        context.call_activity("echo", "plain"),
        context.call_activity_with_retry("flaky", THRICE, 2),
    ])  # fmt: skip
    return [results, (yield context.call_activity("echo", "after"))]


def given_up(context):
    doomed = context.call_activity_with_retry("doomed", TWICE, "d")
    other = context.call_activity("echo", "other")
    said = []
    yield context.task_any([doomed, other])
    said.append((yield other))
    said.append((yield context.call_activity("echo", "between")))
    try:
        yield doomed
    except Exception as error:
        said.append(text(error))
    said.append((yield context.call_activity_with_retry("flaky", THRICE, 1)))
    return said


def given_up_at_once(context):
    other = context.call_activity("echo", "other")
    doomed = context.call_activity_with_retry("doomed", df.RetryOptions(1000, 1), "d")
    try:
        yield context.task_all([other, doomed])
    except Exception as error:
        return [text(error), (yield context.call_activity("echo", "after")), (yield other)]


def fails_fast(context):
    slow = context.call_activity_with_retry("flaky", THRICE, 1)
    try:
        yield context.task_all([slow, context.call_activity("doomed", "x")])
    except Exception as error:
        saved = yield context.call_activity("echo", "saved")
        return [text(error), saved, (yield slow)]


def race(context):
    doomed = [context.call_activity_with_retry("doomed", TWICE, each) for each in "ab"]
    said = []
    for each in range(3):
        said.append((yield context.call_activity("echo", each)))
        try:
            yield context.task_any(doomed)
        except Exception as error:
            said.append(text(error))
    for each in doomed:
        try:
            yield each
        except Exception as error:
            said.append(text(error))
    return sorted(map(str, said))


def timeouts(context):
    timer = context.create_timer(context.current_utc_datetime + timedelta(hours=1))
    event = context.wait_for_external_event("go")
    winner = yield context.task_any([timer, event])
    if winner == event:
        timer.cancel()
    yield context.call_activity("echo", "after")
    return "ended"


def fetches(context):
    one, two = yield context.task_all(
        [context.call_http("GET", "http://host/a"), context.call_http("GET", "http://host/b")]
    )
    after = yield context.call_activity("echo", "after")
    return [one["content"], two["content"], after]


def entities(context):
    counter = df.EntityId("counter", "k")
    context.signal_entity(counter, "add", 1)
    results = yield context.task_all([
        context.call_entity(counter, "echo", 5),
        context.call_activity_with_retry("flaky", THRICE, 1),
        context.call_entity(counter, "echo", "six"),
    ])  # fmt: skip
    try:
        yield context.call_entity(counter, "boom")
    except Exception as error:
        results.append(str(error))
    return results


def raises(context):
    results = yield context.task_all([context.call_activity("echo", each) for each in range(3)])
    context.call_activity("echo", "never")
    raise ValueError(f"sum {sum(results)}")


def swallows_events(context):
    first = yield context.wait_for_external_event("op")
    yield context.call_activity("echo", 1)
    second = yield context.wait_for_external_event("op")
    return sorted([first, second])


FLAKY = 10  # what a flaky activity returns in the end, times its input
EXPECTED = {
    chain: [1, 2, 2],
    fan_out: [0, 1, 2, 3, 4],
    retries: [[FLAKY, "plain", 2 * FLAKY], "after"],
    given_up: ["other", "between", "ValueError: d", FLAKY],
    given_up_at_once: ["ValueError: d", "after", "other"],
    fails_fast: ["ValueError: x", "saved", FLAKY],
    race: None,
    timeouts: "ended",
    fetches: ["a", "b", "after"],
    entities: [5, FLAKY, "six", "boom"],
    raises: "sum 3",
    swallows_events: ["e0", "e1"],
}


# ---------------------------------------------------------------------- an engine that is in no hurry


class Run:
    """One orchestration: mail comes in any order, in any batches, and hosts come and go."""

    def __init__(self, program, seed):
        self.random = random.Random(seed)
        self.handler = ProtocolHandler(df.Orchestrator.create(program))
        self.history = []
        self.mail = []
        self.now = T0
        self.attempts = {}
        self.cursor = None
        self.outcome = None
        self.events = 2 if program in (timeouts, swallows_events) else 0
        self.suspends = self.random.random() < 0.2
        self.is_slow = self.random.random() < 0.5  # plain results come late, and with others

    def until_ended(self):
        self.episode([ExecutionStarted(T0, "e1", "program")])
        for _ in range(1000):
            if self.outcome is not None:
                return self.outcome
            if self.events and self.random.random() < 0.5:
                self.mail.append(EventRaised(self.now, "go" if self.events == 3 else "op", f'"e{2 - self.events}"'))
                self.events -= 1
            if not self.mail:
                continue
            batch, self.mail = self.some_mail()
            if self.suspends and self.random.random() < 0.3:
                self.episode([ExecutionSuspended(self.now), *batch])
                batch = [ExecutionResumed(self.now)]
            self.episode(batch)
        raise AssertionError("it has not ended")

    def some_mail(self):
        self.random.shuffle(self.mail)
        late = [each for each in self.mail if isinstance(each, TaskCompleted)]
        others = [each for each in self.mail if not isinstance(each, TaskCompleted)]
        if self.is_slow and others and self.random.random() < 0.8:
            return others, late
        if self.is_slow and others:
            return [*late, *others], []
        count = self.random.randint(1, len(self.mail))
        return self.mail[:count], self.mail[count:]

    def episode(self, batch):
        self.now += timedelta(seconds=1)
        events = [OrchestratorStarted(self.now), *batch]
        if self.cursor is None or self.random.random() < 0.4:
            self.cursor = ProtocolCursor("inst1", self.handler, payloads, 1000)
            if self.history:
                self.cursor.replay(self.history)
        actions = self.cursor.advance(events)
        self.history += events
        for action in actions:
            self.apply(action)
        self.history.append(OrchestratorCompleted(self.now))

    def apply(self, action):
        now = self.now
        match action:
            case ScheduleTask(event_id=number, name=name, input=given):
                self.history.append(TaskScheduled(now, number, name, given))
                self.mail.append(self.activity(number, name, json.loads(given)))
            case CreateTimer(event_id=number, fire_at=fire_at):
                self.history.append(TimerCreated(now, number, fire_at))
                self.mail.append(TimerFired(now, number, fire_at))
            case CreateSubOrchestration(event_id=number, name=name, input=given):
                self.history.append(SubOrchestrationInstanceCreated(now, number, name, "child-id", given))
                self.mail.append(SubOrchestrationInstanceCompleted(now, number, given))
            case CallEntity(event_id=number, instance_id=entity, operation=operation, input=given):
                self.history.append(EntityOperationCalled(now, number, entity, operation, given))
                failed = EntityOperationFailed(now, number, FailureDetails("Exception", "boom"))
                self.mail.append(failed if operation == "boom" else EntityOperationCompleted(now, number, given))
            case SignalEntity(event_id=number, instance_id=entity, operation=operation, input=given):
                self.history.append(EntityOperationSignaled(now, number, entity, operation, given))
            case CompleteOrchestration(result=result, reason=reason):
                self.outcome = reason if result is None else json.loads(result)
            case ContinueAsNew(input=given):
                self.outcome = given
            case _:
                pass

    def activity(self, number, name, given):
        if name == HTTP_ACTIVITY:
            return self.http(number, given["uri"])
        if name == "doomed":
            return TaskFailed(self.now, number, FailureDetails("ValueError", given))
        if name == "flaky":
            tries = self.attempts[given] = self.attempts.get(given, 0) + 1
            if tries < 3:
                return TaskFailed(self.now, number, FailureDetails("ValueError", f"try {tries}"))
            given *= FLAKY
        return TaskCompleted(self.now, number, json.dumps(given))

    def http(self, number, uri):
        tries = self.attempts[uri] = self.attempts.get(uri, 0) + 1
        answer = {"statusCode": 200, "headers": {}, "content": uri.removeprefix("http://host/")}
        if tries < 3:
            answer = {"statusCode": 202, "headers": {"Location": uri, "Retry-After": "1"}, "content": ""}
        return TaskCompleted(self.now, number, json.dumps(answer))


def main(seeds):
    warnings.simplefilter("ignore")  # the SDK warns of events that nobody waits for yet
    for program, expected in EXPECTED.items():
        wrong = []
        for seed in range(seeds):
            try:
                outcome = Run(program, seed).until_ended()
            except Exception as error:
                outcome = f"{type(error).__name__}: {error}"
            if expected is not None and outcome != expected:
                wrong.append([seed, outcome])
            if expected is None and not isinstance(outcome, list):
                wrong.append([seed, outcome])
        print(json.dumps({"program": program.__name__, "wrong": wrong[:3], "count": len(wrong)}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
