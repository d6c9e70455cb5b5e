"""host.json, local.settings.json and the environment, read as tolerantly as the official host reads them.

Rule 1: nothing here changes the environment or reads anything but those two files; the host applies what it gets.
Rule 2: only what cannot be guessed is an error; everything else becomes a warning in the user's words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from perdure.errors import AppError

HOST_JSON = "host.json"
LOCAL_SETTINGS = "local.settings.json"
OVERRIDE_PREFIX = "azurefunctionsjobhost__"
DEFAULT_HUB = "TestHubName"
DEFAULT_PORT = 7071

# Members of extensions.durableTask that take effect here, or whose default is what we always do.
_HONOURED = frozenset({"hubName", "maxConcurrentActivityFunctions", "storageProvider", "useGracefulShutdown"})
# Members that change what an app sees on Azure, and do nothing here yet.
_NOT_YET = frozenset(
    {
        "defaultVersion",
        "versionMatchStrategy",
        "versionFailureStrategy",
        "maxOrchestrationActions",
        "overridableExistingInstanceStates",
        "throwStatusExceptionsOnRaiseEvent",
        "notifications",
    }
)
# Members that tune machinery of Azure, or belong to parts that are not here; accepted without a word.
_ACCEPTED = frozenset(
    {
        "maxConcurrentOrchestratorFunctions",
        "maxConcurrentEntityFunctions",
        "maxEntityOperationBatchSize",
        "entityMessageReorderWindowInMinutes",
        "rollbackEntityOperationsOnExceptions",
        "storeInputsInOrchestrationHistory",
        "extendedSessionsEnabled",
        "extendedSessionIdleTimeoutInSeconds",
        "localRpcEndpointEnabled",
        "useAppLease",
        "appLeaseOptions",
        "maxGrpcMessageSizeInBytes",
        "grpcHttpClientTimeout",
        "httpSettings",
        "tracing",
        # Durable Functions 1.x spellings
        "azureStorageConnectionStringName",
        "trackingStoreConnectionStringName",
        "traceInputsAndOutputs",
        "logReplayEvents",
        "eventGridTopicEndpoint",
        "eventGridKeySettingName",
        "eventGridPublishRetryCount",
        "eventGridPublishRetryInterval",
        "eventGridPublishEventTypes",
    }
)
# Members of storageProvider that are often written one level too high, where no host reads them.
_MISPLACED = frozenset(
    {
        "connectionName",
        "connectionStringName",
        "controlQueueBatchSize",
        "controlQueueBufferThreshold",
        "controlQueueVisibilityTimeout",
        "maxQueuePollingInterval",
        "partitionCount",
        "trackingStoreConnectionName",
        "trackingStoreNamePrefix",
        "useTablePartitionManagement",
        "workItemQueueVisibilityTimeout",
    }
)

# The hub names a file and stands in URLs.
_HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_AZURE_HUB_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{2,44}\Z")
_WHOLE_VARIABLE = re.compile(r"%([^%]+)%\Z")
_JSON_PARTS = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
_JSON_COMMAS = re.compile(r'"(?:\\.|[^"\\])*"|,(?=\s*[}\]])', re.DOTALL)


JsonObject = dict[str, Any]


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


class HostConfig(Struct, frozen=True):
    """What host.json and its overrides say, as far as this host honours it.

    Attributes:
        hub: the task hub's name, its %VARIABLE% resolved.
        route_prefix: what stands before every HTTP route, without slashes; may be empty.
        log_levels: category to level, both as written.
        functions: names of the only functions to run, or None for all.
        activities_max: activities running at the same time, or None for the default.
        storage_type: which backend host.json asks for, or None if it does not say.
    """

    hub: str = DEFAULT_HUB
    route_prefix: str = "api"
    log_levels: Mapping[str, str] = {}
    functions: tuple[str, ...] | None = None
    activities_max: int | None = None
    storage_type: str | None = None
    warnings: tuple[str, ...] = ()


class StorageNote(Struct, frozen=True):
    """One line about AzureWebJobsStorage; `is_replaced` says that the app asked for another store than it gets."""

    text: str
    is_replaced: bool


def read_host_json(folder: Path, environ: Mapping[str, str], hub: str | None = None) -> HostConfig:
    """The settings of the app in `folder`; a missing file counts as an empty one.

    Args:
        hub: the task hub's name if the command line gave one.

    Raises:
        AppError: the file is not JSON, a value has the wrong type, or the hub's name cannot be used.
    """
    path = folder / HOST_JSON
    written = _read_object(path) if path.exists() else {"version": "2.0"}
    warnings = list(_version_warnings(written))
    tree: dict[str, Any] = _folded(written)
    for name, value in environ.items():
        if name.casefold().startswith(OVERRIDE_PREFIX):
            _override(tree, name.casefold()[len(OVERRIDE_PREFIX) :].split("__"), value)
    sections = _convert(tree, path)
    durable = sections.extensions.durable_task
    warnings += _durable_warnings(_member(_member(written, "extensions"), "durableTask"))
    name, hub_warnings = _hub_name(hub or durable.hub_name, environ)
    prefix = sections.extensions.http.route_prefix
    return HostConfig(
        hub=name,
        route_prefix="api" if prefix is None else prefix.strip("/"),
        log_levels=_log_levels(_member(_member(written, "logging"), "logLevel"), tree),
        functions=tuple(_listed(sections.functions)) if sections.functions else None,
        activities_max=durable.max_concurrent_activity_functions,
        storage_type=durable.storage_provider.type,
        warnings=(*warnings, *hub_warnings),
    )


def read_local_settings(folder: Path, environ: Mapping[str, str]) -> LocalSettings:
    """The settings file of the app in `folder`; whatever is wrong with it becomes a warning."""
    path = folder / LOCAL_SETTINGS
    if not path.exists():
        return LocalSettings()
    try:
        written = _read_object(path)
    except AppError:
        return LocalSettings(
            warnings=(f"Failed to read app settings file at '{path}'. Ensure it is a valid JSON file.",)
        )
    host = _member(written, "Host")
    values, warnings = _settings_values(written, environ)
    return LocalSettings(
        values=values,
        port=_number(_member(host, "LocalHttpPort")),
        address=_member(host, "LocalHttpAddress") or None,
        warnings=tuple(warnings),
    )


def storage_note(environ: Mapping[str, str]) -> StorageNote:
    """What becomes of AzureWebJobsStorage: its emulator is replaced silently, an account is named but not used."""
    value = environ.get("AzureWebJobsStorage", "")
    if value.replace(" ", "").casefold().startswith("usedevelopmentstorage=true"):
        return StorageNote("AzureWebJobsStorage is the storage emulator: the embedded store takes its place", False)
    if value:
        asked = f"AzureWebJobsStorage asks for {_account_of(value)}"
    else:
        identity = _identity_account(environ)
        asked = f"AzureWebJobsStorage asks for {identity}" if identity else "AzureWebJobsStorage is not set"
    return StorageNote(f"{asked}: it is not used, the embedded store is (--strict refuses)", True)


def strip_json_comments(text: str) -> str:
    """JSON text without `//` and `/* */` comments and without commas before a closing bracket."""
    text = _JSON_PARTS.sub(lambda part: part[0] if part[0].startswith('"') else " ", text)
    return _JSON_COMMAS.sub(lambda part: part[0] if part[0].startswith('"') else "", text)


# ---------------------------------------------------------------------- host.json, typed


def _lower(name: str) -> str:
    """Field name to the folded member name: .NET compares names without case."""
    return name.replace("_", "")


class _StorageProvider(Struct, rename=_lower):
    type: str | None = None


class _DurableTask(Struct, rename=_lower):
    hub_name: str | None = None
    max_concurrent_activity_functions: int | None = None
    storage_provider: _StorageProvider = msgspec.field(default_factory=_StorageProvider)

    def __post_init__(self) -> None:
        limit = self.max_concurrent_activity_functions
        if limit is not None and limit < 1:
            raise ValueError("MaxConcurrentActivityFunctions must be a positive integer value.")


class _Http(Struct, rename=_lower):
    route_prefix: str | None = None


class _Extensions(Struct, rename=_lower):
    durable_task: _DurableTask = msgspec.field(default_factory=_DurableTask)
    http: _Http = msgspec.field(default_factory=_Http)


class _HostJson(Struct, rename=_lower):
    functions: list[str] | dict[str, str] | None = None
    extensions: _Extensions = msgspec.field(default_factory=_Extensions)


def _convert(tree: dict[str, Any], path: Path) -> _HostJson:
    try:
        return msgspec.convert(_without_nulls(tree), _HostJson, strict=False)
    except msgspec.ValidationError as error:
        raise AppError(
            "DF107",
            "host.json has a value that cannot be used",
            f"{path.name}: {error}",
            "Correct it, and start again.",
        ) from error


def _read_object(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(strip_json_comments(path.read_text("utf-8-sig")))
    except (ValueError, OSError) as error:
        raise AppError(
            "DF107",
            f"{path.name} cannot be read",
            f"Unable to parse host configuration file '{path}'.",
            str(error),
            "It has to be one JSON object.",
        ) from error
    if not isinstance(data, dict):
        raise AppError("DF107", f"{path.name} cannot be read", f"'{path}' has to be one JSON object.")
    return _object(data)


def _folded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name.casefold(): _folded(each) for name, each in _object(value).items()}
    return value


def _object(value: Any) -> JsonObject:
    """The value if it is a JSON object, or else an empty one."""
    return cast("JsonObject", value) if isinstance(value, dict) else {}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in _object(value).items() if each is not None}
    return value


def _override(tree: dict[str, Any], path: list[str], value: str) -> None:
    for name in path[:-1]:
        below = tree.get(name)
        if isinstance(below, list):
            items = cast("list[Any]", below)
            below = {str(index): each for index, each in enumerate(items)}
        tree[name] = tree = _object(below)
    tree[path[-1]] = value


def _listed(value: list[str] | dict[str, str]) -> list[str]:
    if isinstance(value, list):
        return value
    return [each for _, each in sorted(value.items(), key=lambda item: item[0].rjust(10))]


def _member(owner: Any, name: str) -> Any:
    """The member of a JSON object under any spelling of its name, or None."""
    return next((value for each, value in _object(owner).items() if each.casefold() == name.casefold()), None)


def _log_levels(written: Any, tree: dict[str, Any]) -> dict[str, str]:
    effective = _object(_member(_member(tree, "logging"), "loglevel"))
    spelling = {each.casefold(): each for each in _object(written)}
    return {spelling.get(name, name): str(level) for name, level in effective.items() if level is not None}


def _hub_name(asked: str | None, environ: Mapping[str, str]) -> tuple[str, list[str]]:
    name = asked or environ.get("WEBSITE_SITE_NAME") or DEFAULT_HUB
    variable = _WHOLE_VARIABLE.match(name)
    if variable:
        resolved = environ.get(variable[1])
        if not resolved:
            raise AppError(
                "DF108",
                f"The task hub's name {name} does not resolve to a value",
                f"host.json takes it from the setting {variable[1]}, which is not set.",
                f"Set {variable[1]} in the environment or in local.settings.json, or start with  --hub NAME",
            )
        name = resolved
    if not _HUB_NAME.match(name):
        raise AppError(
            "DF108",
            f"'{name}' cannot be the name of a task hub",
            "It may have up to 128 letters, digits, '.', '_' and '-', and begins with a letter or digit.",
            "Correct extensions.durableTask.hubName in host.json, or start with  --hub NAME",
        )
    if asked and not _AZURE_HUB_NAME.match(name):
        rule = "letters and digits only, beginning with a letter, 3 to 45 of them"
        return name, [f"task hub name '{name}' works here, but not on Azure Storage: {rule}"]
    return name, []


def _version_warnings(written: dict[str, Any]) -> list[str]:
    version = _member(written, "version")
    if version is None:
        return ['host.json has no "version"; on Azure it must say  "version": "2.0"']
    if version != "2.0":
        return [f'host.json says version {version!r}; on Azure it must be "2.0"']
    return []


def _durable_warnings(written: Any) -> list[str]:
    known = {name.casefold(): name for name in (*_HONOURED, *_NOT_YET, *_ACCEPTED)}
    misplaced = {name.casefold(): name for name in _MISPLACED}
    warnings: list[str] = []
    inactive: list[str] = []
    for name in _object(written):
        folded = name.casefold()
        if folded in misplaced:
            warnings.append(
                f"host.json: extensions.durableTask.{name} belongs in extensions.durableTask.storageProvider; "
                "where it stands no host reads it"
            )
        elif folded not in known:
            closest = get_close_matches(folded, [*known, *misplaced], 1)
            hint = f"; did you mean {known.get(closest[0]) or misplaced[closest[0]]}?" if closest else ""
            warnings.append(f"host.json: extensions.durableTask.{name} is not a known setting{hint}")
        elif known[folded] in _NOT_YET:
            inactive.append(known[folded])
    if inactive:
        warnings.append(f"host.json: no effect in this version: {', '.join(sorted(inactive))}")
    return warnings


# ---------------------------------------------------------------------- local.settings.json


def _settings_values(written: dict[str, Any], environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    entries = _member(written, "Values")
    connections = _member(written, "ConnectionStrings")
    if _member(written, "IsEncrypted") is True and entries:
        return {}, [
            "local.settings.json is encrypted with a key of the machine that wrote it, so its values are not used. "
            "Decrypt it there with:  func settings decrypt"
        ]
    values: dict[str, str] = {}
    warnings: list[str] = []
    for name, value in _object(entries).items():
        problem = _settings_problem(name, value, environ)
        if problem:
            warnings.append(problem)
        else:
            values[name] = _text_of(value)
            if values[name].startswith("@Microsoft.KeyVault("):
                warnings.append(f"'{name}' refers to Azure Key Vault, which is not asked; it is passed on as it is")
    for name, value in _object(connections).items():
        text = _member(value, "ConnectionString") if isinstance(value, dict) else value
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


# ---------------------------------------------------------------------- AzureWebJobsStorage


def _account_of(connection: str) -> str:
    """Whom a connection string means, without anything secret in it."""
    parts = [part.partition("=") for part in connection.split(";")]
    folded = {name.strip().casefold(): value.strip() for name, _, value in parts}
    if folded.get("accountname"):
        return f"the storage account '{folded['accountname']}'"
    for name in ("blobendpoint", "queueendpoint", "tableendpoint"):
        host = urlsplit(folded.get(name, "")).hostname
        if host:
            return f"the storage account at {host}"
    return "a storage account that its text does not name"


def _identity_account(environ: Mapping[str, str]) -> str | None:
    members = {
        name.casefold().removeprefix("azurewebjobsstorage__"): value
        for name, value in environ.items()
        if name.casefold().startswith("azurewebjobsstorage__")
    }
    if members.get("accountname"):
        return f"the storage account '{members['accountname']}' by identity"
    for name in ("blobserviceuri", "queueserviceuri", "tableserviceuri"):
        host = urlsplit(members.get(name, "")).hostname
        if host:
            return f"the storage account at {host} by identity"
    return None


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
