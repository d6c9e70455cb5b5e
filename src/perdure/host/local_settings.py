"""local.settings.json and what it adds to the environment of the app.

Rule 1: nothing here changes the environment; the host applies what it gets.
Rule 2: nothing here is an error; what cannot be used becomes a warning in the user's words.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from perdure.errors import AppError
from perdure.host.settings_file import JsonObject, as_object, member, read_settings_file

LOCAL_SETTINGS = "local.settings.json"
DEFAULT_PORT = 7071


class LocalSettings(Struct, frozen=True):
    """What local.settings.json says.

    Attributes:
        values: variables to add to the environment; none of them is there already.
        port, address: defaults for the command line's options.
    """

    values: Mapping[str, str] = {}
    port: int | None = None
    address: str | None = None
    warnings: tuple[str, ...] = ()


def read_local_settings(folder: Path, environ: Mapping[str, str]) -> LocalSettings:
    """The settings file of the app in `folder`; whatever is wrong with it becomes a warning."""
    path = folder / LOCAL_SETTINGS
    if not path.exists():
        return LocalSettings()
    try:
        written = read_settings_file(path)
    except AppError:
        return LocalSettings(
            warnings=(f"Failed to read app settings file at '{path}'. Ensure it is a valid JSON file.",)
        )
    host = member(written, "Host")
    values, warnings = _settings_values(written, environ)
    return LocalSettings(
        values=values,
        port=_number(member(host, "LocalHttpPort")),
        address=member(host, "LocalHttpAddress") or None,
        warnings=tuple(warnings),
    )


def added_environment(settings: LocalSettings, folder: Path, port: int, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables to add for the app: its settings, and what the official tools set because apps test it."""
    added = {
        **settings.values,
        "FUNCTIONS_CORETOOLS_ENVIRONMENT": "true",
        "WEBSITE_HOSTNAME": f"localhost:{port}",
        "AzureWebJobsScriptRoot": str(folder),
    }
    for name, value in (("AZURE_FUNCTIONS_ENVIRONMENT", "Development"), ("FUNCTIONS_WORKER_RUNTIME", "python")):
        if name not in environ:
            added.setdefault(name, value)
    return added


def _settings_values(written: JsonObject, environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    entries = member(written, "Values")
    connections = member(written, "ConnectionStrings")
    if member(written, "IsEncrypted") is True and entries:
        return {}, [
            "local.settings.json is encrypted with a key of the machine that wrote it, so its values are not used. "
            "Decrypt it there with:  func settings decrypt"
        ]
    values: dict[str, str] = {}
    warnings: list[str] = []
    for name, value in as_object(entries).items():
        problem = _settings_problem(name, value, environ)
        if problem:
            warnings.append(problem)
        else:
            values[name] = _text_of(value)
            if values[name].startswith("@Microsoft.KeyVault("):
                warnings.append(f"'{name}' refers to Azure Key Vault, which is not asked; it is passed on as it is")
    for name, value in as_object(connections).items():
        text = member(value, "ConnectionString") if isinstance(value, dict) else value
        variable = f"ConnectionStrings__{name}"
        if isinstance(text, str) and variable not in environ:
            values[variable] = text
    return values, warnings


def _settings_problem(name: str, value: Any, environ: Mapping[str, str]) -> str | None:
    if not name:
        return "Skipping local setting with empty key."
    if value is None:
        return f"Skipping '{name}' because value is null"
    if isinstance(value, dict | list):
        return f"Skipping '{name}' because nested values are not supported"
    if name == "CONTAINER_NAME":
        return "CONTAINER_NAME is a reserved environment variable for the Functions Host; it is not set"
    if name in environ:
        return f"Skipping '{name}' from local settings as it's already defined in current environment variables."
    return None


def _text_of(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _number(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None
