"""Who may import whom, and what pure modules may not touch."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"
SDK = "azure.durable_functions"

HUB = {"perdure", "perdure.__version__", "perdure.core", "perdure.engine", "msgspec"}

# Layer → what it may import besides itself, the standard library and perdure.errors. Dotted names cover what is below.
ARROWS: dict[str, set[str]] = {
    "perdure": set(),
    "perdure.__main__": {"perdure.cli"},
    "perdure.errors": set(),
    "perdure.state_folder": {"msgspec"},
    "perdure.connection": {
        "perdure.core",
        "perdure.engine",
        "perdure.stores",
        "perdure.state_folder",
        "perdure.webapi.remote",
    },
    "perdure.core": {"msgspec"},
    "perdure.engine": {"perdure.core", "msgspec"},
    "perdure.stores": {"perdure.core", "perdure.engine.store", "perdure.engine.crossing", "msgspec"},
    SDK: {"perdure.core", "azure.functions", "msgspec"},
    "perdure.host": {*HUB, "perdure.state_folder", "azure.functions", "starlette", "uvicorn", "uvloop"},
    "perdure.host.sdk.our_sdk": {SDK},
    "perdure.host.host": {"perdure.stores"},
    "perdure.host.http_client": {"httpx2"},
    "perdure.webapi": {*HUB, "starlette"},
    "perdure.testing": {*HUB, "perdure.stores.memory", "perdure.host"},
    "perdure.cli": {
        *HUB,
        "perdure.state_folder",
        "perdure.stores",
        "perdure.host",
        "perdure.webapi",
        "click",
        "starlette",
        "uvicorn",
        "uvloop",
    },
}

# Imports for annotations only, against the arrows: module → what it names.
TYPES_ONLY = {"perdure": {"perdure.connection"}, "perdure.errors": {"perdure.core"}}

# Imports inside a function: (module, what it imports) → why there.
LAZY: dict[tuple[str, str], str] = {
    ("perdure.host.http_activity", "perdure.host.http_client"): "the HTTP client is slow to load, and few apps use it",
    ("perdure.host.notifications", "perdure.host.http_client"): "the HTTP client is slow to load, and few apps use it",
    ("perdure.host.sdk.sdk", "perdure.host.sdk.our_sdk"): "with it, azure.durable_functions is perdure's for good",
    ("perdure.host.sdk.sdk", "perdure.host.sdk.official_sdk"): "only the SDK that was chosen is loaded",
    ("perdure.host.http.keys", "fcntl"): "is on POSIX only",
    ("perdure.host.http.keys", "msvcrt"): "is on Windows only",
    ("perdure.stores", "perdure.stores.sqlite"): "a hub in memory works without the sqlite3 module",
    ("perdure.stores.sqlite", "fcntl"): "is on POSIX only",
    ("perdure.stores.sqlite", "msvcrt"): "is on Windows only",
}

# Imports by name, which no arrow shows: module → why.
BY_NAME = {
    "perdure": "`perdure.connect` loads the engine, which whoever imports a module below may not need",
    "perdure.cli.main": "a command is imported when it is called, so that help and short commands answer at once",
    "perdure.host.app.app_folder": "the user's app",
    "perdure.host.http_client": "azure.identity, which an app installs if it wants tokens",
    "perdure.host.sdk.official_sdk": "the official package, which the app's environment has and ours does not",
    SDK: "the official submodules, reachable as attributes and seldom used",
}

PURE = ("perdure.core", "perdure.engine.partition", "perdure.engine.balance")
IMPURE_MODULES = {"asyncio", "time", "logging", "random", "threading", "secrets", "socket", "sqlite3"}
IMPURE_NAMES = {"uuid1", "uuid4", "urandom"}
CLOCKS = {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today")}


def is_within(name: str, package: str) -> bool:
    return name == package or (name.startswith(f"{package}.") and package != "perdure")


def layer_of(module: str) -> str:
    return max((layer for layer in ARROWS if is_within(module, layer)), key=len, default="perdure")


def allowed_in(module: str) -> set[str]:
    layers = [layer for layer in ARROWS if is_within(module, layer)]
    return {"perdure.errors", *layers, *(each for layer in layers for each in ARROWS[layer])}


def imports(tree: ast.AST, parents: tuple[ast.AST, ...] = ()) -> Iterator[tuple[str, bool, bool]]:
    """(what, whether inside a function, whether for types only) of every import below `tree`."""
    for node in ast.iter_child_nodes(tree):
        inside = any(isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) for each in parents)
        for_types = any(isinstance(each, ast.If) and "TYPE_CHECKING" in ast.unparse(each.test) for each in parents)
        if isinstance(node, ast.Import):
            yield from ((each.name, inside, for_types) for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "perdure":
            yield from ((f"perdure.{each.name}", inside, for_types) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), inside, for_types
        else:
            yield from imports(node, (*parents, node))


def impurities(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Await() | ast.AsyncFor() | ast.AsyncWith() | ast.AsyncFunctionDef():
                yield "await"
            case ast.Attribute(value=ast.Name(id=owner), attr=attribute) if (owner, attribute) in CLOCKS:
                yield f"{owner}.{attribute}"
            case ast.Attribute(value=ast.Attribute(attr=owner), attr=attribute) if (owner, attribute) in CLOCKS:
                yield f"{owner}.{attribute}"
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name) if name in IMPURE_NAMES:
                yield name
            case ast.alias(name=name) if name.partition(".")[0] in IMPURE_MODULES:
                yield name
            case ast.ImportFrom(module=str(name)) if name.partition(".")[0] in IMPURE_MODULES:
                yield name
            case ast.ImportFrom(module="perdure.engine.store") | ast.alias(name="perdure.engine.store"):
                yield "a store"
            case _:
                pass


def violations(module: str, source: str) -> list[str]:
    """What `source`, as the text of `module`, does that it must not."""
    tree = ast.parse(source)
    found: list[str] = []
    for name, inside, for_types in imports(tree):
        permitted = allowed_in(module) | (TYPES_ONLY.get(module, set()) if for_types else set())
        is_standard = name.partition(".")[0] in sys.stdlib_module_names
        is_allowed = is_standard or any(is_within(name, each) for each in permitted)
        if not is_allowed:
            found.append(f"{module} ({layer_of(module)}) must not import {name}")
        if inside and (module, name) not in LAZY:
            found.append(f"{module} imports {name} inside a function, which LAZY does not list")
    if module not in BY_NAME and any(each in source for each in ("import_module(", "__import__(")):
        found.append(f"{module} imports by name, which BY_NAME does not list")
    if any(is_within(module, each) for each in PURE):
        found.extend(f"{module} is pure and must not use {what}" for what in impurities(tree))
    return found


def modules() -> Iterator[tuple[str, Path]]:
    for root in (SRC / "perdure", SRC / "perdure_sdk"):
        for path in sorted(root.rglob("*.py")):
            base = SRC if root.name == "perdure" else root
            yield ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__"), path


@pytest.mark.parametrize(("module", "path"), [pytest.param(*each, id=each[0]) for each in modules()])
def test_a_module_imports_only_what_its_layer_may(module: str, path: Path):
    assert violations(module, path.read_text("utf-8")) == []


def test_every_lazy_import_on_the_list_is_still_there_and_has_a_reason():
    paths = dict(modules())

    for (module, name), reason in LAZY.items():
        found = [each for each in imports(ast.parse(paths[module].read_text("utf-8"))) if each[:2] == (name, True)]
        assert found, f"{module} no longer imports {name} inside a function"
        assert len(reason) > 10


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("perdure.core.state", "from perdure.engine.store import Store", "must not import perdure.engine.store"),
        ("perdure.core.state", "from perdure import engine", "must not import perdure.engine"),
        ("perdure.core.state", "import click", "must not import click"),
        ("perdure.core.state", "from . import events", "must not import ."),
        ("perdure.errors", "from perdure.core.events import Event", "must not import perdure.core.events"),
        ("perdure.engine.engine", "from perdure.stores.sqlite import SqliteStore", "must not import perdure.stores"),
        ("perdure.engine.engine", "if TYPE_CHECKING:\n    import perdure.host", "must not import perdure.host"),
        ("perdure.stores.sqlite", "from perdure.engine.engine import Engine", "must not import perdure.engine.engine"),
        ("perdure.webapi.routes", "from perdure.host.host import Host", "must not import perdure.host.host"),
        ("perdure.host.app.loading", "from perdure.stores import open_store", "must not import perdure.stores"),
        ("perdure.host.app.loading", "import perdure.cli.start", "must not import perdure.cli.start"),
        ("perdure.testing.loop", "from perdure.stores.sqlite import X", "must not import perdure.stores.sqlite"),
        (f"{SDK}.client", "from perdure.engine.client import TaskHubClient", "must not import perdure.engine.client"),
        ("perdure.host.http_activity", "import httpx2", "must not import httpx2"),
        ("perdure.cli.main", "def f():\n    import uvicorn", "inside a function"),
        ("perdure.engine.engine", "import_module('perdure.host')", "imports by name"),
        ("perdure.core.tasks", "import time", "must not use time"),
        ("perdure.core.tasks", "from asyncio import sleep", "must not use asyncio"),
        ("perdure.core.tasks", "import logging as quiet", "must not use logging"),
        ("perdure.core.tasks", "from random import choice", "must not use random"),
        ("perdure.core.tasks", "import threading", "must not use threading"),
        ("perdure.core.tasks", "from uuid import uuid4 as fresh", "must not use uuid4"),
        ("perdure.core.tasks", "async def f(x):\n    await x", "must not use await"),
        ("perdure.engine.partition", "now = datetime.now(UTC)", "must not use datetime.now"),
        ("perdure.engine.balance", "now = datetime.datetime.utcnow()", "must not use datetime.utcnow"),
        ("perdure.engine.balance", "from perdure.engine.store import Store", "must not use a store"),
    ],
)
def test_a_planted_violation_is_found(module: str, source: str, complaint: str):
    assert any(complaint in each for each in violations(module, source))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "perdure.core.state",
            "from datetime import datetime\nfrom perdure.errors import PerdureError\nimport msgspec",
        ),
        ("perdure.core.state", "def f(self, now):\n    return self.episode.now"),
        ("perdure.errors", "if TYPE_CHECKING:\n    from perdure.core.events import Event"),
        ("perdure.stores.sqlite", "import sqlite3\nimport threading\nfrom perdure.engine.store import Store"),
        ("perdure.host.host", "from perdure.stores import open_store\nfrom perdure.engine.engine import Engine"),
        (f"{SDK}.app", "from azure.functions import FunctionApp\nfrom perdure.core.tasks import Task"),
    ],
)
def test_what_the_arrows_allow_is_not_reported(module: str, source: str):
    assert violations(module, source) == []
