"""Importing the host decides which SDK an app gets."""

import subprocess
import sys
from pathlib import Path

from perdure.host.sdk.sdk import SDK_ROOT

OFFICIAL = """
import sys
sys.path.insert(0, {official!r})
"""


def run(official: Path, code: str) -> subprocess.CompletedProcess[str]:
    """The code in a fresh interpreter that finds another `azure.durable_functions` first."""
    package = official / "azure" / "durable_functions"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    text = OFFICIAL.format(official=str(official)) + code
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=20, check=False)


def test_perdures_own_comes_before_the_official_one(tmp_path: Path):
    ended = run(
        tmp_path, "import azure.functions, perdure.host, azure.durable_functions as df\nprint(df.__file__, df.DFApp)"
    )

    assert ended.stdout.startswith(str(SDK_ROOT)), ended.stderr


def test_an_official_one_that_was_imported_first_is_named_by_its_file(tmp_path: Path):
    ended = run(tmp_path, "import azure.durable_functions, perdure.host")

    assert "DF111" in ended.stderr
    assert str(tmp_path / "azure" / "durable_functions") in ended.stderr
