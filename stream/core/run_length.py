"""How long until the detector of ``stream.core.spike`` alarms, its baseline held still: sampled, by seed.

Rules:
- Excursions are independent repetitions: run length = mean length of one / probability that it alarms.
- An alarm of a stationary share is too rare to wait for. So excursions are drawn under the rises that the
  rule itself supposes, and each alarm counts as much as its path is likelier without a rise (importance
  sampling; Siegmund 1976). The expectation is exact, the error that of ``EXCURSIONS`` paths: 2 to 4%.
- The sum over onsets depends on the whole path, so there is no sum over a lattice of events and negatives.
- The same seed gives the same figure.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from stream.core.spike import factors, hypotheses

if TYPE_CHECKING:
    from stream.core.spike import Hypotheses, SpikeRule

KNOWN = 1e9
"""Events behind a baseline that is as good as known."""
EXCURSIONS = 4_000
"""Drawn for a probability, and for a delay."""
LENGTHS = 40_000
"""Drawn for the mean length: short ones, a few of them long."""


def run_length(rule: SpikeRule, baseline: float, share: float, baseline_events: float = KNOWN) -> float:
    """Mean events until an alarm, from rest.

    With ``share`` equal to ``baseline`` it is the run between false alarms; above it, the delay of detection
    in the worst case, that the evidence is at rest when the share rises.

    Args:
        rule: the rule; its minimum of events is not regarded.
        baseline: share the detector believes in.
        share: the true one; the baseline, or clearly above it.
        baseline_events: how much it believes so.

    Returns:
        Events; infinite where no walk reaches the threshold within the rule's patience.
    """
    weight = min(baseline_events, KNOWN)
    against = hypotheses(rule, baseline * weight, (1.0 - baseline) * weight)
    # Patience grows with the baseline's weight, which in use the rule's memory bounds.
    patience = max(rule.patience_events, min(weight, rule.memory_events))
    rng = random.Random(7)
    if share > baseline:
        drawn = [_excursion(rule, against, share, patience, rng) for _ in range(EXCURSIONS)]
        length = sum(events for events, _, _ in drawn) / EXCURSIONS
        alarm = sum(alarmed for _, alarmed, _ in drawn) / EXCURSIONS
    else:
        length = sum(_excursion(rule, against, share, patience, rng)[0] for _ in range(LENGTHS)) / LENGTHS
        alarm = share * _chance_of_alarm(rule, against, share, patience, rng)
    return length / alarm if alarm > 0.0 else float("inf")


def _chance_of_alarm(
    rule: SpikeRule, against: Hypotheses, share: float, patience: float, rng: random.Random
) -> float:
    """Of an excursion that has begun, with a negative."""
    total = 0.0
    for _ in range(EXCURSIONS):
        drawn_as = against.steep if rng.random() < rule.steep_weight else against.risen
        _, alarmed, likelier = _excursion(rule, against, drawn_as, patience, rng, share)
        total += alarmed * likelier
    return total / EXCURSIONS


def _excursion(
    rule: SpikeRule,
    against: Hypotheses,
    share: float,
    patience: float,
    rng: random.Random,
    target: float | None = None,
) -> tuple[int, bool, float]:
    """One excursion, or a single event at rest.

    Args:
        rule: the rule.
        against: what it is judged by.
        share: drawn from.
        patience: events after which it is given up.
        rng: draws.
        target: the share asked about, where it is not the one drawn from; the excursion then begins at once.

    Returns:
        Its events, whether it alarmed, and how much likelier its path after the first event is under
        ``target`` than under the mixture of rises.
    """
    if target is None and rng.random() >= share:
        return 1, False, 1.0
    ordinary = 1.0 - rule.steep_weight
    risen, steep = factors(True, against, 0, 0)
    evidence, steep_evidence = ordinary * risen, rule.steep_weight * steep
    summed, steep_summed = evidence, steep_evidence
    # Likelihoods of the path under the two rises, over that under the target.
    as_risen, as_steep = ordinary, rule.steep_weight
    events = negatives = 1
    while True:
        if summed + steep_summed >= against.threshold and negatives >= rule.min_negatives:
            return events, True, 1.0 / (as_risen + as_steep)
        if evidence + steep_evidence <= 1.0 or events >= patience:
            return events, False, 1.0 / (as_risen + as_steep)
        negative = rng.random() < share
        risen, steep = factors(negative, against, events, negatives)
        evidence, steep_evidence = evidence * risen, steep_evidence * steep
        summed, steep_summed = (summed + ordinary) * risen, (steep_summed + rule.steep_weight) * steep
        if target is not None:
            as_risen *= against.risen / target if negative else (1.0 - against.risen) / (1.0 - target)
            as_steep *= against.steep / target if negative else (1.0 - against.steep) / (1.0 - target)
        events += 1
        negatives += negative
