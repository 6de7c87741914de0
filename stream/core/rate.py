"""At what rate do a product's negatives arrive, how steady is it, and what is a run of them evidence of?

Rules:
- Time is operational (``stream.core.profile``) and in days.
- "The rate is what it was" and "it is ``factor`` times that" are judged by the same unknown usual rate, a
  gamma of as many negatives and days as were seen. Of the two predictions of n negatives in t days, the
  likelihood ratio is factor^n ((b + t)/(b + factor t))^(a + n): it depends on no prior and no unit of time,
  so that a fleet keeps its budget whatever its products' rates, learned from nothing.
- Rates are not steady: a bad day brings many. ``burstiness`` is the variance of the ordinary rate over its
  square (one over a negative binomial's size), learned from slots of at least an hour and eight expected
  negatives. What a slot may do by itself is unknown as the usual rate is unknown, and is paid for in the same
  way: a, the certainty, is at most one over the burstiness.
- The threshold is by Cramer-Lundberg: evidence drains at a constant rate and jumps at each negative, like an
  insurer's loss. Negatives that come in bursts are fewer occasions to err; ``clump`` of them count as one.
- Nothing here decides by libm: ``stream.core.logarithm``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec

from stream.core.logarithm import ln

HOUR = 1.0 / 24.0
SLOT_NEGATIVES = 8.0
"""Expected in a slot: with fewer, chance alone hides how steady a rate is."""
SLOT_NOISE = math.sqrt(2.0) / SLOT_NEGATIVES
"""Standard deviation of a slot's burstiness where the rate is steady."""
UNSEEN = 1.5
"""Slots do not begin where bursts do, so that they show two thirds of them: by simulation."""
PRIOR_SLOTS = 8.0
MOST_OFF = 3.0
"""A slot further off counts as this far: a single one must not blind for weeks."""
YOUTH = 30.0
"""Against a baseline of a negatives, evidence is scarcer by some YOUTH/a: by simulation."""
MOST_YOUTH = 0.7
LEAST_RUN_LENGTH = 50.0
"""A shorter one would alarm on chance that eight negatives can show."""


class RateRule(msgspec.Struct, frozen=True, kw_only=True):
    """Everything tunable about evidence."""

    run_length: float
    """Negatives of the fleet between two false alarms: negatives a day over false alarms a day."""
    factor: float = 3.0
    """The rise that is found soonest."""
    floor_per_day: float = 0.5
    """Usual rates below this are taken for this: from one complaint a month to three wakes nobody."""
    prior_burstiness: float = 0.25
    """Worth ``PRIOR_SLOTS`` slots. Weeks of Amazon reviews have 0.2 to 0.7, hours of tweets 0.15 to 0.3."""
    memory_days: float = 28.0
    memory_negatives: float = 100.0
    """The past fades beyond both."""
    memory_slots: float = 200.0
    patience: float = 4.0
    """An excursion in which this many times the certainty was expected has said what it can."""


class Pace(msgspec.Struct, array_like=True):
    """What is known of a product's usual rate."""

    negatives: float = 0.0
    days: float = 0.0
    slots: float = 0.0
    """Finished ones behind the burstiness."""
    excess: float = 0.0
    """Sum over them of the squared relative error, less what a steady rate would have."""
    slot_negatives: float = 0.0
    slot_days: float = 0.0
    others: float = 0.0
    """Events that were no negatives: the usual share is told in an alert, and decides nothing."""


def learn(pace: Pace, rule: RateRule, negatives: float, days: float, others: float = 0.0) -> None:
    """Takes ``negatives``, and ``others`` beside them, in ``days`` for the product's ordinary life."""
    pace.negatives += negatives
    pace.days += days
    pace.others += others
    pace.slot_negatives += negatives
    pace.slot_days += days
    if pace.days <= 0.0:
        return
    expected = pace.negatives / pace.days * pace.slot_days
    if expected >= SLOT_NEGATIVES and pace.slot_days >= HOUR:
        off = min(pace.slot_negatives / expected - 1.0, MOST_OFF)
        pace.excess += off * off - 1.0 / expected
        pace.slots += 1.0
        pace.slot_negatives = pace.slot_days = 0.0
        _forget_slots(pace, rule)
    if pace.days > rule.memory_days and pace.negatives > rule.memory_negatives:
        kept = max(rule.memory_days / pace.days, rule.memory_negatives / pace.negatives)
        pace.negatives *= kept
        pace.days *= kept
        pace.others *= kept


def _forget_slots(pace: Pace, rule: RateRule) -> None:
    if pace.slots > rule.memory_slots:
        pace.excess *= rule.memory_slots / pace.slots
        pace.slots = rule.memory_slots


def learn_burst(pace: Pace, rule: RateRule, times: float) -> None:
    """Takes an excursion of ``times`` the usual rate that alarmed for a slot; of the rate it says nothing.

    Without it a product that bursts every week would alarm every week: what alarms would never be learned.
    """
    off = min(times - 1.0, MOST_OFF)
    pace.excess += off * off
    pace.slots += 1.0
    _forget_slots(pace, rule)


