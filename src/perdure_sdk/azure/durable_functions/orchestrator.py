"""The callable that a decorated orchestrator becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import azure.functions as func
from azure.durable_functions.builders import handler
from azure.durable_functions.orchestration_context import DurableOrchestrationContext
from azure.durable_functions.protocol.app_classes import allow_app_classes
from azure.durable_functions.protocol.cursor import ReplayCursor
from azure.durable_functions.protocol.request import ReplayRequest, sent_text

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
        """Run the function for `context`.

        From a running orchestration of perdure, this starts it: the generator, coroutine or result that it returns.
        From what the official host sends, JSON text or an object with such a `body`, it replays all of it and returns
        the answer, JSON text as well.

        Raises:
            OrchestratorFailed: the function failed in a replay; the text has the answer.
            TypeError: a member is missing in the JSON, or `context` is something else.
            ValueError: it is no JSON, or a member makes no sense.
        """
        match context:
            case OrchestrationCursor():
                return self.fn(DurableOrchestrationContext(context, self._input_type))
            case DurableOrchestrationContext():
                cursor = context._cursor  # pyright: ignore[reportPrivateUsage] - nobody else is to reach it
                return self._replayed(cursor, context) if isinstance(cursor, ReplayCursor) else self.fn(context)
            case _:
                replay = ReplayCursor(ReplayRequest.parse(sent_text(context)))
                return self._replayed(replay, DurableOrchestrationContext(replay, self._input_type))

    def _replayed(self, replay: ReplayCursor, context: DurableOrchestrationContext) -> str:
        allow_app_classes(self.fn)
        return replay.run(lambda _: self.fn(context))

    @classmethod
    def create(
        cls, fn: OrchestratorFunction, input_type: Any = None, parameter: str = "context"
    ) -> Callable[[Any], Any]:
        """The function as the host calls it, with an orchestration as its only argument.

        The result has the user's function as attribute `orchestrator_function`.

        Args:
            fn: the user's function.
            input_type: what `context.get_input()` expects.
            parameter: the name of the argument.
        """
        handle = handler(cls(fn, input_type).handle, fn, parameter, func.OrchestrationContext)
        vars(handle).update(orchestrator_function=fn, _df_input_type=input_type)
        return handle
