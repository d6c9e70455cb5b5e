"""The example of an app that runs with either SDK does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from start_kit import eventually, started

from official_sdk import app_environment

EXAMPLES = Path(__file__).parents[2] / "docs" / "reference" / "examples"


def example_of(name: str, folder: Path) -> Path:
    """An app folder with an example in it, and an environment with both SDKs."""
    shutil.copy(EXAMPLES / f"{name}.py", folder / "function_app.py")
    (folder / "host.json").write_text('{"version": "2.0"}')
    app_environment(folder / ".venv")
    return folder


@pytest.mark.parametrize("sdk", ["ours", "app"])
@pytest.mark.parametrize("is_over_http", [False, True])
def test_an_event_is_understood_however_it_comes(tmp_path: Path, sdk: str, is_over_http: bool):
    with started(example_of("both_sdks", tmp_path), "--sdk", sdk) as host:
        assert host.start("approval", "x").status == 202
        eventually(lambda: host.status("x")["runtimeStatus"] == "Running")

        if is_over_http:
            path = "/runtime/webhooks/durabletask/instances/x/raiseEvent/Approval"
            answer = host.request("POST", path, json.dumps({"approved": True}), {"Content-Type": "application/json"})
        else:
            answer = host.request("POST", "/api/approve/x")

        assert answer.status == 202
        assert host.result("x")["output"] is True
