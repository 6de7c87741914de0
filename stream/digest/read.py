"""What a digest is made of, read from Redis and Kafka.

Rules:
- Reading never writes, and workers go on meanwhile.
- Counts are by event time. Alerts and dead letters are by when events reached Kafka and were refused.
- Counters know no categories: a product's is the one that its events among Kafka's newest state, else the one
  its alerts state, else none.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from stream.client.counters import LiveCounters
from stream.client.counts import PRODUCTS_A_TRIP, ChannelTotals, LiveLayout
from stream.core.events import Alert, event_time_ms
from stream.core.mask import excerpt
from stream.dead_letters import read_letters
from stream.dump import alert_rows, categories_of, known_products
from stream.errors import DependencyError
from stream.redis_config import connect
from stream.redis_errors import REDIS_ERRORS, told
from stream.redis_trip import exchange
from stream.store.values import CURRENT, TOTAL, slot_of, unpack_current, unpack_slot, unpack_total

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from stream.client.counts import Question
    from stream.digest.period import Period
    from stream.settings import Settings
    from stream.store.layout import Layout
    from stream.store.values import Sums

MOST_REASONS = 1_000
"""Kinds of dead letters that are told apart: a reason may quote its event, and then each is another."""
REASON_CHARS = 160


class Tally(NamedTuple):
    """Events of a span by label."""

    negative: int = 0
    neutral: int = 0
    positive: int = 0

    @property
    def events(self) -> int:
        """All of them."""
        return self.negative + self.neutral + self.positive

    @property
    def share(self) -> float | None:
        """Of negatives; None without events."""
        return self.negative / self.events if self.events else None

    def plus(self, other: Tally) -> Tally:
        """Both together.

        >>> Tally(1, 0, 2).plus(Tally(0, 1, 1))
        Tally(negative=1, neutral=1, positive=3)
        """
        return Tally(*(mine + yours for mine, yours in zip(self, other, strict=True)))


class Product(NamedTuple):
    """A product in the period, and in the days before."""

    product_id: str
    category: str | None
    now: Tally
    before: Tally


class Refusal(NamedTuple):
    """Dead letters of one kind."""

    stage: str
    reason: str
    """Personal data masked, for it may quote an event."""
    letters: int


class Material(NamedTuple):
    """All a digest is made of."""

    period: Period
    products: list[Product]
    """Those with events in the period."""
    alerts: list[tuple[str | None, Alert]]
    """Those that fired at any time in the period, as they are now, with the product's category."""
    refusals: list[Refusal]
    """Dead letters of the period, the most frequent kind first."""
    totals: dict[str, ChannelTotals]
    """What became of every event since counting began, by channel."""
    records: int
    """Kafka's newest events that were looked at for categories."""


def read(settings: Settings, period: Period, most_records: int) -> Material:
    """Reads all of it.

    Args:
        settings: where Kafka and Redis are.
        period: which span of time.
        most_records: of Kafka's newest events that are looked at for categories.

    Raises:
        DependencyError: Kafka or Redis is away.
    """
    ids = known_products(settings, period.begin_ms)
    counted = [each for each in _counts(settings, ids, period) if each[1].events]
    alerts = [each for each in alert_rows(settings) if _is_in(each, period)]
    named = {each[0] for each in counted} | {each.product_id for each in alerts}
    categories, records = categories_of(settings, named, most_records)
    for alert in alerts:
        if alert.category is not None:
            categories.setdefault(alert.product_id, alert.category)
    with LiveCounters(settings) as live:
        totals = live.totals()
    return Material(
        period,
        [Product(product_id, categories.get(product_id), *tallies) for product_id, *tallies in counted],
        [(categories.get(alert.product_id), alert) for alert in alerts],
        _refusals(settings, period),
        totals,
        records,
    )


def fired_ms(alert: Alert) -> int:
    """When its rise began, ms since the epoch."""
    return event_time_ms(datetime.fromisoformat(alert.onset))


def changed_ms(alert: Alert) -> int:
    """When its last transition was, ms since the epoch."""
    return event_time_ms(datetime.fromisoformat(alert.at))


def _is_in(alert: Alert, period: Period) -> bool:
    is_before = alert.state == "resolved" and changed_ms(alert) < period.begin_ms
    return fired_ms(alert) < period.end_ms and not is_before


def _counts(
    settings: Settings, product_ids: Sequence[str], period: Period
) -> Iterator[tuple[str, Tally, Tally]]:
    live = LiveLayout(settings.namespace)
    with connect(settings) as client:
        for start in range(0, len(product_ids), PRODUCTS_A_TRIP):
            some = product_ids[start : start + PRODUCTS_A_TRIP]
            question = live.asked(partial(_ask_hashes, product_ids=some))
            try:
                commands = next(question)
                while True:
                    commands = question.send(exchange(client, commands))
            except StopIteration as answered:
                hashes: list[Mapping[bytes, bytes]] = answered.value
            except REDIS_ERRORS as error:
                raise DependencyError(f"Cannot read counters. {told(error, settings.redis)}") from error
            for product_id, held in zip(some, hashes, strict=True):
                yield product_id, tally(held, period.buckets), tally(held, period.before)


def _ask_hashes(layout: Layout, product_ids: Sequence[str]) -> Question[list[Mapping[bytes, bytes]]]:
    replies = yield [("HGETALL", layout.product(each)) for each in product_ids]
    return [
        each if isinstance(each, dict) else dict(zip(each[::2], each[1::2], strict=True)) for each in replies
    ]


def tally(held: Mapping[bytes, bytes], buckets: range) -> Tally:
    """Sums of some buckets of a product's hash.

    Args:
        held: the hash.
        buckets: fields, all of one resolution.
    """
    packed_total = held.get(TOTAL)
    if packed_total is None:
        return Tally()
    last_event_ms = unpack_total(packed_total).last_event_ms
    current = unpack_current(held[CURRENT], last_event_ms) if CURRENT in held else {}
    return _sum(_found(held, current, buckets))


def _found(held: Mapping[bytes, bytes], current: Mapping[int, Sums], buckets: range) -> Iterator[Sums]:
    for bucket in buckets:
        if bucket in current:
            yield current[bucket]
        slot = slot_of(bucket)
        if (sums := unpack_slot(held.get(b"%d" % slot.name), slot.lap)) is not None:
            yield sums


def _sum(found: Iterable[Sums]) -> Tally:
    whole = Tally()
    for negative, neutral, positive, _ in found:
        whole = whole.plus(Tally(negative, neutral, positive))
    return whole


def _refusals(settings: Settings, period: Period) -> list[Refusal]:
    kinds: Counter[tuple[str, str]] = Counter()
    for letter in read_letters(settings, settings.topics.values()):
        try:
            at_ms = event_time_ms(datetime.fromisoformat(letter.failed_at))
        except (ValueError, TypeError):
            continue  # somebody else's letter, which says no time
        if not period.begin_ms <= at_ms < period.end_ms:
            continue
        kind = letter.stage, excerpt(letter.reason, REASON_CHARS)
        if kind not in kinds and len(kinds) >= MOST_REASONS:
            kind = letter.stage, "…"
        kinds[kind] += 1
    return [Refusal(*kind, letters) for kind, letters in kinds.most_common()]
