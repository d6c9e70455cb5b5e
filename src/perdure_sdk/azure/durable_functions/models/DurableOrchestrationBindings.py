"""An official import path; nothing of ours is defined here."""

from azure.durable_functions.client_bindings import DurableOrchestrationBindings as DurableOrchestrationBindings
