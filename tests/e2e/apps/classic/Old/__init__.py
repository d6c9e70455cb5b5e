import json

import azure.durable_functions as df


def orchestrator_function(context: df.DurableOrchestrationContext):
    first = yield context.call_activity("Hello", "once")
    told = yield context.wait_for_external_event("Go")
    second = yield context.call_activity("Both", {"left": first, "right": told["right"]})
    counted = yield context.call_entity(df.EntityId("OldCounter", "x"), "add", len(second))
    return [first, second, counted]


def main(context: str) -> str:
    history = json.loads(str(context))["history"]
    assert isinstance(history, list)
    return df.Orchestrator.create(orchestrator_function)(context)
