"""The benchmarks: one JSON line per workload and size.

    python bench/run.py --workload W1 --activities async --n 10000
    python bench/run.py --workload all

W1  n orchestrations of 3 activities, started at once; beside it the bare loop of ceiling.py, measured in turn with it
W2  one orchestration that calls n activities at the same time
W3  one orchestration that calls n activities one after the other
W4  one orchestration of 3 activities at a time: in this process, and over HTTP
W5  entities, n operations each time: calls that are waited for, from 10 orchestrations to 10 entities, and from n to
    10; signals from a client, to 1 entity, and 10 each to 1,000; W1 with 500 orchestrations in turn with them
W6  start-up and memory of `perdure start`
W7  kill -9 with n orchestrations in flight, and the restart
W8  one orchestration that calls n activities which compute, in turn in the host's process and in two worker processes;
    beside it what two bare processes gain, and the same with activities that do nothing, ten times as many
W9  n POSTs to an HTTP function that starts an orchestration and answers with its links, from a process beside it:
    orchestrations that end at once, and those of 3 activities; in turn with a function that only answers

Figures are medians over the repetitions, each on a fresh store. A record whose `foreign_cpu` is above 0.2 was taken
while others used the machine; take it again.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ceiling
import in_process
from host_process import HostProcess, import_ms
from meter import Meter, cpu_seconds, least_of, median_of, percentile, rounded, rss_mb

SIZES = {
    "W1": (500, 10_000),
    "W2": (1_000, 5_000),
    "W3": (2_000,),
    "W4": (200,),
    "W5": (2_000,),
    "W6": (10_000,),
    "W7": (500,),
    "W8": (200,),
    "W9": (10_000,),
}
WARM_UP = 50
HTTP_CALLS = 200
ENTITIES = 10
MANY_ENTITIES = 1_000
SIGNALS_EACH = 10
BESIDE_IT = 500  # orchestrations of W1


def main() -> None:
    arguments = parsed()
    for workload in SIZES if arguments.workload == "all" else (arguments.workload,):
        for n in (arguments.n,) if arguments.n else SIZES[workload]:
            for activities in kinds(workload, arguments.activities):
                with scratch(arguments.dir) as folder:
                    record = WORKLOADS[workload](Run(folder, arguments.store, activities, n, arguments.repeat))
                emit(workload, n, activities, arguments.store, record)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", choices=[*SIZES, "all"], default="all")
    parser.add_argument("--activities", choices=["async", "sync"], help="both if left out")
    parser.add_argument("--n", type=int, help="size instead of the standard ones")
    parser.add_argument(
        "--store", default="sqlite:", help="'sqlite:' makes a file below --dir; 'memory:' keeps nothing"
    )
    parser.add_argument("--repeat", type=int, default=3, help="repetitions, of which the median counts")
    parser.add_argument("--dir", type=Path, default=Path(), help="where files are made; should be on a real disk")
    return parser.parse_args()


def kinds(workload: str, asked: str | None) -> tuple[str, ...]:
    if workload in ("W5", "W6", "W7", "W9"):
        return ("async",)
    if workload == "W8":
        return ("sync",)
    return (asked,) if asked else ("async", "sync")


def emit(workload: str, n: int, activities: str, store: str, record: dict[str, Any]) -> None:
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    print(
        json.dumps({"workload": workload, "n": n, "activities": activities, "store": store, **record, **machine}),
        flush=True,
    )


class Run:
    """What one record is about."""

    def __init__(self, folder: Path, store: str, activities: str, n: int, repeat: int) -> None:
        self.folder = folder
        self.store = store
        self.n = n
        self.repeat = repeat
        self.suffix = "" if activities == "async" else "_sync"
        self.is_sync = activities == "sync"

    def url(self, number: int) -> str:
        """A fresh store."""
        return f"sqlite:{self.folder / f'{number}.db'}" if self.store == "sqlite:" else self.store


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=folder.resolve()) as name:
        yield Path(name)


# ---------------------------------------------------------------- in this process


def w1(run: Run) -> dict[str, Any]:
    ours: list[in_process.Cost] = []
    bare: list[float] = []
    threads = in_process.POOL_THREADS if run.is_sync else 0  # the same for both
    for number in range(run.repeat):
        bare.append(ceiling.run(run.folder, run.n, threads))
        ours.append(in_process.hello_at_once(run.url(number), run.folder, f"say_hello{run.suffix}", run.n, WARM_UP))
        gc.collect()
    per_s, ceiling_per_s = median_of([run.n / each.seconds for each in ours]), median_of(bare)
    return {
        "orchestrations_per_s": round(per_s),
        "ceiling_per_s": round(ceiling_per_s),
        "ratio": round(per_s / ceiling_per_s, 3),
        **spent(ours, run.n),
    }


def w2(run: Run) -> dict[str, Any]:
    ours = [
        in_process.one(run.url(number), run.folder, "fan_out", [f"say_hello{run.suffix}", run.n])
        for number in range(run.repeat)
    ]
    return {"s": rounded(median_of([each.seconds for each in ours])), **spent(ours, run.n)}


def w3(run: Run) -> dict[str, Any]:
    ours = [
        in_process.one(run.url(number), run.folder, "chain", [f"tick{run.suffix}", run.n])
        for number in range(run.repeat)
    ]
    edge = min(100, len(ours[0].ticks) // 2)
    first = median_of([(each.ticks[edge] - each.ticks[0]) / edge * 1000 for each in ours])
    last = median_of([(each.ticks[-1] - each.ticks[-1 - edge]) / edge * 1000 for each in ours])
    return {
        "s": rounded(median_of([each.seconds for each in ours])),
        "ms_per_step_first_100": rounded(first),
        "ms_per_step_last_100": rounded(last),
        "last_to_first": rounded(last / first, 2),
        **spent(ours, run.n),
    }


def w4(run: Run) -> dict[str, Any]:
    activity = f"say_hello{run.suffix}"
    cost, latencies = in_process.one_at_a_time(run.url(0), run.folder, activity, run.n, WARM_UP)
    over_http = http_latencies(run, activity)
    return {
        "p50_ms": rounded(percentile(latencies, 50) * 1000),
        "p95_ms": rounded(percentile(latencies, 95) * 1000),
        "http_p50_ms": rounded(percentile(over_http, 50) * 1000),
        "http_p95_ms": rounded(percentile(over_http, 95) * 1000),
        **spent([cost], run.n),
    }


def w5(run: Run) -> dict[str, Any]:
    calls: list[in_process.Cost] = []
    figures: dict[str, list[float]] = {}
    for number in range(run.repeat):
        beside = in_process.hello_at_once(run.url(5 * number), run.folder, "say_hello", BESIDE_IT, WARM_UP)
        calls.append(
            in_process.entity_calls(run.url(5 * number + 1), run.folder, ENTITIES, run.n // ENTITIES, ENTITIES)
        )
        once = in_process.entity_calls(run.url(5 * number + 2), run.folder, run.n, 1, ENTITIES)
        hot = in_process.entity_signals(run.url(5 * number + 3), run.folder, 1, run.n)
        wide = in_process.entity_signals(run.url(5 * number + 4), run.folder, MANY_ENTITIES, SIGNALS_EACH)
        for name, count, cost in (
            ("calls_per_s", run.n, calls[-1]),
            ("calls_at_once_per_s", run.n, once),
            ("signals_per_s", run.n, hot),
            ("signals_to_many_per_s", MANY_ENTITIES * SIGNALS_EACH, wide),
            ("w1_orchestrations_per_s", BESIDE_IT, beside),
        ):
            figures.setdefault(name, []).append(count / cost.seconds)
        gc.collect()
    return {**{name: round(median_of(values)) for name, values in figures.items()}, **spent(calls, run.n)}


def spent(costs: list[in_process.Cost], n: int) -> dict[str, Any]:
    """The fields that all runs in this process share; `n` is what the costs are divided by."""
    flushes = least_of([each.disk_flushes for each in costs])
    cpu_s = median_of([each.cpu_s for each in costs])
    rows = median_of([each.rows_written for each in costs])
    return {
        "disk_flushes": flushes,
        "disk_flushes_each": rounded(None if flushes is None else flushes / n, 4),
        "commits": median_of([each.commits for each in costs]),
        "cpu_s": rounded(cpu_s),
        "cpu_ms_each": rounded(None if cpu_s is None else cpu_s / n * 1000, 4),
        "rows_each": rounded(None if rows is None else rows / n, 2),
        "foreign_cpu": rounded(median_of([each.foreign_cpu for each in costs])),
        "repeated": len(costs),
    }


# ---------------------------------------------------------------- real hosts


def http_latencies(run: Run, activity: str) -> list[float]:
    latencies: list[float] = []
    with HostProcess(run.url(1)) as host:
        host.wait_until_ready()
        for number in range(WARM_UP + HTTP_CALLS):
            before = time.perf_counter()
            status, _ = host.start_and_wait("hello", activity)
            if number >= WARM_UP:
                latencies.append(time.perf_counter() - before)
            require(status == 200, f"the waiting start answered {status}")
    return latencies


def w6(run: Run) -> dict[str, Any]:
    ready: list[float] = []
    first: list[float] = []
    for number in range(run.repeat):
        with HostProcess(run.url(number)) as host:
            ready.append(host.wait_until_ready())
            host.start_and_wait("hello", "say_hello")
            first.append(time.perf_counter() - host.launched_at)
    with HostProcess(run.url(run.repeat)) as host:
        host.wait_until_ready()
        host.start_and_wait("hello", "say_hello")
        host.wait_until_quiet()
        idle_mb, idle_cpu = rss_mb(host.pid), cpu_share(host.pid)
        before = time.perf_counter()
        host.post(f"/api/start/park?n={run.n}")
        host.wait_until_quiet()
        parked_s = time.perf_counter() - before
        if run.store == "sqlite:":
            require(instances(run.url(run.repeat)) == {"Running": run.n, "Completed": 1}, "not all are parked")
        parked_mb, parked_cpu = rss_mb(host.pid), cpu_share(host.pid)
    return {
        "import_ms": rounded(import_ms("perdure.cli.main"), 1),
        "ready_s": rounded(median_of(ready)),
        "first_result_s": rounded(median_of(first)),
        "rss_idle_mb": rounded(idle_mb, 1),
        "rss_parked_extra_mb": rounded(None if idle_mb is None or parked_mb is None else parked_mb - idle_mb, 1),
        "idle_cpu": rounded(idle_cpu, 4),
        "parked_cpu": rounded(parked_cpu, 4),
        "parking_s": rounded(parked_s, 2),
        "repeated": run.repeat,
    }


def instances(url: str) -> dict[str, int]:
    """How many instances a store's file has, by status. Reads it beside the host, without a lock."""
    connection = sqlite3.connect(f"file:{url.removeprefix('sqlite:')}?mode=ro", uri=True)
    try:
        return dict(connection.execute("select status, count(*) from instances group by status").fetchall())
    finally:
        connection.close()


