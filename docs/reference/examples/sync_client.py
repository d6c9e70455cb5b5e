"""A client function without `async`."""

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.orchestration_trigger(context_name="context")
def double(context: df.DurableOrchestrationContext):
    return context.get_input() * 2


# example: SyncDurableOrchestrationClient
@app.route(route="double/{number:int}")
@app.durable_client_input(client_name="client")
def ask(req: func.HttpRequest, client) -> func.HttpResponse:
    """A function that is not `async` gets a client whose methods return when the work is done."""
    instance_id = client.start_new("double", client_input=int(req.route_params["number"]))
    return client.wait_for_completion_or_create_check_status_response(req, instance_id)


@app.route(route="doubled")
@app.durable_client_input(client_name="client")
def doubled(req: func.HttpRequest, client) -> str:
    return ", ".join(str(status.output) for status in client.iter_status())
