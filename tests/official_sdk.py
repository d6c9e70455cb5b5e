"""Environments of their own for the official SDK 1.x, as an app that uses it has one."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OFFICIAL = "azure-functions-durable==1.*"

# Where pytest keeps what lasts from one run to the next, and git does not look.
CACHE = ROOT / ".pytest_cache" / "d" / "official-sdk-1"

_PYTHON = "Scripts/python.exe" if os.name == "nt" else "bin/python"

# What pip says when it reached no index, besides its own conclusion that there is no such package.
_UNREACHED = ("connection broken by", "ConnectTimeoutError", "Could not fetch URL")


def official_python(cache: Path = CACHE) -> Path:
    """The interpreter of an environment with nothing but the official SDK, made once in `cache`.

    The test is skipped if no package index is reached.
    """
    environment = cache / f"python-{sys.version_info.major}.{sys.version_info.minor}"
    if not environment.exists():
        cache.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(dir=cache))
        _make(making)
        try:
            making.rename(environment)
        except OSError:  # another run was faster
            shutil.rmtree(making)
    return environment / _PYTHON


def app_environment(folder: Path, cache: Path = CACHE) -> Path:
    """Make the environment `folder` with the official SDK and perdure, and return its interpreter.

    It sees the packages of two others: those of the official SDK first, then those of the one that runs the tests.
    """
    official = packages_of(official_python(cache).parents[1])
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, env=without_python())
    ours = [each for each in sys.path if Path(each).name in ("site-packages", "dist-packages")]
    seen = [str(official), str(ROOT / "src"), *(ours or site.getsitepackages())]
    # Not site folders of this environment: the .pth files in them, such as the one of our SDK, do not count.
    (packages_of(folder) / "zz_seen.pth").write_text("\n".join(seen))
    return folder / _PYTHON


def packages_of(environment: Path) -> Path:
    """The folder that pip would install into."""
    base = str(environment)
    return Path(sysconfig.get_path("purelib", vars={"base": base, "platbase": base}))


def without_python() -> dict[str, str]:
    """The variables of this process without those that tell an interpreter where to look."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def _make(environment: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True, env=without_python())
    install = [str(environment / _PYTHON), "-m", "pip", "install", "--disable-pip-version-check", OFFICIAL]
    installed = subprocess.run(install, capture_output=True, text=True, check=False, env=without_python())
    if installed.returncode == 0:
        return
    shutil.rmtree(environment)
    said = installed.stdout + installed.stderr
    if any(each in said for each in _UNREACHED):
        pytest.skip(f"no package index is reached to install {OFFICIAL} from")
    raise AssertionError(f"{OFFICIAL} cannot be installed:\n{said}")
