"""Activities that show where they run, and that harm the process they run in."""

import asyncio
import ctypes
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)
FOLDER = Path(__file__).parent

print("the app is imported")
if os.environ.get("IMPORTED_BY_ONE_PROCESS_ONLY"):
    (FOLDER / "taken").touch(exist_ok=False)


class OrderError(ValueError):
    pass


@dataclass
class Order:
    name: str
    count: int


class Sum:
    """Travels in the SDK's envelope."""

    def __init__(self, value: int) -> None:
        self.value = value

    @staticmethod
    def to_json(each: "Sum") -> str:
        return str(each.value)

    @staticmethod
    def from_json(text: str) -> "Sum":
        return Sum(int(text))


def note(name: str, *facts: object) -> None:
    """Append a line to the ledger, which outlives every process."""
    with (FOLDER / "ledger").open("a") as ledger:
        ledger.write(" ".join([name, *map(str, facts)]) + "\n")


@app.orchestration_trigger(context_name="context")
def calls(context: df.DurableOrchestrationContext):
    name, value = context.get_input()
    return (yield context.call_activity(name, value))


@app.orchestration_trigger(context_name="context")
def calls_all(context: df.DurableOrchestrationContext):
    return (yield context.task_all([context.call_activity(name, value) for name, value in context.get_input()]))


@app.orchestration_trigger(context_name="context")
def catches(context: df.DurableOrchestrationContext):
    try:
        yield context.call_activity("raises", "seven")
    except Exception as error:
        return {
            "type": error.error_type,
            "message": error.message,
            "cause": error.cause.error_type,
            "caused": [error.is_caused_by(each) for each in (OrderError, ValueError, ZeroDivisionError, OSError)],
            "trace": error.stack_trace,
        }


@app.orchestration_trigger(context_name="context")
def waits_for_go(context: df.DurableOrchestrationContext):
    return (yield context.wait_for_external_event("go"))


@app.activity_trigger(input_name="value")
def pid(value):
    time.sleep(0.05)
    return os.getpid()


@app.activity_trigger(input_name="value")
async def pid_async(value):
    return os.getpid()


@app.activity_trigger(input_name="value")
def echo(value):
    return value


@app.activity_trigger(input_name="order")
def doubles(order: Order) -> Order:
    assert isinstance(order, Order)
    return Order(order.name, order.count * 2)


@app.activity_trigger(input_name="value")
def adds(value: int):
    return Sum(value + 1)


@app.activity_trigger(input_name="value")
def adds_to(value):
    assert isinstance(value, Sum)
    return Sum(value.value + 1)


@app.orchestration_trigger(context_name="context")
def sums(context: df.DurableOrchestrationContext):
    first = yield context.call_activity("adds", 1)
    second = yield context.call_activity("adds_to", first)
    return second.value


@app.activity_trigger(input_name="value")
def says(value):
    for number in range(3):
        print(f"{value} {number}: ", end="")
        print("grüße")
    logging.getLogger("app").warning("%s logs", value, extra={"colour": "red"})
    try:
        raise OrderError(value)
    except OrderError:
        logging.exception("it is an exception")
    logging.error("it is none", exc_info=False)


@app.activity_trigger(input_name="value")
def raises(value):
    try:
        return 1 / 0
    except ZeroDivisionError as error:
        raise OrderError(f"no {value}") from error


@app.activity_trigger(input_name="value")
def raises_half_a_character(value):
    raise OrderError("caf\udce9")


@app.activity_trigger(input_name="value")
@app.durable_client_input(client_name="client")
async def steers(value, client: df.DurableOrchestrationClient):
    """A durable client from end to end: start, look, raise an event, wait, list, links."""
    instance_id = await client.start_new("waits_for_go", client_input=value)
    before = await client.get_status(instance_id)
    await client.raise_event(instance_id, "go", "gone")
    while (status := await client.get_status(instance_id, show_history=True)).output is None:
        await asyncio.sleep(0.01)
    try:
        await client.start_new("nobody")
    except Exception as error:
        refusal = str(error)
    return {
        "before": before.input_,
        "output": status.output,
        "events": len(status.historyEvents),
        "missing": (await client.get_status("nobody")).instance_id,
        "refusal": refusal,
        "links": client.create_http_management_payload(instance_id),
    }


@app.activity_trigger(input_name="value")
@app.durable_client_input(client_name="client")
def steers_in_sync(value, client):
    instance_id = client.start_new("calls", client_input=["echo", value])
    while (status := client.get_status(instance_id)).output is None:
        time.sleep(0.01)
    return status.output


@app.activity_trigger(input_name="value")
def dies_once(value):
    """Die of `value`, unless it has done so before."""
    note("dies_once", os.getpid())
    marker = FOLDER / f"died_of_{value}"
    if marker.exists():
        return "alive"
    marker.touch()
    if value == "exit":
        os._exit(7)
    if value == "segfault":
        ctypes.string_at(0)
    time.sleep(600)
    return None


@app.activity_trigger(input_name="value")
def always_dies(value):
    note("always_dies", os.getpid())
    os._exit(3)


@app.activity_trigger(input_name="value")
def waits_for_file(value):
    """Hold a thread until a file of that name is there."""
    note("waits_for_file", value, os.getpid())
    while not (FOLDER / value).exists():
        time.sleep(0.01)
    return os.getpid()


@app.activity_trigger(input_name="value")
async def waits_and_cleans_up(value):
    note("waits", value)
    try:
        while not (FOLDER / value).exists():
            await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        note("cancelled", value)
        raise
    return "waited"


@app.activity_trigger(input_name="value")
def computes_for_ever(value):
    """Hold the interpreter's lock as far as Python code can."""
    note("computes", os.getpid())
    while not (FOLDER / value).exists():
        sum(range(10_000))
    return "computed"
