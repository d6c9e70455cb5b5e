"""What the management API does to instances: starting them anew, halting, rewinding, ending and removing them."""

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from webapi_kit import BASE, ORIGIN, Api, running_api, running_engine

from perdure.core.records import HistoryRow, InstancePage, InstanceQuery
from perdure.stores.memory import MemoryStore

JSON = "application/json; charset=utf-8"
EVENT = {"Content-Type": "application/json"}
LONG_AGO = "createdTimeFrom=2000-01-01T00:00:00Z"

OPERATIONS = [
    ("POST", "instances/{id}/terminate"),
    ("POST", "instances/{id}/suspend"),
    ("POST", "instances/{id}/resume"),
    ("POST", "instances/{id}/raiseEvent/Approval"),
]


@pytest.fixture
def api() -> Iterator[Api]:
    with running_api() as running:
        yield running


def ids(api: Api) -> list[str]:
    return [each["instanceId"] for each in api.get("instances").json()]


# ---------------------------------------------------------------------- suspend and resume


def test_a_suspended_instance_sees_nothing_until_it_is_resumed(api: Api):
    api.start("approval", "x")

    answer = api.post("instances/x/suspend?reason=audit")

    assert (answer.status_code, answer.content) == (202, b"")
    api.until("x", "Suspended")
    assert api.post("instances/x/raiseEvent/Approval", json="yes").status_code == 202
    status = api.get("instances/x")
    assert (status.status_code, status.json()["runtimeStatus"], status.json()["output"]) == (202, "Suspended", None)
    assert status.headers["Retry-After"] == "5"
    answer = api.post("instances/x/resume?reason=done")
    assert (answer.status_code, answer.content) == (202, b"")
    assert api.until("x", "Completed")["output"] == "yes"


def test_suspending_twice_and_resuming_what_runs_have_no_effect(api: Api):
    api.start("approval", "x")

    answers = [
        api.post("instances/x/resume").status_code,
        api.post("instances/x/suspend").status_code,
        api.post("instances/x/suspend").status_code,
    ]

    assert answers == [202, 202, 202]
    api.until("x", "Suspended")
    assert api.get("instances?runtimeStatus=Suspended").json()[0]["instanceId"] == "x"


@pytest.mark.parametrize(("verb", "path"), OPERATIONS)
def test_what_is_asked_of_nobody_is_404_and_of_a_finished_instance_410(api: Api, verb: str, path: str):
    api.run("echo", "done")

    missing, finished = (api.request(verb, path.format(id=each), headers=EVENT) for each in ("nobody", "done"))

    assert (missing.status_code, missing.content) == (404, b"")
    assert (finished.status_code, finished.content) == (410, b"")


# ---------------------------------------------------------------------- terminate


def test_children_are_terminated_on_request(api: Api):
    api.start("family", "x")
    api.until("x-2", "Running")

    answer = api.post("instances/x/terminate?reason=enough&RECURSIVE=True")

    assert (answer.status_code, answer.content) == (202, b"")
    assert [api.until(each, "Terminated")["output"] for each in ("x", "x-1", "x-2")] == ["enough"] * 3


def test_children_go_on_by_default(api: Api):
    api.start("family", "x")
    api.until("x-1", "Running")

    api.post("instances/x/terminate?recursive=nonsense")

    api.until("x", "Terminated")
    assert api.get("instances/x-1").json()["runtimeStatus"] == "Running"


# ---------------------------------------------------------------------- rewind


def test_a_failed_instance_can_be_rewound(api: Api):
    assert api.run("unlucky", "x", '"Tokyo"').json()["runtimeStatus"] == "Failed"

    answer = api.post("instances/x/rewind?reason=the+network+is+back")

    assert (answer.status_code, answer.content) == (202, b"")
    assert api.until("x", "Completed")["output"] == "Hello Tokyo"


