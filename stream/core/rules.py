"""The rules file: what alerts, beyond what the settings say. TOML, version 1; docs/rules.md explains it.

Rules:
- The structs below are the file: their fields are its keys, and its JSON Schema is made of them.
  ``stream.core.rules_parse`` reads it into them, ``stream.core.rules_warnings`` says what they cannot do.
- What is not given is as the settings have it (``[spike]``, ``[surge]``) or has a default, stated here.
- Overrides apply in the order of the file, key by key; a later one wins.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec

from stream.core.buckets import DAY_MS, HOUR_MS, MINUTE_MS
from stream.core.scope import Scope
from stream.core.toml_lines import Path  # noqa: TC001 (msgspec reads the annotation when it runs)
from stream.core.toml_reading import Problem, meta, says
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.core.events import Channel

VERSION = 1

Builtin = Literal["spike", "surge"]
"""The statistical rules by the names of their tables."""
BUILTIN_NAMES = {"spike": "negative_share", "surge": "negative_rate"}
"""What alerts call them."""

RESOLVE_FRACTION = 0.75
"""Where a threshold rule begins to resolve, of where it begins to fire, unless the file says so itself: the
share of 20 events has a standard deviation of a quarter of itself (at 0.4), so less would flap by luck."""
SHARE_MIN_EVENTS = 20
"""Events in the window that a rule on the share needs unless it says so itself: as many as the settings want
of a product before the spike rule may alert."""

UNIT_MS = {"s": 1_000, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}


Name = Annotated[
    str,
    # Not `$` alone, which lets a line break stand behind.
    meta("a name of 1 to 64 of a-z, 0-9, _ and -", '"many-complaints"', pattern=r"^[a-z0-9_-]{1,64}(?!\n)$"),
]
Share = Annotated[float, meta("a share from 0 to 1", "0.4", ge=0.0, le=1.0)]
Count = Annotated[int, meta("a whole number from 1 to 1,000,000", "20", ge=1, le=1_000_000)]
Duration = Annotated[
    str,
    meta("a duration: a whole number and s, m, h or d", '"1h"', pattern=r"^[0-9]{1,6}[smhd](?!\n)$"),
]
Severity = Annotated[Literal["warning", "critical"], meta("warning or critical", '"warning" or "critical"')]
Flag = Annotated[bool, meta("true or false", "true or false")]
PerDay = Annotated[float, meta("a number above 0", "1.0", gt=0.0, le=1e15)]
MinEvents = Annotated[int, meta("a whole number from 1 to 65,535", "20", ge=1, le=65_535)]
MinNegatives = Annotated[int, meta("a whole number from 1 to 1,000", "8", ge=1, le=1_000)]
OneBuiltin = Annotated[Builtin, meta("spike or surge", '"spike" or "surge"')]


class Knobs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A statistical rule: what is given here stands above the settings."""

    enabled: Annotated[Flag, says("Whether the rule alerts at all.")] = True
    false_alarms_per_day: Annotated[
        PerDay | None, says("False alarms a day that the rule may make in the whole fleet.")
    ] = None
    expected_events_per_day: Annotated[PerDay | None, says("Events a day of the whole fleet.")] = None
    min_events: Annotated[MinEvents | None, says("Events a product needs before it can alert.")] = None
    min_negatives: Annotated[MinNegatives | None, says("Negatives since the onset that an alert needs.")] = (
        None
    )


