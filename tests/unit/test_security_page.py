"""The page about security names tests that are there, for every threat."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")


def test_every_threat_has_tests_and_all_of_them_are_there():
    files = {file.stem: file.read_text("utf-8") for file in (ROOT / "tests").rglob("test_*.py")}
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| Threat")]

    named = [re.findall(r"`(test_\w+)(?:::(test_\w+))?`", row) for row in rows]

    assert rows
    assert all(named)
    missing = [f"{file}::{name}" for each in named for file, name in each if f"def {name}(" not in files.get(file, "")]
    assert missing == []
