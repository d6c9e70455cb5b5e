"""A unit test of an orchestrator, without any host."""

# example: orchestrator_generator_wrapper
from types import SimpleNamespace
from unittest.mock import Mock

import azure.durable_functions as df
from azure.durable_functions.testing import orchestrator_generator_wrapper

app = df.DFApp()


@app.orchestration_trigger(context_name="context")
def buy(context: df.DurableOrchestrationContext):
    price = yield context.call_activity("ask_price", context.get_input())
    if price > 100:
        return "too expensive"
    return (yield context.call_activity("pay", price))


def bought(price: int) -> str:
    """What `buy` returns if its activities return these."""
    context = Mock()
    context.call_activity.side_effect = [SimpleNamespace(result=price), SimpleNamespace(result="paid")]
    orchestrator = buy.build().get_user_function().orchestrator_function
    *_, result = orchestrator_generator_wrapper(orchestrator(context))
    return result


def test_only_a_fair_price_is_paid():
    assert bought(80) == "paid"
    assert bought(120) == "too expensive"
