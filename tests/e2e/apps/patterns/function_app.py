"""The patterns of Durable Functions with decorators; apps/classic has the same functions in folders."""

import json
from datetime import timedelta

import azure.durable_functions as df
import azure.functions as func
from orders import Order, looked_at

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


# ---------------------------------------------------------------------- HTTP and timer functions


@app.route(route="orchestrators/{functionName}", methods=["POST", "GET"])
@app.durable_client_input(client_name="client")
async def http_start(req: func.HttpRequest, client):
    name = req.route_params["functionName"]
    body = req.get_json() if req.get_body() else None
    instance_id = await client.start_new(name, client_input=Order.from_json(body) if name == "Ordering" else body)
    return client.create_check_status_response(req, instance_id)


@app.route(route="counters/{key}", methods=["GET"])
@app.durable_client_input(client_name="client")
async def counter_value(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    found = await client.read_entity_state(df.EntityId("Counter", req.route_params["key"]))
    return func.HttpResponse(json.dumps(found.entity_state), mimetype="application/json")


@app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *", run_on_startup=True)
@app.durable_client_input(client_name="client")
async def tick(timer: func.TimerRequest, client: df.DurableOrchestrationClient) -> None:
    await client.start_new("HelloCities", "by-timer", ["New Year"])


# ---------------------------------------------------------------------- orchestrators


@app.orchestration_trigger(context_name="context", orchestration="HelloCities")
def hello_cities(context: df.DurableOrchestrationContext):
    greetings = []
    for city in context.get_input() or ["Tokyo", "Seattle", "London"]:
        greetings.append((yield context.call_activity("Hello", city)))
    return greetings


@app.orchestration_trigger(context_name="context", orchestration="SumOfSquares")
def sum_of_squares(context: df.DurableOrchestrationContext):
    squares = yield context.task_all([context.call_activity("Square", n) for n in range(context.get_input())])
    return sum(squares)


@app.orchestration_trigger(context_name="context", orchestration="Monitor")
def monitor(context: df.DurableOrchestrationContext):
    job, seconds = context.get_input()
    due = context.current_utc_datetime + timedelta(seconds=seconds)
    while context.current_utc_datetime < due:
        state = yield context.call_activity("JobState", job)
        context.set_custom_status({"job": job, "state": state})
        if state == "done":
            return (yield context.call_activity("Hello", job))
        yield context.create_timer(context.current_utc_datetime + timedelta(milliseconds=50))
    return "not done in time"


@app.orchestration_trigger(context_name="context", orchestration="Approval")
def approval(context: df.DurableOrchestrationContext):
    context.set_custom_status("waiting")
    timer = context.create_timer(context.current_utc_datetime + timedelta(seconds=context.get_input()))
    decision = context.wait_for_external_event("Decision")
    winner = yield context.task_any([decision, timer])
    if winner == timer:
        return "nobody decided"
    timer.cancel()
    return decision.result


@app.orchestration_trigger(context_name="context", orchestration="Parent")
def parent(context: df.DurableOrchestrationContext):
    children = [context.call_sub_orchestrator("ChildOfParent", name) for name in ("Ann", "Bob")]
    return (yield context.task_all(children))


@app.orchestration_trigger(context_name="context", orchestration="ChildOfParent")
def child(context: df.DurableOrchestrationContext):
    return (yield context.call_activity("Hello", context.get_input()))


@app.orchestration_trigger(context_name="context", orchestration="Tally")
def tally(context: df.DurableOrchestrationContext):
    counter = df.EntityId("Counter", "tally")
    context.signal_entity(counter, "add", 3)
    yield context.call_entity(counter, "add", 4)
    return (yield context.call_entity(counter, "get"))


@app.orchestration_trigger(context_name="context", orchestration="Ordering")
def ordering(context: df.DurableOrchestrationContext):
    order = context.get_input()
    context.set_custom_status({"pricing": order.item})
    priced = yield context.call_activity("Price", order)
    context.set_custom_status({"priced": priced.price})
    return [type(order).__name__, type(priced).__name__, priced.item, priced.price]


@app.orchestration_trigger(context_name="context", orchestration="Relaying")
def relaying(context: df.DurableOrchestrationContext):
    return (yield context.call_activity("Relay", context.get_input()))


# ---------------------------------------------------------------------- activities


@app.activity_trigger(input_name="name", activity="Hello")
def hello(name: str) -> str:
    return f"Hello {name}!"


@app.activity_trigger(input_name="number", activity="Square")
async def square(number: int) -> int:
    return number * number


@app.activity_trigger(input_name="job", activity="JobState")
def job_state(job: str) -> str:
    return "done" if looked_at(job) == 3 else "running"


@app.activity_trigger(input_name="order", activity="Price")
def price(order: Order) -> Order:
    return Order(order.item.upper(), 3)


@app.activity_trigger(input_name="instance", activity="Relay")
@app.durable_client_input(client_name="client")
async def relay(instance: str, client: df.DurableOrchestrationClient) -> str:
    return await client.start_new("HelloCities", instance, ["Relay"])


# ---------------------------------------------------------------------- entities


@app.entity_trigger(context_name="context", entity_name="Counter")
def counter(context: df.DurableEntityContext):
    value = context.get_state(lambda: 0)
    if context.operation_name == "add":
        value += context.get_input()
    elif context.operation_name == "reset":
        value = 0
    context.set_state(value)
    context.set_result(value)
