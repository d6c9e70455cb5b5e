"""Decorators: metadata, missing arguments, mistakes, and where functions land."""

import json
from collections.abc import Iterator
from typing import Any

import azure.durable_functions as df
import azure.functions as func
import pytest
from azure.durable_functions.app import default_blueprint
from azure.durable_functions.mistakes import DecorationError

from perdure.errors import AppError


@pytest.fixture(params=[df.DFApp, func.FunctionApp], ids=["DFApp", "FunctionApp"])
def app(request: pytest.FixtureRequest) -> Any:
    return request.param()


@pytest.fixture(autouse=True)
def clean_default_blueprint() -> Iterator[None]:
    kept = list(default_blueprint._function_builders)
    yield
    default_blueprint._function_builders[:] = kept


def metadata(app: Any) -> dict[str, list[dict[str, Any]]]:
    """The bindings of all functions."""
    return {each.get_function_name(): json.loads(str(each))["bindings"] for each in app.get_functions()}


def bound(type: str, name: str, **members: str) -> dict[str, str]:
    return {"direction": "IN", "type": type, "name": name, **members}


# ---------------------------------------------------------------------- metadata


def test_a_whole_app_has_the_official_metadata(app: Any):
    @app.route(route="orchestrators/{functionName}", methods=["POST"])
    @app.durable_client_input(client_name="client")
    async def start(req, client): ...

    @app.orchestration_trigger(context_name="context")
    def flow(context):
        yield

    @app.activity_trigger(input_name="city")
    def hello(city): ...

    @app.entity_trigger(context_name="context", entity_name="Counter")
    def counter(context): ...

    found = metadata(app)
    assert found["start"] == [
        bound("durableClient", "client"),
        bound("httpTrigger", "req", route="orchestrators/{functionName}")
        | {"methods": ["POST"], "authLevel": "FUNCTION"},
        {"direction": "OUT", "type": "http", "name": "$return"},
    ]
    assert found["flow"] == [bound("orchestrationTrigger", "context")]
    assert found["hello"] == [bound("activityTrigger", "city")]
    assert found["counter"] == [bound("entityTrigger", "context", entityName="Counter")]


def test_members_are_in_the_official_order_and_only_those_given():
    bp = df.Blueprint()

    @bp.orchestration_trigger("context", "flowName")
    def flow(context): ...

    @bp.durable_client_input("client", "hub", "Setting")
    @bp.route("x")
    async def start(req, client): ...

    assert flow.build().get_raw_bindings() == [
        '{"direction": "IN", "type": "orchestrationTrigger", "name": "context", "orchestration": "flowName"}'
    ]
    assert start.build().get_raw_bindings()[-1] == (
        '{"direction": "IN", "type": "durableClient", "name": "client", "taskHub": "hub", "connectionName": "Setting"}'
    )
    assert flow.build().get_dict_repr()["scriptFile"] == "function_app.py"


def test_the_users_function_can_be_reached_in_the_official_way():
    bp = df.Blueprint()

    def flow(context): ...
    def counter(context): ...
    async def start(req, client): ...

    assert bp.orchestration_trigger("context")(flow).build().get_user_function().orchestrator_function is flow
    assert bp.entity_trigger("context")(counter).build().get_user_function().entity_function is counter
    builder = bp.route("x")(bp.durable_client_input("client")(start))
    assert builder.build().get_user_function().client_function is start


def test_a_handler_keeps_name_and_docstring():
    @df.Blueprint().orchestration_trigger
    def flow(context):
        """What it does."""

    handle = flow.build().get_user_function()
    assert (handle.__name__, handle.__doc__, handle.__module__) == ("flow", "What it does.", __name__)


def test_the_client_decorator_may_stand_above_or_below_the_trigger():
    above, below = df.Blueprint(), df.Blueprint()

    @above.durable_client_input(client_name="client")
    @above.route("x")
    async def one(req, client): ...

    @below.route("x")
    @below.durable_client_input(client_name="client")
    async def two(req, client): ...

    kinds = [[each["type"] for each in metadata_of(one)], [each["type"] for each in metadata_of(two)]]
    assert kinds == [["httpTrigger", "http", "durableClient"], ["durableClient", "httpTrigger", "http"]]


def metadata_of(builder: Any) -> list[dict[str, Any]]:
    return [json.loads(each) for each in builder.build().get_raw_bindings()]


def test_the_orchestration_decorator_may_stand_above_another():
    bp = df.Blueprint()

    @bp.orchestration_trigger(context_name="context")
    @bp.function_name("renamed")
    def flow(context): ...

    assert flow.build().get_function_name() == "renamed"
    assert hasattr(flow.build().get_user_function(), "orchestrator_function")


# ---------------------------------------------------------------------- arguments that are not given


@pytest.mark.parametrize("is_bare", [True, False])
@pytest.mark.parametrize(
    ("decorator", "function", "expected"),
    [
        ("orchestration_trigger", lambda context, other=None: None, "context"),
        ("orchestration_trigger", lambda ctx: None, "ctx"),
        ("activity_trigger", lambda input, context: None, "input"),
        ("activity_trigger", lambda city: None, "city"),
        ("entity_trigger", lambda context: None, "context"),
        ("durable_client_input", lambda req, client: None, "client"),
        ("durable_client_input", lambda starter: None, "starter"),
    ],
)
def test_a_missing_name_is_found_in_the_function(decorator: str, function: Any, expected: str, is_bare: bool):
    decorate = getattr(df.Blueprint(), decorator)

    builder = decorate(function) if is_bare else decorate()(function)

    assert json.loads(builder._function.get_raw_bindings()[0])["name"] == expected


