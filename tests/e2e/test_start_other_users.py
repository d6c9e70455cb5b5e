"""What other users of a machine, and other machines, get from a host: what it keeps, and what it answers."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from start_kit import HostProcess, clean_environment, copy_app, started

from perdure.webapi.routes import ROUTES

# Becomes another user, and then tries what it is told. Started as root, for the interpreter may be out of its reach.
STRANGER = """
import encodings.idna, http.client, json, os, sys
folder, port, pid, user, requests = json.load(sys.stdin)
seen = {}

def tried(name, act):
    try:
        seen[name] = act()
    except OSError as error:
        seen[name] = type(error).__name__

def asked(method, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, b"1", {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return [answer.status, len(answer.read())]

try:
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
except PermissionError:
    sys.exit(77)
state = os.path.join(folder, ".perdure")
tried("host.json of the app", lambda: len(open(os.path.join(folder, "host.json")).read()))
tried("list", lambda: os.listdir(state))
tried("environment", lambda: len(open(f"/proc/{pid}/environ").read()))
tried("memory", lambda: len(open(f"/proc/{pid}/maps").read()))
for name in ("keys.json", "keys.lock", "host.json", "Fuzzed.db", "Fuzzed.db-wal", "Fuzzed.db.lock"):
    path = os.path.join(state, name)
    tried(f"read {name}", lambda: open(path, "rb").read().decode("latin-1"))
    tried(f"write {name}", lambda: open(path, "ab").close())
    tried(f"replace {name}", lambda: os.rename(os.path.join(folder, "host.json"), path))
    tried(f"remove {name}", lambda: os.remove(path))
tried("plant", lambda: open(os.path.join(state, "keys.new"), "w").close())
tried("command line", lambda: open(f"/proc/{pid}/cmdline").read())
for method, path in requests:
    tried(f"{method} {path}", lambda: asked(method, path))
print(json.dumps(seen))
"""
OTHER_USER = 65534

root_only = pytest.mark.skipif(
    os.name == "nt" or os.geteuid() != 0, reason="only root can become another user, to see what that one can do"
)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody can look into, unlike the ones of tests."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def paths() -> list[tuple[str, str]]:
    """A request to every endpoint that a host has of its own, on both mounts."""
    found: list[tuple[str, str]] = []
    for verb, template, _ in ROUTES:
        path = "/".join("x" if part.startswith("{") else part for part in template.split("/"))
        found += [(verb, f"/runtime/webhooks/durabletask/{path}"), (verb, f"/durabletask/{path}")]
    found += [("POST", f"/durabletask/key={guess}/orchestrators/echo") for guess in ("", "x", "x" * 43)]
    admin = ("host/status", "host/ping", "functions", "host/keys", "host/systemkeys/_master", "functions/mirror/keys")
    return [*found, *(("GET", f"/admin/{each}") for each in admin), ("POST", "/admin/functions/mirror")]


@root_only
def test_another_user_of_the_machine_reads_no_key_and_gets_no_answer(open_folder: Path):
    folder = copy_app("fuzzed", open_folder)
    requests = paths()
    before = os.umask(0)  # the least careful user there is
    try:
        with started(folder, "--enable-auth") as host:
            told = [str(folder), host.port, host.process.pid, OTHER_USER, requests]
            done = subprocess.run(
                [sys.executable, "-c", STRANGER],
                input=json.dumps(told),
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            secrets = [
                *json.loads((folder / ".perdure" / "keys.json").read_text()).values(),
                json.loads((folder / ".perdure" / "host.json").read_text())["token"],
            ]
            kept = host.request("GET", "/api/secret", headers={"x-functions-key": secrets[-1]})
    finally:
        os.umask(before)

    if done.returncode == 77:
        pytest.skip("this root may not become another user")
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    assert seen.pop("host.json of the app") > 0  # so it is not the folder around that keeps it out
    assert not [secret for secret in secrets if secret in seen["command line"]]
    assert {seen.pop(f"{method} {path}")[0] for method, path in requests} == {401}
    del seen["command line"]
    assert set(seen.values()) == {"PermissionError"}
    assert kept.status == 200


# ---------------------------------------------------------------------- other machines

# Constructing a host reads the settings and takes the port, and nothing more.
MATRIX = """
import json, os, sys
from pathlib import Path
from perdure.errors import AppError
from perdure.host.host import Host, HostOptions

for folder, options, environ in json.load(sys.stdin):
    try:
        host = Host(HostOptions(Path(folder), port=0, **options), environ)
    except AppError as error:
        print(json.dumps(str(error).split()[0]))
    else:
        ends = [each.getsockname()[0] for each in host._sockets]
        print(json.dumps([ends, host.is_exposed, host.access is not None]))
        host.close()
"""
LOOPBACKS = [None, "127.0.0.1", "::1", "localhost", "127.0.0.2"]
CONTAINER = {
    "ASPNETCORE_URLS": "http://+:80",
    "ASPNETCORE_HTTP_PORTS": "8080",
    "DOTNET_RUNNING_IN_CONTAINER": "true",
    "KUBERNETES_SERVICE_HOST": "10.0.0.1",
    "CONTAINER_NAME": "orders",
    "WEBSITES_PORT": "80",
    "WEBSITE_HOSTNAME": "orders.example",
    "HOST": "0.0.0.0",
    "PORT": "80",
    "DFM_NONCE": "i_sure_know_what_i_am_doing",
}


def outcomes(cases: list[tuple[Path, dict[str, Any], dict[str, str]]]) -> list[Any]:
    given = [(str(folder), options, environ) for folder, options, environ in cases]
    done = subprocess.run(
        [sys.executable, "-c", MATRIX],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=60,
        env=clean_environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_where_others_get_in_there_are_keys_and_a_proxy_or_there_is_no_host(tmp_path: Path):
    """The matrix of addresses, keys and TLS."""
    folder, named = copy_app("fuzzed", tmp_path), copy_app("hello", tmp_path)
    (named / "local.settings.json").write_text(json.dumps({"Host": {"LocalHttpAddress": "0.0.0.0"}}))
    others = ["0.0.0.0", "::", "192.0.2.1", "10.0.0.1", "2001:db8::1", "127.evil.example", "127.1"]
    others += ["build-server", "orders.example", "2130706433", "0", "localhost.", socket.gethostname() + ".example"]
    auth = [{"enable_auth": each} for each in (False, True)]
    on_loopback = [{"address": address, **keys} for address in LOOPBACKS for keys in auth]
    elsewhere = [{"address": address, **keys} for address in others for keys in auth]
    proxied = [{"address": address, "behind_tls_proxy": True, **keys} for address in (None, "0.0.0.0") for keys in auth]

    found = outcomes(
        [(folder, options, environ) for options in on_loopback for environ in ({}, CONTAINER)]
        + [(folder, options, CONTAINER) for options in elsewhere]
        + [(named, options, {}) for options in auth]
        + [(folder, options, {}) for options in proxied]
    )

    ends, rest = found[: 2 * len(on_loopback)], found[2 * len(on_loopback) :]
    refused, served = rest[: -len(proxied)], rest[-len(proxied) :]
    for options, (addresses, is_exposed, asks) in zip(
        (each for each in on_loopback for _ in range(2)), ends, strict=True
    ):
        assert all(each == "::1" or each.startswith("127.") for each in addresses)
        assert (is_exposed, asks) == (False, options["enable_auth"])
    assert refused == ["DF405"] * (len(elsewhere) + len(auth))
    assert [each[1:] for each in served] == [[True, True]] * len(proxied)


def test_a_proxy_in_front_of_a_loopback_lets_nobody_in_without_a_key(tmp_path: Path):
    """It passes everybody on, often under the name of the loopback."""
    folder = copy_app("fuzzed", tmp_path)
    with started(folder, "--behind-tls-proxy") as host:
        key = {"x-functions-key": json.loads((folder / ".perdure" / "keys.json").read_text())["master"]}

        assert _status(host, {}) == 401
        assert _status(host, {"X-Forwarded-For": "203.0.113.9"}) == 401
        assert _status(host, key) == 200
        local = host.request("GET", "/durabletask/instances", headers={**key, "X-Forwarded-For": "203.0.113.9"})
        assert local.status == 403


def _status(host: HostProcess, headers: dict[str, str]) -> int:
    return host.request("GET", "/runtime/webhooks/durabletask/instances", headers=headers).status
