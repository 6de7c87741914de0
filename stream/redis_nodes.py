"""Which servers stand behind the Redis URL, and what each says of itself: for the doctor.

Rules:
- A server is asked with INFO and nothing else; in a cluster every node is.
- Which master serves a shard is computed from the slots, not asked for.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import redis

if TYPE_CHECKING:
    from stream.redis_config import Client
    from stream.store.layout import Layout


class Node(NamedTuple):
    """One server, as it answered; a node of a cluster may be down."""

    name: str
    """``host:port``; empty where there is but one."""
    facts: dict[str, Any]
    """Those of INFO; empty when it did not answer."""

    @property
    def is_primary(self) -> bool:
        """Whether it takes writes."""
        return self.facts.get("role") == "master"

    @property
    def replicas(self) -> int:
        """How many follow it now."""
        return int(self.facts.get("connected_slaves", 0))


def nodes(client: Client) -> list[Node]:
    """Every server there is.

    Raises:
        RedisError, OSError: the one server, or the sentinels, do not answer.
    """
    if not isinstance(client, redis.RedisCluster):
        return [Node("", client.info("all"))]
    found = []
    for node in sorted(client.get_nodes(), key=lambda each: str(each.name)):  # type: ignore[no-untyped-call]
        try:
            facts = client.get_redis_connection(node).info("all")
        except (redis.RedisError, OSError):
            facts = {}
        found.append(Node(str(node.name), facts))
    return found


def shards_by_primary(client: redis.RedisCluster, layout: Layout) -> Counter[str]:
    """How many shards each master of a cluster serves, those with none among them.

    Raises:
        RedisClusterException: nobody serves a shard's slot.
    """
    shards = Counter({str(node.name): 0 for node in client.get_primaries()})  # type: ignore[no-untyped-call]
    for shard in range(layout.shards):
        node = client.get_node_from_key(layout.offsets(shard))  # type: ignore[no-untyped-call]
        shards[str(node.name)] += 1
    return shards
