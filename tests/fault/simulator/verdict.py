"""The judgement when all is quiet: outcomes, conservation, ledgers, what is stored, and what is left in memory."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from perdure.core.actions import CompleteOrchestration, ContinueAsNew
from perdure.core.codec import encode_event, payloads
from perdure.core.cursor import OrchestrationCursor
from perdure.core.entities import Entity
from perdure.core.events import EventRaised, ExecutionCompleted, ExecutionTerminated, HistoryEvent
from perdure.core.records import InstanceDump, RuntimeStatus
from perdure.engine.check import check_hub
from perdure.engine.store import Store
from perdure.errors import NonDeterminismError

from .boxes import Box
from .clients import Clients, Entry
from .hosts import Host
from .oracle import Execution, Oracle
from .programs import tree
from .reference import Reading


async def judge(store: Store, oracle: Oracle, clients: Clients, hosts: list[Host]) -> None:
    """Check everything that can only be checked at the end."""
    for execution in oracle.executions.values():
        if execution.events and not _has_wrong_version(execution):
            _check_outcome(oracle, execution)
            _check_replay(oracle, execution)
    _check_stored(oracle, [each async for each in store.dump()])
    _check_events(oracle, clients.ledger)
    _check_signals(oracle, clients.ledger)
    _check_ledger(oracle, clients.ledger)
    for host in hosts:
        oracle.expect(not host.engine.counters.quarantined, "Q", f"{host.name} has instances that it cannot run")
    if oracle.is_calm:
        _check_second_line(oracle, hosts)
    report = await check_hub(store)
    for finding in report.findings:
        oracle.find(finding.invariant, f"checker: {finding.instance_id}: {finding.sentence}")


# ---------------------------------------------------------------------- what programs must have done


def _check_outcome(oracle: Oracle, execution: Execution) -> None:
    """Decisions, output and what is passed on are those of the reference."""
    name = execution.instance_id
    reading = Reading(execution.events)
    try:
        outcome = reading.outcome(execution.given)
    except AssertionError as breach:
        oracle.find("R", f"{name}: {breach}")
        return
    # In the episode that continues as new, decisions have no effect and leave no trace.
    decisions = outcome.decisions
    if execution.continued_with is not None:
        last = len(reading.stamps) - 1
        decisions = [each for each in decisions if each.episode < last]
        if last in reading.rewound_in:  # it was taken up again in this episode, some of it perhaps from long ago
            decisions = decisions[: len(reading.decided)]
    oracle.expect(reading.agrees(decisions), "R", f"{name} decided {reading.decided}, not {decisions}")
    raised = [encode_event(event) for event in execution.events if isinstance(event, EventRaised)]
    is_passed_on = raised[: len(execution.carried)] == execution.carried
    oracle.expect(is_passed_on, "M1", f"{name} did not get the unread events of its last generation first")
    if execution.continued_with is not None:
        following = oracle.executions[execution.continued_with]
        end: tuple[object, ...] | None = ("continued", following.given)
        is_whole = execution.passed_on == outcome.unread
        oracle.expect(is_whole, "M1", f"{name} passed on {execution.passed_on}, not {outcome.unread}")
    else:
        end = _end(execution)
    if end is not None and end[0] == "terminated":
        oracle.expect(outcome.end is None, "R", f"{name} was terminated after it had come to {outcome.end}")
    else:
        oracle.expect(end == outcome.end, "R", f"{name} came to {end}, not to {outcome.end}")
        custom_status = outcome.custom_status or execution.inherited_status
        is_said = execution.custom_status == custom_status
        oracle.expect(is_said, "R", f"{name} says {execution.custom_status}, not {custom_status}")


def _has_wrong_version(execution: Execution) -> bool:
    """Its end is not the program's doing."""
    failure = None if execution.end is None else execution.end.failure
    return failure is not None and failure.error_type == "VersionMismatch"


def _end(execution: Execution) -> tuple[object, ...] | None:
    end = execution.end
    if end is None:
        return None  # it was replaced
    match end.status:
        case RuntimeStatus.COMPLETED:
            return "completed", json.loads(end.output or "null")
        case RuntimeStatus.FAILED:
            return ("failed",)
        case _:
            return ("terminated",)


