"""The examples of the reference run, on virtual time, and do what the reference says of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any

import azure.functions as func
import pytest
from catalogue_hub import ALONE, Hub, play, value

from examples_kit import FOLDER, example
from perdure.core.records import RuntimeStatus
from perdure.host.app.loading import LoadedApp
from perdure.host.settings.host_json import read_host_json

Scenario = Callable[[Hub, LoadedApp, Any], Coroutine[Any, Any, None]]

GUIDE = (FOLDER.parents[1] / "guides" / "orchestrations.md").read_text("utf-8")

VERSION_2 = type(ALONE)(
    **{name: getattr(ALONE, name) for name in ALONE.__struct_fields__}
    | {"versioning": read_host_json(FOLDER, {}).versioning}
)


def example_of(name: str) -> Callable[[Scenario], Callable[[str], None]]:
    """Make a test of an example: loaded as the host loads it, it runs live, and with a replay at every episode."""

    def decorate(scenario: Scenario) -> Callable[[str], None]:
        @pytest.mark.parametrize("mode", ["live", "replay"])
        def test(mode: str) -> None:
            async def body(hub: Hub) -> None:
                with example(name, lambda: hub.sdk) as (module, app):
                    vars(module)["datetime"] = clock_of(hub)
                    hub.orchestrators.update(app.orchestrators)
                    hub.activities.update(app.activities)
                    await scenario(hub, app, module)

            play("memory", mode, VERSION_2, f"{name}/{mode}", body)

        test.__name__ = scenario.__name__
        test.__module__ = scenario.__module__
        return test

    return decorate


def clock_of(hub: Hub) -> type[datetime]:
    """What client functions take for the time."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return hub.now.astimezone(tz)

    return Clock


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record.getMessage())


async def answer_of(hub: Hub, app: LoadedApp, name: str, body: Any, **route_params: str) -> func.HttpResponse:
    """What an HTTP function answers."""
    await hub.up()
    (function,) = (each for each in app.http if each.name == name)
    text = json.dumps(body).encode()
    request = func.HttpRequest("POST", "http://localhost/", params={}, route_params=route_params, body=text)
    return await function.function(req=request, client=hub.sdk)


@example_of("calling")
async def test_calls_of_activities(hub: Hub, app: LoadedApp, module: Any):
    module.log.setLevel(logging.INFO)
    mirrors = [{"name": "far", "takes_s": 90}, {"name": "near", "takes_s": 5}, {"name": "middle", "takes_s": 20}]

    assert await hub.call("with_yield") == await hub.call("with_await") == "Hello Tokyo!"
    assert await hub.call("hello_cities") == ["Hello Tokyo!", "Hello London!"]
    assert await hub.call("hello_everywhere", ["Rome", "Oslo"]) == ["Hello Rome!", "Hello Oslo!"]
    assert await hub.call("fastest_mirror", mirrors) == "from near"
    assert await hub.call("in_order_of_arrival", mirrors) == ["from near", "from middle"]
    assert await hub.call("in_order_of_arrival", mirrors[1:]) == ["from near", "from middle"]
    assert json.loads((await hub.run("import_files", ["a", "b"])).custom_status or "") == {"done": 2, "of": 2}
    assert (await hub.call("pay", 5)).startswith("transferred 5 as ")
    lines = Lines()
    module.log.addHandler(lines)
    assert await hub.call("chatty") == "Hello Tokyo!"
    module.log.removeHandler(lines)
    assert lines.seen == ["greeting Tokyo", "Tokyo has been greeted"]
    assert await hub.call("monthly_report") == f"Hello {hub.now:%Y-%m}!"


@example_of("typed")
async def test_types(hub: Hub, app: LoadedApp, module: Any):
    assert await hub.call("place", {"number": 17, "items": ["tea", "cake"]}) == "paid: 10 for 17"
    assert await hub.call("bill_by_name") == "paid"
    assert await hub.call("gross") == 1190


@example_of("retrying")
async def test_failures_and_retries(hub: Hub, app: LoadedApp, module: Any):
    bank, gone = module.bank, ConnectionError("no route to the bank")
    refused = module.CardRefused("the card is not covered")

    bank.troubles = [gone]
    assert await hub.call("pay_or_explain", 5) == (
        "RuntimeError: the payment did not go through, because of ConnectionError: no route to the bank"
    )
    bank.troubles = [gone]
    assert await hub.call("pay_or_wait", 5) == "the bank cannot be reached: try again later"
    bank.troubles = [refused]
    ended = await hub.run("pay_or_wait", 5)
    assert ended.status is RuntimeStatus.FAILED
    assert value(ended.output) in GUIDE
    assert await hub.call("pay_or_explain", 5) == await hub.call("pay_or_wait", 5) == "paid 5"

    bank.troubles, began = [gone] * 6, hub.now
    assert await hub.call("pay_patiently", 6) == "paid 6"
    assert round((hub.now - began).total_seconds()) == 5 + 10 + 20 + 40 + 60 + 60

    bank.troubles = [gone, refused, gone]
    assert (await hub.run("pay_unless_refused", 7)).status is RuntimeStatus.FAILED
    assert bank.troubles == [gone]
    bank.troubles = [gone, ValueError("closed for ever"), gone]
    assert (await hub.run("pay_unless_told_otherwise", 7)).status is RuntimeStatus.FAILED
    assert bank.troubles == [gone]

    bank.troubles, bank.booked = [], []
    assert await hub.call("pay_both", [1, 2]) == "both paid"
    assert bank.booked == [1, 2]
    bank.refuses = [4]
    assert (await hub.run("pay_both", [3, 4], "both")).status is RuntimeStatus.FAILED
    assert bank.booked == [1, 2]
    bank.refuses = []
    await hub.client.rewind("both")
    assert await hub.result("both") == "both paid"
    assert bank.booked == [1, 2, 4]  # as the guide warns: the refund of 3 stands


