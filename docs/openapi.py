"""The file docs/reference/openapi.json: the HTTP endpoints of a host, for tools that read OpenAPI.

What follows is the one table of them. Tests hold it against the routes of the management API, and against what a host
answers to requests that were made from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any, NamedTuple

from perdure.webapi.links import BASE_PATH
from perdure.webapi.routes import ROUTES

NO_BODY, JSON_BODY, ANY_BODY, KEY_BODY, RUN_BODY = "no", "json", "any", "key", "run"


class Endpoint(NamedTuple):
    """What one verb does at one path.

    Attributes:
        query: names from `PARAMETERS`.
        body: which of the five kinds of body it takes.
        answers: status codes from `ANSWERS`, without those that all have.
    """

    verb: str
    path: str
    summary: str
    query: tuple[str, ...] = ()
    body: str = NO_BODY
    answers: tuple[int, ...] = (200, 404)
    headers: tuple[str, ...] = ()


_TEXT: dict[str, Any] = {"type": "string"}
_FLAG: dict[str, Any] = {"type": "boolean"}
_TIME: dict[str, Any] = {"type": "string", "format": "date-time"}
_SECONDS: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": 1}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": 1000}
_STATUSES = ("Running", "Completed", "ContinuedAsNew", "Failed", "Canceled", "Terminated", "Pending", "Suspended")

# Query parameters by name: what values they have, and what they mean. Names are compared without case.
PARAMETERS: dict[str, tuple[dict[str, Any], str]] = {
    "taskHub": (_TEXT, "Name of the task hub; the host's own, or nothing is found."),
    "timeout": (_SECONDS, "Wait for the end of the instance for so many seconds; any positive number."),
    "pollingInterval": (_SECONDS, "Must not be longer than the timeout."),
    "version": (_TEXT, "The version that the orchestration gets."),
    "startAt": (_TIME, "When to start it."),
    "tags": (_TEXT, 'A JSON object of texts, such as {"team":"blue"}.'),
    "policy": (
        {"type": "string", "enum": ["reject", "ignore", "replace"]},
        "What becomes of the start if an instance of that id has not ended.",
    ),
    "showInput": (_FLAG, "With inputs; they are there by default."),
    "showHistory": (_FLAG, "With the events of the history."),
    "showHistoryOutput": (_FLAG, "With results in these events."),
    "returnInternalServerErrorOnFailure": (_FLAG, "Answer 500 with the status, if the instance has failed."),
    "createdTimeFrom": (_TIME, "Created then or later."),
    "createdTimeTo": (_TIME, "Created then or earlier."),
    "runtimeStatus": ({"type": "string", "enum": list(_STATUSES)}, "In one of these statuses, separated by commas."),
    "instanceIdPrefix": (_TEXT, "With an id that begins like this."),
    "top": (_COUNT, "At most so many."),
    "recursive": (_FLAG, "The sub-orchestrations, too."),
    "reason": (_TEXT, "Stands in the history."),
    "restartWithNewInstanceId": (_FLAG, "Give the new instance a new id; so it is by default."),
    "op": (_TEXT, "The operation's name."),
    "scheduledTime": (_TIME, "When to deliver it."),
    "fetchState": (_FLAG, "With their states."),
    "lastOperationTimeFrom": (_TIME, "Changed then or later."),
    "lastOperationTimeTo": (_TIME, "Changed then or earlier."),
}

HEADERS: dict[str, tuple[dict[str, Any], str]] = {
    "x-ms-continuation-token": (_TEXT, "The token of the page before; without one, the first page."),
    "Idempotency-Key": (_TEXT, "The same for every attempt of one request: it counts once."),
}

ANSWERS = {
    200: "Done, and the answer is in the body.",
    201: "Made.",
    202: "Accepted; what comes of it shows later.",
    204: "Removed.",
    400: "The request is not right; the body says why.",
    401: "The caller has not shown a key that opens this.",
    403: "A web page of another origin has sent this, or it is not for callers from elsewhere.",
    404: "Nothing is there.",
    409: "An instance of that id has not ended.",
    410: "The instance has ended.",
    412: "The instance is not in a status in which that can be done.",
    413: "The body is too long.",
    414: "The URL is too long.",
    421: "The host is not called by that name.",
    431: "The headers are too long.",
    500: "The instance has failed, and an answer 500 was asked for.",
    503: "The host stops, or its store does not answer; try again.",
}
_ALWAYS = (400, 401, 403, 413, 414, 421, 431, 503)

_START = ("timeout", "pollingInterval", "version", "startAt", "tags", "policy")
_STEER = (202, 404, 410)
_SEEN = ("x-ms-continuation-token",)
_ONCE = ("Idempotency-Key",)

MANAGEMENT: tuple[Endpoint, ...] = (
    Endpoint(
        "POST",
        "orchestrators/{functionName}",
        "Start an orchestration under a new id, and on request wait for its end.",
        _START,
        JSON_BODY,
        (200, 202, 404, 409),
        _ONCE,
    ),
    Endpoint(
        "POST",
        "orchestrators/{functionName}/{instanceId}",
        "Start an orchestration, and on request wait for its end.",
        _START,
        JSON_BODY,
        (200, 202, 404, 409),
        _ONCE,
    ),
    Endpoint(
        "GET",
        "instances",
        "List orchestrations in the order of their creation.",
        ("createdTimeFrom", "createdTimeTo", "runtimeStatus", "instanceIdPrefix", "showInput", "top"),
        headers=_SEEN,
    ),
    Endpoint(
        "DELETE",
        "instances",
        "Remove orchestrations that have ended; `createdTimeFrom` has to be there.",
        ("createdTimeFrom", "createdTimeTo", "runtimeStatus", "instanceIdPrefix", "recursive"),
    ),
    Endpoint(
        "GET",
        "instances/{instanceId}",
        "The status of an orchestration, 202 until it has ended.",
        ("showInput", "showHistory", "showHistoryOutput", "returnInternalServerErrorOnFailure"),
        answers=(200, 202, 404, 500),
    ),
    Endpoint(
        "DELETE",
        "instances/{instanceId}",
        "Remove an orchestration that has ended.",
        ("recursive",),
        answers=(200, 404, 412),
    ),
    Endpoint(
        "POST",
        "instances/{instanceId}/terminate",
        "End an orchestration.",
        ("reason", "recursive"),
        answers=_STEER,
        headers=_ONCE,
    ),
    Endpoint(
        "POST", "instances/{instanceId}/suspend", "Halt an orchestration.", ("reason",), answers=_STEER, headers=_ONCE
    ),
    Endpoint(
        "POST",
        "instances/{instanceId}/resume",
        "Let an orchestration go on that was halted.",
        ("reason",),
        answers=_STEER,
        headers=_ONCE,
    ),
    Endpoint(
        "POST",
        "instances/{instanceId}/rewind",
        "Let a failed orchestration try again what failed.",
        ("reason",),
        answers=(202, 404, 412),
        headers=_ONCE,
    ),
    Endpoint(
        "POST",
        "instances/{instanceId}/restart",
        "Start an orchestration anew with the input that it had.",
        ("restartWithNewInstanceId", "timeout", "pollingInterval"),
        answers=(200, 202, 404, 409),
        headers=_ONCE,
    ),
    Endpoint(
        "POST",
        "instances/{instanceId}/raiseEvent/{eventName}",
        "Send an orchestration an event.",
        (),
        JSON_BODY,
        _STEER,
        _ONCE,
    ),
    Endpoint(
        "GET",
        "entities",
        "List entities that have a state.",
        ("lastOperationTimeFrom", "lastOperationTimeTo", "fetchState", "top"),
        headers=_SEEN,
    ),
    Endpoint(
        "GET",
        "entities/{entityName}",
        "List entities of one name.",
        ("lastOperationTimeFrom", "lastOperationTimeTo", "fetchState", "top"),
        headers=_SEEN,
    ),
    Endpoint("GET", "entities/{entityName}/{entityKey}", "The state of an entity."),
    Endpoint(
        "POST",
        "entities/{entityName}",
        "Send the entity with the empty key an operation.",
        ("op", "scheduledTime"),
        ANY_BODY,
        (202, 404),
        _ONCE,
    ),
    Endpoint(
        "POST",
        "entities/{entityName}/{entityKey}",
        "Send an entity an operation.",
        ("op", "scheduledTime"),
        ANY_BODY,
        (202, 404),
        _ONCE,
    ),
    Endpoint(
        "DELETE",
        "entities/{entityName}",
        "Send the entity with the empty key the operation `delete`.",
        ("scheduledTime",),
        ANY_BODY,
        (202, 404),
        _ONCE,
    ),
    Endpoint(
        "DELETE",
        "entities/{entityName}/{entityKey}",
        "Send an entity the operation `delete`.",
        ("scheduledTime",),
        ANY_BODY,
        (202, 404),
        _ONCE,
    ),
    Endpoint("POST", "cleanEntityStorage", "Free what accidents have left of entities."),
    *(Endpoint(verb, "makeprimary", "Does nothing: there is one region.") for verb in ("GET", "PUT", "POST", "DELETE")),
)

_KEY_PATHS = (
    ("admin/host/functionkeys", "the keys of all functions"),
    ("admin/host/systemkeys", "the system keys"),
    ("admin/functions/{functionName}/keys", "the keys of one function"),
)

ADMIN: tuple[Endpoint, ...] = (
    Endpoint("GET", "admin/host/status", "How the host is."),
    Endpoint("GET", "admin/host/ping", "Whether the host is there."),
    Endpoint("POST", "admin/host/ping", "Whether the host is there."),
    Endpoint("GET", "admin/functions", "Describe all functions."),
    Endpoint("GET", "admin/functions/{functionName}", "Describe one function."),
    Endpoint("GET", "admin/functions/{functionName}/status", "What is wrong with a function."),
    Endpoint(
        "POST", "admin/functions/{functionName}", "Run a function with a timer now.", body=RUN_BODY, answers=(202, 404)
    ),
    *(
        endpoint
        for path, what in _KEY_PATHS
        for endpoint in (
            Endpoint("GET", path, f"Show {what}."),
            Endpoint("GET", f"{path}/{{keyName}}", f"Show one of {what}."),
            Endpoint("POST", f"{path}/{{keyName}}", f"Make or renew one of {what}.", answers=(200, 201, 404)),
            Endpoint("PUT", f"{path}/{{keyName}}", f"Choose one of {what}.", body=KEY_BODY, answers=(200, 201, 404)),
            Endpoint("DELETE", f"{path}/{{keyName}}", f"Remove one of {what}.", answers=(204, 404)),
        )
    ),
)

_BODIES: dict[str, dict[str, Any]] = {
    JSON_BODY: {"required": False, "content": {"application/json": {"schema": {}}}},
    ANY_BODY: {"required": False, "content": {"application/json": {"schema": {}}, "text/plain": {"schema": _TEXT}}},
    KEY_BODY: {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"name": _TEXT, "value": {"type": "string", "minLength": 1, "maxLength": 256}},
                    "required": ["value"],
                }
            }
        },
    },
    RUN_BODY: {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object", "properties": {"input": {}}}}},
    },
}


def openapi() -> dict[str, Any]:
    """The description, as OpenAPI 3.0 has it."""
    assert {(each.verb, each.path) for each in MANAGEMENT} == {(verb, path) for verb, path, _ in ROUTES}
    paths: dict[str, dict[str, Any]] = {}
    for path, endpoint in _endpoints():
        paths.setdefault(path, {})[endpoint.verb.lower()] = _operation(path, endpoint)
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "perdure",
            "version": metadata.version("perdure"),
            "description": (
                "The HTTP endpoints of a host beside those of the app's own functions. Without --enable-auth, and on "
                "the loopback, no keys are needed."
            ),
        },
        "servers": [{"url": "http://localhost:7071"}],
        "components": {
            "securitySchemes": {
                "header": {"type": "apiKey", "in": "header", "name": "x-functions-key"},
                "query": {"type": "apiKey", "in": "query", "name": "code"},
            }
        },
        "security": [{"header": []}, {"query": []}, {}],
        "paths": paths,
    }


def openapi_text() -> str:
    """The same as the text of a file."""
    return json.dumps(openapi(), indent=1) + "\n"


def _endpoints() -> Iterator[tuple[str, Endpoint]]:
    for each in MANAGEMENT:
        yield f"{BASE_PATH}/{each.path}", each
    for each in ADMIN:
        yield f"/{each.path}", each


def _operation(path: str, endpoint: Endpoint) -> dict[str, Any]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"{(\w+)}", path)
    ]
    names = (*endpoint.query, "taskHub") if endpoint in MANAGEMENT else endpoint.query
    operation: dict[str, Any] = {
        "operationId": _operation_id(endpoint),
        "summary": endpoint.summary,
        "parameters": [*in_path, *_parameters("query", names), *_parameters("header", endpoint.headers)],
        "responses": {str(code): {"description": ANSWERS[code]} for code in sorted({*endpoint.answers, *_ALWAYS})},
    }
    if endpoint.body != NO_BODY:
        operation["requestBody"] = _BODIES[endpoint.body]
    return operation


def _operation_id(endpoint: Endpoint) -> str:
    return "_".join([endpoint.verb.lower(), *re.findall(r"\w+", endpoint.path)])


def _parameters(place: str, names: Sequence[str]) -> list[dict[str, Any]]:
    table = PARAMETERS if place == "query" else HEADERS
    return [
        {"name": name, "in": place, "required": False, "description": table[name][1], "schema": table[name][0]}
        for name in names
    ]
