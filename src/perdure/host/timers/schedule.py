"""When a timer function runs: a cron expression in a time zone, or a period.

Source: CronSchedule and ConstantSchedule of the Functions host, its rules for changes of the clock included.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from msgspec import Struct

from perdure.host.settings.setting import Span
from perdure.host.timers.ncrontab import InvalidCronError, Ncrontab

ZONE_SETTINGS = ("WEBSITE_TIME_ZONE", "TZ")

# A TZ that is no name of a zone, but what the C library understands: `:/etc/localtime`, `CET-1CEST,M3.5.0,M10.5.0/3`.
_RULE_OR_FILE = re.compile(r":?/|[^/]*\d")
_SETTING = re.compile(r"%([^%]+)%\Z")
_SPAN = Span(least=timedelta(seconds=1))
_INTERVAL_SIGNS = frozenset("*-/")

_MINUTE = timedelta(minutes=1)
_NOTHING = timedelta()


class InvalidScheduleError(ValueError):
    """Raised by `parse_schedule`; its text says what is wrong and what to do."""


class CronSchedule(Struct, frozen=True):
    """Runs when the clocks of a time zone show a time that an expression allows.

    When clocks are put back, an expression that means an interval (a `*`, `-` or `/` in seconds, minutes or hours)
    fires in both passes of the repeated hour, and one that means points in time in the first. A time that is skipped
    when clocks are put forward is shifted by as much.

    Attributes:
        is_interval: the expression means an interval.
        is_frequent: it fires more than once a minute, all the time.
    """

    text: str
    cron: Ncrontab
    zone: tzinfo
    is_interval: bool
    is_frequent: bool

    def next_after(self, when: datetime) -> datetime | None:
        """The first time strictly after `when`, in UTC; None if there never is one."""
        local = when.astimezone(self.zone)
        shown = self.cron.next_after(local.replace(tzinfo=None, fold=0))
        while shown is not None:
            later = [each for each in (*self._moments(shown), *self._second_pass(local, shown)) if each > when]
            if later:
                return min(later)
            shown = self.cron.next_after(shown)
        return None

    def _second_pass(self, local: datetime, shown: datetime) -> list[datetime]:
        """If the hour of `local` will be repeated before the clocks show `shown`: when to fire in its second pass."""
        repeated = (local.replace(fold=0).utcoffset() or _NOTHING) - (local.replace(fold=1).utcoffset() or _NOTHING)
        if not self.is_interval or local.fold or repeated <= _NOTHING or len(self._moments(shown)) > 1:
            return []
        again = self.cron.next_after(local.replace(tzinfo=None) - repeated)
        while again is not None and again < shown:
            moments = self._moments(again)
            if len(moments) > 1:
                return moments[1:]
            again = self.cron.next_after(again)
        return []

    def _moments(self, shown: datetime) -> list[datetime]:
        """When to fire for what the clocks show: twice, if it is an interval and they show it twice."""
        # A time that is skipped has two readings too; the first is the shifted one, and the later of them.
        first, second = (shown.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        return [first, second] if self.is_interval and second > first else [first]


class PeriodSchedule(Struct, frozen=True):
    """Runs again so long after it ran."""

    text: str
    period: timedelta

    @property
    def is_frequent(self) -> bool:
        """It fires more than once a minute."""
        return self.period < _MINUTE

    def next_after(self, when: datetime) -> datetime | None:
        """One period after `when`, in UTC."""
        return when.astimezone(UTC) + self.period


Schedule = CronSchedule | PeriodSchedule


def parse_schedule(text: str, resolved: Callable[[str], str], zone: Callable[[], tzinfo]) -> Schedule:
    """The schedule that a timer trigger names.

    Args:
        text: an expression, a period, or the name of a setting in percent signs.
        resolved: a value with its %SETTING%s replaced, as far as they are set.
        zone: the one whose clocks count; asked only if it matters.

    Raises:
        InvalidScheduleError: it is none of these.
    """
    setting = _SETTING.match(text)
    if setting is not None:
        value = resolved(text)
        if value in ("", text):
            raise InvalidScheduleError(f"'{text}' does not resolve to a value. Set {setting[1]} in local.settings.json")
        text = value
    fields = text.split()
    if len(fields) in (5, 6):
        try:
            return _cron_schedule(text, fields, zone())
        except InvalidCronError as error:
            raise _unrecognised(text, str(error)) from error
    try:
        period = _SPAN.read(text.strip() if ":" in text else None)
    except ValueError as error:
        raise _unrecognised(text, _hint(text)) from error
    return PeriodSchedule(text.strip(), period)


def _cron_schedule(text: str, fields: list[str], zone: tzinfo) -> CronSchedule:
    cron = Ncrontab.parse(fields)
    of_clock = fields[:-3]
    return CronSchedule(
        " ".join(fields),
        cron,
        zone,
        is_interval=any(_INTERVAL_SIGNS & set(each) for each in of_clock),
        is_frequent=len(cron.seconds) > 1 and all(each == "*" for each in fields[1:]),
    )


def _unrecognised(text: str, reason: str) -> InvalidScheduleError:
    return InvalidScheduleError(
        f"The schedule expression '{text}' was not recognized as a valid cron expression or timespan string: {reason}"
    )


def _hint(text: str) -> str:
    if text.lstrip().startswith("@"):
        return "names such as @hourly are not part of NCRONTAB; every hour is  0 0 * * * *"
    if ":" in text:
        return "a period is  hh:mm:ss  with at most 23 hours, or  d.hh:mm:ss"
    return f"it has {len(text.split())} fields, and NCRONTAB has six: second minute hour day month day-of-week"


def time_zone(environ: Mapping[str, str]) -> tzinfo:
    """The zone whose clocks count: that of the setting WEBSITE_TIME_ZONE or TZ, or else the machine's.

    Raises:
        InvalidScheduleError: there is no zone of that name.
    """
    setting = next((each for each in ZONE_SETTINGS if environ.get(each)), None)
    if setting is None:
        return MachineZone()
    name = environ[setting].strip()
    try:
        return ZoneInfo(name.removeprefix(":"))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        if setting == "TZ" and _RULE_OR_FILE.match(name):
            _read_tz()
            return MachineZone()
        if not available_timezones():
            reason = "this machine has no time zone data; it comes with  pip install tzdata"
        else:
            reason = "zones have names such as Europe/Berlin or America/New_York"
        raise InvalidScheduleError(f"{setting} is '{name}', which is not a time zone here: {reason}") from error


def _read_tz() -> None:
    """Have the C library read TZ, which local.settings.json may have set after the start."""
    if sys.platform != "win32":
        time.tzset()


class MachineZone(tzinfo):
    """The zone that the machine is set to, its changes of the clock included."""

    def utcoffset(self, dt: datetime | None) -> timedelta | None:
        return None if dt is None else dt.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, dt: datetime | None) -> timedelta | None:
        return None

    def tzname(self, dt: datetime | None) -> str | None:
        return None if dt is None else dt.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, dt: datetime) -> datetime:
        local = datetime.fromtimestamp(dt.replace(tzinfo=UTC).timestamp())
        return local.replace(tzinfo=self)

    def __str__(self) -> str:
        return "this machine's time"
