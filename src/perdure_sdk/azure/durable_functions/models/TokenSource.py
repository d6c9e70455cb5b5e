"""An official import path; nothing of ours is defined here."""

from azure.durable_functions.options import ManagedIdentityTokenSource as ManagedIdentityTokenSource
from azure.durable_functions.options import TokenSource as TokenSource
