import azure.durable_functions as df
import azure.functions as func


async def main(timer: func.TimerRequest, starter: str) -> None:
    await df.DurableOrchestrationClient(starter).start_new("HelloCities", "by-timer", ["New Year"])
