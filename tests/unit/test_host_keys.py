"""Keys: where they are kept, who can read them, and whom they let in."""

from __future__ import annotations

import ast
import gc
import json
import os
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from perdure.errors import AppError
from perdure.host.http.access import LINK_LIFETIME, Access, link_lifetime
from perdure.host.http.keys import FIRST_KEYS, KEY_BYTES, LINKS, Keys
from perdure.webapi.access import ManagementAccess

SRC = Path(__file__).parents[2] / "src" / "perdure"

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def keys(file: Path) -> Keys:
    found = Keys(file)
    found.ensure(FIRST_KEYS)
    return found


def request(key: str = "", *, query: str = "", header: str | None = None) -> dict[str, Any]:
    """A request that shows a key, in the header unless said otherwise."""
    shown = key if header is None else header
    headers = [(b"x-functions-key", shown.encode("latin-1"))] if shown else []
    return {"headers": headers, "query_string": query.encode()}


class TestKeeping:
    def test_keys_are_made_once_and_stay(self, keys: Keys, file: Path):
        before = dict(keys.values())

        Keys(file).ensure([*FIRST_KEYS, "functions/hello/default"])

        assert {name: Keys(file).values()[name] for name in FIRST_KEYS} == before
        assert "functions/hello/default" in keys.values()

    def test_a_key_has_256_random_bits(self, keys: Keys):
        values = list(keys.values().values())

        assert KEY_BYTES * 8 == 256
        assert len(set(values)) == len(values)
        assert all(len(value) == 43 for value in values)  # what 32 bytes are in base64

    @posix_only
    def test_only_the_owner_can_read_them_whatever_the_umask(self, file: Path):
        before = os.umask(0)
        try:
            Keys(file).ensure(FIRST_KEYS)
        finally:
            os.umask(before)

        assert [each.stat().st_mode & 0o777 for each in sorted(file.parent.iterdir())] == [0o600, 0o600]

    @posix_only
    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
    def test_a_file_that_others_can_read_is_refused(self, keys: Keys, file: Path, mode: int):
        file.chmod(mode)

        with pytest.raises(AppError, match=r"DF140.*Others can read[\s\S]*chmod 600"):
            Keys(file).values()

    @posix_only
    def test_a_link_to_a_file_of_somebody_else_is_not_followed(self, keys: Keys, file: Path):
        file.with_name("lure.json").symlink_to(file)

        with pytest.raises(AppError, match="DF140"):
            Keys(file.with_name("lure.json")).values()

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"master": 1}'])
    def test_a_damaged_file_is_a_mistake_with_its_path(self, file: Path, text: str):
        file.write_text(text)
        file.chmod(0o600)

        with pytest.raises(AppError, match=r"DF140[\s\S]*keys\.json"):
            Keys(file).values()

    def test_what_another_process_changes_counts_at_once(self, keys: Keys, file: Path):
        value, is_new = Keys(file).put("host/default")

        assert keys.matches(["host/default"], value)
        assert not is_new

    def test_changes_at_the_same_time_are_all_kept(self, file: Path):
        def change(number: int) -> None:
            for count in range(5):
                Keys(file).put(f"host/k{number}-{count}")

        threads = [threading.Thread(target=change, args=(number,)) for number in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

        assert len(Keys(file).values()) == 20

    def test_a_name_has_one_form(self, keys: Keys):
        keys.put("functions/Hello/Next", "chosen")

        assert keys.values()["functions/hello/next"] == "chosen"

    @pytest.mark.parametrize(
        "name", ["", "foo", "host/", "host/../master", "functions/x", "functions//x", "host/a b", "host/a\n", "/master"]
    )
    def test_what_is_no_name_is_refused(self, keys: Keys, name: str):
        with pytest.raises(ValueError, match="no name of a key"):
            keys.put(name)

    @pytest.mark.parametrize("value", ["", "x" * 257, "a\nb", "ü"])
    def test_a_value_that_no_request_can_carry_is_refused(self, keys: Keys, value: str):
        with pytest.raises(ValueError, match="printable"):
            keys.put("host/next", value)

    def test_only_further_keys_can_be_removed(self, keys: Keys):
        keys.put("host/next")

        assert keys.remove("host/next")
        assert not keys.remove("host/next")
        for name in FIRST_KEYS:
            with pytest.raises(ValueError, match="renew it instead"):
                keys.remove(name)


class TestLevels:
    @pytest.fixture
    def access(self, keys: Keys) -> Access:
        found = Access(keys)
        found.prepare(["Hello", "Other"])
        return found

    @pytest.mark.parametrize(
        ("level", "opened_by"),
        [
            ("function", {"master", "token", "host/default", "functions/hello/default"}),
            ("admin", {"master", "token"}),
            ("userlevel", {"master", "token"}),
        ],
    )
    def test_a_level_is_opened_by_its_keys_and_no_others(
        self, access: Access, keys: Keys, level: str, opened_by: set[str]
    ):
        shown = {**keys.values(), "token": access.token, "nothing": "", "wrong": "x" * 43}

        opening = {name for name, key in shown.items() if access.may_call(request(key), "Hello", level)}

        assert opening == opened_by

    def test_an_anonymous_function_is_open_to_all(self, access: Access):
        assert access.may_call(request(), "Hello", "anonymous")
        assert access.may_call(request("wrong"), "Hello", "anonymous")

    def test_admin_endpoints_want_the_master_key(self, access: Access, keys: Keys):
        opening = {name for name, key in keys.values().items() if access.may_administer(request(key))}

        assert opening == {"master"}
        assert access.may_administer(request(access.token))

    def test_the_management_api_wants_the_system_key_or_the_master_key(self, access: Access, keys: Keys):
        opening = {name for name, key in keys.values().items() if access.may_manage(key)}

        assert opening == {"master", "system/durabletask_extension"}

    def test_further_keys_open_parts_of_the_management_api(self, access: Access, keys: Keys):
        for name in ("read/dashboard", "operate/support"):
            keys.put(name)

        opening = {
            right: {name for name, key in keys.values().items() if access.may_manage(key, right)}
            for right in ("read", "operate", "admin")
        }

        owners = {"master", "system/durabletask_extension"}
        assert opening["admin"] == owners
        assert opening["operate"] == owners | {"operate/support"}
        assert opening["read"] == owners | {"operate/support", "read/dashboard"}
        for name in ("read/dashboard", "operate/support"):
            shown = request(keys.values()[name])
            assert not access.may_administer(shown)
            assert not access.may_call(shown, "hello", "function")

    def test_a_key_stands_in_the_query_too_but_the_header_counts_first(self, access: Access, keys: Keys):
        key = keys.values()["master"]

        assert access.may_call(request(query=f"x=1&CODE={key}"), "hello", "function")
        assert access.may_call(request(query="code=wrong", header=key), "hello", "function")
        assert not access.may_call(request(query=f"code={key}", header="wrong"), "hello", "function")
        assert not access.may_call(request(query=f"code=wrong&code={key}"), "hello", "function")

    def test_no_key_at_all_opens_nothing_even_if_keys_are_missing(self, file: Path):
        access = Access(Keys(file))

        assert not access.may_call(request(""), "hello", "function")
        assert not access.may_manage("")

    def test_a_renewed_key_counts_and_the_old_one_does_not(self, access: Access, keys: Keys, file: Path):
        old = keys.values()["host/default"]
        Keys(file).put("host/next")
        further = Keys(file).values()["host/next"]

        assert access.may_call(request(old), "hello", "function")
        assert access.may_call(request(further), "hello", "function")
        new, _ = Keys(file).put("host/default")
        assert not access.may_call(request(old), "hello", "function")
        assert access.may_call(request(new), "hello", "function")

    def test_signatures_end_with_the_key_for_links(self, access: Access, file: Path):
        before = access.signature(b"message")
        assert before == access.signature(b"message")

        Keys(file).put(LINKS)

        assert before != access.signature(b"message")

    def test_every_start_has_its_own_token(self, keys: Keys):
        assert Access(keys).token != Access(keys).token


# `make timings` asks a hundred thousand times for each side.
TIMINGS = int(os.environ.get("TIMINGS", "3000"))
NOISES_MAX = 4.5  # by chance, one run in a hundred thousand has more
NANOSECONDS_SEEN_BY_NOBODY = 200.0  # no network shows as little; few samples have that much noise of their own
ROUNDS_MAX = 3


def difference_of_means(ask: Callable[[str], object], secret: str, begin: int) -> tuple[float, float]:
    """How much longer guesses take that are right but for the last character, in nanoseconds, and the noise of that.

    The others are wrong from the character at `begin` on. They come in an order by chance, and many of each, for where
    a text lies in memory matters more than what it says; the slowest fifth is what the machine was busy with.
    """
    dice = random.Random(7)
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    wrong_ends = [each for each in letters if each != secret[-1]]
    near = [secret[:-1] + dice.choice(wrong_ends) for _ in range(500)]
    far = [secret[:begin] + "~" + "".join(dice.choices(letters, k=len(secret) - begin - 1)) for _ in range(500)]
    guesses = [(side, each) for side, texts in enumerate((near, far)) for each in texts]
    times: tuple[list[int], list[int]] = ([], [])
    is_collecting = gc.isenabled()
    gc.disable()
    try:
        while len(times[0]) < TIMINGS:
            dice.shuffle(guesses)
            for side, guess in guesses:
                began = time.perf_counter_ns()
                ask(guess)
                times[side].append(time.perf_counter_ns() - began)
    finally:
        if is_collecting:
            gc.enable()
    one, other = (sorted(values)[: len(values) * 4 // 5] for values in times)
    noise = (statistics.variance(one) / len(one) + statistics.variance(other) / len(other)) ** 0.5
    return statistics.mean(one) - statistics.mean(other), noise


def assert_nothing_shows(ask: Callable[[str], object], secret: str, begin: int = 0) -> None:
    """What takes longer does so each time; what the rest of the machine does, not."""
    is_long = TIMINGS > 10_000
    rounds: list[tuple[float, float]] = []
    while len(rounds) < ROUNDS_MAX:
        difference, noise = difference_of_means(ask, secret, begin)
        rounds.append((difference, noise))
        if is_long:
            print(f"\n{TIMINGS:,} for each side: {difference:+.2f} ns, t = {difference / noise:+.2f}")
        if abs(difference) < NOISES_MAX * noise or (not is_long and abs(difference) < NANOSECONDS_SEEN_BY_NOBODY):
            return
    pytest.fail(f"the difference and its noise, in nanoseconds, in each round: {rounds}")


def test_how_long_a_refusal_takes_tells_nothing_about_the_key(keys: Keys):
    assert_nothing_shows(Access(keys).may_manage, keys.values()["master"])


def test_how_long_a_refusal_takes_tells_nothing_about_the_code_of_a_link(keys: Keys):
    access = Access(keys)
    links = ManagementAccess(
        "hub", is_key=access.may_manage, rpc_segment=access.rpc_segment, signature=access.signature
    )

    assert_nothing_shows(partial(links.granted, "GET", ["instances", "x"]), links.code("status", "x"), len("00000000"))


def test_how_long_a_refusal_takes_tells_nothing_about_the_secret_of_the_local_mount(keys: Keys):
    access = Access(keys)
    links = ManagementAccess("hub", is_key=lambda *_: False, rpc_segment=access.rpc_segment, signature=access.signature)

    assert_nothing_shows(links.opens_rpc, access.rpc_segment, len("key="))


@pytest.mark.parametrize("module", ["host/http/keys.py", "host/http/access.py", "webapi/access.py"])
def test_secrets_are_compared_by_no_operator_that_stops_at_the_first_difference(module: str):
    secret_names = ("key", "presented", "token", "secret", "digest", "code", "shown", "segment")
    tree = ast.parse((SRC / module).read_text("utf-8"))

    compared = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare) and any(isinstance(each, ast.Eq | ast.NotEq) for each in node.ops)
        for side in (node.left, *node.comparators)
        if isinstance(side, ast.Name | ast.Attribute) and ast.unparse(side).rpartition(".")[2] in secret_names
    ]

    assert compared == []


def test_the_file_is_what_people_can_read(keys: Keys, file: Path):
    assert list(json.loads(file.read_text())) == sorted(FIRST_KEYS)


@pytest.mark.parametrize(
    ("text", "lifetime"),
    [("00:00:01", timedelta(seconds=1)), ("7", timedelta(days=7)), ("1.12:00:00", timedelta(hours=36)), ("-1", None)],
)
def test_how_long_links_get_in_is_a_setting(text: str, lifetime: timedelta | None):
    assert link_lifetime({"PERDURE_LINKS_EXPIRE_AFTER": text}) == (lifetime, [])
    assert link_lifetime({}) == (LINK_LIFETIME, [])


@pytest.mark.parametrize("text", ["", "0", "soon", "-7", "00:00:00"])
def test_a_lifetime_that_is_none_is_told_and_links_still_end(text: str):
    lifetime, [mistake] = link_lifetime({"PERDURE_LINKS_EXPIRE_AFTER": text})

    assert lifetime == LINK_LIFETIME
    assert f"is '{text}'" in mistake
