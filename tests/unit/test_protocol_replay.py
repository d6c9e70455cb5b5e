"""Replays for the official host: schemas, edges, and where perdure's answer is the better one."""

import json
from datetime import timedelta, timezone
from typing import Any

import azure.durable_functions as df
import azure.functions as func
import pytest
from azure.durable_functions.models.ReplaySchema import ReplaySchema
from azure.durable_functions.models.Task import LongTimerTask, TaskState
from protocol_kit import actions, answer, at, begun, context, episode, event

DAY = 24 * 3600


def calls(context):
    return (yield context.call_activity("A"))


def scheduled(event_id: int, seconds: float = 0) -> dict[str, Any]:
    return event(4, seconds, event_id, Name="A", Version="", Input='["null"]')


def completed(task_id: int, seconds: float, result: Any = None) -> dict[str, Any]:
    return event(5, seconds, TaskScheduledId=task_id, Result=json.dumps(result))


def raised(seconds: float, name: str, data: Any = None) -> dict[str, Any]:
    return event(15, seconds, Name=name, Input=json.dumps(data))


def output(orchestrator: Any, history: list[dict[str, Any]], **members: Any) -> Any:
    return json.loads(answer(orchestrator, history, **members)).get("output")


def failure(orchestrator: Any, history: list[dict[str, Any]], **members: Any) -> dict[str, Any]:
    with pytest.raises(Exception, match="OutOfProcData") as raised:
        answer(orchestrator, history, **members)
    return json.loads(str(raised.value).split("$OutOfProcData$:")[1])


class TestWhatIsSent:
    @pytest.mark.parametrize(
        ("old", "new", "schema"),
        [
            (None, None, None),
            (0, None, None),
            (1, None, ReplaySchema.V2),
            (2, None, ReplaySchema.V3),
            (1, 2, ReplaySchema.V3),
            (1, 5, ReplaySchema.V3),
            (0, 2, ReplaySchema.V3),
            (2, 0, ReplaySchema.V3),
        ],
    )
    def test_the_schema_is_the_newest_that_both_know(self, old: int | None, new: int | None, schema: int | None):
        given = json.loads(answer(calls, begun(), upperSchemaVersion=old, upperSchemaVersionNew=new))

        assert given.get("schemaVersion") == schema

    def test_a_schema_of_the_old_member_that_nobody_knows_is_refused(self):
        with pytest.raises(ValueError, match="3 is not a valid ReplaySchema"):
            answer(calls, begun(), upperSchemaVersion=3)

    @pytest.mark.parametrize("text", ["00:00", "PT1H", "x"])
    def test_a_duration_that_is_none_is_refused(self, text: str):
        with pytest.raises(ValueError, match="Format of TimeSpan failed"):
            answer(calls, begun(), maximumShortTimerDuration=text)

    def test_a_history_of_one_event_is_refused(self):
        with pytest.raises(ValueError, match="size 1 when a minimum size of 2"):
            answer(calls, begun()[:1])

    def test_a_history_in_which_no_episode_began_is_refused(self):
        with pytest.raises(ValueError, match="no OrchestratorStarted"):
            answer(calls, [begun()[1], scheduled(0)])

    @pytest.mark.parametrize(
        ("sent", "seen"),
        [
            ({"k": "v"}, {"k": "v"}),
            ('{"k": "v"}', {"k": "v"}),
            ("no JSON", "no JSON"),
            ([1], [1]),
            (5, 5),
            ('"5"', "5"),
            (None, None),
        ],
    )
    def test_the_input_is_decoded_however_it_was_encoded(self, sent: Any, seen: Any):
        assert output(lambda context: [context.get_input()], begun(), input=sent) == [seen]

    def test_the_context_knows_who_and_when(self):
        def tells(context):
            return [
                context.instance_id,
                context.parent_instance_id,
                context.version,
                context.current_utc_datetime.isoformat(),
                context.function_context.defaultHttpAsyncRequestSleepTimeMillseconds,
                [each.EventType for each in context.histories],
            ]

        given = output(tells, begun(version="7"), parentInstanceId="p")

        assert given == ["inst1", "p", "7", "2026-01-02T03:04:05.678900+00:00", 30000, [12, 0]]

    def test_new_ids_are_those_of_running_instances(self):
        def makes(context):
            return [context.new_uuid(), context.new_uuid(), str(context.new_guid())]

        assert output(makes, begun()) == [
            "9538663f-1997-5460-8c11-2efa410f3537",
            "02482dc7-3c5f-5bb3-a4c7-0c58094057ff",
            "729b1258-9e4d-5c95-b6df-ebe1a1b1022b",
        ]

    @pytest.mark.parametrize("is_marked", [True, False])
    def test_replaying_is_known_by_the_episode_even_if_events_are_not_marked(self, is_marked: bool):
        def tells(context):
            seen = [context.is_replaying]
            yield context.call_activity("A")
            return [*seen, context.is_replaying]

        history = [*begun(played=is_marked), scheduled(0), *episode(1, completed(0, 1))]

        assert output(tells, history) == [True, False]

    def test_the_argument_may_be_text_or_an_object_with_a_body(self):
        handle = df.Orchestrator.create(calls)
        text = context(begun())

        assert handle(text) == handle(func.OrchestrationContext(text)) == handle(context=text)
        assert df.Orchestrator(calls).handle(df.DurableOrchestrationContext.from_json(text)) == handle(text)
        with pytest.raises(TypeError, match="expected JSON text"):
            handle(5)


