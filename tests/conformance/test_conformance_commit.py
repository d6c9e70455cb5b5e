"""Sentence 3 of the store contract: what one commit applies, what it leaves out, and what a checkpoint changes."""

from __future__ import annotations

import asyncio

import pytest
from conformance_kit import NOW, SECOND, Hub, a_result, an_event, an_instance, ids
from msgspec.structs import replace

from perdure.core.actions import (
    CompleteOrchestration,
    ContinueAsNew,
    CreateSubOrchestration,
    CreateTimer,
    ScheduleTask,
    SendEvent,
)
from perdure.core.events import (
    EventRaised,
    ExecutionResumed,
    ExecutionRewound,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
)
from perdure.core.failures import FailureDetails
from perdure.core.records import Batch, CommitOutcome, Instance, InstanceQuery, Message, RuntimeStatus, Start
from perdure.core.state import RuntimeState
from perdure.errors import PerdureError


def child(instance_id: str, event_id: int = 0, input: str | None = None) -> CreateSubOrchestration:
    return CreateSubOrchestration(event_id, "ship", input, instance_id, None)


DONE = CompleteOrchestration(9, '"done"')


# ---------------------------------------------------------------------- what a checkpoint changes


async def test_a_checkpoint_becomes_the_row_its_history_and_its_mail(hub: Hub):
    await hub.create("order-17", input='{"pieces": 3}', tags={"team": "shop"}, version="2")
    event = await hub.raise_event("order-17", "paid", "true")

    checkpoint = await hub.step(
        "order-17", ScheduleTask(0, "charge", "1"), CreateTimer(1, NOW + SECOND), custom_status='"charging"'
    )

    stored = await hub.load("order-17")
    assert stored.instance == checkpoint.instance == await hub.get("order-17")
    assert stored.instance.custom_status == '"charging"'
    assert (stored.position, stored.events) == (1, checkpoint.events)
    (row,) = await hub.store.history("order-17")
    assert (row.position, row.execution_id, row.custom_status) == (0, checkpoint.execution_id, '"charging"')
    assert (row.events, row.consumed, row.is_intact) == (checkpoint.events, (event.message_id,), True)
    assert await hub.mail("order-17", NOW + SECOND) == list(checkpoint.messages)


async def test_checkpoints_follow_each_other_at_positions_without_gaps(hub: Hub):
    await hub.create("order-17")
    checkpoint = await hub.step("order-17", ScheduleTask(0, "charge", None))
    for number in range(1, 30):
        mail = [a_result(checkpoint, number - 1, str(number))]
        checkpoint = await hub.step("order-17", ScheduleTask(number, "charge", None), mail=mail)

    rows = await hub.store.history("order-17")

    assert [row.position for row in rows] == list(range(30))
    assert (await hub.load("order-17")).events == tuple(event for row in rows for event in row.events)


async def test_every_field_of_a_finished_instance_is_kept(hub: Hub):
    cause = FailureDetails("KeyError", "'x'")
    failure = FailureDetails("ValueError", "höher", "Traceback …", cause, is_non_retriable=True)
    await hub.create("order-17", version="2", tags={"a": "1", "ß": ""})

    checkpoint = await hub.step("order-17", CompleteOrchestration(0, failure=failure))

    found = await hub.get("order-17")
    assert found == checkpoint.instance
    assert (found.status, found.failure, found.completed_at) == (RuntimeStatus.FAILED, failure, hub.now)
    assert found.created_at == NOW


async def test_one_batch_may_carry_an_instance_forward_twice(hub: Hub):
    await hub.create("order-17")
    state = RuntimeState(await hub.load("order-17"))
    first = state.apply(state.accept([], NOW), [ScheduleTask(0, "charge", None)], None)
    second = state.apply(state.accept([a_result(first, 0)], NOW), [DONE], None)

    assert await hub.commit(first, second) == CommitOutcome()

    stored = await hub.load("order-17")
    assert (stored.position, stored.events) == (2, (*first.events, *second.events))


