"""Orchestrators that call activities: one after the other, at the same time, the first of several."""

import asyncio
import logging
from datetime import timedelta

import azure.durable_functions as df

app = df.DFApp()
log = logging.getLogger("orders")


# example: Blueprint.activity_trigger
@app.activity_trigger(input_name="city")
def say_hello(city: str) -> str:
    """An activity may do anything; it may also be `async def`."""
    return f"Hello {city}!"


# example: Blueprint.orchestration_trigger
@app.orchestration_trigger(context_name="context")
def with_yield(context: df.DurableOrchestrationContext):
    """The classic form, which also runs on Azure."""
    return (yield context.call_activity("say_hello", "Tokyo"))


@app.orchestration_trigger(context_name="context")
async def with_await(context: df.DurableOrchestrationContext) -> str:
    """The same, only here."""
    return await context.call_activity("say_hello", "Tokyo")


# example: DurableOrchestrationContext.call_activity
@app.orchestration_trigger(context_name="context")
def hello_cities(context: df.DurableOrchestrationContext):
    """One after the other; what is called may be given as the decorated function or by its name."""
    first = yield context.call_activity(say_hello, "Tokyo")
    second = yield context.call_activity("say_hello", "London")
    return [first, second]


# example: DurableOrchestrationContext.task_all, DurableOrchestrationContext.get_input
@app.orchestration_trigger(context_name="context")
def hello_everywhere(context: df.DurableOrchestrationContext):
    """All at the same time; the results come in the order of the tasks."""
    tasks = [context.call_activity(say_hello, city) for city in context.get_input()]
    return (yield context.task_all(tasks))


# example: DurableOrchestrationContext.task_any
@app.activity_trigger(input_name="mirror")
async def download(mirror: dict) -> str:
    await asyncio.sleep(mirror["takes_s"])
    return f"from {mirror['name']}"


@app.orchestration_trigger(context_name="context")
def fastest_mirror(context: df.DurableOrchestrationContext):
    """The result of `task_any` is the task that ended first, whether it succeeded or failed."""
    tasks = [context.call_activity(download, mirror) for mirror in context.get_input()]
    winner = yield context.task_any(tasks)
    return winner.result


# example: CompoundTask, TaskBase
@app.orchestration_trigger(context_name="context")
def in_order_of_arrival(context: df.DurableOrchestrationContext):
    """Takes each result as soon as it is there, and gives up on the rest after a minute."""
    downloads = [context.call_activity(download, mirror) for mirror in context.get_input()]
    deadline = context.create_timer(timedelta(minutes=1))
    arrived = []
    while downloads:
        first = yield context.task_any([*downloads, deadline])
        if first is deadline:
            break
        downloads.remove(first)
        arrived.append(first.result)
    if not deadline.is_completed:
        deadline.cancel()
    return arrived


# example: DurableOrchestrationContext.set_custom_status
@app.orchestration_trigger(context_name="context")
def import_files(context: df.DurableOrchestrationContext):
    """Whoever asks for the status sees how far it is."""
    files = context.get_input()
    for number, file in enumerate(files):
        context.set_custom_status({"done": number, "of": len(files), "now": file})
        yield context.call_activity("import_file", file)
    context.set_custom_status({"done": len(files), "of": len(files)})


@app.activity_trigger(input_name="file")
def import_file(file: str) -> None:
    log.info("importing %s", file)


# example: DurableOrchestrationContext.new_uuid, DurableOrchestrationContext.new_guid
@app.orchestration_trigger(context_name="context")
def pay(context: df.DurableOrchestrationContext):
    """An activity may run twice if its host dies; the id lets the other side recognise the second time."""
    payment = {"id": context.new_uuid(), "amount": context.get_input()}
    return (yield context.call_activity("transfer", payment))


@app.activity_trigger(input_name="payment")
def transfer(payment: dict) -> str:
    return f"transferred {payment['amount']} as {payment['id']}"


# example: DurableOrchestrationContext.current_utc_datetime
@app.orchestration_trigger(context_name="context")
def monthly_report(context: df.DurableOrchestrationContext):
    """`datetime.now()` would give another answer at each replay."""
    month = context.current_utc_datetime.strftime("%Y-%m")
    return (yield context.call_activity(say_hello, month))


# example: DurableOrchestrationContext.create_replay_safe_logger, DurableOrchestrationContext.is_replaying
@app.orchestration_trigger(context_name="context")
def chatty(context: df.DurableOrchestrationContext):
    """Each line is logged once, however often the code is replayed."""
    logger = context.create_replay_safe_logger(log)
    logger.info("greeting Tokyo")
    greeting = yield context.call_activity(say_hello, "Tokyo")
    logger.info("Tokyo has been greeted")
    return greeting
