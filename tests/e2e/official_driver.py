"""Runs in an environment of its own: calls the official client of SDK 1.x as lines on standard input say.

The first line is the binding; each further one is an object with `method` and `arguments`, answered by one line with
`result`, or with `error` (its type) and `text`.
"""

import asyncio
import json
import sys
from datetime import datetime
from typing import Any

import azure.functions as func
from azure.durable_functions import DurableOrchestrationClient, EntityId, OrchestrationRuntimeStatus
from azure.durable_functions.models.DurableOrchestrationStatus import DurableOrchestrationStatus
from azure.durable_functions.models.EntityStateResponse import EntityStateResponse
from azure.durable_functions.models.PurgeHistoryResult import PurgeHistoryResult


async def main() -> None:
    client = DurableOrchestrationClient(sys.stdin.readline())
    while line := await asyncio.to_thread(sys.stdin.readline):
        request = json.loads(line)
        try:
            result = getattr(client, request["method"])(**arguments(request["arguments"]))
            answer = {"result": plain(await result if asyncio.iscoroutine(result) else result)}
        except Exception as error:
            answer = {"error": type(error).__name__, "text": str(error)}
        print(json.dumps(answer), flush=True)


def arguments(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments with the types that the client expects."""
    typed = dict(given)
    for name in ("created_time_from", "created_time_to"):
        if name in typed:
            typed[name] = datetime.fromisoformat(typed[name])
    if "runtime_status" in typed:
        typed["runtime_status"] = [OrchestrationRuntimeStatus(each) for each in typed["runtime_status"]]
    if "entityId" in typed:
        typed["entityId"] = EntityId(*typed["entityId"])
    if "request" in typed:
        typed["request"] = func.HttpRequest("GET", typed["request"], body=b"")
    return typed


def plain(value: Any) -> Any:
    """What a method returned, as JSON."""
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, PurgeHistoryResult):
        return value.instances_deleted
    if isinstance(value, EntityStateResponse):
        return {"exists": value.entity_exists, "state": value.entity_state}
    if isinstance(value, func.HttpResponse):
        body = value.get_body().decode()
        return {"status": value.status_code, "headers": dict(value.headers), "body": body}
    if isinstance(value, DurableOrchestrationStatus):
        status = value.runtime_status
        return {
            "exists": bool(value),
            "name": value.name,
            "instance_id": value.instance_id,
            "status": None if status is None else status.value,
            "input": value.input_,
            "output": value.output,
            "custom_status": value.custom_status,
            "history": getattr(value, "historyEvents", None),
        }
    return value


if __name__ == "__main__":
    asyncio.run(main())
