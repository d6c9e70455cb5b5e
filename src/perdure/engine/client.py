"""Every management operation, once: what the SDK's client, the HTTP API and the command line call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Protocol

from msgspec.structs import replace

from perdure.core.events import (
    EntityOperation,
    EntityUnlock,
    EventRaised,
    ExecutionResumed,
    ExecutionRewound,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
    ParentInstance,
)
from perdure.core.instance_ids import check_entity_id, check_instance_id, derived_id
from perdure.core.records import (
    TERMINAL,
    EntityQuery,
    HistoryRow,
    Instance,
    InstancePage,
    InstanceQuery,
    Message,
    RuntimeStatus,
    Start,
    StartPolicy,
    is_entity_id,
)
from perdure.engine.clock import Clock
from perdure.engine.crossing import Crossing
from perdure.engine.executor import FunctionNames
from perdure.engine.requests import (
    Count,
    Create,
    Entities,
    History,
    Operation,
    Purge,
    Query,
    Request,
    Send,
    Unwatch,
    Watch,
)
from perdure.engine.settings import Settings
from perdure.errors import (
    HostStoppedError,
    InstanceExistsError,
    InstanceFinishedError,
    InstanceNotFailedError,
    InstanceNotFinishedError,
    InstanceNotFoundError,
    StoreUnavailableError,
    UnknownFunctionError,
)

# Instances named in one question to the store, and removed in one transaction: others get their turn in between.
PAGE_SIZE = 500

SteeringEvent = EventRaised | ExecutionTerminated | ExecutionSuspended | ExecutionResumed | ExecutionRewound

# Seconds between looks at an instance that is being rewound: mostly one or two are enough.
REWIND_LOOKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class Answerer(Protocol):
    """Whoever answers a client: the engine, or what passes requests on to one in another process."""

    new_id: Callable[[], str]

    @property
    def clock(self) -> Clock:
        """The time that messages are sent at."""
        ...

    @property
    def settings(self) -> Settings:
        """What the engine was told."""
        ...

    @property
    def runs_code(self) -> bool:
        """Names of functions can be checked."""
        ...

    @property
    def functions(self) -> FunctionNames:
        """What can be run there."""
        ...

    def submit(self, request: Request) -> None:
        """Ask for an operation, from any thread; its reply may come on any."""
        ...


class TaskHubClient:
    """Starts, watches and steers instances of one task hub.

    Its methods may be awaited on any event loop; the engine does the work on its own. Each returns when its effect is
    durable. A `request_id` is the same for every attempt of one request, and of no other: a repeat does nothing more
    and is answered as the first attempt was.

    Args (all methods):
        instance_id: the instance's.
        name: the event's; case does not matter.
        query: which instances.
        reason: stands in the instance's history.
        request_id: the same for every attempt of one request, and of no other.

    Raises (all methods):
        StoreUnavailableError: the store failed; whether the operation took place is not known.
        HostStoppedError: the engine has stopped.
        TypeError, ValueError: a text is none, or holds half of a surrogate pair.
    """

    def __init__(self, engine: Answerer) -> None:
        self._engine = engine
        self._crossings: dict[asyncio.AbstractEventLoop, Crossing[tuple[asyncio.Future[Any], Any]]] = {}
        self._crossings_lock = threading.Lock()  # sync functions call from many threads, each with a loop of its own

    # ------------------------------------------------------------------ start

    async def start(
        self,
        name: str,
        input: str | None = None,
        *,
        instance_id: str | None = None,
        version: str | None = None,
        start_at: datetime | None = None,
        tags: Mapping[str, str] | None = None,
        policy: StartPolicy | None = None,
        request_id: str | None = None,
    ) -> str:
        """Start an orchestration and return its instance id.

        Args:
            name: the orchestrator's; case does not matter.
            input: JSON text, or None.
            instance_id: None or "" for a new one.
            version: None for the host's default.
            start_at: its code does not run before this time (aware); one that is past means now.
            tags: what the instance and its children are labelled with.
            policy: what to do if an instance of that id has not ended; None for the host's. One that has ended always
                gives way.

        Raises:
            UnknownFunctionError: no such orchestrator.
            InvalidInstanceIdError: the id breaks a rule.
            InstanceExistsError: an instance of that id has not ended, and the policy is to reject.
        """
        name = self._known_orchestrator(name)
        policy = policy or self._engine.settings.start_policy
        start = self._new_start(name, input, instance_id, version, start_at, tags, policy, request_id)
        in_the_way: Instance | None = await self._ask(Create(start, may_repeat=request_id is not None))
        instance_id = start.instance.instance_id
        if in_the_way is not None and policy is not StartPolicy.IGNORE:
            raise InstanceExistsError(instance_id, in_the_way.status)
        return instance_id

    def _new_start(
        self,
        name: str,
        input: str | None,
        instance_id: str | None,
        version: str | None,
        start_at: datetime | None,
        tags: Mapping[str, str] | None,
        policy: StartPolicy,
        request_id: str | None,
    ) -> Start:
        _check_texts(instance_id=instance_id, version=version, request_id=request_id)
        for key, value in (tags or {}).items():
            _check_texts(tag=key, **{f"tag {key!r}": value})
        if not instance_id:
            instance_id = derived_id(request_id, "instance") if request_id else self._engine.new_id()
        check_instance_id(instance_id)
        now = self._engine.clock.now()
        execution_id = request_id or self._engine.new_id()
        is_later = start_at is not None and start_at > now
        instance = Instance(
            instance_id=instance_id,
            execution_id=execution_id,
            name=name,
            status=RuntimeStatus.PENDING,
            created_at=now,
            updated_at=now,
            created_by=execution_id,
            input=input,
            version=self._engine.settings.versioning.default if version is None else version,
            tags=dict(tags) if tags else None,
            start_at=start_at if is_later else None,
        )
        gives_way = frozenset(RuntimeStatus) if policy is StartPolicy.REPLACE else TERMINAL
        if not is_later:
            return Start(instance, gives_way)
        # The row holds the input; the message only has to name the execution.
        event = ExecutionStarted(now, execution_id, name)
        message = Message(f"{execution_id}/start", instance_id, execution_id, event, deliver_at=start_at)
        return Start(instance, gives_way, message)

    def _known_orchestrator(self, name: str) -> str:
        _check_texts(name=name)
        known = self._engine.functions.orchestrators
        if not self._engine.runs_code or name in known:
            return name
        for each in known:
            if each.casefold() == name.casefold():
                return each
        raise UnknownFunctionError(name, "orchestrator", sorted(known))

    async def restart(self, instance_id: str, *, new_instance_id: bool = True, request_id: str | None = None) -> str:
        """Start an orchestration anew with the input, version and tags of an instance; returns the new one's id.

        Args:
            new_instance_id: under a new id, whatever the instance is doing; otherwise under its own, once it has ended.

        Raises:
            InstanceNotFoundError: no such instance.
            InstanceExistsError: the instance has not ended, and the new one would need its id.
            UnknownFunctionError: its orchestrator is not there any more.
        """
        old = await self.get(instance_id)
        if old is None:
            raise InstanceNotFoundError(instance_id)
        return await self.start(
            old.name,
            old.input,
            instance_id=None if new_instance_id else instance_id,
            version=old.version,
            tags=old.tags,
            policy=StartPolicy.REJECT,
            request_id=request_id,
        )

    # ------------------------------------------------------------------ watch

    async def get(self, instance_id: str) -> Instance | None:
        """The instance as its last checkpoint left it, or None if there is none."""
        page = await self.list(InstanceQuery(instance_ids=(instance_id,), limit=1))
        return page.instances[0] if page.instances else None

    async def list(self, query: InstanceQuery) -> InstancePage:
        """One page of instances.

        Raises:
            ValueError: `query.after` is not a token that a page gave.
        """
        return await self._ask(Query(query))

    async def instances(self, query: InstanceQuery) -> AsyncIterator[Instance]:
        """All instances that fit, in order of creation; `query.limit` is the size of the pages they are read in."""
        after = query.after
        while True:
            page = await self.list(replace(query, after=after))
            for instance in page.instances:
                yield instance
            after = page.after
            if after is None:
                return

    async def count(self, query: InstanceQuery) -> dict[RuntimeStatus, int]:
        """How many instances fit, by status; `limit` and `after` do not matter."""
        return dict(await self._ask(Count(query)))

    async def history(self, instance_id: str) -> Sequence[HistoryRow]:
        """The checkpoints of the instance's current execution, in order; empty if there is none."""
        return await self._ask(History(instance_id))

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

    # ------------------------------------------------------------------ steer

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
        _check_texts(event_name=name)
        await self._steer(instance_id, EventRaised(self._engine.clock.now(), name, data), request_id)

    async def terminate(
        self, instance_id: str, reason: str | None = None, *, recursive: bool = False, request_id: str | None = None
    ) -> None:
        """End an instance without running its code again; its output becomes `reason`.

        Args:
            recursive: end the children that it is waiting for, too, and theirs.

        Raises:
            InstanceNotFoundError: no such instance.
            InstanceFinishedError: the instance has ended already.
        """
        _check_texts(reason=reason)
        event = ExecutionTerminated(self._engine.clock.now(), reason, recursive)
        await self._steer(instance_id, event, request_id)

    async def suspend(self, instance_id: str, reason: str | None = None, *, request_id: str | None = None) -> None:
        """Halt an instance: until it is resumed, its code sees nothing of what happens. Nothing if it is suspended.

        Raises:
            InstanceNotFoundError: no such instance.
            InstanceFinishedError: the instance has ended.
        """
        _check_texts(reason=reason)
        await self._steer(instance_id, ExecutionSuspended(self._engine.clock.now(), reason), request_id)

    async def resume(self, instance_id: str, reason: str | None = None, *, request_id: str | None = None) -> None:
        """Let a suspended instance go on; its code sees what happened meanwhile. Nothing if it is not suspended.

        Raises:
            InstanceNotFoundError: no such instance.
            InstanceFinishedError: the instance has ended.
        """
        _check_texts(reason=reason)
        await self._steer(instance_id, ExecutionResumed(self._engine.clock.now(), reason), request_id)

    async def rewind(self, instance_id: str, reason: str | None = None, *, request_id: str | None = None) -> None:
        """Let a failed instance try again from where it failed.

        Where a host runs it, this returns when it does try again, so that a `wait` that follows does not find the old
        failure; without a host at once, and after `REWIND_LOOKS` in any case.

        Raises:
            InstanceNotFoundError: no such instance.
            InstanceNotFailedError: the instance is doing something else than having failed.
        """
        _check_texts(reason=reason)
        failed = await self.get(instance_id)
        status = await self._send(instance_id, ExecutionRewound(self._engine.clock.now(), reason), request_id)
        if status is not RuntimeStatus.FAILED:
            raise InstanceNotFailedError(instance_id, status)
        if failed is not None and self._engine.runs_code:
            with suppress(StoreUnavailableError, HostStoppedError):  # it is durable, whether it can be seen or not
                await self._has_left(failed)

    async def _has_left(self, failed: Instance) -> None:
        """Look until the instance is no longer as it was when it had failed."""
        for pause in REWIND_LOOKS:
            now = await self.get(failed.instance_id)
            if now is None or (now.status, now.updated_at) != (failed.status, failed.updated_at):
                return
            await asyncio.sleep(pause)

    async def _steer(self, instance_id: str, event: SteeringEvent, request_id: str | None) -> None:
        status = await self._send(instance_id, event, request_id)
        if status.is_terminal:
            raise InstanceFinishedError(instance_id, status)

    async def _send(self, instance_id: str, event: SteeringEvent, request_id: str | None) -> RuntimeStatus:
        """The status in which the instance was when the event came."""
        _check_texts(instance_id=instance_id, request_id=request_id)
        if is_entity_id(instance_id):  # it would take the mail, and could do nothing with it
            raise InstanceNotFoundError(instance_id)
        message = Message(request_id or self._engine.new_id(), instance_id, None, event)
        status: RuntimeStatus | None = await self._ask(Send(message, may_repeat=request_id is not None))
        if status is None:
            raise InstanceNotFoundError(instance_id)
        return status

    # ------------------------------------------------------------------ entities

    async def signal_entity(
        self,
        entity_id: str,
        operation: str,
        input: str | None = None,
        *,
        deliver_at: datetime | None = None,
        request_id: str | None = None,
    ) -> None:
        """Send an operation to an entity, which need not exist.

        Args:
            entity_id: its instance id, `@name@key`.
            operation: the operation's name.
            input: JSON text, or None.
            deliver_at: not before this time; None for at once.
            request_id: the same for every attempt of one request.

        Raises:
            InvalidInstanceIdError: the id is no entity's.
            UnknownFunctionError: no such entity function.
        """
        _check_texts(entity_id=entity_id, operation=operation, request_id=request_id)
        check_entity_id(entity_id)
        self._check_known_entity(entity_id)
        event = EntityOperation(self._engine.clock.now(), operation, input)
        message = Message(request_id or self._engine.new_id(), entity_id, None, event, deliver_at)
        await self._ask(Send(message, may_repeat=request_id is not None))

    async def entity(self, entity_id: str) -> Instance | None:
        """The entity `entity_id` (`@name@key`) as its last batch left it, or None if it has no state."""
        page: InstancePage = await self._ask(Entities(EntityQuery(prefix=entity_id, limit=1)))
        found = page.instances[0] if page.instances else None
        has_state = found is not None and found.entity is not None and found.entity.state is not None
        return found if has_state and found is not None and found.instance_id == entity_id else None

    async def entities(self, query: EntityQuery) -> InstancePage:
        """One page of entities, in order of id."""
        return await self._ask(Entities(query))

    async def purge_entity(self, entity_id: str) -> int:
        """Remove the entity `entity_id` with its mail, whatever it does; returns how many were removed."""
        check_entity_id(entity_id)
        return len(await self._ask(Purge((entity_id,))))

    async def clean_entities(self) -> tuple[int, int]:
        """Free entities whose lock's holder has ended or is gone; returns (entities removed, locks released).

        Entities without state remove themselves, and whoever ends gives its locks back: there is something to do only
        after an accident.
        """
        released = 0
        after: str | None = ""
        while after is not None:
            page = await self.entities(EntityQuery(locked_only=True, after=after or None))
            for each in page.instances:
                lock = None if each.entity is None else each.entity.lock
                if lock is not None and await self._is_orphaned(lock):
                    free = EntityUnlock(self._engine.clock.now(), lock)
                    await self._ask(Send(Message(self._engine.new_id(), each.instance_id, None, free)))
                    released += 1
            after = page.after
        return 0, released

    async def _is_orphaned(self, lock: ParentInstance) -> bool:
        holder = await self.get(lock.instance_id)
        return holder is None or all(held.owner(holder) != lock for held in holder.locks)

    def _check_known_entity(self, entity_id: str) -> None:
        known = self._engine.functions.entities
        name = entity_id.split("@", 2)[1]
        if self._engine.runs_code and name.casefold() not in {each.casefold() for each in known}:
            raise UnknownFunctionError(name, "entity", sorted(known))

    # ------------------------------------------------------------------ purge

    async def purge(self, instance_id: str, *, recursive: bool = False) -> int:
        """Remove an instance that has ended, with its history, or an entity; returns how many were removed.

        Args:
            recursive: remove its descendants that have ended, too. They go first, so that a purge that was interrupted
                can be repeated.

        Raises:
            InstanceNotFoundError: no such instance.
            InstanceNotFinishedError: the instance has not ended; nothing was removed.
        """
        if is_entity_id(instance_id):
            if not await self._purge_all([instance_id]):
                raise InstanceNotFoundError(instance_id)
            return 1
        instance = await self.get(instance_id)
        if instance is None:
            raise InstanceNotFoundError(instance_id)
        if not instance.status.is_terminal:
            raise InstanceNotFinishedError(instance_id, instance.status)
        return await self._purge([instance_id], recursive)

    async def purge_by(self, query: InstanceQuery, *, recursive: bool = False) -> int:
        """Remove the instances that have ended and fit; returns how many were removed.

        They go page by page: what was removed stays removed if it is interrupted, and it can be repeated.

        Args:
            query: without statuses for all that have ended; `limit` and `after` do not matter.
            recursive: remove descendants that have ended, too, whether they fit or not.

        Raises:
            ValueError: the query asks for instances that have not ended.
        """
        statuses = TERMINAL if query.statuses is None else query.statuses
        if not statuses <= TERMINAL:
            others = ", ".join(sorted(statuses - TERMINAL))
            raise ValueError(f"Only instances that have ended can be purged, but runtime_status asks for: {others}.")
        query = replace(query, statuses=statuses, limit=PAGE_SIZE, after=None)
        purged = 0
        while True:
            page = await self.list(query)
            if page.instances:
                purged += await self._purge([each.instance_id for each in page.instances], recursive)
            if page.after is None:
                return purged
            query = replace(query, after=page.after)

    async def _purge(self, instance_ids: Sequence[str], recursive: bool) -> int:
        generations: list[Sequence[str]] = [instance_ids]
        seen = set(instance_ids)
        while recursive and generations[-1]:
            generations.append(await self._ended_children(generations[-1], seen))
        return sum([await self._purge_all(each) for each in reversed(generations)])

    async def _ended_children(self, parents: Sequence[str], seen: set[str]) -> Sequence[str]:
        """Ids of the children that have ended and are not among `seen`, to which they are added.

        One that has not ended keeps its own children: it may be waiting for one, or be rewound.
        """
        found: list[str] = []
        for some in _chunks(parents):
            query = InstanceQuery(parents=tuple(some), statuses=TERMINAL, limit=PAGE_SIZE)
            async for child in self.instances(query):
                if child.instance_id not in seen:
                    seen.add(child.instance_id)
                    found.append(child.instance_id)
        return found

    async def _purge_all(self, instance_ids: Sequence[str]) -> int:
        purged = 0
        for some in _chunks(instance_ids):
            removed: Collection[str] = await self._ask(Purge(tuple(some)))
            purged += len(removed)
        return purged

    # ------------------------------------------------------------------ asking

    async def _ask(self, operation: Operation, timeout: timedelta | None = None) -> Any:
        """Hand a request to the engine and wait here, on the caller's loop, for its reply."""
        loop = asyncio.get_running_loop()
        crossing = self._crossing(loop)
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

    def _crossing(self, loop: asyncio.AbstractEventLoop) -> Crossing[tuple[asyncio.Future[Any], Any]]:
        crossing = self._crossings.get(loop)
        if crossing is None:
            with self._crossings_lock:
                self._crossings = {each: kept for each, kept in self._crossings.items() if not each.is_closed()}
                crossing = self._crossings[loop] = Crossing(loop, _resolve)
        return crossing


def _check_texts(**texts: str | None) -> None:
    """Refuse what a store could write and nobody read again.

    Raises:
        TypeError, ValueError: naming the first that is no text, or not one of whole characters.
    """
    for name, text in texts.items():
        if text is None:
            continue
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]: users' code is not type-checked
            raise TypeError(f"{name} must be a str, not {type(text).__name__}")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{name} contains half of a surrogate pair, which is not a character.") from None


def _chunks(items: Sequence[str]) -> list[Sequence[str]]:
    return [items[start : start + PAGE_SIZE] for start in range(0, len(items), PAGE_SIZE)]


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
