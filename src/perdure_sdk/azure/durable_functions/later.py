"""What there is not: in this version of perdure, or on the host that runs the app."""

from __future__ import annotations


def not_yet(feature: str) -> NotImplementedError:
    """The error that says so, to be raised where an app asks for `feature`."""
    return NotImplementedError(
        f"This version of perdure does not have {feature} yet. It has activities, retries, timers, external "
        "events, sub-orchestrations, entities, continue-as-new and HTTP calls; what is planned stands in its README."
    )


def not_there(feature: str) -> NotImplementedError:
    """The error that says that the official host has no such `feature`."""
    return NotImplementedError(
        f"{feature}: the host that runs this app has no such thing (DF130), because it speaks the protocol of SDK 1.x. "
        "Do without it there, or run the app with  perdure start"
    )
