"""host.json and what overrides it, as far as this host honours it.

Only what cannot be guessed is an error; everything else becomes a warning in the user's words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from perdure.core.cursor import ACTIONS_MAX
from perdure.core.records import StartPolicy
from perdure.core.versions import Versioning
from perdure.engine.settings import Settings
from perdure.errors import AppError
from perdure.host.settings.host_settings import (
    ACTIONS,
    ACTIVITIES,
    AZURE_MANAGED,
    AZURE_STORAGE,
    CONCURRENT_REQUESTS,
    CONNECTION_STRING_NAME,
    DEFAULT_VERSION,
    ENTITIES,
    ENTITY_BATCH,
    FORWARDED_HOST,
    FUNCTION_TIMEOUT,
    FUNCTIONS,
    HTTP_HEADERS,
    HTTP_POLL_MS,
    HUB_NAME,
    LOG_LEVEL,
    METADATA_TIMEOUT,
    MSSQL_HUB,
    OUTSTANDING_REQUESTS,
    OVERRIDABLE,
    PARTITIONS,
    PARTITIONS_NETHERITE,
    POLLING_INTERVAL,
    PUBLISH_EVENTS,
    PUBLISH_PAUSE,
    PUBLISH_RETRIES,
    PUBLISH_STATUSES,
    RETRY_COUNT,
    RETRY_DELAY,
    RETRY_LEAST,
    RETRY_MOST,
    RETRY_STRATEGY,
    ROLLBACK,
    ROUTE_PREFIX,
    RPC_ENABLED,
    STORAGE_TYPE,
    TOPIC_ENDPOINT,
    TOPIC_KEY,
    TRACES_PAYLOADS,
    TRACES_REPLAYS,
    VERSION,
    VERSION_FAILURE,
    VERSION_MATCH,
    LifecycleEvent,
    RetryStrategy,
)
from perdure.host.settings.setting import Setting
from perdure.host.settings.settings_file import read_settings_file
from perdure.host.settings.written_settings import WrittenSettings

HOST_JSON = "host.json"
DEFAULT_HUB = "TestHubName"
DEFAULT_FUNCTION_TIMEOUT = FUNCTION_TIMEOUT.default

# A store is looked at again at least so often, and a setting cannot make it busier than this.
POLL_LEAST, POLL_MOST = timedelta(milliseconds=100), timedelta(seconds=30)

# The hub names a file and stands in URLs.
_HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_AZURE_HUB_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{2,44}\Z")
_WHOLE_VARIABLE = re.compile(r"%([^%]+)%\Z")

_START_POLICIES = {"NonRunningStates": StartPolicy.REJECT, "AnyState": StartPolicy.REPLACE}


class FunctionRetry(Struct, frozen=True):
    """How the host repeats an invocation that failed.

    Attributes:
        retries_max: how often, or None for ever.
        delay: the pause of `fixedDelay`.
        least, most: the first and the longest pause of `exponentialBackoff`.
    """

    strategy: RetryStrategy
    retries_max: int | None
    delay: timedelta = timedelta()
    least: timedelta = timedelta()
    most: timedelta = timedelta()


class Topic(Struct, frozen=True):
    """Where to post that orchestrations begin and end.

    Attributes:
        key: goes along with each request; a secret.
        events: which to post.
        retries_max: further attempts, `pause` apart, after no answer, a 503, or one of `retried_statuses`.
    """

    endpoint: str
    key: str
    events: frozenset[LifecycleEvent]
    retries_max: int = 0
    pause: timedelta = PUBLISH_PAUSE.default
    retried_statuses: frozenset[int] = frozenset()


class HostConfig(Struct, frozen=True):
    """What host.json and its overrides say, as far as this host honours it.

    Attributes:
        hub: the task hub's name, its %VARIABLE% resolved.
        route_prefix: what stands before every HTTP route, without slashes; may be empty.
        log_levels: category to level, both as written.
        functions: names of the only functions to run, or None for all.
        function_timeout: how long an invocation of an activity, HTTP or timer function may take; None for ever.
        metadata_timeout: how long loading the functions may take without a warning.
        retry: how failed invocations of timer functions are repeated if they do not say it themselves, or None.
        activities_max: activities running at the same time, or None for the default.
        entities_max: entities running operations at the same time, or None for no limit.
        entity_batch_max: operations of an entity that are run and committed together.
        rolls_back: an entity's operation that raises changes nothing.
        storage_type: which backend host.json asks for, or None if it does not say.
        poll_interval: how often all due mail is walked again, or None for the engine's default.
        partitions: how many a new hub gets, or None for what suits the store.
        versioning: which version new instances get, and which versions run here.
        start_policy: what becomes of a start whose id is taken by an instance that has not ended.
        actions_max: how many decisions one execution may make.
        http_poll_ms: how long a durable HTTP call waits between polls that do not say how long, in milliseconds.
        shows_replays: what orchestrators print and log while they are replayed is shown, too.
        shows_payloads: the lines about instances have inputs and outputs.
        outstanding_requests_max: requests to functions that wait or run; more are refused. None for no limit.
        concurrent_requests_max: requests to functions that run; more wait. None for no limit.
        http_headers: what every answer of a function gets.
        uses_forwarded_host: links are made from X-Forwarded-Host and X-Forwarded-Proto.
        serves_rpc: the management API is served below /durabletask/, too.
        topic: who is told of orchestrations that begin and end, or None.
    """

    hub: str = DEFAULT_HUB
    route_prefix: str = "api"
    log_levels: Mapping[str, str] = {}
    functions: tuple[str, ...] | None = None
    function_timeout: timedelta | None = DEFAULT_FUNCTION_TIMEOUT
    metadata_timeout: timedelta = METADATA_TIMEOUT.default
    retry: FunctionRetry | None = None
    activities_max: int | None = None
    entities_max: int | None = None
    entity_batch_max: int = ENTITY_BATCH.default
    rolls_back: bool = True
    storage_type: str | None = None
    poll_interval: timedelta | None = None
    partitions: int | None = None
    versioning: Versioning = Versioning()
    start_policy: StartPolicy = StartPolicy.REJECT
    actions_max: int = ACTIONS_MAX
    http_poll_ms: int = 30_000
    shows_replays: bool = False
    shows_payloads: bool = False
    outstanding_requests_max: int | None = None
    concurrent_requests_max: int | None = None
    http_headers: Mapping[str, str] = {}
    uses_forwarded_host: bool = False
    serves_rpc: bool = True
    topic: Topic | None = None
    warnings: tuple[str, ...] = ()

    def engine_settings(self) -> Settings:
        """What of it is the engine's."""
        settings = Settings(
            versioning=self.versioning, start_policy=self.start_policy, entity_batch_max=self.entity_batch_max
        )
        return settings if self.poll_interval is None else replace(settings, poll_interval=self.poll_interval)


