"""Every setting of host.json: the one table that reading, messages and the reference page are made from.

Rule 1: a setting that is not here is unknown, and whoever writes it is told so.
Rule 2: what a row promises as honoured is read from it by `host_json`, and nothing is read that has no row.

Source: the options of the Durable Functions extension and of the Functions host, in their names and defaults.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal, TypeVar

from perdure.core.cursor import ACTIONS_MAX
from perdure.core.versions import VersionFailure, VersionMatch
from perdure.host.settings.setting import (
    Choice,
    Effect,
    Flag,
    Fraction,
    Kind,
    Listed,
    Named,
    Section,
    Setting,
    SettingName,
    Span,
    Text,
    TimeLimit,
    Whole,
)

T = TypeVar("T")

DURABLE = "extensions.durableTask"
STORAGE = f"{DURABLE}.storageProvider"
HTTP = "extensions.http"
EVENT_GRID = f"{DURABLE}.notifications.eventGrid"

AZURE_STORAGE = "AzureStorage"
MSSQL = "mssql"
NETHERITE = "Netherite"
AZURE_MANAGED = "azureManaged"
PROVIDERS = (AZURE_STORAGE, MSSQL, NETHERITE, AZURE_MANAGED, "emulator")

LOG_LEVELS = ("Trace", "Debug", "Information", "Warning", "Error", "Critical", "None")

RetryStrategy = Literal["fixedDelay", "exponentialBackoff"]
Overridable = Literal["NonRunningStates", "AnyState"]
LifecycleEvent = Literal["Started", "Completed", "Failed", "Terminated"]

_POSITIVE = Whole(1)
_COUNT = Whole(0)
_MINUTES_5, _SECONDS_30, _SECONDS_3 = timedelta(minutes=5), timedelta(seconds=30), timedelta(seconds=3)
_MINUTE, _MINUTES_2 = timedelta(minutes=1), timedelta(minutes=2)

_rows: list[Setting[Any]] = []


def _honoured(path: str, kind: Kind[T], default: T, meaning: str, note: str = "", providers: str = "") -> Setting[T]:
    row = Setting(path, kind, default, meaning, Effect.HONOURED, note, providers=tuple(providers.split()))
    _rows.append(row)
    return row


def _optional(
    path: str, kind: Kind[T], unset: str, meaning: str, note: str = "", providers: str = ""
) -> Setting[T | None]:
    """An honoured setting without a single default."""
    row: Setting[T | None] = Setting(path, kind, None, meaning, Effect.HONOURED, note, unset, tuple(providers.split()))
    _rows.append(row)
    return row


def _accepted(path: str, kind: Kind[T], default: T | None, meaning: str, why: str, providers: str = "") -> None:
    _rows.append(Setting(path, kind, default, meaning, Effect.ACCEPTED, why, providers=tuple(providers.split())))


def _absent(path: str, kind: Kind[T], default: T | None, meaning: str, why: str) -> None:
    _rows.append(Setting(path, kind, default, meaning, Effect.ABSENT, why))


def _later(path: str, kind: Kind[T], default: T | None, meaning: str, why: str) -> None:
    _rows.append(Setting(path, kind, default, meaning, Effect.LATER, why))


# ---------------------------------------------------------------------- the file

VERSION = _optional("version", Text(), "a warning", "version of the file's form: `2.0`")
FUNCTION_TIMEOUT = _honoured(
    "functionTimeout",
    TimeLimit(),
    timedelta(minutes=30),
    "how long one invocation of an activity, HTTP or timer function may take; `-1` for ever",
    "the invocation fails, async code is cancelled; a thread that still runs keeps its place until it ends. Nothing "
    "times out while a debugger is attached",
)
FUNCTIONS: Setting[tuple[str, ...]] = _honoured(
    "functions", Listed(Text()), (), "the only functions to run; empty for all", "the others are listed as disabled"
)
METADATA_TIMEOUT = _honoured(
    "metadataProviderTimeout", Span(), _SECONDS_30, "how long loading the functions may take", "a warning if longer"
)

RETRY_STRATEGY = _optional(
    "retry.strategy",
    Choice[RetryStrategy](("fixedDelay", "exponentialBackoff")),
    "no retries",
    "how the host repeats invocations of timer functions that failed, unless a function says it itself",
)
RETRY_COUNT = _honoured("retry.maxRetryCount", Whole(-1), 0, "how often; `-1` for ever")
RETRY_DELAY = _optional("retry.delayInterval", Span(), "required", "the pause of `fixedDelay`")
RETRY_LEAST = _optional("retry.minimumInterval", Span(), "required", "the first pause of `exponentialBackoff`")
RETRY_MOST = _optional("retry.maximumInterval", Span(), "required", "the longest pause of `exponentialBackoff`")

LOG_LEVEL = _honoured(
    "logging.logLevel",
    Named(Choice(LOG_LEVELS)),
    {},
    "from which level on lines are shown, by category; the longest matching beginning of a category wins. `default` "
    "is for all others",
    "categories: `Function.NAME.User` for what a function logs and prints, `Host.Triggers.DurableTask` for the lines "
    "about instances, `Host.General` for the host's own",
)
_accepted("logging.console", Section(), None, "the console's settings", "lines always go to the terminal")
_accepted("logging.console.isEnabled", Flag(), False, "show lines on the console", "they always are")
_accepted(
    "logging.fileLoggingMode",
    Choice(("never", "debugOnly", "always")),
    "debugOnly",
    "when lines go to files",
    "there are no log files; redirect the output",
)
_absent("logging.applicationInsights", Section(), None, "telemetry to Application Insights", "nothing is sent there")
_accepted("logging.applicationInsights.samplingSettings.isEnabled", Flag(), True, "sampling", "nothing is sent there")

_NO_RELOAD = "perdure does not reload apps yet"
_later("watchDirectories", Listed(Text()), (), "further folders whose changes restart the host", _NO_RELOAD)
_later("watchFiles", Listed(Text()), (), "further files whose changes restart the host", _NO_RELOAD)

_NO_BUNDLE = "there are no .NET extensions here, so nothing is downloaded"
_accepted("extensionBundle", Section(), None, "which .NET extensions to download", _NO_BUNDLE)
_accepted("extensionBundle.id", Text(), None, "name of the bundle", _NO_BUNDLE)
_accepted("extensionBundle.version", Text(), None, "range of its versions", _NO_BUNDLE)

_NO_HEALTH = "a host that cannot go on ends, and says why"
_accepted("healthMonitor.enabled", Flag(), True, "restart an unhealthy host", _NO_HEALTH)
_accepted("healthMonitor.healthCheckInterval", Span(), timedelta(seconds=10), "between checks", _NO_HEALTH)
_accepted(
    "healthMonitor.healthCheckWindow", Span(), _MINUTES_2, "what `healthCheckThreshold` is counted in", _NO_HEALTH
)
_accepted("healthMonitor.healthCheckThreshold", _COUNT, 6, "failed checks before a restart", _NO_HEALTH)
_accepted("healthMonitor.counterThreshold", Fraction(), 0.8, "load from which on a check fails", _NO_HEALTH)

_NO_DYNAMIC = "limits are those that are written"
_accepted("concurrency.dynamicConcurrencyEnabled", Flag(), False, "find limits by measuring", _NO_DYNAMIC)
_accepted("concurrency.snapshotPersistenceEnabled", Flag(), True, "keep what was measured", _NO_DYNAMIC)

_NO_SINGLETON = "hosts of one hub share its work by leases in the store"
_accepted("singleton.lockPeriod", Span(), timedelta(seconds=15), "how long function locks are taken for", _NO_SINGLETON)
_accepted("singleton.listenerLockPeriod", Span(), _MINUTE, "how long listener locks are taken for", _NO_SINGLETON)
_accepted(
    "singleton.listenerLockRecoveryPollingInterval",
    Span(),
    _MINUTE,
    "between attempts to get a lock back",
    _NO_SINGLETON,
)
_accepted("singleton.lockAcquisitionTimeout", Span(), _MINUTE, "how long to try for a lock", _NO_SINGLETON)
_accepted("singleton.lockAcquisitionPollingInterval", Span(), _SECONDS_3, "between such attempts", _NO_SINGLETON)

_NO_TELEMETRY = "nothing is aggregated: every line is shown"
_accepted("aggregator.batchSize", _POSITIVE, 1000, "invocations that are counted together", _NO_TELEMETRY)
_accepted("aggregator.flushTimeout", Span(), _SECONDS_30, "how long they are counted", _NO_TELEMETRY)
_later("telemetryMode", Text(), None, "`OpenTelemetry` sends telemetry that way", "nothing is sent yet")

_OTHER_LANGUAGES = "it is for other languages than Python"
_accepted("managedDependencies", Section(), None, "modules for PowerShell", _OTHER_LANGUAGES)
_accepted("customHandler", Section(), None, "a program that handles invocations", _OTHER_LANGUAGES)
_accepted("httpWorker", Section(), None, "the older name of `customHandler`", _OTHER_LANGUAGES)
_accepted(
    "sendCanceledInvocationsToWorker",
    Flag(),
    True,
    "whether cancelled invocations reach the worker",
    "there is no worker that they would have to travel to",
)

# ---------------------------------------------------------------------- HTTP

ROUTE_PREFIX = _honoured(f"{HTTP}.routePrefix", Text(), "api", "what stands before every route; may be empty")
OUTSTANDING_REQUESTS = _honoured(
    f"{HTTP}.maxOutstandingRequests",
    Whole(-1),
    -1,
    "requests to functions that are waiting or running; above, the answer is 429. `-1` for no limit",
)
CONCURRENT_REQUESTS = _honoured(
    f"{HTTP}.maxConcurrentRequests",
    Whole(-1),
    -1,
    "requests to functions that run at the same time; others wait. `-1` for no limit",
)
HTTP_HEADERS = _honoured(f"{HTTP}.customHeaders", Named(Text()), {}, "headers that every answer gets")
_accepted(
    f"{HTTP}.dynamicThrottlesEnabled",
    Flag(),
    False,
    "refuse requests while the machine is under load",
    "the load of a developer's machine is not the app's",
)
_accepted(f"{HTTP}.hsts", Section(), None, "the header Strict-Transport-Security", "it means nothing without TLS")
_accepted(f"{HTTP}.hsts.isEnabled", Flag(), False, "send the header", "it means nothing without TLS")
_accepted(f"{HTTP}.hsts.maxAge", Span(), None, "how long browsers heed it", "it means nothing without TLS")
_accepted(
    f"{HTTP}.enableChunkedRequestBinding", Flag(), False, "accept bodies of unknown length", "they always are accepted"
)

# ---------------------------------------------------------------------- other extensions

_NO_TRIGGER = "such triggers are listed as inactive"
_absent("extensions.queues", Section(), None, "storage queues", _NO_TRIGGER)
_absent("extensions.queues.batchSize", Whole(1, 32), 16, "messages fetched together", _NO_TRIGGER)
_absent("extensions.queues.newBatchThreshold", _COUNT, None, "messages left when more are fetched", _NO_TRIGGER)
_absent("extensions.queues.maxDequeueCount", _POSITIVE, 5, "attempts before a message is poison", _NO_TRIGGER)
_absent("extensions.queues.maxPollingInterval", Span(), _MINUTE, "longest pause between looks", _NO_TRIGGER)
_absent("extensions.queues.visibilityTimeout", Span(), timedelta(), "pause before another attempt", _NO_TRIGGER)
_absent("extensions.queues.messageEncoding", Choice(("none", "base64")), "base64", "how texts travel", _NO_TRIGGER)
for _name, _what in (
    ("blobs", "blobs"),
    ("cosmosDB", "Cosmos DB"),
    ("dapr", "Dapr"),
    ("eventGrid", "Event Grid triggers"),
    ("eventHubs", "Event Hubs"),
    ("kafka", "Kafka"),
    ("kusto", "Kusto"),
    ("mcp", "tools for models"),
    ("mySql", "MySQL"),
    ("openai", "OpenAI"),
    ("rabbitMQ", "RabbitMQ"),
    ("redis", "Redis"),
    ("sendGrid", "SendGrid"),
    ("serviceBus", "Service Bus"),
    ("signalR", "SignalR"),
    ("sql", "Azure SQL"),
    ("tables", "storage tables"),
    ("twilio", "Twilio"),
    ("webPubSub", "Web PubSub"),
):
    _absent(f"extensions.{_name}", Section(), None, _what, _NO_TRIGGER)
_absent("serviceBus", Section(), None, "Service Bus, as Functions 1.x wrote it", _NO_TRIGGER)
_absent("eventHub", Section(), None, "Event Hubs, as Functions 1.x wrote it", _NO_TRIGGER)

# ---------------------------------------------------------------------- Durable Functions

HUB_NAME = _optional(
    f"{DURABLE}.hubName",
    Text(),
    "`WEBSITE_SITE_NAME`, or else `TestHubName`",
    "the task hub's name; the whole of it may be `%SETTING%`",
    "it names the hub's file. Names that Azure Storage would refuse are a warning",
)
DEFAULT_VERSION = _optional(f"{DURABLE}.defaultVersion", Text(), "none", "version of new instances")
VERSION_MATCH = _honoured(
    f"{DURABLE}.versionMatchStrategy",
    Choice(tuple(VersionMatch)),
    VersionMatch.CURRENT_OR_OLDER,
    "which versions run here: all, those up to `defaultVersion`, or only that",
)
VERSION_FAILURE = _honoured(
    f"{DURABLE}.versionFailureStrategy",
    Choice(tuple(VersionFailure)),
    VersionFailure.REJECT,
    "what becomes of others: they wait for another host, or fail",
)
ACTIVITIES = _optional(
    f"{DURABLE}.maxConcurrentActivityFunctions",
    _POSITIVE,
    "10 for each processor",
    "activities that run at the same time",
)
ENTITIES = _optional(
    f"{DURABLE}.maxConcurrentEntityFunctions",
    _POSITIVE,
    "no limit",
    "entities that run operations at the same time; on Azure 10 for each processor",
)
_accepted(
    f"{DURABLE}.maxConcurrentOrchestratorFunctions",
    _POSITIVE,
    None,
    "orchestrators that run at the same time; on Azure 10 for each processor",
    "orchestrator code runs one step at a time, so no limit is ever reached",
)
ENTITY_BATCH = _honoured(
    f"{DURABLE}.maxEntityOperationBatchSize",
    _POSITIVE,
    500,
    "operations of an entity that run together; 1 for one by one",
    "the default on Azure is 5000",
)
ACTIONS = _honoured(
    f"{DURABLE}.maxOrchestrationActions",
    _POSITIVE,
    ACTIONS_MAX,
    "what an orchestrator may ask for in one go; it fails above",
)
OVERRIDABLE = _honoured(
    f"{DURABLE}.overridableExistingInstanceStates",
    Choice[Overridable](("NonRunningStates", "AnyState")),
    "NonRunningStates",
    "which instances a start with the same id replaces",
)
_accepted(
    f"{DURABLE}.entityMessageReorderWindowInMinutes",
    _COUNT,
    30,
    "how long entities remember messages, to put them in order and drop repeats",
    "messages are stored in order and each counts once, however late",
)
ROLLBACK = _honoured(
    f"{DURABLE}.rollbackEntityOperationsOnExceptions",
    Flag(),
    True,
    "an operation that raises changes nothing, and its signals are not sent",
)
_accepted(
    f"{DURABLE}.storeInputsInOrchestrationHistory",
    Flag(),
    False,
    "keep the inputs of activities and children in the history",
    "they always are kept and shown: what is lost in a crash runs again with them",
)
_accepted(
    f"{DURABLE}.throwStatusExceptionsOnRaiseEvent",
    Flag(),
    None,
    "raise an error if an event is for an instance that is not there or has ended",
    "Python clients always learn it, here as on Azure",
)
_accepted(
    f"{DURABLE}.extendedSessionsEnabled",
    Flag(),
    False,
    "keep orchestrators in memory between their steps; on Azure not for Python",
    "they always are kept, as long as there is room",
)
_accepted(
    f"{DURABLE}.extendedSessionIdleTimeoutInSeconds", _COUNT, 30, "how long they are kept", "as long as there is room"
)
RPC_ENABLED = _honoured(
    f"{DURABLE}.localRpcEndpointEnabled",
    Flag(),
    True,
    "serve `/durabletask/`, which clients of the official SDK 1.x call",
)
_accepted(
    f"{DURABLE}.useGracefulShutdown",
    Flag(),
    False,
    "let what runs finish when the host stops",
    "it always may, for ten seconds",
)
_NO_APP_LEASE = "the store is locked by the host that runs on it"
_accepted(f"{DURABLE}.useAppLease", Flag(), True, "one app at a time on a hub", _NO_APP_LEASE)
_accepted(f"{DURABLE}.appLeaseOptions.renewInterval", Span(), timedelta(seconds=25), "of that lock", _NO_APP_LEASE)
_accepted(f"{DURABLE}.appLeaseOptions.acquireInterval", Span(), _MINUTES_5, "of that lock", _NO_APP_LEASE)
_accepted(f"{DURABLE}.appLeaseOptions.leaseInterval", Span(), _MINUTE, "of that lock", _NO_APP_LEASE)
_NO_GRPC = "clients in Python do not use gRPC"
_accepted(f"{DURABLE}.maxGrpcMessageSizeInBytes", _POSITIVE, 4_194_304, "largest gRPC message", _NO_GRPC)
_accepted(f"{DURABLE}.grpcHttpClientTimeout", Span(), timedelta(seconds=100), "limit of a gRPC call", _NO_GRPC)

HTTP_POLL_MS = _honoured(
    f"{DURABLE}.httpSettings.defaultAsyncRequestSleepTimeMilliseconds",
    _POSITIVE,
    30_000,
    "how long `call_http` waits before it asks again, if the answer does not say",
)
FORWARDED_HOST = _honoured(
    f"{DURABLE}.httpSettings.useForwardedHost",
    Flag(),
    False,
    "links take host and scheme from `X-Forwarded-Host` and `X-Forwarded-Proto` if both are there",
)

TRACES_PAYLOADS = _honoured(
    f"{DURABLE}.tracing.traceInputsAndOutputs",
    Flag(),
    False,
    "show inputs and outputs in the lines about instances",
)
TRACES_REPLAYS = _honoured(
    f"{DURABLE}.tracing.traceReplayEvents", Flag(), False, "show what orchestrators print and log while replaying"
)
_NO_TRACES = "traces are not written yet"
_later(f"{DURABLE}.tracing.distributedTracingEnabled", Flag(), False, "correlate traces", _NO_TRACES)
_accepted(
    f"{DURABLE}.tracing.distributedTracingProtocol",
    Choice(("HttpCorrelationProtocol", "W3CTraceContext")),
    "HttpCorrelationProtocol",
    "in which form",
    _NO_TRACES,
)
_accepted(f"{DURABLE}.tracing.version", Choice(("V1", "V2", "None")), "V1", "in which way", _NO_TRACES)
_accepted(f"{DURABLE}.tracing.allowVerboseLinuxTelemetry", Flag(), False, "write more of them", _NO_TRACES)

TOPIC_ENDPOINT = _optional(
    f"{EVENT_GRID}.topicEndpoint",
    Text(),
    "no notifications",
    "URL that a notification is posted to whenever an orchestration begins or ends; may be `%SETTING%`",
    "any server will do. A failure is a line in the log, and no orchestration notices",
)
TOPIC_KEY = _optional(
    f"{EVENT_GRID}.keySettingName", SettingName(), "required", "app setting with the key, sent as `aeg-sas-key`"
)
PUBLISH_RETRIES = _honoured(
    f"{EVENT_GRID}.publishRetryCount", _COUNT, 0, "further attempts after no answer, 503 or a `publishRetryHttpStatus`"
)
PUBLISH_PAUSE = _honoured(
    f"{EVENT_GRID}.publishRetryInterval",
    Span(timedelta(), timedelta(hours=1)),
    _MINUTES_5,
    "the pause between attempts",
)
PUBLISH_STATUSES: Setting[tuple[int, ...]] = _honoured(
    f"{EVENT_GRID}.publishRetryHttpStatus", Listed(Whole(100, 599)), (), "answers that another attempt is made after"
)
PUBLISH_EVENTS: Setting[tuple[LifecycleEvent, ...]] = _honoured(
    f"{EVENT_GRID}.publishEventTypes",
    Listed(Choice[LifecycleEvent](("Started", "Completed", "Failed", "Terminated"))),
    (),
    "what is notified of; empty for all",
)

# ---------------------------------------------------------------------- storage providers

STORAGE_TYPE = _optional(
    f"{STORAGE}.type",
    Text(),
    f"`{AZURE_STORAGE}`",
    f"where Azure keeps the hub: {', '.join(f'`{each}`' for each in PROVIDERS[:-1])}",
    "whichever it is, the hub is kept in perdure's own store, and the start screen says so. The settings of each are "
    "checked all the same",
)
_NOT_CONTACTED = "no storage service is contacted"
_OWN_STORE = "perdure's store has no queues"
_accepted(
    f"{STORAGE}.connectionName", SettingName(), "AzureWebJobsStorage", "app setting with the connection",
    _NOT_CONTACTED, AZURE_STORAGE,
)  # fmt: skip
CONNECTION_STRING_NAME = _optional(
    f"{STORAGE}.connectionStringName",
    SettingName(),
    "`AzureWebJobsStorage`, `SQLDB_Connection`; required for `azureManaged`",
    "app setting with the connection string",
    f"{_NOT_CONTACTED}; for `azureManaged`, its `TaskHub=` names the hub if `hubName` does not",
    f"{AZURE_STORAGE} {MSSQL} {AZURE_MANAGED}",
)
POLLING_INTERVAL = _optional(
    f"{STORAGE}.maxQueuePollingInterval",
    Span(),
    "00:00:05",
    "longest pause between looks for messages; on Azure 00:00:30",
    "messages within a host are never waited for; this is how late one is seen that another process stored unnoticed. "
    "Less than 00:00:00.1 counts as that, more than 00:00:30 as that",
    AZURE_STORAGE,
)
PARTITIONS = _optional(
    f"{STORAGE}.partitionCount",
    Whole(1, 16),
    "what suits the store",
    "how many partitions a new hub gets, and so how many hosts can share it; on Azure 4",
    "a hub that is there keeps its own",
    AZURE_STORAGE,
)
PARTITIONS_NETHERITE = _optional(
    f"{STORAGE}.partitionCount",
    Whole(1, 32),
    "what suits the store",
    "how many partitions a new hub gets, and so how many hosts can share it; on Azure 12",
    "a hub that is there keeps its own",
    NETHERITE,
)
for _name, _kind, _default, _meaning in (
    ("controlQueueBatchSize", _POSITIVE, 32, "messages fetched together"),
    ("controlQueueBufferThreshold", Whole(1, 1000), 256, "messages in memory above which none are fetched"),
    ("controlQueueVisibilityTimeout", Span(_MINUTE, 60 * _MINUTE), _MINUTES_5, "how long a fetched message is hidden"),
    ("workItemQueueVisibilityTimeout", Span(_MINUTE, 60 * _MINUTE), _MINUTES_5, "how long a begun activity is hidden"),
    ("fetchLargeMessagesAutomatically", Flag(), True, "read large payloads from where they are kept"),
    ("useLegacyPartitionManagement", Flag(), False, "an older way of sharing partitions"),
    ("useTablePartitionManagement", Flag(), True, "a newer way of sharing partitions"),
    ("allowReplayingTerminalInstances", Flag(), False, "replay instances that have ended"),
    ("queueClientMessageEncoding", Choice(("UTF8", "Base64")), "UTF8", "how messages are written"),
    ("trackingStoreConnectionName", SettingName(), None, "app setting of a second account for histories"),
    ("trackingStoreConnectionStringName", SettingName(), None, "the older name of `trackingStoreConnectionName`"),
    ("trackingStoreNamePrefix", Text(), None, "what the names of its tables begin with"),
):
    _accepted(f"{STORAGE}.{_name}", _kind, _default, _meaning, _OWN_STORE, AZURE_STORAGE)

MSSQL_HUB = _optional(
    f"{STORAGE}.taskHubName", Text(), "`hubName`", "the task hub's name, if `hubName` does not say", providers=MSSQL
)
for _name, _kind, _default, _meaning in (
    ("taskEventLockTimeout", Span(), _MINUTES_2, "how long an event is hidden once it is fetched"),
    ("taskEventBatchSize", _POSITIVE, 10, "events fetched together"),
    ("createDatabaseIfNotExists", Flag(), False, "make the database"),
    ("schemaName", Text(), None, "the schema of its tables; on Azure `dt`"),
):
    _accepted(f"{STORAGE}.{_name}", _kind, _default, _meaning, "no database server is contacted", MSSQL)

for _name, _kind, _default, _meaning in (
    ("StorageConnectionName", SettingName(), "AzureWebJobsStorage", "app setting with the storage account"),
    ("EventHubsConnectionName", SettingName(), "EventHubsConnection", "app setting with Event Hubs, or an emulation"),
    ("PageBlobStorageConnectionName", SettingName(), None, "app setting with an account for page blobs"),
    ("LoadInformationAzureTableName", Text(), "DurableTaskPartitions", "table about the load"),
    ("InstanceCacheSizeMB", _POSITIVE, None, "memory for instances"),
    ("PartitionManagement", Text(), "EventProcessorHost", "how partitions are shared"),
    ("ActivityScheduler", Text(), "Locavore", "where activities run"),
    ("CacheOrchestrationCursors", Flag(), True, "keep orchestrators in memory"),
    ("EventBehaviourForContinueAsNew", Text(), "Carryover", "what becomes of events that were not waited for"),
    ("MaxNumberBytesBetweenCheckpoints", _POSITIVE, 20 * 1024 * 1024, "log between checkpoints, in bytes"),
    ("MaxNumberEventsBetweenCheckpoints", _POSITIVE, 10_000, "log between checkpoints, in events"),
    ("IdleCheckpointFrequencyMs", _COUNT, 60_000, "pause before an idle partition is written"),
    ("UseSeparateQueueForEntityWorkItems", Flag(), False, "entities have a queue of their own"),
    ("UseLocalDirectoryForPartitionStorage", Text(), None, "a folder in the place of the account"),
    ("PersistStepsFirst", Flag(), False, "steps are durable before they are acted on"),
    ("PackPartitionTaskMessages", _POSITIVE, 100, "messages packed together"),
    ("PartitionStartupTimeoutMinutes", _POSITIVE, 15, "limit for taking a partition over"),
    ("LogLevelLimit", Text(), None, "least level of its lines"),
    ("StorageLogLevelLimit", Text(), None, "the same for storage"),
    ("TransportLogLevelLimit", Text(), None, "the same for Event Hubs"),
    ("EventLogLevelLimit", Text(), None, "the same for events"),
    ("WorkItemLogLevelLimit", Text(), None, "the same for work items"),
    ("ClientLogLevelLimit", Text(), None, "the same for clients"),
    ("LoadMonitorLogLevelLimit", Text(), None, "the same for the load monitor"),
):
    _accepted(f"{STORAGE}.{_name}", _kind, _default, _meaning, "neither Event Hubs nor blobs are contacted", NETHERITE)

for _name, _kind, _default, _meaning in (
    ("workItemFilteringEnabled", Flag(), False, "fetch work only for functions that are there"),
    ("largePayloadStorageEnabled", Flag(), False, "keep large payloads elsewhere"),
    ("largePayloadStorageThresholdBytes", _POSITIVE, 900_000, "from which size on"),
    ("largePayloadStorageConnectionName", SettingName(), None, "app setting with the account for them"),
    ("largePayloadStorageContainerName", Text(), None, "where in it"),
):
    _accepted(f"{STORAGE}.{_name}", _kind, _default, _meaning, "no scheduler is contacted", AZURE_MANAGED)

SETTINGS: tuple[Setting[Any], ...] = tuple(_rows)

# ---------------------------------------------------------------------- older spellings

# Sections that Functions 1.x had at the root: where they are now.
MOVED_SECTIONS = {"durableTask": DURABLE, "http": HTTP, "queues": "extensions.queues"}

# Durable Functions 1.x had one flat section: where its settings are now.
MOVED = {
    f"{DURABLE}.{old}": new
    for old, new in {
        "azureStorageConnectionStringName": f"{STORAGE}.connectionStringName",
        "controlQueueBatchSize": f"{STORAGE}.controlQueueBatchSize",
        "partitionCount": f"{STORAGE}.partitionCount",
        "controlQueueVisibilityTimeout": f"{STORAGE}.controlQueueVisibilityTimeout",
        "workItemQueueVisibilityTimeout": f"{STORAGE}.workItemQueueVisibilityTimeout",
        "maxQueuePollingInterval": f"{STORAGE}.maxQueuePollingInterval",
        "trackingStoreConnectionStringName": f"{STORAGE}.trackingStoreConnectionStringName",
        "trackingStoreNamePrefix": f"{STORAGE}.trackingStoreNamePrefix",
        "traceInputsAndOutputs": f"{DURABLE}.tracing.traceInputsAndOutputs",
        "logReplayEvents": f"{DURABLE}.tracing.traceReplayEvents",
        "eventGridTopicEndpoint": f"{EVENT_GRID}.topicEndpoint",
        "eventGridKeySettingName": f"{EVENT_GRID}.keySettingName",
        "eventGridPublishRetryCount": f"{EVENT_GRID}.publishRetryCount",
        "eventGridPublishRetryInterval": f"{EVENT_GRID}.publishRetryInterval",
        "eventGridPublishRetryHttpStatus": f"{EVENT_GRID}.publishRetryHttpStatus",
        "eventGridPublishEventTypes": f"{EVENT_GRID}.publishEventTypes",
    }.items()
}
