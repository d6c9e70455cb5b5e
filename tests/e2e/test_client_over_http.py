"""Our client where perdure is not the host: it asks over HTTP, as the client of SDK 1.x does."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import azure.durable_functions as df
import pytest
from official_driver import arguments, plain
from official_kit import OfficialClient, OfficialError, official_client
from start_kit import HostProcess, copy_app, started

from binding_kit import client_binding

ID = "i-1"


class Foreign(ThreadingHTTPServer):
    """A host that answers every request with the same, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Recorder)
        self.seen: list[dict[str, Any]] = []
        self.status, self.body = 200, b""

    @property
    def binding(self) -> dict[str, Any]:
        return client_binding(f"http://127.0.0.1:{self.server_port}", "Hub")

    def answers(self, status: int, body: Any = None) -> None:
        self.seen.clear()
        self.status, self.body = status, b"" if body is None else json.dumps(body).encode()


class Recorder(BaseHTTPRequestHandler):
    server: Foreign

    def answer(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, _, query = self.path.partition("?")
        kind = self.headers.get("Content-Type", "") if self.command == "POST" else ""
        self.server.seen.append({
            "verb": self.command,
            "path": path,
            "query": sorted(parse_qsl(query, keep_blank_values=True)),
            "kind": kind.partition(";")[0],
            "body": sent.decode(),
            "invocation": self.headers.get("X-Azure-Functions-InvocationId"),
        })  # fmt: skip
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def foreign() -> Iterator[Foreign]:
    with Foreign() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def official(foreign: Foreign, request: pytest.FixtureRequest) -> Iterator[OfficialClient]:
    cache = Path(request.config.cache.mkdir("official-sdk-1"))
    with official_client(cache, foreign.binding) as running:
        yield running


def ours(foreign: Foreign) -> df.DurableOrchestrationClient:
    return df.DurableOrchestrationClient(json.dumps(foreign.binding))


def done(client: Any, method: str, given: dict[str, Any]) -> Any:
    """What a method of ours came to, in the form of the official driver's answers; an error as its text."""
    try:
        result = getattr(client, method)(**arguments(given))
        return plain(asyncio.run(result) if asyncio.iscoroutine(result) else result)
    except Exception as error:
        return f"raised: {error}"


def done_officially(client: OfficialClient, method: str, given: dict[str, Any]) -> Any:
    try:
        return client.call(method, **given)
    except OfficialError as error:
        return f"raised: {error}"


STATUS = {
    "name": "o",
    "instanceId": ID,
    "runtimeStatus": "Completed",
    "input": "[1]",
    "customStatus": None,
    "output": {"a": 1},
    "createdTime": "2026-01-02T03:04:05Z",
    "lastUpdatedTime": "2026-01-02T03:04:06Z",
}
COUNTER = df.EntityId("Counter", "k")
LATER = datetime(2036, 1, 1, tzinfo=UTC)
PURGED = {"instancesDeleted": 3}
FROM = "2026-01-02T03:04:05.678900+00:00"

CALLS: list[tuple[str, dict[str, Any], int, Any]] = [
    ("start_new", {"orchestration_function_name": "o"}, 202, {"id": "x"}),
    ("start_new", {"orchestration_function_name": "o", "instance_id": ID, "client_input": {"a": "ü"}}, 202, {"id": ID}),
    ("start_new", {"orchestration_function_name": "o", "client_input": "5", "version": "1.0"}, 202, {"id": "x"}),
    ("start_new", {"orchestration_function_name": "o"}, 400, {"ExceptionMessage": "no such function"}),
    ("get_status", {"instance_id": ID}, 200, STATUS),
    ("get_status", {"instance_id": ID, "show_history": True, "show_history_output": True}, 202, STATUS),
    ("get_status", {"instance_id": ID, "show_input": True}, 500, STATUS),
    ("get_status", {"instance_id": ID}, 404, None),
    ("get_status", {"instance_id": ID}, 503, None),
    ("terminate", {"instance_id": ID, "reason": "a b&c"}, 202, None),
    ("terminate", {"instance_id": ID, "reason": "r"}, 410, None),
    ("terminate", {"instance_id": ID, "reason": "r"}, 404, None),
    ("suspend", {"instance_id": ID, "reason": "r"}, 202, None),
    ("resume", {"instance_id": ID, "reason": "r"}, 500, None),
    ("rewind", {"instance_id": ID, "reason": "r"}, 202, None),
    ("rewind", {"instance_id": ID, "reason": "r"}, 404, None),
    ("rewind", {"instance_id": ID, "reason": "r"}, 410, None),
    ("rewind", {"instance_id": ID, "reason": "r"}, 412, "not failed"),
    ("rewind", {"instance_id": ID, "reason": "r"}, 400, {"Message": "no"}),
    ("restart", {"instance_id": ID}, 202, None),
    ("restart", {"instance_id": ID, "restart_with_new_instance_id": False}, 404, None),
    ("restart", {"instance_id": ID}, 400, None),
    ("purge_instance_history", {"instance_id": ID}, 200, {"instancesDeleted": 1}),
    ("purge_instance_history", {"instance_id": ID}, 404, None),
    ("purge_instance_history", {"instance_id": ID}, 500, None),
    (
        "purge_instance_history_by",
        {"created_time_from": FROM, "runtime_status": ["Failed"]},
        200,
        {"instancesDeleted": 3},
    ),
    ("raise_event", {"instance_id": ID, "event_name": "E"}, 404, None),
    ("raise_event", {"instance_id": ID, "event_name": "E"}, 410, None),
    ("raise_event", {"instance_id": ID, "event_name": "E"}, 400, None),
    ("raise_event", {"instance_id": ID, "event_name": "E"}, 500, None),
    ("read_entity_state", {"entityId": ["counter", "k"]}, 200, {"n": 1}),
    ("read_entity_state", {"entityId": ["counter", "k"]}, 404, None),
    ("read_entity_state", {"entityId": ["counter", "k"]}, 500, None),
    ("signal_entity", {"entityId": ["counter", "k"], "operation_name": "add", "operation_input": [5]}, 202, None),
    ("signal_entity", {"entityId": ["counter", "k"], "operation_name": "add"}, 500, None),
    ("create_http_management_payload", {"instance_id": ID}, 200, None),
    ("create_check_status_response", {"instance_id": ID, "request": "https://h:8/api/x?y"}, 200, None),
    ("get_client_response_links", {"instance_id": ID, "request": "https://h:8/api/x?y"}, 200, None),
]


@pytest.mark.parametrize(("method", "given", "status", "body"), CALLS, ids=[f"{each[0]}-{each[2]}" for each in CALLS])
def test_requests_and_outcomes_are_the_official_ones(
    foreign: Foreign, official: OfficialClient, method: str, given: dict[str, Any], status: int, body: Any
):
    foreign.answers(status, body)
    expected = done_officially(official, method, given)
    asked = list(foreign.seen)
    if method == "raise_event":
        asked[0]["body"] = json.loads(asked[0]["body"])  # see below
    foreign.answers(status, body)

    assert done(ours(foreign), method, given) == expected
    assert foreign.seen == asked


# ---------------------------------------------------------------------- where ours is better


def call(foreign: Foreign, work: Callable[[df.DurableOrchestrationClient], Any]) -> Any:
    return asyncio.run(work(ours(foreign)))


def test_event_data_arrives_as_itself(foreign: Foreign):
    """The official client encodes it twice, so that orchestrators get a text; under perdure they get the data."""
    foreign.answers(202)

    call(foreign, lambda client: client.raise_event(ID, "Go on", {"a": 1}))

    assert (foreign.seen[0]["path"], foreign.seen[0]["body"]) == (
        "/durabletask/instances/i-1/raiseEvent/Go%20on",
        '{"a": 1}',
    )


def test_inputs_that_are_false_are_sent_to_entities(foreign: Foreign):
    foreign.answers(202)

    call(foreign, lambda client: client.signal_entity(df.EntityId("c", "k"), "set", 0))

    assert foreign.seen[0]["body"] == '"0"'


def test_ids_are_escaped_in_addresses(foreign: Foreign):
    foreign.answers(200, STATUS)

    call(foreign, lambda client: client.get_status("a/b?c"))

    assert foreign.seen[0]["path"] == "/durabletask/instances/a%2Fb%3Fc"


def test_times_in_filters_are_utc(foreign: Foreign):
    foreign.answers(200, [STATUS])
    since = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    found = call(foreign, lambda client: client.get_status_by(since, runtime_status=["Failed"], instance_id_prefix="i"))

    assert [each.output for each in found] == [{"a": 1}]
    assert foreign.seen[0]["query"] == [
        ("createdTimeFrom", "2026-01-02T03:04:05.000000Z"),
        ("instanceIdPrefix", "i"),
        ("runtimeStatus", "Failed"),
        ("top", "500"),
    ]


def test_a_host_that_does_not_answer_is_a_connection_error():
    with Foreign() as gone:
        client = ours(gone)

    with pytest.raises(ConnectionError, match="does not answer"):
        asyncio.run(client.get_status(ID))


def test_the_invocation_is_told(foreign: Foreign):
    foreign.answers(202, {"id": "x"})

    asyncio.run(df.DurableOrchestrationClient(json.dumps(foreign.binding), "inv-1").start_new("o"))

    assert foreign.seen[0]["invocation"] == "inv-1"


@pytest.mark.parametrize(
    "work",
    [
        lambda client: client.start_new("o", start_at=LATER),
        lambda client: client.start_new("o", tags={"a": "b"}),
        lambda client: client.start_new("o", policy="ignore"),
        lambda client: client.raise_event(ID, "E", request_id="r"),
        lambda client: client.terminate(ID, recursive=True),
        lambda client: client.purge_instance_history(ID, recursive=True),
        lambda client: client.signal_entity(
            df.EntityId("c", "k"), "o", scheduled_time=datetime(2026, 1, 1, tzinfo=UTC)
        ),
        lambda client: client.clean_entity_storage(),
    ],
)
def test_what_the_official_host_has_not_is_refused_before_it_is_asked(
    foreign: Foreign, work: Callable[[df.DurableOrchestrationClient], Any]
):
    foreign.answers(202)

    with pytest.raises(NotImplementedError, match="DF130"):
        call(foreign, work)
    assert foreign.seen == []


@pytest.mark.parametrize(
    ("text", "error"), [("null", TypeError), ("{}", TypeError), ('{"taskHubName": "x"}', TypeError), ("x", ValueError)]
)
def test_a_text_that_is_no_binding_says_what_it_lacks(text: str, error: type[Exception]):
    with pytest.raises(error):
        df.DurableOrchestrationClient(text)


def test_a_binding_without_an_address_is_refused_when_it_is_used(foreign: Foreign):
    binding = {name: value for name, value in foreign.binding.items() if name != "rpcBaseUrl"}

    with pytest.raises(ValueError, match="RPC base url"):
        asyncio.run(df.DurableOrchestrationClient(json.dumps(binding)).get_status(ID))


# ---------------------------------------------------------------------- a host of perdure in another process


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    with started(copy_app("managed", tmp_path_factory.mktemp("app"))) as running:
        yield running


@pytest.fixture
def client(host: HostProcess) -> df.DurableOrchestrationClient:
    binding = client_binding(f"http://127.0.0.1:{host.port}", "Managed") | {"perdure": True}
    return df.DurableOrchestrationClient(json.dumps(binding))


@pytest.mark.parametrize("value", [None, "5", "text", {"a": [1, None]}, 0, "größe"])
def test_an_input_comes_back_as_the_output(client: df.DurableOrchestrationClient, value: Any):
    async def work() -> Any:
        instance_id = await client.start_new("echo", client_input=value, tags={"a": "b"})
        response = await client.wait_for_completion_or_create_check_status_response(None, instance_id, timeout=10)
        status = await client.get_status(instance_id, show_history=True)
        return response.status_code, status.output, status.history

    code, output, history = asyncio.run(work())
    assert (code, output) == (200, value)
    assert history


def test_instances_are_listed_counted_and_purged(client: df.DurableOrchestrationClient):
    async def work() -> Any:
        began = datetime.now(UTC) - timedelta(hours=1)
        for number in range(3):
            instance_id = await client.start_new("echo", f"listed-{number}", number)
            await client.wait_for_completion_or_create_check_status_response(None, instance_id, timeout=10)
        listed = [each.instance_id async for each in client.iter_status(instance_id_prefix="listed-")]
        counts = await client.count_by_status(instance_id_prefix="listed-")
        purged = await client.purge_instance_history("listed-0")
        missing = await client.get_status("listed-0")
        rest = await client.purge_instance_history_by(began, runtime_status=["Completed"])
        return sorted(listed), counts, purged.instances_deleted, bool(missing), rest.instances_deleted >= 2

    listed, counts, purged, is_found, has_purged = asyncio.run(work())
    assert listed == ["listed-0", "listed-1", "listed-2"]
    assert counts == {df.OrchestrationRuntimeStatus.Completed: 3}
    assert (purged, is_found, has_purged) == (1, False, True)


def test_an_entity_is_signalled_and_read(client: df.DurableOrchestrationClient):
    counter = df.EntityId("Counter", "over http")

    async def work() -> Any:
        await client.signal_entity(counter, "add", 5)
        while not (found := await client.read_entity_state(counter)).entity_exists:
            await asyncio.sleep(0.02)
        return found.entity_state, [
            (each.entity_id, each.entity_state) for each in await client.list_entities("counter")
        ]

    state, listed = asyncio.run(asyncio.wait_for(work(), 10))
    assert state == 5
    assert (counter, 5) in listed


def test_an_event_reaches_an_orchestrator_as_its_data(client: df.DurableOrchestrationClient):
    async def work() -> Any:
        instance_id = await client.start_new("approval")
        await client.raise_event(instance_id, "Approval", "5")
        await client.wait_for_completion_or_create_check_status_response(None, instance_id, timeout=10)
        return (await client.get_status(instance_id)).output

    assert asyncio.run(work()) == "5"
