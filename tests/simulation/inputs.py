"""What producers send, and what must become of it: worked out from the records one by one, by other code.

Rules:
- Every verdict here is reached without the product's code, but for the width and retention of buckets.
- A record's verdict depends on the record alone. Whether it is a duplicate is ``recount``'s to say: that
  depends on those before it in its partition.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import ConsumerRecord
from faust.types import TP

from stream.core.buckets import RESOLUTIONS
from tests.builders import NOW_MS, chat, review

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

R0, R1, C0 = TP("reviews", 0), TP("reviews", 1), TP("chats", 0)
PARTITIONS = (R0, R1, C0)
NAMES = {tp: f"{tp.topic}:{tp.partition}" for tp in PARTITIONS}
OWNERS = {"kettle": R0, "lamp": R1, "灯": R0, "rug": R1}
"""Which reviews partition a product's key leads to."""
PRODUCTS = tuple(OWNERS)

TEXTS = ("It boils.", "bad kettle", "so bad it hurts", "fine", "It is a lamp.", "bad, alarm", "so so")
"""All of them can be scored; "bad" is negative, "alarm" a transition."""
KILLER = "kills who reads it"
SEGMENT_OFFSETS, SEGMENTS_KEPT = 8, 1
"""How far back a duplicate is one: short, so that a schedule has both kinds."""
AGES_MS = (0, 1000, 90_000, 4_000_000, 100_000_000)
LATE_AFTER_MS = 3_600_000
ALLOWED_SKEW_MS = 300_000


class Verdict(NamedTuple):
    """What must become of a record."""

    offset: int
    outcome: str
    """counted (or duplicate, which ``recount`` finds out), dead or skipped."""
    product_id: str = ""
    event_id: str = ""
    event_ms: int = 0
    is_late: bool = False
    is_negative: bool = False
    is_alarm: bool = False


def draw_record(chance: random.Random, tp: TP, offset: int, number: int, arrival_ms: int) -> ConsumerRecord:
    """A record of partition ``tp``: mostly an event, now and then something else."""
    product = PRODUCTS[int(chance.random() * 4)]
    while tp is not C0 and OWNERS[product] is not tp:
        product = PRODUCTS[int(chance.random() * 4)]
    text = TEXTS[int(chance.random() * len(TEXTS))]
    age_ms = AGES_MS[int(chance.random() * len(AGES_MS))]
    kind = chance.random()
    if kind < 0.03:
        text = "poison"
    elif kind < 0.05:
        text = " "
    elif kind < 0.06:
        age_ms = -ALLOWED_SKEW_MS - 1
    fields = {"product_id": product, "text": text, "event_time": arrival_ms - age_ms}
    if tp is C0:
        role = "agent" if chance.random() < 0.2 else "customer"
        value: dict[str, Any] = chat(number, role=role, **fields)
    else:
        value = review(number, **fields)
    raw: bytes | None = json.dumps(value).encode()
    if kind > 0.98:
        raw = b"{" if kind > 0.99 else None
    return _record(tp, offset, product.encode(), raw, arrival_ms)


def sent_again(record: ConsumerRecord, offset: int, arrival_ms: int) -> ConsumerRecord:
    """The same record once more, from a producer that had no answer to its first."""
    return dataclasses.replace(record, offset=offset, timestamp=arrival_ms)


def plain_record(tp: TP, offset: int, number: int, arrival_ms: int, text: str = "fine") -> ConsumerRecord:
    """An event with a text of one's choice."""
    product = next(product for product, owner in OWNERS.items() if tp is C0 or owner is tp)
    fields = {"product_id": product, "text": text, "event_time": arrival_ms}
    value = chat(number, **fields) if tp is C0 else review(number, **fields)
    return _record(tp, offset, product.encode(), json.dumps(value).encode(), arrival_ms)


def _record(tp: TP, offset: int, key: bytes, value: bytes | None, arrival_ms: int) -> ConsumerRecord:
    return ConsumerRecord(
        tp.topic, tp.partition, offset, arrival_ms, 1, key, value, None, len(key), len(value or b""), ()
    )


def verdict(record: ConsumerRecord) -> Verdict:
    """What must become of ``record``."""
    if record.value is None or record.value == b"{":
        return Verdict(record.offset, "dead")
    value = json.loads(record.value)
    if value.get("role") == "agent":
        return Verdict(record.offset, "skipped")
    text, event_ms = value["text"], value["event_time"]
    age_ms = record.timestamp - event_ms
    if not text.strip() or text in ("poison", KILLER) or age_ms < -ALLOWED_SKEW_MS:
        return Verdict(record.offset, "dead")
    return Verdict(
        record.offset,
        "counted",
        value["product_id"],
        value["event_id"],
        event_ms,
        age_ms > LATE_AFTER_MS,
        "bad" in text,
        "alarm" in text,
    )


