"""An app whose activities compute: worth a process for each core."""

import azure.durable_functions as df

app = df.DFApp()


@app.activity_trigger(input_name="span")
def count_primes(span: list) -> int:
    """Holds a core, and in one process Python's only lock, for as long as it takes."""
    begin, end = span
    return sum(all(number % factor for factor in range(2, int(number**0.5) + 1)) for number in range(begin, end))


@app.orchestration_trigger(context_name="context")
def primes(context: df.DurableOrchestrationContext):
    """All parts at the same time."""
    limit, size = context.get_input()
    parts = [[begin, min(begin + size, limit)] for begin in range(2, limit, size)]
    counts = yield context.task_all([context.call_activity(count_primes, part) for part in parts])
    return sum(counts)
