"""Moments and lengths as options say them."""

from __future__ import annotations


def time_ms(option: str, text: str) -> int:
    """A moment, ms since the epoch.

    Args:
        option: which option says it, for the message.
        text: RFC 3339.

    Raises:
        UsageError: it is none, or has no time zone.

    >>> time_ms("--from", "2024-01-17T22:00:00Z")
    1705528800000
    """
    from datetime import datetime

    from stream.core.events import event_time_ms
    from stream.errors import UsageError

    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise UsageError(
                f"{option} {text!r} names no time zone: end it with Z, or with an offset as +01:00."
            )
        return event_time_ms(at)
    except ValueError:
        raise UsageError(f"{option} {text!r} is no time: write it as 2024-01-17T22:00:00Z.") from None


def since_ms(option: str, text: str, now_ms: int) -> int:
    """A moment, or how long ago it was.

    Args:
        option: which option says it, for the message.
        text: RFC 3339, or a length such as ``24h``.
        now_ms: now, ms since the epoch.

    Raises:
        UsageError: it is neither.

    >>> since_ms("--since", "1h", 3_600_000), since_ms("--since", "1970-01-01T00:00:01Z", 0)
    (0, 1000)
    """
    from stream.core.silence import duration_ms
    from stream.errors import UsageError

    if "T" in text or ":" in text or "-" in text:
        return time_ms(option, text)
    try:
        return now_ms - duration_ms(text)
    except UsageError:
        raise UsageError(
            f"{option} {text!r} is neither a length (24h, 7d) nor a time (2024-01-17T22:00:00Z)."
        ) from None
