"""Which record kills the workers: found by narrowing down, over their deaths.

A record that makes the process itself die (a crash in native code, memory that runs out, an endless loop that
the watchdog ends) would otherwise be read again by the next worker, and the next, for ever.

Rules:
- Before its first window of a partition a worker leaves a note there: who it is, and the offset it began at.
  Stopping or handing the partition over takes the note back; dying does not.
- When ``DEATHS_AT_ONE_OFFSET`` workers in a row died without getting any further, what follows is suspected.
  It is then worked on alone, ``WIDTH`` records at a time, with a note of which before each.
- A death among several narrows them down by ``NARROWING``; the ``DEATHS_OF_ONE``-th death on a single record
  condemns it: it becomes a dead letter, unread.
- A death elsewhere, or a kill by hand, costs some speed at most: it takes several at one offset to suspect,
  and two more at one record to condemn.
"""

from __future__ import annotations

import msgspec

DEATHS_AT_ONE_OFFSET = 2
DEATHS_OF_ONE = 2
WIDTH = 256
"""Records at a time among suspects: wide enough to cost a slow model little."""
NARROWING = 16
SPAN = 100_000
"""Records that may have been inside a worker when it died: six windows of the largest size."""


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What workers leave behind at a partition."""

    worker: str | None
    """Who works on it; None when the last one left in peace."""
    base: int
    """What was applied when it began."""
    deaths: int = 0
    """Workers that died one after the other at ``base``, or on the single record of ``at``."""
    until: int = -1
    """Offsets up to here are suspected."""
    width: int = 0
    """Most records to work on at a time; 0 for no suspicion."""
    narrow_until: int = -1
    """Up to here ``width`` is what a death has narrowed it to."""
    at: tuple[int, int] | None = None
    """First and last offset worked on, among suspects."""
    condemned: tuple[int, ...] = ()
    """Offsets not to be worked on at all."""


def read(found: Note | None, worker: str, applied: int) -> Note:
    """What to go by from here on.

    Args:
        found: the note at the partition.
        worker: who opens it now.
        applied: highest applied offset.

    >>> first = read(None, "a", applied=9)
    >>> second = read(first, "b", applied=9)       # a died at 9
    >>> third = read(second, "c", applied=9)       # so did b: from here on it is suspected
    >>> (first.width, second.width, third.width, third.until)
    (0, 0, 256, 100009)
    >>> read(third, "d", applied=700).width        # c died without a note of where
    256
    """
    fresh = Note(worker=worker, base=applied)
    if found is None:
        return fresh
    died = found.worker not in (None, worker)
    condemned = tuple(offset for offset in found.condemned if offset > applied)
    if found.width and applied < found.until:
        note = msgspec.structs.replace(found, worker=worker, base=applied, at=None, condemned=condemned)
        if died and found.at is not None and found.at[0] > applied:
            return _narrowed(note, *found.at)
        return widened(note, applied)
    if died and found.base == applied:
        deaths = found.deaths + 1
        if deaths < DEATHS_AT_ONE_OFFSET:
            return msgspec.structs.replace(fresh, deaths=deaths)
        return msgspec.structs.replace(fresh, until=applied + SPAN, width=WIDTH)
    return fresh


def _narrowed(note: Note, first: int, last: int) -> Note:
    if first < last:
        width = max((last - first + 1) // NARROWING, 1)
        return msgspec.structs.replace(note, width=width, narrow_until=last, deaths=0)
    deaths = note.deaths + 1
    if deaths < DEATHS_OF_ONE:
        return msgspec.structs.replace(note, width=1, narrow_until=last, deaths=deaths)
    return msgspec.structs.replace(note, condemned=(*note.condemned, first), deaths=0)


def widened(note: Note, applied: int) -> Note:
    """The note after ``applied`` was reached.

    Where the narrowed part is behind, it is wide again; where all suspects are, there is no suspicion.
    """
    if note.width and applied >= note.until:
        return Note(worker=note.worker, base=applied)
    if note.width and applied >= note.narrow_until:
        return msgspec.structs.replace(note, width=WIDTH, deaths=0)
    return note
