"""The page docs/reference/sdk.md: every public name of the SDK, and of the client for programs that are no app."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from docstrings import Docstring, docstring_of, joined
from signatures import attribute_types, call_of, parameters_of, type_text, value_text
from snippets import Snippet, snippets

SDK = "azure.durable_functions"
MODELS = f"{SDK}.models"

INTRODUCTION = """\
# SDK reference

Everything that `azure.durable_functions` has here, and the client for programs that are no function app. Apps say
`import azure.durable_functions as df`; where a name is not part of that, its section has the import.

Arguments behind `*` are given by name. Methods behind `await` are coroutines; functions that are not `async` get a
[client](#syncdurableorchestrationclient) that is used without it. The examples are parts of the small apps in
[examples](examples), which the tests run; what leads through them is [the guide](../guides/orchestrations.md)."""


class Part(NamedTuple):
    """Some classes and functions under one headline; each with the module that it is imported from."""

    title: str
    names: tuple[tuple[str, str], ...]


PARTS = (
    Part("Function apps", ((SDK, "DFApp"), (SDK, "Blueprint"))),
    Part(
        "Orchestrators",
        (
            (SDK, "DurableOrchestrationContext"),
            (SDK, "RetryOptions"),
            (SDK, "ManagedIdentityTokenSource"),
            (MODELS, "TokenSource"),
            (MODELS, "DurableHttpRequest"),
            (MODELS, "FunctionContext"),
            (f"{SDK}.orchestration_context", "ReplaySafeLogger"),
        ),
    ),
    Part(
        "Tasks",
        tuple(
            (f"{SDK}.models.Task", name)
            for name in (
                "TaskBase",
                "TaskState",
                "AtomicTask",
                "TimerTask",
                "LongTimerTask",
                "CompoundTask",
                "WhenAllTask",
                "WhenAnyTask",
                "RetryAbleTask",
            )
        ),
    ),
    Part("Failures", (("perdure.core.failures", "TaskFailedError"), ("perdure.core.failures", "FailureDetails"))),
    Part(
        "Clients",
        (
            (SDK, "DurableOrchestrationClient"),
            (f"{SDK}.sync_client", "SyncDurableOrchestrationClient"),
            (f"{SDK}.client", "DurableClientError"),
            (MODELS, "DurableOrchestrationStatus"),
            (SDK, "OrchestrationRuntimeStatus"),
            (MODELS, "PurgeHistoryResult"),
        ),
    ),
    Part(
        "Programs that are no function app",
        (
            ("perdure", "connect"),
            ("perdure.engine.client", "TaskHubClient"),
            ("perdure.core.records", "Instance"),
            ("perdure.core.records", "RuntimeStatus"),
            ("perdure.core.records", "StartPolicy"),
            ("perdure.core.records", "InstanceQuery"),
            ("perdure.core.records", "InstancePage"),
            ("perdure.core.records", "EntityQuery"),
            ("perdure.core.records", "EntityState"),
            ("perdure.core.records", "HistoryRow"),
        ),
    ),
    Part(
        "Entities",
        (
            (SDK, "EntityId"),
            (MODELS, "EntityStateResponse"),
            (f"{SDK}.status", "DurableEntityStatus"),
            (f"{SDK}.status", "CleanEntityStorageResult"),
            (SDK, "DurableEntityContext"),
            (SDK, "DurableEntity"),
            (SDK, "Entity"),
        ),
    ),
    Part(
        "Further names",
        (
            (SDK, "Orchestrator"),
            (MODELS, "OrchestratorState"),
            (MODELS, "DurableOrchestrationBindings"),
            (SDK, "DurableFunctionsCompatibilityWarning"),
            (f"{SDK}.testing", "orchestrator_generator_wrapper"),
        ),
    ),
)

DESCRIBED = frozenset(name for part in PARTS for _, name in part.names)

ALSO_CALLED = {"DurableEntityContext": "EntityContext"}

ALIASES = ((f"{SDK}.options", "Failures"), (f"{SDK}.client", "StatusFilter"), (f"{SDK}.client", "Links"))

# Apps get these from a call or as an argument, and never make one.
NEVER_MADE = frozenset(
    {
        "DurableOrchestrationContext",
        "FunctionContext",
        "ReplaySafeLogger",
        "TaskFailedError",
        "SyncDurableOrchestrationClient",
        "TaskHubClient",
        *(name for _, name in PARTS[2].names),
    }
)

# What the engine calls.
INTERNAL = frozenset(
    {"settle", "settled_at", "child_settled", "is_part_of", "to_action", "action_repr", "to_policy", "of"}
)

Function = Callable[..., Any]


def sdk_page() -> str:
    """The whole page."""
    return Page().text()


class Page:
    """Collects the lines of the page.

    Attributes:
        headings: what has a heading.
        properties: what stands in a table of its class.
        undescribed: parameters of which no docstring says what they are, but for what is not there yet.
    """

    def __init__(self) -> None:
        self.headings: set[str] = set()
        self.properties: set[str] = set()
        self.undescribed: list[str] = []
        self._renamed = {vars(importlib.import_module(module))[name].__name__: name for module, name in PARTS[2].names}
        self._snippets = snippets()
        self._lines: list[str] = []

    def text(self) -> str:
        """The page; to be called once."""
        for part in PARTS:
            self._add(f"## {part.title}")
            for module, name in part.names:
                self._add_name(module, name)
        self._add_aliases()
        self._add_errors()
        contents = [
            f"- {part.title}: " + ", ".join(f"[{name}]({_anchor(name)})" for _, name in part.names) for part in PARTS
        ]
        contents += ["- [Types](#types)", "- [Errors](#errors)"]
        return "\n\n".join([INTRODUCTION, "\n".join(contents), *self._lines]) + "\n"

    # ------------------------------------------------------------------ one name

    def _add_name(self, module: str, name: str) -> None:
        thing = getattr(importlib.import_module(module), name)
        self._head("###", name)
        if isinstance(thing, type):
            self._add_class(module, name, thing)
        else:
            self._add_import(module, name)
            self._add_function(name, name, thing, _prefix(thing))

    def _add_class(self, module: str, name: str, kind: type) -> None:
        doc = docstring_of(kind)
        self._add_text(doc)
        self._add_import(module, name)
        if name in ALSO_CALLED:
            self._add(f"Also called `{ALSO_CALLED[name]}`.")
        known = [f"[{each}]({_anchor(each)})" for each in self._described_bases(kind)]
        if known:
            self._add(f"Has everything that {' and '.join(known)} has.")
        if issubclass(kind, Enum):
            self._add_table(("Member", "Value"), ((f"`{each.name}`", f"`{each.value!r}`") for each in kind))
        elif issubclass(kind, msgspec.Struct):
            self._add_fields(name, kind, doc)
        else:
            self._add_constructor(name, kind, doc)
            self._add_attributes(name, kind, doc)
        self._add_raises(doc, "All methods may raise:" if name in NEVER_MADE else "Raises:")
        self._add_examples(name)
        self._add_methods(name, kind)

    def _described_bases(self, kind: type) -> list[str]:
        """Of each base the nearest class that the page describes."""
        found: list[str] = []
        for base in kind.__bases__:
            names = [self._renamed.get(each.__name__, each.__name__) for each in base.__mro__]
            found += [each for each in names if each in DESCRIBED][:1]
        return found

    def _add_constructor(self, name: str, kind: type, doc: Docstring) -> None:
        if name in NEVER_MADE or kind.__init__ is object.__init__ or issubclass(kind, BaseException):
            return
        constructor: Function = kind.__init__
        self._add_code(call_of(name, constructor, self._renamed).partition(" -> ")[0])
        properties = {
            each: docstring_of(value).summary for each, value in vars(kind).items() if isinstance(value, property)
        }
        meanings = {each.name: properties.get(_snake_case(each.name), "") for each in parameters_of(constructor)}
        self._add_parameters(name, constructor, doc._replace(args=meanings | doc.args))

    def _add_attributes(self, name: str, kind: type, doc: Docstring) -> None:
        """Properties, and what the docstring lists as attributes, in one table."""
        types = attribute_types(kind)
        rows = [
            (f"`{each}`", _code(type_text(types.get(each, ""), self._renamed)), meaning)
            for each, meaning in doc.attributes.items()
            if each not in INTERNAL
        ]
        for each, value in vars(kind).items():
            if isinstance(value, property) and not each.startswith("_"):
                returns = inspect.signature(value.fget).return_annotation if value.fget else ""
                meaning = docstring_of(value)
                text = meaning.summary + (" Can be set." if value.fset else "") + _raised_in_table(meaning)
                rows.append((f"`{each}`", _code(type_text(returns, self._renamed)), text))
                self.properties.add(f"{name}.{each}")
        self._add_table(("Property", "Type", "Meaning"), rows)
        for each in vars(kind):
            if f"{name}.{each}" in self.properties:
                self._add_examples(f"{name}.{each}")

    def _add_fields(self, name: str, kind: type[msgspec.Struct], doc: Docstring) -> None:
        annotations = inspect.get_annotations(kind)
        rows: list[tuple[str, str, str, str]] = []
        for field in msgspec.structs.fields(kind):
            default = "" if field.required else _code(_field_default(field))
            shown = _code(type_text(annotations[field.name], self._renamed))
            rows.append((f"`{field.name}`", shown, default, doc.attributes.get(field.name, "")))
        self._add_table(("Field", "Type", "Default", "Meaning"), rows)
        self._add_attributes(name, kind, doc._replace(attributes={}))

    def _add_methods(self, name: str, kind: type) -> None:
        for each, value in vars(kind).items():
            function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            if each.startswith("_") or each in INTERNAL or not inspect.isfunction(function):
                continue
            self._head("####", f"{name}.{each}")
            shown = each if function is value else f"{name}.{each}"
            self._add_function(f"{name}.{each}", shown, function, _prefix(function), kind)

    def _add_function(
        self, full_name: str, name: str, function: Function, prefix: str, owner: type | None = None
    ) -> None:
        doc = docstring_of(function)
        if owner is not None:
            doc = doc._replace(args=_args_elsewhere(owner, doc) | doc.args)
        self._add_code(call_of(name, function, self._renamed, prefix))
        self._add_text(doc)
        self._add_parameters(full_name, function, doc)
        self._add_raises(doc, "Raises:")
        self._add_examples(full_name)

    # ------------------------------------------------------------------ parts of a section

    def _head(self, level: str, name: str) -> None:
        self.headings.add(name)
        self._add(f"{level} {name}")

    def _add_import(self, module: str, name: str) -> None:
        if module != SDK:
            self._add_code(f"from {module} import {name}")

    def _add_parameters(self, full_name: str, function: Function, doc: Docstring) -> None:
        rows: list[tuple[str, str, str, str]] = []
        is_later = any(error == "NotImplementedError" and when.startswith("always") for error, when in doc.raises)
        for each in parameters_of(function):
            meaning = doc.args.get(each.name, "")
            if each.kind is each.VAR_KEYWORD and not meaning:
                continue  # the text of its class says what becomes of it
            if not meaning and f"`{each.name}`" not in doc.summary and not is_later:
                self.undescribed.append(f"{full_name}({each.name})")
            default = "" if each.default is inspect.Parameter.empty else _code(value_text(each.default))
            rows.append((f"`{each.name}`", _code(type_text(each.annotation, self._renamed)), default, meaning))
        self._add_table(("Parameter", "Type", "Default", "Meaning"), rows)

    def _add_raises(self, doc: Docstring, lead: str) -> None:
        if doc.raises:
            lines = [f"- {', '.join(f'`{each}`' for each in names.split(', '))}: {when}" for names, when in doc.raises]
            self._add("\n".join([lead, "", *lines]))

    def _add_examples(self, full_name: str) -> None:
        for snippet in self._snippets:
            if snippet.shows[0] == full_name:
                self._add_code(snippet.code)
                self._add(f"From [{snippet.file}](examples/{snippet.file}).")
        links = [self._link(each) for each in self._snippets if full_name in each.shows[1:]]
        if links:
            self._add(f"Example: see {' and '.join(links)}.")

    def _link(self, snippet: Snippet) -> str:
        shown = snippet.shows[0]
        place = shown.rpartition(".")[0] if shown in self.properties else shown
        return f"[{shown}]({_anchor(place)})"

    def _add_aliases(self) -> None:
        self._add("## Types")
        rows = [
            (f"`{name}`", _code(value), meaning) for name, value, meaning in map(_alias, *zip(*ALIASES, strict=True))
        ]
        self._add_table(("Name", "Stands for", "Meaning"), rows)

    def _add_errors(self) -> None:
        errors = importlib.import_module("perdure.errors")
        self._add("## Errors")
        self._add(
            "Errors of perdure itself, from `perdure.errors`. Orchestrators see failures of what they call as\n"
            f"[TaskFailedError]({_anchor('TaskFailedError')}), and apps those of their client as\n"
            f"[DurableClientError]({_anchor('DurableClientError')})."
        )
        rows: list[tuple[str, str, str]] = []
        for name, kind in vars(errors).items():
            if not name.startswith("_") and isinstance(kind, type) and kind.__module__ == errors.__name__:
                doc = docstring_of(kind)
                fields = "; ".join(f"`{each}`: {meaning.rstrip('.')}" for each, meaning in doc.attributes.items())
                bases = ", ".join(f"`{each.__name__}`" for each in kind.__bases__)
                rows.append(
                    (f"`{name}`", bases, " ".join([doc.summary, *doc.more]) + (f" Has {fields}." if fields else ""))
                )
        self._add_table(("Error", "Is a", "Meaning"), rows)

    # ------------------------------------------------------------------ lines

    def _add_text(self, doc: Docstring) -> None:
        for each in (doc.summary, *doc.more):
            if each:
                self._add(each)

    def _add_code(self, code: str) -> None:
        self._add(f"```python\n{code}\n```")

    def _add_table(self, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
        lines = [_row(each) for each in rows]
        if lines:
            self._add("\n".join([_row(head), "|" + "---|" * len(head), *lines]))

    def _add(self, block: str) -> None:
        self._lines.append(block)


def _anchor(heading: str) -> str:
    return "#" + heading.replace(".", "").lower()


def _args_elsewhere(owner: type, doc: Docstring) -> dict[str, str]:
    """Meanings of parameters that the docstring takes from other methods, which it names, or from its class."""
    text = " ".join([doc.summary, *doc.more])
    found = docstring_of(owner).methods_args
    for name, method in vars(owner).items():
        if inspect.isfunction(method) and f"`{name}`" in text:
            found |= docstring_of(method).args
    return found


def _snake_case(name: str) -> str:
    return "".join(f"_{each.lower()}" if each.isupper() else each for each in name)


def _prefix(function: Function) -> str:
    if inspect.iscoroutinefunction(function):
        return "await "
    if inspect.isasyncgenfunction(function):
        return "async for … in "
    return "async with " if inspect.isasyncgenfunction(inspect.unwrap(function)) else ""


def _raised_in_table(doc: Docstring) -> str:
    return "".join(f" Raises `{error}`: {when}" for error, when in doc.raises)


def _field_default(field: msgspec.structs.FieldInfo) -> str:
    if field.default is not msgspec.NODEFAULT:
        return value_text(field.default)
    return value_text(field.default_factory())


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(each.replace("|", "\\|") for each in cells) + " |"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _alias(module: str, name: str) -> tuple[str, str, str]:
    """Name, value and docstring of an assignment, all as they are written."""
    file = importlib.import_module(module).__file__
    assert file is not None
    for statement, after in _with_next(ast.parse(Path(file).read_text("utf-8")).body):
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name:
            assert isinstance(after, ast.Expr)
            return name, ast.unparse(statement.value), joined(ast.literal_eval(after.value))
    raise LookupError(f"{module} has no {name}")


def _with_next(statements: list[ast.stmt]) -> Iterator[tuple[ast.stmt, ast.stmt]]:
    return pairwise(statements)
