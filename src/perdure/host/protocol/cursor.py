"""An orchestration whose code answers with everything that it has scheduled so far, as the official SDK's does.

Rule 1: the SDK counts what it schedules, and the engine does: two counts. A retry and a poll are decisions of the
        engine alone; the SDK sees a call and what came of it in the end.
Rule 2: what the code has scheduled is begun at once and in order, whatever it waits for: an official host begins an
        action only when those before it are done, which delays it and at times stops it for good.
Rule 3: the same history leads to the same numbers, live and replayed. So what the code schedules in an episode is
        numbered after what the engine decides there by itself.

Source: OutOfProcOrchestrationShim.cs; TaskOrchestrationExecutor.py of SDK 1.x for how it counts.
"""

from __future__ import annotations

import json
import traceback
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import azure.functions as func
from msgspec.structs import replace

from perdure.core.actions import CancelTimer, CompleteOrchestration, OrchestratorAction
from perdure.core.codec import PayloadCodec
from perdure.core.conversion import ExpectedType
from perdure.core.cursor import OrchestrationCursor, Orchestrator
from perdure.core.durable_http import HTTP_ACTIVITY, polling
from perdure.core.events import (
    DecisionEvent,
    EntityOperationCalled,
    EntityOperationCompleted,
    EntityOperationFailed,
    EntityOperationSignaled,
    EventRaised,
    ExecutionSuspended,
    HistoryEvent,
    OrchestratorCompleted,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceCreated,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
    TimerCreated,
    TimerFired,
)
from perdure.core.failures import FailureDetails, activity_failed, child_failed, details_json, text_of
from perdure.core.tasks import Task, TaskState, TimerTask
from perdure.errors import NonDeterminismError, PerdureError, UnknownFunctionError
from perdure.host.protocol.history import Life, WireHistory
from perdure.host.protocol.orchestrator_state import (
    AtomicAction,
    CallActivity,
    CallActivityWithRetry,
    CallEntity,
    CallHttp,
    CallSubOrchestrator,
    CallSubOrchestratorWithRetry,
    ContinueAsNew,
    CreateTimer,
    OrchestratorState,
    ScheduledSignalEntity,
    SignalEntity,
    WaitForExternalEvent,
    labelled_state,
    orchestrator_state,
)
from perdure.host.protocol.tasks import decided_of, decision_of, task_of

Answer = (
    TaskCompleted
    | TaskFailed
    | SubOrchestrationInstanceCompleted
    | SubOrchestrationInstanceFailed
    | TimerFired
    | EntityOperationCompleted
    | EntityOperationFailed
)
Retried = CallActivityWithRetry | CallSubOrchestratorWithRetry

# An id that breaks a rule, an input that is too large, too many decisions; an interval beyond the end of time.
_REFUSALS = (PerdureError, ArithmeticError)


