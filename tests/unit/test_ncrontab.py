"""NCRONTAB expressions mean what they mean to the Functions host."""

from datetime import date, datetime, timedelta
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.host.timers.ncrontab import InvalidCronError, Ncrontab

NOON = datetime(2031, 5, 4, 12, 0)


def times(expression: str, count: int, after: datetime = NOON) -> list[str]:
    cron, found = Ncrontab.parse(expression.split()), []
    for _ in range(count):
        following = cron.next_after(after)
        if following is None:
            return [*found, "never"]
        found.append(following.strftime("%m-%d %H:%M:%S"))
        after = following
    return found


class TestFields:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("7", [7]),
            ("0,30,15", [0, 15, 30]),
            ("3-6", [3, 4, 5, 6]),
            ("6-3", [3, 4, 5, 6]),
            ("*/20", [0, 20, 40]),
            ("50/4", [50, 54, 58]),
            ("10-20/5", [10, 15, 20]),
            ("58/0", [58, 59]),
            ("1-2,55-59/2,2", [1, 2, 55, 57, 59]),
        ],
    )
    def test_lists_ranges_and_steps(self, text: str, seconds: list[int]):
        assert list(Ncrontab.parse([text, "*", "*", "*", "*", "*"]).seconds) == seconds

    @pytest.mark.parametrize(
        ("text", "months"),
        [("january", [1]), ("JAN", [1]), ("j", [1]), ("ju", [6]), ("jul", [7]), ("nov-feb", list(range(2, 12)))],
    )
    def test_months_have_names_that_may_be_cut_short(self, text: str, months: list[int]):
        assert list(Ncrontab.parse(["0", "0", "0", "1", text, "*"]).months) == months

    def test_days_of_the_week_have_names_and_begin_with_sunday(self):
        assert Ncrontab.parse(["0", "0", "0", "*", "*", "sun,Mon,we-fr"]).weekdays == (0, 1, 3, 4, 5)

    def test_five_fields_have_no_seconds(self):
        assert Ncrontab.parse(["*/5", "*", "*", "*", "*"]) == Ncrontab.parse(["0", "*/5", "*", "*", "*", "*"])

    @pytest.mark.parametrize(
        ("expression", "complaint"),
        [
            ("60 * * * * *", "'60' as second: 60 is not between 0 and 59"),
            ("0 0 24 * * *", "24 is not between 0 and 23"),
            ("0 0 0 0 * *", "0 is not between 1 and 31"),
            ("0 0 0 1 13 *", "13 is not between 1 and 12"),
            ("0 0 0 * * 7", "7 is not between 0 and 6"),
            ("0 0 0 L * *", "'L' is not a number"),
            ("0 0 0 ? * *", "'?' is not a number"),
            ("0 0 0 * * 5#3", "'5#3' is not the beginning of a name such as Sunday"),
            ("0 0 0 * xyz *", "'xyz' is not the beginning of a name such as January"),
            ("1,,2 * * * * *", "a value is missing"),
            ("1- * * * * *", "a value is missing"),
            ("*/x * * * * *", "after / there has to be a number"),
            ("*/-1 * * * * *", "after / there has to be a number"),
            ("5/ * * * * *", "after / there has to be a number"),
            ("٣ * * * * *", "is not a number"),
        ],
    )
    def test_what_is_wrong_is_said(self, expression: str, complaint: str):
        with pytest.raises(InvalidCronError, match=complaint.replace("?", r"\?").replace("*", r"\*")):
            Ncrontab.parse(expression.split())


class TestNextTime:
    def test_it_is_strictly_after(self):
        assert times("0 0 12 * * *", 1) == ["05-05 12:00:00"]
        assert times("0 0 12 * * *", 1, NOON - timedelta(microseconds=1)) == ["05-04 12:00:00"]

    def test_it_goes_over_the_ends_of_minutes_hours_days_and_years(self):
        assert times("30 */20 * * * *", 4) == ["05-04 12:00:30", "05-04 12:20:30", "05-04 12:40:30", "05-04 13:00:30"]
        assert times("59 59 23 31 12 *", 2) == ["12-31 23:59:59", "12-31 23:59:59"]

    def test_a_day_has_to_fit_the_month_and_the_week(self):
        """Unlike other crons, where one of the two is enough."""
        cron = Ncrontab.parse(["0", "0", "9", "13", "*", "fri"])

        days = [date(2026, 2, 13), date(2026, 3, 13), date(2026, 11, 13), date(2027, 8, 13)]
        after, found = datetime(2026, 1, 1), []
        for _ in days:
            after = cron.next_after(after) or after
            found.append(after.date())
        assert found == days

    def test_a_day_that_is_not_there_never_comes(self):
        assert times("0 0 0 30 2 *", 1) == ["never"]
        assert times("0 0 0 31 4,6,9,11 *", 1) == ["never"]

    def test_the_rarest_day_there_is_comes(self):
        cron = Ncrontab.parse(["0", "0", "0", "29", "2", "mon"])

        assert cron.next_after(datetime(1872, 3, 1)) == datetime(1892, 2, 29)
        assert cron.next_after(datetime(1892, 3, 1)) == datetime(1904, 2, 29)

    def test_the_end_of_the_calendar_is_the_end(self):
        assert times("0 0 0 1 1 *", 1, datetime(9999, 12, 31)) == ["never"]

    @settings(max_examples=60, deadline=None)
    @given(
        st.tuples(
            *(st.sampled_from(each) for each in (["0", "*/7", "5-9"], ["*", "3,33", "*/25"], ["*", "1", "22-2"]))
        ),
        st.tuples(
            *(st.sampled_from(each) for each in (["*", "1", "28-31"], ["*", "2", "jan,dec"], ["*", "0", "mon-fri"]))
        ),
        st.datetimes(datetime(2023, 12, 1), datetime(2024, 3, 5)),
    )
    def test_it_is_the_first_second_that_fits(self, clock: tuple[str, ...], day: tuple[str, ...], after: datetime):
        cron = Ncrontab.parse([*clock, *day])

        def fits(moment: datetime) -> bool:
            return (
                moment.second in cron.seconds
                and moment.minute in cron.minutes
                and moment.hour in cron.hours
                and moment.day in cron.days
                and moment.month in cron.months
                and moment.isoweekday() % 7 in cron.weekdays
            )

        found = cron.next_after(after)

        assert found is not None
        assert found > after
        assert fits(found)
        start = after.replace(microsecond=0)
        before = (start + timedelta(seconds=number) for number in range(1, 20_000))
        assert not any(fits(each) for each in islice(before, 20_000) if each < found)
