"""Takes values in by every entrance, and says what they were when its code got them."""

import json
import math
import sys

import azure.durable_functions as df
import azure.functions as func

LURES = {"lures", "this", "antigravity", "webbrowser", "__hello__", "xmlrpc", "imaplib"}
ACTS = {"os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "pickle.find_class", "ctypes.dlopen"}

caught: list[str] = []


def listen(event, arguments):
    if event in ACTS or (event == "import" and str(arguments[0]).partition(".")[0] in LURES):
        caught.append(f"{event} {arguments[0]}")


sys.addaudithook(listen)

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


class Known:
    """The app's own class, which says how it is made from JSON: payloads may name it."""

    def __init__(self, number):
        self.number = number

    @staticmethod
    def to_json(known):
        return known.number

    @staticmethod
    def from_json(number):
        return Known(number)


class Silent:
    """The app's own class, which does not say that payloads may make it."""

    def __init__(self, *values):
        caught.append("a payload made a Silent")


def kinds(value):
    """The names of the types of everything in a value."""
    if isinstance(value, dict):
        inner = [kinds(each) for each in (*value.keys(), *value.values())]
    elif isinstance(value, list):
        inner = [kinds(each) for each in value]
    else:
        inner = []
    return {type(value).__name__}.union(*inner)


def told(value):
    return {"value": value, "kinds": sorted(kinds(value))}


@app.route(route="caught")
def tell_caught(req: func.HttpRequest) -> str:
    return json.dumps([*caught, *(each for each in LURES if each in sys.modules)])


@app.route(route="client/{instanceId}/{kind}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def use_client(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """The client's own entrances, with the body as the value; `bad` instead of a kind takes a bad one."""
    value, instance_id = json.loads(req.get_body()), req.route_params["instanceId"]
    if isinstance(value, dict) and "bad" in value:
        value = bad_value(value["bad"])
    try:
        match req.route_params["kind"]:
            case "start":
                await client.start_new("told_input", instance_id, value)
            case "event":
                await client.raise_event(instance_id, "go", value)
            case "signal":
                await client.signal_entity(df.EntityId("keeper", instance_id), "keep", value)
    except (TypeError, ValueError) as error:
        return func.HttpResponse(str(error), status_code=400)
    return func.HttpResponse(status_code=202)


@app.orchestration_trigger(context_name="context")
def told_input(context: df.DurableOrchestrationContext):
    return told(context.get_input())


@app.orchestration_trigger(context_name="context")
def told_event(context: df.DurableOrchestrationContext):
    return told((yield context.wait_for_external_event("go")))


@app.orchestration_trigger(context_name="context")
def tour(context: df.DurableOrchestrationContext):
    """Sends its input through everything that an orchestrator can send values through."""
    value = context.get_input()
    context.set_custom_status(value)
    seen = {"input": told(value)}
    seen["activity"] = told((yield context.call_activity("give", value)))
    seen["in activity"] = yield context.call_activity("tell", value)
    seen["child"] = yield context.call_sub_orchestrator("told_input", value)
    entity = df.EntityId("keeper", context.instance_id)
    seen["entity"] = yield context.call_entity(entity, "keep", value)
    seen["entity state"] = yield context.call_entity(entity, "look")
    seen["wait"] = told((yield context.task_all([context.call_activity("give", value)])))
    seen["retried"] = told((yield context.call_activity_with_retry("give", df.RetryOptions(1, 1), value)))
    return seen


def bad_value(name):
    deep = []
    for _ in range(100_000):
        deep = [deep]
    circle = []
    circle.append(circle)
    return {
        "nan": math.nan,
        "infinity": {"a": [math.inf]},
        "circle": circle,
        "deep": deep,
        "set": {1},
        "bytes": b"x",
        "object": object(),
        "class": Silent,
        "key": {(1, 2): 3},
    }[name]


@app.orchestration_trigger(context_name="context")
def bad(context: df.DurableOrchestrationContext):
    """Has a bad value come out of where its input says, and returns what it was told about it."""
    where, name = context.get_input()
    try:
        match where:
            case "activity":
                yield context.call_activity("give_bad", name)
            case "entity":
                yield context.call_entity(df.EntityId("keeper", context.instance_id), "spoil", name)
            case "child":
                yield context.call_sub_orchestrator("bad", ["output", name])
            case "activity input":
                yield context.call_activity("give", bad_value(name))
            case "child input":
                yield context.call_sub_orchestrator("told_input", bad_value(name))
            case "custom status":
                context.set_custom_status(bad_value(name))
            case "output":
                return bad_value(name)
    except Exception as error:
        return f"refused: {error}"
    return "nothing was wrong"


@app.activity_trigger(input_name="value")
def give(value):
    return value


@app.activity_trigger(input_name="value")
def tell(value):
    return told(value)


@app.activity_trigger(input_name="name")
def give_bad(name):
    return bad_value(name)


@app.entity_trigger(context_name="context")
def keeper(context: df.DurableEntityContext):
    match context.operation_name:
        case "keep":
            context.set_state(context.get_input())
            context.set_result(told(context.get_input()))
        case "look":
            context.set_result(told(context.get_state()))
        case "spoil":
            context.set_state(bad_value(context.get_input()))
