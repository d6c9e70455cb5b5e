"""How often and when a function that failed is run again: `@app.retry`, or `retry` in a function.json or host.json."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from msgspec import Struct

from perdure.host.settings.host_json import FunctionRetry
from perdure.host.settings.setting import Span

FOR_EVER = -1

_SPAN = Span()

# Doubling any more often leads nowhere: one second has become a century by then.
_DOUBLINGS_MAX = 32


class InvalidRetryError(ValueError):
    """Raised by `FunctionRetryPolicy.parse`; its text says which member is wrong."""


class RetryException(Struct, frozen=True):
    """What the attempt before has raised, as `context.retry_context.exception` shows it."""

    source: str
    message: str
    stack_trace: str


class RetryContext(Struct, frozen=True):
    """What `context.retry_context` is. Source: RetryContext of azure.functions.

    Attributes:
        retry_count: attempts before this one.
        max_retry_count: how many may follow the first attempt, or -1 for any number.
        exception: what the attempt before has raised, or None in the first.
    """

    retry_count: int
    max_retry_count: int
    exception: RetryException | None


class FunctionRetryPolicy(Struct, frozen=True):
    """When to run a failed function again.

    Attributes:
        retries_max: how many attempts may follow the first, or -1 for any number.
        shortest: the time before the first of them.
        longest: twice as long as before each time, but never longer than this.
    """

    retries_max: int
    shortest: timedelta
    longest: timedelta

    @classmethod
    def parse(cls, members: Mapping[str, Any]) -> FunctionRetryPolicy:
        """The policy that a decorator or a file describes, with names in snake or in camel case.

        Raises:
            InvalidRetryError: a member is missing or cannot be used.
        """
        given = {name.replace("_", "").casefold(): value for name, value in members.items() if value is not None}
        strategy = str(given.get("strategy", "")).replace("_", "").casefold()
        try:
            retries_max = int(str(given["maxretrycount"]))
        except (KeyError, ValueError):
            raise InvalidRetryError("its retry policy needs a number as max_retry_count") from None
        if retries_max < FOR_EVER:
            raise InvalidRetryError(f"max_retry_count of its retry policy is {retries_max}; -1 is for ever")
        match strategy:
            case "fixeddelay":
                delay = _length(given, "delay_interval")
                return cls(retries_max, delay, delay)
            case "exponentialbackoff":
                shortest, longest = _length(given, "minimum_interval"), _length(given, "maximum_interval")
                if shortest > longest:
                    raise InvalidRetryError("minimum_interval of its retry policy is longer than maximum_interval")
                return cls(retries_max, shortest, longest)
            case _:
                raise InvalidRetryError(
                    f"the strategy of its retry policy is '{given.get('strategy')}', which is neither fixed_delay nor "
                    "exponential_backoff"
                )

    @classmethod
    def of_setting(cls, retry: FunctionRetry) -> FunctionRetryPolicy:
        """The policy that host.json has for functions without one."""
        retries_max = FOR_EVER if retry.retries_max is None else retry.retries_max
        if retry.strategy == "fixedDelay":
            return cls(retries_max, retry.delay, retry.delay)
        return cls(retries_max, retry.least, retry.most)

    def next_delay(self, retries: int) -> timedelta | None:
        """How long to wait after an attempt that failed, or None if it was the last.

        Args:
            retries: how many attempts have followed the first.
        """
        if self.retries_max != FOR_EVER and retries >= self.retries_max:
            return None
        return min(self.shortest * 2 ** min(retries, _DOUBLINGS_MAX), self.longest)


def _length(given: Mapping[str, Any], name: str) -> timedelta:
    text = given.get(name.replace("_", ""), "")
    try:
        return _SPAN.read(text)
    except ValueError as error:
        what = f"is '{text}'" if text else "is missing"
        raise InvalidRetryError(f"{name} of its retry policy {what}; it has to be {error}") from None
