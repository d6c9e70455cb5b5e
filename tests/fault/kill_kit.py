"""A real host that is killed and started again on one folder, the client that goes on meanwhile, and the ledger."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

APPS = Path(__file__).parent / "apps"
DEADLINE_S = 20.0
API = "/runtime/webhooks/durabletask"
MODULUS = 1000  # the app's
DEADLY = 86  # exit code of a host that one of the app's activities has killed
LINE_BYTES = 64  # of a line of the ledger

T = TypeVar("T")


def eventually(look: Callable[[], T], deadline_s: float = DEADLINE_S, every_s: float = 0.01) -> T:
    """What `look` returns once that is true; fails after a deadline."""
    until = time.monotonic() + deadline_s
    while not (found := look()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(every_s)
    return found


# ---------------------------------------------------------------------- what the app does


@dataclass(frozen=True)
class Case:
    """An orchestration to run: what it is started with, the events that it needs, and what has to come of it.

    Attributes:
        keys: the ledger's names of the activities that it calls, those of its children included.
        kept: those of them that the histories of the last generations have.
    """

    instance_id: str
    shape: str
    input: Mapping[str, Any]
    events: Sequence[tuple[str, Any]] = ()
    output: Any = None
    keys: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()


def case(shape: str, number: int, takes_ms: int) -> Case:
    """The number-th orchestration of a shape."""
    instance_id = f"{shape}-{number:03}"
    value = number % 97 + 2
    asked = {"value": value, "takes_ms": takes_ms}
    events: list[tuple[str, Any]] = []
    labels: list[str] = []
    match shape:
        case "chain":
            output = _cube(_square(_cube(_square(value))))
            labels = ["0", "1", "2", "3"]
        case "awaited":
            output = _square(_cube(_square(_cube(value))))
            labels = ["0", "1", "2", "3"]
        case "fan":
            parts = [(_square, _cube)[part % 2](value + part) for part in range(12)]
            output = _square(sum(parts))
            labels = [*map(str, range(12)), "sum"]
        case "timers":
            output = _cube(_square(value))
            labels = ["before", "after"]
        case "approval":
            events = [("approved", value), ("shipped", 7)]
            output = _cube(_square(value) + 7)
            labels = ["approved", "shipped"]
        case "family":
            right = value + 1
            output = _cube(_square(_cube(_square(value)))) + _square(_cube(_square(_cube(right))))
            labels = [f"{side}/{step}" for side in ("left", "right") for step in range(4)]
        case "eternal":
            events = [(f"go-{generation}", generation + value) for generation in range(4)]
            output = value
            for _, brought in events:
                output = _square(output + brought)
            labels = ["0", "1", "2", "3"]
        case "poisoned":
            output = [sum((_square, _cube)[part % 2](value + part) for part in range(6)), True]
            labels = [*map(str, range(6))]
        case _:
            output = None
    keys = frozenset(f"{instance_id}/{label}" for label in labels)
    kept = frozenset({f"{instance_id}/3"}) if shape == "eternal" else keys
    return Case(instance_id, shape, asked, events, output, keys, kept)


def _square(value: int) -> int:
    return value**2 % MODULUS


def _cube(value: int) -> int:
    return value**3 % MODULUS


# ---------------------------------------------------------------------- the ledger


class Attempt(NamedTuple):
    """A line of the ledger: an activity began or ended, in a life of the host."""

    what: str
    life: int
    key: str


class Ledger:
    """What the activities wrote down."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def size(self) -> int:
        """How many lines there are."""
        return self.path.stat().st_size // LINE_BYTES if self.path.exists() else 0

    def attempts(self, since: int = 0) -> list[Attempt]:
        """The lines after the first `since`."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(since * LINE_BYTES)
            lines = file.read().decode().splitlines()
        found: list[Attempt] = []
        for line in lines:
            what, life, key = line.split()
            found.append(Attempt(what, int(life), key))
        return found

    def lives(self, what: str) -> dict[str, list[int]]:
        """In which lives each activity began, or ended."""
        lives: dict[str, list[int]] = {}
        for attempt in self.attempts():
            if attempt.what == what:
                lives.setdefault(attempt.key, []).append(attempt.life)
        return lives


# ---------------------------------------------------------------------- the host


class Answer(NamedTuple):
    """What came back over HTTP."""

    status: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class HostProcess:
    """One life of a host: a process of `perdure start`, from its launch to its end.

    Attributes:
        life: its number, which its activities write into the ledger.
        began_at, ended_at: the wall clock, as the host's own events are stamped.
    """

    def __init__(self, folder: Path, ledger: Path, life: int, output: Path, options: Sequence[str]) -> None:
        self.life = life
        self.output = output
        self.port = 0
        self.ended_at = float("inf")
        command = [sys.executable, "-m", "perdure", "start", "--app", str(folder), "--port", "0", *options]
        self.began_at = time.time()
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=_environment(LEDGER=str(ledger), LIFE=str(life)),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_until_ready(self) -> HostProcess:
        """Return once it serves HTTP."""
        eventually(lambda: self.line("started") or self.process.poll() is not None)
        started = self.line("started")
        assert started is not None, f"the host ended with {self.process.returncode}: {self.output.read_text()}"
        self.port = int(started["url"].rpartition(":")[2])
        return self

    def lines(self) -> list[dict[str, Any]]:
        """The JSON lines that it has printed."""
        whole, _, _ = self.output.read_text("utf-8", errors="replace").rpartition("\n")
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def line(self, kind: str, message: str = "") -> dict[str, Any] | None:
        """The first line of that kind whose message begins so."""
        return next(
            (each for each in self.lines() if each["kind"] == kind and each["message"].startswith(message)), None
        )

    def troubles(self) -> list[str]:
        """What it printed that no healthy host prints: errors, and whatever is not a JSON line."""
        whole, _, _ = self.output.read_text("utf-8", errors="replace").rpartition("\n")
        return [
            line
            for line in whole.splitlines()
            if not line.startswith("{") or json.loads(line)["level"] in ("error", "critical")
        ]

    def request(self, method: str, path: str, body: Any = None, timeout_s: float = DEADLINE_S) -> Answer:
        """One request on a connection of its own; `path` is below the management API."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            return exchange(connection, method, path, body)
        finally:
            connection.close()

    def start(self, wanted: Case) -> None:
        """Start an orchestration; it is acknowledged when this returns."""
        answer = self.request("POST", f"/orchestrators/{wanted.shape}/{wanted.instance_id}", wanted.input)
        assert answer.status == 202, answer

    def statuses(self) -> dict[str, dict[str, Any]]:
        """All instances, by id."""
        return {each["instanceId"]: each for each in self.request("GET", "/instances?top=1000").json()}

    def wait_for(self, cases: Sequence[Case], deadline_s: float = DEADLINE_S) -> dict[str, dict[str, Any]]:
        """All instances once those of the cases have completed; fails at once if one of them fails."""
        until = time.monotonic() + deadline_s
        while True:
            found = self.statuses()
            waiting = {each.instance_id: found[each.instance_id]["runtimeStatus"] for each in cases}
            waiting = {instance_id: status for instance_id, status in waiting.items() if status != "Completed"}
            if not waiting:
                return found
            for instance_id, status in waiting.items():
                assert status in ("Pending", "Running"), found[instance_id]
            assert time.monotonic() < until, f"these have not completed in time: {waiting}"
            time.sleep(0.05)

    def has_completed(self, wanted: Case) -> bool:
        """Whether it serves HTTP, and says that the orchestration has completed; false, too, if it has just died."""
        if self.line("started") is None:
            return False
        with suppress(OSError, http.client.HTTPException):
            found = self.wait_until_ready().statuses().get(wanted.instance_id)
            return found is not None and found["runtimeStatus"] == "Completed"
        return False

    def history(self, instance_id: str) -> list[dict[str, Any]]:
        """The rows of its current execution."""
        path = f"/instances/{instance_id}?showHistory=true&showHistoryOutput=true"
        return self.request("GET", path).json()["historyEvents"]

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once and whole, whatever it is doing; harmless when it has ended."""
        if self.process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.process.wait()
        self._ended()

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        """The exit code once it has ended."""
        code = self.process.wait(deadline_s)
        self._ended()
        return code

    def _ended(self) -> None:
        self.ended_at = min(self.ended_at, time.time())


class AppFolder:
    """A copy of an app, with what is outside of it: ledger, and the output of each life of its host."""

    def __init__(self, outside: Path, name: str, hub: str) -> None:
        self.folder = outside / name
        self.ledger = Ledger(outside / "ledger.txt")
        self.database = self.folder / ".perdure" / f"{hub}.db"
        self.lives: list[HostProcess] = []
        self._outside = outside
        ignored = shutil.ignore_patterns(".perdure", "__pycache__")
        shutil.copytree(APPS / name, self.folder, ignore=ignored)

    def launch(self, *options: str) -> HostProcess:
        """The next life of the host; it may not have got far yet."""
        life = len(self.lives)
        host = HostProcess(self.folder, self.ledger.path, life, self._outside / f"host-{life:02}.log", options)
        self.lives.append(host)
        return host

    def checked(self) -> dict[str, Any]:
        """What `perdure hub check` says."""
        command = [sys.executable, "-m", "perdure", "hub", "check", "--app", str(self.folder), "--json"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        assert ended.returncode in (0, 5), ended.stderr
        return json.loads(ended.stdout)


@contextmanager
def app_folder(outside: Path, name: str = "shapes", hub: str = "Shapes") -> Iterator[AppFolder]:
    """A copy of an app; in the end every host of it is killed that still runs."""
    app = AppFolder(outside, name, hub)
    try:
        yield app
    finally:
        for host in app.lives:
            host.kill()


def exchange(connection: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> Answer:
    """One request and its answer."""
    payload = None if body is None else json.dumps(body)
    connection.request(method, API + path, payload, {"Content-Type": "application/json"} if payload else {})
    response = connection.getresponse()
    return Answer(response.status, response.read())


def _environment(**more: str) -> dict[str, str]:
    names = ("AzureWebJobsStorage", "AZURE_FUNCTIONS_ENVIRONMENT", "WEBSITE_SITE_NAME", "PERDURE_INTERPRETER")
    return {name: value for name, value in os.environ.items() if name not in names} | more


# ---------------------------------------------------------------------- the client


@dataclass(eq=False)
class Wish:
    """Something that the client wants done, and goes on asking for until it is acknowledged.

    Attributes:
        look: where to see whether an attempt without an answer was carried out; None if that cannot be seen.
        attempts: how often it was sent.
        is_found: it was not acknowledged itself; an attempt without an answer had been carried out.
    """

    instance_id: str
    path: str
    body: Any = None
    look: str | None = None
    attempts: int = 0
    is_acknowledged: bool = False
    is_found: bool = False


def start_of(wanted: Case) -> Wish:
    """The wish to start an orchestration."""
    path = f"/orchestrators/{wanted.shape}/{wanted.instance_id}"
    return Wish(wanted.instance_id, path, wanted.input, look=f"/instances/{wanted.instance_id}")


def events_of(wanted: Case) -> list[Wish]:
    """The wishes to send it its events."""
    return [
        Wish(wanted.instance_id, f"/instances/{wanted.instance_id}/raiseEvent/{name}", data)
        for name, data in wanted.events
    ]


def end_of(wanted: Case) -> Wish:
    """The wish to terminate it."""
    return Wish(wanted.instance_id, f"/instances/{wanted.instance_id}/terminate?reason=enough")


@dataclass
class Client:
    """Sends wishes from a few threads, and those that a host took to its grave again to the next one.

    It repeats only what had no answer. A start is repeated only if the instance is not there, because over a finished
    one it would start another. An event cannot be recognised: what had no answer may arrive twice.
    """

    threads: int = 4
    acknowledged: int = 0
    troubles: list[str] = field(default_factory=list[str])
    _host: HostProcess | None = None
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _wishes: SimpleQueue[Wish | None] = field(default_factory=SimpleQueue[Wish | None])
    _pool: list[threading.Thread] = field(default_factory=list[threading.Thread])
    _open: int = 0
    _is_closed: bool = False

    def __enter__(self) -> Client:
        self._pool = [threading.Thread(target=self._work, daemon=True) for _ in range(self.threads)]
        for thread in self._pool:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for _ in range(self.threads):
            self._wishes.put(None)
        for thread in self._pool:
            thread.join(DEADLINE_S)

    def ask(self, wishes: Sequence[Wish]) -> None:
        """Begin to have them done."""
        with self._changed:
            self._open += len(wishes)
        for wish in wishes:
            self._wishes.put(wish)

    def turn_to(self, host: HostProcess | None) -> None:
        """From now on talk to this host."""
        with self._changed:
            self._host = host
            self._changed.notify_all()

    @property
    def open(self) -> int:
        """How many wishes are not acknowledged yet."""
        return self._open

    def _work(self) -> None:
        connection: http.client.HTTPConnection | None = None
        host: HostProcess | None = None
        while (wish := self._wishes.get()) is not None:
            while not wish.is_acknowledged:
                if connection is None:
                    host = self._next_host(host)
                    if host is None:
                        return
                    connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=DEADLINE_S)
                try:
                    self._attempt(connection, wish)
                except (OSError, http.client.HTTPException):
                    connection.close()
                    connection = None
            with self._changed:
                self._open -= 1
                self.acknowledged += not wish.is_found
        if connection is not None:
            connection.close()

    def _next_host(self, lost: HostProcess | None) -> HostProcess | None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._host not in (None, lost))
            return None if self._is_closed else self._host

    def _attempt(self, connection: http.client.HTTPConnection, wish: Wish) -> None:
        if wish.attempts and wish.look is not None and exchange(connection, "GET", wish.look).status != 404:
            wish.is_acknowledged = wish.is_found = True
            return
        wish.attempts += 1
        answer = exchange(connection, "POST", wish.path, wish.body)
        if answer.status == 503:
            raise ConnectionAbortedError("the host is stopping")
        if answer.status == 410 and wish.attempts > 1:
            wish.is_found = True  # what it was for is over, so an earlier attempt had arrived
        elif answer.status != 202:
            self.troubles.append(f"{wish.path} was answered with {answer.status}: {answer.body!r}")
        wish.is_acknowledged = True


# ---------------------------------------------------------------------- histories


def completed_calls(history: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each TaskCompleted of a history with the key that the input of its call carries."""
    for row in history:
        if row["EventType"] == "TaskCompleted":
            yield json.loads(row["Input"])["key"] if "Input" in row else "(an answer without a call)", row


def events_in(history: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """How often each event was raised."""
    return Counter(row["Name"] for row in history if row["EventType"] == "EventRaised")


def moment(text: str) -> float:
    """A time of the API as seconds of the wall clock."""
    return datetime.fromisoformat(text).timestamp()
