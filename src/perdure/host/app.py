"""An app folder to a `LoadedApp`: what it defines, what of it runs here, and what is wrong with the rest.

Rule 1: the user's code is imported exactly as the official worker imports it, and its errors are shown as its own.
Rule 2: what is wrong with one function puts that function in error; what makes the app ambiguous refuses the app.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import azure.functions as func
from azure.functions.decorators.function_app import DecoratorApi, FunctionRegister
from msgspec import Struct

from azure.durable_functions.app import default_blueprint
from perdure.core.codec import payloads
from perdure.core.cursor import OrchestrationCursor
from perdure.errors import AppError
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
from perdure.host.config import HOST_JSON
from perdure.host.environment import describe_interpreter, requirement_hint
from perdure.host.invoke import Activity
from perdure.host.routing import ALL_METHODS, InvalidRouteError, RouteTemplate
from perdure.host.sdk import SDK_ROOT
from perdure.host.tracebacks import users_traceback

DEFAULT_SCRIPT = "function_app.py"
SCRIPT_SETTING = "PYTHON_SCRIPT_FILE_NAME"

# Folders that are searched neither for apps nor for the app's own modules.
NOT_THE_APPS = frozenset({".venv", "venv", "env", "node_modules", ".git", ".python_packages", "site-packages"})

_SCRIPT_NAME = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_\-]*\.py\Z")
_FUNCTION_NAME = re.compile(r"[a-z][a-z0-9_\-]{0,127}\Z", re.IGNORECASE)
_BUILD_ERROR_NAME = re.compile(r"Function (\S+) does not have")

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


class LoadedApp(Struct, frozen=True):
    """A function app, ready to run. Names are those registered; `listings` has every function there is."""

    folder: Path
    script: str
    orchestrators: Mapping[str, Callable[[OrchestrationCursor], Any]]
    activities: Mapping[str, Activity]
    http: Sequence[HttpFunction]
    listings: Sequence[Listing]
    warnings: Sequence[str]


def find_app_folder(asked: Path | None, environ: Mapping[str, str]) -> Path:
    """The folder of the app: `asked`, or else the current one or the nearest above it that has a host.json.

    Raises:
        AppError: there is none.
    """
    script = environ.get(SCRIPT_SETTING, DEFAULT_SCRIPT)
    if asked is not None:
        folder = asked.parent if asked.is_file() else asked
        candidates = [folder.absolute()]
        where = f"{asked}{os.sep}" if not asked.is_file() else str(asked)
    else:
        here = Path.cwd()
        candidates = [here, *here.parents]
        where = f".{os.sep}  and its parents"
    if (candidates[0] / HOST_JSON).exists() or (candidates[0] / script).exists():
        return candidates[0]
    for each in candidates[1:]:
        if (each / HOST_JSON).exists():
            return each
    below = list(_host_json_below(candidates[0]))
    found = f";  found  {', '.join(_shown(each, asked) for each in below)}" if below else ""
    run = [f"Run:  perdure --app {_shown(below[0].parent, asked)}"] if below else []
    raise AppError("DF101", "No Function app here", f"Looked for {HOST_JSON} and {script} in  {where}{found}.", *run)


def load_app(folder: Path, environ: Mapping[str, str], route_prefix: str, only: Sequence[str] | None) -> LoadedApp:
    """Import the app in `folder` and collect its functions. The caller has made `folder` the current directory.

    Args:
        route_prefix: what stands before the routes, without slashes.
        only: names of the only functions to run, or None for all.

    Raises:
        AppError: the app cannot be run.
    """
    script = _script_of(folder, environ)
    _prepare_path(folder)
    module = _imported(folder, script)
    app = _app_object(module, script, folder)
    functions = _built(app, folder)
    if not functions:
        raise AppError(
            "DF103", "The app loaded, but it has no functions", *_no_functions_lines(app, module, folder, script)
        )
    collector = _Collector(folder, route_prefix, _disabled_by(environ, only))
    for each in functions:
        collector.add(each)
    _allow_payload_classes(folder, collector.users_functions)
    return LoadedApp(
        folder=folder,
        script=script,
        orchestrators=collector.orchestrators,
        activities=collector.activities,
        http=collector.http,
        listings=collector.listings,
        warnings=[*collector.warnings, *_unregistered_warnings(app, folder)],
    )


# ---------------------------------------------------------------------- finding and importing


def _host_json_below(folder: Path, depth: int = 2) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for each in entries:
        if depth and each.is_dir() and each.name not in NOT_THE_APPS and not each.name.startswith("."):
            if (each / HOST_JSON).exists():
                yield each / HOST_JSON
            yield from _host_json_below(each, depth - 1)


def _shown(path: Path, asked: Path | None) -> str:
    base = Path.cwd()
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)


def _script_of(folder: Path, environ: Mapping[str, str]) -> str:
    script = environ.get(SCRIPT_SETTING, DEFAULT_SCRIPT)
    if not _SCRIPT_NAME.match(script):
        raise AppError("DF101", f"Invalid file name: {script}", f"{SCRIPT_SETTING} has to name a Python file.")
    if (folder / script).is_file():
        return script
    older = sorted(each.parent.name for each in folder.glob("*/function.json"))
    if older:
        raise AppError(
            "DF106",
            "This app uses the older programming model",
            f"{folder}{os.sep} has no {script}, but folders with function.json: {', '.join(older)}",
            "This version runs apps with decorators only.",
        )
    raise AppError(
        "DF101",
        "No Function app here",
        f"{folder}{os.sep} has {HOST_JSON}, but no {script}.",
        f"If the file has another name:  {SCRIPT_SETTING}=name.py",
    )


def _prepare_path(folder: Path) -> None:
    """Put the app folder behind our SDK and before everything else; add the packages that publishing puts there."""
    root = str(folder)
    rest = [each for each in sys.path if each not in (root, str(SDK_ROOT))]
    sys.path[:] = [str(SDK_ROOT), root, *rest]
    packages = folder / ".python_packages" / "lib" / "site-packages"
    if packages.is_dir() and sys.prefix == sys.base_prefix and str(packages) not in sys.path:
        sys.path.append(str(packages))


def _imported(folder: Path, script: str) -> ModuleType:
    importlib.invalidate_caches()
    try:
        return importlib.import_module(Path(script).stem)
    except AppError:
        raise  # a decorator of ours found the mistake and says it better than a traceback
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # user code: importing an app runs it, and `sys.exit()` there is its mistake too
        raise AppError(
            "DF102",
            f"{script} could not be imported",
            *users_traceback(error).splitlines(),
            *_import_hints(error, folder),
        ) from error


def _import_hints(error: BaseException, folder: Path) -> list[str]:
    hints = [f"Interpreter: {describe_interpreter(folder)}."]
    if isinstance(error, ModuleNotFoundError) and error.name:
        hints = requirement_hint(folder, error.name)
        shadow = folder / error.name.partition(".")[0]
        if shadow.is_dir():
            hints.append(f"The folder {shadow.name}{os.sep} of the app hides an installed package of that name.")
    return hints


def _app_object(module: ModuleType, script: str, folder: Path) -> FunctionRegister:
    found = {id(each): each for each in vars(module).values() if isinstance(each, FunctionRegister)}
    names = [name for name, each in vars(module).items() if isinstance(each, FunctionRegister)]
    if len(found) > 1:
        raise AppError(
            "DF103",
            "The app has more than one app object",
            f"{script} defines {', '.join(names)}.",
            "More than one FunctionApp or other top level function app instances are defined.",
            "Keep one, and make the others Blueprints that it registers.",
        )
    app = next(iter(found.values()), None)
    if app is None:
        app = func.FunctionApp()
        if not _builders_of(default_blueprint):
            lines = _no_functions_lines(app, module, folder, script)
            raise AppError("DF103", "The app loaded, but it has no functions", *lines)
    known = {id(each) for each in _builders_of(app)}
    if any(id(each) not in known for each in _builders_of(default_blueprint)):
        app.register_functions(default_blueprint)
    return app


def _builders_of(container: DecoratorApi) -> list[Any]:
    # The list has no public name, and only `FunctionRegister` has `get_functions`: a blueprint that nobody registered
    # could not be told from an empty one otherwise.
    return list(getattr(container, "_function_builders", ()))


def _built(app: FunctionRegister, folder: Path) -> list[Any]:
    if not _builders_of(app):
        return []
    try:
        return app.get_functions()
    except ValueError as error:
        text = str(error)
        lines = [text]
        named = _BUILD_ERROR_NAME.match(text)
        for each in _builders_of(app):
            if named and each._function.get_function_name() == named[1]:
                lines.append(f"{_source_of(each._function.get_user_function(), folder)}  {named[1]}")
        raise AppError("DF112", "The app's functions cannot be told apart or are incomplete", *lines) from error


# ---------------------------------------------------------------------- nothing found, or not registered


def _no_functions_lines(app: FunctionRegister, module: ModuleType, folder: Path, script: str) -> list[str]:
    lines = [
        f"{file} defines a Blueprint '{name}' ({_functions_text(count)}) that no FunctionApp registers."
        for file, name, count in _unregistered(app, folder)
    ]
    if lines:
        variable = next((name for name, each in vars(module).items() if each is app), None)
        name = next(_unregistered(app, folder))[1]
        after = f"after  {variable} = ..." if variable else "after  app = df.DFApp()"
        return [*lines, f"Add:  {variable or 'app'}.register_functions({name})      {after}"]
    if not any(isinstance(each, FunctionRegister) for each in vars(module).values()):
        return [
            f"Could not find top level function app instances in {script}.",
            "Add:  app = df.DFApp()      and decorate functions with  @app. ...",
        ]
    return [
        f"{script} decorates no function.",
        "Decorators are, for example,  @app.route(...)  and  @app.activity_trigger(...)",
    ]


def _unregistered_warnings(app: FunctionRegister, folder: Path) -> list[str]:
    return [
        f"{file}: the Blueprint '{name}' ({_functions_text(count)}) is not registered: "
        f"add  app.register_functions({name})"
        for file, name, count in _unregistered(app, folder)
    ]


def _unregistered(app: FunctionRegister, folder: Path) -> Iterator[tuple[str, str, int]]:
    """File, variable and number of functions of every blueprint of the app that the app does not have."""
    registered = {id(each) for each in _builders_of(app)}
    seen: set[int] = set()
    for module in _modules_below(folder):
        for name, each in list(vars(module).items()):
            if not isinstance(each, DecoratorApi) or isinstance(each, FunctionRegister) or id(each) in seen:
                continue
            seen.add(id(each))
            builders = _builders_of(each)
            if builders and not any(id(builder) in registered for builder in builders):
                yield _relative(module.__file__ or "", folder), name, len(builders)


def _functions_text(count: int) -> str:
    return f"{count} function{'' if count == 1 else 's'}"


# ---------------------------------------------------------------------- functions


def _disabled_by(environ: Mapping[str, str], only: Sequence[str] | None) -> Callable[[str], str | None]:
    """Why a function is switched off, by its name, or None."""
    allowed = None if only is None else {each.casefold() for each in only}
    switches = {name.casefold().replace("__", "."): value for name, value in environ.items()}

    def reason(name: str) -> str | None:
        if switches.get(f"azurewebjobs.{name}.disabled".casefold(), "").strip().casefold() in ("true", "1"):
            return f"AzureWebJobs.{name}.Disabled is set"
        if allowed is not None and name.casefold() not in allowed:
            return '"functions" in host.json leaves it out'
        return None

    return reason


class _Collector:
    """Takes an app's functions one by one and sorts them."""

    def __init__(self, folder: Path, route_prefix: str, disabled: Callable[[str], str | None]) -> None:
        self.orchestrators: dict[str, Callable[[OrchestrationCursor], Any]] = {}
        self.activities: dict[str, Activity] = {}
        self.http: list[HttpFunction] = []
        self.listings: list[Listing] = []
        self.warnings: list[str] = []
        self.users_functions: list[Callable[..., Any]] = []
        self._folder = folder
        self._route_prefix = route_prefix
        self._disabled = disabled
        self._taken: dict[tuple[str, str], tuple[str, Source]] = {}

    def add(self, built: Any) -> None:
        """Sort one built function of `azure.functions`."""
        name: str = built.get_function_name()
        bindings = bindings_of(built)
        trigger: dict[str, Any] = built.get_trigger().get_dict_repr()
        kind = str(trigger.get("type"))
        function: Callable[..., Any] = built.get_user_function()
        source = _source_of(function, self._folder)
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
        if listing.note is None and kind == "entity":
            listing = _noted(listing, "this version does not run entities  (DF110)")
        if listing.note is None:
            others = [each.kind for each in bindings if each is not binding and each.kind not in _CLIENT_KINDS]
            problem = f"this version does not serve a {others[0]} binding  (DF110)" if others else None
            if problem:
                listing = _noted(listing, problem)
            elif kind == "orchestrator":
                listing = self._add_orchestrator(name, function, listing)
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
        if wants_context(bindings, parameters):
            function = _with_context(function, name, str(self._folder))
        self.activities[name] = Activity(name, function, binding.name)
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


