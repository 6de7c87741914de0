"""Reads a customer's events and the alerts from Kafka, and writes over alerts there.

Rules:
- A customer is known to Redis by hashes alone, and to an alert by the event it quotes. So the input topics
  are read for the customer's events first, as far as Kafka keeps them.
- Of an alert's transitions, the last one written is judged: it is the one that compaction keeps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from stream.client.log import read_topic
from stream.client.producer import EventProducer
from stream.core.events import Alert

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stream.erasure.report import Tally
    from stream.settings import Settings


class _Author(msgspec.Struct):
    author_id: str | None = None
    event_id: str = ""


_decode_author = msgspec.json.Decoder(_Author).decode
_decode_alert = msgspec.json.Decoder(Alert).decode


def events_of(settings: Settings, author_id: str) -> frozenset[str]:
    """Ids of the customer's events that the input topics still have.

    Raises:
        DependencyError: Kafka is away.
    """
    found = set()
    for topic in settings.topics.values():
        for record in read_topic(settings, topic):
            try:
                event = _decode_author(record.value or b"")
            except ValueError:  # a dead letter, or will be one
                continue
            if event.author_id == author_id:
                found.add(event.event_id)
    return frozenset(found)


class Alerts:
    """The topic of alerts.

    Args:
        settings: where Kafka is.
        tally: what is written over is added to it.
        dry: writes nothing, and only counts.
    """

    def __init__(self, settings: Settings, tally: Tally, *, dry: bool) -> None:
        self._settings = settings
        self._tally = tally
        self._dry = dry

    def read(self, wanted: Callable[[Alert], bool]) -> dict[str, Alert]:
        """The last transition of each alert, by id, of those that are wanted; tombstones are not.

        Raises:
            DependencyError: Kafka is away.
        """
        latest: dict[str, Alert | None] = {}
        for record in read_topic(self._settings, self._settings.topic_alerts):
            key = (record.key or b"").decode("utf-8", "replace")
            if record.value is None:
                latest[key] = None
                continue
            try:
                alert = _decode_alert(record.value)
            except ValueError:
                continue
            known = latest.get(alert.id)
            latest[alert.id] = alert if known is None or alert.sequence >= known.sequence else known
        return {id_: alert for id_, alert in latest.items() if alert is not None and wanted(alert)}

    def write_over(self, values: Mapping[str, bytes | None]) -> None:
        """Writes over alerts, by id; None is a tombstone.

        Raises:
            DependencyError: Kafka is away.
        """
        self._tally.removed["alerts in Kafka"] += len(values)
        if self._dry or not values:
            return
        with EventProducer(self._settings) as producer:
            for id_, value in values.items():
                producer.send_record(self._settings.topic_alerts, id_.encode(), value)
