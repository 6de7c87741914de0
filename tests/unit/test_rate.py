from __future__ import annotations

import math

import numpy as np
import pytest

from stream.core.rate import (
    HOUR,
    Belief,
    Pace,
    RateRule,
    belief_of,
    burstiness,
    evidence_of,
    learn,
    learn_burst,
    rate_interval,
    threshold,
)
from stream.core.surge_run_length import run_length

RULE = RateRule(run_length=100_000.0)


def belief(certainty: float, per_day: float = 2.0) -> Belief:
    steady = RateRule(run_length=100_000.0, prior_burstiness=0.0)
    return belief_of(Pace(negatives=certainty, days=certainty / per_day), steady)


def test_evidence_is_the_ratio_of_two_gamma_poisson_predictions() -> None:
    def log_prediction(negatives: int, days: float, shape: float, per_day: float) -> float:
        scale = shape / per_day
        chance = math.lgamma(shape + negatives) - math.lgamma(shape) - math.lgamma(negatives + 1)
        chance += shape * math.log(scale / (scale + days))
        return chance + negatives * math.log(days / (scale + days))

    expected = log_prediction(9, 1.5, 12.0, 6.0) - log_prediction(9, 1.5, 12.0, 2.0)
    assert evidence_of(9.0, 1.5, belief(12.0)) == pytest.approx(expected, rel=1e-12)


def test_evidence_does_not_depend_on_the_unit_of_time() -> None:
    assert evidence_of(9.0, 1.5, belief(12.0, 2.0)) == evidence_of(9.0, 0.375, belief(12.0, 8.0))


def test_the_closed_threshold_keeps_the_exact_run_length() -> None:
    for factor in (2.0, 3.0, 5.0):
        kept = [run_length(threshold(run, factor), factor) / run for run in (1e3, 1e4, 1e5, 1e6)]
        assert kept == pytest.approx([1.0] * 4, abs=0.03)


def test_the_exact_run_length_is_that_of_a_simulation() -> None:
    rng = np.random.default_rng(1)
    evidence, alarms = np.zeros(20_000), 0
    for _ in range(500):
        evidence = np.maximum(0.0, evidence - 2.0 * rng.exponential(size=evidence.size)) + math.log(3.0)
        alarms += int((evidence >= 5.0).sum())
        evidence[evidence >= 5.0] = 0.0
    # 10,000,000 negatives, some 43,000 alarms; the first hundred negatives climb from rest.
    assert 500 * evidence.size / alarms == pytest.approx(run_length(5.0, 3.0), rel=0.02)


def learned(per_day: float, spread: float, slots: int, seed: int = 3) -> Pace:
    """A pace that saw ``slots`` hours whose rates have this variance over their square."""
    rng = np.random.default_rng(seed)
    pace = Pace()
    for _ in range(slots):
        rate = per_day * (rng.gamma(1.0 / spread, spread) if spread else 1.0)
        learn(pace, RULE, float(rng.poisson(rate * HOUR)), HOUR)
    return pace


def test_a_steady_rate_is_known_for_steady() -> None:
    seen = [burstiness(learned(480.0, 0.0, 600, seed), RULE) for seed in range(10)]
    assert sorted(seen)[:8] == [0.0] * 8
    assert max(seen) < 0.05


@pytest.mark.parametrize("spread", [0.1, 0.25, 0.5])
def test_a_bursty_rate_is_known_for_bursty(spread: float) -> None:
    seen = [burstiness(learned(480.0, spread, 600, seed), RULE) for seed in range(10)]
    # The slots here begin with the bursts; the allowance for those that do not makes half as much again.
    assert np.mean(seen) == pytest.approx(1.5 * spread, rel=0.2)


def test_bursts_that_alarmed_make_a_rate_bursty() -> None:
    pace = learned(480.0, 0.0, 600)
    for _ in range(10):
        learn_burst(pace, RULE, 5.0)
    assert burstiness(pace, RULE) > 0.3


def test_the_past_fades_beyond_its_memory() -> None:
    pace = learned(480.0, 0.0, 24 * 100)
    assert pace.days == pytest.approx(28.0)
    assert pace.slots == 200.0
    sparse = Pace()
    for _ in range(300):
        learn(sparse, RULE, 1.0, 2.0, 3.0)
    assert [sparse.negatives, sparse.others] == pytest.approx([100.0, 300.0])


def test_certainty_is_bounded_by_burstiness() -> None:
    steady = belief_of(Pace(negatives=1_000.0, days=10.0, slots=200.0, excess=0.0), RULE)
    bursty = belief_of(Pace(negatives=1_000.0, days=10.0, slots=200.0, excess=40.0), RULE)
    assert (steady.certainty, steady.clump) == (1_000.0, 1.0)
    assert 3.0 < bursty.certainty < 4.0
    assert bursty.clump > 3.0


def test_a_rate_below_the_floor_is_taken_for_the_floor() -> None:
    assert belief_of(Pace(negatives=10.0, days=100.0), RULE).per_day == 0.5
    assert belief_of(Pace(negatives=10.0, days=0.0), RULE).per_day == 0.5


@pytest.mark.parametrize(("count", "low", "high"), [(0, 0.0, 3.84), (9, 4.73, 17.11), (100, 82.2, 121.6)])
def test_a_rate_interval_is_the_score_interval(count: int, low: float, high: float) -> None:
    assert rate_interval(float(count), 1.0, 1.0) == pytest.approx((low, high), rel=2e-3, abs=1e-9)
