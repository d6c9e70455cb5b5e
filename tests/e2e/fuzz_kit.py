"""Requests that nobody would think of: made from the OpenAPI description, or of bytes that are hardly HTTP."""

from __future__ import annotations

import copy
import json
import random
import socket
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import Case, GenerationMode

ROOT = Path(__file__).parents[2]
DESCRIPTION = ROOT / "docs" / "reference" / "openapi.json"

HUB = "Fuzzed"
TOKEN = "x-functions-key"

# Far more than any answer needs, on a machine that has other things to do as well.
ANSWER_WITHIN_S = 20.0

# Waiting for an instance is asked for so long at most, or the requests would do nothing but wait.
WAITING = "0.05"

# What finds something, where texts of all kinds hardly ever would.
_LIKELY = {
    "functionName": ["echo", "approval", "broken", "family", "running", "http_start", "mirror", "add_one"],
    "instanceId": ["a", "b", "c", "d", "@counter@a", "größe 17", "x" * 300],
    "entityName": ["Counter", "counter", "nobody"],
    "entityKey": ["a", "b", "$"],
    "eventName": ["Approval", "stop"],
    "keyName": ["default", "next", "_master", "durabletask_extension"],
    "taskHub": [HUB, HUB.lower()],
    "op": ["add", "set", "delete"],
    "timeout": ["0", WAITING],
    "pollingInterval": ["0", WAITING],
    "number": ["0", "-1", "2147483648"],
}
_LIKELIHOOD = 0.8

_FUNCTIONS = {
    "/api/start/{functionName}/{instanceId}": ("post",),
    "/api/mirror/{rest}": ("get", "post", "put", "delete", "patch"),
    "/api/number/{number}": ("get", "put"),
    "/api/secret": ("get", "post"),
    "/": ("get",),
}


