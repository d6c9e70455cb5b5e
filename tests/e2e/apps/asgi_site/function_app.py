"""A FastAPI application behind one trigger, beside an orchestration."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import azure.durable_functions as df
import azure.functions as func
import fastapi
from fastapi.responses import StreamingResponse

LEDGER = Path(__file__).parent / "ledger.txt"


def note(line: str) -> None:
    with LEDGER.open("a") as ledger:
        ledger.write(line + "\n")


@contextlib.asynccontextmanager
async def lifespan(site: fastapi.FastAPI) -> AsyncIterator[dict[str, str]]:
    if "SITE_FAILS" in os.environ:
        raise ValueError("there is no database")
    note("begun")
    yield {"greeting": "Hello"}
    note("ended")


site = fastapi.FastAPI(lifespan=lifespan)


@site.get("/greet/{name}")
async def greet(request: fastapi.Request, name: str, excited: bool = False):
    return {"text": f"{request.state.greeting} {name}{'!' if excited else ''}"}


@site.get("/scope")
async def scope(request: fastapi.Request):
    names = ("path", "root_path", "scheme", "azure_functions.function_name", "asgi.version")
    return {each: request.scope[each] for each in names} | {"asgi": request.scope["asgi"]["version"]}


@site.get("/fails")
async def fails():
    raise LookupError("nobody is called that")


@site.get("/refuses")
async def refuses():
    raise fastapi.HTTPException(418, "a teapot")


@site.get("/ticks")
async def ticks():
    """Endless, until the client has gone."""

    async def made():
        try:
            while True:
                yield b"tick\n"
                await asyncio.sleep(0.01)
        finally:
            note("ticks ended")

    return StreamingResponse(made(), media_type="text/plain")


@site.get("/breaks")
async def breaks():
    async def made():
        yield b"half"
        raise OSError("the disk is gone")

    return StreamingResponse(made(), media_type="text/plain")


@site.get("/empty-events")
async def empty_events():
    """A head, long before there is anything to follow it."""

    async def made():
        while not (Path(__file__).parent / "go").exists():
            await asyncio.sleep(0.01)
        yield b"data: 1\n\n"

    return StreamingResponse(made(), media_type="text/event-stream")


app = func.AsgiFunctionApp(app=site, http_auth_level=func.AuthLevel.ANONYMOUS)
durable = df.Blueprint()


@durable.orchestration_trigger(context_name="context")
def echo(context: df.DurableOrchestrationContext):
    return context.get_input()
    yield


@durable.route(route="start", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
@durable.durable_client_input(client_name="client")
async def start(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    instance_id = await client.start_new("echo", client_input=req.get_json())
    return client.create_check_status_response(req, instance_id)


app.register_functions(durable)
