"""The classic sample, on a real host, does what its README says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from start_kit import HostProcess, eventually, started

SAMPLE = Path(__file__).parents[2] / "samples" / "classic"


@pytest.fixture(scope="module")
def expenses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    """One host of the sample for all tests."""
    ignored = shutil.ignore_patterns(".perdure", "__pycache__")
    folder = shutil.copytree(SAMPLE, tmp_path_factory.mktemp("app") / "classic", ignore=ignored)
    with started(Path(folder)) as host:
        yield host


def submitted(host: HostProcess, amount: float) -> str:
    """Hand in an expense of Ann's; returns the instance's id."""
    answer = host.request("POST", "/api/expenses", json.dumps({"by": "ann", "amount": amount}))
    assert answer.status == 202
    return answer.json()["id"]


def decided(host: HostProcess, instance_id: str, decision: str) -> dict[str, Any]:
    """Wait until somebody has to decide, do so, and return how the expense ends."""
    eventually(lambda: host.status(instance_id)["customStatus"] == "waiting for a decision")
    assert host.request("POST", f"/api/expenses/{instance_id}/decision", decision).status == 202
    return host.result(instance_id)


def test_what_is_approved_is_paid_and_booked(expenses: HostProcess):
    before = expenses.request("GET", "/api/budget").json()

    ended = decided(expenses, submitted(expenses, 120), "approved")

    assert ended["output"] == "paid 120 to ann"
    assert expenses.request("GET", "/api/budget").json() == before + 120


def test_what_is_refused_is_neither(expenses: HostProcess):
    before = expenses.request("GET", "/api/budget").json()

    assert decided(expenses, submitted(expenses, 80), "no")["output"] == "refused"

    assert expenses.request("GET", "/api/budget").json() == before


def test_little_needs_no_decision(expenses: HostProcess):
    assert expenses.result(submitted(expenses, 20))["output"] == "paid 20 to ann"


@pytest.mark.parametrize("body", ["", "{}", "[1]", '{"by": "ann"}', '{"by": "ann", "amount": -1}'])
def test_what_is_no_expense_is_refused_through_the_out_binding(expenses: HostProcess, body: str):
    assert expenses.request("POST", "/api/expenses", body).status == 400