def read_host_json(folder: Path, environ: Mapping[str, str], hub: str | None = None) -> HostConfig:
    """The settings of the app in `folder`; a missing file counts as an empty one.

    Args:
        hub: the task hub's name if the command line gave one.

    Raises:
        AppError: the file is not JSON, a value cannot be used, or the hub's name cannot be.
    """
    written = _written(folder, environ)
    name, hub_warnings = _hub_name(written, environ, hub)
    partitions = written.of(PARTITIONS)
    return HostConfig(
        hub=name,
        route_prefix=written.of(ROUTE_PREFIX).strip("/"),
        log_levels=written.of(LOG_LEVEL),
        functions=written.of(FUNCTIONS) or None,
        function_timeout=written.of(FUNCTION_TIMEOUT),
        metadata_timeout=written.of(METADATA_TIMEOUT),
        retry=_retry(written),
        activities_max=written.of(ACTIVITIES),
        entities_max=written.of(ENTITIES),
        entity_batch_max=written.of(ENTITY_BATCH),
        rolls_back=written.of(ROLLBACK),
        storage_type=written.of(STORAGE_TYPE),
        poll_interval=_poll_interval(written.of(POLLING_INTERVAL)),
        partitions=written.of(PARTITIONS_NETHERITE) if partitions is None else partitions,
        versioning=Versioning(written.of(DEFAULT_VERSION), written.of(VERSION_MATCH), written.of(VERSION_FAILURE)),
        start_policy=_START_POLICIES[written.of(OVERRIDABLE)],
        actions_max=written.of(ACTIONS),
        http_poll_ms=written.of(HTTP_POLL_MS),
        shows_replays=written.of(TRACES_REPLAYS),
        shows_payloads=written.of(TRACES_PAYLOADS),
        outstanding_requests_max=_limit(written.of(OUTSTANDING_REQUESTS)),
        concurrent_requests_max=_limit(written.of(CONCURRENT_REQUESTS)),
        http_headers=written.of(HTTP_HEADERS),
        uses_forwarded_host=written.of(FORWARDED_HOST),
        serves_rpc=written.of(RPC_ENABLED),
        topic=_topic(written, environ),
        warnings=(*_version_warnings(written), *written.warnings, *hub_warnings),
    )


