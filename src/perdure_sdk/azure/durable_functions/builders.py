"""A decorated function, as `azure.functions` keeps it until the app is built.

Rule 1: only this module looks behind the public face of `FunctionBuilder`, which has no other way to the function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from azure.durable_functions.bindings import ActivityTrigger, OrchestrationTrigger
from azure.functions.decorators.function_app import FunctionBuilder

UserFunction = Callable[..., Any]


def user_function(builder: FunctionBuilder) -> UserFunction:
    """The function that was decorated, or what a decorator has made of it."""
    return _kept(builder).get_user_function()


def replace_user_function(builder: FunctionBuilder, function: UserFunction) -> None:
    """Let the builder run `function` from now on."""
    _kept(builder)._func = function


def activity_name(name: object) -> str:
    """The name that an activity is registered under, from that name or from the decorated function itself.

    Raises:
        ValueError: it is neither.
    """
    return _registered_name(name, ActivityTrigger, "activity")


def orchestrator_name(name: object) -> str:
    """The name that an orchestrator is registered under, from that name or from the decorated function itself.

    Raises:
        ValueError: it is neither.
    """
    return _registered_name(name, OrchestrationTrigger, "orchestration")


def _registered_name(name: object, trigger_type: type, override: str) -> str:
    if isinstance(name, FunctionBuilder):
        kept = _kept(name)
        trigger = kept.get_trigger()
        if not isinstance(trigger, trigger_type):
            received = "none" if trigger is None else trigger.get_binding_name()
            raise ValueError(
                f"Received function with Trigger-type `{received}` but expected `{trigger_type.__name__}`. "
                "Pass a function with the right decorator, or its name."
            )
        return getattr(trigger, override) or kept.get_function_name()
    if callable(name):
        raise ValueError(
            "The `call_activity` API received a `Callable` without an associated Azure Functions trigger-type. "
            "Pass a decorated function, or its name."
        )
    if not name:
        raise ValueError("function_name cannot be empty")
    if not isinstance(name, str):
        raise ValueError(f"expected the name of a function, or a decorated function, but got {name!r}")
    return name


def _kept(builder: FunctionBuilder) -> Any:
    return builder._function  # pyright: ignore[reportPrivateUsage] - rule 1
