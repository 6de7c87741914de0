"""A product's baseline, as its detectors remember it: for people who look, nothing decides by it."""

from __future__ import annotations

from typing import NamedTuple

from stream.core import spike_state
from stream.core.detection import unpack
from stream.core.spike import wilson


class Shares(NamedTuple):
    """The usual share of negatives on a channel."""

    share: float
    interval: tuple[float, float]
    """95%, as in an alert."""
    events: float
    """Weight of the evidence behind it, prior included."""


def shares_of(packed: bytes | None) -> Shares | None:
    """The baseline in a stored state; None where there is none, or it is a newer worker's.

    While an alert fires it is the share from before the onset.

    >>> state = spike_state.pack(spike_state.State(alpha=12.0, beta=88.0, seen=90))
    >>> shares_of(state).share, [round(each, 3) for each in shares_of(state).interval]
    (0.12, [0.07, 0.198])
    >>> shares_of(bytes([250])) is None
    True
    """
    try:
        spike = unpack(packed).spike
        if spike is None:
            return None
        state = spike_state.unpack(spike)
    except ValueError:
        return None
    weight = state.alpha + state.beta
    if not 0.0 < weight < float("inf"):
        return None
    return Shares(state.alpha / weight, wilson(state.alpha, weight), weight)
