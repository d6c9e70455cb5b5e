"""What a host leaves beside an app, and what the command line makes of it."""

import subprocess
import sys
from pathlib import Path

import pytest

from perdure.errors import AppError
from perdure.state_folder import HostNote, StateFolder, absolute_store_url, store_file


def test_a_note_is_read_as_it_was_written_until_it_is_removed(tmp_path: Path):
    state = StateFolder(tmp_path)
    state.prepare()
    note = HostNote("http://127.0.0.1:7071", 4711, "Orders", "memory:")

    state.write_note(note)
    read = state.read_note()
    state.remove_note()

    assert read == note
    assert state.read_note() is None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")
@pytest.mark.parametrize("is_link", [True, False])
def test_a_note_replaces_whatever_somebody_has_put_in_its_place(tmp_path: Path, is_link: bool):
    """It has a secret in it: not into a file that others can read, and not to where a link leads."""
    state = StateFolder(tmp_path)
    state.prepare()
    elsewhere, planted = tmp_path / "elsewhere", state.path / "host.new"
    elsewhere.touch()
    if is_link:
        planted.symlink_to(elsewhere)
    else:
        planted.touch()
        planted.chmod(0o666)

    state.write_note(HostNote("http://localhost:1", 1, "Hub", token="secret"))

    assert elsewhere.read_bytes() == b""
    assert (state.path / "host.json").stat().st_mode & 0o777 == 0o600
    assert not (state.path / "host.json").is_symlink()


def test_a_damaged_note_says_nothing(tmp_path: Path):
    state = StateFolder(tmp_path)
    state.prepare()
    (state.path / "host.json").write_text('{"url": 5}', "utf-8")

    assert state.read_note() is None


def test_a_folder_that_cannot_be_made_is_a_mistake_with_its_path(tmp_path: Path):
    (tmp_path / ".perdure").write_text("in the way", "ascii")

    with pytest.raises(AppError, match="DF403"):
        StateFolder(tmp_path).prepare()


def test_the_default_store_is_in_the_folder(tmp_path: Path):
    assert store_file(StateFolder(tmp_path).store_url("Orders")) == tmp_path / ".perdure" / "Orders.db"


@pytest.mark.parametrize("url", ["sqlite:hub.db", "SQLite:hub.db", "sqlite:///hub.db"])
def test_a_relative_store_is_relative_to_the_current_folder(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    assert absolute_store_url(url) == f"sqlite:{tmp_path / 'hub.db'}"


@pytest.mark.parametrize(
    "url", ["memory:", "sqlite:", "sqlite:///", "sqlite::memory:", "sqlite://host/x", "postgresql:x"]
)
def test_a_url_that_names_no_file_stays_as_it_is(url: str):
    assert (absolute_store_url(url), store_file(url)) == (url, None)


def test_the_command_line_reads_the_folder_without_loading_a_server_or_the_sdk():
    look = """
import sys
import perdure.state_folder
print([each for each in sys.modules if each.split(".")[0] in ("azure", "starlette", "uvicorn", "sqlite3", "asyncio")])
"""

    ended = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=20)

    assert ended.stdout.strip() == "[]"
