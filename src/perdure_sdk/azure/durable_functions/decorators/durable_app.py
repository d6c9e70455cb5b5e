"""An official import path; nothing of ours is defined here."""

from azure.durable_functions.app import Blueprint as Blueprint
from azure.durable_functions.app import DFApp as DFApp
