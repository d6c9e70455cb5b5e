"""Every exception of ours that is not the user's own failure coming back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perdure.core.actions import OrchestratorAction
    from perdure.core.events import HistoryEvent


class PerdureError(Exception):
    """Root of the family; its text says what is wrong and ends with what to do."""


class IllegalHistoryError(PerdureError):
    """Raised by the engine before a commit, and by the checker, if events follow each other as they never may.

    Attributes:
        instance_id: whose history it is.
        reason: the rule that the events break.
    """

    def __init__(self, instance_id: str, reason: str) -> None:
        super().__init__(
            f"the history of '{instance_id}' is not legal: {reason}. This is a defect of perdure; report it."
        )
        self.instance_id = instance_id
        self.reason = reason


class NonDeterminismError(PerdureError):
    """Raised by the cursor if orchestrator code did something else than the history says it did before.

    Attributes:
        instance_id: the orchestration that failed.
        event: the history event that could not be matched, or None if the code decided more than the history has.
        action: what the code did instead, or None if it did nothing.
    """

    def __init__(self, instance_id: str, event: HistoryEvent | None, action: OrchestratorAction | None) -> None:
        recorded = "nothing more" if event is None else _described(event)
        attempted = "decides nothing there" if action is None else f"decides {_described(action)}"
        super().__init__(
            f"Non-Deterministic workflow detected: the history of orchestration '{instance_id}' has {recorded}, but "
            f"the code now {attempted}. Either the code changed while this instance was running, or it reads time, "
            f"randomness or I/O directly. Compare it with: perdure instances history {instance_id}"
        )
        self.instance_id = instance_id
        self.event = event
        self.action = action


class StoreUnavailableError(PerdureError):
    """Raised by a store if it could not read or write; what it was writing may or may not be there."""


class StoreRefusedError(PerdureError):
    """Raised by a store when it is opened, if its file cannot be used: another hub's, a newer version's, damaged."""


class StoreLockedError(StoreRefusedError):
    """Raised by an embedded store when it is opened, if another process is its host."""


class InstanceExistsError(PerdureError):
    """Raised by `TaskHubClient.start` if an instance of that id is in the way.

    Attributes:
        instance_id: the id asked for.
        status: what the existing instance is doing.
    """

    def __init__(self, instance_id: str, status: str) -> None:
        super().__init__(f"An Orchestration instance with the status {status} already exists.")
        self.instance_id = instance_id
        self.status = status


class InstanceNotFoundError(PerdureError):
    """Raised by `TaskHubClient` if there is no instance of that id."""

    def __init__(self, instance_id: str) -> None:
        super().__init__(f"No instance with ID {instance_id} found.")
        self.instance_id = instance_id


class InstanceFinishedError(PerdureError):
    """Raised by `TaskHubClient` if the instance has ended and takes no more messages."""

    def __init__(self, instance_id: str, status: str) -> None:
        super().__init__(f"Instance with ID {instance_id} is gone: either completed or failed")
        self.instance_id = instance_id
        self.status = status


class UnknownFunctionError(PerdureError):
    """Raised by `TaskHubClient.start` if no orchestrator of that name is known.

    Its text is the official host's, which apps and tests compare.
    """

    def __init__(self, name: str, kind: str, known: list[str]) -> None:
        listed = ", ".join(f"'{each}'" for each in known)
        more = (
            f"The following are the known {kind} functions: {listed}."
            if known
            else (f"No {kind} functions are currently registered!")
        )
        super().__init__(
            f"The function '{name}' doesn't exist, is disabled, or is not an {kind} function. Additional info: {more}"
        )
        self.name = name
        self.known = known


class InvalidInstanceIdError(PerdureError, ValueError):
    """Raised by `TaskHubClient.start` if the instance id breaks a rule."""


class HostStoppedError(PerdureError):
    """Raised by `TaskHubClient` if the engine has stopped, or stops before it could answer."""


class AppError(PerdureError):
    """Raised by the host if the app folder cannot be run; shown to the user as it is, without a traceback.

    Attributes:
        code: the stable code of the mistake, for `perdure explain`.
        headline: what is wrong, in a few words.
        lines: where, why, and what to do.
    """

    def __init__(self, code: str, headline: str, *lines: str) -> None:
        super().__init__("\n".join([f"{code}  {headline}", *(f"  {line}" for line in lines)]))
        self.code = code
        self.headline = headline
        self.lines = lines


def _described(what: HistoryEvent | OrchestratorAction) -> str:
    name = getattr(what, "name", None)
    number = getattr(what, "event_id", None)
    kind = type(what).__name__
    return f"{kind}{'' if name is None else f'({name!r})'}{'' if number is None else f' as number {number}'}"
