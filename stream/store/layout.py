"""Names of everything Reviewpulse keeps in Redis, and what ``<ns>:layout`` says about them.

Rules:
- All keys of a product carry its shard's hash tag, so one script call may touch them on Redis Cluster too.
- Counters live in a *generation*. ``<ns>:layout`` names the live one and its number of shards; workers and
  readers go by it, and follow when it changes. Which setting made it no longer matters.
- A generation's keys carry its number, so that a new one can be filled beside the live one (``reviewpulse
  rebuild``, ``reviewpulse reshard``). Generation 0 does without: its names are those of the first version.
- A number is given once. Whoever still writes to a generation that is gone cannot hit a new one.
"""

from __future__ import annotations

import secrets
import zlib
from dataclasses import dataclass, field
from typing import Literal

import msgspec

LAYOUT_VERSION = 6

MARK_FIELD = "moved"
"""Field of a generation's offsets that refuses every step. No ``topic:number`` is called so."""
ERASED_FIELD = "erased"
"""Field there that every erasure from the shard raises, and every offset that is moved over records: a step
that names another mark is refused."""
MOST_RAISED = 2**31
"""A Lua number holds the sum of four million such."""
NO_OFFSETS = frozenset({MARK_FIELD.encode(), ERASED_FIELD.encode()})
"""Fields there that are no partition's offset."""


def drawn_raise() -> int:
    """What a mark of erasures is raised by.

    Counted by one, an erasure that Redis lost and the next one would come to the same mark, and what a worker
    remembers since the first would pass for read after the second.
    """
    return 1 + secrets.randbelow(MOST_RAISED)


def shard_of(product_id: str, shards: int) -> int:
    """The shard a product lives in.

    >>> shard_of("B00004TZTZ", 16), shard_of("B00004TZTZ", 1)
    (4, 0)
    """
    return zlib.crc32(product_id.encode()) % shards if shards > 1 else 0


@dataclass(frozen=True)
class Layout:
    """Key names of one generation of a namespace."""

    namespace: str
    """Prefix of every key."""
    shards: int
    """Slots the products are spread over."""
    generation: int = 0
    _prefixes: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tag = f".g{self.generation}" if self.generation else ""
        prefixes = (f"{self.namespace}:{{s{shard}{tag}}}:" for shard in range(self.shards))
        object.__setattr__(self, "_prefixes", tuple(prefixes))

    @property
    def layout_key(self) -> str:
        """JSON: a ``Written``."""
        return f"{self.namespace}:layout"

    def shard(self, product_id: str) -> int:
        """The shard a product lives in.

        >>> Layout("rp", 16).shard("B00004TZTZ")
        4
        """
        return shard_of(product_id, self.shards)

    def prefix(self, shard: int) -> str:
        """What every key of a shard begins with.

        >>> Layout("rp", 1).prefix(0), Layout("rp", 4, generation=3).prefix(2)
        ('rp:{s0}:', 'rp:{s2.g3}:')
        """
        return self._prefixes[shard]

    def product(self, product_id: str) -> str:
        """Hash of a product's counters."""
        return f"{self._prefixes[self.shard(product_id)]}product:{product_id}"

    def fleet(self, shard: int) -> str:
        """Hash of the counters of all products of a shard together, of the form of a product's."""
        return f"{self._prefixes[shard]}fleet"

    def spike(self, channel: str, product_id: str) -> str:
        """String: the detector's state of a product on a channel."""
        return f"{self._prefixes[self.shard(product_id)]}spike:{channel}:{product_id}"

    def active(self, shard: int) -> str:
        """Sorted set of products by the minute of their newest event, ms."""
        return f"{self._prefixes[shard]}active"

    def offsets(self, shard: int) -> str:
        """Hash of the highest applied offset by ``topic:partition@log``; also ``NO_OFFSETS``."""
        return f"{self._prefixes[shard]}offsets"

    @property
    def logs(self) -> str:
        """Hash of what workers noted: the log of each ``topic:partition``, the partitions of each topic."""
        return f"{self._prefixes[0]}logs"

    def missing(self, shard: int) -> str:
        """Hash of the offsets deleted before they were counted, ``100-149 300-310``, by partition."""
        return f"{self._prefixes[shard]}missing"

    def seen(self, shard: int, partition: str, segment: int) -> str:
        """String: fingerprints of the events counted in a segment of a partition's offsets."""
        return f"{self._prefixes[shard]}seen:{partition}:{segment}"

    @property
    def notes(self) -> str:
        """Hash of what workers leave at a ``topic:partition`` while they work on it."""
        return f"{self._prefixes[0]}notes"

    @property
    def models(self) -> str:
        """Hash of which model scored from which offset on, ``[[0,"en-1"],[120,"en-2"]]``, by partition."""
        return f"{self._prefixes[0]}models"

    def ledger(self, shard: int) -> str:
        """Hash of ``channel:outcome`` to how many events ended so."""
        return f"{self._prefixes[shard]}ledger"

    def outbox(self, shard: int) -> str:
        """Stream of alert transitions waiting for Kafka."""
        return f"{self._prefixes[shard]}outbox"

    @property
    def copied(self) -> str:
        """Hash of how far a reshard has copied each shard of the generation before into this one."""
        return f"{self._prefixes[0]}copied"

    def withheld(self, shard: int) -> str:
        """Stream of alert transitions of the past, which a rebuild does not publish."""
        return f"{self._prefixes[shard]}withheld"


