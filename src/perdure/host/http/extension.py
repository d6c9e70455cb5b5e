"""The web extension that an app may bring along, as `azurefunctions-extensions-http-fastapi` is one.

With it, functions take and give the requests and responses of a web framework, and bodies are streamed. Nothing is
imported here: an app that wants it has imported it.

Source: http_v2.py of the Python worker.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import ASGIApp

_EXTENSION = "azurefunctions.extensions.base"


def extension_request() -> type | None:
    """The class of the requests of the extension that the app has imported, or None if it has none."""
    extension: Any = sys.modules.get(_EXTENSION)
    if extension is None or not extension.HttpV2FeatureChecker.http_v2_enabled():
        return None
    return extension.RequestTrackerMeta.get_request_type()


def takes_extension_request(annotation: Any) -> bool:
    """Whether a parameter with this annotation (or `inspect.Parameter.empty`) gets the extension's request."""
    kind = extension_request()
    if kind is None:
        return False
    if annotation is inspect.Parameter.empty:
        return True
    return isinstance(annotation, type) and issubclass(annotation, kind)


def gives_extension_response(annotation: Any) -> bool:
    """Whether a function with this return annotation gives one of the extension's responses."""
    extension: Any = sys.modules.get(_EXTENSION)
    return extension is not None and extension.ResponseTrackerMeta.check_type(annotation)


def extension_app(answer: Callable[[Any], Awaitable[Any]]) -> ASGIApp:
    """An application of the extension's framework that answers every request with what `answer` makes of it.

    The framework turns results and its own exceptions into responses, as it does on Azure.
    """
    extension: Any = sys.modules[_EXTENSION]
    web_app: Any = sys.modules[extension.ModuleTrackerMeta.get_module()].WebApp()

    async def answered(request: Any) -> Any:
        return await answer(request)

    # What the framework reads to know what to pass; the class is known only now.
    answered.__annotations__ = {"request": extension.RequestTrackerMeta.get_request_type()}
    web_app.route(answered)
    return web_app.get_app()


def put_route_values(request: Any, values: dict[str, str]) -> None:
    """Give a request of the extension the values of the function's route."""
    extension: Any = sys.modules[_EXTENSION]
    extension.RequestTrackerMeta.get_synchronizer().sync_route_params(request, values)
