"""perdure's SDK below the official Python worker: loaded by its rules, called with the converters of its library."""

import asyncio
import inspect
import json
import os
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import azure.functions as func
import pytest
from azure.functions.meta import Datum, get_binding_registry

import perdure

BINDING = json.dumps({
    "taskHubName": "Hub",
    "creationUrls": {},
    "managementUrls": {"id": "ID", "statusQueryGetUri": "http://h/instances/ID?code=K"},
    "rpcBaseUrl": "http://127.0.0.1:9/durabletask/",
})  # fmt: skip

APP = """
import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level="anonymous")


@app.route(route="start")
@app.durable_client_input(client_name="client")
async def start(req: func.HttpRequest, client: df.DurableOrchestrationClient, context: func.Context):
    return [type(client).__name__, client.create_http_management_payload("a b"), client._hub._invocation_id]


@app.route(route="sync")
@app.durable_client_input(client_name="client")
def start_sync(req: func.HttpRequest, client) -> str:
    return type(client).__name__


@app.orchestration_trigger(context_name="ctx")
def flow(ctx: df.DurableOrchestrationContext):
    return (yield ctx.call_activity(hello, ctx.get_input()))


@app.activity_trigger(input_name="city")
def hello(city: str) -> str:
    return f"Hello {city}!"


@app.entity_trigger(context_name="entity")
def counter(entity: df.DurableEntityContext):
    entity.set_state(entity.get_state(lambda: 0) + entity.get_input())
"""


class Worker:
    """What the worker knows of an app's functions."""

    def __init__(self, app: Any) -> None:
        self._functions = {each.get_function_name(): each for each in app.get_functions()}

    def load(self, name: str) -> dict[str, tuple[Any, type | None]]:
        """Converter and annotation of each parameter, checked as the worker does before it takes a function.

        Raises:
            AssertionError: it would not take it.
        """
        built = self._functions[name]
        function = built.get_user_function()
        hints = typing.get_type_hints(function)
        bindings = [json.loads(each) for each in built.get_raw_bindings()]
        bound = {each["name"]: each["type"] for each in bindings if each["name"] != "$return"}
        parameters = set(inspect.signature(function).parameters)
        assert parameters - {"context"} <= set(bound), "declared in Python but not in the function definition"
        assert set(bound) <= parameters, "declared as bindings but not present in Python"
        loaded: dict[str, tuple[Any, type | None]] = {}
        for parameter, kind in bound.items():
            converter = get_binding_registry().get(kind)
            annotation = hints.get(parameter)
            assert annotation is None or isinstance(annotation, type)
            assert annotation is None or converter.check_input_type_annotation(annotation), (parameter, annotation)
            loaded[parameter] = converter, annotation
        return loaded

    def call(self, name: str, **sent: Datum) -> Any:
        """What a function returns that is called with what its bindings sent."""
        loaded = self.load(name)
        function = self._functions[name].get_user_function()
        arguments = {each: loaded[each][0].decode(datum, trigger_metadata=None) for each, datum in sent.items()}
        if "context" in inspect.signature(function).parameters and "context" not in arguments:
            arguments["context"] = Invocation()
        if inspect.iscoroutinefunction(function):
            return asyncio.run(function(**arguments))
        return function(**arguments)


class Invocation(func.Context):
    """The context of an invocation."""

    invocation_id = "inv-7"
    function_name = function_directory = ""
    trace_context = retry_context = thread_local_storage = None  # pyright: ignore[reportAssignmentType] - not used


@pytest.fixture
def worker() -> Worker:
    module: dict[str, Any] = {}
    exec(compile(APP, "function_app.py", "exec"), module)
    return Worker(module["app"])


def request() -> Datum:
    nothing: dict[str, Any] = {}
    return Datum(
        {"method": Datum("GET", "string"), "url": Datum("http://h/", "string"), "headers": nothing, "query": nothing,
         "params": nothing, "body": Datum(b"", "bytes")},
        "http",
    )  # fmt: skip


def history() -> list[dict[str, Any]]:
    time = "2026-01-02T03:04:05.6789000Z"
    common = {"EventId": -1, "IsPlayed": False, "Timestamp": time}
    return [{**common, "EventType": 12}, {**common, "EventType": 0, "Name": "flow", "Input": '"Oslo"'}]


@pytest.mark.parametrize("name", ["start", "start_sync", "flow", "hello", "counter"])
def test_the_worker_takes_every_function(worker: Worker, name: str):
    assert worker.load(name)


def test_an_orchestrator_answers_what_the_converter_gives_it(worker: Worker):
    sent = {"history": history(), "input": '"Oslo"', "instanceId": "i", "isReplaying": False, "parentInstanceId": None}

    given = worker.call("flow", ctx=Datum(json.dumps(sent), "json"))

    converter = get_binding_registry().get("orchestrationTrigger")
    assert converter.has_implicit_output()
    encoded = converter.encode(given, expected_type=None)
    assert (encoded.type, json.loads(encoded.value)["actions"]) == (
        "json",
        [[{"actionType": 0, "functionName": "hello", "input": '"Oslo"'}]],
    )


@pytest.mark.filterwarnings("ignore:.*df_loads.*:DeprecationWarning")
def test_an_activity_gets_and_gives_plain_values(worker: Worker):
    given = worker.call("hello", city=Datum('"Oslo"', "json"))

    assert get_binding_registry().get("activityTrigger").encode(given, expected_type=None).value == '"Hello Oslo!"'


def test_an_entity_answers_what_the_converter_gives_it(worker: Worker):
    batch = {"self": {"name": "counter", "key": "k"}, "exists": True, "state": "2"}
    sent = {**batch, "batch": [{"name": "add", "input": '"5"', "isSignal": True}]}

    assert json.loads(worker.call("counter", entity=Datum(json.dumps(sent), "json")))["entityState"] == "7"


def test_a_function_with_a_client_gets_one_made_from_the_text(worker: Worker):
    kind, links, invocation_id = worker.call("start", req=request(), client=Datum(BINDING, "string"))

    assert kind == "DurableOrchestrationClient"
    assert links == {"id": "a b", "statusQueryGetUri": "http://h/instances/a%20b?code=K"}
    assert invocation_id == "inv-7"


def test_a_function_without_async_gets_a_client_that_blocks(worker: Worker):
    assert worker.call("start_sync", req=request(), client=Datum(BINDING, "string")) == "SyncDurableOrchestrationClient"


def test_the_two_folders_on_the_path_are_enough():
    """As Azure lays an app out: no .pth file is read, and of perdure's dependencies only msgspec is loaded."""
    source = Path(perdure.__path__[0]).parent
    sites = [each for each in sys.path if Path(each).name in ("site-packages", "dist-packages")]
    path = os.pathsep.join([str(source / "perdure_sdk"), str(source), *sites])
    heavy = ["starlette", "uvicorn", "uvloop", "httptools", "httpx2", "click", "perdure.engine", "perdure.host"]
    program = f"import sys\n{APP}\nprint(df.__file__, [each for each in {heavy} if each in sys.modules])"

    ran = subprocess.run(
        [sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip

    assert ran.stdout.strip() == f"{source / 'perdure_sdk' / 'azure' / 'durable_functions' / '__init__.py'} []"
