"""What `perdure start` says to the likely mistakes, and what the process ends with."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from start_kit import clean_environment, copy_app, eventually, launched, refused, started

import perdure

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")


def app_of(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "host.json").write_text('{"version": "2.0"}')
    (folder / "function_app.py").write_text(text)
    return folder


def test_a_folder_without_an_app_is_refused(tmp_path: Path):
    app_of(tmp_path / "src", "")

    code, text = refused(tmp_path)

    assert code == 2
    assert text.startswith("DF101  No Function app here")
    assert "host.json" in text
    assert "src" in text


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path):
    code, text = refused(tmp_path / "none")

    assert code == 2
    assert "does not exist" in text


def test_an_import_error_is_the_users_traceback_and_exit_code_2(tmp_path: Path):
    code, text = refused(app_of(tmp_path, "import json\n\nimport no_such_module_here\n"))

    assert code == 2
    assert text.startswith("DF102  function_app.py could not be imported")
    assert 'function_app.py", line 3, in <module>' in text
    assert "ModuleNotFoundError: No module named 'no_such_module_here'" in text
    assert "site-packages" not in text.partition("ModuleNotFoundError")[0]


def test_an_app_without_functions_is_refused(tmp_path: Path):
    code, text = refused(app_of(tmp_path, "import azure.durable_functions as df\napp = df.DFApp()\n"))

    assert code == 2
    assert "DF103  The app loaded, but it has no functions" in text


def test_a_decorator_that_names_no_parameter_is_shown_with_its_line(tmp_path: Path):
    code, text = refused(
        app_of(
            tmp_path,
            "import azure.durable_functions as df\napp = df.DFApp()\n\n"
            '@app.activity_trigger(input_name="name")\ndef hello(nam): ...\n',
        )
    )

    assert code == 2
    assert "DF104" in text
    assert "function_app.py:4" in text
    assert "Traceback" not in text


def test_an_unknown_activity_is_named_and_the_closest_known_one_too(tmp_path: Path):
    with started(copy_app("hello", tmp_path)) as host:
        instance_id = host.start("misspelt").json()["id"]

        status = host.result(instance_id)

        assert status["runtimeStatus"] == "Failed"
        told = eventually(lambda: host.find("instance", status="Failed"))
        assert "The function 'helo' doesn't exist" in told["error"]
        assert told["advice"].startswith('DF105  Unknown activity "helo"\n  misspelt (function_app.py:')
        assert 'Did you mean "hello"?' in told["advice"]


def test_a_taken_port_names_the_process_that_has_it(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        code, text = refused(copy_app("hello", tmp_path), "--port", str(port))

    assert code == 4
    assert f"DF402  Port {port} is in use" in text
    assert f"--port {port + 1}" in text
    if sys.platform == "linux":
        assert f"(pid {os.getpid()})" in text


def test_a_second_host_on_one_port_is_told_that_the_first_is_perdure(tmp_path: Path):
    with started(copy_app("hello", tmp_path)) as host:
        code, text = refused(copy_app("unruly", tmp_path), "--port", str(host.port))

    assert code == 4
    if sys.platform == "linux":
        assert f"perdure  (pid {host.process.pid})" in text


@pytest.mark.parametrize("address", ["0.0.0.0", "192.0.2.1", "::", "example.org", "127.evil.example"])
def test_an_address_that_others_can_reach_is_refused_without_tls(tmp_path: Path, address: str):
    code, text = refused(copy_app("hello", tmp_path), "--address", address)

    assert code == 4
    assert "DF405" in text
    assert "--behind-tls-proxy" in text


def test_a_broken_host_json_is_refused(tmp_path: Path):
    folder = copy_app("hello", tmp_path)
    (folder / "host.json").write_text("{")

    code, text = refused(folder)

    assert code == 2
    assert "DF107  host.json cannot be read" in text


def test_strict_refuses_to_replace_a_storage_account(tmp_path: Path):
    environ = {"AzureWebJobsStorage": "AccountName=orders;AccountKey=c2VjcmV0"}

    code, text = refused(copy_app("hello", tmp_path), "--strict", environ=environ)

    assert code == 3
    assert "'orders'" in text
    assert "c2VjcmV0" not in text


def test_without_strict_the_account_is_named_and_the_embedded_store_used(tmp_path: Path):
    environ = {"AzureWebJobsStorage": "AccountName=orders;AccountKey=c2VjcmV0"}

    with started(copy_app("hello", tmp_path), environ=environ) as host:
        line = host.find("started")

    assert line is not None
    assert any("'orders'" in each for each in line["warnings"])


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path):
    folder = copy_app("hello", tmp_path)
    (folder / ".perdure").write_text("in the way")

    code, text = refused(folder)

    assert code == 3
    assert "DF403  The app folder cannot be written" in text


def test_the_store_of_another_hub_is_refused(tmp_path: Path):
    folder = copy_app("hello", tmp_path)
    store = f"sqlite:{tmp_path / 'one.db'}"
    with started(folder, "--store", store, "--hub", "First"):
        pass

    code, text = refused(folder, "--store", store, "--hub", "Second")

    assert code == 3
    assert "First" in text


def test_a_file_that_is_no_hub_is_refused(tmp_path: Path):
    with sqlite3.connect(tmp_path / "other.db") as database:
        database.execute("create table mine (x)")
    database.close()

    code, text = refused(copy_app("hello", tmp_path), "--store", f"sqlite:{tmp_path / 'other.db'}")

    assert code == 3
    assert "not a task hub" in text


def test_a_second_host_on_one_hub_is_refused(tmp_path: Path):
    folder = copy_app("hello", tmp_path)
    with started(folder):
        code, text = refused(folder)

    assert code == 3
    assert "Traceback" not in text


def test_a_store_of_an_unknown_kind_is_refused(tmp_path: Path):
    code, text = refused(copy_app("hello", tmp_path), "--store", "mongodb://user:s3cret@x/y")

    assert code == 3
    assert "s3cret" not in text


def test_state_may_be_kept_in_memory_only(tmp_path: Path):
    folder = copy_app("hello", tmp_path)
    with started(folder, "--store", "memory:") as host:
        assert host.start("chain", query="?timeout=10").status == 200
    assert not list((folder / ".perdure").glob("*.db"))


def test_a_relative_store_is_relative_to_where_the_command_was_given(tmp_path: Path):
    folder = copy_app("hello", tmp_path)
    ended = subprocess.Popen(
        [sys.executable, "-m", "perdure", "start", "--app", "hello", "--port", "0", "--store", "sqlite:here.db"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    try:
        assert ended.stdout is not None
        line = json.loads(ended.stdout.readline())
        assert line["store"] == f"sqlite:{tmp_path / 'here.db'}"
    finally:
        ended.kill()
        ended.communicate()
    assert not (folder / "here.db").exists()


DEFECTIVE = """
import azure.durable_functions as df
from perdure.stores.sqlite import SqliteStore

