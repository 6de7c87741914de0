"""Erases counters, detector states and alerts on their way, of every generation there is.

Rules:
- Each shard's part is one atomic step. It raises a mark beside the offsets, and the fence refuses the
  step of a worker that remembers what was erased (``stream/store/contract.py``): it reads what Redis holds.
- What was counted stays counted: the ledger, the offsets, the fleet's sums and the fingerprints name nobody,
  and the counts of a product do not say whose events they are of.
- A worker of a version without that fence would write back what it remembers: beside one nothing is erased.
- Nothing is locked out but ``rebuild`` and ``reshard``, which would carry a copy past us.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING

import msgspec

from stream.core.detection import alert_ids, without_author
from stream.core.events import CHANNELS, Alert
from stream.core.forgetting import is_quoted, without_words
from stream.errors import UsageError
from stream.status import board_key, heard_of
from stream.store.layout import Layout, UnknownLayout, drawn_raise, read_written
from stream.store.switch import LOCK_S, new_owner

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stream.core.forgetting import Customer
    from stream.erasure.redis import Redis
    from stream.erasure.report import Tally

ERASE_SCRIPT = files("stream.store").joinpath("erase.lua").read_text("utf-8")
REPLACE_SCRIPT = files("stream.store").joinpath("replace.lua").read_text("utf-8")
_DROP_IF_SAME = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"
PRODUCTS_A_TRIP = 500
ATTEMPTS = 20
"""A state that changes faster than it can be replaced is a product with hundreds of events a second."""

_decode_alert = msgspec.json.Decoder(Alert).decode


class Counters:
    """One run's part in the generations.

    Args:
        redis: where they are.
        shards: of generation 0, where Redis says nothing of generations.
        tally: what is removed is added to it.
    """

    def __init__(self, redis: Redis, shards: int, tally: Tally) -> None:
        self._redis = redis
        self._shards = shards
        self._tally = tally
        self._owner = new_owner()
        self._lock = f"{redis.namespace}:moving"

    @contextmanager
    def alone(self) -> Iterator[list[Layout]]:
        """Keeps generations from being made or removed; every generation there is, the live one first.

        Raises:
            UsageError: counters are being moved, or a worker would bring back what is erased.
        """
        redis = self._redis
        self._check_workers()
        if not redis.dry:
            (taken,) = redis.trip(("SET", self._lock, self._owner, "NX", "PX", round(LOCK_S * 1000)))
            if not taken:
                raise UsageError(
                    f"The counters of '{redis.namespace}' are being moved or erased already: wait"
                    " for the end of `rebuild`, `reshard` or `forget`, then run this again."
                )
        try:
            yield self._layouts()
        finally:
            if not redis.dry:
                redis.trip(("EVAL", _DROP_IF_SAME, 1, self._lock, self._owner))

    def _check_workers(self) -> None:
        (board,) = self._redis.trip(("HGETALL", board_key(self._redis.namespace)))
        older = [each.name for each in heard_of(board, time.time()) if not each.heeds_erasures]
        if not older:
            return
        says = (
            "Workers of an older version are at work and would write back what is erased:"
            f" {', '.join(older)}. Restart them with this version, then run this again; one that died is"
            " forgotten after 10 s."
        )
        if not self._redis.dry:
            raise UsageError(says)
        self._tally.left.append(says)

    def _layouts(self) -> list[Layout]:
        namespace = self._redis.namespace
        live = Layout(namespace, self._shards)
        (raw,) = self._redis.trip(("GET", live.layout_key))
        if raw is None:
            return [live]
        try:
            written = read_written(raw)
        except UnknownLayout as error:
            raise UsageError(f"Redis holds {error}: use the version of reviewpulse that wrote it.") from None
        pending = [written.pending.layout(namespace)] if written.pending else []
        return [written.layout(namespace), *pending, *(each.layout(namespace) for each in written.old)]

    def erase_product(self, layout: Layout, product_id: str) -> set[str]:
        """Forgets what a generation holds of a product; returns the ids of its alerts."""
        redis, shard, removed = self._redis, layout.shard(product_id), self._tally.removed
        states = [layout.spike(channel, product_id) for channel in CHANNELS]
        keys = [layout.offsets(shard), layout.active(shard), layout.outbox(shard), layout.withheld(shard)]
        keys += [layout.product(product_id), *states]
        before = redis.trip(*(("GET", key) for key in states))
        ((held, was_active, on_their_way, *ids),) = redis.trip(
            ("EVAL", ERASE_SCRIPT, len(keys), *keys, product_id, "1" if redis.dry else "", drawn_raise())
        )
        removed["counters and detector states"] += held
        removed["places in lists"] += was_active
        removed["alerts on their way"] += on_their_way
        return {each.decode() for each in ids} | {id_ for state in before for id_ in _known_alerts(state)}

    def erase_author(self, layout: Layout, customer: Customer) -> set[str]:
        """Takes a customer out of a generation's states; returns the ids of the alerts they know."""
        alerts = set[str]()
        for shard in range(layout.shards):
            for _ in range(ATTEMPTS):
                found = list(self._states_with(layout, shard, customer))
                alerts.update(id_ for _, before, _ in found for id_ in _known_alerts(before))
                if not found or self._redis.dry:
                    self._tally.removed["detector states"] += len(found)
                    break
                keys = [layout.offsets(shard), *(key for key, _, _ in found)]
                values = [part for _, before, after in found for part in (before, after)]
                (done,) = self._redis.trip(("EVAL", REPLACE_SCRIPT, len(keys), *keys, drawn_raise(), *values))
                self._tally.removed["detector states"] += done
            else:
                self._tally.left.append(
                    "Some detector states changed too fast to be replaced: run this again."
                )
        return alerts

    def _states_with(
        self, layout: Layout, shard: int, customer: Customer
    ) -> Iterator[tuple[str, bytes, bytes]]:
        """Key, value and what it is to be, of each state that holds something of the customer."""
        (active,) = self._redis.trip(("ZRANGE", layout.active(shard), 0, -1))
        for first in range(0, len(active), PRODUCTS_A_TRIP):
            products = active[first : first + PRODUCTS_A_TRIP]
            self._stay_alone()
            keys = [layout.spike(channel, each.decode()) for each in products for channel in CHANNELS]
            (states,) = self._redis.trip(("MGET", *keys))
            for key, state in zip(keys, states, strict=True):
                if state is None:
                    continue
                try:
                    after = without_author(state, customer.author, customer.events)
                except ValueError:  # a newer worker's
                    self._tally.left.append(f"{key} is of another version and was not read.")
                    continue
                if after is not None and after != state:
                    yield key, state, after

    def _stay_alone(self) -> None:
        if not self._redis.dry:
            self._redis.trip(("SET", self._lock, self._owner, "XX", "PX", round(LOCK_S * 1000)))

    def quiet_alerts(self, layouts: Iterable[Layout], customer: Customer) -> None:
        """Takes a customer's words out of the alerts that are on their way."""
        for layout in layouts:
            for shard in range(layout.shards):
                for stream in (layout.outbox(shard), layout.withheld(shard)):
                    self._redis.rewrite(
                        "alerts on their way", stream, b"alert", lambda raw: _quiet_alert(raw, customer)
                    )


def _known_alerts(state: bytes | None) -> Iterable[str]:
    try:
        return alert_ids(state)
    except ValueError:
        return ()


def _quiet_alert(raw: bytes, customer: Customer) -> bytes | None:
    try:
        alert = _decode_alert(raw)
    except ValueError:
        return None
    return msgspec.json.encode(without_words(alert)) if is_quoted(alert, customer) else None
