"""Plain values of the SDK, and its help for an app's own tests."""

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
    assert (options.max_retry_interval_in_milliseconds, options.retry_timeout_in_milliseconds) == (3, 4)


@pytest.mark.parametrize("interval", [0, -1])
def test_retry_options_need_an_interval(interval: int):
    with pytest.raises(ValueError, match=r"^first_retry_interval_in_milliseconds valuemust be greater than 0\.$"):
        df.RetryOptions(interval, 3)


def test_entity_ids_are_compared_without_the_case_of_their_names():
    one, other = df.EntityId("Counter", "k"), df.EntityId("counter", "k")

    assert str(one) == df.EntityId.get_scheduler_id(one) == "@counter@k"
    assert one == other
    assert hash(one) == hash(other)
    assert one != df.EntityId("counter", "K")
    assert df.EntityId.get_entity_id_url_path(one) == "entities/Counter/k"


@pytest.mark.parametrize("key", ["k", "a@b"])
def test_entity_ids_are_read_back(key: str):
    found = df.EntityId.get_entity_id(f"@counter@{key}")

    assert (found.name, found.key) == ("counter", key)


@pytest.mark.parametrize("text", ["", "@", "@counter", "counter@k", "@@k", "@counter@"])
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


def test_entities_load_and_say_that_they_do_not_run():
    def counter(context: df.DurableEntityContext) -> None: ...

    handle = df.Entity.create(counter)

    assert handle.entity_function is counter
    assert df.EntityContext is df.DurableEntityContext
    with pytest.raises(NotImplementedError, match="entities"):
        handle("{}")


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
