"""Requests to the management API, and what it answers to the letter."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator

import pytest
from webapi_kit import BASE, HUB, ORIGIN, Api, running_api, running_engine

from perdure.engine.thread import EngineThread
from perdure.stores.memory import MemoryStore
from perdure.webapi.call import BODY_BYTES_MAX
from perdure.webapi.links import management_urls
from perdure.webapi.routes import ROUTES, is_management_path

JSON = "application/json; charset=utf-8"
EVENT = {"Content-Type": "application/json"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
QUERY = f"taskHub={HUB}&connection=Storage"


@pytest.fixture
def api() -> Iterator[Api]:
    with running_api() as running:
        yield running


# ---------------------------------------------------------------------- start


def test_a_start_answers_with_the_eight_management_urls_in_order(api: Api):
    answer = api.post("orchestrators/echo/order-17", json={"a": 1})

    instance = f"{ORIGIN}{BASE}/instances/order-17"
    assert answer.status_code == 202
    assert list(answer.json().items()) == [
        ("id", "order-17"),
        ("statusQueryGetUri", f"{instance}?{QUERY}"),
        ("sendEventPostUri", f"{instance}/raiseEvent/{{eventName}}?{QUERY}"),
        ("terminatePostUri", f"{instance}/terminate?reason={{text}}&{QUERY}"),
        ("purgeHistoryDeleteUri", f"{instance}?{QUERY}"),
        ("restartPostUri", f"{instance}/restart?{QUERY}"),
        ("suspendPostUri", f"{instance}/suspend?reason={{text}}&{QUERY}"),
        ("resumePostUri", f"{instance}/resume?reason={{text}}&{QUERY}"),
    ]
    assert answer.headers["Location"] == answer.json()["statusQueryGetUri"]
    assert answer.headers["Retry-After"] == "10"
    assert answer.headers["Content-Type"] == JSON


def test_a_start_without_an_id_makes_one_of_32_hex_digits(api: Api):
    answer = api.post("orchestrators/echo")

    assert re.fullmatch("[0-9a-f]{32}", answer.json()["id"])


def test_links_have_the_origin_that_the_caller_used(api: Api):
    answer = api.post("orchestrators/echo", headers={"Host": "127.0.0.1:9000"})

    assert answer.headers["Location"].startswith("http://127.0.0.1:9000/runtime/")


def test_the_orchestrators_name_is_matched_without_case(api: Api):
    assert api.post("ORCHESTRATORS/ECHO/x?timeout=10", json=1).json() == 1
    assert api.get("instances/x").json()["name"] == "echo"


def test_a_body_is_stored_as_it_was_sent(api: Api):
    api.start("approval", "x", '  {"a":  1.0}')

    instance = asyncio.run(api.client.get("x"))
    assert instance is not None
    assert instance.input == '  {"a":  1.0}'


def test_an_empty_body_is_no_input(api: Api):
    assert api.post("orchestrators/echo?timeout=10").json() is None


def test_a_body_is_json_whatever_its_content_type(api: Api):
    assert api.post("orchestrators/echo?timeout=10", content="[1]", headers={"Content-Type": "text/plain"}).json() == [
        1
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"hello",
        b"NaN",
        b"[Infinity]",
        b"1e999",
        b'{"a":1,"a":2}',
        b'"\\ud800"',
        b'"\xff"',
        b"[" * 101 + b"]" * 101,
        b"[" * 100_000,
        b"1" * 5000,
        b" ",
    ],
)
def test_a_body_that_is_not_json_for_everybody_is_refused(api: Api, body: bytes):
    answer = api.post("orchestrators/echo/x", content=body)

    assert answer.status_code == 400
    assert answer.json()["Message"] == "Invalid JSON content"
    assert answer.json()["ExceptionMessage"]
    assert api.get("instances/x").status_code == 404


@pytest.mark.parametrize("body", ["[" * 100 + "]" * 100, "1" * 4300, '"\\ud83d\\ude00"', "\ufeff7", "null"])
def test_a_body_at_the_limits_is_accepted(api: Api, body: str):
    assert api.post("orchestrators/approval", content=body.encode()).status_code == 202


def test_an_unknown_orchestrator_is_refused_with_the_known_ones(api: Api):
    answer = api.post("orchestrators/ekko")

    text = (
        "The function 'ekko' doesn't exist, is disabled, or is not an orchestrator function. Additional info: "
        "The following are the known orchestrator functions: 'approval', 'broken', 'echo', 'family', 'greet', "
        "'unlucky'."
    )
    assert answer.status_code == 400
    assert answer.json() == {"Message": text, "ExceptionMessage": text}
    assert answer.headers["Content-Type"] == JSON


@pytest.mark.parametrize(
    ("instance_id", "sentence"),
    [
        ("@me", "Orchestration instance ids must not start with @."),
        ("a%5Cb", "Orchestration instance ids must not contain /, \\, #, ?, or control characters."),
        ("a%23b", "Orchestration instance ids must not contain /, \\, #, ?, or control characters."),
        ("a%3Fb", "Orchestration instance ids must not contain /, \\, #, ?, or control characters."),
        ("a%00b", "Orchestration instance ids must not contain /, \\, #, ?, or control characters."),
        ("a%C2%85b", "Orchestration instance ids must not contain /, \\, #, ?, or control characters."),
        ("x" * 257, "Instance ID lengths must not exceed 256 characters."),
    ],
)
def test_an_instance_id_that_breaks_a_rule_is_refused(api: Api, instance_id: str, sentence: str):
    answer = api.post(f"orchestrators/echo/{instance_id}")

    assert answer.status_code == 400
    assert answer.json() == {"Message": sentence, "ExceptionMessage": sentence}


def test_a_start_over_a_running_id_is_a_conflict_and_changes_nothing(api: Api):
    api.start("approval", "x", '"first"')

    answer = api.post("orchestrators/approval/x", json="second")

    assert answer.status_code == 409
    assert re.fullmatch(
        r"An Orchestration instance with the status (Pending|Running) already exists\.", answer.json()["Message"]
    )
    assert api.get("instances/x").json()["input"] == "first"


def test_a_start_over_a_finished_id_replaces_it(api: Api):
    api.run("echo", "x", '"first"')

    assert api.run("echo", "x", '"second"').json()["output"] == "second"


@pytest.mark.parametrize("instance_id", ["größe-日本-😀", "a b", "a+b", "a%b", "a&b=c", "a;b", "'--"])
def test_ids_of_any_other_characters_come_back_through_their_links(api: Api, instance_id: str):
    with_id = asyncio.run(api.client.start("echo", instance_id=instance_id))
    api.ended(with_id)
    listed = api.get("instances").json()[0]["instanceId"]

    answer = api.get(management_urls("", HUB, instance_id)["statusQueryGetUri"].removeprefix(f"{BASE}/"))

    assert listed == instance_id
    assert answer.json()["instanceId"] == instance_id


# ---------------------------------------------------------------------- start and wait


def test_a_waiting_start_answers_with_the_output_alone(api: Api):
    answer = api.post("orchestrators/greet?timeout=10", json="Tokyo")

    assert answer.status_code == 200
    assert answer.json() == "Hello Tokyo"
    assert answer.headers["Content-Type"] == JSON


def test_a_waiting_start_that_fails_answers_200_with_the_status(api: Api):
    answer = api.post("orchestrators/broken/x?timeout=10&pollingInterval=1&returnInternalServerErrorOnFailure=true")

    assert answer.status_code == 200
    assert answer.json()["runtimeStatus"] == "Failed"
    assert "no stock" in answer.json()["output"]


def test_a_waiting_start_that_takes_longer_answers_with_the_links(api: Api):
    answer = api.post("orchestrators/approval/x?timeout=0.01")

    assert answer.status_code == 202
    assert answer.json()["id"] == "x"


def test_a_polling_interval_above_the_timeout_is_refused_before_anything_starts(api: Api):
    answer = api.post("orchestrators/echo/x?timeout=1&pollingInterval=1.5")

    assert answer.status_code == 400
    assert answer.json()["Message"] == "Total timeout 1 should be bigger than retry timeout 1.5"
    assert answer.json()["ExceptionMessage"] == answer.json()["Message"]
    assert api.get("instances/x").status_code == 404


@pytest.mark.parametrize("timeout", ["", "soon", "nan", "inf", "-1", "1e99"])
def test_a_timeout_that_is_no_duration_counts_as_absent(api: Api, timeout: str):
    assert api.post(f"orchestrators/echo?timeout={timeout}").status_code == 202


def test_a_client_that_goes_away_while_waiting_gets_no_answer(api: Api):
    """The request is given up at once, not when its time is over."""
    received = [{"type": "http.request", "body": b""}, {"type": "http.disconnect"}]
    sent: list[object] = []

    async def receive() -> dict[str, object]:
        return received.pop(0)

    async def send(message: object) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "scheme": "http",
        "path": f"{BASE}/orchestrators/approval/x",
        "raw_path": f"{BASE}/orchestrators/approval/x".encode(),
        "query_string": b"timeout=1000",
        "headers": [(b"host", b"localhost")],
    }

    asyncio.run(asyncio.wait_for(api.app(scope, receive, send), 10))

    assert sent == []
    assert api.get("instances/x").status_code == 202


# ---------------------------------------------------------------------- status


def test_a_finished_instance_is_shown_with_its_members_in_order(api: Api):
    answer = api.run("greet", "x", '"Tokyo"')

    body = answer.json()
    assert list(body) == [
        "name",
        "instanceId",
        "runtimeStatus",
        "input",
        "customStatus",
        "output",
        "createdTime",
        "lastUpdatedTime",
    ]
    assert TIME.fullmatch(body.pop("createdTime"))
    assert TIME.fullmatch(body.pop("lastUpdatedTime"))
    assert body == {
        "name": "greet",
        "instanceId": "x",
        "runtimeStatus": "Completed",
        "input": "Tokyo",
        "customStatus": None,
        "output": "Hello Tokyo",
    }
    assert answer.headers["Content-Type"] == JSON
    assert "Location" not in answer.headers


def test_a_running_instance_says_where_and_when_to_look_again(api: Api):
    api.start("approval", "x")

    answer = api.get("instances/x?showInput=false&taskHub=testhub")

    assert answer.status_code == 202
    assert answer.json()["runtimeStatus"] in ("Pending", "Running")
    assert answer.headers["Location"] == f"{ORIGIN}{BASE}/instances/x?showInput=false&taskHub=testhub"
    assert answer.headers["Retry-After"] == "5"


def test_an_unknown_instance_is_404_with_an_empty_body(api: Api):
    answer = api.get("instances/nobody")

    assert (answer.status_code, answer.content) == (404, b"")


def test_the_input_can_be_left_out(api: Api):
    api.run("echo", "x", "1")

    assert api.get("instances/x?showInput=False").json()["input"] is None
    assert api.get("instances/x?SHOWINPUT=nonsense").json()["input"] == 1


def test_a_failed_instance_is_an_internal_error_only_on_request(api: Api):
    api.run("broken", "x")

    answer = api.get("instances/x?returnInternalServerErrorOnFailure=true")

    assert answer.status_code == 500
    assert answer.json()["runtimeStatus"] == "Failed"


def test_the_history_comes_when_asked_for(api: Api):
    api.run("greet", "x", '"Tokyo"')

    events = api.get("instances/x?showHistory=true&showHistoryOutput=true").json()["historyEvents"]

    assert [event["EventType"] for event in events] == ["ExecutionStarted", "TaskCompleted", "ExecutionCompleted"]
    assert (events[1]["FunctionName"], events[1]["Result"]) == ("hello", "Hello Tokyo")
    assert events[2]["OrchestrationStatus"] == "Completed"


def test_half_a_surrogate_pair_in_an_output_travels_escaped(api: Api):
    """Clients cannot send one, but activities can return one."""

    asyncio.run(api.client.start("echo", '"\\ud800"', instance_id="x"))
    api.ended("x")

    assert b'"\\ud800"' in api.get("instances/x").content


# ---------------------------------------------------------------------- list


def test_instances_are_listed_in_order_of_creation_without_histories(api: Api):
    for number in range(3):
        api.run("echo", f"i{number}", str(number))

    answer = api.get("instances?showHistory=true")

    assert answer.status_code == 200
    assert [(each["instanceId"], each["input"]) for each in answer.json()] == [("i0", 0), ("i1", 1), ("i2", 2)]
    assert all("historyEvents" not in each for each in answer.json())
    assert "x-ms-continuation-token" not in answer.headers


def test_a_long_list_comes_in_pages(api: Api):
    for number in range(5):
        api.run("echo", f"größe-{number}")
    seen: list[str] = []
    token = ""

    for _ in range(3):
        answer = api.get("instances?top=2", headers={"x-ms-continuation-token": token})
        seen += [each["instanceId"] for each in answer.json()]
        token = answer.headers.get("x-ms-continuation-token", "")

    assert seen == [f"größe-{number}" for number in range(5)]
    assert token == ""


def test_pages_have_every_instance_once_while_others_are_created(api: Api):
    async def start(ids: list[str]) -> None:
        await asyncio.gather(*(api.client.start("approval", instance_id=each) for each in ids))

    before = [f"i{number}" for number in range(95)]
    asyncio.run(start(before))
    seen: list[str] = []
    token = ""

    for round in range(20):
        answer = api.get("instances?top=10&instanceIdPrefix=i", headers={"x-ms-continuation-token": token})
        seen += [each["instanceId"] for each in answer.json()]
        token = answer.headers.get("x-ms-continuation-token", "")
        if not token:
            break
        asyncio.run(start([f"i-new-{round}"]))

    assert token == ""
    assert sorted(each for each in seen if "new" not in each) == sorted(before)
    assert len(seen) == len(set(seen))


def test_a_page_token_of_somebody_else_is_refused(api: Api):
    answer = api.get("instances", headers={"x-ms-continuation-token": "bnVsbA=="})

    assert answer.status_code == 400
    assert "x-ms-continuation-token" in answer.json()["Message"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {"done", "failed", "open"}),
        ("runtimeStatus=Completed", {"done"}),
        ("runtimeStatus=Completed,Failed", {"done", "failed"}),
        ("runtimeStatus=Completed&runtimeStatus=Failed", {"done", "failed"}),
        ("runtimeStatus=1", {"done"}),
        ("runtimeStatus=Suspended", set()),
        ("runtimeStatus=completed", {"done", "failed", "open"}),
        ("instanceIdPrefix=d", {"done"}),
        ("createdTimeFrom=2999-01-01", set()),
        ("createdTimeTo=2000-01-01T00:00:00Z", set()),
        (
            "createdTimeFrom=1-01-01T00:00:00.000000Z&createdTimeTo=2999-01-01T00:00:00+02:00",
            {"done", "failed", "open"},
        ),
        ("createdTimeFrom=tomorrow&top=-1", {"done", "failed", "open"}),
        ("taskHub=TESTHUB&connection=Other&code=key", {"done", "failed", "open"}),
    ],
)
def test_a_list_can_be_filtered(api: Api, query: str, found: set[str]):
    api.run("echo", "done")
    api.run("broken", "failed")
    api.start("approval", "open")

    answer = api.get(f"instances?{query}")

    assert {each["instanceId"] for each in answer.json()} == found


# ---------------------------------------------------------------------- events


def test_an_event_reaches_the_instance_as_it_was_sent(api: Api):
    api.start("approval", "x")

    answer = api.post("instances/x/raiseEvent/approval", json={"ok": True})

    assert (answer.status_code, answer.content) == (202, b"")
    api.ended("x")
    assert api.get("instances/x").json()["output"] == {"ok": True}


def test_an_event_without_a_body_carries_nothing(api: Api):
    api.start("approval", "x")

    assert api.post("instances/x/RAISEEVENT/Approval", headers=EVENT).status_code == 202
    api.ended("x")
    assert api.get("instances/x").json()["output"] is None


def test_an_event_to_nobody_is_404_and_to_a_finished_instance_410(api: Api):
    api.run("echo", "done")

    for options in ({"json": 1}, {"content": "{", "headers": EVENT}, {"content": "text"}):
        missing = api.post("instances/nobody/raiseEvent/Approval", **options)
        finished = api.post("instances/done/raiseEvent/Approval", **options)
        assert (missing.status_code, missing.content) == (404, b"")
        assert (finished.status_code, finished.content) == (410, b"")


def test_an_event_has_to_be_json_and_say_so(api: Api):
    api.start("approval", "x")

    untyped = api.post("instances/x/raiseEvent/Approval", content="1", headers={"Content-Type": "text/plain"})
    unreadable = api.post("instances/x/raiseEvent/Approval", content="{", headers=EVENT)
    typed = api.post(
        "instances/x/raiseEvent/Approval", content="1", headers={"Content-Type": "Application/JSON; charset=utf-8"}
    )

    assert (untyped.status_code, untyped.json()) == (
        400,
        {"Message": "Only application/json request content is supported"},
    )
    assert (unreadable.status_code, unreadable.json()["Message"]) == (400, "Invalid JSON content")
    assert typed.status_code == 202


def test_bodies_are_limited_while_they_stream(api: Api):
    api.start("approval", "x")

    async def stream() -> AsyncIterator[bytes]:
        for _ in range(BODY_BYTES_MAX // 2**20 + 1):
            yield b" " * 2**20

    declared = api.post("orchestrators/echo/big", content=b" " * (BODY_BYTES_MAX + 1))
    streamed = api.post("instances/x/raiseEvent/Approval", content=stream(), headers=EVENT)

    assert declared.status_code == streamed.status_code == 413
    assert declared.json() == {"Message": "The request body is larger than 16 MB."}
    assert api.get("instances/big").status_code == 404


def test_a_body_of_exactly_the_limit_is_accepted(api: Api):
    body = b'"' + b"x" * (BODY_BYTES_MAX - 2) + b'"'

    assert api.post("orchestrators/approval", content=body).status_code == 202


# ---------------------------------------------------------------------- terminate


def test_a_terminated_instance_has_the_reason_as_its_output(api: Api):
    api.start("approval", "x")

    answer = api.post("instances/x/terminate?reason=no+longer%20wanted")

    assert (answer.status_code, answer.content) == (202, b"")
    api.ended("x")
    status = api.get("instances/x").json()
    assert (status["runtimeStatus"], status["output"]) == ("Terminated", "no longer wanted")


def test_a_termination_needs_no_reason(api: Api):
    api.start("approval", "x")

    api.post("instances/x/terminate")

    api.ended("x")
    assert api.get("instances/x").json()["output"] is None


def test_terminating_nobody_is_404_and_a_finished_instance_410(api: Api):
    api.run("echo", "done")

    assert api.post("instances/nobody/terminate").status_code == 404
    assert api.post("instances/done/terminate").status_code == 410


# ---------------------------------------------------------------------- paths


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", ""),
        ("GET", "orchestrators/echo"),
        ("PUT", "orchestrators/echo"),
        ("POST", "orchestrators"),
        ("POST", "orchestrators/echo/x/y"),
        ("POST", "instances"),
        ("POST", "instances/x"),
        ("HEAD", "instances/x"),
        ("OPTIONS", "instances/x"),
        ("GET", "instances/x/terminate"),
        ("POST", "instances/x/raiseEvent"),
        ("POST", "instances/x/explode"),
        ("POST", "instances//terminate"),
        ("POST", "instances/x%2Fy/raiseEvent/Approval/z"),
        ("DELETE", "instances/x/terminate"),
        ("GET", "health"),
    ],
)
def test_what_no_template_and_verb_fit_is_404_with_an_empty_body(api: Api, verb: str, path: str):
    api.start("approval", "x")

    answer = api.request(verb, path)

    assert (answer.status_code, answer.content) == (404, b"")


def test_prefix_and_templates_match_without_case_and_with_slashes_around(api: Api):
    api.run("echo", "x")

    answer = api.request("GET", "/INSTANCES/x/", base="/Runtime/WebHooks/DurableTask")

    assert answer.json()["instanceId"] == "x"


def test_paths_are_decoded_by_the_rules_of_forms(api: Api):
    asyncio.run(api.client.start("approval", instance_id="a b"))

    assert api.get("instances/a+b").json()["instanceId"] == "a b"
    assert api.get("instances/a%20b").json()["instanceId"] == "a b"
    assert api.post("instances%2Fa%20b%2Fterminate").status_code == 202


def test_a_path_that_is_not_utf_8_is_refused(api: Api):
    assert api.get("instances/%FF").status_code == 400


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("POST", "orchestrators/echo/y"),
        ("GET", "instances/x"),
        ("GET", "instances"),
        ("DELETE", "instances/x"),
        ("DELETE", "instances"),
        ("POST", "instances/x/terminate"),
        ("POST", "instances/x/suspend"),
        ("POST", "instances/x/resume"),
        ("POST", "instances/x/rewind"),
        ("POST", "instances/x/restart"),
        ("POST", "instances/x/raiseEvent/Approval"),
    ],
)
def test_another_hub_has_no_instances(api: Api, verb: str, path: str):
    api.start("approval", "x")

    answer = api.request(verb, f"{path}?taskHub=Another", headers=EVENT)

    assert (answer.status_code, answer.content) == (404, b"")
    assert [each["instanceId"] for each in api.get("instances?taskHub=").json()] == ["x"]
    assert [each["instanceId"] for each in api.get("instances?connection=Another").json()] == ["x"]  # not looked at


@pytest.mark.parametrize("verb", ["GET", "PUT", "POST", "DELETE"])
def test_making_this_host_the_primary_changes_nothing(api: Api, verb: str):
    answer = api.request(verb, "makePrimary")

    assert (answer.status_code, answer.content) == (200, b"")


def test_the_route_table_has_the_official_paths_and_one_of_ours():
    assert {template for _, template, _ in ROUTES} == {
        "orchestrators/{functionName}",
        "orchestrators/{functionName}/{instanceId}",
        "entities",
        "entities/{entityName}",
        "entities/{entityName}/{entityKey}",
        "instances",
        "instances/{instanceId}",
        "instances/{instanceId}/terminate",
        "instances/{instanceId}/suspend",
        "instances/{instanceId}/resume",
        "instances/{instanceId}/rewind",
        "instances/{instanceId}/restart",
        "instances/{instanceId}/raiseEvent/{eventName}",
        "makeprimary",
        "cleanEntityStorage",
    }


def test_only_paths_below_the_prefix_are_the_management_apis():
    assert is_management_path("/RUNTIME/webhooks/durabletask")
    assert is_management_path("/runtime/webhooks/durabletask/instances")
    assert is_management_path("/DurableTask/instances")
    assert not is_management_path("/runtime/webhooks/durabletaskx")
    assert not is_management_path("/durabletasks")
    assert not is_management_path("/runt\u0131me/webhoo\u212as/durabletask")
    assert not is_management_path("/durableta\u017fk")
    assert not is_management_path("/api/runtime/webhooks/durabletask")


# ---------------------------------------------------------------------- trouble


def test_a_host_that_has_stopped_answers_503():
    with running_engine(MemoryStore()) as engine:
        api = Api(engine)

    answer = api.post("orchestrators/echo")

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.json()["Message"]


def test_a_waiting_client_is_told_when_the_host_stops():
    engine = EngineThread(MemoryStore())
    engine.start()
    api = Api(engine)
    asyncio.run(engine.client.start("anything", instance_id="x"))

    async def stop_while_waiting() -> int:
        request = asyncio.create_task(asyncio.to_thread(api.post, "orchestrators/anything/y?timeout=1000"))
        while await engine.client.get("y") is None:
            await asyncio.sleep(0)
        await asyncio.to_thread(engine.stop)
        return (await request).status_code

    assert asyncio.run(stop_while_waiting()) == 503
