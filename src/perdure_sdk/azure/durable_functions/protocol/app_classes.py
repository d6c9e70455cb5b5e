"""Which classes payloads may become where no host of perdure's has looked through the app.

Rule 1: only classes of modules that the app itself has, and has loaded; nothing is imported because a payload names it.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from perdure.core.codec import payloads

# The app's folder, where the official host starts its worker for it.
_ROOT_SETTING = "AzureWebJobsScriptRoot"

# Folders of an app with the packages of others.
_PACKAGES = frozenset({".python_packages", "site-packages", "dist-packages"})

_looked_through: dict[Path, int] = {}  # how many modules were loaded


def allow_app_classes(function: Callable[..., Any]) -> None:
    """Let payloads become instances of the classes with `to_json` and `from_json` in the app that `function` is of."""
    root = _root(function)
    modules = len(sys.modules)
    if root is None or _looked_through.get(root) == modules:
        return
    _looked_through[root] = modules
    for module in _modules_below(root):
        for each in list(vars(module).values()):
            if isinstance(each, type) and each.__module__ == module.__name__ and hasattr(each, "to_json"):
                payloads.allow(each)


def _root(function: Callable[..., Any]) -> Path | None:
    named = os.environ.get(_ROOT_SETTING)
    if named:
        return Path(named).resolve()
    file = getattr(sys.modules.get(getattr(inspect.unwrap(function), "__module__", "")), "__file__", None)
    if file is None:
        return None
    folder = Path(file).resolve().parent
    return folder.parent if (folder / "function.json").exists() else folder


def _modules_below(root: Path) -> Iterator[ModuleType]:
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str):
            continue
        path = Path(file)
        if path.is_relative_to(root) and _PACKAGES.isdisjoint(path.relative_to(root).parts):
            yield module
