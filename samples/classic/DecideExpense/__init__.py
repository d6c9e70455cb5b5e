"""Takes in what somebody decided about an expense: `approved`, or anything else to refuse it."""

import azure.durable_functions as df
import azure.functions as func
from __app__.shared.expenses import DECISION


async def main(req: func.HttpRequest, starter: str) -> func.HttpResponse:
    client = df.DurableOrchestrationClient(starter)
    await client.raise_event(req.route_params["id"], DECISION, req.get_body().decode())
    return func.HttpResponse(status_code=202)
