"""A decorated function, as `azure.functions` keeps it until the app is built.

Rule 1: only this module looks behind the public face of `FunctionBuilder`, which has no other way to the function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from collections.abc import Generator as GeneratorType
from typing import Any, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

from azure.durable_functions.bindings import ActivityTrigger, OrchestrationTrigger
from azure.functions.decorators.function_app import FunctionBuilder

from perdure.core.conversion import ExpectedType, annotated_type

UserFunction = Callable[..., Any]

# Reading annotations takes longer than all the rest of a call.
_result_types: WeakKeyDictionary[FunctionBuilder, ExpectedType | None] = WeakKeyDictionary()


def user_function(builder: FunctionBuilder) -> UserFunction:
    """The function that was decorated, or what a decorator has made of it."""
    return _kept(builder).get_user_function()


def replace_user_function(builder: FunctionBuilder, function: UserFunction) -> None:
    """Let the builder run `function` from now on."""
    _kept(builder)._func = function


def handler(call: Callable[[Any], Any], users: Any, parameter: str, annotation: Any) -> UserFunction:
    """What a host calls in place of the user's orchestrator or entity, with one argument, by position or by name.

    Args:
        call: what is called.
        users: the user's function or class, whose name and text it bears.
        parameter: the name of the argument; the official worker passes it by that, and looks for it before.
        annotation: what the official worker is to find there.
    """

    def handle(*args: Any, **kwargs: Any) -> Any:
        return call(*args, *kwargs.values())

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    handle.__name__ = getattr(users, "__name__", type(users).__name__)
    handle.__doc__ = getattr(users, "__doc__", None)
    handle.__module__ = getattr(users, "__module__", handle.__module__)
    handle.__annotations__ = {"return": str}
    if annotation is not inspect.Parameter.empty:
        handle.__annotations__[parameter] = annotation
    vars(handle)["__signature__"] = inspect.Signature(
        [inspect.Parameter(parameter, kind, annotation=annotation)], return_annotation=str
    )
    return handle


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


def result_type(name: object) -> ExpectedType | None:
    """What the result of a decorated function becomes, by its annotation; None if that says nothing, and for names."""
    if not isinstance(name, FunctionBuilder):
        return None
    try:
        return _result_types[name]
    except KeyError:
        expected = _result_types[name] = _annotated_result(user_function(name))
        return expected


def _annotated_result(function: UserFunction) -> ExpectedType | None:
    users: UserFunction = inspect.unwrap(getattr(function, "orchestrator_function", function))
    try:
        annotation = get_type_hints(users).get("return")
    except Exception:  # user code: an annotation may be any expression; one that cannot be evaluated says nothing
        return None
    if get_origin(annotation) is GeneratorType:
        annotation = (*get_args(annotation), None, None, None)[2]
    return annotated_type(annotation, getattr(users, "__name__", "a function"))


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
