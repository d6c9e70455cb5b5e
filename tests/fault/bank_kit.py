"""What has to be true of the app `bank` at any moment, and a reader that looks all the time, beside the host.

A transfer is two checkpoints of two accounts, so there are moments between them. What makes it one step is the lock:
whoever respects it never sees half of a transfer. There are four such readers. Audits lock all accounts, like any
orchestration could. Peeks lock nothing and call two accounts, one after the other: the calls wait for whoever holds the
lock, so what the first account knows of the second, the second knows, too. `Watcher` reads all accounts in one snapshot
of the store, and looks at the locks beside them: a transfer that only one account knows of must hold both. And in the
end nothing is locked any more.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kill_kit import Case

from perdure.core.records import EntityQuery, InstanceQuery, RuntimeStatus
from perdure.stores.sqlite import SqliteStore

HUB = "Bank"
KEYS = [f"{number}" for number in range(10)]
OPENING = 100  # what each account has at first
TOTAL = OPENING * len(KEYS)

PAUSES_MS = (0, 0, 0, 0, 0, 0, 0, 0, 0, 30)  # in the middle of a transfer
WATCH_EVERY_S = 0.003


def transfers(count: int, chance: random.Random) -> list[Case]:
    """Transfers between accounts that chance chooses; some amounts are more than there is."""
    orders: list[Case] = []
    for number in range(count):
        payer, payee = chance.sample(KEYS, 2)
        order = {
            "payer": payer,
            "payee": payee,
            "amount": chance.randint(1, OPENING),
            "pause_ms": chance.choice(PAUSES_MS),
        }
        orders.append(Case(f"transfer-{number:05}", "transfer", order))
    return orders


def audits(count: int) -> list[Case]:
    """Audits of all accounts."""
    return [Case(f"audit-{number:03}", "audit", KEYS) for number in range(count)]  # type: ignore[arg-type]


def peeks(count: int, chance: random.Random) -> list[Case]:
    """Looks at two accounts without a lock."""
    return [Case(f"peek-{number:03}", "peek", chance.sample(KEYS, 2)) for number in range(count)]  # type: ignore[arg-type]


class Account(NamedTuple):
    """An account: what it keeps, and the id of the orchestration that has locked it."""

    balance: int
    lines: Sequence[tuple[str, int]]
    holder: str | None = None


def account(state: Mapping[str, Any], holder: str | None = None) -> Account:
    """What the state of the entity says."""
    return Account(state["balance"], [(what_for, amount) for what_for, amount in state["lines"]], holder)


Accounts = Mapping[str, Account]


def halves(accounts: Accounts, orders: Mapping[str, Case]) -> dict[str, Case]:
    """The transfers that the payer knows of, and the payee does not yet.

    Fails if anything is not as it has to be when locks are respected.
    """
    known: dict[str, list[tuple[str, int]]] = {}
    for key, each in accounts.items():
        assert each.balance == sum(amount for _, amount in each.lines), f"account {key} does not add up"
        assert each.balance >= 0
        for what_for, amount in each.lines:
            known.setdefault(what_for, []).append((key, amount))
    assert sorted(known.pop("opening")) == [(key, OPENING) for key in KEYS]
    half: dict[str, Case] = {}
    for name, entries in known.items():
        order = orders[name].input
        taken, given = (order["payer"], -order["amount"]), (order["payee"], order["amount"])
        if entries == [taken]:
            holders = {accounts[order["payer"]].holder, accounts[order["payee"]].holder}
            assert holders == {name}, f"{name} is half done, and these hold the locks: {holders}"
            half[name] = orders[name]
        else:
            assert sorted(entries) == sorted([taken, given]), f"{name} is written down as {entries}"
    under_way = sum(order.input["amount"] for order in half.values())
    assert sum(each.balance for each in accounts.values()) + under_way == TOTAL
    return half


def check_peek(first: str, second: str, accounts: Accounts, orders: Mapping[str, Case]) -> None:
    """What the first of two accounts says of transfers between them, the second has to know when it is asked."""
    both = {first, second}
    lines = {key: {what_for for what_for, _ in accounts[key].lines if what_for != "opening"} for key in both}
    between = {name for name in lines[first] if {orders[name].input["payer"], orders[name].input["payee"]} == both}
    assert between <= lines[second]


class Hub:
    """The hub's file, read beside the host."""

    def __init__(self, database: Path) -> None:
        self._store = SqliteStore(database, hub=HUB, read_only=True)

    async def __aenter__(self) -> Hub:
        await self._store.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._store.close()

    async def accounts(self) -> Accounts:
        """All accounts at one moment."""
        page = await self._store.entities(EntityQuery(prefix="@account@"))  # one statement, so one snapshot
        found: dict[str, Account] = {}
        for each in page.instances:
            assert each.entity is not None
            assert each.entity.state is not None
            lock = each.entity.lock
            holder = None if lock is None else lock.instance_id
            found[each.instance_id.rpartition("@")[2]] = account(json.loads(each.entity.state), holder)
        return found

    async def ended(self) -> int:
        """How many orchestrations have completed."""
        return (await self._store.count(InstanceQuery())).get(RuntimeStatus.COMPLETED, 0)

    async def outputs(self, cases: Iterable[Case]) -> dict[str, Any]:
        """What each has come to, once it has completed."""
        wanted = [each.instance_id for each in cases]
        found: dict[str, Any] = {}
        for begin in range(0, len(wanted), 500):
            page = await self._store.query(InstanceQuery(tuple(wanted[begin : begin + 500]), limit=500))
            for each in page.instances:
                assert not each.status.is_terminal or each.status is RuntimeStatus.COMPLETED, each
                if each.status.is_terminal:
                    assert not each.locks
                    found[each.instance_id] = json.loads(each.output or "null")
        return found


class Watcher:
    """Looks at all accounts, all the time, until it is left; what was wrong is raised there.

    Attributes:
        looks: how often it has looked.
        ended: how many orchestrations have completed.
        half: the transfers that were half done when it last looked.
        seen_half: all those that it has seen half done.
    """

    def __init__(self, database: Path, orders: Sequence[Case]) -> None:
        self.looks = 0
        self.ended = 0
        self.half: dict[str, Case] = {}
        self.seen_half: set[str] = set()
        self._orders = {each.instance_id: each for each in orders}
        self._database = database
        self._lines: dict[str, Sequence[tuple[str, int]]] = {}
        self._trouble: BaseException | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._is_over.set()
        self._thread.join()
        self.check()

    def check(self) -> None:
        """Raise what it has found to be wrong."""
        if self._trouble is not None:
            raise self._trouble

    def _run(self) -> None:
        try:
            asyncio.run(self._watch())
        except BaseException as trouble:
            self._trouble = trouble

    async def _watch(self) -> None:
        async with Hub(self._database) as hub:
            while not self._is_over.wait(WATCH_EVERY_S):
                self._look_at(await hub.accounts())
                self.ended = await hub.ended()

    def _look_at(self, accounts: Accounts) -> None:
        for key, each in accounts.items():
            before = self._lines.get(key, [])
            assert each.lines[: len(before)] == before, f"account {key} has lost something"
            self._lines[key] = each.lines
        self.half = halves(accounts, self._orders)
        self.seen_half |= self.half.keys()
        self.looks += 1