def _check_replay(oracle: Oracle, execution: Execution) -> None:
    """A fresh cursor makes the same of the history (D1)."""
    name = execution.instance_id
    cursor = OrchestrationCursor(name, tree, payloads)
    try:
        actions = cursor.advance(_without_end(execution.events))
    except NonDeterminismError as error:
        oracle.find("D1", f"{name}: {error}")
        return
    ends = [each for each in actions if isinstance(each, CompleteOrchestration)]
    completed = next((event for event in execution.events if isinstance(event, ExecutionCompleted)), None)
    if any(isinstance(event, ExecutionTerminated) for event in execution.events):
        pass
    elif execution.continued_with is not None:
        following = oracle.executions[execution.continued_with]
        again = [each.input for each in actions if isinstance(each, ContinueAsNew)]
        oracle.expect(again == [following.given], "D1", f"{name} goes on as new otherwise when it is replayed")
    elif completed is None:
        oracle.expect(not ends, "D1", f"{name} ends when it is replayed, but has not")
    else:
        is_same = len(ends) == 1 and (ends[0].result == completed.result or completed.failure is not None)
        oracle.expect(is_same, "D1", f"{name} ended with {completed.result}, but replayed with {ends}")
    cursor.close()


def _without_end(events: list[HistoryEvent]) -> Iterable[HistoryEvent]:
    return [event for event in events if not isinstance(event, ExecutionCompleted | ExecutionTerminated)]


# ---------------------------------------------------------------------- what is stored


def _check_stored(oracle: Oracle, dumps: list[InstanceDump]) -> None:
    stored = {dump.instance.instance_id for dump in dumps}
    boxes = {box.instance_id for box in oracle.boxes.values() if box.is_stored}
    known = boxes | set(oracle.rows)
    oracle.expect(stored == known, "A3", f"stored are {sorted(stored)}, not {sorted(known)}")
    for dump in dumps:
        if dump.instance.instance_id in boxes:
            _check_box(oracle, oracle.boxes[dump.instance.instance_id], dump)
        row = oracle.rows.get(dump.instance.instance_id)
        if row is None:
            continue
        name = row.instance_id
        events = [event for each in dump.rows for event in each.events]
        oracle.expect(events == row.events, "H2", f"the stored history of {name} is not what was committed")
        oracle.expect(dump.instance == row.end, "S1", f"the row of {name} is not what was committed last")
        oracle.expect(not dump.mail, "M1", f"mail for {name} is left: {[each.event for each in dump.mail][:2]}")
        for each in dump.rows:
            oracle.expect(each.custom_status is None or each.custom_status, "S1", f"{name} has an odd custom status")


def _check_box(oracle: Oracle, box: Box, dump: InstanceDump) -> None:
    name, said = box.instance_id, dump.instance.entity
    oracle.expect(said == box.state, "E1", f"stored of {name} is {said}, not {box.state}")
    oracle.expect(box.lock is None, "K2", f"{name} is still locked for {box.lock}")
    oracle.expect(not dump.mail, "M1", f"mail for {name} is left: {[each.event for each in dump.mail][:2]}")


# ---------------------------------------------------------------------- what clients were told


def _check_events(oracle: Oracle, ledger: list[Entry]) -> None:
    """Every event arrived, or its instance ended first; in the order in which one client sent them."""
    for raised in oracle.raised.values():
        name = raised.message.instance_id
        is_settled = (raised.arrival is None) != (raised.discarded is None)
        oracle.expect(is_settled, "M1", f"an event for {name} was lost: {raised.message.event}")
    raised = {
        each.message.event.input: each for each in oracle.raised.values() if isinstance(each.message.event, EventRaised)
    }
    attempts = Counter(entry.data for entry in ledger)
    # Those that were asked once and answered; a client asks for the next only after that.
    sent: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for entry in ledger:
        if entry.what != "event" or entry.outcome != "ok":
            continue
        event = raised.get(entry.data)
        if event is None:
            oracle.find("A3", f"the event {entry.data} was acknowledged, but is not there")
        elif (
            attempts[entry.data] == 1
            and event.arrival is not None
            and not (event.is_ghost or entry.instance_id == "crowd")
        ):
            sent.setdefault((entry.instance_id, entry.process), []).append(event.arrival)
    for (name, process), arrivals in sent.items():
        is_in_order = all(one < other for one, other in pairwise(arrivals))
        oracle.expect(is_in_order, "M4", f"events that {process} sent to {name} arrived out of order: {arrivals}")


