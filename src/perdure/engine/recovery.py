"""Activities that a crash interrupted, of the host or of one of its worker processes; one of them may have caused it.

Rule 1: whatever is begun again is counted first, durably; so an activity that kills its host uses its dispatches up.
Rule 2: what has been begun often runs while nothing else of its kind does: only the culprit is counted on. Of such, the
one begun least goes first: where processes die young, each gets its turn, and none is counted out for being the first.
Rule 3: the next begins when what came of the one before it is durable; a crash takes back nothing but its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from perdure.core.failures import FailureDetails
from perdure.core.records import ActivityTask, Lease
from perdure.engine.executor import ActivityResult, Failed
from perdure.engine.settings import Settings
from perdure.engine.store import PartitionStore

log = logging.getLogger("perdure.engine")


class Recovery:
    """Begins interrupted activities anew: most at once, the suspects one by one, and those that used all up never.

    Args:
        start: has activities run.
        finish: takes the result of one that is not run.
        is_settled: whether the result of one that has ended is durable, or nobody's here.
    """

    def __init__(
        self,
        store: PartitionStore,
        settings: Settings,
        start: Callable[[Sequence[ActivityTask]], None],
        finish: Callable[[ActivityTask, ActivityResult], None],
        is_settled: Callable[[ActivityTask], bool],
    ) -> None:
        self._store = store
        self._settings = settings
        self._start = start
        self._finish = finish
        self._is_settled = is_settled
        self._suspects: list[tuple[int, Lease, ActivityTask]] = []
        self._running: str | None = None
        self._ended: ActivityTask | None = None

    async def begin(self, lease: Lease, tasks: Sequence[ActivityTask]) -> None:
        """Begin activities anew that a process which has died may have been running.

        Raises:
            StoreUnavailableError: they could not be counted, and are not begun.
        """
        waiting = {task.activity_id for *_, task in self._suspects}
        tasks = [task for task in tasks if task.activity_id not in waiting]
        if not tasks:
            return
        counted = list(zip(await self._store.dispatches(lease, tasks), tasks, strict=True))
        alone = self._settings.dispatches_alone
        trusted = [task for count, task in counted if count < alone]
        self._suspects += [(count, lease, task) for count, task in counted if count >= alone]
        self._suspects.sort(key=lambda each: each[0], reverse=True)
        if trusted:
            await self._store.dispatch(lease, trusted)
            self._start(trusted)
        await self.go_on()

    async def go_on(self) -> None:
        """Begin the next suspect, if it is its turn."""
        while self.may_go_on:
            _, lease, task = self._suspects.pop()
            self._ended = None
            self._running = task.activity_id
            try:
                (count,) = await self._store.dispatch(lease, [task])
            except BaseException:
                self._running = None
                raise
            if count <= self._settings.dispatches_max:
                self._start([task])
                return
            self._running = None
            log.warning(
                "activity is not begun again: whatever process runs it dies",
                extra={"function": task.name, "instance_id": task.instance_id, "begun": self._settings.dispatches_max},
            )
            self._finish(task, Failed(_poison(task, self._settings.dispatches_max)))

    def interrupted(self, task: ActivityTask) -> None:
        """The process that ran an activity, a suspect perhaps, has died: `begin` counts it and begins it anew."""
        if task.activity_id == self._running:
            self._running = self._ended = None

    def holds(self, task: ActivityTask) -> bool:
        """The activity is a suspect that waits for its turn."""
        return any(task.activity_id == each.activity_id for *_, each in self._suspects)

    def ended(self, task: ActivityTask) -> None:
        """An activity has ended, a suspect perhaps."""
        if task.activity_id == self._running:
            self._running, self._ended = None, task

    @property
    def may_go_on(self) -> bool:
        """A suspect waits, none is running, and the result of the last one is settled."""
        may_begin = bool(self._suspects) and self._running is None
        return may_begin and (self._ended is None or self._is_settled(self._ended))

    def dropped(self, lease: Lease) -> None:
        """A lease is gone: the suspects among its activities are another holder's."""
        self._suspects = [each for each in self._suspects if each[1] is not lease]


def _poison(task: ActivityTask, dispatches: int) -> FailureDetails:
    return FailureDetails(
        "PoisonMessage",
        f"Activity '{task.name}' was begun {dispatches} times, and each time the process died before it ended. It is "
        "not begun again: find out what it does to the process (memory, native code, os._exit).",
        is_non_retriable=True,
    )
