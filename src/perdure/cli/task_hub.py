"""A task hub as commands see it, whether a host runs it or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from perdure.core.records import InstanceQuery

# Instances asked for at once: a page is there within milliseconds, and a long list begins to appear at once.
PAGE_SIZE = 500

Status = Mapping[str, Any]
"""An instance as the management API shows it."""


class TaskHub(Protocol):
    """What commands do with instances. Statuses and events look as the management API shows them.

    Raises (all methods):
        InstanceNotFoundError: no instance of that id.
        InstanceFinishedError: it has ended and takes no more messages.
        StoreUnavailableError, StoreRefusedError, HostStoppedError: the hub cannot be reached or used.
    """

    is_running: bool
    """A host acts on what is sent at once; otherwise it is stored until one starts."""

    def list(self, query: InstanceQuery) -> Iterator[Status]:
        """The first `query.limit` instances that fit."""
        ...

    def show(self, instance_id: str) -> Status:
        """One instance."""
        ...

    def history(self, instance_id: str) -> list[dict[str, Any]]:
        """Its history events."""
        ...

    def raise_event(self, instance_id: str, name: str, data: str | None) -> None:
        """Send an event; `data` is JSON text."""
        ...

    def terminate(self, instance_id: str, reason: str | None) -> None:
        """End an instance."""
        ...
