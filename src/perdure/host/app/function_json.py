"""A function.json: what a function of the classic model is bound to, and which code it runs.

Source: the Functions host for members and rules; texts of errors are its texts, so that a search finds answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from msgspec import Struct

from perdure.host.app.bindings import CLIENT_KINDS, Binding, binding_of
from perdure.host.settings.settings_file import as_object, member, strip_json_comments

FUNCTION_JSON = "function.json"
DEFAULT_ENTRY_POINT = "main"

BINDING_KINDS = (
    "httpTrigger", "http", "timerTrigger", "orchestrationTrigger", "activityTrigger", "entityTrigger", "durableClient",
    "orchestrationClient", "queueTrigger", "queue", "blobTrigger", "blob", "table", "serviceBusTrigger", "serviceBus",
    "eventHubTrigger", "eventHub", "eventGridTrigger", "eventGrid", "cosmosDBTrigger", "cosmosDB", "sqlTrigger", "sql",
    "mysqlTrigger", "mysql", "kafkaTrigger", "kafka", "rabbitMQTrigger", "rabbitMQ", "redisPubSubTrigger",
    "redisListTrigger", "redisStreamTrigger", "redis", "signalRTrigger", "signalR", "signalRConnectionInfo",
    "signalRNegotiation", "webPubSubTrigger", "webPubSub", "webPubSubConnection", "webPubSubContext",
    "socketIONegotiation", "socketIO", "socketIOTrigger", "sendGrid", "twilioSms", "warmupTrigger", "mobileTable",
    "notificationHub", "daprServiceInvocationTrigger", "daprBindingTrigger", "daprTopicTrigger", "daprState",
    "daprSecret", "daprInvoke", "daprPublish", "daprBinding", "kustoBinding", "kusto", "mcpToolTrigger",
    "mcpResourceTrigger", "textCompletion", "embeddings", "embeddingsStore", "semanticSearch", "assistantCreate",
    "assistantPost", "assistantQuery", "assistantSkillTrigger", "generic",
)  # fmt: skip
"""Types of bindings that the Functions host and its extensions know, in their spelling."""

_KINDS = {each.casefold(): each for each in BINDING_KINDS}

# Members that the host finds in any case, in the spelling that everything here looks them up with.
_MEMBERS = {
    each.casefold(): each
    for each in (
        "type", "name", "direction", "dataType", "route", "methods", "authLevel", "orchestration", "activity",
        "entityName", "taskHub", "connectionName", "schedule", "runOnStartup", "useMonitor",
    )
}  # fmt: skip


class FunctionJson(Struct, frozen=True):
    """What a function.json says.

    Attributes:
        bindings: in the order of the file; exactly one is a trigger.
        script: the file that it names, relative to its folder, or None if it names none.
        entry_point: the name of the function in the script.
        off: why the function is switched off here, or None.
        retry: the members of its retry policy, or None.
    """

    bindings: tuple[Binding, ...]
    script: str | None
    entry_point: str
    off: str | None
    retry: Mapping[str, Any] | None


class InvalidFunctionJson(Exception):
    """Raised by `read_function_json` if the file cannot be used.

    Attributes:
        line: the line that is wrong, counted from 1.
        bindings: those that could be read all the same, to tell what kind of function it was to be.
    """

    def __init__(self, text: str, line: int = 1, bindings: tuple[Binding, ...] = ()) -> None:
        super().__init__(text)
        self.line = line
        self.bindings = bindings


def read_function_json(path: Path, environ: Mapping[str, str]) -> FunctionJson:
    """The function.json at `path`.

    Args:
        environ: settings, of which `disabled` may name one.

    Raises:
        InvalidFunctionJson: it cannot be read, or breaks a rule.
    """
    try:
        text = path.read_text("utf-8-sig")
        data = json.loads(strip_json_comments(text))
    except json.JSONDecodeError as error:
        raise InvalidFunctionJson(f"is not JSON: {error.msg} in line {error.lineno}", error.lineno) from error
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidFunctionJson(f"cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise InvalidFunctionJson('has to be one JSON object, with the member "bindings"')
    return FunctionJson(
        bindings=_bindings(data, text),
        script=_text_of(data, "scriptFile", text),
        entry_point=_text_of(data, "entryPoint", text) or DEFAULT_ENTRY_POINT,
        off=_off(data, environ),
        retry=None if member(data, "retry") is None else as_object(member(data, "retry")),
    )


def _bindings(data: Any, text: str) -> tuple[Binding, ...]:
    entries = member(data, "bindings")
    if not isinstance(entries, list) or not entries:
        line = _line_of(text, "bindings")
        raise InvalidFunctionJson('At least one binding must be declared: "bindings" has to list them.', line)
    found = tuple(binding_of(_members(each)) for each in cast("list[Any]", entries))
    for each in found:
        problem = _problem_of(each)
        if problem is not None:
            raise InvalidFunctionJson(problem, _line_of(text, _written(each)), found)
    names = [each.name.casefold() for each in found]
    twice = next((each.name for index, each in enumerate(found) if each.name.casefold() in names[:index]), None)
    if twice is not None:
        reason = f"Multiple bindings with name '{twice}' discovered. Binding names must be unique."
        raise InvalidFunctionJson(reason, _line_of(text, twice), found)
    triggers = [each for each in found if each.is_trigger]
    if len(triggers) != 1:
        reason = (
            f"Multiple trigger bindings defined. A function can only have a single trigger binding; this one has "
            f"{', '.join(each.kind for each in triggers)}."
            if triggers
            else "No trigger binding specified. A function must have a trigger input binding."
        )
        raise InvalidFunctionJson(reason, _line_of(text, triggers[-1].kind if triggers else "bindings"), found)
    return found


def _members(entry: Any) -> dict[str, Any]:
    """The members of a binding, with known names and the type in the spelling of the official host."""
    members = {_MEMBERS.get(name.casefold(), name): value for name, value in as_object(entry).items()}
    kind = members.get("type")
    if isinstance(kind, str):
        members["type"] = _KINDS.get(kind.casefold(), kind)
    return members


def _problem_of(binding: Binding) -> str | None:
    """What is wrong with one binding, or None."""
    name, kind = binding.text("name"), binding.text("type")
    direction = str(binding.members.get("direction", "in")).casefold()
    if kind is None:
        return f'the binding {name or "without a name"} has no "type"'
    if name is None:
        return f"The binding name is invalid. Please assign a valid name to the {kind} binding."
    if kind not in BINDING_KINDS:
        close = get_close_matches(kind.casefold(), _KINDS, 1, cutoff=0.6)
        hint = f"; did you mean  {_KINDS[close[0]]}?" if close else "."
        return f"The binding type(s) '{kind}' were not found in the configured extension bundle{hint}"
    if direction == "inout":
        return f'"inout" bindings are not supported: give {name} the direction "in" or "out"'
    if direction not in ("in", "out"):
        return f'the direction of {name} has to be "in" or "out", not "{direction}"'
    methods = cast("Any", binding.members.get("methods") or [])
    if not isinstance(methods, list) or not all(isinstance(each, str) for each in cast("list[Any]", methods)):
        return f'the methods of {name} have to be a list of texts, such as ["get", "post"]'
    if binding.is_out and (binding.is_trigger or kind in CLIENT_KINDS):
        return f'the {kind} {name} has to have the direction "in"'
    return None


def _written(binding: Binding) -> str:
    """The text in the file by which a binding is found there."""
    return str(binding.members.get("name") or binding.members.get("type") or "bindings")


def _text_of(data: Any, name: str, text: str) -> str | None:
    value = member(data, name)
    if value is None or isinstance(value, str):
        return value or None
    raise InvalidFunctionJson(f'"{name}" has to be a text', _line_of(text, name))


def _off(data: Any, environ: Mapping[str, str]) -> str | None:
    """Why the file itself switches its function off, or None."""
    disabled = member(data, "disabled")
    if disabled is True:
        return f'"disabled" in {FUNCTION_JSON}'
    if isinstance(disabled, str):
        setting = disabled.strip("%")
        value = {name.casefold(): value for name, value in environ.items()}.get(setting.casefold(), setting)
        if value.strip().casefold() in ("true", "1"):
            return f'"disabled" in {FUNCTION_JSON} asks for {setting}, which is {value}'
    return f'"excluded" in {FUNCTION_JSON}' if member(data, "excluded") is True else None


def _line_of(text: str, value: str) -> int:
    """The first line with a JSON text of that value."""
    before, found, _ = text.partition(json.dumps(value, ensure_ascii=False))
    return before.count("\n") + 1 if found else 1
