import azure.durable_functions as df
import azure.functions as func


async def main(
    req: func.HttpRequest, starter: df.DurableOrchestrationClient, response: func.Out[func.HttpResponse]
) -> None:
    instance_id = await starter.start_new("HelloCities", client_input=["Oslo"])
    response.set(func.HttpResponse(instance_id))
