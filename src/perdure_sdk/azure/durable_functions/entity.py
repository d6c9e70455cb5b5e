"""The callable that a decorated entity becomes: a function, or a class with a method for each operation."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from copy import deepcopy
from datetime import datetime
from typing import Any, ClassVar, get_type_hints

from azure.durable_functions.entity_context import DurableEntityContext
from azure.durable_functions.options import EntityId

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
        fn: a function that takes the context, or a class derived from `DurableEntity`.
    """

    def __init__(self, fn: EntityFunction | type[DurableEntity]) -> None:
        self.fn = fn
        self._call: EntityFunction = _ClassEntity(fn) if isinstance(fn, type) else fn

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
        results: list[OperationResult] = []
        for operation in operations:
            context.begin_operation(operation.operation, operation.input, now)
            try:
                value = self._call(context)
                if inspect.isawaitable(value):
                    value = await value
            except BaseException as error:  # user code: SystemExit too fails the operation, not the host
                if _is_stopped(error):
                    raise
                results.append(context.operation_raised(error))
            else:
                results.append(context.operation_returned(value))
        return BatchResult(results, context.state_text)

    @classmethod
    def create(cls, fn: EntityFunction | type[DurableEntity]) -> Callable[[Any], Any]:
        """The function as the host knows it; the user's function or class, `fn`, is its attribute `entity_function`."""
        entity = cls(fn)

        def handle(context: Any) -> Any:
            return entity._call(context)

        handle.__name__ = getattr(fn, "__name__", type(fn).__name__)
        handle.__doc__ = getattr(fn, "__doc__", None)
        handle.__module__ = getattr(fn, "__module__", handle.__module__)
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
        value = method(entity, *arguments)
        if inspect.isawaitable(value):
            return self._awaited(entity, context, before, value)
        self._keep(entity, context, before)
        return value

    async def _awaited(self, entity: DurableEntity, context: DurableEntityContext, before: Any, value: Any) -> Any:
        result = await value
        self._keep(entity, context, before)
        return result

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
