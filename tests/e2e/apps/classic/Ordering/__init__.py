import azure.durable_functions as df


def orchestrator_function(context: df.DurableOrchestrationContext):
    order = context.get_input()
    context.set_custom_status({"pricing": order.item})
    priced = yield context.call_activity("Price", order)
    context.set_custom_status({"priced": priced.price})
    return [type(order).__name__, type(priced).__name__, priced.item, priced.price]


main = df.Orchestrator.create(orchestrator_function)
