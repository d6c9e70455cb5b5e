"""One expense, from being handed in to being paid or refused; it waits three days for somebody to decide."""

from datetime import timedelta

import azure.durable_functions as df

from ..shared.expenses import APPROVED, DECISION, FREE_BELOW


def orchestrator_function(context: df.DurableOrchestrationContext):
    expense = context.get_input()
    if expense["amount"] >= FREE_BELOW:
        context.set_custom_status("waiting for a decision")
        decision = context.wait_for_external_event(DECISION)
        too_late = context.create_timer(context.current_utc_datetime + timedelta(days=3))
        first = yield context.task_any([decision, too_late])
        if first is too_late:
            return "nobody decided"
        too_late.cancel()
        if decision.result != APPROVED:
            return "refused"
    context.set_custom_status("being paid")
    receipt = yield context.call_activity("PayExpense", expense)
    yield context.call_entity(df.EntityId("Budget", "all"), "spend", expense["amount"])
    return receipt


main = df.Orchestrator.create(orchestrator_function)
