"""An app folder becomes a loaded app, or a sentence that says why not."""

import asyncio
import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from perdure.core.codec import payloads
from perdure.errors import AppError
from perdure.host.app.app_folder import find_app_folder
from perdure.host.app.loading import LoadedApp, load_app
from perdure.host.sdk.our_sdk import OurSdk, fitting_client

HEAD = """
    import azure.functions as func
    import azure.durable_functions as df
"""

APP = HEAD + "    app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)\n"

CLIENT_OF = """
    @app.route(route="f")
    @app.durable_client_input(client_name="client", task_hub="{}", connection_name="Storage")
    def f(req: func.HttpRequest, client) -> str: ...
"""


A_CLIENT = cast(Any, SimpleNamespace(upper=lambda: "A CLIENT"))


@pytest.fixture(autouse=True)
def _restore_the_process(tmp_path: Path) -> Iterator[None]:
    """Loading an app changes the process; each test gets it as it was."""
    path, modules, here = list(sys.path), set(sys.modules), Path.cwd()
    os.chdir(tmp_path)
    yield
    os.chdir(here)
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "host.json").write_text('{"version": "2.0"}')
    for name, text in files.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))


def load(
    folder: Path, environ: dict[str, str] | None = None, only: list[str] | None = None, hub: str = "TestHubName"
) -> LoadedApp:
    return load_app(
        folder, environ or {}, "api", only, hub, OurSdk(), lambda function, is_text: fitting_client(function, A_CLIENT)
    )


