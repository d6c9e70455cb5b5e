"""User code that does what it should not."""

import asyncio
import sys
import time

import azure.durable_functions as df

app = df.DFApp()


def one_activity(name):
    def orchestrator(context: df.DurableOrchestrationContext):
        return (yield context.call_activity(name))

    orchestrator.__name__ = f"calls_{name}"
    return app.orchestration_trigger(context_name="context")(orchestrator)


@app.activity_trigger(input_name="x")
def fine(x):
    return "fine"


@app.activity_trigger(input_name="x")
async def fine_async(x):
    return "fine"


@app.activity_trigger(input_name="x")
def blocks(x):
    time.sleep(3)
    return "blocked"


@app.activity_trigger(input_name="x")
async def blocks_its_loop(x):
    time.sleep(3)
    return "blocked"


@app.activity_trigger(input_name="x")
def exits(x):
    sys.exit(9)


@app.activity_trigger(input_name="x")
async def exits_async(x):
    raise SystemExit(9)


@app.activity_trigger(input_name="x")
async def cancels_itself(x):
    raise asyncio.CancelledError("by itself")


@app.activity_trigger(input_name="x")
def returns_an_object(x):
    return object()


@app.activity_trigger(input_name="x")
def raises_what_cannot_be_printed(x):
    class Unprintable(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    raise Unprintable


calls = [
    one_activity(name)
    for name in (
        "fine",
        "fine_async",
        "blocks",
        "blocks_its_loop",
        "exits",
        "exits_async",
        "cancels_itself",
        "returns_an_object",
        "raises_what_cannot_be_printed",
    )
]


@app.orchestration_trigger(context_name="context")
def orchestrator_blocks(context: df.DurableOrchestrationContext):
    time.sleep(2.5)
    return (yield context.call_activity("fine"))


@app.orchestration_trigger(context_name="context")
def orchestrator_exits(context: df.DurableOrchestrationContext):
    yield context.call_activity("fine")
    sys.exit(9)


@app.orchestration_trigger(context_name="context")
def orchestrator_returns_an_object(context: df.DurableOrchestrationContext):
    yield context.call_activity("fine")
    return object()
