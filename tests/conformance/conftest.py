"""Runs each conformance test on each store; `--store=URL`, or CONFORMANCE_STORE, names another to run them on."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from conformance_kit import Hub

from perdure.engine.store import Store
from perdure.stores import open_store

# URL and number of partitions; several on SQLite because the simulator uses it so.
STORES = [("memory:", None), ("sqlite:", None), ("sqlite:", 3)]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--store", help="URL of the store that the conformance suite runs on, in place of those built in")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "store_choice" in metafunc.fixturenames:
        url = metafunc.config.getoption("--store", None) or os.environ.get("CONFORMANCE_STORE")
        choices = [each for each in STORES if url in (None, "", each[0])] or [(url, None)]
        names = [each if partitions is None else f"{each}{partitions}" for each, partitions in choices]
        metafunc.parametrize("store_choice", choices, ids=names)


@pytest.fixture
def store_url(store_choice: tuple[str, int | None], tmp_path: Path) -> str:
    """The URL of a store that is this test's own."""
    url, _ = store_choice
    return f"sqlite:{tmp_path / 'hub.db'}" if url.startswith("sqlite:") else url


@pytest.fixture
def make_store(store_choice: tuple[str, int | None], store_url: str) -> Callable[[], Store]:
    """Makes the store of this test; a second call makes another way to the same hub."""
    _, partitions = store_choice
    name = f"Conformance{uuid4().hex}"
    memory = open_store(store_url) if store_url == "memory:" else None

    def make() -> Store:
        return memory or open_store(store_url, partitions=partitions, hub=name)

    return make


@pytest.fixture
def make_empty_store(store_choice: tuple[str, int | None], store_url: str) -> Callable[[], Store]:
    """Makes a store each time, empty and of the kind that this test is about."""
    _, partitions = store_choice

    def make() -> Store:
        name = f"Conformance{uuid4().hex}"
        url = store_url.replace("hub.db", f"{name}.db")
        return open_store(url, partitions=partitions, hub=name)

    return make


@pytest.fixture
def hub(make_store: Callable[[], Store]) -> Hub:
    """A hub that the test finds open; when the test ends, the checker looks at all that it stored."""
    return Hub(make_store)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine, on its hub."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}

    async def run() -> None:
        async with pyfuncitem.funcargs["hub"]:
            await pyfuncitem.obj(**arguments)

    asyncio.run(run())
    return True
