"""An official import path; nothing of ours is defined here."""

from azure.durable_functions.bindings import ActivityTrigger as ActivityTrigger
from azure.durable_functions.bindings import DurableClient as DurableClient
from azure.durable_functions.bindings import EntityTrigger as EntityTrigger
from azure.durable_functions.bindings import OrchestrationTrigger as OrchestrationTrigger
