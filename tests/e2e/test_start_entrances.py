"""Values that come in by every entrance of a real host: no class of theirs is loaded, and what is no JSON stays out."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from start_kit import Answer, HostProcess, copy_app, eventually, started

JSON = {"Content-Type": "application/json"}
PUBLIC = "/runtime/webhooks/durabletask"
LOCAL = "/durabletask"
PLAIN = {"dict", "list", "str", "int", "float", "bool", "NoneType"}

_ids = (f"i{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    with started(copy_app("entrances", tmp_path_factory.mktemp("entrances"))) as running:
        yield running
        assert running.request("GET", "/api/caught").json() == []  # nothing was imported or begun by any test here


def envelope(module: Any, name: Any) -> dict[str, Any]:
    """What SDKs write for an object, naming a class that may not even be one."""
    return {"__class__": name, "__module__": module, "__data__": "touch owned"}


NAMED = [
    ("lures", "Lure"), ("function_app", "Silent"), ("function_app", "caught"), ("function_app.lures", "Lure"), ("os",
    "system"),
    ("subprocess", "Popen"), ("this", "s"), ("antigravity", "fly"), ("webbrowser", "open"), ("xmlrpc.client", "Fault"),
    ("builtins", "eval"), ("perdure.host.http.keys", "Keys"), ("..lures", "Lure"), ("lures;import this", "x"), ("", ""),
    ("__main__", "Lure"), ([1], {"a": None}),
]  # fmt: skip
HOSTILE: list[Any] = [
    [envelope(*each) for each in NAMED],
    {"a": {"b": [{"c": envelope(*each)} for each in NAMED]}},
    {json.dumps(envelope("lures", "Lure")): envelope("lures", "Lure")},
    {"py/object": "lures.Lure", "py/reduce": [{"py/function": "os.system"}, {"py/tuple": ["touch owned"]}]},
    {**envelope("lures", "Lure"), "__data__": envelope("this", "s")},
    {"$type": "System.Diagnostics.Process", "__class__": "Lure", "__module__": "lures", "__data__": None, "more": 1},
]


def told(value: Any) -> dict[str, Any]:
    return {"value": value, "kinds": sorted(_kinds(value))}


def _kinds(value: Any) -> set[str]:
    match value:
        case dict():
            inner = [_kinds(each) for each in (*value.keys(), *value.values())]
        case list():
            inner = [_kinds(each) for each in value]
        case _:
            inner = []
    return {type(value).__name__}.union(*inner)


def twice(text: str) -> str:
    """As SDK 1.x sends values to the local mount."""
    return json.dumps(text)


def enter(host: HostProcess, entrance: str, instance_id: str, text: str | bytes) -> Answer:
    """Send JSON text in by an entrance."""
    match entrance.split():
        case [("public" | "local") as mount, "start"]:
            return host.request("POST", f"{_base(mount)}/orchestrators/told_input/{instance_id}", text, JSON)
        case [("public" | "local") as mount, "event"]:
            return host.request("POST", f"{_base(mount)}/instances/{instance_id}/raiseEvent/go", text, JSON)
        case [("public" | "local") as mount, "signal"]:
            return host.request("POST", f"{_base(mount)}/entities/keeper/{instance_id}?op=keep", text, JSON)
        case ["client", kind]:
            return host.request("POST", f"/api/client/{instance_id}/{kind}", text, JSON)
        case _:
            raise AssertionError(entrance)


def _base(mount: str) -> str:
    return PUBLIC if mount == "public" else LOCAL


def got(host: HostProcess, entrance: str, instance_id: str) -> Any:
    """What the app's code was given."""
    if not entrance.endswith("signal"):
        return host.result(instance_id)["output"]
    path = f"{PUBLIC}/entities/keeper/{instance_id}"
    eventually(lambda: host.request("GET", path).status == 200)
    looked = next(_ids)
    host.request("POST", f"{PUBLIC}/orchestrators/tour/{looked}", "null", JSON)
    host.result(looked)
    return told(host.request("GET", path).json())


ENTRANCES = [f"{way} {kind}" for way in ("public", "local", "client") for kind in ("start", "event", "signal")]


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_a_class_that_a_value_names_is_not_loaded(host: HostProcess, entrance: str):
    for value in HOSTILE:
        instance_id, text = next(_ids), json.dumps(value)
        if entrance.endswith("event"):
            assert host.start("told_event", instance_id).status == 202

        answer = enter(host, entrance, instance_id, twice(text) if entrance.startswith("local") else text)

        assert answer.status == 202
        assert got(host, entrance, instance_id) == told(value)


