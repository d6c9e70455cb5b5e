"""The examples with entities run, on virtual time, and do what the guide says of them."""

from __future__ import annotations

import json
from typing import Any

import azure.functions as func
import pytest
from catalogue_hub import ALONE, Hub, play, value

from examples_kit import example
from perdure.core.records import RuntimeStatus
from perdure.host.app.loading import LoadedApp


@pytest.mark.parametrize("mode", ["live", "replay"])
def test_entities(mode: str):
    async def body(hub: Hub) -> None:
        with example("entities", lambda: hub.sdk) as (_, app):
            hub.orchestrators.update(app.orchestrators)
            hub.activities.update(app.activities)
            hub.entities.update(app.entities)  # type: ignore[arg-type] - they are what the SDK has made
            await _counters(hub)
            await _shelves(hub, app)
            await _locks(hub)

    play("memory", mode, ALONE, f"entities/{mode}", body)


async def _counters(hub: Hub) -> None:
    for amount in (1, 2, 3):
        await hub.signal("@counter@visits", "add", amount)
    await hub.settle()
    assert await hub.state("@counter@visits") == 6

    assert await hub.call("count_for_a_day", "today") is None
    await hub.settle()
    assert await hub.state("@counter@today") == 1
    await hub.advance(days=1, seconds=1)
    assert await hub.state("@counter@today") is None


async def _shelves(hub: Hub, app: LoadedApp) -> None:
    assert (await _answer(hub, app, "fill", 20, article="tea")).status_code == 202
    await hub.settle()
    assert json.loads((await _answer(hub, app, "pieces", article="tea")).get_body()) == 20
    assert json.loads((await _answer(hub, app, "pieces", article="milk")).get_body()) == 0

    assert await hub.call("sell", ["tea", 15]) == "5 left"
    assert await hub.call("sell", ["tea", 1]) == "4 left"
    assert await hub.call("sell", ["tea", 5]) == "sold out"
    await hub.settle()
    assert await hub.state("@counter@sold") == 16
    assert await hub.state("@buyer@all") == ["tea"]
    await hub.advance(days=2, seconds=1)
    assert await hub.state("@shelf@tea") == 54
    assert await hub.state("@buyer@all") == []
    assert json.loads((await _answer(hub, app, "all_shelves")).get_body()) == {"tea": 54}
    assert (await hub.run("sell", ["tea", "many"])).status is RuntimeStatus.FAILED


async def _locks(hub: Hub) -> None:
    await hub.signal("@shelf@cake", "add", 30)
    await hub.call("move", ["tea", "cake", 40])
    assert await hub.call("take_stock", ["tea", "cake"]) == [14, 70]

    ended = await hub.run("move", ["cake", "tea", 20])
    assert ended.status is RuntimeStatus.COMPLETED
    ended = await hub.run("move", ["cake", "full", 50])
    assert ended.status is RuntimeStatus.COMPLETED
    await hub.signal("@shelf@cake", "add", 60)
    ended = await hub.run("move", ["cake", "full", 55])
    assert ended.status is RuntimeStatus.FAILED
    assert "full holds 100" in value(ended.output)
    assert await hub.call("take_stock", ["tea", "cake", "full"]) == [34, 60, 50]
    await hub.settle()
    assert await hub.lock_of("@shelf@cake") is None

    await hub.signal("@shelf@full", "delete")
    await hub.settle()
    assert await hub.state("@shelf@full") is None


async def _answer(hub: Hub, app: LoadedApp, name: str, body: Any = None, **route_params: str) -> func.HttpResponse:
    await hub.up()
    (function,) = (each for each in app.http if each.name == name)
    text = json.dumps(body).encode()
    request = func.HttpRequest("POST", "http://localhost/", params={}, route_params=route_params, body=text)
    return await function.function(req=request, client=hub.sdk)
