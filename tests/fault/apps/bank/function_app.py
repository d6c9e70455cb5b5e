"""Accounts that write down everything that comes and goes, transfers between two of them, and audits of all.

A transfer is `{"payer": key, "payee": key, "amount": int, "pause_ms": int}`; `bank_kit` says what has to come of it.
"""

from datetime import timedelta

import azure.durable_functions as df

app = df.DFApp()

NOTHING = {"balance": 0, "lines": []}


class NotCovered(Exception):
    """The balance is too small."""


@app.entity_trigger(context_name="context", entity_name="account")
class Account(df.DurableEntity):
    """A balance, and a line `[what for, amount]` for each change of it."""

    state: dict = NOTHING

    def post(self, line: list) -> int:
        what_for, amount = line
        balance = self.state["balance"] + amount
        self.state = {"balance": balance, "lines": [*self.state["lines"], [what_for, amount]]}
        if balance < 0:
            raise NotCovered(f"{-balance} too much")  # after the change, which must not count
        return balance

    def read(self) -> dict:
        return self.state


@app.orchestration_trigger(context_name="context")
def transfer(context: df.DurableOrchestrationContext):
    """Takes from one account and gives to another, and nobody else comes in between."""
    order = context.get_input()
    payer, payee = df.EntityId("account", order["payer"]), df.EntityId("account", order["payee"])
    with (yield context.lock_entities([payer, payee])):
        try:
            yield context.call_entity(payer, "post", [context.instance_id, -order["amount"]])
        except Exception as error:
            if error.is_caused_by(NotCovered):
                return "refused"
            raise
        if order["pause_ms"]:
            yield context.create_timer(timedelta(milliseconds=order["pause_ms"]))
        yield context.call_entity(payee, "post", [context.instance_id, order["amount"]])
    return "done"


@app.orchestration_trigger(context_name="context")
async def audit(context: df.DurableOrchestrationContext):
    """All accounts as they are at one moment."""
    accounts = [df.EntityId("account", key) for key in context.get_input()]
    async with context.lock_entities(accounts):
        states = await context.task_all([context.call_entity(account, "read") for account in accounts])
    return {account.key: state for account, state in zip(accounts, states, strict=True)}


@app.orchestration_trigger(context_name="context")
def peek(context: df.DurableOrchestrationContext):
    """Two accounts, one after the other, and without a lock."""
    states = {}
    for key in context.get_input():
        states[key] = yield context.call_entity(df.EntityId("account", key), "read")
    return states


@app.orchestration_trigger(context_name="context")
def opening(context: df.DurableOrchestrationContext):
    """Puts something into every account, and keeps all of them locked until it is told to open."""
    asked = context.get_input()
    accounts = [df.EntityId("account", key) for key in asked["accounts"]]
    with (yield context.lock_entities(accounts)):
        line = ["opening", asked["amount"]]
        yield context.task_all([context.call_entity(account, "post", line) for account in accounts])
        context.set_custom_status("filled")
        yield context.wait_for_external_event("open")
