"""What orchestrator code may call."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import NAMESPACE_OID, NAMESPACE_URL, UUID, uuid5

from azure.durable_functions.builders import activity_name, orchestrator_name
from azure.durable_functions.constants import DATETIME_STRING_FORMAT
from azure.durable_functions.later import not_yet
from azure.durable_functions.options import EntityId, RetryOptions, TokenSource

from perdure.core.codec import payloads
from perdure.core.cursor import OrchestrationCursor
from perdure.core.instance_ids import check_instance_id
from perdure.core.tasks import ActivityCall, EventTask, SubOrchestrationCall, Task, TaskAll, TaskAny, TimerTask

if TYPE_CHECKING:
    from azure.functions.decorators.function_app import FunctionBuilder

# The limit of the official extension, which stores the status in a table column that holds no more.
CUSTOM_STATUS_BYTES_MAX = 16 * 1024

_UUID_NAMESPACE = uuid5(NAMESPACE_OID, "9e952958-5e33-4daf-827f-2fa12937b875")


class FunctionContext:
    """What the host said about an invocation beyond the orchestration itself, as attributes."""

    def __init__(self, **members: Any) -> None:
        self.__dict__.update(members)


class DurableOrchestrationContext:
    """The orchestrator's only way to the world: its calls return tasks, to be yielded or awaited.

    Args:
        cursor: the running orchestration.
        input_type: the class that `get_input` expects if it is not told another.
    """

    def __init__(self, cursor: OrchestrationCursor, input_type: type | None = None) -> None:
        self._cursor = cursor
        self._input_type = input_type
        self._custom_status: Any = None
        self._uuids_made = 0

    # ------------------------------------------------------------------ who and when

    @property
    def instance_id(self) -> str:
        """Id of this orchestration."""
        return self._cursor.instance_id

    @property
    def parent_instance_id(self) -> str | None:
        """Id of the orchestration that called this one, or None."""
        parent = self._cursor.parent
        return None if parent is None else parent.instance_id

    @property
    def version(self) -> str | None:
        """The version that this orchestration was started with, or None."""
        return self._cursor.version

    @property
    def is_replaying(self) -> bool:
        """The code is only catching up with what has already happened: do not log again."""
        return self._cursor.is_replaying

    @property
    def current_utc_datetime(self) -> datetime:
        """The time that orchestrators may use: when the current episode began (aware UTC)."""
        return self._cursor.now

    @property
    def custom_status(self) -> Any:
        """What `set_custom_status` was last given."""
        return self._custom_status

    @property
    def will_continue_as_new(self) -> bool:
        """`continue_as_new` has been called."""
        return self._cursor.will_continue_as_new

    @property
    def function_context(self) -> FunctionContext:
        """What else the host says about this invocation; this host says nothing."""
        return FunctionContext()

    @property
    def histories(self) -> NoReturn:
        """The raw history, which the official SDK happens to show.

        Raises:
            NotImplementedError: always.
        """
        raise not_yet("context.histories (use `client.get_status(id, show_history=True)`)")

    def get_input(self, expected_type: type | None = None) -> Any:
        """The input, decoded anew by each call.

        Args:
            expected_type: a class with `from_json` that the input may become an instance of.
        """
        kind = expected_type or self._input_type
        if kind is not None:
            payloads.allow(kind)
        text = self._cursor.input
        try:
            return payloads.decode(text)
        except json.JSONDecodeError:
            return text  # started by something that does not write JSON

    # ------------------------------------------------------------------ tasks

    def call_activity(self, name: str | FunctionBuilder, input_: Any = None, expected_type: type | None = None) -> Task:
        """Call an activity.

        Args:
            name: its name, or the decorated function.
            input_: what it is called with: JSON, or an object with `to_json`.
            expected_type: a class with `from_json` that the result may become an instance of.

        Raises:
            ValueError: `name` names no activity.
            TypeError: the input cannot be written as JSON.
        """
        return ActivityCall(activity_name(name), _encoded(input_), expected_type)

    def call_sub_orchestrator(
        self,
        name: str | FunctionBuilder,
        input_: Any = None,
        instance_id: str | None = None,
        version: str | None = None,
        expected_type: type | None = None,
    ) -> Task:
        """Call another orchestration.

        Args:
            name: its name, or the decorated function.
            input_: what it is called with.
            instance_id: its id, or None to let the engine choose.
            version: its version.
            expected_type: a class with `from_json` that the result may become an instance of.

        Raises:
            ValueError: `name` names no orchestrator, or the id breaks a rule.
            TypeError: the input cannot be written as JSON.
        """
        if instance_id:
            self._check_child_id(instance_id)
        child = orchestrator_name(name)
        return SubOrchestrationCall(child, _encoded(input_), instance_id or None, version, expected_type)

    def create_timer(self, fire_at: datetime | timedelta) -> TimerTask:
        """Wait until a time, or for a time.

        Args:
            fire_at: a time (without a zone it is UTC), or how long from now.

        Raises:
            ValueError: it is neither.
        """
        match fire_at:
            case datetime():
                when = fire_at.replace(tzinfo=UTC) if fire_at.tzinfo is None else fire_at.astimezone(UTC)
            case timedelta():
                when = self._cursor.now + fire_at
            case _:
                raise ValueError("fireAt: Expected valid datetime object but got ", fire_at)
        return TimerTask(when, self._cursor)

    def wait_for_external_event(self, name: str, expected_type: type | None = None) -> Task:
        """Wait for an event; names ignore case, and events that came early are kept.

        Args:
            name: the event's.
            expected_type: a class with `from_json` that the event's data may become an instance of.

        Raises:
            ValueError: the name is empty.
        """
        if not name:
            raise ValueError("external_event_name cannot be empty")
        return EventTask(name, self._cursor, expected_type)

    def task_all(self, activities: Iterable[Task]) -> TaskAll:
        """Wait for all: their results in order, or the first failure."""
        return TaskAll(activities)

    def task_any(self, activities: Iterable[Task]) -> TaskAny:
        """Wait for the first that ends, in whatever way: the result is that task."""
        return TaskAny(activities)

    # ------------------------------------------------------------------ this orchestration

    def continue_as_new(self, input_: Any, *, save_events: bool = True) -> None:
        """Begin again with a new input and an empty history, as soon as the code yields or returns.

        Args:
            input_: the input of the next generation.
            save_events: events that nobody has read yet are there for it.

        Raises:
            TypeError: the input cannot be written as JSON.
        """
        self._cursor.continue_as_new(_encoded(input_), save_events=save_events)

    def set_custom_status(self, status: Any) -> None:
        """Show `status` to whoever asks for this orchestration's status; None clears it.

        Raises:
            TypeError: it cannot be written as JSON.
            ValueError: it is larger than 16 KB.
        """
        text = payloads.encode(status)
        _check_size(text)
        self._custom_status = status
        if not self._cursor.is_done:
            self._cursor.custom_status = text

    def new_uuid(self) -> str:
        """A new id, the same at each replay."""
        time = self._cursor.now.strftime(DATETIME_STRING_FORMAT)
        return str(uuid5(_UUID_NAMESPACE, f"{self.instance_id}_{time}_{self._next_uuid()}"))

    def new_guid(self) -> UUID:
        """A new id as `UUID`, the same at each replay."""
        return uuid5(NAMESPACE_URL, f"{self.instance_id}_{self._cursor.now}_{self._next_uuid()}")

    # ------------------------------------------------------------------ not yet

    def call_activity_with_retry(
        self,
        name: str | FunctionBuilder,
        retry_options: RetryOptions,
        input_: Any = None,
        expected_type: type | None = None,
    ) -> Task:
        """Call an activity, again if it fails.

        Raises:
            NotImplementedError: always.
        """
        raise not_yet("call_activity_with_retry")

    def call_sub_orchestrator_with_retry(
        self,
        name: str | FunctionBuilder,
        retry_options: RetryOptions,
        input_: Any = None,
        instance_id: str | None = None,
        version: str | None = None,
        expected_type: type | None = None,
    ) -> Task:
        """Call another orchestration, again if it fails.

        Raises:
            NotImplementedError: always.
        """
        raise not_yet("call_sub_orchestrator_with_retry")

    def call_http(
        self,
        method: str,
        uri: str,
        content: str | dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        token_source: TokenSource | None = None,
        is_raw_str: bool = False,
    ) -> Task:
        """Make an HTTP request.

        Raises:
            NotImplementedError: always.
        """
        raise not_yet("call_http")

    def call_entity(
        self, entityId: EntityId, operationName: str, operationInput: Any = None, expected_type: type | None = None
    ) -> Task:
        """Call an operation of an entity.

        Raises:
            NotImplementedError: always.
        """
        raise not_yet("call_entity")

    def signal_entity(self, entityId: EntityId, operationName: str, operationInput: Any = None) -> Task:
        """Send an operation to an entity.

        Raises:
            NotImplementedError: always.
        """
        raise not_yet("signal_entity")

    # ------------------------------------------------------------------

    def _next_uuid(self) -> int:
        self._uuids_made += 1
        return self._uuids_made - 1

    def _check_child_id(self, instance_id: str) -> None:
        check_instance_id(instance_id)
        if instance_id in (self.instance_id, self.parent_instance_id):
            raise ValueError(
                "The instance ID of a sub-orchestration must be different than the instance ID of a parent "
                f"orchestration: '{instance_id}' is taken."
            )


def _encoded(value: Any) -> str | None:
    return None if value is None else payloads.encode(value)


def _check_size(text: str) -> None:
    if len(text) * 2 <= CUSTOM_STATUS_BYTES_MAX:
        return  # as stored, beyond ASCII everything is escaped: it only gets shorter
    shortest = json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"))
    size = len(shortest.encode("utf-16-le", "surrogatepass"))
    if size > CUSTOM_STATUS_BYTES_MAX:
        raise ValueError(
            "The UTF-16 size of the JSON-serialized payload must not exceed 16 KB. "
            f"The current payload size is {size / 1024:.1f} KB."
        )
