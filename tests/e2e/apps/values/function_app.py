"""An app whose functions pass typed values, try again, wait with a timeout, and call HTTP."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


@dataclass
class Order:
    sku: str
    size: Size
    placed: datetime


@dataclass
class Receipt:
    orders: list[Order]
    note: str = ""


@app.orchestration_trigger(context_name="context", input_type=list[str])
def shop(context: df.DurableOrchestrationContext):
    """Types from annotations, from an argument, and from the decorator."""
    orders = yield context.task_all([context.call_activity(order, sku) for sku in context.get_input()])
    receipt = yield context.call_activity("bill", Receipt(orders), Receipt)
    return {"kinds": [type(each).__name__ for each in (*orders, receipt)], "receipt": receipt}


@app.activity_trigger(input_name="sku")
def order(sku: str) -> Order:
    return Order(sku, Size.LARGE, datetime(2026, 1, 2, 3, 4, tzinfo=UTC))


@app.activity_trigger(input_name="receipt")
def bill(receipt: Receipt) -> Receipt:
    large = [each.sku for each in receipt.orders if each.size is Size.LARGE and each.placed.year == 2026]
    return Receipt(receipt.orders, f"large: {', '.join(large)}")


@app.activity_trigger(input_name="order")
def mislabelled(order: Order) -> str:
    """Works on Azure, where annotations of inputs mean nothing."""
    return f"{type(order).__name__}: {order}"


@app.orchestration_trigger(context_name="context")
def mislabels(context: df.DurableOrchestrationContext):
    return (yield context.call_activity(mislabelled, "an order"))


@app.activity_trigger(input_name="what")
def makes(what: str) -> Any:
    return {"set": {"rows": [{"tags": {1}}]}, "large": {"rows": "x" * 200_000}}[what]


@app.orchestration_trigger(context_name="context")
def makes_odd(context: df.DurableOrchestrationContext):
    try:
        return (yield context.call_activity(makes, context.get_input()))
    except Exception as failure:
        return str(failure)


attempts: list[str] = []


@app.activity_trigger(input_name="limit")
def flaky(limit: int) -> int:
    attempts.append("")
    if len(attempts) < limit:
        raise FileNotFoundError("not there yet")
    return len(attempts)


@app.orchestration_trigger(context_name="context")
def tries(context: df.DurableOrchestrationContext):
    retry = df.RetryOptions(10, 5, 2.0, retry_on=OSError)
    count = yield context.call_activity_with_retry(flaky, retry, 3)
    try:
        yield context.wait_for_external_event("never", timeout=timedelta(milliseconds=10))
    except TimeoutError:
        return count


@app.orchestration_trigger(context_name="context")
def asks(context: df.DurableOrchestrationContext):
    """A long job behind HTTP, and an address where nobody is."""
    url = context.get_input()
    answer = yield context.call_http("POST", f"{url}/api/job", {"n": 5}, {"X-Job": "j", "x-functions-key": "k"})
    try:
        yield context.call_http("GET", "http://127.0.0.1:9/nobody?secret=1")
    except Exception as failure:
        return [
            answer["statusCode"],
            answer["content"],
            failure.is_caused_by(ConnectionError),
            "secret" in str(failure),
        ]


polls: list[str] = []


@app.route(route="job", methods=["POST"])
def job(req: func.HttpRequest) -> func.HttpResponse:
    polls.clear()
    return func.HttpResponse(status_code=202, headers={"Location": f"/api/job/{req.get_json()['n']}"})


@app.route(route="job/{number}", methods=["GET"])
def job_status(req: func.HttpRequest) -> func.HttpResponse:
    polls.append("")
    if len(polls) < 2:
        return func.HttpResponse(status_code=202, headers={"Location": "5", "Retry-After": "0"})
    seen = [req.headers.get("x-job"), req.headers.get("x-functions-key"), req.route_params["number"]]
    return func.HttpResponse(f"done {seen}", status_code=200)
