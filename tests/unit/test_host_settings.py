"""Every setting of host.json: what it may be, what is refused, and what is said about wrong names and values."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure.core.versions import VersionFailure, VersionMatch
from perdure.errors import AppError
from perdure.host.settings.host_json import FunctionRetry, HostConfig, hub_of, read_host_json
from perdure.host.settings.host_settings import DURABLE, HTTP, MOVED, MOVED_SECTIONS, PROVIDERS, SETTINGS, STORAGE
from perdure.host.settings.local_settings import read_local_settings
from perdure.host.settings.setting import (
    Choice,
    Effect,
    Flag,
    Fraction,
    Listed,
    Named,
    Section,
    Setting,
    SettingName,
    Span,
    Text,
    TimeLimit,
    Whole,
    span_text,
)

GOOD = "good"
WRONG = "wrong kind"
OUTSIDE = "outside"


def tree(path: str, value: object) -> dict[str, Any]:
    """A host.json with one setting."""
    for name in reversed(path.split(".")):
        value = {name: value}
    assert isinstance(value, dict)
    return {"version": "2.0", **value}


def merged(*trees: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for each in trees:
        for name, value in each.items():
            both_are_objects = isinstance(value, dict) and isinstance(result.get(name), dict)
            result[name] = merged(result[name], value) if both_are_objects else value
    return result


def read(folder: Path, content: object, environ: dict[str, str] | None = None) -> HostConfig:
    (folder / "host.json").write_text(content if isinstance(content, str) else json.dumps(content, indent=1), "utf-8")
    return read_host_json(folder, environ or {})


def refusal(folder: Path, content: object, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(AppError) as refused:
        read(folder, content, environ)
    return str(refused.value)


def values_of(kind: Any) -> Iterator[tuple[str, object]]:
    """Values of that kind, and values that are none."""
    match kind:
        case Flag():
            yield from ((GOOD, True), (GOOD, "False"), (WRONG, "maybe"), (WRONG, 3))
        case Whole():
            least = 1 if kind.least is None else kind.least
            yield from ((GOOD, max(least, 1)), (GOOD, str(max(least, 1))), (WRONG, "many"), (WRONG, 1.5), (WRONG, True))
            if kind.least is not None:
                yield OUTSIDE, kind.least - 1
            if kind.most is not None:
                yield from ((GOOD, kind.most), (OUTSIDE, kind.most + 1))
        case Fraction():
            yield from ((GOOD, 0.5), (GOOD, "0.25"), (WRONG, "half"), (OUTSIDE, 1.5))
        case Choice():
            yield from ((GOOD, kind.words[0]), (GOOD, kind.words[-1].upper()), (WRONG, "neither"), (WRONG, 7))
        case Span():
            most = kind.most or timedelta(hours=1)
            yield from ((GOOD, span_text(most)), (WRONG, "soon"), (WRONG, "00:61:00"), (WRONG, True))
            if kind.least is not None:
                yield OUTSIDE, f"-{span_text(timedelta(seconds=1))}"
            if kind.most is not None:
                yield OUTSIDE, span_text(kind.most + timedelta(seconds=1))
        case TimeLimit():
            yield from ((GOOD, "00:10:00"), (GOOD, -1), (GOOD, "-1"), (WRONG, "never"), (OUTSIDE, "00:00:00.5"))
        case SettingName():
            yield from ((GOOD, "MyConnection"), (WRONG, "Endpoint=sb://x;SharedAccessKey=c2VjcmV0"))
        case Text():
            yield from ((GOOD, "text"), (GOOD, 5))
        case Listed():
            item = next(value for verdict, value in values_of(kind.item) if verdict == GOOD)
            yield from ((GOOD, [item, item]), (WRONG, "alone"))
            yield from ((verdict, [item, value]) for verdict, value in values_of(kind.item) if verdict != GOOD)
        case Named():
            item = next(value for verdict, value in values_of(kind.item) if verdict == GOOD)
            yield from ((GOOD, {"a.b": item}), (WRONG, "alone"))
            yield from ((verdict, {"x": value}) for verdict, value in values_of(kind.item) if verdict != GOOD)
        case Section():
            yield from ((GOOD, {"anything": [1]}), (GOOD, {}))
        case _:
            raise AssertionError(f"no values for {kind}")


def context_of(setting: Setting[Any]) -> dict[str, Any]:
    """What else has to be in the file for the setting to be read alone."""
    if setting.providers:
        return tree(f"{STORAGE}.type", setting.providers[0])
    if setting.path.startswith("retry."):
        return tree("retry", {"strategy": "fixedDelay", "maxRetryCount": 1, "delayInterval": "00:00:01"})
    return {}


CASES = [
    pytest.param(row, verdict, value, id=f"{row.path}-{'/'.join(row.providers)}-{verdict}-{value}")
    for row in SETTINGS
    for verdict, value in values_of(row.kind)
    if verdict != GOOD or not row.path.endswith((".topicEndpoint", ".strategy"))  # want more than to be alone
]


class TestEveryRow:
    @pytest.mark.parametrize(("row", "verdict", "value"), CASES)
    def test_a_value_is_taken_or_refused_by_its_place_and_its_path(
        self, tmp_path: Path, row: Setting[Any], verdict: str, value: object
    ):
        content = merged(context_of(row), tree(row.path, value))

        if verdict == GOOD:
            warnings = read(tmp_path, content).warnings
            assert [each for each in warnings if "not a known setting" in each or "belongs in" in each] == []
        else:
            said = refusal(tmp_path, content)
            assert said.startswith("DF107  A setting has a value that cannot be used")
            assert re.search(r"host\.json, line \d+: ", said)
            assert row.path in said
            assert "has to be" in said
            assert "c2VjcmV0" not in said

    @pytest.mark.parametrize("row", SETTINGS, ids=lambda row: f"{row.path}-{'/'.join(row.providers)}")
    def test_a_row_says_what_it_means_and_what_becomes_of_it(self, row: Setting[Any]):
        assert row.meaning
        assert row.note or row.effect is Effect.HONOURED
        assert not row.meaning.endswith(".")

    def test_no_setting_stands_twice_for_the_same_provider(self):
        found = [(row.path.casefold(), provider) for row in SETTINGS for provider in row.providers or ("",)]

        assert len(found) == len(set(found))

    @pytest.mark.parametrize("row", [row for row in SETTINGS if row.default is not None], ids=lambda row: row.path)
    def test_a_default_is_a_value_of_its_kind(self, row: Setting[Any]):
        if not isinstance(row.kind, Listed | Named):
            assert row.kind.read(row.shown_default) == row.default


class TestHonoured:
    """What the host gets."""

    @pytest.mark.parametrize(
        ("path", "value", "member", "expected"),
        [
            ("functionTimeout", "00:10:00", "function_timeout", timedelta(minutes=10)),
            ("functionTimeout", "-1", "function_timeout", None),
            ("functions", ["A", "B"], "functions", ("A", "B")),
            ("functions", [], "functions", None),
            ("metadataProviderTimeout", "00:00:02", "metadata_timeout", timedelta(seconds=2)),
            ("logging.logLevel", {"Function.Hello": "warning"}, "log_levels", {"Function.Hello": "Warning"}),
            (f"{HTTP}.routePrefix", "/v1/", "route_prefix", "v1"),
            (f"{HTTP}.maxOutstandingRequests", 20, "outstanding_requests_max", 20),
            (f"{HTTP}.maxOutstandingRequests", -1, "outstanding_requests_max", None),
            (f"{HTTP}.maxConcurrentRequests", 10, "concurrent_requests_max", 10),
            (f"{HTTP}.customHeaders", {"X-Content": "a"}, "http_headers", {"X-Content": "a"}),
            (f"{DURABLE}.hubName", "Orders", "hub", "Orders"),
            (f"{DURABLE}.maxConcurrentActivityFunctions", 3, "activities_max", 3),
            (f"{DURABLE}.maxConcurrentEntityFunctions", 2, "entities_max", 2),
            (f"{DURABLE}.maxEntityOperationBatchSize", 1, "entity_batch_max", 1),
            (f"{DURABLE}.maxOrchestrationActions", 7, "actions_max", 7),
            (f"{DURABLE}.rollbackEntityOperationsOnExceptions", False, "rolls_back", False),
            (f"{DURABLE}.localRpcEndpointEnabled", False, "serves_rpc", False),
            (f"{DURABLE}.httpSettings.defaultAsyncRequestSleepTimeMilliseconds", 50, "http_poll_ms", 50),
            (f"{DURABLE}.httpSettings.useForwardedHost", True, "uses_forwarded_host", True),
            (f"{DURABLE}.tracing.traceInputsAndOutputs", True, "shows_payloads", True),
            (f"{DURABLE}.tracing.traceReplayEvents", True, "shows_replays", True),
            (f"{STORAGE}.type", "mssql", "storage_type", "mssql"),
            (f"{STORAGE}.partitionCount", 7, "partitions", 7),
            (f"{STORAGE}.maxQueuePollingInterval", "00:00:02", "poll_interval", timedelta(seconds=2)),
            (f"{STORAGE}.maxQueuePollingInterval", "00:00:00", "poll_interval", timedelta(milliseconds=100)),
            (f"{STORAGE}.maxQueuePollingInterval", "00:10:00", "poll_interval", timedelta(seconds=30)),
        ],
    )
    def test_the_value_arrives(self, tmp_path: Path, path: str, value: object, member: str, expected: object):
        assert getattr(read(tmp_path, tree(path, value)), member) == expected

    def test_versions_arrive_together(self, tmp_path: Path):
        members = {"defaultVersion": "2.1", "versionMatchStrategy": "none", "versionFailureStrategy": "FAIL"}

        versioning = read(tmp_path, tree(DURABLE, members)).versioning

        assert (versioning.default, versioning.match, versioning.failure) == (
            "2.1", VersionMatch.NONE, VersionFailure.FAIL,
        )  # fmt: skip

    def test_what_is_the_engines_reaches_the_engines_settings(self, tmp_path: Path):
        content = tree(
            DURABLE,
            {"maxEntityOperationBatchSize": 9, "storageProvider": {"maxQueuePollingInterval": "00:00:01"}},
        )

        settings = read(tmp_path, content).engine_settings()

        assert (settings.entity_batch_max, settings.poll_interval) == (9, timedelta(seconds=1))

    @pytest.mark.parametrize(
        ("members", "expected"),
        [
            (
                {"strategy": "fixedDelay", "maxRetryCount": 3, "delayInterval": "00:00:05"},
                FunctionRetry("fixedDelay", 3, delay=timedelta(seconds=5)),
            ),
            (
                {
                    "strategy": "ExponentialBackoff", "maxRetryCount": -1,
                    "minimumInterval": "00:00:01", "maximumInterval": "00:10:00",
                },
                FunctionRetry("exponentialBackoff", None, least=timedelta(seconds=1), most=timedelta(minutes=10)),
            ),
        ],
    )  # fmt: skip
    def test_retries_arrive(self, tmp_path: Path, members: dict[str, object], expected: FunctionRetry):
        assert read(tmp_path, tree("retry", members)).retry == expected

    @pytest.mark.parametrize(
        ("members", "missing"),
        [
            ({"strategy": "fixedDelay", "maxRetryCount": 3}, "retry.delayInterval"),
            ({"strategy": "fixedDelay", "delayInterval": "00:00:01"}, "retry.maxRetryCount"),
            ({"strategy": "exponentialBackoff", "maxRetryCount": 3}, "retry.minimumInterval, retry.maximumInterval"),
            ({"maxRetryCount": 3}, "retry.strategy"),
        ],
    )
    def test_incomplete_retries_are_refused(self, tmp_path: Path, members: dict[str, object], missing: str):
        assert f"missing: {missing}." in refusal(tmp_path, tree("retry", members))

    def test_the_defaults_of_the_table_are_those_that_the_host_has(self, tmp_path: Path):
        assert read_host_json(tmp_path, {}) == HostConfig()


class TestUnknownNames:
    @pytest.mark.parametrize(
        ("path", "hint"),
        [
            (f"{DURABLE}.maxConcurentActivityFunctions", "did you mean maxConcurrentActivityFunctions?"),
            (f"{STORAGE}.partitionCont", "did you mean partitionCount?"),
            (f"{HTTP}.routeprefx", "did you mean routePrefix?"),
            ("functionTimeOut1", "did you mean functionTimeout?"),
            ("extension.durableTask.hubName", "did you mean extensions?"),
            ("extensions.durableTasks.hubName", "did you mean durableTask?"),
            (f"{DURABLE}.traceing.traceReplayEvents", "did you mean tracing?"),
            ("logging.loglevels.default", "did you mean logLevel?"),
            ("nothingLikeIt", "is not a known setting"),
        ],
    )
    def test_a_misspelt_name_is_told_with_the_closest_known_one(self, tmp_path: Path, path: str, hint: str):
        (warning,) = read(tmp_path, tree(path, 1)).warnings

        assert warning.startswith("host.json, line ")
        assert hint in warning

    @pytest.mark.parametrize(
        ("path", "place"),
        [
            ("hubName", DURABLE),
            ("routePrefix", HTTP),
            (f"{DURABLE}.routePrefix", HTTP),
            (f"{STORAGE}.maxConcurrentActivityFunctions", DURABLE),
            (f"{DURABLE}.useTablePartitionManagement", STORAGE),
            (f"{DURABLE}.traceReplayEvents", f"{DURABLE}.tracing"),
            (f"{DURABLE}.functionTimeout", "the top of the file"),
        ],
    )
    def test_a_known_name_in_the_wrong_place_is_sent_to_the_right_one(self, tmp_path: Path, path: str, place: str):
        (warning,) = read(tmp_path, tree(path, 1)).warnings

        assert f"belongs in {place}; where it stands no host reads it" in warning

    def test_an_unknown_section_is_told_once(self, tmp_path: Path):
        assert len(read(tmp_path, tree("whatever", {"a": 1, "b": {"c": 2}})).warnings) == 1

    def test_remarks_and_schemas_are_no_settings(self, tmp_path: Path):
        content = {"version": "2.0", "$schema": "https://x", "//": "a remark", "_comment": "another"}

        assert read(tmp_path, content).warnings == ()

    def test_what_an_unknown_setting_holds_is_never_repeated(self, tmp_path: Path):
        warnings = read(tmp_path, tree("conection", {"string": "AccountKey=c2VjcmV0"})).warnings

        assert "c2VjcmV0" not in " ".join(warnings)

    @pytest.mark.parametrize(("old", "new"), MOVED.items())
    def test_a_flat_setting_of_durable_functions_1_is_used_with_a_warning(self, tmp_path: Path, old: str, new: str):
        row = next(row for row in SETTINGS if row.path == new)
        value = next(value for verdict, value in values_of(row.kind) if verdict == GOOD)
        environ = {"MyConnection": "key"}
        if new.endswith(".topicEndpoint"):
            content = merged(tree(old, "http://localhost/"), tree(f"{DURABLE}.eventGridKeySettingName", "MyConnection"))
        else:
            content = tree(old, value)

        warnings = read(tmp_path, content, environ).warnings

        assert any(f"{old} belongs in {new.rpartition('.')[0]}" in each for each in warnings)

    def test_the_flat_spelling_gives_way_to_the_right_one(self, tmp_path: Path):
        content = tree(DURABLE, {"partitionCount": 2, "storageProvider": {"partitionCount": 3}})

        assert read(tmp_path, content).partitions == 3

    @pytest.mark.parametrize("old", MOVED_SECTIONS)
    def test_a_section_of_functions_1_is_used_with_a_warning(self, tmp_path: Path, old: str):
        members = {"durableTask": {"hubName": "Old"}, "http": {"routePrefix": "old"}, "queues": {"batchSize": 8}}

        config = read(tmp_path, {"version": "2.0", old: members[old]})

        assert f"the section {old} is from Functions 1.x" in config.warnings[0]
        assert old != "durableTask" or config.hub == "Old"
        assert old != "http" or config.route_prefix == "old"

    def test_a_flat_setting_in_a_section_of_functions_1_is_used_too(self, tmp_path: Path):
        config = read(tmp_path, {"version": "2.0", "durableTask": {"partitionCount": 5}})

        assert (config.partitions, len(config.warnings)) == (5, 2)

    def test_settings_without_effect_yet_are_told_in_one_line(self, tmp_path: Path):
        content = merged(tree("watchFiles", ["a.txt"]), tree(f"{DURABLE}.tracing.distributedTracingEnabled", True))

        (warning,) = read(tmp_path, content).warnings

        assert warning.startswith(
            "host.json: without effect in this version: watchFiles, extensions.durableTask.tracing"
        )

    def test_days_that_were_meant_as_seconds_are_pointed_out(self, tmp_path: Path):
        config = read(tmp_path, tree(f"{STORAGE}.maxQueuePollingInterval", "2"))

        assert "which means so many days" in config.warnings[0]


class TestStorageProviders:
    @pytest.mark.parametrize("provider", [*PROVIDERS, "MSSQL", "AzureManaged", "netherite"])
    def test_every_official_one_is_taken_in_any_case(self, tmp_path: Path, provider: str):
        config = read(tmp_path, tree(STORAGE, {"type": provider}))

        assert (config.storage_type, config.warnings) == (provider, ())

    def test_another_one_is_a_warning_that_knows_the_closest(self, tmp_path: Path):
        (warning,) = read(tmp_path, tree(STORAGE, {"type": "Netherit"})).warnings

        assert "'Netherit' is none of AzureStorage, mssql, Netherite, azureManaged; did you mean Netherite?" in warning

    def test_a_setting_of_another_provider_is_told(self, tmp_path: Path):
        (warning,) = read(tmp_path, tree(STORAGE, {"type": "mssql", "partitionCount": 8})).warnings

        assert "partitionCount is a setting of AzureStorage and Netherite, not of the storage provider mssql" in warning

    def test_bounds_are_those_of_the_provider(self, tmp_path: Path):
        assert "from 1 to 16" in refusal(tmp_path, tree(STORAGE, {"partitionCount": 17}))
        assert read(tmp_path, tree(STORAGE, {"type": "Netherite", "partitionCount": 17})).partitions == 17

    def test_a_scheduler_names_the_hub_in_its_connection_string(self, tmp_path: Path):
        content = tree(STORAGE, {"type": "azureManaged", "connectionStringName": "DTS"})

        config = read(tmp_path, content, {"DTS": "Endpoint=http://localhost:8080;TaskHub=default;Authentication=None"})

        assert config.hub == "default"

    def test_the_hubs_name_in_host_json_wins_over_it(self, tmp_path: Path):
        content = tree(DURABLE, {"hubName": "Mine", "storageProvider": {"type": "mssql", "taskHubName": "theirs"}})

        assert read(tmp_path, content).hub == "Mine"


class TestOverrides:
    def test_the_environment_beats_the_file_whatever_the_case(self, tmp_path: Path):
        content = tree(f"{DURABLE}.maxConcurrentActivityFunctions", 2)

        config = read(
            tmp_path, content, {"AZUREFUNCTIONSJOBHOST__EXTENSIONS__DURABLETASK__MAXCONCURRENTACTIVITYFUNCTIONS": "5"}
        )

        assert config.activities_max == 5

    def test_colons_separate_too(self, tmp_path: Path):
        assert (
            read(tmp_path, {"version": "2.0"}, {"AzureFunctionsJobHost:functionTimeout": "-1"}).function_timeout is None
        )

    def test_lists_are_overridden_item_by_item_and_may_grow(self, tmp_path: Path):
        environ = {f"AzureFunctionsJobHost__functions__{number}": name for number, name in ((10, "C"), (1, "B"))}

        assert read(tmp_path, {"version": "2.0", "functions": ["A", "X"]}, environ).functions == ("A", "B", "C")

    def test_levels_of_categories_are_added_to_those_of_the_file(self, tmp_path: Path):
        content = tree("logging.logLevel", {"default": "Information", "Function": "Warning"})

        config = read(tmp_path, content, {"AzureFunctionsJobHost__logging__logLevel__function": "Debug"})

        assert config.log_levels == {"default": "Information", "Function": "Debug"}

    def test_a_value_that_cannot_be_used_names_the_variable(self, tmp_path: Path):
        said = refusal(tmp_path, {"version": "2.0"}, {"AzureFunctionsJobHost__functionTimeout": "forever"})

        assert "the variable AzureFunctionsJobHost__functionTimeout: functionTimeout is 'forever'" in said

    def test_an_unknown_name_names_the_variable(self, tmp_path: Path):
        (warning,) = read(tmp_path, {"version": "2.0"}, {"AzureFunctionsJobHost__functionTimout": "-1"}).warnings

        assert warning.startswith("the variable AzureFunctionsJobHost__functionTimout: functionTimout")
        assert "did you mean functionTimeout?" in warning

    def test_a_long_value_is_not_repeated(self, tmp_path: Path):
        secret = "kbdD8x0q2Zr7vQyq5rJ2m1w+3hTn=="

        assert secret not in refusal(tmp_path, {"version": "2.0"}, {"AzureFunctionsJobHost__functionTimeout": secret})


class TestErrors:
    def test_all_of_them_are_told_at_once_with_their_lines(self, tmp_path: Path):
        text = """{
          "version": "2.0", // the form
          /* two
             lines */
          "functionTimeout": "tomorrow",
          "extensions": {
            "http": {"maxOutstandingRequests": "lots",},
            "durableTask": {
              "storageProvider": {
                "partitionCount": 99
              }
            }
          }
        }"""

        said = refusal(tmp_path, text)

        assert "host.json, line 5: functionTimeout is 'tomorrow'" in said
        assert "host.json, line 7: extensions.http.maxOutstandingRequests is 'lots'" in said
        assert f"host.json, line 10: {STORAGE}.partitionCount is 99, but has to be an integer from 1 to 16." in said

    def test_a_misspelt_word_is_told_with_the_closest(self, tmp_path: Path):
        said = refusal(tmp_path, tree(f"{DURABLE}.versionMatchStrategy", "CurrentOrOldest"))

        assert "Did you mean CurrentOrOlder?" in said

    def test_an_object_in_the_place_of_a_value_is_refused(self, tmp_path: Path):
        assert f"{DURABLE}.hubName has to be text" in refusal(tmp_path, tree(f"{DURABLE}.hubName", {"a": 1}))

    def test_a_value_in_the_place_of_a_section_is_a_warning(self, tmp_path: Path):
        (warning,) = read(tmp_path, tree(DURABLE, "yes")).warnings

        assert f"{DURABLE} has to be an object" in warning

    @pytest.mark.parametrize("value", ["24:00:00", "1:2:3:4:5", "00:00:60", "", "  ", "10s", "99999999999"])
    def test_times_are_written_as_in_dotnet(self, tmp_path: Path, value: str):
        assert "hh:mm:ss" in refusal(tmp_path, tree(f"{DURABLE}.grpcHttpClientTimeout", value))

    @pytest.mark.parametrize(
        ("text", "span"),
        [
            ("00:00:01", timedelta(seconds=1)),
            ("1.02:03:04.5", timedelta(days=1, hours=2, minutes=3, seconds=4.5)),
            ("7:05", timedelta(hours=7, minutes=5)),
            ("3", timedelta(days=3)),
            ("00:00:00.1234567", timedelta(microseconds=123456)),
        ],
    )
    def test_every_form_of_a_time_is_read(self, text: str, span: timedelta):
        assert Span().read(text) == span

    def test_a_file_nested_without_end_is_refused(self, tmp_path: Path):
        assert "DF107" in refusal(tmp_path, '{"a":' * 100_000)


class TestHubName:
    def test_a_slot_needs_a_name_of_its_own(self, tmp_path: Path):
        assert "when using slots" in refusal(tmp_path, {"version": "2.0"}, {"WEBSITE_SLOT_NAME": "staging"})
        assert read(tmp_path, tree(f"{DURABLE}.hubName", "Stage"), {"WEBSITE_SLOT_NAME": "staging"}).hub == "Stage"

    @pytest.mark.parametrize(
        ("site", "hub"),
        [("my-orders", "myorders"), ("1app", "t1app"), ("a", "aHub"), ("-", "DefaultTaskHub"), ("x" * 60, "x" * 45)],
    )
    def test_a_sites_name_is_made_a_hubs_name(self, tmp_path: Path, site: str, hub: str):
        assert read(tmp_path, {"version": "2.0"}, {"WEBSITE_SITE_NAME": site}).hub == hub

    def test_the_rules_of_azure_storage_are_not_those_of_other_providers(self, tmp_path: Path):
        content = tree(DURABLE, {"hubName": "my-hub", "storageProvider": {"type": "mssql"}})

        assert read(tmp_path, content).warnings == ()

    def test_only_the_whole_of_a_name_can_be_a_variable(self, tmp_path: Path):
        assert "cannot be the name of a task hub" in refusal(
            tmp_path, tree(f"{DURABLE}.hubName", "a%HUB%"), {"HUB": "b"}
        )


class TestNotifications:
    GRID = f"{DURABLE}.notifications.eventGrid"

    def test_endpoint_and_key_may_be_settings(self, tmp_path: Path):
        content = tree(
            self.GRID, {"topicEndpoint": "%TOPIC%", "keySettingName": "KEY", "publishEventTypes": ["failed"]}
        )

        topic = read(tmp_path, content, {"TOPIC": "http://localhost:1/", "KEY": "c2VjcmV0"}).topic

        assert topic is not None
        assert (topic.endpoint, topic.key, topic.events) == ("http://localhost:1/", "c2VjcmV0", {"Failed"})

    def test_who_only_looks_for_the_hub_does_not_need_the_key(self, tmp_path: Path):
        content = tree(DURABLE, {"hubName": "Orders", "notifications": {"eventGrid": {"topicEndpoint": "http://x/"}}})
        (tmp_path / "host.json").write_text(json.dumps(content), "utf-8")

        assert hub_of(tmp_path, {}) == "Orders"

    @pytest.mark.parametrize(
        ("members", "said"),
        [
            ({"topicEndpoint": "http://localhost/"}, "keySettingName has to name the app setting"),
            ({"topicEndpoint": "http://localhost/", "keySettingName": "NONE"}, "is NONE, and there is no such setting"),
            ({"topicEndpoint": "%NONE%", "keySettingName": "KEY"}, "is %NONE%, and there is no such setting"),
            ({"topicEndpoint": "localhost?key=c2VjcmV0", "keySettingName": "KEY"}, "has to be a URL"),
        ],
    )
    def test_what_is_missing_stops_the_start(self, tmp_path: Path, members: dict[str, object], said: str):
        text = refusal(tmp_path, tree(self.GRID, members), {"KEY": "c2VjcmV0"})

        assert text.startswith("DF150  Failed to start lifecycle notification feature")
        assert said in text
        assert "c2VjcmV0" not in text


class TestGuide:
    EXAMPLES = Path(__file__).parents[2] / "docs" / "reference" / "examples"

    def test_the_files_of_the_guide_are_read_without_a_warning(self, tmp_path: Path):
        for name, target in (("settings_host.json", "host.json"), ("settings_local.json", "local.settings.json")):
            (tmp_path / target).write_text((self.EXAMPLES / name).read_text("utf-8"), "utf-8")
        local = read_local_settings(tmp_path, {})

        config = read_host_json(tmp_path, local.values)

        assert (local.warnings, config.warnings) == ((), ())
        assert (local.port, local.cors, config.hub) == (7080, "http://localhost:3000", "Orders")
        assert (config.function_timeout, config.activities_max) == (None, 20)
        assert config.topic is not None
        assert (config.topic.endpoint, config.topic.events) == (
            "http://localhost:8025/orders",
            {"Failed", "Terminated"},
        )
