"""The app's functions: which of them run here, and what is wrong with the rest.

Rule 1: what is wrong with one function puts that function in error; what makes the app ambiguous refuses the app.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import tzinfo
from functools import partial
from pathlib import Path
from typing import Any

from azure.functions import HttpMethod
from msgspec import Struct
from msgspec.structs import replace

from perdure.core.conversion import annotated_type
from perdure.core.cursor import OrchestrationCursor
from perdure.errors import AppError
from perdure.host.app.app_folder import shown_file
from perdure.host.app.bindings import (
    RETURN,
    Binding,
    parameters_of,
    problem_of,
    refused_on_azure,
    wants_context,
)
from perdure.host.app.unserved import inactive_binding, inactive_trigger
from perdure.host.http.extension import takes_extension_request
from perdure.host.http.routing import ALL_METHODS, InvalidRouteError, RouteTemplate
from perdure.host.http.web_app import WebApp, web_app_of
from perdure.host.invocation_context import InvocationContext
from perdure.host.invoke import Activity, EntityRunner
from perdure.host.sdk.sdk import Sdk
from perdure.host.timers.retry_policy import FunctionRetryPolicy, InvalidRetryError
from perdure.host.timers.schedule import InvalidScheduleError, Schedule, parse_schedule
from perdure.host.timers.trigger import TimerFunction, is_set, problem_of_timer
from perdure.host.user_code import is_async

_FUNCTION_NAME = re.compile(r"[a-z][a-z0-9_\-]{0,127}\Z", re.IGNORECASE)
_SETTING = re.compile(r"%([^%]+)%")

_DURABLE_KINDS = {
    "orchestrationTrigger": ("orchestrator", "orchestration"),
    "activityTrigger": ("activity", "activity"),
    "entityTrigger": ("entity", "entityName"),
}
# Later releases of azure.functions know more of them than those that a function without methods serves.
_METHODS = frozenset({*ALL_METHODS, *(each.value for each in HttpMethod)})


class Source(Struct, frozen=True):
    """Where a function stands; `file` is relative to the app folder if it is in it."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Declaration(Struct, frozen=True):
    """A function of the app and what it is bound to, whether decorators or a function.json say so.

    Attributes:
        name: the function's own; a trigger may register it under another.
        function: what is to be called.
        source: where it stands.
        directory: what `func.Context.function_directory` is.
        client_texts: the parameters that get a client binding as its JSON text.
        retry: the members of its retry policy, as the decorator or the file has them, or None.
    """

    name: str
    bindings: Sequence[Binding]
    function: Callable[..., Any]
    source: Source
    directory: Path
    client_texts: frozenset[str] = frozenset()
    retry: Mapping[str, Any] | None = None

    @property
    def trigger(self) -> Binding:
        """The binding that starts it."""
        return next(each for each in self.bindings if each.is_trigger)


class Unloaded(Struct, frozen=True):
    """A function of the app whose code is not there to be called.

    Attributes:
        bindings: as far as they could be read.
        note: why its code is not loaded.
        is_error: that is a mistake; otherwise it was asked for.
        details: lines that say more, such as a traceback.
    """

    name: str
    bindings: Sequence[Binding]
    source: Source
    note: str
    is_error: bool
    details: tuple[str, ...] = ()


class HttpFunction(Struct, frozen=True):
    """A function behind an HTTP trigger.

    Attributes:
        directory: what its context has as `function_directory`.
        request_name: the parameter that gets the request.
        response_name: the out parameter that takes the response, or None if it is returned.
        client_names: the parameters that get a durable client.
        client_texts: those of them that get it as the JSON text of the binding.
        wants_context: its parameter `context` gets the invocation's context.
        methods: those it serves, or None for all.
        level: whom it asks for a key: "anonymous", "function" or "admin".
        web_app: the application that answers in its place, or None.
        takes_extension_request: it gets requests of the app's web extension, and gives its responses.
    """

    name: str
    function: Callable[..., Any]
    directory: str
    request_name: str
    response_name: str | None
    client_names: tuple[str, ...]
    wants_context: bool
    template: RouteTemplate
    methods: tuple[str, ...] | None
    client_texts: frozenset[str] = frozenset()
    level: str = "function"
    web_app: WebApp | None = None
    takes_extension_request: bool = False


