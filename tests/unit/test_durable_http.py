"""HTTP calls of orchestrators: polling, its waits, retries, and what goes to which origin."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import azure.durable_functions as df
import httpx2
import pytest

from address_tricks import urls
from given import START, HistoryPart, calls, completed, failed, given, scheduled, sets_timer, timer_created, timer_fired
from perdure.core.durable_http import HTTP_ACTIVITY, HttpRequest, TokenResource, header, origin, polling

SECRETS = {"Authorization": "Bearer x", "COOKIE": "c", "X-Functions-Key": "k", "Host": "a", "Accept-Language": "de"}
TOKEN = TokenResource("https://graph.microsoft.com")


@pytest.fixture
def poll_interval() -> Iterator[None]:
    before = polling.interval
    polling.interval = timedelta(seconds=7)
    yield
    polling.interval = before


def posts(context):
    return (yield context.call_http("POST", "http://a/start", "body", {"X-Functions-Key": "k", "X-Other": "o"}))


def answer(status: int, **headers: Any) -> dict[str, Any]:
    return {
        "statusCode": status,
        "headers": {name.replace("_", "-"): each for name, each in headers.items()},
        "content": "",
    }


def http(number: int, result: Any) -> list[HistoryPart]:
    return [scheduled(number, HTTP_ACTIVITY), completed(number, result)]


def asks(number: int, uri: str, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return calls(number, HTTP_ACTIVITY, HttpRequest("GET", uri, None, named).as_json())


# ---------------------------------------------------------------------- polling


def test_an_answer_202_is_polled_until_the_answer_is_another():
    history = http(0, answer(202, Location="/status/1", Retry_After="5"))
    given(*history).run(posts).expect(sets_timer(1, 1 + 5))
    history += [timer_created(1, 6), timer_fired(1, 6)]
    given(*history).run(posts).expect(asks(2, "http://a/status/1", X_Other="o"))
    history += http(2, answer(202, location="http://a/status/2", retry_after="0"))
    given(*history).run(posts).expect(sets_timer(3, 3))
    history += [timer_created(3, 3), timer_fired(3, 3)]
    given(*history).run(posts).expect(asks(4, "http://a/status/2", X_Other="o"))
    given(*history, *http(4, answer(500))).run(posts).expect_result(answer(500))


@pytest.mark.parametrize("headers", [{}, {"Retry_After": "5"}])
def test_an_answer_202_that_names_no_location_is_the_answer(headers: dict[str, str]):
    given(*http(0, answer(202, **headers))).run(posts).expect_result(answer(202, **headers))


@pytest.mark.parametrize(
    ("retry_after", "wait_s"),
    [
        ("5", 5),
        ("86400", 86_400),
        ("86401", 86_400),
        ("9" * 9, 86_400),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400),
        (" 5 ", 5),
        ("0", 0),
        (["9", "5"], 9),
        ("Fri, 02 Jan 2026 03:05:06 GMT", 59.3211),
        ("Fri, 02 Jan 2026 03:05:06 -0000", 59.3211),
        ("Fri, 02 Jan 2015 03:05:06 GMT", 0),
        ("soon", 7),
        ("-5", 7),
        ("1" * 10, 7),
        ("٥", 7),
        ("", 7),
        (None, 7),
    ],
)
@pytest.mark.usefixtures("poll_interval")
def test_the_wait_is_what_the_answer_says_or_else_the_settings(retry_after: Any, wait_s: float):
    headers = {} if retry_after is None else {"Retry_After": retry_after}

    run = given(*http(0, answer(202, Location="/s", **headers))).run(posts)

    [timer] = run.actions
    assert timer.fire_at == START + timedelta(seconds=1 + wait_s)


def test_the_settings_say_thirty_seconds_by_default():
    assert polling.interval == timedelta(seconds=30)


def test_a_poll_takes_no_credentials_to_another_origin_and_brings_none_back():
    def orchestrator(context):
        source = df.ManagedIdentityTokenSource(TOKEN.resource)
        return (yield context.call_http("GET", "http://a/start", None, SECRETS, source))

    history = [*http(0, answer(202, Location="http://b/s", Retry_After="1")), timer_created(1, 2), timer_fired(1, 2)]
    given(*history).run(orchestrator).expect(asks(2, "http://b/s", Accept_Language="de"))
    history += [*http(2, answer(202, Location="http://a/s", Retry_After="1")), timer_created(3, 4), timer_fired(3, 4)]
    given(*history).run(orchestrator).expect(asks(4, "http://a/s", Accept_Language="de"))


def test_a_poll_of_the_same_origin_takes_all_but_the_function_key():
    def orchestrator(context):
        source = df.ManagedIdentityTokenSource(TOKEN.resource)
        return (yield context.call_http("GET", "http://a/start", None, SECRETS, source))

    history = [*http(0, answer(202, Location="http://A:80/s", Retry_After="1")), timer_created(1, 2), timer_fired(1, 2)]
    kept = {name: value for name, value in SECRETS.items() if name != "X-Functions-Key"}
    expected = HttpRequest("GET", "http://A:80/s", None, kept, TOKEN).as_json()
    given(*history).run(orchestrator).expect(calls(2, HTTP_ACTIVITY, expected))


# ---------------------------------------------------------------------- retries


def retries(context):
    return (yield context.call_http("GET", "http://a/x", retry_options=df.RetryOptions(1000, 2)))


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_an_answer_that_another_attempt_may_change_is_asked_for_again(status: int):
    history = http(0, answer(status))
    given(*history).run(retries).expect(sets_timer(1, 2))
    history += [timer_created(1, 2), timer_fired(1, 2), scheduled(2, HTTP_ACTIVITY)]
    given(*history, completed(2, answer(200))).run(retries).expect_result(answer(200))


@pytest.mark.parametrize("status", [200, 301, 400, 404])
def test_other_answers_are_final(status: int):
    given(*http(0, answer(status))).run(retries).expect_result(answer(status))


def test_giving_up_gives_the_last_answer_or_else_the_last_failure():
    waited = [timer_created(1, 2), timer_fired(1, 2), scheduled(2, HTTP_ACTIVITY)]
    refused = failed(0, ConnectionError("refused"))

    given(*http(0, answer(500)), *waited, completed(2, answer(503))).run(retries).expect_result(answer(503))
    given(scheduled(0, HTTP_ACTIVITY), refused, *waited, failed(2, ConnectionError("again"))).run(
        retries
    ).expect_failure("ConnectionError", "again")
    given(scheduled(0, HTTP_ACTIVITY), refused, *waited, completed(2, answer(503))).run(retries).expect_result(
        answer(503)
    )


def test_a_failure_that_is_not_worth_it_is_raised_and_an_answer_given():
    def orchestrator(context):
        options = df.RetryOptions(1000, 5, retry_on=TimeoutError)
        return (yield context.call_http("GET", "http://a/x", retry_options=options))

    given(scheduled(0, HTTP_ACTIVITY), failed(0, ConnectionError("no"))).run(orchestrator).expect_failure(
        "ConnectionError"
    )
    given(scheduled(0, HTTP_ACTIVITY), failed(0, TimeoutError("late"))).run(orchestrator).expect(sets_timer(1, 2))
    given(*http(0, answer(500))).run(orchestrator).expect_result(answer(500))


# ---------------------------------------------------------------------- origins


def test_a_request_moves_with_its_body_only_if_its_method_stays():
    request = HttpRequest("POST", "http://a/x?y", "body", {"Content-Type": "text/plain", "X": "1"}, TOKEN)

    assert request.moved("POST", "z") == HttpRequest("POST", "http://a/z", "body", request.headers, TOKEN)
    assert request.moved("GET", "/z") == HttpRequest("GET", "http://a/z", None, {"X": "1"}, TOKEN)


@pytest.mark.parametrize("url", urls(8080))
def test_who_is_asked_is_who_was_meant(url: str):
    """Credentials go by what one reader of URLs takes for the host, requests by what another does."""
    try:
        meant = origin(url)[1]
        asked = httpx2.URL(url).host
    except (ValueError, httpx2.InvalidURL):
        return  # and nothing is asked

    text = meant or ""
    assert not text.isascii() or asked.lower() in ("", text, quote(text, safe="%:"))


def test_what_was_dropped_on_the_way_stays_dropped_however_long_the_way_is():
    request = HttpRequest("GET", "http://a/x", None, {**SECRETS, "X-Api-Key": "k"}, TOKEN)

    for target in ("http://b/1", "http://a/2", "https://a/3", "https://c/4", "https://a:443/5", "https://a/6"):
        request = request.moved("GET", target)

    assert (request.headers, request.token_source) == ({"Accept-Language": "de"}, None)


@pytest.mark.parametrize(
    "target",
    ["http://b/z", "https://a/z", "http://a:81/z", "//b/z", "http://u@b/z", "http://a@b/z", "http://a:80@b/z", "http://a.b/z",
     "http://a.:80/z", "http://\u0430/z", "http://xn--80a/z", "http://a%2eb/z", "http://b\\@a.c/z", "http://A:8080/z", "http://[::1]/z"],
)  # fmt: skip
def test_nothing_secret_goes_to_another_origin(target: str):
    request = HttpRequest("GET", "http://a/x", None, {**SECRETS, "Proxy-Authorization": "p"}, TOKEN)

    moved = request.moved("GET", target)

    assert (moved.headers, moved.token_source) == ({"Accept-Language": "de"}, None)


@pytest.mark.parametrize("target", ["\\\\b/z", "http:\\\\b/z", "///b/z", "/\\b/z", "b@c", "?//b/", "http:b/z"])
def test_what_only_looks_like_another_origin_stays_at_this_one(target: str):
    request = HttpRequest("GET", "http://a/x", None, SECRETS, TOKEN)

    assert httpx2.URL(request.moved("GET", target).uri).host == "a"


def test_only_what_may_be_said_to_anybody_goes_to_another_origin():
    """Keys have headers of many names, so it is the harmless ones that are listed."""
    harmless = {"Accept": "*/*", "ACCEPT-ENCODING": "gzip", "User-Agent": "u", "Idempotency-Key": "i"}
    request = HttpRequest("GET", "http://a/x", None, {**harmless, "X-Api-Key": "k", "api-key": "k", "X-Tenant": "t"})

    assert request.moved("GET", "http://b/").headers == harmless
    assert request.moved("GET", "http://b/").moved("GET", "http://a/").headers == harmless


@pytest.mark.parametrize("target", ["http://a/x", "http://b/x", "HTTP://a:443/x"])
def test_an_address_with_tls_leads_to_none_without(target: str):
    request = HttpRequest("POST", "https://a/x", "body")

    with pytest.raises(ValueError, match="led to one with http"):
        request.moved("POST", target)
    assert request.moved("POST", "https://b/x").content == "body"


def test_an_origin_is_scheme_host_and_port():
    assert origin("HTTP://User@A.example/x") == origin("http://a.example:80/y") == ("http", "a.example", 80)
    assert origin("https://a.example") == ("https", "a.example", 443)


def test_a_header_is_found_in_any_case_and_the_first_of_several():
    assert header({"headers": {"LOCATION": ["a", "b"]}}, "location") == "a"
    assert header({"headers": None}, "location") is None
