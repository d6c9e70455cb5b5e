"""An app that asks callers for keys, and hands out links that work without one."""

import json

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp()


@app.route(route="orders/{id}", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
@app.durable_client_input(client_name="client")
async def take_order(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Whoever has a key may order. The approver gets a link that can approve this one order, and nothing else."""
    order = await client.start_new("approve_order", req.route_params["id"])
    links = client.get_client_response_links(req, order)
    approve = links["sendEventPostUri"].replace("{eventName}", "Approval")
    return func.HttpResponse(json.dumps({"watch": links["statusQueryGetUri"], "approve": approve}), status_code=202)


@app.orchestration_trigger(context_name="context")
def approve_order(context: df.DurableOrchestrationContext):
    return (yield context.wait_for_external_event("Approval"))
