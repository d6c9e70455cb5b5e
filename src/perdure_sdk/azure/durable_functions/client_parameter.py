"""A function that gets a client, in hosts that give it the text of the binding instead."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from azure.durable_functions.client import DurableOrchestrationClient
from azure.durable_functions.sync_client import SyncDurableOrchestrationClient


def with_client(function: Callable[..., Any], parameter: str) -> Callable[..., Any]:
    """The function with a client as `parameter`, also where the host gives the binding's text.

    Functions without `async` get a `SyncDurableOrchestrationClient`. As on the official one, the user's function is
    attribute `client_function`; the parameter's annotation becomes `str`, because other workers load nothing else.
    """
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004

        @functools.wraps(function)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            text = kwargs.get(parameter)
            if isinstance(text, str | bytes):
                kwargs[parameter] = _client(text, kwargs)
            return await function(*args, **kwargs)

        return _known(call_async, function, parameter)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        text = kwargs.get(parameter)
        if isinstance(text, str | bytes):
            kwargs[parameter] = SyncDurableOrchestrationClient(_client(text, kwargs))
        return function(*args, **kwargs)

    return _known(call, function, parameter)


def _client(text: str | bytes, kwargs: dict[str, Any]) -> DurableOrchestrationClient:
    binding = text if isinstance(text, str) else text.decode()
    return DurableOrchestrationClient(binding, getattr(kwargs.get("context"), "invocation_id", None))


def _known(wrapper: Callable[..., Any], function: Callable[..., Any], parameter: str) -> Callable[..., Any]:
    members = vars(wrapper)
    members["client_function"] = function
    wrapper.__annotations__ = {**getattr(function, "__annotations__", {}), parameter: str}
    return wrapper
