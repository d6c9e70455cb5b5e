"""A warehouse: entities as functions and as classes, who talks to them, and locks."""

import json
from datetime import timedelta

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp()

SHELF = 100  # pieces that one shelf holds


class SoldOut(Exception):
    """There are not so many pieces."""


class ShelfFull(Exception):
    """There is no room for so many pieces."""


# example: DurableEntityContext.operation_name, DurableEntityContext.get_state, DurableEntityContext.get_input
@app.entity_trigger(context_name="context")
def counter(context: df.DurableEntityContext):
    """One number for each key; written like this it also runs on Azure."""
    value = context.get_state(lambda: 0)
    if context.operation_name == "add":
        value += context.get_input()
        context.set_state(value)
    elif context.operation_name == "reset":
        value = 0
        context.destruct_on_exit()
    context.set_result(value)


# example: DurableEntity
@app.entity_trigger(entity_name="shelf")
class Shelf(df.DurableEntity):
    """Pieces of an article. Every method is an operation; `delete` is one, too, and need not be written."""

    state: int = 0

    def add(self, pieces: int) -> int:
        self.state += pieces
        if self.state > SHELF:
            raise ShelfFull(f"{self.entity_id.key} holds {SHELF}")
        return self.state

    def take(self, pieces: int) -> int:
        if pieces > self.state:
            raise SoldOut(f"{self.entity_id.key} has only {self.state}")
        self.state -= pieces
        if self.state < 10:
            self.context.signal_entity(df.EntityId("buyer", "all"), "order", self.entity_id.key)
        return self.state

    def count(self) -> int:
        return self.state


# example: DurableEntityContext.start_new_orchestration
@app.entity_trigger(context_name="context")
def buyer(context: df.DurableEntityContext):
    """Remembers what is ordered, so that nothing is ordered twice."""
    ordered, article = context.get_state(list), context.get_input()
    if context.operation_name == "order" and article not in ordered:
        context.set_state([*ordered, article])
        context.start_new_orchestration("purchase", article)
    elif context.operation_name == "arrived":
        context.set_state([each for each in ordered if each != article])


@app.orchestration_trigger(context_name="context")
def purchase(context: df.DurableOrchestrationContext):
    """What the buyer starts: the goods come after two days."""
    article = context.get_input()
    yield context.create_timer(timedelta(days=2))
    yield context.call_entity(df.EntityId("shelf", article), "add", 50)
    context.signal_entity(df.EntityId("buyer", "all"), "arrived", article)


# example: DurableOrchestrationContext.call_entity, DurableOrchestrationContext.signal_entity
@app.orchestration_trigger(context_name="context")
def sell(context: df.DurableOrchestrationContext):
    """A call is waited for, and raises what the operation raised. A signal is sent, and that is all."""
    article, pieces = context.get_input()
    try:
        left = yield context.call_entity(df.EntityId("shelf", article), "take", pieces)
    except Exception as error:
        if error.is_caused_by(SoldOut):
            return "sold out"
        raise
    context.signal_entity(df.EntityId("counter", "sold"), "add", pieces)
    return f"{left} left"


# example: DurableOrchestrationContext.signal_entity
@app.orchestration_trigger(context_name="context")
def count_for_a_day(context: df.DurableOrchestrationContext):
    """A signal may be sent now, and arrive later."""
    today = df.EntityId("counter", context.get_input())
    context.signal_entity(today, "add", 1)
    context.signal_entity(today, "reset", scheduled_time=timedelta(days=1))


# example: DurableOrchestrationContext.lock_entities
@app.orchestration_trigger(context_name="context")
def move(context: df.DurableOrchestrationContext):
    """Nobody sees the pieces that are on their way. If they do not fit, they go back."""
    source, target, pieces = context.get_input()
    here, there = df.EntityId("shelf", source), df.EntityId("shelf", target)
    with (yield context.lock_entities([here, there])):
        yield context.call_entity(here, "take", pieces)
        try:
            yield context.call_entity(there, "add", pieces)
        except Exception:
            yield context.call_entity(here, "add", pieces)
            raise


# example: DurableOrchestrationContext.lock_entities
@app.orchestration_trigger(context_name="context")
async def take_stock(context: df.DurableOrchestrationContext):
    """The same as a coroutine: all shelves at one moment."""
    shelves = [df.EntityId("shelf", article) for article in context.get_input()]
    async with context.lock_entities(shelves):
        return await context.task_all([context.call_entity(shelf, "count") for shelf in shelves])


# example: DurableOrchestrationClient.signal_entity
@app.route(route="shelves/{article}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def fill(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    await client.signal_entity(df.EntityId("shelf", req.route_params["article"]), "add", req.get_json())
    return func.HttpResponse(status_code=202)


# example: DurableOrchestrationClient.read_entity_state
@app.route(route="shelves/{article}", methods=["GET"])
@app.durable_client_input(client_name="client")
async def pieces(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    found = await client.read_entity_state(df.EntityId("shelf", req.route_params["article"]))
    return func.HttpResponse(json.dumps(found.entity_state if found.entity_exists else 0))


# example: DurableOrchestrationClient.list_entities
@app.route(route="shelves", methods=["GET"])
@app.durable_client_input(client_name="client")
async def all_shelves(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    shelves = await client.list_entities("shelf")
    return func.HttpResponse(json.dumps({each.entity_id.key: each.entity_state for each in shelves}))
