"""A running orchestrator function and its position in the history.

Rule 1: the only inputs are history events; the same events always lead to the same actions.
Rule 2: one event at a time is applied and the code runs until it blocks again, in a loop: no recursion per event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from heapq import heapify, heappop, heappush
from inspect import isasyncgen, iscoroutine, isgenerator
from types import FrameType
from typing import Any, Final, assert_never

from perdure.core.actions import (
    CallEntity,
    CancelTimer,
    CompleteOrchestration,
    ContinueAsNew,
    CreateSubOrchestration,
    CreateTimer,
    LockEntities,
    OrchestratorAction,
    ScheduleTask,
    SendEvent,
    SignalEntity,
    UnlockEntities,
)
from perdure.core.codec import PayloadCodec
from perdure.core.events import (
    DecisionEvent,
    EntityLock,
    EntityLockGranted,
    EntityLockRequested,
    EntityOperation,
    EntityOperationCalled,
    EntityOperationCompleted,
    EntityOperationFailed,
    EntityOperationSignaled,
    EntityUnlock,
    EntityUnlockSent,
    EventRaised,
    EventSent,
    ExecutionCompleted,
    ExecutionResumed,
    ExecutionRewound,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
    HistoryEvent,
    OrchestratorCompleted,
    OrchestratorStarted,
    ParentInstance,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceCreated,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
    TimerCreated,
    TimerFired,
)
from perdure.core.failures import (
    EntityOperationFailedError,
    FailureDetails,
    TaskFailedError,
    activity_failed,
    child_failed,
    text_of,
)
from perdure.core.tasks import (
    ActivityCall,
    AtomicTask,
    EntityCall,
    EventTask,
    Routine,
    SubOrchestrationCall,
    Task,
    TaskAll,
    TaskAny,
    TaskState,
    TimerTask,
)
from perdure.errors import NonDeterminismError, TooManyActionsError

ACTIONS_MAX: Final = 100_000  # of one execution; the official extension's default

Orchestrator = Callable[["OrchestrationCursor"], Any]
"""Starts user code for a cursor: returns a generator or coroutine to step, or at once the result."""


class OrchestrationCursor:
    """Steps an orchestrator through its history; `yield` and `async def` orchestrators alike.

    Invariants: `now` never goes back; ids of actions are given when a task is first yielded (SDK 1.x), in order, from
    0; once `is_done`, no event changes anything. The code does not run while it is suspended, nor before the first
    event that could not suspend it: so it depends on the order of events alone, never on how they came in episodes.

    Args:
        actions_max: how many decisions an execution may make; one more fails it.

    Attributes:
        instance_id, name, version, parent: who runs, from ExecutionStarted.
        input: the input as JSON text.
        now: the time of the current episode (aware UTC), the only clock that orchestrators may read.
        is_replaying: the event now applied was committed in an earlier episode.
        custom_status: JSON text of what the code last set ("null" if it cleared it), or None if it never did.
        is_done: the code has returned, raised or continued as new.
        ended_at: place, among the events that `retrace` returned, of the one that ended the code.
    """

    __slots__ = (
        "_actions", "_actions_max", "_code", "_codec", "_continued", "_events_seen", "_first_attempts",
        "_is_beginning", "_is_held", "_is_suspended", "_next_id", "_next_version", "_orchestrator", "_replayed",
        "_saves_events", "_settled", "_starting", "_tasks", "_unread", "_waiters", "_waiting_for", "_withheld",
        "custom_status", "ended_at", "input", "instance_id", "is_done", "is_replaying", "name", "now", "parent",
        "version",
    )  # fmt: skip

    def __init__(
        self, instance_id: str, orchestrator: Orchestrator, codec: PayloadCodec, actions_max: int = ACTIONS_MAX
    ) -> None:
        self.instance_id = instance_id
        self.name = ""
        self.input: str | None = None
        self.version: str | None = None
        self.parent: ParentInstance | None = None
        self.now: datetime = datetime.min
        self.is_replaying = False
        self.custom_status: str | None = None
        self.is_done = False
        self.ended_at = 0
        self._is_beginning = False
        self._orchestrator = orchestrator
        self._codec = codec
        self._actions_max = actions_max
        self._code: Any = None
        self._waiting_for: Task | None = None
        self._actions: dict[int, OrchestratorAction] = {}  # decided, and not yet seen in the history
        self._tasks: dict[int, AtomicTask] = {}  # scheduled and open
        self._waiters: dict[str, deque[EventTask]] = {}
        self._unread: dict[str, deque[tuple[int, EventRaised]]] = {}
        self._events_seen = 0
        self._settled = 0
        self._next_id = 0
        self._continued: str | None = None
        self._next_version: str | None = None
        self._saves_events = True
        self._replayed = 0
        self._is_held = False  # not started yet, or suspended: events have to be looked at before they are applied
        self._is_suspended = False
        self._starting: ExecutionStarted | None = None
        self._withheld: list[HistoryEvent] = []
        self._first_attempts: dict[int, int] = {}

    # ------------------------------------------------------------------ told by the executor

    def replay(self, events: Iterable[HistoryEvent]) -> None:
        """Bring the code to where `events`, the history so far, left it.

        Raises:
            NonDeterminismError: the code did something else than the history says.
        """
        self.is_replaying = True
        self._replayed = 0
        for event in events:
            self._apply(event)
            self._replayed += 1
        leftover = [action for action in self._take_actions() if not isinstance(action, CancelTimer)]
        if leftover:
            raise self._deviation(None, leftover[0])
        self.is_replaying = False

    def advance(self, events: Iterable[HistoryEvent]) -> list[OrchestratorAction]:
        """Apply new events and return what the code decided, in order of decision."""
        for event in events:
            self._apply(event)
        if self._starting is not None and not self._is_suspended:
            self._begin_code()
        return self._take_actions()

    def retrace(self, events: Iterable[HistoryEvent], hidden: Collection[int] = ()) -> list[HistoryEvent]:
        """Replay `events` as far as the code goes along, and return those that it did go along with.

        A decision that the code has not made is left out, with its answers; what it decided instead stays to be taken
        by the next `advance`. At a decision that contradicts one of the code's, everything decided from there on is
        left out. After the failure of one of the `hidden` tasks, or the grant of such a lock, which is left out, too, a
        decision must be the code's in every detail: its number may have gone to another call.
        """
        kept: list[HistoryEvent] = []
        confirmed: set[int] = set()
        contradicted = is_strict = False
        self.is_replaying = True
        for event in events:
            if isinstance(event, DecisionEvent):
                action = self._peek(event)
                if action is not None and not contradicted:
                    contradicted = not _is_same(event, action) or (is_strict and not _asks_the_same(event, action))
                if contradicted or action is None:
                    continue
                confirmed.add(event.event_id)
            elif isinstance(event, HIDEABLE) and event.task_id in hidden:
                is_strict = True
                continue
            elif isinstance(event, ANSWERS) and event.task_id not in confirmed:
                continue
            was_done = self.is_done
            self._apply(event)
            if self.is_done and not was_done:
                self.ended_at = len(kept)
            kept.append(event)
        self.is_replaying = False
        return kept

    @property
    def pending_ids(self) -> list[int]:
        """Numbers of the decisions, its end aside, that no history event has confirmed and nobody has taken."""
        ends = (CancelTimer, CompleteOrchestration)
        return [number for number, action in self._actions.items() if not isinstance(action, ends)]

    @property
    def open_ids(self) -> frozenset[int]:
        """Numbers of the decisions that the code still expects an answer to: cancelled timers are not among them."""
        return frozenset(self._tasks)

    @property
    def failure(self) -> FailureDetails | None:
        """Why the code has ended, if it ended by raising and nobody has taken that decision."""
        ends = (action.failure for action in self._actions.values() if isinstance(action, CompleteOrchestration))
        return next(ends, None)

    def first_attempt(self, task_id: int) -> int:
        """The number of the first call that a retried or polled call belongs to; its own if it stands alone."""
        return self._first_attempts.get(task_id, task_id)

    def close(self) -> None:
        """Give the code up: its `finally` blocks run, and whatever they try has no effect."""
        self.is_done = True
        try:
            if self._code is not None:
                self._code.close()
        except BaseException:  # the code is user code, and it is given up: nothing it raises matters
            pass

    # ------------------------------------------------------------------ called by the context

    def continue_as_new(self, input: str | None, *, save_events: bool = True, version: str | None = None) -> None:
        """Begin again with `input` (JSON text) once the code yields or returns; the first call wins."""
        if self._continued is None:
            self._continued = "null" if input is None else input
            self._saves_events = save_events
            self._next_version = version

    def send_event(self, instance_id: str, name: str, input: str | None) -> None:
        """Send an external event (JSON text) to another instance, without waiting for anything."""
        if not self.is_done:
            number = self._take_number()
            self._actions[number] = SendEvent(number, instance_id, name, input)

    @property
    def is_running(self) -> bool:
        """The code is being run just now, so it may decide something."""
        code = self._code
        return self._is_beginning or getattr(code, "gi_running", False) or getattr(code, "cr_running", False)

    @property
    def will_continue_as_new(self) -> bool:
        """`continue_as_new` has been called."""
        return self._continued is not None

    def timer_cancelled(self, timer: TimerTask) -> None:
        """The orchestrator gave `timer` up."""
        if timer.id is not None and not self.is_done and self._tasks.pop(timer.id, None) is not None:
            self._actions[-1 - timer.id] = CancelTimer(timer.id)

    def event_asked_for(self, task: EventTask) -> None:
        """The orchestrator looks whether `task` has its event, without waiting for it: looking is reading."""
        name = task.name.casefold()
        unread, waiters = self._unread.get(name), self._waiters.get(name)
        if unread and waiters and task in waiters and not self.is_done:
            waiters.remove(task)
            self._read(name, unread, task)

    def wait_cancelled(self, task: EventTask) -> None:
        """The orchestrator gave the wait `task` up."""
        waiters = self._waiters.get(task.name.casefold())
        if waiters and task in waiters:
            waiters.remove(task)

    def begin(self, task: Task, routine: Routine) -> None:
        """`routine` waits for `task`, which is to be scheduled if it is not yet."""
        self._number(task)
        if task.id is None or isinstance(task, TimerTask):
            return
        if routine.first_id is None:
            routine.first_id = task.id
        elif task.id != routine.first_id:
            self._first_attempts[task.id] = routine.first_id

    def signal_entity(self, instance_id: str, operation: str, input: str | None, deliver_at: datetime | None) -> None:
        """Send an operation (input is JSON text) to an entity, without waiting for anything."""
        if not self.is_done:
            number = self._take_number()
            self._actions[number] = SignalEntity(number, instance_id, operation, input, deliver_at)

    def unlock(self, lock_id: int) -> None:
        """Give the locks back that were asked for as number `lock_id`."""
        if not self.is_done:
            number = self._take_number()
            self._actions[number] = UnlockEntities(number, lock_id)

    # ------------------------------------------------------------------ one event

    def _apply(self, event: HistoryEvent) -> None:
        if self._is_held and self._hold(event):
            return
        match event:
            case TaskCompleted() | SubOrchestrationInstanceCompleted() | EntityOperationCompleted():
                self._complete(event.task_id, event.result)
            case OrchestratorStarted():
                self.now = max(self.now, event.timestamp) if self.name else event.timestamp
            case OrchestratorCompleted():
                pass
            case TaskScheduled() | TimerCreated() | SubOrchestrationInstanceCreated() | EventSent():
                self._confirm(event)
            case TimerFired() | EntityLockGranted():
                self._complete(event.task_id, None)
            case EventRaised():
                self._event_raised(event)
            case TaskFailed() | SubOrchestrationInstanceFailed() | EntityOperationFailed():
                self._task_failed(event.task_id, event.failure)
            case ExecutionStarted():
                self.name, self.input, self.version, self.parent = event.name, event.input, event.version, event.parent
                self._starting = event
                self._is_held = True
            case ExecutionSuspended():
                self._is_suspended = self._is_held = True
            case ExecutionResumed():
                self._resumed()
            case EntityOperationCalled() | EntityLockRequested() | EntityOperationSignaled() | EntityUnlockSent():
                self._confirm(event)
            case ExecutionRewound() | EntityOperation() | EntityLock() | EntityUnlock():
                pass  # the last three are mail of entities, and in no history
            case ExecutionCompleted():
                self.is_done = True
                self._actions.pop(event.event_id, None)  # the end has no other trace in the history
            case ExecutionTerminated():
                self.is_done = True
                self._starting = None
                self._is_held = False
                self._actions.clear()  # the code did not run in the episode that ended it
            case _:
                assert_never(event)

    def _hold(self, event: HistoryEvent) -> bool:
        """Whether `event` is kept for later: the code is suspended. If it only has not begun yet, now it does."""
        if isinstance(event, LIFE):
            return False
        if not self._is_suspended:
            self._begin_code()
            return False
        if not isinstance(event, MAIL):
            return False
        self._withheld.append(event)
        return True

    def _resumed(self) -> None:
        self._is_suspended = self._is_held = False
        if self._starting is not None:
            self._begin_code()
        withheld, self._withheld = self._withheld, []
        for event in withheld:
            self._apply(event)

    def _begin_code(self) -> None:
        self._starting = None
        self._is_held = False
        self._is_beginning = True
        try:
            code = self._orchestrator(self)
        except BaseException as error:  # user code: whatever a plain function raises fails its instance
            self._fail(error)
            return
        finally:
            self._is_beginning = False
        if isgenerator(code) or iscoroutine(code):
            self._code = code
            self._step(None, None)
        elif isasyncgen(code):
            self._fail(TypeError(
                "this orchestrator mixes 'async def' with 'yield', which cannot be replayed (DF201): write either "
                "'def' with 'yield', or 'async def' with 'await'"
            ))  # fmt: skip
        else:
            self._return(code)

    def _complete(self, task_id: int, result: str | None) -> None:
        task = self._tasks.pop(task_id, None)
        if task is None or self.is_done:
            return  # a duplicate, or an answer that nobody waits for any more
        self._settle(task, *self._decoded(task, result))

    def _task_failed(self, task_id: int, failure: FailureDetails) -> None:
        task = self._tasks.pop(task_id, None)
        if task is None or self.is_done:
            return
        error = self._raised_by(task, failure)
        if error is not None:  # the history is legal, so the task is of a kind that can fail
            self._settle(task, TaskState.FAILED, error)

    def _raised_by(self, task: AtomicTask, failure: FailureDetails) -> TaskFailedError | None:
        """What the code gets raised for a task that failed."""
        match task:
            case ActivityCall():
                return activity_failed(task.name, failure)
            case SubOrchestrationCall():
                return child_failed(task.name, failure)
            case EntityCall():
                return EntityOperationFailedError(task.instance_id, task.operation, failure)
            case _:
                return None

    def _event_raised(self, event: EventRaised) -> None:
        name = event.name.casefold()
        waiter = None if self.is_done or self._waiting_for is None else self._take_waiter(name, self._waiting_for)
        if waiter is None:
            self._events_seen += 1
            self._unread.setdefault(name, deque()).append((self._events_seen, event))
        else:
            self._settle(waiter, *self._decoded(waiter, event.input))

    def _take_waiter(self, name: str, root: Task) -> EventTask | None:
        """The oldest wait for `name` that is part of `root`, what the code waits for.

        A wait that lost, to a timeout say, and is not waited for again gets nothing: its event would never be read,
        while the code waits anew for the same name.
        """
        waiters = self._waiters.get(name)
        if not waiters:
            return None
        for waiter in waiters:
            if waiter.is_part_of(root):
                waiters.remove(waiter)
                return waiter
        return None

    def _offer_unread(self, root: Task) -> None:
        """Give kept events to the waits in `root`, in the order in which they came, each to the oldest wait for it."""
        oldest = [(unread[0][0], name) for name, unread in self._unread.items() if name in self._waiters]
        heapify(oldest)
        while oldest and root.state is TaskState.RUNNING:
            _, name = heappop(oldest)
            waiter = self._take_waiter(name, root)
            if waiter is None:
                continue
            unread = self._unread[name]
            self._read(name, unread, waiter)
            if unread:
                heappush(oldest, (unread[0][0], name))

    def _read(self, name: str, unread: deque[tuple[int, EventRaised]], waiter: EventTask) -> None:
        _, event = unread.popleft()
        if not unread:
            del self._unread[name]
        self._settled += 1
        waiter.is_played = self.is_replaying
        waiter.settle(*self._decoded(waiter, event.input), self._settled)

    def _decoded(self, task: AtomicTask, text: str | None) -> tuple[TaskState, Any]:
        try:
            if task.expected is None:
                return TaskState.SUCCEEDED, self._codec.decode(text)
            return TaskState.SUCCEEDED, self._codec.decode_as(text, task.expected)
        except Exception as error:  # no JSON, not what is expected, a class's from_json: the orchestrator may handle it
            return TaskState.FAILED, error

    def _settle(self, task: Task, state: TaskState, result: Any) -> None:
        self._settled += 1
        task.is_played = self.is_replaying
        task.settle(state, result, self._settled)
        waiting_for = self._waiting_for
        if waiting_for is not None and waiting_for.is_completed and not self.is_done:
            self._resume(waiting_for)

    def _peek(self, event: DecisionEvent) -> OrchestratorAction | None:
        """The code's decision of the same number; before it, an `ExecutionStarted` that waits is over."""
        if self._is_held and self._starting is not None and not self._is_suspended:
            self._begin_code()
        return self._actions.get(event.event_id)

    def _confirm(self, event: DecisionEvent) -> None:
        """During replay: the history's next decision must be the code's."""
        action = self._actions.get(event.event_id)
        if action is None or not _is_same(event, action):
            raise self._deviation(event, action)
        del self._actions[event.event_id]

    def _deviation(self, event: DecisionEvent | None, action: OrchestratorAction | None) -> NonDeterminismError:
        frame = _innermost_frame(self._code)
        place = None if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
        return NonDeterminismError(self.instance_id, self._replayed, event, action, place, self.failure)

    # ------------------------------------------------------------------ stepping the code

    def _resume(self, task: Task) -> None:
        if task.state is TaskState.FAILED:
            self._step(None, task.result)
        else:
            self._step(task.result, None)

    def _step(self, value: Any, error: BaseException | None) -> None:
        """Run the code until it waits for something that has not happened yet, or ends."""
        code = self._code
        self._waiting_for = None
        while True:
            try:
                task = code.send(value) if error is None else code.throw(error)
            except StopIteration as stop:
                self._return(stop.value)
                return
            except BaseException as raised:  # user code: SystemExit too fails the instance, not the host
                self._fail(raised)
                return
            if self._continued is not None:
                self.close()
                return
            if not isinstance(task, Task):
                value, error = None, TypeError(_not_a_task(task))
                continue
            if isinstance(task, TimerTask) and task.is_cancelled:
                value, error = None, ValueError("the orchestrator waits for a timer that it has cancelled")
                continue
            try:
                self._schedule(task)
            except TypeError as not_ours:
                value, error = None, not_ours
                continue
            except TooManyActionsError as limit:
                self.close()
                self._fail(limit)
                return
            if not task.is_completed:
                self._waiting_for = task
                return
            if task.state is TaskState.FAILED:
                value, error = None, task.result
            else:
                value, error = task.result, None

    def _schedule(self, root: Task) -> None:
        if not root.is_scheduled:
            self._number(root)
        if self._unread and self._waiters:
            self._offer_unread(root)

    def _number(self, root: Task) -> None:
        """Give an id and an action to every atomic task that is waited for for the first time, in list order."""
        stack = [root]
        while stack:
            task = stack.pop()
            if task.is_scheduled:
                continue
            task.is_scheduled = True
            match task:
                case ActivityCall():
                    self._decide(task)
                case EventTask():
                    if not task.is_cancelled:
                        self._waiters.setdefault(task.name.casefold(), deque()).append(task)
                case TimerTask() if task.is_cancelled:
                    pass
                case AtomicTask():
                    self._decide(task)
                case TaskAll() | TaskAny():
                    stack.extend(reversed(task.children))
                case Routine():
                    decision = task.start()
                    if decision is not None:
                        self._settled += 1
                        task.settle(*decision, self._settled)
                case _:
                    task.is_scheduled = False
                    raise TypeError(f"{type(task).__name__} is not a task that perdure knows")

    def _decide(self, task: AtomicTask) -> None:
        task.id = number = self._take_number()
        self._tasks[number] = task
        self._actions[number] = task.to_action(number)

    def _take_number(self) -> int:
        number = self._next_id
        if number >= self._actions_max:
            raise TooManyActionsError(self._actions_max)
        self._next_id = number + 1
        return number

    # ------------------------------------------------------------------ the end

    def _return(self, value: Any) -> None:
        if self._continued is not None:
            self.is_done = True
            return
        try:
            if isinstance(value, Task):
                raise TypeError("the orchestrator returned a task instead of its result: yield it first")
            result = self._codec.encode(value)
        except Exception as error:  # a result that JSON cannot hold, or a to_json that raises: the instance fails
            self._fail(error)
            return
        self._end(CompleteOrchestration(self._next_id, result))

    def _fail(self, error: BaseException) -> None:
        self._continued = None
        reason = error.reason if isinstance(error, TaskFailedError) else text_of(error) or type(error).__name__
        self._end(CompleteOrchestration(self._next_id, None, FailureDetails.of(error), reason))

    def _end(self, action: CompleteOrchestration) -> None:
        self.is_done = True
        self._actions[self._next_id] = action
        self._next_id += 1

    def _take_actions(self) -> list[OrchestratorAction]:
        actions = list(self._actions.values())
        self._actions.clear()
        if self._continued is not None and self.is_done:
            actions.append(ContinueAsNew(self._next_id, self._continued, self._carried(), self._next_version))
        return actions

    def _carried(self) -> tuple[EventRaised, ...]:
        if not self._saves_events:
            return ()
        unread = sorted((entry for queue in self._unread.values() for entry in queue), key=lambda entry: entry[0])
        withheld = (event for event in self._withheld if isinstance(event, EventRaised))
        return (*(event for _, event in unread), *withheld)


