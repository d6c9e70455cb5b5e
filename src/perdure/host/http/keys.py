"""The keys of one app: what callers have to show when keys are asked for. Kept beside the app, for its owner only.

Names are paths: `master`, `host/default`, `system/durabletask_extension`, `functions/hello/default`, `read/dashboard`
and `operate/support` for parts of the management API, and `links` for the one that never leaves the file, with which
links are signed.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path

import msgspec

from perdure.errors import AppError

MASTER = "master"
LINKS = "links"
HOST_DEFAULT = "host/default"
MANAGEMENT = "system/durabletask_extension"
FIRST_KEYS = (MASTER, HOST_DEFAULT, MANAGEMENT, LINKS)

KEY_BYTES = 32
KEY_CHARACTERS_MAX = 256  # of one that somebody chose: it travels in URLs

_NAME = re.compile(
    r"master|links|(?:host|system|read|operate|functions/[a-z][a-z0-9_-]{0,127})/[a-z0-9][a-z0-9._-]{0,127}"
)


class Keys:
    """The key file of one app, which several processes may read and change.

    Invariants: a change is whole or not at all; nobody but the owner can read the file; what another process changed
    counts from the next question on.
    """

    def __init__(self, file: Path) -> None:
        """Nothing is read or written yet."""
        self._file = file
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._values: dict[str, str] = {}
        self._digests: dict[str, bytes] = {}

    def values(self) -> Mapping[str, str]:
        """All keys by name; none if there is no file yet.

        Raises:
            AppError: the file cannot be used, or others can read it.
        """
        self._refresh()
        return self._values

    def matches(self, names: Iterable[str], presented: str) -> bool:
        """Whether `presented` is one of the keys of these names; how long that takes tells nothing about them."""
        self._refresh()
        digest = _digest(presented)
        found = [hmac.compare_digest(self._digests[name], digest) for name in names if name in self._digests]
        return any(found)

    def names(self, prefix: str) -> list[str]:
        """The names that begin like this."""
        self._refresh()
        return [name for name in self._values if name.startswith(prefix)]

    def ensure(self, names: Iterable[str]) -> None:
        """Make the keys that are missing."""
        missing = [name for name in names if name not in self.values()]
        if missing:
            self._change(lambda values: {name: secrets.token_urlsafe(KEY_BYTES) for name in missing} | values)

    def put(self, name: str, value: str | None = None) -> tuple[str, bool]:
        """Make a key or replace it, by default with a new secret; returns it and whether it is a new one.

        Raises:
            ValueError: the name or the value is none that a key can have.
        """
        name = checked_name(name)
        if value is not None and not (0 < len(value) <= KEY_CHARACTERS_MAX and value.isascii() and value.isprintable()):
            raise ValueError(f"A key has 1 to {KEY_CHARACTERS_MAX} printable ASCII characters.")
        new = secrets.token_urlsafe(KEY_BYTES) if value is None else value
        before = self._change(lambda values: {**values, name: new})
        return new, name not in before

    def remove(self, name: str) -> bool:
        """Remove a key; False if there is none.

        Raises:
            ValueError: the name is none that a key can have, or a host cannot do without this key.
        """
        name = checked_name(name)
        if name in FIRST_KEYS:
            raise ValueError(f"A host needs the key '{name}': renew it instead.")
        before = self._change(lambda values: {each: value for each, value in values.items() if each != name})
        return name in before

    def _refresh(self) -> None:
        """Read the file again if it is another one than before."""
        try:
            status = self._file.stat(follow_symlinks=False)
        except FileNotFoundError:
            self._seen, self._values, self._digests = None, {}, {}
            return
        seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        if seen == self._seen:
            return
        values = self._read()
        self._values, self._digests = values, {name: _digest(value) for name, value in values.items()}
        self._seen = seen

    def _read(self) -> dict[str, str]:
        try:
            descriptor = os.open(self._file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            with open(descriptor, "rb") as file:
                if sys.platform != "win32" and os.fstat(descriptor).st_mode & 0o077:
                    raise AppError(
                        "DF140",
                        "Others can read the keys of this app",
                        f"{self._file} is open to more users than its owner.",
                        f"Close it, and replace what may be known:  chmod 600 {self._file}  and  perdure keys rotate",
                    )
                return msgspec.json.decode(file.read(), type=dict[str, str])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as error:
            raise AppError(
                "DF140",
                "The keys of this app cannot be read",
                f"{self._file}: {error}",
                "Put the file right, or remove it: new keys are made at the next start, and the old ones end.",
            ) from error

    def _change(self, change: Callable[[dict[str, str]], dict[str, str]]) -> dict[str, str]:
        """Write what `change` makes of all keys, and return what they were."""
        with self._lock, _exclusively(self._file.with_suffix(".lock")):
            before = self._read()
            new = self._file.with_suffix(".new")
            new.unlink(missing_ok=True)
            with open(os.open(new, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(change(before), order="sorted")) + b"\n")
            new.replace(self._file)
        return before


def checked_name(name: str) -> str:
    """The name of a key in the form that is kept: case does not matter.

    Raises:
        ValueError: it is none.
    """
    lowered = name.lower()
    if _NAME.fullmatch(lowered) is None:
        raise ValueError(
            f"'{name}' is no name of a key: they are {', '.join(FIRST_KEYS)}, and for more host/NAME, system/NAME, "
            "operate/NAME, read/NAME or functions/FUNCTION/NAME."
        )
    return lowered


def function_keys(function: str) -> str:
    """What the names of a function's own keys begin with."""
    return f"functions/{function.lower()}/"


def is_same_secret(presented: str, secret: str) -> bool:
    """Whether two texts are equal; how long that takes tells nothing about either."""
    return hmac.compare_digest(_digest(presented), _digest(secret))


def _digest(text: str) -> bytes:
    # Digests are equally long whatever was presented, so comparing them takes equally long too.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


@contextlib.contextmanager
def _exclusively(lock: Path) -> Generator[None, None, None]:
    """Keep other processes from changing the file meanwhile."""
    with open(os.open(lock, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
