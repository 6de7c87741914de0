"""Which span of time a digest is of, and which buckets hold it.

Rules:
- Days are UTC's, for counters' quarter-days are: a day is exactly four of them, and Redis holds seven days.
- A window that ends now is read as the live counters read it: at least the window, at most one bucket more.
- What a period is compared with are the quarter-days before it that are still held; they overlap it nowhere.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import NamedTuple

from stream.core.buckets import CODES, DAY_MS, RESOLUTIONS, WINDOWS, field, window_fields
from stream.errors import UsageError

QUARTER = RESOLUTIONS[2]
LASTS = ("1h", "24h", "7d")
EPOCH = date(1970, 1, 1)


class Period(NamedTuple):
    """A span of time, half open."""

    begin_ms: int
    end_ms: int
    day: date | None
    """The UTC day it is; None for a window that ends now."""
    buckets: range
    """Fields of the buckets that hold it (``stream.core.buckets``)."""
    before: range
    """Those of the days before."""

    @property
    def is_partial(self) -> bool:
        """Whether its day is not over."""
        return self.day is not None and self.end_ms - self.begin_ms < DAY_MS


def of_day(text: str, now_ms: int) -> Period:
    """A UTC day.

    Raises:
        UsageError: it is no date, in the future, or too long ago for the counters.

    >>> period = of_day("2023-11-14", 1_700_000_000_000)
    >>> len(period.buckets), len(period.before), period.is_partial
    (4, 24, True)
    """
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--date {text!r} is no date: write it as 2024-01-17.") from None
    begin_ms = (day - EPOCH) // timedelta(days=1) * DAY_MS
    oldest_ms = _oldest_quarter_ms(now_ms)
    if begin_ms > now_ms:
        raise UsageError(f"--date {text} has not begun (in UTC).")
    if begin_ms < oldest_ms:
        first = EPOCH + timedelta(days=(oldest_ms + DAY_MS - 1) // DAY_MS)
        raise UsageError(f"--date {text} is too long ago: counters keep a week, of whole days since {first}.")
    buckets = range(field(QUARTER, begin_ms), field(QUARTER, begin_ms + DAY_MS), CODES)
    return Period(begin_ms, min(begin_ms + DAY_MS, now_ms), day, buckets, _before(begin_ms, now_ms))


def of_last(window: str, now_ms: int) -> Period:
    """A window that ends now.

    Raises:
        UsageError: there is no such window.

    >>> period = of_last("24h", 1_700_000_000_000)
    >>> len(period.buckets), len(period.before)
    (26, 23)
    """
    if window not in LASTS:
        raise UsageError(f"--last {window!r} is none of {', '.join(LASTS)}.")
    buckets = window_fields(window, now_ms)
    spec = WINDOWS[window]
    assert buckets is not None
    assert spec is not None
    first_ms = buckets[0] // CODES * spec[0].width_ms
    return Period(now_ms - spec[1], now_ms, None, buckets, _before(first_ms, now_ms))


def _oldest_quarter_ms(now_ms: int) -> int:
    """Where the oldest quarter-day begins that is kept whole."""
    return (now_ms - QUARTER.keep_ms + QUARTER.width_ms - 1) // QUARTER.width_ms * QUARTER.width_ms


def _before(begin_ms: int, now_ms: int) -> range:
    last = begin_ms // QUARTER.width_ms * QUARTER.width_ms  # one that the period begins in is not before it
    return range(field(QUARTER, min(_oldest_quarter_ms(now_ms), last)), field(QUARTER, last), CODES)
