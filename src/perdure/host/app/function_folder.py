"""The folders of the classic model: each is a function, whose script is a module of the package `__app__`.

Rule 1: what is wrong with one folder puts its function in error; the others run.
Rule 2: a function that is switched off is not imported.

Source: the Functions host for folders and scripts; azure_functions_worker loader.py for imports and entry points.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any

from perdure.errors import AppError
from perdure.host.app.app_folder import NOT_THE_APPS, imported_module, prepare_path, shown_file
from perdure.host.app.bindings import NO_ANNOTATION, Binding, client_texts, parameters_of, problem_of
from perdure.host.app.function_json import FUNCTION_JSON, FunctionJson, InvalidFunctionJson, read_function_json
from perdure.host.app.functions import Declaration, Source, Unloaded, is_function_name, source_of

APP_PACKAGE = "__app__"

# The SDK's mark on the handlers that it makes for a trigger.
_MADE = {"orchestrationTrigger": "orchestrator_function", "entityTrigger": "entity_function"}


def function_folders(folder: Path) -> list[Path]:
    """The folders of the app's functions, by name."""
    files = sorted(folder.glob(f"*/{FUNCTION_JSON}"))
    return [each.parent for each in files if each.parent.name not in NOT_THE_APPS]


def classic_functions(
    folder: Path, environ: Mapping[str, str], disabled: Callable[[str], str | None]
) -> list[Declaration | Unloaded]:
    """The app's functions, imported if they are not switched off.

    Args:
        environ: settings, of which function.json may name some.
        disabled: why a function is switched off by its name, or None.

    Raises:
        AppError: not one of them can be loaded.
    """
    prepare_path(folder)
    _make_package(folder)
    found = [_function(each, folder, environ, disabled) for each in function_folders(folder)]
    if all(isinstance(each, Unloaded) and each.is_error for each in found):
        raise _none_loaded([each for each in found if isinstance(each, Unloaded)])
    return found


def _function(
    directory: Path, folder: Path, environ: Mapping[str, str], disabled: Callable[[str], str | None]
) -> Declaration | Unloaded:
    name, file = directory.name, directory / FUNCTION_JSON
    shown = shown_file(str(file), folder)
    try:
        says = read_function_json(file, environ)
    except InvalidFunctionJson as error:
        return Unloaded(name, error.bindings, Source(shown, error.line), f"{FUNCTION_JSON}: {error}  (DF120)", True)
    here, bindings = Source(shown, 1), says.bindings
    off = says.off or disabled(name)
    if off is not None:
        return Unloaded(name, bindings, here, f"disabled: {off}", False)
    if not is_function_name(name):
        return Unloaded(name, bindings, here, f"'{name}' is not a valid function name.", True)
    try:
        function, script = _loaded(name, directory, folder, says)
    except _Unloadable as error:
        return Unloaded(name, bindings, error.source or here, str(error), True, error.details)
    source = source_of(function, folder)
    # An object with __call__ or a partial does not say where it stands, and a library's function stands elsewhere.
    if not source.line or Path(source.file).is_absolute():
        source = Source(shown_file(str(script), folder), 1)
    trigger = next(each for each in bindings if each.is_trigger)
    problem = _misfit(trigger, function, says.entry_point) or _unfit_handler(trigger.kind, function, bindings)
    if problem is not None:
        return Unloaded(name, bindings, source, f"cannot load the {name} function: {problem}", True)
    texts = client_texts(function, bindings)
    return Declaration(name, bindings, function, source, directory, texts, says.retry)


