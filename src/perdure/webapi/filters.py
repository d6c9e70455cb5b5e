"""Which instances or entities a request means: the filters of its query."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from perdure.core.records import TERMINAL, EntityQuery, InstanceQuery, RuntimeStatus
from perdure.webapi.payloads import parsed_time, readable_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perdure.webapi.call import Call

PAGE_SIZE = 100  # the official host's default
PAGE_SIZE_MAX = 1000

TOKEN_HEADER = "x-ms-continuation-token"

# Numbers and names of the official runtime statuses; instances here are never in some of them.
_OFFICIAL_STATUSES = {
    "0": "Running",
    "1": "Completed",
    "2": "ContinuedAsNew",
    "3": "Failed",
    "4": "Canceled",
    "5": "Terminated",
    "6": "Pending",
    "7": "Suspended",
}
_OFFICIAL_TERMINAL = frozenset({"Completed", "Failed", "Canceled", "Terminated"})


def instances_to_list(call: Call) -> InstanceQuery:
    """What a request to list instances asks for.

    A filter that cannot be read counts as absent, as on the official host: here, that only shows more.
    """
    named = _official(call.queries("runtimestatus"))
    return InstanceQuery(
        statuses=_statuses(named) if named else None,
        created_from=parsed_time(call.query("createdtimefrom")),
        created_to=parsed_time(call.query("createdtimeto")),
        prefix=call.query("instanceidprefix") or None,
        limit=_page_size(call.query("top") or ""),
        after=call.header(TOKEN_HEADER) or None,
    )


def entities_to_list(call: Call, name: str) -> EntityQuery:
    """What a request to list entities asks for; a filter that cannot be read counts as absent.

    Args:
        name: of the entities, or an empty text for all.

    Raises:
        ValueError: the token is none of `entity_token`.
    """
    token = call.header(TOKEN_HEADER)
    after = unquote(token) or None
    if after is not None and (not after.startswith("@") or entity_token(after) != token):
        raise ValueError("The token is none that a page gave.")
    return EntityQuery(
        prefix=f"@{name.lower()}@" if name else "@",
        updated_from=parsed_time(call.query("lastoperationtimefrom")),
        updated_to=parsed_time(call.query("lastoperationtimeto")),
        limit=_page_size(call.query("top") or ""),
        after=after,
    )


def entity_token(after: str) -> str:
    """The token of a page of entities as a header can carry it."""
    return quote(after, safe="@")


def instances_to_purge(call: Call) -> InstanceQuery:
    """What a request to purge instances asks for.

    Unlike in a list, a filter that cannot be read is refused: without it, more would be lost than was meant.

    Raises:
        ValueError: a filter is missing or cannot be read; the text says which.
    """
    created_from = parsed_time(call.query("createdtimefrom"))
    if created_from is None:
        raise ValueError("Please provide value for 'createdTimeFrom' parameter.")
    names = call.queries("runtimestatus")
    named = _official(names) & _OFFICIAL_TERMINAL
    if names and not named:
        raise ValueError(
            "Only orchestrations in a terminal state can be purged: 'runtimeStatus' must name at least one of "
            "Completed, Failed, Terminated, Canceled."
        )
    return InstanceQuery(
        statuses=_statuses(named) if named else TERMINAL,
        created_from=created_from,
        created_to=readable_time("createdTimeTo", call.query("createdtimeto")),
        prefix=call.query("instanceidprefix") or None,
    )


def _official(names: Iterable[str]) -> set[str]:
    """The official statuses among names and numbers; case matters."""
    return {_OFFICIAL_STATUSES.get(name, name) for name in names} & set(_OFFICIAL_STATUSES.values())


def _statuses(named: set[str]) -> frozenset[RuntimeStatus]:
    """The statuses of those names, possibly none that any instance can have."""
    return frozenset(each for each in RuntimeStatus if each.value in named)


def _page_size(top: str) -> int:
    wanted = int(top[:9]) if top.isdecimal() else 0
    return min(wanted, PAGE_SIZE_MAX) if wanted else PAGE_SIZE
