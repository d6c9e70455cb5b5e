"""Transfers between two accounts, both locked meanwhile: nobody sees the money on its way, and no crash loses it.

    curl -X POST http://localhost:7071/api/accounts/ann/deposit -d 100
    curl -X POST http://localhost:7071/api/transfers -d '{"from": "ann", "to": "bob", "amount": 30}'
    curl http://localhost:7071/api/accounts/bob

Accounts are class entities, which only run here; everything else is the official API.
"""

import json

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.FUNCTION)


class NotCovered(Exception):
    """There is not enough on the account."""


@app.entity_trigger(context_name="context", entity_name="account")
class Account(df.DurableEntity):
    """A balance; each method is an operation."""

    state: int = 0

    def deposit(self, amount: int) -> int:
        self.state += amount
        return self.state

    def withdraw(self, amount: int) -> int:
        if amount > self.state:
            raise NotCovered(f"{self.entity_id.key} has only {self.state}")
        self.state -= amount
        return self.state


@app.orchestration_trigger(context_name="context")
def transfer(context: df.DurableOrchestrationContext):
    """Take from one account and give to the other. Between the two calls nobody else gets at either of them."""
    order = context.get_input()
    payer, payee = df.EntityId("account", order["from"]), df.EntityId("account", order["to"])
    with (yield context.lock_entities([payer, payee])):
        try:
            left = yield context.call_entity(payer, "withdraw", order["amount"])
        except Exception as error:
            if not error.is_caused_by(NotCovered):
                raise
            return {"transferred": 0, "reason": error.cause.message if error.cause else error.message}
        yield context.call_entity(payee, "deposit", order["amount"])
    return {"transferred": order["amount"], "left": left}


@app.route(route="transfers", methods=["POST"])
@app.durable_client_input(client_name="client")
async def start(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Start a transfer: `{"from": name, "to": name, "amount": number}`."""
    try:
        order = req.get_json()
        usable = order["from"] != order["to"] and order["amount"] > 0
    except (ValueError, KeyError, TypeError):
        usable = False
    if not usable:
        return func.HttpResponse("Say from whom, to whom else, and how much.", status_code=400)
    instance_id = await client.start_new("transfer", client_input=order)
    return client.create_check_status_response(req, instance_id)


@app.route(route="accounts/{name}/deposit", methods=["POST"])
@app.durable_client_input(client_name="client")
async def deposit(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Put the amount in the body on an account."""
    try:
        amount = int(req.get_body())
    except ValueError:
        amount = 0
    if amount <= 0:
        return func.HttpResponse("The body has to be an amount.", status_code=400)
    await client.signal_entity(df.EntityId("account", req.route_params["name"]), "deposit", amount)
    return func.HttpResponse(status_code=202)


@app.route(route="accounts/{name}", methods=["GET"])
@app.durable_client_input(client_name="client")
async def balance(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """What is on an account."""
    found = await client.read_entity_state(df.EntityId("account", req.route_params["name"]))
    return func.HttpResponse(json.dumps(found.entity_state or 0), mimetype="application/json")
