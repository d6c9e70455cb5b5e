"""The shapes that answers of the management API have, errors among them.

Source: HttpApiHandler.cs of the Durable Functions extension. An error is an empty body, an object with `Message`, one
that tells of an exception too, or a bare JSON string; clients depend on which.
"""

from __future__ import annotations

import logging
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from perdure.errors import (
    HostStoppedError,
    InstanceExistsError,
    InstanceFinishedError,
    InstanceNotFailedError,
    InstanceNotFinishedError,
    InstanceNotFoundError,
    InvalidInstanceIdError,
    StoreUnavailableError,
    UnknownFunctionError,
)
from perdure.webapi.payloads import json_body

log = logging.getLogger("perdure.webapi")

JSON = "application/json; charset=utf-8"

RETRY_AFTER_FAILURE = "1"  # seconds


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A value as JSON; a text becomes a bare JSON string."""
    return Response(json_body(value), status, headers, JSON)


def answer_text(text: str | None) -> Response:
    """An output as the body of its own: it is JSON text already."""
    return Response("null" if text is None else text, 200, None, JSON)


def empty(status: int) -> Response:
    """A status code that says it all."""
    return Response(status_code=status)


def refusal(status: int, message: str) -> Response:
    """An error with nothing but its sentence."""
    return answer({"Message": message}, status)


def failure(status: int, message: str, exception: str, kind: str | None = None) -> Response:
    """An error that tells of an exception; SDK 1.x raises its `ExceptionMessage` when a start fails.

    Args:
        kind: name of the exception's type.
    """
    body = {"Message": message, "ExceptionMessage": exception}
    return answer(body if kind is None else body | {"ExceptionType": kind}, status)


def invalid_json(error: ValueError) -> Response:
    """The error for a body that is not JSON."""
    return failure(400, "Invalid JSON content", str(error), type(error).__name__)


def failed(error: Exception) -> Response:
    """What an operation that raised `error` is answered with.

    Where the official service answers with an internal error for what the caller did, such as a start over a running
    id, this has the code that says so.
    """
    match error:
        case HTTPException():
            return refusal(error.status_code, error.detail) if error.detail else empty(error.status_code)
        case InstanceNotFoundError():
            return empty(404)
        case InstanceFinishedError():
            return empty(410)
        case InstanceNotFailedError() | InstanceNotFinishedError():
            return answer(str(error), 412)
        case InstanceExistsError():
            return refusal(409, str(error))
        case UnknownFunctionError() | InvalidInstanceIdError():
            return failure(400, str(error), str(error))
        case StoreUnavailableError() | HostStoppedError():
            return answer({"Message": str(error)}, 503, {"Retry-After": RETRY_AFTER_FAILURE})
        case ValueError():
            log.warning("request refused", exc_info=error)  # what callers usually get wrong is told above
            message = "One or more of the arguments submitted is incorrect"
            return failure(400, message, str(error), type(error).__name__)
        case _:
            log.error("request failed", exc_info=error)
            message = "Something went wrong while processing your request"
            return failure(500, message, str(error), type(error).__name__)
