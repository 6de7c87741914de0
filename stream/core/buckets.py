"""Where an event's counts go, and which of them make a window.

Rules:
- Counters are sums by event time, kept at three resolutions and all-time. A late event lands in its own
  bucket while that is retained, and always in the all-time total.
- Retention is judged by arrivals in Kafka, the latest of a step, never by the worker's clock: a replay of the
  same log makes the same totals and windows.
- A window is the buckets that end after ``now - window``: at least the window, at most one bucket more.

Why these resolutions: 66 minutes + 26 hours + 30 quarter-days are 122 buckets at most (events may run 5
minutes ahead), below the 128 entries up to which Redis keeps a hash as a listpack (about 16 bytes a bucket
instead of 100).
"""

from __future__ import annotations

from typing import NamedTuple

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


class Resolution(NamedTuple):
    """One series of buckets: each ``width_ms`` wide, kept for ``keep_ms``."""

    code: int
    width_ms: int
    keep_ms: int
    slots: int
    """Buckets that live at once: those of ``keep_ms``, the one that leaves it, and what runs ahead."""


RESOLUTIONS = (
    Resolution(0, MINUTE_MS, HOUR_MS, 66),
    Resolution(1, HOUR_MS, DAY_MS, 26),
    Resolution(2, 6 * HOUR_MS, 7 * DAY_MS, 30),
)
CODES = 4
"""A bucket's field is the number ``index * CODES + code``."""

WINDOWS: dict[str, tuple[Resolution, int] | None] = {
    "5m": (RESOLUTIONS[0], 5 * MINUTE_MS),
    "1h": (RESOLUTIONS[0], HOUR_MS),
    "24h": (RESOLUTIONS[1], DAY_MS),
    "7d": (RESOLUTIONS[2], 7 * DAY_MS),
    "all": None,
}
"""Window name to the resolution it is read from and its length; ``all`` is the total."""


def field(resolution: Resolution, event_ms: int) -> int:
    """The hash field of the bucket that holds ``event_ms``.

    >>> field(RESOLUTIONS[0], 60_000), field(RESOLUTIONS[1], 3_600_000)
    (4, 5)
    """
    return event_ms // resolution.width_ms * CODES + resolution.code


def fields_for(event_ms: int, arrival_ms: int) -> tuple[int, ...]:
    """The buckets an event is counted in, besides the all-time total.

    >>> fields_for(event_ms=0, arrival_ms=0)
    (0, 1, 2)
    >>> fields_for(event_ms=0, arrival_ms=2 * 60 * 60_000)   # two hours late: the minute is gone
    (1, 2)
    """
    return tuple(
        event_ms // width * CODES + code
        for code, width, keep, _ in RESOLUTIONS
        if event_ms // width * width + width > arrival_ms - keep
    )


def is_expired(bucket_field: int, now_ms: int) -> bool:
    """Whether a bucket has left its retention at ``now_ms``.

    >>> is_expired(4, now_ms=120_000), is_expired(4, now_ms=120_000 + 3_600_000)
    (False, True)
    """
    index, code = divmod(bucket_field, CODES)
    _, width, keep, _ = RESOLUTIONS[code]
    return (index + 1) * width <= now_ms - keep


def window_fields(window: str, now_ms: int) -> range | None:
    """The hash fields a window sums, or None for ``all``.

    Raises:
        KeyError: no such window.

    >>> len(window_fields("5m", 1_700_000_000_000)), window_fields("all", 0)
    (11, None)
    """
    spec = WINDOWS[window]
    if spec is None:
        return None
    resolution, span_ms = spec
    first = (now_ms - span_ms) // resolution.width_ms
    # Beyond now, too: producers' clocks may run ahead by the allowed skew of five minutes.
    last = now_ms // resolution.width_ms + (1 if resolution.code else 5)
    return range(first * CODES + resolution.code, (last + 1) * CODES, CODES)
