"""What a function's parameter `context` gets. Source: the Python worker's Context."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import azure.functions as func

from perdure.host.timers.retry_policy import RetryContext
from perdure.host.user_code import Invocation, current_invocation


class InvocationContext(func.Context):
    """One call of a function: who was called, as part of which trace.

    Args:
        directory: what `function_directory` is.
        headers: of the HTTP request that led to the call; `traceparent` and `tracestate` are taken from them.
        retry_context: what functions with a retry policy get; those behind HTTP cannot have one.
    """

    def __init__(
        self,
        function_name: str,
        directory: str,
        headers: Mapping[str, str] | None = None,
        retry_context: RetryContext | None = None,
    ) -> None:
        headers = headers or {}
        self._retry_context = retry_context
        self._invocation_id = str(uuid4())
        self._function_name = function_name
        self._directory = directory
        self._local: _ThreadLocal | None = None
        self._trace: SimpleNamespace | None = None
        self._trace_headers = headers.get("traceparent", ""), headers.get("tracestate", "")

    @property
    def invocation_id(self) -> str:
        return self._invocation_id

    @property
    def function_name(self) -> str:
        return self._function_name

    @property
    def function_directory(self) -> str:
        return self._directory

    @property
    def thread_local_storage(self) -> Any:
        if self._local is None:
            self._local = _ThreadLocal(self._invocation_id, Invocation(self._function_name))
        return self._local

    @property
    def trace_context(self) -> Any:
        if self._trace is None:
            parent, state = self._trace_headers
            self._trace = SimpleNamespace(
                Traceparent=parent,
                Tracestate=state,
                Attributes={},
                trace_parent=parent,
                trace_state=state,
                attributes={},
            )
        return self._trace

    @property
    def retry_context(self) -> Any:
        return self._retry_context


class _ThreadLocal(threading.local):
    """Knows the invocation in every thread; a thread that sets it anew has its logs counted as the function's."""

    def __init__(self, invocation_id: str, invocation: Invocation) -> None:
        super().__init__()
        self._invocation_id = invocation_id
        self._invocation = invocation

    @property
    def invocation_id(self) -> str:
        return self._invocation_id

    @invocation_id.setter
    def invocation_id(self, value: str) -> None:
        self._invocation_id = value
        current_invocation.set(self._invocation)