class _Unloadable(Exception):
    """Raised if the function cannot be had.

    Attributes:
        source: where that is to be seen, if not in the function.json.
        details: lines that say more.
    """

    def __init__(self, text: str, source: Source | None = None, details: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.source = source
        self.details = details


def _loaded(name: str, directory: Path, folder: Path, says: FunctionJson) -> tuple[Callable[..., Any], Path]:
    """The function and the script that it is in."""
    script = _script(directory, says.script)
    if script.suffix != ".py":
        raise _Unloadable(f"cannot load function {name}: invalid Python filename {script.name}  (DF121)")
    if not script.is_relative_to(folder):
        reason = f"cannot load function {name}: its script {script} is not in the app's folder  (DF121)"
        raise _Unloadable(reason)
    shown = shown_file(str(script), folder)
    parts = script.relative_to(folder).with_suffix("").parts
    module_name = ".".join((APP_PACKAGE, *(parts[:-1] if parts[-1] == "__init__" else parts)))
    try:
        module = imported_module(module_name, shown, folder)
    except AppError as error:
        raise _Unloadable(f"{error.headline}  ({error.code})", Source(shown, 1), error.lines) from error
    function = getattr(module, says.entry_point, None)
    if function is None or not callable(function):
        raise _Unloadable(
            f"cannot load function {name}: function {says.entry_point}() is not present in {shown}"
            f"{_defined(vars(module), module_name)}  (DF121)",
            Source(shown, 1),
        )
    return function, script


def _script(directory: Path, named: str | None) -> Path:
    """The function's Python file: the one named, or else the one that has to be meant."""
    if named is not None:
        script = Path(os.path.normpath(directory / named.replace("\\", "/")))
        if not script.is_file():
            there = ", ".join(sorted(each.name for each in directory.glob("*.py"))) or "no Python file"
            raise _Unloadable(
                "Invalid script file name configuration. The 'scriptFile' property is set to a file that does not "
                f"exist: {named}; there is {there}  (DF121)"
            )
        return script
    scripts = sorted(directory.glob("*.py"))
    usual = [each for stem in ("run", "__init__") for each in scripts if each.stem == stem]
    if len(scripts) != 1 and not usual:
        found = f"there are {', '.join(each.name for each in scripts)}" if scripts else "there is no Python file"
        raise _Unloadable(
            f"Unable to determine the primary function script: {found}. "
            'Call it __init__.py, or name it with "scriptFile"  (DF121)'
        )
    return scripts[0] if len(scripts) == 1 else usual[0]


def _defined(names: Mapping[str, Any], module_name: str) -> str:
    """What the script defines instead, for whoever has only forgotten to say so."""
    own = [
        name
        for name, each in names.items()
        if callable(each) and not name.startswith("_") and getattr(each, "__module__", None) == module_name
    ]
    return f'. It has {", ".join(own)}: call one of them main, or name it with "entryPoint"' if own else ""


def _misfit(trigger: Binding, function: Callable[..., Any], entry_point: str) -> str | None:
    """Why a function cannot be of the kind that its function.json says, or None."""
    kind = trigger.kind
    made = next((each for each, attribute in _MADE.items() if hasattr(function, attribute)), None)
    if made is not None and made != kind:
        return f'{FUNCTION_JSON} has a trigger of type "{kind}", but the script makes it for "{made}"  (DF123)'
    if made is None and kind in _MADE and _is_bare(trigger, function):
        noun = "Orchestrator" if kind == "orchestrationTrigger" else "Entity"
        return (
            f"{entry_point} is the {noun.lower()} itself, not what runs it: give it another name, and add  "
            f"{entry_point} = df.{noun}.create(that_name)  (DF123)"
        )
    return None


def _is_bare(trigger: Binding, function: Callable[..., Any]) -> bool:
    """Whether it wants to be called by the SDK, not by the host."""
    if isinstance(function, type) or (trigger.kind == "orchestrationTrigger" and _is_suspended(function)):
        return True
    annotation = parameters_of(function).annotations.get(trigger.name, NO_ANNOTATION)
    return getattr(annotation, "__name__", "") in ("DurableOrchestrationContext", "DurableEntityContext")


def _is_suspended(function: Callable[..., Any]) -> bool:
    """Whether calling it only begins it."""
    tests = (inspect.isgeneratorfunction, inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    return any(each(inspect.unwrap(function)) for each in tests)


def _unfit_handler(kind: str, function: Callable[..., Any], bindings: tuple[Binding, ...]) -> str | None:
    """Why a handler of the app's own cannot be called with what its bindings give, or None."""
    is_own = kind in _MADE and not hasattr(function, _MADE[kind])
    return problem_of(bindings, parameters_of(function)) if is_own else None


def _make_package(folder: Path) -> None:
    """Bind `__app__` to the folder, so that its scripts can be imported as, and import, modules of that package."""
    present = sys.modules.get(APP_PACKAGE)
    if present is not None and list(present.__path__) == [str(folder)]:
        return
    for name in [each for each in sys.modules if each.partition(".")[0] == APP_PACKAGE]:
        del sys.modules[name]
    spec = ModuleSpec(APP_PACKAGE, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    sys.modules[APP_PACKAGE] = module_from_spec(spec)
    importlib.invalidate_caches()


def _none_loaded(functions: list[Unloaded]) -> AppError:
    lines: list[str] = []
    told: set[tuple[str, ...]] = set()
    for each in functions:
        lines.append(f"{each.source}  {each.name}  {each.note}")
        if each.details not in told:
            told.add(each.details)
            lines += [f"  {line}" for line in each.details]
    return AppError("DF122", "None of the app's functions can be loaded", *lines)
