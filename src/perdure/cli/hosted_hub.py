"""A task hub through the management API of the host that runs it."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from perdure.cli.task_hub import PAGE_SIZE, Status
from perdure.core.records import InstanceQuery
from perdure.errors import HostStoppedError, InstanceFinishedError, InstanceNotFoundError, StoreUnavailableError
from perdure.host.state_folder import HostNote
from perdure.webapi.links import BASE_PATH

# A host that is alive answers within milliseconds, unless the machine is overloaded or a debugger holds it.
ANSWER_TIMEOUT_S = 30.0


class HostedHub:
    """A task hub behind the management API of the host that runs it."""

    is_running = True

    def __init__(self, host: HostNote) -> None:
        self._base = host.url.rstrip("/") + BASE_PATH
        self._hub = host.hub
        # Without proxies: a proxy of the environment would be asked for our own loopback.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def answers(self) -> bool:
        """Whether the host is there and serves this hub; its note about itself outlives a `kill -9`."""
        try:
            return self._request("GET", "instances", {"top": "1", "showInput": "false"})[0] == 200
        except HostStoppedError:
            return False

    def list(self, query: InstanceQuery) -> Iterator[Status]:
        asked = {"showInput": "false", "top": str(min(query.limit, PAGE_SIZE))}
        if query.statuses is not None:
            asked["runtimeStatus"] = ",".join(sorted(query.statuses))
        if query.prefix:
            asked["instanceIdPrefix"] = query.prefix
        if query.created_from is not None:
            asked["createdTimeFrom"] = query.created_from.isoformat()
        if query.created_to is not None:
            asked["createdTimeTo"] = query.created_to.isoformat()
        left, token = query.limit, ""
        while left > 0:
            _, page, token = self._request("GET", "instances", asked, headers={"x-ms-continuation-token": token})
            yield from page[:left]
            left -= len(page)
            if not token:
                return

    def show(self, instance_id: str) -> Status:
        return self._instance("GET", instance_id, "", {})

    def history(self, instance_id: str) -> list[dict[str, Any]]:
        status = self._instance("GET", instance_id, "", {"showHistory": "true", "showHistoryOutput": "true"})
        return status.get("historyEvents") or []

    def raise_event(self, instance_id: str, name: str, data: str | None) -> None:
        self._instance("POST", instance_id, f"/raiseEvent/{quote(name, safe='')}", {}, data or "")

    def terminate(self, instance_id: str, reason: str | None) -> None:
        self._instance("POST", instance_id, "/terminate", {"reason": reason} if reason else {}, "")

    def _instance(
        self, verb: str, instance_id: str, operation: str, query: Mapping[str, str], sent: str | None = None
    ) -> Any:
        path = f"instances/{quote(instance_id, safe='')}{operation}"
        status, answer, _ = self._request(verb, path, query, sent)
        if status == 404:
            raise InstanceNotFoundError(instance_id)
        if status == 410:
            raise InstanceFinishedError(instance_id, "finished")
        if status >= 400:
            body: dict[str, str] = answer or {}
            sentence = body.get("ExceptionMessage") or body.get("Message") or f"The host answered with code {status}."
            raise StoreUnavailableError(sentence)
        return answer

    def _request(
        self,
        verb: str,
        path: str,
        query: Mapping[str, str],
        body: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any, str]:
        """Status code, decoded body and continuation token of the answer.

        Raises:
            HostStoppedError: nobody answers, or not a host of ours.
        """
        url = f"{self._base}/{path}?{urlencode({**query, 'taskHub': self._hub})}"
        request = urllib.request.Request(
            url, method=verb, headers={"Content-Type": "application/json", **(headers or {})}
        )
        request.data = None if body is None else body.encode()
        try:
            with self._open(request) as answer:
                text = answer.read()
                token = answer.headers.get("x-ms-continuation-token", "")
                return answer.status, json.loads(text) if text else None, token
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise HostStoppedError(f"The host at {self._base} does not answer: {error}") from error

    def _open(self, request: urllib.request.Request) -> Any:
        """The answer, also when its code says that something is wrong."""
        try:
            return self._opener.open(request, timeout=ANSWER_TIMEOUT_S)
        except urllib.error.HTTPError as error:
            return error
