"""Durable Functions for Python, anywhere."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perdure.connection import connect as connect

__all__ = ["connect"]


def __getattr__(name: str) -> Any:
    """`connect`, when somebody asks: whoever imports a module below would load the engine with it otherwise."""
    if name == "connect":
        return importlib.import_module("perdure.connection").connect
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
