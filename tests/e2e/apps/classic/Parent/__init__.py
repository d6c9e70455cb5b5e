import azure.durable_functions as df


def orchestrator_function(context: df.DurableOrchestrationContext):
    children = [context.call_sub_orchestrator("ChildOfParent", name) for name in ("Ann", "Bob")]
    return (yield context.task_all(children))


main = df.Orchestrator.create(orchestrator_function)