@pytest.mark.parametrize(("name", "status"), [("approval", "Running"), ("echo", "Completed")])
def test_only_what_failed_can_be_rewound(api: Api, name: str, status: str):
    api.start(name, "x")
    api.until("x", status)

    answer = api.post("instances/x/rewind")

    assert answer.status_code == 412
    assert answer.json() == (
        f'This orchestration has status {status}, but only orchestrations in the "Failed" state can be rewound.'
    )
    assert answer.headers["Content-Type"] == JSON


def test_nobody_can_be_rewound(api: Api):
    answer = api.post("instances/nobody/rewind")

    assert answer.status_code == 404
    assert answer.json() == 'No orchestration with instance ID "nobody" found.'


# ---------------------------------------------------------------------- restart


def test_a_restart_has_a_new_id_and_the_same_input(api: Api):
    api.run("echo", "x", '{"a": 1}')

    answer = api.post("instances/x/restart")

    new_id = answer.json()["id"]
    instance = f"{ORIGIN}{BASE}/instances/{new_id}"
    assert answer.status_code == 202
    assert re.fullmatch("[0-9a-f]{32}", new_id)
    assert list(answer.json()) == [
        "id",
        "statusQueryGetUri",
        "sendEventPostUri",
        "terminatePostUri",
        "purgeHistoryDeleteUri",
        "restartPostUri",
        "suspendPostUri",
        "resumePostUri",
    ]
    assert answer.headers["Location"] == answer.json()["statusQueryGetUri"]
    assert answer.headers["Location"].startswith(instance)
    assert answer.headers["Retry-After"] == "10"
    assert api.until(new_id, "Completed")["output"] == {"a": 1}
    assert sorted(ids(api)) == sorted(["x", new_id])


def test_a_restart_may_keep_the_id_once_the_instance_has_ended(api: Api):
    api.start("approval", "x", '"first"')
    while_running = api.post("instances/x/restart?restartWithNewInstanceId=false")
    api.post("instances/x/raiseEvent/Approval", json=1)
    api.until("x", "Completed")

    afterwards = api.post("instances/x/restart?restartWithNewInstanceId=False")

    assert while_running.status_code == 409
    assert while_running.json() == {"Message": "A non-terminal instance with this instance ID already exists."}
    assert (afterwards.status_code, afterwards.json()["id"]) == (202, "x")
    assert (api.until("x", "Running")["input"], ids(api)) == ("first", ["x"])


def test_a_restart_under_a_new_id_leaves_a_running_instance_alone(api: Api):
    api.start("approval", "x")

    answer = api.post("instances/x/restart?restartWithNewInstanceId=maybe")

    assert answer.status_code == 202
    assert api.until("x", "Running")
    assert api.until(answer.json()["id"], "Running")


def test_a_restart_waits_like_a_start(api: Api):
    api.run("greet", "x", '"Tokyo"')
    api.run("broken", "y")
    api.start("approval", "z")

    completed = api.post("instances/x/restart?timeout=10&pollingInterval=1")
    failed = api.post("instances/y/restart?timeout=10", content=b"ignored")
    late = api.post("instances/z/restart?timeout=0.01")
    absurd = api.post("instances/x/restart?timeout=1&pollingInterval=2")

    assert (completed.status_code, completed.json()) == (200, "Hello Tokyo")
    assert (failed.status_code, failed.json()["runtimeStatus"]) == (200, "Failed")
    assert late.status_code == 202
    assert (absurd.status_code, absurd.json()["Message"]) == (
        400,
        "Total timeout 1 should be bigger than retry timeout 2",
    )


def test_nobody_can_be_restarted(api: Api):
    answer = api.post("instances/nobody/restart")

    assert answer.status_code == 400
    assert answer.json() == {
        "Message": "InstanceId does not match a valid orchestration instance.",
        "ExceptionMessage": "An orchestrastion with the instanceId nobody was not found.",
    }


# ---------------------------------------------------------------------- purge one