# ---------------------------------------------------------------------- stale checkpoints


async def test_a_checkpoint_of_another_position_is_left_out_and_reported(hub: Hub):
    await hub.create("order-17")
    stale = await hub.compute("order-17", child("ship-17"))
    event = await hub.raise_event("order-17")
    await hub.step("order-17", ScheduleTask(0, "charge", None), mail=())
    before = await hub.dump()

    outcome = await hub.commit(replace(stale, consumed=(event.message_id,)))

    assert outcome == CommitOutcome(stale=frozenset(["order-17"]))
    assert await hub.dump() == before


async def test_a_checkpoint_repeated_is_stale_and_changes_nothing(hub: Hub):
    await hub.create("order-17")
    checkpoint = await hub.step("order-17", child("ship-17"))
    before = await hub.dump()

    assert (await hub.commit(checkpoint)).stale == {"order-17"}
    assert await hub.dump() == before


async def test_a_checkpoint_of_an_instance_that_is_not_there_is_stale(hub: Hub):
    await hub.create("order-17")
    checkpoint = await hub.compute("order-17")
    nobody = replace(checkpoint, instance=replace(checkpoint.instance, instance_id="order-18"))

    assert (await hub.commit(nobody)).stale == {"order-18"}
    assert list(await hub.dump()) == ["order-17"]


async def test_the_rest_of_a_batch_with_stale_checkpoints_is_applied(hub: Hub):
    some = [each for each, _ in zip(hub.neighbours("order"), range(9), strict=False)]
    for each in some:
        await hub.create(each)
    events = [await hub.raise_event(each) for each in some]
    checkpoints = [await hub.compute(each, ScheduleTask(0, "charge", None)) for each in some]
    for each in some[::2]:
        await hub.step(each, mail=())
    unwanted = await hub.raise_event(some[0], "unwanted")

    outcome = await hub.store.commit([Batch(hub.leases[0], checkpoints, [unwanted.message_id])])

    assert outcome == CommitOutcome(stale=frozenset(some[::2]))
    for number, each in enumerate(some):
        is_stale = number % 2 == 0
        assert ids(await hub.mail(each)) == ([events[number].message_id] if is_stale else [])
        assert ((await hub.open_work()).count(each) == 0) == is_stale


async def test_an_id_used_again_never_matches_a_fence_of_its_former_owner(hub: Hub):
    await hub.create("order-17")
    old = await hub.compute("order-17", DONE)
    await hub.store.create([Start(an_instance("order-17"), frozenset(RuntimeStatus))])

    assert (await hub.commit(old)).stale == {"order-17"}
    assert (await hub.load("order-17")).position == 0


async def test_a_generation_that_is_over_never_matches_a_fence(hub: Hub):
    await hub.create("order-17")
    first = await hub.compute("order-17", DONE)
    await hub.step("order-17", ContinueAsNew(0, "1", ()))
    second = await hub.compute("order-17", DONE)
    await hub.step("order-17", ContinueAsNew(0, "2", ()))

    for old in (first, second):
        assert (await hub.commit(old)).stale == {"order-17"}


# ---------------------------------------------------------------------- whole or not at all


async def test_if_a_commit_raises_each_checkpoint_is_whole_or_not_there_at_all(hub: Hub):
    good, bad, late = (each for each, _ in zip(hub.neighbours("order"), range(3), strict=False))
    checkpoints = []
    for each in (good, bad, late):
        await hub.create(each)
        await hub.raise_event(each)
        result = "\ud800" if each == bad else "1"  # half a surrogate pair: no store can write this
        checkpoints.append(await hub.compute(each, child(f"{each}-child"), ScheduleTask(1, "charge", result)))

    with pytest.raises((ValueError, PerdureError)):
        await hub.commit(*checkpoints)

    dump = await hub.dump()
    assert dump[bad].position == 0
    for each in (good, bad, late):
        is_applied = dump[each].position == 1
        assert len(dump[each].rows) == int(is_applied)
        assert len(dump[each].mail) == int(not is_applied)
        assert (f"{each}-child" in dump) == is_applied
    assert (await hub.commit(checkpoints[2])).lost == frozenset()
    assert (await hub.load(late)).position == 1