class TestWhatIsAnswered:
    def test_a_task_that_is_not_yielded_is_not_scheduled(self):
        def orchestrator(context):
            context.call_activity("never")
            yield context.call_activity("A")

        assert len(actions(orchestrator, begun())[0]) == 1

    def test_a_composite_lists_what_was_not_scheduled_before(self):
        def orchestrator(context):
            first = context.wait_for_external_event("E")
            yield context.task_any([first, context.call_activity("A")])
            yield context.task_any([first, context.call_activity("B")])

        history = [*begun(), scheduled(0), *episode(1, completed(0, 1))]

        assert [
            [part["actionType"] for part in each["compoundActions"]] for each in actions(orchestrator, history)[0]
        ] == [
            [6, 0],
            [0],
        ]

    def test_a_task_that_is_listed_twice_is_scheduled_once(self):
        def orchestrator(context):
            task = context.call_activity("A")
            yield context.task_all([task, task])

        assert len(actions(orchestrator, begun())[0][0]["compoundActions"]) == 1

    @pytest.mark.parametrize("status", [0, "", False, []])
    def test_a_custom_status_that_is_false_is_shown(self, status: Any):
        given = json.loads(answer(lambda context: context.set_custom_status(status), begun()))

        assert given["customStatus"] == status

    def test_signals_can_be_sent_for_later(self):
        def orchestrator(context):
            context.signal_entity(df.EntityId("C", "k"), "reset", scheduled_time=timedelta(days=1))

        assert actions(orchestrator, begun()) == [[{
            "actionType": 10, "instanceId": "@c@k", "operation": "reset", "input": "null",
            "fireAt": "2026-01-03T03:04:05.678900Z",
        }]]  # fmt: skip

    def test_a_signal_after_continue_as_new_is_not_lost(self):
        def orchestrator(context):
            context.continue_as_new(1)
            context.signal_entity(df.EntityId("C", "k"), "add")

        assert [each["actionType"] for each in actions(orchestrator, begun())[0]] == [9, 4]

    def test_failing_after_continue_as_new_says_both(self):
        def orchestrator(context):
            context.continue_as_new(1)
            raise ValueError("late")

        given = failure(orchestrator, begun())

        assert (given["isDone"], given["error"], given["actions"]) == (
            True,
            "late",
            [[{"actionType": 4, "input": "1"}]],
        )

    def test_an_error_without_a_text_is_told_by_its_type(self):
        def orchestrator(context):
            yield context.call_activity("A")
            raise KeyError

        history = [*begun(), scheduled(0), *episode(1, completed(0, 1))]

        assert failure(orchestrator, history)["error"] == "<class 'KeyError'>"

    def test_a_plain_function_that_raises_fails_with_its_actions(self):
        def orchestrator(context):
            context.signal_entity(df.EntityId("C", "k"), "add")
            raise ValueError("plain")

        given = failure(orchestrator, begun())

        assert (given["error"], len(given["actions"][0])) == ("plain", 1)

    def test_coroutines_are_orchestrators_as_well(self):
        async def orchestrator(context):
            return await context.task_all([context.call_activity("A"), context.call_activity("B")])

        history = [*begun(), scheduled(0), scheduled(1), *episode(1, completed(1, 1, "b"), completed(0, 1, "a"))]

        assert output(orchestrator, history) == ["a", "b"]

    def test_an_output_may_be_an_object_with_to_json(self):
        class Order:
            @staticmethod
            def to_json(order: Any) -> dict[str, int]:
                return {"n": 1}

        assert output(lambda context: Order(), begun())["__data__"] == {"n": 1}


