"""Moments and spans of a backtest in words, for its table and its page alike."""

from __future__ import annotations

from stream.core.backtest import DAY_MS
from stream.core.events import rfc3339

_MIDNIGHT = "T00:00:00.000Z"


def when(ms: int) -> str:
    """A moment to the minute, or its day alone where it is midnight (UTC).

    >>> when(1_705_449_600_000), when(1_705_453_200_000)
    ('2024-01-17', '2024-01-17 01:00')
    """
    text = rfc3339(ms)
    return text[:10] if text.endswith(_MIDNIGHT) else f"{text[:10]} {text[11:16]}"


def lasting(ms: float) -> str:
    """A time span in the unit that suits it.

    >>> lasting(5_400_000), lasting(45_000), lasting(30 * 86_400_000)
    ('1.5 h', '45 s', '30.0 d')
    """
    if ms >= 2 * DAY_MS:
        return f"{ms / DAY_MS:,.1f} d"
    if ms >= 3_600_000:
        return f"{ms / 3_600_000:.1f} h"
    return f"{ms / 60_000:.0f} min" if ms >= 120_000 else f"{ms / 1000:.0f} s"


def later(events: int, ms: int) -> str:
    """How much later the second of two alerts fires.

    >>> later(0, 0), later(-3, -7_200_000), later(1, 0)
    ('at once', '3 events, 2.0 h earlier', '1 event later')
    """
    if not events:
        return "at once"
    number = f"{abs(events):,} event{'s' if abs(events) != 1 else ''}"
    span = f", {lasting(abs(ms))}" if ms else ""
    return f"{number}{span} {'later' if events > 0 else 'earlier'}"
