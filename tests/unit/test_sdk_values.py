"""Plain values of the SDK, and its help for an app's own tests."""

from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import azure.durable_functions as df
import pytest
from azure.durable_functions.models import (
    DurableHttpRequest,
    DurableOrchestrationStatus,
    EntityStateResponse,
    PurgeHistoryResult,
    TokenSource,
)
from azure.durable_functions.testing import orchestrator_generator_wrapper

from perdure.core.retry import RetryPolicy

FIRST = "first_retry_interval_in_milliseconds"


def test_retry_options_have_the_official_properties_and_wire_form():
    options = df.RetryOptions(5000, 3)

    assert (options.first_retry_interval_in_milliseconds, options.max_number_of_attempts) == (5000, 3)
    assert options.to_json() == {"firstRetryIntervalInMilliseconds": 5000, "maxNumberOfAttempts": 3}
    assert options.backoff_coefficient == 1


def test_retry_options_send_what_is_given_beyond():
    options = df.RetryOptions(
        1, 2, backoff_coefficient=2.0, max_retry_interval_in_milliseconds=3, retry_timeout_in_milliseconds=4
    )

    assert options.to_json() == {
        "firstRetryIntervalInMilliseconds": 1,
        "maxNumberOfAttempts": 2,
        "backoffCoefficient": 2.0,
        "maxRetryIntervalInMilliseconds": 3,
        "retryTimeoutInMilliseconds": 4,
    }
    assert df.RetryOptions(1, 2, 2.0, 3, 4).to_json() == options.to_json()
    assert (options.max_retry_interval_in_milliseconds, options.retry_timeout_in_milliseconds) == (3, 4)


def test_retry_options_can_be_set_one_by_one():
    options = df.RetryOptions(1, 2)
    options.first_retry_interval_in_milliseconds = 5
    options.max_number_of_attempts = 6
    options.backoff_coefficient = 1.5
    options.max_retry_interval_in_milliseconds = 7
    options.retry_timeout_in_milliseconds = 8

    assert list(options.to_json().values()) == [5, 6, 1.5, 7, 8]
    options.max_retry_interval_in_milliseconds = None
    options.retry_timeout_in_milliseconds = None
    assert list(options.to_json().values()) == [5, 6, 1.5]


@pytest.mark.parametrize("interval", [0, -1])
def test_retry_options_need_an_interval(interval: int):
    options = df.RetryOptions(1, 1)

    for attempt in (lambda: df.RetryOptions(interval, 3), lambda: setattr(options, FIRST, interval)):
        with pytest.raises(ValueError, match=r"^first_retry_interval_in_milliseconds valuemust be greater than 0\.$"):
            attempt()


@pytest.mark.parametrize("value", [0, -1, float("nan")])
@pytest.mark.parametrize(
    "name",
    [
        "max_number_of_attempts",
        "backoff_coefficient",
        "max_retry_interval_in_milliseconds",
        "retry_timeout_in_milliseconds",
    ],
)
def test_retry_options_have_positive_values(name: str, value: float):
    options = df.RetryOptions(1, 1)

    for attempt in (
        lambda: df.RetryOptions(**{FIRST: 1, "max_number_of_attempts": 1} | {name: value}),
        lambda: setattr(options, name, value),
    ):
        with pytest.raises(ValueError, match=f"{name} value must be greater than 0."):
            attempt()


@pytest.mark.parametrize("name", ["retry_on", "give_up_on"])
@pytest.mark.parametrize("failures", [5, (ValueError, 5), int, "ValueError"])
def test_retry_options_take_exception_types_or_a_function(name: str, failures: Any):
    with pytest.raises(TypeError, match=f"{name} must be an exception type, a tuple of them, or a function"):
        df.RetryOptions(1, 1, **{name: failures})


def test_retry_options_are_a_policy():
    assert df.RetryOptions(5000, 3).to_policy() == RetryPolicy(timedelta(seconds=5), 3)
    assert df.RetryOptions(500, 3, 2.5, 60_000, 3_600_000).to_policy() == RetryPolicy(
        timedelta(seconds=0.5), 3, 2.5, timedelta(minutes=1), timedelta(hours=1)
    )
    assert df.RetryOptions(1e300, 3).to_policy().first_interval == timedelta.max


def test_entity_ids_are_compared_without_the_case_of_their_names():
    one, other = df.EntityId("Counter", "k"), df.EntityId("counter", "k")

    assert str(one) == df.EntityId.get_scheduler_id(one) == "@counter@k"
    assert one == other
    assert hash(one) == hash(other)
    assert one != df.EntityId("counter", "K")
    assert df.EntityId.get_entity_id_url_path(one) == "entities/Counter/k"


