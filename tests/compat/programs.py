"""Orchestrators made of data, so that two SDKs in two processes run the same.

A program is a list of steps; a step that gives a value appends it to what the orchestrator returns. Tasks are written
as lists as well: `["activity", "A", 5]`. Also imported by `official_replayer.py`, where only the official SDK is there.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from datetime import timedelta
from typing import Any

Program = list[list[Any]]

SHORT_S = 6 * 86_400  # timers up to here the host takes whole


def orchestrator_of(df: Any, program: Program) -> Callable[[Any], Generator[Any, Any, Any]]:
    """The orchestrator that a program stands for.

    Args:
        df: the module `azure.durable_functions`, whichever.
    """

    def orchestrator(context: Any) -> Generator[Any, Any, Any]:
        log: list[Any] = []
        kept: dict[str, Any] = {}

        def task(written: list[Any]) -> Any:
            match written:
                case ["kept", name]:
                    return kept[name]
                case ["activity", name, value]:
                    return context.call_activity(name, value)
                case ["retry", name, attempts, value]:
                    return context.call_activity_with_retry(name, df.RetryOptions(2000, attempts), value)
                case ["child", name, value, child_id, version]:
                    return context.call_sub_orchestrator(name, value, child_id, version)
                case ["child-retry", name, attempts, value]:
                    return context.call_sub_orchestrator_with_retry(name, df.RetryOptions(500, attempts), value)
                case ["timer", seconds]:
                    return context.create_timer(context.current_utc_datetime + timedelta(seconds=seconds))
                case ["event", name]:
                    return context.wait_for_external_event(name)
                case ["entity", key, operation, value]:
                    return context.call_entity(df.EntityId("Counter", key), operation, value)
                case ["http", method, uri, content, headers]:
                    source = df.ManagedIdentityTokenSource("https://x/") if method == "PUT" else None
                    return context.call_http(method, uri, content, headers, source)
                case ["all", *parts]:
                    return context.task_all([task(each) for each in parts])
                case ["any", *parts]:
                    return context.task_any([task(each) for each in parts])
                case _:
                    raise AssertionError(written)

        for step in program:
            match step:
                case ["yield", written]:
                    log.append(_plain((yield task(written))))
                case ["caught", written]:
                    try:
                        log.append(_plain((yield task(written))))
                    except Exception as error:
                        log.append(str(error))
                case ["keep", name, written]:
                    kept[name] = task(written)
                case ["race", *parts]:
                    tasks = [task(each) for each in parts]
                    winner = yield context.task_any(tasks)
                    log.append([tasks.index(winner), [each.state.value if each is winner else 0 for each in tasks]])
                    for part, each in zip(parts, tasks, strict=True):
                        # A long one goes on in the official SDK, which only notes that it was given up.
                        if part[0] == "timer" and part[1] < SHORT_S and not each.is_completed:
                            each.cancel()
                case ["signal", key, operation, value]:
                    context.signal_entity(df.EntityId("Counter", key), operation, value)
                case ["status", value]:
                    context.set_custom_status(value)
                case ["look"]:
                    now = context.current_utc_datetime.isoformat()
                    log.append([now, context.is_replaying, context.instance_id, context.parent_instance_id])
                case ["ids"]:
                    log.append([context.new_uuid(), str(context.new_guid())])
                case ["input"]:
                    log.append(context.get_input())
                case ["raise", text]:
                    raise ValueError(text)
                case ["continue", value]:
                    context.continue_as_new(value)
                    return None
                case _:
                    raise AssertionError(step)
        return log

    return orchestrator


def _plain(value: Any) -> Any:
    """A result without tasks in it: of those only the results."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if hasattr(value, "is_completed"):
        return ["task", str(value.result) if isinstance(value.result, Exception) else _plain(value.result)]
    return value


def counter(context: Any) -> None:
    """An entity for either SDK."""
    value = context.get_state(lambda: 0)
    operation = context.operation_name
    if operation == "add":
        context.set_state(value + context.get_input())
        context.set_result(value + context.get_input())
    elif operation == "boom":
        raise ValueError("bad")
    elif operation == "reset":
        context.set_result("gone")
        context.destruct_on_exit()
    else:
        context.set_result([context.entity_name, context.entity_key, operation, value])
        context.set_state(value)