async def test_a_commit_of_nothing_is_fine(hub: Hub):
    assert await hub.store.commit([]) == CommitOutcome()
    assert await hub.store.commit([Batch(hub.leases[0], ())]) == CommitOutcome()


async def test_a_thousand_checkpoints_in_one_commit_are_all_applied(hub: Hub):
    some = [f"order-{number}" for number in range(1000)]
    assert await hub.store.create([Start(an_instance(each)) for each in some]) == [None] * 1000
    checkpoints = [
        await hub.compute(each, child(f"{each}-child"), ScheduleTask(1, "x", None), mail=()) for each in some
    ]

    assert await hub.commit(*checkpoints) == CommitOutcome()

    dump = await hub.dump()
    assert len(dump) == 2000
    assert all(dump[each].position == 1 and len(dump[f"{each}-child"].mail) == 1 for each in some)


async def test_operations_at_the_same_time_do_not_mix(hub: Hub):
    some = [f"order-{number}" for number in range(50)]

    async def live(instance_id: str) -> None:
        await hub.create(instance_id)
        for number in range(5):
            await hub.raise_event(instance_id, f"event-{number}")
            await hub.step(instance_id, *([DONE] if number == 4 else []))

    await asyncio.gather(*map(live, some))

    for each in some:
        stored = await hub.load(each)
        assert stored.instance.status is RuntimeStatus.COMPLETED
        assert [event.name for event in stored.events if isinstance(event, EventRaised)] == [
            f"event-{number}" for number in range(5)
        ]


# ---------------------------------------------------------------------- children


async def test_a_child_gets_a_row_that_its_start_message_wakes(hub: Hub):
    await hub.create("order-17")

    checkpoint = await hub.step("order-17", child("ship-17", input="[1]"))

    dump = (await hub.dump())["ship-17"]
    assert (dump.instance,) == checkpoint.children
    assert (dump.position, dump.has_open_work, dump.rows) == (0, False, ())
    assert await hub.mail("ship-17") == list(dump.mail) == list(checkpoint.messages)


async def test_a_running_instance_is_not_replaced_by_a_child(hub: Hub):
    await hub.create("order-17")
    await hub.create("ship-17")
    await hub.step("ship-17", ScheduleTask(0, "pack", None))
    before = (await hub.dump())["ship-17"]

    checkpoint = await hub.step("order-17", child("ship-17"))

    after = (await hub.dump())["ship-17"]
    assert replace(after, mail=()) == before
    assert list(after.mail) == list(checkpoint.messages)


async def test_an_ended_instance_is_replaced_by_a_child_history_and_mail_included(hub: Hub):
    await hub.create("order-17")
    await hub.create("ship-17")
    await hub.raise_event("ship-17", "too late")
    await hub.step("ship-17", DONE, mail=())

    checkpoint = await hub.step("order-17", child("ship-17"))

    dump = (await hub.dump())["ship-17"]
    assert (dump.instance,) == checkpoint.children
    assert (dump.position, dump.has_open_work, dump.rows) == (0, False, ())
    assert list(dump.mail) == list(checkpoint.messages)
    await hub.step("ship-17", CompleteOrchestration(0, "2"))
    await hub.step("order-17", DONE)


async def test_the_mail_of_a_child_that_is_to_be_refused_outlives_the_instance_that_was_in_its_way(hub: Hub):
    """Who is in the way ends, and gives way to another, before anybody has looked at the start of the child."""
    await hub.create("ship-17")
    await hub.create("order-17")
    refused = await hub.step("order-17", child("ship-17"))
    await hub.step("ship-17", DONE, mail=())

    assert await hub.store.create([Start(an_instance("ship-17"))]) == [None]

    assert await hub.mail("ship-17") == list(refused.messages)


