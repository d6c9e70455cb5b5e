"""Which timer functions run, and why others do not; what is not served is said, with what to do instead."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import Any, cast

import azure.functions as func
import pytest

from perdure.host.app.bindings import Binding
from perdure.host.app.function_json import read_function_json
from perdure.host.app.functions import Declaration, FunctionIndex, Source, resolved_by
from perdure.host.timers.retry_policy import FunctionRetryPolicy
from perdure.host.timers.schedule import PeriodSchedule, time_zone

RETRY = {"strategy": "fixedDelay", "maxRetryCount": 3, "delayInterval": "00:00:10"}
TIMER = {"type": "timerTrigger", "name": "timer", "schedule": "0 0 2 * * *"}
CLIENT = {"type": "durableClient", "name": "client"}


def timer_function(timer: Any) -> None: ...


def index_of(
    *bindings: Mapping[str, Any],
    function: Callable[..., Any] = timer_function,
    retry: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    disabled: str | None = None,
) -> FunctionIndex:
    environ = environ or {"TZ": "UTC"}
    index = FunctionIndex(
        Path("/app"),
        "api",
        lambda name: disabled,
        "Hub",
        resolved_by(environ),
        cast("Any", None),
        lambda function, is_text: "a text" if is_text else "a client",
        partial(time_zone, environ),
    )
    found = [Binding(each["type"], each["name"], each.get("direction") == "out", each) for each in bindings]
    index.add(
        Declaration("nightly", found, function, Source("f.py", 3), Path("/app"), frozenset({"starter"}), retry=retry)
    )
    return index


def note_of(*bindings: Mapping[str, Any], **given: Any) -> tuple[str, bool]:
    (listing,) = index_of(*bindings, **given).listings
    assert listing.note is not None
    return listing.note, listing.is_error


class TestTimers:
    def test_a_timer_function_runs_with_what_its_trigger_says(self):
        trigger = {**TIMER, "schedule": "%EVERY%", "runOnStartup": True, "useMonitor": False}

        index = index_of(trigger, retry=RETRY, environ={"EVERY": "00:05:00"})

        (timer,) = index.timers
        assert isinstance(timer.schedule, PeriodSchedule)
        assert (timer.uses_monitor, timer.runs_on_startup) == (False, True)
        assert timer.retry == FunctionRetryPolicy.parse(RETRY)
        (listing,) = index.listings
        assert (listing.kind, listing.note, listing.schedule) == ("Timer", None, timer.schedule)

    @pytest.mark.parametrize("value", [None, "", "false", False])
    def test_by_default_it_is_monitored_and_does_not_run_on_startup(self, value: Any):
        (timer,) = index_of({**TIMER, "runOnStartup": value}).timers

        assert (timer.uses_monitor, timer.runs_on_startup, timer.retry) == (True, False, None)

    def test_it_gets_clients_and_its_context(self):
        def nightly(timer: func.TimerRequest, client: Any, starter: str, context: func.Context) -> tuple[Any, ...]:
            return timer, client, starter, context

        (timer,) = index_of(TIMER, CLIENT, {**CLIENT, "name": "starter"}, function=nightly).timers

        assert timer.wants_context
        assert timer.function(timer=1, context=2) == (1, "a client", "a text", 2)

    def test_its_zone_is_that_of_the_settings(self):
        (timer,) = index_of(TIMER, environ={"WEBSITE_TIME_ZONE": "Asia/Tokyo"}).timers

        assert str(getattr(timer.schedule, "zone", UTC)) == "Asia/Tokyo"

    @pytest.mark.parametrize(
        ("change", "given", "complaint"),
        [
            ({"schedule": "0 0 25 * * *"}, {}, "25 is not between 0 and 23  (DF145)"),
            ({"schedule": None}, {}, "(DF145)"),
            ({"schedule": "%NOT_SET%"}, {}, "'%NOT_SET%' does not resolve to a value"),
            ({}, {"environ": {"TZ": "Mars/Olympus"}}, "TZ is 'Mars/Olympus', which is not a time zone here"),
            ({}, {"retry": {**RETRY, "strategy": "often"}}, "the strategy of its retry policy is 'often'"),
            ({"name": "clock"}, {}, 'Did you mean "timer"'),
        ],
    )
    def test_one_that_cannot_run_is_in_error(self, change: dict[str, Any], given: dict[str, Any], complaint: str):
        note, is_error = note_of({**TIMER, **change}, **given)

        assert complaint in note
        assert is_error

    def test_an_annotation_that_does_not_fit_is_in_error(self):
        def nightly(timer: str) -> None: ...

        note, is_error = note_of(TIMER, function=nightly)

        assert 'type of timer binding in the binding decorator "timerTrigger" does not match' in note
        assert is_error

    def test_a_client_of_another_hub_is_in_error(self):
        def nightly(timer: Any, client: Any) -> None: ...

        assert "task hub 'Other'" in note_of(TIMER, {**CLIENT, "taskHub": "Other"}, function=nightly)[0]

    def test_one_that_is_switched_off_does_not_run(self):
        index = index_of(TIMER, disabled="asked for")

        assert (index.timers, index.listings[0].note) == ([], "disabled: asked for")


class TestUnserved:
    @pytest.mark.parametrize(
        ("kind", "shown", "instead"),
        [
            ("queueTrigger", "needs a storage queue", "start its orchestration over HTTP"),
            ("serviceBusTrigger", "needs Service Bus", "start its orchestration over HTTP"),
            ("eventHubTrigger", "needs Event Hubs", "start its orchestration over HTTP"),
            ("eventGridTrigger", "needs Event Grid", "post to an HTTP function"),
            ("blobTrigger", "needs blob storage", "in a timer function"),
            ("cosmosDBTrigger", "needs Cosmos DB", "in a timer function"),
            ("sqlTrigger", "needs SQL Server", "in a timer function"),
            ("somethingNewTrigger", "does not serve a somethingNewTrigger", "start its orchestration over HTTP"),
        ],
    )
    def test_another_trigger_is_inactive_with_the_reason_and_what_to_do(self, kind: str, shown: str, instead: str):
        note, is_error = note_of({"type": kind, "name": "timer"})

        assert note.startswith("inactive: ")
        assert shown in note
        assert instead in note
        assert f"{kind}  (DF110)" in note
        assert not is_error

    @pytest.mark.parametrize(("kind", "shown"), [("cosmosDBTrigger", "CosmosDB"), ("serviceBusTrigger", "ServiceBus")])
    def test_it_is_listed_under_its_own_kind(self, kind: str, shown: str):
        assert index_of({"type": kind, "name": "timer"}).listings[0].kind == shown

    def test_one_that_is_switched_off_says_so(self):
        assert note_of({"type": "queueTrigger", "name": "timer"}, disabled="asked for")[0] == "disabled: asked for"

    @pytest.mark.parametrize(
        "trigger", [TIMER, {"type": "httpTrigger", "name": "timer"}, {"type": "activityTrigger", "name": "timer"}]
    )
    @pytest.mark.parametrize("direction", ["in", "out"])
    def test_a_function_with_a_binding_that_is_not_served_is_inactive(self, trigger: dict[str, Any], direction: str):
        note, is_error = note_of(trigger, {"type": "blob", "name": "report", "direction": direction})

        assert "does not serve a blob binding  (DF110), its 'report'" in note
        assert "Python client" in note
        assert not is_error


def test_a_function_json_says_all_that_decorators_say(tmp_path: Path):
    trigger = {**TIMER, "RunOnStartup": "true", "usemonitor": "False"}
    (tmp_path / "function.json").write_text(json.dumps({"bindings": [trigger], "retry": RETRY}))

    says = read_function_json(tmp_path / "function.json", {})

    (timer,) = index_of(*(each.members for each in says.bindings), retry=says.retry).timers
    assert (timer.uses_monitor, timer.runs_on_startup) == (False, True)
    assert timer.retry == FunctionRetryPolicy.parse(RETRY)
