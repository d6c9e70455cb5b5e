"""Folders with a function.json become functions, or a line that says which file is wrong and how to mend it."""

import json
import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.errors import AppError
from perdure.host.app.functions import Listing
from perdure.host.app.loading import LoadedApp, load_app
from perdure.host.http.web_app import AsgiWebApp, WsgiWebApp
from perdure.host.sdk.our_sdk import OurSdk

ORCHESTRATION = {"name": "context", "type": "orchestrationTrigger", "direction": "in"}
ACTIVITY = {"name": "name", "type": "activityTrigger", "direction": "in"}
ENTITY = {"name": "context", "type": "entityTrigger", "direction": "in"}
CLIENT = {"name": "starter", "type": "durableClient", "direction": "in"}
REQUEST = {
    "name": "req",
    "type": "httpTrigger",
    "direction": "in",
    "authLevel": "anonymous",
    "methods": ["get", "post"],
}
RESPONSE = {"name": "$return", "type": "http", "direction": "out"}

HELLO = "def main(name): return 'Hello ' + name\n"


@pytest.fixture(autouse=True)
def _restore_the_process(tmp_path: Path) -> Iterator[None]:
    """Loading an app changes the process; each test gets it as it was."""
    path, modules, here = list(sys.path), set(sys.modules), Path.cwd()
    (tmp_path / "host.json").write_text('{"version": "2.0"}')
    os.chdir(tmp_path)
    yield
    os.chdir(here)
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("__app__") or str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def function(
    folder: Path,
    name: str,
    *bindings: dict[str, Any],
    script: str | None = None,
    file: str = "__init__.py",
    **more: Any,
) -> None:
    """Write the folder of one function."""
    (folder / name).mkdir(exist_ok=True)
    if script is not None:
        (folder / name / file).write_text(textwrap.dedent(script))
    (folder / name / "function.json").write_text(json.dumps({"bindings": list(bindings)} | more, indent=2))


def load(folder: Path, environ: dict[str, str] | None = None, only: list[str] | None = None) -> LoadedApp:
    return load_app(
        folder, environ or {}, "api", only, "TestHubName", OurSdk(), lambda function, is_text: ["client", is_text]
    )


def refused(folder: Path) -> str:
    with pytest.raises(AppError) as caught:
        load(folder)
    return str(caught.value)


def listing(app: LoadedApp, name: str) -> Listing:
    return next(each for each in app.listings if each.name == name)


def error_beside_hello(folder: Path, name: str) -> Listing:
    """What is said of a function in error, while another function of the app runs."""
    function(folder, "Hello", ACTIVITY, script=HELLO)
    app = load(folder)
    assert set(app.activities) == {"Hello"}
    found = listing(app, name)
    assert found.is_error
    return found


