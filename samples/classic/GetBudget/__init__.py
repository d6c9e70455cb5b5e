"""Answers with what has been spent so far."""

import json

import azure.durable_functions as df
import azure.functions as func


async def main(req: func.HttpRequest, starter: str) -> func.HttpResponse:
    client = df.DurableOrchestrationClient(starter)
    found = await client.read_entity_state(df.EntityId("Budget", "all"))
    spent = found.entity_state if found.entity_exists else 0
    return func.HttpResponse(json.dumps(spent), mimetype="application/json")
