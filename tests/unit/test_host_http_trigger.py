"""Requests to functions and results to responses, as the official worker and host map them."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, cast

import azure.functions as func
import pytest

from perdure.errors import HostStoppedError
from perdure.host.app.functions import HttpFunction
from perdure.host.http.routing import RouteTemplate
from perdure.host.http.trigger import HttpTriggers
from perdure.host.sdk.our_sdk import fitting_client
from perdure.host.user_code import UserCode


@pytest.fixture(scope="module")
def user_code() -> Iterator[UserCode]:
    code = UserCode(threads=1, concurrency=1)
    code.start()
    yield code
    code.stop()


class Response:
    status = 0
    headers: list[tuple[bytes, bytes]]
    body = b""

    def header(self, name: str) -> list[str]:
        return [value.decode() for each, value in self.headers if each.decode() == name]


def call(
    user_code: UserCode,
    function: Callable[..., Any],
    *chunks: bytes,
    method: str = "POST",
    path: bytes = b"/api/f",
    headers: tuple[tuple[bytes, bytes], ...] = (),
    **more: Any,
) -> Response:
    """One request to one function."""
    members: dict[str, Any] = {
        "name": "f",
        "function": function,
        "directory": "/app",
        "request_name": "req",
        "response_name": None,
        "client_names": (),
        "wants_context": False,
        "template": RouteTemplate.parse("api/f/{*rest}"),
        "methods": None,
    }
    triggers = HttpTriggers(
        [HttpFunction(**(members | more))],
        user_code,
        lambda origin, function, is_text: fitting_client(function, cast(Any, f"client for {origin}")),
        body_bytes_max=10,
    )
    scope = {
        "type": "http",
        "method": method,
        "scheme": "http",
        "path": path.decode(),
        "raw_path": path,
        "query_string": b"",
        "headers": [(b"host", b"localhost:7071"), *headers],
    }
    incoming = [
        {"type": "http.request", "body": chunk, "more_body": index < len(chunks) - 1}
        for index, chunk in enumerate(chunks or (b"",))
    ]
    response = Response()

    async def receive() -> Any:
        return incoming.pop(0)

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            response.status, response.headers = message["status"], list(message["headers"])
        else:
            response.body += message["body"]

    asyncio.run(triggers(scope, receive, send))
    return response


def test_a_body_arrives_whole(user_code: UserCode):
    def f(req: func.HttpRequest) -> func.HttpResponse:
        return func.HttpResponse(req.get_body()[::-1])

    assert call(user_code, f, b"abc", b"def").body == b"fedcba"


@pytest.mark.parametrize(("chunks", "headers"), [((b"x" * 6, b"y" * 5), ()), ((b"",), ((b"content-length", b"11"),))])
def test_a_body_over_the_limit_is_refused(user_code: UserCode, chunks: tuple[bytes, ...], headers: Any):
    def f(req: func.HttpRequest) -> func.HttpResponse:
        raise AssertionError("it must not be called")

    assert call(user_code, f, *chunks, headers=headers).status == 413


def test_a_body_that_is_not_json_raises_what_apps_catch(user_code: UserCode):
    def f(req: func.HttpRequest) -> str:
        try:
            return str(req.get_json())
        except ValueError as error:
            return str(error)

    assert call(user_code, f, b"{").body == b"HTTP request does not contain valid JSON data"


def test_json_is_sent_with_exactly_its_mime_type(user_code: UserCode):
    response = call(user_code, lambda req: func.HttpResponse("{}", mimetype="application/json"))

    assert response.header("content-type") == ["application/json"]


def test_a_content_type_header_wins_over_the_mime_type(user_code: UserCode):
    response = call(user_code, lambda req: func.HttpResponse("x", headers={"Content-Type": "text/csv"}))

    assert response.header("content-type") == ["text/csv"]


def test_a_response_without_content_has_neither_body_nor_length(user_code: UserCode):
    response = call(user_code, lambda req: func.HttpResponse("x", status_code=204))

    assert (response.status, response.body, response.header("content-length")) == (204, b"", [])


@pytest.mark.parametrize("value", [None, {"a": 1}, 7, b"bytes"])
def test_what_is_neither_response_nor_text_is_a_500(user_code: UserCode, value: Any):
    assert call(user_code, lambda req: value).status == 500


def test_a_response_may_be_set_instead_of_returned(user_code: UserCode):
    def f(req: func.HttpRequest, out: func.Out[func.HttpResponse]) -> None:
        out.set(func.HttpResponse("set", status_code=201))

    response = call(user_code, f, response_name="out")

    assert (response.status, response.body) == (201, b"set")


def test_the_client_links_to_the_origin_that_the_caller_used(user_code: UserCode):
    async def f(req: func.HttpRequest, client: Any) -> str:
        return client

    assert call(user_code, f, client_names=("client",)).body == b"client for http://localhost:7071"


def test_a_function_without_async_gets_a_client_that_blocks(user_code: UserCode):
    def f(req: func.HttpRequest, client: Any) -> str:
        return f"{type(client).__name__} of a {client.upper()}"

    answer = call(user_code, f, client_names=("client",))

    assert answer.body == b"SyncDurableOrchestrationClient of a CLIENT FOR HTTP://LOCALHOST:7071"


def test_a_host_that_stops_meanwhile_is_a_503(user_code: UserCode):
    async def f(req: func.HttpRequest) -> str:
        raise HostStoppedError("stopped")

    assert call(user_code, f).status == 503


def test_an_asgi_app_is_a_function_like_any_other(user_code: UserCode):
    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    app = func.AsgiFunctionApp(asgi, http_auth_level=func.AuthLevel.ANONYMOUS)
    (built,) = app.get_functions()
    app.startup_task_done = True  # no lifespan: azure.functions would leave its task behind when the loop ends

    response = call(user_code, built.get_user_function(), wants_context=True, path=b"/api/f/x")

    app.startup_task_done = False
    assert (response.status, response.body) == (200, b"/api/f/x")


def test_a_function_that_waits_for_another_needs_no_slot_of_its_own(user_code: UserCode):
    """Two requests that hold all slots for activities, as functions that wait for orchestrations do."""
    order: list[str] = []

    async def inner(req: func.HttpRequest) -> str:
        order.append("inner")
        return "inner"

    async def outer(req: func.HttpRequest) -> str:
        order.append("outer")
        answer = await asyncio.to_thread(call, user_code, inner)
        return answer.body.decode()

    assert call(user_code, outer).body == b"inner"
    assert order == ["outer", "inner"]
