"""The app's folder: where it is, which script it has, and the import of that script.

Rule 1: the user's code is imported exactly as the official worker imports it, and its errors are shown as its own.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

from perdure.errors import AppError
from perdure.host.app.environment import describe_interpreter, requirement_hint
from perdure.host.sdk.sdk import SDK_ROOT
from perdure.host.settings.host_json import HOST_JSON
from perdure.host.tracebacks import users_traceback

DEFAULT_SCRIPT = "function_app.py"
SCRIPT_SETTING = "PYTHON_SCRIPT_FILE_NAME"

# Folders that are searched neither for apps nor for the app's own modules.
NOT_THE_APPS = frozenset({".venv", "venv", "env", "node_modules", ".git", ".python_packages", "site-packages"})

_SCRIPT_NAME = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_\-]*\.py\Z")


def find_app_folder(asked: Path | None, environ: Mapping[str, str]) -> Path:
    """The folder of the app: `asked`, or else the current one or the nearest above it that has a host.json.

    Raises:
        AppError: there is none.
    """
    script = environ.get(SCRIPT_SETTING, DEFAULT_SCRIPT)
    if asked is None:
        here, above, where = Path.cwd(), Path.cwd().parents, f".{os.sep}  and its parents"
    elif asked.is_file():
        here, above, where = asked.parent.absolute(), (), str(asked)
    else:
        here, above, where = asked.absolute(), (), f"{asked}{os.sep}"
    if (here / script).exists():
        return here
    for each in (here, *above):
        if (each / HOST_JSON).exists():
            return each
    below = [shown_file(str(each), Path.cwd()) for each in _host_json_below(here)]
    found = f";  found  {', '.join(below)}" if below else ""
    run = [f"Run:  perdure --app {Path(below[0]).parent}"] if below else []
    raise AppError("DF101", "No Function app here", f"Looked for {HOST_JSON} and {script} in  {where}{found}.", *run)


def script_of(folder: Path, environ: Mapping[str, str]) -> str | None:
    """The name of the app's script in its folder, or None if there is none.

    Raises:
        AppError: the setting for it names no Python file.
    """
    script = environ.get(SCRIPT_SETTING, DEFAULT_SCRIPT)
    if not _SCRIPT_NAME.match(script):
        raise AppError("DF101", f"Invalid file name: {script}", f"{SCRIPT_SETTING} has to name a Python file.")
    return script if (folder / script).is_file() else None


def no_script(folder: Path, environ: Mapping[str, str]) -> AppError:
    """What to say of a folder that has neither a script nor folders of functions."""
    script = environ.get(SCRIPT_SETTING, DEFAULT_SCRIPT)
    deeper = sorted(str(each.relative_to(folder)) for each in folder.glob("*/*/function.json"))
    return AppError(
        "DF101",
        "No Function app here",
        f"{folder}{os.sep} has {HOST_JSON}, but no {script}, and no folders with a function.json in each.",
        *([f"{deeper[0]} lies too deep: the folders of functions stand beside {HOST_JSON}."] if deeper else []),
        f"If the file has another name:  {SCRIPT_SETTING}=name.py",
    )


def imported(folder: Path, script: str) -> ModuleType:
    """The app's script as a module, with its folder on the path.

    Raises:
        AppError: it cannot be imported; its lines are the user's own traceback.
    """
    prepare_path(folder)
    importlib.invalidate_caches()
    return imported_module(Path(script).stem, script, folder)


def imported_module(name: str, script: str, folder: Path) -> ModuleType:
    """A module of the app.

    Args:
        name: the module's.
        script: its file, as users know it.

    Raises:
        AppError: it cannot be imported; its lines are the user's own traceback.
    """
    try:
        return importlib.import_module(name)
    except (AppError, KeyboardInterrupt):
        raise  # a decorator of ours that finds a mistake says it better than a traceback
    except BaseException as error:  # user code: importing an app runs it, and `sys.exit()` there is its mistake too
        raise AppError(
            "DF102",
            f"{script} could not be imported",
            *users_traceback(error).splitlines(),
            *_import_hints(error, folder),
        ) from error


def modules_below(folder: Path) -> Iterator[ModuleType]:
    """The modules of the app itself that have been imported so far."""
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(folder):
            inner = Path(file).relative_to(folder).parts[:-1]
            if not NOT_THE_APPS & set(inner):
                yield module


def shown_file(file: str, folder: Path) -> str:
    """A file's path as users know it: relative to the app's folder if it is in there."""
    path = Path(file)
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def prepare_path(folder: Path) -> None:
    """Put the app folder behind our SDK and before everything else; add the packages that publishing puts there."""
    root = str(folder)
    ours = [each for each in sys.path if each == str(SDK_ROOT)][:1]  # not there if another SDK runs the app
    sys.path[:] = [*ours, root, *(each for each in sys.path if each not in (root, str(SDK_ROOT)))]
    packages = folder / ".python_packages" / "lib" / "site-packages"
    if packages.is_dir() and sys.prefix == sys.base_prefix and str(packages) not in sys.path:
        sys.path.append(str(packages))


def _import_hints(error: BaseException, folder: Path) -> list[str]:
    hints = [f"Interpreter: {describe_interpreter(folder)}."]
    if isinstance(error, ModuleNotFoundError) and error.name:
        hints = requirement_hint(folder, error.name)
        shadow = folder / error.name.partition(".")[0]
        if shadow.is_dir():
            hints.append(f"The folder {shadow.name}{os.sep} of the app hides an installed package of that name.")
    return hints


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
