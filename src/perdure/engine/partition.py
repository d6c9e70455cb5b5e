"""Mail, timers, sessions and unfinished checkpoints of the instances that one lease covers.

Rule 1: what runs next, what is committed next and what may leave is decided here and nowhere else.
Rule 2: no await, no clock, no store, no logging. Time comes in as `now`; effects go out as return values.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from datetime import datetime
from heapq import heappop, heappush

from msgspec import Struct
from msgspec.structs import replace

from perdure.core.entities import Entity
from perdure.core.records import (
    ActivityTask,
    Batch,
    Checkpoint,
    CommitOutcome,
    Instance,
    Lease,
    Message,
    RuntimeStatus,
    StoredInstance,
)
from perdure.core.state import RuntimeState

Session = RuntimeState | Entity


class WorkItem(Struct, frozen=True):
    """One instance with the mail to process now; none if it goes on by itself."""

    instance_id: str
    mail: Sequence[Message]


class _Parked(Struct, frozen=True):
    """Mail that waits, and the request that made the instance it is for."""

    created_by: str
    mail: Sequence[Message]


_NOTHING = _Parked("", ())


class Released(Struct, frozen=True):
    """What may leave now that its cause is durable.

    Attributes:
        activities: calls to start.
        messages: mail to hand to the partitions of this host that it is for; it is stored in any case.
        turned: the rows that began an instance's life or ended it.
        ended: ids of instances whose session is over.
    """

    activities: Sequence[ActivityTask]
    messages: Sequence[Message]
    turned: Sequence[Instance]
    ended: Sequence[str]


class Partition:
    """The working memory of a lease holder.

    Invariants: an instance is in at most one episode from `take_work` until `committed` or `discard`; stored mail that
    is in memory, or consumed by a commit that a `receive` or a client's send under way may not have seen, is in `_held`
    and is not taken in again; nothing leaves a checkpoint before `committed` has been told that it is durable.

    Attributes:
        lease: the right by which all this is here.
        sessions: instances in memory, least recently used first.
        is_open: all its mail has been read once, so it may run.
        is_dropped: the lease is lost or given up; whoever still holds on to this must let go.
    """

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.sessions: OrderedDict[str, Session] = OrderedDict()
        self.is_open = False
        self.is_dropped = False
        self._mail: dict[str, list[Message]] = {}
        self._timers: list[tuple[datetime, int, Message]] = []
        self._timer_ids: set[str] = set()
        self._timer_count = 0
        self._held: set[str] = set()
        self._consumed: set[str] = set()
        self._forgettable: set[str] = set()
        self._expected: set[str] = set()
        self._unread: set[str] = set()  # left to the store, and no walk has begun since
        self._left: set[str] = set()  # instances whose mail that is: none of theirs is taken in before it
        self._is_behind = False  # there is, or was when the walk under way began, such mail
        self._early: list[Message] = []  # handed over, and to come after what is still to be read
        self._results: set[str] = set()
        self._woken: set[str] = set()
        self._parked: dict[str, _Parked] = {}  # of instances that are not to run yet, goes before other mail
        self._ready: dict[str, None] = {}
        self._busy: dict[str, Sequence[Message]] = {}
        self._computed: list[Checkpoint] = []
        self._discarded: list[str] = []
        self._replies: list[Message] = []
        self._in_flight: Batch | None = None
        self._quarantined: set[str] = set()

    # ------------------------------------------------------------------ in

    def receive(self, mail: Iterable[Message], now: datetime) -> None:
        """Take in mail that the store holds, due or not; what is known already is ignored."""
        for message in mail:
            if message.message_id not in self._held and message.instance_id not in self._left:
                self._take_in(message, now)

    def _take_in(self, message: Message, now: datetime) -> None:
        self._held.add(message.message_id)
        if message.deliver_at is not None and message.deliver_at > now:
            self._timer_count += 1
            self._timer_ids.add(message.message_id)
            heappush(self._timers, (message.deliver_at, self._timer_count, message))
        else:
            self._deliver(message)

    def expect(self, message_id: str) -> None:
        """A client here has this message stored; until `handed_over` says so, a walk may find it first."""
        self._expected.add(message_id)

    def not_expected(self, message_id: str) -> None:
        """Nobody here will hand this message over any more."""
        self._expected.discard(message_id)

    def hand_over(self, message: Message, now: datetime) -> None:
        """Take in mail that was stored from here. It must not overtake what a walk has yet to read.

        Carried mail does: the next generation begins with it, and begins at once.
        """
        self._expected.discard(message.message_id)
        if message.is_carried:
            if message.message_id not in self._held:
                self._take_in(message, now)
        elif self.is_open and not self._is_behind:
            self.receive((message,), now)
        else:
            self._early.append(message)

    def opened(self, now: datetime) -> None:
        """All its mail has been read once."""
        self.is_open = True
        self._caught_up(now)

    def _caught_up(self, now: datetime) -> None:
        if not self._unread:
            self._is_behind = False
            early, self._early = self._early, []
            self.receive(early, now)

    def walk_began(self) -> None:
        """A walk through all due mail begins: what was consumed before cannot come up in it."""
        self._held -= self._unread
        self._unread = set()
        self._left = set()
        self._forgettable |= self._consumed
        self._consumed = set()

    def walk_ended(self, now: datetime) -> None:
        """All pages of that walk have been received."""
        if self.is_open and self._is_behind:
            self._caught_up(now)
        forgotten = self._forgettable - self._expected - {message.message_id for message in self._early}
        self._held -= forgotten
        self._forgettable -= forgotten

    @property
    def wants_walk(self) -> bool:
        """There is mail that only the store can say about whether it is still there."""
        return bool(self._unread)

    def activity_finished(self, result: Message) -> None:
        """Take in the result of an activity that ran here; its message id is the activity's."""
        self._results.add(result.message_id)
        self._deliver(result)

    def has_result(self, activity_id: str) -> bool:
        """The activity has finished here, and its result is not durable yet."""
        return activity_id in self._results

    def created(self, instance: Instance, *, starts_later: bool = False) -> None:
        """A client has durably created this instance, perhaps in place of another, or perhaps long ago.

        One that `starts_later` has no session before it has mail.
        """
        instance_id = instance.instance_id
        session = self.sessions.get(instance_id)
        if session is not None and session.instance.created_by == instance.created_by:
            return
        self._read_anew(instance_id, [*self._parked.pop(instance_id, _NOTHING).mail, *self._mail.get(instance_id, ())])
        self.sessions.pop(instance_id, None)
        if starts_later:
            return
        if instance_id not in self._busy:
            self.sessions[instance_id] = RuntimeState(StoredInstance(instance, 0))
        self.wake(instance_id)

    def found_unstarted(self, instance_id: str) -> bool:
        """The store has the instance at position 0; whether an idle session, now dropped, was of one before it."""
        session = self.sessions.get(instance_id)
        is_idle = instance_id not in self._busy and instance_id not in self._ready
        if session is None or not is_idle or session.position == 0:
            return False
        del self.sessions[instance_id]
        return True

    def wake(self, instance_id: str) -> None:
        """The instance has something to do without mail."""
        self._woken.add(instance_id)
        self._make_ready(instance_id)

    def tick(self, now: datetime) -> None:
        """Deliver the timers that are due, in order of time."""
        while self._timers and self._timers[0][0] <= now:
            _, _, message = heappop(self._timers)
            if message.message_id in self._timer_ids:
                self._timer_ids.remove(message.message_id)
                self._deliver(message)

    @property
    def next_due(self) -> datetime | None:
        """When the next timer in memory is due."""
        while self._timers and self._timers[0][2].message_id not in self._timer_ids:
            heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    # ------------------------------------------------------------------ episodes

    @property
    def has_work(self) -> bool:
        """`take_work` would return something."""
        return bool(self._ready) and self.is_open

    @property
    def is_idle(self) -> bool:
        """Nothing runs, and nothing waits to run or to be committed."""
        return not (self._ready or self._busy or self._discarded or self._in_flight is not None)

    def take_work(self, limit: int) -> list[WorkItem]:
        """The instances whose turn it is, with all their mail; each is busy until `computed` or `discard`."""
        items: list[WorkItem] = []
        while self._ready and len(items) < limit:
            instance_id = next(iter(self._ready))
            del self._ready[instance_id]
            self._woken.discard(instance_id)
            if instance_id in self.sessions:
                self.sessions.move_to_end(instance_id)
            mail: Sequence[Message] = self._mail.pop(instance_id, ())
            if instance_id in self._parked:
                mail = [*self._parked[instance_id].mail, *mail]
                if instance_id in self.sessions:
                    del self._parked[instance_id]
            self._busy[instance_id] = mail
            items.append(WorkItem(instance_id, mail))
        return items

    def loaded(self, stored: StoredInstance) -> Session:
        """Begin a session from a snapshot."""
        is_entity = stored.instance.entity is not None
        return self.begun(Entity(stored.instance, stored.position) if is_entity else RuntimeState(stored))

    def begun(self, session: Session) -> Session:
        """Keep a session of a busy instance, without the mail that was parked for another that had its id."""
        instance = session.instance
        self.sessions[instance.instance_id] = session
        parked = self._parked.pop(instance.instance_id, _NOTHING)
        if parked.mail and parked.created_by != instance.created_by:  # another client has replaced what it was for
            self._leave_to_store(parked.mail)
            results = [message for message in parked.mail if not message.is_stored]
            self._busy[instance.instance_id] = [*results, *self._busy[instance.instance_id][len(parked.mail) :]]
        return session

    def mail_of(self, instance_id: str) -> Sequence[Message]:
        """The mail of an instance that is busy."""
        return self._busy[instance_id]

    def computed(self, checkpoint: Checkpoint) -> None:
        """An episode has a checkpoint, to be committed."""
        self._computed.append(checkpoint)

    def discard(self, instance_id: str, replies: Iterable[Message]) -> None:
        """No episode came of an instance's mail: it is to be deleted, and the instance is free again.

        Args:
            replies: what is to be sent because of it.
        """
        mail = self._busy.pop(instance_id)
        self._parked.pop(instance_id, None)
        self._results.difference_update(message.message_id for message in mail)
        self._discarded.extend(message.message_id for message in mail if message.is_stored)
        self._replies.extend(replies)
        if instance_id in self._mail or instance_id in self._woken:
            self._make_ready(instance_id)

    def keep(self, instance_id: str, mail: Sequence[Message], *, goes_on: bool) -> None:
        """Mail that a batch about to be committed has left over is for the next, before whatever comes meanwhile.

        Args:
            goes_on: some of it can be taken at once, so the instance needs no further mail to be ready again.
        """
        if mail:
            self._parked[instance_id] = _Parked(self.sessions[instance_id].instance.created_by, mail)
        if goes_on:
            self._woken.add(instance_id)

    def park(self, instance_id: str) -> None:
        """The instance is not to run now: its mail waits for the next message, or for whoever wakes it.

        Its session ends: as it commits nothing, it would not be found stale when another client replaces the instance.
        """
        created_by = self.sessions.pop(instance_id).instance.created_by
        self._parked[instance_id] = _Parked(created_by, self._busy.pop(instance_id))
        if instance_id in self._mail or instance_id in self._woken:
            self._make_ready(instance_id)

    def is_parked(self, instance_id: str) -> bool:
        """Some of the instance's mail waits for more than its turn."""
        return instance_id in self._parked

    def look_again(self, instance_id: str) -> None:
        """End the instance's session, and leave it to the store which of its mail is still for it."""
        self._begin_again(instance_id, self._busy.pop(instance_id))

    def deliver_again(self, mail: Iterable[Message]) -> None:
        """Mail that an episode has left over is for the next."""
        for message in mail:
            self._deliver(message)

    def quarantine(self, instance_id: str) -> None:
        """Leave an instance alone that cannot be run: it stays busy, its mail stays stored, until the next holder."""
        self.sessions.pop(instance_id, None)
        self._quarantined.add(instance_id)

    def is_quarantined(self, instance_id: str) -> bool:
        """`quarantine` was told about it."""
        return instance_id in self._quarantined

    def idle_sessions(self, sessions_max: int) -> list[str]:
        """Ids of sessions to give up, least recently used first, so that `sessions_max` remain; they are gone here."""
        surplus = len(self.sessions) - sessions_max
        if surplus <= 0:
            return []
        idle = [each for each in self.sessions if each not in self._busy and each not in self._ready][:surplus]
        for instance_id in idle:
            del self.sessions[instance_id]
        return idle

    # ------------------------------------------------------------------ commits

    @property
    def has_checkpoints(self) -> bool:
        """`take_batch` would return something."""
        return bool(self._computed or self._discarded) and self._in_flight is None

    def take_batch(self, limit: int) -> Batch:
        """What to commit now; one batch at a time is under way."""
        assert self._in_flight is None, "a batch of this partition is under way"
        taken, self._computed = self._computed[:limit], self._computed[limit:]
        self._in_flight = Batch(self.lease, taken, self._discarded, self._replies)
        self._discarded, self._replies = [], []
        return self._in_flight

    def committed(self, outcome: CommitOutcome) -> Released:
        """The batch under way is durable, but for what `outcome` names: release its effects.

        A stale instance was changed by a client meanwhile: its session ends, and its mail is read anew.
        """
        batch = self._in_flight
        assert batch is not None, "no batch of this partition is under way"
        self._in_flight = None
        self._consumed.update(batch.discarded)
        activities: list[ActivityTask] = []
        messages: list[Message] = [*batch.replies]
        turned: list[Instance] = []
        ended: list[str] = []
        for checkpoint in batch.checkpoints:
            instance_id = checkpoint.instance.instance_id
            mail = self._busy.pop(instance_id)
            if instance_id in outcome.stale:
                ended.append(instance_id)
                self._begin_again(instance_id, mail)
                continue
            self._settle(checkpoint, mail)
            activities.extend(checkpoint.activities)
            messages.extend(checkpoint.messages)
            status = checkpoint.instance.status
            if checkpoint.position == 0 and checkpoint.execution_id == checkpoint.instance.created_by:
                turned.extend(_begun(checkpoint.instance))
            if status.is_terminal:
                turned.append(checkpoint.instance)
                self.sessions.pop(instance_id, None)
                ended.append(instance_id)
            if checkpoint.replaces_history and not checkpoint.position_after:
                self._woken.add(instance_id)
            if instance_id in self._mail or instance_id in self._woken:
                self._make_ready(instance_id)
        return Released(activities, messages, turned, ended)

    def _settle(self, checkpoint: Checkpoint, mail: Sequence[Message]) -> None:
        """The mail of a committed episode is used up, timers that it cancelled included."""
        if mail and self._results:
            self._results.difference_update(message.message_id for message in mail if not message.is_stored)
        if not checkpoint.consumed:
            return
        self._consumed.update(checkpoint.consumed)
        self._held.update(checkpoint.consumed)
        self._timer_ids.difference_update(checkpoint.consumed)
        instance_id = checkpoint.instance.instance_id
        waiting = self._mail.get(instance_id)
        if waiting is not None:  # a timer may have fired during the episode that cancelled it
            self._replace_mail(instance_id, [each for each in waiting if each.message_id not in self._consumed])

    def _begin_again(self, instance_id: str, mail: Sequence[Message]) -> None:
        self.sessions.pop(instance_id, None)
        self._parked.pop(instance_id, None)  # it is part of `mail`
        self._read_anew(instance_id, [*mail, *self._mail.get(instance_id, ())])
        self.wake(instance_id)

    def _read_anew(self, instance_id: str, mail: Sequence[Message]) -> None:
        """Leave it to the store which of this mail is still there: what a client replaced took its mail with it."""
        self._leave_to_store(mail)
        self._replace_mail(instance_id, [message for message in mail if not message.is_stored])

    def _leave_to_store(self, mail: Sequence[Message]) -> None:
        stored = [message for message in mail if message.is_stored]
        if not stored:
            return
        self._unread.update(message.message_id for message in stored)
        self._left.update(message.instance_id for message in stored)
        self._is_behind = True

    # ------------------------------------------------------------------ mail of one instance

    def _deliver(self, message: Message) -> None:
        waiting = self._mail.setdefault(message.instance_id, [])
        if message.is_carried:
            waiting.insert(sum(each.is_carried for each in waiting), message)
        else:
            waiting.append(message)
        self._make_ready(message.instance_id)

    def _replace_mail(self, instance_id: str, mail: list[Message]) -> None:
        if mail:
            self._mail[instance_id] = mail
        else:
            self._mail.pop(instance_id, None)

    def _make_ready(self, instance_id: str) -> None:
        if instance_id not in self._busy:
            self._ready[instance_id] = None


def _begun(instance: Instance) -> Iterable[Instance]:
    """The row that began an instance's life, from that of its first checkpoint; none if it ended without having run."""
    match instance.status:
        case RuntimeStatus.RUNNING:
            return (instance,)
        case RuntimeStatus.TERMINATED:
            return ()
        case _:
            return (replace(instance, status=RuntimeStatus.RUNNING),)