def test_a_purged_instance_is_gone_and_its_id_is_free(api: Api):
    api.run("echo", "x", "1")

    answer = api.delete("instances/x")

    assert (answer.status_code, answer.json()) == (200, {"instancesDeleted": 1})
    assert answer.headers["Content-Type"] == JSON
    assert api.get("instances/x").status_code == 404
    assert (api.delete("instances/x").status_code, api.delete("instances/x").content) == (404, b"")
    assert api.run("echo", "x", "2").json()["output"] == 2


@pytest.mark.parametrize("status", ["Running", "Suspended"])
def test_what_has_not_ended_cannot_be_purged(api: Api, status: str):
    api.start("approval", "x")
    if status == "Suspended":
        api.post("instances/x/suspend")
    api.until("x", status)

    answer = api.delete("instances/x")

    assert answer.status_code == 412
    assert answer.json() == (
        "Only orchestrations in a terminal state can be purged, but the orchestration with instance ID x has status "
        + status
    )
    assert api.get("instances/x").json()["runtimeStatus"] == status


def test_descendants_are_purged_on_request(api: Api):
    for name in ("x", "y"):
        api.start("family", name)
        api.until(f"{name}-2", "Running")
        api.post(f"instances/{name}/terminate?recursive=true")
        for each in (name, f"{name}-1", f"{name}-2"):
            api.until(each, "Terminated")

    whole = api.delete("instances/x?recursive=true")
    alone = api.delete("instances/y")

    assert (whole.json(), alone.json()) == ({"instancesDeleted": 3}, {"instancesDeleted": 1})
    assert sorted(ids(api)) == ["y-1", "y-2"]


# ---------------------------------------------------------------------- purge many


@pytest.mark.parametrize(
    ("query", "purged"),
    [
        ("", {"done", "failed", "ended"}),
        ("&runtimeStatus=", {"done", "failed", "ended"}),
        ("&runtimeStatus=Completed", {"done"}),
        ("&runtimeStatus=1,Failed", {"done", "failed"}),
        ("&runtimeStatus=Terminated&runtimeStatus=Running", {"ended"}),
        ("&runtimeStatus=Completed,Unheard", {"done"}),
        ("&createdTimeTo=2999-01-01T00:00:00Z", {"done", "failed", "ended"}),
        ("&instanceIdPrefix=d", {"done"}),
    ],
)
def test_instances_that_have_ended_are_purged_by_filter(api: Api, query: str, purged: set[str]):
    api.run("echo", "done")
    api.run("broken", "failed")
    api.start("approval", "open")
    api.start("approval", "ended")
    api.post("instances/ended/terminate")
    api.until("ended", "Terminated")

    answer = api.delete(f"instances?{LONG_AGO}{query}")

    assert (answer.status_code, answer.json()) == (200, {"instancesDeleted": len(purged)})
    assert set(ids(api)) == {"done", "failed", "open", "ended"} - purged


@pytest.mark.parametrize(
    "query",
    ["&createdTimeTo=2000-01-02", "&runtimeStatus=Canceled", "&instanceIdPrefix=nobody", "&runtimeStatus=Failed"],
)
def test_a_filter_that_nothing_fits_is_404(api: Api, query: str):
    api.run("echo", "done")

    answer = api.delete(f"instances?{LONG_AGO}{query}")

    assert (answer.status_code, answer.content) == (404, b"")
    assert ids(api) == ["done"]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("", "Please provide value for 'createdTimeFrom' parameter."),
        ("runtimeStatus=Completed", "Please provide value for 'createdTimeFrom' parameter."),
        ("createdTimeFrom=yesterday", "Please provide value for 'createdTimeFrom' parameter."),
        (f"{LONG_AGO}&runtimeStatus=Running", "Only orchestrations in a terminal state can be purged: "),
        (f"{LONG_AGO}&runtimeStatus=Pending,Suspended", "Only orchestrations in a terminal state can be purged: "),
        (f"{LONG_AGO}&runtimeStatus=completed", "Only orchestrations in a terminal state can be purged: "),
        (f"{LONG_AGO}&createdTimeTo=2026-13-01", "The value of 'createdTimeTo' is not a point in time"),
    ],
)
def test_a_filter_that_could_mean_more_than_was_said_is_refused(api: Api, query: str, sentence: str):
    api.run("echo", "done")

    answer = api.delete(f"instances?{query}")

    assert answer.status_code == 400
    assert answer.json().startswith(sentence)
    assert ids(api) == ["done"]


