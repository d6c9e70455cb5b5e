"""What payloads may become and how large they may be: set once, before the app's functions run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from perdure.core.codec import LIMIT_BYTES, payloads
from perdure.core.conversion import classes_in
from perdure.host.app.app_folder import modules_below
from perdure.host.app.bindings import parameters_of

log = logging.getLogger("perdure.host")

LIMIT_SETTING: Final = "PERDURE_MAX_PAYLOAD_BYTES"


def allow_payload_classes(folder: Path, functions: Iterable[Callable[..., Any]]) -> None:
    """Let payloads become instances of the app's own classes, and of those that its functions' annotations name."""
    for module in modules_below(folder):
        for each in list(vars(module).values()):
            if isinstance(each, type) and each.__module__ == module.__name__:
                _allow(each)
    for function in functions:
        parameters = parameters_of(function)
        for annotation in (*parameters.annotations.values(), parameters.returns):
            for each in classes_in(annotation):
                _allow(each)
    payloads.misfit = _log_misfit


def limit_payloads(environ: Mapping[str, str]) -> list[str]:
    """Set the size that no payload exceeds, from the app's settings, and return what is wrong with these."""
    text = environ.get(LIMIT_SETTING)
    is_usable = text is not None and text.isascii() and text.isdigit() and int(text) > 0
    payloads.limit_bytes = int(text) if text is not None and is_usable else LIMIT_BYTES
    if text is None or is_usable:
        return []
    return [f"{LIMIT_SETTING} is '{text}', but must be a number of bytes; the limit stays {LIMIT_BYTES:,}"]


def _log_misfit(function: str, reason: str) -> None:
    log.warning("a value does not fit an annotation, and is given as it is: %s", reason, extra={"function": function})


def _allow(kind: type) -> None:
    if callable(getattr(kind, "to_json", None)) and callable(getattr(kind, "from_json", None)):
        payloads.allow(kind)