@pytest.mark.parametrize("key", ["k", "a@b", ""])
def test_entity_ids_are_read_back(key: str):
    found = df.EntityId.get_entity_id(f"@counter@{key}")

    assert (found.name, found.key) == ("counter", key)
    assert str(found) == f"@counter@{key}"


def test_the_empty_key_that_only_http_callers_use_has_a_path():
    assert df.EntityId.get_entity_id_url_path(df.EntityId.get_entity_id("@counter@")) == "entities/counter/$"


@pytest.mark.parametrize("text", ["", "@", "@counter", "counter@k", "@@k"])
def test_other_texts_are_no_entity_ids(text: str):
    with pytest.raises(ValueError, match="Unexpected format in SchedulerId"):
        df.EntityId.get_entity_id(text)


@pytest.mark.parametrize(("name", "key", "what"), [("", "k", "name"), ("n", "", "key")])
def test_entity_ids_need_both_parts(name: str, key: str, what: str):
    with pytest.raises(ValueError, match=f"Entity {what} cannot be empty"):
        df.EntityId(name, key)


def test_http_requests_and_token_sources_have_their_wire_form():
    source = df.ManagedIdentityTokenSource("https://management.core.windows.net/")
    request = DurableHttpRequest("GET", "http://x", token_source=source)

    assert isinstance(source, TokenSource)
    assert source.to_json() == {"resource": source.resource, "kind": "AzureManagedIdentity"}
    assert request.to_json() == {
        "method": "GET",
        "uri": "http://x",
        "content": None,
        "headers": None,
        "tokenSource": source.to_json(),
    }
    assert "tokenSource" not in DurableHttpRequest("GET", "http://x").to_json()


def test_a_status_is_read_from_an_answer_and_written_back():
    answer = {
        "name": "flow",
        "instanceId": "i",
        "createdTime": "2026-01-02T03:04:05.1234567Z",
        "lastUpdatedTime": "2026-01-02T03:04:05Z",
        "runtimeStatus": "Running",
        "input": 1,
        "output": None,
        "customStatus": "x",
        "historyEvents": [{}],
        "extra": 5,
    }

    status = DurableOrchestrationStatus.from_json(answer)

    assert status
    assert (status.extra, status.history) == (5, [{}])
    assert status.to_json() == {
        "name": "flow",
        "instanceId": "i",
        "createdTime": "2026-01-02T03:04:05.123456Z",
        "lastUpdatedTime": "2026-01-02T03:04:05.000000Z",
        "output": None,
        "input": 1,
        "runtimeStatus": "Running",
        "customStatus": "x",
        "history": [{}],
    }


def test_a_status_without_an_instance_is_false_and_still_written():
    status = DurableOrchestrationStatus.from_json("nothing there")

    assert not status
    assert status.message == "nothing there"
    assert status.to_json()["createdTime"] is None


def test_an_unknown_status_is_refused():
    with pytest.raises(ValueError, match="Odd"):
        DurableOrchestrationStatus(runtimeStatus="Odd")


def test_small_answers_carry_their_values():
    assert PurgeHistoryResult.from_json({"instancesDeleted": 2}).instances_deleted == 2
    response = EntityStateResponse(True, 5)
    assert (response.entity_exists, response.entity_state) == (True, 5)
    assert EntityStateResponse(False).entity_state is None


def test_the_function_of_an_entity_is_kept():
    def counter(context: df.DurableEntityContext) -> None: ...

    handle = df.Entity.create(counter)

    assert handle.entity_function is counter
    assert df.EntityContext is df.DurableEntityContext


# ---------------------------------------------------------------------- an app's own tests


def run(orchestrator: Any, *results: Any) -> list[Any]:
    tasks = [Mock(result=each) for each in results]
    context = Mock(spec=df.DurableOrchestrationContext)
    context.call_activity = Mock(side_effect=tasks)
    return list(orchestrator_generator_wrapper(orchestrator(context)))


def test_the_wrapper_feeds_results_and_ends_with_the_output():
    def orchestrator(context):
        a = yield context.call_activity("a")
        b = yield context.call_activity("b")
        return [a, b]

    values = run(orchestrator, 1, 2)

    assert len(values) == 3
    assert values[-1] == [1, 2]


def test_the_wrapper_throws_what_reading_a_result_raises():
    class FailedTask:
        @property
        def result(self) -> Any:
            raise ValueError("boom")

    def orchestrator(context):
        try:
            yield FailedTask()
        except ValueError as error:
            return str(error)

    assert run(orchestrator)[-1] == "boom"


def test_the_wrapper_takes_a_generator_that_returns_before_its_first_yield():
    def orchestrator(context):
        if context is not None:
            return "early"
        yield

    assert run(orchestrator) == ["early"]


def test_the_wrapper_lets_an_uncaught_error_through():
    def orchestrator(context):
        yield context.call_activity("a")
        raise KeyError("k")

    with pytest.raises(KeyError):
        run(orchestrator, 1)
