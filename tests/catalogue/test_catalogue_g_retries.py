"""Group G: retries."""

from __future__ import annotations

from datetime import timedelta

import pytest
from azure.durable_functions import RetryOptions
from catalogue_hub import Hub
from catalogue_kit import case

from perdure.core.events import TaskScheduled, TimerCreated


class Attempts:
    """An activity that fails so many times, and the virtual seconds at which it was called."""

    def __init__(self, hub: Hub, failures: int) -> None:
        self.hub = hub
        self.failures = failures
        self.times: list[float] = []

        @hub.activity
        def flaky(given):
            self.times.append(round(hub.age.total_seconds(), 3))
            if len(self.times) <= self.failures:
                raise ValueError(f"attempt {len(self.times)}")
            return given

    @property
    def delays(self) -> list[float]:
        return [round(later - earlier, 2) for earlier, later in zip(self.times, self.times[1:], strict=False)]


def with_retries(hub: Hub, options: RetryOptions, failures: int) -> Attempts:
    """Registers `stubborn`, which calls an activity that fails so many times, with these options."""

    @hub.orchestrator
    def stubborn(context):
        return (yield context.call_activity_with_retry("flaky", options, "result"))

    return Attempts(hub, failures)


@case("G1", "two failures of at most three attempts: three calls, the waits as the policy says, and the result")
async def test_a_call_that_fails_twice_is_made_three_times(hub: Hub):
    attempts = with_retries(hub, RetryOptions(1000, 3, backoff_coefficient=5), failures=2)

    instance_id = await hub.start("stubborn")

    assert await hub.result(instance_id) == "result"
    assert attempts.delays == [1, 5]
    assert len(await hub.of_kind(instance_id, TaskScheduled)) == 3


@case(
    "G2",
    "a call that always fails is made three times; then its last exception counts, without another wait",
    regression="a timer after the last attempt",
)
async def test_the_last_failure_is_not_waited_after(hub: Hub):
    attempts = with_retries(hub, RetryOptions(1000, 3, backoff_coefficient=5), failures=9)

    instance_id = await hub.start("stubborn")
    ended = await hub.wait(instance_id)

    assert (ended.status, ended.failure.message) == ("Failed", "attempt 3")
    assert attempts.delays == [1, 5]
    assert timedelta(seconds=6) <= hub.age < timedelta(seconds=6.1)
    assert len(await hub.of_kind(instance_id, TimerCreated)) == 2


@case("G3", "no wait is longer than the longest allowed")
async def test_waits_have_a_limit(hub: Hub):
    options = RetryOptions(1000, 6, backoff_coefficient=4, max_retry_interval_in_milliseconds=10_000)
    attempts = with_retries(hub, options, failures=5)

    assert await hub.call("stubborn") == "result"
    assert attempts.delays == [1, 4, 10, 10, 10]


@case("G4", "a policy gives up after its time, whatever attempts are left")
async def test_a_policy_gives_up_after_its_time(hub: Hub):
    options = RetryOptions(10_000, 100, retry_timeout_in_milliseconds=35_000)
    attempts = with_retries(hub, options, failures=100)

    ended = await hub.run("stubborn")

    assert ended.status == "Failed"
    assert attempts.delays == [10, 10, 10, 10]
    assert ended.failure.message == "attempt 5"


@case("G5", "one attempt at most: no retry and no timer")
async def test_one_attempt_is_no_retry(hub: Hub):
    attempts = with_retries(hub, RetryOptions(1000, 1), failures=1)

    instance_id = await hub.start("stubborn")

    assert (await hub.wait(instance_id)).status == "Failed"
    assert len(attempts.times) == 1
    assert await hub.of_kind(instance_id, TimerCreated) == []


@case("G6", "a failure that another attempt cannot mend is not tried again")
async def test_a_final_failure_is_not_tried_again(hub: Hub):
    runs = []

    @hub.orchestrator
    def unfit(context):
        yield context.call_activity_with_retry("unfit_result", RetryOptions(1000, 5), None)

    @hub.orchestrator
    def unknown(context):
        yield context.call_activity_with_retry("unknown_activity", RetryOptions(1000, 5), None)

    @hub.activity
    def unfit_result(_):
        runs.append(None)
        return {1, 2}

    for name, error_type in (("unfit", "TypeError"), ("unknown", "ActivityNotFound")):
        instance_id = await hub.start(name)
        ended = await hub.wait(instance_id)
        assert (ended.status, ended.failure.error_type) == ("Failed", error_type)
        assert len(await hub.of_kind(instance_id, TaskScheduled)) == 1
    assert len(runs) == 1


