"""The callable that a decorated entity becomes: a function, or a class with a method for each operation."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any, ClassVar, get_type_hints

from azure.durable_functions.builders import handler
from azure.durable_functions.entity_context import DurableEntityContext
from azure.durable_functions.options import EntityId
from azure.durable_functions.protocol.app_classes import allow_app_classes
from azure.durable_functions.protocol.batch import BatchOperation, Timed, batch_answer, operations_of
from azure.durable_functions.protocol.request import sent_text

from perdure.core.entities import BatchResult, OperationResult
from perdure.core.events import EntityOperation

EntityFunction = Callable[[DurableEntityContext], Any]


class InternalEntityException(Exception):
    """Raised by the official SDK if the host sends it an operation without a name."""


class DurableEntity:
    """A class whose methods are the operations of an entity; `self.state` is its state.

    The annotation of `state` says which type it is to become, its value in the class what it is at first. A method may
    take the operation's input, and be `async`. `delete` is there without being written. Methods whose names begin with
    an underscore are no operations.
    """

    state: Any = None

    context: DurableEntityContext
    """The entity's id, and what else an operation may do: signal entities, start orchestrations."""

    @property
    def entity_id(self) -> EntityId:
        """Name and key of this entity."""
        return self.context.entity_id

    def delete(self) -> None:
        """Remove the entity."""
        self.context.destruct_on_exit()


class Entity:
    """Runs the operations of an entity, one after the other.

    Args:
        fn: a function that takes the context, or the context and the operation's input; or a class derived from
            `DurableEntity`.
    """

    def __init__(self, fn: EntityFunction | type[DurableEntity]) -> None:
        self.fn = fn
        self._call: EntityFunction = _ClassEntity(fn) if isinstance(fn, type) else _with_input(fn)

    @property
    def is_async(self) -> bool:
        """Whether its code has to be awaited."""
        methods = vars(self.fn).values() if isinstance(self.fn, type) else (self.fn, getattr(self.fn, "__call__", None))  # noqa: B004
        return any(inspect.iscoroutinefunction(each) for each in methods)

    async def run(
        self, instance_id: str, now: datetime, state: str | None, operations: Sequence[EntityOperation]
    ) -> BatchResult:
        """What the operations come to; one that raises leaves everything as it was before it.

        Without async code in it, this never waits.

        Args:
            instance_id: the entity's.
            now: the time of them all.
            state: its state as JSON text, or None.
            operations: in their order.
        """
        name, key = instance_id[1:].split("@", 1)
        context = DurableEntityContext(name, key, state is not None, state)
        results = [await self._run(context, each.operation, each.input, now) for each in operations]
        return BatchResult(results, context.state_text)

    async def _run(
        self, context: DurableEntityContext, operation: str, input: str | None, now: datetime
    ) -> OperationResult:
        context.begin_operation(operation, input, now)
        try:
            value = self._call(context)
            if inspect.isawaitable(value):
                value = await value
        except BaseException as error:  # user code: SystemExit too fails the operation, not the host
            if _is_stopped(error):
                raise
            return context.operation_raised(error)
        return context.operation_returned(value)

    def handle(self, context: Any, batch: Sequence[dict[str, Any]] | None = None) -> Any:
        """Run a batch for the official host, and return the answer, which is JSON text.

        A context of perdure's, without a batch, is one operation that has begun: its function is called, and what
        that returns is returned.

        Args:
            context: what the host sends, JSON text or an object with such a `body`; or the context made from it.
            batch: the operations that came with that context.

        Raises:
            InternalEntityException: an operation has no name.
            TypeError: a member is missing in the JSON, or `context` is something else.
            ValueError: it is no JSON.
        """
        if isinstance(context, DurableEntityContext):
            return self._call(context) if batch is None else self._answered(context, batch)
        return self._answered(*DurableEntityContext.from_json(sent_text(context)))

    def _answered(self, context: DurableEntityContext, batch: Sequence[dict[str, Any]]) -> str:
        allow_app_classes(self.fn)
        operations = operations_of(batch)
        if self.is_async:
            with ThreadPoolExecutor(1) as thread:  # this one may have a loop that is running
                return thread.submit(asyncio.run, self._answer(context, operations)).result()
        running = self._answer(context, operations)
        try:
            running.send(None)
        except StopIteration as done:
            return done.value
        running.close()
        raise TypeError("this entity is a function that gives something to await: write it as  async def")

    async def _answer(self, context: DurableEntityContext, operations: Sequence[BatchOperation]) -> str:
        results: list[Timed] = []
        for each in operations:
            if each.name is None:
                raise InternalEntityException(
                    "Durable Functions Internal Error:Entity operation was missing a name field"
                )
            now, began = datetime.now(UTC), time.perf_counter()
            result = await self._run(context, each.name, each.input, now)
            took_ms = int((time.perf_counter() - began) * 1000)
            results.append(Timed(result, int(now.timestamp() * 1000), took_ms))
        return batch_answer(results, context.state_text)

    @classmethod
    def create(cls, fn: EntityFunction | type[DurableEntity], parameter: str = "context") -> Callable[[Any], Any]:
        """The function as the host calls it, with an entity as its only argument.

        The result has the user's function or class as attribute `entity_function`.

        Args:
            fn: the user's function, or class.
            parameter: the name of the argument.
        """
        entity = cls(fn)
        handle = handler(entity.handle, fn, parameter, inspect.Parameter.empty)
        vars(handle).update(entity_function=fn, entity=entity)
        return handle