class ThresholdRule(Scope, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A plain rule: so large a share, so many negatives, or both, among the events of a window."""

    name: Annotated[Name, says("What its alerts call it; each name once.")]
    window: Annotated[Duration, says("How far back it looks, by arrival; 1m to 7d.")]
    share: Annotated[Share | None, says("Holds at this negative share or above it.")] = None
    negatives: Annotated[Count | None, says("Holds at so many negatives or more.")] = None
    min_events: Annotated[
        Count | None, says("Holds only with so many events in the window; 20 with a share, else 1.")
    ] = None
    for_: Annotated[Duration, says("How long it must hold before it fires; up to 24h.")] = msgspec.field(
        default="0s", name="for"
    )
    resolve_share: Annotated[
        Share | None, says("Resolves below this share; three quarters of share if not given.")
    ] = None
    resolve_negatives: Annotated[
        Count | None, says("Resolves below so many negatives; three quarters of negatives if not given.")
    ] = None
    keep_firing_for: Annotated[Duration, says("How long it must be over before it resolves; up to 7d.")] = (
        "0s"
    )
    severity: Annotated[Severity, says("Of its alerts.")] = "warning"

    @property
    def window_ms(self) -> int:
        """How far back it looks."""
        return duration_ms(self.window)

    @property
    def for_ms(self) -> int:
        """How long it must hold."""
        return duration_ms(self.for_)

    @property
    def keep_firing_ms(self) -> int:
        """How long it must be over."""
        return duration_ms(self.keep_firing_for)

    @property
    def least_events(self) -> int:
        """``min_events``, or its default."""
        if self.min_events is not None:
            return self.min_events
        return 1 if self.share is None else SHARE_MIN_EVENTS

    @property
    def over_share(self) -> float | None:
        """``resolve_share``, or its default; None where the rule has no share."""
        if self.share is None or self.resolve_share is not None:
            return self.resolve_share
        return round(RESOLVE_FRACTION * self.share, 9)  # 0.3 of 0.4, not 0.30000000000000004

    @property
    def over_negatives(self) -> int | None:
        """``resolve_negatives``, or its default; None where the rule has no count."""
        if self.negatives is None or self.resolve_negatives is not None:
            return self.resolve_negatives
        return math.ceil(RESOLVE_FRACTION * self.negatives)

    @property
    def needed_negatives(self) -> int:
        """Fewest negatives with which it can hold.

        >>> ThresholdRule(name="x", window="1h", share=0.4, min_events=20).needed_negatives
        8
        """
        share, events = self.share or 0.0, self.least_events
        # As the detector compares, not by rounding up the product: 0.07 of 100 is a bit more than 7.
        count = max(0, int(share * events) - 1)
        while count / events < share:
            count += 1
        return max(count, self.negatives or 0)


class Override(Scope, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Other minimums of the statistical rules, or none of their alerts, for some products."""

    rule: Annotated[OneBuiltin | None, says("spike or surge; both if not given.")] = None
    enabled: Annotated[Flag | None, says("Whether it alerts on these products.")] = None
    min_events: Annotated[MinEvents | None, says("As in [spike] and [surge].")] = None
    min_negatives: Annotated[MinNegatives | None, says("As in [spike] and [surge].")] = None


class RulesFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file as it is written."""

    version: Annotated[Literal[1], meta("the version 1", "1"), says("Of this format.")]
    spike: Annotated[Knobs, says("The rule negative_share: has a product's share risen?")] = Knobs()
    surge: Annotated[Knobs, says("The rule negative_rate: has its number of negatives risen?")] = Knobs()
    threshold: Annotated[list[ThresholdRule], says("Plain rules, any number.")] = []
    override: Annotated[list[Override], says("Exceptions, any number; a later one wins.")] = []


class Minimums(NamedTuple):
    """What a statistical rule asks of one event; None is what the settings say."""

    enabled: bool
    min_events: int | None
    min_negatives: int | None


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was found right; without one, nothing but the settings."""

    spike: Knobs = Knobs()
    surge: Knobs = Knobs()
    thresholds: tuple[ThresholdRule, ...] = ()
    overrides: tuple[Override, ...] = ()
    where: str = ""
    """The file's name, for what is said of it."""
    lines: dict[Path, int] = {}
    """Where its keys stand."""

    def minimums(self, rule: Builtin, product_id: str, channel: Channel, category: str | None) -> Minimums:
        """What a statistical rule asks of an event, overrides included.

        >>> rules = Rules(overrides=(Override(pattern="B00*", rule="spike", enabled=False),))
        >>> rules.minimums("spike", "B00A", "reviews", None).enabled
        False
        """
        knobs = self.spike if rule == "spike" else self.surge
        found = Minimums(knobs.enabled, knobs.min_events, knobs.min_negatives)
        for each in self.overrides:
            if each.rule in (None, rule) and each.covers(product_id, channel) and each.takes(category):
                given = {key: getattr(each, key) for key in Minimums._fields}
                found = found._replace(**{key: said for key, said in given.items() if said is not None})
        return found


class RulesError(UsageError):
    """A rules file is wrong; says all that is."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        count = len(problems)
        where = problems[0].where
        head = f"The rules file {where} has {'a mistake' if count == 1 else f'{count} mistakes'}:"
        super().__init__("\n  ".join([head, *map(str, problems)]))
        self.problems = tuple(problems)


def duration_ms(text: str) -> int:
    """Milliseconds of a ``Duration``.

    >>> duration_ms("15m"), duration_ms("7d")
    (900000, 604800000)
    """
    return int(text[:-1]) * UNIT_MS[text[-1]]


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the file, for editors.

    >>> json_schema()["$defs"]["Knobs"]["properties"]["min_negatives"]["maximum"]
    1000
    """
    schema: dict[str, Any] = _without_null(msgspec.json.schema(RulesFile))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _without_null(schema: Any) -> Any:
    """TOML has no null: what may be one is what may be left out. A table's defaults are its keys'."""
    if isinstance(schema, list):
        return [_without_null(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: _without_null(each)
        for key, each in schema.items()
        if key != "default" or isinstance(each, str | bool)
    }
    choices = kept.get("anyOf", [])
    if {"type": "null"} in choices:
        del kept["anyOf"]
        (only,) = (each for each in choices if each != {"type": "null"})
        return {**kept, **only}
    return kept
