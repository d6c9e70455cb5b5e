from datetime import timedelta

import azure.durable_functions as df


def orchestrator_function(context: df.DurableOrchestrationContext):
    context.set_custom_status("waiting")
    due = context.current_utc_datetime + timedelta(seconds=context.get_input())
    timer = context.create_timer(due)
    decision = context.wait_for_external_event("Decision")
    if (yield context.task_any([decision, timer])) is timer:
        return "nobody decided"
    timer.cancel()
    return decision.result


main = df.Orchestrator.create(orchestrator_function)
