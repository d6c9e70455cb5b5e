"""What a `durableClient` binding gives a function: the text that says where the task hub is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from msgspec import Struct

PLACEHOLDER = "INSTANCEID"
"""What stands for the instance's id in the management URLs."""

_NEEDED = ("taskHubName", "creationUrls", "managementUrls")


class DurableOrchestrationBindings(Struct, frozen=True):
    """The text of a client binding, read; its name is the official one.

    Attributes:
        creation_urls, management_urls: by their official names, with `INSTANCEID` for an instance's id.
        rpc_base_url: where the host answers the app's own process, with a slash at its end; None if it does not.
        client_data: what else the host said.
    """

    task_hub_name: str
    creation_urls: Mapping[str, str]
    management_urls: Mapping[str, str]
    rpc_base_url: str | None
    client_data: Mapping[str, Any]

    @classmethod
    def from_json(cls, json_string: str | bytes) -> DurableOrchestrationBindings:
        """The binding that `json_string` is.

        Raises:
            TypeError: it lacks a member that every host sends.
            ValueError: it is no JSON.
        """
        sent: Any = json.loads(json_string)
        members = cast("dict[str, Any]", sent) if isinstance(sent, dict) else {}
        missing = [each for each in _NEEDED if each not in members]
        if missing:
            raise TypeError(
                f"the text of a client binding lacks {', '.join(missing)}: pass what the parameter of the "
                "durableClient binding holds"
            )
        urls: dict[str, str] = members["managementUrls"]
        marked = urls.get("id") or PLACEHOLDER
        return cls(
            members["taskHubName"],
            members["creationUrls"],
            {name: url.replace(marked, PLACEHOLDER) for name, url in urls.items()},
            members.get("rpcBaseUrl"),
            {name: value for name, value in members.items() if name not in {*_NEEDED, "rpcBaseUrl"}},
        )

    @property
    def is_perdures(self) -> bool:
        """The host is perdure's, and so has what the official one has not."""
        return self.client_data.get("perdure") is True
