"""Signatures and defaults as text that is the same on every version of Python."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

WIDTH = 100

Parameter = inspect.Parameter


def parameters_of(function: Callable[..., Any]) -> list[Parameter]:
    """The parameters that a caller gives."""
    return [each for each in inspect.signature(function).parameters.values() if each.name not in ("self", "cls")]


def call_of(name: str, function: Callable[..., Any], renamed: Mapping[str, str], prefix: str = "") -> str:
    """How a function is called: its parameters with their defaults, and what it returns."""
    returns = type_text(inspect.signature(function).return_annotation, renamed)
    arrow = " as client:" if prefix == "async with " else f" -> {returns}" if returns else ""
    shown = _parameter_texts(parameters_of(function))
    line = f"{prefix}{name}({', '.join(shown)}){arrow}"
    if len(line) <= WIDTH:
        return line
    rows = "".join(f"    {each},\n" for each in shown)
    return f"{prefix}{name}(\n{rows}){arrow}"


def _parameter_texts(parameters: list[Parameter]) -> list[str]:
    texts: list[str] = []
    is_marked = False
    for each in parameters:
        if each.kind is Parameter.KEYWORD_ONLY and not is_marked:
            texts.append("*")
            is_marked = True
        stars = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}.get(each.kind, "")
        is_marked = is_marked or stars == "*"
        default = "" if each.default is Parameter.empty else f"={value_text(each.default)}"
        texts.append(f"{stars}{each.name}{default}")
    return texts


def type_text(annotation: Any, renamed: Mapping[str, str]) -> str:
    """An annotation as it is written, with the names that users know."""
    if annotation is Parameter.empty:
        return ""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    return re.sub(r"\b[A-Za-z_]\w*\b", lambda word: renamed.get(word[0], word[0]), text)


def value_text(value: Any) -> str:
    """A default value as it is written."""
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    return repr(value)


def attribute_types(kind: type) -> dict[str, str]:
    """Types of the attributes that a class sets as it is made, as far as the code says them."""
    if not inspect.isfunction(vars(kind).get("__init__")):
        return {}
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(kind.__init__))).body
    assert isinstance(function, ast.FunctionDef)
    given = {each.arg: ast.unparse(each.annotation) for each in function.args.args if each.annotation is not None}
    types: dict[str, str] = {}
    for each in function.body:
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Attribute):
            types[each.target.attr] = ast.unparse(each.annotation)
        elif isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Attribute):
            value = each.value
            types[each.targets[0].attr] = given.get(value.id, "") if isinstance(value, ast.Name) else _type_of(value)
    return types


def _type_of(value: ast.expr) -> str:
    if isinstance(value, ast.Constant):
        return type(value.value).__name__
    is_member = isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name) and value.value.id[0].isupper()
    return value.value.id if is_member else ""
