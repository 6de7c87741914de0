"""Follows alerts: what subscribers import.

Rules:
- The topic holds transitions, published at least once; each alert is known by its ``id``, each transition by
  its ``sequence``. A repeat, or one that comes after a later one, is left out here.
- With a ``group``, the position is kept in Kafka: after a restart, what was not finished comes again. An
  alert is finished when the next one is asked for, or when the ``with`` block ends without an error.
  What ``poll`` returned is finished with the next ``poll``.
- A record that is no alert is logged and passed over: one bad publisher stops no subscriber.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import msgspec
from kafka import TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from stream import settings as configuration
from stream.client.blocks import Block
from stream.client.log import ends_of, open_consumer, partitions_of, read_to_end
from stream.core.events import Alert
from stream.errors import DependencyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stream.settings import Settings

logger = logging.getLogger(__name__)

REMEMBERED_ALERTS = 65_536
"""Alerts whose last sequence is remembered: years of them at the default false-alarm budget."""
POLL_MS = 500
"""How long ``stop`` may take to be noticed."""

_decode = msgspec.json.Decoder(Alert).decode


class LatestSequences:
    """The highest sequence seen of each alert, for as many alerts as are worth remembering.

    >>> seen = LatestSequences()
    >>> seen.advance("a", 1), seen.advance("a", 1), seen.advance("a", 2), seen.advance("a", 1)
    (True, False, True, False)
    """

    def __init__(self, remembered: int = REMEMBERED_ALERTS) -> None:
        self._remembered = remembered
        self._latest: OrderedDict[str, int] = OrderedDict()

    def advance(self, alert_id: str, sequence: int) -> bool:
        """Whether this transition is news; if so, it is remembered."""
        if sequence <= self._latest.get(alert_id, 0):
            return False
        self._latest[alert_id] = sequence
        self._latest.move_to_end(alert_id)
        if len(self._latest) > self._remembered:
            self._latest.popitem(last=False)
        return True


class AlertSubscriber(Block):
    """Iterates over alert transitions, each once.

    >>> with AlertSubscriber(group="pager") as alerts:                          # doctest: +SKIP
    ...     for alert in alerts:
    ...         if alert.state == "firing" and not alert.historic:
    ...             page_someone(alert.product_id, alert.current_share, alert.quotes)

    Iterating waits for news and ends after ``stop``. ``available`` ends by itself at what there is now.
    While a broker that was there is away, iterating waits for it to come back.

    Args:
        settings: where Kafka is; None takes it from the ``REVIEWPULSE_*`` environment.
        from_beginning: starts with the oldest transition kept (compaction keeps each alert's last), not
            with the next one. Where ``group`` has a position, that counts.
        group: a name under which the position is kept; use one for each subscriber, and run one subscriber
            of it at a time. None keeps none.

    Raises:
        DependencyError: no broker answers, or there is no alerts topic.
        UsageError: the settings are wrong.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        from_beginning: bool = False,
        group: str | None = None,
    ) -> None:
        self._settings = settings or configuration.load()
        self._keeps_position = group is not None
        self._seen = LatestSequences()
        self._stopping = threading.Event()
        self._finished: dict[TopicPartition, int] = {}
        self._in_hand: dict[TopicPartition, int] = {}
        self._consumer = open_consumer(self._settings, group=group)
        try:
            self._partitions = partitions_of(self._consumer, self._settings.topic_alerts)
            self._seek(from_beginning=from_beginning)
            self._commit()
        except BaseException as error:
            self._consumer.close(autocommit=False)
            if isinstance(error, KafkaError):
                raise self._failed(error) from error
            raise

    def available(self) -> Iterator[Alert]:
        """Transitions from here to where the topic ends now.

        Raises:
            DependencyError: the broker no longer answers.
        """
        try:
            positions = {each: self._consumer.position(each) for each in self._partitions}
            ends = ends_of(self._consumer, self._partitions)
            for record in read_to_end(self._consumer, positions, ends):
                yield from self._news([record])
        except KafkaError as error:
            raise self._failed(error) from error

    def __iter__(self) -> Iterator[Alert]:
        """Transitions from here on, until ``stop``.

        Raises:
            DependencyError: the broker refuses.
        """
        return (alert for alert in self.steps() if alert is not None)

    def steps(self) -> Iterator[Alert | None]:
        """As iterating, with a None wherever half a second brought nothing: for who has other things to do.

        Raises:
            DependencyError: the broker refuses.
        """
        try:
            while not self._stopping.is_set():
                came = self._consumer.poll(timeout_ms=POLL_MS)
                for records in came.values():
                    yield from self._news(records)
                self._commit()
                if not came:
                    yield None
        except KafkaError as error:
            raise self._failed(error) from error

    def poll(self) -> list[Alert]:
        """Transitions that come within half a second; none while there is no news, or no broker.

        Raises:
            DependencyError: the broker refuses.
        """
        self._finish()
        alerts = []
        try:
            self._commit()
            for partition, records in self._consumer.poll(timeout_ms=POLL_MS).items():
                self._in_hand[partition] = records[-1].offset + 1
                alerts += [alert for alert in map(self._decode, records) if alert is not None]
        except KafkaError as error:
            raise self._failed(error) from error
        return [alert for alert in alerts if self._seen.advance(alert.id, alert.sequence)]

    def stop(self) -> None:
        """Ends the iteration within half a second; may be called from a signal or another thread."""
        self._stopping.set()

    def close(self) -> None:
        """Keeps the position, where there is a group, and closes the connection."""
        self._stopping.set()
        try:
            self._commit()
        except KafkaError as error:
            raise self._failed(error) from error
        finally:
            self._consumer.close(autocommit=False)

    def _seek(self, *, from_beginning: bool) -> None:
        ends = ends_of(self._consumer, self._partitions)
        for partition in self._partitions:
            kept = self._consumer.committed(partition) if self._keeps_position else None
            if kept is None and not from_beginning:
                self._consumer.seek(partition, ends[partition])
                # Kept from now on: what comes between a kill and the next start is not to be missed.
                self._finished[partition] = ends[partition]
            elif kept is None or kept > ends[partition]:  # beyond the end: the topic was made anew
                self._consumer.seek_to_beginning(partition)
            else:
                self._consumer.seek(partition, kept)

    def _news(self, records: list[Any]) -> Iterator[Alert]:
        for record in records:
            if self._stopping.is_set():
                return
            self._in_hand = {TopicPartition(record.topic, record.partition): record.offset + 1}
            alert = self._decode(record)
            if alert is not None and self._seen.advance(alert.id, alert.sequence):
                yield alert
            self._finish()

    def _decode(self, record: Any) -> Alert | None:
        if record.value is None:  # a tombstone: somebody deleted the alert
            return None
        try:
            return _decode(record.value)
        except ValueError as error:
            logger.warning(
                "passed over what is no alert (or a newer version's): %s partition %d offset %d: %r",
                record.topic,
                record.partition,
                record.offset,
                str(error),  # as repr: it may quote what somebody wrote
            )
            return None

    def _finish(self) -> None:
        self._finished |= self._in_hand
        self._in_hand = {}

    def _commit(self) -> None:
        if self._keeps_position and self._finished:
            self._consumer.commit(
                {partition: OffsetAndMetadata(offset, "", -1) for partition, offset in self._finished.items()}
            )
        self._finished.clear()

    def _failed(self, error: Exception) -> DependencyError:
        return DependencyError(
            f"Cannot read alerts from {self._settings.topic_alerts!r} at {self._settings.kafka}: {error}."
        )
