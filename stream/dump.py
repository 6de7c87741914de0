"""Counters and alerts as rows, and the columns of their tables.

Rules:
- Rows are made while they are written: what is held of 100,000 products is their ids, what of alerts their
  ids and sequences.
- Counters know no categories: they are read from the newest events in Kafka, by whom asks for them.
- JSON lines of alerts are as on the topic; those of counters have the columns' names.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from stream.client.alerts import AlertSubscriber
from stream.client.counters import LiveCounters
from stream.client.counts import PRODUCTS_A_TRIP, LiveLayout, ProductCounts
from stream.core.buckets import MINUTE_MS, WINDOWS
from stream.core.events import CHANNELS, Alert, Quote, event_time_ms
from stream.dump_formats import Column
from stream.errors import DependencyError, UsageError
from stream.priors import read_categories
from stream.redis_config import connect
from stream.redis_errors import REDIS_ERRORS, told
from stream.redis_trip import exchange

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from stream.client.counts import Question
    from stream.settings import Settings
    from stream.store.layout import Layout


# ---- Rows


class CountsRow(NamedTuple):
    """One product in one window."""

    as_of: datetime
    """When the window ends, UTC."""
    category: str | None
    counts: ProductCounts


def counter_rows(
    settings: Settings,
    windows: Sequence[str],
    *,
    now_ms: int,
    product_ids: Collection[str] = (),
    since_ms: int | None = None,
    category: str | None = None,
    records: int = 0,
) -> Iterator[CountsRow]:
    """The products that have events in these windows, by id; a row for each window.

    Args:
        settings: where Redis is, and Kafka if categories are asked for.
        windows: names of windows.
        now_ms: when they end, ms since the epoch.
        product_ids: only these, those without events too.
        since_ms: only products with an event since then.
        category: only products of this one.
        records: of Kafka's newest that are looked at for categories.

    Raises:
        UsageError: no such window.
        DependencyError: Redis or Kafka is away.
    """
    for window in windows:
        if window not in WINDOWS:
            raise UsageError(f"There is no window {window!r}: take some of {', '.join(WINDOWS)}.")
    asked = sorted(set(product_ids)) or known_products(settings, _begin_ms(windows, now_ms, since_ms))
    categories = categories_of(settings, asked, records)[0] if records else {}
    if category is not None:
        asked = [each for each in asked if categories.get(each) == category]
    as_of = datetime.fromtimestamp(now_ms / 1000, UTC)
    with LiveCounters(settings, now_ms=lambda: now_ms) as live:
        for start in range(0, len(asked), PRODUCTS_A_TRIP):
            some = asked[start : start + PRODUCTS_A_TRIP]
            for of_product in zip(*(live.get_many(some, window) for window in windows), strict=True):
                for counts in of_product:
                    if not product_ids and not counts.events:
                        continue
                    if since_ms is not None and _newest_ms(counts) < since_ms:
                        continue
                    yield CountsRow(as_of, categories.get(counts.product_id), counts)


def known_products(settings: Settings, since_ms: int | None = None) -> list[str]:
    """The ids of all products, or of those with an event since then, in order.

    Raises:
        DependencyError: Redis is away.
    """
    question = LiveLayout(settings.namespace).asked(lambda layout: _ask_known(layout, since_ms))
    try:
        with connect(settings) as client:
            commands = next(question)
            while True:
                commands = question.send(exchange(client, commands))
    except StopIteration as answered:
        known: list[str] = answered.value
        return known
    except REDIS_ERRORS as error:
        raise DependencyError(f"Cannot read the products. {told(error, settings.redis)}") from error


def _ask_known(layout: Layout, since_ms: int | None) -> Question[list[str]]:
    since = "-inf" if since_ms is None else since_ms - MINUTE_MS  # scores are whole minutes
    active = yield [
        ("ZRANGE", layout.active(shard), since, "+inf", "BYSCORE") for shard in range(layout.shards)
    ]
    return sorted(product.decode() for of_shard in active for product in of_shard)


def categories_of(settings: Settings, product_ids: Iterable[str], records: int) -> tuple[dict[str, str], int]:
    """The category of products, as their events in Kafka's newest records say; and how many were read.

    Redis knows none: a product without an event that states one among those records has none here.

    Raises:
        DependencyError: Kafka is away.
    """
    wanted = ((product_id, channel) for product_id in product_ids for channel in CHANNELS)
    found, read = read_categories(settings, wanted, records)
    return {product_id: category for (product_id, _), category in found.items()}, read


def _begin_ms(windows: Sequence[str], now_ms: int, since_ms: int | None) -> int | None:
    spans = [None if spec is None else spec[1] for spec in (WINDOWS[window] for window in windows)]
    longest = None if None in spans else now_ms - max(span for span in spans if span is not None)
    return since_ms if longest is None else max(longest, since_ms or 0)


def _newest_ms(counts: ProductCounts) -> int:
    return event_time_ms(counts.last_event_time) if counts.last_event_time else 0


def alert_rows(
    settings: Settings,
    *,
    transitions: bool = False,
    product_ids: Collection[str] = (),
    category: str | None = None,
    since_ms: int | None = None,
) -> Iterator[Alert]:
    """Alerts in their present state, or every transition that Kafka keeps.

    Args:
        settings: where Kafka is.
        transitions: every transition.
        product_ids: only theirs.
        category: only of this one.
        since_ms: only what happened since then, by the (last) transition.

    Raises:
        DependencyError: Kafka is away.
    """
    last = None if transitions else {alert.id: alert.sequence for alert in _kept(settings)}
    for alert in _kept(settings):
        if last is not None:
            if alert.sequence < last.get(alert.id, sys.maxsize):
                continue
            del last[alert.id]  # of what comes meanwhile, nothing twice
        if (
            (not product_ids or alert.product_id in product_ids)
            and category in (None, alert.category)
            and (since_ms is None or event_time_ms(datetime.fromisoformat(alert.at)) >= since_ms)
        ):
            yield alert


def _kept(settings: Settings) -> Iterator[Alert]:
    with AlertSubscriber(settings, from_beginning=True) as alerts:
        yield from alerts.available()


# ---- Columns


COUNTERS: tuple[Column[CountsRow], ...] = (
    Column("as_of", "time", lambda row: row.as_of),
    Column("product_id", "text", lambda row: row.counts.product_id),
    Column("category", "text", lambda row: row.category),
    Column("window", "text", lambda row: row.counts.window),
    Column("negative", "whole", lambda row: row.counts.negative),
    Column("neutral", "whole", lambda row: row.counts.neutral),
    Column("positive", "whole", lambda row: row.counts.positive),
    Column("events", "whole", lambda row: row.counts.events),
    Column("negative_share", "real", lambda row: row.counts.negative_share),
    Column("mean_sentiment", "real", lambda row: row.counts.mean_sentiment),
    Column("late", "whole", lambda row: row.counts.late),
    Column("first_event_time", "time", lambda row: row.counts.first_event_time),
    Column("last_event_time", "time", lambda row: row.counts.last_event_time),
)


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _quote(quote: Quote) -> dict[str, Any]:
    return {**msgspec.to_builtins(quote), "event_time": _at(quote.event_time)}


ALERTS: tuple[Column[Alert], ...] = (
    Column("id", "text", lambda alert: alert.id),
    Column("sequence", "whole", lambda alert: alert.sequence),
    Column("state", "text", lambda alert: alert.state),
    Column("severity", "text", lambda alert: alert.severity),
    Column("rule", "text", lambda alert: alert.rule),
    Column("resolution", "text", lambda alert: alert.resolution),
    Column("product_id", "text", lambda alert: alert.product_id),
    Column("category", "text", lambda alert: alert.category),
    Column("channel", "text", lambda alert: alert.channel),
    Column("at", "time", lambda alert: _at(alert.at)),
    Column("onset", "time", lambda alert: _at(alert.onset)),
    Column("duration_s", "real", lambda alert: alert.duration_s),
    Column("events", "whole", lambda alert: alert.events),
    Column("negatives", "whole", lambda alert: alert.negatives),
    Column("current_share", "real", lambda alert: alert.current_share),
    Column("current_low", "real", lambda alert: alert.current_interval[0]),
    Column("current_high", "real", lambda alert: alert.current_interval[1]),
    Column("baseline_share", "real", lambda alert: alert.baseline_share),
    Column("baseline_low", "real", lambda alert: alert.baseline_interval[0]),
    Column("baseline_high", "real", lambda alert: alert.baseline_interval[1]),
    Column("baseline_events", "real", lambda alert: alert.baseline_events),
    Column("peak_share", "real", lambda alert: alert.peak_share),
    Column("distinct_authors", "whole", lambda alert: alert.distinct_authors),
    Column("false_alarm_run_length", "real", lambda alert: alert.false_alarm_run_length),
    Column("historic", "flag", lambda alert: alert.historic),
    Column("model_version", "text", lambda alert: alert.model_version),
    Column("vocabulary", "text", lambda alert: alert.vocabulary),
    Column("priors", "text", lambda alert: alert.priors),
    Column(
        "phrases",
        "list",
        lambda alert: msgspec.to_builtins(alert.phrases),
        {"text": "text", "complaints": "whole", "share": "real"},
    ),
    Column(
        "summary",
        "list",
        lambda alert: msgspec.to_builtins(alert.summary),
        {"text": "text", "complaints": "whole"},
    ),
    Column(
        "quotes",
        "list",
        lambda alert: [_quote(each) for each in alert.quotes],
        {"event_id": "text", "text": "text", "p_negative": "real", "event_time": "time"},
    ),
)
