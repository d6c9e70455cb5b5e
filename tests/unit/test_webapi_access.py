"""Who gets into the management API of a host that asks for keys, request by request."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import httpx2
import pytest
from webapi_kit import BASE, HUB, ORIGIN, RPC_BASE, Api, running_api

from perdure.webapi.access import OPERATIONS, ManagementAccess
from perdure.webapi.links import PLACEHOLDER, management_urls
from perdure.webapi.routes import ROUTES, management_app

KEY = "the-system-key"
SECRET = "key=the-token-of-this-start"
LINKS = {
    "statusQueryGetUri": ("GET", "status"),
    "sendEventPostUri": ("POST", "raiseEvent"),
    "terminatePostUri": ("POST", "terminate"),
    "rewindPostUri": ("POST", "rewind"),
    "purgeHistoryDeleteUri": ("DELETE", "purge"),
    "restartPostUri": ("POST", "restart"),
    "suspendPostUri": ("POST", "suspend"),
    "resumePostUri": ("POST", "resume"),
}


def access_with(signing_key: bytes = b"one", hub: str = HUB) -> ManagementAccess:
    return ManagementAccess(
        hub,
        is_key=lambda key: key == KEY,
        rpc_segment=SECRET,
        signature=lambda message: hmac.digest(signing_key, message, hashlib.sha256),
    )


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with running_api() as running:
        running.app = management_app(running.client, HUB, access_with())
        yield running


def follow(api: Api, verb: str, link: str, **options: Any) -> httpx2.Response:
    url = urlsplit(link.replace("{eventName}", "Approval").replace("{text}", "because"))
    return api.request(verb, f"{url.path.removeprefix('/')}?{url.query}", base="", **options)


def code_of(link: str) -> str:
    return dict(parse_qsl(urlsplit(link).query))["code"]


def filled(template: str) -> str:
    return re.sub(r"{\w+}", "health", template)


class TestDefault:
    @pytest.mark.parametrize(("verb", "template", "_"), ROUTES, ids=[f"{verb} {path}" for verb, path, _ in ROUTES])
    @pytest.mark.parametrize("base", [BASE, RPC_BASE])
    def test_every_route_of_both_mounts_is_closed(self, api: Api, verb: str, template: str, _: Any, base: str):
        answer = api.request(verb, filled(template), base=base)

        assert (answer.status_code, answer.content) == (401, b"")

    @pytest.mark.parametrize(
        "path",
        [
            "",
            "nothing/of/the/kind",
            "instances/health",
            "instances/ready",
            "instances/..;/health",
            "instances/%2e%2e/makeprimary",
            "%69nstances",
            "/instances",
            "INSTANCES/",
            "instances/x/health",
            "orchestrators/echo/metrics",
        ],
    )
    def test_no_path_gets_around_it(self, api: Api, path: str):
        for key in ("", "wrong", KEY + "x", KEY[:-1]):
            answer = api.get(path, headers={"x-functions-key": key})
            assert (answer.status_code, answer.content) == (401, b"")

    def test_what_is_there_is_not_told_apart_from_what_is_not(self, api: Api):
        started = api.post("orchestrators/echo/there", headers={"x-functions-key": KEY})
        assert started.status_code == 202

        there, missing = api.get("instances/there"), api.get("instances/missing")

        assert (there.status_code, there.content) == (missing.status_code, missing.content)
        assert dict(there.headers) == dict(missing.headers)

    def test_the_key_opens_everything_in_the_header_or_in_the_query(self, api: Api):
        assert api.get("instances", headers={"X-Functions-Key": KEY}).status_code == 200
        assert api.get(f"instances?code={KEY}").status_code == 200
        assert api.get(f"instances?CODE={KEY}").status_code == 200
        assert api.get("instances?code=wrong", headers={"x-functions-key": KEY}).status_code == 200
        assert api.get(f"instances?code={KEY}", headers={"x-functions-key": "wrong"}).status_code == 401


@pytest.fixture
def links() -> dict[str, str]:
    return management_urls(ORIGIN, HUB, "größe 17", access_with())


class TestLinks:
    def test_no_two_links_have_the_same_code_and_none_has_a_key(self, links: dict[str, str]):
        codes = [code_of(links[name]) for name in LINKS]

        assert len(set(codes)) == len(codes)
        assert KEY not in str(links)
        assert {operation for _, operation in LINKS.values()} == set(OPERATIONS.values())

    @pytest.mark.parametrize("name", LINKS)
    def test_a_link_opens_what_it_is_for(self, api: Api, links: dict[str, str], name: str):
        verb, _ = LINKS[name]

        answer = follow(api, verb, links[name], headers={"Content-Type": "application/json"}, content="1")

        assert answer.status_code in (400, 404)  # nobody has this id

    @pytest.mark.parametrize("name", LINKS)
    def test_a_code_opens_no_other_operation(self, api: Api, links: dict[str, str], name: str):
        for other in set(LINKS) - {name}:
            swapped = links[other].replace(code_of(links[other]), code_of(links[name]))
            assert follow(api, LINKS[other][0], swapped).status_code == 401

    @pytest.mark.parametrize("path", ["instances", "entities", "entities/counter/größe 17", "orchestrators/echo"])
    def test_a_code_opens_nothing_but_its_instance(self, api: Api, links: dict[str, str], path: str):
        code = code_of(links["statusQueryGetUri"])

        assert api.get(f"{path}?code={code}").status_code == 401
        assert api.post(f"{path}?code={code}").status_code == 401
        assert api.delete(f"{path}?code={code_of(links['purgeHistoryDeleteUri'])}").status_code == 401

    @pytest.mark.parametrize("other", ["größe 18", "GRÖSSE 17", "größe", "größe 17 ", "größe%2017", PLACEHOLDER])
    def test_a_code_opens_no_other_instance(self, api: Api, links: dict[str, str], other: str):
        for name, (verb, _) in LINKS.items():
            moved = links[name].replace("gr%C3%B6%C3%9Fe%2017", quote(other, safe=""))
            assert follow(api, verb, moved).status_code == 401

    def test_codes_are_good_for_one_hub_and_one_signing_key(self, api: Api):
        for access in (access_with(b"renewed"), access_with(hub="Other")):
            link = management_urls(ORIGIN, HUB, "x", access)["statusQueryGetUri"]
            assert follow(api, "GET", link).status_code == 401

    def test_a_code_in_the_header_is_as_good(self, api: Api, links: dict[str, str]):
        path, _, _ = links["statusQueryGetUri"].partition("?")

        answer = follow(api, "GET", path, headers={"x-functions-key": code_of(links["statusQueryGetUri"])})

        assert answer.status_code == 404

    def test_a_template_opens_the_same_operation_on_any_instance(self, api: Api):
        templates = management_urls(ORIGIN, HUB, None, access_with())

        for name, (verb, _) in LINKS.items():
            link = templates[name].replace(PLACEHOLDER, "anybody")
            assert follow(api, verb, link).status_code in (400, 404)
        assert follow(api, "DELETE", templates["statusQueryGetUri"]).status_code == 401

    def test_an_instance_that_is_called_like_the_placeholder_gets_links_for_itself_alone(self, api: Api):
        link = management_urls(ORIGIN, HUB, PLACEHOLDER, access_with())["statusQueryGetUri"]

        assert follow(api, "GET", link).status_code == 404
        assert follow(api, "GET", link.replace(PLACEHOLDER, "there")).status_code == 401

    def test_what_the_api_hands_out_itself_has_codes_too(self, api: Api):
        started = api.post("orchestrators/approval/handed", headers={"x-functions-key": KEY})

        links = started.json()
        assert KEY not in started.text + str(started.headers)
        assert follow(api, "GET", links["statusQueryGetUri"]).status_code == 202
        assert follow(api, "GET", started.headers["location"]).status_code == 202
        again = follow(api, "POST", links["restartPostUri"])
        assert follow(api, "POST", again.json()["terminatePostUri"]).status_code == 202
        assert follow(api, "POST", links["terminatePostUri"]).status_code == 202


class TestLocalMount:
    def test_the_secret_opens_it_as_the_first_segment(self, api: Api):
        assert api.get("instances", base=f"{RPC_BASE}/{SECRET}").status_code == 200
        assert api.get("instances/", base=f"{RPC_BASE}/{SECRET}").status_code == 200
        assert api.post("orchestrators/echo/rpc-1", base=f"{RPC_BASE}/{SECRET}").status_code == 202

    def test_so_does_a_key(self, api: Api):
        assert api.get("instances", base=RPC_BASE, headers={"x-functions-key": KEY}).status_code == 200

    @pytest.mark.parametrize("segment", ["key=", "key=wrong", SECRET + "x", SECRET[:-1], "KEY=the-token-of-this-start"])
    def test_nothing_else_does(self, api: Api, segment: str):
        assert api.get("instances", base=f"{RPC_BASE}/{segment}").status_code == 401

    def test_the_secret_opens_only_the_local_mount(self, api: Api):
        assert api.get(f"{SECRET}/instances").status_code == 401
