"""What the live counters say, and how it is read: commands out, replies in, no I/O.

Rules:
- A question is a generator: it yields lists of Redis commands, is sent their replies, and returns its
  answer. ``LiveCounters`` and ``AsyncLiveCounters`` drive the same questions.
- Where to look is read from Redis, never configured: each list of commands ends with the layout key, and when
  that has changed the question is asked again. So a reader follows a switch to another generation of counters
  at no extra round trip. The layout comes last, for a generation is removed only after it was switched from.
- Counts of a window are sums of whole buckets (see ``stream.core.buckets``): at least the window, at most
  one bucket more. ``late`` and the first and last event times are all-time, whatever the window.
- A series is the buckets of a window, up to the one that is now: what producers' clocks put ahead of it shows
  when its time has come. An empty bucket is zeros.
- The fleet's counters are those of all products together, kept by the steps themselves and read as a
  product's are. They begin with the first worker that kept them.
- Leaders by negative share are ordered by the lower end of the share's interval, so that one complaint out
  of one review does not lead over 900 out of 1,000.
"""

from __future__ import annotations

import heapq
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeVar, get_args

import msgspec

from stream.core.baseline import shares_of
from stream.core.buckets import CODES, MINUTE_MS, WINDOWS, window_fields
from stream.core.events import CHANNELS, Channel
from stream.errors import DependencyError, UsageError
from stream.store.contract import log_partition, plain_partition
from stream.store.layout import NO_OFFSETS, Layout, UnknownLayout, read_written
from stream.store.missing import Missing, union
from stream.store.values import CURRENT, TOTAL, slot_of, unpack_current, unpack_slot, unpack_total

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

Command: TypeAlias = tuple[str | bytes | int | float, ...]
Commands: TypeAlias = "list[Command]"
Replies: TypeAlias = "list[Any]"
A = TypeVar("A")
Question: TypeAlias = "Generator[Commands, Replies, A]"

LeaderBy = Literal["negative_share", "negative", "events"]
LEADER_ORDERS: tuple[LeaderBy, ...] = get_args(LeaderBy)

SERIES_WINDOWS = ("1h", "24h", "7d")
"""In minutes, hours and quarter-days. What has no resolution of its own has no series."""

PRODUCTS_A_TRIP = 512
"""Products asked for in one pipeline: large enough to hide the round trip, small enough that Redis serves
the workers in between and the replies (about 1 KB a product) stay small."""

IDS_A_TRIP = 10_000
"""Product ids of a shard read at once: some 2 ms of Redis."""

SLOTS_BY_NAME = 16
"""Most fields that are asked for by name. Redis looks each up from the start of the hash, so beyond that the
whole hash is cheaper for it: 18 instead of 61 µs for the 66 fields of an hour."""


class ProductCounts(msgspec.Struct, frozen=True, kw_only=True):
    """One product's counters in one window.

    >>> counts = ProductCounts.of("B001", "1h", (3, 1, 6, 2_500))
    >>> counts.events, counts.negative_share, counts.mean_sentiment
    (10, 0.3, 0.25)
    """

    product_id: str
    window: str
    negative: int
    neutral: int
    positive: int
    events: int
    """The three counts added up."""
    negative_share: float | None
    """``negative / events``; None when the window holds no event."""
    mean_sentiment: float | None
    """Mean of P(positive) - P(negative), in [-1, 1]; None when the window holds no event."""
    late: int
    """Events, all-time, that reached Kafka long after their own time (``REVIEWPULSE_LATE_AFTER_S``)."""
    first_event_time: datetime | None
    """Earliest event time of the product, all-time, in UTC."""
    last_event_time: datetime | None
    """Latest event time of the product, all-time, in UTC."""

    @classmethod
    def of(
        cls,
        product_id: str,
        window: str,
        sums: Sequence[int],
        *,
        late: int = 0,
        first_event_ms: int | None = None,
        last_event_ms: int | None = None,
    ) -> ProductCounts:
        """Counts from sums.

        Args:
            product_id: whose they are.
            window: which window they are of.
            sums: negative, neutral, positive, and the sum of sentiment in thousandths.
            late: late events, all-time.
            first_event_ms: earliest event time, ms since the epoch.
            last_event_ms: latest event time, ms since the epoch.
        """
        negative, neutral, positive, sentiment_milli = sums
        events = negative + neutral + positive
        return cls(
            product_id=product_id,
            window=window,
            negative=negative,
            neutral=neutral,
            positive=positive,
            events=events,
            negative_share=negative / events if events else None,
            mean_sentiment=sentiment_milli / 1000 / events if events else None,
            late=late,
            first_event_time=_utc(first_event_ms),
            last_event_time=_utc(last_event_ms),
        )


