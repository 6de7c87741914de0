"""What other programs import: send events, read live counters, follow alerts.

- ``EventProducer`` sends reviews and chat lines, checked before they leave. ``AsyncEventProducer`` does so
  from asyncio: awaited means acknowledged.
- ``LiveCounters`` and ``AsyncLiveCounters`` read a product's counts in a window, the leaders, the totals.
- ``AlertSubscriber`` and ``AsyncAlertSubscriber`` iterate over alerts as they fire and resolve.
- ``Notifications`` iterates over what people are to be told of them, and when.

All take their addresses from the ``REVIEWPULSE_*`` environment, or from settings you make:

>>> from stream.client import load_settings
>>> settings = load_settings(kafka="127.0.0.1:9092", redis="redis://127.0.0.1:6379/0")
>>> with LiveCounters(settings) as counters:                                    # doctest: +SKIP
...     worst = counters.leaders("1h", by="negative_share", min_events=20, limit=3)

They need kafka-python, redis, msgspec and pydantic-settings: no model, no Faust, no numpy. A server that is
away is a ``DependencyError``, an event that would be refused an ``EventError``, a wrong argument or setting a
``UsageError``; all three are ``ReviewpulseError``. What they hand out is frozen, and typed (``py.typed``).
"""

from stream.client.alerts import AlertSubscriber
from stream.client.async_alerts import AsyncAlertSubscriber
from stream.client.async_producer import AsyncEventProducer
from stream.client.counters import AsyncLiveCounters, LiveCounters
from stream.client.counts import Baseline, ChannelTotals, Figures, Fleet, ProductCounts, Series, SeriesPoint
from stream.client.notifications import Notifications
from stream.client.producer import ChatFields, EventProducer, ReviewFields
from stream.core.events import Alert, Chat, Quote, Review
from stream.core.notify import Notification, Policy
from stream.errors import DependencyError, EventError, ReviewpulseError, UsageError
from stream.settings import Settings
from stream.settings import load as load_settings

__all__ = [
    "Alert",
    "AlertSubscriber",
    "AsyncAlertSubscriber",
    "AsyncEventProducer",
    "AsyncLiveCounters",
    "Baseline",
    "ChannelTotals",
    "Chat",
    "ChatFields",
    "DependencyError",
    "EventError",
    "EventProducer",
    "Figures",
    "Fleet",
    "LiveCounters",
    "Notification",
    "Notifications",
    "Policy",
    "ProductCounts",
    "Quote",
    "Review",
    "ReviewFields",
    "ReviewpulseError",
    "Settings",
    "UsageError",
    "load_settings",
    "Series",
    "SeriesPoint",
]
