"""Which texts may name an instance, and ids that follow from others.

Rule 1: an id is refused where it enters, whether a client starts the instance or an orchestration calls it.
"""

from __future__ import annotations

import re
from typing import Final
from uuid import NAMESPACE_OID, UUID, uuid5

from perdure.errors import InvalidInstanceIdError

INSTANCE_ID_LENGTH_MAX: Final = 256  # characters; the extension's limit

_FORBIDDEN = re.compile(r"[/\\#?\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def check_instance_id(instance_id: str) -> None:
    """Refuse ids that no store or URL could carry.

    Raises:
        InvalidInstanceIdError: with the official host's sentence.
    """
    if instance_id.startswith("@"):
        raise InvalidInstanceIdError("Orchestration instance ids must not start with @.")
    if _FORBIDDEN.search(instance_id):
        raise InvalidInstanceIdError("Orchestration instance ids must not contain /, \\, #, ?, or control characters.")
    if len(instance_id) > INSTANCE_ID_LENGTH_MAX:
        raise InvalidInstanceIdError("Instance ID lengths must not exceed 256 characters.")


def check_entity_id(entity_id: str) -> None:
    """Refuse ids that no entity can have.

    Raises:
        InvalidInstanceIdError: with the official host's sentence.
    """
    mark, name, key = (*entity_id.split("@", 2), "", "")[:3]
    if mark or not name or entity_id.count("@") < 2:
        raise InvalidInstanceIdError(f"Invalid entity id: '{entity_id}' is not  @name@key.")
    if _FORBIDDEN.search(key) or _FORBIDDEN.search(name):
        raise InvalidInstanceIdError("Entity keys must not contain /, \\, #, ?, or control characters.")
    if len(entity_id) > INSTANCE_ID_LENGTH_MAX:
        raise InvalidInstanceIdError("Instance ID lengths must not exceed 256 characters.")


def derived_id(execution_id: str, what: str) -> str:
    """The id of an execution that follows from another: the same however often it is derived."""
    try:
        namespace = UUID(hex=execution_id)
    except ValueError:  # a client's request id, which may be any text
        namespace = uuid5(NAMESPACE_OID, execution_id)
    return uuid5(namespace, what).hex
