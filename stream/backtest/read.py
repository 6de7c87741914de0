"""History to the events that a worker would have counted.

Rules:
- Every row goes through the worker's own decoding and its rule of duplicates: what would be a dead letter, a
  duplicate or an agent's line there is none of an alert's evidence here.
- The history is read as one partition, in event-time order, and each event arrives at its own time.
- Rows that cannot be events are named by their number in the file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from stream.core.decode import decode_run
from stream.core.seen import Seen, fingerprints
from stream.errors import UsageError
from stream.reading import Flaws, open_file
from stream.replay import column_map, encode_row, read_history

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stream.core.decode import Event, Limits
    from stream.core.events import Channel
    from stream.replay import Format, Row

DECODED_TOGETHER = 4096
LABEL_COLUMNS = ("label", "p_negative")
"""What a file that is labelled already says of each row."""


class Told(NamedTuple):
    """What a row says of itself that a scored event does not carry."""

    number: int
    """Of the row in the file."""
    rating: float | None
    beside: Mapping[str, Any]
    """Of ``LABEL_COLUMNS``, those there are."""


@dataclass
class Countable:
    """A history, reduced to what counts."""

    channel: Channel
    events: list[Event] = field(default_factory=list)
    """In event-time order."""
    told: list[Told] = field(default_factory=list)
    """Of each event, in the same order."""
    rows: int = 0
    duplicates: int = 0
    agents_lines: int = 0
    flaws: Flaws = field(default_factory=Flaws)
    """Rows that are no events."""


class _Record(msgspec.Struct, gc=False):
    """A row as decoding wants it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


def read_countable(
    file: str,
    format_: Format,
    channel: Channel,
    columns: Sequence[str],
    limits: Limits,
    segments_kept: int | None,
) -> Countable:
    """Reads a file that ``reviewpulse replay`` reads.

    Args:
        file: its name; ``-`` is standard input.
        format_: how it is written.
        channel: which event type it becomes.
        columns: ``field=column`` each.
        limits: what a worker accepts.
        segments_kept: how far back duplicates are looked for; None counts every event.

    Raises:
        UsageError: the file cannot be read, lacks a column, or has no event.
    """
    mapped = column_map(format_, channel, columns)
    with open_file(file) as opened:
        history = read_history(opened.lines, format_, mapped, channel, name=file, beside=LABEL_COLUMNS)
    countable = Countable(channel, rows=history.read, flaws=history.skipped)
    seen = None if segments_kept is None else Seen(segments_kept)
    for rows, records in _runs(history.rows):
        decoded = decode_run(channel, records, limits)
        countable.agents_lines += len(decoded.skipped)
        first = records[0].offset
        for letter in decoded.dead:
            countable.flaws.add(rows[letter.offset - first].number, letter.reason)
        events = _first_of_each(decoded.events, seen)
        countable.duplicates += len(decoded.events) - len(events)
        countable.events += events
        countable.told += [_told(rows[event.offset - first]) for event in events]
    if not countable.events:
        named = f" {_first_flaw(countable.flaws)}" if countable.flaws.count else ""
        raise UsageError(
            f"{file} has no event to judge: {history.read:,} rows were read.{named}"
            " Check --format, --column and --topic."
        )
    return countable


def _runs(rows: Sequence[Row]) -> Iterator[tuple[Sequence[Row], list[_Record]]]:
    for first in range(0, len(rows), DECODED_TOGETHER):
        some = rows[first : first + DECODED_TOGETHER]
        yield (
            some,
            [
                _Record(offset, row.event_ms, None, encode_row(row))
                for offset, row in enumerate(some, start=first)
            ],
        )


def _first_of_each(events: list[Event], seen: Seen | None) -> list[Event]:
    if seen is None:
        return events
    offsets = np.array([event.offset for event in events], np.int64)
    admitted = seen.admit(offsets, fingerprints(events))
    return [event for event, new in zip(events, admitted, strict=True) if new]


def _told(row: Row) -> Told:
    return Told(row.number, row.fields.get("rating"), row.beside)


def _first_flaw(flaws: Flaws) -> str:
    first = flaws.named[0]
    return f"Row {first.number}: {first.reason}."
