"""Values of an app's types to what JSON holds, and back.

Rule 1: no module is imported for the sake of a type: pydantic models are known by what they can do.
Rule 2: a type that was asked for is given or refused; one that only an annotation names is given if it fits.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from typing import Any, get_args, get_origin
from uuid import UUID

from msgspec import Struct, ValidationError, convert, to_builtins

# A datetime is a date.
_SCALARS = (Enum, datetime.date, datetime.time, datetime.timedelta, UUID, Decimal)
_ENVELOPE = frozenset({"__class__", "__module__", "__data__"})


class ExpectedType(Struct, frozen=True, gc=False):
    """What a payload is to become.

    Attributes:
        kind: a class, or a form such as `list[Order]` or `Order | None`.
        classes: those in it that envelopes may name.
        function: whose annotation named it; None if it was asked for.
    """

    kind: Any
    classes: tuple[type, ...]
    function: str | None = None


def asked_type(kind: Any) -> ExpectedType | None:
    """The type that code asked for by its argument; None for None."""
    return None if kind is None else ExpectedType(kind, _envelope_classes(kind))


def annotated_type(annotation: Any, function: str) -> ExpectedType | None:
    """The type that an annotation of `function` names, or None if JSON values are such as they are.

    Classes with `from_json` travel in envelopes, which need no annotation.
    """
    if not any(_is_converted(each) for each in classes_in(annotation)):
        return None
    return ExpectedType(annotation, _envelope_classes(annotation), function)


def opened(value: object) -> Any:
    """What JSON holds in place of an object of a known kind; its parts may again be objects.

    Raises:
        TypeError: it is of no such kind; the text is that of the official SDK.
    """
    match value:
        case Enum():
            return value.value
        case datetime.datetime() | datetime.time():
            return value.isoformat().replace("+00:00", "Z")
        case datetime.date():
            return value.isoformat()
        case datetime.timedelta():
            return to_builtins(datetime.timedelta(value.days, value.seconds, value.microseconds))
        case UUID() | Decimal():
            return str(value)
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {each.name: getattr(value, each.name) for each in fields(value)}
        case _ if _is_model(type(value)):
            model: Any = value
            return model.model_dump(mode="json")
        case _:
            raise TypeError(f"class {type(value)} does not expose a `to_json` function")


def converted(value: Any, expected: ExpectedType) -> Any:
    """A decoded JSON value as what is expected.

    Raises:
        TypeError: it does not fit; the text names the place, what is expected there and what was found.
    """
    hook = _annotated if expected.function is not None else _asked
    try:
        return convert(value, expected.kind, str_keys=True, dec_hook=hook)
    except ValidationError as error:
        raise TypeError(f"the value is no {shown_type(expected.kind)}: {_with_place(str(error))}") from error
    except TypeError as error:  # a form that msgspec does not know
        raise TypeError(f"values cannot be turned into {shown_type(expected.kind)}: {error}") from error


def shown_type(kind: Any) -> str:
    """The type as users write it."""
    return kind.__qualname__ if isinstance(kind, type) and not get_args(kind) else str(kind)


def classes_in(kind: Any) -> Iterator[type]:
    """The classes that a form such as `dict[str, Order] | None` is made of, its own first."""
    origin = get_origin(kind)
    if isinstance(origin or kind, type):
        yield origin or kind
    for each in get_args(kind):
        yield from classes_in(each)


def _asked(kind: Any, value: Any) -> Any:
    """`value` as a class that msgspec leaves to us; called for each place that has one."""
    made = _made(kind, value)
    if made is None and hasattr(kind, "from_json") and not (isinstance(value, dict) and value.keys() >= _ENVELOPE):
        return kind.from_json(value)
    return _or_misfit(kind, value, made)


def _annotated(kind: Any, value: Any) -> Any:
    return _or_misfit(kind, value, _made(kind, value))


def _made(kind: Any, value: Any) -> Any:
    if isinstance(value, get_origin(kind) or kind):
        return value
    return kind.model_validate(value) if _is_model(kind) else None


def _or_misfit(kind: Any, value: Any, made: Any) -> Any:
    if made is None:
        raise TypeError(f"Expected `{shown_type(kind)}`, got `{type(value).__name__}`")
    return made


def _with_place(message: str) -> str:
    return message if " - at `$" in message else f"{message} - at `$`"


def _is_converted(kind: Any) -> bool:
    return not hasattr(kind, "from_json") and (issubclass(kind, _SCALARS) or is_dataclass(kind) or _is_model(kind))


def _is_model(kind: Any) -> bool:
    return callable(getattr(kind, "model_dump", None)) and callable(getattr(kind, "model_validate", None))


def _envelope_classes(kind: Any) -> tuple[type, ...]:
    return tuple(each for each in classes_in(kind) if hasattr(each, "from_json"))
