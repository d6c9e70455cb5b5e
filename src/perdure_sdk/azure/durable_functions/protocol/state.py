"""What an orchestrator answers the official host with: all that it has decided since it began."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from azure.durable_functions.protocol.request import ReplaySchema
from msgspec import Struct

from perdure.core.wire_actions import WireAction, flattened

_LABEL = "\n\n$OutOfProcData$:"


class OrchestratorState(Struct, frozen=True):
    """The answer; its name is the official one.

    Attributes:
        is_done: the code has returned, or continued as new.
        actions: what was yielded, each with all that it is made of, and what was sent, in order.
        schema: how it is written.
        output: the result as a JSON value.
        error: why the code failed.
        custom_status: what the code last set, as a JSON value.
    """

    is_done: bool
    actions: Sequence[WireAction]
    schema: ReplaySchema
    output: Any = None
    error: str | None = None
    custom_status: Any = None

    def to_json(self) -> dict[str, Any]:
        """The answer under its names on the wire."""
        members: dict[str, Any] = {"isDone": self.is_done}
        if self.schema is ReplaySchema.V1:
            members["actions"] = [flattened(each) for each in self.actions]
        else:
            members["schemaVersion"] = int(self.schema)
            members["actions"] = [list(self.actions)]
        if self.output is not None:
            members["output"] = self.output
        if self.error:
            members["error"] = self.error
        if self.custom_status is not None:
            members["customStatus"] = self.custom_status
        return members

    def to_json_string(self) -> str:
        """The answer as the handler returns it."""
        return json.dumps(self.to_json())


class OrchestratorFailed(Exception):
    """Raised by the handler of an orchestrator that failed: the host takes the answer out of its text."""

    def __init__(self, message: str, state: OrchestratorState) -> None:
        super().__init__(f"{message}{_LABEL}{state.to_json_string()}")
        self.state = state
