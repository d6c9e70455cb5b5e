"""Every exception of ours that is not the user's own failure coming back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta

    from perdure.core.actions import OrchestratorAction
    from perdure.core.events import HistoryEvent
    from perdure.core.failures import FailureDetails


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
        index: the place in its history, counted from 0, of the event that the code does not go along with.
        event: that event, or None if the code decided more than the history has.
        action: what the code did instead, or None if it did nothing.
        place: file and line where the code waits, or None if it has ended.
        cause: what the code raised, if that is why it does not go along.
    """

    def __init__(
        self,
        instance_id: str,
        index: int,
        event: HistoryEvent | None,
        action: OrchestratorAction | None,
        place: str | None = None,
        cause: FailureDetails | None = None,
    ) -> None:
        recorded = (
            f"has nothing more after {index} events" if event is None else f"has {_described(event)} as event {index}"
        )
        if cause is not None:
            raised = f"The code raised {cause.error_type}: {cause.message}\n"
            attempted = "has ended with that exception"
        else:
            raised = ""
            attempted = "decides nothing there" if action is None else f"decides {_described(action)}"
        where = "" if place is None else f" at {place}"
        super().__init__(
            f"{raised}Non-Deterministic workflow detected: the history of orchestration '{instance_id}' "
            f"{recorded}, but the code now {attempted}{where}. Either the code changed while this instance was "
            "running, or it reads time, randomness or I/O directly (DF204). Compare it with: perdure instances history "
            f"{instance_id}"
        )
        self.instance_id = instance_id
        self.index = index
        self.event = event
        self.action = action
        self.place = place
        self.cause = cause


class TooManyActionsError(PerdureError):
    """Raised by the cursor if an execution decides more than it may."""

    def __init__(self, actions_max: int) -> None:
        super().__init__(
            f"Maximum amount of orchestration actions ({actions_max}) has been reached. Begin anew with "
            "continue_as_new before that, or set extensions.durableTask.maxOrchestrationActions in host.json."
        )


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


class InstanceNotFailedError(PerdureError):
    """Raised by `TaskHubClient.rewind` if the instance has not failed.

    Attributes:
        instance_id: the instance's.
        status: what it is doing.
    """

    def __init__(self, instance_id: str, status: str) -> None:
        super().__init__(
            f'This orchestration has status {status}, but only orchestrations in the "Failed" state can be rewound.'
        )
        self.instance_id = instance_id
        self.status = status


class InstanceNotFinishedError(PerdureError):
    """Raised by `TaskHubClient.purge` if the instance has not ended.

    Attributes:
        instance_id: the instance's.
        status: what it is doing.
    """

    def __init__(self, instance_id: str, status: str) -> None:
        super().__init__(
            "Only orchestrations in a terminal state can be purged, but the orchestration with instance ID "
            f"{instance_id} has status {status}"
        )
        self.instance_id = instance_id
        self.status = status


class UnknownFunctionError(PerdureError):
    """Raised by `TaskHubClient` if no orchestrator or entity of that name is known.

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
    """Raised by `TaskHubClient` if the id of an instance to start, or of an entity, breaks a rule."""


class PayloadTooLargeError(PerdureError, ValueError):
    """Raised where an input, a result or the data of an event is written, if it is larger than it may be.

    Attributes:
        size_bytes: as JSON.
        limit_bytes: what is allowed.
        path: the part that makes it as large as it is.
    """

    def __init__(self, size_bytes: int, limit_bytes: int, path: str, part_bytes: int) -> None:
        inside = "" if path == "$" else f" Most of it is at {path} ({_megabytes(part_bytes)})."
        super().__init__(
            f"Payload too large: {_megabytes(size_bytes)} (limit {_megabytes(limit_bytes)}) (DF302).{inside} Large "
            "payloads slow every replay. Store the data and pass a reference, or raise PERDURE_MAX_PAYLOAD_BYTES."
        )
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes
        self.path = path


class ForbiddenAddressError(PerdureError):
    """Raised by the built-in HTTP activity if an address may not be reached.

    Attributes:
        host: as the request named it.
        address: what that stands for.
        port: the one that may not be reached, or None if it is the address.
    """

    def __init__(self, host: str, address: str, port: int | None = None) -> None:
        where, why = f"{address} ('{host}')", "it is no public address"
        if port is not None:
            where, why = f"port {port} of {where}", "it is none of the ports of the web, 80 and 443"
        super().__init__(
            f"call_http does not go to {where}: {why}, and this host can be reached by others, who could look into its "
            "network this way. Allow it in PERDURE_CALL_HTTP_ALLOW, or make the request in an activity of your own."
        )
        self.host = host
        self.address = address
        self.port = port


class FunctionTimeoutError(PerdureError):
    """Raised in the place of a function that runs longer than it may.

    Attributes:
        function: its name.
        limit: how long it may run.
    """

    def __init__(self, function: str, limit: timedelta) -> None:
        super().__init__(
            f"Timeout value of {limit} exceeded by function '{function}' (DF151). Let it do less at a time, or raise "
            "functionTimeout in host.json."
        )
        self.function = function
        self.limit = limit


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


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:.1f} MB" if size >= 100_000 else f"{size:,} bytes"