class Listing(Struct, frozen=True):
    """One function as the start screen shows it.

    Attributes:
        kind: "HTTP", "Orchestrator", "Activity", "Entity", or the name of its trigger.
        route: for HTTP, the route with its prefix.
        note: why it does not run, or None if it does.
        is_error: the note is about a mistake, not about a kind of function that this host does not serve.
        details: lines that say more about the mistake, such as a traceback.
        schedule: for a timer that runs.
    """

    kind: str
    name: str
    source: Source
    route: str | None = None
    methods: tuple[str, ...] | None = None
    note: str | None = None
    is_error: bool = False
    details: tuple[str, ...] = ()
    schedule: Schedule | None = None


class FunctionIndex:
    """Takes an app's functions one by one and sorts them.

    Attributes:
        orchestrators, activities: what runs, by registered name.
        http: the functions behind HTTP triggers that run.
        timers: the functions behind timer triggers that run.
        listings: every function there is.
        warnings: what works here, but not on Azure, or is never called.
        users_functions: the bare functions of orchestrators and activities that run.
        declared: every function there is, as the app declares it.

    Args:
        folder: the app's.
        route_prefix: what stands before the routes, without slashes.
        disabled: why a function is switched off, by its name, or None.
        hub: the task hub's name.
        resolved: a binding's value with its %SETTING%s replaced.
        sdk: makes orchestrators and entities of functions.
        client: what an activity gets for a client binding while the host runs, and whether it wants that as text.
        zone: the time zone whose clocks timers go by.
    """

    def __init__(
        self,
        folder: Path,
        route_prefix: str,
        disabled: Callable[[str], str | None],
        hub: str,
        resolved: Callable[[str], str],
        sdk: Sdk,
        client: Callable[[Callable[..., Any], bool], Any],
        zone: Callable[[], tzinfo],
    ) -> None:
        self.orchestrators: dict[str, Callable[[OrchestrationCursor], Any]] = {}
        self.activities: dict[str, Activity] = {}
        self.entities: dict[str, EntityRunner] = {}
        self.http: list[HttpFunction] = []
        self.timers: list[TimerFunction] = []
        self.listings: list[Listing] = []
        self.warnings: list[str] = []
        self.users_functions: list[Callable[..., Any]] = []
        self.declared: list[Declaration | Unloaded] = []
        self._folder = folder
        self._route_prefix = route_prefix
        self._disabled = disabled
        self._hub = hub
        self._resolved = resolved
        self._sdk = sdk
        self._client = client
        self._zone = zone
        self._taken: dict[tuple[str, str], tuple[str, Source]] = {}

    def add(self, declaration: Declaration) -> None:
        """Sort one function of the app, which has one trigger."""
        self.declared.append(declaration)
        name, source, trigger = declaration.name, declaration.source, declaration.trigger
        kind = trigger.kind
        if kind in _DURABLE_KINDS:
            shown, override = _DURABLE_KINDS[kind]
            registered = trigger.text(override) or name
            listing = Listing(shown.capitalize(), registered, source)
            self._claim(shown, registered, source)
            self._add_durable(shown, registered, declaration, self._checked(listing, name))
        elif kind == "httpTrigger":
            self._claim("function", name, source)
            self._add_http(declaration)
        elif kind == "timerTrigger":
            self._claim("function", name, source)
            self._add_timer(declaration)
        else:
            listing = Listing(_shown_kind(kind), name, source)
            off = self._disabled(name)
            self.listings.append(_noted(listing, inactive_trigger(kind) if off is None else f"disabled: {off}"))

    def add_unloaded(self, function: Unloaded) -> None:
        """List one function of the app that cannot run."""
        self.declared.append(function)
        trigger = next((each for each in function.bindings if each.is_trigger), None)
        name, kind, route, methods = function.name, "Function", None, None
        if trigger is not None and trigger.kind in _DURABLE_KINDS:
            shown, override = _DURABLE_KINDS[trigger.kind]
            name, kind = trigger.text(override) or name, shown.capitalize()
        elif trigger is not None and trigger.kind == "httpTrigger":
            kind, route, methods = "HTTP", self._full_route(name, trigger), _methods_of(trigger)
        elif trigger is not None:
            kind = _shown_kind(trigger.kind)
        self.listings.append(
            Listing(kind, name, function.source, route, methods, function.note, function.is_error, function.details)
        )

    def _claim(self, kind: str, name: str, source: Source) -> None:
        taken = self._taken.setdefault((kind, name.casefold()), (name, source))
        if taken[1] is not source:
            raise AppError(
                "DF112",
                f"Two {kind} functions have the name '{name}'" if kind != "function" else f"Two functions are '{name}'",
                f"{taken[1]}  {taken[0]}",
                f"{source}  {name}",
                "Names are compared without case. Rename one of them.",
            )

    def _checked(self, listing: Listing, function_name: str) -> Listing:
        """The listing, with a note if the function is off or its name cannot be used."""
        off = self._disabled(function_name)
        if off is not None:
            return _noted(listing, f"disabled: {off}")
        if listing.name.startswith("@"):
            return _noted(listing, f"'{listing.name}' is not a valid function name: it must not begin with @", True)
        if not is_function_name(function_name):
            return _noted(listing, f"'{function_name}' is not a valid function name.", True)
        return listing

    def _add_durable(self, kind: str, name: str, declaration: Declaration, listing: Listing) -> None:
        if listing.note is None:
            function, bindings, binding = declaration.function, declaration.bindings, declaration.trigger
            others = [each for each in bindings if each is not binding and not each.is_client]
            other_hub = self._other_hub(bindings)
            if others:
                listing = _noted(listing, inactive_binding(others[0].kind, others[0].name))
            elif other_hub is not None:
                listing = _noted(listing, f"cannot load the {name} function: {other_hub}", True)
            elif kind == "orchestrator":
                listing = self._add_orchestrator(name, function, listing)
            elif kind == "entity":
                listing = self._add_entity(name, function, listing)
            else:
                listing = self._add_activity(name, declaration, listing)
        self.listings.append(listing)

    def _add_orchestrator(self, name: str, function: Callable[..., Any], listing: Listing) -> Listing:
        orchestrator: Callable[..., Any] = getattr(function, "orchestrator_function", function)
        try:
            inspect.signature(orchestrator).bind(None)
        except TypeError:
            text = f"an orchestrator takes one parameter, its context, but this is  {_signature_text(orchestrator)}"
            return _noted(listing, f"cannot load the {name} function: {text}", True)
        self.users_functions.append(orchestrator)
        self.orchestrators[name] = self._sdk.orchestrator(function)
        return listing

    def _add_entity(self, name: str, function: Callable[..., Any], listing: Listing) -> Listing:
        self.entities[name] = self._sdk.entity(function)
        self.users_functions.append(getattr(function, "entity_function", function))
        return listing

    def _add_activity(self, name: str, declaration: Declaration, listing: Listing) -> Listing:
        function, bindings, binding = declaration.function, declaration.bindings, declaration.trigger
        parameters = parameters_of(function)
        problem = problem_of(bindings, parameters)
        if problem is not None:
            return _noted(
                listing, f"cannot load the {name} function: {problem}{_did_you_mean(bindings, parameters)}", True
            )
        self._warn(listing, bindings, function)
        self.users_functions.append(inspect.unwrap(function))
        given = self._clients(declaration)
        if wants_context(bindings, parameters):
            given["context"] = partial(InvocationContext, declaration.name, str(declaration.directory))
        if given:
            function = _with(function, given)
        input_type = annotated_type(parameters.annotations.get(binding.name), name)
        self.activities[name] = Activity(name, function, binding.name, input_type)
        return listing

    def _clients(self, declaration: Declaration) -> dict[str, Callable[[], Any]]:
        """What makes the clients that a function gets, by parameter."""
        return {
            each.name: partial(self._client, declaration.function, each.name in declaration.client_texts)
            for each in declaration.bindings
            if each.is_client
        }

    def _add_timer(self, declaration: Declaration) -> None:
        listing = self._checked(Listing("Timer", declaration.name, declaration.source), declaration.name)
        if listing.note is None:
            listing = self._add_checked_timer(declaration, listing)
        self.listings.append(listing)

    def _add_checked_timer(self, declaration: Declaration, listing: Listing) -> Listing:
        name, function, bindings = declaration.name, declaration.function, declaration.bindings
        trigger = declaration.trigger
        foreign = [each for each in bindings if each is not trigger and not each.is_client]
        if foreign:
            return _noted(listing, inactive_binding(foreign[0].kind, foreign[0].name))
        parameters = parameters_of(function)
        problem = problem_of(bindings, parameters)
        if problem is not None:
            problem += _did_you_mean(bindings, parameters)
        problem = problem or self._other_hub(bindings) or problem_of_timer(trigger, parameters)
        if problem is not None:
            return _noted(listing, f"cannot load the {name} function: {problem}", True)
        try:
            schedule = parse_schedule(trigger.text("schedule") or "", self._resolved, self._zone)
            retry = None if declaration.retry is None else FunctionRetryPolicy.parse(declaration.retry)
        except (InvalidScheduleError, InvalidRetryError) as error:
            return _noted(listing, f"cannot load the {name} function: {error}  (DF145)", True)
        self._warn(listing, bindings, function)
        given = self._clients(declaration)
        self.timers.append(
            TimerFunction(
                name=name,
                function=_with(function, given) if given else function,
                request_name=trigger.name,
                wants_context=wants_context(bindings, parameters),
                directory=str(declaration.directory),
                schedule=schedule,
                uses_monitor=is_set(trigger, "useMonitor", True),
                runs_on_startup=is_set(trigger, "runOnStartup", False),
                retry=retry,
            )
        )
        return replace(listing, schedule=schedule)

    def _add_http(self, declaration: Declaration) -> None:
        name, trigger = declaration.name, declaration.trigger
        full, methods = self._full_route(name, trigger), _methods_of(trigger)
        listing = self._checked(Listing("HTTP", name, declaration.source, route=full, methods=methods), name)
        if listing.note is None:
            listing = self._add_checked_http(declaration, listing)
        self.listings.append(listing)

    def _full_route(self, name: str, trigger: Binding) -> str:
        route = trigger.members.get("route")
        route = name if route is None else str(route).strip("/")
        return "/".join(each for each in (self._route_prefix, route) if each)

    def _add_checked_http(self, declaration: Declaration, listing: Listing) -> Listing:
        name, function, bindings = declaration.name, declaration.function, declaration.bindings
        trigger = declaration.trigger
        foreign = [each for each in bindings if each.kind not in ("httpTrigger", "http") and not each.is_client]
        if foreign:
            return _noted(listing, inactive_binding(foreign[0].kind, foreign[0].name))
        other_hub = self._other_hub(bindings)
        if other_hub is not None:
            return _noted(listing, f"cannot load the {name} function: {other_hub}", True)
        parameters = parameters_of(function)
        problem = problem_of(bindings, parameters)
        if problem is not None:
            return _noted(
                listing, f"cannot load the {name} function: {problem}{_did_you_mean(bindings, parameters)}", True
            )
        unknown = set(listing.methods or ()) - _METHODS
        if unknown:
            return _noted(
                listing, f"cannot load the {name} function: {', '.join(sorted(unknown))} is not a method", True
            )
        try:
            template = RouteTemplate.parse(listing.route or "")
        except InvalidRouteError as error:
            return _noted(listing, f"cannot load the {name} function: {error}", True)
        if template.text.casefold().startswith(("admin/", "runtime/webhooks/")):
            self.warnings.append(f"{listing.source}: {name} is never called: /{template.text} belongs to the host")
        self._warn(listing, bindings, function)
        outs = [each.name for each in bindings if each.kind == "http" and each.name != RETURN]
        self.http.append(
            HttpFunction(
                name=name,
                function=function,
                directory=str(declaration.directory),
                request_name=trigger.name,
                response_name=outs[0] if outs else None,
                client_names=tuple(each.name for each in bindings if each.is_client),
                client_texts=declaration.client_texts,
                wants_context=wants_context(bindings, parameters),
                template=template,
                methods=listing.methods,
                level=str(trigger.members.get("authLevel") or "function").casefold(),
                web_app=web_app_of(function),
                takes_extension_request=takes_extension_request(
                    parameters.annotations.get(trigger.name, inspect.Parameter.empty)
                ),
            )
        )
        return listing

    def _other_hub(self, bindings: Sequence[Binding]) -> str | None:
        """Why a client binding cannot be served that names a task hub, or None."""
        for each in bindings:
            asked = each.text("taskHub") if each.is_client else None
            hub = self._hub if asked is None else self._resolved(asked)
            if hub.casefold() != self._hub.casefold():
                return (
                    f"its client is to be of task hub '{hub}', but this host runs task hub '{self._hub}' and no other. "
                    f"Leave task_hub out, or start with  --hub {hub}"
                )
        return None

    def _warn(self, listing: Listing, bindings: Sequence[Binding], function: Callable[..., Any]) -> None:
        for each in refused_on_azure(function, bindings):
            self.warnings.append(f"{listing.source}: {listing.name} works here, but Azure would not load it: {each}")