@example_of("children")
async def test_children(hub: Hub, app: LoadedApp, module: Any):
    assert await hub.call("heat_house", ["hall", "bath"], "house") == ["hall is warm", "bath is warm"]
    assert await hub.exists("house:bath")
    module.closed.append("cellar")
    assert await hub.call("heat_cellar") == "cellar is warm"
    assert await hub.call("whose_child", None, "mother") == "a child of mother"


@example_of("waiting")
async def test_waiting(hub: Hub, app: LoadedApp, module: Any):
    began = hub.now
    await hub.call("remind")
    assert hub.now - began >= timedelta(days=1)
    assert module.sent == ["Your trial ends tomorrow."]

    for name in ("approve", "approve_or_escalate"):
        started = [await hub.start(name) for _ in range(3)]
        await hub.raise_event(started[0], "Approval", True)
        await hub.raise_event(started[1], "Approval", False)
        assert [await hub.result(each) for each in started] == ["approved", "refused", "escalated"]

    votes = await hub.start("count_votes")
    for vote in "abc":
        await hub.raise_event(votes, "vote", vote)
    assert await hub.result(votes) == ["a", "b", "c"]

    guest = await hub.start("eat")
    await hub.run("cook", guest)
    assert await hub.result(guest) == "had soup"

    meter = await hub.start("meter")
    for reading in (3, 4, None):
        await hub.raise_event(meter, "Reading", reading)
    assert await hub.result(meter) == 7


@example_of("steering")
async def test_steering(hub: Hub, app: LoadedApp, module: Any):
    await hub.up()
    client = hub.sdk

    assert (await answer_of(hub, app, "order", ["apple"])).status_code == 202
    answer = await answer_of(hub, app, "order_now", ["apple"])
    assert (answer.status_code, json.loads(answer.get_body())) == (200, ["one apple"])

    ids = await module.start(client)
    assert ids[1] == ids[3] == "order-17"
    for each in ids:
        await hub.wait(each)
    assert await module.say_where_it_is(client, "order-17") == "delivered: ['one apple']"
    assert await module.say_where_it_is(client, "order-18") == "there is no such order"
    assert "TaskCompleted" in await module.say_what_happened(client, "order-17")
    assert set(ids) <= set(await module.ids_of_all(client))

    await client.start_new("deliver_if_approved", "order-19", ["apple", "pear", "plum"])
    await hub.settle()
    assert await module.first_that_waits(client) == "order-19"
    assert (await module.say_where_it_is(client, "order-19")).startswith("Running since ")
    await module.take_a_break(client, "order-19")
    assert (await answer_of(hub, app, "approve", True, id="order-19")).status_code == 202
    await hub.settle()
    assert await hub.status("order-19") == "Suspended"
    assert await module.first_that_waits(client) is None
    await module.go_on(client, "order-19")
    assert await hub.result("order-19") == ["one apple", "one pear", "one plum"]

    module.warehouse.is_open, module.warehouse.asked = False, []
    await client.start_new("deliver_if_approved", "order-20", ["apple", "pear", "plum"])
    await hub.raise_event("order-20", "Approval")
    assert (await hub.wait("order-20")).status is RuntimeStatus.FAILED
    assert len(await module.failed_today(client)) == await module.how_many_failed(client) == 2
    module.warehouse.is_open = True
    assert await module.try_failed_ones_again(client) == 2
    assert await hub.result("order-20") == ["one apple", "one pear", "one plum"]
    assert module.warehouse.asked == ["apple", "pear", "pear", "plum"]

    again = await module.order_again(client, "order-20")
    await hub.settle()
    assert not await module.forget(client, again)
    await module.cancel(client, again)
    assert (await hub.wait(again)).status is RuntimeStatus.TERMINATED
    assert await module.forget(client, "order-20")
    assert not await hub.exists("order-20")
    await hub.advance(days=40)
    assert await module.tidy_up(client) > 5
    assert await module.link_to(client, again) == client.create_http_management_payload(again)["statusQueryGetUri"]


@example_of("versions")
async def test_versions(hub: Hub, app: LoadedApp, module: Any):
    await hub.up()
    client = hub.sdk

    deployed_at = await module.start_both(client)
    await hub.settle()
    assert await module.is_any_left(client, deployed_at)
    for each in ("old", "new"):
        await hub.raise_event(each, "Paid")
        await hub.wait(each)
    assert not await module.is_any_left(client, deployed_at)
    assert module.done == ["shipped order 1", "checked order 2", "shipped order 2"]

    module.done.clear()
    eternal = await hub.start("fulfil_all", version="1.0")
    for order in ("a", "b"):
        await hub.raise_event(eternal, "Order", order)
        await hub.settle()
    assert module.done == ["shipped a", "checked b", "shipped b"]


@example_of("blueprints")
async def test_blueprints(hub: Hub, app: LoadedApp, module: Any):
    assert await hub.call("Greeting", "Ada") == "Hello Ada"


def test_a_unit_test_of_an_orchestrator():
    with example("own_tests") as (module, _):
        module.test_only_a_fair_price_is_paid()
