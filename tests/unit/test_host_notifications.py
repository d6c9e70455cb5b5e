"""What a server is told of orchestrations that begin and end."""

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from perdure.core.failures import FailureDetails
from perdure.core.records import Instance, RuntimeStatus
from perdure.host.notifications import Notifications
from perdure.host.settings.host_json import Topic
from perdure.host.settings.host_settings import LifecycleEvent

DEADLINE_S = 10.0
NOW = datetime(2026, 1, 2, tzinfo=UTC)
ALL: frozenset[LifecycleEvent] = frozenset({"Started", "Completed", "Failed", "Terminated"})


class Server:
    """Takes posts; `answers` are the statuses to give, the last one for ever."""

    def __init__(self, *answers: int) -> None:
        self.requests: list[tuple[dict[str, str], Any]] = []
        self._answers = list(answers or (200,))
        self._changed = threading.Condition()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                with outer._changed:
                    status = outer._answers[min(len(outer.requests), len(outer._answers) - 1)]
                    outer.requests.append(({k.lower(): v for k, v in self.headers.items()}, json.loads(body)))
                    outer._changed.notify_all()
                self.send_response(status)
                self.send_header("content-length", "0")
                self.send_header("location", "/elsewhere")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/topic"

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.requests) >= count, DEADLINE_S), self.requests

    @property
    def told(self) -> list[str]:
        return [f"{body[0]['data']['instanceId']} {body[0]['data']['runtimeStatus']}" for _, body in self.requests]

    @contextmanager
    def running(self) -> Iterator["Server"]:
        thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            self._http.server_close()
            thread.join()


def instance(status: RuntimeStatus, instance_id: str = "i1", **fields: Any) -> Instance:
    return Instance(instance_id, "e1", "Order", status, NOW, NOW, "e1", **fields)


@contextmanager
def nobody() -> Iterator[str]:
    """An address where nobody answers."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{silent.getsockname()[1]}/topic?sig=c2VjcmV0"


@contextmanager
def notifications(url: str, **fields: Any) -> Iterator[Callable[[Instance], None]]:
    topic = Topic(url, "c2VjcmV0", **{"events": ALL, "pause": timedelta(milliseconds=5), **fields})
    told = Notifications(topic, "Orders")
    told.start()
    try:
        yield told.observe
    finally:
        told.stop(DEADLINE_S)


def test_beginning_and_end_are_told_in_the_official_form():
    with Server().running() as server, notifications(server.url) as observe:
        observe(instance(RuntimeStatus.RUNNING))
        observe(instance(RuntimeStatus.COMPLETED, output='"done"'))

    (headers, (started,)), (_, (completed,)) = server.requests
    assert headers["aeg-sas-key"] == "c2VjcmV0"
    assert headers["content-type"].startswith("application/json")
    assert started["data"] == {
        "hubName": "Orders", "functionName": "Order", "instanceId": "i1", "reason": "", "runtimeStatus": "Running",
    }  # fmt: skip
    assert (started["subject"], started["eventType"], started["dataVersion"], started["topic"]) == (
        "durable/orchestrator/Running", "orchestratorEvent", "1.0", None,
    )  # fmt: skip
    assert datetime.fromisoformat(started["eventTime"]).tzinfo is not None
    assert completed["subject"] == "durable/orchestrator/Completed"
    assert started["id"] != completed["id"]


def test_reasons_are_those_of_failures_and_terminations():
    with Server().running() as server, notifications(server.url) as observe:
        observe(instance(RuntimeStatus.FAILED, "a", failure=FailureDetails("ValueError", "boom")))
        server.wait_for(1)
        observe(instance(RuntimeStatus.TERMINATED, "b", output='"enough"'))

    assert [body[0]["data"]["reason"] for _, body in server.requests] == ["boom", "enough"]


def test_only_what_was_asked_for_is_told_and_nothing_of_entities():
    with Server().running() as server, notifications(server.url, events=frozenset({"Failed"})) as observe:
        observe(instance(RuntimeStatus.RUNNING))
        observe(instance(RuntimeStatus.COMPLETED))
        observe(instance(RuntimeStatus.FAILED, "@counter@a"))
        observe(instance(RuntimeStatus.FAILED))

    assert server.told == ["i1 Failed"]


@pytest.mark.parametrize(("status", "fields"), [(503, {}), (429, {"retried_statuses": frozenset({429})})])
def test_another_attempt_is_made_where_it_may_help_and_order_is_kept(status: int, fields: dict[str, Any]):
    with (
        Server(status, status, 200).running() as server,
        notifications(server.url, retries_max=3, **fields) as observe,
    ):
        observe(instance(RuntimeStatus.RUNNING))
        observe(instance(RuntimeStatus.COMPLETED))

    assert server.told == ["i1 Running", "i1 Running", "i1 Running", "i1 Completed"]


def test_attempts_end_and_are_logged_without_the_key(caplog: pytest.LogCaptureFixture):
    with (
        caplog.at_level(logging.WARNING, "perdure.host"),
        Server(503).running() as server,
        notifications(server.url, retries_max=1) as observe,
    ):
        observe(instance(RuntimeStatus.RUNNING))

    assert len(server.requests) == 2
    assert [record.message for record in caplog.records] == ["notification not delivered"] * 2
    assert "c2VjcmV0" not in "".join(str(vars(record)) for record in caplog.records)


@pytest.mark.parametrize("status", [400, 401, 307])
def test_a_refusal_or_redirect_is_not_followed(status: int, caplog: pytest.LogCaptureFixture):
    with (
        caplog.at_level(logging.WARNING, "perdure.host"),
        Server(status).running() as server,
        notifications(server.url, retries_max=5) as observe,
    ):
        observe(instance(RuntimeStatus.RUNNING))

    assert len(server.requests) == 1
    assert vars(caplog.records[0])["reason"] == f"answered with status {status}"


def test_a_server_that_is_not_there_is_a_line_in_the_log(caplog: pytest.LogCaptureFixture):
    with (
        caplog.at_level(logging.WARNING, "perdure.host"),
        nobody() as url,
        notifications(url, retries_max=1) as observe,
    ):
        observe(instance(RuntimeStatus.RUNNING))

    assert len(caplog.records) == 2
    assert "c2VjcmV0" not in "".join(str(vars(record)) for record in caplog.records)


def test_stopping_gives_up_what_takes_too_long(caplog: pytest.LogCaptureFixture):
    with nobody() as url, caplog.at_level(logging.WARNING, "perdure.host"):
        told = Notifications(Topic(url, "key", ALL, retries_max=9, pause=timedelta(hours=1)), "Orders")
        told.start()
        told.observe(instance(RuntimeStatus.RUNNING))

        told.stop(0.05)

    assert "notifications given up" in caplog.text


def test_instances_do_not_wait_for_each_other():
    with (
        Server(503, 200).running() as server,
        notifications(server.url, retries_max=1, pause=timedelta(seconds=0.5)) as observe,
    ):
        observe(instance(RuntimeStatus.RUNNING, "slow"))
        server.wait_for(1)
        observe(instance(RuntimeStatus.RUNNING, "quick"))
        server.wait_for(2)

    assert server.told == ["slow Running", "quick Running", "slow Running"]
