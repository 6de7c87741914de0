"""Names of everything Reviewpulse keeps in Redis. ``docs/redis-layout.md`` explains each for readers.

Rules:
- All keys of a product carry its shard's hash tag, so one script call may touch them on Redis Cluster too.
- The number of shards is written once, in ``<ns>:layout``; workers that disagree refuse to start, readers
  take it from there.
"""

from __future__ import annotations

import zlib

LAYOUT_VERSION = 1


class Layout:
    """Key names of one namespace.

    Args:
        namespace: prefix of every key.
        shards: slots the products are spread over.
    """

    def __init__(self, namespace: str, shards: int) -> None:
        self.namespace = namespace
        self.shards = shards
        self._prefixes = [f"{namespace}:{{s{shard}}}:" for shard in range(shards)]

    @property
    def layout_key(self) -> str:
        """JSON: version and number of shards."""
        return f"{self.namespace}:layout"

    def shard(self, product_id: str) -> int:
        """The shard a product lives in.

        >>> Layout("rp", 16).shard("B00004TZTZ")
        4
        """
        return zlib.crc32(product_id.encode()) % self.shards if self.shards > 1 else 0

    def prefix(self, shard: int) -> str:
        """What every key of a shard begins with.

        >>> Layout("rp", 1).prefix(0)
        'rp:{s0}:'
        """
        return self._prefixes[shard]

    def product(self, product_id: str) -> str:
        """Hash of a product's counters."""
        return f"{self._prefixes[self.shard(product_id)]}product:{product_id}"

    def spike(self, channel: str, product_id: str) -> str:
        """String: the detector's state of a product on a channel."""
        return f"{self._prefixes[self.shard(product_id)]}spike:{channel}:{product_id}"

    def active(self, shard: int) -> str:
        """Sorted set of products by the time of their last event, ms."""
        return f"{self._prefixes[shard]}active"

    def offsets(self, shard: int) -> str:
        """Hash of the highest applied offset by ``topic:partition``."""
        return f"{self._prefixes[shard]}offsets"

    def seen(self, shard: int, partition: str, segment: int) -> str:
        """String: fingerprints of the events counted in a segment of a partition's offsets."""
        return f"{self._prefixes[shard]}seen:{partition}:{segment}"

    @property
    def notes(self) -> str:
        """Hash of what workers leave at a ``topic:partition`` while they work on it."""
        return f"{self._prefixes[0]}notes"

    def ledger(self, shard: int) -> str:
        """Hash of ``channel:outcome`` to how many events ended so."""
        return f"{self._prefixes[shard]}ledger"

    def outbox(self, shard: int) -> str:
        """Stream of alert transitions waiting for Kafka."""
        return f"{self._prefixes[shard]}outbox"