class Parcel:
    """A class of the app, as the official host's payloads name it."""

    def __init__(self, article: str) -> None:
        self.article = article

    @staticmethod
    def to_json(parcel: Any) -> dict[str, str]:
        return {"article": parcel.article}

    @classmethod
    def from_json(cls, members: dict[str, str]) -> "Parcel":
        return cls(members["article"])


class TestClasses:
    def envelope(self, module: str, name: str) -> dict[str, Any]:
        return {"__class__": name, "__module__": module, "__data__": {"article": "tea"}}

    def kind(self, context: Any) -> Any:
        return type((yield context.call_activity("A"))).__name__

    def test_a_result_becomes_an_object_of_the_apps_own_class(self):
        result = self.envelope(__name__, "Parcel")

        assert output(self.kind, [*begun(), scheduled(0), *episode(1, completed(0, 1, result))]) == "Parcel"

    def test_a_class_of_another_package_is_not_made_because_a_payload_names_it(self):
        result = self.envelope("azure.durable_functions.models", "PurgeHistoryResult")

        assert output(self.kind, [*begun(), scheduled(0), *episode(1, completed(0, 1, result))]) == "dict"


class TestEvents:
    def waits_twice(self, context: Any) -> Any:
        first = yield context.wait_for_external_event("E")
        second = yield context.wait_for_external_event("e")
        return [first, second]

    def test_every_event_that_came_early_is_kept_in_order_whatever_its_case(self):
        history = [*begun(), *episode(1, raised(1, "e", 1), raised(1, "E", 2))]

        assert output(self.waits_twice, history) == [1, 2]

    def test_a_wait_with_a_timeout_is_a_race(self):
        def orchestrator(context):
            try:
                return (yield context.wait_for_external_event("E", timeout=timedelta(minutes=1)))
            except TimeoutError:
                return "late"

        first = [*begun(), event(10, event_id=0, FireAt=at(60))]
        assert [part["actionType"] for part in actions(orchestrator, first)[0][0]["compoundActions"]] == [6, 5]
        assert output(orchestrator, [*first, *episode(5, raised(5, "E", "in time"))]) == "in time"
        assert output(orchestrator, [*first, *episode(60, event(11, 60, TimerId=0, FireAt=at(60)))]) == "late"


class TestTimers:
    def cancels(self, context: Any) -> Any:
        timer = context.create_timer(context.current_utc_datetime + timedelta(days=8))
        done = yield context.task_any([timer, context.call_activity("A")])
        timer.cancel()
        return [isinstance(timer, LongTimerTask), timer.is_canceled(), done.result]

    def test_giving_a_long_timer_up_gives_its_part_up(self):
        history = [*begun(), event(10, event_id=0, FireAt=at(3 * DAY)), scheduled(1), *episode(1, completed(1, 1, "a"))]

        given = json.loads(answer(self.cancels, history))

        assert given["output"] == [True, True, "a"]
        assert given["actions"][0][0]["compoundActions"][0]["compoundActions"][0]["isCanceled"] is True

    def test_a_part_that_fires_after_the_whole_time_is_the_last(self):
        def orchestrator(context):
            yield context.create_timer(context.current_utc_datetime + timedelta(days=8))
            return "late"

        late = 9 * DAY
        history = [*begun(), event(10, event_id=0, FireAt=at(3 * DAY)), *episode(late, event(11, late, TimerId=0))]

        assert output(orchestrator, history) == "late"

    def test_a_host_without_limits_takes_long_timers_whole(self):
        given = actions(
            self.cancels, begun(), maximumShortTimerDuration=None, longRunningTimerIntervalDuration=None
        )  # fmt: skip

        assert given[0][0]["compoundActions"][0] == {
            "actionType": 5,
            "fireAt": "2026-01-10T03:04:05.678900Z",
            "isCanceled": False,
        }

    def test_times_with_another_zone_are_written_in_utc(self):
        def orchestrator(context):
            there = timezone(timedelta(hours=2))
            yield context.create_timer((context.current_utc_datetime + timedelta(hours=1)).astimezone(there))

        assert actions(orchestrator, begun())[0][0]["fireAt"] == "2026-01-02T04:04:05.678900Z"


