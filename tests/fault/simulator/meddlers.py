"""Clients that steer what others started: they halt, end, rewind, restart, replace and purge, and repeat what they ask.

In the end they help on what waits for somebody: a suspended instance, or one whose events have gone elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from random import Random

from perdure.core.records import TERMINAL, InstanceQuery, RuntimeStatus, StartPolicy
from perdure.engine.client import TaskHubClient
from perdure.testing.loop import VIRTUAL_EPOCH

from .clients import Clients, Entry
from .oracle import Execution, Oracle
from .programs import ORCHESTRATOR, Program, first_input, text
from .reference import Reading

KINDS = (
    "suspend", "terminate", "terminate_tree", "rewind", "orphan", "restart", "replace", "ignore", "schedule", "purge",
)  # fmt: skip

ATTEMPTS = 4  # of a request that stays without an answer; then nobody knows


class Meddlers:
    """Clients that know every instance, and what it is doing.

    Args:
        kinds: which of `KINDS` this run knows.
        programs: what they start; no events are needed for it.
    """

    def __init__(
        self, clients: Clients, oracle: Oracle, rng: Random, kinds: tuple[str, ...], programs: list[Program]
    ) -> None:
        self._clients = clients
        self._oracle = oracle
        self._rng = rng
        self._kinds = kinds
        self._programs = programs

    async def meddle(self, number: int, times: int, delay: float) -> None:
        """Do so many things, one after the other, at random moments."""
        rng = self._rng
        await asyncio.sleep(delay)
        for turn in range(times):
            await asyncio.sleep(rng.choice((0.05, 1.0, 6.0)) * rng.random())
            kind = rng.choice(self._kinds)
            await getattr(self, f"_{kind}")(f"m{number}.{turn}")

    # ------------------------------------------------------------------ what they do

    async def _suspend(self, name: str) -> None:
        instance_id = self._any(lambda row: row.end is None)
        if instance_id is None:
            return
        for _ in range(self._rng.choice((1, 1, 2))):
            await self._repeat("suspend", instance_id, _suspend)
            await asyncio.sleep(self._rng.choice((0.01, 1.0, 8.0)) * self._rng.random())
            await self._repeat("resume", instance_id, _resume)

    async def _terminate(self, name: str) -> None:
        instance_id = self._any(lambda row: row.end is None)
        if instance_id is not None:
            await self._repeat("terminate", instance_id, partial(_terminate, name, False))

    async def _terminate_tree(self, name: str) -> None:
        instance_id = self._any(lambda row: row.end is None)
        if instance_id is not None:
            await self._repeat("terminate", instance_id, partial(_terminate, name, True))

    async def _rewind(self, name: str) -> None:
        """Rewind what has failed, or soon will have."""
        for _ in range(self._rng.randint(1, 4)):
            instance_id = self._any(lambda row: row.end is not None and row.end.status is RuntimeStatus.FAILED)
            if instance_id is None:
                instance_id = self._any(lambda row: True)
            if instance_id is not None:
                await self._repeat("rewind", instance_id, partial(_rewind, name))
            await asyncio.sleep(self._rng.random() * 4)

    async def _orphan(self, name: str) -> None:
        """Rewind a failed parent while somebody takes its failed child away."""
        rows = self._oracle.rows

        def is_failed(row: Execution | None) -> bool:
            return row is not None and row.end is not None and row.end.status is RuntimeStatus.FAILED

        child_id = self._any(
            lambda row: is_failed(row) and row.parent is not None and is_failed(rows.get(row.parent.instance_id))
        )
        if child_id is None:
            return
        parent = rows[child_id].parent
        assert parent is not None
        rewind = self._repeat("rewind", parent.instance_id, partial(_rewind, name))
        if self._rng.random() < 0.5:
            await asyncio.gather(rewind, self._repeat("purge", child_id, partial(_purge, False)))
        else:
            await asyncio.gather(rewind, self._start(child_id, StartPolicy.REPLACE, None))

    async def _restart(self, name: str) -> None:
        instance_id = self._any(lambda row: True)
        if instance_id is not None:
            await self._repeat("restart", instance_id, partial(_restart, self._rng.random() < 0.5))

    async def _replace(self, name: str) -> None:
        await self._start(self._any(lambda row: row.end is None) or name, StartPolicy.REPLACE, None)

    async def _ignore(self, name: str) -> None:
        await self._start(self._any(lambda row: True) or name, StartPolicy.IGNORE, None)

    async def _schedule(self, name: str) -> None:
        """Start something later, and meddle with it before."""
        rng = self._rng
        instance_id = rng.choice((name, name, self._any(lambda row: True) or name))
        policy = rng.choice((StartPolicy.REJECT, StartPolicy.REPLACE))
        await self._start(instance_id, policy, rng.choice((0.1, 3.0, 25.0)) * (0.5 + rng.random()))
        for _ in range(rng.choice((0, 0, 1, 2))):
            await asyncio.sleep(rng.random() * 3)
            what = rng.choice((_suspend, _resume, partial(_terminate, name, False), partial(_raise_event, name, "a")))
            await self._repeat("steer", instance_id, what)

    async def _purge(self, name: str) -> None:
        recursive = self._rng.random() < 0.5
        if self._rng.random() < 0.3:
            statuses = frozenset(each for each in sorted(TERMINAL) if self._rng.random() < 0.6) or TERMINAL
            query = InstanceQuery(statuses=statuses, prefix=self._rng.choice((None, "r1", "crowd", "shared")))
            await self._repeat("purge", "", lambda client, _, __: client.purge_by(query, recursive=recursive))
            return
        instance_id = self._any(lambda row: row.end is not None)
        if instance_id is None:
            return
        to_go = self._ended_below(instance_id) if recursive else [self._oracle.rows[instance_id]]
        rewound = self._oracle.counts["rewound"]
        entry = await self._repeat("purge", instance_id, partial(_purge, recursive))
        if entry.outcome == "ok" and rewound == self._oracle.counts["rewound"]:
            left = [row.instance_id for row in to_go if self._oracle.rows.get(row.instance_id) is row]
            left = [each for each in left if self._oracle.rows[each].end is not None]
            self._oracle.expect(not left, "O1", f"{instance_id} was purged with all below it, but {left} are left")

    def _ended_below(self, instance_id: str) -> list[Execution]:
        """An instance and those of its descendants that have ended and are reached through such."""
        rows = self._oracle.rows
        found = [rows[instance_id]]
        for each in found:  # grows while it runs
            found += [
                row
                for _, row in sorted(rows.items())
                if row.parent is not None
                and row.parent.instance_id == each.instance_id
                and row.end is not None
                and row not in found
            ]
        return found

    async def _start(self, instance_id: str, policy: StartPolicy, delay: float | None) -> None:
        program = self._rng.choice(self._programs)
        due = None if delay is None else VIRTUAL_EPOCH + timedelta(seconds=self._clients.time + delay)
        given = text(first_input(program))

        def start(client: TaskHubClient, instance_id: str, request_id: str | None) -> object:
            return client.start(
                ORCHESTRATOR, given, instance_id=instance_id, policy=policy, start_at=due, request_id=request_id
            )

        await self._repeat("start" if policy is not StartPolicy.IGNORE else "perhaps start", instance_id, start)

    def _any(self, is_meant: Callable[[Execution], bool]) -> str | None:
        """One of the instances that are meant."""
        ids = sorted(each for each, row in self._oracle.rows.items() if is_meant(row))
        return self._rng.choice(ids) if ids else None

    async def _repeat(self, what: str, instance_id: str, ask: Callable[..., object]) -> Entry:
        """Ask until there is an answer, or often enough; what has a name may be asked again after it."""
        request_id = self._clients.maybe_id()
        if what == "start" and request_id is None and self._clients.name_starts:
            request_id = self._clients.new_id()
        for attempt in range(ATTEMPTS):
            entry = await self._clients.ask(what, instance_id, request_id, _asking(ask, instance_id, request_id))
            if entry.outcome != "info" and (request_id is None or self._rng.random() >= self._clients.repeats):
                break
            if entry.outcome == "info" and request_id is None and what in ("start", "restart") and attempt:
                break
            await asyncio.sleep(self._rng.random())
        return entry

    # ------------------------------------------------------------------ the end

    async def help_on(self) -> None:
        """Resume and send events to what waits for nothing else."""
        for row in self._oracle.idle:
            reading = Reading(row.events)
            if row.automaton.is_suspended or (row.is_born_suspended and not row.position):
                await self._clients.ask("resume", row.instance_id, None, _asking(_resume, row.instance_id, None))
            elif awaits := reading.outcome(row.given).awaits:
                help_with = partial(_raise_event, "a helper", awaits[0])
                await self._clients.ask("help", row.instance_id, None, _asking(help_with, row.instance_id, None))


def _asking(ask: Callable[..., object], instance_id: str, request_id: str | None) -> Callable[..., object]:
    return lambda client: ask(client, instance_id, request_id)


async def _suspend(client: TaskHubClient, instance_id: str, request_id: str | None) -> None:
    await client.suspend(instance_id, "wait", request_id=request_id)


async def _resume(client: TaskHubClient, instance_id: str, request_id: str | None) -> None:
    await client.resume(instance_id, request_id=request_id)


async def _terminate(
    name: str, recursive: bool, client: TaskHubClient, instance_id: str, request_id: str | None
) -> None:
    await client.terminate(instance_id, f"enough of {name}", recursive=recursive, request_id=request_id)


async def _raise_event(sender: str, name: str, client: TaskHubClient, instance_id: str, request_id: str | None) -> None:
    await client.raise_event(instance_id, name, text(f"from {sender}"), request_id=request_id)


async def _rewind(name: str, client: TaskHubClient, instance_id: str, request_id: str | None) -> None:
    await client.rewind(instance_id, f"{name} has mended it", request_id=request_id)


async def _restart(is_new: bool, client: TaskHubClient, instance_id: str, request_id: str | None) -> str:
    return await client.restart(instance_id, new_instance_id=is_new, request_id=request_id)


async def _purge(recursive: bool, client: TaskHubClient, instance_id: str, request_id: str | None) -> int:
    return await client.purge(instance_id, recursive=recursive)
