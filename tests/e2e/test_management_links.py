"""The links of a check-status response lead where they say, and requests can be repeated over a crash of the host."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from start_kit import Answer, HostProcess, copy_app, eventually, started

BASE = "/runtime/webhooks/durabletask"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copy_app("managed", tmp_path)


@pytest.fixture
def host(folder: Path) -> Iterator[HostProcess]:
    with started(folder) as running:
        yield running


def links_of(host: HostProcess, name: str, instance_id: str) -> dict[str, str]:
    """What a function of the app answers after it started an orchestration."""
    answer = host.request("POST", f"/api/orchestrators/{name}/{quote(instance_id)}")
    assert answer.status == 202
    return answer.json()


def follow(host: HostProcess, method: str, link: str, **options: Any) -> Answer:
    url = urlsplit(link.replace("{text}", "because").replace("{eventName}", "Approval"))
    assert url.port == host.port
    return host.request(method, f"{url.path}?{url.query}", **options)


def until(host: HostProcess, links: dict[str, str], status: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = follow(host, "GET", links["statusQueryGetUri"]).json()
        return found if found["runtimeStatus"] == status else None

    found = eventually(look)
    assert found is not None
    return found


def test_every_link_works(host: HostProcess):
    links = links_of(host, "approval", "größe 17")

    assert until(host, links, "Running")["customStatus"] == {"asks": "Approval"}
    assert follow(host, "POST", links["suspendPostUri"]).status == 202
    until(host, links, "Suspended")
    assert follow(host, "POST", links["resumePostUri"]).status == 202
    until(host, links, "Running")
    json = {"Content-Type": "application/json"}
    assert follow(host, "POST", links["sendEventPostUri"], body="true", headers=json).status == 202
    assert until(host, links, "Completed")["output"] is True
    assert follow(host, "POST", links["rewindPostUri"]).status == 412
    restarted = follow(host, "POST", links["restartPostUri"])
    assert restarted.status == 202
    assert follow(host, "POST", restarted.json()["terminatePostUri"]).status == 202
    assert until(host, restarted.json(), "Terminated")["output"] == "because"
    assert follow(host, "DELETE", links["purgeHistoryDeleteUri"]).json() == {"instancesDeleted": 1}
    assert follow(host, "GET", links["statusQueryGetUri"]).status == 404


def test_what_failed_is_rewound_by_its_link(host: HostProcess):
    links = links_of(host, "unlucky", "x")
    until(host, links, "Failed")

    assert follow(host, "POST", links["rewindPostUri"]).status == 202
    assert until(host, links, "Completed")["output"] == "Hello x"


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_start_repeated_after_a_crash_finds_its_instance(folder: Path):
    key = {"Idempotency-Key": "order-17"}
    with started(folder) as host:
        first = host.request("POST", f"{BASE}/orchestrators/approval", headers=key).json()["id"]
        host.signal(signal.SIGKILL)
        host.wait()

    with started(folder) as host:
        second = host.request("POST", f"{BASE}/orchestrators/approval", headers=key).json()["id"]
        listed = [each["instanceId"] for each in host.request("GET", f"{BASE}/instances").json()]

    assert (second, listed) == (first, [first])
