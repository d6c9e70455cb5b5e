"""The OpenAPI description has what the code has."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MODULE: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "openapi.py"))


def test_every_parameter_that_the_management_api_asks_for_is_described_and_no_other():
    code = "".join(file.read_text("utf-8") for file in (ROOT / "src" / "perdure" / "webapi").glob("*.py"))
    asked = set(re.findall(r'\bquer(?:y|ies)\("(\w+)"\)', code)) - {"code"}  # that is a way to show a key

    described = {name.lower() for each in MODULE["MANAGEMENT"] for name in each.query} | {"taskhub"}

    assert asked == described


def test_every_operation_has_a_name_of_its_own_and_tells_what_it_answers():
    operations = [each for path in MODULE["openapi"]()["paths"].values() for each in path.values()]

    assert len({each["operationId"] for each in operations}) == len(operations)
    assert all(set(each["responses"]) > {"401"} and each["summary"].endswith(".") for each in operations)


def test_variables_of_a_path_are_its_parameters():
    for path, operations in MODULE["openapi"]()["paths"].items():
        for each in operations.values():
            in_path = [parameter["name"] for parameter in each["parameters"] if parameter["in"] == "path"]
            assert in_path == re.findall(r"{(\w+)}", path)
