"""What perdure keeps beside an app: its default store, and the note that tells where the running host is.

The command line and other programs read what the host writes, so this module knows neither the SDK nor a server.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from perdure.errors import AppError

STATE_FOLDER = ".perdure"


class HostNote(Struct, frozen=True):
    """What a host says about itself while it runs. A `kill -9` leaves the note behind.

    Attributes:
        url: its origin.
        pid: its process.
        hub: name of its task hub.
        store: its store's URL, if it is not the app's default one.
        token: what it wants to be shown by those who manage it, if it asks for keys.
    """

    url: str
    pid: int
    hub: str
    store: str | None = None
    token: str | None = None


class StateFolder:
    """The folder beside an app's host.json.

    Attributes:
        path: the folder.
        keys_file: where the app's keys are, if it has any.
    """

    def __init__(self, app: Path) -> None:
        self.path = app / STATE_FOLDER
        self.keys_file = self.path / "keys.json"
        self._note = self.path / "host.json"

    def store_url(self, hub: str) -> str:
        """Where a hub is kept if nobody says otherwise."""
        return f"sqlite:{self.path / f'{hub}.db'}"

    def prepare(self) -> None:
        """Make the folder, for its owner only and outside of version control.

        Raises:
            AppError: it cannot be written.
        """
        try:
            self.path.mkdir(mode=0o700, exist_ok=True)
            ignore = self.path / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n", "ascii")  # state is nobody's source, and no repository has to be told so
        except OSError as error:
            raise AppError(
                "DF403",
                "The app folder cannot be written",
                f"{self.path}: {error.strerror or error}",
                "perdure keeps its state there. Make the folder writable.",
            ) from error

    def write_note(self, note: HostNote) -> None:
        """Tell the command line, and only this user, where the host is; nobody ever reads half a note."""
        new = self._note.with_suffix(".new")
        new.unlink(missing_ok=True)  # whatever is there may be open to others, or a link to elsewhere
        with open(os.open(new, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "wb") as file:
            file.write(msgspec.json.encode(note))
        new.replace(self._note)

    def read_note(self) -> HostNote | None:
        """The note that is there; None also if it is damaged."""
        try:
            return msgspec.json.decode(self._note.read_bytes(), type=HostNote)
        except (OSError, msgspec.MsgspecError):
            return None

    def running_host(self) -> HostNote | None:
        """The host that left the note, unless its process is gone; whether it answers is for its caller to try."""
        host = self.read_note()
        return host if host is not None and host.url.startswith("http://") and _is_alive(host.pid) else None

    def remove_note(self) -> None:
        """Say nothing more about a host; harmless when repeated."""
        self._note.unlink(missing_ok=True)


def store_file(url: str) -> Path | None:
    """The file that a store's URL names, absolute; None if the URL names none."""
    scheme, _, path = url.partition(":")
    path = path.removeprefix("///")
    if scheme.casefold() != "sqlite" or not path or path.startswith("//") or path == ":memory:":
        return None
    return Path(path).absolute()


def absolute_store_url(url: str) -> str:
    """The URL that means the same in every current folder."""
    file = store_file(url)
    return url if file is None else f"sqlite:{file}"


def _is_alive(pid: int) -> bool:
    if sys.platform == "win32":
        return True  # a signal cannot ask there, it kills; whether the host answers decides
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return pid > 0