def refused(folder: Path, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(AppError) as caught:
        load(folder, environ)
    return str(caught.value)


def notes(app: LoadedApp) -> dict[str, str | None]:
    return {each.name: each.note for each in app.listings}


class TestFinding:
    def test_the_current_folder_is_the_app(self, tmp_path: Path):
        write(tmp_path)

        assert find_app_folder(None, {}) == tmp_path

    def test_the_nearest_folder_above_with_a_host_json_is_the_app(self, tmp_path: Path):
        write(tmp_path)
        (tmp_path / "flows" / "deep").mkdir(parents=True)
        os.chdir(tmp_path / "flows" / "deep")

        assert find_app_folder(None, {}) == tmp_path

    def test_a_host_json_further_down_is_named(self, tmp_path: Path):
        write(tmp_path / "src")

        with pytest.raises(AppError) as caught:
            find_app_folder(None, {})

        assert "DF101" in str(caught.value)
        assert os.path.join("src", "host.json") in str(caught.value)
        assert "perdure --app src" in str(caught.value)

    def test_a_named_folder_counts_alone(self, tmp_path: Path):
        write(tmp_path)
        (tmp_path / "empty").mkdir()

        with pytest.raises(AppError, match="DF101"):
            find_app_folder(Path("empty"), {})

    def test_function_app_py_alone_is_enough(self, tmp_path: Path):
        (tmp_path / "function_app.py").touch()

        assert find_app_folder(tmp_path / "function_app.py", {}) == tmp_path


class TestLoading:
    def test_all_kinds_of_functions_are_collected(self, tmp_path: Path):
        write(
            tmp_path,
            function_app=APP
            + """
    from flows import bp
    app.register_functions(bp)

    @app.route(route="orchestrators/{functionName}", methods=["POST"])
    @app.durable_client_input(client_name="client")
    async def http_start(req: func.HttpRequest, client) -> func.HttpResponse: ...

    @app.timer_trigger(arg_name="t", schedule="0 0 2 * * *")
    def nightly(t): ...

    @app.entity_trigger(context_name="context")
    def counter(context): ...
    """,
            flows=HEAD
            + """
    bp = df.Blueprint()

    @bp.orchestration_trigger(context_name="context", orchestration="Chain")
    def chain(context: df.DurableOrchestrationContext):
        yield context.call_activity("hello", "x")

    @bp.activity_trigger(input_name="name", activity="Hello")
    def hello(name: str) -> str: ...
    """,
        )

        app = load(tmp_path)

        assert set(app.orchestrators) == {"Chain"}
        assert app.activities["Hello"].input_name == "name"
        (http,) = app.http
        assert (http.request_name, http.client_names, http.methods) == ("req", ("client",), ("POST",))
        assert http.template.text == "api/orchestrators/{functionName}"
        listed = {each.name: each for each in app.listings}
        assert str(listed["Chain"].source).startswith("flows.py:")
        (timer,) = app.timers
        assert (timer.name, timer.request_name, timer.schedule.text) == ("nightly", "t", "0 0 2 * * *")
        assert (listed["nightly"].kind, listed["nightly"].schedule) == ("Timer", timer.schedule)
        assert set(app.entities) == {"counter"}
        assert (listed["counter"].kind, listed["counter"].note) == ("Entity", None)
        assert not any(each.is_error for each in app.listings)

    @pytest.mark.parametrize("task_hub", ["Orders", "orders", "%HUB%", "%PART%ers"])
    def test_a_client_may_name_the_hosts_task_hub(self, tmp_path: Path, task_hub: str):
        write(tmp_path, function_app=APP + CLIENT_OF.format(task_hub))

        app = load(tmp_path, {"HUB": "Orders", "PART": "Ord"}, hub="Orders")

        assert [each.client_names for each in app.http] == [("client",)]
        assert notes(app) == {"f": None}

    @pytest.mark.parametrize(("task_hub", "shown"), [("Stock", "Stock"), ("%HUB%", "Stock"), ("%NONE%", "%NONE%")])
    def test_a_client_of_another_task_hub_puts_its_function_in_error(self, tmp_path: Path, task_hub: str, shown: str):
        write(tmp_path, function_app=APP + CLIENT_OF.format(task_hub))

        app = load(tmp_path, {"HUB": "Stock"}, hub="Orders")

        (listing,) = app.listings
        assert listing.is_error
        assert f"task hub '{shown}', but this host runs task hub 'Orders' and no other" in (listing.note or "")
        assert app.http == []

    def test_activities_get_clients_too(self, tmp_path: Path):
        write(
            tmp_path,
            function_app=APP
            + """
    @app.activity_trigger(input_name="name")
    @app.durable_client_input(client_name="client")
    def blocking(name, client, context: func.Context):
        return [name, type(client).__name__, client.upper(), context.function_name]

    @app.activity_trigger(input_name="name")
    @app.durable_client_input(client_name="client")
    async def awaiting(name, client):
        return [name, client]
    """,
        )

        app = load(tmp_path)

        assert app.activities["blocking"].function(name=1) == [
            1,
            "SyncDurableOrchestrationClient",
            "A CLIENT",
            "blocking",
        ]
        assert asyncio.run(app.activities["awaiting"].function(name=2)) == [2, A_CLIENT]

    def test_a_plain_function_app_may_register_durable_blueprints(self, tmp_path: Path):
        write(
            tmp_path,
            function_app=HEAD
            + """
    bp = df.Blueprint()
    @bp.activity_trigger(input_name="name")
    def hello(name): ...
    main = func.FunctionApp()
    main.register_functions(bp)
    """,
        )

        assert set(load(tmp_path).activities) == {"hello"}

    def test_module_level_decorators_need_no_app_object(self, tmp_path: Path):
        write(
            tmp_path,
            function_app="""
    from azure.durable_functions import app as sdk
    from azure.durable_functions import activity_trigger, orchestration_trigger
    sdk.default_blueprint._function_builders.clear()

    @orchestration_trigger()
    def chain(context):
        yield context.call_activity("hello", "x")

    @activity_trigger()
    def hello(input): ...
    """,
        )

        try:
            app = load(tmp_path)
            assert (set(app.orchestrators), set(app.activities)) == ({"chain"}, {"hello"})
        finally:
            sys.modules["azure.durable_functions.app"].default_blueprint._function_builders.clear()

    def test_another_script_may_be_named(self, tmp_path: Path):
        write(tmp_path, my_app=APP + "    @app.activity_trigger(input_name='x')\n    def one(x): ...\n")

        assert set(load(tmp_path, {"PYTHON_SCRIPT_FILE_NAME": "my_app.py"}).activities) == {"one"}
        assert "Invalid file name" in refused(tmp_path, {"PYTHON_SCRIPT_FILE_NAME": "../x.py"})

    def test_functions_are_switched_off_by_settings_and_by_the_allow_list(self, tmp_path: Path):
        write(
            tmp_path,
            function_app=APP
            + """
    @app.activity_trigger(input_name="x")
    def one(x): ...
    @app.activity_trigger(input_name="x")
    def two(x): ...
    @app.activity_trigger(input_name="x")
    def three(x): ...
    """,
        )

        app = load(tmp_path, {"AzureWebJobs__Two__Disabled": "1"}, only=["ONE", "two"])

        assert set(app.activities) == {"one"}
        assert "AzureWebJobs.two.Disabled" in (notes(app)["two"] or "")
        assert "host.json leaves it out" in (notes(app)["three"] or "")

    def test_classes_of_the_app_may_come_back_from_payloads(self, tmp_path: Path):
        write(
            tmp_path,
            function_app=APP
            + """
    from shapes import Order
    @app.activity_trigger(input_name="order")
    def price(order: Order) -> int: ...
    """,
            shapes="""
    class Order:
        def __init__(self, total): self.total = total
        @staticmethod
        def to_json(order): return order.total
        @staticmethod
        def from_json(total): return Order(total)
    """,
        )

        load(tmp_path)

        order = payloads.decode('{"__class__": "Order", "__module__": "shapes", "__data__": 7}')
        assert order.total == 7


class TestMistakes:
    def test_an_import_error_is_the_users_own_traceback(self, tmp_path: Path):
        write(tmp_path, function_app="import helper", helper="\ndef f():\n    return 1 / 0\nf()\n")

        text = refused(tmp_path)

        assert text.startswith("DF102  function_app.py could not be imported")
        assert "helper.py" in text
        assert "ZeroDivisionError: division by zero" in text
        assert "perdure" + os.sep not in text.partition("Interpreter")[0]
        assert "importlib" not in text

    def test_a_missing_package_names_the_interpreter_and_the_requirement(self, tmp_path: Path):
        write(tmp_path, function_app="import no_such_package_at_all")
        (tmp_path / "requirements.txt").write_text("azure-functions\nno-such-package-at-all==1.0\n")

        text = refused(tmp_path)

        assert "ModuleNotFoundError: No module named 'no_such_package_at_all'" in text
        assert "requirements.txt lists no-such-package-at-all but it is not installed there" in text
        assert "-m pip install -r requirements.txt" in text

    def test_a_syntax_error_is_shown_as_python_shows_it(self, tmp_path: Path):
        write(tmp_path, function_app="def f(:\n    pass\n")

        assert "SyntaxError" in refused(tmp_path)

    def test_leaving_the_process_while_importing_is_the_apps_mistake(self, tmp_path: Path):
        write(tmp_path, function_app="import sys\nsys.exit(3)\n")

        assert "SystemExit: 3" in refused(tmp_path)

    def test_an_app_without_functions_is_told_what_is_missing(self, tmp_path: Path):
        write(tmp_path, function_app=APP)

        assert "DF103" in refused(tmp_path)

    def test_an_app_without_app_object_is_told_so(self, tmp_path: Path):
        write(tmp_path, function_app="x = 1\n")

        assert "Could not find top level function app instances" in refused(tmp_path)

    def test_a_blueprint_that_nobody_registers_is_named(self, tmp_path: Path):
        write(
            tmp_path,
            function_app=APP + "    import flows\n",
            flows=HEAD
            + """
    bp = df.Blueprint()
    @bp.activity_trigger(input_name="x")
    def one(x): ...
    """,
        )

        text = refused(tmp_path)

        assert "flows.py defines a Blueprint 'bp' (1 function) that no FunctionApp registers" in text
        assert "app.register_functions(bp)" in text

    def test_two_app_objects_are_refused(self, tmp_path: Path):
        write(tmp_path, function_app=APP + "    other = func.FunctionApp()\n")

        assert "app, other" in refused(tmp_path)

    def test_one_name_for_two_functions_is_refused(self, tmp_path: Path):
        body = "    @app.activity_trigger(input_name='x')\n    def one(x): ...\n"
        write(tmp_path, function_app=APP + body + body)

        assert "does not have a unique function name" in refused(tmp_path)

    def test_registered_names_are_compared_without_case(self, tmp_path: Path):
        write(
            tmp_path,
            function_app=APP
            + """
    @app.activity_trigger(input_name="x", activity="Pay")
    def one(x): ...
    @app.activity_trigger(input_name="x")
    def pay(x): ...
    """,
        )

        text = refused(tmp_path)

        assert "DF112" in text
        assert text.count("function_app.py:") == 2

    def test_a_function_without_trigger_is_named_with_its_place(self, tmp_path: Path):
        write(tmp_path, function_app=APP + "    @app.durable_client_input(client_name='c')\n    async def f(c): ...\n")

        text = refused(tmp_path)

        assert "Function f does not have a trigger" in text
        assert "function_app.py:" in text

    def test_decorator_and_function_that_disagree_are_shown_without_a_traceback(self, tmp_path: Path):
        write(tmp_path, function_app=APP + "    @app.activity_trigger(input_name='name')\n    def hello(nam): ...\n")

        text = refused(tmp_path)

        assert text.startswith("DF104")
        assert "Traceback" not in text

    def test_a_function_in_error_does_not_keep_the_others_from_running(self, tmp_path: Path):
        write(
            tmp_path,
            function_app=APP
            + """
    @app.route(route="a")
    def unbound(req, more): ...
    @app.route(route="b")
    def wrong(req: dict): ...
    @app.route(route="c/{x:nonsense}")
    def route(req): ...
    @app.route(route="d")
    def context_of(req, context: dict): ...
    @app.route(route="e", trigger_arg_name="request")
    def renamed(req): ...
    @app.queue_output(arg_name="out", queue_name="q", connection="c")
    @app.route(route="f")
    def queue(req, out): ...
    @app.route(route="g")
    def fine(req, context: func.Context): ...
    """,
        )

        app = load(tmp_path)

        assert [each.name for each in app.http] == ["fine"]
        assert app.http[0].wants_context
        found = notes(app)
        assert "declared in Python but not in the function definition" in (found["unbound"] or "")
        assert 'does not match its Python annotation "dict"' in (found["wrong"] or "")
        assert "nonsense" in (found["route"] or "")
        assert "azure.functions.Context" in (found["context_of"] or "")
        assert "DF104" in (found["renamed"] or "")
        assert "queue binding  (DF110)" in (found["queue"] or "")

    def test_what_azure_would_not_load_is_a_warning(self, tmp_path: Path):
        write(
            tmp_path,
            function_app=APP
            + """
    @app.route(route="a")
    def fine(req: func.HttpRequest) -> dict: ...
    """,
        )

        assert 'its return annotation "dict"' in load(tmp_path).warnings[0]
