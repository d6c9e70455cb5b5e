"""A task hub through the management API of the host that runs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from perdure.cli.task_hub import PAGE_SIZE, Status
from perdure.core.records import InstanceQuery
from perdure.errors import InstanceFinishedError, InstanceNotFoundError, StoreUnavailableError
from perdure.state_folder import HostNote
from perdure.webapi.remote import ManagementApi


class HostedHub:
    """A task hub behind the management API of the host that runs it."""

    is_running = True

    def __init__(self, host: HostNote) -> None:
        self._api = ManagementApi(host.url, host.hub, host.token)

    def answers(self) -> bool:
        """Whether the host is there and serves this hub."""
        return self._api.answers()

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
            answer = self._api.ask("GET", "instances", asked, headers={"x-ms-continuation-token": token})
            page, token = answer.body, answer.token
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
        answer = self._api.ask(verb, path, query, sent)
        if answer.status == 404:
            raise InstanceNotFoundError(instance_id)
        if answer.status == 410:
            raise InstanceFinishedError(instance_id, "finished")
        if answer.status >= 400:
            raise StoreUnavailableError(answer.sentence)
        return answer.body
