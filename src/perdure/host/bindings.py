"""Bindings of a function, as its decorators wrote them, against the parameters of its Python function.

Source: azure_functions_worker functions.py; texts of errors are its texts, so that a search finds answers.
"""

from __future__ import annotations

import inspect
import json
import threading
import typing
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import azure.functions as func
from msgspec import Struct

RETURN = "$return"

_NO_ANNOTATION = inspect.Parameter.empty


class Binding(Struct, frozen=True):
    """One entry of a function's metadata; `members` is all of it."""

    kind: str
    name: str
    is_out: bool
    members: Mapping[str, Any]

    def text(self, member: str) -> str | None:
        """A member that is a non-empty text, or None."""
        value = self.members.get(member)
        return value if isinstance(value, str) and value else None


class Parameters(Struct, frozen=True):
    """The parameters of a user function: name to annotation (or `inspect.Parameter.empty`), and which have defaults."""

    annotations: Mapping[str, Any]
    optional: frozenset[str]
    takes_any: bool
    returns: Any


class InvocationContext(func.Context):
    """What a parameter called `context` gets."""

    def __init__(self, function_name: str, directory: str, headers: Mapping[str, str] | None = None) -> None:
        headers = headers or {}
        self._invocation_id = str(uuid4())
        self._function_name = function_name
        self._directory = directory
        self._local = threading.local()
        self._local.invocation_id = self._invocation_id
        parent, state = headers.get("traceparent", ""), headers.get("tracestate", "")
        self._trace = SimpleNamespace(
            Traceparent=parent, Tracestate=state, Attributes={}, trace_parent=parent, trace_state=state, attributes={}
        )

    @property
    def invocation_id(self) -> str:
        return self._invocation_id

    @property
    def function_name(self) -> str:
        return self._function_name

    @property
    def function_directory(self) -> str:
        return self._directory

    @property
    def thread_local_storage(self) -> Any:
        return self._local

    @property
    def trace_context(self) -> Any:
        return self._trace

    @property
    def retry_context(self) -> Any:
        return None


def bindings_of(function: Any) -> list[Binding]:
    """The bindings of a built function of `azure.functions`, in the order in which decorators were applied."""
    found: list[Binding] = []
    for text in function.get_raw_bindings():
        members: dict[str, Any] = json.loads(text)
        is_out = str(members.get("direction", "IN")).casefold() == "out"
        found.append(Binding(str(members.get("type")), str(members.get("name")), is_out, members))
    return found


def parameters_of(function: Callable[..., Any]) -> Parameters:
    """The parameters of a function, annotations resolved where they can be."""
    function = inspect.unwrap(function)
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # user code: an annotation may be any expression; one that cannot be evaluated says nothing
        hints = {}
    annotations: dict[str, Any] = {}
    optional: set[str] = set()
    takes_any = False
    signature = inspect.signature(function)
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            takes_any = True
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            written = parameter.annotation
            annotation = hints.get(parameter.name, _NO_ANNOTATION if isinstance(written, str) else written)
            annotations[parameter.name] = annotation
            if parameter.default is not parameter.empty:
                optional.add(parameter.name)
    return Parameters(annotations, frozenset(optional), takes_any, hints.get("return", _NO_ANNOTATION))


def wants_context(bindings: list[Binding], parameters: Parameters) -> bool:
    """Whether the parameter `context` is to be the invocation's context."""
    return "context" in parameters.annotations and all(each.name != "context" for each in bindings)


def problem_of(bindings: list[Binding], parameters: Parameters) -> str | None:
    """Why bindings and parameters do not fit, or None."""
    bound = {each.name for each in bindings if each.name != RETURN}
    declared = set(parameters.annotations)
    unbound = declared - bound - parameters.optional - {"context"}
    if unbound:
        return (
            "the following parameters are declared in Python but not in the function definition "
            f"(function.json or function decorators):  {_set_text(unbound)}"
        )
    missing = bound - declared
    if missing and not parameters.takes_any:
        return (
            "Extra parameters in binding definition — the following parameters are declared as bindings but are not "
            f"present in Python: {_set_text(missing)}"
        )
    annotation = parameters.annotations.get("context", _NO_ANNOTATION)
    if wants_context(bindings, parameters) and not _accepts(annotation, func.Context):
        return (
            f'the "context" parameter is expected to be of type azure.functions.Context, got {_type_text(annotation)}'
        )
    return next(filter(None, (_annotation_problem(each, parameters) for each in bindings)), None)


def refused_on_azure(bindings: list[Binding], parameters: Parameters) -> list[str]:
    """What works here and would keep the function from loading on Azure."""
    found: list[str] = []
    bound = {each.name for each in bindings}
    for name in sorted(set(parameters.annotations) & parameters.optional - bound - {"context"}):
        found.append(f"its parameter '{name}' has no binding, only a default")
    for each in bindings:
        if "_" in each.name:
            found.append(f"the binding name '{each.name}' has an underscore")
    returns = parameters.returns
    is_http = any(each.kind == "http" and each.name == RETURN for each in bindings)
    is_fine = returns is _NO_ANNOTATION or (isinstance(returns, type) and issubclass(returns, _HTTP_RESULTS))
    if is_http and not is_fine:
        found.append(f'its return annotation "{_type_text(returns)}" is neither HttpResponse nor str')
    return found


_HTTP_RESULTS = (func.HttpResponse, str)


def _annotation_problem(binding: Binding, parameters: Parameters) -> str | None:
    annotation = parameters.annotations.get(binding.name, _NO_ANNOTATION)
    is_out = typing.get_origin(annotation) is func.Out or annotation is func.Out
    if binding.name == RETURN:
        return None if binding.is_out else '"$return" binding must have direction set to "out"'
    if binding.is_out and annotation is not _NO_ANNOTATION and not is_out:
        return (
            f'binding {binding.name} is declared to have the "out" direction, but its annotation in Python is not a '
            "subclass of azure.functions.Out"
        )
    if is_out and not binding.is_out:
        return (
            f'binding {binding.name} is declared to have the "in" direction in the binding decorator, but its '
            "annotation is azure.functions.Out in Python"
        )
    if binding.kind == "httpTrigger" and not _accepts(annotation, func.HttpRequest):
        return (
            f'type of {binding.name} binding in the binding decorator "{binding.kind}" does not match its Python '
            f'annotation "{_type_text(annotation)}"'
        )
    return None


def _accepts(annotation: Any, kind: type) -> bool:
    """Whether an annotation allows a value of `kind`; what is not a plain class has the benefit of the doubt."""
    return annotation is _NO_ANNOTATION or not isinstance(annotation, type) or issubclass(kind, annotation)


def _set_text(names: set[str]) -> str:
    return "{" + ", ".join(repr(each) for each in sorted(names)) + "}"


def _type_text(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)
