"""When a timer function runs: expressions in a time zone, periods, settings, and changes of the clock."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest

from perdure.host.app.functions import resolved_by
from perdure.host.timers.schedule import (
    CronSchedule,
    InvalidScheduleError,
    MachineZone,
    PeriodSchedule,
    Schedule,
    parse_schedule,
    time_zone,
)
from perdure.host.timers.trigger import schedule_row

BERLIN = ZoneInfo("Europe/Berlin")


def schedule(text: str, zone: tzinfo = UTC, **environ: str) -> Schedule:
    return parse_schedule(text, resolved_by(environ), lambda: zone)


def runs(text: str, after: str, count: int, zone: tzinfo = BERLIN) -> list[str]:
    """The next runs, as the clocks of the zone show them."""
    when, found = datetime.fromisoformat(after), []
    for _ in range(count):
        following = schedule(text, zone).next_after(when)
        assert following is not None
        assert following > when
        when = following
        found.append(when.astimezone(zone).strftime("%d %H:%M:%S %z"))
    return found


class TestText:
    @pytest.mark.parametrize("text", ["0 */5 * * * *", "*/5 * * * *", "  0  */5 * *\t* * "])
    def test_six_fields_or_five_are_an_expression(self, text: str):
        assert isinstance(schedule(text), CronSchedule)

    @pytest.mark.parametrize(
        ("text", "period"),
        [
            ("00:05:00", timedelta(minutes=5)),
            ("1.02:03:04", timedelta(days=1, hours=2, minutes=3, seconds=4)),
            ("00:00:30", timedelta(seconds=30)),
        ],
    )
    def test_a_time_span_is_a_period(self, text: str, period: timedelta):
        found = schedule(text)

        assert isinstance(found, PeriodSchedule)
        assert found.next_after(datetime(2031, 1, 1, tzinfo=UTC)) == datetime(2031, 1, 1, tzinfo=UTC) + period

    def test_a_setting_in_percent_signs_stands_for_its_value(self):
        assert schedule("%EVERY%", EVERY="0 0 9 * * *") == schedule("0 0 9 * * *")

    @pytest.mark.parametrize("text", ["%EVERY%", "%every%"])
    def test_a_setting_that_is_not_there_is_named(self, text: str):
        with pytest.raises(InvalidScheduleError, match=f"'{text}' does not resolve to a value"):
            schedule(text, EMPTY="")

    @pytest.mark.parametrize(
        ("text", "hint"),
        [
            ("@hourly", "every hour is  0 0 "),
            ("24:00:00", "d.hh:mm:ss"),
            ("00:00:00", "d.hh:mm:ss"),
            ("0 0 * *", "it has 4 fields"),
            ("often", "it has 1 fields"),
            ("", "it has 0 fields"),
            ("15", "it has 1 fields"),
            ("0 0 25 * * *", "25 is not between 0 and 23"),
            ("0 %M% * * * *", "'%M%' is not a number"),
        ],
    )
    def test_anything_else_is_refused_with_the_official_sentence_and_a_hint(self, text: str, hint: str):
        with pytest.raises(InvalidScheduleError) as caught:
            schedule(text, M="5")

        assert f"'{text}' was not recognized as a valid cron expression or timespan string" in str(caught.value)
        assert hint in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "is_frequent"),
        [
            ("*/10 * * * * *", True),
            ("0 * * * * *", False),
            ("*/10 * 9 * * *", False),
            ("* * * * *", False),
            ("00:00:59", True),
            ("00:01:00", False),
        ],
    )
    def test_what_fires_more_than_once_a_minute_is_known(self, text: str, is_frequent: bool):
        assert schedule(text).is_frequent is is_frequent


class TestZone:
    def test_an_expression_goes_by_the_clocks_of_its_zone(self):
        assert runs("0 30 9 * * *", "2031-07-01T00:00+00:00", 1) == ["01 09:30:00 +0200"]
        assert runs("0 30 9 * * *", "2031-01-01T00:00+00:00", 1) == ["01 09:30:00 +0100"]

    def test_the_settings_name_it(self):
        assert time_zone({"WEBSITE_TIME_ZONE": "Europe/Berlin", "TZ": "Asia/Tokyo"}) == BERLIN
        assert time_zone({"TZ": ":Asia/Tokyo"}) == ZoneInfo("Asia/Tokyo")
        assert isinstance(time_zone({"WEBSITE_TIME_ZONE": ""}), MachineZone)

    @pytest.mark.parametrize("value", [":/etc/localtime", "/etc/localtime", "CET-1CEST,M3.5.0,M10.5.0/3"])
    def test_what_only_the_c_library_understands_is_left_to_it(self, value: str):
        assert isinstance(time_zone({"TZ": value}), MachineZone)

    @pytest.mark.parametrize("name", ["W. Europe Standard Time", "Europe/Atlantis", "../etc/passwd", "/etc/localtime"])
    def test_a_zone_that_is_not_there_is_named(self, name: str):
        with pytest.raises(InvalidScheduleError, match=r"WEBSITE_TIME_ZONE is '.*', which is not a time zone here"):
            time_zone({"WEBSITE_TIME_ZONE": name})

    @pytest.mark.skipif(sys.platform == "win32", reason="TZ sets the machine's zone on POSIX only")
    def test_the_machines_zone_changes_its_clocks_too(self):
        code = (
            "from datetime import datetime\n"
            "from perdure.host.timers.schedule import MachineZone, parse_schedule\n"
            "tries = ('0 30 2 * * *', '2026-10-24T12:00+00:00'), ('0 0 * * * *', '2026-10-25T00:00+00:00')\n"
            "for text, after in tries:\n"
            "    schedule, when = parse_schedule(text, str, MachineZone), datetime.fromisoformat(after)\n"
            "    for _ in range(2):\n"
            "        when = schedule.next_after(when)\n"
            "        print(when.isoformat())\n"
        )
        command = [sys.executable, "-c", code]
        # A rule that needs no data on the machine: Central European time.
        environ = {**os.environ, "TZ": "CET-1CEST,M3.5.0,M10.5.0/3"}
        done = subprocess.run(command, capture_output=True, text=True, env=environ, check=True, timeout=20)

        assert done.stdout.split() == [
            "2026-10-25T00:30:00+00:00",
            "2026-10-26T01:30:00+00:00",
            "2026-10-25T01:00:00+00:00",
            "2026-10-25T02:00:00+00:00",
        ]


class TestClocksPutBack:
    """On 2026-10-25 in Berlin, 03:00 becomes 02:00: the hour from two to three comes twice."""

    def test_an_interval_fires_in_both_passes(self):
        assert runs("0 */20 * * * *", "2026-10-25T01:50+02:00", 7) == [
            "25 02:00:00 +0200",
            "25 02:20:00 +0200",
            "25 02:40:00 +0200",
            "25 02:00:00 +0100",
            "25 02:20:00 +0100",
            "25 02:40:00 +0100",
            "25 03:00:00 +0100",
        ]

    def test_an_interval_of_hours_does_too(self):
        assert runs("0 30 1-4 * * *", "2026-10-25T00:00+02:00", 5) == [
            "25 01:30:00 +0200",
            "25 02:30:00 +0200",
            "25 02:30:00 +0100",
            "25 03:30:00 +0100",
            "25 04:30:00 +0100",
        ]

    def test_a_point_in_time_fires_in_the_first_pass_only(self):
        assert runs("0 30 2 * * *", "2026-10-25T00:00+02:00", 2) == ["25 02:30:00 +0200", "26 02:30:00 +0100"]
        assert runs("0 0,45 1,2,3 * * *", "2026-10-25T01:50+02:00", 4) == [
            "25 02:00:00 +0200",
            "25 02:45:00 +0200",
            "25 03:00:00 +0100",
            "25 03:45:00 +0100",
        ]

    def test_a_point_in_time_does_not_fire_if_the_host_starts_in_the_second_pass(self):
        assert runs("0 30 2 * * *", "2026-10-25T02:10+01:00", 1) == ["26 02:30:00 +0100"]

    def test_days_of_the_week_do_not_make_an_interval(self):
        assert runs("0 30 2 * * mon-sun", "2026-10-25T00:00+02:00", 2) == ["25 02:30:00 +0200", "26 02:30:00 +0100"]

    def test_of_five_fields_the_first_two_count(self):
        assert runs("30 2 * * *", "2026-10-25T00:00+02:00", 2) == ["25 02:30:00 +0200", "26 02:30:00 +0100"]
        assert runs("*/30 2 * * *", "2026-10-25T00:00+02:00", 4)[2:] == ["25 02:00:00 +0100", "25 02:30:00 +0100"]

    def test_every_second_is_a_second_of_its_own(self):
        assert runs("* * * * * *", "2026-10-25T02:59:58+02:00", 3) == [
            "25 02:59:59 +0200",
            "25 02:00:00 +0100",
            "25 02:00:01 +0100",
        ]


class TestClocksPutForward:
    """On 2026-03-29 in Berlin, 02:00 becomes 03:00: there is no time from two to three."""

    def test_a_time_that_is_skipped_is_shifted(self):
        assert runs("0 30 2 * * *", "2026-03-29T00:00+01:00", 2) == ["29 03:30:00 +0200", "30 02:30:00 +0200"]

    def test_an_interval_goes_on_without_the_hour(self):
        assert runs("0 */30 * * * *", "2026-03-29T01:20+01:00", 3) == [
            "29 01:30:00 +0100",
            "29 03:00:00 +0200",
            "29 03:30:00 +0200",
        ]

    def test_a_shifted_time_fires_once_if_it_is_another_time_of_the_schedule_too(self):
        assert runs("0 0 2,3 * * *", "2026-03-29T01:20+01:00", 3) == [
            "29 03:00:00 +0200",
            "30 02:00:00 +0200",
            "30 03:00:00 +0200",
        ]


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "UTC"]
)
@pytest.mark.parametrize("text", ["0 */30 * * * *", "0 15 2 * * *", "0 0 */2 * * *"])
def test_over_a_year_time_only_moves_forward_and_an_interval_never_pauses(zone: str, text: str):
    found, when = schedule(text, ZoneInfo(zone)), datetime(2026, 1, 1, tzinfo=UTC)
    longest = timedelta()
    while when < datetime(2026, 12, 31, tzinfo=UTC):
        following = found.next_after(when)
        assert following is not None
        assert following > when
        longest = max(longest, following - when)
        when = following

    allowed = {"0 */30 * * * *": timedelta(minutes=30), "0 15 2 * * *": timedelta(hours=25)}
    assert longest <= allowed.get(text, timedelta(hours=3))


def test_a_row_says_when_the_next_run_is():
    now = datetime(2031, 5, 4, 12, 1, tzinfo=UTC)

    assert schedule_row(schedule("0 */5 * * * *"), now) == "0 */5 * * * *  next 12:05 UTC"
    assert schedule_row(schedule("*/7 * * * * *"), now) == "*/7 * * * * *  next 12:01:07 UTC"
    assert schedule_row(schedule("0 0 2 * * *", BERLIN), now) == "0 0 2 * * *  next 2031-05-05 02:00 Europe/Berlin"
    assert schedule_row(schedule("00:05:00"), now) == "every 00:05:00"
    assert "never" in schedule_row(schedule("0 0 0 30 2 *"), now)