async def test_two_parents_in_one_commit_that_call_the_same_child_get_one(hub: Hub):
    first, second = (each for each, _ in zip(hub.neighbours("order"), range(2), strict=False))
    for each in (first, second):
        await hub.create(each)
    checkpoints = [await hub.compute(each, child("ship-17")) for each in (first, second)]

    assert await hub.commit(*checkpoints) == CommitOutcome()

    dump = (await hub.dump())["ship-17"]
    assert (dump.instance,) == checkpoints[0].children
    assert list(dump.mail) == [*checkpoints[0].messages, *checkpoints[1].messages]


@pytest.mark.parametrize("ends_first", [True, False])
async def test_the_checkpoints_of_a_batch_are_applied_in_their_order(hub: Hub, ends_first: bool):
    """One ends the instance whose id the other gives to its child."""
    parent, other = (each for each, _ in zip(hub.neighbours("order"), range(2), strict=False))
    await hub.create(parent)
    await hub.create(other)
    await hub.step(other, ScheduleTask(0, "pack", None))
    ending = await hub.compute(other, CompleteOrchestration(1), mail=[an_event(other)])
    calling = await hub.compute(parent, child(other))

    checkpoints = [ending, calling] if ends_first else [calling, ending]
    assert await hub.store.commit([Batch(hub.leases[0], checkpoints)]) == CommitOutcome()

    dump = (await hub.dump())[other]
    if ends_first:
        assert (dump.instance, dump.position, dump.rows) == (calling.children[0], 0, ())
    else:
        assert (dump.instance, dump.position, len(dump.rows)) == (ending.instance, 2, 2)
    assert list(dump.mail) == list(calling.messages)


async def test_an_instance_that_ends_is_not_replaced_by_a_child_of_its_own_name(hub: Hub):
    await hub.create("order-17")

    checkpoint = await hub.step("order-17", child("order-17"), DONE)

    dump = (await hub.dump())["order-17"]
    assert (dump.instance, dump.position, len(dump.rows)) == (checkpoint.instance, 1, 1)


# ---------------------------------------------------------------------- continue as new


async def test_continuing_as_new_begins_again_with_an_empty_history(hub: Hub):
    created = await hub.create("order-17", input="0")
    await hub.step("order-17", ScheduleTask(0, "charge", None))
    hub.now += SECOND

    checkpoint = await hub.step("order-17", ContinueAsNew(1, "1", ()), mail=[an_event("order-17")])

    dump = (await hub.dump())["order-17"]
    assert dump.instance == checkpoint.instance
    assert dump.instance.execution_id != created.execution_id
    assert (dump.instance.input, dump.instance.created_at) == ("1", created.created_at)
    assert (dump.position, dump.rows, dump.has_open_work) == (0, (), True)
    assert (await hub.load("order-17")).events == ()


async def test_mail_outlives_a_generation(hub: Hub):
    """What whoever runs may read stays for the next; what was for the old execution stays until it is discarded."""
    await hub.create("order-17")
    await hub.step("order-17", CreateTimer(0, NOW + SECOND))
    (timer,) = await hub.mail("order-17", NOW + SECOND)
    event = await hub.raise_event("order-17")
    late = replace(an_event("order-17"), execution_id=timer.execution_id)
    await hub.store.send([late], hub.now)

    await hub.step("order-17", ContinueAsNew(1, None, ()), mail=[an_event("order-17", "unstored")])

    assert ids(await hub.mail("order-17", NOW + SECOND)) == [event.message_id, late.message_id]
    assert timer.message_id not in ids(await hub.mail("order-17", NOW + SECOND)), "a generation cancels its timers"
    await hub.discard(late)
    assert ids(await hub.mail("order-17")) == [event.message_id]


