"""What client functions can do with entities that run: read, list, signal, clean and purge them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import azure.durable_functions as df
import pytest
from azure.durable_functions.client import DurableClientError
from azure.durable_functions.sync_client import SyncDurableOrchestrationClient
from webapi_kit import DEADLINE_S, HUB, running_engine

from perdure.engine.check import check_hub
from perdure.stores import open_store
from perdure.webapi.links import management_urls

Client = Any  # its methods are made when they are asked for

A, B = df.EntityId("Counter", "a"), df.EntityId("Counter", "b")


@pytest.fixture(params=["memory", "sqlite"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Client]:
    """A client without `async`, on each store; the checker looks at the hub in the end."""
    url = "memory:" if request.param == "memory" else f"sqlite:{tmp_path}/hub.db"
    store = open_store(url, hub=HUB)
    with running_engine(store) as engine:
        urls = management_urls("http://localhost:7071", HUB, "INSTANCEID")
        yield SyncDurableOrchestrationClient(df.DurableOrchestrationClient(engine.client, urls))
    if request.param == "sqlite":
        store = open_store(url, hub=HUB)
        asyncio.run(store.open())
    assert asyncio.run(check_hub(store)).findings == ()
    asyncio.run(store.close())


def until(client: Client, entity_id: df.EntityId, state: Any) -> None:
    """Wait until an entity has a state, or with `...` none."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        found = client.read_entity_state(entity_id)
        if (found.entity_state if found.entity_exists else ...) == state:
            return
        assert time.monotonic() < deadline, f"{entity_id} is not {state!r} but {found.entity_state!r}"


def test_an_entity_counts_what_it_is_sent(client: Client):
    assert not client.read_entity_state(A).entity_exists

    for _ in range(50):
        client.signal_entity(A, "add", 2)
    client.signal_entity(B, "add", 0)

    until(client, A, 100)
    until(client, B, 0)


@pytest.mark.parametrize("value", [0, "", False, [], {}, None, {"a": "größe"}])
def test_what_is_false_arrives_too(client: Client, value: Any):
    client.signal_entity(A, "set", value)

    until(client, A, value)


def test_a_signal_for_later_comes_then(client: Client):
    later = datetime.now(UTC) + timedelta(seconds=0.3)

    client.signal_entity(A, "set", 1, scheduled_time=later)
    client.signal_entity(A, "set", 2)
    until(client, A, 2)

    until(client, A, 1)
    assert datetime.now(UTC) >= later


def test_a_repeated_request_counts_once(client: Client):
    for _ in range(3):
        client.signal_entity(A, "add", 1, request_id="one")
    client.signal_entity(A, "add", 10)

    until(client, A, 11)


def test_entities_are_listed_with_or_without_their_states(client: Client):
    """L26."""
    for key in ("c", "a", "b@eu"):
        client.signal_entity(df.EntityId("counter", key), "set", {"key": key})
        until(client, df.EntityId("counter", key), {"key": key})

    found = client.list_entities()

    assert [(str(each.entity_id), each.entity_state["key"]) for each in found] == [
        ("@counter@a", "a"),
        ("@counter@b@eu", "b@eu"),
        ("@counter@c", "c"),
    ]
    assert [each.last_operation_time for each in found] != sorted(each.last_operation_time for each in found)
    assert [each.entity_state for each in client.iter_entities("COUNTER", "b", include_state=False)] == [None]
    assert [each.entity_id.key for each in client.list_entities(last_operation_from=found[0].last_operation_time)] == [
        "a",
        "b@eu",
    ]
    assert client.list_entities("count") == client.list_entities(last_operation_to=datetime(2000, 1, 1)) == []


def test_entities_are_no_instances(client: Client):
    """L27, K10."""
    client.signal_entity(A, "add", 1)
    until(client, A, 1)
    instance_id = client.start_new("echo")

    assert [each.instance_id for each in client.get_status_all()] == [instance_id]
    assert not client.get_status(str(A))
    assert [str(each.entity_id) for each in client.list_entities()] == [str(A)]
    with pytest.raises(DurableClientError, match="No instance with ID '@counter@a' found"):
        client.terminate(str(A))


def test_a_purged_entity_is_gone_and_the_next_signal_makes_a_new_one(client: Client):
    """J13."""
    client.signal_entity(A, "add", 5)
    until(client, A, 5)

    assert client.purge_instance_history(str(A)).instances_deleted == 1
    assert client.purge_instance_history(str(A)).instances_deleted == 0
    assert (client.read_entity_state(A).entity_exists, client.list_entities()) == (False, [])

    client.signal_entity(A, "add", 1)
    until(client, A, 1)


def test_after_no_accident_there_is_nothing_to_clean(client: Client):
    client.signal_entity(A, "add", 1)

    assert client.clean_entity_storage() == (0, 0)
    until(client, A, 1)


def test_a_signal_to_nobody_says_who_there_is(client: Client):
    with pytest.raises(DurableClientError, match=r"unexpected status code 400: .* known entity functions: 'Counter'"):
        client.signal_entity(df.EntityId("nobody", "a"), "add")
    with pytest.raises(DurableClientError, match="Entity keys must not contain"):
        client.signal_entity(df.EntityId("counter", "a/b"), "add")
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        client.signal_entity(A, "\ud800")
