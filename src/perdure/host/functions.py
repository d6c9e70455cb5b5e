"""The app's functions: which of them run here, and what is wrong with the rest.

Rule 1: what is wrong with one function puts that function in error; what makes the app ambiguous refuses the app.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from azure.durable_functions.client import DurableOrchestrationClient
from azure.durable_functions.entity import Entity
from azure.durable_functions.sync_client import SyncDurableOrchestrationClient
from msgspec import Struct

from perdure.core.conversion import annotated_type
from perdure.core.cursor import OrchestrationCursor
from perdure.errors import AppError
from perdure.host.app_folder import shown_file
from perdure.host.bindings import (
    RETURN,
    Binding,
    InvocationContext,
    bindings_of,
    parameters_of,
    problem_of,
    refused_on_azure,
    wants_context,
)
from perdure.host.invoke import Activity, EntityRunner
from perdure.host.routing import ALL_METHODS, InvalidRouteError, RouteTemplate
from perdure.host.user_code import is_async

_FUNCTION_NAME = re.compile(r"[a-z][a-z0-9_\-]{0,127}\Z", re.IGNORECASE)
_SETTING = re.compile(r"%([^%]+)%")

_DURABLE_KINDS = {
    "orchestrationTrigger": ("orchestrator", "orchestration"),
    "activityTrigger": ("activity", "activity"),
    "entityTrigger": ("entity", "entityName"),
}
_CLIENT_KINDS = frozenset({"durableClient", "orchestrationClient"})


class Source(Struct, frozen=True):
    """Where a function stands; `file` is relative to the app folder if it is in it."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class HttpFunction(Struct, frozen=True):
    """A function behind an HTTP trigger.

    Attributes:
        request_name: the parameter that gets the request.
        response_name: the out parameter that takes the response, or None if it is returned.
        client_names: the parameters that get a durable client.
        wants_context: its parameter `context` gets the invocation's context.
        methods: those it serves, or None for all.
    """

    name: str
    function: Callable[..., Any]
    request_name: str
    response_name: str | None
    client_names: tuple[str, ...]
    wants_context: bool
    template: RouteTemplate
    methods: tuple[str, ...] | None


class Listing(Struct, frozen=True):
    """One function as the start screen shows it.

    Attributes:
        kind: "HTTP", "Orchestrator", "Activity", "Entity", or the name of its trigger.
        route: for HTTP, the route with its prefix.
        note: why it does not run, or None if it does.
        is_error: the note is about a mistake, not about a kind of function that this host does not serve.
    """

    kind: str
    name: str
    source: Source
    route: str | None = None
    methods: tuple[str, ...] | None = None
    note: str | None = None
    is_error: bool = False