class Old(msgspec.Struct, frozen=True, kw_only=True):
    """A generation that nobody reads any more and whose keys are to be removed."""

    generation: int
    shards: int

    def layout(self, namespace: str) -> Layout:
        """Its names."""
        return Layout(namespace, self.shards, self.generation)


class Pending(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A generation that is being made beside the live one."""

    kind: Literal["rebuild", "reshard"]
    generation: int
    shards: int
    owner: str
    """Names whoever makes it now: another name each time somebody takes it up."""
    standstill: str = ""
    """What the marks in the live offsets are called while the live generation stands still; else empty."""
    model: str = ""
    """Version of the model that a rebuild scores with."""
    files: tuple[tuple[str, str], ...] = ()
    """Files that a rebuild counts first: channel and SHA-256."""

    def layout(self, namespace: str) -> Layout:
        """Its names."""
        return Layout(namespace, self.shards, self.generation)


class Written(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What ``<ns>:layout`` says."""

    version: int = msgspec.field(default_factory=lambda: LAYOUT_VERSION)  # so that it is always written
    shards: int
    """Of the live generation."""
    generation: int = 0
    """The live generation."""
    highest: int = 0
    """Highest number ever given to a generation, abandoned ones included."""
    pending: Pending | None = None
    old: tuple[Old, ...] = ()

    def layout(self, namespace: str) -> Layout:
        """The live generation's names."""
        return Layout(namespace, self.shards, self.generation)

    def next_generation(self) -> int:
        """A number that was never given.

        >>> Written(shards=1, generation=2, highest=4).next_generation()
        5
        """
        return max(self.generation, self.highest) + 1


class Mark(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a generation refuses steps; in each shard's offsets."""

    standstill: str
    """The ``Pending.standstill`` it was set for."""
    generation: int
    """What takes this one's place."""
    shards: int
    retired: bool = False
    """The switch is done: this holds for ever. Else it holds while the layout names its standstill."""


encode = msgspec.json.Encoder().encode
decode_mark = msgspec.json.Decoder(Mark).decode
_decode_written = msgspec.json.Decoder(Written).decode


class UnknownLayout(ValueError):  # noqa: N818 - its message is a clause; whoever catches it makes the sentence
    """The layout key holds what this version does not understand."""


def read_written(raw: bytes) -> Written:
    """Decodes the layout key.

    Raises:
        UnknownLayout: another version wrote it.

    >>> read_written(b'{"version": 6, "shards": 4}').layout("rp")
    Layout(namespace='rp', shards=4, generation=0)
    """
    try:
        written = _decode_written(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnknownLayout(f"what is no layout ({error})") from None
    if written.version != LAYOUT_VERSION:
        raise UnknownLayout(f"layout version {written.version}")
    return written