class SeriesPoint(msgspec.Struct, frozen=True):
    """One bucket of a series."""

    at: datetime
    """Its begin, in UTC."""
    negative: int
    neutral: int
    positive: int
    mean_sentiment: float | None
    """None when it holds no event."""


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Counts over time, oldest first."""

    product_id: str | None
    """None: of the whole fleet."""
    window: str
    width_s: int
    """Of a bucket."""
    points: list[SeriesPoint]


class Figures(msgspec.Struct, frozen=True):
    """What a live view shows of a product."""

    counters: list[ProductCounts]
    """In every window."""
    tail: Series
    """The end of its series of an hour."""


class Baseline(msgspec.Struct, frozen=True):
    """The share of negatives that is usual for a product on a channel."""

    channel: Channel
    share: float
    interval: tuple[float, float]
    """95%."""
    events: float
    """Weight of the evidence behind it, prior included."""


class ChannelTotals(msgspec.Struct, frozen=True, kw_only=True):
    """What became of every event of a channel."""

    counted: int = 0
    dead: int = 0
    """Dead letters."""
    skipped: int = 0
    """Skipped by rule: the shop's own lines in chats."""
    duplicate: int = 0
    """Sent again after they were counted."""
    late: int = 0
    """Those of ``counted`` that came late."""
    missing: int = 0
    """Offsets that are listed as deleted by Kafka's retention before they were counted, or before all of them
    were. Not among those that ended."""

    @property
    def ended(self) -> int:
        """All that were applied: each is counted, dead, skipped or duplicate."""
        return self.counted + self.dead + self.skipped + self.duplicate


class Fleet(msgspec.Struct, frozen=True):
    """All products together."""

    windows: list[ProductCounts]
    """Their ``product_id`` is empty."""
    products: int
    """Known so far."""
    totals: dict[str, ChannelTotals]


class _Wanted(NamedTuple):
    """What a window asks of a product's hash; nothing of ``buckets`` for all-time."""

    buckets: range
    slots: list[bytes]
    """Where they lie, unless they are current."""
    laps: dict[bytes, int]
    """What those slots must say."""


class LiveLayout:
    """Where the live counters are, as far as a reader knows. Threads may share one.

    Before the first event there is no layout: one shard is then as empty as any other number of them.

    Args:
        namespace: prefix of every key.
    """

    def __init__(self, namespace: str) -> None:
        self._known: tuple[bytes | None, Layout] = (None, Layout(namespace, 1))

    @property
    def layout(self) -> Layout:
        """Where they were when something was read last."""
        return self._known[1]

    def asked(self, question: Callable[[Layout], Question[A]]) -> Question[A]:
        """A question about the live counters, whichever they are by the time it is answered.

        Raises:
            DependencyError: another version of Reviewpulse wrote the layout.
        """
        while True:
            _, layout = self._known
            asking = question(layout)
            try:
                commands = next(asking)
                while True:
                    *replies, written = yield [*commands, ("GET", layout.layout_key)]
                    if self._learn(written) != layout:
                        break
                    commands = asking.send(replies)
            except StopIteration as answered:
                answer: A = answered.value
                return answer

    def _learn(self, written: bytes | None) -> Layout:
        known, layout = self._known
        if written is None or written == known:
            return layout
        try:
            layout = read_written(written).layout(layout.namespace)
        except UnknownLayout as error:
            raise DependencyError(
                f"Redis holds {error} under the namespace {layout.namespace!r}, which this version of"
                " reviewpulse cannot read: use the version that the workers run."
            ) from None
        self._known = (written, layout)
        return layout


