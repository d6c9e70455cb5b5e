"""host.json and what overrides it, read as tolerantly as the official host reads them.

Only what cannot be guessed is an error; everything else becomes a warning in the user's words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import msgspec
from msgspec import Struct

from perdure.errors import AppError
from perdure.host.settings_file import JsonObject, as_object, member, read_settings_file

HOST_JSON = "host.json"
OVERRIDE_PREFIX = "azurefunctionsjobhost__"
DEFAULT_HUB = "TestHubName"

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


def read_host_json(folder: Path, environ: Mapping[str, str], hub: str | None = None) -> HostConfig:
    """The settings of the app in `folder`; a missing file counts as an empty one.

    Args:
        hub: the task hub's name if the command line gave one.

    Raises:
        AppError: the file is not JSON, a value has the wrong type, or the hub's name cannot be used.
    """
    path = folder / HOST_JSON
    written = read_settings_file(path) if path.exists() else {"version": "2.0"}
    warnings = list(_version_warnings(written))
    tree: JsonObject = _folded(written)
    for name, value in environ.items():
        if name.casefold().startswith(OVERRIDE_PREFIX):
            _override(tree, name.casefold()[len(OVERRIDE_PREFIX) :].split("__"), value)
    sections = _convert(tree, path)
    durable = sections.extensions.durable_task
    warnings += _durable_warnings(member(member(written, "extensions"), "durableTask"))
    name, hub_warnings = _hub_name(hub or durable.hub_name, environ)
    prefix = sections.extensions.http.route_prefix
    return HostConfig(
        hub=name,
        route_prefix="api" if prefix is None else prefix.strip("/"),
        log_levels=_log_levels(member(member(written, "logging"), "logLevel"), tree),
        functions=tuple(_listed(sections.functions)) if sections.functions else None,
        activities_max=durable.max_concurrent_activity_functions,
        storage_type=durable.storage_provider.type,
        warnings=(*warnings, *hub_warnings),
    )


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


def _version_warnings(written: JsonObject) -> list[str]:
    version = member(written, "version")
    if version is None:
        return ['host.json has no "version"; on Azure it must say  "version": "2.0"']
    if version != "2.0":
        return [f'host.json says version {version!r}; on Azure it must be "2.0"']
    return []


def _folded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name.casefold(): _folded(each) for name, each in as_object(value).items()}
    return value


def _override(tree: JsonObject, path: list[str], value: str) -> None:
    for name in path[:-1]:
        below = tree.get(name)
        if isinstance(below, list):
            items = cast("list[Any]", below)
            below = {str(index): each for index, each in enumerate(items)}
        tree[name] = tree = as_object(below)
    tree[path[-1]] = value


def _convert(tree: JsonObject, path: Path) -> _HostJson:
    try:
        return msgspec.convert(_without_nulls(tree), _HostJson, strict=False)
    except msgspec.ValidationError as error:
        raise AppError(
            "DF107",
            "host.json has a value that cannot be used",
            f"{path.name}: {error}",
            "Correct it, and start again.",
        ) from error


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in as_object(value).items() if each is not None}
    return value


def _durable_warnings(written: Any) -> list[str]:
    known = {name.casefold(): name for name in (*_HONOURED, *_NOT_YET, *_ACCEPTED)}
    misplaced = {name.casefold(): name for name in _MISPLACED}
    warnings: list[str] = []
    inactive: list[str] = []
    for name in as_object(written):
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


def _log_levels(written: Any, tree: JsonObject) -> dict[str, str]:
    effective = as_object(member(member(tree, "logging"), "loglevel"))
    spelling = {each.casefold(): each for each in as_object(written)}
    return {spelling.get(name, name): str(level) for name, level in effective.items() if level is not None}


def _listed(value: list[str] | dict[str, str]) -> list[str]:
    if isinstance(value, list):
        return value
    return [each for _, each in sorted(value.items(), key=lambda item: item[0].rjust(10))]
