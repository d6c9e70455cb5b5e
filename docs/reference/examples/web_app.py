"""A FastAPI application that starts orchestrations."""

from contextlib import asynccontextmanager

import azure.durable_functions as df
import azure.functions as func
import fastapi
from fastapi.responses import StreamingResponse


@asynccontextmanager
async def lifespan(site: fastapi.FastAPI):
    yield {"prices": {"tea": 3, "coffee": 4}}


site = fastapi.FastAPI(lifespan=lifespan)


@site.get("/api/prices/{item}")
async def price(request: fastapi.Request, item: str):
    return {"price": request.state.prices[item]}


@site.get("/api/count/{last}")
async def count(last: int):
    return StreamingResponse(f"{number}\n" for number in range(last))


app = func.AsgiFunctionApp(app=site, http_auth_level=func.AuthLevel.ANONYMOUS)
durable = df.Blueprint()


@durable.route(route="orders", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
@durable.durable_client_input(client_name="client")
async def take_order(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    instance_id = await client.start_new("handle_order", client_input=req.get_json())
    return client.create_check_status_response(req, instance_id)


@durable.orchestration_trigger(context_name="context")
async def handle_order(context: df.DurableOrchestrationContext):
    return context.get_input()["item"]


app.register_functions(durable)