def ask_products(
    layout: Layout, product_ids: Sequence[str], window: str, now_ms: int
) -> Question[list[ProductCounts]]:
    """Counts of some products in one window, in the order asked; zeros for one that was never seen.

    Raises:
        UsageError: no such window.
    """
    wanted = _wanted(window, now_ms)
    found: list[ProductCounts] = []
    for some in _chunks(product_ids, PRODUCTS_A_TRIP):
        replies = yield [_read_product(layout, each, wanted) for each in some]
        found.extend(_counts(each, window, wanted, reply) for each, reply in zip(some, replies, strict=True))
    return found


def ask_windows(
    layout: Layout, product_id: str, windows: Sequence[str], now_ms: int
) -> Question[list[ProductCounts]]:
    """Counts of one product in several windows, in the order asked.

    Raises:
        UsageError: no such window.
    """
    wanted = {window: _wanted(window, now_ms) for window in windows}
    replies = yield [_read_product(layout, product_id, wanted[window]) for window in windows]
    return [
        _counts(product_id, window, wanted[window], reply)
        for window, reply in zip(windows, replies, strict=True)
    ]


def ask_leaders(
    layout: Layout, window: str, now_ms: int, *, by: LeaderBy, min_events: int, limit: int
) -> Question[list[ProductCounts]]:
    """The products that lead in a window, best first.

    Raises:
        UsageError: no such window or order.
    """
    if by not in LEADER_ORDERS:
        raise UsageError(f"There is no order {by!r}: take one of {', '.join(LEADER_ORDERS)}.")
    span_ms = _span_ms(window)
    since = "-inf" if span_ms is None else now_ms - span_ms - MINUTE_MS  # scores are whole minutes
    active = yield [
        ("ZRANGE", layout.active(shard), since, "+inf", "BYSCORE") for shard in range(layout.shards)
    ]
    candidates = [product.decode() for of_shard in active for product in of_shard]
    best: list[ProductCounts] = []
    wanted = _wanted(window, now_ms)
    for some in _chunks(candidates, PRODUCTS_A_TRIP):
        replies = yield [_read_product(layout, each, wanted) for each in some]
        seen = (_counts(each, window, wanted, reply) for each, reply in zip(some, replies, strict=True))
        best = leading([*best, *(each for each in seen if each.events >= max(min_events, 1))], by, limit)
    return best


def ask_totals(layout: Layout, topics: Mapping[str, str]) -> Question[dict[str, ChannelTotals]]:
    """What became of all events, by channel.

    Args:
        layout: where the counters are.
        topics: by channel. What is missing of another topic is told under that topic's name.
    """
    shards = range(layout.shards)
    replies = yield [
        *(("HGETALL", layout.ledger(shard)) for shard in shards),
        *(("HGETALL", layout.missing(shard)) for shard in shards),
    ]
    ledgers, lists = replies[: layout.shards], replies[layout.shards :]
    sums: dict[str, dict[str, int]] = {channel: {} for channel in CHANNELS}
    for ledger in ledgers:
        for field, count in _pairs(ledger):
            channel, _, outcome = field.decode().partition(":")
            of_channel = sums.setdefault(channel, {})
            of_channel[outcome] = of_channel.get(outcome, 0) + int(count)
    channels = {topic: channel for channel, topic in topics.items()}
    for each in missing_in(lists):
        topic = each.partition.rpartition(":")[0]
        of_channel = sums.setdefault(channels.get(topic, topic), {})
        of_channel["missing"] = of_channel.get("missing", 0) + each.offsets
    return {channel: msgspec.convert(outcomes, ChannelTotals) for channel, outcomes in sums.items()}


def ask_series(
    layout: Layout, product_id: str | None, windows: Sequence[str], now_ms: int
) -> Question[list[Series]]:
    """Counts over time in some windows, of a product or of the fleet: one round trip.

    Raises:
        UsageError: a window has no series.
    """
    for window in windows:
        if window not in SERIES_WINDOWS:
            raise UsageError(f"There is no series of {window!r}: take one of {', '.join(SERIES_WINDOWS)}.")
    keys = _fleet_keys(layout) if product_id is None else [layout.product(product_id)]
    replies = yield [("HGETALL", key) for key in keys]
    return _series(product_id, [dict(_pairs(reply)) for reply in replies], windows, now_ms)


