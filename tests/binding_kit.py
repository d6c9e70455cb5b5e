"""The client binding of a host, as programs get it that are not started by that host."""

from __future__ import annotations

import json
from typing import Any

from perdure.host.sdk import client_binding as host
from perdure.webapi.links import management_urls


def client_binding(origin: str, hub: str) -> dict[str, Any]:
    """What a binding of the official host has, for a host without keys."""
    binding = json.loads(host.client_binding(hub, management_urls(origin, hub, None), origin))
    del binding["perdure"]
    return binding
