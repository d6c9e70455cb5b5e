"""A real host passes typed values, tries again, waits with a timeout, and calls HTTP for its orchestrations."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from start_kit import HostProcess, copy_app, started


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    with started(copy_app("values", tmp_path_factory.mktemp("app"))) as running:
        yield running


def output(host: HostProcess, name: str, value: Any = None) -> Any:
    body = None if value is None else json.dumps(value)
    answer = host.request("POST", f"/runtime/webhooks/durabletask/orchestrators/{name}", body)
    ended = host.result(answer.json()["id"])
    assert ended["runtimeStatus"] == "Completed", ended
    return ended["output"]


def test_typed_values_travel_between_orchestrators_and_activities(host: HostProcess):
    shown = {"sku": "a", "size": "large", "placed": "2026-01-02T03:04:00Z"}

    assert output(host, "shop", ["a", "b"]) == {
        "kinds": ["Order", "Order", "Receipt"],
        "receipt": {"orders": [shown, shown | {"sku": "b"}], "note": "large: a, b"},
    }


def test_an_annotation_that_is_wrong_breaks_nothing(host: HostProcess):
    assert output(host, "mislabels") == "str: an order"

    assert any("a value does not fit an annotation" in line for line in host.text)


def test_a_result_that_json_cannot_hold_fails_with_its_place(host: HostProcess):
    text = output(host, "makes_odd", "set")

    assert text.startswith(
        "Activity function 'makes' failed:  TypeError: Result of activity 'makes': class <class 'set'>"
    )
    assert "so the value at $.rows[0].tags cannot be written as JSON (DF301)" in text


def test_a_result_larger_than_the_setting_fails_with_its_largest_part(host: HostProcess):
    text = output(host, "makes_odd", "large")

    assert "Payload too large: 0.2 MB (limit 0.1 MB) (DF302). Most of it is at $.rows (0.2 MB)." in text


def test_failures_are_tried_again_by_the_class_they_derive_from(host: HostProcess):
    assert output(host, "tries") == 3


def test_an_http_call_polls_and_a_connection_that_fails_is_an_activitys_failure(host: HostProcess):
    url = f"http://127.0.0.1:{host.port}"

    assert output(host, "asks", url) == [200, "done ['j', None, '5']", True, False]
