"""Runs seeds of the simulator: `python tests/fault/simulate.py --seeds 1000 [--first 1] [--store memory] [--jobs 2]`.

A seed that breaks a promise is printed with the promise and with the command that repeats it and shows every move.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from multiprocessing import Pool

from simulator.run import Result, simulate

SHOWN_MAX = 20


def main() -> int:
    parser = argparse.ArgumentParser(description="Simulate hosts, crashes and time.")
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds to run on each store")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--store", choices=("memory", "sqlite", "both"), default="both")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--trace", action="store_true", help="print every move")
    given = parser.parse_args()
    stores = ("memory", "sqlite") if given.store == "both" else (given.store,)
    # On SQLite a quarter as many: it costs more, and the engine above is the same.
    todo = [
        (seed, store, given.trace)
        for store in stores
        for seed in range(
            given.first, given.first + max(1, given.seeds // (1 if len(stores) == 1 or store == "memory" else 4))
        )
    ]
    return run_all(todo, given.jobs)


def run_all(todo: list[tuple[int, str, bool]], jobs: int) -> int:
    """Run the seeds and print what they found; returns the exit code."""
    began = time.monotonic()
    failed = commits = deeds = 0
    virtual_s = 0.0
    with Pool(jobs) if jobs > 1 else _InProcess() as pool:
        for outcome in pool.imap_unordered(run_one, todo, 8):
            if isinstance(outcome, str):
                failed += 1
                print(outcome, flush=True)
                continue
            commits += outcome.commits
            deeds += outcome.deeds
            virtual_s += outcome.seconds
            if outcome.findings:
                failed += 1
                if failed <= SHOWN_MAX:
                    print(report(outcome), flush=True)
    took = time.monotonic() - began
    print(
        f"{len(todo)} seeds, {failed} failed; {commits} checkpoints, {deeds} faults, {virtual_s / 3600:.1f} virtual "
        f"hours in {took:.1f} s ({len(todo) / took:.0f} seeds/s)"
    )
    return 1 if failed else 0


def run_one(task: tuple[int, str, bool]) -> Result | str:
    seed, store, is_traced = task
    try:
        return simulate(seed, store, trace=print if is_traced else None)
    except Exception:
        return f"seed {seed} on {store} broke the simulator:\n{traceback.format_exc()}"


def report(result: Result) -> str:
    """What a seed found, and how to see it again."""
    lines = [f"seed {result.seed} on {result.store} breaks promises:"]
    lines += [f"  {each.invariant} at {each.at:.3f} s: {each.sentence}" for each in result.findings[:4]]
    lines.append(
        f"  again: python tests/fault/simulate.py --store {result.store} --first {result.seed} --seeds 1 --trace"
    )
    return "\n".join(lines)


class _InProcess:
    def __enter__(self) -> _InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""

    def imap_unordered(self, function: object, tasks: list[tuple[int, str, bool]], _: int) -> map[Result | str]:
        return map(function, tasks)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
