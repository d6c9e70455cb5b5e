"""An official import path; nothing of ours is defined here."""

from azure.durable_functions.status import EntityStateResponse as EntityStateResponse
