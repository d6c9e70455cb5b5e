"""NCRONTAB expressions: which times of the calendar and the clock they mean, whatever the time zone.

Source: CrontabFieldImpl and CrontabSchedule of NCrontab, which the Functions host uses; not like cron are: a day has to
fit day of month and day of week both, a range may be written backwards, 7 is no day of the week, and names may be cut
short.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta

from msgspec import Struct

# The rarest day that there is, a 29th of February on a given day of the week, comes back after 40 years at most.
YEARS_MAX = 40

_SECOND = timedelta(seconds=1)


class _Field(Struct, frozen=True):
    """One of the fields: the lowest and the highest value, and what they may be called."""

    title: str
    lowest: int
    highest: int
    names: tuple[str, ...] = ()


_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")

_FIELDS = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 6, _DAYS),
)


class InvalidCronError(ValueError):
    """Raised by `Ncrontab.parse`; its text says which part of the expression is wrong."""


class Ncrontab(Struct, frozen=True):
    """The values that each field of an expression allows, in order. Days of the week count from Sunday = 0."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]

    @classmethod
    def parse(cls, fields: Sequence[str]) -> Ncrontab:
        """The meaning of an expression that has been split into its five or six fields; five have no seconds.

        Raises:
            InvalidCronError: a field breaks a rule.
        """
        texts = ["0", *fields] if len(fields) == 5 else fields
        return cls(*(tuple(sorted(_values(text, field))) for text, field in zip(texts, _FIELDS, strict=True)))

    def next_after(self, local: datetime) -> datetime | None:
        """The first time strictly after a time, both without a zone; None if there never is one."""
        first = local.replace(microsecond=0) + _SECOND
        clock = self._first_time(first.time())
        if clock is not None and self._has(first.date()):
            return datetime.combine(first.date(), clock)
        day = next(self._days_after(first.date()), None)
        return None if day is None else datetime.combine(day, time(self.hours[0], self.minutes[0], self.seconds[0]))

    def _first_time(self, earliest: time) -> time | None:
        """The first time of a day that is not before `earliest`."""
        for hour in [each for each in self.hours if each >= earliest.hour][:2]:  # the rest of an hour, or the next
            for minute in [each for each in self.minutes if (hour, each) >= (earliest.hour, earliest.minute)][:2]:
                for second in self.seconds:
                    if time(hour, minute, second) >= earliest:
                        return time(hour, minute, second)
        return None

    def _has(self, day: date) -> bool:
        return day.month in self.months and day.day in self.days and day.isoweekday() % 7 in self.weekdays

    def _days_after(self, day: date) -> Iterator[date]:
        for year in range(day.year, min(day.year + YEARS_MAX, date.max.year) + 1):
            for month in self.months:
                if (year, month) < (day.year, day.month):
                    continue
                last = monthrange(year, month)[1]
                for found in (date(year, month, number) for number in self.days if number <= last):
                    if found > day and self._has(found):
                        yield found


def _values(text: str, field: _Field) -> set[int]:
    values: set[int] = set()
    for item in text.split(","):
        span, slash, step = item.partition("/")
        if span == "*":
            first, last = field.lowest, field.highest
        else:
            start, dash, end = span.partition("-")
            first = _value(start, field, text)
            last = _value(end, field, text) if dash else field.highest if slash else first
        if slash and not (step.isascii() and step.isdigit()):
            raise InvalidCronError(f"'{text}' as {field.title}: after / there has to be a number")
        values.update(range(min(first, last), max(first, last) + 1, max(int(step or 1), 1)))
    return values


def _value(text: str, field: _Field, whole: str) -> int:
    if text.isascii() and text.isdigit():
        value = int(text)
        if field.lowest <= value <= field.highest:
            return value
        reason = f"{value} is not between {field.lowest} and {field.highest}"
    elif text and field.names:
        for number, name in enumerate(field.names, field.lowest):
            if name.casefold().startswith(text.casefold()):
                return number
        reason = f"'{text}' is not the beginning of a name such as {field.names[0]}"
    else:
        reason = f"'{text}' is not a number" if text else "a value is missing"
    raise InvalidCronError(f"'{whole}' as {field.title}: {reason}")
