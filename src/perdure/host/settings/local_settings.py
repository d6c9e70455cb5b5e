"""local.settings.json and what it adds to the environment of the app.

Rule 1: nothing here changes the environment; the host applies what it gets.
Rule 2: nothing here is an error; what cannot be used becomes a warning in the user's words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct

from perdure.errors import AppError
from perdure.host.settings.setting import Effect, Flag, Named, Setting, Text, Whole
from perdure.host.settings.settings_file import JsonObject, as_object, member, read_settings_file

LOCAL_SETTINGS = "local.settings.json"
DEFAULT_PORT = 7071

T = TypeVar("T")

IS_ENCRYPTED = Setting(
    "IsEncrypted",
    Flag(),
    False,
    "whether the values are encrypted, with a key of the machine that wrote them",
    Effect.HONOURED,
    "encrypted values are not used. Where it is missing, Core Tools take the values for encrypted; perdure does not",
)
VALUES = Setting(
    "Values",
    Named(Text()),
    {},
    "the app's settings, which become environment variables",
    Effect.HONOURED,
    "the real environment wins. References to Key Vault are passed on as they are, with a warning",
)
CONNECTION_STRINGS = Setting(
    "ConnectionStrings",
    Named(Text()),
    {},
    "connection strings, each text or an object with `ConnectionString`",
    Effect.HONOURED,
    "they become `ConnectionStrings__NAME`",
)
PORT: Setting[int | None] = Setting(
    "Host.LocalHttpPort", Whole(0, 65_535), None, "port to serve on", Effect.HONOURED, "`--port` wins", "7071"
)
ADDRESS: Setting[str | None] = Setting(
    "Host.LocalHttpAddress",
    Text(),
    None,
    "address to serve on",
    Effect.HONOURED,
    "`--address` wins",
    "127.0.0.1 and ::1",
)
CORS: Setting[str | None] = Setting(
    "Host.CORS",
    Text(),
    None,
    "origins whose pages may call the app, separated by commas; `*` for any",
    Effect.HONOURED,
    "`--cors` wins",
    "none",
)
CORS_CREDENTIALS = Setting(
    "Host.CORSCredentials", Flag(), False, "whether they may send cookies and the like", Effect.HONOURED
)
SETTINGS: tuple[Setting[Any], ...] = (
    IS_ENCRYPTED,
    VALUES,
    CONNECTION_STRINGS,
    PORT,
    ADDRESS,
    CORS,
    CORS_CREDENTIALS,
)

_RUNTIME = "FUNCTIONS_WORKER_RUNTIME"


class LocalSettings(Struct, frozen=True):
    """What local.settings.json says.

    Attributes:
        values: variables to add to the environment; none of them is there already.
        port, address: defaults for the command line's options.
        cors: the origins whose pages may call the app, separated by commas, or None.
        cors_credentials: whether they may send cookies and the like.
    """

    values: Mapping[str, str] = {}
    port: int | None = None
    address: str | None = None
    cors: str | None = None
    cors_credentials: bool = False
    warnings: tuple[str, ...] = ()


def read_local_settings(folder: Path, environ: Mapping[str, str]) -> LocalSettings:
    """The settings file of the app in `folder`; whatever is wrong with it becomes a warning."""
    path = folder / LOCAL_SETTINGS
    if not path.exists():
        return LocalSettings()
    try:
        written = read_settings_file(path)
    except AppError as error:
        why = "".join(f" {line}" for line in error.lines[1:2])
        return LocalSettings(
            warnings=(f"Failed to read app settings file at '{path}'. Ensure it is a valid JSON file.{why}",)
        )
    values, warnings = _settings_values(written, environ)
    host = _Section(member(written, "Host"))
    return LocalSettings(
        values=values,
        port=host.of(PORT),
        address=host.of(ADDRESS),
        cors=host.of(CORS),
        cors_credentials=host.of(CORS_CREDENTIALS),
        warnings=(*warnings, *host.warnings, *_unknown(written), *_runtime_warnings(values, environ)),
    )


class _Section:
    """The file's section Host, read as the table says; `warnings` are about what cannot be used."""

    def __init__(self, written: Any) -> None:
        self._written = as_object(written)
        self.warnings: list[str] = []

    def of(self, setting: Setting[T]) -> T:
        """What the setting says, or its default."""
        value = member(self._written, setting.path.rpartition(".")[2])
        if value is None or value == "":
            return setting.default
        try:
            return setting.kind.read(value)
        except ValueError as error:
            self.warnings.append(f"{LOCAL_SETTINGS}: {setting.path} is not used: it has to be {error}")
            return setting.default


def _unknown(written: JsonObject) -> Iterator[str]:
    """Names of which nothing comes."""
    known = {each.path.casefold(): each.path for each in SETTINGS}
    sections = {path.partition(".")[0] for path in known}
    for name, value in written.items():
        if name.casefold() not in sections:
            close = get_close_matches(name, ("IsEncrypted", "Values", "Host", "ConnectionStrings"), 1)
            hint = f"; did you mean {close[0]}?" if close else "; settings of the app belong in Values"
            yield f"{LOCAL_SETTINGS}: {name} is not a known setting{hint}"
        if name.casefold() == "host":
            for each in as_object(value):
                if f"host.{each}".casefold() not in known:
                    close = get_close_matches(f"host.{each}".casefold(), known, 1)
                    hint = f"; did you mean {known[close[0]].partition('.')[2]}?" if close else ""
                    yield f"{LOCAL_SETTINGS}: Host.{each} is not a known setting{hint}"


def _runtime_warnings(values: Mapping[str, str], environ: Mapping[str, str]) -> list[str]:
    runtime = environ.get(_RUNTIME) or values.get(_RUNTIME) or "python"
    if runtime.casefold() == "python":
        return []
    return [f"{_RUNTIME} is '{runtime}': perdure runs Python functions only"]


def added_environment(settings: LocalSettings, folder: Path, port: int, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables to add for the app: its settings, and what the official tools set because apps test it."""
    added = {
        **settings.values,
        "FUNCTIONS_CORETOOLS_ENVIRONMENT": "true",
        "WEBSITE_HOSTNAME": f"localhost:{port}",
        "AzureWebJobsScriptRoot": str(folder),
    }
    for name, value in (("AZURE_FUNCTIONS_ENVIRONMENT", "Development"), (_RUNTIME, "python")):
        if name not in environ:
            added.setdefault(name, value)
    return added


def _settings_values(written: JsonObject, environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    entries = member(written, VALUES.path)
    connections = member(written, "ConnectionStrings")
    if _text_of(member(written, IS_ENCRYPTED.path)).casefold() == "true" and entries:
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
        if not isinstance(text, str) or _is_unusable(variable, text):
            warnings.append(
                f"Skipping the connection string '{name}': it has to be text, or to have a ConnectionString"
            )
        elif variable not in environ:
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
    if _is_unusable(name, _text_of(value)):
        return f"Skipping {name!r}: no variable can be called so, or have that value"
    if name in environ:
        return f"Skipping '{name}' from local settings as it's already defined in current environment variables."
    return None


def _is_unusable(name: str, value: str) -> bool:
    """Operating systems have no such variables."""
    return "=" in name or "\0" in name or "\0" in value


def _text_of(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
