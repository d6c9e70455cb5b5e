import azure.durable_functions as df

from .numbers import numbers_below


def orchestrator_function(context: df.DurableOrchestrationContext):
    squares = yield context.task_all([context.call_activity("Square", n) for n in numbers_below(context.get_input())])
    return sum(squares)


main = df.Orchestrator.create(orchestrator_function)
