"""What an engine can be told, with units and bounds."""

from __future__ import annotations

from datetime import timedelta

from msgspec import Struct

from perdure.core.records import StartPolicy
from perdure.core.versions import Versioning


class Settings(Struct, frozen=True):
    """Limits and intervals of one engine.

    Attributes:
        lease_ttl: how long a lease lives without renewal; a dead host's work waits so long.
        lease_interval: how often leases are renewed and balanced; well under a third of `lease_ttl`.
        poll_interval: how often all due mail is walked again, whatever was signalled.
        timer_horizon: timers due within this are kept in memory; must exceed `poll_interval`.
        page_size: rows per page of mail or open work.
        slice_size: episodes computed before commits and clients get their turn.
        checkpoints_max: checkpoints per commit; more wait for the next.
        sessions_max: instances of a partition kept in memory; the least recently used go first.
        replay_always: forget every session after its episode, so that each one is replayed (for tests).
        watch_interval: how often waiting clients look at instances that another host runs.
        versioning: which version new instances get, and which versions run here.
        start_policy: what becomes of a start whose id is taken by an instance that has not ended.
        entity_batch_max: operations of an entity that are run and committed together.
        dispatches_max: how often an activity is begun that a crash interrupted; then it has failed.
        dispatches_alone: after so many, it runs while no other such activity does, so that only the one that brings
            the host down is counted on.
    """

    lease_ttl: timedelta = timedelta(seconds=30)
    lease_interval: timedelta = timedelta(seconds=8)
    poll_interval: timedelta = timedelta(seconds=5)
    timer_horizon: timedelta = timedelta(seconds=60)
    page_size: int = 1000
    slice_size: int = 128
    checkpoints_max: int = 2000
    sessions_max: int = 20_000
    replay_always: bool = False
    watch_interval: timedelta = timedelta(milliseconds=100)
    versioning: Versioning = Versioning()
    start_policy: StartPolicy = StartPolicy.REJECT
    entity_batch_max: int = 500
    dispatches_max: int = 10
    dispatches_alone: int = 3

    def __post_init__(self) -> None:
        if self.lease_interval * 3 > self.lease_ttl:
            raise ValueError(
                f"lease_interval {self.lease_interval} must be at most a third of lease_ttl {self.lease_ttl}"
            )
        if self.poll_interval >= self.timer_horizon:
            raise ValueError(f"poll_interval {self.poll_interval} must be less than timer_horizon {self.timer_horizon}")
        for name in (
            "page_size",
            "slice_size",
            "checkpoints_max",
            "sessions_max",
            "entity_batch_max",
            "dispatches_max",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
