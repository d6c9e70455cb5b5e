"""An app whose settings show in what it does."""

import asyncio
import os
import time

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.orchestration_trigger(context_name="context")
def greet(context: df.DurableOrchestrationContext):
    return (yield context.call_activity("hello", context.get_input()))


@app.orchestration_trigger(context_name="context")
def dawdle(context: df.DurableOrchestrationContext):
    return (yield context.call_activity(context.get_input()))


@app.activity_trigger(input_name="city")
def hello(city: str) -> str:
    return f"{os.environ['GREETING']} {city}!"


@app.activity_trigger(input_name="none")
async def wait_async(none: None) -> None:
    await asyncio.sleep(60)


@app.activity_trigger(input_name="none")
def wait(none: None) -> None:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        time.sleep(0.05)


@app.activity_trigger(input_name="none")
def left_out(none: None) -> None:
    """Not in the list of functions to run."""


@app.route(route="slow")
async def slow(req: func.HttpRequest) -> str:
    await asyncio.sleep(60)
    return "never"
