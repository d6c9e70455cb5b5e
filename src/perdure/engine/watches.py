"""Who waits for which instance to end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta

from perdure.core.records import Instance, InstanceQuery
from perdure.engine.partition import Partition
from perdure.engine.requests import Request, Watch
from perdure.engine.store import InstanceStore
from perdure.errors import StoreUnavailableError

log = logging.getLogger("perdure.engine")

# Ids per look at the store.
PAGE_SIZE = 1000


class Watches:
    """Answers `Watch` requests: when a commit of this host ends the instance, or by looking where another runs it.

    Invariant: an instance that is watched and not `_unsure` was seen running while its partition was here, so that its
    end will be told.

    Args:
        partition_of: the partition of this host that an instance belongs to, if it is here.
        interval: how often instances are looked at that end elsewhere.
    """

    def __init__(
        self, store: InstanceStore, partition_of: Callable[[str], Partition | None], interval: timedelta
    ) -> None:
        self._store = store
        self._partition_of = partition_of
        self._interval = interval
        self._requests: dict[str, list[Request]] = {}
        self._unsure: set[str] = set()

    def add(self, request: Request, instance_id: str) -> bool:
        """Note who waits; returns whether the instance is known to be running here, or else has to be looked at."""
        self._requests.setdefault(instance_id, []).append(request)
        partition = self._partition_of(instance_id)
        is_here = partition is not None and instance_id in partition.sessions
        if not is_here:
            self._unsure.add(instance_id)
        return is_here

    def remove(self, request: Request) -> None:
        """Whoever asked waits no more."""
        instance_id = request.operation.instance_id if isinstance(request.operation, Watch) else ""
        remaining = [each for each in self._requests.pop(instance_id, ()) if each is not request]
        if remaining:
            self._requests[instance_id] = remaining
        else:
            self._unsure.discard(instance_id)

    def take_all(self) -> list[Request]:
        """Everybody who waits; nobody does any more."""
        waiting = [each for requests in self._requests.values() for each in requests]
        self._requests.clear()
        self._unsure.clear()
        return waiting

    def gained(self, partitions: Collection[Partition]) -> None:
        """Partitions came here: what is watched of theirs may have ended just before."""
        self._unsure.update(each for each in self._requests if self._partition_of(each) in partitions)

    def ended(self, instance: Instance) -> None:
        """A commit has ended an instance."""
        self._reply(instance.instance_id, instance)

    async def run(self) -> None:
        """Look at what runs elsewhere, again and again."""
        while True:
            await asyncio.sleep(self._interval.total_seconds())
            foreign = [each for each in self._requests if each in self._unsure or self._partition_of(each) is None]
            for start in range(0, len(foreign), PAGE_SIZE):
                await self.look_at(foreign[start : start + PAGE_SIZE])

    async def look_at(self, instance_ids: Sequence[str]) -> None:
        """Answer for those instances that have ended or do not exist."""
        holders = {each: self._open_partition_of(each) for each in instance_ids}
        try:
            page = await self._store.query(InstanceQuery(instance_ids=tuple(instance_ids), limit=len(instance_ids)))
        except StoreUnavailableError as error:
            log.warning("watched instances not read", extra={"reason": str(error)})
            return
        found = {instance.instance_id: instance for instance in page.instances}
        for instance_id in instance_ids:
            instance = found.get(instance_id)
            if instance is None or instance.status.is_terminal:
                self._reply(instance_id, instance)
            elif holders[instance_id] is not None and self._partition_of(instance_id) is holders[instance_id]:
                self._unsure.discard(instance_id)  # it was running when it was ours already: we shall see its end

    def _open_partition_of(self, instance_id: str) -> Partition | None:
        partition = self._partition_of(instance_id)
        return partition if partition is not None and partition.is_open else None

    def _reply(self, instance_id: str, instance: Instance | None) -> None:
        self._unsure.discard(instance_id)
        for request in self._requests.pop(instance_id, ()):
            request.reply(instance)
