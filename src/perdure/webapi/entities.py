"""What the management API does with entities: one handler for each operation.

Source: HttpApiHandler.cs of the Durable Functions extension; `scheduledTime` and `cleanEntityStorage` are ours.
"""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from perdure.core.instance_ids import check_entity_id
from perdure.core.records import Instance
from perdure.core.status_view import json_value
from perdure.errors import InvalidInstanceIdError
from perdure.webapi.answers import answer, answer_text, empty, failure, refusal
from perdure.webapi.filters import TOKEN_HEADER, entities_to_list, entity_token
from perdure.webapi.links import EMPTY_KEY
from perdure.webapi.payloads import parsed_bool, readable_time

if TYPE_CHECKING:
    from perdure.webapi.call import Call


async def show_entity(call: Call, name: str, key: str) -> Response:
    """The state of an entity, and nothing else."""
    entity = await call.client.entity(_entity_id(name, key))
    state = None if entity is None else _state(entity)
    return empty(404) if state is None else answer_text(state)


async def list_entities(call: Call, name: str = "") -> Response:
    """One page of the entities that have a state, on request with it."""
    if name:
        _entity_id(name, "")
    try:
        query = entities_to_list(call, name)
    except ValueError:
        return refusal(400, f"The header {TOKEN_HEADER} is none that this server gave.")
    page = await call.client.entities(query)
    show_state = parsed_bool(call.query("fetchstate"), False)
    body = [_view(each, show_state=show_state) for each in page.instances if _state(each) is not None]
    return answer(body, 200, {} if page.after is None else {TOKEN_HEADER: entity_token(page.after)})


async def signal_entity(call: Call, name: str, key: str = "") -> Response:
    """Send an operation to an entity, on request for later."""
    return await _signal(call, _entity_id(name, key), call.query("op") or "")


async def delete_entity(call: Call, name: str, key: str = "") -> Response:
    """Send an entity the operation `delete`."""
    return await _signal(call, _entity_id(name, key), "delete")


async def clean_entities(call: Call) -> Response:
    """Free what accidents have left of entities."""
    removed, released = await call.client.clean_entities()
    return answer({"emptyEntitiesRemoved": removed, "orphanedLocksReleased": released})


async def _signal(call: Call, entity_id: str, operation: str) -> Response:
    try:
        deliver_at = readable_time("scheduledTime", call.query("scheduledtime"))
    except ValueError as error:
        return failure(400, str(error), str(error))
    try:
        input = await _input(call)
    except ValueError as error:
        return refusal(400, f"Could not parse JSON content: {error}")
    await call.client.signal_entity(entity_id, operation, input, deliver_at=deliver_at, request_id=call.request_id)
    return empty(202)


async def _input(call: Call) -> str | None:
    """The body as JSON text: what is not said to be JSON becomes a JSON string."""
    if call.header("content-type").partition(";")[0].strip().lower() == "application/json":
        return await call.json_text()
    body = await call.body()
    return json.dumps(body.decode()) if body else None


def _entity_id(name: str, key: str) -> str:
    """The instance id of an entity in a path.

    Raises:
        InvalidInstanceIdError: there can be no such entity.
    """
    if "@" in name:
        raise InvalidInstanceIdError(f"Invalid entity id: the name '{name}' contains @.")
    entity_id = f"@{name.lower()}@{'' if key == EMPTY_KEY else key}"
    check_entity_id(entity_id)
    return entity_id


def _state(entity: Instance) -> str | None:
    return None if entity.entity is None else entity.entity.state


def _view(entity: Instance, *, show_state: bool) -> dict[str, Any]:
    _, name, key = entity.instance_id.split("@", 2)
    time = entity.updated_at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
    return {
        "entityId": {"name": name, "key": key},
        "lastOperationTime": f"{time}Z",
        "state": json_value(_state(entity)) if show_state else None,
    }
