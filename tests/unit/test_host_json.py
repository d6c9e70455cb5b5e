"""host.json and what overrides it."""

import json
from pathlib import Path

import pytest

from perdure.core.records import StartPolicy
from perdure.core.versions import VersionFailure, Versioning, VersionMatch
from perdure.errors import AppError
from perdure.host.settings.host_json import HostConfig, read_host_json
from perdure.host.settings.settings_file import line_of, strip_json_comments


def host_json(folder: Path, text: object, environ: dict[str, str] | None = None, hub: str | None = None) -> HostConfig:
    (folder / "host.json").write_text(text if isinstance(text, str) else json.dumps(text), "utf-8")
    return read_host_json(folder, environ or {}, hub)


def durable(**members: object) -> dict[str, object]:
    return {"version": "2.0", "extensions": {"durableTask": members}}


class TestHostJson:
    def test_a_missing_file_means_the_defaults(self, tmp_path: Path):
        config = read_host_json(tmp_path, {})

        assert (config.hub, config.route_prefix, config.warnings) == ("TestHubName", "api", ())

    def test_comments_trailing_commas_and_a_byte_order_mark_are_read_over(self, tmp_path: Path):
        text = """\ufeff{ // note
            "version": "2.0", /* more */
            "extensions": {"durableTask": {"hubName": "ab",}},
        }"""

        assert host_json(tmp_path, text).hub == "ab"

    def test_one_member_of_a_list_in_the_file_can_be_overridden(self, tmp_path: Path):
        written = {"version": "2.0", "functions": ["A", "B"]}

        config = host_json(tmp_path, written, {"AzureFunctionsJobHost__functions__1": "C"})

        assert config.functions == ("A", "C")

    def test_what_looks_like_a_comment_inside_a_text_stays(self):
        assert json.loads(strip_json_comments('{"a": "x // y, ]", "b": [1, 2,],}')) == {"a": "x // y, ]", "b": [1, 2]}

    @pytest.mark.parametrize(
        ("path", "line"),
        [
            ("a", 1),
            ("b", 3),
            ("b.c", 4),
            ("b.d", 5),
            ("b.d.0", 5),
            ("b.d.1", 6),
            ("b.d.1.e", 7),
            ("f", 10),
            ("g", None),
        ],
    )
    def test_a_member_is_found_by_its_line(self, path: str, line: int | None):
        text = """{"a": 1, // "b": 2
            /* "g": {
            */ "b": {
                "c": "x: \\"y\\", {",
                "d": [1,
                    {
                        "e": null,
                    }],
            },
            "f": 2,
        }"""

        assert line_of(text, path.split(".")) == line

    def test_names_are_compared_without_case(self, tmp_path: Path):
        assert (
            host_json(tmp_path, {"Version": "2.0", "EXTENSIONS": {"DurableTask": {"HubName": "Orders"}}}).hub
            == "Orders"
        )

    def test_the_environment_overrides_the_file(self, tmp_path: Path):
        config = host_json(
            tmp_path,
            durable(hubName="FromFile"),
            {
                "AzureFunctionsJobHost__extensions__durableTask__hubName": "FromEnvironment",
                "AzureFunctionsJobHost__extensions__http__routePrefix": "/v1/",
                "AzureFunctionsJobHost__functions__1": "B",
                "AzureFunctionsJobHost__functions__0": "A",
                "AzureFunctionsJobHost__extensions__durableTask__maxConcurrentActivityFunctions": "3",
                "AzureFunctionsJobHost__logging__logLevel__Function": "Debug",
            },
        )

        assert (config.hub, config.route_prefix, config.functions) == ("FromEnvironment", "v1", ("A", "B"))
        assert config.activities_max == 3
        assert dict(config.log_levels) == {"Function": "Debug"}

    def test_an_empty_route_prefix_stays_empty(self, tmp_path: Path):
        assert host_json(tmp_path, {"version": "2.0", "extensions": {"http": {"routePrefix": ""}}}).route_prefix == ""

    def test_log_levels_keep_their_spelling(self, tmp_path: Path):
        config = host_json(tmp_path, {"version": "2.0", "logging": {"logLevel": {"Function.Hello": "Warning"}}})

        assert config.log_levels == {"Function.Hello": "Warning"}

    def test_a_misspelt_durable_setting_is_named_with_the_closest_known_one(self, tmp_path: Path):
        config = host_json(tmp_path, durable(maxConcurentActivityFunctions=4))

        assert "did you mean maxConcurrentActivityFunctions?" in config.warnings[0]

    def test_a_storage_setting_one_level_too_high_is_named(self, tmp_path: Path):
        assert "storageProvider" in host_json(tmp_path, durable(maxQueuePollingInterval="00:00:02")).warnings[0]

    def test_versions_start_policy_and_limits_are_read_whatever_their_case(self, tmp_path: Path):
        config = host_json(
            tmp_path,
            durable(
                DefaultVersion="1.2",
                versionMatchStrategy="strict",
                versionFailureStrategy="fail",
                overridableExistingInstanceStates="anystate",
                maxOrchestrationActions=7,
                httpSettings={"defaultAsyncRequestSleepTimeMilliseconds": 500},
            ),
        )

        assert config.versioning == Versioning("1.2", VersionMatch.STRICT, VersionFailure.FAIL)
        assert (config.start_policy, config.actions_max, config.http_poll_ms) == (StartPolicy.REPLACE, 7, 500)
        assert config.warnings == ()

    @pytest.mark.parametrize("members", [{"tracing": {"traceReplayEvents": True}}, {"logReplayEvents": True}])
    def test_replays_are_shown_when_asked_for(self, tmp_path: Path, members: dict[str, object]):
        assert host_json(tmp_path, durable(**members)).shows_replays
        assert not host_json(tmp_path, durable()).shows_replays

    def test_a_strategy_that_does_not_exist_is_refused(self, tmp_path: Path):
        with pytest.raises(AppError, match="versionMatchStrategy"):
            host_json(tmp_path, durable(versionMatchStrategy="Newest"))

    def test_settings_of_azure_machinery_are_accepted_silently(self, tmp_path: Path):
        content = durable(extendedSessionsEnabled=True, useAppLease=False, storageProvider={"type": "mssql"})

        config = host_json(tmp_path, content)

        assert (config.warnings, config.storage_type) == ((), "mssql")

    def test_a_missing_version_is_a_warning(self, tmp_path: Path):
        assert "version" in host_json(tmp_path, {}).warnings[0]

    @pytest.mark.parametrize("text", ["{", "[]", '{"version": "2.0"} x', ""])
    def test_a_file_that_is_not_an_object_is_refused(self, tmp_path: Path, text: str):
        with pytest.raises(AppError, match=r"DF107.*host\.json"):
            host_json(tmp_path, text)

    def test_a_value_of_the_wrong_kind_is_refused_by_its_path(self, tmp_path: Path):
        with pytest.raises(AppError, match="maxConcurrentActivityFunctions"):
            host_json(tmp_path, durable(maxConcurrentActivityFunctions="many"))

    def test_no_concurrency_at_all_is_refused(self, tmp_path: Path):
        with pytest.raises(AppError, match="positive integer"):
            host_json(tmp_path, durable(maxConcurrentActivityFunctions=0))