async def test_a_hundred_generations_keep_one_row_and_no_history(hub: Hub):
    created = await hub.create("order-17")
    for number in range(100):
        await hub.step("order-17", ContinueAsNew(0, str(number), ()))
    await hub.step("order-17", DONE)

    dump = (await hub.dump())["order-17"]
    assert (dump.position, len(dump.rows), dump.mail) == (1, 1, ())
    assert (dump.instance.input, dump.instance.created_by) == ("99", created.created_by)


async def test_continuing_as_new_gives_the_row_another_input_and_version(hub: Hub):
    await hub.create("order-17", input="0", version="1.0")
    for number, (input, version) in enumerate([("1", "1.1"), (None, None), (None, "2"), ("", None)]):
        checkpoint = await hub.step("order-17", ContinueAsNew(0, input, (), version))

        assert (await hub.get("order-17")) == checkpoint.instance, number
        assert (await hub.load("order-17")).instance == checkpoint.instance


async def test_an_instance_that_continues_as_new_in_a_batch_with_its_next_steps_keeps_only_these(hub: Hub):
    await hub.create("order-17", input="0")
    await hub.step("order-17", ScheduleTask(0, "charge", None))
    state = RuntimeState(await hub.load("order-17"))
    mail = [an_event("order-17")]
    checkpoints = [
        state.apply(state.accept(mail, NOW), actions, None)
        for actions in ([ScheduleTask(1, "charge", None)], [ContinueAsNew(2, "1", ())], [CreateTimer(0, NOW + SECOND)])
    ]

    assert await hub.commit(*checkpoints) == CommitOutcome()

    (row,) = await hub.store.history("order-17")
    assert (row.position, row.events) == (0, checkpoints[-1].events)


# ---------------------------------------------------------------------- rewind


async def test_a_rewind_replaces_the_history_by_one_checkpoint(hub: Hub):
    created = await hub.create("order-17", input="0")
    await hub.raise_event("order-17", "paid")
    await hub.fail("order-17", ScheduleTask(0, "charge", "1"), custom_status='"charging"')
    await hub.tell("order-17", ExecutionRewound(NOW, "try again"))
    hub.now += SECOND
    (told,) = await hub.mail("order-17")

    checkpoint = await hub.rewind("order-17", ScheduleTask(1, "pack", None))

    assert checkpoint.replaces_history
    dump = (await hub.dump())["order-17"]
    assert (dump.instance, dump.position, dump.has_open_work, dump.mail) == (checkpoint.instance, 1, True, ())
    assert (dump.instance.status, dump.instance.output, dump.instance.failure) == (RuntimeStatus.RUNNING, None, None)
    assert (dump.instance.completed_at, dump.instance.created_by) == (None, created.created_by)
    (row,) = dump.rows
    assert (row.position, row.execution_id, row.custom_status) == (0, created.execution_id, '"charging"')
    assert (row.events, row.consumed, row.is_intact) == (checkpoint.events, (told.message_id,), True)
    assert (await hub.load("order-17")).events == checkpoint.events
    assert await hub.open_work() == ["order-17"]
    mail = [a_result(checkpoint, 0), a_result(checkpoint, 1)]
    await hub.step("order-17", DONE, mail=mail)
    assert len(await hub.store.history("order-17")) == 2


async def test_a_rewind_repeated_is_stale_and_changes_nothing(hub: Hub):
    await hub.create("order-17")
    await hub.fail("order-17", ScheduleTask(0, "charge", None))
    first, second = await hub.compute_rewind("order-17"), await hub.compute_rewind("order-17", child("ship-17", 1))
    await hub.commit(first)
    before = await hub.dump()

    for checkpoint in (first, second):
        assert (await hub.commit(checkpoint)).stale == {"order-17"}

    assert await hub.dump() == before