class Fuzz:
    """Sends requests to one host and keeps what should not have happened.

    Attributes:
        findings: a line for each answer that no request should get.
        codes: how often each status code was the answer.
    """

    def __init__(self, port: int, token: str) -> None:
        self.findings: list[str] = []
        self.codes: Counter[int] = Counter()
        self._port = port
        self._token = token
        self._chance = random.Random()

    @property
    def sent(self) -> int:
        return sum(self.codes.values())

    def requests(self, count: int, seed_number: int) -> None:
        """Send so many requests made from the description: three quarters with a key; about as many right as wrong."""
        self._chance.seed(seed_number)
        schema = schemathesis.openapi.from_dict(_description())
        operations = [result.ok() for result in schema.get_all_operations()]
        turns = [(each, GenerationMode.POSITIVE) for each in operations]
        turns += [(each, GenerationMode.NEGATIVE) for each in operations if _can_be_wrong(each)]
        self._chance.shuffle(turns)
        until = self.sent + count
        with requests.Session() as session:
            session.trust_env = False
            while self.sent < until:
                for operation, mode in turns:
                    seed_number += 1
                    self._requests_to(operation, mode, max(1, min(100, count // len(turns))), seed_number, session)

    def _requests_to(
        self, operation: Any, mode: GenerationMode, count: int, seed_number: int, session: requests.Session
    ) -> None:
        @seed(seed_number)
        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy(mode))
        def sending(case: Case) -> None:
            self._send(case, session)

        sending()

    def malformed(self, count: int, seed_number: int) -> None:
        """Send so many connections bytes that begin like a request, and go wrong in some way."""
        generator = random.Random(seed_number)
        for _ in range(count):
            self._send_raw(_malformed(generator))

    def _send(self, case: Case, session: requests.Session) -> None:
        self._make_likely(case)
        with_key = self._chance.random() < 0.75
        headers = {TOKEN: self._token} if with_key else {}
        began = time.monotonic()
        try:
            response = case.call(
                base_url=f"http://127.0.0.1:{self._port}", session=session, headers=headers, timeout=ANSWER_WITHIN_S
            )
        except (requests.exceptions.InvalidHeader, requests.exceptions.InvalidURL, UnicodeError):
            return  # the client would not send it
        except requests.exceptions.RequestException as error:
            self.findings.append(f"{type(error).__name__} after {time.monotonic() - began:.1f} s: {_curl(case)}")
            return
        self.codes[response.status_code] += 1
        if response.status_code >= 500 and not _was_asked_for(case, response):
            self.findings.append(f"{response.status_code}: {_curl(case)} -> {response.content[:300]!r}")
        elif "/api/" not in case.path and case.path != "/" and not _is_described(case, response.status_code):
            self.findings.append(f"{response.status_code} is not described: {_curl(case)}")

    def _make_likely(self, case: Case) -> None:
        for name in case.path_parameters or {}:
            if name in _LIKELY and self._chance.random() < _LIKELIHOOD:
                case.path_parameters[name] = quote(self._chance.choice(_LIKELY[name]), safe="")
        for name in case.query or {}:
            waits = name in ("timeout", "pollingInterval")
            if name in _LIKELY and (waits or self._chance.random() < _LIKELIHOOD):
                case.query[name] = self._chance.choice(_LIKELY[name])

    def _send_raw(self, request: bytes) -> None:
        try:
            answer = _answer(self._port, request)
        except TimeoutError:
            self.findings.append(f"no answer within {ANSWER_WITHIN_S} s: {request[:300]!r}")
            return
        code = answer[9:12]
        self.codes[int(code) if code.isdigit() else 0] += 1
        if answer and (not answer.startswith(b"HTTP/1.1 ") or code.startswith(b"5")):
            self.findings.append(f"{answer[:100]!r} to {request[:300]!r}")


def _description() -> dict[str, Any]:
    """The shipped description, with the app's own functions."""
    described = json.loads(DESCRIPTION.read_text("utf-8"))
    for path, verbs in _FUNCTIONS.items():
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
        operation = {
            "parameters": parameters,
            "responses": {"default": {"description": "Anything."}},
        }
        described["paths"][path] = {verb: copy.deepcopy(operation) for verb in verbs}
    described["security"] = []  # keys are this kit's business
    return described


def _can_be_wrong(operation: Any) -> bool:
    """Whether there are requests that are not as described: where every text is right, there are none."""
    described = operation.definition.raw
    return "requestBody" in described or any(
        each["schema"] != {"type": "string"} for each in described["parameters"] if each["in"] == "query"
    )


def _was_asked_for(case: Case, response: Any) -> bool:
    """Whether it is the status of a failed instance, which can be asked for as an error."""
    try:
        status = response.json().get("runtimeStatus")
    except (ValueError, AttributeError):
        return False
    return response.status_code == 500 and status == "Failed" and "returnInternalServerErrorOnFailure" in case.query


def _is_described(case: Case, code: int) -> bool:
    return str(code) in case.operation.definition.raw["responses"]


def _curl(case: Case) -> str:
    return case.as_curl_command()[:600]


# ---------------------------------------------------------------------- hardly HTTP

_VERBS = (b"GET", b"POST", b"DELETE", b"PUT", b"OPTIONS", b"get", b"G\x00T", b"", b"A" * 5000, b"CONNECT", b"PRI")
_PATHS = (
    b"/runtime/webhooks/durabletask/instances",
    b"/runtime/webhooks/durabletask/instances/%ff%00",
    b"//runtime/webhooks/durabletask//instances//a",
    b"/runtime/webhooks/durabletask/orchestrators/echo",
    b"/runtime/webhooks/durabletask/../../../admin/host/status",
    b"/durabletask/instances/%2e%2e%2f",
    b"/admin/host/status",
    b"/api/mirror/%",
    b"/api/mirror/" + b"a/" * 3000,
    b"http://127.0.0.1/admin/host/status",
    b"http://evil.example/admin/host/status",
    b"*",
    b"",
    b"\xff\xfe",
    b"/?" + b"&" * 4000,
    b"/api/number/1#x",
)
_VERSIONS = (b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.1.1", b"", b"http/1.1")
_FIELDS = (
    b"Host: localhost",
    b"Host: localhost",
    b"Host: evil.example",
    b"Host:",
    b"Content-Length: 0",
    b"Content-Length: 5",
    b"Content-Length: 6",
    b"Content-Length: -1",
    b"Content-Length: +5",
    b"Content-Length: 5, 5",
    b"Content-Length: 99999999999999999999",
    b"Content-Length: 0x5",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: \x0bchunked",
    b"Content-Type: application/json",
    b"Content-Encoding: gzip",
    b"Expect: 100-continue",
    b"Expect: nonsense",
    b"Upgrade: websocket",
    b"Connection: upgrade",
    b"Connection: close",
    b"Upgrade: h2c",
    b"HTTP2-Settings: AAMAAABkAAQAAP__",
    b"X-Functions-Key: \xff\xfe",
    b"Origin: null",
    b"Idempotency-Key: \x01",
    b"x-ms-continuation-token: \xf0\x9f\x98\x80",
    b" folded",
    b"no colon",
    b": no name",
    b"X: " + b"y" * 40_000,
    b"X\x00Y: z",
)
_BODIES = (
    b"",
    b"hello",
    b"{}",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    b"-1\r\n\r\n",
    b'5;ext="\r\n"\r\nhello\r\n0\r\n\r\n',
    b"0\r\nTrailer: x\r\n\r\n",
    b"[" * 3000,
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"GET /admin/host/status HTTP/1.1\r\nHost: localhost\r\n\r\n",
)


def _malformed(generator: random.Random) -> bytes:
    """A request with something wrong in it, most of the time."""
    line = b" ".join(
        [
            generator.choice(_VERBS[:4] * 3 + _VERBS),
            generator.choice(_PATHS),
            generator.choice(_VERSIONS[:1] * 6 + _VERSIONS),
        ]
    )
    fields = [b"Host: localhost"] if generator.random() < 0.7 else []
    fields += generator.sample(_FIELDS, generator.randint(0, 6))
    end = generator.choice([b"\r\n"] * 8 + [b"\n", b"\r", b"\r\r\n"])
    request = bytearray(end.join([line, *fields, b"", b""]) + generator.choice(_BODIES))
    for _ in range(generator.choice([0, 0, 0, 1, 3])):
        request[generator.randrange(len(request))] = generator.randrange(256)
    if generator.random() < 0.1:
        del request[generator.randrange(len(request)) :]
    return bytes(request)


def _answer(port: int, request: bytes) -> bytes:
    """What comes back once all is sent and the sender has said so; empty if the connection just ends.

    Raises:
        TimeoutError: the connection stays open.
    """
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_WITHIN_S) as connection:
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                received += chunk
        except (ConnectionError, BrokenPipeError):
            pass
    return received