def ask_figures(
    layout: Layout, product_ids: Sequence[str], points: int, now_ms: int
) -> Question[list[Figures]]:
    """All windows of some products and the last minutes of their series, one read of each product's hash."""
    wanted = {window: _wanted(window, now_ms) for window in WINDOWS}
    found: list[Figures] = []
    for some in _chunks(product_ids, PRODUCTS_A_TRIP):
        replies = yield [("HGETALL", layout.product(each)) for each in some]
        for product_id, reply in zip(some, replies, strict=True):
            held = dict(_pairs(reply))
            counters = [
                _counts(product_id, window, wants, _as_replied(held, wants))
                for window, wants in wanted.items()
            ]
            (series,) = _series(product_id, [held], ["1h"], now_ms, points)
            found.append(Figures(counters, series))
    return found


def ask_fleet(
    layout: Layout, windows: Sequence[str], topics: Mapping[str, str], now_ms: int
) -> Question[Fleet]:
    """Counts of all products together, how many there are, and what became of all events: one round trip.

    Raises:
        UsageError: no such window.
    """
    wanted = {window: _wanted(window, now_ms) for window in windows}
    shards = range(layout.shards)
    keys = _fleet_keys(layout)
    totals = ask_totals(layout, topics)
    asked = next(totals)
    replies = yield [
        *(("HGETALL", key) for key in keys),
        *(("ZCARD", layout.active(shard)) for shard in shards),
        *asked,
    ]
    held = [dict(_pairs(reply)) for reply in replies[: len(keys)]]
    products = sum(replies[len(keys) : 2 * len(keys)])
    counts = []
    for window, wants in wanted.items():
        of_shards = [_counts("", window, wants, _as_replied(each, wants)) for each in held]
        counts.append(_together(window, of_shards))
    try:
        totals.send(replies[2 * len(keys) :])
    except StopIteration as answered:
        return Fleet(counts, products, answered.value)
    raise AssertionError("totals are one round trip")


def ask_baselines(layout: Layout, product_id: str) -> Question[list[Baseline]]:
    """What is usual for a product, by channel.

    Nothing of a channel that was never seen, or whose state another version wrote.
    """
    states = yield [("GET", layout.spike(channel, product_id)) for channel in CHANNELS]
    found = [(channel, shares_of(state)) for channel, state in zip(CHANNELS, states, strict=True)]
    return [Baseline(channel, *shares) for channel, shares in found if shares is not None]


def ask_active(layout: Layout, since_ms: int | None) -> Question[tuple[Layout, list[str]]]:
    """Products that had an event lately, and where that was read.

    All products are read in several round trips, so that Redis serves the workers in between. Products that
    move on meanwhile may be read twice, or not at all: compare with how many there are.

    Args:
        layout: where the counters are.
        since_ms: events before the minute that this lies in do not count; None asks for every product.
    """
    shards = list(range(layout.shards))
    if since_ms is not None:
        since = since_ms - since_ms % MINUTE_MS
        active = yield [("ZRANGE", layout.active(shard), since, "+inf", "BYSCORE") for shard in shards]
        return layout, [product.decode() for of_shard in active for product in of_shard]
    found: list[str] = []
    first = 0
    while shards:
        active = yield [("ZRANGE", layout.active(shard), first, first + IDS_A_TRIP - 1) for shard in shards]
        found.extend(product.decode() for of_shard in active for product in of_shard)
        shards = [shard for shard, read in zip(shards, active, strict=True) if len(read) == IDS_A_TRIP]
        first += IDS_A_TRIP
    return layout, list(dict.fromkeys(found))


def ask_applied(layout: Layout) -> Question[dict[str, int]]:
    """Highest offset that the counters of every shard contain, by ``topic:number``, of the logs read last."""
    noted, *by_shard = yield [
        ("HGETALL", layout.logs),
        *(("HGETALL", layout.offsets(shard)) for shard in range(layout.shards)),
    ]
    logs = {name.decode(): log.decode() for name, log in _pairs(noted)}
    stored = [
        {name.decode(): int(at) for name, at in _pairs(each) if name not in NO_OFFSETS} for each in by_shard
    ]
    names = {name for each in stored for name in each}
    return {
        plain: min(each.get(name, -1) for each in stored)
        for name in names
        if name == log_partition(plain := plain_partition(name), logs.get(plain, ""))
    }


