"""Durable Functions for Python, as the official SDK names everything; runs on perdure."""

from __future__ import annotations

import importlib
from types import ModuleType

from azure.durable_functions.app import Blueprint, DFApp
from azure.durable_functions.app import activity_trigger as activity_trigger
from azure.durable_functions.app import default_blueprint as default_blueprint
from azure.durable_functions.app import durable_client_input as durable_client_input
from azure.durable_functions.app import entity_trigger as entity_trigger
from azure.durable_functions.app import orchestration_trigger as orchestration_trigger
from azure.durable_functions.client import DurableOrchestrationClient
from azure.durable_functions.critical_section import LockingRulesViolationError as LockingRulesViolationError
from azure.durable_functions.entity import DurableEntity as DurableEntity
from azure.durable_functions.entity import Entity
from azure.durable_functions.entity_context import DurableEntityContext
from azure.durable_functions.options import EntityId, ManagedIdentityTokenSource, RetryOptions
from azure.durable_functions.orchestration_context import DurableOrchestrationContext
from azure.durable_functions.orchestrator import Orchestrator
from azure.durable_functions.status import OrchestrationRuntimeStatus
from azure.durable_functions.sync_client import SyncDurableOrchestrationClient as SyncDurableOrchestrationClient

from perdure.core.failures import TaskFailedError as TaskFailedError

__all__ = [
    "Blueprint",
    "DFApp",
    "DurableEntityContext",
    "DurableFunctionsCompatibilityWarning",
    "DurableOrchestrationClient",
    "DurableOrchestrationContext",
    "Entity",
    "EntityId",
    "ManagedIdentityTokenSource",
    "OrchestrationRuntimeStatus",
    "Orchestrator",
    "RetryOptions",
]

EntityContext = DurableEntityContext
"""What the SDK reference calls it."""

# Sub-modules that the official package has as attributes without an import; ours are loaded when somebody asks.
_ON_DEMAND = frozenset({"constants", "decorators", "models", "testing"})


class DurableFunctionsCompatibilityWarning(UserWarning):
    """The official SDK's warning about the older programming model; perdure never gives it."""


def __getattr__(name: str) -> ModuleType:
    if name in _ON_DEMAND:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