class TestRetries:
    def test_options_that_no_host_can_answer_are_carried_out_by_the_code(self):
        def orchestrator(context):
            options = df.RetryOptions(5000, 3, retry_on=OSError)
            return (yield context.call_activity_with_retry("A", options))

        failed = event(
            6, 1, TaskScheduledId=0, Reason="Activity function 'A' failed:  OSError: gone", Details="{}"
        )  # fmt: skip
        history = [*begun(), scheduled(0), *episode(1, failed)]

        assert actions(orchestrator, begun()) == [[{"actionType": 0, "functionName": "A", "input": "null"}]]
        assert [each["actionType"] for each in actions(orchestrator, history)[0]] == [0, 5]

        again = [*history, event(10, 1, 1, FireAt=at(6)), *episode(6, event(11, 6, TimerId=1, FireAt=at(6)))]
        assert [each["actionType"] for each in actions(orchestrator, again)[0]] == [0, 5, 0]

        done = [*again, scheduled(2, 6), *episode(7, completed(2, 7, "ok"))]
        assert output(orchestrator, done) == "ok"

    def test_no_options_are_a_plain_call(self):
        def orchestrator(context):
            return (yield context.call_activity_with_retry("A", None))

        assert actions(orchestrator, begun()) == [[{"actionType": 0, "functionName": "A", "input": "null"}]]

    def test_more_options_are_written_for_the_host(self):
        def orchestrator(context):
            options = df.RetryOptions(5000, 3, 2.0, 60000, 90000)
            return (yield context.call_sub_orchestrator_with_retry("S", options))

        assert actions(orchestrator, begun())[0][0]["compoundActions"][0]["retryOptions"] == {
            "firstRetryIntervalInMilliseconds": 5000,
            "maxNumberOfAttempts": 3,
            "backoffCoefficient": 2.0,
            "maxRetryIntervalInMilliseconds": 60000,
            "retryTimeoutInMilliseconds": 90000,
        }


class TestHttp:
    def fetches(self, context: Any) -> Any:
        answer = yield context.call_http("GET", "https://h/x", token_source=df.ManagedIdentityTokenSource("r"))
        yield context.call_activity("A", answer["content"])

    def test_an_answer_that_asks_to_be_polled_is_polled_by_the_host_and_counted_here(self):
        """The official SDK takes the 202 for the answer, and is out of step from there on."""
        accepted = {"statusCode": 202, "headers": {"Location": "https://h/y", "Retry-After": "1"}, "content": ""}
        history = [
            *begun(),
            scheduled(0),
            *episode(1, completed(0, 1, accepted)),
            event(10, 1, 1, FireAt=at(2)),
            *episode(2, event(11, 2, TimerId=1, FireAt=at(2))),
            scheduled(2, 2),
        ]
        only = {
            "actionType": 8,
            "httpRequest": {
                "method": "GET",
                "uri": "https://h/x",
                "content": None,
                "headers": None,
                "tokenSource": {"resource": "r", "kind": "AzureManagedIdentity"},
            },
        }
        assert actions(self.fetches, history) == [[only]]

        history += episode(3, completed(2, 3, {"statusCode": 200, "headers": {}, "content": "at last"}))
        assert actions(self.fetches, history) == [[only, {"actionType": 0, "functionName": "A", "input": '"at last"'}]]

    def test_a_request_that_may_be_repeated_is_repeated_by_the_code(self):
        def orchestrator(context):
            return (yield context.call_http("GET", "https://h/x", retry_options=df.RetryOptions(1000, 2)))

        busy = {"statusCode": 503, "headers": {}, "content": ""}
        history = [*begun(), scheduled(0), *episode(1, completed(0, 1, busy))]

        assert actions(orchestrator, begun())[0][0]["httpRequest"]["asynchronousPatternEnabled"] is False
        assert [each["actionType"] for each in actions(orchestrator, history)[0]] == [8, 5]


class TestWhatTheHostHasNot:
    @pytest.mark.parametrize(
        "work",
        [
            lambda context: context.send_event("i", "E"),
            lambda context: context.lock_entities([df.EntityId("C", "k")]),
            lambda context: context.continue_as_new(1, version="2"),
            lambda context: context.call_sub_orchestrator("S", tags={"a": "b"}),
            lambda context: context.call_sub_orchestrator_with_retry("S", df.RetryOptions(1, 1), tags={"a": "b"}),
        ],
    )
    def test_it_fails_the_orchestration_and_says_why(self, work: Any):
        assert "DF130" in failure(work, begun())["error"]


