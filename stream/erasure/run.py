"""Erases what Redis, and the alerts topic, hold of a product or of a customer, while workers run.

Rules:
- The order matters. A customer's events are read first, to know what quotes them. Counters and detector
  states come before what is told of them, for they know the ids of their alerts. Kafka is written to last:
  what waits in Redis to be published would come after the tombstone.
- Idempotent: run again, it finds nothing. What it cannot reach it says (``stream/erasure/report.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from stream.core.damping import author_hash
from stream.core.forgetting import Customer, is_quoted, without_words
from stream.erasure.counters import Counters
from stream.erasure.log import Alerts, events_of
from stream.erasure.redis import Redis
from stream.erasure.report import Tally
from stream.erasure.told import Told

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream.core.events import Alert
    from stream.erasure.report import Report
    from stream.redis_config import Client
    from stream.settings import Settings


class Forgetting:
    """One run of it.

    Args:
        settings: where Redis and Kafka are.
        client: from ``stream.redis_config.connect``; stays the caller's to close.
        dry: changes nothing, and only counts.
        with_kafka: whether the topics are read, and alerts there are written over.
    """

    def __init__(self, settings: Settings, client: Client, *, dry: bool, with_kafka: bool = True) -> None:
        self._settings = settings
        self._with_kafka = with_kafka
        self._tally = Tally()
        redis = Redis(settings, client, self._tally, dry=dry)
        self._counters = Counters(redis, settings.shards, self._tally)
        self._told = Told(redis, self._tally)
        self._alerts = Alerts(settings, self._tally, dry=dry)

    def product(self, product_id: str) -> Report:
        """Forgets a product.

        Raises:
            UsageError: counters are being moved, or Redis refuses us.
            DependencyError: Redis or Kafka is away.
        """
        with self._counters.alone() as layouts:
            alerts = set[str]()
            for layout in layouts:
                alerts |= self._counters.erase_product(layout, product_id)
            published = self._published(lambda alert: alert.product_id == product_id)
            alerts.update(published)
            self._told.erase_product(product_id, alerts)
            self._alerts.write_over(dict.fromkeys(published))
        return self._tally.report()

    def author(self, author_id: str) -> Report:
        """Forgets a customer.

        Raises:
            UsageError: counters are being moved, or Redis refuses us.
            DependencyError: Redis or Kafka is away.
        """
        events = events_of(self._settings, author_id) if self._with_kafka else frozenset[str]()
        customer = Customer(author_hash(author_id), events)
        with self._counters.alone() as layouts:
            alerts = set[str]()
            for layout in layouts:
                alerts |= self._counters.erase_author(layout, customer)
            customer = customer._replace(alerts=frozenset(alerts))
            self._counters.quiet_alerts(layouts, customer)
            self._told.erase_author(customer)
            published = self._published(lambda alert: is_quoted(alert, customer))
            over = {id_: alert for id_, alert in published.items() if alert.state == "resolved"}
            if firing := len(published) - len(over):
                self._tally.left.append(_still_firing(firing))
            self._alerts.write_over(
                {id_: msgspec.json.encode(without_words(each)) for id_, each in over.items()}
            )
        if events:
            self._tally.left.insert(0, f"Of the customer's events, Kafka still has {len(events):,}.")
        return self._tally.report()

    def _published(self, wanted: Callable[[Alert], bool]) -> dict[str, Alert]:
        return self._alerts.read(wanted) if self._with_kafka else {}


def _still_firing(number: int) -> str:
    # Its next transition may be written at any moment. What we write might come after it, and for whoever
    # reads from the beginning it would fire for ever.
    alerts = "1 alert in Kafka that quotes" if number == 1 else f"{number:,} alerts in Kafka that quote"
    fires = "still fires" if number == 1 else "still fire"
    return (
        f"{alerts} the customer {fires}: the next transition, which quotes nobody forgotten, takes its place."
        " Run this again afterwards."
    )
