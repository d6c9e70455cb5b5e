"""An app whose orchestrations time starts."""

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.timer_trigger(arg_name="timer", schedule="0 0 2 1 1 *")
@app.durable_client_input(client_name="client")
async def yearly(timer: func.TimerRequest, client: df.DurableOrchestrationClient) -> None:
    await client.start_new("report", client_input={"past_due": timer.past_due, "status": timer.schedule_status})


@app.schedule(arg_name="timer", schedule="%EVERY%", run_on_startup=True)
@app.durable_client_input(client_name="client")
def startup(timer: func.TimerRequest, client) -> None:
    client.start_new("report", "startup", {"past_due": timer.past_due})


@app.timer_trigger(arg_name="timer", schedule="* * * * * *")
@app.retry(strategy="fixed_delay", max_retry_count="1", delay_interval="00:00:00.2")
def restless(timer: func.TimerRequest, context: func.Context) -> None:
    print(f"attempt {context.retry_context.retry_count}")
    raise ValueError("no space left")


@app.queue_trigger(arg_name="message", queue_name="invoices", connection="Storage")
def on_invoice(message: func.QueueMessage) -> None: ...


@app.orchestration_trigger(context_name="context")
def report(context: df.DurableOrchestrationContext):
    yield context.create_timer(context.current_utc_datetime)
    return context.get_input()
