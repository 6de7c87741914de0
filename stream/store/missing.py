"""Which offsets were deleted before they were counted, as ``<ns>:{sK}:missing`` lists them.

Rules:
- Each shard lists what it went over itself, in the atomic step that moves its offset, so its list is right
  whatever became of the others. Shards that were equally far list the same ranges, one that was ahead less.
- What is missing is therefore the union of all shards' lists, and nobody keeps a sum: sums of several shards
  would hold an offset several times, and one shard's sum is not another's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from stream.store.contract import log_partition

if TYPE_CHECKING:
    from collections.abc import Iterable


class Missing(NamedTuple):
    """A range of offsets of one log; both ends are missing."""

    partition: str
    """``topic:number``."""
    log: str
    """Kafka's id of the topic, where it is known."""
    first: int
    last: int

    @property
    def offsets(self) -> int:
        """How many."""
        return self.last - self.first + 1


def union(lists: Iterable[tuple[str, str]]) -> list[Missing]:
    """What is missing by any of these lists: sorted, without overlaps.

    Args:
        lists: a partition's name in the store and its list, of every shard.

    >>> for each in union([("reviews:0@A", "7-8 20-29"), ("reviews:0@A", "4-8"), ("chats:1", "0-4")]):
    ...     print(*each)
    chats:1  0 4
    reviews:0 A 4 8
    reviews:0 A 20 29
    """
    joined: list[Missing] = []
    for each in sorted(each for name, packed in lists for each in _unpack(name, packed)):
        if joined and joined[-1][:2] == each[:2] and each.first <= joined[-1].last + 1:
            joined[-1] = joined[-1]._replace(last=max(joined[-1].last, each.last))
        else:
            joined.append(each)
    return joined


def packed(missing: Iterable[Missing]) -> dict[str, str]:
    """The lists by the partition's name in the store.

    >>> packed(union([("reviews:0@A", "7-8 20-29"), ("reviews:0@A", "4-8")]))
    {'reviews:0@A': '4-8 20-29'}
    """
    lists: dict[str, str] = {}
    for each in missing:
        name, range_ = log_partition(each.partition, each.log), f"{each.first}-{each.last}"
        lists[name] = f"{lists[name]} {range_}" if name in lists else range_
    return lists


def _unpack(name: str, packed: str) -> Iterable[Missing]:
    partition, _, log = name.partition("@")
    for range_ in packed.split():
        first, _, last = range_.partition("-")
        yield Missing(partition, log, int(first), int(last))
