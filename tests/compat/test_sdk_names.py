"""Everything that apps import from the official SDK is there, under the same name and with the same arguments."""

import importlib
import inspect
import subprocess
import sys
from typing import Any

import azure.durable_functions as df
import pytest

# `__all__` of azure-functions-durable 1.7.0, without its optional `openai_agents`.
OFFICIAL_NAMES = {
    "Orchestrator",
    "Entity",
    "EntityId",
    "DurableOrchestrationClient",
    "DurableEntityContext",
    "DurableOrchestrationContext",
    "DurableFunctionsCompatibilityWarning",
    "ManagedIdentityTokenSource",
    "OrchestrationRuntimeStatus",
    "RetryOptions",
    "DFApp",
    "Blueprint",
}

# The deep import paths that apps and their tests use.
DEEP_NAMES = [
    ("orchestrator", "Orchestrator"),
    ("entity", "Entity InternalEntityException"),
    (
        "constants",
        "DEFAULT_LOCAL_HOST DEFAULT_LOCAL_ORIGIN DATETIME_STRING_FORMAT HTTP_ACTION_NAME ORCHESTRATION_TRIGGER "
        "ACTIVITY_TRIGGER ENTITY_TRIGGER DURABLE_CLIENT",
    ),
    ("decorators.metadata", "OrchestrationTrigger ActivityTrigger EntityTrigger DurableClient"),
    ("decorators.durable_app", "DFApp Blueprint"),
    ("decorators", "DFApp Blueprint"),
    (
        "models",
        "DurableOrchestrationContext DurableOrchestrationClient DurableEntityContext DurableHttpRequest "
        "ManagedIdentityTokenSource OrchestrationRuntimeStatus PurgeHistoryResult RetryOptions TaskBase "
        "DurableOrchestrationStatus EntityStateResponse TokenSource DurableOrchestrationBindings OrchestratorState",
    ),
    ("models.DurableOrchestrationBindings", "DurableOrchestrationBindings"),
    ("models.OrchestratorState", "OrchestratorState"),
    ("models.ReplaySchema", "ReplaySchema"),
    ("models.DurableOrchestrationContext", "DurableOrchestrationContext"),
    ("models.DurableOrchestrationClient", "DurableOrchestrationClient"),
    ("models.DurableOrchestrationStatus", "DurableOrchestrationStatus"),
    ("models.DurableEntityContext", "DurableEntityContext"),
    ("models.DurableHttpRequest", "DurableHttpRequest"),
    ("models.EntityStateResponse", "EntityStateResponse"),
    ("models.FunctionContext", "FunctionContext"),
    ("models.OrchestrationRuntimeStatus", "OrchestrationRuntimeStatus"),
    ("models.PurgeHistoryResult", "PurgeHistoryResult"),
    ("models.RetryOptions", "RetryOptions"),
    (
        "models.Task",
        "TaskBase AtomicTask TimerTask LongTimerTask CompoundTask WhenAllTask WhenAnyTask RetryAbleTask TaskState",
    ),
    ("models.TokenSource", "TokenSource ManagedIdentityTokenSource"),
    ("models.utils.entity_utils", "EntityId"),
    ("testing", "orchestrator_generator_wrapper"),
]

CONTEXT_METHODS = {
    "get_input": "expected_type=None",
    "call_activity": "name, input_=None, expected_type=None",
    "call_activity_with_retry": "name, retry_options, input_=None, expected_type=None",
    "call_sub_orchestrator": "name, input_=None, instance_id=None, version=None, expected_type=None",
    "call_sub_orchestrator_with_retry": (
        "name, retry_options, input_=None, instance_id=None, version=None, expected_type=None"
    ),
    "call_http": "method, uri, content=None, headers=None, token_source=None, is_raw_str=False",
    "call_entity": "entityId, operationName, operationInput=None, expected_type=None",
    "signal_entity": "entityId, operationName, operationInput=None",
    "create_timer": "fire_at",
    "wait_for_external_event": "name, expected_type=None",
    "continue_as_new": "input_",
    "set_custom_status": "status",
    "new_uuid": "",
    "new_guid": "",
    "task_all": "activities",
    "task_any": "activities",
}

