"""The callable that a decorated orchestrator becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import azure.functions as func
from azure.durable_functions.later import not_yet
from azure.durable_functions.orchestration_context import DurableOrchestrationContext

from perdure.core.cursor import OrchestrationCursor

OrchestratorFunction = Callable[[DurableOrchestrationContext], Any]


class Orchestrator:
    """Runs an orchestrator function: a generator, a coroutine, or a plain function.

    Args:
        activity_func: the function; the name is the official one.
        input_type: what `context.get_input()` expects.
    """

    def __init__(self, activity_func: OrchestratorFunction, input_type: Any = None) -> None:
        self.fn = activity_func
        self._input_type = input_type

    def handle(self, context: OrchestrationCursor | DurableOrchestrationContext | object) -> Any:
        """Start the function for the orchestration `context`: the generator, coroutine or result that it returns.

        Raises:
            NotImplementedError: `context` is the JSON text that the official host sends.
        """
        match context:
            case OrchestrationCursor():
                return self.fn(DurableOrchestrationContext(context, self._input_type))
            case DurableOrchestrationContext():
                return self.fn(context)
            case _:
                raise not_yet("the JSON protocol of the official host")

    @classmethod
    def create(cls, fn: OrchestratorFunction, input_type: Any = None) -> Callable[[Any], Any]:
        """The function as the host calls it, with a running orchestration as its only argument.

        The result has the user's function as attribute `orchestrator_function`.

        Args:
            fn: the user's function.
            input_type: what `context.get_input()` expects.
        """
        orchestrator = cls(fn, input_type)

        def handle(context: func.OrchestrationContext) -> Any:
            return orchestrator.handle(context)

        handle.__name__ = getattr(fn, "__name__", type(fn).__name__)
        handle.__doc__ = getattr(fn, "__doc__", None)
        handle.__module__ = getattr(fn, "__module__", handle.__module__)
        vars(handle).update(orchestrator_function=fn, _df_input_type=input_type)
        return handle
