"""Scored events to sums: what one atomic step adds to the counters.

Rules:
- Aggregate before writing: a micro-batch holds many events of few (product, bucket) pairs.
- Sentiment is summed in thousandths, an integer, so that sums do not depend on their order.
- An event is late when it reached Kafka more than ``late_after_ms`` after its time. It is counted all the
  same, in every bucket that is still retained.
- What is retained is judged by the batch's latest arrival. A backlog of weeks read at once would otherwise
  write thousands of buckets of a product, only to have them expire in the same step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stream.core.buckets import MINUTE_MS, fields_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.core.decode import Event


@dataclass(slots=True)
class ProductTally:
    """What a batch adds to one product."""

    first_event_ms: int
    last_event_ms: int
    late: int = 0
    rows: list[int] = field(default_factory=list)
    """Positions of the product's events in the batch, in offset order."""
    spans: dict[tuple[int, ...], list[int]] = field(default_factory=dict)
    """Counts by the bucket fields they belong to: negative, neutral, positive (the order of
    ``stream.core.events.LABELS``) and the sum of sentiment in thousandths. All of them are all-time, too."""


def tally(
    events: Sequence[Event], labels: Sequence[int], sentiments: Sequence[int], late_after_ms: float
) -> dict[str, ProductTally]:
    """Sums a batch by product and bucket.

    Args:
        events: of one partition, in offset order.
        labels: index into ``LABELS`` of each.
        sentiments: in thousandths, of each.
        late_after_ms: from when on an event is late.

    >>> from stream.core.decode import Event
    >>> review = Event(0, "e", "p", "Broken.", event_ms=60_000, arrival_ms=60_500, author_id=None)
    >>> tally([review, review], labels=[0, 2], sentiments=[-900, 700], late_after_ms=1000)["p"].spans
    {(4, 1, 2): [1, 0, 1, -200]}
    """
    products: dict[str, ProductTally] = {}
    fields_of_minute: dict[int, tuple[int, ...]] = {}
    latest_ms = max([event.arrival_ms for event in events], default=0)
    for row, event in enumerate(events):
        event_ms = event.event_ms
        product = products.get(event.product_id)
        if product is None:
            product = products[event.product_id] = ProductTally(event_ms, event_ms)
        product.rows.append(row)
        if event_ms > product.last_event_ms:
            product.last_event_ms = event_ms
        elif event_ms < product.first_event_ms:
            product.first_event_ms = event_ms
        if event.arrival_ms - event_ms > late_after_ms:
            product.late += 1
        minute = event_ms // MINUTE_MS  # every bucket is made of whole minutes
        fields = fields_of_minute.get(minute)
        if fields is None:
            fields = fields_of_minute[minute] = fields_for(event_ms, latest_ms)
        counts = product.spans.get(fields)
        if counts is None:
            counts = product.spans[fields] = [0, 0, 0, 0]
        counts[labels[row]] += 1
        counts[3] += sentiments[row]
    return products
