"""When alerts resolve, which jumps a young product misses, what a call costs.

Rules:
- Run lengths with a known baseline are sampled by excursions, to 4%. The rest is drawn with a fixed seed and
  judged by the real ``judge``, from a product never seen.
- A product whose alert fires before its rise is drawn, and dropped.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from stream.bench.detectors.streams import first_firing, learned_state, observations, rule
from stream.core.run_length import run_length
from stream.core.spike import SpikeDetector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.random import Generator

USUAL = 0.12
LONGEST = 3_000
"""Events after which an alert that has not come, or not ended, is given up."""


class KnownRunLength(msgspec.Struct, frozen=True, kw_only=True):
    """The run length at one base rate, the baseline known."""

    share: float
    target: float
    least_negatives: int
    of_target: float


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """Incidents of a product whose usual share is 0.12: medians and ninth deciles, in events."""

    run_length: float
    learned: int
    risen: float
    to_fire: tuple[float, float]
    to_resolve: tuple[float, float]
    """From the return to the usual share."""
    missed: float
    """Share of the rises without an alert."""


class MissedJumps(msgspec.Struct, frozen=True, kw_only=True):
    """Jumps to 0.6, 80 events long, at a run length of a million."""

    usual: float
    learned: int
    missed: float


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """CPU of a call for a quiet product."""

    observations: int
    us: float


class Lifecycle(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    run_lengths: list[KnownRunLength]
    incidents: list[Incident]
    missed_jumps: list[MissedJumps]
    costs: list[Cost]


def known_run_lengths() -> Iterator[KnownRunLength]:
    """How well the threshold's closed form keeps the run length it is for."""
    for target in (2e3, 3.8e4, 1e6):
        for least in (1, 8):
            for share in (0.01, 0.05, 0.12, 0.2, 0.35, 0.5, 0.7, 0.9):
                of_target = run_length(rule(target, least), share, share) / target
                yield KnownRunLength(share=share, target=target, least_negatives=least, of_target=of_target)


def _learned(
    detector: SpikeDetector, rng: Generator, usual: float, events: int, tries: int
) -> Iterator[bytes]:
    """States of products that learned their usual share and do not fire."""
    for _ in range(tries):
        state, alerts = learned_state(detector, rng.random(events) < usual)
        if not alerts:
            yield state


def incident(run: float, learned: int, risen: float, tries: int = 200) -> Incident:
    """Rises from 0.12 that last until 60 events after the alert."""
    rng = np.random.default_rng(7)
    detector = SpikeDetector(rule(run), "bench")
    to_fire, to_resolve, missed = [], [], 0
    for state in _learned(detector, rng, USUAL, learned, tries):
        rise = rng.random(LONGEST) < risen
        fires = first_firing(detector, state, rise, learned)
        if not fires:
            missed += 1
            continue
        to_fire.append(fires)
        after, alerts = detector.judge("p", "reviews", state, observations(rise[: fires + 60], learned))
        if len(alerts) == 1:
            back = rng.random(LONGEST) < USUAL
            # Of a firing alert the next transition is its end.
            to_resolve.append(first_firing(detector, after, back, learned + fires + 60) or LONGEST)
    return Incident(
        run_length=run,
        learned=learned,
        risen=risen,
        to_fire=(float(np.quantile(to_fire, 0.5)), float(np.quantile(to_fire, 0.9))),
        to_resolve=(float(np.quantile(to_resolve, 0.5)), float(np.quantile(to_resolve, 0.9))),
        missed=missed / (missed + len(to_fire)),
    )


def missed_jumps(usual: float, learned: int, tries: int = 200) -> MissedJumps:
    """Share of jumps to 0.6, 80 events long, that a young product's detector never fires on."""
    rng = np.random.default_rng(7)
    detector = SpikeDetector(rule(1e6), "bench")
    found = [
        first_firing(detector, state, rng.random(80) < 0.6, learned) > 0
        for state in _learned(detector, rng, usual, learned, tries)
    ]
    return MissedJumps(usual=usual, learned=learned, missed=1 - float(np.mean(found)))


def cost(observations_a_call: int, calls: int = 20_000) -> Cost:
    """Microseconds of CPU a call of a quiet product takes; the best of five rounds."""
    rng = np.random.default_rng(7)
    detector = SpikeDetector(rule(1e6), "bench")
    negative = rng.random(calls * observations_a_call) < USUAL
    told = [
        observations(negative[first : first + observations_a_call], first)
        for first in range(0, len(negative), observations_a_call)
    ]
    best = float("inf")
    for _ in range(5):
        state = None
        began = time.process_time()
        for each in told:
            state, _ = detector.judge("p", "reviews", state, each)
        best = min(best, time.process_time() - began)
    return Cost(observations=observations_a_call, us=best / calls * 1e6)


def lifecycle(tries: int = 200) -> Lifecycle:
    """Measures all of it."""
    return Lifecycle(
        run_lengths=list(known_run_lengths()),
        incidents=[
            incident(run, learned, risen, tries)
            for run in (3.8e4, 1e6)
            for learned in (200, 1_000)
            for risen in (0.35, 0.5)
        ],
        missed_jumps=[
            missed_jumps(usual, learned, tries)
            for usual in (0.05, 0.12, 0.2)
            for learned in (30, 60, 120, 200, 400)
        ],
        costs=[cost(size) for size in (1, 2, 5, 50)],
    )