class TestFolders:
    def test_every_kind_of_function_is_found_and_called_as_its_folder(self, tmp_path: Path):
        function(tmp_path, "Hello", ACTIVITY, script=HELLO)
        function(
            tmp_path,
            "Chain",
            ORCHESTRATION,
            script="""
            import azure.durable_functions as df

            def orchestrator_function(context):
                yield context.call_activity("Hello", "x")

            main = df.Orchestrator.create(orchestrator_function)
            """,
        )
        function(
            tmp_path,
            "Counter",
            ENTITY,
            script="""
            import azure.durable_functions as df

            def entity_function(context): ...

            main = df.Entity.create(entity_function)
            """,
        )
        function(
            tmp_path,
            "HttpStart",
            REQUEST | {"route": "orchestrators/{functionName}"},
            CLIENT,
            RESPONSE,
            script="async def main(req, starter): ...\n",
        )

        app = load(tmp_path)

        assert (set(app.orchestrators), set(app.activities), set(app.entities)) == ({"Chain"}, {"Hello"}, {"Counter"})
        (http,) = app.http
        assert (http.name, http.methods, http.client_names) == ("HttpStart", ("GET", "POST"), ("starter",))
        assert http.template.text == "api/orchestrators/{functionName}"
        assert {each.name: str(each.source) for each in app.listings} == {
            "Chain": "Chain/__init__.py:4",
            "Counter": "Counter/__init__.py:4",
            "Hello": "Hello/__init__.py:1",
            "HttpStart": "HttpStart/__init__.py:1",
        }
        assert app.activities["Hello"].function(name="you") == "Hello you"

    def test_a_function_without_route_has_its_name_as_route(self, tmp_path: Path):
        function(tmp_path, "Ping", REQUEST, RESPONSE, script="def main(req): ...\n")

        assert load(tmp_path).http[0].template.text == "api/Ping"

    def test_an_activity_gets_a_client_as_text_too(self, tmp_path: Path):
        function(tmp_path, "Act", ACTIVITY, CLIENT, script="def main(name, starter: str): return starter\n")

        assert load(tmp_path).activities["Act"].function(name=1) == ["client", True]

    def test_names_in_the_trigger_are_those_that_orchestrations_call(self, tmp_path: Path):
        function(tmp_path, "Hello", ACTIVITY | {"activity": "Greet"}, script=HELLO)

        assert set(load(tmp_path).activities) == {"Greet"}

    def test_members_and_types_may_be_written_in_any_case(self, tmp_path: Path):
        old = {"Name": "starter", "TYPE": "OrchestrationClient", "Direction": "IN"}
        function(
            tmp_path, "Start", REQUEST | {"type": "HTTPTRIGGER"}, old, RESPONSE, script="def main(req, starter): 1"
        )

        assert load(tmp_path).http[0].client_names == ("starter",)

    def test_the_function_gets_its_own_folder_as_function_directory(self, tmp_path: Path):
        function(
            tmp_path,
            "Where",
            ACTIVITY,
            script="def main(name, context): return context.function_directory, context.function_name",
        )

        found = load(tmp_path).activities["Where"].function(name=1)

        assert found == (str(tmp_path / "Where"), "Where")

    def test_comments_and_a_byte_order_mark_are_read_over(self, tmp_path: Path):
        function(tmp_path, "Hello", ACTIVITY, script=HELLO)
        file = tmp_path / "Hello" / "function.json"
        file.write_text("\ufeff// mine\n" + file.read_text().replace('"in"', '"in", /* so */'))

        assert set(load(tmp_path).activities) == {"Hello"}

    def test_decorators_win_over_folders_and_the_start_screen_says_so(self, tmp_path: Path):
        (tmp_path / "function_app.py").write_text(
            "import azure.durable_functions as df\napp = df.DFApp()\n"
            "@app.activity_trigger(input_name='x')\ndef one(x): ...\n"
        )
        function(tmp_path, "Hello", ACTIVITY, script=HELLO)

        app = load(tmp_path)

        assert set(app.activities) == {"one"}
        assert "Detected mixed function app" in app.warnings[0]
        assert "Hello" in app.warnings[0]

    def test_folders_of_an_environment_are_not_functions(self, tmp_path: Path):
        function(tmp_path, "Hello", ACTIVITY, script=HELLO)
        function(tmp_path, "node_modules", ACTIVITY, script=HELLO)

        assert [each.name for each in load(tmp_path).listings] == ["Hello"]

    def test_a_folder_without_any_function_is_no_app(self, tmp_path: Path):
        (tmp_path / "src").mkdir()
        function(tmp_path / "src", "Hello", ACTIVITY, script=HELLO)

        text = refused(tmp_path)

        assert text.startswith("DF101")
        assert f"{Path('src/Hello/function.json')} lies too deep" in text


