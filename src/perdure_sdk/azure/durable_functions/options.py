"""Values that apps hand to the SDK: retry options, entity ids, token sources, HTTP requests."""

from __future__ import annotations

from typing import Any


class RetryOptions:
    """When and how often to try again; all times in milliseconds.

    Args:
        first_retry_interval_in_milliseconds: the wait before the second attempt; more than 0.
        max_number_of_attempts: the first attempt counts.
        backoff_coefficient: each wait is so many times the one before.
        max_retry_interval_in_milliseconds: no wait is longer, or None.
        retry_timeout_in_milliseconds: no attempt starts later than so long after the first, or None.

    Raises:
        ValueError: the first interval is not positive.
    """

    def __init__(
        self,
        first_retry_interval_in_milliseconds: int,
        max_number_of_attempts: int,
        *,
        backoff_coefficient: float | None = None,
        max_retry_interval_in_milliseconds: int | None = None,
        retry_timeout_in_milliseconds: int | None = None,
    ) -> None:
        if first_retry_interval_in_milliseconds <= 0:
            # The missing blank is the official text, which tests compare.
            raise ValueError("first_retry_interval_in_milliseconds valuemust be greater than 0.")
        self._first_retry_interval_in_milliseconds = first_retry_interval_in_milliseconds
        self._max_number_of_attempts = max_number_of_attempts
        self._backoff_coefficient = backoff_coefficient
        self._max_retry_interval_in_milliseconds = max_retry_interval_in_milliseconds
        self._retry_timeout_in_milliseconds = retry_timeout_in_milliseconds

    @property
    def first_retry_interval_in_milliseconds(self) -> int:
        """The wait before the second attempt."""
        return self._first_retry_interval_in_milliseconds

    @property
    def max_number_of_attempts(self) -> int:
        """How many attempts there are at most, the first included."""
        return self._max_number_of_attempts

    @property
    def backoff_coefficient(self) -> float:
        """By how much each wait is longer than the one before; 1 if not given."""
        return 1.0 if self._backoff_coefficient is None else self._backoff_coefficient

    @property
    def max_retry_interval_in_milliseconds(self) -> int | None:
        """The longest wait, or None."""
        return self._max_retry_interval_in_milliseconds

    @property
    def retry_timeout_in_milliseconds(self) -> int | None:
        """How long after the first attempt others may start, or None."""
        return self._retry_timeout_in_milliseconds

    def to_json(self) -> dict[str, int | float]:
        """The options under their names on the wire; those not given are left out."""
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
        """The instance id of the entity."""
        return f"@{entity_id.name.lower()}@{entity_id.key}"

    @staticmethod
    def get_entity_id(scheduler_id: str) -> EntityId:
        """The entity that an instance id stands for; a key may contain `@`.

        Raises:
            ValueError: it is not an entity's.
        """
        before, name, key = (*scheduler_id.split("@", 2), "", "")[:3]
        if before or not name or not key:
            raise ValueError("Unexpected format in SchedulerId")
        return EntityId(name, key)

    @staticmethod
    def get_entity_id_url_path(entity_id: EntityId) -> str:
        """The entity's place in the management API."""
        return f"entities/{entity_id.name}/{entity_id.key}"

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
