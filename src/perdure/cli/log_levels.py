"""Which lines are shown: levels by category, as host.json gives them."""

from __future__ import annotations

import logging
from collections.abc import Mapping

LEVELS: Mapping[str, int] = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "information": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "none": logging.CRITICAL + 10,
}
_LEVEL_NAMES = (
    (logging.CRITICAL, "critical"),
    (logging.ERROR, "error"),
    (logging.WARNING, "warning"),
    (logging.INFO, "information"),
    (logging.DEBUG, "debug"),
)

INSTANCE_CATEGORY = "Host.Triggers.DurableTask"

# Without settings, users see their own lines from Information on, and the host's only when something is wrong.
DEFAULT_LEVELS: Mapping[str, str] = {
    "default": "Information",
    "Host": "Warning",
    INSTANCE_CATEGORY: "Information",
}


class LogLevels:
    """Levels by category, as host.json's `logging.logLevel` gives them: the longest prefix wins.

    Source: Microsoft.Extensions.Logging's filter rules.
    """

    def __init__(self, configured: Mapping[str, str]) -> None:
        self._levels: dict[str, int] = {}
        for category, level in {**DEFAULT_LEVELS, **configured}.items():
            if level.casefold() in LEVELS:
                self._levels[category.casefold()] = LEVELS[level.casefold()]
        # A level for everything is meant for the host's lines, too, as long as it asks for fewer of them.
        folded = [each.casefold() for each in configured]
        if "default" in folded and not any(each.startswith("host") for each in folded):
            for category in ("host", INSTANCE_CATEGORY.casefold()):
                self._levels[category] = max(self._levels["default"], self._levels[category])
        self._cache: dict[str, int] = {}

    @property
    def lowest(self) -> int:
        """Nothing below this level is shown in any category."""
        return min(self._levels.values())

    def level_of(self, category: str) -> int:
        """From which level on the category is shown."""
        level = self._cache.get(category)
        if level is None:
            level = self._cache[category] = self._found(category.casefold())
        return level

    def _found(self, category: str) -> int:
        fitting = [each for each in self._levels if _matches(each, category)]
        return self._levels[max(fitting, key=len, default="default")]


def _matches(rule: str, category: str) -> bool:
    """Rules are beginnings of categories, whole words or not, with at most one `*` that stands for anything."""
    prefix, _, suffix = rule.partition("*")
    return category.startswith(prefix) and category.endswith(suffix)


def level_name(level: int) -> str:
    """The .NET name of a level of `logging`."""
    return next((name for least, name in _LEVEL_NAMES if level >= least), "debug")
