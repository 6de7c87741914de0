"""What the spike detector remembers of one product on one channel, from call to call.

Rules:
- It travels to Redis and back with every micro-batch, so it is small: 19 bytes at rest. Most products rest.
- An excursion is a run of events whose evidence for a rise has not fallen back; what is gathered of it
  (authors, quotes) goes when it ends.
- Bytes of a kind that is not known are refused by name: they are a newer worker's.
"""

from __future__ import annotations

import struct
from typing import Literal

import msgspec

from stream.core.events import Quote  # noqa: TC001  # msgspec reads the annotation

MAX_COUNT = 65_535
"""Counts of a resting state are 16 bits; ``seen`` stops there, an excursion ends long before."""


class Firing(msgspec.Struct, array_like=True):
    """What is remembered of a firing alert beyond its excursion."""

    severity: Literal["warning", "critical"]
    historic: bool
    recovery: float
    """Likelihood ratio of "back" to "still risen", at least one."""
    back_events: int
    """Since ``recovery`` was last one."""
    back_negatives: int
    recent_events: float
    recent_negatives: float
    peak_share: float
    transitions: int = 1
    """Told of this alert: it fired, it became critical."""


class State(msgspec.Struct, array_like=True):
    """What a (product, channel) carries from call to call."""

    alpha: float
    """Baseline: weight of negatives, prior included."""
    beta: float
    seen: int = 0
    events: int = 0
    """Since the onset; zero at rest."""
    negatives: int = 0
    evidence: float = 0.0
    """Likelihood ratio of a rise of the ordinary size, times its weight among the alternatives."""
    steep: float = 0.0
    """The same of a steep rise. The two together are one when an excursion begins."""
    onset_ms: int = 0
    alert_id: bytes = b""
    authors: list[int] = []
    """CRC-32 of the authors of the excursion's negatives, distinct, up to ``max_authors``."""
    quotes: list[Quote] = []
    """Gathered once the evidence is a third of the way to the threshold, in logarithms."""
    firing: Firing | None = None
    told: int = 0
    """Sequences of ``alert_id`` given out before those of this excursion. Only a recount makes it other than
    zero (``stream.core.reconcile``): what was told of an alert cannot be taken back, only followed."""

    def rest(self) -> None:
        """Drops the excursion."""
        self.events = self.negatives = 0
        self.evidence = self.steep = 0.0
        self.authors = []
        self.quotes = []
        self.firing = None
        self.told = 0


_REST = struct.Struct("<BddH")
_EXCURSION = struct.Struct("<BddHHHddq8s")
_RICH = b"\x02"
_decode_rich = msgspec.msgpack.Decoder(State).decode
_encode_rich = msgspec.msgpack.Encoder().encode


def pack(state: State) -> bytes:
    """State as bytes: 19 at rest, 55 and 4 an author in an excursion, MessagePack once there are quotes."""
    if state.events == 0:
        return _REST.pack(0, state.alpha, state.beta, state.seen)
    if state.firing is not None or state.quotes or state.told:
        return _RICH + _encode_rich(state)
    packed = _EXCURSION.pack(
        1,
        state.alpha,
        state.beta,
        state.seen,
        state.events,
        state.negatives,
        state.evidence,
        state.steep,
        state.onset_ms,
        state.alert_id,
    )
    return packed + struct.pack(f"<{len(state.authors)}I", *state.authors) if state.authors else packed


def unpack(packed: bytes) -> State:
    """The inverse of ``pack``.

    Raises:
        ValueError: the bytes are not a state of this version.
    """
    kind = packed[0] if packed else -1
    try:
        if kind == 0:
            _, alpha, beta, seen = _REST.unpack(packed)
            return State(alpha, beta, seen)
        if kind == 1:
            _, *fields = _EXCURSION.unpack_from(packed)
            authors = struct.unpack_from(f"<{(len(packed) - _EXCURSION.size) // 4}I", packed, _EXCURSION.size)
            return State(*fields, list(authors))
        if kind == 2:
            return _decode_rich(memoryview(packed)[1:])
    except (struct.error, msgspec.MsgspecError) as error:
        raise ValueError(f"the spike detector's state is damaged: {error}") from error
    raise ValueError(
        f"the spike detector's state is of unknown kind {kind}; was it written by a newer worker?"
    )
