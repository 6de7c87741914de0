"""The exact CUSUM of two known shares: what no detector of the same run length can beat at its design.

Rules:
- It shares no code with ``stream.core``: it is what the detector is held against.
- Evidence depends on the events and negatives of an excursion alone, so the chance that one alarms, or is
  reset, after so many events is a sum over a lattice: no sampling. Excursions are independent repetitions, so
  the time to an alarm follows by renewal.
- The share is known and the evidence at rest when it rises: the worst case (Lorden 1971, Moustakides 1986).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

DESIGN_ODDS, DESIGN_FLOOR = 2.5, 0.05
"""The alternative of the reference: the odds of a share that is lifted by a floor, times 2.5. It is the one
that docs/decisions/0004-spike-detector.md settled on, and stays here even if the detector's own changes."""
LEAST = 1e-16
"""Mass of an excursion that is dropped."""


class Cusum(msgspec.Struct, frozen=True):
    """A CUSUM of "the share is ``risen``" against "it is ``usual``", reset where they are as likely."""

    usual: float
    risen: float
    threshold: float
    """Logarithm of the likelihood ratio at which it alarms."""
    least_negatives: int = 1
    """Negatives of the excursion before it can alarm: the rule that stands beside ours."""


def times_odds(share: float, odds_ratio: float) -> float:
    """The share whose odds are ``odds_ratio`` times those of ``share``.

    >>> times_odds(0.2, 4.0)
    0.5
    """
    return odds_ratio * share / (1.0 - share + odds_ratio * share)


def design(share: float) -> float:
    """The share that the reference takes for risen.

    >>> round(design(0.12), 3)
    0.329
    """
    return times_odds(DESIGN_FLOOR + (1.0 - DESIGN_FLOOR) * share, DESIGN_ODDS)


def excursion(cusum: Cusum, share: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Chances that an excursion from rest alarms, and that it is reset, after 1, 2, 3... events.

    Args:
        cusum: the detector.
        share: the true negative share.

    Returns:
        Two arrays of one length. Together they sum to one but for dropped mass.
    """
    up = math.log(cusum.risen / cusum.usual)
    down = math.log((1.0 - cusum.risen) / (1.0 - cusum.usual))
    # mass[k]: the excursion is alive and holds k negatives.
    mass = np.array([1.0])
    alarms, resets = [], []
    events = first = 0
    while mass.size:
        events += 1
        grown = np.zeros(mass.size + 1)
        grown[1:] = mass * share
        grown[:-1] += mass * (1.0 - share)
        negatives = first + np.arange(grown.size)
        evidence = negatives * up + (events - negatives) * down
        alarmed = (evidence >= cusum.threshold) & (negatives >= cusum.least_negatives)
        reset = evidence <= 0.0
        alarms.append(grown[alarmed].sum())
        resets.append(grown[reset].sum())
        kept = np.flatnonzero(~alarmed & ~reset & (grown > LEAST))
        if not kept.size:
            break
        mass, first = grown[kept[0] : kept[-1] + 1], first + int(kept[0])
    return np.array(alarms), np.array(resets)


def mean_events(cusum: Cusum, share: float) -> float:
    """Mean events until an alarm: the run length at the usual share, the delay at a risen one.

    >>> round(mean_events(Cusum(0.5, 0.75, 0.4), 0.5), 2)   # the first negative alarms
    2.0
    """
    alarms, resets = excursion(cusum, share)
    length = np.arange(1, alarms.size + 1) @ (alarms + resets)
    return float(length / alarms.sum())


def median_events(cusum: Cusum, share: float) -> int:
    """Events within which half of the alarms come, exactly.

    >>> median_events(Cusum(0.5, 0.75, 0.4), 0.3)   # 1 - 0.7^n passes a half
    2
    """
    alarms, resets = excursion(cusum, share)
    at_rest, alarmed = [1.0], 0.0
    while alarmed < 0.5:
        # at_rest[t]: chance of a reset, the first being the start, exactly after t events.
        past = np.array(at_rest[::-1][: alarms.size])
        alarmed += float(past @ alarms[: past.size])
        at_rest.append(float(past @ resets[: past.size]))
    return len(at_rest) - 1


def divergence(share: float, other: float) -> float:
    """Kullback and Leibler's: mean evidence of an event of ``share`` against ``other``."""
    return share * math.log(share / other) + (1.0 - share) * math.log((1.0 - share) / (1.0 - other))


def least_events(usual: float, risen: float, learned: int, known_events: float) -> float:
    """Events of a rise in which two samples prove what ``known_events`` prove where the usual share is known.

    Of ``learned`` events at ``usual`` and n at ``risen``, the evidence of "two shares" against "one share" is
    on average about that of the two shares themselves against their mean. A test that knows no more of the
    usual share than those events has no other; one with a prior of just this share would have.

    Returns:
        The least n; infinite where no number of events is enough.

    >>> round(least_events(0.12, 0.353, 200, 42.2)), least_events(0.05, 0.095, 200, 607.0)
    (59, inf)
    """
    wanted = known_events * divergence(risen, usual)
    # However many follow, the first sample alone bounds what they can say.
    if learned * divergence(usual, risen) <= wanted:
        return math.inf
    low, high = known_events, known_events * 1e6
    while high / low > 1.0001:
        events = math.sqrt(low * high)
        both = (learned * usual + events * risen) / (learned + events)
        if learned * divergence(usual, both) + events * divergence(risen, both) < wanted:
            low = events
        else:
            high = events
    return high


@lru_cache(maxsize=256)
def exact_cusum(usual: float, risen: float, run_length: float, least_negatives: int = 1) -> Cusum:
    """The CUSUM of this run length, to within the steps that a lattice of counts allows."""
    low, high = 0.0, math.log(run_length)
    # 24 halvings of some 14: to a millionth, far finer than the lattice.
    for _ in range(24):
        middle = (low + high) / 2
        if mean_events(Cusum(usual, risen, middle, least_negatives), usual) < run_length:
            low = middle
        else:
            high = middle
    return Cusum(usual, risen, high, least_negatives)
