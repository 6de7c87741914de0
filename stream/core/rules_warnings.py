"""What a right rules file cannot do: rules that never fire or never stop, and keys without effect.

Rules:
- A warning is certain, by the file alone and the events a day that it or the settings state. What depends on
  how customers behave is no warning.
- Each names line and key, and what to write instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stream.core.buckets import DAY_MS
from stream.core.rules import Builtin, Knobs, Override, Rules, ThresholdRule
from stream.core.scope import Scope, matches
from stream.core.spike import LEAST_RUN_LENGTH
from stream.core.toml_lines import Path, line_at
from stream.core.toml_reading import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

MINIMUMS = ("min_events", "min_negatives")
NUMBERS = ("false_alarms_per_day", "expected_events_per_day", *MINIMUMS)


def warnings(rules: Rules, expected_events_per_day: float | None = None) -> list[Problem]:
    """What is to be mended, by line.

    Args:
        rules: of a file.
        expected_events_per_day: of the whole fleet, by the settings; what the file says of it goes before.

    >>> rule = ThresholdRule(name="all", window="1h", share=0.0)
    >>> [warning.wrong for warning in warnings(Rules(thresholds=(rule,), where="rules.toml"))]
    ['a share of 0 always holds: it fires on every product with 20 events']
    """
    review = _Review(rules, rules.spike.expected_events_per_day or expected_events_per_day)
    found = [*review.tables(), *review.thresholds(), *review.overrides()]
    return sorted(found, key=lambda problem: problem.line)


class _Review:
    """One look at a file's rules."""

    def __init__(self, rules: Rules, expected_events_per_day: float | None) -> None:
        self._rules = rules
        self._events_per_day = expected_events_per_day
        self._knobs: dict[Builtin, Knobs] = {"spike": rules.spike, "surge": rules.surge}

    def tables(self) -> Iterator[Problem]:
        """Of ``[spike]`` and ``[surge]``."""
        alerting = [rule for rule in self._knobs if self._may_alert(rule)]
        if not alerting and not self._rules.thresholds:
            remedy = "enable one of them, or add a [[threshold]]"
            yield self._of(
                ("spike", "enabled"), "enabled in [spike]", "nothing in this file can ever alert", remedy
            )
        for rule, knobs in self._knobs.items():
            given = [key for key in NUMBERS if getattr(knobs, key) is not None]
            if rule not in alerting:
                for key in given:
                    wrong = "it has no effect on a rule that is not enabled"
                    yield self._of((rule, key), f"{key} in [{rule}]", wrong, "remove it, or enable the rule")
                continue
            if knobs.min_events and knobs.min_negatives and knobs.min_negatives >= knobs.min_events:
                yield self._no_effect(
                    (rule, "min_events"), f"[{rule}]", f"{knobs.min_negatives} negatives are asked for"
                )
            alarms, events = knobs.false_alarms_per_day, knobs.expected_events_per_day or self._events_per_day
            if alarms and events and events / alarms < LEAST_RUN_LENGTH:
                most = events / LEAST_RUN_LENGTH
                wrong = f"more than one false alarm in {LEAST_RUN_LENGTH:g} events is never made"
                key = "false_alarms_per_day"
                yield self._of((rule, key), f"{key} in [{rule}]", wrong, f"write {key} = {most:g}, or less")

    def thresholds(self) -> Iterator[Problem]:
        """Of ``[[threshold]]``."""
        first: dict[tuple[Any, ...], str] = {}
        for place, rule in enumerate(self._rules.thresholds):
            path: Path = ("threshold", place)
            table = f"[[threshold]] {rule.name}"
            yield from self._scope(rule, path, table, "it can never fire")
            yield from self._never_fires(rule, path, table)
            yield from self._never_stops(rule, path, table)
            yield from self._idle_keys(rule, path, table)
            same = _behaviour(rule)
            if same in first:
                wrong = f"it fires and resolves together with {first[same]}"
                yield self._of(path, table, wrong, "remove one of them, or tell their lines or scopes apart")
            first.setdefault(same, rule.name)

    def overrides(self) -> Iterator[Problem]:
        """Of ``[[override]]``."""
        for place, override in enumerate(self._rules.overrides):
            path = ("override", place)
            table = f"[[override]] number {place + 1}"
            yield from self._scope(override, path, table, "it has no effect")
            later = next(
                (
                    ("override", after)
                    for after in range(place + 1, len(self._rules.overrides))
                    if _replaces(self._rules.overrides[after], override)
                ),
                None,
            )
            if later is None:
                yield from self._idle_exceptions(override, path, table)
            else:
                wrong = f"it has no effect: the one on line {self._line(later)} says all of it again"
                yield self._of(path, table, wrong, "remove one of them")

    def _idle_exceptions(self, override: Override, path: tuple[str, int], table: str) -> Iterator[Problem]:
        concerned = [rule for rule in self._knobs if override.rule in (None, rule)]
        was_enabled = all(self._knobs[rule].enabled for rule in concerned) and not any(
            each.enabled is False for each in self._rules.overrides[: path[1]]
        )
        if override.enabled and was_enabled:
            wrong = "it has no effect: nothing before it in the file says false"
            yield self._of((*path, "enabled"), f"enabled in {table}", wrong, "remove it")
        if override.enabled is False or not any(self._may_alert(rule) for rule in concerned):
            for key in MINIMUMS:
                if getattr(override, key) is not None:
                    wrong = "it has no effect on a rule that is not enabled"
                    yield self._of(
                        (*path, key), f"{key} in {table}", wrong, "remove it, or write enabled = true"
                    )

    def _may_alert(self, rule: Builtin) -> bool:
        return self._knobs[rule].enabled or any(
            each.enabled and each.rule in (None, rule) for each in self._rules.overrides
        )

    def _scope(self, scope: Scope, path: Path, table: str, so: str) -> Iterator[Problem]:
        if scope.pattern is None:
            return
        key = f"pattern in {table}"
        if scope.product is not None and not matches(scope.pattern, scope.product):
            wrong = f"{so}: the product {scope.product} does not match it"
            yield self._of((*path, "pattern"), key, wrong, "remove product or pattern")
        elif "*" not in scope.pattern:
            wrong = "without a * it is one product's whole id"
            remedy = (
                f'write pattern = "{scope.pattern}*" for all that begin so, or product = "{scope.pattern}"'
            )
            yield self._of((*path, "pattern"), key, wrong, remedy)

    def _never_fires(self, rule: ThresholdRule, path: Path, table: str) -> Iterator[Problem]:
        for key, count in (("min_events", rule.least_events), ("negatives", rule.negatives or 0)):
            if self._events_per_day is None:
                break
            most = self._events_per_day * rule.window_ms / DAY_MS
            if count > most:
                wrong = (
                    f"it can never fire: by expected_events_per_day the whole fleet has {most:,.0f} events"
                    f" in {rule.window}"
                )
                yield self._of(
                    (*path, key), f"{key} in {table}", wrong, "write a longer window, or a smaller number"
                )
                break
        if rule.negatives is not None and rule.for_ms > rule.window_ms:
            wrong = f"a burst has left the window of {rule.window} before {rule.for_} have passed"
            remedy = f'write for = "{rule.window}", or less, or a longer window'
            yield self._of((*path, "for"), f"for in {table}", wrong, remedy)

    def _never_stops(self, rule: ThresholdRule, path: Path, table: str) -> Iterator[Problem]:
        if rule.share == 0.0:
            wrong = f"a share of 0 always holds: it fires on every product with {rule.least_events} events"
            yield self._of((*path, "share"), f"share in {table}", wrong, "write a share above 0")
        elif rule.resolve_share == 0.0:
            wrong = "no share is below 0: it resolves only when the window is nearly empty"
            remedy = f"write resolve_share = {(rule.share or 0.0) / 2:g}, for example"
            yield self._of((*path, "resolve_share"), f"resolve_share in {table}", wrong, remedy)
        for key, lines in (
            ("resolve_share", (rule.resolve_share, rule.share)),
            ("resolve_negatives", (rule.resolve_negatives, rule.negatives)),
        ):
            if lines[0] is not None and lines[0] == lines[1] != 0.0:
                wrong = "it resolves where it fires, so what hovers there flaps"
                yield self._of(
                    (*path, key), f"{key} in {table}", wrong, f"write less than {lines[1]}, or remove it"
                )

    def _idle_keys(self, rule: ThresholdRule, path: Path, table: str) -> Iterator[Problem]:
        if rule.share and rule.needed_negatives <= 1:
            least = int(1 / rule.share) + 1
            wrong = f"one negative of {rule.least_events} events is enough to fire it"
            yield self._of(
                (*path, "min_events"), f"min_events in {table}", wrong, f"write min_events = {least}, or more"
            )
        if rule.negatives is None:
            return
        if rule.share:
            by_share = ThresholdRule(
                name=rule.name, window=rule.window, share=rule.share, min_events=rule.least_events
            ).needed_negatives
            if by_share >= rule.negatives:
                yield self._no_effect(
                    (*path, "negatives"),
                    table,
                    f"the share of {rule.least_events} events makes {by_share}",
                )
        if rule.min_events is not None and rule.negatives >= rule.min_events > 1:
            yield self._no_effect((*path, "min_events"), table, f"{rule.negatives} negatives are asked for")

    def _no_effect(self, path: Path, table: str, because: str) -> Problem:
        key = path[-1]
        wrong = f"it has no effect: {because} anyway"
        return self._of(path, f"{key} in {table}", wrong, "remove it, or write a larger number")

    def _of(self, path: Path, key: str, wrong: str, remedy: str) -> Problem:
        return Problem(self._rules.where, self._line(path), key, wrong, remedy)

    def _line(self, path: Path) -> int:
        return line_at(self._rules.lines, path)


def _behaviour(rule: ThresholdRule) -> tuple[Any, ...]:
    """All that decides when a rule fires and resolves."""
    return (
        *rule.narrowed(),
        *(rule.window_ms, rule.share, rule.negatives, rule.least_events, rule.for_ms),
        *(rule.over_share, rule.over_negatives, rule.keep_firing_ms),
    )


def _replaces(later: Override, earlier: Override) -> bool:
    """Whether nothing of an override is left by a later one."""
    return (
        list(later.narrowed()) == list(earlier.narrowed())
        and later.rule in (None, earlier.rule)
        and all(
            getattr(later, key) is not None
            for key in ("enabled", *MINIMUMS)
            if getattr(earlier, key) is not None
        )
    )
