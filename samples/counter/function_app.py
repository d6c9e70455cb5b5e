"""Counters over HTTP: an entity for each name, in the official API, so it runs on Azure, too.

curl -X POST http://localhost:7071/api/counters/visits/add -d 5
curl http://localhost:7071/api/counters/visits
"""

import json

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.FUNCTION)


@app.entity_trigger(context_name="context", entity_name="counter")
def counter(context: df.DurableEntityContext) -> None:
    """A whole number; it begins at 0."""
    value = context.get_state(lambda: 0)
    match context.operation_name:
        case "add":
            value += context.get_input()
            context.set_state(value)
        case "get":
            pass
        case other:
            raise ValueError(f"a counter does not know how to '{other}'")
    context.set_result(value)


@app.route(route="counters/{name}/add", methods=["POST"])
@app.durable_client_input(client_name="client")
async def add(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Add the whole number in the body, or 1. It is stored when this answers, and counted a moment later."""
    try:
        amount = int(req.get_body() or b"1")
    except ValueError:
        return func.HttpResponse("The body has to be a whole number.", status_code=400)
    await client.signal_entity(df.EntityId("counter", req.route_params["name"]), "add", amount)
    return func.HttpResponse(status_code=202)


@app.route(route="counters/{name}", methods=["GET"])
@app.durable_client_input(client_name="client")
async def value(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """What it has come to."""
    found = await client.read_entity_state(df.EntityId("counter", req.route_params["name"]))
    if not found.entity_exists:
        return func.HttpResponse("Nothing has been added to this counter.", status_code=404)
    return func.HttpResponse(json.dumps(found.entity_state), mimetype="application/json")
