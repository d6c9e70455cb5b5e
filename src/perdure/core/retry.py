"""When a failed call is made again.

Rule 1: the only clock is the orchestrator's, so that a replay waits as long as the run that it repeats.
Rule 2: the last failure is raised as it is; no timer follows it (docs/decisions: SDK 1.x's extra one is not copied).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from datetime import datetime, timedelta
from typing import Any, Final

from msgspec import Struct

from perdure.core.failures import TaskFailedError
from perdure.core.tasks import Task, TimerTask

# The official extension's longest interval.
INTERVAL_MAX: Final = timedelta(days=6)


class RetryPolicy(Struct, frozen=True):
    """How often and after what waits to try again.

    Attributes:
        first_interval: the wait after the first failure.
        max_attempts: the first attempt counts.
        backoff_coefficient: each wait is so many times the one before.
        max_interval: no wait is longer.
        timeout: no retry is begun later than so long after the first attempt; None for no limit.
        is_worth_it: whether a failure is one to try again after; orchestrator code, so it must be deterministic.

    Source: DurableTask.Core RetryInterceptor.
    """

    first_interval: timedelta
    max_attempts: int
    backoff_coefficient: float = 1.0
    max_interval: timedelta = INTERVAL_MAX
    timeout: timedelta | None = None
    is_worth_it: Callable[[TaskFailedError], bool] | None = None

    def delay(self, attempts: int, failure: TaskFailedError, elapsed: timedelta) -> timedelta | None:
        """The wait before the next attempt, or None to give up.

        Args:
            attempts: how many have failed.
            elapsed: time since the first began.
        """
        if attempts >= self.max_attempts or failure.details.is_non_retriable:
            return None
        if self.timeout is not None and elapsed >= self.timeout:
            return None
        if self.is_worth_it is not None and not self.is_worth_it(failure):
            return None
        longest = self.max_interval.total_seconds()
        try:
            wait = self.first_interval.total_seconds() * self.backoff_coefficient ** (attempts - 1)
        except OverflowError:
            wait = longest
        return timedelta(seconds=min(wait, longest))


def retried(
    policy: RetryPolicy, call: Callable[[], Task], now: Callable[[], datetime], timer: Callable[[datetime], TimerTask]
) -> Generator[Task, Any, Any]:
    """Make a call until it succeeds or `policy` gives up: the code of a `Routine`."""
    began, attempts = now(), 0
    while True:
        try:
            return (yield call())
        except TaskFailedError as failure:
            attempts += 1
            wait = policy.delay(attempts, failure, now() - began)
            if wait is None:
                raise
        yield timer(now() + wait)
