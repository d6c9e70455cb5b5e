"""What functions behind HTTP triggers see of a request, and what becomes of what they give back."""

import asyncio
import logging
import threading
from pathlib import Path

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)
GATE = Path(__file__).parent / "gate"


@app.route(route="form", methods=["POST"])
def form(req: func.HttpRequest):
    parts = [f"{name}={value}" for name, value in req.form.items(multi=True)]
    parts += [f"{name}:{file.filename}:{len(file.read())}" for name, file in req.files.items(multi=True)]
    return ",".join(sorted(parts))


@app.route(route="seen/{id?}")
def seen(req: func.HttpRequest):
    return f"{req.method} {req.url} {dict(req.params)} {dict(req.route_params)} {req.headers['X-MANY']}"


@app.route(route="context")
async def context_of(req: func.HttpRequest, context: func.Context):
    facts = (context.function_name, Path(context.function_directory).name, context.trace_context.Traceparent)
    return " ".join([*facts, str(context.retry_context), str(len(context.invocation_id))])


@app.route(route="thread")
def thread(req: func.HttpRequest, context: func.Context):
    ids = [context.thread_local_storage.invocation_id]

    def work():
        context.thread_local_storage.invocation_id = context.invocation_id
        ids.append(context.thread_local_storage.invocation_id)
        logging.info("from a thread of its own")

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    return str(set(ids) == {context.invocation_id})


@app.route(route="answer/{kind}")
def answer(req: func.HttpRequest):
    match req.route_params["kind"]:
        case "latin":
            return func.HttpResponse("ü", charset="latin-1", mimetype="text/html")
        case "cookies":
            response = func.HttpResponse("")
            response.headers.add("Set-Cookie", "a=1; Path=/")
            response.headers.add("Set-Cookie", "b=2; HttpOnly")
            return response
        case "json-text":
            return '{"body": "as it is"}'
        case "status":
            return func.HttpResponse(status_code=1000)
        case "header":
            return func.HttpResponse(headers={"X Y": "a"})
        case "dict":
            return {"a": 1}
        case "error":
            raise LookupError("nobody is called that")


@app.route(route="any")
def any_method(req: func.HttpRequest):
    return func.HttpResponse(req.method, headers={"X-Method": req.method})


@app.route(route="only", methods=["GET", "POST"])
def only(req: func.HttpRequest):
    return "only"


@app.route(route="gated")
async def gated(req: func.HttpRequest):
    while not GATE.exists():
        await asyncio.sleep(0.01)
    return "passed"


@app.orchestration_trigger(context_name="context")
def waits(context: df.DurableOrchestrationContext):
    return (yield context.wait_for_external_event("go"))
