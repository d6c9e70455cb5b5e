"""Route templates mean here what they mean on Azure."""

import pytest

from perdure.host.http.routing import InvalidRouteError, Route, Router, RouteTemplate, matchable_path


def values(template: str, path: str) -> dict[str, str] | None:
    return RouteTemplate.parse(template).match(matchable_path(path))


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("api/hello", "/api/hello", {}),
        ("api/hello", "/API/Hello/", {}),
        ("api/hello", "/api/hello/x", None),
        ("api/orders/{id}", "/api/orders/7", {"id": "7"}),
        ("api/orders/{id}", "/api/orders", None),
        ("api/orders/{id}", "/api/orders/a%20b", {"id": "a b"}),
        ("api/orders/{id}", "/api/orders/a%2Fb", {"id": "a%2Fb"}),
        ("api/orders/{id}", "/api/orders/%C3%BC", {"id": "ü"}),
        ("api/orders/{id?}", "/api/orders", {}),
        ("api/orders/{id?}", "/api/orders/7", {"id": "7"}),
        ("api/orders/{id=5}", "/api/orders", {"id": "5"}),
        ("api/orders/{id=5}", "/api/orders/7", {"id": "7"}),
        ("api/files/{*rest}", "/api/files/a/b.txt", {"rest": "a/b.txt"}),
        ("api/files/{**rest}", "/api/files", {}),
        ("{*rest}", "/", {}),
        ("", "/", {}),
        ("api/{a}-{b}", "/api/1-2-3", {"a": "1-2", "b": "3"}),
        ("api/{name}.{ext}", "/api/a.b.txt", {"name": "a.b", "ext": "txt"}),
        ("api/f{ext}", "/api/foo", {"ext": "oo"}),
        ("api/{name}.{ext?}", "/api/a.b.txt", {"name": "a.b", "ext": "txt"}),
        ("api/{name}.{ext?}", "/api/a", {"name": "a"}),
        ("api/{year}-{name}.{ext?}", "/api/20-26-a.txt", {"year": "20-26", "name": "a", "ext": "txt"}),
        ("api/{a=1}/{b=2}", "/api/7", {"a": "7", "b": "2"}),
        ("{*rest=index}", "/", {"rest": "index"}),
        ("api/{id:int}", "/api/7", {"id": "7"}),
        ("api/{id:int}", "/api/2147483648", None),
        ("api/{id:long}", "/api/2147483648", {"id": "2147483648"}),
        ("api/{id:int}", "/api/x", None),
        ("api/{on:bool}", "/api/TRUE", {"on": "TRUE"}),
        ("api/{id:guid}", "/api/9a528a9e926f4b46b7d3deaa134b7e8a", {"id": "9a528a9e926f4b46b7d3deaa134b7e8a"}),
        ("api/{id:guid}", "/api/9a52", None),
        ("api/{name:alpha}", "/api/a1", None),
        ("api/{day:datetime}", "/api/2026-01-31", {"day": "2026-01-31"}),
        ("api/{x:double}", "/api/-1.5e3", {"x": "-1.5e3"}),
        ("api/{s:length(3)}", "/api/ab", None),
        ("api/{s:length(2,5)}", "/api/abc", {"s": "abc"}),
        ("api/{s:minlength(2):maxlength(3)}", "/api/abcd", None),
        ("api/{n:range(1,5)}", "/api/5", {"n": "5"}),
        ("api/{n:int:min(1)?}", "/api", {}),
        ("api/{n:int:min(1)?}", "/api/0", None),
        (r"api/{s:regex(^\d{{3}}-\w+$)}", "/api/123-a", {"s": "123-a"}),
        (r"api/{s:regex(^\d{{3}}-\w+$)}", "/api/12-a", None),
        ("api/{s:regex(^(?<x>a)?b$)?}", "/api/b", {"s": "b"}),
        ("api/{n:max(5)}", "/api/6", None),
        ("api/{x:decimal}", "/api/1,000.50", {"x": "1,000.50"}),
        ("api/{x:float}", "/api/x", None),
        ("api/{s:required}", "/api/x", {"s": "x"}),
        ("api/{*path:file}", "/api/a/b.js", {"path": "a/b.js"}),
        ("api/{*path:nonfile}", "/api/a/b.js", None),
    ],
)
def test_a_template_matches_a_path(template: str, path: str, expected: dict[str, str] | None):
    assert values(template, path) == expected


@pytest.mark.parametrize(
    "template",
    [
        "a/{",
        "a/}",
        "a//b",
        "{x}/{x}",
        "{*rest}/more",
        "{x?}/more",
        "{x:nonsense}",
        "{x:length(a)}",
        "{}",
        "{x?=5}",
        "{x=5?}",
        "{*x?}",
        "{a}{b}",
        "{x:int(3)}",
        "{x:regex([)}",
        "{x:range(1,2,3)}",
    ],
)
def test_a_template_that_breaks_the_rules_is_refused(template: str):
    with pytest.raises(InvalidRouteError):
        RouteTemplate.parse(template)


def router(*routes: tuple[str, str, set[str] | None]) -> Router[str]:
    return Router(
        [
            Route(name, RouteTemplate.parse(template), None if methods is None else frozenset(methods), name)
            for name, template, methods in routes
        ]
    )


def test_the_most_specific_template_answers_and_the_other_choice_of_azure_is_known():
    routes = router(("a_catch_all", "api/{*rest}", None), ("b_users", "api/users", None), ("c_one", "api/{id}", None))

    match = routes.find("GET", "api/users")

    assert match is not None
    assert (match.route.target, match.original) == ("b_users", "a_catch_all")


def test_a_failed_constraint_moves_on_to_the_next_template():
    routes = router(("by_number", "api/{id:int}", None), ("by_name", "api/{name}", None))

    assert routes.find("GET", "api/7").route.target == "by_number"  # type: ignore[union-attr]
    assert routes.find("GET", "api/x").route.target == "by_name"  # type: ignore[union-attr]


def test_one_template_with_two_methods_is_two_functions():
    routes = router(("read", "api/orders", {"GET"}), ("write", "api/orders", {"POST"}))

    assert routes.find("POST", "api/orders").route.target == "write"  # type: ignore[union-attr]
    assert routes.find("PUT", "api/orders") is None
    assert routes.methods_at("api/orders") == ["GET", "POST"]
    assert list(routes.clashes()) == []


def test_two_functions_for_one_request_are_reported():
    routes = router(("first", "api/{id}", None), ("second", "api/{NAME}", {"GET"}))

    assert [(a.name, b.name) for a, b in routes.clashes()] == [("first", "second")]
