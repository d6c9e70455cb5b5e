"""What one episode takes in.

Rule 1: made by `RuntimeState.accept`, used up by `RuntimeState.apply`; nothing in between changes it.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from perdure.core.events import HistoryEvent
from perdure.core.records import Message


class Episode(Struct, frozen=True):
    """What one episode takes in.

    Attributes:
        events: the new events, OrchestratorStarted first; empty if no mail survived and nothing is to run.
        now: the episode's time.
        consumed: ids of all stored mail that was looked at, taken in or not.
        dropped: how many messages were not taken in, by reason.
        replies: answers that dropping owes to others.
        is_terminated: the code does not run: the instance ends here.
        is_rewind: a failed execution tries again; its history is `RuntimeState.rewind`'s to write.
        is_early: the instance is not to start yet: nothing happens now, and all the mail waits.
        rest: mail for after this episode.
    """

    events: tuple[HistoryEvent, ...]
    now: datetime
    consumed: tuple[str, ...]
    dropped: dict[str, int]
    replies: tuple[Message, ...]
    is_terminated: bool
    is_rewind: bool = False
    is_early: bool = False
    rest: tuple[Message, ...] = ()
