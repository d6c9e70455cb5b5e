"""Where a task hub is kept: one module per provider behind the seam `engine.store`."""

from __future__ import annotations

from pathlib import Path

from perdure.engine.store import Store
from perdure.errors import StoreRefusedError
from perdure.stores.memory import MemoryStore

MEMORY_PARTITIONS = 4  # several, so that hosts sharing one hub have something to share
SQLITE_PARTITIONS = 1  # one process hosts a file, so more would only cost it

KNOWN = "Known are memory: (gone when the process ends) and sqlite:PATH, for example sqlite:.perdure/hub.db"


def open_store(url: str, *, partitions: int | None = None, read_only: bool = False, hub: str = "TestHubName") -> Store:
    """The store that `url` names; `Store.open` then opens it.

    Args:
        url: `memory:`, or `sqlite:PATH`, also written `sqlite:///PATH`. A path that begins with `/` is absolute.
        partitions: how many a new hub gets; None for what suits the store.
        read_only: for looking only, beside a host that may be running.
        hub: name of the task hub; a store that holds another one refuses to open.

    Raises:
        StoreRefusedError: the URL names no store.
    """
    scheme, separator, rest = url.partition(":")
    match scheme.lower():
        case "memory":
            if rest.strip("/"):
                raise StoreRefusedError(f"memory: takes no path, but has {rest!r}: write memory:")
            if read_only:
                raise StoreRefusedError("memory: can only be read by the process that made it: name the file of a hub")
            return MemoryStore(partitions or MEMORY_PARTITIONS)
        case "sqlite":
            from perdure.stores.sqlite import SqliteStore

            return SqliteStore(_path(rest), hub=hub, partitions=partitions or SQLITE_PARTITIONS, read_only=read_only)
        case _:
            # Only the scheme is repeated: the rest of a URL may hold a password.
            what = f"the scheme {scheme!r}" if separator and len(scheme) > 1 else "a path without a scheme"
            raise StoreRefusedError(f"a store's URL cannot begin with {what}. {KNOWN}")


def _path(rest: str) -> Path:
    if rest.startswith("//"):
        host, _, path = rest[2:].partition("/")
        if host:
            raise StoreRefusedError(f"sqlite://{host} names another machine: write sqlite:PATH or sqlite:///PATH")
        rest = path
    if not rest or rest == ":memory:":
        raise StoreRefusedError("sqlite: needs the path of a file: write sqlite:PATH, or memory: for a hub without one")
    return Path(rest)