def best_matches(product_ids: Iterable[str], search: str, limit: int) -> list[str]:
    """Products whose ids contain a text, whatever the case.

    First those that begin with it, and of these the shorter ones.

    >>> best_matches(["a-lamp", "Lamp", "lamp-2", "kettle"], "lamp", 3)
    ['Lamp', 'lamp-2', 'a-lamp']
    """
    wanted = search.casefold()

    def rank(product_id: str) -> tuple[bool, int, str]:
        return not product_id.casefold().startswith(wanted), len(product_id), product_id

    return heapq.nsmallest(limit, (each for each in product_ids if wanted in each.casefold()), key=rank)


def _as_replied(held: Mapping[bytes, bytes], wanted: _Wanted) -> Any:
    """What Redis would answer to ``_read_product`` about a hash that is known whole."""
    if len(wanted.buckets) > SLOTS_BY_NAME:
        return held
    names = (TOTAL, CURRENT, *wanted.slots) if wanted.buckets else (TOTAL,)
    return [held.get(name) for name in names]


def _fleet_keys(layout: Layout) -> list[str]:
    return [layout.fleet(shard) for shard in range(layout.shards)]


def _together(window: str, of_shards: Sequence[ProductCounts]) -> ProductCounts:
    """Counts of all shards together."""
    sentiment = sum(round((each.mean_sentiment or 0.0) * each.events * 1000) for each in of_shards)
    first = min((each.first_event_time for each in of_shards if each.first_event_time), default=None)
    last = max((each.last_event_time for each in of_shards if each.last_event_time), default=None)
    return msgspec.structs.replace(
        ProductCounts.of(
            "",
            window,
            (
                sum(each.negative for each in of_shards),
                sum(each.neutral for each in of_shards),
                sum(each.positive for each in of_shards),
                sentiment,
            ),
            late=sum(each.late for each in of_shards),
        ),
        first_event_time=first,
        last_event_time=last,
    )


