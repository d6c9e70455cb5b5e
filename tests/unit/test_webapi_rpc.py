"""The local mount, which clients of SDK 1.x call in a way of their own."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from webapi_kit import BASE, HUB, ORIGIN, RPC_BASE, Api, running_api

from binding_kit import client_binding
from perdure.webapi.filters import PAGE_SIZE


@pytest.fixture
def api() -> Iterator[Api]:
    with running_api() as running:
        yield running


def twice(value: Any) -> str:
    """A value as SDK 1.x sends it."""
    return json.dumps(json.dumps(value))


def call(api: Api, verb: str, path: str, **options: Any) -> httpx2.Response:
    return api.request(verb, path, base=RPC_BASE, **options)


@pytest.mark.parametrize("value", [{"a": [1.5, None]}, "text", "", 0, False, [], "1", '"quoted"', "größe 😀"])
def test_an_input_is_decoded_once(api: Api, value: Any):
    answer = call(api, "POST", "orchestrators/echo/x?timeout=10", content=twice(value))

    assert answer.json() == value
    assert api.get("instances/x").json()["input"] == value


@pytest.mark.parametrize("value", [{"approved": True}, "yes", None])
def test_an_events_data_is_decoded_once(api: Api, value: Any):
    api.start("approval", "x")

    call(
        api,
        "POST",
        "instances/x/raiseEvent/Approval",
        content=twice(value),
        headers={"Content-Type": "application/json"},
    )

    assert api.until("x", "Completed")["output"] == value


@pytest.mark.parametrize(
    ("body", "output"),
    [
        ('{"a":1}', {"a": 1}),
        ('"plain text"', "plain text"),
        ('"NaN"', "NaN"),
        ('""', ""),
        (json.dumps("[" * 101 + "]" * 101), "[" * 101 + "]" * 101),
    ],
)
def test_what_was_encoded_once_stays_as_it_is(api: Api, body: str, output: Any):
    assert call(api, "POST", "orchestrators/echo?timeout=10", content=body).json() == output


def test_the_public_mount_leaves_bodies_alone(api: Api):
    answer = api.post("orchestrators/echo?timeout=10", content=twice({"a": 1}))

    assert answer.json() == '{"a": 1}'


@pytest.mark.parametrize("instance_id", ["a+b", "a b", "größe", "a%b", "a&b=c;d", "{x}", "a@b"])
def test_ids_need_no_escaping(api: Api, instance_id: str):
    """Spaces and what is not ASCII is escaped by the SDK's HTTP library, and nothing else."""
    asyncio.run(api.client.start("echo", instance_id=instance_id))

    assert call(api, "GET", f"instances/{instance_id}").json()["instanceId"] == instance_id


def test_an_empty_id_is_a_slash_at_the_end(api: Api):
    assert len(call(api, "POST", "orchestrators/echo/").json()["id"]) == 32
    assert len(call(api, "GET", "instances/").json()) == 1


def test_links_lead_to_the_public_mount(api: Api):
    answer = call(api, "POST", "orchestrators/echo/x")

    assert answer.headers["Location"] == f"{ORIGIN}{BASE}/instances/x?taskHub={HUB}&connection=Storage"


def test_the_place_to_look_again_is_where_the_caller_looked(api: Api):
    api.start("approval", "x")

    answer = call(api, "GET", "instances/x?showInput=True&showHistory=True&showHistoryOutput=True")

    assert answer.headers["Location"] == (
        f"{ORIGIN}/durabletask/instances/x?showInput=True&showHistory=True&showHistoryOutput=True"
    )


def test_a_list_is_whole_because_nobody_asks_for_its_second_page(api: Api):
    async def start_many() -> None:
        await asyncio.gather(*(api.client.start("approval", instance_id=f"i{n}") for n in range(PAGE_SIZE + 1)))

    asyncio.run(start_many())

    whole = call(api, "GET", "instances/?instanceIdPrefix=i&connectionName=Storage")
    page = call(api, "GET", "instances/?top=2")

    assert len(whole.json()) == PAGE_SIZE + 1
    assert "x-ms-continuation-token" not in whole.headers
    assert len(page.json()) == 2
    assert page.headers["x-ms-continuation-token"]


def test_both_mounts_serve_the_same_hub(api: Api):
    assert call(api, "POST", "orchestrators/approval/x").status_code == 202
    assert api.post("instances/x/terminate").status_code == 202
    api.until("x", "Terminated")
    assert call(api, "DELETE", "instances/x").json() == {"instancesDeleted": 1}


# ---------------------------------------------------------------------- the binding


def test_the_binding_has_the_official_members_in_order_and_no_key():
    binding = client_binding("http://127.0.0.1:7071", "My Hub")

    base = "http://127.0.0.1:7071/runtime/webhooks/durabletask"
    instance = f"{base}/instances/INSTANCEID"
    query = "taskHub=My%20Hub&connection=Storage"
    assert json.dumps(binding) == json.dumps(
        {
            "taskHubName": "My Hub",
            "connectionName": None,
            "creationUrls": {
                "createNewInstancePostUri": f"{base}/orchestrators/{{functionName}}[/{{instanceId}}]",
                "createAndWaitOnNewInstancePostUri": (
                    f"{base}/orchestrators/{{functionName}}[/{{instanceId}}]"
                    "?timeout={timeoutInSeconds}&pollingInterval={intervalInSeconds}"
                ),
            },
            "managementUrls": {
                "id": "INSTANCEID",
                "statusQueryGetUri": f"{instance}?{query}",
                "sendEventPostUri": f"{instance}/raiseEvent/{{eventName}}?{query}",
                "terminatePostUri": f"{instance}/terminate?reason={{text}}&{query}",
                "rewindPostUri": f"{instance}/rewind?reason={{text}}&{query}",
                "purgeHistoryDeleteUri": f"{instance}?{query}",
                "restartPostUri": f"{instance}/restart?{query}",
                "suspendPostUri": f"{instance}/suspend?reason={{text}}&{query}",
                "resumePostUri": f"{instance}/resume?reason={{text}}&{query}",
            },
            "baseUrl": base,
            "requiredQueryStringParameters": "",
            "rpcBaseUrl": "http://127.0.0.1:7071/durabletask/",
            "httpBaseUrl": None,
            "maxGrpcMessageSizeInBytes": 4194304,
        }
    )
