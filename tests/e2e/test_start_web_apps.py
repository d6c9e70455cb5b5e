"""Web applications behind HTTP triggers: FastAPI, Flask, and functions with the web extension."""

import contextlib
import http.client
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from start_kit import Answer, HostProcess, copy_app, eventually, started

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def asgi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HostProcess, Path]]:
    folder = copy_app("asgi_site", tmp_path_factory.mktemp("asgi"))
    with started(folder, "--store", "memory:") as host:
        yield host, folder


@pytest.fixture(scope="module")
def wsgi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    folder = copy_app("wsgi_site", tmp_path_factory.mktemp("wsgi"))
    with started(folder, "--store", "memory:") as host:
        yield host


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    folder = copy_app("streams", tmp_path_factory.mktemp("streams"))
    with started(folder, "--store", "memory:") as host:
        yield host


def notes(folder: Path) -> list[str]:
    ledger = folder / "ledger.txt"
    return ledger.read_text().splitlines() if ledger.exists() else []


def failure(host: HostProcess, text: str) -> dict[str, str]:
    """The log line about a failure, once it is there."""
    return eventually(lambda: next((each for each in host.lines if text in each.get("message", "")), None))


def peak_mb(host: HostProcess) -> float | None:
    """The most memory that the host has ever used, or None where the system does not say."""
    try:
        status = Path(f"/proc/{host.process.pid}/status").read_text()
    except OSError:
        return None
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


def upload(host: HostProcess, path: str, pieces: int) -> Answer:
    """The answer to a body of that many megabytes, sent without its length."""
    connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=30)
    with contextlib.closing(connection):
        connection.request("POST", path, (b"x" * MEGABYTE for _ in range(pieces)), encode_chunked=True,
                           headers={"Transfer-Encoding": "chunked"})  # fmt: skip
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())


def first_line_then_leave(host: HostProcess, path: str) -> bytes:
    with socket.create_connection(("127.0.0.1", host.port), timeout=20) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        received = b""
        while received.count(b"\n") < 12:
            received += connection.recv(65536)
        return received


# ---------------------------------------------------------------------- ASGI


def test_fastapi_answers_with_its_state_from_the_start_up(asgi: tuple[HostProcess, Path]):
    host, folder = asgi

    answer = host.request("GET", "/greet/J%C3%BCrgen?excited=true")

    assert (answer.status, answer.json()) == (200, {"text": "Hello Jürgen!"})
    assert notes(folder).count("begun") == 1


def test_the_start_screen_shows_where_the_application_is(asgi: tuple[HostProcess, Path]):
    (shown,) = [each for each in asgi[0].lines[0]["functions"] if each["name"] == "http_app_func"]

    assert shown["source"] == "function_app.py:1"
    assert "note" not in shown


def test_an_asgi_scope_has_the_standards_members_and_those_of_the_official_library(asgi: tuple[HostProcess, Path]):
    scope = asgi[0].request("GET", "/scope").json()

    assert scope == {
        "path": "/scope",
        "root_path": "",
        "scheme": "http",
        "azure_functions.function_name": "http_app_func",
        "asgi.version": "2.1",
        "asgi": "3.0",
    }


def test_functions_beside_a_web_application_start_orchestrations(asgi: tuple[HostProcess, Path]):
    host = asgi[0]

    answer = host.request("POST", "/start", json.dumps({"order": 7}))

    assert answer.status == 202
    assert host.result(answer.json()["id"])["output"] == {"order": 7}


def test_an_error_is_answered_by_the_framework_and_told_with_the_apps_own_frames(asgi: tuple[HostProcess, Path]):
    host = asgi[0]

    answer = host.request("GET", "/fails")

    assert (answer.status, answer.body) == (500, b"Internal Server Error")
    line = failure(host, "LookupError: nobody is called that")
    assert "function_app.py" in line["traceback"]
    assert "site-packages" not in line["traceback"]
    assert host.request("GET", "/refuses").status == 418


def test_an_endless_answer_ends_when_the_client_leaves(asgi: tuple[HostProcess, Path]):
    host, folder = asgi

    assert b"tick\n" in first_line_then_leave(host, "/ticks")

    assert eventually(lambda: "ticks ended" in notes(folder))


def test_the_head_of_an_answer_does_not_wait_for_its_body(asgi: tuple[HostProcess, Path]):
    host, folder = asgi
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", host.port, timeout=20)) as connection:
        connection.request("GET", "/empty-events")

        response = connection.getresponse()
        (folder / "go").touch()

        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.read() == b"data: 1\n\n"


def test_an_answer_that_fails_half_way_is_cut_off(asgi: tuple[HostProcess, Path]):
    host = asgi[0]

    with pytest.raises(http.client.IncompleteRead):
        host.request("GET", "/breaks")

    assert failure(host, "OSError: the disk is gone")
    assert not [each for each in host.lines if "ASGI callable" in each.get("message", "")]


def test_the_shutdown_of_a_web_application_runs_when_the_host_stops(tmp_path: Path):
    folder = copy_app("asgi_site", tmp_path)
    with started(folder, "--store", "memory:") as host:
        host.request("GET", "/greet/x")

        host.process.terminate()

        assert host.wait() == 0
    assert notes(folder) == ["begun", "ended"] or os.name == "nt"


