"""An error as data, and back.

Rule 1: a failure that crossed a checkpoint is text; no exception class is ever looked up from it.
Rule 2: building one never fails, whatever the user's exception does when it is printed.
"""

from __future__ import annotations

import json
import traceback
from types import TracebackType
from typing import Any

from msgspec import Struct

# A chain of causes longer than this says nothing more to a reader, and each link repeats a traceback.
CAUSES_MAX = 10

OUR_MODULES = ("perdure.", "azure.durable_functions", "concurrent.futures", "asyncio")


class FailureDetails(Struct, frozen=True, omit_defaults=True, gc=False):
    """Why an activity, a child or an orchestration failed.

    Attributes:
        error_type: name of the exception's class, qualified by its module unless it is a builtin.
        message: the exception's text.
        stack_trace: the traceback text of the user's frames, if there was one.
        inner: the failure that caused this one.
        is_non_retriable: no retry policy may try again.
        bases: names, likewise qualified, of the classes between the exception's and `Exception`.

    Source: DurableTask.Core FailureDetails.
    """

    error_type: str
    message: str
    stack_trace: str | None = None
    inner: FailureDetails | None = None
    is_non_retriable: bool = False
    bases: tuple[str, ...] = ()

    @classmethod
    def of(cls, error: BaseException, *, is_non_retriable: bool = False) -> FailureDetails:
        """The failure that `error` and its causes amount to."""
        return _details(error, CAUSES_MAX, is_non_retriable)

    def is_caused_by(self, kind: type[BaseException]) -> bool:
        """Whether this or one of its causes was raised as `kind`, or as a class derived from it.

        Classes are compared by name, and none is looked up.
        """
        if kind in (Exception, BaseException):
            return True
        names = {kind.__name__, qualified_name(kind)}
        failure: FailureDetails | None = self
        while failure is not None:
            if failure.error_type in names or not names.isdisjoint(failure.bases):
                return True
            failure = failure.inner
        return False


class TaskFailedError(Exception):
    """Raised inside an orchestrator by the `yield` or `await` of a task that failed.

    Its text has the two parts of SDK 1.x, "reason, newline, details", because apps take it apart.

    Attributes:
        error_type: class name of the exception that the activity or child raised.
        message: its text.
        stack_trace: its traceback text, if any.
        details: the whole failure with its causes.
    """

    def __init__(self, reason: str, details: FailureDetails) -> None:
        super().__init__(f"{reason} \n {details_json(details)}")
        self.reason = reason
        self.details = details
        self.error_type = details.error_type
        self.message = details.message
        self.stack_trace = details.stack_trace

    @property
    def cause(self) -> FailureDetails | None:
        """The failure that caused this one, or None."""
        return self.details.inner

    def is_caused_by(self, kind: type[BaseException]) -> bool:
        """Whether the failure or one of its causes was raised as `kind`, or as a class derived from it.

        Classes are compared by name, and none is looked up.
        """
        return self.details.is_caused_by(kind)


class EntityOperationFailedError(TaskFailedError):
    """Raised inside an orchestrator by the call of an entity's operation that failed.

    Its text is the failure's message alone, as in SDK 1.x.

    Attributes:
        entity_id: the entity's instance id.
        operation: the operation's name.
    """

    def __init__(self, entity_id: str, operation: str, details: FailureDetails) -> None:
        super().__init__(details.message, details)
        self.args = (details.message,)
        self.entity_id = entity_id
        self.operation = operation


def activity_failed(name: str, details: FailureDetails) -> TaskFailedError:
    """What awaiting the activity `name` raises, in the words of the official host."""
    return TaskFailedError(f"Activity function '{name}' failed:  {details.error_type}: {details.message}", details)


def child_failed(name: str, details: FailureDetails) -> TaskFailedError:
    """What awaiting the child orchestration `name` raises, in the words of the official host."""
    return TaskFailedError(f"Orchestrator function '{name}' failed: {details.message}", details)


def qualified_name(kind: type[BaseException]) -> str:
    """`ValueError`, or `module.Class` for what is not a builtin."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _details(error: BaseException, depth: int, is_non_retriable: bool) -> FailureDetails:
    if isinstance(error, TaskFailedError):
        return error.details  # the root cause passes through unchanged, as in DurableTask.Core
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return FailureDetails(
        error_type=qualified_name(type(error)),
        message=text_of(error),
        stack_trace=_writable("".join(traceback.format_tb(_users_part(error.__traceback__)))) or None,
        inner=_details(cause, depth - 1, False) if cause is not None and depth > 1 else None,
        is_non_retriable=is_non_retriable,
        bases=tuple(qualified_name(each) for each in type(error).__mro__[1:] if _is_telling(each)),
    )


def _is_telling(base: type) -> bool:
    return issubclass(base, BaseException) and base not in (Exception, BaseException)


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    """The traceback without our own frames on top, or the whole of it if it has no other."""
    inner = trace
    while inner is not None and inner.tb_frame.f_globals.get("__name__", "").startswith(OUR_MODULES):
        inner = inner.tb_next
    return inner or trace


def text_of(error: BaseException) -> str:
    """The exception's text, even when its own `__str__` raises."""
    try:
        return _writable(str(error))
    except Exception as unprintable:  # user code: an exception class whose __str__ is broken must still fail its task
        return f"<{type(error).__name__} whose text cannot be printed: {type(unprintable).__name__}>"


def _writable(text: str) -> str:
    r"""The text with `\udce9` spelt out for half of a surrogate pair, as in the name of a file that is no UTF-8."""
    return text.encode(errors="backslashreplace").decode()


def details_json(details: FailureDetails) -> str:
    """The failure in the JSON shape that the .NET extension gives apps, which parse it."""
    shape: dict[str, Any] = {
        "$type": "System.Exception, System.Private.CoreLib",
        "ClassName": "System.Exception",
        "Message": f" {details.error_type}: {details.message}",
        "Data": None,
        "InnerException": None if details.inner is None else json.loads(details_json(details.inner)),
        "StackTraceString": details.stack_trace,
    }
    return json.dumps(shape)
