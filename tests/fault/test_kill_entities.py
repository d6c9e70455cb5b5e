"""Transfers between entities under a lock, through SIGKILL at any moment: no coin is lost, made, or seen twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from bank_kit import HUB, KEYS, OPENING, Accounts, Hub, Watcher, account, audits, check_peek, halves, peeks, transfers
from kill_kit import AppFolder, Case, Client, HostProcess, Wish, app_folder, eventually, start_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

TRANSFERS = int(os.environ.get("TRANSFERS") or 1000)
KILLS = int(os.environ.get("KILLS") or 15)
KILLS_WHILE_ASKED = 3
TRANSFERS_PER_AUDIT = 50
TRANSFERS_PER_PEEK = 10

LIFE_MAX_S = 10.0  # then the host is killed as it is
PATIENCE_S = 30.0 + TRANSFERS / 20


def test_transfers_under_a_lock_stay_whole_and_happen_once_through_kills_at_any_moment(tmp_path: Path):
    seed = int(os.environ.get("KILL_SEED") or time.time_ns() % 2**32)
    print(f"to kill at the same moments: KILL_SEED={seed}")
    chance = random.Random(seed)
    orders = transfers(TRANSFERS, chance)
    looks = audits(len(orders) // TRANSFERS_PER_AUDIT)
    glances = peeks(len(orders) // TRANSFERS_PER_PEEK, chance)
    cases = [*orders, *looks, *glances]
    chance.shuffle(cases)

    with app_folder(tmp_path, "bank", HUB) as app, Client() as client:
        host = app.launch().wait_until_ready()
        host.start(Case("opening", "opening", {"accounts": KEYS, "amount": OPENING}))
        eventually(lambda: host.statuses()["opening"]["customStatus"] == "filled")
        with Watcher(app.database, orders) as watcher:
            wishes = [start_of(each) for each in cases]
            _ask_in_several_lives(app, client, wishes, chance)
            assert watcher.ended == 0, "they wait for the lock"

            client.ask([Wish("opening", "/instances/opening/raiseEvent/open", True)])
            eventually(lambda: client.open == 0)
            assert client.troubles == []
            struck = _kill_while_they_run(app, client, watcher, cases, chance)
            host = _next(app, client)
            outputs = _outputs(app, cases, watcher)
            assert client.troubles == []
        accounts = eventually(lambda: _unlocked(_accounts(app)))

        by_id = {each.instance_id: each for each in orders}
        assert halves(accounts, by_id) == {}
        _check_ledgers(accounts, {each.instance_id: outputs[each.instance_id] for each in orders})
        for each in looks:
            assert halves(_seen_by(each, outputs), by_id) == {}
        for each in glances:
            check_peek(*each.input, _seen_by(each, outputs), by_id)
        assert app.checked()["findings"] == []
        host.signal(signal.SIGTERM)
        assert host.wait() == 0
        assert app.checked()["findings"] == []
        assert [line for each in app.lives for line in each.troubles()] == []
    assert struck, "no kill hit a transfer in its middle"
    print(
        f"{len(app.lives) - 1} kills, {struck} of them in the middle of a transfer; "
        f"{watcher.looks} looks, {len(watcher.seen_half)} transfers seen half done; "
        f"{Counter(outputs[each.instance_id] for each in orders)}"
    )


def _ask_in_several_lives(app: AppFolder, client: Client, wishes: Sequence[Wish], chance: random.Random) -> None:
    """Start everything, with kills in between; what is acknowledged waits for locks."""
    share = -(-len(wishes) // (KILLS_WHILE_ASKED + 1))
    client.turn_to(app.lives[-1])
    for number in range(KILLS_WHILE_ASKED):
        goal = client.acknowledged + chance.randint(1, share)
        client.ask(wishes[number * share : (number + 1) * share])
        _until(lambda goal=goal: client.acknowledged >= goal)
        app.lives[-1].kill()
        _next(app, client)
    client.ask(wishes[KILLS_WHILE_ASKED * share :])
    eventually(lambda: client.open == 0, PATIENCE_S)


def _kill_while_they_run(
    app: AppFolder, client: Client, watcher: Watcher, cases: Sequence[Case], chance: random.Random
) -> int:
    """Kill the host at moments that are spread over all of it; returns how many hit a transfer in its middle."""
    struck = 0
    by_id = {each.instance_id: each for each in cases}
    for number in range(KILLS - KILLS_WHILE_ASKED):
        share = (len(cases) - watcher.ended) / (KILLS - KILLS_WHILE_ASKED - number + 1)
        goal = watcher.ended + round(share * chance.uniform(0.2, 1.2))
        _until(lambda goal=goal: watcher.ended >= goal)
        if chance.random() < 0.5:
            _until(lambda: any(each.input["pause_ms"] for each in watcher.half.values()))
        else:
            time.sleep(chance.uniform(0, 0.02))
        app.lives[-1].kill()
        watcher.check()
        struck += bool(halves(_accounts(app), by_id))
        if chance.random() < 0.2:
            _kill_while_it_starts(app, chance)
        if number < KILLS - KILLS_WHILE_ASKED - 1:
            _next(app, client)
    return struck


def _kill_while_it_starts(app: AppFolder, chance: random.Random) -> None:
    host = app.launch()
    lock = Path(f"{app.database}.lock")
    _until(lambda: lock.read_text().strip() == str(host.pid))
    time.sleep(chance.uniform(0, 0.1))
    host.kill()


def _next(app: AppFolder, client: Client) -> HostProcess:
    """The next life of the host, which the client talks to."""
    host = app.launch().wait_until_ready()
    client.turn_to(host)
    return host


def _until(happened: Callable[[], object]) -> None:
    until = time.monotonic() + LIFE_MAX_S
    while not happened() and time.monotonic() < until:
        time.sleep(0)


def _seen_by(case: Case, outputs: Mapping[str, Any]) -> Accounts:
    """The accounts as an audit or a peek has found them."""
    return {key: account(state) for key, state in outputs[case.instance_id].items()}


def _accounts(app: AppFolder) -> Accounts:
    async def read() -> Accounts:
        async with Hub(app.database) as hub:
            return await hub.accounts()

    return asyncio.run(read())


def _unlocked(accounts: Accounts) -> Accounts | None:
    """The accounts, if nobody has locked one of them."""
    return None if any(each.holder for each in accounts.values()) else accounts


def _outputs(app: AppFolder, cases: Sequence[Case], watcher: Watcher) -> dict[str, Any]:
    """What everything has come to."""

    async def read() -> dict[str, Any]:
        async with Hub(app.database) as hub:
            return await hub.outputs(cases)

    def all_of_them() -> dict[str, Any] | None:
        watcher.check()
        found = asyncio.run(read())
        return found if len(found) == len(cases) else None

    return eventually(all_of_them, PATIENCE_S, every_s=0.2)


def _check_ledgers(accounts: Accounts, outputs: dict[str, Any]) -> None:
    """Both accounts know of each transfer that says it is done, and none of one that was refused."""
    lines = Counter(what_for for each in accounts.values() for what_for, _ in each.lines)
    del lines["opening"]
    assert set(outputs.values()) == {"done", "refused"}
    assert lines == {name: 2 for name, output in outputs.items() if output == "done"}
