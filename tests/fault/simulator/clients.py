"""Clients: each asks hosts for things, repeats what it has no answer to, and writes down what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import Any

from msgspec import Struct

from perdure.core.records import Instance, StartPolicy
from perdure.engine.client import TaskHubClient
from perdure.errors import (
    HostStoppedError,
    InstanceExistsError,
    InstanceFinishedError,
    InstanceNotFailedError,
    InstanceNotFinishedError,
    InstanceNotFoundError,
    StoreUnavailableError,
)
from perdure.testing.loop import VIRTUAL_EPOCH

from .hosts import Host
from .oracle import Oracle
from .processes import ProcessLoop
from .programs import ORCHESTRATOR, Program, first_input, text

Ask = Callable[[TaskHubClient], Coroutine[Any, Any, Any]]


class Entry(Struct):
    """A line of the ledger: what was asked of which incarnation, with which request, and what became of it.

    `outcome` is "ok", "fail" (it certainly has not happened) or "info" (nobody knows). An event is known by its data,
    which no other has.
    """

    what: str
    instance_id: str
    request_id: str | None
    process: str
    outcome: str
    value: Any = None
    data: str | None = None


class Clients:
    """Everybody who asks for something, and their common ledger.

    Args:
        repeats: how often a request that was answered is made again under its name.
        name_starts: give every start a name. A start without one that comes late makes an instance that nobody knows.
        versions: which to start instances in.
    """

    def __init__(
        self,
        hosts: list[Host],
        oracle: Oracle,
        loop: ProcessLoop,
        rng: Random,
        *,
        repeats: float,
        name_starts: bool,
        versions: tuple[str | None, ...],
    ) -> None:
        self.name_starts = name_starts
        self.repeats = repeats
        self._versions = versions
        self.ledger: list[Entry] = []
        self._hosts = hosts
        self._oracle = oracle
        self._loop = loop
        self._rng = rng
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def time(self) -> float:
        """Virtual seconds since the run began."""
        return self._loop.time()

    @property
    def are_done(self) -> bool:
        """All have what they wanted."""
        return all(task.done() for task in self._tasks)

    @property
    def waiting(self) -> list[str]:
        """Who is not done."""
        return [task.get_name() for task in self._tasks if not task.done()]

    def raise_defects(self) -> None:
        """Clients raise nothing; if one did, the simulator is wrong."""
        for task in self._tasks:
            if task.done():
                task.result()

    def add(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Let a client begin its work."""
        self._tasks.append(self._loop.create_task(work, name=name))

    # ------------------------------------------------------------------ what clients do

    async def run_root(self, instance_id: str, program: Program, delay: float) -> None:
        """Start an instance and wait for its end."""
        await asyncio.sleep(delay)
        await self.start(instance_id, program)
        if self._rng.random() < 0.5:
            await self.wait(instance_id)

    async def start(
        self,
        instance_id: str,
        program: Program,
        policy: StartPolicy = StartPolicy.REJECT,
        sticky: Host | None = None,
    ) -> None:
        """Start an instance, again and again until there is an answer, or even after it if the request has a name."""
        request_id = self.new_id() if self.name_starts else self.maybe_id()
        given = text(first_input(program))
        version = self._rng.choice(self._versions)
        while True:
            entry = await self.ask(
                "start" if policy is not StartPolicy.IGNORE else "perhaps start",
                instance_id,
                request_id,
                lambda client: client.start(
                    ORCHESTRATOR, given, instance_id=instance_id, version=version, policy=policy, request_id=request_id
                ),
                sticky,
            )
            if entry.outcome != "info" and (request_id is None or self._rng.random() >= self.repeats):
                return
            if request_id is None and instance_id in self._oracle.known:
                return  # another start of it would have nobody to send it events
            await asyncio.sleep(self._rng.random())

    async def feed(self, instance_id: str, names: list[str], delay: float, root_id: str | None) -> None:
        """Send an instance these events, each one until it has arrived or there is nobody to take it any more."""
        await asyncio.sleep(delay)
        while root_id is not None and instance_id not in self._oracle.known and root_id in self._oracle.rows:
            if not self._oracle.unfinished:
                return
            await asyncio.sleep(0.1)  # so that the first comes just after the child
        host = self._rng.choice(self._hosts)
        for number, name in enumerate(names):
            if self._rng.random() < 0.3:
                await asyncio.sleep(self._rng.choice((0.01, 1.0, 5.0)) * self._rng.random())
            if self._rng.random() < 0.1:
                host = self._rng.choice(self._hosts)
            if not await self._send_event(instance_id, name, f"{instance_id}/{name}/{number}", host, root_id):
                return

    async def _send_event(self, instance_id: str, name: str, what: str, host: Host, root_id: str | None) -> bool:
        """Send one event; returns whether the next one may be wanted. What may be lost and has no name comes twice."""
        request_id, data = self.maybe_id(), text(f"{what}/{self.new_id()[:6]}")
        while True:
            entry = await self.ask(
                "event",
                instance_id,
                request_id,
                partial(_raise_event, instance_id, name, data, request_id),
                host,
            )
            entry.data = data
            if entry.outcome == "ok" and (request_id is None or self._rng.random() >= self.repeats):
                return True
            if entry.outcome == "info" and request_id is None:
                data = text(f"{what}/{self.new_id()[:6]}")
            if isinstance(entry.value, InstanceFinishedError):
                return False
            if isinstance(entry.value, InstanceNotFoundError):
                if instance_id in self._oracle.known or self._will_never_be(instance_id, root_id):
                    return False
                request_id = self.maybe_id()
            await asyncio.sleep(0.2 + self._rng.random())

    def _will_never_be(self, instance_id: str, root_id: str | None) -> bool:
        """Nobody is left who could start this child of the root or of the root's children."""
        return root_id in self._oracle.known and not self._oracle.unfinished

    async def signal(self, operations: list[tuple[str, str, dict[str, str], float | None]]) -> None:
        """Send operations to entities, one after the other; an unnamed one without an answer is left at that."""
        host = self._rng.choice(self._hosts)
        for entity_id, operation, given, delay in operations:
            await asyncio.sleep(self._rng.choice((0.0, 0.1, 4.0)) * self._rng.random())
            request_id = self.maybe_id()
            due = None if delay is None else VIRTUAL_EPOCH + timedelta(seconds=self.time + delay)
            while True:
                entry = await self.ask(
                    "signal",
                    entity_id,
                    request_id,
                    partial(_signal, entity_id, operation, text(given), due, request_id),
                    host,
                )
                entry.data = None if due is not None else text(given)
                if request_id is None or (entry.outcome == "ok" and self._rng.random() >= self.repeats):
                    break
                await asyncio.sleep(self._rng.random())
            if self._rng.random() < 0.3:
                await self._read(entity_id)

    async def _read(self, entity_id: str) -> None:
        """Read an entity's state: it is one that the entity has had since the question was asked."""
        place = len(self._oracle.box(entity_id).states) - 1
        entry = await self.ask("read", entity_id, None, lambda client: client.entity(entity_id))
        if entry.outcome == "ok":
            found = entry.value
            state = None if found is None else found.entity.state
            states = self._oracle.box(entity_id).states[place:]
            self._oracle.expect(state in states, "E1", f"{entity_id} was read as {state}, but was {states}")

    async def terminate(self, instance_id: str, delay: float) -> None:
        """End an instance."""
        await asyncio.sleep(delay)
        request_id = self.maybe_id()
        while True:
            reason = f"enough {self.new_id()[:6]}"
            entry = await self.ask(
                "terminate", instance_id, request_id, partial(_terminate, instance_id, reason, request_id)
            )
            if entry.outcome != "info":
                return
            await asyncio.sleep(self._rng.random())

    async def crowd(self, instance_id: str, program: Program, delay: float, policy: StartPolicy) -> None:
        """Start an instance that others start too."""
        await asyncio.sleep(delay)
        await self.start(instance_id, program, policy)
        if self._rng.random() < 0.3:
            name = self._rng.choice(("a", "b"))
            data = text(f"{instance_id}/{self.new_id()[:6]}")
            entry = await self.ask("event", instance_id, None, partial(_raise_event, instance_id, name, data, None))
            entry.data = data

    async def wait(self, instance_id: str) -> None:
        """Wait for an instance's end, elsewhere when the host dies."""
        timeout = timedelta(seconds=self._rng.choice((0.5, 20.0, 6000.0)))
        while True:
            entry = await self.ask("wait", instance_id, None, lambda client: client.wait(instance_id, timeout))
            if isinstance(entry.value, Instance):
                self._check_waited(entry.value)
                if entry.value.status.is_terminal:
                    return
            elif entry.outcome == "fail":
                return
            await asyncio.sleep(self._rng.random())

    def _check_waited(self, instance: Instance) -> None:
        execution = self._oracle.executions.get(instance.execution_id)
        is_true = execution is not None and (not instance.status.is_terminal or instance in execution.ends)
        self._oracle.expect(
            is_true, "A2", f"a client saw {instance.instance_id} {instance.status}, which is not stored"
        )

    # ------------------------------------------------------------------ asking

    async def ask(
        self, what: str, instance_id: str, request_id: str | None, ask: Ask, sticky: Host | None = None
    ) -> Entry:
        host = await self._pick(sticky)
        process = host.process
        assert process is not None
        task = self._loop.start(process, ask(host.client))
        await asyncio.wait([task])
        entry = Entry(what, instance_id, request_id, process.name, "info")
        if not task.cancelled():
            entry.value = task.exception()
            match entry.value:
                case None:
                    entry.outcome, entry.value = "ok", task.result()
                case StoreUnavailableError() | HostStoppedError():
                    pass
                case (
                    InstanceExistsError()
                    | InstanceNotFoundError()
                    | InstanceFinishedError()
                    | InstanceNotFailedError()
                    | InstanceNotFinishedError()
                ):
                    entry.outcome = "fail"
                case unexpected:
                    raise unexpected
        self.ledger.append(entry)
        return entry

    async def _pick(self, sticky: Host | None) -> Host:
        while True:
            up = [host for host in self._hosts if host.is_up]
            if sticky is not None and sticky in up:
                return sticky
            if up:
                return self._rng.choice(up)
            await asyncio.sleep(0.5)

    def new_id(self) -> str:
        """An id that nobody else has."""
        return f"{self._rng.getrandbits(128):032x}"

    def maybe_id(self) -> str | None:
        """A name for a request, which may then be repeated; most have none."""
        return self.new_id() if self._rng.random() < 0.3 else None


async def _raise_event(instance_id: str, name: str, data: str, request_id: str | None, client: TaskHubClient) -> None:
    await client.raise_event(instance_id, name, data, request_id=request_id)


async def _signal(
    entity_id: str,
    operation: str,
    given: str,
    due: datetime | None,
    request_id: str | None,
    client: TaskHubClient,
) -> None:
    await client.signal_entity(entity_id, operation, given, deliver_at=due, request_id=request_id)


async def _terminate(instance_id: str, reason: str, request_id: str | None, client: TaskHubClient) -> None:
    await client.terminate(instance_id, reason, request_id=request_id)
