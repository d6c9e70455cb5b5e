"""A task hub in memory with an engine on it, in virtual time, for tests of what clients do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from datetime import timedelta
from typing import Any, cast

from perdure.core.codec import payloads
from perdure.core.cursor import OrchestrationCursor
from perdure.core.records import Instance, InstanceQuery, RuntimeStatus
from perdure.core.tasks import EventTask, SubOrchestrationCall
from perdure.engine.check import check_hub
from perdure.engine.client import TaskHubClient
from perdure.engine.engine import Engine
from perdure.engine.settings import Settings
from perdure.host.invoke import LocalExecutor
from perdure.host.user_code import UserCode
from perdure.stores.memory import MemoryStore
from perdure.testing.loop import SimLoop, VirtualClock

Code = Generator[Any, Any, Any]


def echo(cursor: OrchestrationCursor) -> Any:
    """Returns its input."""
    return payloads.decode(cursor.input)


def clock(cursor: OrchestrationCursor) -> Any:
    """Returns the time at its first step."""
    return cursor.now.isoformat()


def approval(cursor: OrchestrationCursor) -> Code:
    """Waits for an event and returns what it carries."""
    return (yield EventTask("Approval", cursor))


def broken(cursor: OrchestrationCursor) -> Any:
    """Fails."""
    raise ValueError("no stock")


def family(cursor: OrchestrationCursor) -> Code:
    """Calls children of the given ids one after the other; each does the same with the rest of its id's parts.

    Its input says how many children there are at each level, as in `[2, 3]` for two with three each; the last level is
    `approval` if the input's last number is 0.
    """
    counts = payloads.decode(cursor.input)
    for number in range(counts[0] if counts else 0):
        child_id = f"{cursor.instance_id}.{number}"
        name = "approval" if counts[1:] == [0] else "family"
        yield SubOrchestrationCall(name, payloads.encode(counts[1:]), child_id, None)
    return cursor.instance_id


ORCHESTRATORS = {each.__name__: each for each in (echo, clock, approval, broken, family)}


class Hub:
    """What a scenario has in hand."""

    def __init__(self, settings: Settings, partitions: int) -> None:
        self.store = MemoryStore(partitions)
        self.clock = VirtualClock(asyncio.get_running_loop())
        executor = LocalExecutor(ORCHESTRATORS, {}, cast("UserCode", None))  # there are no activities
        self.engine = Engine(self.store, executor, clock=self.clock, settings=settings)
        self.client = TaskHubClient(self.engine)

    async def until(self, instance_id: str, status: RuntimeStatus) -> Instance:
        """The instance once it has that status, within a virtual minute."""
        for _ in range(6000):
            instance = await self.client.get(instance_id)
            if instance is not None and instance.status is status:
                return instance
            await asyncio.sleep(0.01)
        raise AssertionError(f"{instance_id} does not become {status}, it is {instance}")

    async def run(self, name: str, instance_id: str, value: Any = None) -> Instance:
        """An instance that has been started and has ended."""
        await self.client.start(name, payloads.encode(value), instance_id=instance_id)
        return await self.client.wait(instance_id, timedelta(minutes=1))

    async def ids(self, **conditions: Any) -> list[str]:
        """The ids of the instances that there are, sorted."""
        return sorted([each.instance_id async for each in self.client.instances(InstanceQuery(**conditions))])


def on_hub(
    scenario: Callable[[Hub], Coroutine[Any, Any, Any]], settings: Settings | None = None, partitions: int = 2
) -> Any:
    """Play a scenario on a hub of its own, which the checker looks at in the end."""

    async def play() -> Any:
        hub = Hub(settings or Settings(), partitions)
        running = asyncio.create_task(hub.engine.run())
        try:
            await hub.engine.ready()
            return await scenario(hub)
        finally:
            running.cancel()
            await asyncio.wait([running])
            findings = (await check_hub(hub.store)).findings
            assert findings == (), findings

    loop = SimLoop()
    try:
        return loop.run_until_complete(play())
    finally:
        loop.close()
