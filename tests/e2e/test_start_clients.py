"""`perdure start`: functions with and without `async` use their clients, in an app as on Azure."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from start_kit import HostProcess, started

import perdure

APP = """
import azure.functions as func
import azure.durable_functions as df

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.orchestration_trigger(context_name="context")
def approval(context: df.DurableOrchestrationContext):
    return (yield context.wait_for_external_event("Approval"))


@app.orchestration_trigger(context_name="context")
def approver(context: df.DurableOrchestrationContext):
    return (yield context.call_activity("approve", context.get_input()))


@app.activity_trigger(input_name="target")
@app.durable_client_input(client_name="client", task_hub="%HUB%", connection_name="Storage")
def approve(target, client):
    client.raise_event(target, "Approval", "yes")
    return client.get_status(target).instance_id


@app.route(route="blocking", methods=["POST"])
@app.durable_client_input(client_name="client")
def blocking(req: func.HttpRequest, client) -> func.HttpResponse:
    first = client.start_new("approval", "first", tags={"made": "here"}, policy="ignore")
    client.suspend(first)
    client.resume(first)
    client.start_new("approver", "second", first)
    answer = client.wait_for_completion_or_create_check_status_response(req, first, 10000)
    listed = sorted(each.instance_id for each in client.iter_status())
    return func.HttpResponse(f"{answer.get_body().decode()} {listed}")


@app.route(route="awaiting", methods=["POST"])
@app.durable_client_input(client_name="client")
async def awaiting(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> str:
    instance_id = await client.start_new("approval")
    await client.terminate(instance_id, "enough")
    await client.wait_for_completion_or_create_check_status_response(req, instance_id, 10000)
    counts = await client.count_by_status(instance_id_prefix=instance_id)
    new_id = await client.restart(instance_id)
    await client.terminate(new_id)
    purged = await client.purge_instance_history(instance_id)
    return f"{[(each.name, number) for each, number in counts.items()]} {purged.instances_deleted}"


@app.route(route="elsewhere")
@app.durable_client_input(client_name="client", task_hub="Elsewhere")
async def elsewhere(req: func.HttpRequest, client) -> str: ...
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clients")
    (folder / "host.json").write_text(
        '{"version": "2.0", "extensions": {"durableTask": {"hubName": "Orders"}}}', "utf-8"
    )
    (folder / "function_app.py").write_text(APP, "utf-8")
    return folder


@pytest.fixture(scope="module")
def host(folder: Path) -> Iterator[HostProcess]:
    with started(folder, environ={"HUB": "Orders"}) as host:
        yield host


def test_a_function_without_async_works_with_a_client_that_blocks(host: HostProcess):
    answer = host.request("POST", "/api/blocking")

    assert (answer.status, answer.body.decode()) == (200, "yes ['first', 'second']")


def test_an_activity_has_a_client(host: HostProcess):
    assert host.result("second")["output"] == "first"


def test_an_async_function_awaits_its_client(host: HostProcess):
    answer = host.request("POST", "/api/awaiting")

    assert (answer.status, answer.body.decode()) == (200, "[('Terminated', 1)] 1")


def test_a_function_that_asks_for_another_hub_is_not_served(host: HostProcess):
    sentence = "task hub 'Elsewhere', but this host runs task hub 'Orders' and no other"

    assert host.request("GET", "/api/elsewhere").status == 404
    assert any(sentence in text for text in host.text)


def test_a_program_beside_the_app_reaches_it_by_its_folder(folder: Path, host: HostProcess):
    async def start() -> str | None:
        async with perdure.connect(folder) as client:
            await client.start("approval", instance_id="outside")
            await client.raise_event("outside", "Approval", "7")
            return (await client.wait("outside")).output

    assert asyncio.run(start()) == "7"
