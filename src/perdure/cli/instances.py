"""`perdure instances`: look at orchestrations and steer them, beside a running host or without one."""

from __future__ import annotations

import functools
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from perdure.cli import render
from perdure.cli.exits import failures_told
from perdure.cli.hosted_hub import HostedHub
from perdure.cli.location import Command, HubLocation, hub_options, locate
from perdure.cli.stored_hub import StoredHub
from perdure.cli.task_hub import TaskHub
from perdure.core.records import InstanceQuery, RuntimeStatus
from perdure.webapi.payloads import json_text, parsed_time


def on_hub(command: Command) -> Command:
    """Give a command the hub that its options name, and report failures."""

    @hub_options
    @functools.wraps(command)
    def opened(*, app: Path | None, store: str | None, hub: str | None, **arguments: Any) -> None:
        with failures_told():
            command(_opened(locate(app, store, hub)), **arguments)

    return opened


def _opened(location: HubLocation) -> TaskHub:
    """The hub through its host if that answers, or else through its store."""
    if location.host is not None:
        hosted = HostedHub(location.host)
        if hosted.answers():
            return hosted
    return StoredHub(location)


def time_of(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """An option's text as a date or time; without a zone it is UTC."""
    time = parsed_time(value)
    if value is not None and time is None:
        raise click.BadParameter(f"{value!r} is no time; write it as 2026-01-31 or 2026-01-31T10:00:00Z.", ctx, param)
    return time


@click.group()
def instances() -> None:
    """Look at orchestrations and steer them, beside a running host or without one."""


@instances.command("list")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice([status.value for status in RuntimeStatus], case_sensitive=False),
    help="Only instances in this state; may be repeated.",
)
@click.option("--prefix", metavar="TEXT", help="Only instances whose id begins so.")
@click.option("--created-after", metavar="TIME", callback=time_of, help="Only instances created then or later (UTC).")
@click.option(
    "--created-before", metavar="TIME", callback=time_of, help="Only instances created then or earlier (UTC)."
)
@click.option("--top", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@on_hub
def list_instances(
    hub: TaskHub,
    *,
    statuses: tuple[str, ...],
    prefix: str | None,
    created_after: datetime | None,
    created_before: datetime | None,
    top: int,
    as_json: bool,
) -> None:
    """List instances in the order in which they were created."""
    query = InstanceQuery(
        statuses=frozenset(map(RuntimeStatus, statuses)) or None,
        created_from=created_after,
        created_to=created_before,
        prefix=prefix,
        limit=top,
    )
    if as_json:
        for status in hub.list(query):
            click.echo(render.json_line(status))
        return
    found = list(hub.list(query))
    click.echo(render.instances_table(found) if found else "No instances.")
    if len(found) == top:
        click.echo(f"There may be more than these {top}; see more with --top.", err=True)


@instances.command("show")
@click.argument("instance_id")
@on_hub
def show_instance(hub: TaskHub, *, instance_id: str, as_json: bool) -> None:
    """Show one instance with its input, output and custom status."""
    status = hub.show(instance_id)
    click.echo(render.json_line(status) if as_json else render.instance_block(status))


@instances.command("history")
@click.argument("instance_id")
@on_hub
def show_history(hub: TaskHub, *, instance_id: str, as_json: bool) -> None:
    """Show what happened to an instance, event by event."""
    events = hub.history(instance_id)
    if as_json:
        for event in events:
            click.echo(render.json_line(event))
    else:
        click.echo(render.history_table(events) if events else "Nothing has happened yet: the instance is Pending.")


@instances.command("raise-event")
@click.argument("instance_id")
@click.argument("event_name")
@click.option("--data", metavar="JSON|@FILE", help="What the event carries: JSON, or @ and the name of a file with it.")
@on_hub
def raise_event(hub: TaskHub, *, instance_id: str, event_name: str, data: str | None, as_json: bool) -> None:
    """Send an external event to an instance."""
    if not event_name:
        raise click.UsageError("The event's name is empty.")
    hub.raise_event(instance_id, event_name, _json_argument(data))
    _tell(hub, as_json, f"Event '{event_name}' sent to instance '{instance_id}'.", instance_id)


@instances.command("terminate")
@click.argument("instance_id")
@click.option("--reason", metavar="TEXT", help="Why; becomes the instance's output.")
@on_hub
def terminate(hub: TaskHub, *, instance_id: str, reason: str | None, as_json: bool) -> None:
    """End an instance without running its code again."""
    hub.terminate(instance_id, reason)
    _tell(hub, as_json, f"Instance '{instance_id}' is told to end.", instance_id)


def _tell(hub: TaskHub, as_json: bool, sentence: str, instance_id: str) -> None:
    if as_json:
        click.echo(render.json_line({"instanceId": instance_id, "accepted": True, "hostIsRunning": hub.is_running}))
    elif hub.is_running:
        click.echo(render.printable(sentence))
    else:
        click.echo(render.printable(f"{sentence} No host is running: it takes effect at the next 'perdure start'."))


def _json_argument(data: str | None) -> str | None:
    if data is None:
        return None
    try:
        return json_text(Path(data[1:]).read_bytes() if data.startswith("@") else data.encode())
    except OSError as error:
        raise click.UsageError(f"{data[1:]} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        hint = "a text needs quotes of its own, as in --data '\"text\"'"
        raise click.UsageError(f"--data is not JSON: {error}; {hint}") from error
