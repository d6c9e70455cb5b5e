"""Replays for the official host: what perdure's SDK answers is what the official SDK answers, action for action."""

import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import azure.durable_functions as df
import pytest
from foreign_host import ForeignHost, event_names
from generated import Generated
from programs import counter, orchestrator_of

from official_sdk import official_python, without_python

PROGRAMS = 400
# How it fails if part of a composite ends after the composite has failed, inside another one.
_OFFICIAL_DEFECT = "This most likely means that Task"
SCHEMAS: list[dict[str, Any]] = [
    {},
    {"upperSchemaVersion": 0},
    {"upperSchemaVersion": 1},
    {"upperSchemaVersion": 1, "upperSchemaVersionNew": 2},
    {"upperSchemaVersion": 1, "upperSchemaVersionNew": 2},
    {"upperSchemaVersion": 1, "upperSchemaVersionNew": 5},
]


class Replayer:
    """The official SDK in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, **asked: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@pytest.fixture(scope="module")
def official() -> Iterator[Replayer]:
    script = Path(__file__).with_name("official_replayer.py")
    with subprocess.Popen(
        [str(official_python()), str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        encoding="utf-8", env={**without_python(), "PYTHONUTF8": "1"}, cwd=script.parent,
    ) as process:  # fmt: skip
        yield Replayer(process)
        process.kill()


def ours(program: Any, context: str) -> dict[str, Any]:
    """What our handler gives, in the form of the replayer's answers."""
    try:
        return {"answer": df.Orchestrator.create(orchestrator_of(df, program))(context)}
    except Exception as error:
        return {"text": str(error)}


def state_of(answer: dict[str, Any]) -> dict[str, Any]:
    return json.loads(answer["answer"] if "answer" in answer else answer["text"].split("$OutOfProcData$:")[1])


def test_generated_orchestrators_are_answered_alike(official: Replayer):
    replays = 0
    for seed in range(PROGRAMS):
        rng = random.Random(seed)
        generated = Generated(rng)
        program = generated.program()
        host = ForeignHost(
            rng,
            program,
            rng.choice(SCHEMAS),
            marks_played=rng.random() < 0.5,
            early=not generated.looks and all(len(event_names(step)) < 2 for step in program),
            input=rng.choice([None, {"a": 1}, '{"a": 2}', '"text"']),
        )
        for context in host.contexts(lambda text, program=program: state_of(ours(program, text))):
            expected = official.ask(program=program, context=context)
            if _OFFICIAL_DEFECT in expected.get("text", ""):
                break
            assert ours(program, context) == expected, f"seed {seed}: {program}\n{context}"
            replays += 1

    assert replays > 4 * PROGRAMS


OPERATIONS = ["add", "boom", "reset", "get"]


def test_generated_batches_of_entities_are_answered_alike(official: Replayer):
    """Results are set by every operation here, and none raises after it has changed the state: see the defects."""
    rng = random.Random(1)
    for _ in range(100):
        exists = rng.random() < 0.6
        batch = json.dumps({
            "self": {"name": "counter", "key": "k"},
            "exists": exists,
            "state": str(rng.randint(0, 9)) if exists else None,
            "batch": [
                {"name": name, "input": json.dumps(str(rng.randint(1, 9))), "isSignal": rng.random() < 0.5}
                for name in rng.choices(OPERATIONS, k=rng.randint(1, 5))
            ],
        })  # fmt: skip

        assert timeless(df.Entity.create(counter)(batch)) == timeless(official.ask(batch=batch)["answer"])


def timeless(answer: str) -> Any:
    members = json.loads(answer)
    for each in members["results"]:
        del each["startTime"], each["duration"]
    return members
