"""What a host shows when it is ready: its functions, where it serves and keeps its state, and what is worth a look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from perdure.host.app.functions import Listing
from perdure.host.timers.trigger import schedule_row

# Above this many functions of one kind, the start screen names them in one row.
ROWS_PER_KIND_MAX = 20

_KINDS = ("HTTP", "Timer", "Orchestrator", "Activity", "Entity")


class StartScreen(Struct, frozen=True):
    """The facts of one start.

    Attributes:
        title: versions of what runs, and the app's name.
        sdk: which SDK the app got.
        store: URL of the store.
        hub: name of the task hub.
        asks_for_keys: callers have to show keys.
        resumed: how many unfinished instances were there.
        warnings: what should not stay as it is.
        notes: what is good to know.
        url: the origin of the functions' URLs.
        listings: every function there is.
        now: the time of the start, which the next runs of timers are computed from.
    """

    title: str
    sdk: str
    store: str
    hub: str
    asks_for_keys: bool
    resumed: int
    warnings: Sequence[str]
    notes: Sequence[str]
    url: str
    listings: Sequence[Listing]
    now: datetime

    def text(self) -> str:
        """For people, line ends included."""
        lines = ["", f" {self.title}", "", " Functions", *_function_rows(self.listings, self.url, self.now), ""]
        for title, value in (("Store", self.store), ("Task hub", self.hub), ("SDK", self.sdk)):
            lines.append(f" {title:<10}  {value}")
        if self.asks_for_keys:
            lines.append(f" {'Keys':<10}  asked for; to see them:  perdure keys list")
        lines.append("")
        lines += [f" ! {each}" for each in self.warnings]
        lines += [f" i {each}" for each in self.notes]
        lines += ["", f" Serving {self.url}      Ctrl-C stops", "─" * 80, ""]
        return "\n".join(lines)

    def facts(self) -> dict[str, Any]:
        """For programs."""
        members = ("title", "sdk", "store", "hub", "asks_for_keys", "resumed", "warnings", "notes", "url")
        functions = [_function_facts(each, self.url, self.now) for each in self.listings]
        return {**{name: getattr(self, name) for name in members}, "functions": functions}


def _function_rows(listings: Sequence[Listing], url: str, now: datetime) -> Iterator[str]:
    width = max((len(each.name) for each in listings if each.note is None), default=0)
    for kind in (*_KINDS, *sorted({each.kind for each in listings} - set(_KINDS))):
        same = [each for each in listings if each.kind == kind]
        running = [each for each in same if each.note is None]
        if len(running) > ROWS_PER_KIND_MAX:
            yield f"   {kind:<13} {len(running)}: {' · '.join(each.name for each in running)}"
        else:
            places = [_where(each, url, now) for each in running]
            place_width = max(map(len, places), default=0)
            for each, place in zip(running, places, strict=True):
                yield f"   {kind:<13} {each.name:<{width}}  {place:<{place_width}}  {each.source}"
        for each in same:
            if each.note is not None:
                yield f" {'✖' if each.is_error else '-'} {kind:<13} {each.name}  {each.note}  {each.source}"
                yield from (f"       {line}" for line in each.details)


def _where(listing: Listing, url: str, now: datetime) -> str:
    if listing.schedule is not None:
        return f"{schedule_row(listing.schedule, now)}  "
    return "" if listing.route is None else f"{','.join(listing.methods or ('ANY',)):<9} {url}/{listing.route}  "


def _function_facts(listing: Listing, url: str, now: datetime) -> dict[str, Any]:
    facts: dict[str, Any] = {"kind": listing.kind, "name": listing.name, "source": str(listing.source)}
    if listing.route is not None:
        facts |= {"url": f"{url}/{listing.route}", "methods": listing.methods}
    if listing.schedule is not None:
        facts |= {"schedule": listing.schedule.text, "next": _iso(listing.schedule.next_after(now))}
    if listing.note is not None:
        facts |= {"note": listing.note, "is_error": listing.is_error}
    if listing.details:
        facts["details"] = listing.details
    return facts


def _iso(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat()
