"""A store in memory, with the same rules as the one in Redis: the working fake of the pipeline's tests."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeVar

import msgspec

from stream.core.buckets import RESOLUTIONS, field, is_expired
from stream.core.events import CHANNELS
from stream.store.contract import (
    ERASED,
    NOTHING_APPLIED,
    Apply,
    Move,
    OutboxEntry,
    ProductApply,
    Span,
    StoredSeen,
    StoredStates,
)
from stream.store.layout import Layout
from stream.store.values import slot_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stream.core.events import Channel

Field = int | str
Replacement = tuple[str, str, bytes, bytes]
"""Channel, product, the detector state that must be there still, and the one that is to be there."""
K = TypeVar("K", int, str)


class _About(msgspec.Struct):
    product_id: str


_decode_about = msgspec.json.Decoder(_About).decode


class MemoryStore:
    """A ``CounterStore`` whose contents a test can look at.

    Args:
        shards: slots the products are spread over.
    """

    def __init__(self, shards: int = 1) -> None:
        self._layout = Layout("memory", shards)
        self.offsets: list[dict[str, int]] = [{} for _ in range(shards)]
        self.log_names: dict[str, str] = {}
        self.missing: list[dict[str, list[tuple[int, int]]]] = [{} for _ in range(shards)]
        self.products: dict[str, dict[Field, list[int]]] = {}
        self.fleet: dict[int, dict[Field, list[int]]] = {}
        """By shard; as ``products``."""
        self.detector_states: dict[tuple[str, str], bytes] = {}
        self.fingerprints: list[dict[tuple[str, int], bytes]] = [{} for _ in range(shards)]
        self.notes_left: dict[str, bytes] = {}
        self.models: dict[str, list[tuple[int, str]]] = {}
        self.ledger: Counter[str] = Counter()
        self.outboxes: list[dict[str, OutboxEntry]] = [{} for _ in range(shards)]
        self.erasures = [0] * shards
        self.round_trips = 0
        self._entries = 0

    @property
    def shards(self) -> int:
        """Slots the products are spread over."""
        return self._layout.shards

    @property
    def generation(self) -> int:
        """There is but one."""
        return 0

    @property
    def erased(self) -> tuple[int, ...]:
        """See ``CounterStore``."""
        return tuple(self.erasures) if any(self.erasures) else ()

    def erase(self, product_id: str, by: int = 1) -> None:
        """Forgets a product and raises its shard's mark of erasures, as ``erase.lua`` does."""
        shard = self._layout.shard(product_id)
        self.erasures[shard] += by
        self.products.pop(product_id, None)
        for channel in CHANNELS:
            self.detector_states.pop((channel, product_id), None)
        waiting = self.outboxes[shard]
        for entry_id in [id_ for id_, entry in waiting.items() if _product_of(entry.alert) == product_id]:
            del waiting[entry_id]

    def replace(self, shard: int, states: Iterable[Replacement], by: int = 1) -> int:
        """Puts other detector states in the place of some, as ``replace.lua`` does; how many.

        Args:
            shard: of all of them.
            states: what is to be there, and what must be there still.
            by: what the mark of erasures is raised by, if any was replaced.
        """
        done = 0
        for channel, product_id, before, after in states:
            if self.detector_states.get((channel, product_id)) == before:
                self.detector_states[channel, product_id] = after
                done += 1
        self.erasures[shard] += by if done else 0
        return done

    async def open(self) -> None:
        """Nothing to connect to."""

    async def applied(self, partitions: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """See ``CounterStore``."""
        return {
            partition: tuple(offsets.get(partition, NOTHING_APPLIED) for offsets in self.offsets)
            for partition in partitions
        }

    async def logs(self, names: Sequence[str]) -> dict[str, str]:
        """See ``CounterStore``."""
        return {name: self.log_names[name] for name in names if name in self.log_names}

    async def swap_log(self, name: str, before: str, after: str) -> bool:
        """See ``CounterStore``."""
        if self.log_names.get(name, "") != before:
            return False
        self.log_names[name] = after
        return True

    async def move(self, moves: Sequence[Move]) -> list[bool]:
        """See ``CounterStore``."""
        return [self._move(move) for move in moves]

    def _move(self, move: Move) -> bool:
        offsets, fingerprints = self.offsets[move.shard], self.fingerprints[move.shard]
        held_by = move.renamed_from or move.partition
        if offsets.get(held_by, NOTHING_APPLIED) != move.seen or (
            move.renamed_from and move.partition in offsets
        ):
            return False
        offsets.pop(held_by, None)
        offsets[move.partition] = move.offset
        self.erasures[move.shard] += move.raised_by
        if move.missing:
            missing = self.missing[move.shard].setdefault(move.partition, [])
            missing.append((move.seen + 1, move.offset))
        for segment in move.segments:
            packed = fingerprints.pop((held_by, segment), None)
            if move.renamed_from and packed is not None:
                fingerprints[move.partition, segment] = packed
        return True

    async def forget(self, partition: str) -> None:
        """See ``CounterStore``."""
        self.notes_left.pop(partition, None)
        for fingerprints in self.fingerprints:
            for key in [key for key in fingerprints if key[0] == partition]:
                del fingerprints[key]

    async def seen(self, segments: Mapping[str, Sequence[int]]) -> dict[str, StoredSeen]:
        """See ``CounterStore``."""
        return {
            partition: StoredSeen(
                {
                    number: b"".join(stored.get((partition, number), b"") for stored in self.fingerprints)
                    for number in numbers
                },
                tuple(self._span(shard, partition) for shard in range(self.shards)),
            )
            for partition, numbers in segments.items()
        }

    async def notes(self, partitions: Sequence[str]) -> list[bytes | None]:
        """See ``CounterStore``."""
        return [self.notes_left.get(partition) for partition in partitions]

    async def leave_notes(self, notes: Mapping[str, bytes]) -> None:
        """See ``CounterStore``."""
        self.notes_left.update(notes)

    async def states(self, partition: str, channel: Channel, product_ids: Sequence[str]) -> StoredStates:
        """See ``CounterStore``."""
        return StoredStates(
            [self.detector_states.get((channel, product_id)) for product_id in product_ids],
            {shard: self._span(shard, partition) for shard in map(self._layout.shard, product_ids)},
            {shard: frozenset({self.erasures[shard]}) for shard in map(self._layout.shard, product_ids)},
        )

    def _span(self, shard: int, partition: str) -> Span:
        stored = self.offsets[shard].get(partition, NOTHING_APPLIED)
        return stored, stored

    async def apply(self, steps: Sequence[Apply]) -> list[int | None]:
        """See ``CounterStore``."""
        self.round_trips += 1
        return [self._apply(step) for step in steps]

    def _instead(self, step: Apply) -> int | None:
        """What refuses a step."""
        stored = self.offsets[step.shard].get(step.partition, NOTHING_APPLIED)
        if stored != step.base:
            return stored
        return ERASED if self.erasures[step.shard] != step.erased else None

    def _apply(self, step: Apply) -> int | None:
        instead = self._instead(step)
        if instead is not None:
            return instead
        for product in step.products:
            _add(self.products, product.product_id, product, step.arrival_ms)
            if product.state is not None:
                self.detector_states[step.channel, product.product_id] = product.state
        if step.products:
            _add(self.fleet, step.shard, together(step.products), step.arrival_ms)
        self.ledger.update(step.ledger)
        for alert in step.transitions:
            self._entries += 1
            entry = OutboxEntry(step.shard, f"{self._entries}-0", step.partition, alert)
            self.outboxes[step.shard][entry.entry_id] = entry
        stored_fingerprints = self.fingerprints[step.shard]
        for segment, added in step.seen:
            key = (step.partition, segment)
            stored_fingerprints[key] = stored_fingerprints.get(key, b"") + added
        for segment in step.forgotten:
            stored_fingerprints.pop((step.partition, segment), None)
        if step.model:
            changes = self.models.setdefault(step.partition, [])
            if not changes or changes[-1][1] != step.model:
                changes.append((step.base + 1, step.model))
        self.offsets[step.shard][step.partition] = step.last
        return None

    async def outbox(self, shard: int) -> list[OutboxEntry]:
        """See ``CounterStore``."""
        return list(self.outboxes[shard].values())

    async def delivered(self, entries: Iterable[OutboxEntry]) -> None:
        """See ``CounterStore``."""
        for entry in entries:
            self.outboxes[entry.shard].pop(entry.entry_id, None)

    async def close(self) -> None:
        """Nothing to disconnect from."""


def _product_of(alert: bytes) -> str | None:
    try:
        return _decode_about(alert).product_id
    except ValueError:
        return None


def together(products: Sequence[ProductApply]) -> ProductApply:
    """What a step adds to the fleet: the sum of what it adds to its products."""
    spans: dict[tuple[int, ...], list[int]] = {}
    for product in products:
        for fields, counts in product.spans:
            _accumulate(spans.setdefault(fields, [0, 0, 0, 0]), counts)
    return ProductApply(
        "",
        sum(product.late for product in products),
        min(product.first_event_ms for product in products),
        max(product.last_event_ms for product in products),
        None,
        list(spans.items()),
    )


def _add(hashes: dict[K, dict[Field, list[int]]], name: K, product: ProductApply, arrival_ms: int) -> None:
    first, last = product.first_event_ms, product.last_event_ms
    hash_ = hashes.setdefault(name, {"total": [0, 0, 0, 0, 0, first, last]})
    total = hash_["total"]
    before, now = _current(total[6]), _current(max(total[6], last))
    total[4:] = [total[4] + product.late, min(total[5], first), max(total[6], last)]
    for bucket in [bucket for bucket in before - now if bucket in hash_]:
        counts = hash_.pop(bucket)
        if not is_expired(bucket, arrival_ms):
            _add_older(hash_, now, bucket, counts)
    for fields, counts in product.spans:
        _accumulate(total, counts)
        for bucket in fields:
            if bucket in now:
                _accumulate(hash_.setdefault(bucket, [0, 0, 0, 0]), counts)
            else:
                _add_older(hash_, now, bucket, counts)


def _current(last_event_ms: int) -> set[int]:
    """The buckets that a product's newest event lies in."""
    return {field(each, last_event_ms) for each in RESOLUTIONS}


def _add_older(hash_: dict[Field, list[int]], current: set[int], bucket: int, counts: Sequence[int]) -> None:
    """Adds to a bucket that is not current: it has its slot unless a later one has."""
    name = slot_of(bucket).name
    in_slot = [
        other
        for other in hash_
        if isinstance(other, int) and other not in current and slot_of(other).name == name
    ]
    if any(other > bucket for other in in_slot):
        return
    for other in in_slot:
        if other < bucket:
            del hash_[other]
    _accumulate(hash_.setdefault(bucket, [0, 0, 0, 0]), counts)


def _accumulate(sums: list[int], counts: Sequence[int]) -> None:
    for n in range(4):
        sums[n] += counts[n]