class TestImports:
    def test_scripts_find_modules_of_the_app_in_all_three_ways(self, tmp_path: Path):
        (tmp_path / "shared").mkdir()
        (tmp_path / "shared" / "words.py").write_text("HELLO = 'Hello '\n")
        (tmp_path / "plain.py").write_text("BANG = '!'\n")
        function(
            tmp_path,
            "Hello",
            ACTIVITY,
            script="""
            import plain
            from __app__.shared import words
            from ..shared.words import HELLO
            from . import own
            from .deep.er import MARK

            def main(name):
                assert words.HELLO is HELLO and __name__ == "__app__.Hello"
                return HELLO + name + plain.BANG + own.WHO + MARK
            """,
        )
        (tmp_path / "Hello" / "own.py").write_text("WHO = ' (me)'\n")
        (tmp_path / "Hello" / "deep").mkdir()
        (tmp_path / "Hello" / "deep" / "er.py").write_text("from ..own import WHO as MARK\n")

        assert load(tmp_path).activities["Hello"].function(name="you") == "Hello you! (me) (me)"

    @pytest.mark.parametrize(
        ("named", "file"),
        [
            ("code.py", "Hello/code.py"),
            ("./inner/code.py", "Hello/inner/code.py"),
            ("../shared/code.py", "shared/code.py"),
            ("..\\\\shared\\\\code.py".replace("\\\\", "\\"), "shared/code.py"),
        ],
    )
    def test_script_and_entry_point_may_be_named(self, tmp_path: Path, named: str, file: str):
        function(tmp_path, "Hello", ACTIVITY, scriptFile=named, entryPoint="greet")
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(HELLO.replace("main", "greet"))

        app = load(tmp_path)

        assert app.activities["Hello"].function(name="you") == "Hello you"
        assert listing(app, "Hello").source.file == str(Path(file))

    @pytest.mark.parametrize("others", [(), ("helper.py",), ("a.py", "b.py")])
    def test_init_py_is_the_script_if_none_is_named(self, tmp_path: Path, others: tuple[str, ...]):
        function(tmp_path, "Hello", ACTIVITY, script=HELLO)
        for each in others:
            (tmp_path / "Hello" / each).write_text("")

        assert listing(load(tmp_path), "Hello").note is None

    def test_an_only_script_needs_no_name(self, tmp_path: Path):
        function(tmp_path, "Hello", ACTIVITY, script=HELLO, file="whatever.py")

        assert str(listing(load(tmp_path), "Hello").source) == "Hello/whatever.py:1"

    def test_two_folders_may_share_a_script(self, tmp_path: Path):
        (tmp_path / "both.py").write_text("def one(name): return 1\ndef two(name): return 2\n")
        function(tmp_path, "One", ACTIVITY, scriptFile="../both.py", entryPoint="one")
        function(tmp_path, "Two", ACTIVITY, scriptFile="../both.py", entryPoint="two")

        activities = load(tmp_path).activities

        assert [activities[each].function(name=0) for each in ("One", "Two")] == [1, 2]

    def test_an_orchestrator_may_be_any_callable(self, tmp_path: Path):
        function(
            tmp_path,
            "Chain",
            ORCHESTRATION,
            script="""
            import functools
            import azure.durable_functions as df

            def orchestrator(extra, context): ...

            main = df.Orchestrator.create(functools.partial(orchestrator, 1))
            """,
        )

        assert str(listing(load(tmp_path), "Chain").source) == "Chain/__init__.py:1"


