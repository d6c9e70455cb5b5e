"""Who may use the management API of a host that asks for keys: whoever has a key, or a link to one operation."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

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

ALL_OPERATIONS: Final = frozenset(OPERATIONS.values())
NO_OPERATIONS: Final[frozenset[str]] = frozenset()

# What else than a DELETE takes away for good, or is the owner's business.
_FOR_ADMINS: Final = frozenset({"cleanentitystorage", "makeprimary"})

# Codes begin with the second of their end in hexadecimal digits, which reach to the year 2106; 0 for none.
_EXPIRY_DIGITS: Final = 8
_LAST_SECOND: Final = 16**_EXPIRY_DIGITS - 1


def _now() -> datetime:
    return datetime.now(UTC)


class ManagementAccess:
    """Judges requests to the management API, and makes the codes by which links get through.

    A link's code opens one operation on one instance and nothing else, so a link can be handed on. It is good until it
    expires, and no longer than the key with which it was signed.

    Args:
        hub: name of the task hub.
        is_key: whether a text is a key for a right: `read` to look, `operate` to start and to steer, `admin` for all.
        rpc_segment: opens the local mount to the app's own processes, as the first segment below it.
        signature: what only this app's hosts can make of a message.
        lifetime: how long codes are good, None for ever.
        now: the time.
    """

    def __init__(
        self,
        hub: str,
        *,
        is_key: Callable[[str, str], bool],
        rpc_segment: str,
        signature: Callable[[bytes], bytes],
        lifetime: timedelta | None = None,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._hub = hub.casefold()
        self._is_key = is_key
        self._rpc_segment = rpc_segment.encode()
        self._signature = signature
        self._lifetime = lifetime
        self._now = now

    def granted(self, verb: str, segments: Sequence[str], key: str) -> frozenset[str]:
        """The operations that the sender of a request may hand on links to; none if it is not to be answered.

        So a link to restart an instance gets nobody links to steer it, and who may not purge cannot let others purge.

        Args:
            segments: of the path below the mount, decoded.
            key: what the caller shows, or an empty text.
        """
        if self._is_key(key, "admin"):
            return ALL_OPERATIONS
        match right_for(verb, segments):
            case "read" if self._is_key(key, "read"):
                return frozenset({"status"})
            case "operate" if self._is_key(key, "operate"):
                return ALL_OPERATIONS - {"purge"}
            case _:
                operation = _operation(verb, segments)
                is_link = operation is not None and self._is_link(operation, segments[1], key)
                return frozenset({"status", operation}) if operation is not None and is_link else NO_OPERATIONS

    def opens_rpc(self, segment: str) -> bool:
        """Whether the first segment below the local mount is the one that opens it."""
        return hmac.compare_digest(segment.encode("utf-8", "replace"), self._rpc_segment)

    def code(self, operation: str, instance_id: str | None) -> str:
        """What a link to an operation carries.

        Args:
            operation: one of `OPERATIONS`.
            instance_id: the instance's; None for any, where the link is a template that gets its id later.
        """
        end = 0 if self._lifetime is None else int((self._now() + self._lifetime).timestamp())
        return self._code(operation, instance_id, min(end, _LAST_SECOND))

    def _code(self, operation: str, instance_id: str | None, end: int) -> str:
        message = json.dumps([self._hub, operation, instance_id, end]).encode()
        signature = base64.urlsafe_b64encode(self._signature(message)).decode().rstrip("=")
        return f"{end:0{_EXPIRY_DIGITS}x}{signature}"

    def _is_link(self, operation: str, instance_id: str, key: str) -> bool:
        try:
            end = int(key[:_EXPIRY_DIGITS], 16)
        except ValueError:
            return False
        shown = key.encode("utf-8", "replace")
        is_for_this = hmac.compare_digest(shown, self._code(operation, instance_id, end).encode())
        is_for_any = hmac.compare_digest(shown, self._code(operation, None, end).encode())
        return (is_for_this or is_for_any) and (end == 0 or end > self._now().timestamp())


def right_for(verb: str, segments: Sequence[str]) -> str:
    """What a caller's key has to allow for a request: `read`, `operate` or `admin`."""
    if verb == "DELETE" or segments[0].lower() in _FOR_ADMINS:
        return "admin"
    return "read" if verb == "GET" else "operate"


def _operation(verb: str, segments: Sequence[str]) -> str | None:
    """The operation on one instance that a request asks for, if that is what it does."""
    match segments:
        case [collection, _, *rest] if collection.lower() == "instances" and len(rest) <= 2:
            return OPERATIONS.get((verb, rest[0].lower() if rest else ""))
        case _:
            return None
