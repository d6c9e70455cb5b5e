"""Who listens on a port of this machine, as far as the system tells."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

_LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp
_LOOKUP_TIMEOUT_S = 3


class Process(Struct, frozen=True):
    """A process and how to end it."""

    pid: int
    name: str

    @property
    def stop_command(self) -> str:
        """What to type to end it."""
        return f"taskkill /PID {self.pid}" if sys.platform == "win32" else f"kill {self.pid}"


def who_listens(port: int) -> Process | None:
    """The process that listens on `port`, or None if that cannot be told."""
    if Path("/proc/net/tcp").exists():
        return _from_proc(port)
    lsof = shutil.which("lsof")
    return _from_lsof(lsof, port) if lsof is not None else None


def _from_proc(port: int) -> Process | None:
    wanted = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not wanted:
        return None
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and wanted & set(_open_files(entry)):
            return Process(int(entry.name), _name_of(entry))
    return None


def _listening_inodes(port: int) -> Iterator[str]:
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        try:
            lines = table.read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def _open_files(process: Path) -> Iterator[str]:
    try:
        for each in (process / "fd").iterdir():
            try:
                yield os.readlink(each)
            except OSError:
                continue
    except OSError:
        return  # another user's process, or one that has just ended


def _name_of(process: Path) -> str:
    try:
        words = (process / "cmdline").read_text("utf-8", "replace").split("\0")
        if any(Path(word).name in ("perdure", "perdure.exe") for word in words):
            return "perdure"
        return (process / "comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "a process"


def _from_lsof(lsof: str, port: int) -> Process | None:
    try:
        answer = subprocess.run(
            [lsof, "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"],
            capture_output=True,
            text=True,
            timeout=_LOOKUP_TIMEOUT_S,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    fields = {line[:1]: line[1:] for line in answer.splitlines() if line}
    return Process(int(fields["p"]), fields.get("c", "a process")) if fields.get("p", "").isdigit() else None