def _series(
    product_id: str | None,
    hashes: Sequence[Mapping[bytes, bytes]],
    windows: Sequence[str],
    now_ms: int,
    last: int | None = None,
) -> list[Series]:
    """Series of hashes together; only the ``last`` points where that is given."""
    held = [(hash_, unpack_total(hash_[TOTAL])) for hash_ in hashes if TOTAL in hash_]
    currents = [unpack_current(hash_[CURRENT], total.last_event_ms) for hash_, total in held]
    made = []
    for window in windows:
        spec, buckets = WINDOWS[window], window_fields(window, now_ms)
        assert spec is not None
        assert buckets is not None
        resolution, _ = spec
        points = []
        until_now = [each for each in buckets if each // CODES * resolution.width_ms <= now_ms]
        for bucket in until_now if last is None else until_now[-last:]:
            at_ms = bucket // CODES * resolution.width_ms
            slot = slot_of(bucket)
            name = b"%d" % slot.name
            found = [
                current[bucket] if bucket in current else unpack_slot(hash_.get(name), slot.lap)
                for (hash_, _), current in zip(held, currents, strict=True)
            ]
            sums = [sum(column) for column in zip(*filter(None, found), strict=True)] or [0, 0, 0, 0]
            negative, neutral, positive, sentiment_milli = sums
            events = negative + neutral + positive
            mean = sentiment_milli / 1000 / events if events else None
            points.append(SeriesPoint(_at(at_ms), negative, neutral, positive, mean))
        made.append(
            Series(product_id=product_id, window=window, width_s=resolution.width_ms // 1000, points=points)
        )
    return made


def missing_in(replies: Iterable[Any]) -> list[Missing]:
    """What is missing by all shards' lists, as HGETALL answers with them."""
    return union((name.decode(), ranges.decode()) for reply in replies for name, ranges in _pairs(reply))


def leading(products: Iterable[ProductCounts], by: LeaderBy, limit: int) -> list[ProductCounts]:
    """The first ``limit`` of ``products`` in an order; ties go to more events, then to the lesser id.

    >>> one_of_one = ProductCounts.of("new", "all", (1, 0, 0, -900))
    >>> many = ProductCounts.of("bad", "all", (900, 0, 100, -800_000))
    >>> [each.product_id for each in leading([one_of_one, many], "negative_share", 2)]
    ['bad', 'new']
    """

    def rank(counts: ProductCounts) -> tuple[float, int, str]:
        if by == "negative_share":
            merit = wilson_lower(counts.negative, counts.events)
        else:
            merit = counts.negative if by == "negative" else counts.events
        return -merit, -counts.events, counts.product_id

    return heapq.nsmallest(limit, products, key=rank)


def wilson_lower(successes: int, trials: int, z: float = 1.96) -> float:
    """Lower end of the Wilson score interval of a share (Wilson 1927); 95% with the default ``z``.

    >>> round(wilson_lower(1, 1), 3), round(wilson_lower(900, 1000), 3), wilson_lower(0, 0)
    (0.207, 0.88, 0.0)
    """
    if not successes:
        return 0.0  # what the formula says, but for rounding
    share = successes / trials
    centre = share + z * z / (2 * trials)
    half_width = z * math.sqrt((share * (1 - share) + z * z / (4 * trials)) / trials)
    return max(0.0, (centre - half_width) / (1 + z * z / trials))


def _span_ms(window: str) -> int | None:
    if window not in WINDOWS:
        raise UsageError(f"There is no window {window!r}: take one of {', '.join(WINDOWS)}.")
    spec = WINDOWS[window]
    return None if spec is None else spec[1]


def _wanted(window: str, now_ms: int) -> _Wanted:
    _span_ms(window)
    buckets = window_fields(window, now_ms) or range(0)
    slots = [slot_of(bucket) for bucket in buckets]
    names = [b"%d" % slot.name for slot in slots]
    return _Wanted(buckets, names, dict(zip(names, (slot.lap for slot in slots), strict=True)))


def _read_product(layout: Layout, product_id: str, wanted: _Wanted) -> Command:
    key = layout.product(product_id)
    if not wanted.buckets:
        return ("HMGET", key, TOTAL)
    if len(wanted.buckets) > SLOTS_BY_NAME:
        return ("HGETALL", key)
    return ("HMGET", key, TOTAL, CURRENT, *wanted.slots)


def _counts(product_id: str, window: str, wanted: _Wanted, reply: Any) -> ProductCounts:
    if len(wanted.buckets) > SLOTS_BY_NAME:
        held = dict(_pairs(reply))
        packed_total, packed_current = held.get(TOTAL), held.get(CURRENT)
    else:
        packed_total, *buckets = reply
        packed_current = buckets[0] if buckets else None
        held = dict(zip(wanted.slots, buckets[1:], strict=True)) if buckets else {}
    if packed_total is None:
        return ProductCounts.of(product_id, window, (0, 0, 0, 0))
    total = unpack_total(packed_total)
    return ProductCounts.of(
        product_id,
        window,
        _sum_of(wanted, packed_current, held, total.last_event_ms) if wanted.buckets else total.sums,
        late=total.late,
        first_event_ms=total.first_event_ms,
        last_event_ms=total.last_event_ms,
    )


def _sum_of(
    wanted: _Wanted, packed_current: bytes | None, held: Mapping[bytes, bytes | None], last_event_ms: int
) -> Sequence[int]:
    """Sums of the buckets of a window, of what a hash holds: most products hold few of those wanted."""
    current = unpack_current(packed_current, last_event_ms) if packed_current else {}
    sums = [counts for bucket, counts in current.items() if bucket in wanted.buckets]
    laps = wanted.laps
    for name, packed in held.items():
        lap = laps.get(name)
        if lap is not None and (counts := unpack_slot(packed, lap)) is not None:
            sums.append(counts)
    return [sum(column) for column in zip(*sums, strict=True)] or (0, 0, 0, 0)


def _pairs(reply: Any) -> Iterable[tuple[bytes, bytes]]:
    """HGETALL's answer as pairs: redis-py gives a dict, a raw reply is a flat list."""
    if isinstance(reply, dict):
        return reply.items()
    return zip(reply[::2], reply[1::2], strict=True)


def _chunks(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _utc(ms: int | None) -> datetime | None:
    return None if ms is None else _at(ms)


def _at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