def hub_of(folder: Path, environ: Mapping[str, str], hub: str | None = None) -> str:
    """The name of the task hub of the app in `folder`, whatever else is missing for the app to start.

    Args:
        hub: the name if the command line gave one.

    Raises:
        AppError: the file is not JSON, a value cannot be used, or the hub's name cannot be.
    """
    return _hub_name(_written(folder, environ), environ, hub)[0]


def _written(folder: Path, environ: Mapping[str, str]) -> WrittenSettings:
    path = folder / HOST_JSON
    return WrittenSettings(read_settings_file(path) if path.exists() else {"version": "2.0"}, environ, path)


def _version_warnings(written: WrittenSettings) -> list[str]:
    version = written.of(VERSION)
    if version is None:
        return ['host.json has no "version"; on Azure it must say  "version": "2.0"']
    if version != "2.0":
        return [f'{written.where(VERSION)}: version is another one than "2.0", which it must be on Azure']
    return []


def _limit(number: int) -> int | None:
    return number if number > 0 else None


def _poll_interval(asked: timedelta | None) -> timedelta | None:
    return None if asked is None else min(max(asked, POLL_LEAST), POLL_MOST)


def _retry(written: WrittenSettings) -> FunctionRetry | None:
    strategy = written.of(RETRY_STRATEGY)
    needed: tuple[Setting[timedelta | None], ...] = (
        (RETRY_DELAY,) if strategy == "fixedDelay" else (RETRY_LEAST, RETRY_MOST) if strategy else ()
    )
    given = [each for each in (RETRY_COUNT, RETRY_DELAY, RETRY_LEAST, RETRY_MOST) if written.has(each)]
    missing = [each.path for each in (RETRY_COUNT, *needed) if strategy and not written.has(each)]
    if given and strategy is None:
        missing = [RETRY_STRATEGY.path]
    if missing:
        raise AppError(
            "DF107",
            "The host's retries are incomplete",
            f"{written.where(RETRY_STRATEGY if strategy else given[0])}: missing: {', '.join(missing)}.",
            "fixedDelay needs maxRetryCount and delayInterval; exponentialBackoff needs maxRetryCount, minimumInterval "
            "and maximumInterval.",
        )
    if strategy is None:
        return None
    count = written.of(RETRY_COUNT)
    delay, least, most = (written.of(each) or timedelta() for each in (RETRY_DELAY, RETRY_LEAST, RETRY_MOST))
    return FunctionRetry(strategy, None if count < 0 else count, delay, least, most)


