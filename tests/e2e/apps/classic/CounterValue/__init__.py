import json

import azure.durable_functions as df
import azure.functions as func


async def main(req: func.HttpRequest, client) -> func.HttpResponse:
    found = await df.DurableOrchestrationClient(client).read_entity_state(
        df.EntityId("Counter", req.route_params["key"])
    )
    return func.HttpResponse(json.dumps(found.entity_state), mimetype="application/json")
