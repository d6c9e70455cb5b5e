"""An official import path; nothing of ours is defined here."""

from azure.durable_functions.status import OrchestrationRuntimeStatus as OrchestrationRuntimeStatus
