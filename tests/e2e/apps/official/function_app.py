"""What apps do with the official SDK 1.x."""

import json
import logging
import os
import time
from datetime import timedelta
from pathlib import Path

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)

LEDGER = Path(__file__).parent / "ledger"


class Order:
    """Travels as an object, the way that the SDK knows."""

    def __init__(self, name, price):
        self.name = name
        self.price = price

    @staticmethod
    def to_json(order):
        return {"name": order.name, "price": order.price}

    @staticmethod
    def from_json(data):
        return Order(data["name"], data["price"])


def note(line):
    """Write a line that outlives the process."""
    with LEDGER.open("a") as file:
        file.write(f"{line}\n")


# ---------------------------------------------------------------------- orchestrators


@app.orchestration_trigger(context_name="context")
def chain(context):
    first = yield context.call_activity("hello", "Tokyo")
    second = yield context.call_activity(hello, {"x": 1})
    return [first, second, context.get_input()]


@app.orchestration_trigger(context_name="context")
def fan_out(context):
    numbers = yield context.task_all([context.call_activity("square", each) for each in range(context.get_input())])
    return sum(numbers)


@app.orchestration_trigger(context_name="context")
def fails_fast(context):
    slow = context.create_timer(context.current_utc_datetime + timedelta(hours=1))
    try:
        yield context.task_all([slow, context.call_activity("boom", "now")])
    except Exception as error:
        slow.cancel()
        saved = yield context.call_activity("hello", "cleanup")
        return [str(error).partition(" \n ")[0], saved]


@app.orchestration_trigger(context_name="context")
def waits_for_the_loser(context):
    slow = context.call_activity("sleepy", 0.3)
    timer = context.create_timer(context.current_utc_datetime + timedelta(milliseconds=1))
    winner = yield context.task_any([slow, timer])
    result = yield slow
    after = yield context.call_activity("hello", "after")
    return [winner == timer, result, after]


@app.orchestration_trigger(context_name="context")
def approval(context):
    wait = timedelta(seconds=context.get_input() or 3600)
    timeout = context.create_timer(context.current_utc_datetime + wait)
    approved = context.wait_for_external_event("Approval")
    winner = yield context.task_any([approved, timeout])
    if winner == timeout:
        return "too late"
    timeout.cancel()
    return {"approved": approved.result}


@app.orchestration_trigger(context_name="context")
def approval_from_a_client(context):
    event = yield context.wait_for_external_event("Approval")
    return json.loads(event)["approved"]


@app.orchestration_trigger(context_name="context")
def parent(context):
    names = yield context.task_all([
        context.call_sub_orchestrator("child", each, f"{context.instance_id}:{each}") for each in ("a", "b")
    ])  # fmt: skip
    try:
        yield context.call_sub_orchestrator("failing", "x")
    except Exception as error:
        return [names, str(error).partition(" \n ")[0]]


@app.orchestration_trigger(context_name="context")
def child(context):
    said = yield context.call_activity("hello", context.get_input())
    return [said, context.parent_instance_id]


@app.orchestration_trigger(context_name="context")
def failing(context):
    yield context.call_activity("boom", context.get_input())


@app.orchestration_trigger(context_name="context")
def raising(context):
    yield context.call_activity("hello", "first")
    raise ValueError("no more")


@app.orchestration_trigger(context_name="context")
def retrying(context):
    options = df.RetryOptions(first_retry_interval_in_milliseconds=1, max_number_of_attempts=3)
    flaky, other, gone = yield context.task_all([
        context.call_activity_with_retry("flaky", options, {"key": context.instance_id, "fails": 2}),
        context.call_activity("hello", "other"),
        context.call_sub_orchestrator_with_retry("flaky_child", options, context.instance_id),
    ])  # fmt: skip
    return [flaky, other, gone]


@app.orchestration_trigger(context_name="context")
def giving_up(context):
    options = df.RetryOptions(first_retry_interval_in_milliseconds=1, max_number_of_attempts=2)
    hello = context.call_activity("hello", "before")
    doomed = context.call_activity_with_retry("boom", options, "again")
    said = yield hello
    second = yield context.call_activity("hello", "between")
    try:
        yield doomed
    except Exception as error:
        after = yield context.call_activity("hello", "after")
        return [said, second, str(error).partition(" \n ")[0], after]


@app.orchestration_trigger(context_name="context")
def flaky_child(context):
    return (yield context.call_activity("flaky", {"key": context.get_input() + "-child", "fails": 1}))


@app.orchestration_trigger(context_name="context")
def fetching(context):
    response = yield context.call_http("GET", context.get_input())
    after = yield context.call_activity("hello", "after")
    return [response["statusCode"], response["content"], after]