# Events that say whether the code runs, and are never kept from it.
LIFE = (
    OrchestratorStarted, ExecutionStarted, ExecutionSuspended, ExecutionResumed, ExecutionRewound, ExecutionTerminated,
)  # fmt: skip
ANSWERS = (
    TaskCompleted, TaskFailed, SubOrchestrationInstanceCompleted, SubOrchestrationInstanceFailed, TimerFired,
    EntityOperationCompleted, EntityOperationFailed, EntityLockGranted,
)  # fmt: skip
HIDEABLE = (TaskFailed, SubOrchestrationInstanceFailed, EntityOperationFailed, EntityLockGranted)
MAIL = (*ANSWERS, EventRaised)


def _innermost_frame(code: Any) -> FrameType | None:
    """Where a generator or coroutine of the user's is waiting, in whatever it delegates to; None if it has ended."""
    frame: FrameType | None = None
    while code is not None:
        inner = getattr(code, "gi_frame", None) or getattr(code, "cr_frame", None)
        if inner is None or inner.f_globals.get("__name__", "").startswith("perdure."):
            break
        frame = inner
        code = getattr(code, "gi_yieldfrom", None) or getattr(code, "cr_await", None)
    return frame


def _is_same(event: DecisionEvent, action: OrchestratorAction) -> bool:
    match event:
        case TaskScheduled():
            return isinstance(action, ScheduleTask) and _same_name(event.name, action.name)
        case SubOrchestrationInstanceCreated():
            return (
                isinstance(action, CreateSubOrchestration)
                and _same_name(event.name, action.name)
                and action.instance_id in (None, event.instance_id)
            )
        case TimerCreated():
            return isinstance(action, CreateTimer)
        case EventSent():
            return (
                isinstance(action, SendEvent)
                and _same_name(event.name, action.name)
                and action.instance_id == event.instance_id
            )
        case EntityOperationCalled():
            return isinstance(action, CallEntity) and _same_operation(event, action)
        case EntityOperationSignaled():
            return isinstance(action, SignalEntity) and _same_operation(event, action)
        case EntityLockRequested():
            return isinstance(action, LockEntities) and action.entities == event.entities
        case EntityUnlockSent():
            return isinstance(action, UnlockEntities) and action.lock_id == event.lock_id
        case _:
            assert_never(event)


