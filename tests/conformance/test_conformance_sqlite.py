"""What the contract means for a hub in a SQLite file: older files, and the work that a question makes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
from conformance_kit import NOW, SECOND, Hub, an_instance

from perdure.core.actions import CompleteOrchestration, ContinueAsNew, CreateSubOrchestration, CreateTimer, ScheduleTask
from perdure.core.events import ExecutionTerminated
from perdure.core.records import InstanceQuery, RuntimeStatus, Start
from perdure.errors import StoreRefusedError
from perdure.stores import open_store, sql

DONE = CompleteOrchestration(9, '"done"')


@pytest.fixture(autouse=True)
def _sqlite_only(store_url: str) -> None:
    if not store_url.startswith("sqlite:"):
        pytest.skip("about files")


# ---------------------------------------------------------------------- files of an older schema


async def some_of_everything(hub: Hub) -> None:
    """Whatever a hub of the first schema could hold."""
    await hub.create("order-1", input="x" * 100_000, tags={"team": "shop"}, version="2")
    await hub.raise_event("order-1", "paid", '"y"')
    await hub.step("order-1", ScheduleTask(0, "charge", "1"), custom_status='"charging"')
    await hub.create("order-2")
    await hub.step(
        "order-2",
        CreateSubOrchestration(0, "ship", "x" * 5000, "ship-1", None),
        CreateSubOrchestration(1, "ship", None, "ä'\"\\ship", None),
        CreateTimer(2, NOW + 10 * SECOND),
    )
    await hub.step("ship-1", ContinueAsNew(0, "2", ()))
    await hub.create("order-3")
    await hub.fail("order-3", ScheduleTask(0, "charge", None))
    await hub.create("order-4")
    await hub.tell("order-4", ExecutionTerminated(NOW, "no"))
    await hub.step("order-4")
    await hub.create("order-5", created_by="first")
    await hub.step("order-5", DONE)
    await hub.create("order-5")
    await hub.step("order-5", DONE)
    await hub.create("order-6")
    await hub.raise_event("order-6")


def to_first_schema(path: Path) -> None:
    """Turn a file of today into what the first version would have written."""
    today = path.rename(path.with_name("today.db"))
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript(resources.files("perdure.stores").joinpath("schema/0001_first.sql").read_text("utf-8"))
    db.execute("attach ? as today", (str(today),))
    for (table,) in db.execute("select name from main.sqlite_master where type = 'table' and name not like 'sqlite_%'"):
        columns = ", ".join(row[1] for row in db.execute(f"pragma main.table_info({table})"))
        db.execute(f"insert into main.{table} ({columns}) select {columns} from today.{table}")  # noqa: S608
    db.execute(
        "update main.instances set input = large.input from today.large_inputs large where large.instance_id = id"
    )
    db.execute("pragma user_version = 1")
    db.close()


async def test_a_hub_of_the_first_schema_keeps_everything(hub: Hub, store_url: str):
    await some_of_everything(hub)
    before, before_mail = await hub.dump(), [await hub.walk(lease, NOW + 60 * SECOND) for lease in hub.leases.values()]
    open_work = await hub.open_work()
    await hub.store.close()
    to_first_schema(Path(store_url.removeprefix("sqlite:")))

    await hub.reopen()

    assert await hub.dump() == before
    assert [await hub.walk(lease, NOW + 60 * SECOND) for lease in hub.leases.values()] == before_mail
    assert await hub.open_work() == open_work
    assert all(lease.is_takeover for lease in hub.leases.values())


async def test_a_hub_of_the_first_schema_can_do_what_others_can(hub: Hub, store_url: str):
    await some_of_everything(hub)
    await hub.store.close()
    to_first_schema(Path(store_url.removeprefix("sqlite:")))
    await hub.reopen()

    children = (await hub.store.query(InstanceQuery(parents=("order-2",)))).instances
    assert sorted(each.instance_id for each in children) == ["ship-1", "ä'\"\\ship"]
    assert await hub.store.create([Start(an_instance("order-5", created_by="first"))]) == [None]
    await hub.rewind("order-3")
    await hub.step("order-1", ContinueAsNew(1, "y" * 100_000, ()), mail=())
    assert (await hub.get("order-1")).input == "y" * 100_000
    await hub.schedule("order-7", hub.now + SECOND)
    assert await hub.store.purge(["order-4", "order-5"], hub.now) == {"order-4", "order-5"}
    assert await hub.store.count(InstanceQuery()) == {RuntimeStatus.RUNNING: 4, RuntimeStatus.PENDING: 3}


async def test_who_only_looks_does_not_migrate(hub: Hub, store_url: str):
    await hub.create("order-1")
    await hub.store.close()
    path = Path(store_url.removeprefix("sqlite:"))
    to_first_schema(path)
    before = path.read_bytes()

    with pytest.raises(StoreRefusedError, match=r"older perdure .*perdure start"):
        await open_store(store_url, read_only=True, hub=hub.store.hub).open()  # type: ignore[attr-defined]

    assert path.read_bytes() == before
    await hub.store.open()


# ---------------------------------------------------------------------- what is left


@pytest.mark.parametrize("how", ["purge", "replace"])
async def test_no_row_is_left_of_what_was_purged_or_gave_way(hub: Hub, store_url: str, how: str):
    await hub.create("order-1", input="x" * 100_000)
    checkpoint = await hub.step("order-1", ScheduleTask(0, "charge", None))
    await hub.store.dispatch(hub.lease_of("order-1"), checkpoint.activities)
    await hub.schedule("order-2", NOW + SECOND, input="x" * 100_000)
    for each in ("order-1", "order-2"):
        await hub.raise_event(each, "unread")
        await hub.tell(each, ExecutionTerminated(NOW))
        (stop,) = (await hub.mail(each))[-1:]
        await hub.step(each, mail=[stop])

    if how == "purge":
        assert await hub.store.purge(["order-1", "order-2"], hub.now) == {"order-1", "order-2"}
    else:
        await hub.create("order-1")
        await hub.create("order-2")

    db = sqlite3.connect(store_url.removeprefix("sqlite:"))
    tables = ("history", "mail", "large_inputs", "dispatches")
    left = {table: db.execute(f"select count(*) from {table}").fetchone()[0] for table in tables}  # noqa: S608
    db.close()
    assert left == dict.fromkeys(tables, 0)


async def test_a_beat_forgets_the_dispatches_of_what_has_ended(hub: Hub, store_url: str):
    for each in ("order-1", "order-2"):
        await hub.create(each)
        checkpoint = await hub.step(each, ScheduleTask(0, "charge", None))
        await hub.store.dispatch(hub.lease_of(each), checkpoint.activities)
    await hub.fail("order-1")

    await hub.store.beat(hub.host, hub.now, hub.now + SECOND)

    db = sqlite3.connect(store_url.removeprefix("sqlite:"))
    assert db.execute("select instance_id, count from dispatches").fetchall() == [("order-2", 1)]
    db.close()


# ---------------------------------------------------------------------- the work that a question makes


def steps(db: sqlite3.Connection, question: Callable[[], object]) -> int:
    """How many thousand instructions of SQLite's machine it takes."""
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += 1
        return 0

    db.set_progress_handler(count, 1000)
    try:
        question()
    finally:
        db.set_progress_handler(None, 0)
    return counted


