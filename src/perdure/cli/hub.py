"""`perdure hub`: look after a task hub as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from perdure.cli import render
from perdure.cli.exits import EXIT_FINDINGS, EXIT_STORE, fail, failures_told
from perdure.cli.location import hub_options, locate
from perdure.cli.stored_hub import read_store
from perdure.engine.check import check_hub

if TYPE_CHECKING:
    from perdure.engine.check import CheckReport


@click.group()
def hub() -> None:
    """Look after a task hub as a whole."""


@hub.command("check")
@hub_options
def check(*, app: Path | None, store: str | None, hub: str | None, as_json: bool) -> None:
    """Check that everything stored about every instance holds together.

    Only reads, and may run beside a host. Ends with exit code 5 if something is wrong.
    """
    with failures_told():
        location = locate(app, store, hub)
        if location.file is not None and not location.file.exists():
            fail(f"There is no task hub '{location.hub}' at {location.file}: it never ran.", EXIT_STORE)
        report = read_store(location, check_hub)
    click.echo(_as_json(report) if as_json else _as_text(report, location.hub))
    if report.findings:
        raise click.exceptions.Exit(EXIT_FINDINGS)


def _as_text(report: CheckReport, hub: str) -> str:
    counted = (
        f"Task hub '{hub}': {report.instances} instances, {report.events} events, {len(report.findings)} findings."
    )
    if not report.findings:
        return render.printable(counted)
    rows = [(each.invariant, each.instance_id, each.sentence) for each in report.findings]
    return f"{render.table(('INVARIANT', 'INSTANCE ID', 'FINDING'), rows)}\n\n{counted}"


def _as_json(report: CheckReport) -> str:
    findings = [
        {"invariant": each.invariant, "instanceId": each.instance_id, "sentence": each.sentence}
        for each in report.findings
    ]
    return render.json_line({"instances": report.instances, "events": report.events, "findings": findings})
