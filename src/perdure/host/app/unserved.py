"""What this host does not serve, why, and what to do instead."""

from __future__ import annotations

# In place of messages that would arrive, of things that would be noticed, and of what a binding would read or write.
_START_IT = "start its orchestration over HTTP instead, or from a timer function"
_LOOK_FOR_IT = "look for changes in a timer function instead"
_CALL_IT = "use the service's own Python client in the function, or in an activity"

_SOURCES = {
    "queuetrigger": ("a storage queue", _START_IT),
    "servicebustrigger": ("Service Bus", _START_IT),
    "eventhubtrigger": ("Event Hubs", _START_IT),
    "kafkatrigger": ("Kafka", _START_IT),
    "rabbitmqtrigger": ("RabbitMQ", _START_IT),
    "redispubsubtrigger": ("Redis", _START_IT),
    "redislisttrigger": ("Redis", _START_IT),
    "redisstreamtrigger": ("Redis", _START_IT),
    "eventgridtrigger": ("Event Grid", "let it post to an HTTP function instead"),
    "signalrtrigger": ("SignalR", "let it post to an HTTP function instead"),
    "webpubsubtrigger": ("Web PubSub", "let it post to an HTTP function instead"),
    "blobtrigger": ("blob storage", _LOOK_FOR_IT),
    "cosmosdbtrigger": ("Cosmos DB", _LOOK_FOR_IT),
    "sqltrigger": ("SQL Server", _LOOK_FOR_IT),
    "mysqltrigger": ("MySQL", _LOOK_FOR_IT),
    "warmuptrigger": ("the scale controller of Azure", "run it on startup as a timer function"),
    "mcptooltrigger": ("the MCP extension", "serve the tool from an HTTP function"),
}


def inactive_trigger(kind: str) -> str:
    """Why a function behind this kind of trigger never runs, and what to do."""
    source, instead = _SOURCES.get(kind.casefold(), (None, _START_IT))
    needs = "" if source is None else f"needs {source}: "
    return f"inactive: {needs}this host does not serve a {kind}  (DF110); {instead}"


def inactive_binding(kind: str, name: str) -> str:
    """Why a function with this binding does not run, and what to do."""
    return f"inactive: this host does not serve a {kind} binding  (DF110), its '{name}'; {_CALL_IT}"