def require(claim: bool, otherwise: str) -> None:
    if not claim:
        raise AssertionError(otherwise)


def cpu_share(pid: int, seconds: float = 4.0) -> float | None:
    """Share of one core that a process uses while nothing is asked of it."""
    before, begun = cpu_seconds(pid), time.perf_counter()
    time.sleep(seconds)
    after = cpu_seconds(pid)
    return None if before is None or after is None else (after - before) / (time.perf_counter() - begun)


def w7(run: Run) -> dict[str, Any]:
    if not run.store.startswith("sqlite:"):
        return {"skipped": "needs a store that outlives its process"}
    seconds: list[float] = []
    flushes: list[Any] = []
    for number in range(run.repeat):
        gate = run.folder / f"{number}.gate"
        url = run.url(number)
        with HostProcess(url, BENCH_GATE=str(gate)) as host:
            host.wait_until_ready()
            host.post(f"/api/start/interrupted?n={run.n}")
            host.wait_until_quiet()
            host.kill()
        require(instances(url) == {"Running": run.n}, f"in flight at the kill: {instances(url)}")
        gate.touch()
        with Meter(run.folder) as meter, HostProcess(url, BENCH_GATE=str(gate)) as host:
            while instances(url) != {"Completed": run.n}:
                require(time.perf_counter() - host.launched_at < 60, f"still not all completed: {instances(url)}")
                time.sleep(0.01)
            seconds.append(time.perf_counter() - host.launched_at)
        flushes.append(meter.disk_flushes)
    return {
        "recovered_s": rounded(median_of(seconds)),
        "slowest_s": rounded(max(seconds)),
        "completed": run.n,
        "disk_flushes": least_of(flushes),
        "repeated": run.repeat,
    }


