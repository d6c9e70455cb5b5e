"""Which `azure.durable_functions` the app gets: always perdure's."""

from __future__ import annotations

import sys
from pathlib import Path

import perdure
from perdure.errors import AppError

SDK_MODULE = "azure.durable_functions"
SDK_ROOT = Path(perdure.__path__[0]).resolve().parent / "perdure_sdk"


def put_first() -> None:
    """Make the next `import azure.durable_functions` find perdure's SDK.

    Raises:
        AppError: another one has already been imported, and its classes would not be ours.
    """
    loaded = sys.modules.get(SDK_MODULE)
    origin = getattr(loaded, "__file__", None)
    if loaded is not None and not (origin and Path(origin).resolve().is_relative_to(SDK_ROOT)):
        raise AppError(
            "DF111",
            "Another Durable Functions SDK was imported first",
            f"azure.durable_functions came from {origin}",
            f"perdure runs apps with its own, in {SDK_ROOT}",
            "Start the app with perdure itself, in a fresh interpreter:  perdure start",
        )
    root = str(SDK_ROOT)
    sys.path[:] = [root, *(each for each in sys.path if each != root)]


def sdk_file() -> Path:
    """The file that `import azure.durable_functions` has loaded."""
    return Path(sys.modules[SDK_MODULE].__file__ or SDK_ROOT)
