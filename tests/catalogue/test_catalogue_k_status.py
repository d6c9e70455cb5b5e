"""Group K: status, custom status, queries."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest
from azure.durable_functions import OrchestrationRuntimeStatus
from catalogue_hub import ORIGIN, Hub, gather, value
from catalogue_kit import case

from perdure.core.events import TaskCompleted
from perdure.core.records import InstanceQuery, RuntimeStatus


def with_all_ends(hub: Hub) -> None:
    """Registers `echo`, `broken` and `waiter`."""

    @hub.orchestrator
    def echo(context):
        return context.get_input()

    @hub.orchestrator
    def broken(context):
        raise ValueError("out of stock")

    @hub.orchestrator
    def waiter(context):
        return (yield context.wait_for_external_event("go"))


@case("K1", "the custom status shows between two steps; the last one of an episode counts")
async def test_the_custom_status_shows_between_steps(hub: Hub):
    @hub.orchestrator
    def work(context):
        context.set_custom_status("first")
        context.set_custom_status("second")
        yield context.wait_for_external_event("next")
        context.set_custom_status({"progress": 50})
        yield context.wait_for_external_event("next")

    await hub.start("work", instance_id="one")
    await hub.settle()
    assert value((await hub.get("one")).custom_status) == "second"

    await hub.raise_event("one", "next")
    await hub.settle()
    assert value((await hub.get("one")).custom_status) == {"progress": 50}
    await hub.raise_event("one", "next")
    assert value((await hub.wait("one")).custom_status) == {"progress": 50}


@case("K2", "a custom status may be cleared and may be any JSON; one of more than 16 KB is an error")
async def test_what_a_custom_status_may_be(hub: Hub):
    @hub.orchestrator
    def work(context):
        sizes = []
        for size in (8_000, 9_000):
            try:
                context.set_custom_status("x" * size)
            except ValueError as error:
                sizes.append([size, "16 KB" in str(error)])
        for status in ({"a": [1, "ü"]}, 0, False, "", None):
            context.set_custom_status(status)
            yield context.wait_for_external_event("next")
        return sizes

    await hub.start("work", instance_id="one")
    for expected in ('{"a": [1, "\\u00fc"]}', "0", "false", '""', "null"):
        await hub.settle()
        shown = (await hub.http("GET", "instances/one")).json()["customStatus"]
        assert shown == json.loads(expected)
        await hub.raise_event("one", "next")

    assert await hub.result("one") == [[9_000, True]]


@case("K3", "a status shows the input unless it is asked not to")
async def test_a_status_may_leave_the_input_out(hub: Hub):
    with_all_ends(hub)
    await hub.run("echo", {"order": 17}, "one")

    shown = (await hub.http("GET", "instances/one")).json()
    hidden = (await hub.http("GET", "instances/one?showInput=false")).json()
    listed = (await hub.http("GET", "instances?showInput=false")).json()

    assert shown["input"] == {"order": 17}
    assert hidden["input"] is None
    assert hidden["output"] == {"order": 17}
    assert [each["input"] for each in listed] == [None]


def with_history(hub: Hub) -> None:
    """Registers `work`, whose history has a bit of everything."""

    @hub.orchestrator
    def work(context):
        yield context.call_activity("hello", "Tokyo")
        try:
            yield context.call_activity("broken", None)
        except Exception as error:
            context.set_custom_status(type(error).__name__)
        yield context.create_timer(timedelta(seconds=1))
        yield context.call_sub_orchestrator("echo", 1)
        yield context.wait_for_external_event("go")
        return "done"

    @hub.orchestrator
    def echo(context):
        return context.get_input()

    @hub.activity
    def hello(city):
        return f"Hello {city}"

    @hub.activity
    def broken(_):
        raise ValueError("out of stock")


@case("K4", "a shown history has a row for each call with its function and times, and no rows of bookkeeping")
async def test_a_shown_history_is_for_people(hub: Hub):
    with_history(hub)
    await hub.start("work", "input", "one")
    await hub.advance(seconds=2)
    await hub.raise_event("one", "go", {"a": 1})
    await hub.wait("one")

    status = await hub.sdk.get_status("one", show_history=True, show_history_output=True)
    rows = status.history

    assert [row["EventType"] for row in rows] == [
        "ExecutionStarted", "TaskCompleted", "TaskFailed", "TimerCreated", "TimerFired",
        "SubOrchestrationInstanceCompleted", "EventRaised", "ExecutionCompleted",
    ]  # fmt: skip
    by_kind = {row["EventType"]: row for row in rows}
    assert by_kind["ExecutionStarted"]["FunctionName"] == "work"
    assert by_kind["TaskCompleted"]["FunctionName"] == "hello"
    assert by_kind["TaskCompleted"]["Result"] == "Hello Tokyo"
    assert by_kind["TaskCompleted"]["ScheduledTime"] <= by_kind["TaskCompleted"]["Timestamp"]
    assert by_kind["TaskFailed"]["FunctionName"] == "broken"
    assert "out of stock" in by_kind["TaskFailed"]["Reason"]
    assert by_kind["SubOrchestrationInstanceCompleted"]["FunctionName"] == "echo"
    assert by_kind["ExecutionCompleted"]["OrchestrationStatus"] == "Completed"
    assert all("EventId" not in row and "IsPlayed" not in row for row in rows)


@case("K5", "a shown history has no results unless they are asked for")
async def test_a_shown_history_may_leave_results_out(hub: Hub):
    with_history(hub)
    await hub.start("work", instance_id="one")
    await hub.raise_event("one", "go")
    await hub.wait("one")

    hidden = (await hub.http("GET", "instances/one?showHistory=true")).json()["historyEvents"]
    shown = (await hub.http("GET", "instances/one?showHistory=true&showHistoryOutput=true")).json()["historyEvents"]

    assert not any("Result" in row for row in hidden)
    assert sum("Result" in row for row in shown) == 3
    assert "historyEvents" not in (await hub.http("GET", "instances/one")).json()


@case("K6", "the status of what does not exist is none, and 404 over HTTP")
async def test_the_status_of_nothing_is_none(hub: Hub):
    with_all_ends(hub)
    await hub.up()

    assert await hub.client.get("unknown") is None
    assert not await hub.sdk.get_status("unknown")
    assert (await hub.http("GET", "instances/unknown")).status_code == 404


@case("K7", "instances are listed by status, time of creation (its limits included), beginning of the id, or all of it")
async def test_instances_are_listed_by_every_filter(hub: Hub):
    with_all_ends(hub)
    for number in range(3):
        for name in ("broken", "echo", "waiter"):
            await hub.start(name, instance_id=f"{name}-{number}")
            await hub.advance(seconds=1)
    first, last = (await hub.get("echo-1")).created_at, (await hub.get("echo-2")).created_at

    async def listed(**query):
        return [each.instance_id async for each in hub.client.instances(InstanceQuery(**query))]

    assert await listed(statuses=frozenset({RuntimeStatus.FAILED})) == ["broken-0", "broken-1", "broken-2"]
    assert await listed(prefix="waiter-") == ["waiter-0", "waiter-1", "waiter-2"]
    assert await listed(created_from=first, created_to=last, prefix="echo") == ["echo-1", "echo-2"]
    both = frozenset({RuntimeStatus.COMPLETED, RuntimeStatus.FAILED})
    assert await listed(created_to=first, statuses=both) == ["broken-0", "echo-0", "broken-1", "echo-1"]
    by_sdk = await hub.sdk.get_status_by(first, last, [OrchestrationRuntimeStatus.Completed], "echo")
    assert [each.instance_id for each in by_sdk] == ["echo-1", "echo-2"]
    assert len(await hub.sdk.get_status_all()) == 9


@case("K8", "read page by page while others are created, ninety-five instances come up once each")
async def test_pages_show_every_instance_once(hub: Hub):
    with_all_ends(hub)
    for number in range(95):
        await hub.start("echo", instance_id=f"{number * 37 % 95:02}")
    seen, pages, after = [], 0, None
    while True:
        page = await hub.client.list(InstanceQuery(limit=10, after=after))
        seen += [each.instance_id for each in page.instances]
        pages += 1
        after = page.after
        if after is None:
            break
        await hub.start("echo", instance_id=f"later-{pages}")

    old = [each for each in seen if not each.startswith("later")]
    assert sorted(old) == [f"{number:02}" for number in range(95)]
    assert len(seen) == len(set(seen))


@case("K9", "a token that no page gave is a ValueError, and 400 over HTTP")
async def test_a_token_that_no_page_gave_is_refused(hub: Hub):
    with_all_ends(hub)
    await hub.run("echo")

    for token in ("garbage", "", "bm90aGluZw=="):
        with pytest.raises(ValueError, match="token"):
            await hub.client.list(InstanceQuery(after=token))
    answer = await hub.http("GET", "instances", headers={"x-ms-continuation-token": "garbage"})

    assert answer.status_code == 400


@case("K10", "entities are not listed among instances")
async def test_entities_are_not_listed_among_instances(hub: Hub):
    with_all_ends(hub)

    @hub.entity
    def Counter(context):
        context.set_state(1)

    await hub.run("echo", instance_id="one")
    await hub.signal("@counter@c", "set")
    await hub.settle()

    assert await hub.state("@counter@c") == 1
    for query in (InstanceQuery(), InstanceQuery(prefix="@"), InstanceQuery(instance_ids=("@counter@c", "one"))):
        found = [each.instance_id for each in (await hub.client.list(query)).instances]
        assert found == ([] if query.prefix else ["one"])
    answer = await hub.http("GET", "instances")
    assert [each["instanceId"] for each in answer.json()] == ["one"]
    assert (await hub.http("GET", "instances/@counter@c")).status_code == 404


@case("K11", "the time of the last change grows with each checkpoint")
async def test_the_time_of_the_last_change_grows(hub: Hub):
    @hub.orchestrator
    def work(context):
        for _ in range(3):
            yield context.create_timer(timedelta(seconds=10))

    await hub.start("work", instance_id="one")
    seen = []
    for _ in range(4):
        await hub.settle()
        seen.append((await hub.get("one")).updated_at)
        await hub.advance(seconds=10)

    assert seen == sorted(set(seen))
    assert len(seen) == 4


@case(
    "K12",
    "whoever waits for the end gets the output (200), the status of a failure (500 by the SDK's client, 200 over "
    "HTTP), or after the time the links (202)",
    only="memory",
    why="HTTP, whatever the store",
)
async def test_a_client_may_wait_for_the_end(hub: Hub):
    with_all_ends(hub)
    completed = await hub.start("echo", {"a": 1})
    failed = await hub.start("broken")
    running = await hub.start("waiter")

    async def waited(instance_id):
        answer = await hub.sdk.wait_for_completion_or_create_check_status_response(None, instance_id, 3000, 1000)
        return answer.status_code, json.loads(answer.get_body()), answer

    assert (await waited(completed))[:2] == (200, {"a": 1})
    code, body, _ = await waited(failed)
    assert (code, body["runtimeStatus"]) == (500, "Failed")
    code, body, answer = await waited(running)
    assert (code, body["id"]) == (202, running)
    assert answer.headers["Retry-After"] == "10"
    assert timedelta(seconds=3) <= hub.age < timedelta(seconds=3.1)

    over_http = await hub.http("POST", "orchestrators/echo?timeout=5", json={"b": 2})
    assert (over_http.status_code, over_http.json()) == (200, {"b": 2})
    over_http = await hub.http("POST", "orchestrators/broken?timeout=5")
    assert (over_http.status_code, over_http.json()["runtimeStatus"]) == (200, "Failed")
    over_http = await hub.http("POST", "orchestrators/waiter?timeout=5")
    assert (over_http.status_code, "statusQueryGetUri" in over_http.json()) == (202, True)


@case(
    "K13",
    "over HTTP a status is 202 with Location and Retry-After while it runs, 200 at the end (500 for a failure if the "
    "caller wants that), 404 for nothing",
    only="memory live",
    why="HTTP, whatever the store",
)
async def test_the_status_codes_of_a_status(hub: Hub):
    with_all_ends(hub)
    await hub.start("waiter", instance_id="running")
    await hub.start("waiter", instance_id="suspended")
    await hub.client.suspend("suspended")
    await hub.start("waiter", instance_id="terminated")
    await hub.client.terminate("terminated")
    await hub.run("echo", instance_id="completed")
    await hub.run("broken", instance_id="failed")

    for instance_id, code in (
        ("running", 202), ("suspended", 202), ("completed", 200), ("terminated", 200), ("failed", 200), ("none", 404),
    ):  # fmt: skip
        answer = await hub.http("GET", f"instances/{instance_id}")
        assert answer.status_code == code, instance_id
        if code == 202:
            assert answer.headers["Location"] == f"{ORIGIN}/runtime/webhooks/durabletask/instances/{instance_id}"
            assert answer.headers["Retry-After"] == "5"
    flag = "returnInternalServerErrorOnFailure=true"
    assert (await hub.http("GET", f"instances/failed?{flag}")).status_code == 500
    assert (await hub.http("GET", f"instances/completed?{flag}")).status_code == 200


@case("K14", "the output of a failure is its message; that of a termination its reason")
async def test_the_output_of_every_end(hub: Hub):
    with_all_ends(hub)
    await hub.run("broken", instance_id="failed")
    await hub.start("waiter", instance_id="terminated")
    await hub.client.terminate("terminated", "no longer needed")
    await hub.wait("terminated")

    assert (await hub.sdk.get_status("failed")).output == "Orchestrator function 'broken' failed: out of stock"
    assert (await hub.sdk.get_status("terminated")).output == "no longer needed"


@case("K15", "a status under load, with commits that fail, never shows what is not durable")
async def test_a_status_shows_only_what_is_durable(hub: Hub):
    @hub.orchestrator
    def work(context):
        for number in range(1, 41):
            yield context.call_activity("step", number)
            context.set_custom_status(number)
        return "done"

    @hub.activity
    def step(number):
        return number

    await hub.up()
    for number in range(3, 30, 4):
        hub.fail("commit", after=bool(number % 8 == 3), number=number)
    ids = await gather(*(hub.start("work", instance_id=f"one-{number}") for number in range(4)))

    async def watch(instance_id):
        looks = 0
        while await hub.status(instance_id) != "Completed":
            before = len(await hub.of_kind(instance_id, TaskCompleted))
            shown = value((await hub.get(instance_id)).custom_status) or 0
            after = len(await hub.of_kind(instance_id, TaskCompleted))
            assert before <= shown <= after
            looks += 1
            await asyncio.sleep(0)
        return looks

    looks = await gather(*(watch(each) for each in ids))

    assert all(isinstance(each, int) and each > 3 for each in looks), looks
    assert hub.troubles == []
