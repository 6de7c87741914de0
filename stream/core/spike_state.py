"""What the spike detector remembers of one product on one channel, from call to call.

Rules:
- It travels to Redis and back with every micro-batch, so it is small: 19 bytes at rest, and 128 more for a
  product with enough of a past to know what customers complain about anyway. Most products rest.
- An excursion is a run of events whose evidence for a rise has not fallen back; what is gathered of it
  (authors, quotes) goes when it ends.
- Bytes of a kind that is not known are refused by name: they are a newer worker's.
"""

from __future__ import annotations

import struct
from typing import Literal

import msgspec

from stream.core import damping
from stream.core.complaints import Complaints  # noqa: TC001  # msgspec reads the annotations
from stream.core.damping import Damping
from stream.core.events import Quote  # noqa: TC001  # msgspec reads the annotation
from stream.core.usual import PACKED_BYTES

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
    """The same of a steep rise. The two together are one when an excursion begins; where they fall back to
    one, it ends."""
    summed: float = 0.0
    """``evidence``, summed over every event of the excursion as the onset (Shiryaev-Roberts)."""
    steep_summed: float = 0.0
    """``steep``, likewise. What the two come to together decides."""
    onset_ms: int = 0
    alert_id: bytes = b""
    damping: Damping = msgspec.field(default_factory=Damping)
    """Whose negatives the excursion has counted."""
    usual: bytes = b""
    """What customers complain about anyway: a packed ``stream.core.usual.Usual``; empty while too little is
    known."""
    quotes: list[Quote] = []
    """Gathered once the summed evidence is a third of the way to the threshold, in logarithms."""
    complaints: Complaints | None = None
    """Gathered from then on, too."""
    firing: Firing | None = None
    told: int = 0
    """Sequences of ``alert_id`` given out before those of this excursion. Only a recount makes it other than
    zero (``stream.core.reconcile``): what was told of an alert cannot be taken back, only followed."""

    @property
    def given_out(self) -> int:
        """Transitions of ``alert_id`` given out since."""
        return self.firing.transitions if self.firing else 0

    def rest(self) -> None:
        """Drops the excursion."""
        self.events = self.negatives = 0
        self.evidence = self.steep = self.summed = self.steep_summed = 0.0
        self.damping = Damping()
        self.quotes = []
        self.complaints = None
        self.firing = None
        self.told = 0


_REST = struct.Struct("<BddH")
_EXCURSION = struct.Struct("<BddHHHddddq8s")
_RICH = b"\x02"
_decode_rich = msgspec.msgpack.Decoder(State).decode
_encode_rich = msgspec.msgpack.Encoder().encode


def pack(state: State) -> bytes:
    """State as bytes: 19 at rest, 73 and 4 an author in an excursion, MessagePack once there are quotes.

    What is usual takes 128 more.
    """
    if state.events == 0:
        return _REST.pack(0, state.alpha, state.beta, state.seen) + state.usual
    if state.firing is not None or state.complaints is not None or state.told:
        return _RICH + _encode_rich(state)
    excursion = _EXCURSION.pack(
        1,
        state.alpha,
        state.beta,
        state.seen,
        state.events,
        state.negatives,
        state.evidence,
        state.steep,
        state.summed,
        state.steep_summed,
        state.onset_ms,
        state.alert_id,
    )
    return excursion + damping.pack(state.damping) + state.usual


def unpack(packed: bytes) -> State:
    """The inverse of ``pack``.

    Raises:
        ValueError: the bytes are not a state of this version.
    """
    kind = packed[0] if packed else -1
    try:
        if kind == 0:
            _, alpha, beta, seen = _REST.unpack_from(packed)
            return State(alpha, beta, seen, usual=_usual(packed[_REST.size :]))
        if kind == 1:
            _, *fields = _EXCURSION.unpack_from(packed)
            held = packed[_EXCURSION.size :]
            size = damping.size_of(held)
            state = State(*fields)
            state.damping, state.usual = damping.unpack(held[:size]), _usual(held[size:])
            return state
        if kind == 2:
            return _decode_rich(memoryview(packed)[1:])
    except (struct.error, msgspec.MsgspecError) as error:
        raise ValueError(f"the spike detector's state is damaged: {error}") from error
    raise ValueError(
        f"the spike detector's state is of unknown kind {kind}; was it written by a newer worker?"
    )


def _usual(packed: bytes) -> bytes:
    if packed and len(packed) != PACKED_BYTES:
        raise struct.error(f"{len(packed)} bytes follow it, not 0 or {PACKED_BYTES}")
    return packed
