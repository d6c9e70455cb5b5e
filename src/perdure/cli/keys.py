"""`perdure keys`: the keys that callers of an app have to show when its host asks for some."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from perdure.cli import render
from perdure.cli.exits import failures_told
from perdure.cli.location import app_folder
from perdure.host.http.keys import HOST_DEFAULT, LINKS, Keys, checked_name
from perdure.state_folder import StateFolder

if TYPE_CHECKING:
    from collections.abc import Callable


def _key_name(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        return checked_name(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _app_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--app",
        metavar="DIR",
        type=click.Path(file_okay=False, path_type=Path),
        help="The app folder; default: the current one, or the nearest above it.",
    )(command)


_name_argument = click.argument("name", callback=_key_name)


@click.group()
def keys() -> None:
    """Show and renew the keys of an app.

    A host asks for keys with --enable-auth, and wherever other machines reach it. `master` opens everything,
    `system/durabletask_extension` the management API, `host/default` all functions of the level "function",
    `functions/NAME/default` one of them. Further ones may be made: `read/NAME` looks at instances, `operate/NAME`
    starts and steers them too, but removes nothing. Callers show a key as x-functions-key, or as code in the query.
    """


@keys.command("list")
@_app_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line instead of a table.")
def list_keys(*, app: Path | None, as_json: bool) -> None:
    """Show all keys."""
    with failures_told():
        values = {name: value for name, value in _keys(app).values().items() if name != LINKS}
    if as_json:
        click.echo(render.json_line(values))
    elif values:
        click.echo(render.table(("NAME", "KEY"), sorted(values.items())))
    else:
        click.echo(
            f"No keys yet. The first start with --enable-auth makes them, and:  perdure keys rotate {HOST_DEFAULT}"
        )


@keys.command("rotate")
@_app_option
@_name_argument
def rotate(*, app: Path | None, name: str) -> None:
    """Renew a key, or make a further one. What had the old value is refused at once, by running hosts too.

    To change over without a gap, make a further key first, such as host/next, and remove the old one later. Rotating
    `links` ends all links to instances that were handed out.
    """
    with failures_told():
        value, _ = _keys(app, is_changed=True).put(name)
    click.echo("Links that were handed out before get nobody in any more." if name == LINKS else value)


@keys.command("remove")
@_app_option
@_name_argument
def remove(*, app: Path | None, name: str) -> None:
    """Remove a key that was made beside the first ones."""
    with failures_told():
        try:
            is_removed = _keys(app, is_changed=True).remove(name)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="name") from None
    click.echo(f"Removed {name}." if is_removed else f"There is no key {name}.")


def _keys(app: Path | None, *, is_changed: bool = False) -> Keys:
    state = StateFolder(app_folder(app))
    if is_changed:
        state.prepare()
    return Keys(state.keys_file)