def burstiness(pace: Pace, rule: RateRule) -> float:
    """Variance of the ordinary rate over its square; 0, a Poisson process, until it is surely more.

    >>> burstiness(Pace(slots=100.0, excess=2.0), RateRule(run_length=1e5))
    0.0
    >>> round(burstiness(Pace(slots=100.0, excess=30.0), RateRule(run_length=1e5)), 2)
    0.44
    """
    slots = PRIOR_SLOTS + pace.slots
    seen = (PRIOR_SLOTS * rule.prior_burstiness / UNSEEN + pace.excess) / slots
    return UNSEEN * seen if seen > 2.0 * SLOT_NOISE / math.sqrt(slots) else 0.0


class Belief(NamedTuple):
    """What an excursion is judged by."""

    certainty: float
    """Shape of the gamma of the ordinary rate."""
    per_day: float
    """Its mean."""
    clump: float
    """Negatives that are one occasion: variance over mean of a slot's count."""
    threshold: float
    """Evidence at which to alarm."""
    patience_days: float
    factor: float
    log_factor: float


def threshold(run_length: float, factor: float) -> float:
    """Evidence at which a CUSUM on a known rate alarms once in ``run_length`` negatives.

    Evidence drains by factor - 1 in the time of one usual negative, and each adds ln factor. By Cramer and
    Lundberg an excursion above h is as rare as C exp(-h), which makes the run length
    exp(h) (f ln f - f + 1)/(f - 1 - ln f)^2; ``stream.core.surge_run_length`` computes it exactly.

    >>> round(threshold(1_000_000.0, 3.0), 3)
    13.349
    """
    log = ln(factor)
    drift = factor - 1.0 - log
    return ln(run_length * drift * drift / (factor * log - factor + 1.0))


def belief_of(pace: Pace, rule: RateRule) -> Belief:
    """What ``pace`` says about the next excursion; it needs at least one negative."""
    bursts = burstiness(pace, rule)
    certainty = pace.negatives / (1.0 + pace.negatives * bursts)
    per_day = max(pace.negatives / pace.days, rule.floor_per_day) if pace.days > 0.0 else rule.floor_per_day
    clump = 1.0 + bursts * max(SLOT_NEGATIVES, per_day * HOUR)
    return Belief(
        certainty,
        per_day,
        clump,
        threshold(max(rule.run_length, LEAST_RUN_LENGTH), rule.factor)
        - min(YOUTH / pace.negatives, MOST_YOUTH),
        max(HOUR, rule.patience * certainty / per_day),
        rule.factor,
        ln(rule.factor),
    )


def evidence_of(negatives: float, days: float, belief: Belief) -> float:
    """Log-likelihood ratio of the factor times the usual rate to the usual rate.

    Args:
        negatives: of the excursion.
        days: that they took, operational.
        belief: about the usual rate.

    >>> rule = RateRule(run_length=1e5, prior_burstiness=0.0)
    >>> known = belief_of(Pace(negatives=2e9, days=1e9), rule)
    >>> round(evidence_of(9.0, 1.5, known), 3)       # 9 ln 3 - 2 x 3 expected
    3.888
    >>> round(evidence_of(9.0, 1.5, belief_of(Pace(negatives=10.0, days=5.0), rule)), 3)
    2.677
    """
    at = belief.certainty
    expected = belief.per_day * days
    return negatives * belief.log_factor - (at + negatives) * ln(
        (at + belief.factor * expected) / (at + expected)
    )


def recovery_rates(belief: Belief, per_day_at_alarm: float) -> tuple[float, float]:
    """The rates that mean "back" and "still risen".

    Back is a standard deviation of grace above the usual rate. Still risen is the geometric middle from there
    to the rate that alarmed: what falls from high is soon over, what hovers does not flap.

    >>> belief = belief_of(Pace(negatives=100.0, days=50.0), RateRule(run_length=1e5, prior_burstiness=0.0))
    >>> [round(rate, 2) for rate in recovery_rates(belief, 19.8)]
    [2.2, 6.6]
    """
    back = belief.per_day * (1.0 + 1.0 / math.sqrt(belief.certainty))
    return back, max(1.5 * back, math.sqrt(back * per_day_at_alarm))


def quiet_of(negatives: float, days: float, rates: tuple[float, float], clump: float) -> float:
    """Log-likelihood ratio of "back" to "still risen", a clump of negatives counted once.

    >>> round(quiet_of(1.0, 2.0, (2.2, 6.6), 1.0), 2)       # 4.4 a day x 2 - ln 3
    7.7
    """
    back, risen = rates
    return ((risen - back) * days - negatives * ln(risen / back)) / clump


Z95 = 1.959963984540054


def rate_interval(negatives: float, days: float, clump: float) -> tuple[float, float]:
    """95% score interval of a rate a day; a clump of negatives counts once.

    >>> [round(bound, 2) for bound in rate_interval(9.0, 3.0, 1.0)]      # Poisson 9: 4.73 to 17.11
    [1.58, 5.7]
    """
    half = Z95 * Z95 * clump / 2.0
    spread = Z95 * math.sqrt(clump * (negatives + half / 2.0))
    return max(0.0, negatives + half - spread) / days, (negatives + half + spread) / days
