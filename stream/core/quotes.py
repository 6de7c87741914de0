"""Which complaints an alert quotes.

Rules:
- The surest complaints of distinct text, surest first, the earlier of equals, personal data masked.
- Every rule that quotes keeps its quotes by ``keep_quote``, so that one incident is told in one way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream.core.events import Quote, rfc3339
from stream.core.mask import excerpt

if TYPE_CHECKING:
    from stream.core.spike import Observation


def keep_quote(quotes: list[Quote], complaint: Observation, most: int) -> None:
    """Takes a complaint among ``quotes``, which are at most ``most``, if it is worth it."""
    if len(quotes) == most and complaint.p_negative <= quotes[-1].p_negative:
        return
    text = excerpt(complaint.text)
    if not text or any(text.casefold() == quote.text.casefold() for quote in quotes):
        return
    place = sum(quote.p_negative >= complaint.p_negative for quote in quotes)
    quote = Quote(
        event_id=complaint.event_id,
        text=text,
        p_negative=complaint.p_negative,
        event_time=rfc3339(complaint.event_ms),
    )
    quotes.insert(place, quote)
    del quotes[most:]
