"""Runs an app's functions for the engine: orchestrators on its own thread, activities on the threads of `UserCode`.

A sync function that blocks hurts nobody; a coroutine that blocks hurts other coroutines; an orchestrator that blocks is
reported with its stack after a second, and everything else resumes after it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import Token
from datetime import datetime
from functools import partial
from typing import Any, Protocol

from msgspec import Struct

from perdure.core.actions import CompleteOrchestration
from perdure.core.codec import PayloadCodec, payloads
from perdure.core.conversion import ExpectedType
from perdure.core.cursor import ACTIONS_MAX, OrchestrationCursor, Orchestrator
from perdure.core.durable_http import HTTP_ACTIVITY
from perdure.core.entities import BatchResult, OperationResult
from perdure.core.events import DecisionEvent, EntityOperation
from perdure.core.failures import FailureDetails, text_of
from perdure.core.records import ActivityTask
from perdure.core.rewind import rewound
from perdure.engine.executor import (
    ActivityFinished,
    ActivityResult,
    Completed,
    EntityFinished,
    EntityRequest,
    Failed,
    FunctionNames,
    OrchestratorRequest,
    OrchestratorResult,
    RewindResult,
)
from perdure.errors import HostStoppedError, NonDeterminismError, UnknownFunctionError
from perdure.host.turns import Turns
from perdure.host.user_code import Invocation, UserCode, current_invocation, is_async
from perdure.host.workers.pool import Workers

log = logging.getLogger("perdure.host")

# An orchestrator step takes microseconds; one that takes so long is blocking.
BLOCKED_AFTER_S = 1.0
LOOKS = 4  # in that time, all of which find the same step


class Activity(Struct, frozen=True):
    """An activity function, the parameter that takes its input, and what the input is to become."""

    name: str
    function: Callable[..., Any]
    input_name: str
    input_type: ExpectedType | None = None


class EntityRunner(Protocol):
    """An entity's code; `azure.durable_functions.entity.Entity` has it."""

    @property
    def is_async(self) -> bool:
        """Whether it has to be awaited on a loop."""
        ...

    def run(
        self, instance_id: str, now: datetime, state: str | None, operations: Sequence[EntityOperation]
    ) -> Coroutine[Any, Any, BatchResult]:
        """What the operations come to."""
        ...


