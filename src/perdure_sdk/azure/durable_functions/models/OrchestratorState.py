"""An official import path; nothing of ours is defined here."""

from azure.durable_functions.protocol.state import OrchestratorState as OrchestratorState
