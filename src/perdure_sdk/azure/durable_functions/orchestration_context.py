"""What orchestrator code may call."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, NAMESPACE_URL, UUID, uuid5

from azure.durable_functions.builders import activity_name, orchestrator_name, result_type
from azure.durable_functions.constants import DATETIME_STRING_FORMAT
from azure.durable_functions.critical_section import CriticalSection, Locking, LockingRulesViolationError
from azure.durable_functions.entity_context import delivery_time
from azure.durable_functions.later import not_yet
from azure.durable_functions.options import EntityId, RetryOptions, TokenSource
from azure.durable_functions.protocol.calls import ProtocolCalls
from azure.durable_functions.protocol.cursor import ReplayCursor
from azure.durable_functions.protocol.request import ReplayRequest
from azure.durable_functions.routines import Calls, LongTimerTask, event_until, http_request

from perdure.core.codec import payloads
from perdure.core.conversion import ExpectedType, asked_type
from perdure.core.cursor import OrchestrationCursor
from perdure.core.durable_http import polling
from perdure.core.instance_ids import check_instance_id
from perdure.core.tasks import (
    ActivityCall,
    EntityCall,
    EventTask,
    LockTask,
    SubOrchestrationCall,
    Task,
    TaskAll,
    TaskAny,
    TimerTask,
)

if TYPE_CHECKING:
    from azure.functions.decorators.function_app import FunctionBuilder

# The limit of the official extension, which stores the status in a table column that holds no more.
CUSTOM_STATUS_BYTES_MAX = 16 * 1024

_UUID_NAMESPACE = uuid5(NAMESPACE_OID, "9e952958-5e33-4daf-827f-2fa12937b875")


class FunctionContext:
    """What the host said about an invocation beyond the orchestration itself, as attributes."""

    def __init__(self, **members: Any) -> None:
        self.__dict__.update(members)


class ReplaySafeLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that is silent while its orchestrator only catches up with what has already happened."""

    def __init__(self, logger: logging.Logger, cursor: OrchestrationCursor) -> None:
        super().__init__(logger, {})
        self._cursor = cursor

    def isEnabledFor(self, level: int) -> bool:
        """Whether a record of this `level` would be logged now."""
        return not self._cursor.is_replaying and super().isEnabledFor(level)


