"""Which store a URL names, and what is said about one that names none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from perdure.errors import StoreRefusedError
from perdure.stores import open_store
from perdure.stores.memory import MemoryStore
from perdure.stores.sqlite import SqliteStore


@pytest.mark.parametrize("url", ["memory:", "memory://", "MEMORY:"])
def test_memory_is_a_hub_in_this_process(url: str):
    store = open_store(url)

    assert isinstance(store, MemoryStore)
    assert store.partitions == 4
    assert open_store(url, partitions=7).partitions == 7


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:hub.db", "hub.db"),
        ("sqlite:.perdure/hub.db", ".perdure/hub.db"),
        ("sqlite:///hub.db", "hub.db"),
        ("sqlite:////var/hub.db", "/var/hub.db"),
        ("sqlite:/var/hub.db", "/var/hub.db"),
        ("SQLite:hub.db", "hub.db"),
        ("sqlite:my hub%20.db", "my hub%20.db"),
        ("sqlite:C:\\hubs\\hub.db", "C:\\hubs\\hub.db"),
    ],
)
def test_sqlite_is_a_hub_in_a_file(url: str, path: str):
    store = open_store(url)

    assert isinstance(store, SqliteStore)
    assert store.path == Path(path)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://me:s3cret@host/db", "the scheme 'postgresql'"),
        ("redis:", "the scheme 'redis'"),
        ("hub.db", "a path without a scheme"),
        ("C:\\hubs\\hub.db", "a path without a scheme"),
        (f"{os.sep}var{os.sep}hub.db", "a path without a scheme"),
        ("", "a path without a scheme"),
    ],
)
def test_a_url_of_no_known_kind_is_refused_with_the_known_ones_and_without_its_password(url: str, words: str):
    with pytest.raises(StoreRefusedError) as refused:
        open_store(url)

    text = str(refused.value)
    assert words in text
    assert "memory:" in text
    assert "sqlite:" in text
    assert "s3cret" not in text


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("memory:hub", "write memory:"),
        ("sqlite:", "write sqlite:PATH"),
        ("sqlite:///", "write sqlite:PATH"),
        ("sqlite::memory:", "memory:"),
        ("sqlite://server/hub.db", "names another machine"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_with_what_to_write(url: str, words: str):
    with pytest.raises(StoreRefusedError, match=words):
        open_store(url)


def test_a_memory_hub_cannot_be_looked_at_from_elsewhere():
    with pytest.raises(StoreRefusedError, match="only be read by the process that made it"):
        open_store("memory:", read_only=True)