class TestClients:
    @pytest.mark.parametrize("annotation", ["", ": str", ": 'str'", ": bytes", ": object"])
    def test_a_client_parameter_that_asks_for_no_object_gets_text(self, tmp_path: Path, annotation: str):
        function(
            tmp_path, "Start", REQUEST, CLIENT, RESPONSE, script=f"async def main(req, starter{annotation}): ...\n"
        )

        (http,) = load(tmp_path).http

        assert (http.client_names, http.client_texts) == (("starter",), frozenset({"starter"}))

    def test_decorators_that_know_nothing_of_clients_give_text_too(self, tmp_path: Path):
        (tmp_path / "function_app.py").write_text(
            textwrap.dedent("""
            import azure.durable_functions as df
            import azure.functions as func

            app = df.DFApp()

            @app.route(route="a")
            @app.generic_input_binding(arg_name="starter", type="durableClient")
            async def generic(req: func.HttpRequest, starter: str): ...

            @app.route(route="b")
            @app.durable_client_input(client_name="starter")
            async def known(req: func.HttpRequest, starter): ...
            """)
        )

        texts = {each.name: each.client_texts for each in load(tmp_path).http}

        assert texts == {"generic": frozenset({"starter"}), "known": frozenset()}

    def test_a_client_parameter_that_names_the_class_gets_a_client(self, tmp_path: Path):
        function(
            tmp_path,
            "Start",
            REQUEST,
            CLIENT,
            RESPONSE,
            script="""
            import azure.durable_functions as df

            async def main(req, starter: df.DurableOrchestrationClient): ...
            """,
        )

        (http,) = load(tmp_path).http

        assert (http.client_names, http.client_texts) == (("starter",), frozenset())

    def test_azure_would_not_load_it_and_a_warning_says_so(self, tmp_path: Path):
        function(
            tmp_path,
            "Start",
            REQUEST,
            CLIENT,
            RESPONSE,
            script="""
            import azure.durable_functions as df

            async def main(req, starter: df.DurableOrchestrationClient): ...
            """,
        )

        (warning,) = load(tmp_path).warnings

        assert warning.endswith(
            "Start works here, but Azure would not load it: "
            "its client 'starter' is annotated \"DurableOrchestrationClient\", not str"
        )


class TestWebApplications:
    @pytest.mark.parametrize(("middleware", "kind"), [("AsgiMiddleware", AsgiWebApp), ("WsgiMiddleware", WsgiWebApp)])
    def test_a_middlewares_main_is_run_as_the_application_that_it_is(self, tmp_path: Path, middleware: str, kind: type):
        function(
            tmp_path,
            "Site",
            REQUEST,
            RESPONSE,
            script=f"import azure.functions as func\nmain = func.{middleware}(lambda *_: None).main\n",
        )

        (http,) = load(tmp_path).http

        assert isinstance(http.web_app, kind)

    def test_it_stands_where_its_script_does(self, tmp_path: Path):
        function(
            tmp_path,
            "Site",
            REQUEST,
            RESPONSE,
            script="import azure.functions as func\nmain = func.AsgiMiddleware(print).main\n",
        )

        assert str(listing(load(tmp_path), "Site").source) == f"{Path('Site/__init__.py')}:1"


class TestOff:
    def test_a_function_that_is_off_is_listed_and_not_imported(self, tmp_path: Path):
        broken = "raise RuntimeError('imported')\n"
        function(tmp_path, "Hello", ACTIVITY, script=HELLO)
        function(tmp_path, "ByFile", ACTIVITY, script=broken, disabled=True)
        function(tmp_path, "BySettingOfItsOwn", ACTIVITY, script=broken, disabled="NO_GREETINGS")
        function(tmp_path, "BySetting", ACTIVITY, script=broken)
        function(tmp_path, "Left", REQUEST, RESPONSE, script=broken)
        function(tmp_path, "On", ACTIVITY, script=HELLO, disabled="GREETINGS")

        app = load(
            tmp_path,
            {"AzureWebJobs.BySetting.Disabled": "true", "NO_GREETINGS": "1", "GREETINGS": "false"},
            only=["hello", "byfile", "BySetting", "BySettingOfItsOwn", "On"],
        )

        assert set(app.activities) == {"Hello", "On"}
        assert not any(each.is_error for each in app.listings)
        notes = {each.name: each.note for each in app.listings if each.note}
        assert notes == {
            "ByFile": 'disabled: "disabled" in function.json',
            "BySetting": "disabled: AzureWebJobs.BySetting.Disabled is set",
            "BySettingOfItsOwn": 'disabled: "disabled" in function.json asks for NO_GREETINGS, which is 1',
            "Left": 'disabled: "functions" in host.json leaves it out',
        }
        assert listing(app, "Left").route == "api/Left"
        assert str(listing(app, "Left").source) == "Left/function.json:1"

    def test_an_app_whose_functions_are_all_off_still_starts(self, tmp_path: Path):
        function(tmp_path, "Hello", ACTIVITY, script=HELLO, disabled=True)

        assert listing(load(tmp_path), "Hello").kind == "Activity"


