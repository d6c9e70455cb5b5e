"""docs/conformance.md says what the marks of the catalogue say, and the catalogue is complete."""

import importlib
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
GENERATE = runpy.run_path(str(ROOT / "docs" / "generate_conformance.py"))
CASES = [case for group in GENERATE["groups"]() for case in group.cases]

# How many cases each group of the catalogue has.
SIZES = {
    "A": 36, "B": 26, "C": 17, "D": 27, "E": 23, "F": 12, "G": 13, "H": 20, "I": 19, "J": 16, "K": 15, "L": 35,
    "M": 26, "N": 18, "O": 11, "Q": 12,
}  # fmt: skip


def test_the_conformance_page_is_up_to_date():
    assert (ROOT / "docs" / "conformance.md").read_text("utf-8") == GENERATE["page"](), "run: make docs"


def test_every_case_of_the_catalogue_is_tested_or_said_to_come_later():
    expected = [(group, number) for group, size in SIZES.items() for number in range(1, size + 1)]

    assert sorted(case.place for case in CASES) == expected


def test_the_page_counts_as_many_tests_as_there_are():
    runs = 0
    for path in Path(__file__).parent.glob("test_catalogue_*.py"):
        for name, test in vars(importlib.import_module(path.stem)).items():
            if name.startswith("test_"):
                runs += sum(len(mark.args[1]) for mark in getattr(test, "pytestmark", ())) or 1

    assert runs == sum(case.runs for case in CASES)


def test_every_known_defect_has_a_guard_and_every_guard_a_defect():
    guards = {case.regression for case in CASES if case.regression is not None}
    defects = {defect.key: defect for defect in GENERATE["DEFECTS"]}

    assert guards <= set(defects)
    for key, defect in defects.items():
        assert key in guards or defect.tests or defect.later, key
        assert all((ROOT / path).is_file() for path in defect.tests), key