def test_a_filter_purges_descendants_on_request(api: Api):
    api.start("family", "x")
    api.until("x-2", "Running")
    api.post("instances/x/terminate?recursive=true")
    for each in ("x", "x-1", "x-2"):
        api.until(each, "Terminated")

    answer = api.delete(f"instances?{LONG_AGO}&instanceIdPrefix=x&recursive=true")

    assert (answer.json(), ids(api)) == ({"instancesDeleted": 3}, [])


# ---------------------------------------------------------------------- scheduled start


@pytest.mark.parametrize("start_at", ["2999-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"])
def test_a_scheduled_instance_is_pending_until_its_time(api: Api, start_at: str):
    answer = api.post(f"orchestrators/echo/x?startAt={start_at}", json=1)

    status = api.get("instances/x")
    assert answer.status_code == 202
    assert (status.status_code, status.json()["runtimeStatus"], status.json()["input"]) == (202, "Pending", 1)
    assert api.post("orchestrators/echo/x").json() == {
        "Message": "An Orchestration instance with the status Pending already exists."
    }


@pytest.mark.parametrize("seconds", [-60, 0.2])
def test_a_scheduled_instance_runs_when_its_time_has_come(api: Api, seconds: float):
    start_at = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()

    answer = api.post("orchestrators/echo/x", params={"startAt": start_at, "timeout": "10"}, json="now")

    assert answer.json() == "now"
    assert datetime.now(UTC) >= datetime.fromisoformat(start_at)


# ---------------------------------------------------------------------- what an instance carries


def test_a_start_may_say_its_version(api: Api):
    api.start("approval", "x")
    api.post("orchestrators/approval/y?version=2.0")

    versions = [getattr(asyncio.run(api.client.get(each)), "version", None) for each in ("x", "y")]

    assert versions == [None, "2.0"]


def test_tags_are_shown_if_there_are_some(api: Api):
    api.start("approval", "plain")
    api.post("orchestrators/approval/tagged", params={"tags": '{"team": "blue"}'})

    assert api.get("instances/tagged").json()["tags"] == {"team": "blue"}
    assert "tags" not in api.get("instances/plain").json()
    assert [each.get("tags") for each in api.get("instances").json()] == [None, {"team": "blue"}]


@pytest.mark.parametrize(
    ("policy", "status", "inputs"),
    [("", 409, {"first"}), ("reject", 409, {"first"}), ("Ignore", 202, {"first"}), ("replace", 202, {"second"})],
)
def test_a_start_may_say_what_becomes_of_an_instance_in_its_way(api: Api, policy: str, status: int, inputs: set[str]):
    api.start("approval", "x", '"first"')

    answer = api.post("orchestrators/approval/x", params={"policy": policy}, json="second")

    assert answer.status_code == status
    assert {each["input"] for each in api.get("instances").json()} == inputs


@pytest.mark.parametrize(
    "option", ["startAt=tomorrow", "tags=blue", "tags=[]", 'tags={"a":1}', "tags=" + "[" * 5000, "policy=terminate"]
)
def test_an_option_that_cannot_be_read_is_refused_before_anything_starts(api: Api, option: str):
    answer = api.post(f"orchestrators/echo/x?{option}")

    assert answer.status_code == 400
    assert answer.json()["ExceptionMessage"].startswith(f"The value of '{option.partition('=')[0]}' is ")
    assert ids(api) == []


