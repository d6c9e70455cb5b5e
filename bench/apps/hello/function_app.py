"""What the benchmarks run. Each orchestrator has the name of an activity as its input: an async one or a sync one."""

import asyncio
import os
import time
from pathlib import Path

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)

# For runs in the bench's own process: when each activity of `chain` ran, and when each operation of `counter` did.
TICKS: list[float] = []


@app.orchestration_trigger(context_name="context")
def hello(context: df.DurableOrchestrationContext):
    """Three activities, one after the other."""
    activity = context.get_input()
    greetings = []
    for city in ("Tokyo", "Seattle", "London"):
        greetings.append((yield context.call_activity(activity, city)))
    return greetings


@app.orchestration_trigger(context_name="context")
def nothing(context: df.DurableOrchestrationContext):
    """End at once."""
    return "done"
    yield


@app.orchestration_trigger(context_name="context")
def fan_out(context: df.DurableOrchestrationContext):
    """Many activities at the same time."""
    activity, width = context.get_input()
    greetings = yield context.task_all([context.call_activity(activity, number) for number in range(width)])
    return len(greetings)


@app.orchestration_trigger(context_name="context")
def chain(context: df.DurableOrchestrationContext):
    """Many activities, one after the other."""
    activity, length = context.get_input()
    for number in range(length):
        yield context.call_activity(activity, number)
    return length


@app.orchestration_trigger(context_name="context")
def park(context: df.DurableOrchestrationContext):
    """Wait for an event that never comes."""
    yield context.wait_for_external_event("never")


@app.orchestration_trigger(context_name="context")
def interrupted(context: df.DurableOrchestrationContext):
    """One activity done, one that hangs until the gate is open, one to come."""
    first = yield context.call_activity("say_hello", "Tokyo")
    second = yield context.call_activity("pass_gate", "Seattle")
    third = yield context.call_activity("say_hello", "London")
    return [first, second, third]


@app.orchestration_trigger(context_name="context")
def count_up(context: df.DurableOrchestrationContext):
    """Add one to a counter, many times, each time waiting for what it has come to."""
    key, calls = context.get_input()
    value = 0
    for _ in range(calls):
        value = yield context.call_entity(df.EntityId("counter", key), "add", 1)
    return value


@app.entity_trigger(context_name="context")
def counter(context: df.DurableEntityContext):
    """A number; every operation adds its input."""
    value = context.get_state(int) + context.get_input()
    context.set_state(value)
    context.set_result(value)
    TICKS.append(time.perf_counter())


@app.activity_trigger(input_name="city")
async def say_hello(city) -> str:
    return f"Hello {city}!"


@app.activity_trigger(input_name="city")
def say_hello_sync(city) -> str:
    return f"Hello {city}!"


@app.activity_trigger(input_name="number")
def crunch(number) -> int:
    """Some 20 ms of computing in Python, which one process does one at a time."""
    return sum(each * each % 7 for each in range(250_000))


@app.activity_trigger(input_name="number")
async def tick(number: int) -> int:
    TICKS.append(time.perf_counter())
    return number


@app.activity_trigger(input_name="number")
def tick_sync(number: int) -> int:
    TICKS.append(time.perf_counter())
    return number


@app.activity_trigger(input_name="city")
async def pass_gate(city: str) -> str:
    gate = Path(os.environ["BENCH_GATE"])
    while not gate.exists():
        await asyncio.sleep(0.1)
    return f"Hello {city}!"


@app.route(route="ping", methods=["POST"])
async def ping(req: func.HttpRequest) -> func.HttpResponse:
    """What an answer costs that nothing is done for."""
    return func.HttpResponse("pong")


@app.route(route="begin/{name}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def begin(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Start one orchestration, as the documentation's first example does."""
    instance_id = await client.start_new(req.route_params["name"], None, req.params.get("input"))
    return client.create_check_status_response(req, instance_id)


@app.route(route="start/{name}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def start(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Start `n` orchestrations whose ids are the name and a number."""
    name, n = req.route_params["name"], int(req.params["n"])
    for begin in range(0, n, 500):
        numbers = range(begin, min(n, begin + 500))
        await asyncio.gather(*[client.start_new(name, f"{name}-{number}") for number in numbers])
    return func.HttpResponse(str(n))