class LocalExecutor:
    """Runs an app's functions in this process.

    Args:
        orchestrators: by registered name; each takes the cursor and returns a generator, a coroutine or a result.
        activities: by registered name.
        actions_max: how many decisions an execution may make.
        entities: by registered name.
        new_cursor: makes what runs an orchestration, of the same arguments as the cursor.
        workers: where activities run, or None if they run in this process.
        entities_max: how many entities run operations at the same time, or None for any number.
    """

    def __init__(
        self,
        orchestrators: Mapping[str, Callable[[OrchestrationCursor], Any]],
        activities: Mapping[str, Activity],
        user_code: UserCode,
        actions_max: int = ACTIONS_MAX,
        entities: Mapping[str, EntityRunner] | None = None,
        new_cursor: Callable[[str, Orchestrator, PayloadCodec, int], OrchestrationCursor] = OrchestrationCursor,
        workers: Workers | None = None,
        entities_max: int | None = None,
    ) -> None:
        self._workers = workers
        self._make_cursor = new_cursor
        self._entities = {name.casefold(): entity for name, entity in (entities or {}).items()}
        self._names = FunctionNames(frozenset(orchestrators), frozenset(activities), frozenset(entities or ()))
        self._orchestrators = {name.casefold(): function for name, function in orchestrators.items()}
        self._activities = {name.casefold(): activity for name, activity in activities.items()}
        self._async_activities = frozenset(each.name for each in activities.values() if is_async(each.function))
        self._user_code = user_code
        self._actions_max = actions_max
        self._entity_turns = Turns(entities_max)
        self._sessions: dict[str, OrchestrationCursor] = {}
        self.stepping: OrchestratorRequest | None = None
        self._watchdog: threading.Thread | None = None

    def functions(self) -> FunctionNames:
        return self._names

    # ------------------------------------------------------------------ orchestrators

    def orchestrate(self, request: OrchestratorRequest) -> OrchestratorResult:
        if self._watchdog is None:
            self._watch(threading.get_ident())
        self.stepping = request
        token = current_invocation.set(Invocation(request.name, request.instance_id))
        try:
            return self._advance(request)
        finally:
            current_invocation.reset(token)
            self.stepping = None

    def _advance(self, request: OrchestratorRequest) -> OrchestratorResult:
        if request.past is not None:
            self.forget(request.instance_id)
            if request.name.casefold() not in self._orchestrators:
                return _failed(self._unknown(request.name))
            cursor = self._new_cursor(request)
            try:
                if request.past:
                    with _Running(self, request, is_replaying=True):
                        cursor.replay(request.past)
            except NonDeterminismError as error:
                cursor.close()
                return _failed(error, "NonDeterministicOrchestrationException", error.cause)
            self._sessions[request.instance_id] = cursor
        cursor = self._sessions.get(request.instance_id)
        assert cursor is not None, "the engine asked to go on with a session that it had dropped"
        return OrchestratorResult(cursor.advance(request.new), cursor.custom_status)

    def rewind(self, request: OrchestratorRequest) -> RewindResult:
        with _Running(self, request, is_replaying=True):
            cursor, kept = rewound(request.past or (), lambda: self._new_cursor(request))
        self.forget(request.instance_id)
        self._sessions[request.instance_id] = cursor
        pending = cursor.pending_ids
        awaited = cursor.open_ids - frozenset(pending)
        decided = max((event.event_id for event in kept if isinstance(event, DecisionEvent)), default=-1)
        with _Running(self, request, is_replaying=False):
            actions = cursor.advance(request.new)
        failures = [each for each in actions if isinstance(each, CompleteOrchestration) and each.failure is not None]
        if failures and min(pending, default=decided + 1) <= decided:
            actions = failures  # it fails again, otherwise than its history, which it has kept whole, says
        return RewindResult(kept, actions, cursor.custom_status, awaited)

    def _new_cursor(self, request: OrchestratorRequest) -> OrchestrationCursor:
        function = self._orchestrators.get(request.name.casefold())

        def unknown(cursor: OrchestrationCursor) -> None:
            raise self._unknown(request.name)

        return self._make_cursor(request.instance_id, function or unknown, payloads, self._actions_max)

    def _unknown(self, name: str) -> UnknownFunctionError:
        return UnknownFunctionError(name, "orchestrator", sorted(self._names.orchestrators))

    def forget(self, instance_id: str) -> None:
        cursor = self._sessions.pop(instance_id, None)
        if cursor is not None:
            cursor.close()

    def _watch(self, thread_id: int) -> None:
        """Report an orchestrator that blocks the engine's thread, once each time, with its stack."""

        def watch() -> None:
            seen: OrchestratorRequest | None = None
            looks = 0
            while True:
                time.sleep(BLOCKED_AFTER_S / LOOKS)
                stepping = self.stepping
                looks = looks + 1 if stepping is seen else 0
                seen = stepping
                if stepping is None or looks != LOOKS:
                    continue
                frame = sys._current_frames().get(thread_id)  # pyright: ignore[reportPrivateUsage] - documented, only named so
                stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
                log.warning(
                    "orchestrator blocks: nothing else advances until it yields. Move what takes long to an activity "
                    "(DF206)\n%s",
                    stack,
                    extra={"function": stepping.name, "instance_id": stepping.instance_id},
                )

        self._watchdog = threading.Thread(target=watch, name="perdure-watchdog", daemon=True)
        self._watchdog.start()

    # ------------------------------------------------------------------ activities

    def start_activity(self, task: ActivityTask, finished: ActivityFinished) -> None:
        activity = self._activities.get(task.name.casefold())
        if activity is None:
            known = [name for name in self._names.activities if name != HTTP_ACTIVITY]  # which nobody wrote
            unknown = UnknownFunctionError(task.name, "activity", sorted(known))
            finished(task, Failed(FailureDetails("ActivityNotFound", str(unknown), is_non_retriable=True)))
            return

        is_async = activity.name in self._async_activities
        if self._workers is not None and activity.name != HTTP_ACTIVITY:
            self._workers.begin(task, finished, is_async=is_async)
        else:
            call = ActivityCall(activity, task, finished, Invocation(activity.name, task.instance_id))
            self._user_code.submit(call, is_async=is_async)

    # ------------------------------------------------------------------ entities

    def start_entity(self, request: EntityRequest, finished: EntityFinished) -> None:
        name = request.instance_id.split("@", 2)[1]
        entity = self._entities.get(name)
        if entity is None:
            unknown = UnknownFunctionError(name, "entity", sorted(self._names.entities))
            failure = FailureDetails("EntityNotFound", str(unknown), is_non_retriable=True)
            finished(
                request, BatchResult([OperationResult(failure=failure) for _ in request.operations], request.state)
            )
            return

        def ended(request: EntityRequest, result: BatchResult) -> None:
            finished(request, result)
            self._entity_turns.ended()

        call = _EntityCall(name, entity, request, ended)
        self._entity_turns.take(partial(self._user_code.run, call, is_async=entity.is_async))

    async def drain(self, timeout_s: float) -> None:
        if self._workers is None:
            await self._user_code.drain(timeout_s)
        else:
            await asyncio.gather(self._user_code.drain(timeout_s), self._workers.drain(timeout_s))