async def test_an_instance_can_fail_and_be_rewound_again_and_again(hub: Hub):
    await hub.create("order-17", input="x" * 100_000)
    await hub.fail("order-17", ScheduleTask(0, "charge", None))
    for number in range(5):
        hub.now += SECOND
        checkpoint = await hub.rewind("order-17")
        assert [each.task_id for each in checkpoint.activities] == [0], number
        await hub.fail("order-17")
    await hub.rewind("order-17")

    await hub.reopen()

    assert (await hub.get("order-17")).input == "x" * 100_000
    assert (await hub.load("order-17")).position == 1
    assert await hub.open_work() == ["order-17"]


async def test_a_rewind_that_calls_a_child_by_its_own_name_does_not_replace_itself(hub: Hub):
    """The call was refused, the refusal failed the instance, and is taken out of its history."""
    await hub.create("order-17")
    await hub.fail("order-17", ScheduleTask(0, "charge", None))

    checkpoint = await hub.rewind("order-17", child("order-17", 1))

    dump = (await hub.dump())["order-17"]
    assert (dump.instance, dump.position, len(dump.rows)) == (checkpoint.instance, 1, 1)
    assert list(dump.mail) == list(checkpoint.messages)


async def test_rewinds_and_other_checkpoints_share_a_batch(hub: Hub):
    some = [each for each, _ in zip(hub.neighbours("order"), range(12), strict=False)]
    for number, each in enumerate(some):
        await hub.create(each, input=str(number))
        await (hub.step if number % 3 else hub.fail)(each, ScheduleTask(0, "charge", None))
    checkpoints = [
        await (
            hub.compute(each, CreateTimer(1, NOW + SECOND), mail=[an_event(each)])
            if number % 3
            else hub.compute_rewind(each)
        )
        for number, each in enumerate(some)
    ]

    assert await hub.commit(*checkpoints) == CommitOutcome()

    for number, each in enumerate(some):
        stored = await hub.load(each)
        assert (stored.instance, stored.position) == (checkpoints[number].instance, 2 if number % 3 else 1)
        assert stored.instance.input == str(number)


# ---------------------------------------------------------------------- suspension


async def test_a_suspended_instance_is_suspended_until_it_is_resumed(hub: Hub):
    await hub.create("order-17")
    await hub.step("order-17", ScheduleTask(0, "charge", None))
    for event, status in (
        (ExecutionSuspended(NOW, "stop"), RuntimeStatus.SUSPENDED),
        (EventRaised(NOW, "paid"), RuntimeStatus.SUSPENDED),
        (ExecutionResumed(NOW, "go"), RuntimeStatus.RUNNING),
    ):
        hub.now += SECOND
        await hub.tell("order-17", event)
        checkpoint = await hub.step("order-17")
        assert checkpoint.instance.status is status
        assert await hub.get("order-17") == checkpoint.instance
        assert await hub.store.count(InstanceQuery()) == {status: 1}

    assert (await hub.load("order-17")).position == 4
    assert await hub.open_work() == ["order-17"]


async def test_a_batch_may_hold_every_kind_of_change(hub: Hub):
    """Some need nothing of an index written, some do, one is stale."""
    some = [each for each, _ in zip(hub.neighbours("order"), range(40), strict=False)]
    for each in some:
        await hub.create(each)
        await hub.step(each, ScheduleTask(0, "charge", None))
    for number, each in enumerate(some):
        if number % 4 == 1:
            await hub.tell(each, ExecutionSuspended(NOW))
            await hub.step(each)
            await hub.tell(each, ExecutionResumed(NOW))
        elif number % 4 == 2:
            await hub.raise_event(each)
        else:
            await hub.tell(each, [ExecutionSuspended(NOW), None, None, ExecutionTerminated(NOW)][number % 4])  # type: ignore[arg-type]
    checkpoints = [await hub.compute(each, custom_status=f'"{each}"') for each in some]
    await hub.step(some[20])

    assert await hub.commit(*checkpoints) == CommitOutcome(stale=frozenset([some[20]]))

    for number, each in enumerate(some):
        if number != 20:
            stored = await hub.load(each)
            assert stored.instance == checkpoints[number].instance
            assert stored.position == checkpoints[number].position + 1
    counts = await hub.store.count(InstanceQuery())
    assert counts == {RuntimeStatus.SUSPENDED: 10, RuntimeStatus.RUNNING: 20, RuntimeStatus.TERMINATED: 10}


