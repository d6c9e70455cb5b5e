"""What entity code may call."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from azure.durable_functions.builders import orchestrator_name
from azure.durable_functions.later import not_there
from azure.durable_functions.options import EntityId
from azure.durable_functions.protocol.batch import BatchRequest

from perdure.core.codec import payloads
from perdure.core.conversion import asked_type
from perdure.core.entities import EntityAction, OperationResult, OrchestrationStart, Signal, operation_rules
from perdure.core.failures import FailureDetails
from perdure.core.instance_ids import check_instance_id

if TYPE_CHECKING:
    from azure.functions.decorators.function_app import FunctionBuilder


class DurableEntityContext:
    """An entity's state, and the operation that is being run on it.

    What an operation does counts only if it returns: one that raises changes nothing and sends nothing.

    Args:
        name: the entity's name.
        key: the entity's key.
        exists: whether it has a state.
        state: that state as JSON text.
    """

    def __init__(self, name: str, key: str, exists: bool = False, state: str | None = None) -> None:
        self._name = name.lower()
        self._key = key
        self._text = state if exists else None
        self._operation: str | None = None
        self._input: str | None = None
        self._is_hosted_here = True
        self._begin_state()

    @classmethod
    def from_json(cls, json_str: str | bytes) -> tuple[DurableEntityContext, list[dict[str, Any]]]:
        """The entity that `json_str` describes, which is what the official host sends, and its operations.

        Raises:
            TypeError: it lacks a member that every host sends.
            ValueError: it is no JSON.
        """
        request = BatchRequest.parse(json_str)
        context = cls(request.name, request.key, request.state is not None, request.state)
        context._is_hosted_here = False
        return context, json.loads(json_str)["batch"]

    # ------------------------------------------------------------------ who, and what is asked

    @property
    def entity_name(self) -> str:
        """The entity's name, in lower case."""
        return self._name

    @property
    def entity_key(self) -> str:
        """The entity's key."""
        return self._key

    @property
    def entity_id(self) -> EntityId:
        """Name and key."""
        return EntityId.get_entity_id(f"@{self._name}@{self._key}")

    @property
    def operation_name(self) -> str:
        """Name of the operation.

        Raises:
            Exception: there is none.
        """
        if self._operation is None:
            raise Exception("Entity operation is unassigned")
        return self._operation

    @property
    def is_newly_constructed(self) -> bool:
        """The entity has no state yet."""
        return self._text is None

    def get_input(self, expected_type: Any = None) -> Any:
        """The operation's input.

        Args:
            expected_type: the type that it is to become.
        """
        return _decoded(self._input, expected_type)

    # ------------------------------------------------------------------ state

    def get_state(self, initializer: Callable[[], Any] | None = None, expected_type: Any = None) -> Any:
        """The state, or what `initializer` makes if there is none; that is kept only by `set_state`.

        Args:
            initializer: called without arguments.
            expected_type: the type that the state is to become.

        Raises:
            Exception: there is no state, and the initializer cannot be called.
        """
        if not self._is_read:
            self._value = _decoded(self._text, expected_type)
            self._is_read = True
        if self._value is None and initializer:
            if not callable(initializer):
                raise Exception("initializer argument needs to be a callable function")
            return initializer()
        return self._value

    def set_state(self, state: Any) -> None:
        """Keep `state`: JSON, or whatever can be written as JSON."""
        self._value = state
        self._is_read = self._exists = True

    def destruct_on_exit(self) -> None:
        """Remove the entity once the operation has returned, unless its state is set again."""
        self._value = None
        self._is_read, self._exists = True, False

    # ------------------------------------------------------------------ result, and what goes out

    def set_result(self, result: Any) -> None:
        """The `result` that the caller of the operation gets; without it, what the function returns."""
        self._result = result
        self._has_result = True

    def signal_entity(
        self,
        entityId: EntityId,
        operation_name: str,
        operation_input: Any = None,
        scheduled_time: datetime | timedelta | None = None,
    ) -> None:
        """Send an operation to an entity, this one included.

        Args:
            entityId: the entity's.
            operation_name: the operation's.
            operation_input: its input.
            scheduled_time: when it is to arrive (without a zone it is UTC), or in how long.

        Raises:
            TypeError: the input cannot be written as JSON.
        """
        if scheduled_time is not None:
            self._require("scheduled_time of signal_entity")
        when = delivery_time(scheduled_time, self._now)
        self._actions.append(Signal(str(entityId), operation_name, _encoded(operation_input), when))

    def start_new_orchestration(
        self,
        name: str | FunctionBuilder,
        input_: Any = None,
        instance_id: str | None = None,
        version: str | None = None,
    ) -> None:
        """Start an orchestration without waiting for it.

        Args:
            name: the orchestrator's name, or the decorated function.
            input_: its input.
            instance_id: its id, or None for a new one; nothing happens if an unfinished instance has it.
            version: its version.

        Raises:
            InvalidInstanceIdError: the id breaks a rule.
            TypeError: the input cannot be written as JSON.
        """
        self._require("context.start_new_orchestration")
        if instance_id:
            check_instance_id(instance_id)
        self._actions.append(
            OrchestrationStart(orchestrator_name(name), _encoded(input_), instance_id or None, version)
        )

    # ------------------------------------------------------------------ told by `Entity`

    @property
    def state_text(self) -> str | None:
        """The state as JSON text, as the operations so far have left it; None if there is none."""
        return self._text

    def begin_operation(self, operation: str, input: str | None, now: datetime) -> None:
        """Told by the host: the next `operation` begins, with its `input` as JSON text, at the time `now`."""
        self._operation, self._input, self._now = operation, input, now
        self._begin_state()

    def _begin_state(self) -> None:
        self._exists = self._text is not None
        self._is_read = False
        self._value: Any = None
        self._result: Any = None
        self._has_result = False
        self._actions: list[EntityAction] = []

    def operation_returned(self, value: Any) -> OperationResult:
        """Told by the host: the operation has returned `value`; state and result are kept as they can be written."""
        try:
            result = payloads.encode(self._result if self._has_result else value)
            text = self._text
            if self._is_read:
                text = payloads.encode(self._value) if self._exists else None
        except Exception as error:  # user data that JSON cannot hold: the operation has failed
            return self.operation_raised(error)
        self._text = text
        return OperationResult(result, None, tuple(self._actions))

    def operation_raised(self, error: BaseException) -> OperationResult:
        """Told by the host: the operation has raised `error`, so nothing of it counts, unless host.json says so."""
        if operation_rules.rolls_back:
            return OperationResult(failure=FailureDetails.of(error))
        if self._is_read:
            with suppress(Exception):  # user data: what cannot be written is not kept
                self._text = payloads.encode(self._value) if self._exists else None
        return OperationResult(failure=FailureDetails.of(error), actions=tuple(self._actions))

    def _require(self, feature: str) -> None:
        """Refuse what the official host could not be told (DF130)."""
        if not self._is_hosted_here:
            raise not_there(feature)

    _now: datetime = datetime.min.replace(tzinfo=UTC)


def delivery_time(when: datetime | timedelta | None, now: datetime) -> datetime | None:
    """When a signal is to arrive, or None for at once."""
    if when is None:
        return None
    if isinstance(when, timedelta):
        return now + when
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


def _encoded(value: Any) -> str | None:
    return None if value is None else payloads.encode(value)


def _decoded(text: str | None, expected_type: Any) -> Any:
    expected = asked_type(expected_type)
    return payloads.decode(text) if expected is None else payloads.decode_as(text, expected)
