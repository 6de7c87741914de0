"""How far each partition's counting lies behind its log: in records, and in seconds.

Rules:
- In seconds it is the age of the oldest record that is not counted. The pipeline knows it of what it holds,
  the backlog of what it has read because nothing was counted for a while.
- Where neither does, the record is yet to be fetched: it is about as old as the last one counted. That is
  believed when records have waited for two looks; a stream that was quiet for an hour would otherwise seem an
  hour behind when its next record comes.
- An end of the log with no record before it (a transaction's marker) is no lag.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from faust.types import TP


class Standing(NamedTuple):
    """What is known of a partition."""

    applied: int
    """Highest offset counted."""
    end: int
    """The log's next offset, as far as it is known."""
    inside_ms: int | None = None
    """Timestamp of the oldest record in the pipeline that is not counted; None: there is none."""
    read_ms: int | None = None
    """Timestamp of the record that the backlog read beyond ``applied``."""
    is_empty: bool = False
    """Whether the backlog looked, and there is no record beyond ``applied``."""
    counted_ms: int | None = None
    """Timestamp of the last record counted, by this worker."""


class Lag(NamedTuple):
    """How far a partition lies behind."""

    records: int
    since_ms: int | None
    """Timestamp of the oldest record not counted; None: none waits, or it is not known."""

    def seconds(self, now_ms: float) -> float:
        """Its age."""
        return 0.0 if self.since_ms is None else max((now_ms - self.since_ms) / 1000, 0.0)


class LagWatch:
    """Looks again and again."""

    def __init__(self) -> None:
        self._waited: set[TP] = set()
        """Where records waited at the last look."""

    def look(self, standings: Mapping[TP, Standing]) -> dict[TP, Lag]:
        """How far each partition lies behind now."""
        found = {}
        waits = set()
        for tp, standing in standings.items():
            records = 0 if standing.is_empty else max(standing.end - standing.applied - 1, 0)
            since_ms = standing.inside_ms
            if since_ms is not None:
                records = max(records, 1)
            elif records:
                since_ms = standing.read_ms
                if since_ms is None and tp in self._waited:
                    since_ms = standing.counted_ms
            if records:
                waits.add(tp)
            is_known = since_ms is not None and since_ms >= 0  # a broker may leave timestamps out
            found[tp] = Lag(records, since_ms if is_known else None)
        self._waited = waits
        return found
