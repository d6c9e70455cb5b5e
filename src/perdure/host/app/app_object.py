"""The app object of an imported script: which one it is, and which blueprints it lacks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import azure.functions as func
from azure.functions.decorators.function_app import DecoratorApi, FunctionRegister

from perdure.errors import AppError
from perdure.host.app.app_folder import modules_below, shown_file
from perdure.host.app.bindings import bindings_of, client_texts
from perdure.host.app.functions import Declaration, Source, source_of

_BUILD_ERROR_NAME = re.compile(r"Function (\S+) does not have")


def app_object(
    module: ModuleType, script: str, folder: Path, default_blueprint: DecoratorApi | None
) -> FunctionRegister:
    """The app that the script defines, together with what it decorated at module level.

    Args:
        default_blueprint: what the SDK's own decorators register on, or None if it has none.

    Raises:
        AppError: it defines several, or none and nothing else to run.
    """
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
        if default_blueprint is None or not _builders_of(default_blueprint):
            raise _no_functions(app, module, folder, script)
    known = {id(each) for each in _builders_of(app)}
    if default_blueprint is not None and any(id(each) not in known for each in _builders_of(default_blueprint)):
        app.register_functions(default_blueprint)
    return app


def declarations_of(app: FunctionRegister, module: ModuleType, script: str, folder: Path) -> list[Declaration]:
    """The app's functions, as its decorators declare them.

    Raises:
        AppError: there are none, or two have one name, or one is incomplete.
    """
    if not _builders_of(app):
        raise _no_functions(app, module, folder, script)
    try:
        return [_declaration(each, module, folder) for each in app.get_functions()]
    except ValueError as error:
        text = str(error)
        lines = [text]
        named = _BUILD_ERROR_NAME.match(text)
        for each in _builders_of(app):
            if named and each._function.get_function_name() == named[1]:
                lines.append(f"{source_of(each._function.get_user_function(), folder)}  {named[1]}")
        raise AppError("DF112", "The app's functions cannot be told apart or are incomplete", *lines) from error


def _declaration(built: Any, module: ModuleType, folder: Path) -> Declaration:
    function, bindings = built.get_user_function(), bindings_of(built)
    source = source_of(function, folder)
    if function.__module__ == DecoratorApi.__module__:  # made by AsgiFunctionApp or WsgiFunctionApp
        source = Source(shown_file(module.__file__ or "", folder), 1)
    return Declaration(
        name=built.get_function_name(),
        bindings=bindings,
        function=function,
        source=source,
        directory=folder,
        client_texts=client_texts(function, bindings),
        retry=built.get_settings_dict("retry_policy"),
    )


def unregistered_warnings(app: FunctionRegister, folder: Path) -> list[str]:
    """A sentence for each blueprint of the app's modules that has functions, but is not part of the app."""
    return [
        f"{file}: the Blueprint '{name}' ({_functions_text(count)}) is not registered: "
        f"add  app.register_functions({name})"
        for file, name, count in _unregistered(app, folder)
    ]


def _no_functions(app: FunctionRegister, module: ModuleType, folder: Path, script: str) -> AppError:
    lines = _no_functions_lines(app, module, folder, script)
    return AppError("DF103", "The app loaded, but it has no functions", *lines)


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


def _unregistered(app: FunctionRegister, folder: Path) -> Iterator[tuple[str, str, int]]:
    """File, variable and number of functions of every blueprint of the app that the app does not have."""
    registered = {id(each) for each in _builders_of(app)}
    seen: set[int] = set()
    for module in modules_below(folder):
        for name, each in list(vars(module).items()):
            if not isinstance(each, DecoratorApi) or isinstance(each, FunctionRegister) or id(each) in seen:
                continue
            seen.add(id(each))
            builders = _builders_of(each)
            if builders and not any(id(builder) in registered for builder in builders):
                yield shown_file(module.__file__ or "", folder), name, len(builders)


def _functions_text(count: int) -> str:
    return f"{count} function{'' if count == 1 else 's'}"


def _builders_of(container: DecoratorApi) -> list[Any]:
    # The list has no public name, and only `FunctionRegister` has `get_functions`: a blueprint that nobody registered
    # could not be told from an empty one otherwise.
    return list(getattr(container, "_function_builders", ()))