class TestEntities:
    def batch(self, *operations: dict[str, Any], state: str | None = None, **members: Any) -> str:
        sent = {"self": {"name": "c", "key": "k"}, "exists": state is not None, "state": state, "batch": operations}
        return json.dumps(sent | members)

    def answer(self, entity: Any, text: Any) -> Any:
        return json.loads(df.Entity.create(entity)(text))

    def results(self, entity: Any, *operations: dict[str, Any], state: str | None = None) -> list[Any]:
        found = self.answer(entity, self.batch(*operations, state=state))["results"]
        return [json.loads(each["result"]) for each in found]

    def test_each_operation_has_its_own_result(self):
        def entity(context):
            if context.operation_name == "set":
                context.set_result("set")
            return context.operation_name

        assert self.results(entity, {"name": "set"}, {"name": "other"}) == ["set", "other"]

    @pytest.mark.parametrize(
        ("sent", "seen"),
        [('"5"', 5), ("5", 5), ('{"a": 1}', {"a": 1}), ('"text"', "text"), (None, None), ("null", None)],
    )
    def test_an_input_is_decoded_however_it_was_encoded(self, sent: str | None, seen: Any):
        assert self.results(lambda context: [context.get_input()], {"name": "o", "input": sent}) == [[seen]]

    def test_a_second_parameter_gets_the_input(self):
        def entity(context, pieces: int):
            context.set_state(pieces + context.get_state(int))
            return context.get_state()

        assert self.results(entity, {"name": "o", "input": '"5"'}, {"name": "o", "input": "2"}) == [5, 7]

    def test_an_operation_that_raises_changes_and_sends_nothing(self):
        def entity(context):
            context.set_state(1)
            context.signal_entity(df.EntityId("Other", "x"), "add", 1)
            raise ValueError("no")

        given = self.answer(entity, self.batch({"name": "o"}))

        assert (given["entityExists"], given["entityState"], given["signals"]) == (False, "null", [])

    def test_signals_are_sent(self):
        def entity(context):
            context.signal_entity(df.EntityId("Other", "x"), "add", {"n": 1})

        assert self.answer(entity, self.batch({"name": "o"}))["signals"] == [
            {"target": {"name": "other", "key": "x"}, "name": "add", "input": '{"n": 1}'}
        ]

    @pytest.mark.parametrize(
        "work",
        [
            lambda context: context.start_new_orchestration("o"),
            lambda context: context.signal_entity(df.EntityId("c", "k"), "o", scheduled_time=timedelta(1)),
        ],
    )
    def test_what_the_host_has_not_fails_the_operation(self, work: Any):
        (result,) = self.answer(work, self.batch({"name": "o"}))["results"]

        assert result["isError"]
        assert "DF130" in result["result"]

    def test_classes_and_coroutines_are_entities_as_well(self):
        class Shelf(df.DurableEntity):
            state: int = 0

            async def add(self, pieces: int) -> int:
                self.state += pieces
                return self.state

        async def waits(context):
            return "waited"

        given = self.answer(Shelf, self.batch({"name": "add", "input": '"5"'}, state="2"))
        assert (given["entityState"], given["results"][0]["result"]) == ("7", "7")
        assert self.results(waits, {"name": "o"}) == ["waited"]

    def test_an_operation_without_a_name_fails_the_batch(self):
        with pytest.raises(Exception, match="missing a name field"):
            self.answer(lambda context: None, self.batch({"name": None}))

    def test_members_that_are_new_are_ignored(self):
        assert self.answer(lambda context: None, self.batch(new=1))["results"] == []

    def test_a_request_that_lacks_members_says_which(self):
        with pytest.raises(TypeError, match="lacks exists, state, batch"):
            self.answer(lambda context: None, '{"self": {}}')

    def test_the_context_can_be_made_from_the_text_as_in_the_official_sdk(self):
        context, batch = df.DurableEntityContext.from_json(self.batch({"name": "o"}, state="3"))

        assert (context.entity_name, context.get_state(), batch) == ("c", 3, [{"name": "o"}])
        answered = json.loads(df.Entity(lambda context: context.get_state()).handle(context, batch))
        assert answered["results"][0]["result"] == "3"


class TestTasks:
    def test_a_task_shows_what_the_official_one_shows(self):
        seen: list[Any] = []

        def orchestrator(context):
            task = context.call_activity("A", 1)
            both = context.task_any([task, context.wait_for_external_event("E")])
            seen.append((task.parent is both, task.action_repr.to_json(), both.action_repr["actionType"]))
            yield both
            seen.append((task.state is TaskState.SUCCEEDED, task.is_played, both.is_played))

        answer(orchestrator, [*begun(), scheduled(0), *episode(1, completed(0, 1)), *episode(2)])

        assert seen == [
            (True, {"actionType": 0, "functionName": "A", "input": "1"}, 11),
            (True, True, True),
        ]
