"""The `perdure` command: its groups are imported when they are called, so that `--help` answers at once."""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - pip refuses to install on it, but a copied folder runs
    found = ".".join(str(part) for part in sys.version_info[:3])
    sys.exit(f"perdure needs Python 3.11 or later; this is Python {found} ({sys.executable}).")

from importlib import import_module, metadata
from typing import Any

import click

from perdure.cli.exits import exit_code_of
from perdure.errors import PerdureError

# Name → module and attribute of its command, and its line in the help.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "start": ("perdure.cli.start", "start", "Run the app in this folder (the default command)."),
    "instances": ("perdure.cli.instances", "instances", "List, show and steer orchestration instances."),
    "keys": ("perdure.cli.keys", "keys", "Show and renew the keys that callers have to show."),
    "hub": ("perdure.cli.hub", "hub", "Look after a task hub as a whole."),
}


class _LazyGroup(click.Group):
    """A group that knows its commands by name only, and takes `start` for none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        return getattr(import_module(module), attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ("--help", "-h", "--version")):
            args = ["start", *args]
        return super().parse_args(ctx, args)


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"perdure {metadata.version('perdure')}")
        ctx.exit()


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def perdure() -> None:
    """Durable Functions for Python, anywhere."""


def main(**extra: Any) -> None:
    """Run the command line."""
    try:
        perdure(prog_name="perdure", **extra)
    except PerdureError as error:
        click.echo(str(error), err=True)
        sys.exit(exit_code_of(error))