class FunctionIndex:
    """Takes an app's functions one by one and sorts them.

    Attributes:
        orchestrators, activities: what runs, by registered name.
        http: the functions behind HTTP triggers that run.
        listings: every function there is.
        warnings: what works here, but not on Azure, or is never called.
        users_functions: the bare functions of orchestrators and activities that run.

    Args:
        folder: the app's.
        route_prefix: what stands before the routes, without slashes.
        disabled: why a function is switched off, by its name, or None.
        hub: the task hub's name.
        resolved: a binding's value with its %SETTING%s replaced.
        client: makes the durable client of an activity, while the host runs.
    """

    def __init__(
        self,
        folder: Path,
        route_prefix: str,
        disabled: Callable[[str], str | None],
        hub: str,
        resolved: Callable[[str], str],
        client: Callable[[], DurableOrchestrationClient],
    ) -> None:
        self.orchestrators: dict[str, Callable[[OrchestrationCursor], Any]] = {}
        self.activities: dict[str, Activity] = {}
        self.entities: dict[str, EntityRunner] = {}
        self.http: list[HttpFunction] = []
        self.listings: list[Listing] = []
        self.warnings: list[str] = []
        self.users_functions: list[Callable[..., Any]] = []
        self._folder = folder
        self._route_prefix = route_prefix
        self._disabled = disabled
        self._hub = hub
        self._resolved = resolved
        self._client = client
        self._taken: dict[tuple[str, str], tuple[str, Source]] = {}

    def add(self, built: Any) -> None:
        """Sort one built function of `azure.functions`."""
        name: str = built.get_function_name()
        bindings = bindings_of(built)
        trigger: dict[str, Any] = built.get_trigger().get_dict_repr()
        kind = str(trigger.get("type"))
        function: Callable[..., Any] = built.get_user_function()
        source = source_of(function, self._folder)
        if kind in _DURABLE_KINDS:
            shown, override = _DURABLE_KINDS[kind]
            durable = next(each for each in bindings if each.kind == kind)
            registered = durable.text(override) or name
            listing = Listing(shown.capitalize(), registered, source)
            self._claim(shown, registered, source)
            self._add_durable(shown, registered, durable, function, bindings, self._checked(listing, name))
        elif kind == "httpTrigger":
            self._claim("function", name, source)
            self._add_http(name, function, bindings, source)
        else:
            reason = f"this version does not serve a {kind}  (DF110)"
            self.listings.append(Listing(kind.removesuffix("Trigger").capitalize(), name, source, note=reason))

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
        if not _FUNCTION_NAME.match(function_name) or function_name.casefold() == "host":
            return _noted(listing, f"'{function_name}' is not a valid function name.", True)
        return listing

    def _add_durable(
        self,
        kind: str,
        name: str,
        binding: Binding,
        function: Callable[..., Any],
        bindings: list[Binding],
        listing: Listing,
    ) -> None:
        if listing.note is None:
            others = [each.kind for each in bindings if each is not binding and each.kind not in _CLIENT_KINDS]
            other_hub = self._other_hub(bindings)
            if others:
                listing = _noted(listing, f"this version does not serve a {others[0]} binding  (DF110)")
            elif other_hub is not None:
                listing = _noted(listing, f"cannot load the {name} function: {other_hub}", True)
            elif kind == "orchestrator":
                listing = self._add_orchestrator(name, function, listing)
            elif kind == "entity":
                listing = self._add_entity(name, function, listing)
            else:
                listing = self._add_activity(name, binding, function, bindings, listing)
        self.listings.append(listing)

    def _add_orchestrator(self, name: str, function: Callable[..., Any], listing: Listing) -> Listing:
        orchestrator: Callable[..., Any] = getattr(function, "orchestrator_function", function)
        try:
            inspect.signature(orchestrator).bind(None)
        except TypeError:
            text = f"an orchestrator takes one parameter, its context, but this is  {_signature_text(orchestrator)}"
            return _noted(listing, f"cannot load the {name} function: {text}", True)
        self.users_functions.append(orchestrator)
        self.orchestrators[name] = function
        return listing

    def _add_entity(self, name: str, function: Callable[..., Any], listing: Listing) -> Listing:
        entity = getattr(function, "entity", None)
        if not isinstance(entity, Entity):
            text = "an entity is what  @app.entity_trigger  or  df.Entity.create  makes"
            return _noted(listing, f"cannot load the {name} function: {text}", True)
        self.users_functions.append(entity.fn)
        self.entities[name] = entity
        return listing

    def _add_activity(
        self, name: str, binding: Binding, function: Callable[..., Any], bindings: list[Binding], listing: Listing
    ) -> Listing:
        parameters = parameters_of(function)
        problem = problem_of(bindings, parameters)
        if problem is not None:
            return _noted(
                listing, f"cannot load the {name} function: {problem}{_did_you_mean(bindings, parameters)}", True
            )
        self._warn(listing, bindings, function)
        self.users_functions.append(inspect.unwrap(function))
        given: dict[str, Callable[[], Any]] = {
            each.name: partial(client_for, function, self._client) for each in bindings if each.kind in _CLIENT_KINDS
        }
        if wants_context(bindings, parameters):
            given["context"] = partial(InvocationContext, name, str(self._folder))
        if given:
            function = _with(function, given)
        input_type = annotated_type(parameters.annotations.get(binding.name), name)
        self.activities[name] = Activity(name, function, binding.name, input_type)
        return listing

    def _add_http(self, name: str, function: Callable[..., Any], bindings: list[Binding], source: Source) -> None:
        trigger = next(each for each in bindings if each.kind == "httpTrigger")
        route = str(trigger.members.get("route") or "").strip("/")
        full = "/".join(each for each in (self._route_prefix, route) if each)
        methods = tuple(str(each).upper() for each in trigger.members.get("methods") or ()) or None
        listing = self._checked(Listing("HTTP", name, source, route=full, methods=methods), name)
        if listing.note is None:
            listing = self._add_checked_http(name, function, bindings, listing)
        self.listings.append(listing)

    def _add_checked_http(
        self, name: str, function: Callable[..., Any], bindings: list[Binding], listing: Listing
    ) -> Listing:
        foreign = [each for each in bindings if each.kind not in {"httpTrigger", "http", *_CLIENT_KINDS}]
        if foreign:
            return _noted(listing, f"this version does not serve a {foreign[0].kind} binding  (DF110)")
        other_hub = self._other_hub(bindings)
        if other_hub is not None:
            return _noted(listing, f"cannot load the {name} function: {other_hub}", True)
        parameters = parameters_of(function)
        problem = problem_of(bindings, parameters)
        if problem is not None:
            return _noted(
                listing, f"cannot load the {name} function: {problem}{_did_you_mean(bindings, parameters)}", True
            )
        unknown = set(listing.methods or ()) - set(ALL_METHODS)
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
                request_name=next(each.name for each in bindings if each.kind == "httpTrigger"),
                response_name=outs[0] if outs else None,
                client_names=tuple(each.name for each in bindings if each.kind in _CLIENT_KINDS),
                wants_context=wants_context(bindings, parameters),
                template=template,
                methods=listing.methods,
            )
        )
        return listing

    def _other_hub(self, bindings: list[Binding]) -> str | None:
        """Why a client binding cannot be served that names a task hub, or None."""
        for each in bindings:
            asked = each.text("taskHub") if each.kind in _CLIENT_KINDS else None
            hub = self._hub if asked is None else self._resolved(asked)
            if hub.casefold() != self._hub.casefold():
                return (
                    f"its client is to be of task hub '{hub}', but this host runs task hub '{self._hub}' and no other. "
                    f"Leave task_hub out, or start with  --hub {hub}"
                )
        return None

    def _warn(self, listing: Listing, bindings: list[Binding], function: Callable[..., Any]) -> None:
        for each in refused_on_azure(bindings, parameters_of(function)):
            self.warnings.append(f"{listing.source}: {listing.name} works here, but Azure would not load it: {each}")


def _noted(listing: Listing, note: str, is_error: bool = False) -> Listing:
    return Listing(listing.kind, listing.name, listing.source, listing.route, listing.methods, note, is_error)


def _did_you_mean(bindings: list[Binding], parameters: Any) -> str:
    """A hint if exactly one binding and one parameter are left over: most likely they belong together."""
    bound = {each.name for each in bindings if each.name != RETURN}
    spare = sorted(set(parameters.annotations) - bound - {"context"})
    lost = sorted(bound - set(parameters.annotations))
    return f'.  Did you mean "{spare[0]}" in the decorator?  (DF104)' if len(spare) == len(lost) == 1 else ""


def client_for(
    function: Callable[..., Any], client: Callable[[], DurableOrchestrationClient]
) -> DurableOrchestrationClient | SyncDurableOrchestrationClient:
    """The client that a function gets: one to await, or one for functions that cannot."""
    return client() if is_async(function) else SyncDurableOrchestrationClient(client())


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
