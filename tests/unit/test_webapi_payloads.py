"""What the management API takes for a time, a duration, a flag and JSON, and which links it gives."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.webapi.links import check_status_payload, management_urls
from perdure.webapi.payloads import json_body, json_text, parsed_bool, parsed_seconds, parsed_time


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-31T10:00:00Z", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("2026-01-31T10:00:00.123456Z", datetime(2026, 1, 31, 10, 0, 0, 123456, tzinfo=UTC)),
        ("2026-01-31T10:00:00.1234567Z", datetime(2026, 1, 31, 10, 0, 0, 123456, tzinfo=UTC)),
        ("2026-01-31T10:00:00.5Z", datetime(2026, 1, 31, 10, 0, 0, 500000, tzinfo=UTC)),
        ("2026-01-31T10:00:00+02:00", datetime(2026, 1, 31, 8, tzinfo=UTC)),
        ("2026-01-31T10:00:00 02:00", datetime(2026, 1, 31, 8, tzinfo=UTC)),
        ("2026-01-31T10:00:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("2026-01-31 10:00:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("1-01-01T00:00:00.000000Z", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_times_are_read_in_every_form_that_clients_send(text: str, time: datetime):
    assert parsed_time(text) == time


@pytest.mark.parametrize("text", [None, "", "tomorrow", "2026-13-01", "0001-01-01T00:00:00+05:00"])
def test_what_is_no_time_counts_as_absent(text: str | None):
    assert parsed_time(text) is None


def test_durations_are_finite_and_positive():
    assert [parsed_seconds(text) for text in ("5", "0.5", "1e2")] == [5, 0.5, 100]
    assert [parsed_seconds(text) for text in (None, "", "x", "nan", "inf", "-1", "1e300")] == [None] * 7


def test_flags_are_true_or_false_in_any_case():
    assert [parsed_bool(text, False) for text in ("true", "TRUE", " True ")] == [True] * 3
    assert [parsed_bool(text, True) for text in ("false", "False", "no", "", None)] == [False, False, True, True, True]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
def test_every_value_that_is_sent_is_accepted_as_it_is(value: object):
    body = json_body(value)

    assert json_text(body) == body.decode()


@given(st.binary())
def test_bytes_are_text_or_a_value_error(body: bytes):
    try:
        text = json_text(body)
    except ValueError:
        return
    assert text is None or text.encode() in (body, b"\xef\xbb\xbf" + body, body.removeprefix(b"\xef\xbb\xbf"))


def test_links_have_the_nine_official_members_in_order_and_no_key():
    urls = management_urls("http://localhost:7071", "My Hub", "a/b ü+?")

    instance = "http://localhost:7071/runtime/webhooks/durabletask/instances/a%2Fb%20%C3%BC%2B%3F"
    query = "taskHub=My%20Hub&connection=Storage"
    assert list(urls.items()) == [
        ("id", "a/b ü+?"),
        ("statusQueryGetUri", f"{instance}?{query}"),
        ("sendEventPostUri", f"{instance}/raiseEvent/{{eventName}}?{query}"),
        ("terminatePostUri", f"{instance}/terminate?reason={{text}}&{query}"),
        ("rewindPostUri", f"{instance}/rewind?reason={{text}}&{query}"),
        ("purgeHistoryDeleteUri", f"{instance}?{query}"),
        ("restartPostUri", f"{instance}/restart?{query}"),
        ("suspendPostUri", f"{instance}/suspend?reason={{text}}&{query}"),
        ("resumePostUri", f"{instance}/resume?reason={{text}}&{query}"),
    ]


def test_the_servers_own_answers_have_all_but_rewind():
    urls = management_urls("http://localhost", "Hub", "x")

    assert check_status_payload("http://localhost", "Hub", "x") == {
        name: url for name, url in urls.items() if name != "rewindPostUri"
    }