# ---------------------------------------------------------------------- mail between the instances of a batch


async def test_an_event_sent_to_who_then_gives_way_to_a_child_goes_with_it(hub: Hub):
    """As it would if the two checkpoints had been committed one after the other."""
    sender, parent, other = (each for each, _ in zip(hub.neighbours("order"), range(3), strict=False))
    for each in (sender, parent, other):
        await hub.create(each)
    await hub.step(other, DONE)
    sending = await hub.compute(sender, SendEvent(0, other, "hello", None))
    calling = await hub.compute(parent, child(other))

    assert await hub.commit(sending, calling) == CommitOutcome()

    assert await hub.mail(other) == list(calling.messages)


# ---------------------------------------------------------------------- what is stored is what was given

ODD_IDS = [
    "Ångström–名前–🜚",
    "e\u0301 is not \u00e9",
    "é",
    "O'Brien\"; drop table instances; --",
    "100%_[a-z]*",
    " space around ",
    "line\u2028separator",
    ".",
    "x" * 256,
    "🜚" * 64,
    "-1",
    "0",
    "null",
    "order\u202e71",
]


@pytest.mark.parametrize("instance_id", ODD_IDS, ids=map(str, range(len(ODD_IDS))))
async def test_an_id_is_any_text_and_comes_back_as_it_was(hub: Hub, instance_id: str):
    await hub.create(instance_id)
    message = Message(f"{instance_id}, 1", instance_id, None, EventRaised(NOW, instance_id, f'"{instance_id}"'))
    await hub.store.send([message], hub.now)
    assert await hub.mail(instance_id) == [message]
    assert await hub.open_work() == [instance_id]

    await hub.step(instance_id, child(f"{instance_id}:0"))
    await hub.step(f"{instance_id}:0", CompleteOrchestration(0, f'"{instance_id}"'))
    await hub.step(instance_id, CompleteOrchestration(1))

    assert sorted(await hub.dump()) == sorted([instance_id, f"{instance_id}:0"])
    assert (await hub.get(instance_id)).status is RuntimeStatus.COMPLETED
    assert (await hub.store.history(instance_id))[0].consumed == (message.message_id,)


async def test_a_message_id_is_any_text_too(hub: Hub):
    """A client may choose the id of its request."""
    await hub.create("order-17")
    some = [an_event("order-17", message_id=each) for each in ("a\nb", "a", "b", "a,b", '["a"]', " ", "ä\t\x1f")]
    await hub.store.send(some, hub.now)
    assert await hub.mail("order-17") == some

    await hub.step("order-17", mail=some[:1])
    assert await hub.mail("order-17") == some[1:]
    await hub.step("order-17")

    assert [row.consumed for row in await hub.store.history("order-17")] == [tuple(ids(some[:1])), tuple(ids(some[1:]))]


async def test_ids_that_differ_only_in_case_or_spelling_are_different(hub: Hub):
    twins = ["order", "Order", "ORDER", "straße", "strasse", "é", "e\u0301", "a ", "a"]
    for number, each in enumerate(twins):
        await hub.create(each, input=str(number))
        await hub.raise_event(each, f"for {number}")

    for number, each in enumerate(twins):
        assert (await hub.get(each)).input == str(number)
        assert [message.event.name for message in await hub.mail(each)] == [f"for {number}"]  # type: ignore[union-attr]
    assert await hub.open_work() == sorted(twins)