@pytest.mark.parametrize("value", HOSTILE)
def test_nor_is_it_on_its_way_through_orchestrations(host: HostProcess, value: Any):
    instance_id = next(_ids)
    assert enter(host, "public start", instance_id, json.dumps(value)).status == 202
    toured = next(_ids)
    host.request("POST", f"{PUBLIC}/orchestrators/tour/{toured}", json.dumps(value), JSON)

    status = host.result(toured)

    assert status["customStatus"] == value
    assert status["input"] == value
    listed = told([value])
    assert status["output"] == {
        "wait" if name == "wait" else name: listed if name == "wait" else told(value) for name in status["output"]
    }
    assert len(status["output"]) == 8


def test_the_apps_own_class_that_says_how_is_made_in_all_these_places(host: HostProcess):
    """So the tests above would see it if another one were."""
    toured = next(_ids)
    known = {"__class__": "Known", "__module__": "function_app", "__data__": 7}
    host.request("POST", f"{PUBLIC}/orchestrators/tour/{toured}", json.dumps({"a": [known]}), JSON)

    output = host.result(toured)["output"]

    assert {name for name, each in output.items() if "Known" in each["kinds"]} == set(output)


# ---------------------------------------------------------------------- what is no JSON for everybody

NO_JSON = {
    "NaN": b"NaN",
    "infinity": b'{"a": [-Infinity]}',
    "too large a number": b"1e400",
    "a name twice": b'{"a": 1, "a": 2}',
    "a name twice, inside": b'[{"b": {"a": 1, "\\u0061": 2}}]',
    "too deep": b"[" * 101 + b"]" * 101,
    "much too deep": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 101 + b"1" + b"}" * 101,
    "5,000 digits": b"1" * 5_000,
    "half a pair": b'"\\ud800"',
    "half a pair in a name": b'{"\\udfff": 1}',
    "not UTF-8": b'"\xff"',
    "overlong UTF-8": b'"\xc0\xaf"',
    "a surrogate in UTF-8": b'"\xed\xa0\x80"',
    "UTF-16": '"a"'.encode("utf-16"),
    "a control character": b'"\x00"',
    "a comment": b"1 // one",
    "two values": b"1 2",
    "no quotes": b"{a: 1}",
    "a comma too many": b"[1,]",
    "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.",
}


@pytest.mark.parametrize("entrance", [each for each in ENTRANCES if not each.startswith("client")])
def test_what_is_no_json_for_everybody_stays_out(host: HostProcess, entrance: str):
    for name, body in NO_JSON.items():
        instance_id = next(_ids)
        if entrance.endswith("event"):
            assert host.start("told_event", instance_id).status == 202

        answer = enter(host, entrance, instance_id, body)

        assert answer.status == 400, name
        if entrance.endswith("start"):
            assert host.request("GET", f"{PUBLIC}/instances/{instance_id}").status == 404
        elif entrance.endswith("event"):
            assert host.status(instance_id)["runtimeStatus"] in ("Pending", "Running")


@pytest.mark.parametrize("entrance", ["public start", "local start", "public event", "local event"])
@pytest.mark.parametrize(
    "text",
    ['"a\\u0000b"', '{"": {"\\u202e": []}}', "1" * 4_300, "[" * 99 + "]" * 99, '"\\ud83d\\ude00"', "-0.0", "1e-400"],
    ids=["NUL", "odd names", "4,300 digits", "99 levels", "a pair", "minus zero", "a tiny number"],
)
def test_what_is_comes_in_unchanged(host: HostProcess, entrance: str, text: str):
    instance_id = next(_ids)
    if entrance.endswith("event"):
        host.start("told_event", instance_id)

    assert enter(host, entrance, instance_id, text).status == 202

    assert json.dumps(host.result(instance_id)["output"]["value"]) == json.dumps(json.loads(text))


BAD = ["nan", "infinity", "circle", "deep", "set", "bytes", "object", "class", "key"]


@pytest.mark.parametrize("kind", ["start", "event", "signal"])
@pytest.mark.parametrize("name", BAD)
def test_the_client_takes_in_nothing_that_json_cannot_hold(host: HostProcess, kind: str, name: str):
    instance_id = next(_ids)
    if kind == "event":
        host.start("told_event", instance_id)

    answer = enter(host, f"client {kind}", instance_id, json.dumps({"bad": name}))

    assert answer.status == 400, answer
    assert b"DF301" in answer.body


@pytest.mark.parametrize("name", BAD)
def test_what_user_code_gives_is_refused_where_it_is_given(host: HostProcess, name: str):
    """As a failure that names the place; the instance can be looked at, and the host goes on."""
    places = ["activity", "entity", "child", "activity input", "child input", "custom status", "output"]
    ids = {place: next(_ids) for place in places}
    for place, instance_id in ids.items():
        host.request("POST", f"{PUBLIC}/orchestrators/bad/{instance_id}", json.dumps([place, name]), JSON)

    for place, instance_id in ids.items():
        status = host.result(instance_id)
        caught = status["runtimeStatus"] == "Completed" and str(status["output"]).startswith("refused: ")
        assert caught or status["runtimeStatus"] == "Failed", (place, status)
        assert "DF301" in str(status["output"]), (place, status)
