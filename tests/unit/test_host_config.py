"""host.json, local.settings.json and the environment."""

import json
from pathlib import Path

import pytest

from perdure.errors import AppError
from perdure.host.config import (
    HostConfig,
    LocalSettings,
    added_environment,
    read_host_json,
    read_local_settings,
    storage_note,
    strip_json_comments,
)


def host_json(folder: Path, text: object, environ: dict[str, str] | None = None, hub: str | None = None) -> HostConfig:
    (folder / "host.json").write_text(text if isinstance(text, str) else json.dumps(text), "utf-8")
    return read_host_json(folder, environ or {}, hub)


def durable(**members: object) -> dict[str, object]:
    return {"version": "2.0", "extensions": {"durableTask": members}}


def settings(folder: Path, content: object, environ: dict[str, str] | None = None) -> LocalSettings:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "local.settings.json").write_text(text, "utf-8")
    return read_local_settings(folder, environ or {})


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

    def test_what_looks_like_a_comment_inside_a_text_stays(self):
        assert json.loads(strip_json_comments('{"a": "x // y, ]", "b": [1, 2,],}')) == {"a": "x // y, ]", "b": [1, 2]}

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
        assert dict(config.log_levels) == {"function": "Debug"}

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

    def test_a_setting_that_does_nothing_yet_is_named(self, tmp_path: Path):
        assert (
            "no effect in this version: defaultVersion" in host_json(tmp_path, durable(defaultVersion="1")).warnings[0]
        )

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
        with pytest.raises(AppError, match="maxconcurrentactivityfunctions"):
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


class TestLocalSettings:
    def test_values_become_text(self, tmp_path: Path):
        found = settings(tmp_path, {"IsEncrypted": False, "Values": {"A": "x", "B": 1, "C": True}})

        assert (found.values, found.warnings) == ({"A": "x", "B": "1", "C": "true"}, ())

    def test_the_real_environment_wins(self, tmp_path: Path):
        found = settings(tmp_path, {"Values": {"A": "file"}}, {"A": "environment"})

        assert found.values == {}
        assert "Skipping 'A'" in found.warnings[0]

    def test_empty_keys_nulls_and_nested_values_are_skipped_with_a_word(self, tmp_path: Path):
        found = settings(tmp_path, {"Values": {"": "x", "N": None, "O": {"a": 1}, "CONTAINER_NAME": "c"}})

        assert (found.values, len(found.warnings)) == ({}, 4)

    def test_an_encrypted_file_is_explained_and_not_used(self, tmp_path: Path):
        found = settings(tmp_path, {"IsEncrypted": True, "Values": {"A": "AQAAANCMnd8"}})

        assert found.values == {}
        assert "func settings decrypt" in found.warnings[0]

    def test_bad_json_is_a_warning(self, tmp_path: Path):
        assert "Failed to read app settings file" in settings(tmp_path, "{").warnings[0]

    def test_connection_strings_become_variables(self, tmp_path: Path):
        found = settings(tmp_path, {"ConnectionStrings": {"Db": "one", "Db2": {"ConnectionString": "two"}}})

        assert found.values == {"ConnectionStrings__Db": "one", "ConnectionStrings__Db2": "two"}

    def test_port_and_address_are_defaults(self, tmp_path: Path):
        found = settings(tmp_path, {"Host": {"LocalHttpPort": "7080", "LocalHttpAddress": "127.0.0.1"}})

        assert (found.port, found.address) == (7080, "127.0.0.1")

    def test_the_variables_that_apps_test_are_added(self, tmp_path: Path):
        added = added_environment(LocalSettings({"A": "x"}), tmp_path, 7090, {"AZURE_FUNCTIONS_ENVIRONMENT": "Staging"})

        assert added == {
            "A": "x",
            "FUNCTIONS_CORETOOLS_ENVIRONMENT": "true",
            "WEBSITE_HOSTNAME": "localhost:7090",
            "AzureWebJobsScriptRoot": str(tmp_path),
            "FUNCTIONS_WORKER_RUNTIME": "python",
        }


class TestStorage:
    def test_the_emulator_is_replaced_without_a_warning(self):
        note = storage_note({"AzureWebJobsStorage": "UseDevelopmentStorage=true"})

        assert not note.is_replaced

    @pytest.mark.parametrize(
        ("environ", "named"),
        [
            ({"AzureWebJobsStorage": "AccountName=orders;AccountKey=c2VjcmV0"}, "'orders'"),
            (
                {"AzureWebJobsStorage": "BlobEndpoint=https://o.blob.example/;SharedAccessSignature=s3cret"},
                "o.blob.example",
            ),
            ({"AzureWebJobsStorage__accountName": "orders"}, "'orders' by identity"),
            ({"AzureWebJobsStorage__blobServiceUri": "https://o.blob.example"}, "o.blob.example by identity"),
            ({}, "not set"),
            ({"AzureWebJobsStorage": "c2VjcmV0"}, "does not name"),
        ],
    )
    def test_any_other_value_is_named_but_nothing_secret_of_it(self, environ: dict[str, str], named: str):
        note = storage_note(environ)

        assert note.is_replaced
        assert named in note.text
        assert "c2VjcmV0" not in note.text
        assert "s3cret" not in note.text
