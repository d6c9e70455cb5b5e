"""An app of the usual shape, with a ledger outside that counts what its activities did."""

import asyncio
import logging
import os
import time
from pathlib import Path

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.route(route="orchestrators/{functionName}/{instanceId?}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def http_start(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    body = req.get_json() if req.get_body() else None
    name = req.route_params["functionName"]
    instance_id = await client.start_new(name, req.route_params.get("instanceId"), body)
    return client.create_check_status_response(req, instance_id)


@app.route(route="wait/{functionName}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def start_and_wait(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    instance_id = await client.start_new(req.route_params["functionName"])
    return await client.wait_for_completion_or_create_check_status_response(req, instance_id)


@app.orchestration_trigger(context_name="context")
def chain(context: df.DurableOrchestrationContext):
    results = []
    for city in ("Tokyo", "Seattle"):
        results.append((yield context.call_activity("hello", city)))
    return results


@app.activity_trigger(input_name="city")
def hello(city: str) -> str:
    print(f"printing {city}")
    logging.getLogger("mine").warning("logging %s", city)
    return f"{os.environ['GREETING']} {city}!"


@app.orchestration_trigger(context_name="context")
def slow_chain(context: df.DurableOrchestrationContext):
    for step in range(3):
        yield context.call_activity("slow", step)
    return "done"


@app.orchestration_trigger(context_name="context")
def slow_once(context: df.DurableOrchestrationContext):
    yield context.call_activity("slow", 0)


@app.activity_trigger(input_name="step")
def slow(step: int) -> None:
    with Path("ledger.txt").open("a") as ledger:
        ledger.write(f"begin {step}\n")
    time.sleep(0.7)
    with Path("ledger.txt").open("a") as ledger:
        ledger.write(f"end {step}\n")


@app.orchestration_trigger(context_name="context")
def talkative(context: df.DurableOrchestrationContext):
    print("before")
    yield context.wait_for_external_event("go")
    print("after")


@app.orchestration_trigger(context_name="context")
def misspelt(context: df.DurableOrchestrationContext):
    yield context.call_activity("helo", "x")


@app.orchestration_trigger(context_name="context")
def waits_many(context: df.DurableOrchestrationContext):
    yield context.task_all([context.call_activity("tick", number) for number in range(3)])
    return "ticked"


@app.activity_trigger(input_name="number")
async def tick(number: int) -> int:
    await asyncio.sleep(0.01)
    return number


@app.route(route="echo/{*rest}")
def echo(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    lines = [
        req.method,
        req.url,
        req.route_params.get("rest", "(none)"),
        req.params.get("q", "(none)"),
        req.headers.get("X-Twice", "(none)"),
        context.function_name,
        req.get_body().decode(),
    ]
    return func.HttpResponse("\n".join(lines), status_code=201, headers={"X-Mine": "yes"})


@app.route(route="text")
def text(req: func.HttpRequest) -> str:
    return '{"not": "parsed"}'


@app.route(route="nothing")
def nothing(req: func.HttpRequest):
    return None


@app.route(route="raises", methods=["GET"])
async def raises(req: func.HttpRequest) -> func.HttpResponse:
    raise LookupError("no such order")


@app.route(route="exits")
def exits(req: func.HttpRequest) -> func.HttpResponse:
    raise SystemExit(7)


@app.route(route="cookies")
def cookies(req: func.HttpRequest) -> func.HttpResponse:
    response = func.HttpResponse(b"\x00\x01", mimetype="application/octet-stream")
    response.headers.add("Set-Cookie", "a=1")
    response.headers.add("Set-Cookie", "b=2")
    return response


@app.timer_trigger(arg_name="timer", schedule="0 0 2 * * *")
def nightly(timer: func.TimerRequest) -> None: ...
