"""Writes docs/conformance.md from the marks of tests/catalogue, without running them: `make docs`."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).parents[1]
CATALOGUE = ROOT / "tests" / "catalogue"
PAGE = Path(__file__).parent / "conformance.md"
GENERATED = "<!-- Written by docs/generate_conformance.py; run `make docs` after a change of tests/catalogue. -->"

PASSES, CHANGED, LATER = "passes", "changed", "later"


class Case(msgspec.Struct, frozen=True):
    """One case of the catalogue, as its mark describes it.

    Attributes:
        outcome: PASSES, CHANGED (our rule is another one, and that is tested) or LATER (there is no test yet).
        reason: of the outcome, unless it passes.
        runs: in how many combinations of a store and a mode it is tested.
        where: these combinations, in words.
        regression: the known defect of another engine that it guards against, by its key in `DEFECTS`.
    """

    number: str
    scenario: str
    outcome: str
    reason: str = ""
    runs: int = 0
    where: str = "–"
    regression: str | None = None

    @property
    def place(self) -> tuple[str, int]:
        """The group and the place in it."""
        return self.number[0], int(self.number[1:])


class Group(msgspec.Struct, frozen=True):
    """The cases of one module."""

    title: str
    cases: Sequence[Case]

    def count(self, outcome: str) -> int:
        """How many cases have this outcome."""
        return sum(case.outcome == outcome for case in self.cases)


class Defect(msgspec.Struct, frozen=True):
    """A known defect of another engine.

    Attributes:
        key: what the cases that guard against it name it by.
        story: what goes wrong.
        reported: where, in the public trackers.
        guard: why it cannot happen here.
        tests: files of other tests that prove it, and what they need to be built first.
    """

    key: str
    story: str
    reported: str
    guard: str
    tests: tuple[str, ...] = ()
    later: str = ""


DEFECTS = (
    Defect(
        "split brain",
        "Two owners run the same instance, and their partial checkpoints mix.",
        "durable-extension #3375, #901, #1094, #382, #1542, #1748, #724; durabletask #410, #1046, #860, #581",
        "Every commit names the epoch of its lease, and a position in the history is written once.",
        ("tests/conformance/test_conformance_commit.py", "tests/fault/test_planted_faults.py"),
    ),
    Defect(
        "a lock that is not verified",
        "Renewing a lock, or a checkpoint under it, does not ask whose it is by now.",
        "the stored procedures of durabletask-mssql",
        "The epoch is part of every commit.",
        ("tests/conformance/test_conformance_leases.py", "tests/fault/test_planted_faults.py"),
    ),
    Defect(
        "sent but not committed",
        "An answer is sent and the state behind it is lost, so that an entity stays locked.",
        "durable-extension #2228, #1325, #1977",
        "State and messages are one transaction.",
        ("tests/conformance/test_conformance_commit.py", "tests/fault/test_planted_faults.py"),
    ),
    Defect(
        "locks that are not released",
        "An exception leaves entities locked.",
        "durable-extension #2743",
        "The engine releases them whenever an orchestration ends.",
    ),
    Defect(
        "events lost at continue-as-new",
        "External events disappear between two generations.",
        "durable-extension #67, #676, #1676; durabletask-dotnet #387; durable-python #331",
        "Unread events travel with the checkpoint, before all newer ones.",
    ),
    Defect(
        "early events",
        "Of several early events only the last is kept, or one is given out twice.",
        "durable-python #507",
        "All are kept, in order, by name.",
    ),
    Defect(
        "cancelled waits swallow events",
        "An event goes to a wait that nobody looks at any more.",
        "durable-extension #3255",
        "An event goes to the oldest wait that the code is yielding.",
    ),
    Defect(
        "suspension diverges at replay",
        "What was decided before a suspension is decided again, or in another order.",
        "durabletask-go #21; durabletask pull request 1024; durable-extension #2519",
        "Suspension depends on the order of events alone.",
    ),
    Defect(
        "suspension that providers lack",
        "A store cannot suspend, or cannot terminate what is suspended.",
        "durabletask-mssql #181, #300",
        "Stores do not know what suspension is.",
    ),
    Defect(
        "rewind of retries and timers",
        "A rewound history no longer fits the code if that retried, waited or compensated.",
        "durable-extension #617, #444, #2350; durabletask #811, #731, pull request 1391",
        "The code itself is asked what depends on a failure.",
    ),
    Defect(
        "poison messages",
        "What kills its host is tried again for ever.",
        "durabletask #1040, #842; durable-extension #600",
        "After a crash attempts are counted, durably, and end.",
        later="P24, orchestrators that kill their host",
    ),
    Defect(
        "deadlocks of large operations",
        "Checkpoints, purges and locks wait for each other.",
        "durabletask-mssql #79, #193, #214, #217, #81",
        "A partition has one writer, and large purges are many small ones.",
    ),
    Defect(
        "rows in no order",
        "Rows or decisions are taken in whatever order they come.",
        "the SQLite store and the orchestrator of durabletask-go",
        "Mail is read by its sequence, decisions have numbers.",
        ("tests/conformance/test_conformance_mail.py",),
    ),
    Defect(
        "retry delays",
        "The wait before a retry is taken from the wall clock, and differs at replay.",
        "the tasks of durabletask-python",
        "The only clock is the episode's.",
        ("tests/unit/test_retry.py",),
    ),
    Defect(
        "a timer after the last attempt",
        "A call that is given up waits once more.",
        "DurableTask.Core, durable-python 1.x",
        "The last failure is raised at once.",
    ),
    Defect(
        "a lock of the whole database at commit",
        "`NOTIFY` inside a transaction makes all commits wait for each other.",
        "how PostgreSQL works",
        "Wake-ups are gathered, and sent beside the commits.",
        later="with the PostgreSQL store",
    ),
    Defect(
        "purge leaves ghosts",
        "What is purged while it runs leaves messages behind.",
        "the Azure Storage provider of durabletask",
        "Only what has ended is purged, with its mail.",
        ("tests/conformance/test_conformance_mail.py",),
    ),
    Defect(
        "history loaded for every episode",
        "Each step of a long orchestration costs more than the one before.",
        "durabletask-mssql, durabletask-go",
        "Sessions stay in memory between episodes.",
    ),
)


# ---------------------------------------------------------------------- reading the marks


def groups() -> list[Group]:
    """The catalogue as it stands in its modules."""
    found: list[Group] = []
    for path in sorted(CATALOGUE.glob("test_catalogue_?_*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        title = (ast.get_docstring(tree) or "").partition(".")[0].removeprefix("Group ")
        cases = sorted(_cases(tree), key=lambda case: case.place)
        found.append(Group(title, cases))
    return found


def _cases(tree: ast.Module) -> Iterator[Case]:
    names = {
        statement.targets[0].id: statement.value
        for statement in tree.body
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
    }
    for statement in tree.body:
        marks = [statement.value] if isinstance(statement, ast.Expr) else getattr(statement, "decorator_list", ())
        for mark in marks:
            if not (isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name)):
                continue
            given = {each.arg: _literal(each.value, names) for each in mark.keywords}
            match mark.func.id:
                case "case":
                    yield _tested(*map(ast.literal_eval, mark.args), **given)
                case "case_apart":
                    yield _tested_apart(*map(ast.literal_eval, mark.args), **given)
                case "later":
                    number, scenario, when = map(ast.literal_eval, mark.args)
                    yield Case(number, scenario, LATER, when)
                case _:
                    pass


def _literal(node: ast.expr, names: dict[str, ast.expr]) -> Any:
    """The value of a literal, or of a name that stands for one; None for anything else, such as settings."""
    if isinstance(node, ast.Name):
        node = names.get(node.id, node)
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _tested(
    number: str,
    scenario: str,
    changed: str | None = None,
    only: str | None = None,
    why: str | None = None,
    regression: str | None = None,
    settings: None = None,
) -> Case:
    assert (only is None) == (why is None), f"{number}: what runs somewhere only says why"
    store, _, mode = (only or "").partition(" ")
    runs = (1 if store else 2) * (1 if mode else 2)
    shown = " ".join(each for each in (store, {"live": "live", "replay": "replayed"}.get(mode, "")) if each) or "all"
    where = shown if why is None else f"{shown}: {why}"
    return Case(number, scenario, *_outcome(changed), runs, where, regression)


def _tested_apart(
    number: str, scenario: str, why: str, changed: str | None = None, regression: str | None = None
) -> Case:
    return Case(number, scenario, *_outcome(changed), 1, f"apart: {why}", regression)


def _outcome(changed: str | None) -> tuple[str, str]:
    return (PASSES, "") if changed is None else (CHANGED, changed)


# ---------------------------------------------------------------------- writing the page


def page() -> str:
    """The conformance page."""
    found = groups()
    lines = [
        GENERATED,
        "# Conformance",
        "",
        "What a durable engine has to do, case by case, and what becomes of each case here. Every case is a test on",
        "virtual time that runs the real engine, client, SDK and stores: `make catalogue` runs them all.",
        "",
        "- **passes**: what the case says is what happens.",
        "- **changed**: our rule is another one than the catalogue's; ours is tested, and its reason given.",
        "- **later**: what it is about is still to be built.",
        "",
        "*All* stores are memory and SQLite; there, each case runs with live sessions, and again with every episode",
        "replayed from its history. Group P (faults, which `make sim` is about) and the missing part of Q are still to",
        "be listed.",
        "",
        *_totals(found),
        "",
    ]
    for group in found:
        lines += [f"## {group.title}", "", "| Case | Scenario | Outcome | Stores |", "|---|---|---|---|"]
        lines += [_row(case) for case in group.cases]
        lines.append("")
    lines += _defects([case for group in found for case in group.cases])
    return "\n".join(lines) + "\n"


def _totals(found: Sequence[Group]) -> list[str]:
    lines = ["| Group | Cases | Pass | Changed | Later | Tests |", "|---|--:|--:|--:|--:|--:|"]
    for group in found:
        lines.append(_total(f"[{group.title}](#{_anchor(group.title)})", [group]))
    lines.append(_total("**All**", found))
    return lines


def _total(name: str, found: Sequence[Group]) -> str:
    counts = [sum(group.count(outcome) for group in found) for outcome in (PASSES, CHANGED, LATER)]
    runs = sum(case.runs for group in found for case in group.cases)
    return f"| {name} | {sum(counts)} | {counts[0]} | {counts[1]} | {counts[2]} | {runs} |"


def _row(case: Case) -> str:
    outcome = case.outcome if case.outcome == PASSES else f"**{case.outcome}**: {case.reason}"
    return f"| {case.number} | {_cell(case.scenario)} | {_cell(outcome)} | {_cell(case.where)} |"


def _defects(cases: Sequence[Case]) -> list[str]:
    lines = [
        "## Known defects of other engines",
        "",
        "What has gone wrong elsewhere, and what keeps it from going wrong here.",
        "",
        "| Defect | Reported | Guard | Cases and tests |",
        "|---|---|---|---|",
    ]
    for defect in DEFECTS:
        proofs = [case.number for case in cases if case.regression == defect.key]
        proofs += [f"[{Path(path).stem}](../{path})" for path in defect.tests]
        proofs += [f"later: {defect.later}"] if defect.later else []
        lines.append(f"| {defect.story} | {defect.reported} | {defect.guard} | {', '.join(proofs)} |")
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _anchor(title: str) -> str:
    kept = "".join(each for each in title.lower() if each.isalnum() or each in " -")
    return kept.replace(" ", "-")


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