def w8(run: Run) -> dict[str, Any]:
    seconds: dict[tuple[str, int], list[float]] = {}
    for number in range(run.repeat):
        for processes in (1, 2):
            seconds.setdefault(("bare", processes), []).append(bare(processes, run.n))
            url = run.url(2 * number + processes)
            with HostProcess(url, FUNCTIONS_WORKER_PROCESS_COUNT=str(processes)) as host:
                host.wait_until_ready()
                for activity, n in (("crunch", run.n), ("say_hello_sync", 10 * run.n)):
                    host.start_and_wait("fan_out", [activity, 20])
                    before = time.perf_counter()
                    status, _ = host.start_and_wait("fan_out", [activity, n])
                    seconds.setdefault((activity, processes), []).append(time.perf_counter() - before)
                    require(status == 200, f"the waiting start answered {status}")
    median = {key: median_of(values) for key, values in seconds.items()}
    return {
        "s_in_host": rounded(median["crunch", 1]),
        "s_in_two": rounded(median["crunch", 2]),
        "times_as_fast": rounded(median["crunch", 1] / median["crunch", 2], 2),
        "bare_times_as_fast": rounded(median["bare", 1] / median["bare", 2], 2),
        "nothing_us_each_in_host": rounded(median["say_hello_sync", 1] / (10 * run.n) * 1e6, 1),
        "nothing_us_each_in_two": rounded(median["say_hello_sync", 2] / (10 * run.n) * 1e6, 1),
        "repeated": run.repeat,
    }