def test_a_start_up_that_fails_fails_the_request_and_is_tried_again(tmp_path: Path):
    folder = copy_app("asgi_site", tmp_path)
    with started(folder, "--store", "memory:", environ={"SITE_FAILS": "1"}) as host:
        answers = [host.request("GET", "/greet/x") for _ in range(2)]

        assert [each.status for each in answers] == [500, 500]
        assert failure(host, "ASGI middleware startup failed.")
        assert "there is no database" in failure(host, "web application failed to start")["message"]


# ---------------------------------------------------------------------- WSGI


def test_flask_reads_forms_and_files(wsgi: HostProcess):
    body = (
        b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\nAda\r\n'
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nhello\r\n--x--\r\n'
    )

    answer = wsgi.request("POST", "/api/form", body, {"Content-Type": "multipart/form-data; boundary=x"})

    assert answer.json() == {"name": "Ada", "file": "a.txt", "length": 5}


def test_flask_answers_with_bytes_and_repeated_headers(wsgi: HostProcess):
    answer = wsgi.request("POST", "/api/echo", b"\x00\xff")

    assert (answer.status, answer.body) == (200, b"\x00\xff")
    assert answer.headers.get_all("set-cookie") == ["a=1", "b=2"]


def test_a_wsgi_environment_has_the_path_with_its_prefix_and_the_functions_name(wsgi: HostProcess):
    answer = wsgi.request("GET", "/api/environ?a=%C3%BC", headers={"X-Test": "1", "X_Test": "smuggled"})

    assert answer.json() == {
        "SCRIPT_NAME": "",
        "PATH_INFO": "/api/environ",
        "QUERY_STRING": "a=%C3%BC",
        "HTTP_X_TEST": "1",
        "azure_functions.function_name": "http_app_func",
    }


def test_flasks_own_error_page_arrives_and_the_error_is_in_the_output(wsgi: HostProcess):
    answer = wsgi.request("GET", "/api/fails")

    assert (answer.status, b"Internal Server Error" in answer.body) == (500, True)
    assert eventually(lambda: "LookupError: nobody is called that" in "".join(wsgi.text))
    assert wsgi.request("POST", "/api/echo", b"still here").body == b"still here"


def test_flask_streams_what_comes_and_what_goes(wsgi: HostProcess):
    before = peak_mb(wsgi)

    answer = upload(wsgi, "/api/lengths", 90)

    assert sum(int(line) for line in answer.body.split()) == 90 * MEGABYTE
    after = peak_mb(wsgi)
    assert before is None or after is None or after - before < 40


def test_an_endless_answer_of_flask_ends_when_the_client_leaves(wsgi: HostProcess):
    assert b"\n2\n" in first_line_then_leave(wsgi, "/api/ticks")

    assert eventually(lambda: "ticks ended" in "".join(wsgi.text))


# ---------------------------------------------------------------------- the web extension


def test_a_large_upload_and_a_large_download_are_not_held_in_memory(streams: HostProcess):
    before = peak_mb(streams)

    counted = upload(streams, "/api/upload", 90).json()
    answer = streams.request("GET", "/api/download/90")

    assert counted["bytes"] == 90 * MEGABYTE
    assert counted["pieces"] > 90
    assert len(answer.body) == 90 * MEGABYTE
    after = peak_mb(streams)
    assert before is None or after is None or after - before < 40


def test_an_upload_beyond_the_limit_is_refused_whether_its_length_is_told_or_not(streams: HostProcess):
    with socket.create_connection(("127.0.0.1", streams.port), timeout=20) as connection:
        head = "POST /api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 104857601\r\n\r\n"
        connection.sendall(head.encode())
        told = connection.recv(65536)

    assert told.startswith(b"HTTP/1.1 413 ")
    assert upload(streams, "/api/upload", 110).status == 413


def test_what_is_no_response_becomes_json(streams: HostProcess):
    assert streams.request("GET", "/api/order?item=tea").json() == {"item": "tea", "count": 1}


def test_a_function_without_async_gets_the_extensions_request_and_its_context(streams: HostProcess):
    assert streams.request("GET", "/api/sync/tea").json() == {"item": "tea", "function": "sync"}


def test_the_frameworks_own_exceptions_are_its_responses(streams: HostProcess):
    answer = streams.request("GET", "/api/refuses")

    assert (answer.status, answer.json()) == (418, {"detail": "a teapot"})


def test_an_error_in_a_function_of_the_extension_is_told_with_the_apps_own_frames(streams: HostProcess):
    assert streams.request("GET", "/api/fails").status == 500

    assert "site-packages" not in failure(streams, "LookupError: nobody is called that")["traceback"]


def test_the_extension_and_classic_requests_live_side_by_side(streams: HostProcess):
    classic = streams.request("GET", "/api/classic/tea")
    unannotated = streams.request("GET", "/api/unannotated")

    assert classic.body == b"azure.functions.http tea"
    assert (unannotated.status, unannotated.headers["x-a"], unannotated.body) == (201, "1", b"starlette.requests")


def test_a_function_of_the_extension_starts_orchestrations(streams: HostProcess):
    answer = streams.request("POST", "/api/start", '{"a": 1}')

    assert answer.status == 202
    assert streams.result(answer.json()["id"])["output"] == {"a": 1}


def test_custom_headers_of_host_json_are_in_every_answer(streams: HostProcess):
    answers = [streams.request("GET", path) for path in ("/api/order?item=tea", "/api/nothing", "/")]

    assert [each.headers["x-served-by"] for each in answers] == ["perdure"] * 3
