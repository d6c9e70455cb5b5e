"""What the management API does with orchestrations: one handler for each operation.

Source: HttpApiHandler.cs of the Durable Functions extension.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from perdure.core.history_view import history_view
from perdure.core.records import Instance, RuntimeStatus
from perdure.core.status_view import status_view
from perdure.errors import InstanceExistsError, InstanceFinishedError, InstanceNotFoundError
from perdure.webapi.answers import answer, answer_text, empty, failure, invalid_json, refusal
from perdure.webapi.filters import TOKEN_HEADER, instances_to_list, instances_to_purge
from perdure.webapi.links import check_status_payload
from perdure.webapi.payloads import parsed_bool, parsed_seconds
from perdure.webapi.start_options import start_options

if TYPE_CHECKING:
    from perdure.webapi.call import Call

# Seconds after which a client may ask again: about an instance it just started, and about one it looked at.
RETRY_AFTER_START = "10"
RETRY_AFTER_STATUS = "5"


async def start(call: Call, name: str, instance_id: str = "") -> Response:
    """Start an orchestration, and on request wait for its end."""
    refused = _refused_waiting(call)
    if refused is not None:
        return refused
    try:
        options = start_options(call)
    except ValueError as error:
        return failure(400, str(error), str(error))
    try:
        input = await call.json_text()
    except ValueError as error:
        return invalid_json(error)
    instance_id = await call.client.start(
        name,
        input,
        instance_id=instance_id,
        version=options.version,
        start_at=options.start_at,
        tags=options.tags,
        policy=options.policy,
        request_id=call.request_id,
    )
    return await _started(call, instance_id)


async def restart(call: Call, instance_id: str) -> Response:
    """Start an instance anew with the input that it had, by default under a new id."""
    refused = _refused_waiting(call)
    if refused is not None:
        return refused
    await call.body()  # it says nothing, but only after it can the caller's going be noticed
    with_new_id = parsed_bool(call.query("restartwithnewinstanceid"), True)
    try:
        restarted = await call.client.restart(instance_id, new_instance_id=with_new_id, request_id=call.request_id)
    except InstanceNotFoundError:
        return failure(
            400,
            "InstanceId does not match a valid orchestration instance.",
            f"An orchestrastion with the instanceId {instance_id} was not found.",  # spelt as the official one
        )
    except InstanceExistsError:
        return refusal(409, "A non-terminal instance with this instance ID already exists.")
    return await _started(call, restarted)


def _refused_waiting(call: Call) -> Response | None:
    timeout = parsed_seconds(call.query("timeout"))
    interval = parsed_seconds(call.query("pollinginterval"))
    if timeout is None or interval is None or interval <= timeout:
        return None
    sentence = f"Total timeout {timeout:g} should be bigger than retry timeout {interval:g}"
    return failure(400, sentence, sentence)


async def _started(call: Call, instance_id: str) -> Response:
    """The answer to a start: what became of the instance if the caller waits, or else how to manage it."""
    timeout = parsed_seconds(call.query("timeout"))
    if timeout is not None:
        instance = await _wait(call, instance_id, timedelta(seconds=timeout))
        if instance.status is RuntimeStatus.COMPLETED:
            return answer_text(instance.output)
        if instance.status.is_terminal:
            return answer(_view(instance, show_input=True))
    payload = check_status_payload(call.origin, call.hub, instance_id, call.access, call.granted)
    return answer(payload, 202, {"Location": payload["statusQueryGetUri"], "Retry-After": RETRY_AFTER_START})


async def _wait(call: Call, instance_id: str, timeout: timedelta) -> Instance:
    """The instance once it has ended, or after `timeout`; given up when the client goes away."""
    ended = asyncio.ensure_future(call.client.wait(instance_id, timeout))
    gone = asyncio.ensure_future(call.receive())  # after the body, the only thing left to receive is its going
    try:
        await asyncio.wait((ended, gone), return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            raise ClientDisconnect
        return ended.result()
    finally:
        ended.cancel()
        gone.cancel()


# ---------------------------------------------------------------------- looking


async def show(call: Call, instance_id: str) -> Response:
    """The status of one instance, on request with its history."""
    instance = await _existing(call, instance_id)
    show_input = parsed_bool(call.query("showinput"), True)
    body = _view(instance, show_input=show_input, history=await _history(call, instance, show_input))
    if not instance.status.is_terminal:
        return answer(body, 202, {"Location": call.url, "Retry-After": RETRY_AFTER_STATUS})
    is_error = instance.status is RuntimeStatus.FAILED and parsed_bool(
        call.query("returninternalservererroronfailure"), False
    )
    return answer(body, 500 if is_error else 200)


async def _history(call: Call, instance: Instance, show_input: bool) -> list[dict[str, Any]] | None:
    if instance.status is RuntimeStatus.PENDING or not parsed_bool(call.query("showhistory"), False):
        return None
    rows = await call.client.history(instance.instance_id)
    events = [event for row in rows for event in row.events]
    show_output = parsed_bool(call.query("showhistoryoutput"), False)
    return history_view(events, show_input=show_input, show_output=show_output)


async def list_instances(call: Call) -> Response:
    """One page of instances; all of them for SDK 1.x clients, which take the first page for the whole list."""
    query = instances_to_list(call)
    if query.statuses is not None and not query.statuses:
        return answer([])
    show_input = parsed_bool(call.query("showinput"), True)
    if call.is_rpc and call.query("top") is None:
        return answer([_view(each, show_input=show_input) async for each in call.client.instances(query)])
    try:
        page = await call.client.list(query)
    except ValueError:
        return refusal(400, f"The header {TOKEN_HEADER} is none that this server gave.")
    body = [_view(each, show_input=show_input) for each in page.instances]
    return answer(body, 200, {} if page.after is None else {TOKEN_HEADER: page.after})


def _view(instance: Instance, *, show_input: bool, history: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """The official status, and the tags of instances that have some."""
    view = status_view(instance, show_input=show_input, history=history)
    return view | {"tags": instance.tags} if instance.tags else view


# ---------------------------------------------------------------------- steering


async def raise_event(call: Call, instance_id: str, name: str) -> Response:
    """Send an event to an instance."""
    if call.header("content-type").partition(";")[0].strip().lower() != "application/json":
        await _unfinished(call, instance_id)
        return refusal(400, "Only application/json request content is supported")
    try:
        data = await call.event_text()
    except ValueError as error:
        await _unfinished(call, instance_id)
        return invalid_json(error)
    await call.client.raise_event(instance_id, name, data, request_id=call.request_id)
    return empty(202)


async def terminate(call: Call, instance_id: str) -> Response:
    """End an instance, on request with its children."""
    await call.client.terminate(instance_id, _reason(call), recursive=_is_recursive(call), request_id=call.request_id)
    return empty(202)


async def suspend(call: Call, instance_id: str) -> Response:
    """Halt an instance; without effect if it is halted."""
    await call.client.suspend(instance_id, _reason(call), request_id=call.request_id)
    return empty(202)


async def resume(call: Call, instance_id: str) -> Response:
    """Let an instance go on; without effect if it is not halted."""
    await call.client.resume(instance_id, _reason(call), request_id=call.request_id)
    return empty(202)


async def rewind(call: Call, instance_id: str) -> Response:
    """Let a failed instance try again what failed."""
    try:
        await call.client.rewind(instance_id, _reason(call), request_id=call.request_id)
    except InstanceNotFoundError:
        return answer(f'No orchestration with instance ID "{instance_id}" found.', 404)
    return empty(202)


async def purge(call: Call, instance_id: str) -> Response:
    """Remove an instance that has ended, on request with its descendants."""
    return _purged(await call.client.purge(instance_id, recursive=_is_recursive(call)))


async def purge_by(call: Call) -> Response:
    """Remove the instances that have ended and that a filter lets through."""
    try:
        query = instances_to_purge(call)
    except ValueError as error:
        return answer(str(error), 400)
    return _purged(await call.client.purge_by(query, recursive=_is_recursive(call)))


def _purged(count: int) -> Response:
    return answer({"instancesDeleted": count}) if count else empty(404)


def _reason(call: Call) -> str | None:
    return call.query("reason") or None


def _is_recursive(call: Call) -> bool:
    return parsed_bool(call.query("recursive"), False)


async def _existing(call: Call, instance_id: str) -> Instance:
    instance = await call.client.get(instance_id)
    if instance is None:
        raise InstanceNotFoundError(instance_id)
    return instance


async def _unfinished(call: Call, instance_id: str) -> None:
    """A missing or finished instance is told before what is wrong with the request."""
    instance = await _existing(call, instance_id)
    if instance.status.is_terminal:
        raise InstanceFinishedError(instance_id, instance.status)
