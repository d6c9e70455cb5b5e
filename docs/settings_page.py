"""The page docs/reference/settings.md: every setting of host.json, local.settings.json and the environment."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

import msgspec

from perdure.engine.settings import Settings
from perdure.host.settings.host_settings import DURABLE, MOVED, MOVED_SECTIONS, PROVIDERS, SETTINGS, STORAGE
from perdure.host.settings.local_settings import SETTINGS as LOCAL_SETTINGS
from perdure.host.settings.setting import Effect, Section, Setting, Span, TimeLimit, span_text

INTRODUCTION = """\
# Settings

Everything that can be set for an app, with what it is unless something else is said, and what becomes of it here:

- **honoured**: it does what it says;
- **accepted**: it may be there, is checked, and changes nothing, for the reason that is given;
- **later**: as accepted, but a warning says so at the start;
- **not available**: what it is about is not here.

[The guide](../guides/settings.md) says which of them win over which, and what happens to names and values that are
wrong. Times are `hh:mm:ss`, with days `d.hh:mm:ss`; a number alone means days, as everywhere in .NET."""

FOREIGN = """\
Settings of storage providers are known for the provider that they belong to. Whichever one an app asks for, its hub is
kept in perdure's own store, and no service is contacted."""

VARIABLES = (
    ("AzureFunctionsJobHost__a__b", "any setting of host.json, names joined by `__`, places in lists as numbers"),
    ("AzureWebJobs.NAME.Disabled", "`true` or `1` disables a function; also `AzureWebJobs__NAME__Disabled`"),
    ("AzureWebJobsDisableHomepage", "`true`: no page at `/`"),
    ("AzureWebJobsStorage", "a storage account, which is not used; with `--strict`, only the emulator is allowed"),
    ("FUNCTIONS_WORKER_PROCESS_COUNT", "processes that activities run in; 1 for the host's own"),
    ("FUNCTIONS_WORKER_RUNTIME", "anything but `python` is a warning"),
    ("PYTHON_SCRIPT_FILE_NAME", "the app's script; default is `function_app.py`"),
    ("PYTHON_THREADPOOL_THREAD_COUNT", "threads for sync functions; default is four more than processors, 32 at most"),
    ("WEBSITE_SITE_NAME", "names the hub, if host.json does not"),
    ("WEBSITE_SLOT_NAME", "in another slot than `Production`, the hub has to be named"),
    ("WEBSITE_TIME_ZONE, TZ", "the time zone of timer schedules"),
    ("PERDURE_CALL_HTTP_ALLOW", "where `call_http` may go beyond the public web, if others reach the host"),
    ("PERDURE_INTERPRETER", "`this`: do not hand over to the virtual environment of the app"),
    ("PERDURE_LINKS_EXPIRE_AFTER", "how long a link to an instance gets in, a time or -1 for ever; default is 90 days"),
    ("PERDURE_MAX_PAYLOAD_BYTES", "the largest payload; default is 64 MiB"),
)  # fmt: skip

SET_FOR_APPS = (
    ("AZURE_FUNCTIONS_ENVIRONMENT", "`Development`, unless it is set"),
    ("AzureWebJobsScriptRoot", "the app's folder"),
    ("FUNCTIONS_CORETOOLS_ENVIRONMENT", "`true`"),
    ("FUNCTIONS_WORKER_RUNTIME", "`python`, unless it is set"),
    ("WEBSITE_HOSTNAME", "`localhost:PORT`"),
    ("ConnectionStrings__NAME", "each of the connection strings of local.settings.json"),
)


def settings_page() -> str:
    """The whole page, without the line that says that it is generated."""
    plain = [each for each in SETTINGS if not each.path.startswith("extensions.")]
    durable = [each for each in SETTINGS if each.path.startswith(f"{DURABLE}.") and not each.providers]
    http = [each for each in SETTINGS if each.path.startswith("extensions.http.")]
    others = [each for each in SETTINGS if each.path.startswith("extensions.") and each not in (*durable, *http)]
    lines = [INTRODUCTION, "", "## host.json", "", *_table(plain, "")]
    lines += ["", f"## host.json: `{DURABLE}`", "", *_table(durable, f"{DURABLE}.")]
    lines += ["", f"## host.json: `{STORAGE}`", "", FOREIGN]
    for provider in PROVIDERS[:-1]:
        rows = [each for each in others if provider in each.providers]
        lines += ["", f"### {provider}", "", *_table(rows, f"{STORAGE}.")]
    lines += ["", "## host.json: `extensions.http`", "", *_table(http, "extensions.http.")]
    lines += ["", "## host.json: other extensions", ""]
    lines += _table([each for each in others if not each.providers], "extensions.")
    lines += [
        "",
        "## host.json: older spellings",
        "",
        "Used, with a warning that says where later hosts want them.",
        "",
    ]
    lines += ["| Was | Is |", "|---|---|"]
    lines += [f"| `{was}` | `{now}` |" for was, now in (*MOVED_SECTIONS.items(), *MOVED.items())]
    lines += ["", "## local.settings.json", "", *_table(LOCAL_SETTINGS, "")]
    lines += ["", "## Environment variables", "", "Those that are read:", "", *_pairs("Variable", VARIABLES)]
    lines += ["", "Those that are set for the app:", "", *_pairs("Variable", SET_FOR_APPS)]
    lines += ["", "## The engine", "", "What an engine can be told by `perdure`'s own code, not by an app.", ""]
    lines += _engine_rows()
    return "\n".join(lines) + "\n"


def _table(settings: Iterable[Setting[Any]], prefix: str) -> Iterator[str]:
    yield "| Setting | Value | Default | Meaning | Here |"
    yield "|---|---|---|---|---|"
    for each in settings:
        name = each.path.removeprefix(prefix)
        yield f"| `{name}` | {_kind(each)} | {_default(each)} | {each.meaning} | {_effect(each)} |"


def _kind(setting: Setting[Any]) -> str:
    kind: Any = setting.kind
    if isinstance(kind, TimeLimit):
        return "time, or -1"
    if not isinstance(kind, Span):
        return "object" if isinstance(kind, Section) else str(kind.expected)
    if kind.most is not None:
        return f"time from {span_text(kind.least or timedelta())} to {span_text(kind.most)}"
    return f"time of at least {span_text(kind.least)}" if kind.least else "time"


def _default(setting: Setting[Any]) -> str:
    if setting.unset:
        return setting.unset
    shown = setting.shown_default
    return f"`{shown}`" if shown else ""


def _effect(setting: Setting[Any]) -> str:
    if not setting.note:
        return str(setting.effect)
    return f"{setting.effect}{'; ' if setting.effect is Effect.HONOURED else ': '}{setting.note}"


def _pairs(title: str, pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield f"| {title} | Meaning |"
    yield "|---|---|"
    for name, meaning in pairs:
        yield f"| `{name}` | {meaning} |"


def _engine_rows() -> Iterator[str]:
    documented = inspect.getdoc(Settings) or ""
    meanings = dict(re.findall(r"^ +(\w+): ((?:.|\n(?! +\w+: ))+)", documented, re.MULTILINE))
    yield "| Setting | Default | Meaning |"
    yield "|---|---|---|"
    for field in msgspec.structs.fields(Settings):
        meaning = " ".join(meanings[field.name].split()).rstrip(".")
        yield f"| `{field.name}` | {_shown(field.default)} | {meaning} |"


def _shown(value: Any) -> str:
    if not isinstance(value, timedelta):
        return str(value)
    seconds = value.total_seconds()
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1000:g} ms"
