"""Values that apps hand to the SDK: retry options, entity ids, token sources, HTTP requests."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, cast

from perdure.core.failures import TaskFailedError
from perdure.core.retry import INTERVAL_MAX, RetryPolicy

_Number = TypeVar("_Number", int, float)
_Predicate = Callable[[TaskFailedError], bool]


Failures = type[BaseException] | tuple[type[BaseException], ...] | Callable[[TaskFailedError], bool]
"""Exception types, or a function of the failure; types are compared as by `TaskFailedError.is_caused_by`."""


class RetryOptions:
    """When and how often to try again; all times in milliseconds.

    Each value may be set later as well; a call takes them as they are when it is made.

    Args:
        first_retry_interval_in_milliseconds: the wait before the second attempt; more than 0.
        max_number_of_attempts: the first attempt counts; at least 1.
        backoff_coefficient: each wait is so many times the one before; more than 0, and 1 if not given.
        max_retry_interval_in_milliseconds: no wait is longer; None for the official host's 6 days.
        retry_timeout_in_milliseconds: no attempt starts later than so long after the first, or None.
        retry_on: which failures are worth another attempt; None for all.
        give_up_on: which are not, even so. Like `retry_on` a type, a tuple of types, or a function, which is then
            orchestrator code: it must decide the same at each replay.

    Raises:
        ValueError: a value is out of its range.
        TypeError: `retry_on` or `give_up_on` is something else.
    """

    def __init__(
        self,
        first_retry_interval_in_milliseconds: float,
        max_number_of_attempts: int,
        backoff_coefficient: float | None = None,
        max_retry_interval_in_milliseconds: float | None = None,
        retry_timeout_in_milliseconds: float | None = None,
        *,
        retry_on: Failures | None = None,
        give_up_on: Failures | None = None,
    ) -> None:
        self.first_retry_interval_in_milliseconds = first_retry_interval_in_milliseconds
        self.max_number_of_attempts = max_number_of_attempts
        self._backoff_coefficient: float | None = None
        if backoff_coefficient is not None:
            self.backoff_coefficient = backoff_coefficient
        self.max_retry_interval_in_milliseconds = max_retry_interval_in_milliseconds
        self.retry_timeout_in_milliseconds = retry_timeout_in_milliseconds
        self.retry_on = retry_on
        self.give_up_on = give_up_on

    @property
    def first_retry_interval_in_milliseconds(self) -> float:
        """The wait before the second attempt."""
        return self._first_retry_interval_in_milliseconds

    @first_retry_interval_in_milliseconds.setter
    def first_retry_interval_in_milliseconds(self, value: float) -> None:
        if not value > 0:
            # The missing blank is the official text, which tests compare.
            raise ValueError("first_retry_interval_in_milliseconds valuemust be greater than 0.")
        self._first_retry_interval_in_milliseconds = value

    @property
    def max_number_of_attempts(self) -> int:
        """How many attempts there are at most, the first included."""
        return self._max_number_of_attempts

    @max_number_of_attempts.setter
    def max_number_of_attempts(self, value: int) -> None:
        self._max_number_of_attempts = _positive("max_number_of_attempts", value)

    @property
    def backoff_coefficient(self) -> float:
        """By how much each wait is longer than the one before; 1 if not given."""
        return 1.0 if self._backoff_coefficient is None else self._backoff_coefficient

    @backoff_coefficient.setter
    def backoff_coefficient(self, value: float) -> None:
        self._backoff_coefficient = _positive("backoff_coefficient", value)

    @property
    def max_retry_interval_in_milliseconds(self) -> float | None:
        """The longest wait, or None."""
        return self._max_retry_interval_in_milliseconds

    @max_retry_interval_in_milliseconds.setter
    def max_retry_interval_in_milliseconds(self, value: float | None) -> None:
        name = "max_retry_interval_in_milliseconds"
        self._max_retry_interval_in_milliseconds = None if value is None else _positive(name, value)

    @property
    def retry_timeout_in_milliseconds(self) -> float | None:
        """How long after the first attempt others may start, or None."""
        return self._retry_timeout_in_milliseconds

    @retry_timeout_in_milliseconds.setter
    def retry_timeout_in_milliseconds(self, value: float | None) -> None:
        name = "retry_timeout_in_milliseconds"
        self._retry_timeout_in_milliseconds = None if value is None else _positive(name, value)

    @property
    def retry_on(self) -> Failures | None:
        """Which failures are worth another attempt; None for all."""
        return self._retry_on

    @retry_on.setter
    def retry_on(self, value: Failures | None) -> None:
        self._is_retried = None if value is None else _predicate("retry_on", value)
        self._retry_on = value

    @property
    def give_up_on(self) -> Failures | None:
        """Which failures are not worth another attempt, or None."""
        return self._give_up_on

    @give_up_on.setter
    def give_up_on(self, value: Failures | None) -> None:
        self._is_given_up = None if value is None else _predicate("give_up_on", value)
        self._give_up_on = value

    def to_policy(self) -> RetryPolicy:
        """The options as the engine takes them."""
        longest, timeout = self._max_retry_interval_in_milliseconds, self._retry_timeout_in_milliseconds
        return RetryPolicy(
            first_interval=_duration(self._first_retry_interval_in_milliseconds),
            max_attempts=self._max_number_of_attempts,
            backoff_coefficient=self.backoff_coefficient,
            max_interval=INTERVAL_MAX if longest is None else _duration(longest),
            timeout=None if timeout is None else _duration(timeout),
            is_worth_it=_worth(self._is_retried, self._is_given_up),
        )

    def to_json(self) -> dict[str, int | float]:
        """The options under their names on the wire; those not given, and those that it does not know, are left out."""
        members: dict[str, int | float | None] = {
            "firstRetryIntervalInMilliseconds": self._first_retry_interval_in_milliseconds,
            "maxNumberOfAttempts": self._max_number_of_attempts,
            "backoffCoefficient": self._backoff_coefficient,
            "maxRetryIntervalInMilliseconds": self._max_retry_interval_in_milliseconds,
            "retryTimeoutInMilliseconds": self._retry_timeout_in_milliseconds,
        }
        return {name: value for name, value in members.items() if value is not None}


class EntityId:
    """Name and key of an entity; names ignore case.

    Only `get_entity_id` gives one with an empty key, which HTTP callers can use.

    Args:
        name: that its function is registered under.
        key: which of the entities of that name.

    Raises:
        ValueError: name or key is empty.
    """

    def __init__(self, name: str, key: str) -> None:
        if not name:
            raise ValueError("Entity name cannot be empty")
        if not key:
            raise ValueError("Entity key cannot be empty")
        self.name = name
        self.key = key

    @staticmethod
    def get_scheduler_id(entity_id: EntityId) -> str:
        """The instance id of the entity `entity_id`."""
        return f"@{entity_id.name.lower()}@{entity_id.key}"

    @staticmethod
    def get_entity_id(scheduler_id: str) -> EntityId:
        """The entity that the instance id `scheduler_id` stands for; a key may contain `@`.

        Raises:
            ValueError: it is not an entity's.
        """
        before, *parts = scheduler_id.split("@", 2)
        if before or len(parts) < 2 or not parts[0]:
            raise ValueError("Unexpected format in SchedulerId")
        entity_id = EntityId.__new__(EntityId)
        entity_id.name, entity_id.key = parts
        return entity_id

    @staticmethod
    def get_entity_id_url_path(entity_id: EntityId) -> str:
        """The place of the entity `entity_id` in the management API."""
        return f"entities/{entity_id.name}/{entity_id.key or '$'}"

    def __str__(self) -> str:
        return EntityId.get_scheduler_id(self)

    def __repr__(self) -> str:
        return f"EntityId({self.name!r}, {self.key!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EntityId) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


class TokenSource:
    """Where a durable HTTP call gets its token from."""


class ManagedIdentityTokenSource(TokenSource):
    """The app's managed identity, for tokens of `resource`."""

    def __init__(self, resource: str) -> None:
        self._resource = resource

    @property
    def resource(self) -> str:
        """What the token gives access to."""
        return self._resource

    def to_json(self) -> dict[str, str]:
        """The source under its names on the wire."""
        return {"resource": self._resource, "kind": "AzureManagedIdentity"}