class DurableOrchestrationContext:
    """The orchestrator's only way to the world: its calls return tasks, to be yielded or awaited.

    A type that is expected may be a class or a form such as `list[Order]` or `Order | None`, of dataclasses, enums,
    times, UUIDs, decimals, pydantic models and classes with `from_json`. What does not fit the type that was asked for
    raises a TypeError that says where. Calls by reference take the annotation of the function instead, if the value
    fits it.

    Args:
        cursor: the running orchestration.
        input_type: the type that `get_input` expects if it is not told another.
    """

    def __init__(self, cursor: OrchestrationCursor, input_type: Any = None) -> None:
        self._cursor = cursor
        self._calls = ProtocolCalls(cursor) if isinstance(cursor, ReplayCursor) else Calls(cursor)
        self._input_type = input_type
        self._custom_status: Any = None
        self._uuids_made = 0
        self._section: CriticalSection | None = None

    @classmethod
    def from_json(cls, json_string: str | bytes) -> DurableOrchestrationContext:
        """The context that `json_string` describes, which is what the official host sends.

        Raises:
            TypeError: it lacks a member that every host sends.
            ValueError: it is no JSON, or a member makes no sense.
        """
        return cls(ReplayCursor(ReplayRequest.parse(json_string)))

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
        """What else the host says about this invocation: as the official one, how long `call_http` waits for a poll."""
        if isinstance(self._cursor, ReplayCursor):
            return FunctionContext(**self._cursor.request.others)
        milliseconds = polling.interval // timedelta(milliseconds=1)
        return FunctionContext(defaultHttpAsyncRequestSleepTimeMillseconds=milliseconds)

    @property
    def histories(self) -> list[FunctionContext]:
        """The raw history, which the official SDK happens to show, with the members that its host sends.

        Raises:
            NotImplementedError: perdure hosts the app, and sends nothing.
        """
        if isinstance(self._cursor, ReplayCursor):
            return [FunctionContext(**event) for event in self._cursor.request.history]
        raise not_yet("context.histories (use `client.get_status(id, show_history=True)`)")

    def get_input(self, expected_type: Any = None) -> Any:
        """The input, decoded anew by each call.

        Args:
            expected_type: what it is to become; no input stays None.

        Raises:
            TypeError: the input does not fit.
        """
        expected = asked_type(self._input_type if expected_type is None else expected_type)
        for each in expected.classes if expected is not None else ():
            payloads.allow(each)
        value = text = self._cursor.input
        try:
            value = payloads.decode(text)
        except json.JSONDecodeError:
            pass  # started by something that does not write JSON
        return value if value is None or expected is None else payloads.fitted(value, expected)

    # ------------------------------------------------------------------ tasks

    def call_activity(self, name: str | FunctionBuilder, input_: Any = None, expected_type: Any = None) -> Task:
        """Call an activity.

        Args:
            name: its name, or the decorated function.
            input_: what it is called with: plain data, or an object of a kind that can be expected.
            expected_type: what the result is to become.

        Raises:
            ValueError: `name` names no activity.
            TypeError: the input cannot be written as JSON.
        """
        return ActivityCall(activity_name(name), _encoded(input_), _expected_result(name, expected_type))

    def call_activity_with_retry(
        self,
        name: str | FunctionBuilder,
        retry_options: RetryOptions | None,
        input_: Any = None,
        expected_type: Any = None,
    ) -> Task:
        """Call an activity, again if it fails.

        Args:
            name: its name, or the decorated function.
            retry_options: when and how often to try again; None calls it once.
            input_: what it is called with. It may also stand before the options.
            expected_type: what the result is to become.

        Raises:
            ValueError: `name` names no activity.
            TypeError: the input cannot be written as JSON.
        """
        options, given = _in_order(retry_options, input_)
        activity, text, expected = activity_name(name), _encoded(given), _expected_result(name, expected_type)
        return self._retried(options, lambda: ActivityCall(activity, text, expected))

    def call_sub_orchestrator(
        self,
        name: str | FunctionBuilder,
        input_: Any = None,
        instance_id: str | None = None,
        version: str | None = None,
        expected_type: Any = None,
        *,
        tags: dict[str, str] | None = None,
    ) -> Task:
        """Call another orchestration.

        Args:
            name: its name, or the decorated function.
            input_: what it is called with.
            instance_id: its id, or None to let the engine choose.
            version: its version.
            expected_type: what the result is to become.
            tags: what it is marked with, besides its parent's tags.

        Raises:
            ValueError: `name` names no orchestrator, or the id breaks a rule.
            TypeError: the input cannot be written as JSON.
            LockingRulesViolationError: locks are held or waited for.
        """
        if tags is not None:
            self._calls.require("tags of a sub-orchestration")
        if self._section is not None:
            self._section.check_child()
        if instance_id:
            self._check_child_id(instance_id)
        child, text, expected = orchestrator_name(name), _encoded(input_), _expected_result(name, expected_type)
        return SubOrchestrationCall(child, text, instance_id or None, version, expected, tags)

    def call_sub_orchestrator_with_retry(
        self,
        name: str | FunctionBuilder,
        retry_options: RetryOptions | None,
        input_: Any = None,
        instance_id: str | None = None,
        version: str | None = None,
        expected_type: Any = None,
        *,
        tags: dict[str, str] | None = None,
    ) -> Task:
        """Call another orchestration, again if it fails.

        Args:
            name: its name, or the decorated function.
            retry_options: when and how often to try again; None calls it once.
            input_: what it is called with. It may also stand before the options.
            instance_id: the id of each attempt, or None to let the engine choose a new one for each.
            version: its version.
            expected_type: what the result is to become.
            tags: what it is marked with, besides its parent's tags.

        Raises:
            ValueError: `name` names no orchestrator, or the id breaks a rule.
            TypeError: the input cannot be written as JSON.
            LockingRulesViolationError: locks are held or waited for.
        """
        options, given = _in_order(retry_options, input_)
        if tags is not None:
            self._calls.require("tags of a sub-orchestration")
        if self._section is not None:
            self._section.check_child()
        if instance_id:
            self._check_child_id(instance_id)
        child, text, expected = orchestrator_name(name), _encoded(given), _expected_result(name, expected_type)
        return self._retried(
            options, lambda: SubOrchestrationCall(child, text, instance_id or None, version, expected, tags)
        )

    def call_http(
        self,
        method: str,
        uri: str,
        content: Any = None,
        headers: dict[str, str] | None = None,
        token_source: TokenSource | None = None,
        is_raw_str: bool = False,
        *,
        asynchronous_pattern_enabled: bool = True,
        retry_options: RetryOptions | None = None,
    ) -> Task:
        """Make an HTTP request; its result is a dict of `statusCode`, `headers` and `content`, whatever the status.

        Args:
            method: GET, POST or another.
            uri: the complete address.
            content: text is sent as it is, anything else as JSON. Without a header Content-Type it is text/plain.
            headers: the request's.
            token_source: where a token for the header Authorization comes from.
            is_raw_str: the content is text, which is then the only thing that it may be.
            asynchronous_pattern_enabled: an answer 202 with a Location is followed there until the answer is another.
            retry_options: when to make a request again that fails, or that is answered with 408, 429 or from 500 on.

        Raises:
            ValueError: the method is empty, or the address not complete.
            TypeError: the content cannot be written as JSON, or is not the text that it is said to be.
        """
        if is_raw_str and not isinstance(content, str):
            raise TypeError(
                "Invalid use of 'is_raw_str' parameter: 'is_raw_str' is set to 'True' but 'content' is not an instance "
                "of type 'str'. Either set 'is_raw_str' to 'False', or ensure your 'content' is of type 'str'."
            )
        request = http_request(method, uri, content, headers, token_source)
        return self._calls.http(request, retry_options, asynchronous_pattern_enabled)

    def create_timer(self, fire_at: datetime | timedelta) -> TimerTask | LongTimerTask:
        """Wait until a time, or for a time.

        Args:
            fire_at: a time (without a zone it is UTC), or how long from now.

        Raises:
            ValueError: it is neither.
        """
        return self._calls.timer(self._time_of(fire_at))

    def wait_for_external_event(
        self, name: str, expected_type: Any = None, *, timeout: timedelta | datetime | None = None
    ) -> Task:
        """Wait for an event; names ignore case, and events that came early are kept.

        Args:
            name: the event's.
            expected_type: what the event's data is to become.
            timeout: how long, or until when. What waits then raises TimeoutError, and an event that comes later is
                kept for the next wait.

        Raises:
            ValueError: the name is empty, or the timeout is no time.
        """
        if not name:
            raise ValueError("external_event_name cannot be empty")
        event = EventTask(name, self._cursor, asked_type(expected_type))
        return event if timeout is None else event_until(event, self._time_of(timeout), self._cursor)

    def task_all(self, activities: Iterable[Task]) -> TaskAll:
        """Wait for all `activities`, which may be tasks of any kind: their results in order, or the first failure."""
        return TaskAll(activities)

    def task_any(self, activities: Iterable[Task]) -> TaskAny:
        """Wait for the first of `activities` that ends, in whatever way: the result is that task."""
        return TaskAny(activities)

    # ------------------------------------------------------------------ this orchestration

    def send_event(self, instance_id: str, event_name: str, *, data: Any = None) -> None:
        """Send an event to another orchestration, and go on at once; nothing happens if there is no such one.

        Args:
            instance_id: the other's.
            event_name: the event's.
            data: what `wait_for_external_event` gives there.

        Raises:
            ValueError: the name is empty, or the id breaks a rule.
            TypeError: the data cannot be written as JSON.
        """
        self._calls.require("context.send_event")
        self._check_running("send_event")
        if not instance_id:
            raise ValueError("instance_id cannot be empty")
        if not event_name:
            raise ValueError("event_name cannot be empty")
        check_instance_id(instance_id)
        self._cursor.send_event(instance_id, event_name, _encoded(data))

    def continue_as_new(self, input_: Any, *, save_events: bool = True, version: str | None = None) -> None:
        """Begin again with a new input and an empty history, as soon as the code yields or returns.

        Args:
            input_: the input of the next generation.
            save_events: events that nobody has read yet are there for it.
            version: its version; None keeps this one.

        Raises:
            TypeError: the input cannot be written as JSON.
        """
        if version is not None:
            self._calls.require("version of continue_as_new")
        self._check_running("continue_as_new")
        self._cursor.continue_as_new(_encoded(input_), save_events=save_events, version=version)

    def set_custom_status(self, status: Any) -> None:
        """Show `status` to whoever asks for this orchestration's status; None clears it.

        Raises:
            TypeError: it cannot be written as JSON.
            ValueError: it is larger than 16 KB.
        """
        self._check_running("set_custom_status")
        text = payloads.encode(status)
        _check_size(text)
        self._custom_status = status
        if not self._cursor.is_done:
            self._cursor.custom_status = text

    def new_uuid(self) -> str:
        """A new id, the same at each replay."""
        self._check_running("new_uuid")
        time = self._cursor.now.strftime(DATETIME_STRING_FORMAT)
        return str(uuid5(_UUID_NAMESPACE, f"{self.instance_id}_{time}_{self._next_uuid()}"))

    def new_guid(self) -> UUID:
        """A new id as `UUID`, the same at each replay."""
        self._check_running("new_guid")
        return uuid5(NAMESPACE_URL, f"{self.instance_id}_{self._cursor.now}_{self._next_uuid()}")

    def create_replay_safe_logger(self, logger: logging.Logger) -> ReplaySafeLogger:
        """A logger that passes on to `logger` what is logged while the code is not replaying."""
        return ReplaySafeLogger(logger, self._cursor)

    # ------------------------------------------------------------------ entities

    def call_entity(
        self, entityId: EntityId, operationName: str, operationInput: Any = None, expected_type: Any = None
    ) -> Task:
        """Call an operation of an entity.

        Args:
            entityId: the entity's.
            operationName: the operation's.
            operationInput: its input.
            expected_type: the type that the result is to become.

        Raises:
            ValueError: there is no entity.
            TypeError: the input cannot be written as JSON.
            LockingRulesViolationError: locks are held or waited for, and not this entity's.
        """
        entity_id = _scheduler_id(entityId)
        if self._section is not None and not self._section.is_over:
            self._section.check_call(entity_id)
        call = EntityCall(entity_id, operationName, _encoded(operationInput), asked_type(expected_type))
        if self._section is not None and not self._section.is_over:
            self._section.called(call)
        return call

    def signal_entity(
        self,
        entityId: EntityId,
        operationName: str,
        operationInput: Any = None,
        scheduled_time: datetime | timedelta | None = None,
    ) -> None:
        """Send an operation to an entity, at once and without waiting: there is nothing to yield.

        Args:
            entityId: the entity's.
            operationName: the operation's.
            operationInput: its input.
            scheduled_time: when it is to arrive (without a zone it is UTC), or in how long.

        Raises:
            ValueError: there is no entity.
            TypeError: the input cannot be written as JSON.
            LockingRulesViolationError: its lock is held.
        """
        self._check_running("signal_entity")
        entity_id = _scheduler_id(entityId)
        if self._section is not None and not self._section.is_over:
            self._section.check_signal(entity_id)
        when = delivery_time(scheduled_time, self._cursor.now)
        self._cursor.signal_entity(entity_id, operationName, _encoded(operationInput), when)

    def lock_entities(self, entities: Iterable[EntityId]) -> Locking:
        """Lock entities against everybody else: `with (yield context.lock_entities([...])):` or `async with`.

        They are locked in one order for the whole hub, so that nobody waits in a circle. The locks are given back at
        the end of the block, and whenever the orchestration ends.

        Args:
            entities: their ids; naming one twice changes nothing.

        Raises:
            ValueError: there are none.
            LockingRulesViolationError: locks are held or waited for already.
        """
        self._calls.require("context.lock_entities")
        ids = tuple(sorted({_scheduler_id(each) for each in entities}))
        if not ids:
            raise ValueError("lock_entities needs at least one entity")
        if self._section is not None and not self._section.is_over:
            raise LockingRulesViolationError("Must not enter another critical section from within a critical section.")
        locking = Locking(self._cursor, LockTask(ids))
        self._section = locking.section
        return locking

    # ------------------------------------------------------------------

    def _retried(self, options: RetryOptions | None, call: Callable[[], Task]) -> Task:
        return call() if options is None else self._calls.retried(options, call)

    def _time_of(self, when: datetime | timedelta) -> datetime:
        match when:
            case datetime():
                return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
            case timedelta():
                return self._cursor.now + when
            case _:
                raise ValueError("fireAt: Expected valid datetime object but got ", when)

    def _check_running(self, method: str) -> None:
        """Refuse what would be decided beside the orchestrator's code, and so differently at each replay.

        A context that belongs to no running orchestration, as in an app's tests, and one that is over may do anything.
        """
        cursor = self._cursor
        if cursor.is_running:
            return
        if cursor.name and not cursor.is_done:
            raise RuntimeError(
                f"context.{method} was called while the orchestrator is not running (DF207): only its own code may "
                "call it, between one 'yield' and the next, and no thread or callback that it gave its context to."
            )

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


def _in_order(retry_options: Any, input_: Any) -> tuple[RetryOptions | None, Any]:
    """Retry options and input, whichever came first: in the name order of other methods, people write the input first.

    Raises:
        TypeError: neither is a RetryOptions, and the options are not None.
    """
    if isinstance(input_, RetryOptions) and not isinstance(retry_options, RetryOptions):
        return input_, retry_options
    if retry_options is not None and not isinstance(retry_options, RetryOptions):
        raise TypeError(f"retry_options must be a RetryOptions, but is {retry_options!r}")
    return retry_options, input_


def _expected_result(name: object, expected_type: Any) -> ExpectedType | None:
    if expected_type is not None:
        return asked_type(expected_type)
    return None if isinstance(name, str) else result_type(name)


def _scheduler_id(entity: EntityId) -> str:
    if not entity:
        raise ValueError("entity_id cannot be empty")
    return str(entity)


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
