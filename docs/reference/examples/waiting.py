"""Orchestrators that wait: for a time, for people, for each other."""

from datetime import timedelta

import azure.durable_functions as df

app = df.DFApp()

# What was sent to people.
sent: list[str] = []


@app.activity_trigger(input_name="text")
def send(text: str) -> None:
    sent.append(text)


# example: DurableOrchestrationContext.create_timer
@app.orchestration_trigger(context_name="context")
def remind(context: df.DurableOrchestrationContext):
    """Waits for a day; the host may be off meanwhile."""
    yield context.create_timer(timedelta(days=1))
    yield context.call_activity("send", "Your trial ends tomorrow.")


# example: TimerTask.cancel
@app.orchestration_trigger(context_name="context")
def approve_or_escalate(context: df.DurableOrchestrationContext):
    """The first of two. A timer that lost is given up: on Azure, no orchestration ends before its timers do."""
    approval = context.wait_for_external_event("Approval")
    deadline = context.create_timer(timedelta(hours=72))
    if (yield context.task_any([approval, deadline])) is deadline:
        yield context.call_activity("send", "Please look at this order.")
        return "escalated"
    deadline.cancel()
    return "approved" if approval.result else "refused"


# example: DurableOrchestrationContext.wait_for_external_event
@app.orchestration_trigger(context_name="context")
def approve(context: df.DurableOrchestrationContext):
    """The same in one line, which only runs here."""
    try:
        is_approved = yield context.wait_for_external_event("Approval", bool, timeout=timedelta(hours=72))
    except TimeoutError:
        return "escalated"
    return "approved" if is_approved else "refused"


# example: DurableOrchestrationContext.wait_for_external_event
@app.orchestration_trigger(context_name="context")
def count_votes(context: df.DurableOrchestrationContext):
    """Events that come while nobody waits are kept, in their order."""
    votes = []
    for _ in range(3):
        votes.append((yield context.wait_for_external_event("Vote")))
    return votes


# example: DurableOrchestrationContext.send_event
@app.orchestration_trigger(context_name="context")
def cook(context: df.DurableOrchestrationContext):
    """Tells another orchestration that it is done."""
    context.send_event(context.get_input(), "Served", data="soup")


@app.orchestration_trigger(context_name="context")
def eat(context: df.DurableOrchestrationContext):
    dish = yield context.wait_for_external_event("Served")
    return f"had {dish}"


# example: DurableOrchestrationContext.continue_as_new
@app.orchestration_trigger(context_name="context")
def meter(context: df.DurableOrchestrationContext):
    """Runs for ever: its history begins anew with each reading, and no reading is lost in between."""
    total = context.get_input() or 0
    reading = yield context.wait_for_external_event("Reading")
    if reading is None:
        return total
    context.continue_as_new(total + reading)
