"""The error of the client."""

from __future__ import annotations


class DurableClientError(Exception):
    """Raised by the client where the official SDK raises a plain `Exception`, with its text."""
