"""What the client answers with: the status of an instance, how many were purged, the state of entities."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from typing import Any, NamedTuple

from azure.durable_functions.constants import DATETIME_STRING_FORMAT
from azure.durable_functions.options import EntityId


class OrchestrationRuntimeStatus(Enum):
    """Where an instance stands."""

    Running = "Running"
    Completed = "Completed"
    ContinuedAsNew = "ContinuedAsNew"
    Failed = "Failed"
    Canceled = "Canceled"
    Terminated = "Terminated"
    Pending = "Pending"
    Suspended = "Suspended"


class DurableOrchestrationStatus:
    """The status of an instance; false if there is no such instance.

    Members that the SDK does not know become attributes under the name they came with.
    """

    def __init__(
        self,
        name: str | None = None,
        instanceId: str | None = None,
        createdTime: str | datetime | None = None,
        lastUpdatedTime: str | datetime | None = None,
        input: Any = None,
        output: Any = None,
        runtimeStatus: str | None = None,
        customStatus: Any = None,
        history: list[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._name = name
        self._instance_id = instanceId
        self._created_time = utc_time(createdTime)
        self._last_updated_time = utc_time(lastUpdatedTime)
        self._input = input
        self._output = output
        self._runtime_status = None if runtimeStatus is None else OrchestrationRuntimeStatus(runtimeStatus)
        self._custom_status = customStatus
        self._history: list[Any] | None = kwargs.get("historyEvents") if history is None else history
        for member, value in kwargs.items():
            self.__dict__[member] = value

    @classmethod
    def from_json(cls, json_obj: dict[str, Any] | str | None) -> DurableOrchestrationStatus:
        """The status that `json_obj`, an answer of the management API, shows; a text becomes `message`."""
        return cls(message=json_obj) if isinstance(json_obj, str) else cls(**(json_obj or {}))

    def __bool__(self) -> bool:
        return self._created_time is not None

    def __repr__(self) -> str:
        status = None if self._runtime_status is None else self._runtime_status.value
        return f"<DurableOrchestrationStatus {self._name} {self._instance_id} {status}>"

    @property
    def name(self) -> str | None:
        """Name of the orchestrator."""
        return self._name

    @property
    def instance_id(self) -> str | None:
        """Id of the instance."""
        return self._instance_id

    @property
    def created_time(self) -> datetime | None:
        """When the instance was started (aware UTC)."""
        return self._created_time

    @property
    def last_updated_time(self) -> datetime | None:
        """When the instance last changed (aware UTC)."""
        return self._last_updated_time

    @property
    def input_(self) -> Any:
        """The input that the instance was started with."""
        return self._input

    @property
    def input(self) -> Any:
        """The same as `input_`."""
        return self._input

    @property
    def output(self) -> Any:
        """The result; for a failed instance what failed, for a terminated one the reason."""
        return self._output

    @property
    def runtime_status(self) -> OrchestrationRuntimeStatus | None:
        """Where the instance stands."""
        return self._runtime_status

    @property
    def custom_status(self) -> Any:
        """What the orchestrator last set as its custom status."""
        return self._custom_status

    @property
    def history(self) -> list[Any] | None:
        """What has happened so far, if it was asked for."""
        return self._history

    def to_json(self) -> dict[str, Any]:
        """The status as plain JSON values, in the official order."""
        return {
            "name": self._name,
            "instanceId": self._instance_id,
            "createdTime": _text(self._created_time),
            "lastUpdatedTime": _text(self._last_updated_time),
            "output": self._output,
            "input": self._input,
            "runtimeStatus": None if self._runtime_status is None else self._runtime_status.name,
            "customStatus": self._custom_status,
            "history": self._history,
        }


class PurgeHistoryResult:
    """How many instances were purged."""

    def __init__(self, instancesDeleted: int, **kwargs: Any) -> None:
        self._instances_deleted = instancesDeleted
        for member, value in kwargs.items():
            self.__dict__[member] = value

    @classmethod
    def from_json(cls, json_obj: dict[str, Any]) -> PurgeHistoryResult:
        """The number in `json_obj`, an answer of the management API."""
        return cls(**json_obj)

    @property
    def instances_deleted(self) -> int:
        """How many instances were purged."""
        return self._instances_deleted


class EntityStateResponse:
    """Whether an entity exists, and its state."""

    def __init__(self, entity_exists: bool, entity_state: Any = None) -> None:
        self._entity_exists = entity_exists
        self._entity_state = entity_state

    @property
    def entity_exists(self) -> bool:
        """There is such an entity."""
        return self._entity_exists

    @property
    def entity_state(self) -> Any:
        """Its state."""
        return self._entity_state


class DurableEntityStatus(EntityStateResponse):
    """An entity in a list: which one, and as for one that is read alone, its state.

    Args:
        entity_id: name and key.
        last_operation_time: when it last did something (aware UTC).
        entity_exists: it has a state; it is there without one while it is locked.
        entity_state: the state, or None if the list does not have it.
        locked_by: id of the orchestration that has locked it.
    """

    def __init__(
        self,
        entity_id: EntityId,
        last_operation_time: datetime,
        entity_exists: bool,
        entity_state: Any = None,
        locked_by: str | None = None,
    ) -> None:
        super().__init__(entity_exists, entity_state)
        self._entity_id = entity_id
        self._last_operation_time = last_operation_time
        self._locked_by = locked_by

    def __repr__(self) -> str:
        return f"<DurableEntityStatus {self._entity_id} {self._entity_state!r}>"

    @property
    def entity_id(self) -> EntityId:
        """Name and key."""
        return self._entity_id

    @property
    def last_operation_time(self) -> datetime:
        """When the entity last did something, if only answering (aware UTC)."""
        return self._last_operation_time

    @property
    def locked_by(self) -> str | None:
        """Id of the orchestration that has locked the entity, or None."""
        return self._locked_by


class CleanEntityStorageResult(NamedTuple):
    """What `clean_entity_storage` found to do."""

    empty_entities_removed: int
    orphaned_locks_released: int


def utc_time(value: str | datetime | None) -> datetime | None:
    """The time in UTC; one without a zone is taken for that already, as the official SDK takes it."""
    if value is None:
        return None
    time = datetime.fromisoformat(value) if isinstance(value, str) else value
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.strftime(DATETIME_STRING_FORMAT)
