"""Function chaining: three calls of one activity, each waiting for the one before.

Start it with    curl -X POST http://localhost:7071/api/orchestrators/hello_cities
"""

import logging

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.FUNCTION)


@app.route(route="orchestrators/{functionName}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def start(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Start the orchestrator named in the URL, with the request's JSON body, if any, as its input."""
    try:
        body = req.get_json() if req.get_body() else None
    except ValueError:
        return func.HttpResponse("The body has to be JSON.", status_code=400)
    instance_id = await client.start_new(req.route_params["functionName"], client_input=body)
    return client.create_check_status_response(req, instance_id)


@app.orchestration_trigger(context_name="context")
def hello_cities(context: df.DurableOrchestrationContext):
    """Greet the cities of the input, or three of our own, one after the other."""
    greetings = []
    for city in context.get_input() or ["Tokyo", "Seattle", "London"]:
        greeting = yield context.call_activity("say_hello", city)
        greetings.append(greeting)
    return greetings


@app.activity_trigger(input_name="city")
def say_hello(city: str) -> str:
    """One greeting."""
    logging.info("saying hello to %s", city)
    return f"Hello {city}!"
