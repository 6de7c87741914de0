"""The judge that the settings and their rules file ask for: of the worker, a recount and a backtest.

Rules:
- What a rules file says stands above the settings.
- The false-alarm budget is the fleet's, for all statistical rules together: each has its even part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from stream.core.detection import Detection
from stream.core.priors import BUILT_IN
from stream.core.rules_warnings import warnings
from stream.core.spike import LEAST_RUN_LENGTH, rule_from
from stream.core.surge import surge_rule_from
from stream.priors import load_priors
from stream.vocabulary import background

if TYPE_CHECKING:
    from stream.core.rules import Knobs, Rules
    from stream.settings import Settings

STATISTICAL_RULES = 2
"""The spike and the surge."""


class Budget(NamedTuple):
    """What the fleet allows and expects."""

    false_alarms_per_day: float
    expected_events_per_day: float
    min_events: int
    min_negatives: int

    @property
    def run_length(self) -> float:
        """Events between two false alarms, at least: what the threshold is set for."""
        return max(LEAST_RUN_LENGTH, self.expected_events_per_day / self.false_alarms_per_day)


def budget_of(settings: Settings, knobs: Knobs) -> Budget:
    """What one statistical rule goes by: its table in the rules file, else its part of the settings'."""
    part = settings.false_alarms_per_day / STATISTICAL_RULES
    return Budget(
        part if knobs.false_alarms_per_day is None else knobs.false_alarms_per_day,
        settings.expected_events_per_day
        if knobs.expected_events_per_day is None
        else knobs.expected_events_per_day,
        settings.alert_min_events if knobs.min_events is None else knobs.min_events,
        settings.alert_min_negatives if knobs.min_negatives is None else knobs.min_negatives,
    )


def oddities(settings: Settings, rules: Rules, model_version: str) -> list[str]:
    """What is allowed, and probably not meant: rules that cannot fire, priors of another model."""
    odd = [str(each) for each in warnings(rules, settings.expected_events_per_day)]
    learned_from = load_priors(settings).model_version
    if learned_from not in ("", model_version):
        odd.append(
            f"{settings.priors} was learned from the labels of {learned_from}, and this worker's model is"
            f" {model_version}: learn them again with `reviewpulse priors learn` when it has counted a while."
        )
    return odd


def detector_of(settings: Settings, rules: Rules, model_version: str) -> Detection:
    """Judges under the settings and a rules file.

    Raises:
        UsageError: a minimum is beyond what a state can count, or the snapshot of priors cannot be used.
    """
    historic_after_ms = round(settings.historic_after_s * 1000)
    spike, surge = budget_of(settings, rules.spike), budget_of(settings, rules.surge)
    return Detection(
        rule_from(*spike, historic_after_ms),
        surge_rule_from(
            surge.false_alarms_per_day,
            BUILT_IN.share * surge.expected_events_per_day,  # its budget is in negatives
            surge.min_negatives,
            historic_after_ms,
        ),
        rules,
        model_version,
        background=background(),
        priors=load_priors(settings),
    )