def _same_operation(event: EntityOperationCalled | EntityOperationSignaled, action: CallEntity | SignalEntity) -> bool:
    return event.instance_id == action.instance_id and _same_name(event.operation, action.operation)


def _asks_the_same(event: DecisionEvent, action: OrchestratorAction) -> bool:
    """Whether two decisions of the same kind and name ask for the same."""
    if isinstance(event, TimerCreated):
        return isinstance(action, CreateTimer) and action.fire_at == event.fire_at
    if isinstance(event, EntityLockRequested | EntityUnlockSent):
        return True  # they are all that there is to them
    if not isinstance(action, ScheduleTask | CreateSubOrchestration | SendEvent | CallEntity | SignalEntity):
        return False
    return action.input == event.input


def _same_name(one: str, other: str) -> bool:
    return one == other or one.casefold() == other.casefold()


def _not_a_task(value: object) -> str:
    kind = type(value).__name__
    if isinstance(value, list | tuple):
        return f"the orchestrator yielded a {kind} (DF203): wait for several tasks with  yield context.task_all([...])"
    if value is None:
        return "the orchestrator yielded None, which is not a task (DF203): is a call missing after 'yield'?"
    return (
        f"the orchestrator yielded a value of type {kind}, which is not a task (DF203): "
        "yield what context.call_activity(...) and the like return"
    )