class TestMistakesInFunctionJson:
    def test_what_is_not_json_is_shown_with_its_line(self, tmp_path: Path):
        function(tmp_path, "Bad", ACTIVITY, script=HELLO)
        (tmp_path / "Bad" / "function.json").write_text('{\n  // this one\n  /* is\n  long */\n  "bindings": [}\n}\n')

        found = error_beside_hello(tmp_path, "Bad")

        assert str(found.source) == "Bad/function.json:5"
        assert "function.json: is not JSON" in (found.note or "")
        assert "in line 5  (DF120)" in (found.note or "")

    @pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"[" * 100_000, b"", b"null"])
    def test_a_file_that_no_json_is_in_puts_only_its_function_in_error(self, tmp_path: Path, content: bytes):
        function(tmp_path, "Bad", ACTIVITY, script=HELLO)
        (tmp_path / "Bad" / "function.json").write_bytes(content)

        assert "(DF120)" in (error_beside_hello(tmp_path, "Bad").note or "")

    @pytest.mark.parametrize("text", ["[]", "7", "{}", '{"bindings": []}', '{"bindings": {}}'])
    def test_bindings_are_needed(self, tmp_path: Path, text: str):
        function(tmp_path, "Bad", ACTIVITY, script=HELLO)
        (tmp_path / "Bad" / "function.json").write_text(text)

        assert "bindings" in (error_beside_hello(tmp_path, "Bad").note or "")

    @pytest.mark.parametrize(
        ("bindings", "line", "says"),
        [
            ([REQUEST | {"type": "htpTrigger"}], 4, "bundle; did you mean  httpTrigger?"),
            ([ACTIVITY, RESPONSE | {"type": "carrierPigeon"}], 9, "The binding type(s) 'carrierPigeon' were not found"),
            ([{"name": "x", "direction": "in"}], 4, 'the binding x has no "type"'),
            ([{"type": "activityTrigger"}], 4, "Please assign a valid name to the activityTrigger binding"),
            ([7], 2, 'the binding without a name has no "type"'),
            ([CLIENT], 2, "No trigger binding specified"),
            ([ACTIVITY, REQUEST], 9, "a single trigger binding; this one has activityTrigger, httpTrigger"),
            ([ACTIVITY, CLIENT | {"name": "Name"}], 9, "Multiple bindings with name 'Name' discovered"),
            ([ACTIVITY | {"direction": "inout"}], 4, '"inout" bindings are not supported'),
            ([ACTIVITY | {"direction": "sideways"}], 4, 'the direction of name has to be "in" or "out"'),
            ([ACTIVITY | {"direction": "out"}], 4, 'the activityTrigger name has to have the direction "in"'),
            ([REQUEST | {"methods": "get"}], 4, "the methods of req have to be a list of texts"),
            ([REQUEST | {"methods": [1]}], 4, "the methods of req have to be a list of texts"),
            ([ACTIVITY | {"type": ["activityTrigger"]}], 4, 'the binding name has no "type"'),
            ([ACTIVITY, CLIENT | {"direction": "out"}], 9, 'the durableClient starter has to have the direction "in"'),
        ],
    )  # fmt: skip
    def test_each_mistake_in_the_bindings_is_named_with_its_line(
        self, tmp_path: Path, bindings: list[Any], line: int, says: str
    ):
        function(tmp_path, "Bad", *bindings, script=HELLO)

        found = error_beside_hello(tmp_path, "Bad")

        assert says in (found.note or "")
        assert "(DF120)" in (found.note or "")
        assert found.source.file == str(Path("Bad/function.json"))
        assert abs(found.source.line - line) <= 1

    @pytest.mark.parametrize("name", ["scriptFile", "entryPoint"])
    def test_names_have_to_be_texts(self, tmp_path: Path, name: str):
        function(tmp_path, "Bad", ACTIVITY, script=HELLO, **{name: 5})

        assert f'"{name}" has to be a text' in (error_beside_hello(tmp_path, "Bad").note or "")

    def test_a_kind_that_is_not_served_is_no_mistake(self, tmp_path: Path):
        queue = {"name": "msg", "type": "queueTrigger", "direction": "in", "queueName": "q", "connection": "c"}
        function(tmp_path, "Hello", ACTIVITY, script=HELLO)
        function(tmp_path, "OnMessage", queue, script="def main(msg): ...\n")

        found = listing(load(tmp_path), "OnMessage")

        assert (found.kind, found.is_error) == ("Queue", False)
        assert "queueTrigger" in (found.note or "")