@app.orchestration_trigger(context_name="context")
def counting(context):
    counter = df.EntityId("Counter", context.instance_id)
    context.signal_entity(counter, "add", 5)
    before = yield context.call_entity(counter, "get")
    yield context.call_entity(counter, "add", 2)
    try:
        yield context.call_entity(counter, "boom")
    except Exception as error:
        after = yield context.call_entity(counter, "get")
        return [before, after, str(error)]


@app.orchestration_trigger(context_name="context")
def telling(context):
    context.set_custom_status({"step": 1})
    yield context.wait_for_external_event("go")
    context.set_custom_status("done")
    return None


@app.orchestration_trigger(context_name="context")
def looping(context):
    count = context.get_input()
    name = yield context.wait_for_external_event("op")
    names = [*count, name]
    if len(names) < 3:
        context.continue_as_new(names)
        return
    return names


@app.orchestration_trigger(context_name="context")
def ordering(context):
    order = yield context.call_activity("price", Order("tea", 0))
    return [type(order).__name__, order.name, order.price]


@app.orchestration_trigger(context_name="context")
def long_chain(context):
    logging.info("replayed or not")
    total = 0
    for number in range(12):
        total += yield context.call_activity("step", {"key": context.instance_id, "number": number})
    return total


@app.orchestration_trigger(context_name="context")
def plain(context):
    return context.get_input()


@app.orchestration_trigger(context_name="context")
def repeatable(context):
    return (yield context.call_activity("once_wrong", context.instance_id))


@app.orchestration_trigger(context_name="context")
def changing(context):
    name = "hello" if (Path(__file__).parent / "changed").exists() else "square"
    yield context.call_activity(name, 1)
    context.set_custom_status("waiting")
    yield context.wait_for_external_event("go")


# ---------------------------------------------------------------------- activities


@app.activity_trigger(input_name="name")
def hello(name) -> str:
    return f"Hello {name}"


@app.activity_trigger(input_name="number")
def square(number: int) -> int:
    return number * number


@app.activity_trigger(input_name="what")
def boom(what: str):
    raise ValueError(f"boom {what}")


@app.activity_trigger(input_name="seconds")
def sleepy(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


@app.activity_trigger(input_name="wanted")
def flaky(wanted: dict) -> int:
    note(f"flaky {wanted['key']}")
    tries = LEDGER.read_text().split("\n").count(f"flaky {wanted['key']}")
    if tries <= wanted["fails"]:
        raise RuntimeError(f"attempt {tries}")
    return tries


@app.activity_trigger(input_name="order")
def price(order: Order) -> Order:
    return Order(order.name.upper(), 3)


@app.activity_trigger(input_name="step")
def step(step: dict) -> int:
    if step["number"] == 6 and not (Path(__file__).parent / "killed").exists():
        (Path(__file__).parent / "killed").write_text("")
        os.kill(os.getpid(), 9)
    note(f"step {step['number']}")
    return step["number"]


@app.activity_trigger(input_name="key")
def once_wrong(key: str) -> str:
    note(f"once {key}")
    if LEDGER.read_text().split("\n").count(f"once {key}") == 1:
        raise RuntimeError("not yet")
    return f"fine {key}"


# ---------------------------------------------------------------------- entities


@app.entity_trigger(context_name="context", entity_name="Counter")
def counter(context):
    state = context.get_state(lambda: 0)
    if context.operation_name == "add":
        state += context.get_input()
    elif context.operation_name == "get":
        context.set_result(state)
    elif context.operation_name == "boom":
        raise ValueError("bad operation")
    context.set_state(state)


# ---------------------------------------------------------------------- clients


@app.route(route="start/{name}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def start(req: func.HttpRequest, client) -> func.HttpResponse:
    given = json.loads(req.get_body() or b"null")
    instance_id = await client.start_new(req.route_params["name"], req.params.get("id"), given)
    return client.create_check_status_response(req, instance_id)


@app.route(route="client/{method}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def call_client(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    arguments = json.loads(req.get_body() or b"{}")
    if "entityId" in arguments:
        arguments["entityId"] = df.EntityId(*arguments["entityId"])
    if arguments.pop("with_request", False):
        arguments["request"] = req
    result = getattr(client, req.route_params["method"])(**arguments)
    if hasattr(result, "__await__"):
        result = await result
    if isinstance(result, func.HttpResponse):
        return result
    shown = vars(result) if hasattr(result, "__dict__") else result
    return func.HttpResponse(json.dumps(shown, default=str), mimetype="application/json")
