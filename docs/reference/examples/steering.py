"""Client functions: start, watch and steer orchestrations."""

from datetime import UTC, datetime, timedelta

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


class Warehouse:
    """Stands for a service elsewhere.

    Attributes:
        is_open: it answers.
        asked: what it was asked for.
    """

    def __init__(self) -> None:
        self.is_open = True
        self.asked: list[str] = []


warehouse = Warehouse()


@app.activity_trigger(input_name="item")
def fetch(item: str) -> str:
    warehouse.asked.append(item)
    if item == "pear" and not warehouse.is_open:
        raise ConnectionError("the warehouse is closed")
    return f"one {item}"


@app.orchestration_trigger(context_name="context")
def deliver(context: df.DurableOrchestrationContext):
    """Fetches the items of an order one by one."""
    fetched = []
    for item in context.get_input():
        fetched.append((yield context.call_activity("fetch", item)))
    return fetched


@app.orchestration_trigger(context_name="context")
def deliver_if_approved(context: df.DurableOrchestrationContext):
    """The same, once somebody has said yes."""
    yield context.wait_for_external_event("Approval")
    return (yield context.call_sub_orchestrator("deliver", context.get_input()))


# example: Blueprint.durable_client_input, DurableOrchestrationClient.create_check_status_response
@app.route(route="orders", methods=["POST"])
@app.durable_client_input(client_name="client")
async def order(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Answers at once, with the URLs to watch and steer the order with."""
    instance_id = await client.start_new("deliver", client_input=req.get_json())
    return client.create_check_status_response(req, instance_id)


# example: DurableOrchestrationClient.wait_for_completion_or_create_check_status_response
@app.route(route="orders/now", methods=["POST"])
@app.durable_client_input(client_name="client")
async def order_now(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Answers with the result if it is there within five seconds, and else as above."""
    instance_id = await client.start_new("deliver", client_input=req.get_json())
    return await client.wait_for_completion_or_create_check_status_response(
        req, instance_id, timeout=timedelta(seconds=5)
    )


# example: DurableOrchestrationClient.start_new
async def start(client: df.DurableOrchestrationClient) -> list[str]:
    """In all these ways; each returns the id of the instance."""
    return [
        await client.start_new("deliver", client_input=["apple"]),
        await client.start_new(deliver, "order-17", ["apple"]),  # with an id of your own
        await client.start_new(deliver, client_input=["apple"], start_at=datetime.now(UTC) + timedelta(hours=1)),
        await client.start_new(deliver, "order-17", ["apple"], policy="ignore"),  # if there is none already
        await client.start_new(deliver, client_input=["apple"], request_id="cart-4711"),  # twice is once
    ]


# example: DurableOrchestrationClient.get_status
async def say_where_it_is(client: df.DurableOrchestrationClient, instance_id: str) -> str:
    status = await client.get_status(instance_id)
    if not status:
        return "there is no such order"
    if status.runtime_status is df.OrchestrationRuntimeStatus.Completed:
        return f"delivered: {status.output}"
    return f"{status.runtime_status.value} since {status.created_time:%H:%M}"


# example: DurableOrchestrationClient.get_status, DurableOrchestrationStatus.history
async def say_what_happened(client: df.DurableOrchestrationClient, instance_id: str) -> list[str]:
    status = await client.get_status(instance_id, show_history=True, show_history_output=True)
    return [event["EventType"] for event in status.history]


# example: DurableOrchestrationClient.get_status_all
async def ids_of_all(client: df.DurableOrchestrationClient) -> list[str]:
    return [status.instance_id for status in await client.get_status_all()]


# example: DurableOrchestrationClient.get_status_by
async def failed_today(client: df.DurableOrchestrationClient) -> list[str]:
    since = datetime.now(UTC) - timedelta(days=1)
    failed = await client.get_status_by(created_time_from=since, runtime_status=df.OrchestrationRuntimeStatus.Failed)
    return [f"{status.instance_id}: {status.output}" for status in failed]


# example: DurableOrchestrationClient.iter_status
async def first_that_waits(client: df.DurableOrchestrationClient) -> str | None:
    """What is not looked at is not read either."""
    async for status in client.iter_status(runtime_status="Running", instance_id_prefix="order-"):
        return status.instance_id
    return None


# example: DurableOrchestrationClient.count_by_status
async def how_many_failed(client: df.DurableOrchestrationClient) -> int:
    """Without reading a single one of them."""
    counts = await client.count_by_status()
    return counts.get(df.OrchestrationRuntimeStatus.Failed, 0)


# example: DurableOrchestrationClient.raise_event
@app.route(route="orders/{id}/approval", methods=["POST"])
@app.durable_client_input(client_name="client")
async def approve(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    await client.raise_event(req.route_params["id"], "Approval", req.get_json())
    return func.HttpResponse(status_code=202)


# example: DurableOrchestrationClient.suspend, DurableOrchestrationClient.resume
async def take_a_break(client: df.DurableOrchestrationClient, instance_id: str) -> None:
    await client.suspend(instance_id, "stocktaking")
    warehouse.is_open = False


async def go_on(client: df.DurableOrchestrationClient, instance_id: str) -> None:
    warehouse.is_open = True
    await client.resume(instance_id, "stocktaking is over")


# example: DurableOrchestrationClient.terminate
async def cancel(client: df.DurableOrchestrationClient, instance_id: str) -> None:
    """Ends the orchestration and the children that it waits for; what runs in an activity comes to its end."""
    await client.terminate(instance_id, "cancelled by the customer", recursive=True)


# example: DurableOrchestrationClient.rewind
async def try_failed_ones_again(client: df.DurableOrchestrationClient) -> int:
    """Each goes on where it failed: what had succeeded is not done again."""
    failed = await client.get_status_by(runtime_status=df.OrchestrationRuntimeStatus.Failed)
    for status in failed:
        await client.rewind(status.instance_id, "the warehouse is open again")
    return len(failed)


# example: DurableOrchestrationClient.restart
async def order_again(client: df.DurableOrchestrationClient, instance_id: str) -> str:
    """From the beginning, with the same input; the id is a new one."""
    return await client.restart(instance_id)


# example: DurableOrchestrationClient.purge_instance_history
async def forget(client: df.DurableOrchestrationClient, instance_id: str) -> bool:
    """Also the children; false if the order has not ended."""
    result = await client.purge_instance_history(instance_id, recursive=True)
    return result.instances_deleted > 0


# example: DurableOrchestrationClient.purge_instance_history_by
async def tidy_up(client: df.DurableOrchestrationClient) -> int:
    """Everything that was started more than a month ago and has completed."""
    result = await client.purge_instance_history_by(
        datetime(2020, 1, 1, tzinfo=UTC),
        datetime.now(UTC) - timedelta(days=30),
        [df.OrchestrationRuntimeStatus.Completed],
        recursive=True,
    )
    return result.instances_deleted


# example: DurableOrchestrationClient.create_http_management_payload
async def link_to(client: df.DurableOrchestrationClient, instance_id: str) -> str:
    """A URL to be handed on, to an e-mail for example."""
    return client.create_http_management_payload(instance_id)["statusQueryGetUri"]