@case("G7", "a failure that the policy's own function does not want to try again is not tried again")
async def test_a_policy_can_choose_its_failures(hub: Hub):
    options = RetryOptions(1000, 5, retry_on=lambda failure: failure.message != "attempt 2")
    attempts = with_retries(hub, options, failures=9)

    ended = await hub.run("stubborn")

    assert ended.failure.message == "attempt 2"
    assert len(attempts.times) == 2


@case("G8", "a first wait of nothing, or no attempt at all, is a ValueError")
async def test_impossible_policies_are_refused(hub: Hub):
    for first_wait in (0, -1):
        with pytest.raises(ValueError, match="first_retry_interval"):
            RetryOptions(first_wait, 3)
    for attempts in (0, -1):
        with pytest.raises(ValueError, match="max_number_of_attempts"):
            RetryOptions(1000, attempts)


@case("G9", "two calls that fail by turns keep to their own waits, live or replayed", regression="retry delays")
async def test_parallel_retries_keep_to_their_own_waits(hub: Hub):
    times: dict[str, list[float]] = {"slow": [], "fast": []}

    @hub.orchestrator
    def both(context):
        slow = context.call_activity_with_retry("flaky", RetryOptions(7000, 4), "slow")
        fast = context.call_activity_with_retry("flaky", RetryOptions(3000, 4, backoff_coefficient=2), "fast")
        return (yield context.task_all([slow, fast]))

    @hub.activity
    def flaky(name):
        times[name].append(round(hub.age.total_seconds()))
        if len(times[name]) < 4:
            raise ValueError(name)
        return name

    instance_id = await hub.start("both")
    await hub.advance(seconds=8)
    await hub.restart()

    assert await hub.result(instance_id) == ["slow", "fast"]
    assert times == {"slow": [0, 7, 14, 21], "fast": [0, 3, 9, 21]}


@case("G10", "a termination during a wait is effective at once")
async def test_a_termination_ends_the_waiting(hub: Hub):
    attempts = with_retries(hub, RetryOptions(3_600_000, 3), failures=3)
    instance_id = await hub.start("stubborn")
    await hub.settle()

    await hub.client.terminate(instance_id, "enough")
    await hub.settle()

    assert await hub.status(instance_id) == "Terminated"
    await hub.advance(hours=5)
    assert len(attempts.times) == 1
    assert await hub.mail(instance_id) == ()


@case("G11", "a retried call that loses against a timer goes on failing without confusing what comes after")
async def test_a_retried_call_may_lose_a_race(hub: Hub):
    Attempts(hub, failures=99)

    @hub.orchestrator
    def hurried(context):
        call = context.call_activity_with_retry("flaky", RetryOptions(2000, 10), None)
        timer = context.create_timer(timedelta(seconds=5))
        winner = yield context.task_any([call, timer])
        results = []
        for number in range(3):
            results.append((yield context.call_activity("steady", number)))
            yield context.create_timer(timedelta(seconds=3))
        return [winner is timer, results]

    @hub.activity
    def steady(number):
        return number

    instance_id = await hub.start("hurried")
    await hub.advance(seconds=9)
    await hub.restart()

    assert await hub.result(instance_id) == [True, [0, 1, 2]]


@case("G12", "a host that dies during a wait does not change when the next attempt is made", regression="retry delays")
async def test_a_wait_outlives_its_host(hub: Hub):
    attempts = with_retries(hub, RetryOptions(60_000, 3), failures=1)
    instance_id = await hub.start("stubborn")
    await hub.advance(seconds=20)

    hub.crash()
    await hub.advance(seconds=10)
    await hub.restart()

    assert await hub.result(instance_id) == "result"
    assert attempts.delays == [60]


@case("G13", "a wait of an earlier generation is gone")
async def test_a_wait_of_an_earlier_generation_is_gone(hub: Hub):
    attempts = Attempts(hub, failures=99)

    @hub.orchestrator
    def work(context):
        if context.get_input() == "second":
            yield context.create_timer(timedelta(minutes=5))
            return "second"
        call = context.call_activity_with_retry("flaky", RetryOptions(60_000, 5), None)
        yield context.task_any([call, context.create_timer(timedelta(seconds=1))])
        context.continue_as_new("second")

    assert await hub.call("work", "first") == "second"
    assert len(attempts.times) == 1
