"""Every hub that a test leaves behind is sound."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from perdure.engine.check import Finding, check_hub
from perdure.stores.sqlite import SqliteStore


@pytest.fixture(autouse=True)
def _hubs_are_sound(tmp_path: Path) -> Iterator[None]:
    yield
    for file in tmp_path.rglob("*.db"):
        hub = hub_of(file)
        if hub is not None:
            assert asyncio.run(findings(file, hub)) == ()


def hub_of(file: Path) -> str | None:
    """The hub that a file belongs to, or None if it is no hub's."""
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as db:
            row = db.execute("select value from meta where key = 'hub'").fetchone()
    except sqlite3.Error:
        return None
    return None if row is None else row[0]


async def findings(file: Path, hub: str) -> tuple[Finding, ...]:
    store = SqliteStore(file, hub=hub, read_only=True)
    await store.open()
    try:
        return tuple((await check_hub(store)).findings)
    finally:
        await store.close()
