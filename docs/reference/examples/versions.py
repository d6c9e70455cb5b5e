"""A change of orchestrator code while instances run; host.json says that this is version 2.0."""

from datetime import UTC, datetime

import azure.durable_functions as df

app = df.DFApp()

# The checks and shipments so far.
done: list[str] = []


@app.activity_trigger(input_name="order")
def check(order: str) -> None:
    done.append(f"checked {order}")


@app.activity_trigger(input_name="order")
def ship(order: str) -> None:
    done.append(f"shipped {order}")


# example: DurableOrchestrationContext.version
@app.orchestration_trigger(context_name="context")
def fulfil(context: df.DurableOrchestrationContext):
    """Since version 2.0 orders are checked; those that were begun before go on as they began."""
    order = context.get_input()
    yield context.wait_for_external_event("Paid")
    if context.version not in (None, "1.0"):
        yield context.call_activity("check", order)
    yield context.call_activity("ship", order)


# example: DurableOrchestrationContext.continue_as_new
@app.orchestration_trigger(context_name="context")
def fulfil_all(context: df.DurableOrchestrationContext):
    """What runs for ever changes its version between two generations."""
    order = yield context.wait_for_external_event("Order")
    if context.version not in (None, "1.0"):
        yield context.call_activity("check", order)
    yield context.call_activity("ship", order)
    context.continue_as_new(None, version="2.0")


# example: DurableOrchestrationClient.count_by_status
async def is_any_left(client: df.DurableOrchestrationClient, deployed_at: datetime) -> bool:
    """Whether anything that was begun before a time still goes on."""
    going_on = ["Pending", "Running", "Suspended"]
    return bool(await client.count_by_status(created_time_to=deployed_at, runtime_status=going_on))


# example: DurableOrchestrationClient.start_new
async def start_both(client: df.DurableOrchestrationClient) -> datetime:
    """Without a version an instance gets the `defaultVersion` of host.json."""
    await client.start_new("fulfil", "old", "order 1", version="1.0")
    await client.start_new("fulfil", "new", "order 2")
    return datetime.now(UTC)