async def test_payloads_of_five_megabytes_are_kept_whole(hub: Hub):
    big = '"' + "ä🜚z" * 700_000 + '"'
    assert len(big.encode()) > 4_900_000
    await hub.create("order-17", input=big)
    message = await hub.raise_event("order-17", "paid", big)
    assert await hub.mail("order-17") == [message]

    checkpoint = await hub.step("order-17", ScheduleTask(0, "charge", big), custom_status=big)
    await hub.step("order-17", CompleteOrchestration(1, big), mail=[a_result(checkpoint, 0, big)], custom_status=big)

    found = await hub.get("order-17")
    assert (found.input, found.output, found.custom_status) == (big, big, big)
    events = (await hub.load("order-17")).events
    assert sum(getattr(event, field, None) == big for event in events for field in ("input", "result")) == 5


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1025, 4096, 100_000, 5_000_000])
async def test_an_input_of_any_size_stays_with_its_instance_through_all_it_does(hub: Hub, size: int):
    """9. A large input is kept by itself: whatever moves or replaces the row must not lose it, nor leave it behind."""
    big, other = "x" * size, "y" * size
    await hub.create("order-17", input=big)
    await hub.step("order-17", CreateSubOrchestration(0, "ship", other, "ship-17", None))
    assert [(await hub.get(each)).input for each in ("order-17", "ship-17")] == [big, other]

    await hub.step("ship-17", ContinueAsNew(0, big, ()), mail=())
    assert (await hub.get("ship-17")).input == big
    await hub.step("ship-17", ContinueAsNew(0, None, ()), mail=())
    assert (await hub.load("ship-17")).instance.input is None
    await hub.step("ship-17", ContinueAsNew(0, other, ()))
    await hub.step("ship-17", DONE)
    await hub.reopen()

    dump = await hub.dump()
    assert [dump[each].instance.input for each in ("order-17", "ship-17")] == [big, other]
    await hub.create("ship-17", input=big)
    assert (await hub.get("ship-17")).input == big
    await hub.step("ship-17", DONE)
    await hub.store.purge(["ship-17"], hub.now)
    await hub.create("ship-17", input=None)
    assert (await hub.get("ship-17")).input is None


async def test_escaped_nul_and_lone_surrogates_in_payloads_come_back_as_they_were(hub: Hub):
    payload = '"\\u0000 \\ud800 \\" \x7f"'

    await hub.create("order-17", input=payload)
    await hub.step("order-17", CompleteOrchestration(0, payload))

    found = await hub.get("order-17")
    assert (found.input, found.output) == (payload, payload)


async def test_empty_text_and_no_text_are_not_the_same(hub: Hub):
    await hub.create("order-17", input="", version="", tags={})
    await hub.create("order-18")

    empty, none = await hub.get("order-17"), await hub.get("order-18")

    assert (empty.input, empty.version, empty.tags) == ("", "", {})
    assert (none.input, none.version, none.tags) == (None, None, None)


async def test_times_come_back_to_the_microsecond_and_in_utc(hub: Hub):
    await hub.create("order-17")
    fire_at = NOW.replace(microsecond=999_999)

    await hub.step("order-17", CreateTimer(0, fire_at))

    (timer,) = await hub.mail("order-17", fire_at)
    assert timer.deliver_at == fire_at
    assert str(timer.deliver_at) == str(fire_at)
    assert str((await hub.get("order-17")).created_at) == str(NOW)


async def test_nobody_can_change_what_is_stored_by_changing_what_was_given(hub: Hub):
    tags = {"team": "shop"}
    await hub.create("order-17", tags=tags)
    tags["team"] = "nobody"
    await hub.step("order-17")

    assert (await hub.get("order-17")).tags == {"team": "shop"}


async def test_a_terminated_instance_is_kept_with_its_reason(hub: Hub):
    await hub.create("order-17")
    await hub.step("order-17", ScheduleTask(0, "charge", None))
    await hub.store.send([Message("stop", "order-17", None, ExecutionTerminated(NOW, "no"))], hub.now)

    await hub.step("order-17")

    found: Instance = await hub.get("order-17")
    assert (found.status, found.output) == (RuntimeStatus.TERMINATED, '"no"')
    assert await hub.open_work() == []
    assert isinstance((await hub.load("order-17")).events[1], ExecutionStarted)
