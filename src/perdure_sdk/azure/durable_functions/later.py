"""What the official SDK has and this version of perdure has not yet."""

from __future__ import annotations


def not_yet(feature: str) -> NotImplementedError:
    """The error that says so, to be raised where an app asks for `feature`."""
    return NotImplementedError(
        f"This version of perdure does not have {feature} yet. It has activities, retries, timers, external "
        "events, sub-orchestrations, entities, continue-as-new and HTTP calls; what is planned stands in its README."
    )
