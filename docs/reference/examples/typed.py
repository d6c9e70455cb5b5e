"""Inputs and results that are objects of your own."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import azure.durable_functions as df

app = df.DFApp()


# example: DurableOrchestrationContext.get_input
@dataclass
class Order:
    number: int
    items: list[str]


@app.orchestration_trigger(context_name="context", input_type=Order)
def place(context: df.DurableOrchestrationContext):
    """`input_type` says what `get_input()` gives; `get_input(Order)` would say the same."""
    order: Order = context.get_input()
    receipt = yield context.call_activity(bill, order)
    return f"{receipt.state.value}: {receipt.total} for {receipt.order.number}"


# example: DurableOrchestrationContext.call_activity
class State(Enum):
    PAID = "paid"
    OPEN = "open"


@dataclass
class Receipt:
    order: Order
    total: int
    state: State


@app.activity_trigger(input_name="order")
def bill(order: Order) -> Receipt:
    """Called by the function, its annotations say what the input and the result become."""
    return Receipt(order, 5 * len(order.items), State.PAID)


@app.orchestration_trigger(context_name="context")
def bill_by_name(context: df.DurableOrchestrationContext):
    """Called by its name, `expected_type` says it."""
    receipt = yield context.call_activity("bill", Order(17, ["tea"]), expected_type=Receipt)
    return receipt.state.value


# example: DurableOrchestrationContext.call_activity
class Money:
    """A class that writes and reads itself."""

    def __init__(self, cents: int) -> None:
        self.cents = cents

    @staticmethod
    def to_json(money: Money) -> str:
        return str(money.cents)

    @staticmethod
    def from_json(text: str) -> Money:
        return Money(int(text))


@app.activity_trigger(input_name="price")
def with_tax(price: Money) -> Money:
    return Money(price.cents * 119 // 100)


@app.orchestration_trigger(context_name="context")
def gross(context: df.DurableOrchestrationContext):
    price = yield context.call_activity(with_tax, Money(1000))
    return price.cents