def _with_context(function: Callable[..., Any], name: str, directory: str) -> Callable[..., Any]:
    """The function with its `context` parameter given anew for every call."""
    if inspect.iscoroutinefunction(function):

        async def call_async(**kwargs: Any) -> Any:
            return await function(**kwargs, context=InvocationContext(name, directory))

        return call_async

    def call(**kwargs: Any) -> Any:
        return function(**kwargs, context=InvocationContext(name, directory))

    return call


def _users_function(function: Callable[..., Any]) -> Callable[..., Any]:
    for attribute in ("orchestrator_function", "entity_function", "client_function"):
        function = getattr(function, attribute, function)
    return inspect.unwrap(function)


def _source_of(function: Callable[..., Any], folder: Path) -> Source:
    code = getattr(_users_function(function), "__code__", None)
    if code is None:
        return Source("?", 0)
    return Source(_relative(code.co_filename, folder), code.co_firstlineno)


def _signature_text(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__name__', 'it')}{inspect.signature(function)}"


def _relative(file: str, folder: Path) -> str:
    path = Path(file)
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


# ---------------------------------------------------------------------- classes that payloads may name


def _allow_payload_classes(folder: Path, functions: Iterable[Callable[..., Any]]) -> None:
    """Let payloads become instances of the app's own classes, and of those that its functions' annotations name."""
    for module in _modules_below(folder):
        for each in list(vars(module).values()):
            if isinstance(each, type) and each.__module__ == module.__name__:
                _allow(each)
    for function in functions:
        parameters = parameters_of(function)
        for annotation in (*parameters.annotations.values(), parameters.returns):
            for each in _classes_in(annotation):
                _allow(each)


def _allow(kind: type) -> None:
    if callable(getattr(kind, "to_json", None)) and callable(getattr(kind, "from_json", None)):
        payloads.allow(kind)


def _classes_in(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type):
        yield annotation
    for each in typing.get_args(annotation):
        yield from _classes_in(each)


def _modules_below(folder: Path) -> Iterator[ModuleType]:
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(folder):
            inner = Path(file).relative_to(folder).parts[:-1]
            if not NOT_THE_APPS & set(inner):
                yield module