def test_functions_that_take_any_parameter_fit_every_name():
    builder = df.Blueprint().activity_trigger("anything")(lambda **kwargs: None)

    assert metadata_of(builder)[0]["name"] == "anything"


@pytest.mark.parametrize("level", ["anonymous", "ANONYMOUS", "Anonymous", func.AuthLevel.ANONYMOUS])
def test_the_http_level_may_be_a_name_in_any_case(level: Any):
    assert df.DFApp(http_auth_level=level).auth_level is func.AuthLevel.ANONYMOUS
    assert df.DFApp().auth_level is func.AuthLevel.FUNCTION
    df.Blueprint(http_auth_level=level)


def test_an_unknown_http_level_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="'bogus', but must be one of FUNCTION, ANONYMOUS, ADMIN"):
        df.DFApp(http_auth_level="bogus")


# ---------------------------------------------------------------------- blueprints


def test_a_blueprint_registers_with_any_app(app: Any):
    bp = df.Blueprint()

    @bp.activity_trigger(input_name="x")
    def first(x): ...

    @app.activity_trigger(input_name="x")
    def second(x): ...

    app.register_functions(bp)
    assert list(metadata(app)) == ["second", "first"]


def test_module_level_decorators_register_on_the_default_blueprint():
    @df.orchestration_trigger(context_name="context")
    def flow(context): ...

    @df.activity_trigger
    def hello(city): ...

    app = func.FunctionApp()
    app.register_functions(df.default_blueprint)
    assert {"flow", "hello"} <= set(metadata(app))


def test_a_function_begun_on_the_default_blueprint_may_be_finished_on_an_app():
    app = df.DFApp()

    @app.activity_trigger
    def bystander(x): ...

    @app.route("start")
    @df.durable_client_input(client_name="client")
    async def start(req, client): ...

    found = metadata(app)
    assert [each["type"] for each in found["start"]] == ["durableClient", "httpTrigger", "http"]
    assert [each["type"] for each in found["bystander"]] == ["activityTrigger"]
    assert start not in default_blueprint._function_builders


def test_a_function_of_another_blueprint_is_not_mixed_up():
    one, other = df.Blueprint(), df.Blueprint()
    builder = one.durable_client_input(lambda client: None)
    other.activity_trigger(lambda x: None)

    with pytest.raises(ValueError, match="decorated by another app"):
        other.route("x")(builder)


# ---------------------------------------------------------------------- mistakes


def refused(decorate: Any, function: Any) -> DecorationError:
    with pytest.raises(TypeError) as caught:
        decorate(function)
    assert isinstance(caught.value, DecorationError)
    assert isinstance(caught.value, AppError)
    return caught.value


def line_of(function: Any, offset: int = 0) -> str:
    return f"test_sdk_app.py:{function.__code__.co_firstlineno + offset}"


def test_a_name_that_the_function_lacks_is_shown_with_both_lines(app: Any):
    def define() -> None:
        @app.orchestration_trigger(context_name="context")
        def order_flow(ctx):
            yield

    with pytest.raises(DecorationError) as caught:
        define()

    headline, above, below, hint = str(caught.value).splitlines()
    assert headline == "DF104  Decorator and function disagree about a parameter"
    assert above.endswith('   @app.orchestration_trigger(context_name="context")')
    assert line_of(define, 1) in above
    assert below.endswith('   def order_flow(ctx):     ← no parameter called "context"')
    assert line_of(define, 2) in below
    assert hint == '  Rename one of them. Did you mean context_name="ctx"?'


@pytest.mark.parametrize(
    ("decorator", "argument", "function", "wanted"),
    [
        ("activity_trigger", "city", lambda town: None, "city"),
        ("entity_trigger", "context", lambda ctx: None, "context"),
        ("durable_client_input", "client", lambda req, starter: None, "client"),
        ("durable_client_input", None, lambda req, starter: None, "client"),
        ("activity_trigger", None, lambda a, b: None, "input"),
        ("activity_trigger", None, lambda: None, "input"),
    ],
)
def test_every_decorator_checks_its_parameter(decorator: str, argument: str | None, function: Any, wanted: str):
    error = refused(getattr(df.Blueprint(), decorator)(argument), function)

    assert error.code == "DF104"
    assert f'no parameter called "{wanted}"' in str(error)
    assert line_of(function) in str(error)


def test_the_nearest_parameter_is_suggested():
    def start(req, clinet): ...

    error = refused(df.Blueprint().durable_client_input(client_name="client"), start)

    assert 'Did you mean client_name="clinet"?' in str(error)


def test_code_without_source_is_named_by_its_line():
    namespace: dict[str, Any] = {}
    exec(compile("\n\ndef flow(ctx): yield", "<made>", "exec"), namespace)

    error = refused(df.Blueprint().orchestration_trigger("context"), namespace["flow"])

    assert "<made>:3   def flow(ctx):" in str(error)
    assert '<made>:3   @orchestration_trigger(context_name="context")' in str(error)


def test_async_def_with_yield_is_refused(app: Any):
    def define() -> None:
        @app.orchestration_trigger(context_name="context")
        async def order_flow(context):
            yield context.call_activity("a")

    with pytest.raises(DecorationError) as caught:
        define()

    lines = str(caught.value).splitlines()
    assert lines[0] == "DF201  Orchestrator mixes async def and yield"
    assert line_of(define, 2) in lines[1]
    assert "async def order_flow(context):" in lines[1]


def test_async_def_with_await_is_accepted():
    @df.Blueprint().orchestration_trigger(context_name="context")
    async def order_flow(context):
        await context.call_activity("a")

    assert order_flow.build()
