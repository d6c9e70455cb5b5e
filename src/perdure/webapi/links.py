"""The management URLs that clients follow.

Source: HttpManagementPayload.cs of the Durable Functions extension. Where that puts the system key, these have a code
that is good for the one link, and nothing if the host asks for no keys.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from urllib.parse import quote

from perdure.webapi.access import ALL_OPERATIONS, ManagementAccess

BASE_PATH = "/runtime/webhooks/durabletask"

# What stands for the instance's id in a binding; clients replace it wherever it occurs.
PLACEHOLDER = "INSTANCEID"

# What stands for an entity's empty key in a path; so the key that is really called so has no URL.
EMPTY_KEY = "$"

_CONNECTION = "Storage"  # what the official host writes for the app's default storage; servers ignore it


def management_urls(
    origin: str,
    hub: str,
    instance_id: str | None,
    access: ManagementAccess | None = None,
    granted: AbstractSet[str] = ALL_OPERATIONS,
) -> dict[str, str]:
    """All that can be done with one instance, as URLs in the official order.

    Args:
        origin: scheme, host and port, such as `http://localhost:7071`.
        hub: name of the task hub.
        instance_id: the instance's. With None the URLs have `PLACEHOLDER` in its place, and get through with whatever
            replaces that.
        access: makes the codes by which the URLs get through, if keys are asked for.
        granted: operations whose URLs get such a code; the others are for those who have a key.

    `{eventName}` and `{text}` stand in the URLs as they are, for the caller to fill in.
    """
    shown_id = PLACEHOLDER if instance_id is None else instance_id
    instance = f"{origin}{BASE_PATH}/instances/{quote(shown_id, safe='')}"

    def query(operation: str) -> str:
        common = f"taskHub={quote(hub, safe='')}&connection={_CONNECTION}"
        if access is None or operation not in granted:
            return common
        return f"{common}&code={access.code(operation, instance_id)}"

    return {
        "id": shown_id,
        "statusQueryGetUri": f"{instance}?{query('status')}",
        "sendEventPostUri": f"{instance}/raiseEvent/{{eventName}}?{query('raiseEvent')}",
        "terminatePostUri": f"{instance}/terminate?reason={{text}}&{query('terminate')}",
        "rewindPostUri": f"{instance}/rewind?reason={{text}}&{query('rewind')}",
        "purgeHistoryDeleteUri": f"{instance}?{query('purge')}",
        "restartPostUri": f"{instance}/restart?{query('restart')}",
        "suspendPostUri": f"{instance}/suspend?reason={{text}}&{query('suspend')}",
        "resumePostUri": f"{instance}/resume?reason={{text}}&{query('resume')}",
    }


def check_status_payload(
    origin: str,
    hub: str,
    instance_id: str,
    access: ManagementAccess | None = None,
    granted: AbstractSet[str] = ALL_OPERATIONS,
) -> dict[str, str]:
    """What the server itself answers to a start: the management URLs, by tradition without the one for rewind."""
    urls = management_urls(origin, hub, instance_id, access, granted)
    del urls["rewindPostUri"]
    return urls
