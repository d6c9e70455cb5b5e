"""What clients ask of an engine: an operation, and where its reply goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from perdure.core.records import EntityQuery, InstanceQuery, Message, Start


class Create(Struct, frozen=True, tag=True):
    """Create an instance. Reply: None, or the instance in the way.

    `may_repeat`: the caller names the request, so this can be another attempt of one that has taken effect.
    """

    start: Start
    may_repeat: bool = False


class Send(Struct, frozen=True, tag=True):
    """Send a message. Reply: its target's status, or None. `may_repeat` as for `Create`."""

    message: Message
    may_repeat: bool = False


class Query(Struct, frozen=True, tag=True):
    """List instances. Reply: a page."""

    query: InstanceQuery


class Count(Struct, frozen=True, tag=True):
    """Count instances. Reply: how many there are in each status."""

    query: InstanceQuery


class Entities(Struct, frozen=True, tag=True):
    """List entities. Reply: a page."""

    query: EntityQuery


class Purge(Struct, frozen=True, tag=True):
    """Remove those of these instances that have ended. Reply: their ids."""

    instance_ids: tuple[str, ...]


class History(Struct, frozen=True, tag=True):
    """Read an instance's checkpoints. Reply: history rows."""

    instance_id: str


class Watch(Struct, frozen=True, tag=True):
    """Wait for an instance to end. Reply: the instance, or None if there is none."""

    instance_id: str


class Unwatch(Struct, frozen=True):
    """Give up a `Watch`, which stays without a reply."""

    watch: Request


Question = Create | Send | Query | Count | Entities | Purge | History | Watch
Operation = Question | Unwatch


class Request(Struct, frozen=True, eq=False):
    """An operation and the callable that takes its reply, or an exception, on the engine's thread."""

    operation: Operation
    reply: Callable[[Any], None]
