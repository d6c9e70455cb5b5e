"""What a user can do about a failed instance, where its failure says enough."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

from perdure.core.records import Instance
from perdure.errors import AppError
from perdure.host.app.functions import Listing

# How the executor names the failure of a call to an activity that is not there, and how its text names the activity.
_NOT_FOUND = "ActivityNotFound"
_NAME = re.compile(r"The function '([^']*)' doesn't exist")


def advice_for(instance: Instance, listings: Sequence[Listing]) -> str | None:
    """The mistake that made the instance fail, in the form in which all mistakes are told, or None."""
    failure = instance.failure
    if failure is None or failure.error_type != _NOT_FOUND:
        return None
    named = _NAME.match(failure.message)
    return None if named is None else str(_unknown_activity(named[1], instance.name, listings))


def _unknown_activity(name: str, orchestrator: str, listings: Sequence[Listing]) -> AppError:
    activities = [each.name for each in listings if each.kind == "Activity" and each.note is None]
    source = next((each.source for each in listings if each.kind == "Orchestrator" and each.name == orchestrator), None)
    where = f" ({source})" if source is not None else ""
    listed = ", ".join(activities) if activities else "none"
    by_folded = {each.casefold(): each for each in activities}
    closest = get_close_matches(name.casefold(), by_folded, 1)
    unable = next((each for each in listings if each.name.casefold() == name.casefold() and each.note), None)
    hints = [f"{unable.name} is there, but does not run: {unable.note}"] if unable is not None else []
    if closest:
        meant = by_folded[closest[0]]
        hints.append(
            f'Did you mean "{meant}"?  Passing the function itself avoids typos:  context.call_activity({meant}, ...)'
        )
    return AppError(
        "DF105",
        f'Unknown activity "{name}"',
        f"{orchestrator}{where} called it. Registered activities: {listed}.",
        *hints,
    )