class TestHubName:
    def test_a_variable_is_resolved(self, tmp_path: Path):
        assert host_json(tmp_path, durable(hubName="%HUB%"), {"HUB": "Orders"}).hub == "Orders"

    def test_a_variable_without_value_is_refused(self, tmp_path: Path):
        with pytest.raises(AppError, match=r"DF108(.|\n)*HUB, which is not set"):
            host_json(tmp_path, durable(hubName="%HUB%"))

    def test_the_command_line_wins(self, tmp_path: Path):
        assert host_json(tmp_path, durable(hubName="%HUB%"), hub="Mine").hub == "Mine"

    def test_the_site_name_is_the_default(self, tmp_path: Path):
        assert read_host_json(tmp_path, {"WEBSITE_SITE_NAME": "orders"}).hub == "orders"

    @pytest.mark.parametrize("name", ["../other", "a/b", "", ".hidden", "a" * 129])
    def test_a_name_that_could_leave_its_folder_is_refused(self, tmp_path: Path, name: str):
        if not name:
            assert host_json(tmp_path, durable(hubName=name)).hub == "TestHubName"
            return
        with pytest.raises(AppError, match="DF108"):
            host_json(tmp_path, durable(hubName=name))

    def test_a_name_that_azure_would_refuse_is_a_warning(self, tmp_path: Path):
        assert "not on Azure" in host_json(tmp_path, durable(hubName="my-hub")).warnings[0]