class ProtocolCursor(OrchestrationCursor):
    """Steps an orchestrator that speaks the out-of-process protocol.

    The orchestrator takes this cursor, and returns the text that its handler makes of `request`.
    """

    def __init__(self, instance_id: str, orchestrator: Orchestrator, codec: PayloadCodec, actions_max: int) -> None:
        super().__init__(instance_id, orchestrator, _AS_TEXT, actions_max)
        self._results = codec
        self._history = WireHistory(instance_id)
        self._shown: int | None = None  # how much of it, for a question about an earlier time
        self._listed: list[_Listed] = []  # everything that the code has scheduled
        self._begun = 0  # how many of these are decided
        self._by_id: dict[int, _Listed] = {}
        self._next_number = 0  # the SDK's
        self._has_begun = False
        self._has_news = False  # the code has not seen all that the history has for it
        self._is_tracing = False  # the decisions come from the history, not from the code
        self._foreseen: OrchestratorState | None = None
        self._state: OrchestratorState | None = None
        self._error: BaseException | None = None
        self._applied = 0
        self._raised: list[tuple[int, EventRaised]] = []
        self._rest: tuple[EventRaised, ...] = ()

    @property
    def request(self) -> str:
        """What the orchestrator's handler is to be called with."""
        return self._history.request(self._shown, default_poll_ms=int(polling.interval.total_seconds() * 1000))

    # ------------------------------------------------------------------ told by the executor

    def replay(self, events: Iterable[HistoryEvent]) -> None:
        past = list(events)
        self._is_tracing = True
        self._foreseen = self._foresee(past)
        super().replay(past)
        self.is_replaying = True
        if self._foreseen is None:
            self._ask()
        while self._trace_next():
            pass
        self._cancel_given_up()
        self._end_if_ended()
        leftover = [each for each in self._take_actions() if not isinstance(each, CancelTimer)]
        if leftover:
            raise self._deviation(None, leftover[0])
        self._history.played()
        self._has_news = self._is_tracing = self.is_replaying = False
        self._foreseen = None

    def advance(self, events: Iterable[HistoryEvent]) -> list[OrchestratorAction]:
        try:
            for event in events:
                self._apply(event)
            if self._starting is not None and not self._is_suspended:
                self._begin_code()
            self._go_on()
        except NonDeterminismError as error:
            failure = FailureDetails(
                "NonDeterministicOrchestrationException", str(error), inner=error.cause, is_non_retriable=True
            )
            self._actions.clear()
            self._end(CompleteOrchestration(self._next_id, None, failure, str(error)))
        if not self.is_done:
            self._history.lived(OrchestratorCompleted(self.now))
            self._history.played()
        return self._take_actions()

    def retrace(self, events: Iterable[HistoryEvent], hidden: Collection[int] = ()) -> list[HistoryEvent]:
        kept = super().retrace(events, hidden)
        self._history.played()
        return kept

    # ------------------------------------------------------------------ one event

    def _apply(self, event: HistoryEvent) -> None:
        if self._is_held and self._hold(event):
            return
        self._applied += 1
        if self.is_done:
            super()._apply(event)
        elif isinstance(event, Life):
            self._history.lived(event)  # before it has its effect: what a suspension withheld follows its end
            super()._apply(event)
            if isinstance(event, OrchestratorCompleted) and not self._is_tracing:
                self._go_on()
        elif isinstance(event, EventRaised):
            self._raised.append((len(self._history), event))
            self._history.raised(event)
            self._has_news = True
        elif isinstance(event, DecisionEvent):
            self._catch_up(event)
            super()._apply(event)
        elif isinstance(event, Answer):
            self._answered(event)
        else:
            super()._apply(event)

    def _begin_code(self) -> None:
        self._starting = None
        self._is_held = False
        self._has_begun = self._has_news = True

    def _peek(self, event: DecisionEvent) -> OrchestratorAction | None:
        super()._peek(event)
        was_done = self.is_done
        self._go_on()
        if self.is_done and not was_done:
            self.ended_at = self._applied
        return self._actions.get(event.event_id)

    def _catch_up(self, event: DecisionEvent) -> None:
        """Decide what the code had scheduled when the history got `event`."""
        if not self._is_tracing:
            self._go_on()
            return
        while event.event_id >= self._next_id and not self.is_done:
            if not self._trace_next() and (self._foreseen is not None or not self._ask()):
                self._end_if_ended()
                return

    def _trace_next(self) -> bool:
        """Decide the next of what the code has scheduled, as far as the history may have it."""
        try:
            return self._begin_next()
        except _REFUSALS as error:  # it was accepted once
            self._fail_with(error, text_of(error))
            return False

    def _answered(self, event: Answer) -> None:
        task = self._tasks.get(event.task_id)
        listed = self._by_id.get(self.first_attempt(event.task_id))
        super()._apply(event)
        if task is None or listed is None or listed.is_answered or not listed.is_settled:
            return
        listed.is_answered = True
        is_child = isinstance(listed.action, CallSubOrchestrator | CallSubOrchestratorWithRetry)
        match event:
            case TaskCompleted() | SubOrchestrationInstanceCompleted():
                self._tell_completed(listed, event, is_child)
            case TaskFailed() | SubOrchestrationInstanceFailed():
                self._tell_failed(listed, event, is_child)
            case TimerFired():
                self._history.fired(listed.number, event.timestamp, event.fire_at)
            case EntityOperationCompleted():
                self._history.operation_completed(listed.number, event.timestamp, event.result)
            case EntityOperationFailed():
                self._history.operation_failed(listed.number, event.timestamp, event.failure)
        self._has_news = True

    def _tell_completed(
        self, listed: _Listed, event: TaskCompleted | SubOrchestrationInstanceCompleted, is_child: bool
    ) -> None:
        task = listed.task
        if task is not None and task.state is TaskState.FAILED:  # an HTTP answer that leads nowhere
            self._history.failed(listed.number, event.timestamp, text_of(task.result), "null")
        else:
            self._history.completed(listed.number, event.timestamp, event.result, is_child=is_child)

    def _tell_failed(self, listed: _Listed, event: TaskFailed | SubOrchestrationInstanceFailed, is_child: bool) -> None:
        """Tell of a failure; the last of a retried call as all its failures, each with the timer that the SDK expects.

        The SDK takes numbers for them when it reads of them, so the code has to have seen what came before.
        """
        action, at = listed.action, event.timestamp
        name = HTTP_ACTIVITY if isinstance(action, CallHttp) else _name(action)
        reason = (child_failed if is_child else activity_failed)(name, event.failure).reason
        details = details_json(event.failure)
        if not isinstance(action, Retried):
            self._history.failed(listed.number, at, reason, details, is_child=is_child)
            return
        if self._is_tracing:
            self._ask()
        else:
            self._go_on()
        number = listed.number
        attempts = max(action.retry_options.max_number_of_attempts, 1)
        for attempt in range(1, attempts + 1):
            self._history.failed(number, at, reason, details, is_child=is_child)
            self._history.fired(self._take_sdk_number(), at, at)
            if attempt < attempts:
                number = self._take_sdk_number()

    def _take_sdk_number(self) -> int:
        self._next_number += 1
        return self._next_number - 1

    # ------------------------------------------------------------------ asking the code

    def _go_on(self) -> None:
        """Let the code see what is new, and do what it says."""
        if self.is_done or self._is_suspended or not self._has_begun:
            return
        try:
            self._ask()
            while self._begin_next():
                pass
        except NonDeterminismError:
            raise
        except _REFUSALS as error:
            self._fail_with(error, text_of(error))
            return
        self._cancel_given_up()
        self._end_if_ended()

    def _ask(self) -> bool:
        """Let the code see what is new; returns whether it has scheduled more."""
        if not self._has_news or self._is_suspended or not self._has_begun:
            return False
        self._has_news = False
        try:
            state = self._called()
        except _UnansweredError as unanswered:
            self._state, self._error = None, unanswered.error
            return False
        return self._listen(state)

    def _called(self, shown: int | None = None) -> OrchestratorState:
        """What the code answers.

        Args:
            shown: how much of the history it sees; None for all of it.
        """
        self._shown = shown
        try:
            text: Any = self._orchestrator(self)
            if not isinstance(text, str):
                raise TypeError(f"the orchestrator's handler returned a {type(text).__name__}, but has to return text")
            return orchestrator_state(text)
        except Exception as error:
            state = labelled_state(text_of(error))
            if state is None:
                raise _UnansweredError(error) from error
            self._error = error.__cause__ or error
            return state
        except BaseException as error:  # user code: SystemExit too fails the instance, not the host
            raise _UnansweredError(error) from error
        finally:
            self._shown = None

    def _listen(self, state: OrchestratorState) -> bool:
        """Take in what the code has scheduled; returns whether that is more than before."""
        self._state = state
        if state.custom_status is not None:
            self.custom_status = json.dumps(state.custom_status)
        atoms = state.atoms()
        for place, known in enumerate(self._listed):
            now = atoms[place] if place < len(atoms) else None
            if now is None or not _is_same(known.action, now):
                event = decision_of(known.action, known.number, self)
                raise self._deviation(event, None if now is None else decided_of(now, known.number))
            known.is_cancelled = isinstance(now, CreateTimer) and now.is_canceled
        new = atoms[len(self._listed) :]
        self._listed += [_Listed(each, self._take_sdk_number() if _is_numbered(each) else -1) for each in new]
        return bool(new)

    # ------------------------------------------------------------------ doing what it says

    def _begin_next(self) -> bool:
        """Decide the next of what the code has scheduled; returns whether there was one."""
        if self._begun == len(self._listed) or self.is_done:
            return False
        listed = self._listed[self._begun]
        self._begun += 1
        action, number = listed.action, self._next_id
        if isinstance(action, SignalEntity | ScheduledSignalEntity):
            task_of(action, self)
            deliver_at = action.fire_at if isinstance(action, ScheduledSignalEntity) else None
            self.signal_entity(action.instance_id, action.operation, action.input, deliver_at)
        else:
            listed.task = task_of(action, self)
            if listed.task is None:
                return True
            self._number(listed.task)
        self._by_id[number] = listed
        decision = decision_of(action, listed.number, self)
        if decision is not None:
            _tell_decision(self._history, decision)
        return True

    def _cancel_given_up(self) -> None:
        for each in self._listed:
            if each.is_cancelled and isinstance(each.task, TimerTask) and not each.task.is_completed:
                each.task.cancel()

    def _end_if_ended(self) -> None:
        """End as the code has, once everything that it scheduled is decided."""
        state, error = self._state, self._error
        if state is None:
            if error is not None:
                self._fail_with(error, _unlabelled(error))
        elif state.error:
            self._fail_with(error, state.error)
        elif state.is_done:
            last = self._listed[-1].action if self._listed else None
            if isinstance(last, ContinueAsNew):
                self._begin_again(last)
            else:
                self._complete_with(state.output)

    def _complete_with(self, output: Any) -> None:
        try:
            result = self._results.encode(output)
        except ValueError as error:  # a number that is not finite, or too much of it
            self._fail_with(error, text_of(error))
        else:
            self._end(CompleteOrchestration(self._next_id, result))

    def _fail_with(self, error: BaseException | None, text: str) -> None:
        failure = (
            FailureDetails("Exception", text) if error is None else replace(FailureDetails.of(error), message=text)
        )
        self._end(CompleteOrchestration(self._next_id, None, failure, text))

    def _begin_again(self, action: ContinueAsNew) -> None:
        self._rest = self._unread_events()
        self._continued = action.input or "null"
        self.is_done = True

    def _unread_events(self) -> tuple[EventRaised, ...]:
        """What the code continues as new with: events that came after its end, and those that it never waited for."""
        start = self._history.played_count
        new = [mark for mark, _ in self._raised if mark >= start]
        unseen = len(new) - bisect_left(new, True, key=self._had_ended)
        seen = self._raised[: len(self._raised) - unseen]
        waits = Counter(
            each.action.external_event_name.casefold()
            for each in self._listed
            if isinstance(each.action, WaitForExternalEvent)
        )
        unread: list[EventRaised] = []
        for _, event in seen:
            name = event.name.casefold()
            if waits[name]:
                waits[name] -= 1
            else:
                unread.append(event)
        return (*unread, *(event for _, event in self._raised[len(seen) :]))

    def _had_ended(self, mark: int) -> bool:
        """Whether the code ends without the events of the history from `mark` on."""
        try:
            return self._called(mark).is_ended
        except _UnansweredError:
            return False

    def _carried(self) -> tuple[EventRaised, ...]:
        return self._rest

    # ------------------------------------------------------------------ many episodes at once

    def _foresee(self, past: Sequence[HistoryEvent]) -> OrchestratorState | None:
        """What the code answers to the whole history; None if it has to be asked episode by episode.

        That is so if the history has what the SDK does not see, or sees otherwise. Which calls these are, only the code
        says; so the history is shown as if there were none, and the answer has to fit.
        """
        answers = [each for each in past if isinstance(each, Answer | EventRaised)]
        if not answers or any(isinstance(each, ExecutionSuspended) for each in past):
            return None
        own, self._history = self._history, _plain_history(self.instance_id, past)
        try:
            state = self._called()
        except _UnansweredError:
            return None
        finally:
            self._history = own
        decisions = [each for each in past if isinstance(each, DecisionEvent)]
        numbered = [each for each in state.atoms() if _is_numbered(each)]
        failed = {each.task_id for each in answers if isinstance(each, TaskFailed | SubOrchestrationInstanceFailed)}
        is_plain = len(decisions) == len(numbered) and all(
            _records(decision, action) and not (isinstance(action, Retried) and decision.event_id in failed)
            for decision, action in zip(decisions, numbered, strict=True)
        )
        if not is_plain:
            self._error = None
            return None
        self._listen(state)
        return state


