import azure.durable_functions as df


async def main(instance: str, starter: str) -> str:
    return await df.DurableOrchestrationClient(starter).start_new("HelloCities", instance, ["Relay"])
