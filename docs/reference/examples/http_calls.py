"""Orchestrators that make HTTP requests."""

import json

import azure.durable_functions as df

app = df.DFApp()


# example: DurableOrchestrationContext.call_http
@app.orchestration_trigger(context_name="context")
def convert_video(context: df.DurableOrchestrationContext):
    """Starts a job elsewhere. An answer 202 is followed to its Location until the job is done."""
    answer = yield context.call_http(
        "POST", context.get_input(), {"format": "mp4"}, {"Content-Type": "application/json"}
    )
    if answer["statusCode"] != 200:
        raise RuntimeError(f"the job failed with {answer['statusCode']}: {answer['content']}")
    return json.loads(answer["content"])


# example: DurableOrchestrationContext.call_http
@app.orchestration_trigger(context_name="context")
def fetch_stubbornly(context: df.DurableOrchestrationContext):
    """Asks again if there is no answer, or one that says "later": 408, 429 and from 500 on."""
    options = df.RetryOptions(first_retry_interval_in_milliseconds=1_000, max_number_of_attempts=5)
    answer = yield context.call_http("GET", context.get_input(), retry_options=options)
    return answer["content"]


# example: ManagedIdentityTokenSource
@app.orchestration_trigger(context_name="context")
def list_groups(context: df.DurableOrchestrationContext):
    """The token never stands in the history. Getting one needs the package azure-identity."""
    token_source = df.ManagedIdentityTokenSource("https://management.core.windows.net")
    answer = yield context.call_http("GET", context.get_input(), token_source=token_source)
    return json.loads(answer["content"])
