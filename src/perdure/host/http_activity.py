"""The built-in activity behind `context.call_http`."""

from __future__ import annotations

from typing import Any

from perdure.core.conversion import asked_type
from perdure.core.durable_http import HTTP_ACTIVITY, HttpRequest
from perdure.host.http_reach import Reach
from perdure.host.invoke import Activity


class HttpActivity:
    """Makes one HTTP request; to be registered as `HTTP_ACTIVITY`, its input being an `HttpRequest`.

    Args:
        reach: where requests may go. Whoever can start an orchestration may have a say in its addresses, so it is
            everywhere only if nobody else reaches the host.
    """

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    async def __call__(self, request: HttpRequest) -> dict[str, Any]:
        """The answer, whatever its status, as `statusCode`, `headers` and `content`.

        Raises:
            ConnectionError: there was no answer.
            TimeoutError: there was none in time.
            ForbiddenAddressError: requests may not go to that address, or to one that it leads to.
            ValueError: the request cannot be made, or the answer is too large.
            ModuleNotFoundError: it needs a token, and the package that gets tokens is not installed.
        """
        from perdure.host.http_client import fetch

        return await fetch(request, reach=self._reach)


def http_activity(reach: Reach) -> Activity:
    """The activity as an executor takes it, beside the app's own.

    Args:
        reach: as for `HttpActivity`.
    """
    return Activity(HTTP_ACTIVITY, HttpActivity(reach), "request", asked_type(HttpRequest))