class ProtocolHandler:
    """An orchestrator that takes and returns JSON text, as the cursor of the protocol runs it."""

    def __init__(self, handler: Callable[[Any], Any]) -> None:
        self._handler = handler

    def __call__(self, cursor: OrchestrationCursor) -> Any:
        assert isinstance(cursor, ProtocolCursor), "only that cursor knows what a handler is called with"
        return self._handler(func.OrchestrationContext(cursor.request))


class _Listed:
    """An action that the code has scheduled.

    Attributes:
        number: the SDK's, or -1 if it counts no such action.
        task: what the engine waits for, None before it is begun and if nothing answers it.
        is_cancelled: it is a timer that the code has given up.
        is_answered: the code has been told what came of it.
    """

    __slots__ = ("action", "is_answered", "is_cancelled", "number", "task")

    def __init__(self, action: AtomicAction, number: int) -> None:
        self.action = action
        self.number = number
        self.task: Task | None = None
        self.is_cancelled = isinstance(action, CreateTimer) and action.is_canceled
        self.is_answered = False

    @property
    def is_settled(self) -> bool:
        """It has succeeded or failed for good."""
        return self.task is not None and self.task.is_completed


class _UnansweredError(Exception):
    """Raised if the handler raised something without an answer in it."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class _AsText(PayloadCodec):
    """Hands results on as the JSON text that they are: the SDK decodes them."""

    def decode(self, text: str | None) -> Any:
        return text

    def decode_as(self, text: str | None, expected: ExpectedType) -> Any:
        return None if text is None else json.loads(text)


_AS_TEXT = _AsText()


def _is_numbered(action: AtomicAction) -> bool:
    return not isinstance(action, WaitForExternalEvent)


def _name(action: AtomicAction) -> str:
    named = isinstance(action, CallActivity | CallSubOrchestrator | Retried)
    return action.function_name if named else ""


def _is_same(known: AtomicAction, now: AtomicAction) -> bool:
    """Whether the code schedules the same as before at some place of its list."""
    if type(known) is not type(now):
        return False
    if isinstance(known, CallEntity | SignalEntity) and isinstance(now, CallEntity | SignalEntity):
        return (known.instance_id, known.operation) == (now.instance_id, now.operation)
    if isinstance(known, WaitForExternalEvent) and isinstance(now, WaitForExternalEvent):
        return known.external_event_name == now.external_event_name
    return _name(known).casefold() == _name(now).casefold()


def _records(decision: DecisionEvent, action: AtomicAction) -> bool:
    """Whether a decision is what the history would have of an action."""
    match decision:
        case TaskScheduled():
            name = HTTP_ACTIVITY if isinstance(action, CallHttp) else _name(action)
            is_call = isinstance(action, CallActivity | CallActivityWithRetry | CallHttp)
            return is_call and decision.name.casefold() == name.casefold()
        case SubOrchestrationInstanceCreated():
            is_call = isinstance(action, CallSubOrchestrator | CallSubOrchestratorWithRetry)
            return is_call and decision.name.casefold() == _name(action).casefold()
        case TimerCreated():
            return isinstance(action, CreateTimer) and decision.fire_at == action.fire_at
        case EntityOperationCalled():
            return isinstance(action, CallEntity) and decision.instance_id == action.instance_id
        case EntityOperationSignaled():
            is_signal = isinstance(action, SignalEntity | ScheduledSignalEntity)
            return is_signal and decision.instance_id == action.instance_id
        case _:
            return False


def _tell_decision(history: WireHistory, event: DecisionEvent) -> None:
    number, at = event.event_id, event.timestamp
    match event:
        case TaskScheduled():
            history.scheduled(number, at, event.name, event.input)
        case SubOrchestrationInstanceCreated():
            history.child_created(number, at, event.name, event.instance_id, event.input)
        case TimerCreated():
            history.timer_created(number, at, event.fire_at)
        case EntityOperationCalled() | EntityOperationSignaled():
            is_signal = isinstance(event, EntityOperationSignaled)
            history.operation_sent(number, at, event.instance_id, event.operation, event.input, is_signal=is_signal)
        case _:
            pass  # locks and events to others, which the protocol does not have


def _plain_history(instance_id: str, past: Iterable[HistoryEvent]) -> WireHistory:
    """A history as the SDK would see it if it counted as the engine does."""
    history = WireHistory(instance_id)
    names: dict[int, str] = {}
    for event in past:
        match event:
            case EventRaised():
                history.raised(event)
            case TaskCompleted():
                history.completed(event.task_id, event.timestamp, event.result)
            case SubOrchestrationInstanceCompleted():
                history.completed(event.task_id, event.timestamp, event.result, is_child=True)
            case TaskFailed() | SubOrchestrationInstanceFailed():
                is_child = isinstance(event, SubOrchestrationInstanceFailed)
                failed = (child_failed if is_child else activity_failed)(names[event.task_id], event.failure)
                details = details_json(event.failure)
                history.failed(event.task_id, event.timestamp, failed.reason, details, is_child=is_child)
            case TimerFired():
                history.fired(event.task_id, event.timestamp, event.fire_at)
            case EntityOperationCompleted():
                history.operation_completed(event.task_id, event.timestamp, event.result)
            case EntityOperationFailed():
                history.operation_failed(event.task_id, event.timestamp, event.failure)
            case _ if isinstance(event, Life):
                history.lived(event)
            case _ if isinstance(event, DecisionEvent):
                names[event.event_id] = getattr(event, "name", "")
                _tell_decision(history, event)
            case _:
                pass
    history.played()
    return history


def _unlabelled(error: BaseException) -> str:
    """What the official host says of an exception that brings no answer with it."""
    if isinstance(error, UnknownFunctionError):
        return text_of(error)
    stack = "".join(traceback.format_exception(error))
    raised = f"{type(error).__name__}: {text_of(error)}"
    return f"One or more errors occurred. (Result: Failure\nException: {raised}\nStack: {stack})"
