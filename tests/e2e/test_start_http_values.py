"""Requests and responses of functions behind HTTP triggers, over a real host."""

import concurrent.futures
from collections.abc import Iterator
from pathlib import Path

import pytest
from start_kit import Answer, HostProcess, copy_app, eventually, started

SHOP = "https://shop.example"
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="tag"\r\n\r\na\r\n'
    b'--x\r\nContent-Disposition: form-data; name="tag"\r\n\r\nb\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nhello\r\n--x--\r\n'
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_app("http_values", tmp_path_factory.mktemp("http"))


@pytest.fixture(scope="module")
def host(folder: Path) -> Iterator[HostProcess]:
    with started(folder, "--store", "memory:") as host:
        yield host


def cors(answer: Answer) -> tuple[str | None, str | None]:
    return (
        answer.headers["access-control-allow-origin"],
        answer.headers["access-control-allow-credentials"],
    )


# ---------------------------------------------------------------------- requests


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (FORM, "multipart/form-data; boundary=x", b"file:a.txt:5,tag=a,tag=b"),
        (b"a=1&b=%C3%BC", "application/x-www-form-urlencoded", "a=1,b=ü".encode()),
        (b"no form", "text/plain", b""),
    ],
)
def test_forms_and_files_are_read(host: HostProcess, body: bytes, content_type: str, expected: bytes):
    assert host.request("POST", "/api/form", body, {"Content-Type": content_type}).body == expected


def test_repeated_names_are_joined_and_absent_values_are_absent(host: HostProcess):
    origin = f"http://127.0.0.1:{host.port}"

    answer = host.request("DELETE", "/api/SEEN?a=1&a=2&empty=&b=%20", headers={"X-Many": "1"})

    url = f"{origin}/api/SEEN?a=1&a=2&empty=&b=%20"
    assert answer.body.decode() == f"DELETE {url} {{'a': '1,2', 'empty': '', 'b': ' '}} {{}} 1"


def test_a_context_tells_who_was_called_and_as_part_of_which_trace(host: HostProcess, folder: Path):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    answer = host.request("GET", "/api/context", headers={"traceparent": trace})

    assert answer.body.decode() == f"context_of {folder.name} {trace} None 36"


def test_what_a_thread_of_the_function_logs_is_the_functions(host: HostProcess):
    assert host.request("GET", "/api/thread").body == b"True"

    line = eventually(lambda: next((each for each in host.lines if "thread of its own" in each["message"]), None))
    assert line["function"] == "thread"


# ---------------------------------------------------------------------- responses


def test_a_text_is_sent_in_its_charset(host: HostProcess):
    answer = host.request("GET", "/api/answer/latin")

    assert (answer.body, answer.headers["content-type"]) == (b"\xfc", "text/html; charset=latin-1")


def test_cookies_are_headers_of_their_own(host: HostProcess):
    assert host.request("GET", "/api/answer/cookies").headers.get_all("set-cookie") == ["a=1; Path=/", "b=2; HttpOnly"]


def test_a_returned_text_is_sent_as_it_is(host: HostProcess):
    answer = host.request("GET", "/api/answer/json-text")

    assert (answer.body, answer.headers["content-type"]) == (b'{"body": "as it is"}', "text/plain; charset=utf-8")


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("none", "TypeError: unable to encode outgoing TypedData"),
        ("dict", 'Python type "dict"'),
        ("error", "LookupError: nobody is called that"),
        ("status", "1000 is not a status"),
        ("header", "there can be no header 'x y'"),
    ],
)
def test_what_cannot_be_sent_is_an_empty_500_and_told_in_the_output(host: HostProcess, kind: str, told: str):
    answer = host.request("GET", f"/api/answer/{kind}")

    assert (answer.status, answer.body) == (500, b"")
    line = eventually(lambda: next((each for each in host.lines if told in each["message"]), None))
    assert (line["level"], line["function"]) == ("error", "answer")
    assert (kind == "error") == ("function_app.py" in line["traceback"])


def test_every_method_reaches_a_function_without_methods(host: HostProcess):
    methods = ["GET", "POST", "DELETE", "HEAD", "PATCH", "PUT", "OPTIONS"]

    answers = [host.request(method, "/api/any") for method in methods]

    assert [each.headers["x-method"] for each in answers] == methods
    head = answers[3]
    assert (head.body, head.headers["content-length"]) == (b"", "4")


def test_another_method_finds_nothing_and_the_output_says_which_would(host: HostProcess):
    assert [host.request(method, "/api/only").status for method in ("GET", "PUT", "HEAD")] == [200, 404, 404]
    assert eventually(lambda: host.find("host", message="/api/only answers to GET,POST, not to PUT"))


# ---------------------------------------------------------------------- limits


def test_more_requests_than_may_be_outstanding_are_refused(host: HostProcess, folder: Path):
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(host.request, "GET", "/api/gated") for _ in range(12)]
        eventually(lambda: sum(each.done() for each in asked) == 9)
        (folder / "gate").touch()
        statuses = sorted(each.result().status for each in asked)

    assert statuses == [200] * 3 + [429] * 9


# ---------------------------------------------------------------------- CORS


def test_a_page_of_a_named_origin_may_read_and_send_credentials(host: HostProcess):
    answer = host.request("GET", "/api/any", headers={"Origin": SHOP})

    assert cors(answer) == (SHOP, "true")
    assert answer.headers["vary"] == "Origin"


def test_a_preflight_is_answered_by_the_host(host: HostProcess):
    asked = {
        "Origin": "http://localhost:3000",
        "Access-Control-Request-Method": "DELETE",
        "Access-Control-Request-Headers": "x-a, x-b",
    }

    answer = host.request("OPTIONS", "/api/any", headers=asked)

    assert answer.status == 204
    assert cors(answer) == ("http://localhost:3000", "true")
    assert answer.headers["access-control-allow-methods"] == "DELETE"
    assert answer.headers["access-control-allow-headers"] == "x-a, x-b"
    assert answer.headers["x-method"] is None


def test_a_page_of_another_origin_may_not(host: HostProcess):
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "DELETE"}

    answers = [
        host.request("GET", "/api/any", headers={"Origin": "https://evil.example"}),
        host.request("OPTIONS", "/api/any", headers=preflight),
    ]

    assert [cors(each) for each in answers] == [(None, None)] * 2


def test_a_page_of_a_named_origin_may_steer_instances_and_another_may_not(host: HostProcess):
    instance_id = host.start("waits").json()["id"]
    path = f"/runtime/webhooks/durabletask/instances/{instance_id}/raiseEvent/go"
    headers = {"Content-Type": "application/json", "Sec-Fetch-Site": "cross-site"}

    foreign = host.request("POST", path, '"foreign"', headers | {"Origin": "https://evil.example"})
    named = host.request("POST", path, '"named"', headers | {"Origin": SHOP})

    assert (foreign.status, named.status) == (403, 202)
    assert cors(named) == (SHOP, "true")
    assert host.result(instance_id)["output"] == "named"


def test_the_command_line_names_origins_too(folder: Path):
    with started(folder, "--store", "memory:", "--cors", "*") as host:
        answer = host.request("GET", "/api/any", headers={"Origin": "https://evil.example"})

        assert cors(answer) == ("*", None)
        assert "CORS: browsers refuse credentials" in " ".join(host.find("started")["warnings"])  # type: ignore[index]
        status = "/runtime/webhooks/durabletask/instances"
        assert cors(host.request("GET", status, headers={"Origin": "https://evil.example"})) == (None, None)
        assert cors(host.request("GET", status, headers={"Origin": "http://localhost:5173"})) == ("*", None)
