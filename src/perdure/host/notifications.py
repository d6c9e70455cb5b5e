"""Tells a server of orchestrations that begin and end: `notifications.eventGrid` in host.json.

Rule 1: no orchestration waits for this or fails by it; what cannot be told is a line in the log.
Rule 2: what is told of one instance arrives in order; instances do not wait for each other.
Rule 3: nothing is told before it is durable. What is not told when the process dies stays untold.

Source: EventGridLifeCycleNotificationHelper.cs of the Durable Functions extension, but it does not follow redirects:
they would take the key along.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

import msgspec
from msgspec import Struct

from perdure.core.records import Instance, RuntimeStatus, is_entity_id
from perdure.engine.crossing import Crossing
from perdure.host.settings.host_json import Topic
from perdure.host.settings.host_settings import LifecycleEvent

log = logging.getLogger("perdure.host")

# As many requests at the same time as a small server takes without a thought.
POSTS_AT_ONCE = 16
# More would be memory for a server that is down: at two for each orchestration, what a busy host makes in some seconds.
UNTOLD_MAX = 10_000

_RETRIED_ANYWAY = 503

_EVENTS: Mapping[RuntimeStatus, LifecycleEvent] = {
    RuntimeStatus.PENDING: "Started",
    RuntimeStatus.RUNNING: "Started",
    RuntimeStatus.SUSPENDED: "Started",
    RuntimeStatus.COMPLETED: "Completed",
    RuntimeStatus.FAILED: "Failed",
    RuntimeStatus.TERMINATED: "Terminated",
}

Post = Callable[[str, bytes, Mapping[str, str]], Awaitable[int]]
"""URL, body and headers to the status of the answer."""


class Notification(Struct, frozen=True):
    """What one request says."""

    instance_id: str
    body: bytes


class Notifications:
    """Posts to a topic; `observe` is for the engine, which calls it on its own thread.

    Args:
        topic: whom to tell, and of what.
        hub: name of the task hub.
    """

    def __init__(self, topic: Topic, hub: str) -> None:
        self._topic = topic
        self._hub = hub
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="perdure-notifications", daemon=True)
        self._crossing: Crossing[Notification] = Crossing(self._loop, self._tell)
        self._post: Post | None = None
        self._last: dict[str, asyncio.Task[None]] = {}  # of each instance, the notification that others come after
        self._untold: set[asyncio.Task[None]] = set()
        self._free = asyncio.Semaphore(POSTS_AT_ONCE)
        self._is_ready = asyncio.Event()
        self._is_stopping = asyncio.Event()

    def start(self) -> None:
        """Begin to tell."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Tell what is left, and give up what takes longer than `timeout_s`."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._finish(timeout_s), self._loop)
            self._thread.join()

    def observe(self, instance: Instance) -> None:
        """An instance has begun or ended."""
        event = _EVENTS[instance.status]
        if not is_entity_id(instance.instance_id) and event in self._topic.events:
            self._crossing.put(Notification(instance.instance_id, _body(instance, event, self._hub)))

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        from perdure.host.http_client import posting

        async with posting() as post:
            self._post = post
            self._is_ready.set()
            await self._is_stopping.wait()

    async def _finish(self, timeout_s: float) -> None:
        await asyncio.sleep(0)  # what has been observed crosses over first
        if self._untold:
            await asyncio.wait(self._untold, timeout=timeout_s)
        if self._untold:
            log.warning("notifications given up", extra={"notifications": len(self._untold)})
        for task in self._untold:
            task.cancel()
        self._is_stopping.set()

    def _tell(self, notifications: Sequence[Notification]) -> None:
        for each in notifications:
            if len(self._untold) >= UNTOLD_MAX:
                log.warning("notification dropped: too many are waiting", extra={"instance_id": each.instance_id})
                continue
            task = self._loop.create_task(self._tell_one(each, self._last.get(each.instance_id)))
            self._untold.add(task)
            self._last[each.instance_id] = task
            task.add_done_callback(partial(self._told, each.instance_id))

    def _told(self, instance_id: str, task: asyncio.Task[None]) -> None:
        self._untold.discard(task)
        if self._last.get(instance_id) is task:
            del self._last[instance_id]

    async def _tell_one(self, notification: Notification, before: asyncio.Task[None] | None) -> None:
        await self._is_ready.wait()
        if before is not None:
            await asyncio.wait({before})
        topic = self._topic
        for attempt in range(topic.retries_max + 1):
            if attempt:
                await asyncio.sleep(topic.pause.total_seconds())
            async with self._free:
                problem, may_help = await self._attempt(notification)
            if problem is None:
                return
            log.warning(
                "notification not delivered",
                extra={"instance_id": notification.instance_id, "attempt": attempt + 1, "reason": problem},
            )
            if not may_help:
                return

    async def _attempt(self, notification: Notification) -> tuple[str | None, bool]:
        """What was wrong with it, and whether another attempt may help."""
        assert self._post is not None, "the loop has begun"
        headers = {"aeg-sas-key": self._topic.key, "content-type": "application/json; charset=utf-8"}
        try:
            status = await self._post(self._topic.endpoint, notification.body, headers)
        except (OSError, ValueError) as error:
            return str(error), isinstance(error, OSError)
        if 200 <= status < 300:
            return None, False
        return f"answered with status {status}", status == _RETRIED_ANYWAY or status in self._topic.retried_statuses


def _body(instance: Instance, event: LifecycleEvent, hub: str) -> bytes:
    status = RuntimeStatus.RUNNING if event == "Started" else instance.status
    return msgspec.json.encode(
        [
            {
                "id": str(uuid4()),
                "topic": None,
                "subject": f"durable/orchestrator/{status}",
                "data": {
                    "hubName": hub,
                    "functionName": instance.name,
                    "instanceId": instance.instance_id,
                    "reason": _reason(instance),
                    "runtimeStatus": str(status),
                },
                "eventType": "orchestratorEvent",
                "eventTime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
                "dataVersion": "1.0",
            }
        ]
    )


def _reason(instance: Instance) -> str:
    if instance.status is RuntimeStatus.FAILED and instance.failure is not None:
        return instance.failure.message
    if instance.status is RuntimeStatus.TERMINATED and instance.output is not None:
        return str(msgspec.json.decode(instance.output))
    return ""