def _topic(written: WrittenSettings, environ: Mapping[str, str]) -> Topic | None:
    asked = written.of(TOPIC_ENDPOINT)
    if not asked:
        return None
    variable = _WHOLE_VARIABLE.match(asked)
    endpoint = environ.get(variable[1], "") if variable else asked
    key_name = written.of(TOPIC_KEY) or ""
    key = environ.get(key_name, "")
    problem = None
    if variable and not endpoint:
        problem = f"{TOPIC_ENDPOINT.path} is {asked}, and there is no such setting."
    elif not endpoint.startswith(("http://", "https://")):
        problem = f"{TOPIC_ENDPOINT.path} has to be a URL that begins with http:// or https://."
    elif not key_name:
        problem = f"{TOPIC_KEY.path} has to name the app setting that has the key."
    elif not key:
        problem = f"{TOPIC_KEY.path} is {key_name}, and there is no such setting."
    if problem:
        raise AppError(
            "DF150",
            "Failed to start lifecycle notification feature",
            f"{written.where(TOPIC_ENDPOINT)}: {problem}",
            "Set it in the environment or in local.settings.json, or take the section notifications out.",
        )
    events = written.of(PUBLISH_EVENTS) or ("Started", "Completed", "Failed", "Terminated")
    return Topic(
        endpoint,
        key,
        frozenset(events),
        written.of(PUBLISH_RETRIES),
        written.of(PUBLISH_PAUSE),
        frozenset(written.of(PUBLISH_STATUSES)),
    )


# ---------------------------------------------------------------------- the hub's name


def _hub_name(written: WrittenSettings, environ: Mapping[str, str], given: str | None) -> tuple[str, list[str]]:
    """The hub's name, and warnings about it."""
    asked = given or written.of(HUB_NAME) or _providers_hub(written, environ)
    if asked is None:
        name = _default_hub(environ)
        slot = environ.get("WEBSITE_SLOT_NAME", "Production")
        if slot.casefold() != "production":
            raise AppError(
                "DF108",
                "A deployment slot needs a task hub of its own",
                f"Task Hub name must be specified in host.json when using slots. It must not be the default, {name}.",
                "Set extensions.durableTask.hubName in host.json, or start with  --hub NAME",
            )
        return name, []
    where = "--hub" if given else written.where(HUB_NAME)
    name = _resolved(asked, where, environ)
    if not _HUB_NAME.match(name):
        raise AppError(
            "DF108",
            f"'{name}' cannot be the name of a task hub",
            f"{where}: it may have up to 128 letters, digits, '.', '_' and '-', and begins with a letter or digit.",
            "Correct extensions.durableTask.hubName in host.json, or start with  --hub NAME",
        )
    is_for_storage = (written.of(STORAGE_TYPE) or AZURE_STORAGE).casefold() == AZURE_STORAGE.casefold()
    if is_for_storage and not _AZURE_HUB_NAME.match(name):
        rule = "letters and digits only, beginning with a letter, 3 to 45 of them"
        return name, [f"task hub name '{name}' works here, but not on Azure Storage: {rule}"]
    return name, []


def _resolved(name: str, where: str, environ: Mapping[str, str]) -> str:
    variable = _WHOLE_VARIABLE.match(name)
    if variable is None:
        return name
    resolved = environ.get(variable[1])
    if not resolved:
        raise AppError(
            "DF108",
            f"The task hub's name {name} does not resolve to a value",
            f"{where}: it is taken from the setting {variable[1]}, which is not set.",
            f"Set {variable[1]} in the environment or in local.settings.json, or start with  --hub NAME",
        )
    return resolved


def _providers_hub(written: WrittenSettings, environ: Mapping[str, str]) -> str | None:
    """The name that the storage provider's own settings have for the hub, if they have one."""
    if (written.of(STORAGE_TYPE) or "").casefold() != AZURE_MANAGED.casefold():
        return written.of(MSSQL_HUB)
    connection = environ.get(written.of(CONNECTION_STRING_NAME) or "", "")
    parts = (each.partition("=") for each in connection.split(";"))
    return next((value.strip() for name, _, value in parts if name.strip().casefold() == "taskhub"), None) or None


def _default_hub(environ: Mapping[str, str]) -> str:
    """The name of a hub that nobody has named, which always is one for Azure Storage.

    Source: AzureStorageDurabilityProviderFactory and AzureStorageOptions of the Durable Functions extension.
    """
    site = environ.get("WEBSITE_SITE_NAME")
    if not site:
        return DEFAULT_HUB
    name = re.sub(r"[^A-Za-z0-9]", "", site)
    if not name:
        return "DefaultTaskHub"
    name = f"t{name}" if name[0].isdigit() else name
    return (name if len(name) > 2 else f"{name}Hub")[:45]
