"""Which classes payloads may name: the app's own, and those that its functions' annotations name."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from perdure.core.codec import payloads
from perdure.host.app_folder import modules_below
from perdure.host.bindings import parameters_of


def allow_payload_classes(folder: Path, functions: Iterable[Callable[..., Any]]) -> None:
    """Let payloads become instances of the app's own classes, and of those that its functions' annotations name."""
    for module in modules_below(folder):
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
