"""Who gets into the management API of a host that asks for keys, request by request."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import httpx2
import pytest
from webapi_kit import BASE, HUB, ORIGIN, RPC_BASE, Api, running_api

from perdure.webapi.access import OPERATIONS, ManagementAccess
from perdure.webapi.links import PLACEHOLDER, management_urls
from perdure.webapi.routes import ROUTES, management_app

KEY = "the-system-key"
READ_KEY, OPERATE_KEY = "the-key-to-look", "the-key-to-steer"
RIGHTS = {KEY: ("read", "operate", "admin"), OPERATE_KEY: ("read", "operate"), READ_KEY: ("read",)}
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


def access_with(signing_key: bytes = b"one", hub: str = HUB, **more: Any) -> ManagementAccess:
    return ManagementAccess(
        hub,
        is_key=lambda key, right: right in RIGHTS.get(key, ()),
        rpc_segment=SECRET,
        signature=lambda message: hmac.digest(signing_key, message, hashlib.sha256),
        **more,
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
        assert follow(api, "POST", links["terminatePostUri"]).status_code == 202

    def test_a_link_to_restart_hands_out_no_links_to_steer(self, api: Api):
        """Or whoever may restart an instance could approve it, under its own id even, or remove it."""
        started = api.post("orchestrators/approval/restarted", headers={"x-functions-key": KEY}).json()
        follow(api, "POST", started["terminatePostUri"])
        api.ended("restarted")

        again = follow(api, "POST", started["restartPostUri"] + "&restartWithNewInstanceId=false")

        assert again.status_code == 202
        assert set(again.json()) == set(started)
        assert {name for name, link in again.json().items() if "code=" in link} == {
            "statusQueryGetUri",
            "restartPostUri",
        }
        assert follow(api, "GET", again.headers["location"]).status_code == 202
        assert follow(api, "POST", again.json()["sendEventPostUri"], json=1).status_code == 401
        assert follow(api, "POST", started["terminatePostUri"]).status_code == 202


class TestExpiry:
    @pytest.fixture
    def clock(self, api: Api) -> Iterator[list[datetime]]:
        """The time of a host whose links are good for an hour; its only member may be replaced."""
        time = [datetime(2026, 1, 1, tzinfo=UTC)]
        before, api.app = api.app, management_app(api.client, HUB, self.access(time))
        yield time
        api.app = before

    def access(self, time: list[datetime]) -> ManagementAccess:
        return access_with(lifetime=timedelta(hours=1), now=lambda: time[0])

    @pytest.mark.parametrize("name", LINKS)
    @pytest.mark.parametrize("instance_id", ["expiring", None])
    def test_a_link_opens_until_its_end_and_not_a_second_longer(
        self, api: Api, clock: list[datetime], name: str, instance_id: str | None
    ):
        verb, _ = LINKS[name]
        link = management_urls(ORIGIN, HUB, instance_id, self.access(clock))[name]

        def asked() -> int:
            return follow(api, verb, link.replace(PLACEHOLDER, "expiring"), json=1).status_code

        clock[0] += timedelta(minutes=59, seconds=59)
        assert asked() in (400, 404)  # nobody has this id
        clock[0] += timedelta(seconds=1)
        assert asked() == 401
        clock[0] += timedelta(days=9)
        assert asked() == 401

    def test_its_end_cannot_be_put_off(self, api: Api, clock: list[datetime]):
        link = management_urls(ORIGIN, HUB, "expiring", self.access(clock))["statusQueryGetUri"]
        code = code_of(link)
        clock[0] += timedelta(hours=2)

        for end in ("00000000", "ffffffff", "+fffffff", "-0000001", "fffffff", "zzzzzzzz", "", "FFFFFFFF", "٠٠٠٠٠٠٠٠"):
            changed = link.replace(code, quote(end + code[8:], safe=""))
            assert follow(api, "GET", changed).status_code == 401

    def test_links_that_were_made_to_last_do_whatever_the_setting_is_later(self, api: Api, clock: list[datetime]):
        """The end is in the code, and signed; a shorter lifetime is for what is made from then on."""
        link = management_urls(ORIGIN, HUB, "lasting", access_with())["statusQueryGetUri"]

        assert follow(api, "GET", link).status_code == 404
        clock[0] += timedelta(days=20_000)
        assert follow(api, "GET", link).status_code == 404

    def test_a_lifetime_beyond_what_can_be_written_is_the_longest_that_can(self):
        access = access_with(lifetime=timedelta(days=9_999_999 // 9), now=lambda: datetime(2026, 1, 1, tzinfo=UTC))

        assert access.code("status", "x").startswith("ffffffff")


class TestRights:
    """The matrix: each key against each endpoint."""

    @pytest.mark.parametrize(("verb", "template", "_"), ROUTES, ids=[f"{verb} {path}" for verb, path, _ in ROUTES])
    def test_each_endpoint_asks_for_its_right(self, api: Api, verb: str, template: str, _: Any):
        opening = {
            name
            for name, key in {"read": READ_KEY, "operate": OPERATE_KEY, "admin": KEY, "none": "", "wrong": "w"}.items()
            if api.request(verb, filled(template), headers={"x-functions-key": key}).status_code != 401
        }

        if verb == "DELETE" or template in ("cleanEntityStorage", "makeprimary"):
            assert opening == {"admin"}
        else:
            assert opening == ({"admin", "operate", "read"} if verb == "GET" else {"admin", "operate"})

    def test_no_spelling_of_a_path_needs_less(self, api: Api):
        for path in (
            "INSTANCES/x/terminate",
            "instances/x/%74erminate",
            "/instances//x/terminate",
            "CleanEntityStorage",
        ):
            assert api.post(path, headers={"x-functions-key": READ_KEY}).status_code == 401
        for path in ("CLEANENTITYSTORAGE", "%63leanEntityStorage", "cleanEntityStorage/"):
            assert api.post(path, headers={"x-functions-key": OPERATE_KEY}).status_code == 401

    def test_who_may_not_remove_cannot_let_others_remove(self, api: Api):
        started = api.post("orchestrators/approval/theirs", headers={"x-functions-key": OPERATE_KEY}).json()

        assert [name for name, link in started.items() if name != "id" and "code=" not in link] == [
            "purgeHistoryDeleteUri"
        ]
        assert follow(api, "DELETE", started["purgeHistoryDeleteUri"]).status_code == 401
        assert follow(api, "POST", started["terminatePostUri"]).status_code == 202


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
