"""Which partitions a host should hold.

Rule 1: every host computes the same map from the same list of live hosts; nobody negotiates.
Rule 2: no clock, no store: who lives is an argument.
"""

from __future__ import annotations

from collections.abc import Collection
from hashlib import blake2b


def balance(partitions: int, hosts: Collection[str], host_id: str) -> frozenset[int]:
    """The partitions that `host_id` should hold among the live `hosts`.

    Rendezvous hashing: when a host comes or goes, only the partitions that it gains or had change hands.
    """
    live = {*hosts, host_id}
    return frozenset(p for p in range(partitions) if max(live, key=lambda host: _weight(host, p)) == host_id)


def _weight(host: str, partition: int) -> bytes:
    return blake2b(f"{partition}/{host}".encode(), digest_size=8).digest()
