"""An app for the official host: perdure's SDK is put on the path before anything imports the official one."""

import sys
from pathlib import Path

import perdure

sys.path.insert(0, str(Path(perdure.__path__[0]).parent / "perdure_sdk"))

import azure.durable_functions as df

app = df.DFApp()


@app.orchestration_trigger(context_name="context")
def deliver(context: df.DurableOrchestrationContext):
    retries = df.RetryOptions(5_000, 3, backoff_coefficient=2)
    try:
        return (yield context.call_activity_with_retry("pack", retries, context.get_input()))
    except df.TaskFailedError as error:
        return f"not delivered: {error.error_type}"


@app.activity_trigger(input_name="article")
def pack(article: str) -> str:
    return f"a parcel with {article}"
