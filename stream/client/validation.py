"""Whether the worker would count an event, asked before it is sent.

Rules:
- The worker's own decoder decides, on the bytes as they will travel, so the two cannot disagree.
- The product id comes back with the verdict: it is the record's key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from stream.core.decode import Limits, decode_run
from stream.errors import EventError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.core.events import Channel
    from stream.settings import Settings


@dataclass(slots=True)
class _Line:
    """A record that is not in Kafka yet: its place among its companions stands for the offset."""

    offset: int
    timestamp: int
    value: bytes | None
    key: bytes | None = None


class _Keyed(msgspec.Struct):
    product_id: str


_decode_key = msgspec.json.Decoder(_Keyed).decode


def limits_of(settings: Settings) -> Limits:
    """The limits the workers will hold events against."""
    return Limits(settings.max_event_bytes, int(settings.allowed_skew_s * 1000))


def check(channel: Channel, values: Sequence[bytes], now_ms: int, limits: Limits) -> list[str | EventError]:
    """The product id of each event, or why the worker would refuse it.

    Args:
        channel: which topic the events are for.
        values: one JSON object each.
        now_ms: the time they would arrive, ms since the epoch.
        limits: what is too large or too early.

    Returns:
        One verdict for each of ``values``, in their order.

    >>> review = b'{"event_id": "1", "product_id": "B001", "text": "Broken.", "event_time": 1700000000}'
    >>> check("reviews", [review, b"{}"], 1_700_000_000_000, Limits())
    ['B001', EventError('Object missing required field `event_id`')]
    """
    decoded = decode_run(channel, [_Line(n, now_ms, value) for n, value in enumerate(values)], limits)
    verdicts: dict[int, str | EventError] = {event.offset: event.product_id for event in decoded.events}
    verdicts.update((each.offset, EventError(each.stage, each.reason)) for each in decoded.dead)
    # What is neither is skipped by the worker's rules (a shop's own chat line), and is sent all the same.
    return [verdicts.get(n) or _decode_key(value).product_id for n, value in enumerate(values)]
