"""What leaves the worker for Kafka: dead letters, scores, alerts.

Rules:
- A call returns when the broker has acknowledged; until then nothing that follows from it is done.
- Alerts come from the outbox only, where the atomic step put them. A transition is taken out when the broker
  has it: after a crash it is sent again, with the same id and sequence.
- A dead letter carries the record as received, unless that would make the letter larger than a broker takes:
  then key and value are cut, and a header ``cut_from`` says from how many bytes. No record may stop the rest.
- A partition's owner delivers its transitions, in order; so do leftovers of an owner that died.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import structlog
from aiokafka.errors import KafkaError

from stream.backoff import retry
from stream.core import traceparent
from stream.core.events import Alert
from stream.errors import DependencyError
from stream.metrics.meter import NO_METER
from stream.settings import dead_letter_topic
from stream.store.contract import plain_partition
from stream.tracing import Causes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stream.core.events import Score
    from stream.metrics.meter import Meter
    from stream.record import Refused
    from stream.store.contract import CounterStore

log = structlog.get_logger("publish")

SWEEP_S = 5.0
"""How often the outbox is looked at without a nudge: for leftovers of a worker that died."""

MAX_LETTER_BYTES = 900_000
"""Key and value of a dead letter. Kafka takes 1,048,588 bytes a record and Faust's producer 1,000,000, if not
told otherwise, the headers among them."""
MAX_KEY_BYTES = 1024
"""Above four bytes for each of the 256 characters of a product_id."""
MAX_REASON_CHARS = 500
"""A reason may quote the event."""

_decode_alert = msgspec.json.Decoder(Alert).decode

Headers = list[tuple[str, bytes]]


class Message(NamedTuple):
    """One record for Kafka."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers | None = None


class KafkaPublisher:
    """A ``Publisher`` on Faust's producer.

    Args:
        producer: Faust's; connected while the app runs.
        store: whose outbox is delivered.
        owned: names of the partitions this worker reads now.
        alerts_topic: where alert transitions go.
        scores_topic: where scores go.
        meter: is told how long Kafka takes.
        causes: which trace a transition was caused by.

    Attributes:
        waiting: transitions in the outbox that Kafka does not have yet, as of the last look; the fleet's.
    """

    def __init__(
        self,
        *,
        producer: Any,
        store: CounterStore,
        owned: Callable[[], set[str]],
        alerts_topic: str,
        scores_topic: str,
        meter: Meter = NO_METER,
        causes: Causes | None = None,
    ) -> None:
        self._causes = causes or Causes()
        self.waiting = 0
        self._meter = meter
        self._producer = producer
        self._store = store
        self._owned = owned
        self._alerts_topic = alerts_topic
        self._scores_topic = scores_topic
        self._nudge = asyncio.Event()

    async def dead_letters(self, letters: Sequence[Refused]) -> None:
        """Sends the records as received, with what, where and why in headers."""
        await self._send([_dead_letter(letter) for letter in letters])

    async def scores(self, scores: Sequence[Score]) -> None:
        """Sends scores, keyed by product."""
        await self._send(
            [
                Message(self._scores_topic, score.product_id.encode(), msgspec.json.encode(score))
                for score in scores
            ]
        )

    def alerts_waiting(self) -> None:
        """There are transitions in the outbox."""
        self._nudge.set()

    async def run(self) -> None:
        """Delivers the outbox until cancelled."""
        while True:
            await retry(self.deliver, "deliver alerts")
            try:
                await asyncio.wait_for(self._nudge.wait(), SWEEP_S)
            except TimeoutError:
                continue
            self._nudge.clear()

    async def deliver(self) -> None:
        """Sends every waiting transition of this worker's partitions, then takes it out of the outbox.

        Raises:
            DependencyError: Kafka or the store is away; what was not taken out is sent again.
        """
        self._waiting_in = dict.fromkeys(range(self._store.shards), 0)
        for shard in range(self._store.shards):
            owned = self._owned()
            found = await self._store.outbox(shard)
            self._note_waiting(shard, len(found))
            entries = [
                entry
                for entry in found
                if plain_partition(entry.partition) in owned  # of whichever log: the last one's, too
            ]
            if not entries:
                continue
            alerts = [_decode_alert(entry.alert) for entry in entries]
            await self._send(
                [
                    Message(self._alerts_topic, alert.id.encode(), entry.alert, self._headers_of(alert))
                    for alert, entry in zip(alerts, entries, strict=True)
                ]
            )
            await self._store.delivered(entries)
            self._note_waiting(shard, len(found) - len(entries))
            for alert in alerts:
                self._causes.delivered(alert)
                log.info(
                    "alert delivered",
                    alert=alert.id,
                    state=alert.state,
                    product=alert.product_id,
                    channel=alert.channel,
                    share=round(alert.current_share, 3),
                    baseline=round(alert.baseline_share, 3),
                    historic=alert.historic,
                )

    def _headers_of(self, alert: Alert) -> Headers | None:
        header = self._causes.of(alert)
        return None if header is None else [(traceparent.HEADER, header)]

    def _note_waiting(self, shard: int, transitions: int) -> None:
        self._waiting_in[shard] = transitions
        self.waiting = sum(self._waiting_in.values())

    async def _send(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        started = time.perf_counter()
        try:
            acknowledgements = [
                await self._producer.send(
                    message.topic, message.key, message.value, None, None, message.headers
                )
                for message in messages
            ]
            await asyncio.gather(*acknowledgements)
        except KafkaError as error:
            raise DependencyError(f"Kafka did not take {len(messages)} records: {error!r}") from error
        self._meter.stage("publish", time.perf_counter() - started)


def _dead_letter(letter: Refused) -> Message:
    record = letter.record
    key, value = record.key, record.value
    headers = {
        "stage": letter.stage,
        "reason": letter.reason[:MAX_REASON_CHARS],
        "source_topic": record.topic,
        "source_partition": str(record.partition),
        "source_offset": str(record.offset),
        "failed_at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    size = len(key or b"") + len(value or b"")
    if size > MAX_LETTER_BYTES:
        headers["cut_from"] = str(size)
        key = key and key[:MAX_KEY_BYTES]
        value = value and value[: MAX_LETTER_BYTES - MAX_KEY_BYTES]
    encoded = [(name, text.encode("utf-8", "backslashreplace")) for name, text in headers.items()]
    redriven_from = dict(record.headers or ()).get("redriven_from")
    if redriven_from:
        encoded.append(("redriven_from", redriven_from[:MAX_KEY_BYTES]))
    caused_by = traceparent.of_record(record.headers)
    if caused_by is not None:
        encoded.append((traceparent.HEADER, caused_by))
    return Message(dead_letter_topic(record.topic), key, value, encoded)
