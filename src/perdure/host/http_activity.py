"""The built-in activity behind `context.call_http`."""

from __future__ import annotations

from typing import Any

from perdure.core.conversion import asked_type
from perdure.core.durable_http import HTTP_ACTIVITY, HttpRequest
from perdure.host.invoke import Activity


class HttpActivity:
    """Makes one HTTP request; to be registered as `HTTP_ACTIVITY`, its input being an `HttpRequest`.

    Args:
        reaches_private: requests may go to this machine and to private networks. Whoever can start an orchestration
            may have a say in its addresses, so only a host that nobody else reaches allows it.
    """

    def __init__(self, *, reaches_private: bool) -> None:
        self._reaches_private = reaches_private

    async def __call__(self, request: HttpRequest) -> dict[str, Any]:
        """The answer, whatever its status, as `statusCode`, `headers` and `content`.

        Raises:
            ConnectionError: there was no answer.
            TimeoutError: there was none in time.
            ForbiddenAddressError: the address is private, and such may not be reached.
            ValueError: the request cannot be made, or the answer is too large.
            ModuleNotFoundError: it needs a token, and the package that gets tokens is not installed.
        """
        from perdure.host.http_client import fetch

        return await fetch(request, reaches_private=self._reaches_private)


def http_activity(*, reaches_private: bool) -> Activity:
    """The activity as an executor takes it, beside the app's own.

    Args:
        reaches_private: as for `HttpActivity`.
    """
    return Activity(HTTP_ACTIVITY, HttpActivity(reaches_private=reaches_private), "request", asked_type(HttpRequest))
