"""The wheel and the editable install, alone and beside the official SDK: whose `azure.durable_functions` is found.

Throw-away environments see the dependencies of the environment that runs the tests, so that each costs a second. What
is installed, by plain pip, is perdure and the official SDK.
"""

import json
import os
import shutil
import site
import subprocess
import sys
import sysconfig
import threading
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OFFICIAL = "azure-functions-durable"

FIND = """
import importlib.util, json, sys
{first}
spec = importlib.util.find_spec("azure.durable_functions")
print(json.dumps(None if spec is None else spec.origin))
"""


class Environment:
    """A virtual environment with nothing installed but what a test asks for."""

    def __init__(self, folder: Path) -> None:
        run(sys.executable, "-m", "venv", "--without-pip", str(folder))
        self.scripts = folder / ("Scripts" if os.name == "nt" else "bin")
        self.python = self.scripts / ("python.exe" if os.name == "nt" else "python")
        packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
        dependencies = [each for each in sys.path if Path(each).name in ("site-packages", "dist-packages")]
        # Not a site folder of this environment: the .pth files in it, our editable install among them, do not count.
        (packages / "zz_dependencies.pth").write_text("\n".join(dependencies or site.getsitepackages()))

    def install(self, *what: str) -> None:
        run(sys.executable, "-m", "pip", "--python", str(self.python), "install", "--quiet", "--no-deps", *what)

    def finds(self, first: str = "") -> Path:
        """The file that `import azure.durable_functions` would load after the statements `first`."""
        found = json.loads(run(str(self.python), "-c", FIND.format(first=first)))
        assert found is not None, "azure.durable_functions is not found"
        return Path(found)


def run(*command: str) -> str:
    # Away from the checkout, which would otherwise be on the path.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=ROOT.anchor, env=environ, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module", params=["wheel", "editable"])
def alone(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp(request.param))
    environment.install(*([str(wheel)] if request.param == "wheel" else ["--editable", str(ROOT)]))
    return environment


@pytest.fixture(scope="module")
def beside(alone: Environment) -> Environment:
    """The same environment once the official SDK has been installed too."""
    alone.install(OFFICIAL)
    return alone


def is_ours(file: Path) -> bool:
    return "perdure_sdk" in file.parts


def test_the_wheel_has_the_sdk_in_a_root_of_its_own_and_nothing_that_is_not_ours(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    roots = {name.partition("/")[0] for name in names}

    assert {each for each in roots if not each.endswith(".dist-info")} == {
        "perdure",
        "perdure_sdk",
        "perdure_sdk.pth",
    }
    assert "perdure_sdk/azure/durable_functions/__init__.py" in names
    assert not {"perdure_sdk/__init__.py", "perdure_sdk/azure/__init__.py"} & set(names)
    assert zipfile.ZipFile(wheel).read("perdure_sdk.pth").split() == [b"perdure_sdk"]
    assert [each for each in names if each.endswith(".sql")]


def test_alone_a_plain_import_finds_ours(alone: Environment):
    assert is_ours(alone.finds())
    assert is_ours(alone.finds("import azure.functions"))


def test_alone_the_sdk_can_be_imported_and_used_by_a_script(alone: Environment):
    script = (
        "import azure.durable_functions as df; app = df.DFApp(); "
        "app.activity_trigger(input_name='name')(lambda name: name); print(df.__file__)"
    )

    assert is_ours(Path(run(str(alone.python), "-c", script).strip()))


def test_beside_the_official_sdk_a_plain_import_finds_the_official_one(beside: Environment):
    assert not is_ours(beside.finds())


def test_beside_the_official_sdk_the_host_finds_ours(beside: Environment):
    put_first = "from perdure.host.sdk.sdk import put_first; put_first()"

    assert is_ours(beside.finds(put_first))
    assert is_ours(beside.finds(f"import azure.functions; {put_first}"))


def test_beside_the_official_sdk_the_start_screen_names_ours(beside: Environment, tmp_path: Path):
    app = shutil.copytree(ROOT / "samples" / "quickstart", tmp_path / "quickstart")

    screen = start_screen(beside, app)

    (line,) = [each for each in screen if "SDK" in each]
    assert "perdure_sdk" in line


def start_screen(environment: Environment, app: Path) -> list[str]:
    """What `perdure start` prints until it serves."""
    command = [str(environment.python), "-m", "perdure", "start", "--app", str(app), "--port", "0", "--log", "pretty"]
    lines: list[str] = []
    with subprocess.Popen(
        command, cwd=ROOT.anchor, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as host:
        assert host.stdout is not None
        deadline = threading.Timer(30, host.kill)
        deadline.start()
        for line in host.stdout:
            lines.append(line)
            if "Serving" in line:
                break
        deadline.cancel()
        host.kill()
    assert any("Serving" in each for each in lines), "".join(lines)
    return lines


def test_the_command_is_installed_and_runs(beside: Environment):
    command = beside.scripts / ("perdure.exe" if os.name == "nt" else "perdure")

    assert "start" in run(str(command), "--help")
    assert "start" in run(str(beside.python), "-m", "perdure", "--help")
