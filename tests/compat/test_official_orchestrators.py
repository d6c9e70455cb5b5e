"""The official SDK's orchestrators under the cursor of the protocol, in an environment of their own.

Mail comes in any order and in any batches, hosts are replaced at any time, and some instances are suspended; what an
orchestrator comes to depends on none of that.
"""

import json
import subprocess
from pathlib import Path

import pytest

from official_sdk import app_environment, without_python

PROGRAMS = Path(__file__).with_name("official_programs.py")
SEEDS = 15


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    python = app_environment(tmp_path_factory.mktemp("app") / ".venv")
    command = [str(python), str(PROGRAMS), str(SEEDS)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=without_python())
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_every_program_ends_as_it_should_whatever_the_order(outcomes: list[dict[str, object]]):
    assert len(outcomes) >= 12
    assert [each for each in outcomes if each["count"]] == []
