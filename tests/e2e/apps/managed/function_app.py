"""Orchestrations with something to manage: they wait, fail once, fail always, and have children; and an entity."""

from pathlib import Path

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.route(route="orchestrators/{functionName}/{instanceId}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def http_start(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    instance_id = await client.start_new(req.route_params["functionName"], req.route_params["instanceId"])
    return client.create_check_status_response(req, instance_id)


@app.orchestration_trigger(context_name="context")
def echo(context: df.DurableOrchestrationContext):
    return context.get_input()


@app.orchestration_trigger(context_name="context")
def tell_version(context: df.DurableOrchestrationContext):
    return context.version


@app.orchestration_trigger(context_name="context")
def approval(context: df.DurableOrchestrationContext):
    context.set_custom_status({"asks": "Approval"})
    return (yield context.wait_for_external_event("Approval"))


@app.orchestration_trigger(context_name="context")
def unlucky(context: df.DurableOrchestrationContext):
    return (yield context.call_activity("fails_once", context.instance_id))


@app.activity_trigger(input_name="name")
def fails_once(name: str) -> str:
    seen = Path(f"{name}.seen")
    if not seen.exists():
        seen.touch()
        raise ConnectionError("not this time")
    return f"Hello {name}"


@app.entity_trigger(context_name="context")
def Counter(context: df.DurableEntityContext):
    match context.operation_name:
        case "add":
            context.set_state(context.get_state(int) + context.get_input())
        case "set":
            context.set_state(context.get_input())
        case "delete":
            context.destruct_on_exit()
