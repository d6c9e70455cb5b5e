"""Route templates: which function answers a path.

Rule 1: a template means what it means to ASP.NET Core, whose router serves these apps on Azure; values stay strings.
Rule 2: the most specific template wins. The original takes the first by function name; where that would have chosen
        another function, `Router.find` says so.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Generic, TypeVar
from urllib.parse import unquote

from msgspec import Struct

ALL_METHODS = ("GET", "POST", "DELETE", "HEAD", "PATCH", "PUT", "OPTIONS")

T = TypeVar("T")

# Ranks of one segment; a route's rank is the tuple of its segments'. Source: ASP.NET Core RoutePrecedence.
_LITERAL, _CONSTRAINED, _FREE, _CATCH_ALL_CONSTRAINED, _CATCH_ALL = 1, 2, 3, 4, 5

_TOKEN = re.compile(r"\{\{|\}\}|\{(?P<parameter>(?:\{\{|\}\}|[^{}])*)\}|(?P<stray>[{}])|(?P<text>[^{}]+)")
_NAME = re.compile(r"(?P<stars>\*{0,2})(?P<name>[^:=?*/]+)")
_CONSTRAINT = re.compile(r":(?P<name>\w+)(?:\((?P<arguments>.*?)\)(?=[:=]|$))?")
_NET_GROUP = re.compile(r"\(\?<(?=[A-Za-z_])")
_ENCODED_SLASH = re.compile("%2f", re.IGNORECASE)


class InvalidRouteError(ValueError):
    """Raised by `RouteTemplate.parse` if a template breaks the rules; its text names what and where."""


class RouteTemplate(Struct, frozen=True):
    """A compiled route.

    Attributes:
        text: the template with its prefix, without slashes at the ends.
        rank: smaller is more specific, compared segment by segment.
        shape: the same for two templates that differ in nothing but names of parameters and case.
    """

    text: str
    rank: tuple[int, ...]
    shape: str
    _pattern: re.Pattern[str]
    _names: tuple[str, ...]
    _checks: tuple[tuple[str, Callable[[str], bool]], ...]
    _defaults: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str) -> RouteTemplate:
        """Compile a template.

        Raises:
            InvalidRouteError: it is not one.
        """
        return _compiled(text.strip("/"))

    def match(self, path: str) -> dict[str, str] | None:
        """The route values of a path from `matchable_path`, or None if the template does not fit it."""
        found = self._pattern.fullmatch(path)
        if found is None:
            return None
        values = dict(self._defaults)
        for index, name in enumerate(self._names):
            value = found[f"p{index}"]
            if value:
                values[name] = value
        for name, check in self._checks:
            if name in values and not check(values[name]):
                return None
        return values


class Route(Struct, Generic[T], frozen=True):
    """A template, the methods it serves (None for all), and what answers. `name` is the function's."""

    name: str
    template: RouteTemplate
    methods: frozenset[str] | None
    target: T

    def serves(self, method: str) -> bool:
        """Whether the function answers this method."""
        return method in (self.methods if self.methods is not None else ALL_METHODS)


class Match(Struct, Generic[T], frozen=True):
    """The route that answers, its values, and whom the official host would have asked instead, if anybody else."""

    route: Route[T]
    values: dict[str, str]
    original: str | None = None


class Router(Generic[T]):
    """All routes of an app, most specific first."""

    def __init__(self, routes: Sequence[Route[T]]) -> None:
        self._routes = sorted(routes, key=lambda route: (route.template.rank, route.name.casefold()))
        self._rivals = {
            route.name: sorted(
                (each for each in self._routes[index + 1 :] if each.name.casefold() < route.name.casefold()),
                key=lambda each: each.name.casefold(),
            )
            for index, route in enumerate(self._routes)
        }

    def find(self, method: str, path: str) -> Match[T] | None:
        """Who answers; None if nobody does."""
        for route in self._routes:
            values = route.template.match(path) if route.serves(method) else None
            if values is not None:
                return Match(route, values, self._original(route, method, path))
        return None

    def _original(self, chosen: Route[T], method: str, path: str) -> str | None:
        for rival in self._rivals[chosen.name]:
            if rival.serves(method) and rival.template.match(path) is not None:
                return rival.name
        return None

    def methods_at(self, path: str) -> list[str]:
        """The methods that somebody would answer at this path, in no request's order."""
        fitting = [route for route in self._routes if route.template.match(path) is not None]
        return [method for method in ALL_METHODS if any(route.serves(method) for route in fitting)]

    def clashes(self) -> Iterator[tuple[Route[T], Route[T]]]:
        """Pairs of routes of the same shape that serve a method both; the first one of each pair always answers."""
        for index, first in enumerate(self._routes):
            for second in self._routes[index + 1 :]:
                same = first.template.shape == second.template.shape
                if same and any(first.serves(method) and second.serves(method) for method in ALL_METHODS):
                    yield first, second


