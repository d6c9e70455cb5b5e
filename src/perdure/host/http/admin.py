"""The host's own endpoints: whether it is there, what its functions are, and its keys.

Source: HostController, FunctionsController and KeysController of the Functions host.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from msgspec import Struct
from starlette.responses import JSONResponse, Response

from perdure.host.app.functions import Declaration, Unloaded
from perdure.host.http.keys import MASTER, function_keys

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from perdure.host.app.loading import LoadedApp
    from perdure.host.http.access import Access
    from perdure.host.http.keys import Keys

# Bodies here are a key, or the input of one function; nobody sends more by hand.
BODY_BYTES_MAX = 1024 * 1024

MASTER_IN_URLS = "_master"

Run: TypeAlias = Callable[[], Awaitable[None]]

_OWN = re.compile(r"/+(admin|runtime/webhooks)(/|$)", re.IGNORECASE)


class _Invocation(Struct):
    input: Any = None


class _ChosenKey(Struct):
    value: str


def is_host_path(path: str) -> bool:
    """Whether a path belongs to the host, and no function of the app can have it."""
    return _OWN.match(path) is not None


class AdminApi:
    """Answers every path of the host's that the management API does not; what is none of these is 404.

    Without keys, the endpoints that show and change keys are 404 too.

    Args:
        status: what `/admin/host/status` answers.
        app: whose functions these are.
        runs: what to call for a function that can be run by hand, by its name.
        access: judges callers, and has the keys; None to answer all.
    """

    def __init__(
        self, status: Callable[[], dict[str, object]], app: LoadedApp, runs: Mapping[str, Run], access: Access | None
    ) -> None:
        self._status = status
        self._functions = {each.name.lower(): each for each in app.declared}
        self._listings = {each.name.lower(): each for each in app.listings}
        self._runs = {name.lower(): run for name, run in runs.items()}
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._access is not None and not self._access.may_administer(scope):
            response = Response(status_code=401)
        else:
            response = await self._response(scope, receive)
        await response(scope, receive, send)

    async def _response(self, scope: Scope, receive: Receive) -> Response:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        segments = scope["path"].strip("/").lower().split("/")
        match method, segments:
            case "GET", ["admin", "host", "status"]:
                return JSONResponse(self._status())
            case "GET" | "POST", ["admin", "host", "ping"]:
                return Response(status_code=200)
            case "GET", ["admin", "functions"]:
                return JSONResponse([self._described(each, scope) for each in self._functions.values()])
            case _, ["admin", "functions", name, *rest] if name in self._functions:
                return await self._of_function(method, self._functions[name], rest, scope, receive)
            case _, ["admin", "host", "keys" | "functionkeys", *rest]:
                return await self._of_keys(method, "host/", rest, receive)
            case _, ["admin", "host", "systemkeys", *rest]:
                return await self._of_keys(method, "system/", rest, receive)
            case _:
                return Response(status_code=404)

    async def _of_function(
        self, method: str, function: Declaration | Unloaded, rest: list[str], scope: Scope, receive: Receive
    ) -> Response:
        match method, rest:
            case "GET", []:
                return JSONResponse(self._described(function, scope))
            case "POST", []:
                return await self._run(function, receive)
            case "GET", ["status"]:
                listing = self._listings.get(function.name.lower())
                return JSONResponse({"errors": [listing.note]} if listing is not None and listing.is_error else {})
            case _, ["keys", *names]:
                return await self._of_keys(method, function_keys(function.name), names, receive)
            case _:
                return Response(status_code=404)

    async def _run(self, function: Declaration | Unloaded, receive: Receive) -> Response:
        """Run a function once; what it does with that shows in the log."""
        try:
            msgspec.json.decode(await _body(receive), type=_Invocation)
        except (ValueError, msgspec.MsgspecError):
            return _refusal('Send a body such as {"input": ""}.')
        run = self._runs.get(function.name.lower())
        if run is None:
            return _refusal(f"{function.name} is not run by hand here: only timers are. Call it as its trigger does.")
        await run()
        return Response(status_code=202)

    async def _of_keys(self, method: str, prefix: str, names: list[str], receive: Receive) -> Response:
        if self._access is None:
            return Response(status_code=404)
        keys = self._access.keys
        match method, names:
            case "GET", []:
                under = {name: value for name, value in keys.values().items() if name.startswith(prefix)}
                return JSONResponse({"keys": [_shown(name.removeprefix(prefix), under[name]) for name in under]})
            case _, [name]:
                is_master = name == MASTER_IN_URLS and not prefix.startswith("functions/")
                try:
                    return await _of_key(keys, method, name, MASTER if is_master else prefix + name, receive)
                except ValueError as error:
                    return _refusal(str(error))
            case _:
                return Response(status_code=404)

    def _described(self, function: Declaration | Unloaded, scope: Scope) -> dict[str, Any]:
        """A function as the Functions host describes it, but for links to its files, which are not served."""
        host = next(value for name, value in scope["headers"] if name == b"host").decode("latin-1")
        origin = f"{scope['scheme']}://{host}"
        listing = self._listings.get(function.name.lower())
        route = None if listing is None else listing.route
        return {
            "name": function.name,
            "script_root_path_href": None,
            "script_href": None,
            "config_href": None,
            "test_data_href": None,
            "secrets_file_href": None,
            "href": f"{origin}/admin/functions/{function.name}",
            "config": {
                "name": function.name,
                "scriptFile": function.source.file,
                "language": "python",
                "functionDirectory": str(function.directory) if isinstance(function, Declaration) else None,
                "bindings": [dict(each.members) for each in function.bindings],
            },
            "files": None,
            "test_data": None,
            "isDisabled": listing is not None and listing.note is not None and not listing.is_error,
            "isDirect": True,
            "isProxy": False,
            "language": "python",
            "invoke_url_template": None if route is None else f"{origin}/{route}",
        }


async def _of_key(keys: Keys, method: str, name: str, path: str, receive: Receive) -> Response:
    match method:
        case "GET":
            value = keys.values().get(path.lower())
            return Response(status_code=404) if value is None else JSONResponse(_shown(name, value))
        case "POST" | "PUT":
            value, is_new = keys.put(path, None if method == "POST" else await _value(receive))
            return JSONResponse(_shown(name, value), 201 if is_new else 200)
        case "DELETE":
            return Response(status_code=204 if keys.remove(path) else 404)
        case _:
            return Response(status_code=404)


def _shown(name: str, value: str) -> dict[str, str]:
    return {"name": name, "value": value}


def _refusal(sentence: str) -> Response:
    return JSONResponse({"Message": sentence}, 400)


async def _value(receive: Receive) -> str:
    """The value of a key that a caller chose.

    Raises:
        ValueError: there is none in the body.
    """
    try:
        return msgspec.json.decode(await _body(receive), type=_ChosenKey).value
    except msgspec.MsgspecError:
        raise ValueError('Invalid key value. Send a body such as {"name": "default", "value": "..."}.') from None


async def _body(receive: Receive) -> bytes:
    """The whole body.

    Raises:
        ValueError: it is longer than anything that is sent here.
    """
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > BODY_BYTES_MAX:
            raise ValueError(f"The body is longer than {BODY_BYTES_MAX} bytes.")
        if not message.get("more_body"):
            return body
