"""What somebody can do who may write payloads, but no code: nothing but be read."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from webapi_kit import RPC_BASE, Api, running_api

from perdure.core.codec import payloads
from perdure.core.failures import FailureDetails
from perdure.core.status_view import json_value

NAMES = [
    ("os", "system"),
    ("subprocess", "Popen"),
    ("this", "s"),
    ("antigravity", "fly"),
    ("perdure.host.http.keys", "Keys"),
    ("builtins", "eval"),
    ("os.path", "join"),
    ("..os", "system"),
    ("os;import this", "x"),
    ("", ""),
    ("__main__", "__builtins__"),
    ("webapi_kit", "Api"),
]


def envelopes() -> Iterator[Any]:
    """What the SDKs write for objects, naming what no payload should get at, in every place of a value."""
    for module, name in NAMES:
        envelope = {"__class__": name, "__module__": module, "__data__": "echo owned"}
        yield from (envelope, [envelope], {"a": {"b": [envelope]}}, {json.dumps(envelope): 1})
        yield {"py/object": f"{module}.{name}", "py/reduce": [{"py/function": f"{module}.{name}"}]}
        yield {"__class__": [name], "__module__": {"m": module}, "__data__": envelope}


# An audit hook cannot be taken away again, so there is one, which counts only while something is watched.
_imported: list[str] = []
_watching = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event in ("import", "exec", "compile", "os.system", "subprocess.Popen", "pickle.find_class"):
        _imported.append(f"{event} {arguments[0]}")


sys.addaudithook(_audit)


@pytest.fixture
def nothing_runs() -> Iterator[None]:
    """Fails if anything is imported, compiled or started meanwhile."""
    global _watching
    before = set(sys.modules)
    _imported.clear()
    _watching = True
    try:
        yield
    finally:
        _watching = False
    assert _imported == []
    assert set(sys.modules) - before == set()


@pytest.mark.usefixtures("nothing_runs")
def test_a_payload_that_names_a_class_stays_what_it_is():
    for value in envelopes():
        text = json.dumps(value)

        assert payloads.decode(text) == value
        assert json_value(text) == value


@pytest.mark.usefixtures("nothing_runs")
def test_the_type_of_a_failure_is_a_text_and_is_looked_up_nowhere():
    for (module, name), qualified in itertools.product(NAMES, (True, False)):
        details = FailureDetails(f"{module}.{name}" if qualified else name, "message")

        assert not details.is_caused_by(ValueError)
        assert not details.is_caused_by(OSError)


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with running_api() as running:
        yield running


def test_so_it_is_for_inputs_events_and_outputs_of_instances(api: Api):
    for number, value in enumerate(envelopes()):
        text = json.dumps(value)

        assert api.run("echo", f"e{number}", text).json()["output"] == value
        api.start("approval", f"a{number}")
        sent = api.post(
            f"instances/a{number}/raiseEvent/Approval", content=text, headers={"Content-Type": "application/json"}
        )
        assert sent.status_code == 202
        api.ended(f"a{number}")
        assert api.get(f"instances/a{number}").json()["output"] == value


@pytest.mark.parametrize(
    "name", ["BuiltIn::HttpActivity", "builtin::httpactivity", "BuiltIn%3A%3AHttpActivity", "hello"]
)
def test_what_is_no_orchestrator_cannot_be_started(api: Api, name: str):
    """Activities, the one that makes HTTP requests among them, are called by orchestrations alone."""
    answer = api.post(f"orchestrators/{name}/sneaked", json={"method": "GET", "uri": "http://169.254.169.254/"})

    local = api.post(f"orchestrators/{name}/sneaked", base=RPC_BASE, json={"method": "GET", "uri": "http://10.0.0.1/"})

    for refused in (answer, local):
        assert refused.status_code == 400
        assert "doesn't exist" in refused.json()["Message"]
    assert api.get("instances/sneaked").status_code == 404
    assert api.post("instances/sneaked/raiseEvent/BuiltIn::HttpActivity", json={"uri": "http://x"}).status_code == 404
    assert api.post(f"entities/{name}/x?op=GET", json={"uri": "http://x"}).status_code in (400, 202)
    assert api.get(f"entities/{name}/x").status_code == 404