def matchable_path(raw_path: str) -> str:
    """A request's path as templates see it: each segment decoded, an encoded slash left as it is."""
    return unquote(_ENCODED_SLASH.sub("%252F", raw_path.strip("/")))


# ---------------------------------------------------------------------- compiling


class _Parameter(Struct, frozen=True):
    name: str
    is_catch_all: bool
    is_optional: bool
    default: str | None
    checks: tuple[Callable[[str], bool], ...]


def _compiled(text: str) -> RouteTemplate:
    pattern = ""
    rank: list[int] = []
    shape: list[str] = []
    names: list[str] = []
    checks: list[tuple[str, Callable[[str], bool]]] = []
    defaults: list[tuple[str, str]] = []
    segments = _segments(text) if text else []
    for position, segment in enumerate(segments):
        alone = segment[0] if len(segment) == 1 and isinstance(segment[0], _Parameter) else None
        is_last = position == len(segments) - 1
        body = ""
        before: str | _Parameter = ""
        for part in segment:
            if isinstance(part, str):
                body += re.escape(part)
                before = part
                continue
            if isinstance(before, _Parameter):
                raise InvalidRouteError(
                    f"'{before.name}' and '{part.name}' in the route '{text}' have nothing between them"
                )
            if part.name.casefold() in (name.casefold() for name in names):
                raise InvalidRouteError(f"the parameter '{part.name}' stands twice in the route '{text}'")
            if part.is_catch_all and not (is_last and alone):
                raise InvalidRouteError(f"the catch-all '{part.name}' must be the last segment of the route '{text}'")
            if part.is_optional and not is_last:
                raise InvalidRouteError(f"the optional '{part.name}' must stand at the end of the route '{text}'")
            group = f"(?P<p{len(names)}>"
            if part.is_optional and before.endswith("."):
                # The dot goes with the extension, which is the last one: `{name}.{ext?}` fits a name alone.
                stem, name, literal = body.removesuffix(r"\.").rpartition("[^/]+)")
                body = stem + name.replace("+", "+?") + literal + rf"(?:\.{group}[^/.]+))?"
            else:
                body += group + (".*)" if part.is_catch_all else "[^/]+)") + ("?" if part.is_optional else "")
            before = part
            names.append(part.name)
            checks.extend((part.name, check) for check in part.checks)
            if part.default is not None:
                defaults.append((part.name, part.default))
        is_omissible = alone is not None and (alone.is_catch_all or alone.is_optional or alone.default is not None)
        slash = "/" if position else ""
        pattern += f"(?:{slash}{body})?" if is_omissible else slash + body
        rank.append(_rank(segment))
        shape.append("".join(part.casefold() if isinstance(part, str) else "{}" for part in segment))
    return RouteTemplate(
        text=text,
        rank=tuple(rank),
        shape="/".join(shape),
        _pattern=re.compile(pattern, re.IGNORECASE | re.DOTALL),
        _names=tuple(names),
        _checks=tuple(checks),
        _defaults=tuple(defaults),
    )


def _rank(segment: list[str | _Parameter]) -> int:
    if len(segment) > 1:
        return _CONSTRAINED
    part = segment[0]
    if isinstance(part, str):
        return _LITERAL
    if part.is_catch_all:
        return _CATCH_ALL_CONSTRAINED if part.checks else _CATCH_ALL
    return _CONSTRAINED if part.checks else _FREE


def _segments(text: str) -> list[list[str | _Parameter]]:
    """The template's segments, each a list of literal texts and parameters."""
    segments: list[list[str | _Parameter]] = [[]]
    for token in _TOKEN.finditer(text):
        if token["stray"]:
            raise InvalidRouteError(f"there is a single '{token['stray']}' in the route '{text}'")
        if token["parameter"] is not None:
            segments[-1].append(_parameter(token["parameter"].replace("{{", "{").replace("}}", "}"), text))
            continue
        first, *others = (token["text"] or token[0][0]).split("/")
        for index, literal in enumerate([first, *others]):
            if index:
                segments.append([])
            if literal:
                segments[-1].append(literal)
    if any(not segment for segment in segments):
        raise InvalidRouteError(f"there is an empty segment in the route '{text}'")
    return segments