class Expected(NamedTuple):
    """What the stores must hold, and what must have been published."""

    products: dict[str, list[int]]
    """Negative, neutral, positive, sentiment sum, late, first and last event."""
    buckets: dict[tuple[str, int], list[int]]
    ledger: Counter[str]
    states: dict[tuple[str, str], bytes]
    dead: set[tuple[str, int, int]]
    alarms: set[tuple[str, str, int, str]]
    """Channel, product, which alarm of the product's, and the event it is about."""
    raised: list[tuple[str, str, str]]
    """Channel, product and event of every alarm, of those too that an erasure came after."""
    fleet: list[int]
    """The sums of all products, of what was erased, too."""


class Fate(NamedTuple):
    """What an erasure left of a counted event."""

    is_erased: bool = False
    """Whether its product was erased afterwards."""
    is_nameless: bool = False
    """Whether its author was."""


def recount(
    verdicts: Iterable[tuple[TP, Verdict]],
    latest_ms: int,
    *,
    once: bool,
    fate: Callable[[TP, Verdict], Fate] = lambda _, __: Fate(),
) -> Expected:
    """What must be stored when exactly these records were recorded, each partition's in offset order.

    Args:
        verdicts: on the records.
        latest_ms: latest arrival: buckets that are out of their retention then are left out.
        once: whether an event that is sent again is counted once.
        fate: of an event that was counted.
    """
    expected = Expected({}, {}, Counter(), {}, set(), set(), [], [0] * 5)
    counted_in: dict[tuple[TP, str, str], int] = {}
    for tp, each in verdicts:
        channel, outcome = tp.topic, each.outcome
        if outcome == "dead":
            expected.dead.add((channel, tp.partition, each.offset))
        elif outcome == "counted":
            event, segment = (tp, each.product_id, each.event_id), each.offset // SEGMENT_OFFSETS
            if once and segment - counted_in.get(event, -10) <= SEGMENTS_KEPT:
                outcome = "duplicate"
            else:
                counted_in[event] = segment
                _recount_event(expected, channel, each, latest_ms, fate(tp, each))
        expected.ledger[f"{channel}:{outcome}"] += 1
    return expected


def _recount_event(expected: Expected, channel: str, each: Verdict, latest_ms: int, fate: Fate) -> None:
    product, negative = each.product_id, each.is_negative
    counts = [int(negative), 0, int(not negative), -800 if negative else 800]
    if each.is_late:
        expected.ledger[f"{channel}:late"] += 1
    if each.is_alarm:
        expected.raised.append((channel, product, each.event_id))
    _add(expected.fleet, [*counts, int(each.is_late)])
    if fate.is_erased:
        return
    total = expected.products.setdefault(product, [0, 0, 0, 0, 0, each.event_ms, each.event_ms])
    _add(total, [*counts, int(each.is_late)])
    total[5:] = min(total[5], each.event_ms), max(total[6], each.event_ms)
    for code, width_ms, keep_ms, _ in RESOLUTIONS:
        index = each.event_ms // width_ms
        if (index + 1) * width_ms > latest_ms - keep_ms:
            _add(expected.buckets.setdefault((product, index * 4 + code), [0] * 4), counts)
    before = expected.states.get((channel, product))
    event_id = NOBODYS if fate.is_nameless else each.event_id
    state = remembered(before, event_id, is_alarm=each.is_alarm)
    expected.states[channel, product] = state
    if each.is_alarm:
        expected.alarms.add((channel, product, state.count(b"!"), each.event_id))


def _add(sums: list[int], counts: list[int]) -> None:
    for n, count in enumerate(counts):
        sums[n] += count


def remembered(state: bytes | None, event_id: str, *, is_alarm: bool) -> bytes:
    """The state of a detector that remembers every event it was given, in order, and marks the alarms."""
    return (state or b"") + event_id.encode() + (b"! " if is_alarm else b" ")


NOBODYS = "-"
"""Stands in a state for an event whose author was forgotten."""


def author_of(event_id: str) -> str:
    """Who wrote an event: one of three."""
    return f"author-{zlib.crc32(event_id.encode()) % 3}"


def without_author(state: bytes, author: str) -> bytes:
    """The state without the author's events, as ``stream.core.detection.without_author`` is to real ones."""
    events = state.decode().split()
    kept = [
        f"{NOBODYS}{event[len(name) :]}" if author_of(name := event.removesuffix("!")) == author else event
        for event in events
    ]
    return "".join(f"{event} " for event in kept).encode()


def home_shard(each: Verdict, shards: int) -> int:
    """The shard that counts a record."""
    if shards == 1:
        return 0
    return zlib.crc32(each.product_id.encode()) % shards if each.outcome == "counted" else 0


__all__ = ["NOW_MS", "Expected", "Verdict"]