class _Running:
    """While this is entered, logs and the watchdog know whose orchestrator code runs."""

    __slots__ = ("_before", "_executor", "_invocation", "_request", "_token")

    def __init__(self, executor: LocalExecutor, request: OrchestratorRequest, *, is_replaying: bool) -> None:
        self._executor = executor
        self._request = request
        self._invocation = Invocation(request.name, request.instance_id, is_replaying)
        self._before: OrchestratorRequest | None = None
        self._token: Token[Invocation | None] | None = None

    def __enter__(self) -> None:
        self._before, self._executor.stepping = self._executor.stepping, self._request
        self._token = current_invocation.set(self._invocation)

    def __exit__(self, *_: object) -> None:
        assert self._token is not None, "left without having been entered"
        current_invocation.reset(self._token)
        self._executor.stepping = self._before


class ActivityCall:
    """A call that the engine waits for.

    Args:
        finished: told of the result, where the function ran.
        invocation: whose call it is.
    """

    __slots__ = ("_activity", "_finished", "_task", "invocation")

    def __init__(
        self, activity: Activity, task: ActivityTask, finished: ActivityFinished, invocation: Invocation
    ) -> None:
        self._activity = activity
        self._task = task
        self._finished = finished
        self.invocation = invocation

    @property
    def function(self) -> Callable[..., Any]:
        return self._activity.function

    def arguments(self) -> dict[str, Any]:
        activity, text = self._activity, self._task.input
        if activity.input_type is None:
            return {activity.input_name: payloads.decode(text)}
        return {activity.input_name: payloads.decode_as(text, activity.input_type)}

    def done(self, value: Any, error: BaseException | None) -> None:
        self._finished(self._task, _result(self._activity.name, value, error))


class _EntityCall:
    """A batch of operations that the engine waits for."""

    __slots__ = ("_entity", "_finished", "_name", "_request")

    def __init__(self, name: str, entity: EntityRunner, request: EntityRequest, finished: EntityFinished) -> None:
        self._name = name
        self._entity = entity
        self._request = request
        self._finished = finished

    @property
    def function(self) -> Callable[..., Any]:
        return self._entity.run if self._entity.is_async else self._run

    def _run(self, **arguments: Any) -> BatchResult:
        """Run what never waits, without a loop."""
        batch = self._entity.run(**arguments)
        try:
            batch.send(None)
        except StopIteration as stop:
            return stop.value
        batch.close()
        raise TypeError(f"entity '{self._name}' returned something to await: write it with 'async def'")

    @property
    def invocation(self) -> Invocation:
        return Invocation(self._name, self._request.instance_id)

    def arguments(self) -> dict[str, Any]:
        request = self._request
        return {
            "instance_id": request.instance_id, "now": request.now, "state": request.state,
            "operations": request.operations,
        }  # fmt: skip

    def done(self, value: Any, error: BaseException | None) -> None:
        if error is None:
            self._finished(self._request, value)
        elif not isinstance(error, HostStoppedError | asyncio.CancelledError):
            self._finished(self._request, _all_failed(self._request, FailureDetails.of(error)))


def _all_failed(request: EntityRequest, failure: FailureDetails) -> BatchResult:
    return BatchResult([OperationResult(failure=failure) for _ in request.operations], request.state)


def _result(name: str, value: Any, error: BaseException | None) -> ActivityResult:
    if error is not None:
        return Failed(FailureDetails.of(error))
    try:
        return Completed(payloads.encode(value))
    except Exception as unserialisable:  # user data: a value JSON cannot hold, or a to_json that raises
        message = f"Result of activity '{name}': {text_of(unserialisable)}"
        return Failed(FailureDetails(type(unserialisable).__name__, message, is_non_retriable=True))


def _failed(error: Exception, error_type: str | None = None, cause: FailureDetails | None = None) -> OrchestratorResult:
    failure = FailureDetails(error_type or type(error).__name__, str(error), inner=cause, is_non_retriable=True)
    return OrchestratorResult([CompleteOrchestration(0, None, failure, str(error))], None)
