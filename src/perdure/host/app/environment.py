"""Which Python runs the app: its own virtual environment counts, not the one that perdure happens to be in."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import MutableMapping, Sequence
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from perdure.errors import AppError

# "this" keeps the interpreter that runs perdure. Set for the process that is handed over to, so that it never hands on.
INTERPRETER_VARIABLE = "PERDURE_INTERPRETER"

VENV_NAMES = (".venv", "venv", "env")

_LOOKUP_TIMEOUT_S = 20


def app_interpreter(folder: Path) -> Path | None:
    """The Python of the virtual environment beside host.json if another one is running now, else None."""
    for name in VENV_NAMES:
        venv = folder / name
        if not (venv / "pyvenv.cfg").is_file():
            continue
        if Path(sys.prefix).resolve() == venv.resolve():
            return None
        python = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        if python.exists():
            return python
    return None


def hand_over(folder: Path, arguments: Sequence[str], environ: MutableMapping[str, str]) -> None:
    """Go on in the app's own environment if this is another one; returns only if this one is right.

    Args:
        folder: the app's.
        arguments: perdure's own, to be repeated there.

    Raises:
        AppError: the app has an environment of its own, but perdure is not installed in it.
        SystemExit: on Windows, with the exit code of the process that took over.
    """
    if environ.pop(INTERPRETER_VARIABLE, None) == "this":
        return
    python = app_interpreter(folder)
    if python is None:
        return
    if not _has_perdure(python):
        shown = _shown(python)
        raise AppError(
            "DF109",
            "This app has an environment of its own, and perdure is not in it",
            f"perdure runs in {sys.prefix}, the app's packages are in {python.parent.parent}.",
            f"Run:  {shown} -m pip install {_origin()}",
            f"then  {shown} -m perdure {' '.join(arguments)}",
            f"To use this interpreter all the same, set {INTERPRETER_VARIABLE}=this",
        )
    environ[INTERPRETER_VARIABLE] = "this"
    command = [str(python), "-m", "perdure", *arguments]
    if os.name != "nt":
        os.execv(command[0], command)
    # Windows has no exec: a new process would run beside the shell's prompt. Ctrl-C reaches both, and the child drains.
    with subprocess.Popen(command) as child:
        while True:
            try:
                raise SystemExit(child.wait())
            except KeyboardInterrupt:
                continue


def describe_interpreter(folder: Path) -> str:
    """The running Python in a few words: where it is and its version."""
    prefix = Path(sys.prefix)
    where = prefix.name if prefix.is_relative_to(folder) else sys.executable
    return f"{where} (Python {platform.python_version()})"


def requirement_hint(folder: Path, module: str) -> list[str]:
    """What to do about a module that cannot be imported."""
    top = module.partition(".")[0]
    interpreter = describe_interpreter(folder)
    requirements = folder / "requirements.txt"
    listed = _requirement_for(requirements, top) if requirements.is_file() else None
    python = _shown(Path(sys.executable))
    if listed is not None:
        return [
            f"Interpreter: {interpreter}. requirements.txt lists {listed} but it is not installed there.",
            f"Run:  {python} -m pip install -r requirements.txt",
        ]
    where = "requirements.txt does not list it" if requirements.is_file() else "There is no requirements.txt"
    return [
        f"Interpreter: {interpreter}. {where}.",
        f"If '{top}' is a package, add it to requirements.txt, then run:  {python} -m pip install -r requirements.txt",
    ]


def _requirement_for(requirements: Path, module: str) -> str | None:
    """The name in requirements.txt that most likely brings `module`."""
    for line in requirements.read_text("utf-8", errors="replace").splitlines():
        named = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", line)
        if named and _normal(named[1]) in (_normal(module), f"python-{_normal(module)}", f"py{_normal(module)}"):
            return named[1]
    return None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).casefold()


def _has_perdure(python: Path) -> bool:
    look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('perdure') is None)"
    try:
        # Looked up from the environment's own folder: a folder called perdure in the app would count otherwise.
        found = subprocess.run(
            [str(python), "-c", look], cwd=python.parent, timeout=_LOOKUP_TIMEOUT_S, capture_output=True, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return found.returncode == 0


def _origin() -> str:
    """What pip installs this very perdure from: the folder that it came from, or its name."""
    written = metadata.distribution("perdure").read_text("direct_url.json")
    url = urlsplit(json.loads(written)["url"] if written else "")
    return shlex.quote(url2pathname(url.path)) if url.scheme == "file" else "perdure"


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
