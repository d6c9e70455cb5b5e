"""How a request wants an orchestration to be started: the options in its query.

`startAt`, `tags` and `policy` are ours, not the official service's. What cannot be read of them is refused: an
instance that began too early, or in place of another, could not be called back.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from msgspec import Struct

from perdure.core.records import StartPolicy
from perdure.webapi.payloads import readable_time

if TYPE_CHECKING:
    from perdure.webapi.call import Call


class StartOptions(Struct, frozen=True):
    """The options of a start; None is for what the request does not say.

    Attributes:
        start_at: from `startAt`, an ISO time.
        tags: from `tags`, a JSON object of texts.
        policy: from `policy`: `reject`, `ignore` or `replace`.
    """

    version: str | None
    start_at: datetime | None
    tags: dict[str, str] | None
    policy: StartPolicy | None


def start_options(call: Call) -> StartOptions:
    """What a request to start an orchestration says about how.

    Raises:
        ValueError: an option cannot be read; the text says which.
    """
    return StartOptions(
        version=call.query("version") or None,
        start_at=readable_time("startAt", call.query("startat")),
        tags=_tags(call.query("tags")),
        policy=_policy(call.query("policy")),
    )


def _tags(text: str | None) -> dict[str, str] | None:
    if not text:
        return None
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    members = cast("dict[str, Any]", found) if isinstance(found, dict) else None
    if members is None or not all(isinstance(each, str) for each in members.values()):
        raise ValueError("""The value of 'tags' is not a JSON object of texts, such as {"team":"blue"}.""")
    return members


def _policy(text: str | None) -> StartPolicy | None:
    if not text:
        return None
    try:
        return StartPolicy(text.lower())
    except ValueError:
        raise ValueError(f"The value of 'policy' is none of {', '.join(StartPolicy)}.") from None
