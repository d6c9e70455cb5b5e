"""Ids that no one else makes."""

from __future__ import annotations

import os
import time


def new_id() -> str:
    """32 hex digits: a UUID of version 7, so that what is created together lies together in a store's index.

    Source: RFC 9562; the shape is that of the official host's ids.
    """
    milliseconds = time.time_ns() // 1_000_000
    tail = int.from_bytes(os.urandom(10), "big")
    random_a, random_b = tail >> 68, tail & (1 << 62) - 1
    return f"{(milliseconds & (1 << 48) - 1) << 80 | 0x7 << 76 | random_a << 64 | 0b10 << 62 | random_b:032x}"