# What the context takes beyond 1.7.0, as keywords only; names that 2.x has too are its.
CONTEXT_BEYOND = {
    "call_sub_orchestrator": {"tags": None},
    "call_sub_orchestrator_with_retry": {"tags": None},
    "call_http": {"asynchronous_pattern_enabled": True, "retry_options": None},
    "wait_for_external_event": {"timeout": None},
    "continue_as_new": {"save_events": True, "version": None},
    "send_event": {"data": None},
    "create_replay_safe_logger": {},
}

# What a task of each official kind has; of the official members, only those that say what has happened.
TASK_MEMBERS = {
    "TaskBase": "id state result is_completed",
    "AtomicTask": "id state result is_completed",
    "TimerTask": "cancel is_cancelled",
    "LongTimerTask": "cancel is_cancelled",
    "WhenAllTask": "children pending_tasks completed_tasks",
    "WhenAnyTask": "children pending_tasks completed_tasks",
    "RetryAbleTask": "num_attempts retry_options",
}

CONTEXT_PROPERTIES = (
    "instance_id parent_instance_id is_replaying current_utc_datetime custom_status histories will_continue_as_new "
    "function_context version"
)

CLIENT_METHODS = {
    "start_new": "orchestration_function_name, instance_id=None, client_input=None, version=None",
    "get_status": "instance_id, show_history=False, show_history_output=False, show_input=False",
    "get_status_all": "",
    "get_status_by": "created_time_from=None, created_time_to=None, runtime_status=None, instance_id_prefix=None",
    "raise_event": "instance_id, event_name, event_data=None, task_hub_name=None, connection_name=None",
    "terminate": "instance_id, reason",
    "suspend": "instance_id, reason",
    "resume": "instance_id, reason",
    "rewind": "instance_id, reason, task_hub_name=None, connection_name=None",
    "restart": "instance_id, restart_with_new_instance_id=True",
    "purge_instance_history": "instance_id",
    "purge_instance_history_by": "created_time_from=None, created_time_to=None, runtime_status=None",
    "read_entity_state": "entityId, task_hub_name=None, connection_name=None",
    "signal_entity": "entityId, operation_name, operation_input=None, task_hub_name=None, connection_name=None",
    "create_http_management_payload": "instance_id",
    "get_client_response_links": "request, instance_id",
    "create_check_status_response": "request, instance_id",
    "wait_for_completion_or_create_check_status_response": (
        "request, instance_id, timeout_in_milliseconds=10000, retry_interval_in_milliseconds=1000"
    ),
}

DECORATORS = {
    "orchestration_trigger": "context_name, orchestration=None, input_type=None",
    "activity_trigger": "input_name, activity=None",
    "entity_trigger": "context_name, entity_name=None",
    "durable_client_input": "client_name, task_hub=None, connection_name=None",
}

METHODS = [
    pytest.param(kind, name, signature, id=f"{kind.__name__}.{name}")
    for kind, methods in [
        (df.DurableOrchestrationContext, CONTEXT_METHODS),
        (df.DurableOrchestrationClient, CLIENT_METHODS),
        (df.DFApp, DECORATORS),
        (df.Blueprint, DECORATORS),
    ]
    for name, signature in methods.items()
]


def official_parameters(signature: str) -> list[inspect.Parameter]:
    namespace: dict[str, Any] = {}
    exec(f"def official({signature}): ...", namespace)
    return list(inspect.signature(namespace["official"]).parameters.values())


def test_the_public_names_are_the_official_ones():
    assert set(df.__all__) == OFFICIAL_NAMES
    assert all(hasattr(df, name) for name in df.__all__)


@pytest.mark.parametrize(("path", "names"), DEEP_NAMES)
def test_the_deep_import_paths_are_there(path: str, names: str):
    module = importlib.import_module(f"azure.durable_functions.{path}")

    assert [name for name in names.split() if not hasattr(module, name)] == []


@pytest.mark.parametrize(("kind", "name", "signature"), METHODS)
def test_a_method_takes_every_official_call(kind: type, name: str, signature: str):
    """Same names in the same order; what is optional there is optional here with the same default."""
    ours = list(inspect.signature(getattr(kind, name)).parameters.values())[1:]

    for position, theirs in enumerate(official_parameters(signature)):
        assert ours[position].name == theirs.name
        if theirs.default is not inspect.Parameter.empty:
            assert ours[position].default == theirs.default
    beyond = ours[len(official_parameters(signature)) :]
    assert all(each.default is not inspect.Parameter.empty for each in beyond)


