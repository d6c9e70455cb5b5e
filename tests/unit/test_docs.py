"""The documentation says what the code does."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GENERATE = runpy.run_path(str(ROOT / "docs" / "generate.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))


@pytest.mark.parametrize("name", GENERATE["PAGES"])
def test_a_generated_page_is_up_to_date(name: str):
    written = (ROOT / "docs" / "reference" / name).read_text("utf-8")

    assert written == GENERATE["PAGES"][name](), "run: make docs"


def test_every_phase_of_an_execution_is_explained():
    automaton = __import__("perdure.core.automaton", fromlist=["LEGAL"])
    phases = {phase for phase, _ in automaton.LEGAL} | set(automaton.LEGAL.values())

    assert set(GENERATE["PHASES"]) == phases


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_to_files_of_the_repository_lead_somewhere(page: Path):
    targets = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", page.read_text("utf-8"))

    assert [each for each in targets if not (page.parent / each).exists()] == []


def test_decisions_are_numbered_without_a_gap_and_have_the_three_parts():
    assert [page.name[:4] for page in DECISIONS] == [f"{number:04}" for number in range(1, len(DECISIONS) + 1)]
    for page in DECISIONS:
        text = page.read_text("utf-8")
        assert all(f"**{part}.**" in text for part in ("Context", "Decision", "Consequence")), page.name


def test_make_help_lists_every_target_that_the_readme_and_the_contributing_guide_name():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    listed = set(re.findall(r"^(\w+):.*## ", makefile, re.MULTILINE))
    named = set(re.findall(r"`make (\w+)", (ROOT / "README.md").read_text("utf-8")))
    named |= set(re.findall(r"`make (\w+)", (ROOT / "CONTRIBUTING.md").read_text("utf-8")))

    assert named
    assert named <= listed


def test_every_target_of_the_makefile_is_phony_or_a_file():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    phony = set(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split())

    assert phony == set(re.findall(r"^(\w+):.*## ", makefile, re.MULTILINE))