def _parameter(text: str, template: str) -> _Parameter:
    is_optional = text.endswith("?")
    named = _NAME.match(text)
    if named is None:
        raise InvalidRouteError(f"'{{{text}}}' in the route '{template}' is not a parameter")
    rest = text.removesuffix("?")[named.end() :]
    checks: list[Callable[[str], bool]] = []
    while constraint := _CONSTRAINT.match(rest):
        checks.append(_check(constraint["name"], constraint["arguments"], template))
        rest = rest[constraint.end() :]
    if rest and not rest.startswith("="):
        raise InvalidRouteError(f"'{{{text}}}' in the route '{template}' is not a parameter")
    if is_optional and (rest or named["stars"]):
        also = "has a default" if rest else "is a catch-all"
        raise InvalidRouteError(f"'{{{text}}}' in the route '{template}' {also}, so it cannot be optional too")
    return _Parameter(named["name"], bool(named["stars"]), is_optional, rest[1:] if rest else None, tuple(checks))


def _check(name: str, arguments: str | None, template: str) -> Callable[[str], bool]:
    """The test that a constraint puts a value to.

    Source: ASP.NET Core's default inline constraints; numbers and dates are read as its invariant culture reads them.
    """
    plain = _PLAIN_CHECKS.get(name.casefold())
    if plain is not None and arguments is None:
        return plain
    if arguments is not None:
        try:
            return _check_with(name.casefold(), arguments)
        except (ValueError, re.error):
            pass
    shown = name if arguments is None else f"{name}({arguments})"
    raise InvalidRouteError(f"the constraint '{shown}' in the route '{template}' is not known")


def _check_with(name: str, arguments: str) -> Callable[[str], bool]:
    if name == "regex":
        wanted = re.compile(_NET_GROUP.sub("(?P<", arguments), re.IGNORECASE)
        return lambda value: wanted.search(value) is not None
    numbers = [int(each) for each in arguments.split(",")]
    low, high = numbers[0], numbers[-1]
    if len(numbers) > (2 if name in ("length", "range") else 1):
        raise ValueError(arguments)
    match name:
        case "length":
            return lambda value: low <= len(value) <= high
        case "minlength":
            return lambda value: len(value) >= low
        case "maxlength":
            return lambda value: len(value) <= low
        case "min":
            return lambda value: _is_integer(value, 64) and int(value) >= low
        case "max":
            return lambda value: _is_integer(value, 64) and int(value) <= low
        case "range":
            return lambda value: _is_integer(value, 64) and low <= int(value) <= high
        case _:
            raise ValueError(name)


def _is_integer(value: str, bits: int) -> bool:
    return re.fullmatch(r"\s*[+-]?[0-9]{1,20}\s*", value) is not None and -(1 << bits - 1) <= int(value) < 1 << bits - 1


def _is_number(value: str) -> bool:
    return re.fullmatch(r"[+-]?([0-9][0-9,]*(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?", value) is not None


def _is_guid(value: str) -> bool:
    try:
        uuid.UUID(value)
    except ValueError:
        return False
    return True


def _is_datetime(value: str) -> bool:
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return re.fullmatch(r"[0-9]{1,2}/[0-9]{1,2}/[0-9]{4}( [0-9:]{4,8}( ?[AaPp][Mm])?)?", value) is not None
    return True


def _is_file_name(value: str) -> bool:
    return re.search(r"\.[^/.]+\Z", value) is not None


_PLAIN_CHECKS: dict[str, Callable[[str], bool]] = {
    "int": lambda value: _is_integer(value, 32),
    "long": lambda value: _is_integer(value, 64),
    "bool": lambda value: value.strip().casefold() in ("true", "false"),
    "guid": _is_guid,
    "alpha": lambda value: re.fullmatch("[a-zA-Z]*", value) is not None,
    "datetime": _is_datetime,
    "decimal": _is_number,
    "double": _is_number,
    "float": _is_number,
    "required": lambda value: value != "",
    "file": _is_file_name,
    "nonfile": lambda value: not _is_file_name(value),
}
