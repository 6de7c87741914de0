"""What other programs import: send events, read live counters, follow alerts.

- ``EventProducer`` sends reviews and chat lines, checked before they leave.
- ``LiveCounters`` and ``AsyncLiveCounters`` read a product's counts in a window, the leaders, the totals.
- ``AlertSubscriber`` iterates over alerts as they fire and resolve.
- ``Notifications`` iterates over what people are to be told of them, and when.

All take their addresses from the ``REVIEWPULSE_*`` environment, or from settings you make:

>>> from stream.settings import load
>>> settings = load(kafka="127.0.0.1:9092", redis="redis://127.0.0.1:6379/0")
>>> with LiveCounters(settings) as counters:                                    # doctest: +SKIP
...     worst = counters.leaders("1h", by="negative_share", min_events=20, limit=3)

They need kafka-python, redis, msgspec and pydantic-settings: no model, no Faust, no numpy. A server that is
away is a ``stream.errors.DependencyError``, an event that would be refused an ``EventError``.
"""

from stream.client.alerts import AlertSubscriber
from stream.client.counters import AsyncLiveCounters, LiveCounters
from stream.client.counts import Baseline, ChannelTotals, Figures, Fleet, ProductCounts, Series, SeriesPoint
from stream.client.notifications import Notifications
from stream.client.producer import EventProducer

__all__ = [
    "AlertSubscriber",
    "AsyncLiveCounters",
    "Baseline",
    "ChannelTotals",
    "EventProducer",
    "Figures",
    "Fleet",
    "LiveCounters",
    "Notifications",
    "ProductCounts",
    "Series",
    "SeriesPoint",
]
