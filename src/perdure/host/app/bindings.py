"""Bindings of a function, as its decorators wrote them, against the parameters of its Python function.

Source: azure_functions_worker functions.py; texts of errors are its texts, so that a search finds answers.
"""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import azure.functions as func
from azure.functions.http import HttpRequest
from msgspec import Struct

from perdure.host.http.extension import gives_extension_response, takes_extension_request

RETURN = "$return"

NO_ANNOTATION = inspect.Parameter.empty

_TEXTS = (NO_ANNOTATION, str, bytes, Any, object)

CLIENT_KINDS = frozenset({"durableClient", "orchestrationClient"})


class Binding(Struct, frozen=True):
    """One entry of a function's metadata; `members` is all of it."""

    kind: str
    name: str
    is_out: bool
    members: Mapping[str, Any]

    @property
    def is_trigger(self) -> bool:
        """Whether it starts the function."""
        return self.kind.casefold().endswith("trigger")

    @property
    def is_client(self) -> bool:
        """Whether it gives a client of the task hub."""
        return self.kind in CLIENT_KINDS

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


def bindings_of(function: Any) -> list[Binding]:
    """The bindings of a built function of `azure.functions`, in the order in which decorators were applied."""
    return [binding_of(json.loads(text)) for text in function.get_raw_bindings()]


def binding_of(members: Mapping[str, Any]) -> Binding:
    """The binding that one entry of a function's metadata declares."""
    is_out = str(members.get("direction", "IN")).casefold() == "out"
    return Binding(str(members.get("type")), str(members.get("name")), is_out, members)


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
            annotation = hints.get(parameter.name, NO_ANNOTATION if isinstance(written, str) else written)
            annotations[parameter.name] = annotation
            if parameter.default is not parameter.empty:
                optional.add(parameter.name)
    return Parameters(annotations, frozenset(optional), takes_any, hints.get("return", NO_ANNOTATION))


def client_texts(function: Callable[..., Any], bindings: Sequence[Binding]) -> frozenset[str]:
    """The client parameters that get the binding's JSON text: those that nothing makes a client for.

    The SDK's decorator does, and an annotation that is neither missing nor a text asks for one.
    """
    names = [each.name for each in bindings if each.is_client]
    if not names or hasattr(function, "client_function"):
        return frozenset()
    annotations = parameters_of(function).annotations
    return frozenset(each for each in names if annotations.get(each, NO_ANNOTATION) in _TEXTS)


def wants_context(bindings: Sequence[Binding], parameters: Parameters) -> bool:
    """Whether the parameter `context` is to be the invocation's context."""
    return "context" in parameters.annotations and all(each.name != "context" for each in bindings)


def problem_of(bindings: Sequence[Binding], parameters: Parameters) -> str | None:
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
    annotation = parameters.annotations.get("context", NO_ANNOTATION)
    if wants_context(bindings, parameters) and not _accepts(annotation, func.Context):
        return (
            f'the "context" parameter is expected to be of type azure.functions.Context, got {_type_text(annotation)}'
        )
    return next(filter(None, (_annotation_problem(each, parameters) for each in bindings)), None)


def refused_on_azure(function: Callable[..., Any], bindings: Sequence[Binding]) -> list[str]:
    """What works here and would keep the function from loading on Azure."""
    parameters, texts = parameters_of(function), client_texts(function, bindings)
    found: list[str] = []
    bound = {each.name for each in bindings}
    for name in sorted(set(parameters.annotations) & parameters.optional - bound - {"context"}):
        found.append(f"its parameter '{name}' has no binding, only a default")
    for each in bindings:
        if "_" in each.name:
            found.append(f"the binding name '{each.name}' has an underscore")
        if each.is_client and each.name not in texts and not hasattr(function, "client_function"):
            annotation = _type_text(parameters.annotations.get(each.name, NO_ANNOTATION))
            found.append(f"its client '{each.name}' is annotated \"{annotation}\", not str")
    returns = parameters.returns
    is_http = any(each.kind == "http" and each.name == RETURN for each in bindings)
    is_fine = (
        returns is NO_ANNOTATION
        or (isinstance(returns, type) and issubclass(returns, _HTTP_RESULTS))
        or gives_extension_response(returns)
    )
    if is_http and not is_fine:
        found.append(f'its return annotation "{_type_text(returns)}" is neither HttpResponse nor str')
    return found


_HTTP_RESULTS = (func.HttpResponse, str)


def _annotation_problem(binding: Binding, parameters: Parameters) -> str | None:
    annotation = parameters.annotations.get(binding.name, NO_ANNOTATION)
    is_out = typing.get_origin(annotation) is func.Out or annotation is func.Out
    if binding.name == RETURN:
        return None if binding.is_out else '"$return" binding must have direction set to "out"'
    if binding.is_out and annotation is not NO_ANNOTATION and not is_out:
        return (
            f'binding {binding.name} is declared to have the "out" direction, but its annotation in Python is not a '
            "subclass of azure.functions.Out"
        )
    if is_out and not binding.is_out:
        return (
            f'binding {binding.name} is declared to have the "in" direction in the binding decorator, but its '
            "annotation is azure.functions.Out in Python"
        )
    if binding.kind == "httpTrigger" and not (_accepts(annotation, HttpRequest) or takes_extension_request(annotation)):
        return (
            f'type of {binding.name} binding in the binding decorator "{binding.kind}" does not match its Python '
            f'annotation "{_type_text(annotation)}"{_extension_hint(annotation)}'
        )
    return None


def _extension_hint(annotation: type) -> str:
    if not annotation.__module__.startswith(("starlette.", "fastapi.")):
        return ""
    return (
        ". A function gets this kind of request if the app imports it from the package "
        "azurefunctions-extensions-http-fastapi:  from azurefunctions.extensions.http.fastapi import Request"
    )


def _accepts(annotation: Any, kind: type) -> bool:
    """Whether an annotation allows a value of `kind`; what is not a plain class has the benefit of the doubt."""
    return annotation in (NO_ANNOTATION, Any) or not isinstance(annotation, type) or issubclass(kind, annotation)


def _set_text(names: set[str]) -> str:
    return "{" + ", ".join(repr(each) for each in sorted(names)) + "}"


def _type_text(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)
