"""User code that misbehaves harms itself, and others only as far as the design says."""

from collections.abc import Iterator

import pytest
from start_kit import HostProcess, copy_app, eventually, started


@pytest.fixture(scope="module")
def unruly(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    with started(copy_app("unruly", tmp_path_factory.mktemp("app"))) as host:
        yield host


def test_a_sync_activity_that_blocks_hurts_nobody(unruly: HostProcess):
    blocked = unruly.start("calls_blocks").json()["id"]

    for name in ("calls_fine", "calls_fine_async"):
        assert unruly.start(name, query="?timeout=10").json() == "fine"
    assert unruly.status(blocked)["runtimeStatus"] == "Running"
    assert unruly.result(blocked)["output"] == "blocked"


def test_a_coroutine_that_blocks_hurts_other_coroutines_only(unruly: HostProcess):
    blocked = unruly.start("calls_blocks_its_loop").json()["id"]

    assert unruly.start("calls_fine", query="?timeout=10").json() == "fine"
    assert unruly.status(blocked)["runtimeStatus"] == "Running"
    assert unruly.start("calls_fine_async", query="?timeout=10").json() == "fine"
    assert unruly.result(blocked)["output"] == "blocked"


def test_an_orchestrator_that_blocks_is_reported_with_its_stack_and_everything_goes_on_after_it(unruly: HostProcess):
    blocked = unruly.start("orchestrator_blocks").json()["id"]

    report = eventually(lambda: unruly.find("host", instance_id=blocked))

    assert "orchestrator blocks" in report["message"]
    assert "time.sleep(2.5)" in report["message"]
    assert unruly.result(blocked)["output"] == "fine"
    assert unruly.start("calls_fine", query="?timeout=10").json() == "fine"


@pytest.mark.parametrize("name", ["exits", "exits_async"])
def test_an_activity_that_ends_the_process_fails_alone(unruly: HostProcess, name: str):
    status = unruly.result(unruly.start(f"calls_{name}").json()["id"])

    assert status["runtimeStatus"] == "Failed"
    assert "SystemExit" in status["output"]
    assert unruly.process.poll() is None


def test_a_coroutine_that_cancels_itself_fails_alone(unruly: HostProcess):
    status = unruly.result(unruly.start("calls_cancels_itself").json()["id"])

    assert status["runtimeStatus"] == "Failed"


def test_an_orchestrator_that_ends_the_process_fails_alone(unruly: HostProcess):
    status = unruly.result(unruly.start("orchestrator_exits").json()["id"])

    assert status["runtimeStatus"] == "Failed"
    assert unruly.start("calls_fine", query="?timeout=10").json() == "fine"


@pytest.mark.parametrize("name", ["calls_returns_an_object", "orchestrator_returns_an_object"])
def test_a_result_that_is_not_json_fails_the_instance_with_the_reason(unruly: HostProcess, name: str):
    status = unruly.result(unruly.start(name).json()["id"])

    assert status["runtimeStatus"] == "Failed"
    assert "object" in status["output"]


def test_an_error_whose_text_cannot_be_printed_still_fails_the_activity(unruly: HostProcess):
    status = unruly.result(unruly.start("calls_raises_what_cannot_be_printed").json()["id"])

    assert status["runtimeStatus"] == "Failed"
    assert "Unprintable" in status["output"]
