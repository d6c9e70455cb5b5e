"""What clients ask of a hub: done in the store first, then handed over to the partitions that are here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, Protocol, assert_never

from perdure.core.records import Message, Start, takes_mail
from perdure.engine.clock import Clock
from perdure.engine.partition import Partition
from perdure.engine.requests import Count, Create, Entities, History, Purge, Query, Request, Send, Unwatch, Watch
from perdure.engine.settings import Settings
from perdure.engine.store import InstanceStore
from perdure.engine.watches import Watches
from perdure.errors import HostStoppedError, StoreUnavailableError


class Holder(Protocol):
    """Whoever holds partitions on this host, as its clients' requests need it."""

    @property
    def settings(self) -> Settings:
        """What this host was told."""
        ...

    def partition_of(self, instance_id: str) -> Partition | None:
        """The partition that an instance belongs to, if it is here."""
        ...

    def forget(self, instance_id: str) -> None:
        """Drop the executor's session of an instance."""
        ...

    async def read_again(self, partition: Partition) -> None:
        """Read a partition's mail out of turn."""
        ...

    def signal(self) -> None:
        """Wake whatever has something to do now."""
        ...


class Clients:
    """Serves requests in groups, and refuses them once it is stopped.

    A reply follows the store's answer. What may have been used up before that answer came, or by an earlier attempt of
    the same request, is not handed over in memory but read from the store.
    """

    def __init__(self, store: InstanceStore, clock: Clock, holder: Holder, watches: Watches) -> None:
        self._store = store
        self._clock = clock
        self._holder = holder
        self._watches = watches
        self._tasks: dict[asyncio.Task[None], Sequence[Request]] = {}
        self._creates: list[tuple[Request, Create]] = []  # to be asked of the store
        self._creating: set[str] = set()  # instances asked of the store, and nothing heard or seen of
        self._is_stopped = False

    def stop(self) -> None:
        """Refuse everybody who waits for a reply."""
        self._is_stopped = True
        for task in self._tasks:
            task.cancel()
        asked = [each for requests in self._tasks.values() for each in requests]
        _refuse([*asked, *(request for request, _ in self._creates), *self._watches.take_all()])

    def is_creating(self, instance_id: str) -> bool:
        """The store may have the instance already, but its answer is still to come."""
        return instance_id in self._creating

    def seen(self, instance_ids: Collection[str]) -> None:
        """Instances were loaded: whatever the answer to their creation, their session has begun."""
        self._creating.difference_update(instance_ids)

    def requested(self, requests: Sequence[Request]) -> None:
        """Serve what came over from clients."""
        if self._is_stopped:
            _refuse(requests)
            return
        creates: list[tuple[Request, Create]] = []
        sends: list[tuple[Request, Send]] = []
        unknown: list[str] = []
        for request in requests:
            operation = request.operation
            match operation:
                case Create():
                    creates.append((request, operation))
                case Send():
                    sends.append((request, operation))
                case Watch():
                    if not self._watches.add(request, operation.instance_id):
                        unknown.append(operation.instance_id)
                case Query():
                    self._spawn(self._answer(request, partial(self._store.query, operation.query)), [request])
                case Count():
                    self._spawn(self._answer(request, partial(self._store.count, operation.query)), [request])
                case Entities():
                    self._spawn(self._answer(request, partial(self._store.entities, operation.query)), [request])
                case Purge():
                    purge = partial(self._store.purge, operation.instance_ids, self._clock.now())
                    self._spawn(self._answer(request, purge), [request])
                case History():
                    self._spawn(self._answer(request, partial(self._store.history, operation.instance_id)), [request])
                case Unwatch():
                    self._watches.remove(operation.watch)
                case _:
                    assert_never(operation)
        if creates:
            self._ask_to_create(creates)
        if sends:
            self._spawn(self._send(sends), [request for request, _ in sends])
        if unknown:
            self._spawn(self._watches.look_at(unknown), ())

    def _spawn(self, work: Coroutine[Any, Any, None], answers: Sequence[Request]) -> None:
        """Do some work beside; if it is cut short, the requests that it `answers` hear so."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = answers
        task.add_done_callback(self._tasks.pop)

    async def _answer(self, request: Request, ask: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        try:
            reply = await ask()
        except (StoreUnavailableError, ValueError) as error:
            reply = error
        request.reply(reply)

    # ------------------------------------------------------------------ creating

    def _ask_to_create(self, creates: Sequence[tuple[Request, Create]]) -> None:
        """One call of the store at a time; what is asked meanwhile goes together into the next."""
        self._creates += creates
        if not self._creating:
            self._create_next()

    def _create_next(self) -> None:
        if self._creates and not self._is_stopped:
            creates, self._creates = self._creates, []
            self._creating = {create.start.instance.instance_id for _, create in creates}
            self._spawn(self._create(creates), [request for request, _ in creates])

    async def _create(self, creates: Sequence[tuple[Request, Create]]) -> None:
        starts = [create.start for _, create in creates]
        holders = self._expect(start.message for start in starts)
        try:
            in_the_way = await self._store.create(starts)
        except StoreUnavailableError as error:
            self._not_expected((start.message for start in starts), holders)
            for instance_id in self._answered():
                self._wake(instance_id)
            for request, _ in creates:
                request.reply(error)
            self._holder.signal()
            return
        unseen = self._answered()
        reading: dict[int, Partition] = {}
        for (request, create), existing, holder in zip(creates, in_the_way, holders, strict=True):
            start = create.start
            if existing is None:
                self._created(start, is_new=start.instance.instance_id in unseen and not create.may_repeat)
            elif start.instance.instance_id in unseen:
                self._wake(start.instance.instance_id)
            if start.message is not None:
                reading |= self._stored(start.message, holder, is_taken=existing is None, may_repeat=create.may_repeat)
            request.reply(existing)
        for partition in reading.values():
            self._spawn(self._holder.read_again(partition), ())
        self._holder.signal()

    def _answered(self) -> set[str]:
        """The store has answered; returns the instances asked for of which nothing was seen meanwhile."""
        unseen, self._creating = self._creating, set()
        self._create_next()
        return unseen

    def _wake(self, instance_id: str) -> None:
        """Go on with an instance that is not a new one: a lease taken meanwhile has left it to whoever was creating."""
        partition = self._holder.partition_of(instance_id)
        if partition is not None:
            partition.wake(instance_id)

    def _created(self, start: Start, *, is_new: bool) -> None:
        """Begin an instance's session, if it starts at once; if it may have begun already, look where it stands."""
        instance_id = start.instance.instance_id
        partition = self._holder.partition_of(instance_id)
        if partition is None:
            return
        if not is_new:
            if start.message is None:
                partition.wake(instance_id)
            return
        session = partition.sessions.get(instance_id)
        partition.created(start.instance, starts_later=start.message is not None)
        if session is not None and partition.sessions.get(instance_id) is not session:
            self._holder.forget(instance_id)
        if partition.wants_walk:
            self._spawn(self._holder.read_again(partition), ())

    # ------------------------------------------------------------------ sending

    async def _send(self, sends: Sequence[tuple[Request, Send]]) -> None:
        messages = [send.message for _, send in sends]
        holders = self._expect(messages)
        try:
            statuses = await self._store.send(messages, self._clock.now())
        except StoreUnavailableError as error:
            self._not_expected(messages, holders)
            for request, _ in sends:
                request.reply(error)
            return
        reading: dict[int, Partition] = {}
        for (_, send), status, holder in zip(sends, statuses, holders, strict=True):
            is_taken = status is not None and takes_mail(status, send.message.event)
            reading |= self._stored(send.message, holder, is_taken=is_taken, may_repeat=send.may_repeat)
        for partition in reading.values():
            await self._holder.read_again(partition)
        for (request, _), status in zip(sends, statuses, strict=True):
            request.reply(status)
        self._holder.signal()

    # ------------------------------------------------------------------ mail that clients store

    def _expect(self, messages: Iterable[Message | None]) -> list[Partition | None]:
        """The partitions here that messages are for; each is told that its message is about to be stored."""
        holders: list[Partition | None] = []
        for message in messages:
            partition = None if message is None else self._holder.partition_of(message.instance_id)
            if partition is not None and message is not None:
                partition.expect(message.message_id)
            holders.append(partition)
        return holders

    def _not_expected(self, messages: Iterable[Message | None], holders: Sequence[Partition | None]) -> None:
        for message, partition in zip(messages, holders, strict=True):
            if partition is not None and message is not None:
                partition.not_expected(message.message_id)

    def _stored(
        self, message: Message, holder: Partition | None, *, is_taken: bool, may_repeat: bool
    ) -> dict[int, Partition]:
        """Hand a message over to its partition, or where it may have been used up by now, say whose mail to read.

        Args:
            holder: its partition, if that was here when the store was asked.
            is_taken: the store has it, and did not refuse it.
        """
        now = self._clock.now()
        partition = self._holder.partition_of(message.instance_id)
        is_far = message.deliver_at is not None and message.deliver_at > now + self._holder.settings.timer_horizon
        if is_taken and not is_far and partition is not None and partition is holder and not may_repeat:
            partition.hand_over(message, now)
            return {}
        if holder is not None:
            holder.not_expected(message.message_id)
        if not is_taken or is_far or partition is None:
            return {}
        return {partition.lease.partition: partition}


def _refuse(requests: Iterable[Request]) -> None:
    stopped = HostStoppedError("the engine has stopped")
    for request in requests:
        request.reply(stopped)
