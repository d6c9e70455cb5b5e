"""The management URLs that clients follow.

Source: HttpManagementPayload.cs and BindingHelper.cs of the Durable Functions extension, but without a key: none is
needed on loopback.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

BASE_PATH = "/runtime/webhooks/durabletask"
RPC_PATH = "/durabletask/"

# What stands for the instance's id in a binding; clients replace it wherever it occurs.
PLACEHOLDER = "INSTANCEID"

# What stands for an entity's empty key in a path; so the key that is really called so has no URL.
EMPTY_KEY = "$"

_GRPC_MESSAGE_BYTES_MAX = 4 * 1024 * 1024  # gRPC's own default; clients over HTTP ignore it

_CONNECTION = "Storage"  # what the official host writes for the app's default storage; servers ignore it


def management_urls(origin: str, hub: str, instance_id: str) -> dict[str, str]:
    """All that can be done with one instance, as URLs in the official order.

    Args:
        origin: scheme, host and port, such as `http://localhost:7071`.
        hub: name of the task hub.
        instance_id: the instance's, or a placeholder that a client replaces.

    `{eventName}` and `{text}` stand in the URLs as they are, for the caller to fill in.
    """
    instance = f"{origin}{BASE_PATH}/instances/{quote(instance_id, safe='')}"
    query = f"taskHub={quote(hub, safe='')}&connection={_CONNECTION}"
    return {
        "id": instance_id,
        "statusQueryGetUri": f"{instance}?{query}",
        "sendEventPostUri": f"{instance}/raiseEvent/{{eventName}}?{query}",
        "terminatePostUri": f"{instance}/terminate?reason={{text}}&{query}",
        "rewindPostUri": f"{instance}/rewind?reason={{text}}&{query}",
        "purgeHistoryDeleteUri": f"{instance}?{query}",
        "restartPostUri": f"{instance}/restart?{query}",
        "suspendPostUri": f"{instance}/suspend?reason={{text}}&{query}",
        "resumePostUri": f"{instance}/resume?reason={{text}}&{query}",
    }


def check_status_payload(origin: str, hub: str, instance_id: str) -> dict[str, str]:
    """What the server itself answers to a start: the management URLs, by tradition without the one for rewind."""
    urls = management_urls(origin, hub, instance_id)
    del urls["rewindPostUri"]
    return urls


def client_binding(origin: str, hub: str) -> dict[str, Any]:
    """What a `durableClient` binding gives the client of SDK 1.x; it wants it as JSON text.

    Args:
        origin: scheme, host and port by which the app reaches this host over loopback.
        hub: name of the task hub.
    """
    base = origin + BASE_PATH
    create = f"{base}/orchestrators/{{functionName}}[/{{instanceId}}]"
    return {
        "taskHubName": hub,
        "connectionName": None,
        "creationUrls": {
            "createNewInstancePostUri": create,
            "createAndWaitOnNewInstancePostUri": (
                f"{create}?timeout={{timeoutInSeconds}}&pollingInterval={{intervalInSeconds}}"
            ),
        },
        "managementUrls": management_urls(origin, hub, PLACEHOLDER),
        "baseUrl": base,
        "requiredQueryStringParameters": "",
        "rpcBaseUrl": origin + RPC_PATH,
        "httpBaseUrl": None,
        "maxGrpcMessageSizeInBytes": _GRPC_MESSAGE_BYTES_MAX,
    }
