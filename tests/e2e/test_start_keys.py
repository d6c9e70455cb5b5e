"""A host that asks for keys: who gets in, what it hands out, and what it keeps to itself."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from official_kit import official_client
from start_kit import HostProcess, clean_environment, copy_app, eventually, refused, started

BASE = "/runtime/webhooks/durabletask"
JSON = {"Content-Type": "application/json"}


class Keyed:
    """A running host of the app `fuzzed` that asks for keys."""

    def __init__(self, folder: Path, host: HostProcess) -> None:
        self.folder = folder
        self.host = host

    def key(self, name: str) -> dict[str, str]:
        """The header with that key."""
        return {"x-functions-key": json.loads((self.folder / ".perdure" / "keys.json").read_text())[name]}

    def command(self, *arguments: str) -> str:
        """What a `perdure` command on this app prints."""
        done = subprocess.run(
            [sys.executable, "-m", "perdure", *arguments, "--app", str(self.folder)],
            capture_output=True,
            text=True,
            timeout=30,
            env=clean_environment(),
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def status(self, method: str, path: str, headers: dict[str, str] | None = None, body: str | None = None) -> int:
        return self.host.request(method, path, body, headers).status


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    folder = copy_app("fuzzed", tmp_path_factory.mktemp("keyed"))
    with started(folder, "--enable-auth") as host:
        yield Keyed(folder, host)


@pytest.mark.parametrize(
    ("path", "opened_by"),
    [
        ("/api/mirror/x", {"master", "host/default", "functions/mirror/default"}),
        ("/api/secret", {"master"}),
        (f"{BASE}/instances", {"master", "system/durabletask_extension"}),
        ("/durabletask/instances/", {"master", "system/durabletask_extension"}),
        ("/admin/host/status", {"master"}),
        ("/admin/functions", {"master"}),
        ("/admin/host/keys", {"master"}),
        ("/admin/host/systemkeys/_master", {"master"}),
        ("/admin/functions/mirror/keys", {"master"}),
        ("/admin/nothing", set()),
    ],
)
def test_each_key_opens_what_it_is_for_and_nothing_else(keyed: Keyed, path: str, opened_by: set[str]):
    names = ["master", "host/default", "system/durabletask_extension", "functions/mirror/default", "links"]
    names.append("functions/number/default")

    opening = {name for name in names if keyed.status("GET", path, keyed.key(name)) == 200}
    refusal = keyed.host.request("GET", path)

    assert opening == opened_by
    assert (refusal.status, refusal.body) == (401, b"")


def test_an_anonymous_function_and_the_home_page_are_open(keyed: Keyed):
    assert keyed.status("GET", "/api/number/7") == 200
    assert keyed.status("GET", "/") == 200


def test_links_from_a_function_work_without_a_key_and_do_only_what_they_say(keyed: Keyed):
    answer = keyed.host.request("POST", "/api/start/approval/linked", headers=keyed.key("host/default"))
    links = {name: urlsplit(link) for name, link in answer.json().items() if name != "id"}
    paths = {name: f"{link.path}?{link.query}".replace("{eventName}", "Approval") for name, link in links.items()}

    assert answer.status == 202
    assert keyed.status("GET", paths["statusQueryGetUri"]) == 202
    assert keyed.status("DELETE", paths["statusQueryGetUri"]) == 401
    assert keyed.status("GET", paths["statusQueryGetUri"].replace("linked", "other")) == 401
    assert keyed.status("GET", f"{BASE}/instances?{links['statusQueryGetUri'].query}") == 401
    assert keyed.status("POST", paths["sendEventPostUri"], JSON, '"yes"') == 202
    eventually(lambda: keyed.status("GET", paths["statusQueryGetUri"]) == 200)
    assert keyed.status("DELETE", paths["purgeHistoryDeleteUri"]) == 200


def test_commands_on_the_app_get_in_by_themselves(keyed: Keyed):
    keyed.status("POST", f"{BASE}/orchestrators/approval/commanded", keyed.key("master"))

    assert "commanded" in keyed.command("instances", "list")
    keyed.command("instances", "terminate", "commanded")


def test_a_key_is_renewed_without_a_restart_and_without_a_gap(keyed: Keyed):
    old = keyed.key("host/default")
    further = {"x-functions-key": keyed.command("keys", "rotate", "host/next").strip()}
    assert keyed.status("GET", "/api/mirror/x", further) == 200
    assert keyed.status("GET", "/api/mirror/x", old) == 200

    new = {"x-functions-key": keyed.command("keys", "rotate", "host/default").strip()}
    assert keyed.status("GET", "/api/mirror/x", old) == 401
    assert keyed.status("GET", "/api/mirror/x", new) == 200
    assert keyed.status("GET", "/api/mirror/x", further) == 200

    keyed.command("keys", "remove", "host/next")
    assert keyed.status("GET", "/api/mirror/x", further) == 401


def test_links_end_when_the_key_that_signs_them_is_renewed(keyed: Keyed):
    answer = keyed.host.request("POST", f"{BASE}/orchestrators/approval/ending", headers=keyed.key("master"))
    link = urlsplit(answer.json()["statusQueryGetUri"])
    assert keyed.status("GET", f"{link.path}?{link.query}") == 202

    keyed.command("keys", "rotate", "links")

    assert keyed.status("GET", f"{link.path}?{link.query}") == 401


def test_a_link_ends_when_the_settings_say_so(tmp_path: Path):
    folder = copy_app("fuzzed", tmp_path)
    with started(folder, "--enable-auth", environ={"PERDURE_LINKS_EXPIRE_AFTER": "00:00:02"}) as host:
        keyed = Keyed(folder, host)
        answer = host.request("POST", "/api/start/approval/short", headers=keyed.key("host/default"))
        links = [f"{link.path}?{link.query}" for link in map(urlsplit, urls(answer.json()))]
        assert keyed.status("GET", links[0]) == 202

        eventually(lambda: keyed.status("GET", links[0]) == 401)

        assert {keyed.status("POST", link, JSON, "1") for link in links[1:]} == {401}
        assert keyed.status("GET", f"{BASE}/instances/short", keyed.key("master")) == 202


def test_a_key_to_look_and_a_key_to_steer_do_no_more(keyed: Keyed):
    look = {"x-functions-key": keyed.command("keys", "rotate", "read/dashboard").strip()}
    steer = {"x-functions-key": keyed.command("keys", "rotate", "operate/support").strip()}

    def codes(method: str, path: str) -> list[int]:
        return [keyed.status(method, f"{BASE}/{path}", key) for key in (look, steer)]

    assert codes("POST", "orchestrators/approval/steered") == [401, 202]
    assert codes("GET", "instances/steered?showHistory=true") == [202, 202]
    assert codes("POST", "instances/steered/terminate") == [401, 202]
    eventually(lambda: keyed.status("GET", f"{BASE}/instances/steered", look) == 200)
    assert codes("DELETE", "instances/steered") == [401, 401]
    assert codes("DELETE", "instances?createdTimeFrom=2020-01-01") == [401, 401]
    for path in ("/admin/host/status", "/api/mirror/x", "/api/secret"):
        assert [keyed.status("GET", path, key) for key in (look, steer)] == [401, 401]

    keyed.command("keys", "remove", "read/dashboard")
    assert codes("GET", "instances") == [401, 200]


def test_keys_are_managed_over_http_with_the_master_key(keyed: Keyed):
    master = keyed.key("master")

    def ask(method: str, path: str, body: str | None = None) -> tuple[int, object]:
        answer = keyed.host.request(method, f"/admin/{path}", body, master)
        return answer.status, answer.json() if answer.body else None

    assert ask("GET", "host/systemkeys") == (
        200,
        {
            "keys": [
                {
                    "name": "durabletask_extension",
                    "value": keyed.key("system/durabletask_extension")["x-functions-key"],
                }
            ]
        },
    )
    code, made = ask("POST", "functions/Mirror/keys/fresh")
    assert code == 201
    assert isinstance(made, dict)
    assert keyed.status("GET", "/api/mirror/x", {"x-functions-key": made["value"]}) == 200
    assert ask("PUT", "functions/mirror/keys/fresh", '{"name": "fresh", "value": "chosen"}') == (
        200,
        {"name": "fresh", "value": "chosen"},
    )
    assert keyed.status("GET", "/api/mirror/x", {"x-functions-key": "chosen"}) == 200
    assert ask("GET", "functions/mirror/keys/fresh") == (200, {"name": "fresh", "value": "chosen"})
    assert ask("DELETE", "functions/mirror/keys/fresh") == (204, None)
    assert ask("DELETE", "functions/mirror/keys/fresh") == (404, None)
    for method, path, body in (
        ("PUT", "host/keys/fresh", None),
        ("PUT", "host/keys/fresh", '{"value": ""}'),
        ("PUT", "host/keys/fresh", "x" * 1_100_000),
        ("POST", "host/keys/not%20a%20name", None),
        ("DELETE", "host/keys/default", None),
        ("DELETE", "host/systemkeys/_master", None),
    ):
        assert ask(method, path, body)[0] == 400
    for path in ("functions/nobody/keys", "functions/nobody/keys/fresh", "host/keys/nobody", "host/keys/a/b"):
        assert ask("GET", path)[0] == 404


def test_functions_are_described_without_what_is_secret(keyed: Keyed):
    answer = keyed.host.request("GET", "/admin/functions", headers=keyed.key("master"))
    one = keyed.host.request("GET", "/admin/functions/HTTP_START", headers=keyed.key("master")).json()

    assert one in answer.json()
    assert one["name"] == "http_start"
    assert one["invoke_url_template"].endswith("/api/start/{functionName:alpha}/{instanceId?}")
    assert one["config"]["bindings"][0]["type"] in ("httpTrigger", "durableClient")
    assert keyed.status("GET", "/admin/functions/nobody", keyed.key("master")) == 404
    assert keyed.host.request("GET", "/admin/functions/echo/status", headers=keyed.key("master")).json() == {}
    assert keyed.status("POST", "/admin/functions/echo", keyed.key("master"), '{"input": ""}') == 400
    assert keyed.status("POST", "/admin/functions/echo", keyed.key("master")) == 400
    assert not any(secret in answer.body.decode() for secret in secrets_of(keyed.folder))


def secrets_of(folder: Path) -> list[str]:
    token = json.loads((folder / ".perdure" / "host.json").read_text())["token"]
    return [token, *json.loads((folder / ".perdure" / "keys.json").read_text()).values()]


def test_no_secret_is_printed_or_stored_with_the_instances(tmp_path: Path):
    folder = copy_app("fuzzed", tmp_path)
    with started(
        folder, "--enable-auth", environ={"AzureFunctionsJobHost__logging__logLevel__default": "Trace"}
    ) as host:
        secrets = secrets_of(folder)
        keyed = Keyed(folder, host)
        for name in json.loads((folder / ".perdure" / "keys.json").read_text()):
            for path in ("/api/mirror/x", f"{BASE}/instances/none", f"{BASE}/orchestrators/%ff", "/admin/x"):
                for method in ("GET", "POST"):
                    keyed.status(method, f"{path}?code={keyed.key(name)['x-functions-key']}")
                    keyed.status(method, path, keyed.key(name))
        started_one = host.request("POST", "/api/start/echo/one", headers=keyed.key("master"))
        links = [
            dict(part.split("=", 1) for part in urlsplit(link).query.split("&")) for link in urls(started_one.json())
        ]
        codes = [link["code"] for link in links]
        host.request("GET", f"{BASE}/instances/one?timeout=x&code={codes[0]}")
        printed = "".join(host.text)

    kept = [each for each in (folder / ".perdure").iterdir() if each.name not in ("keys.json", "host.json")]
    stored = b"".join(each.read_bytes() for each in kept)
    for secret in (*secrets, *codes):
        assert secret not in printed
        assert secret.encode() not in stored


def urls(links: dict[str, str]) -> list[str]:
    return [link for name, link in links.items() if name != "id"]


def test_without_keys_links_are_plain_and_the_key_endpoints_are_not_there(tmp_path: Path):
    with started(copy_app("fuzzed", tmp_path)) as host:
        links = host.start("echo", "plain").json()

        assert "code=" not in str(links)
        assert host.request("GET", "/api/secret").status == 200
        assert host.request("GET", "/admin/functions/mirror").status == 200
        for path in ("host/keys", "host/systemkeys/_master", "functions/mirror/keys"):
            assert host.request("GET", f"/admin/{path}").status == 404
            assert host.request("POST", f"/admin/{path}").status == 404


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"GET /api/number/7 HTTP/1.1\r\nHost: localhost\r\n", b"200"),
        (b"GET /api/number/7 HTTP/1.1\r\nHost: [::1]:7071\r\n", b"200"),
        (b"GET /api/number/7 HTTP/1.1\r\nHost: evil.example\r\n", b"421"),
        (b"GET /api/number/7 HTTP/1.1\r\nHost: localhost.\r\n", b"421"),
        (b"GET /api/number/7 HTTP/1.1\r\nHost: [::ffff:127.0.0.1]\r\n", b"421"),
        (b"GET /api/number/7 HTTP/1.1\r\nHost: 10.0.0.5\r\n", b"421"),
        (b"GET /api/number/7 HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n", b"400"),
        (b"GET /api/number/7 HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n", b"400"),
        (b"GET /api/number/7 HTTP/1.1\r\n", b"400"),
        (b"GET http://evil.example/api/number/7 HTTP/1.1\r\nHost: evil.example\r\n", b"421"),
    ],
)
def test_on_the_loopback_a_host_answers_to_the_names_of_the_loopback_only(keyed: Keyed, head: bytes, code: bytes):
    with socket.create_connection(("127.0.0.1", keyed.host.port), timeout=10) as connection:
        connection.sendall(head + b"Connection: close\r\n\r\n")

        assert connection.recv(65536).split()[1] == code


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_what_a_host_keeps_is_for_its_owner_alone(tmp_path: Path):
    folder = copy_app("fuzzed", tmp_path)
    before = os.umask(0)
    try:
        with started(folder, "--enable-auth") as host:
            host.start("echo", "one", "?code=" + secrets_of(folder)[0])
            kept = {each.name: each.stat().st_mode & 0o077 for each in (folder / ".perdure").iterdir()}
            folder_mode = (folder / ".perdure").stat().st_mode & 0o077
    finally:
        os.umask(before)

    del kept[".gitignore"]  # it says nothing
    assert {"keys.json", "keys.lock", "host.json", "Fuzzed.db", "Fuzzed.db-wal"} <= set(kept)
    assert {name for name, mode in kept.items() if mode} == set()
    assert folder_mode == 0


@pytest.mark.parametrize("options", [(), ("--enable-auth",)])
@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_where_others_get_in_keys_alone_are_not_enough(tmp_path: Path, address: str, options: tuple[str, ...]):
    code, text = refused(copy_app("fuzzed", tmp_path), "--address", address, *options)

    assert (code, text.split()[0]) == (4, "DF405")


def test_so_it_is_when_the_settings_name_the_address(tmp_path: Path):
    folder = copy_app("fuzzed", tmp_path)
    (folder / "local.settings.json").write_text(json.dumps({"Host": {"LocalHttpAddress": "0.0.0.0"}}))

    code, text = refused(folder)

    assert (code, text.split()[0]) == (4, "DF405")


def test_behind_a_proxy_with_tls_keys_are_asked_for_without_being_asked(tmp_path: Path):
    folder = copy_app("fuzzed", tmp_path)
    environ = {"WEBSITE_HOSTNAME": "orders.example"}
    with started(folder, "--address", "0.0.0.0", "--behind-tls-proxy", environ=environ) as host:
        keyed = Keyed(folder, host)

        assert keyed.status("GET", f"{BASE}/instances") == 401
        assert keyed.status("GET", "/api/mirror/x") == 401
        assert keyed.status("GET", "/admin/host/status") == 401
        assert keyed.status("GET", f"{BASE}/instances", keyed.key("master")) == 200
        for name, code in {
            "orders.example": 200,
            socket.gethostname(): 200,
            "10.1.2.3:80": 200,
            "evil.example": 421,
        }.items():
            assert keyed.status("GET", "/api/number/7", {"Host": name}) == code
        master = keyed.key("master")
        assert keyed.status("GET", "/durabletask/instances/", {**master, "Host": "orders.example"}) == 403
        assert keyed.status("GET", "/durabletask/instances/", {**master, "X-Forwarded-For": "10.0.0.9"}) == 403
        assert "asked for" not in "".join(host.text)
        assert keyed.command("instances", "list") is not None


def test_the_start_screen_says_where_the_keys_are_but_not_what_they_are(tmp_path: Path):
    folder = copy_app("fuzzed", tmp_path)
    with started(folder, "--enable-auth", "--log", "json") as host:
        line = host.find("started")

    assert line is not None
    assert line["asks_for_keys"] is True


class TestCommand:
    @pytest.fixture
    def keyed(self, tmp_path: Path) -> Keyed:
        return Keyed(copy_app("fuzzed", tmp_path), HostProcess.__new__(HostProcess))

    def test_before_the_first_start_there_are_none(self, keyed: Keyed):
        assert "No keys yet" in keyed.command("keys", "list")
        assert not (keyed.folder / ".perdure").exists()

    def test_a_key_that_was_made_before_the_first_start_stays(self, keyed: Keyed):
        made = keyed.command("keys", "rotate", "host/default").strip()

        with started(keyed.folder, "--enable-auth") as host:
            assert host.request("GET", "/api/mirror/x", headers={"x-functions-key": made}).status == 200

    def test_a_list_has_every_key_but_the_one_that_signs(self, keyed: Keyed):
        keyed.command("keys", "rotate", "links")
        value = keyed.command("keys", "rotate", "master").strip()

        assert re.fullmatch(rf"NAME +KEY\nmaster +{re.escape(value)}\n", keyed.command("keys", "list"))
        assert json.loads(keyed.command("keys", "list", "--json")) == {"master": value}


class TestOfficialClient:
    """The unmodified client of SDK 1.x makes its links by putting an instance's id into text."""

    @pytest.fixture
    def binding(self, tmp_path: Path) -> Iterator[tuple[HostProcess, dict[str, Any]]]:
        folder = tmp_path / "bindings"
        folder.mkdir()
        (folder / "host.json").write_text('{"version": "2.0"}')
        for name, (bindings, code) in FUNCTIONS.items():
            (folder / name).mkdir()
            declared = {"scriptFile": "__init__.py", "bindings": bindings}
            (folder / name / "function.json").write_text(json.dumps(declared))
            (folder / name / "__init__.py").write_text(code)
        with started(folder, "--enable-auth") as host:
            yield host, host.request("GET", "/api/binding").json()

    def test_it_is_let_in_and_hands_out_codes_instead_of_the_key(
        self, binding: tuple[HostProcess, dict[str, Any]], request: pytest.FixtureRequest
    ):
        host, given = binding
        key = given["requiredQueryStringParameters"].removeprefix("code=")
        with official_client(Path(request.config.cache.mkdir("official-sdk-1")), given) as client:
            instance_id = client.call("start_new", orchestration_function_name="waits", client_input=1)
            links = json.loads(
                client.call("create_check_status_response", request=None, instance_id=instance_id)["body"]
            )

            assert client.call("get_status", instance_id=instance_id)["status"] in ("Pending", "Running")
            client.call("raise_event", instance_id=instance_id, event_name="go", event_data=2)

        assert key
        assert key not in str(links)
        status = urlsplit(links["statusQueryGetUri"])
        eventually(lambda: host.request("GET", f"{status.path}?{status.query}").status == 200)
        assert host.request("GET", f"{BASE}/instances?{status.query}").status == 401
        purge = urlsplit(links["purgeHistoryDeleteUri"])
        assert host.request("DELETE", f"{purge.path}?{purge.query}").status == 200


FUNCTIONS = {
    "binding": (
        [
            {"type": "httpTrigger", "direction": "in", "name": "req", "authLevel": "anonymous"},
            {"type": "durableClient", "direction": "in", "name": "client"},
            {"type": "http", "direction": "out", "name": "$return"},
        ],
        "def main(req, client: str) -> str:\n    return client\n",
    ),
    "waits": (
        [{"type": "orchestrationTrigger", "direction": "in", "name": "context"}],
        """
import azure.durable_functions as df

def flow(context):
    return (yield context.wait_for_external_event("go"))

main = df.Orchestrator.create(flow)
""",
    ),
}
