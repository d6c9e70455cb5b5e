"""Orchestrations of every shape. Each attempt of an activity is noted in a ledger outside of the store.

Their input is `{"value": int, "takes_ms": int}`; what they return, and which activities they call, says `kill_kit`.
"""

import asyncio
import os
import time
from datetime import timedelta

import azure.durable_functions as df

app = df.DFApp()

# One write of one size per line: appended whole or not at all, because no line crosses the border of a page.
LINE_BYTES = 64
LEDGER = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
LIFE = os.environ["LIFE"]

MODULUS = 1000
DEADLY = 86  # exit code


def note(what: str, key: str) -> None:
    line = f"{what} {LIFE} {key}".ljust(LINE_BYTES - 1) + "\n"
    os.write(LEDGER, line.encode())


@app.activity_trigger(input_name="call")
def square(call: dict) -> int:
    note("begin", call["key"])
    time.sleep(call["takes_ms"] / 1000)
    note("end", call["key"])
    return call["value"] ** 2 % MODULUS


@app.activity_trigger(input_name="call")
async def cube(call: dict) -> int:
    note("begin", call["key"])
    await asyncio.sleep(call["takes_ms"] / 1000)
    note("end", call["key"])
    return call["value"] ** 3 % MODULUS


def call(context: df.DurableOrchestrationContext, name: str, label: object, value: int):
    """A call of an activity, named for the ledger by instance and place in the code."""
    asked = context.get_input()
    key = f"{asked.get('key', context.instance_id)}/{label}"
    return context.call_activity(name, {"key": key, "value": value, "takes_ms": asked["takes_ms"]})


@app.orchestration_trigger(context_name="context")
def chain(context: df.DurableOrchestrationContext):
    """Four activities, each with the result of the one before."""
    value = context.get_input()["value"]
    for step, name in enumerate(("square", "cube", "square", "cube")):
        value = yield call(context, name, step, value)
    return value


@app.orchestration_trigger(context_name="context")
async def awaited(context: df.DurableOrchestrationContext):
    """The same as a coroutine."""
    value = context.get_input()["value"]
    for step, name in enumerate(("cube", "square", "cube", "square")):
        value = await call(context, name, step, value)
    return value


@app.orchestration_trigger(context_name="context")
def fan(context: df.DurableOrchestrationContext):
    """Twelve activities at once, and one over the sum."""
    value = context.get_input()["value"]
    parts = yield context.task_all(
        [call(context, ("square", "cube")[part % 2], part, value + part) for part in range(12)]
    )
    return (yield call(context, "square", "sum", sum(parts)))


@app.orchestration_trigger(context_name="context")
def timers(context: df.DurableOrchestrationContext):
    """A short timer between two activities, and a long one that loses and is cancelled."""
    value = yield call(context, "square", "before", context.get_input()["value"])
    yield context.create_timer(timedelta(milliseconds=250))
    after = call(context, "cube", "after", value)
    deadline = context.create_timer(timedelta(hours=1))
    winner = yield context.task_any([after, deadline])
    deadline.cancel()
    return winner.result


@app.orchestration_trigger(context_name="context")
def approval(context: df.DurableOrchestrationContext):
    """Two events, the first against a deadline, and an activity over what each of them brought."""
    asked = context.wait_for_external_event("approved")
    deadline = context.create_timer(timedelta(hours=1))
    yield context.task_any([asked, deadline])
    deadline.cancel()
    first = yield call(context, "square", "approved", asked.result)
    shipped = yield context.wait_for_external_event("shipped")
    return (yield call(context, "cube", "shipped", first + shipped))


@app.orchestration_trigger(context_name="context")
def family(context: df.DurableOrchestrationContext):
    """Two children at once, one with an id of its own and one with the engine's."""
    asked = context.get_input()
    left = {**asked, "key": f"{context.instance_id}/left"}
    right = {**asked, "key": f"{context.instance_id}/right", "value": asked["value"] + 1}
    results = yield context.task_all(
        [
            context.call_sub_orchestrator("chain", left, instance_id=f"{context.instance_id}.left"),
            context.call_sub_orchestrator("awaited", right),
        ]
    )
    return sum(results)


@app.orchestration_trigger(context_name="context")
def eternal(context: df.DurableOrchestrationContext):
    """Four generations, each with an event and an activity; events of later ones may come early."""
    asked = context.get_input()
    generation = asked.get("generation", 0)
    brought = yield context.wait_for_external_event(f"go-{generation}")
    value = yield call(context, "square", generation, asked["value"] + brought)
    if generation == 3:
        return value
    context.continue_as_new({**asked, "value": value, "generation": generation + 1})


@app.orchestration_trigger(context_name="context")
def parked(context: df.DurableOrchestrationContext):
    """Waits until somebody terminates it."""
    yield context.wait_for_external_event("never")


@app.activity_trigger(input_name="call")
def deadly(call: dict) -> int:
    """Takes its host with it, as native code or a lack of memory would."""
    note("begin", call["key"])
    time.sleep(call["takes_ms"] / 1000)
    os._exit(DEADLY)


@app.orchestration_trigger(context_name="context")
def poisoned(context: df.DurableOrchestrationContext):
    """Six innocent activities beside a deadly one; the sum of theirs, and what the other came to."""
    value = context.get_input()["value"]
    innocent = context.task_all([call(context, ("square", "cube")[part % 2], part, value + part) for part in range(6)])
    culprit = call(context, "deadly", "culprit", value)
    yield context.task_any([innocent, culprit])
    results = yield innocent
    try:
        yield culprit
    except Exception as error:
        return [sum(results), "PoisonMessage" in str(error)]