app = df.DFApp()


@app.orchestration_trigger(context_name="context")
def nothing(context): ...


async def fails(self, *arguments, **more):
    raise TypeError("planted")


SqliteStore.commit = fails
"""


def test_an_engine_that_fails_stops_the_host_with_its_cause_and_exit_code_3(tmp_path: Path):
    with started(app_of(tmp_path, DEFECTIVE)) as host:
        host.start("nothing")

        code = host.wait()

    text = "".join(host.text)
    assert code == 3
    assert "The engine failed, so this host has stopped: TypeError: planted" in text
    assert "What was unfinished goes on at the next start." in text
    assert 'raise TypeError(\\"planted\\")' in text
    assert not (tmp_path / ".perdure" / "host.json").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.2 has to be set up first")
def test_another_loopback_address_is_served_under_its_name_only(tmp_path: Path):
    with started(copy_app("hello", tmp_path), "--address", "127.0.0.2") as host:
        line = host.find("started")

        assert line is not None
        assert line["url"] == f"http://127.0.0.2:{host.port}"
        assert host.request("GET", "/admin/host/status", address="127.0.0.2").status == 200
        assert host.request("GET", "/api/text", address="127.0.0.2", headers={"Host": "127.0.0.3"}).status == 421


def test_start_is_the_default_command(tmp_path: Path):
    ended = subprocess.run(
        [sys.executable, "-m", "perdure", "--app", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )

    assert (ended.returncode, ended.stderr[:5]) == (2, "DF101")


def test_help_needs_none_of_the_heavy_imports():
    look = """
import sys
from perdure.cli.main import perdure
perdure(["--help"], standalone_mode=False)
print([each for each in ("azure.functions", "starlette", "uvicorn", "sqlite3", "asyncio") if each in sys.modules])
"""

    ended = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=20)

    assert ended.stdout.splitlines()[-1] == "[]"
    assert "instances" in ended.stdout


@POSIX
class TestTheAppsOwnEnvironment:
    def test_an_environment_without_perdure_is_named_with_what_to_type(self, tmp_path: Path):
        folder = copy_app("hello", tmp_path)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / ".venv")], check=True)

        code, text = refused(folder)

        assert code == 2
        python = folder / ".venv" / "bin" / "python"
        (install,) = (line for line in text.splitlines() if f"{python} -m pip install " in line)
        source = Path(install.rpartition(" ")[2])
        assert source == Path("perdure") or (source / "pyproject.toml").is_file()
        assert f"{python} -m perdure start" in text

    def test_an_environment_with_perdure_takes_over(self, tmp_path: Path):
        folder = copy_app("hello", tmp_path)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
        (packages,) = (folder / "venv").glob("lib/python*/site-packages")
        ours = [str(Path(perdure.__path__[0]).parent), sysconfig.get_path("purelib")]
        (packages / "ours.pth").write_text("\n".join(ours))
        script = folder / "function_app.py"
        script.write_text(script.read_text() + "\nimport sys\nprint('prefix', sys.prefix)\n")

        with launched(folder) as host:
            host.wait_until_ready()
            assert host.find("output", message=f"prefix {folder / 'venv'}")
            assert host.start("chain", query="?timeout=10").status == 200
