from datetime import timedelta

import azure.durable_functions as df


def orchestrator_function(context: df.DurableOrchestrationContext):
    job, seconds = context.get_input()
    due = context.current_utc_datetime + timedelta(seconds=seconds)
    while context.current_utc_datetime < due:
        state = yield context.call_activity("JobState", job)
        context.set_custom_status({"job": job, "state": state})
        if state == "done":
            return (yield context.call_activity("Hello", job))
        yield context.create_timer(context.current_utc_datetime + timedelta(milliseconds=50))
    return "not done in time"


main = df.Orchestrator.create(orchestrator_function)
