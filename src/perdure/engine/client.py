"""Every management operation, once: what the SDK's client, the HTTP API and the command line call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from perdure.core.events import EventRaised, ExecutionTerminated
from perdure.core.instance_ids import check_instance_id
from perdure.core.records import (
    TERMINAL,
    HistoryRow,
    Instance,
    InstancePage,
    InstanceQuery,
    Message,
    RuntimeStatus,
    Start,
)
from perdure.engine.crossing import Crossing
from perdure.engine.requests import Create, History, Query, Request, Send, Unwatch, Watch
from perdure.errors import (
    InstanceExistsError,
    InstanceFinishedError,
    InstanceNotFoundError,
    UnknownFunctionError,
)

if TYPE_CHECKING:
    from perdure.engine.engine import Engine


class TaskHubClient:
    """Starts, watches and steers instances of one task hub.

    Its methods may be awaited on any event loop; the engine does the work on its own. Each returns when its effect is
    durable.

    Raises (all methods):
        StoreUnavailableError: the store failed; whether the operation took place is not known.
        HostStoppedError: the engine has stopped.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._crossings: dict[asyncio.AbstractEventLoop, Crossing[tuple[asyncio.Future[Any], Any]]] = {}

    async def start(
        self,
        name: str,
        input: str | None = None,
        *,
        instance_id: str | None = None,
        version: str | None = None,
        replace: frozenset[RuntimeStatus] = TERMINAL,
        request_id: str | None = None,
    ) -> str:
        """Start an orchestration and return its instance id.

        Args:
            name: the orchestrator's; case does not matter.
            input: JSON text, or None.
            instance_id: None or "" for a new one.
            replace: statuses in which an existing instance of that id gives way.
            request_id: the same for every attempt of one request; a repeat then finds its own instance.

        Raises:
            UnknownFunctionError: no such orchestrator.
            InvalidInstanceIdError: the id breaks a rule.
            InstanceExistsError: an instance of that id is in the way.
        """
        name = self._known_orchestrator(name)
        instance_id = instance_id or self._engine.new_id()
        check_instance_id(instance_id)
        now = self._engine.clock.now()
        execution_id = request_id or self._engine.new_id()
        instance = Instance(
            instance_id=instance_id,
            execution_id=execution_id,
            name=name,
            status=RuntimeStatus.PENDING,
            created_at=now,
            updated_at=now,
            created_by=execution_id,
            input=input,
            version=version,
        )
        in_the_way: Instance | None = await self._ask(
            Create(Start(instance, replace), may_repeat=request_id is not None)
        )
        if in_the_way is not None:
            raise InstanceExistsError(instance_id, in_the_way.status)
        return instance_id

    async def get(self, instance_id: str) -> Instance | None:
        """The instance as its last checkpoint left it, or None if there is none."""
        page: InstancePage = await self._ask(Query(InstanceQuery(instance_ids=(instance_id,), limit=1)))
        return page.instances[0] if page.instances else None

    async def list(self, query: InstanceQuery) -> InstancePage:
        """One page of instances."""
        return await self._ask(Query(query))

    async def history(self, instance_id: str) -> Sequence[HistoryRow]:
        """The checkpoints of the instance's current execution, in order; empty if there is none."""
        return await self._ask(History(instance_id))

    async def raise_event(
        self, instance_id: str, name: str, data: str | None = None, *, request_id: str | None = None
    ) -> None:
        """Send an external event; `data` is JSON text.

        Raises:
            ValueError: the name is empty.
            InstanceNotFoundError: no such instance.
            InstanceFinishedError: the instance has ended.
        """
        if not name:
            raise ValueError("event_name must be a non-empty string.")
        await self._send(instance_id, EventRaised(self._engine.clock.now(), name, data), request_id)

    async def terminate(self, instance_id: str, reason: str | None = None, *, request_id: str | None = None) -> None:
        """End an instance without running its code again; its output becomes `reason`.

        Raises:
            InstanceNotFoundError: no such instance.
            InstanceFinishedError: the instance has ended already.
        """
        await self._send(instance_id, ExecutionTerminated(self._engine.clock.now(), reason), request_id)

    async def wait(self, instance_id: str, timeout: timedelta | None = None) -> Instance:
        """The instance once it has ended, or as it is after `timeout`; told by the engine, not polled.

        Raises:
            InstanceNotFoundError: no such instance.
        """
        instance: Instance | None = await self._ask(Watch(instance_id), timeout)
        if instance is None:
            instance = await self.get(instance_id)
        if instance is None:
            raise InstanceNotFoundError(instance_id)
        return instance

    def _known_orchestrator(self, name: str) -> str:
        known = self._engine.functions.orchestrators
        if not self._engine.runs_code or name in known:
            return name
        for each in known:
            if each.casefold() == name.casefold():
                return each
        raise UnknownFunctionError(name, "orchestrator", sorted(known))

    async def _send(self, instance_id: str, event: EventRaised | ExecutionTerminated, request_id: str | None) -> None:
        message = Message(request_id or self._engine.new_id(), instance_id, None, event)
        status: RuntimeStatus | None = await self._ask(Send(message, may_repeat=request_id is not None))
        if status is None:
            raise InstanceNotFoundError(instance_id)
        if status.is_terminal:
            raise InstanceFinishedError(instance_id, status)

    async def _ask(self, operation: Any, timeout: timedelta | None = None) -> Any:
        """Hand a request to the engine and wait here, on the caller's loop, for its reply."""
        loop = asyncio.get_running_loop()
        crossing = self._crossings.get(loop)
        if crossing is None:
            self._crossings = {each: kept for each, kept in self._crossings.items() if not each.is_closed()}
            crossing = self._crossings[loop] = Crossing(loop, _resolve)
        future: asyncio.Future[Any] = loop.create_future()
        request = Request(operation, lambda reply: crossing.put((future, reply)))
        self._engine.submit(request)
        try:
            if timeout is None:
                return await future
            async with asyncio.timeout(timeout.total_seconds()):
                return await future
        except TimeoutError:
            return None
        finally:
            if future.cancelled() and isinstance(operation, Watch):
                self._engine.submit(Request(Unwatch(request), _ignore))


def _resolve(replies: Sequence[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, reply in replies:
        if future.done():
            continue
        if isinstance(reply, Exception):
            future.set_exception(reply)
        else:
            future.set_result(reply)


def _ignore(reply: Any) -> None:
    """The reply of an operation that has none."""
