"""Something to call for each endpoint; what is called here never fails by itself."""

import json
from datetime import timedelta

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.FUNCTION)


@app.route(route="start/{functionName:alpha}/{instanceId?}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def http_start(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    try:
        instance_id = await client.start_new(req.route_params["functionName"], req.route_params.get("instanceId"))
    except Exception as error:
        return func.HttpResponse(str(error), status_code=400)
    return client.create_check_status_response(req, instance_id)


@app.route(route="mirror/{*rest}")
def mirror(req: func.HttpRequest) -> func.HttpResponse:
    seen = {"method": req.method, "params": dict(req.params), "rest": req.route_params.get("rest")}
    return func.HttpResponse(json.dumps([seen, len(req.get_body())]), mimetype="application/json")


@app.route(route="number/{number:int}", auth_level=func.AuthLevel.ANONYMOUS, methods=["GET", "PUT"])
def number(req: func.HttpRequest) -> str:
    return req.route_params["number"]


@app.route(route="secret", auth_level=func.AuthLevel.ADMIN)
def secret(req: func.HttpRequest) -> str:
    return "told"


@app.orchestration_trigger(context_name="context")
def echo(context: df.DurableOrchestrationContext):
    return context.get_input()


@app.orchestration_trigger(context_name="context")
def approval(context: df.DurableOrchestrationContext):
    context.set_custom_status({"asks": "Approval"})
    return (yield context.wait_for_external_event("Approval"))


@app.orchestration_trigger(context_name="context")
def broken(context: df.DurableOrchestrationContext):
    yield context.call_activity("add_one", 1)
    raise ValueError("no stock")


@app.orchestration_trigger(context_name="context")
def family(context: df.DurableOrchestrationContext):
    yield context.task_all([context.call_sub_orchestrator("approval") for _ in range(2)])


@app.orchestration_trigger(context_name="context")
def running(context: df.DurableOrchestrationContext):
    """Goes on until it is told to stop, and returns how often it went round."""
    rounds = context.get_input() or 0
    stop = context.wait_for_external_event("stop")
    pause = context.create_timer(context.current_utc_datetime + timedelta(seconds=0.1))
    if (yield context.task_any([stop, pause])) is stop:
        pause.cancel()
        return rounds
    context.continue_as_new((yield context.call_activity("add_one", rounds)))


@app.activity_trigger(input_name="number")
def add_one(number: int) -> int:
    return number + 1


@app.entity_trigger(context_name="context")
def Counter(context: df.DurableEntityContext):
    match context.operation_name:
        case "add":
            context.set_state((context.get_state() or 0) + 1)
        case "delete":
            context.destruct_on_exit()
        case _:
            context.set_state(context.get_input())
