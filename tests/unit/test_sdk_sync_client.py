"""What functions without `async` can do: the same as others, in the same words but for `await`."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import azure.durable_functions as df
import pytest
from azure.durable_functions.client import DurableClientError
from azure.durable_functions.sync_client import SyncDurableOrchestrationClient
from webapi_kit import running_engine

from perdure.stores.memory import MemoryStore
from perdure.webapi.links import management_urls

Client = Any  # its methods are made when they are asked for


@pytest.fixture
def client() -> Iterator[Client]:
    with running_engine(MemoryStore(partitions=1)) as engine:
        urls = management_urls("http://localhost:7071", "Hub", "INSTANCEID")
        yield SyncDurableOrchestrationClient(df.DurableOrchestrationClient(engine.client, urls))


def test_methods_return_when_the_work_is_done(client: Client):
    instance_id = client.start_new("greet", client_input="Tokyo")

    response = client.wait_for_completion_or_create_check_status_response(None, instance_id)
    status = client.get_status(instance_id)

    assert (response.status_code, response.get_body()) == (200, b"Hello Tokyo")
    assert status.runtime_status is df.OrchestrationRuntimeStatus.Completed
    assert client.purge_instance_history_by(datetime(2026, 1, 1, tzinfo=UTC)).instances_deleted == 1
    assert not client.get_status(instance_id)


def test_statuses_are_iterated_over_with_for(client: Client):
    for number in range(5):
        client.start_new("approval", f"i{number}")

    found: list[str | None] = []
    for status in client.iter_status(instance_id_prefix="i"):
        found.append(status.instance_id)
        if len(found) == 3:
            break

    assert found == ["i0", "i1", "i2"]
    assert [each.instance_id for each in client.iter_status()] == ["i0", "i1", "i2", "i3", "i4"]
    assert list(client.iter_status(instance_id_prefix="x")) == []


def test_errors_are_the_same(client: Client):
    with pytest.raises(DurableClientError, match="No instance with ID 'nobody' found"):
        client.terminate("nobody")
    with pytest.raises(DurableClientError, match="doesn't exist"):
        client.start_new("nobody")
    with pytest.raises(AttributeError, match="nothing"):
        client.nothing


def test_what_never_waited_is_as_it_was(client: Client):
    assert client.create_check_status_response(None, "i").status_code == 202
    assert "/instances/i?" in client.create_http_management_payload("i")["statusQueryGetUri"]
    assert client.start_new.__doc__ == df.DurableOrchestrationClient.start_new.__doc__
    assert "start_new" in dir(client)


@pytest.mark.parametrize("name", ["get_status_all", "iter_status"])
def test_inside_an_event_loop_it_says_what_to_do(client: Client, name: str):
    async def misuse() -> None:
        next(iter(getattr(client, name)()))

    with pytest.raises(RuntimeError, match=rf"client\.{name} would block .* `async def`"):
        asyncio.run(misuse())