@pytest.mark.parametrize(("name", "beyond"), CONTEXT_BEYOND.items())
def test_what_the_context_takes_beyond_is_by_keyword_and_changes_nothing_by_default(name: str, beyond: dict[str, Any]):
    parameters = inspect.signature(getattr(df.DurableOrchestrationContext, name)).parameters.values()

    assert {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY} == beyond


def test_retry_options_take_the_official_two_and_the_three_of_the_wire_by_position():
    parameters = list(inspect.signature(df.RetryOptions).parameters.values())

    assert [each.name for each in parameters if each.default is each.empty] == [
        "first_retry_interval_in_milliseconds",
        "max_number_of_attempts",
    ]
    assert [each.name for each in parameters if each.kind is not each.KEYWORD_ONLY][2:] == [
        "backoff_coefficient",
        "max_retry_interval_in_milliseconds",
        "retry_timeout_in_milliseconds",
    ]
    assert all(isinstance(getattr(df.RetryOptions, each.name), property) for each in parameters)


@pytest.mark.parametrize(("kind", "members"), TASK_MEMBERS.items())
def test_a_task_has_the_official_members(kind: str, members: str):
    found = getattr(importlib.import_module("azure.durable_functions.models.Task"), kind)
    slots = {slot for each in found.__mro__ for slot in getattr(each, "__slots__", ())}

    assert [name for name in members.split() if name not in slots and not hasattr(found, name)] == []


def test_the_states_of_a_task_are_numbered_as_officially():
    states = importlib.import_module("azure.durable_functions.models.Task").TaskState

    assert {each.name: each.value for each in states} == {"RUNNING": 0, "SUCCEEDED": 1, "FAILED": 2}


def test_network_methods_are_coroutines_and_helpers_are_not():
    helpers = {"create_http_management_payload", "get_client_response_links", "create_check_status_response"}

    for name in CLIENT_METHODS:
        assert inspect.iscoroutinefunction(getattr(df.DurableOrchestrationClient, name)) == (name not in helpers)


def test_the_context_has_the_official_properties():
    names = CONTEXT_PROPERTIES.split()

    assert all(isinstance(inspect.getattr_static(df.DurableOrchestrationContext, name), property) for name in names)


def test_the_official_statuses_are_there():
    names = ["Running", "Completed", "ContinuedAsNew", "Failed", "Canceled", "Terminated", "Pending", "Suspended"]

    assert {each.name: each.value for each in df.OrchestrationRuntimeStatus} == {name: name for name in names}
    assert str(df.OrchestrationRuntimeStatus.Running) == "OrchestrationRuntimeStatus.Running"


def test_module_level_decorators_can_be_imported():
    from azure.durable_functions import (
        activity_trigger,
        durable_client_input,
        entity_trigger,
        orchestration_trigger,
    )

    assert all(map(callable, (activity_trigger, durable_client_input, entity_trigger, orchestration_trigger)))


def test_submodules_are_attributes_and_an_import_is_silent():
    code = (
        "import azure.durable_functions as df\n"
        "for name in ('constants', 'decorators', 'entity', 'models', 'orchestrator', 'testing'):\n"
        "    getattr(df, name)\n"
        "assert df.models.Task.TaskBase and df.constants.DURABLE_CLIENT == 'durableClient'\n"
        "try:\n    df.nothing\nexcept AttributeError:\n    pass\nelse:\n    raise SystemExit('df.nothing exists')\n"
    )

    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)

    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_binding_classes_take_the_official_arguments():
    metadata = importlib.import_module("azure.durable_functions.decorators.metadata")

    trigger = metadata.OrchestrationTrigger("context", orchestration="flow")
    assert trigger.get_binding_name() == "orchestrationTrigger"
    assert trigger.get_dict_repr()["orchestration"] == "flow"
    assert metadata.DurableClient(name="c", task_hub="h", connection_name="s").get_dict_repr()["connectionName"] == "s"


def test_the_package_has_no_parent_package_of_ours():
    """`azure` is a namespace that other distributions share."""
    root = importlib.import_module("azure")

    assert getattr(root, "__file__", None) is None