def _check_signals(oracle: Oracle, ledger: list[Entry]) -> None:
    """Every signal that was acknowledged has run; those that one client sent through one host in its order."""
    attempts = Counter(entry.data for entry in ledger)
    ran: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
    for entry in ledger:
        if entry.what != "signal" or entry.outcome != "ok" or entry.data is None:
            continue
        place = oracle.taken_from_clients.get(entry.data)
        client = json.loads(entry.data)["token"].partition(".")[0]
        if place is None:
            oracle.find("A3", f"{entry.data} was acknowledged, but {entry.instance_id} has never run it")
        elif attempts[entry.data] == 1:
            ran.setdefault((entry.instance_id, entry.process, client), []).append(place)
    for (entity_id, process, client), places in ran.items():
        is_in_order = all(one < other for one, other in pairwise(places))
        oracle.expect(is_in_order, "M4", f"{entity_id} ran what {client} sent through {process} out of order: {places}")


def _check_ledger(oracle: Oracle, ledger: list[Entry]) -> None:
    """What was acknowledged took place; what was refused did not."""
    attempts: dict[str, list[Entry]] = {}
    for entry in ledger:
        if entry.request_id is not None:
            attempts.setdefault(entry.request_id, []).append(entry)
        elif entry.what == "start" and entry.outcome == "ok":
            oracle.expect(entry.instance_id in oracle.known, "A3", f"{entry.instance_id} was started, but is not there")
    for request_id, entries in attempts.items():
        first = entries[0]
        if first.what in ("perhaps start", "purge", "read"):
            continue
        is_start = first.what in ("start", "restart")
        happened = oracle.created.get(request_id, 0) if is_start else request_id in oracle.answers
        if any(entry.outcome == "ok" for entry in entries):
            oracle.expect(happened, "A3", f"{first.what} {first.instance_id} was acknowledged, but is not there")
        elif first.what == "start" and all(entry.outcome == "fail" for entry in entries):
            oracle.expect(not happened, "A3", f"start {first.instance_id} was refused, but took place")


# ---------------------------------------------------------------------- what is left in memory


def remembered(hosts: list[Host]) -> list[str]:
    """What hosts keep in memory though there is nothing to do."""
    kept: list[str] = []
    for host in hosts:
        engine = host.engine
        for number, partition in engine._partitions.items():
            of_partition: dict[str, object] = {
                "sessions": [each for each, session in partition.sessions.items() if not isinstance(session, Entity)]
            }
            of_partition |= {
                each: getattr(partition, each)
                for each in (
                    "_mail", "_timer_ids", "_held", "_results", "_woken", "_ready", "_busy", "_computed",
                    "_discarded", "_replies", "_consumed", "_forgettable", "_expected", "_unread", "_early", "_parked",
                )
            }  # fmt: skip
            kept += [
                f"partition {number} of {host.name} keeps {each}: {left}" for each, left in of_partition.items() if left
            ]
        clients, watches = engine._clients, engine._watches
        of_engine = {
            "tasks": engine._tasks,
            "requests": clients._tasks,
            "creations": clients._creating,
            "watches": watches._requests,
            "watched instances it is unsure of": watches._unsure,
        }
        kept += [f"{host.name} keeps {what}: {left}" for what, left in of_engine.items() if left]
        if engine._running and not host.executor.open:
            kept.append(f"{host.name} believes that activities run: {engine._running}")
        if host.executor.session_ids:
            kept.append(f"the executor of {host.name} keeps cursors: {host.executor.session_ids}")
    return kept


def _check_second_line(oracle: Oracle, hosts: list[Host]) -> None:
    """When nothing goes wrong, no guard has anything to do."""
    for host in hosts:
        counters = host.engine.counters
        oracle.expect(
            not counters.lost, "L4", f"{host.name} lost leases {counters.lost} times though nothing was wrong"
        )
        has_reason = oracle.interferences or oracle.repeated_starts
        oracle.expect(not counters.stale or has_reason, "L4", f"{host.name} was stale though nobody interfered")
        repeated = 0 if oracle.interferences else counters.dropped.get("repeated", 0)
        oracle.expect(not repeated, "L4", f"{host.name} got {repeated} messages twice though nothing was wrong")
