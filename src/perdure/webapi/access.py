"""Who may use the management API of a host that asks for keys: whoever has a key, or a link to one operation."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable, Sequence

# What can be done with one instance, each by a link of its own: verb and what follows the id in the path.
OPERATIONS = {
    ("GET", ""): "status",
    ("DELETE", ""): "purge",
    ("POST", "raiseevent"): "raiseEvent",
    ("POST", "terminate"): "terminate",
    ("POST", "rewind"): "rewind",
    ("POST", "restart"): "restart",
    ("POST", "suspend"): "suspend",
    ("POST", "resume"): "resume",
}


class ManagementAccess:
    """Judges requests to the management API, and makes the codes by which links get through.

    A link's code opens one operation on one instance and nothing else, so a link can be handed on. It is good for as
    long as the key is with which it was signed.

    Args:
        hub: name of the task hub.
        is_key: whether a text opens the whole API.
        rpc_segment: opens the local mount to the app's own processes, as the first segment below it.
        signature: what only this app's hosts can make of a message.
    """

    def __init__(
        self,
        hub: str,
        *,
        is_key: Callable[[str], bool],
        rpc_segment: str,
        signature: Callable[[bytes], bytes],
    ) -> None:
        self._hub = hub.casefold()
        self._is_key = is_key
        self._rpc_segment = rpc_segment.encode()
        self._signature = signature

    def admits(self, verb: str, segments: Sequence[str], key: str) -> bool:
        """Whether a request to the public mount is to be answered.

        Args:
            segments: of the path below the mount, decoded.
            key: what the caller shows, or an empty text.
        """
        return self._is_key(key) or self._is_link(verb, segments, key)

    def opens_rpc(self, segment: str) -> bool:
        """Whether the first segment below the local mount is the one that opens it."""
        return hmac.compare_digest(segment.encode("utf-8", "replace"), self._rpc_segment)

    def code(self, operation: str, instance_id: str | None) -> str:
        """What a link to an operation carries.

        Args:
            operation: one of `OPERATIONS`.
            instance_id: the instance's; None for any, where the link is a template that gets its id later.
        """
        message = json.dumps([self._hub, operation, instance_id]).encode()
        return base64.urlsafe_b64encode(self._signature(message)).decode().rstrip("=")

    def _is_link(self, verb: str, segments: Sequence[str], key: str) -> bool:
        match segments:
            case [collection, instance_id, *rest] if collection.lower() == "instances" and len(rest) <= 2:
                operation = OPERATIONS.get((verb, rest[0].lower() if rest else ""))
            case _:
                return False
        if operation is None:
            return False
        shown = key.encode("utf-8", "replace")
        is_for_this = hmac.compare_digest(shown, self.code(operation, instance_id).encode())
        is_for_any = hmac.compare_digest(shown, self.code(operation, None).encode())
        return is_for_this or is_for_any
