"""What host.json and the variables that override it say, checked against the table of settings.

Rule 1: every value is one leaf, found by its folded path, as in .NET's configuration; the environment beats the file.
Rule 2: values that cannot be used are errors, all of them in one; names that nobody reads are warnings. Neither repeats
        a text that may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from perdure.errors import AppError
from perdure.host.settings.host_settings import (
    AZURE_STORAGE,
    MOVED,
    MOVED_SECTIONS,
    PROVIDERS,
    SETTINGS,
    STORAGE_TYPE,
)
from perdure.host.settings.setting import Choice, Effect, Listed, Named, Section, Setting, Span, is_bare_number
from perdure.host.settings.settings_file import JsonObject, as_object, line_of

OVERRIDE_PREFIX = "azurefunctionsjobhost__"

T = TypeVar("T")
FoldedPath = tuple[str, ...]

# What may be shown of a value: what no secret looks like.
_HARMLESS = re.compile(r"[\w .:,+%/-]{0,24}\Z")
# Names that people give to remarks, and editors to schemas.
_REMARK = re.compile(r"[$/_#]")

_KNOWN: frozenset[FoldedPath] = frozenset(each.folded[:depth] for each in SETTINGS for depth in range(1, 9))
_SPELT: dict[FoldedPath, str] = {
    each.folded[:depth]: ".".join(each.path.split(".")[:depth]) for each in SETTINGS for depth in range(1, 9)
}
_ROWS: frozenset[FoldedPath] = frozenset(each.folded for each in SETTINGS)
_OPEN: frozenset[FoldedPath] = frozenset(
    each.folded for each in SETTINGS if isinstance(each.kind, Section | Named | Listed)
)


class _Leaf(NamedTuple):
    """A value, or None for nothing: null, or an empty object or list.

    `where` names the variable or is empty for the file.
    """

    path: tuple[str, ...]
    value: object
    variable: str = ""


class WrittenSettings:
    """The settings that somebody has written, wherever that is.

    Attributes:
        warnings: about names that nobody reads, and the like.
    """

    def __init__(self, tree: JsonObject, environ: Mapping[str, str], file: Path) -> None:
        """Check everything that is written.

        Args:
            tree: the file's content.
            environ: the variables, of which some override the file.
            file: where `tree` is from; need not exist.

        Raises:
            AppError: some values cannot be used.
        """
        self._file = file
        self._text: str | None = None
        self._leaves: dict[FoldedPath, _Leaf] = {}
        for leaf in (*_leaves(tree, ()), *_overrides(environ)):
            self._put(leaf)
        self.warnings: list[str] = []
        self._move_sections()
        self._move_flat()
        self._provider = self._storage_provider()
        self._warn_unknown()
        self._warn_later()
        problems = [problem for each in SETTINGS for problem in self._problems(each)]
        if problems:
            raise AppError(
                "DF107", "A setting has a value that cannot be used", *problems, "Correct it, and start again."
            )

    def of(self, setting: Setting[T]) -> T:
        """What the setting says, or its default."""
        found = self._found(setting)
        return setting.default if found is None else setting.kind.read(found)

    def has(self, setting: Setting[Any]) -> bool:
        """Whether somebody has written it."""
        return self._found(setting) is not None

    def where(self, setting: Setting[Any]) -> str:
        """Where it is written, for people."""
        leaf = next(
            (leaf for path, leaf in self._leaves.items() if path[: len(setting.folded)] == setting.folded), None
        )
        return self._file.name if leaf is None else self._where(leaf)

    # ------------------------------------------------------------------ reading

    def _put(self, leaf: _Leaf) -> None:
        folded = _folded(leaf.path)
        before = self._leaves.get(folded)
        if before is not None and leaf.variable:
            leaf = leaf._replace(path=before.path)  # people know it as they have written it
        self._leaves[folded] = leaf

    def _found(self, setting: Setting[Any]) -> object:
        """The value in the form that its kind reads, or None."""
        path = setting.folded
        if setting.providers and self._provider not in setting.providers:
            return None
        leaf = self._leaves.get(path)
        if leaf is not None and leaf.value is not None:
            return leaf.value
        kind: Any = setting.kind
        if not isinstance(kind, Listed | Named):
            return None
        below = [each for found, each in self._leaves.items() if found[:-1] == path and each.value is not None]
        if not below:
            return None
        if isinstance(kind, Named):
            return {each.path[-1]: each.value for each in below}
        return tuple(each.value for each in sorted(below, key=lambda each: each.path[-1].rjust(10)))

    def _problems(self, setting: Setting[Any]) -> Iterator[str]:
        if setting.providers and self._provider not in setting.providers:
            return
        path, depth = setting.folded, len(setting.folded)
        kind: Any = setting.kind
        deepest = depth + 1 if isinstance(kind, Listed | Named) else depth
        for found, leaf in self._leaves.items():
            if found[:depth] != path or leaf.value is None or isinstance(kind, Section):
                continue
            if len(found) > deepest:
                yield f"{self._where(leaf)}: {_spelt(found[:deepest], leaf)} has to be {kind.expected}."
            else:
                yield from self._problem(setting, found, leaf)

    def _problem(self, setting: Setting[Any], found: FoldedPath, leaf: _Leaf) -> Iterator[str]:
        kind: Any = setting.kind
        is_member = len(found) > len(setting.folded)
        kind = kind.item if is_member else kind
        try:
            kind.read(leaf.value)
        except ValueError:
            hint = _hint(kind, leaf.value)
            path = f"{setting.path}.{leaf.path[-1]}" if is_member else setting.path
            yield f"{self._where(leaf)}: {path} is {_shown(leaf.value)}, but has to be {kind.expected}.{hint}"
            return
        if isinstance(kind, Span) and is_bare_number(leaf.value):
            self.warnings.append(
                f"{self._where(leaf)}: {setting.path} is {leaf.value}, which means so many days; seconds are "
                "written 00:00:SS"
            )

    def _where(self, leaf: _Leaf) -> str:
        if leaf.variable:
            return f"the variable {leaf.variable}"
        if self._text is None:
            self._text = self._file.read_text("utf-8-sig") if self._file.exists() else ""
        line = line_of(self._text, leaf.path)
        return self._file.name if line is None else f"{self._file.name}, line {line}"

    # ------------------------------------------------------------------ names

    def _storage_provider(self) -> str:
        leaf = self._leaves.get(STORAGE_TYPE.folded)
        asked = str(leaf.value) if leaf is not None and leaf.value else AZURE_STORAGE
        known = {each.casefold(): each for each in PROVIDERS}
        if asked.casefold() in known or leaf is None:
            return known[asked.casefold()]
        close = get_close_matches(asked.casefold(), known, 1)
        hint = f"; did you mean {known[close[0]]}?" if close else ""
        self.warnings.append(
            f"{self._where(leaf)}: the storage provider {_shown(asked)} is none of {', '.join(PROVIDERS[:-1])}{hint}"
        )
        return asked

    def _move_sections(self) -> None:
        for old, new in MOVED_SECTIONS.items():
            inside = {path: leaf for path, leaf in self._leaves.items() if path[0] == old.casefold() and len(path) > 1}
            if not inside:
                continue
            where = self._where(next(iter(inside.values())))
            self.warnings.append(
                f"{where}: the section {old} is from Functions 1.x; it is used, but later hosts want it as {new}"
            )
            for path in inside:
                self._move(path, (*new.casefold().split("."), *path[1:]))

    def _move_flat(self) -> None:
        for old, new in MOVED.items():
            path = tuple(old.casefold().split("."))
            inside = {found: leaf for found, leaf in self._leaves.items() if found[: len(path)] == path}
            if not inside:
                continue
            where = self._where(next(iter(inside.values())))
            section, _, name = new.rpartition(".")
            called = "" if name.casefold() == path[-1] else f" as {name}"
            self.warnings.append(
                f"{where}: {old} belongs in {section}{called}; it is used, but Durable Functions 2.0 "
                "and later do not read it there"
            )
            for found in inside:
                self._move(found, (*new.casefold().split("."), *found[len(path) :]))

    def _move(self, found: FoldedPath, to: FoldedPath) -> None:
        """Read a value from elsewhere, unless something is there."""
        self._leaves.setdefault(to, self._leaves.pop(found))

    def _warn_unknown(self) -> None:
        told: set[FoldedPath] = set()
        for path, leaf in self._leaves.items():
            unknown = _unknown_part(path)
            if unknown is None and path in _KNOWN - _ROWS and leaf.value is not None:
                self.warnings.append(f"{self._where(leaf)}: {_SPELT[path]} has to be an object")
            elif unknown is None:
                self._warn_foreign(path, leaf)
            elif unknown not in told:
                told.add(unknown)
                self.warnings.append(f"{self._where(leaf)}: {_spelt(unknown, leaf)} {_advice(unknown)}")

    def _warn_later(self) -> None:
        written = [each.path for each in SETTINGS if each.effect is Effect.LATER and self.has(each)]
        if written:
            self.warnings.append(f"{self._file.name}: without effect in this version: {', '.join(written)}")

    def _warn_foreign(self, path: FoldedPath, leaf: _Leaf) -> None:
        """A setting of another storage provider than the one that is asked for."""
        rows = [each for each in SETTINGS if each.folded == path]
        if self._provider not in PROVIDERS[:-1] or any(not each.providers for each in rows):
            return
        owners = [name for each in rows for name in each.providers]
        if owners and self._provider not in owners:
            self.warnings.append(
                f"{self._where(leaf)}: {'.'.join(leaf.path)} is a setting of {' and '.join(owners)}, not of the "
                f"storage provider {self._provider}"
            )


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[_Leaf]:
    members: list[tuple[str, Any]] | None = None
    if isinstance(value, dict):
        members = list(as_object(value).items())
    elif isinstance(value, list):
        members = [(str(index), each) for index, each in enumerate(cast("list[Any]", value))]
    if members:
        for name, each in members:
            yield from _leaves(each, (*path, name))
    elif path:
        yield _Leaf(path, None if members == [] else value)


def _overrides(environ: Mapping[str, str]) -> Iterator[_Leaf]:
    for name in sorted(environ):
        spelt = name.replace(":", "__")
        if spelt.casefold().startswith(OVERRIDE_PREFIX) and len(spelt) > len(OVERRIDE_PREFIX):
            yield _Leaf(tuple(spelt[len(OVERRIDE_PREFIX) :].split("__")), environ[name], name)


def _folded(path: Sequence[str]) -> FoldedPath:
    return tuple(each.casefold() for each in path)


def _spelt(path: FoldedPath, leaf: _Leaf) -> str:
    """A path as it is written officially as far as it is known, and as the user has written it beyond."""
    known = next((depth for depth in range(len(path), 0, -1) if path[:depth] in _SPELT), 0)
    official = _SPELT[path[:known]].split(".") if known else []
    return ".".join([*official, *(leaf.path[known : len(path)] if len(leaf.path) >= len(path) else path[known:])])


def _shown(value: object) -> str:
    """The value, if nothing about it can be a secret."""
    if isinstance(value, str):
        return f"'{value}'" if _HARMLESS.match(value) else f"a text of {len(value)} characters"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _hint(kind: Any, value: object) -> str:
    words = kind.expected.removeprefix("one of ").split(", ") if isinstance(kind, Choice) else ()
    close = get_close_matches(str(value), words, 1)
    return f" Did you mean {close[0]}?" if close else ""


def _unknown_part(path: FoldedPath) -> FoldedPath | None:
    """The path up to the first name that is not known, or None if all of it is."""
    for depth in range(1, len(path) + 1):
        if path[:depth] in _OPEN or _REMARK.match(path[depth - 1]):
            return None
        if path[:depth] not in _KNOWN:
            return None if path[: depth - 1] in _ROWS else path[:depth]  # below a single value: that is an error anyway
    return None


def _advice(path: FoldedPath) -> str:
    """What to do about a name that is not known."""
    name = path[-1]
    elsewhere = [spelt for known, spelt in _SPELT.items() if known[-1] == name and (len(known) > 1 or known in _ROWS)]
    if elsewhere:
        best = max(elsewhere, key=lambda each: _shared(tuple(each.casefold().split(".")), path))
        return f"belongs in {best.rpartition('.')[0] or 'the top of the file'}; where it stands no host reads it"
    siblings = {known[-1]: spelt.rpartition(".")[2] for known, spelt in _SPELT.items() if known[:-1] == path[:-1]}
    close = get_close_matches(name, siblings, 1)
    if close:
        return f"is not a known setting; did you mean {siblings[close[0]]}?"
    others = {known[-1]: spelt for known, spelt in _SPELT.items() if known[:1] == path[:1]}
    close = get_close_matches(name, others, 1, 0.8)
    return f"is not a known setting; did you mean {others[close[0]]}?" if close else "is not a known setting"


def _shared(one: FoldedPath, other: FoldedPath) -> int:
    return next(
        (depth for depth, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
