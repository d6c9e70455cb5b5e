"""Functions in modules of their own."""

import azure.durable_functions as df

# example: Blueprint
greetings = df.Blueprint()


@greetings.activity_trigger(input_name="name")
def greet(name: str) -> str:
    return f"Hello {name}"


@greetings.orchestration_trigger(context_name="context", orchestration="Greeting")
def greeting(context: df.DurableOrchestrationContext):
    """Registered under another name than its own."""
    return (yield context.call_activity(greet, context.get_input()))


# example: DFApp
app = df.DFApp()
app.register_functions(greetings)
