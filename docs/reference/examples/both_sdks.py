"""An app that runs with perdure's SDK and with the official one."""

import json

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.orchestration_trigger(context_name="context")
def approval(context: df.DurableOrchestrationContext):
    """The official client encodes an event's data twice, and the orchestrator gets what is left after one decoding."""
    event = yield context.wait_for_external_event("Approval")
    decision = json.loads(event) if isinstance(event, str) else event
    return decision["approved"]


@app.route(route="approve/{id}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def approve(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    await client.raise_event(req.route_params["id"], "Approval", {"approved": True})
    return func.HttpResponse(status_code=202)
