"""Orchestrations that call orchestrations."""

import azure.durable_functions as df

app = df.DFApp()

# Rooms that are closed for the moment, one for each time that somebody asks for it.
closed: list[str] = []


@app.activity_trigger(input_name="room")
def heat(room: str) -> str:
    if room in closed:
        closed.remove(room)
        raise ConnectionError(f"{room} does not answer")
    return f"{room} is warm"


@app.orchestration_trigger(context_name="context")
def heat_room(context: df.DurableOrchestrationContext):
    return (yield context.call_activity("heat", context.get_input()))


# example: DurableOrchestrationContext.call_sub_orchestrator
@app.orchestration_trigger(context_name="context")
def heat_house(context: df.DurableOrchestrationContext):
    """One child for each room. With ids of their own, children can be found, and steered, one by one."""
    children = [
        context.call_sub_orchestrator("heat_room", room, instance_id=f"{context.instance_id}:{room}")
        for room in context.get_input()
    ]
    return (yield context.task_all(children))


# example: DurableOrchestrationContext.call_sub_orchestrator_with_retry
@app.orchestration_trigger(context_name="context")
def heat_cellar(context: df.DurableOrchestrationContext):
    """Each attempt is a child with a new id, unless one is given for all of them."""
    options = df.RetryOptions(first_retry_interval_in_milliseconds=1_000, max_number_of_attempts=3)
    return (yield context.call_sub_orchestrator_with_retry("heat_room", options, "cellar"))


# example: DurableOrchestrationContext.parent_instance_id
@app.orchestration_trigger(context_name="context")
def whose_child(context: df.DurableOrchestrationContext):
    if context.parent_instance_id is None:
        return (yield context.call_sub_orchestrator("whose_child"))
    return f"a child of {context.parent_instance_id}"
