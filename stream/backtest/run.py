"""A history judged by one rule set or two, and what came of it.

Rules:
- The judge is the worker's own: ``judge`` of a detector, fed a product's events in order. How they are cut
  into calls changes nothing, so they come one at a time, and each transition knows its event.
- A rule set is the settings' budget, changed by a rules file, changed by what the command line gives: the
  nearer to the caller wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from stream.core.backtest import Transition, days_between, incidents_of, matched, paired, quality
from stream.detectors import Budget
from stream.detectors import budget_of as spike_budget
from stream.detectors import detector_of as judge_of
from stream.errors import UsageError
from stream.rules import load_rules, read_rules

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stream.core.backtest import Incident, Matching, Pair, Quality, Window
    from stream.core.events import Channel
    from stream.core.rules import Rules
    from stream.core.spike import Observation
    from stream.record import Detector
    from stream.settings import Settings


class RuleSet(NamedTuple):
    """What a history is judged by."""

    name: str
    rules: Path | None
    """A rules file."""
    given: Mapping[str, float]
    """Of ``Budget``, what the command line gives."""


@dataclass(frozen=True)
class Outcome:
    """What one rule set made of the history."""

    rule_set: RuleSet
    budget: Budget
    incidents: list[Incident]
    matching: Matching | None
    """None without labelled windows."""
    quality: Quality | None


@dataclass(frozen=True)
class Replayed:
    """A history and what its rule sets made of it."""

    events: int
    products: int
    first_ms: int
    last_ms: int
    days: float
    outcomes: list[Outcome]
    """One, or two that are compared."""
    pairs: list[Pair]
    """Where there are two."""


def rule_set_of(text: str, first: RuleSet) -> RuleSet:
    """The rule set that is compared with ``first``.

    Args:
        text: a rules file, or changes to the budget of ``first``: ``min_negatives=4,min_events=10``.
        first: whose rules file and budget hold where ``text`` says nothing else.

    Raises:
        UsageError: it is neither.

    >>> rule_set_of("min_negatives=4", RuleSet("default", None, {"min_events": 10})).given
    {'min_events': 10, 'min_negatives': 4}
    """
    if "=" not in text or Path(text).exists():
        return RuleSet(text, Path(text), first.given)
    changes = {}
    for each in text.split(","):
        name, _, value = each.partition("=")
        changes[name.strip()] = _budget_number(f"--against {text}", name.strip(), value)
    return RuleSet(text, first.rules, {**first.given, **changes})


def _budget_number(where: str, name: str, value: object) -> float:
    if name not in Budget._fields:
        raise UsageError(f"{where}: there is no {name!r}; choose from {', '.join(Budget._fields)}.")
    whole = name.startswith("min_")
    try:
        number = int(str(value)) if whole else float(str(value))
    except ValueError:
        number = 0
    if not 0 < number < float("inf"):
        a_number = "a whole number" if whole else "a number"
        raise UsageError(f"{where}: {name} is {value!r}; write {a_number} above 0.")
    return number


def _told(rule_set: RuleSet, settings: Settings) -> tuple[Settings, Rules]:
    """Settings and rules with what the command line gives in them, above both.

    Raises:
        UsageError: the rules file cannot be used.
    """
    rules = read_rules(rule_set.rules) if rule_set.rules is not None else load_rules(settings)
    unsaid = dict.fromkeys(rule_set.given)
    rules = replace(rules, spike=replace(rules.spike, **unsaid), surge=replace(rules.surge, **unsaid))
    given = {f"alert_{key}" if key.startswith("min_") else key: each for key, each in rule_set.given.items()}
    return settings.model_copy(update=given), rules


def budget_of(rule_set: RuleSet, settings: Settings) -> Budget:
    """The spike rule's budget, as a rule set ends up with it.

    Raises:
        UsageError: the rules file cannot be used.
    """
    told, rules = _told(rule_set, settings)
    return spike_budget(told, rules.spike)


def detector_of(rule_set: RuleSet, settings: Settings, model_version: str) -> Detector:
    """The judge of a rule set.

    Args:
        rule_set: what it judges by.
        settings: what the rule set does not say.
        model_version: who labelled the events, as alerts name it.

    Raises:
        UsageError: the rules file cannot be used, or a minimum is too high.
    """
    return judge_of(*_told(rule_set, settings), model_version)


def transitions_of(
    detector: Detector, channel: Channel, by_product: Mapping[str, Sequence[Observation]]
) -> list[Transition]:
    """Every alert transition that the events would have caused.

    Args:
        detector: the judge.
        channel: of all the events.
        by_product: each product's events in order.
    """
    transitions: list[Transition] = []
    for product_id, observations in by_product.items():
        state: bytes | None = None
        for place, observation in enumerate(observations):
            state, alerts = detector.judge(product_id, channel, state, [observation])
            if alerts:
                transitions += [Transition(place, alert) for alert in alerts]
    return transitions


def replayed(
    by_product: Mapping[str, Sequence[Observation]],
    channel: Channel,
    rule_sets: Sequence[RuleSet],
    settings: Settings,
    model_version: str,
    windows: Sequence[Window] | None,
) -> Replayed:
    """Judges a history by each rule set.

    Args:
        by_product: each product's events in order; at least one event.
        channel: of all of them.
        rule_sets: one, or two to compare.
        settings: what the rule sets do not say.
        model_version: who labelled the events.
        windows: labelled incidents; None where nobody labelled any.

    Raises:
        UsageError: a rule set cannot be used.
    """
    arrivals_ms = {
        product_id: [each.arrival_ms for each in observations]
        for product_id, observations in by_product.items()
    }
    first_ms = min(each[0] for each in arrivals_ms.values())
    last_ms = max(each[-1] for each in arrivals_ms.values())
    days = days_between(first_ms, last_ms)
    detectors = [detector_of(rule_set, settings, model_version) for rule_set in rule_sets]
    outcomes = []
    for rule_set, detector in zip(rule_sets, detectors, strict=True):
        incidents = incidents_of(transitions_of(detector, channel, by_product))
        matching = None if windows is None else matched(incidents, windows, arrivals_ms)
        outcomes.append(
            Outcome(
                rule_set,
                budget_of(rule_set, settings),
                incidents,
                matching,
                None if matching is None else quality(matching, days),
            )
        )
    return Replayed(
        events=sum(map(len, arrivals_ms.values())),
        products=len(arrivals_ms),
        first_ms=first_ms,
        last_ms=last_ms,
        days=days,
        outcomes=outcomes,
        pairs=paired(outcomes[0].incidents, outcomes[1].incidents) if len(outcomes) == 2 else [],
    )
