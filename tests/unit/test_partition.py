"""The working memory of a lease holder: what is taken in, in which order, and when it may be forgotten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from perdure.core.events import EventRaised, TaskCompleted, TimerFired
from perdure.core.records import CommitOutcome, Instance, Lease, Message, RuntimeStatus, StoredInstance
from perdure.core.state import RuntimeState
from perdure.engine.partition import Partition

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
EXECUTION = "0123456789abcdef0123456789abcdef"


def row(created_by: str = EXECUTION) -> Instance:
    return Instance("i", created_by, "orchestrator", RuntimeStatus.PENDING, NOW, NOW, created_by)


def event(name: str) -> Message:
    return Message(name, "i", None, EventRaised(NOW, name))


def opened() -> Partition:
    partition = Partition(Lease(0, "host", 1, NOW + timedelta(seconds=30)))
    partition.opened(NOW)
    return partition


def begin_episode(partition: Partition) -> RuntimeState:
    """Run the instance's first or next episode up to its checkpoint."""
    (item,) = partition.take_work(10)
    state = partition.sessions.get("i") or partition.loaded(StoredInstance(row(), 0))
    partition.computed(state.apply(state.accept(item.mail, NOW), (), None))
    return state


def commit(partition: Partition, stale: frozenset[str] = frozenset()) -> None:
    partition.take_batch(10)
    partition.committed(CommitOutcome(stale=stale))


def walk(partition: Partition, *mail: Message) -> None:
    partition.walk_began()
    partition.receive(mail, NOW)
    partition.walk_ended(NOW)


def next_mail(partition: Partition) -> list[str]:
    """Ids of the mail that the instance would process now."""
    return [message.message_id for item in partition.take_work(10) for message in item.mail]


# ---------------------------------------------------------------------- order


def test_mail_handed_over_before_the_first_walk_ended_does_not_overtake_what_that_reads():
    partition = Partition(Lease(0, "host", 1, NOW + timedelta(seconds=30)))

    partition.hand_over(event("second"), NOW)
    walk(partition, event("first"))
    partition.opened(NOW)

    assert next_mail(partition) == ["first", "second"]


def test_mail_handed_over_and_read_by_the_first_walk_too_is_taken_in_once():
    partition = Partition(Lease(0, "host", 1, NOW + timedelta(seconds=30)))

    partition.hand_over(event("e"), NOW)
    walk(partition, event("e"))
    partition.opened(NOW)

    assert next_mail(partition) == ["e"]


def test_mail_handed_over_does_not_overtake_mail_that_is_read_anew():
    """The answer to the instance's creation comes after an event for it."""
    partition = opened()
    partition.hand_over(event("first"), NOW)
    partition.created(row())

    partition.hand_over(event("second"), NOW)
    walk(partition, event("first"))

    assert next_mail(partition) == ["first", "second"]


def test_timers_that_are_due_together_come_in_order_of_time():
    partition = opened()
    for seconds in (3, 1, 2):
        due = NOW + timedelta(seconds=seconds)
        partition.receive([Message(f"t{seconds}", "i", EXECUTION, TimerFired(due, seconds, due), due)], NOW)

    partition.tick(NOW + timedelta(seconds=2.5))

    assert next_mail(partition) == ["t1", "t2"]


# ---------------------------------------------------------------------- forgetting


def test_used_up_mail_is_still_known_to_a_walk_that_began_before_the_commit():
    partition = opened()
    partition.receive([event("e")], NOW)

    partition.walk_began()
    begin_episode(partition)
    commit(partition)
    partition.receive([event("e")], NOW)
    partition.walk_ended(NOW)

    assert next_mail(partition) == []


def test_used_up_mail_is_forgotten_after_a_walk_that_began_after_the_commit():
    partition = opened()
    partition.receive([event("e")], NOW)
    begin_episode(partition)
    commit(partition)

    walk(partition)
    partition.receive([event("e")], NOW)

    assert next_mail(partition) == ["e"]


def test_used_up_mail_is_known_as_long_as_the_client_that_sends_it_has_no_answer():
    partition = opened()
    partition.expect("e")
    partition.receive([event("e")], NOW)
    begin_episode(partition)
    commit(partition)
    walk(partition)
    walk(partition)

    partition.hand_over(event("e"), NOW)

    assert next_mail(partition) == []


# ---------------------------------------------------------------------- instances that clients replace


def test_the_stored_mail_of_a_stale_checkpoint_is_read_anew():
    partition = opened()
    partition.receive([event("still there"), event("gone")], NOW)
    begin_episode(partition)
    commit(partition, stale=frozenset({"i"}))
    assert partition.wants_walk

    walk(partition, event("still there"))

    assert next_mail(partition) == ["still there"]


def test_a_result_that_came_during_a_stale_episode_is_not_lost():
    partition = opened()
    partition.receive([event("e")], NOW)
    begin_episode(partition)
    result = Message("a", "i", EXECUTION, TaskCompleted(NOW, 0, "1"), is_stored=False)
    partition.activity_finished(result)

    commit(partition, stale=frozenset({"i"}))

    assert partition.has_result("a")
    assert next_mail(partition) == ["a"]


def test_a_repeated_request_to_create_leaves_the_running_session_alone():
    partition = opened()
    partition.created(row())
    state = begin_episode(partition)
    commit(partition)

    partition.created(row())

    assert partition.sessions["i"] is state
    assert not partition.has_work


def test_an_idle_session_of_an_instance_that_was_replaced_elsewhere_is_dropped():
    partition = opened()
    partition.created(row())
    begin_episode(partition)
    commit(partition)

    assert partition.found_unstarted("i")
    assert "i" not in partition.sessions


def test_a_session_that_has_yet_to_begin_is_not_taken_for_one_that_was_replaced():
    partition = opened()
    partition.created(row())

    assert not partition.found_unstarted("i")
    assert "i" in partition.sessions