# ---------------------------------------------------------------------- idempotency


def test_a_repeated_start_finds_the_instance_that_it_made(api: Api):
    key = {"Idempotency-Key": "order-17"}

    first = api.post("orchestrators/approval", json=1, headers=key)
    second = api.post("orchestrators/approval", json=1, headers=key)
    other = api.post("orchestrators/approval", json=1, headers={"Idempotency-Key": "order-18"})

    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json() == second.json()
    assert re.fullmatch("[0-9a-f]{32}", first.json()["id"])
    assert other.json()["id"] != first.json()["id"]
    assert len(ids(api)) == 2


def test_a_repeated_start_over_a_given_id_is_no_conflict_and_runs_once(api: Api):
    key = {"Idempotency-Key": "order-17"}
    api.run("echo", "x", "0")

    answers = [api.post("orchestrators/echo/x?timeout=10", json=1, headers=key) for _ in range(2)]
    before = api.get("instances/x").json()
    api.post("orchestrators/echo/x?timeout=10", json=2, headers=key)

    assert [each.json() for each in answers] == [1, 1]
    assert api.get("instances/x").json() == before


def test_a_repeated_restart_starts_once(api: Api):
    api.run("echo", "x")
    key = {"Idempotency-Key": "again"}

    new_ids = {api.post("instances/x/restart", headers=key).json()["id"] for _ in range(2)}
    same_ids = [api.post("instances/x/restart?restartWithNewInstanceId=false", headers=key) for _ in range(2)]

    assert len(new_ids) == 1
    assert [each.status_code for each in same_ids] == [202, 202]
    assert len(ids(api)) == 2


def test_a_repeated_event_is_raised_once_even_if_it_ended_the_instance(api: Api):
    key = {"Idempotency-Key": "click"}
    for each in ("x", "y"):
        api.start("approval", each)

    answers = [api.post("instances/x/raiseEvent/Approval", json=1, headers=key).status_code]
    api.until("x", "Completed")
    answers.append(api.post("instances/x/raiseEvent/Approval", json=1, headers=key).status_code)
    elsewhere = api.post("instances/y/raiseEvent/Approval", json=2, headers=key)

    assert answers == [202, 202]
    assert elsewhere.status_code == 202
    assert api.until("y", "Completed")["output"] == 2


def test_a_repeated_rewind_is_no_error(api: Api):
    api.run("unlucky", "x", '"Tokyo"')
    key = {"Idempotency-Key": "once"}

    answers = [api.post("instances/x/rewind", headers=key).status_code]
    api.until("x", "Completed")
    answers.append(api.post("instances/x/rewind", headers=key).status_code)

    assert answers == [202, 202]


# ---------------------------------------------------------------------- trouble


class RefusingStore(MemoryStore):
    """Its queries are answered as a test says."""

    answer: Any = None

    async def query(self, query: InstanceQuery) -> InstancePage:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def history(self, instance_id: str) -> list[HistoryRow]:
        return []


def test_an_argument_that_cannot_be_used_is_400():
    store = RefusingStore()
    with running_engine(store) as engine:
        store.answer = ValueError("an embedded null character")
        answer = Api(engine).get("instances/x")

    assert answer.status_code == 400
    assert answer.json() == {
        "Message": "One or more of the arguments submitted is incorrect",
        "ExceptionMessage": "an embedded null character",
        "ExceptionType": "ValueError",
    }


def test_a_defect_is_500_with_the_official_body_and_in_the_log(caplog: pytest.LogCaptureFixture):
    with running_engine(RefusingStore()) as engine:
        answer = Api(engine).get("instances")

    assert answer.status_code == 500
    assert answer.json() == {
        "Message": "Something went wrong while processing your request",
        "ExceptionMessage": "'NoneType' object has no attribute 'instances'",
        "ExceptionType": "AttributeError",
    }
    assert [(record.message, record.exc_info is not None) for record in caplog.records] == [("request failed", True)]
