"""The paths of entities, over real requests to an engine that runs them; numbers are those of the catalogue."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import azure.durable_functions as df
import pytest
from webapi_kit import DEADLINE_S, RPC_BASE, Api, running_api

from perdure.core.events import EntityLock, ParentInstance
from perdure.core.records import EntityQuery, Message
from perdure.engine.requests import Send
from perdure.webapi.answers import JSON

TOKEN = "x-ms-continuation-token"
LONG_AGO, FAR_OFF = "2000-01-01T00:00:00Z", "2999-01-01T00:00:00Z"


@pytest.fixture
def api() -> Iterator[Api]:
    with running_api() as running:
        yield running


def listed(api: Api, path: str = "entities", **query: str) -> list[str]:
    """Names and keys of the entities in one answer."""
    answer = api.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return ["{name}/{key}".format(**each["entityId"]) for each in answer.json()]


# ---------------------------------------------------------------------- one entity


def test_an_entity_is_signalled_and_read(api: Api):
    """L34, Q6."""
    missing = api.get("entities/counter/a")
    sent = api.post("entities/counter/a?op=add", json=5)
    state = api.until_state("counter/a", 5)

    assert (missing.status_code, missing.content) == (404, b"")
    assert (sent.status_code, sent.content) == (202, b"")
    assert (state.status_code, state.content, state.headers["Content-Type"]) == (200, b"5", JSON)


def test_names_ignore_case_and_keys_do_not(api: Api):
    """L3."""
    api.signal("Counter/a", "add", 1)
    api.signal("COUNTER/a", "add", 1)
    api.signal("counter/A", "add", 10)

    assert api.until_state("cOUNTER/a", 2).status_code == 200
    assert api.until_state("counter/A", 10).status_code == 200
    assert listed(api) == ["counter/A", "counter/a"]


@pytest.mark.parametrize("key", ["a@b", "gr%C3%B6%C3%9Fe%20%F0%9F%98%80", "a+b", "a%25b", "@", "a;b&c"])
def test_keys_may_hold_almost_anything(api: Api, key: str):
    """L4."""
    api.signal(f"counter/{key}", "add", 1)

    api.until_state(f"counter/{key}", 1)


@pytest.mark.parametrize("path", ["counter/$", "counter", "counter/"])
def test_the_empty_key_is_left_out_or_a_dollar(api: Api, path: str):
    """L4; where it is left out, a GET lists."""
    api.signal(path, "add", 1)

    api.until_state("counter/$", 1)
    assert api.get("entities/counter").json()[0]["entityId"] == {"name": "counter", "key": ""}
    assert api.delete(f"entities/{path}").status_code == 202
    api.until_state("counter/$", ...)


@pytest.mark.parametrize(
    ("body", "kind", "state"),
    [
        (b'{"a": [1.50, null]}', "application/json; charset=utf-8", {"a": [1.5, None]}),
        (b"0", "application/json", 0),
        (b'""', "Application/JSON", ""),
        (b"null", "application/json", None),
        (b"", "application/json", None),
        (b"", "text/plain", None),
        ("größe: 5".encode(), "text/plain", "größe: 5"),
        (b"{5", "application/octet-stream", "{5"),
        (b'{"a": 1}', "text/plain", '{"a": 1}'),
    ],
)
def test_the_body_is_the_operations_input(api: Api, body: bytes, kind: str, state: Any):
    api.post("entities/counter/a?op=set", content=body, headers={"Content-Type": kind})

    api.until_state("counter/a", state)


@pytest.mark.parametrize("value", [{"a": [1.5, None]}, "text", "", 0, False, [], "1", "größe 😀"])
def test_what_sdk_1_encodes_twice_is_decoded_once(api: Api, value: Any):
    api.request(
        "POST",
        "entities/Counter/a?op=set",
        base=RPC_BASE,
        content=json.dumps(json.dumps(value)),
        headers={"Content-Type": "application/json"},
    )

    api.until_state("counter/a", value)
    assert api.request("GET", "entities/Counter/a", base=RPC_BASE).json() == value


def test_an_operation_without_a_name_has_the_empty_one(api: Api):
    api.post("entities/counter/a")

    api.until_state("counter/a", ["?", ""])


def test_an_operation_that_fails_changes_nothing(api: Api):
    api.signal("counter/a", "add", 1)
    api.signal("counter/a", "fail", None)
    api.signal("counter/a", "add", 1)

    api.until_state("counter/a", 2)


def test_a_deleted_entity_is_missing_and_begins_anew(api: Api):
    """L12."""
    api.signal("counter/a", "add", 5)
    api.until_state("counter/a", 5)

    deleted = api.delete("entities/counter/a")

    assert (deleted.status_code, deleted.content) == (202, b"")
    api.until_state("counter/a", ...)
    api.signal("counter/a", "add", 1)
    api.until_state("counter/a", 1)


def test_a_repeated_request_counts_once(api: Api):
    for _ in range(3):
        api.post("entities/counter/a?op=add", json=1, headers={"Idempotency-Key": "one"})
    api.post("entities/counter/a?op=add", json=10, headers={"Idempotency-Key": "another"})

    api.until_state("counter/a", 11)


def test_an_operation_can_be_sent_for_later(api: Api):
    """L15."""
    later = datetime.now(UTC) + timedelta(seconds=0.3)

    api.post(f"entities/counter/a?op=add&scheduledTime={later.isoformat().replace('+', '%2B')}", json=1)
    early = api.get("entities/counter/a").status_code, datetime.now(UTC)

    api.until_state("counter/a", 1)
    assert datetime.now(UTC) >= later
    assert early[0] == 404 or early[1] >= later


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("verb", ["POST", "DELETE"])
def test_an_unknown_entity_is_named_with_the_known_ones(api: Api, verb: str):
    answer = api.request(verb, "entities/nobody/a")

    assert answer.status_code == 400
    assert (
        answer.json()["Message"]
        == answer.json()["ExceptionMessage"]
        == (
            "The function 'nobody' doesn't exist, is disabled, or is not an entity function. Additional info: The "
            "following are the known entity functions: 'Counter'."
        )
    )


@pytest.mark.parametrize("verb", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("counter/a%23b", "Entity keys must not contain /, \\, #, ?, or control characters."),
        ("counter/a%00b", "Entity keys must not contain /, \\, #, ?, or control characters."),
        ("counter/a%5Cb", "Entity keys must not contain /, \\, #, ?, or control characters."),
        ("coun@ter/a", "Invalid entity id: the name 'coun@ter' contains @."),
        ("counter/" + "x" * 256, "Instance ID lengths must not exceed 256 characters."),
    ],
)
def test_ids_that_no_entity_has_are_refused(api: Api, verb: str, path: str, sentence: str):
    answer = api.request(verb, f"entities/{path}")

    assert (answer.status_code, answer.json()["Message"]) == (400, sentence)


@pytest.mark.parametrize("body", [b"{", b"NaN", b'{"a": 1, "a": 2}', b"\xff"])
def test_a_body_that_is_not_json_though_it_says_so_is_refused(api: Api, body: bytes):
    answer = api.post("entities/counter/a?op=set", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 400
    assert answer.json()["Message"].startswith("Could not parse JSON content: ")
    assert list(answer.json()) == ["Message"]


def test_a_time_that_is_none_is_refused(api: Api):
    answer = api.post("entities/counter/a?op=add&scheduledTime=tomorrow", json=1)

    assert answer.status_code == 400
    assert "scheduledTime" in answer.json()["Message"]


@pytest.mark.parametrize(
    "path", ["instances/@counter@a/terminate", "instances/@counter@a/raiseEvent/x", "instances/@counter@a/suspend"]
)
def test_an_entity_is_not_steered_like_an_instance(api: Api, path: str):
    api.signal("counter/a", "add", 1)
    api.until_state("counter/a", 1)

    assert api.post(path, json=1).status_code == 404
    assert api.get("entities/counter/a").json() == 1


# ---------------------------------------------------------------------- lists


def with_entities(api: Api, *names: str) -> None:
    """Entities like `counter/a` with their name as state."""
    for each in names:
        api.signal(each, "set", each)
    for each in names:
        api.until_state(each, each)


@pytest.fixture
def both() -> Iterator[Api]:
    """An API with entities of two names."""
    with running_api({"CounterOfParts": df.Entity(lambda context: context.set_state(context.get_input()))}) as running:
        yield running


def test_entities_are_listed_by_name_with_their_states_on_request(both: Api):
    """L26."""
    with_entities(both, "counter/b", "counter/a", "counterofparts/a")

    answer = both.get("entities/Counter?fetchState=true")
    without = both.get("entities/counter")

    first, second = answer.json()
    assert (first["entityId"], first["state"]) == ({"name": "counter", "key": "a"}, "counter/a")
    assert (second["entityId"], second["state"]) == ({"name": "counter", "key": "b"}, "counter/b")
    time = datetime.fromisoformat(first["lastOperationTime"])
    assert timedelta() <= datetime.now(UTC) - time < timedelta(minutes=1)
    assert first["lastOperationTime"].endswith("Z")
    assert [each["state"] for each in without.json()] == [None, None]
    assert listed(both) == ["counter/a", "counter/b", "counterofparts/a"]
    assert TOKEN not in answer.headers


def test_entities_come_in_pages(both: Api):
    """L26: each exactly once, in whatever script its key is."""
    names = [f"counter/{key}" for key in ("a", "b", "größe 50%", "😀")] + [f"counterofparts/{n}" for n in range(3)]
    with_entities(both, *names)

    found: list[str] = []
    pages: list[int] = []
    headers: dict[str, str] = {}
    while not pages or headers:
        answer = both.get("entities?top=3", headers=headers)
        page = ["{name}/{key}".format(**each["entityId"]) for each in answer.json()]
        found += page
        pages.append(len(page))
        headers = {TOKEN: answer.headers[TOKEN]} if TOKEN in answer.headers else {}

    assert found == sorted(names)
    assert pages == [3, 3, 1]


@pytest.mark.parametrize("token", ["garbage", "bnVsbA==", "counter", "@counter@a b"])
def test_a_token_that_no_page_gave_is_refused(api: Api, token: str):
    answer = api.get("entities", headers={TOKEN: token})

    assert (answer.status_code, TOKEN in answer.json()["Message"]) == (400, True)


def test_entities_are_found_by_the_time_of_their_last_operation(api: Api):
    with_entities(api, "counter/a")
    middle = datetime.now(UTC).isoformat()
    with_entities(api, "counter/b")

    assert listed(api, lastOperationTimeFrom=LONG_AGO, lastOperationTimeTo=FAR_OFF) == ["counter/a", "counter/b"]
    assert listed(api, lastOperationTimeFrom=middle) == ["counter/b"]
    assert listed(api, "entities/counter", lastOperationTimeTo=middle) == ["counter/a"]
    assert listed(api, lastOperationTimeFrom=FAR_OFF) == []
    assert listed(api, lastOperationTimeFrom="nonsense", top="none") == ["counter/a", "counter/b"]


def test_entities_without_a_state_are_not_listed(api: Api):
    """L26."""
    with_entities(api, "counter/a", "counter/b")
    lock(api, "@counter@c")

    api.delete("entities/counter/a")
    api.until_state("counter/a", ...)

    assert listed(api) == listed(api, "entities/counter") == ["counter/b"]


def test_entities_and_instances_are_listed_apart(api: Api):
    """L27, K10."""
    with_entities(api, "counter/a")
    api.run("echo", "x", "1")

    assert [each["instanceId"] for each in api.get("instances").json()] == ["x"]
    assert api.get("instances?instanceIdPrefix=@").json() == []
    assert api.get("instances/@counter@a").status_code == 404
    assert listed(api) == ["counter/a"]
    assert asyncio.run(api.client.entity("x")) is None


# ---------------------------------------------------------------------- what is durable, and what goes


def test_a_state_is_that_of_the_last_commit_while_an_operation_runs():
    """L25."""
    has_begun, may_end = threading.Event(), threading.Event()

    async def slow(context: df.DurableEntityContext) -> None:
        context.set_state(context.get_input())
        if context.get_input() == "new":
            has_begun.set()
            await asyncio.to_thread(may_end.wait, 10)

    with running_api({"slow": df.Entity(slow)}) as api:
        with_entities(api, "slow/a")
        api.signal("slow/a", "set", "new")
        api.signal("slow/a", "set", "newer")
        assert has_begun.wait(10)

        meanwhile = api.get("entities/slow/a").json(), api.get("entities?fetchState=true").json()[0]["state"]
        may_end.set()

        assert meanwhile == ("slow/a", "slow/a")
        api.until_state("slow/a", "newer")


def test_a_purged_entity_is_gone_and_the_next_signal_makes_a_new_one(api: Api):
    """J13."""
    api.signal("counter/a", "add", 5)
    api.until_state("counter/a", 5)

    purged = api.delete("instances/@counter@a")

    assert (purged.status_code, purged.json()) == (200, {"instancesDeleted": 1})
    assert api.get("entities/counter/a").status_code == 404
    assert api.delete("instances/@counter@a").status_code == 404
    assert api.delete("instances/@nobody").status_code == 404
    api.signal("counter/a", "add", 1)
    api.until_state("counter/a", 1)


def test_a_lock_whose_holder_is_gone_is_released_by_cleaning(api: Api):
    api.signal("counter/a", "add", 1)
    api.until_state("counter/a", 1)
    lock(api, "@counter@a")
    api.signal("counter/a", "add", 1)

    before = api.get("entities/counter/a").json()
    cleaned = api.post("cleanEntityStorage")

    assert before == 1
    assert (cleaned.status_code, cleaned.json()) == (200, {"emptyEntitiesRemoved": 0, "orphanedLocksReleased": 1})
    api.until_state("counter/a", 2)
    assert api.post("cleanEntityStorage").json()["orphanedLocksReleased"] == 0


def lock(api: Api, entity_id: str) -> None:
    """Have an entity locked by an orchestration that there is not."""
    owner = ParentInstance("nobody", "gone", "flow", 0)
    event = EntityLock(datetime.now(UTC), owner, (entity_id,))
    asyncio.run(api.client._ask(Send(Message(f"lock {entity_id}", entity_id, None, event))))
    deadline = time.monotonic() + DEADLINE_S
    while not asyncio.run(_is_locked(api, entity_id)):
        assert time.monotonic() < deadline, f"{entity_id} is not locked"


async def _is_locked(api: Api, entity_id: str) -> bool:
    page = await api.client.entities(EntityQuery(prefix=entity_id, locked_only=True))
    return bool(page.instances)
