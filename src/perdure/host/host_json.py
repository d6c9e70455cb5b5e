"""host.json and what overrides it, read as tolerantly as the official host reads them.

Only what cannot be guessed is an error; everything else becomes a warning in the user's words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

import msgspec
from msgspec import Struct

from perdure.core.cursor import ACTIONS_MAX
from perdure.core.records import StartPolicy
from perdure.core.versions import VersionFailure, Versioning, VersionMatch
from perdure.errors import AppError
from perdure.host.settings_file import JsonObject, as_object, member, read_settings_file

HOST_JSON = "host.json"
OVERRIDE_PREFIX = "azurefunctionsjobhost__"
DEFAULT_HUB = "TestHubName"

# Members of extensions.durableTask that take effect here, or whose default is what we always do.
_HONOURED = frozenset(
    {
        "defaultVersion",
        "httpSettings",
        "hubName",
        "logReplayEvents",
        "maxConcurrentActivityFunctions",
        "maxOrchestrationActions",
        "overridableExistingInstanceStates",
        "storageProvider",
        "tracing",
        "useGracefulShutdown",
        "versionFailureStrategy",
        "versionMatchStrategy",
    }
)
# Members that change what an app sees on Azure, and do nothing here yet.
_NOT_YET = frozenset({"throwStatusExceptionsOnRaiseEvent", "notifications"})
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
        # Durable Functions 1.x spellings
        "azureStorageConnectionStringName",
        "trackingStoreConnectionStringName",
        "traceInputsAndOutputs",
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
        versioning: which version new instances get, and which versions run here.
        start_policy: what becomes of a start whose id is taken by an instance that has not ended.
        actions_max: how many decisions one execution may make.
        http_poll_ms: how long a durable HTTP call waits between polls that do not say how long, in milliseconds.
        shows_replays: what orchestrators print and log while they are replayed is shown, too.
    """

    hub: str = DEFAULT_HUB
    route_prefix: str = "api"
    log_levels: Mapping[str, str] = {}
    functions: tuple[str, ...] | None = None
    activities_max: int | None = None
    storage_type: str | None = None
    versioning: Versioning = Versioning()
    start_policy: StartPolicy = StartPolicy.REJECT
    actions_max: int = ACTIONS_MAX
    http_poll_ms: int = 30_000
    shows_replays: bool = False
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
        versioning=Versioning(
            durable.default_version, durable.version_match_strategy, durable.version_failure_strategy
        ),
        start_policy=_START_POLICIES[durable.overridable_existing_instance_states],
        actions_max=durable.max_orchestration_actions,
        http_poll_ms=durable.http_settings.default_async_request_sleep_time_milliseconds,
        shows_replays=durable.tracing.trace_replay_events or durable.log_replay_events,
        warnings=(*warnings, *hub_warnings),
    )


def _lower(name: str) -> str:
    """Field name to the folded member name: .NET compares names without case."""
    return name.replace("_", "")


class _StorageProvider(Struct, rename=_lower):
    type: str | None = None


class _HttpSettings(Struct, rename=_lower):
    default_async_request_sleep_time_milliseconds: int = 30_000


class _Tracing(Struct, rename=_lower):
    trace_replay_events: bool = False


class _Overridable(StrEnum):
    """Which instances a start may replace."""

    NON_RUNNING = "NonRunningStates"
    ANY = "AnyState"


_START_POLICIES = {_Overridable.NON_RUNNING: StartPolicy.REJECT, _Overridable.ANY: StartPolicy.REPLACE}


class _DurableTask(Struct, rename=_lower):
    hub_name: str | None = None
    max_concurrent_activity_functions: int | None = None
    storage_provider: _StorageProvider = msgspec.field(default_factory=_StorageProvider)
    default_version: str | None = None
    version_match_strategy: VersionMatch = VersionMatch.CURRENT_OR_OLDER
    version_failure_strategy: VersionFailure = VersionFailure.REJECT
    overridable_existing_instance_states: _Overridable = _Overridable.NON_RUNNING
    max_orchestration_actions: int = ACTIONS_MAX
    http_settings: _HttpSettings = msgspec.field(default_factory=_HttpSettings)
    tracing: _Tracing = msgspec.field(default_factory=_Tracing)
    log_replay_events: bool = False  # the spelling of Durable Functions 1.x

    def __post_init__(self) -> None:
        limit = self.max_concurrent_activity_functions
        if limit is not None and limit < 1:
            raise ValueError("MaxConcurrentActivityFunctions must be a positive integer value.")
        if self.max_orchestration_actions < 1:
            raise ValueError("MaxOrchestrationActions must be a positive integer value.")


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
        return msgspec.convert(_spelt(_without_nulls(tree)), _HostJson, strict=False)
    except msgspec.ValidationError as error:
        raise AppError(
            "DF107",
            "host.json has a value that cannot be used",
            f"{path.name}: {error}",
            "Correct it, and start again.",
        ) from error


def _spelt(tree: Any) -> Any:
    """The tree with the names of enum members as they are written officially: .NET compares them without case."""
    names = {each.casefold(): each for kind in (VersionMatch, VersionFailure, _Overridable) for each in kind}
    durable = as_object(as_object(as_object(tree).get("extensions")).get("durabletask"))
    for member_name in ("versionmatchstrategy", "versionfailurestrategy", "overridableexistinginstancestates"):
        value = durable.get(member_name)
        if isinstance(value, str):
            durable[member_name] = names.get(value.casefold(), value)
    return tree


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
