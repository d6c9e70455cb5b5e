"""The samples with entities, on a real host, do what their first lines say."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from start_kit import HostProcess, eventually, started

SAMPLES = Path(__file__).parents[2] / "samples"


def sample(name: str, to: Path) -> Path:
    """A copy of a sample, whose state nobody else sees."""
    ignored = shutil.ignore_patterns(".perdure", "__pycache__")
    return Path(shutil.copytree(SAMPLES / name, to / name, ignore=ignored))


def came_to(host: HostProcess, path: str, value: Any) -> bool:
    """Wait until it says so."""
    return eventually(lambda: (answer := host.request("GET", path)).status == 200 and answer.json() == value)


def test_a_counter_counts_what_it_is_told_over_http_and_goes_on_after_a_kill(tmp_path: Path):
    folder = sample("counter", tmp_path)
    with started(folder) as host:
        assert host.request("GET", "/api/counters/visits").status == 404
        assert host.request("POST", "/api/counters/visits/add", "5").status == 202
        assert host.request("POST", "/api/counters/visits/add").status == 202
        assert host.request("POST", "/api/counters/others/add", "-3").status == 202
        assert host.request("POST", "/api/counters/visits/add", "five").status == 400
        assert came_to(host, "/api/counters/visits", 6)
        assert came_to(host, "/api/counters/others", -3)
        assert host.request("POST", "/api/counters/visits/add", "10").status == 202
        host.process.kill()

    with started(folder) as host:
        assert came_to(host, "/api/counters/visits", 16)


def test_a_counter_survives_an_operation_that_it_does_not_know(tmp_path: Path):
    with started(sample("counter", tmp_path)) as host:
        unknown = host.request("POST", "/runtime/webhooks/durabletask/entities/counter/visits?op=halve")
        assert unknown.status == 202
        assert host.request("POST", "/api/counters/visits/add", "2").status == 202

        assert came_to(host, "/api/counters/visits", 2)


def test_transfers_in_all_directions_at_once_leave_the_sum_as_it_was(tmp_path: Path):
    people = ["ann", "bob", "cec"]
    with started(sample("transfer", tmp_path)) as host:
        for each in people:
            assert host.request("POST", f"/api/accounts/{each}/deposit", "100").status == 202
        for each in people:
            assert came_to(host, f"/api/accounts/{each}", 100)
        pairs = [(payer, payee) for payer in people for payee in people if payer != payee]
        begun = [transferred(host, payer, payee, 5 + number) for number, (payer, payee) in enumerate(pairs * 4)]
        outputs = [host.result(each)["output"] for each in begun]
        balances = {each: host.request("GET", f"/api/accounts/{each}").json() for each in people}

    expected = Counter(dict.fromkeys(people, 100))
    for (payer, payee), output in zip(pairs * 4, outputs, strict=True):
        expected[payer] -= output["transferred"]
        expected[payee] += output["transferred"]
    assert balances == expected
    assert sum(balances.values()) == 300


def test_a_transfer_that_is_not_covered_says_why_and_changes_nothing(tmp_path: Path):
    with started(sample("transfer", tmp_path)) as host:
        host.request("POST", "/api/accounts/ann/deposit", "20")
        assert came_to(host, "/api/accounts/ann", 20)

        refused = host.result(transferred(host, "ann", "bob", 21))
        paid = host.result(transferred(host, "ann", "bob", 20))

        assert refused["output"] == {"transferred": 0, "reason": "ann has only 20"}
        assert paid["output"] == {"transferred": 20, "left": 0}
        assert came_to(host, "/api/accounts/bob", 20)


def test_an_order_that_makes_no_sense_is_refused(tmp_path: Path):
    orders = [{}, [], {"from": "ann", "to": "ann", "amount": 1}, {"from": "ann", "to": "bob", "amount": -1}]
    with started(sample("transfer", tmp_path)) as host:
        answers = [host.request("POST", "/api/transfers", json.dumps(order)) for order in orders]

    assert [answer.status for answer in answers] == [400] * 4


def transferred(host: HostProcess, payer: str, payee: str, amount: int) -> str:
    """Order a transfer; returns the instance's id."""
    order = {"from": payer, "to": payee, "amount": amount}
    answer = host.request("POST", "/api/transfers", json.dumps(order))
    assert answer.status == 202
    return answer.json()["id"]
