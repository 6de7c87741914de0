"""Small builders of what flows: values, records, runs, events."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any

import msgspec
from aiokafka import ConsumerRecord
from faust.types import TP

from stream.core.buckets import RESOLUTIONS, field
from stream.core.decode import Event
from stream.core.events import Alert, Quote
from stream.runs import Run
from stream.store.values import Sums, Total, older_buckets, slot_of, unpack_current, unpack_slot, unpack_total

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NOW_MS = 1_700_000_000_000
REVIEWS = TP("reviews", 0)
CHATS = TP("chats", 0)


def review(number: int = 0, **fields: Any) -> dict[str, Any]:
    """A valid review's value; ``fields`` replace or add, and None removes."""
    value = {
        "event_id": f"review-{number}",
        "product_id": "kettle",
        "text": "It boils.",
        "event_time": NOW_MS,
        **fields,
    }
    return {name: content for name, content in value.items() if content is not None}


def chat(number: int = 0, **fields: Any) -> dict[str, Any]:
    """A valid chat line's value; as ``review``."""
    line = {"event_id": f"chat-{number}", "conversation_id": "conversation", "role": "customer"}
    return review(number, **{**line, **fields})


def record(
    offset: int,
    value: dict[str, Any] | bytes | None,
    *,
    tp: TP = REVIEWS,
    arrival_ms: int = NOW_MS,
    headers: tuple[tuple[str, bytes], ...] = (),
    key: bytes | None = None,
) -> ConsumerRecord[bytes, bytes]:
    """A record as aiokafka gives it."""
    if isinstance(value, dict):
        key = value["product_id"].encode() if key is None else key
        value = msgspec.json.encode(value)
    return ConsumerRecord(
        topic=tp.topic,
        partition=tp.partition,
        offset=offset,
        timestamp=arrival_ms,
        timestamp_type=1,
        key=key,
        value=value,
        checksum=None,
        serialized_key_size=len(key or b""),
        serialized_value_size=len(value or b""),
        headers=headers,
    )


def run(number: int, *records: ConsumerRecord[bytes, bytes], tp: TP = REVIEWS, epoch: int = 1) -> Run:
    """A run of a lane."""
    return Run(tp, epoch, number, list(records))


def event(offset: int = 0, **fields: Any) -> Event:
    """A decoded event."""
    whole = {
        "offset": offset,
        "event_id": f"review-{offset}",
        "product_id": "kettle",
        "text": "It boils.",
        "event_ms": NOW_MS,
        "arrival_ms": NOW_MS,
        "author_id": None,
    }
    return Event(**{**whole, **fields})


async def until(condition: Callable[[], object]) -> None:
    """Lets the event loop turn until ``condition`` holds; pytest's time limit ends one that never does."""
    while not condition():  # noqa: ASYNC110 - the condition belongs to code that knows of no test
        await asyncio.sleep(0)


def alert(**changes: Any) -> Alert:
    """An alert that fires on an ordinary product."""
    fields: dict[str, Any] = {
        "id": "a1",
        "sequence": 1,
        "state": "firing",
        "rule": "negative_share",
        "severity": "warning",
        "product_id": "B001",
        "channel": "reviews",
        "at": "2024-01-17T10:00:00.000Z",
        "onset": "2024-01-17T09:00:00.000Z",
        "events": 40,
        "negatives": 20,
        "current_share": 0.5,
        "current_interval": (0.35, 0.65),
        "baseline_share": 0.1,
        "baseline_interval": (0.08, 0.12),
        "baseline_events": 400.0,
        "false_alarm_run_length": 1e6,
        "distinct_authors": 19,
        "quotes": [
            Quote(event_id="1", text="Broken.", p_negative=0.99, event_time="2024-01-17T09:30:00.000Z")
        ],
        "peak_share": 0.6,
        "duration_s": 3600.0,
        "model_version": "en-1",
    }
    return Alert(**fields | changes)


def product_hash(total: Total, buckets: Mapping[int, Sums]) -> dict[str, bytes]:
    """A product's hash as the steps write it."""
    newest = [field(each, total.last_event_ms) for each in RESOLUTIONS]
    current = [number for bucket in newest for number in buckets.get(bucket, (0, 0, 0, 0))]
    hash_ = {
        "total": struct.pack("<7d", *total.sums, *total[1:]),
        "current": struct.pack("<3Id3Id3Id", *current),
    }
    for bucket, sums in buckets.items():
        if bucket not in newest:
            slot = slot_of(bucket)
            shape = "<H3Bh" if max(sums[:3]) < 32 else "<H3Id"
            hash_[str(slot.name)] = struct.pack(shape, slot.lap, *sums)
    return hash_


def read_product_hash(hash_: Mapping[bytes, bytes]) -> tuple[Total, dict[int, Sums]]:
    """What a product's hash holds: the total, and sums by bucket, without empty and outdated ones."""
    total = unpack_total(hash_[b"total"])
    current = unpack_current(hash_[b"current"], total.last_event_ms)
    buckets = {bucket: sums for bucket, sums in current.items() if any(sums[:3])}
    for bucket in older_buckets(total.last_event_ms):
        slot = slot_of(bucket)
        sums = unpack_slot(hash_.get(b"%d" % slot.name), slot.lap)
        if sums is not None:
            buckets[bucket] = sums
    return total, buckets