@pytest.mark.parametrize("common", RuntimeStatus)
async def test_a_page_of_any_status_is_found_without_looking_at_all_instances(
    hub: Hub, store_url: str, common: RuntimeStatus
):
    """A look at all of these takes more than fifty thousand instructions of SQLite's machine."""
    many, rare = 20_000, [status for status in RuntimeStatus if status is not common]
    instances = [
        an_instance(
            f"order-{number}",
            status=rare[number % 5] if number % 1000 < 2 else common,
            created_at=NOW + number * SECOND,
        )
        for number in range(many)
    ]
    await hub.store.create([Start(each) for each in instances])
    await hub.store.close()
    path = Path(store_url.removeprefix("sqlite:"))
    db = sqlite3.connect(path)
    middle = NOW + many // 2 * SECOND

    for statuses in ({common}, {rare[0]}, set(rare), set(RuntimeStatus), None):
        for created_from, created_to in ((None, None), (middle, None), (middle, middle + 500 * SECOND)):
            wanted = InstanceQuery(
                statuses=None if statuses is None else frozenset(statuses),
                created_from=created_from,
                created_to=created_to,
            )
            assert steps(db, lambda wanted=wanted: sql.query(db, wanted)) < 15
    assert steps(db, lambda: db.execute("select max(execution_id) from instances").fetchall()) > 50

    db.close()
    path.unlink()  # its rows are made up, and would not pass the check
    await hub.store.open()