def _noted(listing: Listing, note: str, is_error: bool = False) -> Listing:
    return Listing(listing.kind, listing.name, listing.source, listing.route, listing.methods, note, is_error)


def _shown_kind(trigger: str) -> str:
    """What the start screen calls functions behind a kind of trigger."""
    kind = trigger.removesuffix("Trigger") or trigger
    return kind[:1].upper() + kind[1:]


def _methods_of(trigger: Binding) -> tuple[str, ...] | None:
    return tuple(str(each).upper() for each in trigger.members.get("methods") or ()) or None


def is_function_name(name: str) -> bool:
    """Whether a function may have this name."""
    return _FUNCTION_NAME.match(name) is not None and name.casefold() != "host"


def _did_you_mean(bindings: Sequence[Binding], parameters: Any) -> str:
    """A hint if exactly one binding and one parameter are left over: most likely they belong together."""
    bound = {each.name for each in bindings if each.name != RETURN}
    spare = sorted(set(parameters.annotations) - bound - {"context"})
    lost = sorted(bound - set(parameters.annotations))
    return f'.  Did you mean "{spare[0]}" as the name of the binding?  (DF104)' if len(spare) == len(lost) == 1 else ""


def _with(function: Callable[..., Any], given: Mapping[str, Callable[[], Any]]) -> Callable[..., Any]:
    """The function with some parameters given anew for every call."""
    if is_async(function):

        async def call_async(**kwargs: Any) -> Any:
            return await function(**kwargs, **{name: make() for name, make in given.items()})

        return call_async

    def call(**kwargs: Any) -> Any:
        return function(**kwargs, **{name: make() for name, make in given.items()})

    return call


