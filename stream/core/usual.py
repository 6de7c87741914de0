"""What customers complain about with a product anyway: a sketch of its own past complaints.

Rules:
- 128 bytes: the number of complaints, and for each of 127 buckets how many of them hit it. A word hits the
  bucket that its hash names, once a complaint: one row of a count-min sketch. What a bucket gets by chance is
  taken off again, as the upper quartile of all buckets (after count-mean-min: Deng and Rafiei 2007).
- A phrase is as usual as its least usual word. So the sketch holds words alone, and a new phrase is taken for
  usual by mistake only if each of its words shares the bucket of a usual one.
- Slow forgetting: when a 256th complaint comes, all counts are halved first.
- Integers are added and halved: the same bytes on every machine, however the complaints are batched.
- Nothing that a customer wrote can be read back from it, so it is fed with texts as they came.
"""

from __future__ import annotations

import zlib
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from stream.core.words import READ_CHARS, content_of, content_words

if TYPE_CHECKING:
    from stream.core.background import Background

BUCKETS = 127
PACKED_BYTES = 1 + BUCKETS
MOST_COMPLAINTS = 255
MOST_WORDS = 16
"""Words of a complaint that count, the first ones: a long one would hit every bucket."""


class Usual(msgspec.Struct):
    """The sketch. ``unpack`` makes an empty one of ``None``."""

    complaints: int = 0
    hits: bytearray = msgspec.field(default_factory=lambda: bytearray(BUCKETS))
    """Complaints that hit each bucket."""

    def add(self, text: str, background: Background) -> None:
        """Takes in an ordinary complaint.

        >>> from stream.core.background import NOTHING_KNOWN
        >>> usual = Usual()
        >>> for _ in range(20):
        ...     usual.add("The lid leaks.", NOTHING_KNOWN)
        >>> usual.share("lid leak", NOTHING_KNOWN), usual.share("motor", NOTHING_KNOWN)
        (1.0, 0.0)
        """
        if self.complaints == MOST_COMPLAINTS:
            self.complaints //= 2
            self.hits = bytearray([hits // 2 for hits in self.hits])
        words = (word for word in content_words(text[:READ_CHARS]) if not background.is_common(word))
        for bucket in {_bucket(word) for word in islice(words, MOST_WORDS)}:
            self.hits[bucket] += 1
        self.complaints += 1

    def share(self, key: str, background: Background) -> float:
        """Estimated share of the past complaints that had a phrase; 0 where all its words are common."""
        if not self.complaints:
            return 0.0
        by_chance = sorted(self.hits)[BUCKETS * 3 // 4]
        hits = [self.hits[_bucket(word)] for word in content_of(key) if not background.is_common(word)]
        least = min(hits, default=0)
        return max(0, least - by_chance) / (self.complaints - by_chance) if least > by_chance else 0.0


def pack(usual: Usual) -> bytes:
    """128 bytes."""
    return bytes((usual.complaints,)) + usual.hits


def unpack(packed: bytes | None) -> Usual:
    """The inverse of ``pack``; an empty sketch of None.

    Raises:
        ValueError: the bytes are no sketch of this version.
    """
    if packed is None:
        return Usual()
    if len(packed) != PACKED_BYTES:
        raise ValueError(
            f"the sketch of a product's usual complaints has {len(packed)} bytes, not {PACKED_BYTES}"
        )
    return Usual(packed[0], bytearray(packed[1:]))


def _bucket(word: str) -> int:
    return zlib.crc32(word.encode("utf-8", "surrogatepass")) % BUCKETS
