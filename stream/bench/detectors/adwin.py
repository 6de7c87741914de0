"""River's ADWIN as a contestant. River is optional: without it the bench names what is missing.

Rules:
- ADWIN tells changes both ways; a rise is one after which its window's share is higher than before.
- It keeps its own past, so it has no statistic to put a threshold to: its confidence ``delta`` is its
  threshold, from a ladder. Two neighbours are tossed between, so that it meets the wanted rate on average, as
  every other contestant does.
- ``clock=1``: it looks at every event, not at each 32nd, river's default; the quickest ADWIN there is.
- It is a loop in Python over single events, so it gets fewer streams than the others.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from stream.bench.detectors.charts import Streams

LADDER = tuple(2.0**power for power in range(-16, 5))
"""Deltas, strictest first. Above one they are no confidences any more, but without them ADWIN, whose bound is
a cautious one, would alarm too rarely to be compared."""


class Deltas(NamedTuple):
    """Detects with ``loose`` with probability ``toss``, else with ``strict``."""

    strict: float
    loose: float
    toss: float


def is_installed() -> bool:
    """Whether river is."""
    return find_spec("river") is not None


def first_rises(streams: Streams, delta: float) -> npt.NDArray[np.float64]:
    """Judged events until ADWIN tells a rise in each stream; infinite where it never does.

    Raises:
        ImportError: river is not installed.
    """
    from river.drift import ADWIN

    told = np.full(len(streams.labels), np.inf)
    for number, labels in enumerate(streams.labels.tolist()):
        window = ADWIN(delta=delta, clock=1)
        for events, negative in enumerate(labels, 1 - streams.learned):
            before = window.estimation
            window.update(negative)
            if window.drift_detected and events > 0 and window.estimation > before:
                told[number] = events
                break
    return told


def rate_of(stationary: Sequence[Streams], delta: float) -> float:
    """The share of all these streams that alarms."""
    return float(np.concatenate([np.isfinite(first_rises(each, delta)) for each in stationary]).mean())


def tuned_deltas(stationary: Sequence[Streams], rate: float) -> Deltas:
    """The neighbours of the ladder between which a share ``rate`` of all these streams alarms."""
    low, high = 0, len(LADDER) - 1
    while low < high:
        middle = (low + high) // 2
        if rate_of(stationary, LADDER[middle]) >= rate:
            high = middle
        else:
            low = middle + 1
    strict, loose = LADDER[max(low - 1, 0)], LADDER[low]
    below, above = rate_of(stationary, strict), rate_of(stationary, loose)
    toss = (rate - below) / (above - below) if above > below else 1.0
    return Deltas(strict, loose, min(1.0, max(0.0, toss)))
