"""How long until the CUSUM of ``stream.core.spike`` alarms: exactly, without simulation.

Rules:
- Evidence depends on the events and negatives of an excursion alone, so an excursion is a walk on a lattice,
  and a walk's fate a sum over its nodes: no sampling, no approximation but the dropped mass below ``LEAST``.
- Excursions are independent repetitions: run length = mean length of one / probability that it alarms.
- The baseline is held still, as for a product whose past is known or long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream.core.spike import factors, hypotheses

if TYPE_CHECKING:
    from stream.core.spike import Hypotheses, SpikeRule

KNOWN = 1e9
"""Events behind a baseline that is as good as known."""
LEAST = 1e-18


def run_length(rule: SpikeRule, baseline: float, share: float, baseline_events: float = KNOWN) -> float:
    """Mean events until an alarm, from rest.

    With ``share`` equal to ``baseline`` it is the run between false alarms; above it, the delay of detection
    in the worst case, that the evidence is at rest when the share rises.

    Args:
        rule: the rule; its minimum of events is not regarded.
        baseline: share the detector believes in.
        share: the true one.
        baseline_events: how much it believes so.

    Returns:
        Events; infinite where no walk reaches the threshold within the rule's patience.
    """
    weight = min(baseline_events, KNOWN)
    against = hypotheses(rule, baseline * weight, (1.0 - baseline) * weight)
    # Patience grows with the baseline's weight, which in use the rule's memory bounds.
    patience = max(rule.patience_events, min(weight, rule.memory_events))
    length, alarm = _excursion(rule, against, share, patience)
    return length / alarm if alarm > 0.0 else float("inf")


def _excursion(rule: SpikeRule, against: Hypotheses, share: float, patience: float) -> tuple[float, float]:
    """Mean length of an excursion (or of a single event at rest) and the probability that it alarms."""
    length, alarm, events = 1.0, 0.0, 1
    risen, steep = factors(True, against, 0, 0)
    alive = {1: (share, (1.0 - rule.steep_weight) * risen, rule.steep_weight * steep)}
    while alive and events < patience:
        after: dict[int, tuple[float, float, float]] = {}
        for negatives, (mass, evidence, steep_evidence) in alive.items():
            length += mass
            for is_negative, chance in ((True, share), (False, 1.0 - share)):
                risen, steep = factors(is_negative, against, events, negatives)
                grown, steeper = evidence * risen, steep_evidence * steep
                count = negatives + is_negative
                if grown + steeper >= against.threshold and count >= rule.min_negatives:
                    alarm += mass * chance
                elif grown + steeper > 1.0 and mass * chance > LEAST:
                    before = after[count][0] if count in after else 0.0
                    after[count] = (before + mass * chance, grown, steeper)
        alive = after
        events += 1
    return length, alarm
