"""local.settings.json and what it adds to the environment."""

import json
from pathlib import Path

from perdure.host.local_settings import LocalSettings, added_environment, read_local_settings


def settings(folder: Path, content: object, environ: dict[str, str] | None = None) -> LocalSettings:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "local.settings.json").write_text(text, "utf-8")
    return read_local_settings(folder, environ or {})


def test_values_become_text(tmp_path: Path):
    found = settings(tmp_path, {"IsEncrypted": False, "Values": {"A": "x", "B": 1, "C": True}})

    assert (found.values, found.warnings) == ({"A": "x", "B": "1", "C": "true"}, ())


def test_the_real_environment_wins(tmp_path: Path):
    found = settings(tmp_path, {"Values": {"A": "file"}}, {"A": "environment"})

    assert found.values == {}
    assert "Skipping 'A'" in found.warnings[0]


def test_empty_keys_nulls_and_nested_values_are_skipped_with_a_word(tmp_path: Path):
    found = settings(tmp_path, {"Values": {"": "x", "N": None, "O": {"a": 1}, "CONTAINER_NAME": "c"}})

    assert (found.values, len(found.warnings)) == ({}, 4)


def test_an_encrypted_file_is_explained_and_not_used(tmp_path: Path):
    found = settings(tmp_path, {"IsEncrypted": True, "Values": {"A": "AQAAANCMnd8"}})

    assert found.values == {}
    assert "func settings decrypt" in found.warnings[0]


def test_bad_json_is_a_warning(tmp_path: Path):
    assert "Failed to read app settings file" in settings(tmp_path, "{").warnings[0]


def test_connection_strings_become_variables(tmp_path: Path):
    found = settings(tmp_path, {"ConnectionStrings": {"Db": "one", "Db2": {"ConnectionString": "two"}}})

    assert found.values == {"ConnectionStrings__Db": "one", "ConnectionStrings__Db2": "two"}


def test_port_and_address_are_defaults(tmp_path: Path):
    found = settings(tmp_path, {"Host": {"LocalHttpPort": "7080", "LocalHttpAddress": "127.0.0.1"}})

    assert (found.port, found.address) == (7080, "127.0.0.1")


def test_the_variables_that_apps_test_are_added(tmp_path: Path):
    added = added_environment(LocalSettings({"A": "x"}), tmp_path, 7090, {"AZURE_FUNCTIONS_ENVIRONMENT": "Staging"})

    assert added == {
        "A": "x",
        "FUNCTIONS_CORETOOLS_ENVIRONMENT": "true",
        "WEBSITE_HOSTNAME": "localhost:7090",
        "AzureWebJobsScriptRoot": str(tmp_path),
        "FUNCTIONS_WORKER_RUNTIME": "python",
    }