class DurableHttpRequest:
    """A request that an orchestration makes."""

    def __init__(
        self,
        method: str,
        uri: str,
        content: str | None = None,
        headers: dict[str, str] | None = None,
        token_source: TokenSource | None = None,
    ) -> None:
        self._method = method
        self._uri = uri
        self._content = content
        self._headers = headers
        self._token_source = token_source

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self._method

    @property
    def uri(self) -> str:
        """The address."""
        return self._uri

    @property
    def content(self) -> str | None:
        """The body, or None."""
        return self._content

    @property
    def headers(self) -> dict[str, str] | None:
        """The headers, or None."""
        return self._headers

    @property
    def token_source(self) -> TokenSource | None:
        """Where the token comes from, or None for a request without."""
        return self._token_source

    def to_json(self) -> dict[str, Any]:
        """The request under its names on the wire."""
        members: dict[str, Any] = {
            "method": self._method,
            "uri": self._uri,
            "content": self._content,
            "headers": self._headers,
        }
        if isinstance(self._token_source, ManagedIdentityTokenSource):
            members["tokenSource"] = self._token_source.to_json()
        return members


def _positive(name: str, value: _Number) -> _Number:
    if not value > 0:
        raise ValueError(f"{name} value must be greater than 0.")
    return value


def _duration(milliseconds: float) -> timedelta:
    try:
        return timedelta(milliseconds=milliseconds)
    except OverflowError:
        return timedelta.max


def _predicate(name: str, failures: Failures) -> _Predicate:
    kinds = cast("tuple[Any, ...]", failures if isinstance(failures, tuple) else (failures,))
    if all(isinstance(each, type) and issubclass(each, BaseException) for each in kinds):
        return lambda failure: any(failure.is_caused_by(each) for each in kinds)
    if isinstance(failures, tuple | type) or not callable(failures):
        raise TypeError(
            f"{name} must be an exception type, a tuple of them, or a function of the failure, but is {failures!r}"
        )
    return failures


def _worth(is_retried: _Predicate | None, is_given_up: _Predicate | None) -> _Predicate | None:
    if is_retried is None and is_given_up is None:
        return None

    def is_worth_it(failure: TaskFailedError) -> bool:
        if is_given_up is not None and is_given_up(failure):
            return False
        return is_retried is None or bool(is_retried(failure))

    return is_worth_it
