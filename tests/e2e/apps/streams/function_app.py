"""Functions with the web extension: Starlette's requests and responses, streamed."""

import azure.durable_functions as df
import azure.functions as func
import fastapi
import pydantic
from azurefunctions.extensions.http.fastapi import JSONResponse, Request, StreamingResponse

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


class Order(pydantic.BaseModel):
    item: str
    count: int = 1


@app.route(route="upload", methods=["POST"])
async def upload(req: Request) -> JSONResponse:
    """Takes any amount of data, and keeps none of it."""
    pieces, size = 0, 0
    async for chunk in req.stream():
        pieces, size = pieces + bool(chunk), size + len(chunk)
    return JSONResponse({"bytes": size, "pieces": pieces})


@app.route(route="download/{megabytes:int}")
async def download(req: Request) -> StreamingResponse:
    count = int(req.path_params["megabytes"])
    return StreamingResponse((b"x" * 1_000_000 for _ in range(count)), media_type="application/octet-stream")


@app.route(route="order")
async def order(req: Request):
    """What is no response becomes JSON."""
    return Order(item=req.query_params["item"])


@app.route(route="sync/{item}")
def sync(req: Request, context: func.Context):
    return {"item": req.path_params["item"], "function": context.function_name}


@app.route(route="refuses")
async def refuses(req: Request):
    raise fastapi.HTTPException(418, "a teapot")


@app.route(route="fails")
async def fails(req: Request):
    raise LookupError("nobody is called that")


@app.route(route="classic/{item}")
async def classic(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(f"{type(req).__module__} {req.route_params['item']}")


@app.route(route="unannotated")
async def unannotated(req):
    return func.HttpResponse(type(req).__module__, status_code=201, headers={"X-A": "1"})


@app.orchestration_trigger(context_name="context")
def echo(context: df.DurableOrchestrationContext):
    return context.get_input()
    yield


@app.route(route="start", methods=["POST"])
@app.durable_client_input(client_name="client")
async def start(req: Request, client: df.DurableOrchestrationClient) -> JSONResponse:
    instance_id = await client.start_new("echo", client_input=await req.json())
    return JSONResponse(client.create_http_management_payload(instance_id), status_code=202)