def _is_stopped(error: BaseException) -> bool:
    """The host gives the batch up, which then has not happened; user code that cancels itself has failed."""
    if not isinstance(error, asyncio.CancelledError):
        return False
    try:
        task = asyncio.current_task()
    except RuntimeError:  # sync code has no loop
        return False
    return task is not None and task.cancelling() > 0


def _with_input(function: Callable[..., Any]) -> EntityFunction:
    """The function as one of the context alone; one with a second parameter gets the operation's input there."""
    try:
        parameters = [*inspect.signature(function).parameters.values()]
    except (TypeError, ValueError):
        return function
    required = [each for each in parameters if each.default is each.empty and each.kind in _POSITIONAL]
    if len(required) != 2:
        return function
    annotation = None if required[1].annotation is inspect.Parameter.empty else _annotation_of(function, required[1])

    def call(context: DurableEntityContext) -> Any:
        return function(context, context.get_input(annotation))

    return call


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _annotation_of(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    try:
        hint = get_type_hints(function).get(parameter.name)
    except Exception:  # user code: an annotation may be any expression; one that cannot be evaluated says nothing
        return None
    return None if hint is Any else hint


class _ClassEntity:
    """Calls the method of a class that an operation names."""

    _own: ClassVar[frozenset[str]] = frozenset(dir(DurableEntity)) - {"delete"}

    def __init__(self, kind: type[DurableEntity]) -> None:
        if not issubclass(kind, DurableEntity):  # pyright: ignore[reportUnnecessaryIsInstance] - users
            raise TypeError(f"class {kind.__name__} must derive from df.DurableEntity to be an entity")
        self._kind = kind
        self._state_type = get_type_hints(kind).get("state")

    def __call__(self, context: DurableEntityContext) -> Any:
        method, takes_input = self._method(context.operation_name)
        entity = self._kind()
        entity.context = context
        expected = None if self._state_type in (Any, None) else self._state_type
        entity.state = context.get_state(lambda: deepcopy(self._kind.state), expected)
        before = deepcopy(entity.state)
        arguments = (context.get_input(_annotation_of_input(method)),) if takes_input else ()
        try:
            value = method(entity, *arguments)
        except BaseException:
            self._keep(entity, context, before)  # in case operations that raise are not rolled back
            raise
        if inspect.isawaitable(value):
            return self._awaited(entity, context, before, value)
        self._keep(entity, context, before)
        return value

    async def _awaited(self, entity: DurableEntity, context: DurableEntityContext, before: Any, value: Any) -> Any:
        try:
            return await value
        finally:
            self._keep(entity, context, before)

    def _keep(self, entity: DurableEntity, context: DurableEntityContext, before: Any) -> None:
        """Keep the state if the operation has changed it, and not removed the entity."""
        if entity.state != before:
            context.set_state(entity.state)

    def _method(self, operation: str) -> tuple[Callable[..., Any], bool]:
        method = None if operation.startswith("_") or operation in self._own else self._find(operation)
        if not inspect.isfunction(method):
            raise AttributeError(f"entity '{self._kind.__name__}' has no operation '{operation}'")
        return method, len(inspect.signature(method).parameters) > 1

    def _find(self, operation: str) -> Any:
        found = getattr(self._kind, operation, None)
        if found is None:
            folded = {each.casefold(): each for each in dir(self._kind) if not each.startswith("_")}
            name = folded.get(operation.casefold())
            found = None if name is None or name in self._own else getattr(self._kind, name)
        return found


def _annotation_of_input(method: Callable[..., Any]) -> Any:
    hints = [each for name, each in get_type_hints(method).items() if name != "return"]
    return hints[0] if hints else None
