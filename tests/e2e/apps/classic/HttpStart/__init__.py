import json

import azure.durable_functions as df
import azure.functions as func
from __app__.shared.orders import Order


async def main(req: func.HttpRequest, starter: str, message):
    assert json.loads(starter)["taskHubName"] == "Classic"
    client = df.DurableOrchestrationClient(starter)
    name = req.route_params["functionName"]
    body = req.get_json() if req.get_body() else None
    instance_id = await client.start_new(name, client_input=Order.from_json(body) if name == "Ordering" else body)
    message.set(client.create_check_status_response(req, instance_id))
