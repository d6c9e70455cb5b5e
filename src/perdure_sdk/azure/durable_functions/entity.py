"""The callable that a decorated entity becomes. Entities are registered, but this version does not run them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from azure.durable_functions.later import not_yet

EntityFunction = Callable[[Any], Any]


class InternalEntityException(Exception):
    """Raised by the official SDK if the host sends it an operation without a name."""


class DurableEntityContext:
    """What entity code may call.

    Raises:
        NotImplementedError: always; the class is here for annotations.
    """

    def __init__(self, name: str, key: str, exists: bool, state: Any) -> None:
        raise not_yet("entities")


class Entity:
    """Runs an entity function, `fn`."""

    def __init__(self, fn: EntityFunction) -> None:
        self.fn = fn

    def handle(self, context: object, batch: object = None) -> str:
        """Run operations.

        Raises:
            NotImplementedError: always.
        """
        raise not_yet("entities")

    @classmethod
    def create(cls, fn: EntityFunction) -> Callable[[Any], str]:
        """The function as the host calls it; the user's function, `fn`, is its attribute `entity_function`."""
        entity = cls(fn)

        def handle(context: Any) -> str:
            return entity.handle(context)

        handle.__name__ = getattr(fn, "__name__", type(fn).__name__)
        handle.__doc__ = getattr(fn, "__doc__", None)
        handle.__module__ = getattr(fn, "__module__", handle.__module__)
        vars(handle).update(entity_function=fn)
        return handle
