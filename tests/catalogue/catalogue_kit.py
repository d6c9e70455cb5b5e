"""What the modules of the catalogue are written with: `case` for what is tested, `later` for what is not there yet."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from catalogue_hub import ALONE, MODES, STORES, Hub, play

from perdure.engine.settings import Settings

Body = Callable[[Hub], Coroutine[Any, Any, None]]


def case(
    number: str,
    scenario: str,
    *,
    changed: str | None = None,
    only: str | None = None,
    why: str | None = None,
    regression: str | None = None,
    settings: Settings = ALONE,
) -> Callable[[Body], Callable[..., None]]:
    """Make a test of a case: it runs on every store, with live sessions and with a replay at every episode.

    `docs/generate_conformance.py` reads these arguments without running anything, so all but `settings` are literals.

    Args:
        number: its number in the catalogue, such as "A14".
        scenario: what happens and what has to come of it, in a few words.
        changed: why our rule is another one than the catalogue's; the test proves ours.
        only: "memory" if more than one store says nothing more ("memory live" if more than one mode neither).
        why: why it runs only there.
        regression: name of the known defect of another engine that this case guards against.
        settings: of the hosts.
    """
    runs = [(store, mode) for store in STORES for mode in MODES if _runs(only, store, mode)]

    def decorate(body: Body) -> Callable[..., None]:
        def test(store: str, mode: str) -> None:
            play(store, mode, settings, f"{number}/{store}", body)

        test.__name__ = body.__name__
        test.__doc__ = body.__doc__ or scenario
        test.__module__ = body.__module__
        names = [f"{number}-{store}-{mode}" for store, mode in runs]
        return pytest.mark.parametrize(("store", "mode"), runs, ids=names)(test)

    return decorate


def case_apart(
    number: str, scenario: str, *, why: str, changed: str | None = None, regression: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a test of a case that needs no hub, or one of its own.

    Args:
        why: why it runs apart.
    """

    def decorate(body: Callable[..., None]) -> Callable[..., None]:
        return body

    return decorate


def later(number: str, scenario: str, when: str) -> None:
    """Say that a case waits for something that is still to be built."""


def _runs(only: str | None, store: str, mode: str) -> bool:
    store_only, _, mode_only = (only or "").partition(" ")
    return store_only in ("", store) and mode_only in ("", mode)
