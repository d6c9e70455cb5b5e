"""The JSON text that a client binding gives a function, and the client of SDK 1.x is made from.

Source: BindingHelper.cs of the Durable Functions extension.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

if TYPE_CHECKING:
    from perdure.host.http.access import Access

PLACEHOLDER = "INSTANCEID"
"""What stands for the instance's id in the management URLs; clients replace it wherever it occurs."""

RPC_PATH = "/durabletask/"

_GRPC_MESSAGE_BYTES_MAX = 4 * 1024 * 1024  # gRPC's own default; clients over HTTP ignore it


def client_binding(hub: str, urls: Mapping[str, str], rpc_origin: str, access: Access | None = None) -> str:
    """What the parameter of a `durableClient` binding is, as JSON text.

    Args:
        hub: name of the task hub.
        urls: the management URLs by their official names, with `PLACEHOLDER` for the instance's id.
        rpc_origin: scheme, host and port by which a process on this machine reaches the host over loopback.
        access: has the keys, if the host asks for some.
    """
    parts = urlsplit(urls["statusQueryGetUri"])
    base = urlunsplit(parts._replace(path=parts.path.partition("/instances/")[0], query=""))
    required = "" if access is None else f"code={quote(access.management_key(), safe='')}"
    create = f"{base}/orchestrators/{{functionName}}[/{{instanceId}}]"
    waiting = "timeout={timeoutInSeconds}&pollingInterval={intervalInSeconds}"
    return json.dumps({
        "taskHubName": hub,
        "connectionName": None,
        "creationUrls": {
            "createNewInstancePostUri": f"{create}?{required}" if required else create,
            "createAndWaitOnNewInstancePostUri": f"{create}?{waiting}{'&' if required else ''}{required}",
        },
        "managementUrls": dict(urls),
        "baseUrl": base,
        "requiredQueryStringParameters": required,
        "rpcBaseUrl": rpc_origin + RPC_PATH + ("" if access is None else f"{access.rpc_segment}/"),
        "httpBaseUrl": None,
        "maxGrpcMessageSizeInBytes": _GRPC_MESSAGE_BYTES_MAX,
        "perdure": True,  # our client asks other hosts for nothing that they do not have
    })  # fmt: skip