def _users_function(function: Callable[..., Any]) -> Callable[..., Any]:
    for attribute in ("orchestrator_function", "entity_function", "client_function"):
        function = getattr(function, attribute, function)
    return inspect.unwrap(function)


def source_of(function: Callable[..., Any], folder: Path) -> Source:
    """Where a decorated function stands."""
    code = getattr(_users_function(function), "__code__", None)
    if code is None:
        return Source("?", 0)
    return Source(shown_file(code.co_filename, folder), code.co_firstlineno)


def _signature_text(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__name__', 'it')}{inspect.signature(function)}"


def resolved_by(environ: Mapping[str, str]) -> Callable[[str], str]:
    """Replaces each %SETTING% by its value; one that is not set stays as it is."""
    return lambda text: _SETTING.sub(lambda found: environ.get(found[1], found[0]), text)


def disabled_by(environ: Mapping[str, str], only: Sequence[str] | None) -> Callable[[str], str | None]:
    """Tells by its name why a function is switched off, or None.

    Args:
        only: names of the only functions to run, or None for all.
    """
    allowed = None if only is None else {each.casefold() for each in only}
    switches = {name.casefold().replace("__", "."): value for name, value in environ.items()}

    def reason(name: str) -> str | None:
        if switches.get(f"azurewebjobs.{name}.disabled".casefold(), "").strip().casefold() in ("true", "1"):
            return f"AzureWebJobs.{name}.Disabled is set"
        if allowed is not None and name.casefold() not in allowed:
            return '"functions" in host.json leaves it out'
        return None

    return reason
