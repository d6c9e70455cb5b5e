"""One setting: where it stands, what it may be, and what becomes of it here.

Rule 1: values are read as .NET's configuration reads them: texts stand for numbers and truths, names ignore case.
Rule 2: the text of an error says what is expected, never what was found: that may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
S = TypeVar("S", bound=str)

DAY = timedelta(days=1)

# The form of .NET's TimeSpan: [-][d.]hh:mm[:ss[.fffffff]], or a number of days alone.
_SPAN = re.compile(r"(-?)(?:(\d{1,8})\.)?(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,7}))?)?\Z")
_DAYS = re.compile(r"-?\d{1,8}\Z")


class Effect(StrEnum):
    """What perdure does with a setting."""

    HONOURED = "honoured"
    ACCEPTED = "accepted"
    ABSENT = "not available"
    LATER = "later"


class Kind(Protocol[T_co]):
    """Which values there are."""

    @property
    def expected(self) -> str:
        """What a value has to be, as the end of a sentence."""
        ...

    def read(self, value: object) -> T_co:
        """The value that was meant.

        Args:
            value: text, number or truth; for a `Listed` a tuple, for a `Named` a mapping of such.

        Raises:
            ValueError: it is none of this kind.
        """
        ...

    def shown(self, value: object) -> str:
        """A value as it is written in host.json."""
        ...


class Flag(Struct, frozen=True):
    """True or false."""

    expected: str = "true or false"

    def read(self, value: object) -> bool:
        """The truth, which may be text in any case."""
        if isinstance(value, bool):
            return value
        text = value.strip().casefold() if isinstance(value, str) else ""
        if text not in ("true", "false"):
            raise ValueError(self.expected)
        return text == "true"

    def shown(self, value: object) -> str:
        """In small letters."""
        return str(value).lower()


class Whole(Struct, frozen=True):
    """An integer within bounds that belong to it."""

    least: int | None = None
    most: int | None = None

    @property
    def expected(self) -> str:
        """With its bounds."""
        if self.least == 1 and self.most is None:
            return "a positive integer"
        if self.least is not None and self.most is not None:
            return f"an integer from {self.least:,} to {self.most:,}"
        return "an integer" if self.least is None else f"an integer of at least {self.least:,}"

    def read(self, value: object) -> int:
        """The number, which may be text."""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,18}\s*", value, re.ASCII):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(self.expected)
        if (self.least is not None and value < self.least) or (self.most is not None and value > self.most):
            raise ValueError(self.expected)
        return value

    def shown(self, value: object) -> str:
        """In digits."""
        return str(value)


class Fraction(Struct, frozen=True):
    """A number between 0 and 1."""

    expected: str = "a number from 0 to 1"

    def read(self, value: object) -> float:
        """The number, which may be text."""
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError(self.expected)
        number = float(value) if not isinstance(value, str) or re.fullmatch(r"\s*\d*\.?\d+\s*", value) else -1.0
        if not 0 <= number <= 1:
            raise ValueError(self.expected)
        return number

    def shown(self, value: object) -> str:
        """In digits."""
        return str(value)


class Text(Struct, frozen=True):
    """Any text."""

    expected: str = "text"

    def read(self, value: object) -> str:
        """The text; what is none becomes one, as in .NET."""
        if isinstance(value, dict | list | tuple):
            raise ValueError(self.expected)
        return value if isinstance(value, str) else str(value)

    def shown(self, value: object) -> str:
        """As it is."""
        return str(value)


class SettingName(Struct, frozen=True):
    """The name of an app setting that has the value."""

    expected: str = "the name of an app setting, not its value"

    def read(self, value: object) -> str:
        """The name; what looks like a connection string is not repeated anywhere."""
        if not isinstance(value, str) or "=" in value or ";" in value:
            raise ValueError(self.expected)
        return value

    def shown(self, value: object) -> str:
        """As it is."""
        return str(value)


class Choice(Struct, Generic[S], frozen=True):
    """One of some words, in any case."""

    words: tuple[S, ...]

    @property
    def expected(self) -> str:
        """All of the words."""
        return f"one of {', '.join(self.words)}"

    def read(self, value: object) -> S:
        """The word as it is written officially."""
        text = value.strip().casefold() if isinstance(value, str) else ""
        for word in self.words:
            if word.casefold() == text:
                return word
        raise ValueError(self.expected)

    def shown(self, value: object) -> str:
        """As it is."""
        return str(value)


class Span(Struct, frozen=True):
    """A length of time."""

    least: timedelta | None = timedelta()
    most: timedelta | None = None

    @property
    def expected(self) -> str:
        """The form, with the bounds."""
        form = "a time such as 00:05:00 (hh:mm:ss, with days d.hh:mm:ss)"
        if self.most is not None:
            return f"{form} from {span_text(self.least or timedelta())} to {span_text(self.most)}"
        return f"{form} of at least {span_text(self.least)}" if self.least else form

    def read(self, value: object) -> timedelta:
        """The time."""
        span = _span(value)
        if span is None or (self.least is not None and span < self.least):
            raise ValueError(self.expected)
        if self.most is not None and span > self.most:
            raise ValueError(self.expected)
        return span

    def shown(self, value: object) -> str:
        """As .NET writes it."""
        return span_text(value) if isinstance(value, timedelta) else str(value)


class TimeLimit(Struct, frozen=True):
    """A length of time of at least a second, or none at all."""

    expected: str = "a time such as 00:05:00 (hh:mm:ss) of at least 00:00:01, or -1 for no limit"

    def read(self, value: object) -> timedelta | None:
        """The limit; None for none."""
        if str(value).strip() == "-1":
            return None
        span = _span(value)
        if span is None or span < timedelta(seconds=1):
            raise ValueError(self.expected)
        return span

    def shown(self, value: object) -> str:
        """As .NET writes it."""
        return span_text(value) if isinstance(value, timedelta) else "-1"


class Listed(Struct, Generic[T], frozen=True):
    """A list."""

    item: Kind[T]

    @property
    def expected(self) -> str:
        """With what the items have to be."""
        return f"a list, each item {self.item.expected}"

    def read(self, value: object) -> tuple[T, ...]:
        """The items."""
        if not isinstance(value, tuple):
            raise ValueError(self.expected)
        return tuple(self.item.read(each) for each in value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - checked by read

    def shown(self, value: object) -> str:
        """As JSON writes it."""
        return f"[{', '.join(self.item.shown(each) for each in value)}]" if isinstance(value, tuple) else str(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - checked by read


class Named(Struct, Generic[T], frozen=True):
    """An object whose members' names are free."""

    item: Kind[T]

    @property
    def expected(self) -> str:
        """With what the members have to be."""
        return f"an object, each value {self.item.expected}"

    def read(self, value: object) -> Mapping[str, T]:
        """The members."""
        if not isinstance(value, Mapping):
            raise ValueError(self.expected)
        return {name: self.item.read(each) for name, each in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - checked by read

    def shown(self, value: object) -> str:
        """Empty, which is what defaults are."""
        return "{}" if not value else str(value)


class Section(Struct, frozen=True):
    """An object that is not looked into."""

    expected: str = "an object"

    def read(self, value: object) -> None:
        """Nothing of it is used."""

    def shown(self, value: object) -> str:
        """Nothing."""
        return ""


class Setting(Struct, Generic[T], frozen=True):
    """A setting of host.json.

    Attributes:
        path: its members from the outside in, joined by dots.
        kind: which values there are.
        default: what counts if it is not written.
        meaning: what it says, on Azure.
        effect: whether that is so here.
        note: how, or why not; and where the default is another one than on Azure, which.
        unset: what counts if it is not written and there is no single default.
        providers: the storage providers that it belongs to; empty if it does not depend on one.
    """

    path: str
    kind: Kind[T]
    default: T
    meaning: str
    effect: Effect
    note: str = ""
    unset: str = ""
    providers: tuple[str, ...] = ()

    @property
    def folded(self) -> tuple[str, ...]:
        """The path as it is compared."""
        return tuple(self.path.casefold().split("."))

    @property
    def shown_default(self) -> str:
        """What counts if it is not written."""
        return self.unset or ("" if self.default is None else self.kind.shown(self.default))


def is_bare_number(value: object) -> bool:
    """Whether a time is written as a number alone, which .NET takes for days."""
    return not isinstance(value, bool) and _DAYS.match(str(value)) is not None and int(str(value)) > 0


def span_text(span: timedelta) -> str:
    """A time as .NET writes it."""
    days, rest = divmod(abs(span), DAY)
    seconds, micros = divmod(rest, timedelta(seconds=1))
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    fraction = f".{micros // timedelta(microseconds=1):06}" if micros else ""
    return f"{'-' if span < timedelta() else ''}{f'{days}.' if days else ''}{text}{fraction}"


def _span(value: object) -> timedelta | None:
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if _DAYS.match(text):
        return int(text) * DAY if abs(int(text)) < 10_000_000 else None
    parts = _SPAN.match(text)
    if parts is None:
        return None
    sign, days, hours, minutes, seconds, fraction = parts.groups(default="0")
    if int(hours) > 23 or int(minutes) > 59 or int(seconds) > 59 or int(days) >= 10_000_000:
        return None
    span = timedelta(
        days=int(days), hours=int(hours), minutes=int(minutes), seconds=int(seconds),
        microseconds=int(fraction.ljust(6, "0")[:6]) if parts[6] else 0,
    )  # fmt: skip
    return -span if sign == "-" else span
