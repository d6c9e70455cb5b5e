"""What an engine counts. A second-line counter above zero without a fault injected is a defect."""

from __future__ import annotations

from msgspec import Struct


class Counters(Struct):
    """Totals since the engine started.

    Attributes:
        episodes, commits, checkpoints, activities, cold_loads: work done.
        lost: batches refused because the lease was lost (second line).
        stale: checkpoints left out because a client changed the instance.
        dropped: mail not taken in, by reason; "repeated" is second line.
        quarantined: instances that could not be run because of a defect or a damaged row.
    """

    episodes: int = 0
    commits: int = 0
    checkpoints: int = 0
    activities: int = 0
    cold_loads: int = 0
    lost: int = 0
    stale: int = 0
    quarantined: int = 0
    dropped: dict[str, int] = {}

    def drop(self, dropped: dict[str, int]) -> None:
        """Add mail that an episode did not take in."""
        for reason, count in dropped.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + count
