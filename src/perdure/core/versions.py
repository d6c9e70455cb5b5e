"""Which versions of an orchestration a host may run.

Rule 1: versions are compared as dotted numbers where both are such, else as texts without case; no version is the
        oldest.

Source: DurableTask.Core VersioningSettings and the rules of the Functions documentation.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

from msgspec import Struct

_NUMBERS = re.compile(r"\d{1,9}(\.\d{1,9}){1,3}\Z")


class VersionMatch(StrEnum):
    """Which instances a host runs: all, those of its own version, or also older ones."""

    NONE = "None"
    STRICT = "Strict"
    CURRENT_OR_OLDER = "CurrentOrOlder"


class VersionFailure(StrEnum):
    """What becomes of an instance that the host must not run: it waits for another host, or it fails."""

    REJECT = "Reject"
    FAIL = "Fail"


class Versioning(Struct, frozen=True):
    """A host's version, which new instances get, and what it does with instances of other versions."""

    default: str | None = None
    match: VersionMatch = VersionMatch.CURRENT_OR_OLDER
    failure: VersionFailure = VersionFailure.REJECT

    def accepts(self, version: str | None) -> bool:
        """Whether an instance of `version` may run here."""
        if self.default is None or self.match is VersionMatch.NONE:
            return True
        order = compare_versions(version, self.default)
        return order == 0 if self.match is VersionMatch.STRICT else order <= 0

    def mismatch(self, version: str | None) -> str:
        """The sentence that says why an instance of `version` does not run here."""
        wanted = "exactly" if self.match is VersionMatch.STRICT else "at most"
        return (
            f"The version '{version or ''}' of the orchestration does not comply with this host's versioning: it runs "
            f"{wanted} version '{self.default}' (versionMatchStrategy {self.match})."
        )


def compare_versions(one: str | None, other: str | None) -> int:
    """Less than, equal to, or more than 0, as `one` is older than, the same as, or newer than `other`."""
    first, second = one or "", other or ""
    if _NUMBERS.match(first) and _NUMBERS.match(second):
        return _order(_numbers(first), _numbers(second))
    return _order(first.casefold(), second.casefold())


def _numbers(version: str) -> tuple[int, ...]:
    """The parts of a version; one that is missing comes before 0, as in .NET."""
    parts = tuple(map(int, version.split(".")))
    return parts + (-1,) * (4 - len(parts))


def _order(one: Any, other: Any) -> int:
    return (one > other) - (one < other)
