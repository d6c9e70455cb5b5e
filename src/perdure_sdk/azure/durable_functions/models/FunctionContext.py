"""An official import path; nothing of ours is defined here."""

from azure.durable_functions.orchestration_context import FunctionContext as FunctionContext
