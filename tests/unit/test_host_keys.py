"""Keys: where they are kept, who can read them, and whom they let in."""

from __future__ import annotations

import ast
import json
import os
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from perdure.errors import AppError
from perdure.host.http.access import Access
from perdure.host.http.keys import FIRST_KEYS, KEY_BYTES, LINKS, Keys

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


def test_how_long_a_refusal_takes_tells_nothing_about_the_key(keys: Keys):
    """Guesses that begin like the key take as long as others: the means differ by less than their noise."""
    access = Access(keys)
    key = keys.values()["master"]
    guesses = {"near": key[:-1] + ("A" if key[-1] != "A" else "B"), "far": "~" * len(key)}
    times: dict[str, list[int]] = {name: [] for name in guesses}
    for _ in range(3000):
        for name, guess in guesses.items():
            began = time.perf_counter_ns()
            access.may_manage(guess)
            times[name].append(time.perf_counter_ns() - began)

    quick = {name: sorted(values)[:2400] for name, values in times.items()}  # without what the machine was busy with
    near, far = quick["near"], quick["far"]
    noise = (statistics.variance(near) / len(near) + statistics.variance(far) / len(far)) ** 0.5
    difference = statistics.mean(near) - statistics.mean(far)

    assert abs(difference) < 4.5 * noise or abs(difference) < 200  # nanoseconds; no network shows as little


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
