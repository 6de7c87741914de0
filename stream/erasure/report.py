"""What an erasure removed, and what it cannot reach."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

LEFT = (
    (
        "Kafka keeps the events themselves, their dead letters and, where they are published, scores until"
        " each topic's retention ends. `reviewpulse rebuild` counts them again: run this again after one."
    ),
    (
        "A `reviewpulse notify`, and any other subscriber, that runs now has in memory what it was told:"
        " restart it, then run this again."
    ),
    (
        "What was delivered already (mail, chats, webhooks, digests, dumps), backups, and Redis' append-only"
        " file before its next rewrite are not reached."
    ),
)


class Report(NamedTuple):
    """What was removed, or would be."""

    removed: dict[str, int]
    """How many, by what."""
    left: tuple[str, ...]
    """What cannot be removed here, in sentences."""


class Tally:
    """What one run has removed so far, and what it found that it must leave."""

    def __init__(self) -> None:
        self.removed: Counter[str] = Counter()
        self.left: list[str] = []

    def report(self) -> Report:
        """Of the whole run."""
        return Report({what: number for what, number in self.removed.items() if number}, (*self.left, *LEFT))