def bare(processes: int, n: int) -> float:
    """Seconds that so many processes take for what `n` activities of W8 compute, without anything around it."""
    code = f"for _ in range({n // processes}): sum(each * each % 7 for each in range(250_000))"
    before = time.perf_counter()
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(processes)]
    for each in running:
        require(each.wait() == 0, "a bare process failed")
    return time.perf_counter() - before


def w9(run: Run) -> dict[str, Any]:
    paths = {"starts": "/api/begin/nothing", "hello_starts": "/api/begin/hello?input=say_hello", "pings": "/api/ping"}
    loads: dict[str, list[dict[str, Any]]] = {name: [] for name in paths}
    foreign: list[Any] = []
    cpu: list[Any] = []
    with HostProcess(run.url(0)) as host:
        host.wait_until_ready()
        for path in paths.values():
            load(host.port, path, WARM_UP)
        for _ in range(run.repeat):
            for name, path in paths.items():
                host.wait_until_quiet()
                with Meter(run.folder, (host.pid,)) as meter:
                    loads[name].append(load(host.port, path, run.n))
                if name == "starts":
                    cpu.append(None if meter.cpu_s is None else meter.cpu_s / run.n * 1000)
                    foreign.append(others(meter, loads[name][-1]["cpu_s"]))
    per_s = {name: median_of([run.n / each["seconds"] for each in records]) for name, records in loads.items()}
    return {
        **{f"{name}_per_s": round(value) for name, value in per_s.items()},
        "starts_to_pings": rounded(per_s["starts"] / per_s["pings"]),
        "p50_ms": median_of([each["p50_ms"] for each in loads["starts"]]),
        "p99_ms": median_of([each["p99_ms"] for each in loads["starts"]]),
        "cpu_ms_each": rounded(median_of(cpu)),
        "foreign_cpu": rounded(median_of(foreign)),
        "repeated": run.repeat,
    }


def load(port: int, path: str, requests: int) -> dict[str, Any]:
    """What the load generator says of that many requests, all of which have to succeed."""
    command = [sys.executable, str(Path(__file__).with_name("load.py")), "--port", str(port), "--path", path]
    done = subprocess.run([*command, "--requests", str(requests)], check=True, capture_output=True, text=True)
    record = json.loads(done.stdout)
    require(set(record["statuses"]) <= {"200", "202"}, f"answers: {record['statuses']}")
    return record


def others(meter: Meter, load_cpu_s: float) -> float | None:
    """The share of the machine that neither the host nor the load generator used."""
    if meter.foreign_cpu is None:
        return None
    return max(0.0, meter.foreign_cpu - load_cpu_s / meter.seconds / (os.cpu_count() or 1))


WORKLOADS = {"W1": w1, "W2": w2, "W3": w3, "W4": w4, "W5": w5, "W6": w6, "W7": w7, "W8": w8, "W9": w9}

if __name__ == "__main__":
    main()
