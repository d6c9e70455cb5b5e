"""An app whose orchestrations time starts."""

import logging

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp()


@app.timer_trigger(arg_name="timer", schedule="0 30 2 * * mon-fri")
@app.durable_client_input(client_name="client")
async def close_of_day(timer: func.TimerRequest, client: df.DurableOrchestrationClient) -> None:
    """On working days at half past two. The id is that of the day, so that a day is not closed twice."""
    if timer.past_due:
        logging.warning("closing late: it was to be %s", timer.schedule_status["Next"])
    day = timer.schedule_status.get("Next", "by hand")[:10]
    status = await client.get_status(f"close-{day}")
    if not status:
        await client.start_new("close_books", f"close-{day}", day)


@app.timer_trigger(arg_name="timer", schedule="%CLEANUP_SCHEDULE%", run_on_startup=True)
@app.retry(
    strategy="exponential_backoff", max_retry_count="5", minimum_interval="00:00:01", maximum_interval="00:01:00"
)
@app.durable_client_input(client_name="client")
def cleanup(timer: func.TimerRequest, client, context: func.Context) -> None:
    """A sync function has a sync client."""
    logging.info("attempt %s", context.retry_context.retry_count)
    client.start_new("close_books", "cleanup", "everything")


@app.orchestration_trigger(context_name="context")
def close_books(context: df.DurableOrchestrationContext):
    return context.get_input()
