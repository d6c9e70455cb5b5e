"""What a run cost: time, processor, disk flushes, and how much of the machine others used meanwhile."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

# Kernels from 5.5 on count flush requests in this column of /proc/diskstats, counted from 0.
FLUSHES_COLUMN = 18


class Meter:
    """`with Meter(folder) as meter: ...`, then `meter.fields()`.

    Attributes:
        seconds: wall time.
        cpu_s: processor time of this process and of `pids`, or None where the system does not say.
        disk_flushes: flush requests that the disk of `folder` got, from everybody, or None.
        foreign_cpu: share of all processors that others used, or None: above 0.2 the figures mean little.
    """

    def __init__(self, folder: str | os.PathLike[str], pids: tuple[int, ...] = ()) -> None:
        self._disk = _disk_of(folder)
        self._pids = pids
        self.seconds = 0.0
        self.cpu_s: float | None = None
        self.disk_flushes: int | None = None
        self.foreign_cpu: float | None = None

    def __enter__(self) -> Meter:
        self._before = self._read()
        return self

    def __exit__(self, *_: object) -> None:
        before, after = self._before, self._read()
        self.seconds = after[0] - before[0]
        self.cpu_s = _difference(after[1], before[1])
        self.disk_flushes = _difference(after[2], before[2])
        busy = _difference(after[3], before[3])
        if busy is not None and self.cpu_s is not None:
            cores = os.cpu_count() or 1
            self.foreign_cpu = max(0.0, busy - self.cpu_s) / (self.seconds * cores)

    def _read(self) -> tuple[float, float, int | None, float | None]:
        cpu = time.process_time() + sum(cpu_seconds(pid) or 0.0 for pid in self._pids)
        return time.perf_counter(), cpu, _flushes(self._disk), _busy_seconds()


def median_of(values: list[Any]) -> Any:
    """The middle value, or the lower of the two in the middle; None if one is unknown."""
    return None if None in values or not values else sorted(values)[(len(values) - 1) // 2]


def least_of(values: list[Any]) -> Any:
    """The smallest value, for what others can only add to; None if one is unknown."""
    return None if None in values or not values else min(values)


def percentile(values: list[float], percent: float) -> float:
    """The value that `percent` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def rounded(value: float | None, digits: int = 3) -> float | None:
    """`value` for printing; None stays None."""
    return None if value is None else round(value, digits)


def rss_mb(pid: int) -> float | None:
    """Resident memory of a process in megabytes, or None where the system does not say."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS:")), None)


def cpu_seconds(pid: int) -> float | None:
    """Processor time that a process has used so far, or None where the system does not say."""
    try:
        # The command name, in brackets, may contain blanks; user and system time are the 12th and 13th after it.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _difference(after: Any, before: Any) -> Any:
    return None if after is None or before is None else after - before


def _busy_seconds() -> float | None:
    if sys.platform != "linux":
        return None
    user, nice, system, _idle, _iowait, irq, softirq, *_ = map(
        int, Path("/proc/stat").read_text().split("\n")[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _disk_of(folder: str | os.PathLike[str]) -> str | None:
    """Name of the whole disk that holds `folder`, as /proc/diskstats has it."""
    if sys.platform != "linux":
        return None
    number = os.stat(folder).st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if not device.exists():
        return None
    device = device.resolve()
    return device.parent.name if (device / "partition").exists() else device.name


def _flushes(disk: str | None) -> int | None:
    if disk is None:
        return None
    for line in Path("/proc/diskstats").read_text().splitlines():
        fields = line.split()
        if fields[2] == disk and len(fields) > FLUSHES_COLUMN:
            return int(fields[FLUSHES_COLUMN])
    return None
