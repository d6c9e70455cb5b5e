"""A client made from the text of a binding: of the task hub of this process if it has that, else over HTTP."""

import gc
import json
from typing import Any

import azure.durable_functions as df
from azure.durable_functions.connected import connect
from azure.durable_functions.http_hub import HttpTaskHub

from perdure.host.sdk.our_sdk import OurSdk
from perdure.host.sdk.sdk import ClientRequest


class Hub:
    """Stands for the hub of a host in this process."""

    async def get(self, instance_id: str) -> Any:
        return None


def text(port: int, hub: str = "Hub", **members: Any) -> str:
    urls = {"id": "ID", "statusQueryGetUri": "http://h/ID?taskHub=Hub"}
    rpc = f"http://127.0.0.1:{port}/durabletask/"
    return json.dumps({"taskHubName": hub, "creationUrls": {}, "managementUrls": urls, "rpcBaseUrl": rpc, **members})


def hub_of(client: df.DurableOrchestrationClient) -> Any:
    return client._hub  # pyright: ignore[reportPrivateUsage] - nothing else tells


def test_a_client_calls_the_hub_of_its_own_process():
    hub: Any = Hub()
    connect(text(1), hub, {})

    assert hub_of(df.DurableOrchestrationClient(text(1))) is hub
    assert hub_of(df.DurableOrchestrationClient(text(1, "HUB"))) is hub
    assert isinstance(hub_of(df.DurableOrchestrationClient(text(1, "Other"))), HttpTaskHub)
    assert isinstance(hub_of(df.DurableOrchestrationClient(text(2))), HttpTaskHub)


def test_a_hub_that_is_gone_is_forgotten():
    hub: Any = Hub()
    connect(text(3), hub, {})

    del hub
    gc.collect()

    assert isinstance(hub_of(df.DurableOrchestrationClient(text(3))), HttpTaskHub)


def test_links_are_those_of_the_binding_with_the_id_in_place():
    client = df.DurableOrchestrationClient(text(4))

    assert client.create_http_management_payload("a/b") == {
        "id": "a/b",
        "statusQueryGetUri": "http://h/a%2Fb?taskHub=Hub",
    }


def test_perdures_own_host_connects_what_it_gives_as_a_text():
    hub: Any = Hub()
    request = ClientRequest(
        lambda: None, True, hub, lambda instance_id: {"id": instance_id, "x": "http://h/x"}, binding
    )

    client = df.DurableOrchestrationClient(OurSdk().client(request))

    assert hub_of(client) is hub
    assert client.create_http_management_payload("i") == {"id": "i", "x": "http://h/x"}


def binding() -> str:
    return text(5)
