"""Functions behind HTTP triggers: routes, forms, answers."""

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.route(route="orders/{number:int:min(1)}/{part?}", methods=["GET"])
async def show_order(req: func.HttpRequest) -> func.HttpResponse:
    number, part = req.route_params["number"], req.route_params.get("part", "all of it")
    return func.HttpResponse(f"order {number}, {part}")


@app.route(route="orders", methods=["POST"])
@app.durable_client_input(client_name="client")
async def take_order(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    instance_id = await client.start_new("handle_order", client_input=req.get_json())
    return client.create_check_status_response(req, instance_id)


@app.route(route="photos", methods=["POST"])
def add_photos(req: func.HttpRequest) -> str:
    sizes = []
    for photo in req.files.getlist("photo"):
        with photo.stream as content:
            sizes.append(f"{photo.filename}: {len(content.read())} bytes")
    return f"{req.form['album']}: {', '.join(sizes)}"


@app.route(route="visit", methods=["GET"])
def visit(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    response = func.HttpResponse("<p>Welcome</p>", mimetype="text/html", headers={"X-Call": context.invocation_id})
    response.headers.add("Set-Cookie", "seen=yes; Path=/")
    response.headers.add("Set-Cookie", "theme=dark; Path=/")
    return response


@app.orchestration_trigger(context_name="context")
async def handle_order(context: df.DurableOrchestrationContext):
    return context.get_input()["item"]