class TestMistakesInScripts:
    def test_a_script_that_is_not_there_is_named_with_those_that_are(self, tmp_path: Path):
        function(tmp_path, "Bad", ACTIVITY, script=HELLO, scriptFile="init.py")

        found = error_beside_hello(tmp_path, "Bad")

        assert (
            "The 'scriptFile' property is set to a file that does not exist: init.py; there is __init__.py  (DF121)"
            in (found.note or "")
        )

    @pytest.mark.parametrize("files", [(), ("a.py", "b.py")])
    def test_a_folder_whose_script_cannot_be_told_is_in_error(self, tmp_path: Path, files: tuple[str, ...]):
        function(tmp_path, "Bad", ACTIVITY)
        for each in files:
            (tmp_path / "Bad" / each).write_text(HELLO)

        note = error_beside_hello(tmp_path, "Bad").note or ""

        assert "Unable to determine the primary function script" in note
        assert all(each in note for each in files)

    def test_a_script_outside_the_app_is_not_run(self, tmp_path: Path):
        app = tmp_path / "app"
        app.mkdir()
        (tmp_path / "code.py").write_text(HELLO)
        function(app, "Bad", ACTIVITY, scriptFile="../../code.py")

        assert "is not in the app's folder  (DF121)" in (error_beside_hello(app, "Bad").note or "")

    def test_a_script_of_another_language_is_named(self, tmp_path: Path):
        function(tmp_path, "Bad", ACTIVITY, script="", file="index.js", scriptFile="index.js")

        assert "invalid Python filename index.js" in (error_beside_hello(tmp_path, "Bad").note or "")

    def test_an_entry_point_that_is_missing_is_named_with_what_is_there(self, tmp_path: Path):
        function(tmp_path, "Bad", ACTIVITY, script="from os import getcwd\ndef greet(name): ...\n")

        found = error_beside_hello(tmp_path, "Bad")

        assert "function main() is not present in" in (found.note or "")
        assert 'It has greet: call one of them main, or name it with "entryPoint"  (DF121)' in (found.note or "")

    def test_an_import_error_leaves_the_other_functions_running_and_is_shown_whole(self, tmp_path: Path):
        function(tmp_path, "Bad", ACTIVITY, script="from . import helper\n")
        (tmp_path / "Bad" / "helper.py").write_text("\nimport no_such_package_at_all\n")

        found = error_beside_hello(tmp_path, "Bad")

        assert found.note == f"{Path('Bad/__init__.py')} could not be imported  (DF102)"
        details = "\n".join(found.details)
        assert 'helper.py", line 2' in details
        assert "ModuleNotFoundError: No module named 'no_such_package_at_all'" in details
        assert "pip install -r requirements.txt" in details
        assert "importlib" not in details

    def test_an_app_of_which_nothing_can_be_loaded_is_refused_and_each_reason_given_once(self, tmp_path: Path):
        (tmp_path / "shared.py").write_text("1 / 0\n")
        function(tmp_path, "One", ACTIVITY, script="import shared\n")
        function(tmp_path, "Two", ACTIVITY, script="def other(name): ...\n")

        text = refused(tmp_path)

        assert text.startswith("DF122  None of the app's functions can be loaded")
        assert text.count("ZeroDivisionError") == 1
        assert "function main() is not present in" in text

    def test_parameters_have_to_fit_the_bindings(self, tmp_path: Path):
        function(tmp_path, "Bad", ACTIVITY, script="def main(city): ...\n")
        function(tmp_path, "Bad2", REQUEST, RESPONSE, script="def main(req, more): ...\n")
        function(tmp_path, "Bad3", ORCHESTRATION, script="def main(ctx: str) -> str: ...\n")
        function(tmp_path, "Hello", ACTIVITY, script=HELLO)

        app = load(tmp_path)

        assert "declared in Python but not in the function definition" in (listing(app, "Bad").note or "")
        assert "{'more'}" in (listing(app, "Bad2").note or "")
        assert "{'ctx'}" in (listing(app, "Bad3").note or "")
        assert all(listing(app, name).is_error for name in ("Bad", "Bad2", "Bad3"))

    @pytest.mark.parametrize(
        ("trigger", "script", "maker"),
        [
            (ORCHESTRATION, "def main(context):\n    yield\n", "df.Orchestrator.create"),
            (ORCHESTRATION, "async def main(context): ...\n", "df.Orchestrator.create"),
            (ORCHESTRATION, "def main(context: df.DurableOrchestrationContext): ...\n", "df.Orchestrator.create"),
            (ENTITY, "def main(context: df.DurableEntityContext): ...\n", "df.Entity.create"),
            (ENTITY, "class main(df.DurableEntity): ...\n", "df.Entity.create"),
        ],
    )
    def test_an_orchestrator_or_entity_that_nobody_runs_is_told_how_to_be_made(
        self, tmp_path: Path, trigger: dict[str, Any], script: str, maker: str
    ):
        function(tmp_path, "Bad", trigger, script="import azure.durable_functions as df\n" + script)

        assert f"main = {maker}(that_name)  (DF123)" in (error_beside_hello(tmp_path, "Bad").note or "")

    def test_a_trigger_of_another_kind_than_the_code_is_named(self, tmp_path: Path):
        function(
            tmp_path,
            "Bad",
            ACTIVITY | {"name": "context"},
            script="""
            import azure.durable_functions as df
            main = df.Entity.create(lambda context: None)
            """,
        )

        note = error_beside_hello(tmp_path, "Bad").note or ""

        assert 'a trigger of type "activityTrigger", but the script makes it for "entityTrigger"  (DF123)' in note

    def test_names_that_azure_refuses_are_refused(self, tmp_path: Path):
        function(tmp_path, "1st", ACTIVITY, script=HELLO)
        function(tmp_path, "host", ACTIVITY, script=HELLO)
        function(tmp_path, "Hello", ACTIVITY, script=HELLO)

        app = load(tmp_path)

        assert set(app.activities) == {"Hello"}
        assert all(
            f"'{name}' is not a valid function name" in (listing(app, name).note or "") for name in ("1st", "host")
        )

    def test_one_registered_name_for_two_functions_is_refused(self, tmp_path: Path):
        function(tmp_path, "Hello", ACTIVITY, script=HELLO)
        function(tmp_path, "Other", ACTIVITY | {"activity": "hello"}, script=HELLO)

        assert "DF112" in refused(tmp_path)
