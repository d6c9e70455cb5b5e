"""The documentation says what the code does."""

import importlib
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))  # where the generator's own modules are
GENERATE = runpy.run_path(str(ROOT / "docs" / "generate.py"))
SDK_PAGE = importlib.import_module("sdk_page")
EXAMPLES = ROOT / "docs" / "reference" / "examples"
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))


@pytest.mark.parametrize("name", GENERATE["PAGES"])
def test_a_generated_page_is_up_to_date(name: str):
    written = (ROOT / "docs" / "reference" / name).read_text("utf-8")

    assert written == GENERATE["PAGES"][name](), "run: make docs"


@pytest.mark.parametrize("module", ["", ".models", ".models.Task"])
def test_the_reference_has_every_public_name_of_the_sdk(module: str):
    public = importlib.import_module(f"azure.durable_functions{module}").__all__
    page = described()

    assert set(public) - set(page.headings) - set(SDK_PAGE.ALSO_CALLED.values()) == set()


def test_every_parameter_in_the_reference_says_what_it_is():
    assert described().undescribed == []


def test_an_example_names_a_member_that_is_there():
    page = described()

    shown = {name for snippet in SDK_PAGE.snippets() for name in snippet.shows}

    assert shown - set(page.headings) - page.properties == set()


def test_every_example_is_run_by_a_test():
    tests = "".join(file.read_text("utf-8") for file in (ROOT / "tests").rglob("test_examples*.py"))
    run = set(re.findall(r"(?:example|example_of|program)\(\"(\w+)\"", tests))

    assert run == {file.stem for file in EXAMPLES.glob("*.py")}


@pytest.mark.parametrize("guide", GUIDES, ids=[guide.name for guide in GUIDES])
def test_the_code_of_a_guide_is_part_of_an_example(guide: Path):
    blocks = re.findall(r"^```(python|json)\n(.*?)^```", guide.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    files = [*EXAMPLES.iterdir(), *(ROOT / "samples" / "classic").rglob("*.*")]
    examples = [file.read_text("utf-8") for file in files if file.suffix in (".py", ".json")]

    assert blocks
    assert [code for _, code in blocks if not any(code in each for each in examples)] == []


def test_links_inside_the_reference_lead_to_a_heading():
    text = (ROOT / "docs" / "reference" / "sdk.md").read_text("utf-8")
    guides = "".join(guide.read_text("utf-8") for guide in GUIDES)
    asked = set(re.findall(r"\]\(#([^)]+)\)", text)) | set(re.findall(r"reference/sdk\.md#([^)]+)\)", guides))

    headings = {re.sub(r"[^\w -]", "", each).strip().lower() for each in re.findall(r"^#+ (.*)", text, re.MULTILINE)}

    assert asked - {each.replace(" ", "-") for each in headings} == set()


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


def described() -> Any:
    """The page of the SDK, made."""
    page = SDK_PAGE.Page()
    page.text()
    return page
