"""local.settings.json and what it adds to the environment."""

import json
from pathlib import Path

import pytest

from perdure.host.settings.local_settings import LocalSettings, added_environment, read_local_settings


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


def test_a_file_that_does_not_say_whether_it_is_encrypted_is_not(tmp_path: Path):
    assert settings(tmp_path, {"Values": {"A": "x"}}).values == {"A": "x"}


def test_why_a_file_cannot_be_read_is_told_by_its_line(tmp_path: Path):
    (warning,) = settings(tmp_path, '{\n "Values": {\n  "Key": c2VjcmV0 }}').warnings

    assert "line 3" in warning
    assert "c2VjcmV0" not in warning


def test_variables_that_no_system_has_are_skipped(tmp_path: Path):
    found = settings(tmp_path, {"Values": {"A=B": "x", "N\0": "x", "V": "a\0b"}, "ConnectionStrings": {"C=D": "x"}})

    assert (found.values, len(found.warnings)) == ({}, 4)
    assert "a\0b" not in " ".join(found.warnings)


def test_a_reference_to_key_vault_is_passed_on_with_a_warning(tmp_path: Path):
    found = settings(tmp_path, {"Values": {"K": "@Microsoft.KeyVault(SecretUri=https://v/secrets/s)"}})

    assert found.values["K"].startswith("@Microsoft.KeyVault(")
    assert found.warnings == ("'K' refers to Azure Key Vault, which is not asked; it is passed on as it is",)


def test_a_connection_string_that_is_none_is_skipped(tmp_path: Path):
    found = settings(tmp_path, {"ConnectionStrings": {"Db": 5, "Db2": {"ProviderName": "p"}}})

    assert (found.values, len(found.warnings)) == ({}, 2)


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ({"LocalHttpPort": "seven"}, "Host.LocalHttpPort is not used: it has to be an integer from 0 to 65,535"),
        ({"LocalHttpPort": 70000}, "Host.LocalHttpPort is not used"),
        ({"LocalHttpAddress": ["127.0.0.1"]}, "Host.LocalHttpAddress is not used: it has to be text"),
        ({"CORSCredentials": "yes"}, "Host.CORSCredentials is not used: it has to be true or false"),
        ({"LocalHttPort": 7080}, "Host.LocalHttPort is not a known setting; did you mean LocalHttpPort?"),
    ],
)
def test_what_the_host_cannot_use_is_a_warning(tmp_path: Path, host: dict[str, object], said: str):
    found = settings(tmp_path, {"Host": host})

    assert said in found.warnings[0]
    assert (found.port, found.address, found.cors_credentials) == (None, None, False)


def test_a_section_that_nobody_reads_is_a_warning(tmp_path: Path):
    found = settings(tmp_path, {"Value": {"A": "c2VjcmV0"}, "MyKey": "c2VjcmV0"})

    assert found.warnings == (
        "local.settings.json: Value is not a known setting; did you mean Values?",
        "local.settings.json: MyKey is not a known setting; settings of the app belong in Values",
    )


def test_another_language_is_a_warning(tmp_path: Path):
    assert (
        "runs Python functions only" in settings(tmp_path, {"Values": {"FUNCTIONS_WORKER_RUNTIME": "node"}}).warnings[0]
    )


def test_names_are_compared_without_case(tmp_path: Path):
    assert settings(tmp_path, {"values": {"A": "x"}, "HOST": {"localhttpport": 1234}}).port == 1234


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
