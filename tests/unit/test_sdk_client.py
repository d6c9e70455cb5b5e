"""What client functions can do, on a task hub that only keeps what it is told."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import azure.durable_functions as df
import azure.functions as func
import pytest
from azure.durable_functions.client import DurableClientError

from perdure.core.events import (
    ExecutionStarted,
    OrchestratorCompleted,
    OrchestratorStarted,
    ParentInstance,
    TaskCompleted,
    TaskScheduled,
)
from perdure.core.records import (
    EntityQuery,
    EntityState,
    HistoryRow,
    Instance,
    InstancePage,
    InstanceQuery,
    RuntimeStatus,
    StartPolicy,
)
from perdure.errors import (
    InstanceExistsError,
    InstanceFinishedError,
    InstanceNotFailedError,
    InstanceNotFinishedError,
    InstanceNotFoundError,
    InvalidInstanceIdError,
    StoreUnavailableError,
    UnknownFunctionError,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)
BASE = "http://localhost:7071/runtime/webhooks/durabletask/instances/INSTANCEID"
URLS = {
    "id": "INSTANCEID",
    "statusQueryGetUri": f"{BASE}?taskHub=H",
    "sendEventPostUri": f"{BASE}/raiseEvent/{{eventName}}?taskHub=H",
    "terminatePostUri": f"{BASE}/terminate?reason={{text}}&taskHub=H",
    "rewindPostUri": f"{BASE}/rewind?reason={{text}}&taskHub=H",
    "purgeHistoryDeleteUri": f"{BASE}?taskHub=H",
    "restartPostUri": f"{BASE}/restart?taskHub=H",
    "suspendPostUri": f"{BASE}/suspend?reason={{text}}&taskHub=H",
    "resumePostUri": f"{BASE}/resume?reason={{text}}&taskHub=H",
}
REQUEST = func.HttpRequest("POST", "https://example.org:8443/api/start?x=1", body=b"")


class RecordingHub:
    """A task hub of one instance that runs nothing, notes each call, and fails when told to."""

    def __init__(self, instance: Instance | None = None, error: Exception | None = None) -> None:
        self.instance = instance
        self.error = error
        self.calls: list[tuple[Any, ...]] = []
        self.entity_pages: list[list[Instance]] = [[]]

    def _note(self, *call: Any) -> None:
        self.calls.append(call)
        if self.error is not None:
            raise self.error

    async def start(self, name: str, input: str | None = None, **options: Any) -> str:
        self._note("start", name, input, {key: value for key, value in options.items() if value is not None})
        return options["instance_id"] or "new"

    async def restart(self, instance_id: str, *, new_instance_id: bool = True, request_id: str | None = None) -> str:
        self._note("restart", instance_id, new_instance_id, request_id)
        return "new" if new_instance_id else instance_id

    async def get(self, instance_id: str) -> Instance | None:
        self._note("get", instance_id)
        return self.instance

    async def instances(self, query: InstanceQuery) -> AsyncIterator[Instance]:
        self._note("instances", query)
        for number in range(3):
            yield instance(instance_id=f"i{number}")

    async def count(self, query: InstanceQuery) -> dict[RuntimeStatus, int]:
        self._note("count", query)
        return {RuntimeStatus.RUNNING: 2}

    async def history(self, instance_id: str) -> Sequence[HistoryRow]:
        self._note("history", instance_id)
        first = (
            OrchestratorStarted(NOW),
            ExecutionStarted(NOW, "e", "flow", "1"),
            TaskScheduled(NOW, 0, "a", "2"),
            OrchestratorCompleted(NOW),
        )
        second = (OrchestratorStarted(NOW), TaskCompleted(NOW, 0, "3"), OrchestratorCompleted(NOW))
        return [HistoryRow(number, "e", 1, (), None, events, True) for number, events in enumerate([first, second])]

    async def raise_event(
        self, instance_id: str, name: str, data: str | None = None, *, request_id: str | None = None
    ) -> None:
        self._note("raise_event", instance_id, name, data, request_id)

    async def terminate(self, instance_id: str, reason: str | None = None, *, recursive: bool = False) -> None:
        self._note("terminate", instance_id, reason, recursive)

    async def suspend(self, instance_id: str, reason: str | None = None) -> None:
        self._note("suspend", instance_id, reason)

    async def resume(self, instance_id: str, reason: str | None = None) -> None:
        self._note("resume", instance_id, reason)

    async def rewind(self, instance_id: str, reason: str | None = None) -> None:
        self._note("rewind", instance_id, reason)

    async def purge(self, instance_id: str, *, recursive: bool = False) -> int:
        self._note("purge", instance_id, recursive)
        return 4

    async def purge_by(self, query: InstanceQuery, *, recursive: bool = False) -> int:
        self._note("purge_by", query, recursive)
        return 5

    async def signal_entity(
        self,
        entity_id: str,
        operation: str,
        input: str | None = None,
        *,
        deliver_at: datetime | None = None,
        request_id: str | None = None,
    ) -> None:
        self._note("signal_entity", entity_id, operation, input, deliver_at, request_id)

    async def entity(self, entity_id: str) -> Instance | None:
        self._note("entity", entity_id)
        return self.instance

    async def entities(self, query: EntityQuery) -> InstancePage:
        self._note("entities", query)
        number = 0 if query.after is None else int(query.after) + 1
        is_last = number + 1 >= len(self.entity_pages)
        return InstancePage(tuple(self.entity_pages[number]), None if is_last else str(number))

    async def clean_entities(self) -> tuple[int, int]:
        self._note("clean_entities")
        return 0, 3

    async def wait(self, instance_id: str, timeout: timedelta | None = None) -> Instance:
        self._note("wait", instance_id, timeout)
        if self.instance is None:
            raise InstanceNotFoundError(instance_id)
        return self.instance


def instance(status: RuntimeStatus = RuntimeStatus.COMPLETED, **fields: Any) -> Instance:
    values = {"instance_id": "i", "execution_id": "e", "name": "flow", "created_at": NOW, "updated_at": NOW}
    return Instance(**(values | {"status": status, "created_by": "r"} | fields))


def client_of(hub: RecordingHub) -> df.DurableOrchestrationClient:
    return df.DurableOrchestrationClient(hub, URLS)


def called(name: str, *args: Any, hub: RecordingHub | None = None, **kwargs: Any) -> Any:
    return asyncio.run(getattr(client_of(hub or RecordingHub(instance())), name)(*args, **kwargs))


# ---------------------------------------------------------------------- start


def test_start_passes_everything_on_and_encodes_the_input_once():
    hub = RecordingHub()

    assert called("start_new", "flow", None, {"a": 1}, hub=hub) == "new"
    assert called("start_new", "flow", instance_id="mine", client_input="text", version="2", hub=hub) == "mine"

    assert hub.calls == [
        ("start", "flow", '{"a": 1}', {}),
        ("start", "flow", '"text"', {"instance_id": "mine", "version": "2"}),
    ]


def test_start_passes_on_when_under_which_rule_and_with_which_tags():
    hub = RecordingHub()
    late = timezone(timedelta(hours=2))

    called("start_new", "flow", start_at=datetime(2030, 1, 1, 12), policy="ignore", tags={"a": "b"}, hub=hub)
    called("start_new", "flow", start_at=datetime(2030, 1, 1, 12, tzinfo=late), request_id="r", hub=hub)

    noon = datetime(2030, 1, 1, 12, tzinfo=UTC)
    assert [each[3] for each in hub.calls] == [
        {"start_at": noon, "policy": StartPolicy.IGNORE, "tags": {"a": "b"}},
        {"start_at": noon - timedelta(hours=2), "request_id": "r"},
    ]


def test_a_policy_that_there_is_not_is_refused():
    hub = RecordingHub()

    with pytest.raises(ValueError, match="overwrite"):
        called("start_new", "flow", policy="overwrite", hub=hub)

    assert hub.calls == []


def test_start_without_input_has_none():
    hub = RecordingHub()

    called("start_new", "flow", hub=hub)

    assert hub.calls == [("start", "flow", None, {})]


def test_start_takes_the_decorated_function():
    hub = RecordingHub()

    @df.Blueprint().orchestration_trigger(context_name="context", orchestration="registered")
    def flow(context): ...

    called("start_new", flow, hub=hub)

    assert hub.calls[0][1] == "registered"


def test_an_input_that_json_cannot_hold_is_refused_before_anything_happens():
    hub = RecordingHub()

    with pytest.raises(TypeError, match="to_json"):
        called("start_new", "flow", client_input=object(), hub=hub)

    assert hub.calls == []


@pytest.mark.parametrize(
    "error",
    [
        UnknownFunctionError("x", "orchestrator", ["flow"]),
        InvalidInstanceIdError("Orchestration instance ids must not start with @."),
        InstanceExistsError("i", "Running"),
    ],
)
def test_a_refused_start_raises_with_the_official_text(error: Exception):
    with pytest.raises(DurableClientError) as caught:
        called("start_new", "x", hub=RecordingHub(error=error))

    assert str(caught.value) == str(error)
    assert caught.value.__cause__ is error


def test_a_failing_store_is_not_dressed_up():
    with pytest.raises(StoreUnavailableError):
        called("start_new", "x", hub=RecordingHub(error=StoreUnavailableError("disk")))


# ---------------------------------------------------------------------- status


def test_a_status_says_what_the_row_says():
    row = instance(input='{"a": 1}', output='["x"]', custom_status="0")

    status = called("get_status", "i", hub=RecordingHub(row))

    assert status
    assert (status.name, status.instance_id) == ("flow", "i")
    assert status.input_ == status.input == {"a": 1}
    assert (status.output, status.custom_status, status.history) == (["x"], 0, None)
    assert status.runtime_status is df.OrchestrationRuntimeStatus.Completed
    assert status.created_time == status.last_updated_time == NOW


def test_a_status_of_nothing_is_false():
    status = called("get_status", "nothing", hub=RecordingHub(None))

    assert not status
    assert status.runtime_status is None


def test_history_comes_on_request():
    hub = RecordingHub(instance())

    status = called("get_status", "i", show_history=True, hub=hub)
    with_output = called("get_status", "i", True, True, True, hub=hub)

    assert [each["EventType"] for each in status.history] == ["ExecutionStarted", "TaskCompleted"]
    assert status.historyEvents == status.history
    assert "Result" not in status.history[1]
    assert with_output.history[1]["Result"] == 3


def test_a_pending_instance_has_no_history():
    hub = RecordingHub(instance(RuntimeStatus.PENDING))

    assert called("get_status", "i", show_history=True, hub=hub).history is None


# ---------------------------------------------------------------------- events and termination


@pytest.mark.parametrize(("data", "text"), [({"a": True}, '{"a": true}'), ("x", '"x"'), (0, "0"), (None, None)])
def test_event_data_is_encoded_once(data: Any, text: str | None):
    hub = RecordingHub()

    called("raise_event", "i", "E", data, hub=hub)

    assert hub.calls == [("raise_event", "i", "E", text, None)]


def test_an_event_needs_a_name():
    with pytest.raises(ValueError, match=r"^event_name must be a non-empty string\.$"):
        called("raise_event", "i", "")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InstanceNotFoundError("i"), "No instance with ID i found."),
        (InstanceFinishedError("i", "Completed"), "Instance with ID i is gone: either completed or failed"),
    ],
)
def test_an_event_to_nobody_raises_with_the_official_text(error: Exception, text: str):
    with pytest.raises(Exception, match=f"^{text}$") as caught:
        called("raise_event", "i", "E", hub=RecordingHub(error=error))

    assert caught.value.__cause__ is error


def test_an_event_may_name_its_request():
    hub = RecordingHub()

    called("raise_event", "i", "E", request_id="r", hub=hub)

    assert hub.calls == [("raise_event", "i", "E", None, "r")]


def test_the_reason_is_passed_on_and_may_be_left_out():
    hub = RecordingHub()

    for name in ("terminate", "suspend", "resume", "rewind"):
        called(name, "i", "enough", hub=hub)
        called(name, "i", hub=hub)
    called("terminate", "i", recursive=True, hub=hub)

    assert hub.calls == [
        ("terminate", "i", "enough", False),
        ("terminate", "i", None, False),
        *((name, "i", reason) for name in ("suspend", "resume", "rewind") for reason in ("enough", None)),
        ("terminate", "i", None, True),
    ]


@pytest.mark.parametrize("name", ["terminate", "suspend", "resume"])
def test_steering_what_has_ended_is_silent(name: str):
    called(name, "i", "enough", hub=RecordingHub(error=InstanceFinishedError("i", "Failed")))


@pytest.mark.parametrize("name", ["terminate", "suspend", "resume", "restart"])
def test_steering_nothing_raises_with_the_official_text(name: str):
    with pytest.raises(Exception, match=r"^No instance with ID 'i' found\.$"):
        called(name, "i", hub=RecordingHub(error=InstanceNotFoundError("i")))


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InstanceNotFoundError("i"), "No instance with ID i found."),
        (
            InstanceNotFailedError("i", "Running"),
            'This orchestration has status Running, but only orchestrations in the "Failed" state can be rewound.',
        ),
    ],
)
def test_a_refused_rewind_raises_with_the_official_text(error: Exception, text: str):
    with pytest.raises(DurableClientError) as caught:
        called("rewind", "i", hub=RecordingHub(error=error))

    assert str(caught.value) == text


def test_a_restart_returns_the_new_id():
    hub = RecordingHub()

    assert called("restart", "i", hub=hub) == "new"
    assert called("restart", "i", False, request_id="r", hub=hub) == "i"
    assert called("restart", "i", restart_with_new_instance_id=False, hub=hub) == "i"
    assert hub.calls == [("restart", "i", True, None), ("restart", "i", False, "r"), ("restart", "i", False, None)]


def test_a_restart_over_an_unfinished_instance_raises():
    with pytest.raises(DurableClientError, match="with the status Running already exists"):
        called("restart", "i", False, hub=RecordingHub(error=InstanceExistsError("i", "Running")))


# ---------------------------------------------------------------------- purge


def test_a_purge_says_how_many_went():
    hub = RecordingHub()

    assert called("purge_instance_history", "i", hub=hub).instances_deleted == 4
    assert called("purge_instance_history", "i", recursive=True, hub=hub).instances_deleted == 4
    assert hub.calls == [("purge", "i", False), ("purge", "i", True)]


@pytest.mark.parametrize("error", [InstanceNotFoundError("i"), InstanceNotFinishedError("i", "Running")])
def test_what_cannot_be_purged_counts_as_none(error: Exception):
    assert called("purge_instance_history", "i", hub=RecordingHub(error=error)).instances_deleted == 0


def test_a_purge_by_filters_passes_them_on():
    hub = RecordingHub()

    result = called(
        "purge_instance_history_by",
        datetime(2026, 1, 1),
        created_time_to=NOW,
        runtime_status=[df.OrchestrationRuntimeStatus.Failed, "Canceled"],
        recursive=True,
        hub=hub,
    )

    statuses = frozenset({RuntimeStatus.FAILED})
    query = InstanceQuery(statuses=statuses, created_from=datetime(2026, 1, 1, tzinfo=UTC), created_to=NOW, limit=500)
    assert result.instances_deleted == 5
    assert hub.calls == [("purge_by", query, True)]


def test_a_purge_by_filters_needs_a_time():
    with pytest.raises(ValueError, match=r"^created_time_from is required when purging instance history$"):
        called("purge_instance_history_by", runtime_status=["Failed"])


# ---------------------------------------------------------------------- lists


def test_lists_and_counts_take_the_same_filters():
    hub = RecordingHub()
    east = timezone(timedelta(hours=1))
    filters = (datetime(2026, 1, 1), datetime(2026, 1, 2, tzinfo=east), ["Running"], "order-")

    found = called("get_status_by", *filters, hub=hub)
    counts = called("count_by_status", *filters, hub=hub)

    query = InstanceQuery(
        statuses=frozenset({RuntimeStatus.RUNNING}),
        created_from=datetime(2026, 1, 1, tzinfo=UTC),
        created_to=datetime(2026, 1, 1, 23, tzinfo=UTC),
        prefix="order-",
        limit=500,
    )
    assert [each.instance_id for each in found] == ["i0", "i1", "i2"]
    assert counts == {df.OrchestrationRuntimeStatus.Running: 2}
    assert hub.calls == [("instances", query), ("count", query)]


def test_all_are_listed_without_a_filter():
    hub = RecordingHub()

    assert len(called("get_status_all", hub=hub)) == 3
    assert len(called("get_status_by", hub=hub)) == 3
    assert hub.calls == [("instances", InstanceQuery(limit=500))] * 2


def test_statuses_come_one_by_one():
    async def first_two(client: df.DurableOrchestrationClient) -> list[str | None]:
        found: list[str | None] = []
        async for status in client.iter_status(instance_id_prefix="i"):
            found.append(status.instance_id)
            if len(found) == 2:
                break
        return found

    assert asyncio.run(first_two(client_of(RecordingHub()))) == ["i0", "i1"]


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        (None, None),
        ([], None),
        ("Failed", {RuntimeStatus.FAILED}),
        (df.OrchestrationRuntimeStatus.Suspended, {RuntimeStatus.SUSPENDED}),
        (("Pending", df.OrchestrationRuntimeStatus.Completed), {RuntimeStatus.PENDING, RuntimeStatus.COMPLETED}),
        (["ContinuedAsNew", "Canceled"], set()),
    ],
)
def test_statuses_may_be_members_or_names(given: Any, asked: set[RuntimeStatus] | None):
    hub = RecordingHub()

    called("get_status_by", runtime_status=given, hub=hub)

    assert hub.calls[0][1].statuses == asked


def test_a_status_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="Finished"):
        called("get_status_by", runtime_status=["Finished"])


# ---------------------------------------------------------------------- HTTP answers


def test_the_management_payload_has_the_official_members_with_the_id_escaped():
    payload = client_of(RecordingHub()).create_http_management_payload("Zoë & co")

    assert list(payload) == list(URLS)
    assert payload["id"] == "Zoë & co"
    assert "/instances/Zo%C3%AB%20%26%20co?taskHub=H" in payload["statusQueryGetUri"]
    assert payload["sendEventPostUri"].endswith("/raiseEvent/{eventName}?taskHub=H")
    assert "reason={text}" in payload["terminatePostUri"]
    assert "INSTANCEID" not in str(payload)


def test_links_are_at_the_address_that_the_request_came_to():
    links = client_of(RecordingHub()).get_client_response_links(REQUEST, "i")

    assert links["statusQueryGetUri"] == ("https://example.org:8443/runtime/webhooks/durabletask/instances/i?taskHub=H")
    assert links["sendEventPostUri"].startswith("https://example.org:8443/")
    assert links["sendEventPostUri"].endswith("/raiseEvent/{eventName}?taskHub=H")


@pytest.mark.parametrize("request_", [None, REQUEST])
def test_the_check_status_response_is_the_official_one(request_: func.HttpRequest | None):
    response = client_of(RecordingHub()).create_check_status_response(request_, "i")

    links = json.loads(response.get_body())
    assert response.status_code == 202
    assert list(links) == list(URLS)
    assert response.headers["Location"] == links["statusQueryGetUri"]
    assert response.headers["Retry-After"] == "10"
    assert response.headers["Content-Type"] == "application/json"


def waited(row: Instance | None, *args: Any, **kwargs: Any) -> tuple[func.HttpResponse, RecordingHub]:
    hub = RecordingHub(row)
    name = "wait_for_completion_or_create_check_status_response"
    return called(name, REQUEST, "i", *args, hub=hub, **kwargs), hub


@pytest.mark.parametrize(
    ("output", "body"), [('"text"', b"text"), ("[1, 2]", b"[1, 2]"), (None, b"null"), ("null", b"null"), ('""', b"")]
)
def test_a_result_in_time_is_the_answer(output: str | None, body: bytes):
    response, _ = waited(instance(output=output))

    assert (response.status_code, response.get_body()) == (200, body)
    assert response.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(("status", "code"), [(RuntimeStatus.FAILED, 500), (RuntimeStatus.TERMINATED, 200)])
def test_another_end_in_time_answers_with_the_status(status: RuntimeStatus, code: int):
    response, _ = waited(instance(status, output='"why"'))

    assert response.status_code == code
    assert json.loads(response.get_body()) == {
        "name": "flow",
        "instanceId": "i",
        "createdTime": "2026-01-02T03:04:05.678900Z",
        "lastUpdatedTime": "2026-01-02T03:04:05.678900Z",
        "output": "why",
        "input": None,
        "runtimeStatus": str(status),
        "customStatus": None,
        "history": None,
    }


@pytest.mark.parametrize("row", [None, instance(RuntimeStatus.RUNNING), instance(RuntimeStatus.PENDING)])
def test_what_has_not_ended_in_time_answers_with_the_links(row: Instance | None):
    response, _ = waited(row)

    assert response.status_code == 202
    assert "statusQueryGetUri" in json.loads(response.get_body())


@pytest.mark.parametrize(
    ("args", "kwargs", "seconds"),
    [
        ((), {}, 10),
        ((2000,), {}, 2),
        ((2000, 500), {}, 2),
        ((timedelta(seconds=3),), {}, 3),
        ((), {"timeout_in_milliseconds": 1500, "retry_interval_in_milliseconds": 1}, 1.5),
        ((), {"timeout": timedelta(seconds=4)}, 4),
        ((), {"timeout": timedelta(milliseconds=20)}, 0.02),
        ((), {"timeout": 5}, 5),
        ((), {"timeout": 5, "retry_interval": timedelta(seconds=1)}, 5),
    ],
)
def test_the_timeout_may_be_given_in_every_form(args: tuple[Any, ...], kwargs: dict[str, Any], seconds: float):
    _, hub = waited(instance(), *args, **kwargs)

    assert hub.calls == [("wait", "i", timedelta(seconds=seconds))]


@pytest.mark.parametrize(
    ("args", "kwargs"), [((500, 1000), {}), ((500,), {}), ((), {"timeout": 1, "retry_interval": 2})]
)
def test_an_interval_above_the_timeout_is_refused(args: tuple[Any, ...], kwargs: dict[str, Any]):
    with pytest.raises(Exception, match=r"^Total timeout \d+ \(ms\) should be bigger than retry timeout \d+ \(ms\)$"):
        waited(instance(), *args, **kwargs)


# ---------------------------------------------------------------------- entities

COUNTER = df.EntityId("Counter", "a")


def entity(key: str = "a", state: str | None = "5", lock: str | None = None, name: str = "counter") -> Instance:
    owner = None if lock is None else ParentInstance(lock, "e", "flow", 0)
    return instance(RuntimeStatus.RUNNING, instance_id=f"@{name}@{key}", entity=EntityState(state, owner))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"a": 1}, '{"a": 1}'),
        ("x", '"x"'),
        (0, "0"),
        ("", '""'),
        (False, "false"),
        ([], "[]"),
        ({}, "{}"),
        (None, None),
    ],
)
def test_a_signal_carries_what_it_was_given_encoded_once(given: Any, text: str | None):
    hub = RecordingHub()

    called("signal_entity", COUNTER, "add", given, "Hub", "Storage", hub=hub)

    assert hub.calls == [("signal_entity", "@counter@a", "add", text, None, None)]


def test_a_signal_may_be_for_later_and_name_its_request():
    hub = RecordingHub()
    late = datetime(2030, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))

    called("signal_entity", COUNTER, "add", scheduled_time=datetime(2030, 1, 1, 12), hub=hub)
    called("signal_entity", COUNTER, "add", scheduled_time=late, request_id="r", hub=hub)

    noon = datetime(2030, 1, 1, 12, tzinfo=UTC)
    assert [each[4:] for each in hub.calls] == [(noon, None), (noon - timedelta(hours=2), "r")]


@pytest.mark.parametrize(
    "error", [UnknownFunctionError("counter", "entity", ["Cart"]), InvalidInstanceIdError("Entity keys must not …")]
)
def test_a_refused_signal_raises_the_official_text_and_says_why(error: Exception):
    with pytest.raises(DurableClientError) as caught:
        called("signal_entity", COUNTER, "add", hub=RecordingHub(error=error))

    assert str(caught.value) == f"The operation failed with an unexpected status code 400: {error}"
    assert caught.value.__cause__ is error


def test_a_signal_that_json_cannot_hold_is_refused_before_anything_happens():
    hub = RecordingHub()

    with pytest.raises(TypeError, match="DF301"):
        called("signal_entity", COUNTER, "add", object(), hub=hub)

    assert hub.calls == []


def test_a_state_is_read_as_plain_json():
    envelope = '{"__class__": "Money", "__module__": "shop", "__data__": 5}'
    hub = RecordingHub(entity(state=envelope))

    found = called("read_entity_state", COUNTER, "Hub", "Storage", hub=hub)

    assert (found.entity_exists, found.entity_state) == (True, json.loads(envelope))
    assert hub.calls == [("entity", "@counter@a")]


def test_a_state_becomes_the_type_that_is_expected():
    hub = RecordingHub(entity(state='"2026-01-02T03:04:05+00:00"'))

    found = called("read_entity_state", COUNTER, expected_type=datetime, hub=hub)

    assert found.entity_state == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    with pytest.raises(TypeError):
        called("read_entity_state", COUNTER, expected_type=int, hub=hub)


@pytest.mark.parametrize(("state", "value"), [("0", 0), ("null", None), ('""', ""), ("[]", [])])
def test_a_state_that_is_false_is_one(state: str, value: Any):
    found = called("read_entity_state", COUNTER, hub=RecordingHub(entity(state=state)))

    assert (found.entity_exists, found.entity_state) == (True, value)


@pytest.mark.parametrize("row", [None, entity(state=None)])
def test_an_entity_without_a_state_does_not_exist(row: Instance | None):
    found = called("read_entity_state", COUNTER, hub=RecordingHub(row))

    assert (found.entity_exists, found.entity_state) == (False, None)


def test_entities_are_listed_from_all_pages():
    hub = RecordingHub()
    hub.entity_pages = [[entity("a"), entity("b", None, "holder")], [], [entity("c@d", '"x"', "holder")]]

    found = called("list_entities", hub=hub)

    assert [(str(each.entity_id), each.entity_state, each.locked_by) for each in found] == [
        ("@counter@a", 5, None),
        ("@counter@c@d", "x", "holder"),
    ]
    assert all(each.entity_exists and each.last_operation_time == NOW for each in found)
    assert hub.calls == [("entities", EntityQuery(limit=500, after=after)) for after in (None, "0", "1")]


def test_entities_without_a_state_are_listed_on_request_and_states_can_be_left_out():
    hub = RecordingHub()
    hub.entity_pages = [[entity("a"), entity("", None, "holder")]]

    found = called("list_entities", include_state=False, include_transient=True, hub=hub)

    assert [(each.entity_id.key, each.entity_exists, each.entity_state, each.locked_by) for each in found] == [
        ("a", True, None, None),
        ("", False, None, "holder"),
    ]


def test_the_filters_of_entities_are_passed_on():
    hub = RecordingHub()

    called("list_entities", "Counter", "eu-", datetime(2026, 1, 1), NOW, hub=hub)
    called("list_entities", "Counter", hub=hub)

    january = datetime(2026, 1, 1, tzinfo=UTC)
    assert hub.calls == [
        ("entities", EntityQuery("@counter@eu-", january, NOW, limit=500)),
        ("entities", EntityQuery("@counter@", limit=500)),
    ]


def test_the_beginning_of_a_key_needs_a_name():
    with pytest.raises(ValueError, match="give entity_name, too"):
        called("list_entities", key_prefix="eu-")


def test_entities_come_one_by_one():
    hub = RecordingHub()
    hub.entity_pages = [[entity("a")], [entity("b")]]

    async def first(client: df.DurableOrchestrationClient) -> str:
        async for each in client.iter_entities():
            return each.entity_id.key
        return ""

    assert asyncio.run(first(client_of(hub))) == "a"
    assert len(hub.calls) == 1


def test_cleaning_says_what_there_was_to_do():
    hub = RecordingHub()

    assert called("clean_entity_storage", hub=hub) == (0, 3)
    assert called("clean_entity_storage", release_orphaned_locks=False, hub=hub).orphaned_locks_released == 0
    assert hub.calls == [("clean_entities",)]


def test_an_entity_can_only_be_called_by_an_orchestration():
    assert not hasattr(df.DurableOrchestrationClient, "call_entity")
