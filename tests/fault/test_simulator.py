"""Hosts, crashes and time, simulated: every promise holds on every seed, and the same seed is the same run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from simulate import report
from simulator.run import simulate

SEEDS = {"memory": 600, "sqlite": 150}

# What a run of that many seeds must come across, or it proves little.
MUST_BE_REACHED = {
    "activity run again",
    "child",
    "child refused",
    "batch of several",
    "cold load",
    "crashed under a lock",
    "dropped after termination",
    "dropped for a finished instance",
    "dropped of another execution",
    "ended under a lock",
    "entity gone",
    "event carried",
    "event discarded",
    "failed",
    "granted",
    "lease lost",
    "poison",
    "purged",
    "replaced child answers",
    "replaced while running",
    "rewound",
    "scheduled start",
    "stale",
    "start repeated",
    "suspended",
    "terminated",
    "terminated with its parent",
    "told",
    "tried again",
    "wrong version",
}

DIGESTS = """
from simulator.run import simulate
print(*(simulate(seed, store).digest for store in ("memory", "sqlite") for seed in range(1, 16)))
"""


@pytest.mark.parametrize("store", SEEDS)
def test_every_promise_holds_whatever_happens(store: str):
    reached: Counter[str] = Counter()
    broken: list[str] = []

    for seed in range(1, SEEDS[store] + 1):
        result = simulate(seed, store)
        reached.update(result.reached)
        if result.findings:
            broken.append(report(result))

    assert not broken, "\n".join(broken[:5])
    unseen = {each for each in MUST_BE_REACHED if not reached[each]} if store == "memory" else set[str]()
    assert not unseen, f"no seed came across: {unseen}"


def test_the_same_seed_is_the_same_run_whatever_the_hash_seed():
    digests = {_digests(hash_seed) for hash_seed in ("0", "4711")}

    (only,) = digests
    assert len(set(only.split())) == 30


def _digests(hash_seed: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", DIGESTS],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout
