"""Delay: events from a rise to the alert, as a multiple of the exact CUSUM's of the same run length.

Rules:
- The reference knows the base rate and is designed for a fixed alternative (``exact.design``), its threshold
  solved for the run length. Beside it, the clairvoyant: the CUSUM designed for the very rise that comes.
- The detector waits for a minimum of negatives, which is no matter of detection. So the reference stands
  there three times: without that minimum; with it, at the same threshold, as ours has it; and with it at the
  threshold at which false alarms come to the budget again, which spends what the minimum saves.
- The detector is the real one. Told the base rate, it starts at rest, the worst case, as the reference does,
  and needs no minimum of events: it has nothing to learn.
  Learned, it has seen so many events of the product and is in whatever state they left; a product whose alert
  fires on them is drawn, and dropped.
- A miss is no alert within ``CAP`` times the reference's mean delay, the minimum regarded, and counts as that
  many events.
- A rise that the reference itself takes more than ``LONGEST`` events to find is not asked for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from stream.bench.detectors.exact import (
    design,
    exact_cusum,
    least_events,
    mean_events,
    median_events,
    times_odds,
)
from stream.bench.detectors.streams import first_firing, knowing, learned_state, rule
from stream.core.spike import SpikeDetector

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

USUAL = (0.02, 0.05, 0.12, 0.2, 0.35)
ODDS = (2.0, 2.5, 4.0, 8.0)
RUN_LENGTHS = (3.8e4, 1e6)
LEARNED = (None, 200, 1_000)
"""Events seen before the rise; None: told the base rate."""
CAP = 5
LONGEST = 2_000


class Delay(msgspec.Struct, frozen=True, kw_only=True):
    """Delays at one rise, in events."""

    usual: float
    odds: float
    """The rise: by what the odds of the share are multiplied."""
    risen: float
    run_length: float
    learned: int | None
    least_negatives: int
    exact_mean: float
    exact_median: float
    least_mean: float
    """Of the exact CUSUM with the same minimum of negatives at the same threshold."""
    least_budget_mean: float
    """Of the exact CUSUM with the same minimum of negatives whose threshold is lowered to the run length."""
    clairvoyant_mean: float
    mean: float
    median: float
    missed: float
    """Share of the rises without an alert."""
    tries: int
    mean_ratio: float
    """Of the detector's mean to the exact CUSUM's."""
    mean_ratio_interval: tuple[float, float]
    """95%, normal."""
    least_ratio: float
    """Of the detector's mean to ``least_mean``."""
    least_budget_ratio: float
    """Of the detector's mean to ``least_budget_mean``."""
    possible_ratio: float | None
    """What two samples can prove on average, as the ratio that ``mean_ratio`` would have; None where nothing
    is to be learned, infinite (null in JSON) where they cannot."""
    median_ratio: float
    median_ratio_interval: tuple[float, float]
    """95%, by order statistics."""


def median_interval(ordered: npt.NDArray[np.float64]) -> tuple[float, float]:
    """95% interval of the median behind a sorted sample: two order statistics.

    >>> median_interval(np.arange(100.0))
    (40.0, 60.0)
    """
    tries = len(ordered)
    off = 1.959963984540054 * math.sqrt(tries) / 2
    low, high = max(0, math.floor(tries / 2 - off)), min(tries - 1, math.ceil(tries / 2 + off))
    return float(ordered[low]), float(ordered[high])


def drawn_delays(
    run_length: float,
    usual: float,
    risen: float,
    *,
    learned: int | None,
    cap: int,
    tries: int,
    least_negatives: int,
) -> npt.NDArray[np.float64]:
    """Events from a rise to the alert, a miss as ``cap``, of each of ``tries`` products with a fixed seed."""
    rng = np.random.default_rng(7)
    under = rule(run_length, least_negatives)
    if learned is None:
        # From rest, as the reference: its first 20 events are no time to get to know the product.
        under = msgspec.structs.replace(knowing(under, usual), min_events=1)
    detector = SpikeDetector(under, "bench")
    events: list[int] = []
    while len(events) < tries:
        state, alerts = learned_state(detector, rng.random(learned or 0) < usual)
        rise = rng.random(cap) < risen
        if not alerts:
            events.append(first_firing(detector, state, rise, learned or 0) or cap)
    return np.array(events, dtype=np.float64)


def delay(
    run_length: float, usual: float, odds: float, learned: int | None, tries: int, least_negatives: int
) -> Delay:
    """The detector's delays at one rise beside the exact CUSUM's."""
    risen = times_odds(usual, odds)
    reference = exact_cusum(usual, design(usual), run_length)
    exact = mean_events(reference, risen)
    exact_median = median_events(reference, risen)
    least_mean = mean_events(msgspec.structs.replace(reference, least_negatives=least_negatives), risen)
    lowered = exact_cusum(usual, design(usual), run_length, least_negatives)
    least_budget_mean = mean_events(lowered, risen)
    cap = math.ceil(CAP * least_mean)
    events = np.sort(
        drawn_delays(
            run_length,
            usual,
            risen,
            learned=learned,
            cap=cap,
            tries=tries,
            least_negatives=least_negatives,
        )
    )
    mean, error = events.mean(), 1.96 * events.std(ddof=1) / math.sqrt(tries)
    low, high = median_interval(events)
    return Delay(
        usual=usual,
        odds=odds,
        risen=risen,
        run_length=run_length,
        learned=learned,
        least_negatives=least_negatives,
        exact_mean=exact,
        exact_median=exact_median,
        least_mean=least_mean,
        least_budget_mean=least_budget_mean,
        clairvoyant_mean=mean_events(exact_cusum(usual, risen, run_length), risen),
        mean=float(mean),
        median=float(np.median(events)),
        missed=float((events == cap).mean()),
        tries=tries,
        mean_ratio=float(mean / exact),
        mean_ratio_interval=(float((mean - error) / exact), float((mean + error) / exact)),
        least_ratio=float(mean / least_mean),
        least_budget_ratio=float(mean / least_budget_mean),
        possible_ratio=least_events(usual, risen, learned, exact) / exact if learned else None,
        median_ratio=float(np.median(events) / exact_median),
        median_ratio_interval=(low / exact_median, high / exact_median),
    )


def delays(
    *, tries: int = 600, run_lengths: tuple[float, ...] = RUN_LENGTHS, least_negatives: int = 8
) -> Iterator[Delay]:
    """Every rise at every base rate, run length and history."""
    for run_length in run_lengths:
        for learned in LEARNED:
            for usual in USUAL:
                reference = exact_cusum(usual, design(usual), run_length)
                for odds in ODDS:
                    if mean_events(reference, times_odds(usual, odds)) <= LONGEST:
                        yield delay(run_length, usual, odds, learned, tries, least_negatives)
