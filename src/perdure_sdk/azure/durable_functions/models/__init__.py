"""Official import paths; nothing of ours is defined here."""

from azure.durable_functions.models.DurableEntityContext import DurableEntityContext
from azure.durable_functions.models.DurableHttpRequest import DurableHttpRequest
from azure.durable_functions.models.DurableOrchestrationBindings import DurableOrchestrationBindings
from azure.durable_functions.models.DurableOrchestrationClient import DurableOrchestrationClient
from azure.durable_functions.models.DurableOrchestrationContext import DurableOrchestrationContext
from azure.durable_functions.models.DurableOrchestrationStatus import DurableOrchestrationStatus
from azure.durable_functions.models.EntityStateResponse import EntityStateResponse
from azure.durable_functions.models.FunctionContext import FunctionContext
from azure.durable_functions.models.OrchestrationRuntimeStatus import OrchestrationRuntimeStatus
from azure.durable_functions.models.OrchestratorState import OrchestratorState
from azure.durable_functions.models.PurgeHistoryResult import PurgeHistoryResult
from azure.durable_functions.models.RetryOptions import RetryOptions
from azure.durable_functions.models.Task import TaskBase
from azure.durable_functions.models.TokenSource import ManagedIdentityTokenSource, TokenSource

__all__ = [
    "DurableEntityContext",
    "DurableHttpRequest",
    "DurableOrchestrationBindings",
    "DurableOrchestrationClient",
    "DurableOrchestrationContext",
    "DurableOrchestrationStatus",
    "EntityStateResponse",
    "FunctionContext",
    "ManagedIdentityTokenSource",
    "OrchestrationRuntimeStatus",
    "OrchestratorState",
    "PurgeHistoryResult",
    "RetryOptions",
    "TaskBase",
    "TokenSource",
]
