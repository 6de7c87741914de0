"""What a replay of history would have alerted, held against what is known to have happened.

Rules:
- An *incident* is the life of one alert: all transitions of one id, from firing to resolved.
- A labelled *window* is found by the first alert of its product (and of its channel, where it names one) that
  fires in [start, end], both included. Further alerts in it count neither for nor against.
- An alert that fires in no window is a false alarm. So is one that fires before a window and is still firing
  in it: an alert that was up already tells nobody of the new trouble, and the window is missed.
- Precision is windows found over windows found plus false alarms: both sides are counted in incidents.
- Delays run from a window's labelled start. In events they count the product's events that arrived at or
  after it, the one that fired included: the least delay is 1.
- Quantiles are values that occurred (nearest rank), so a figure can be traced to an incident.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from stream.core.events import Alert, Channel, Quote, event_time_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

DAY_MS = 86_400_000


class Transition(NamedTuple):
    """An alert's transition and the event that caused it."""

    place: int
    """Of the event among those of its product, from 0."""
    alert: Alert


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """One alert from firing to its end. Shares and counts are those it fired with."""

    id: str
    product_id: str
    channel: Channel
    rule: str
    severity: Literal["warning", "critical"]
    onset_ms: int
    """The change-point estimate."""
    fired_ms: int
    place: int
    """Of the event that fired it among those of its product, from 0."""
    events: int
    """From the onset to firing, both included: the delay in events."""
    negatives: int
    share: float
    share_interval: tuple[float, float]
    baseline_share: float
    baseline_interval: tuple[float, float]
    distinct_authors: int
    resolved_ms: int | None
    """None where it was still firing when the history ended."""
    peak_share: float
    """The highest that the last transition knows of."""
    quotes: list[Quote]
    """Of the last transition."""

    @property
    def delay_ms(self) -> int:
        """From the onset to firing."""
        return self.fired_ms - self.onset_ms


class Window(NamedTuple):
    """A labelled incident."""

    product_id: str
    channel: Channel | None
    """None for every channel."""
    start_ms: int
    end_ms: int


class Found(NamedTuple):
    """A window and what found it."""

    window: Window
    incident: Incident | None
    delay_events: int | None
    delay_ms: int | None


class Matching(NamedTuple):
    """Alerts held against windows."""

    windows: list[Found]
    false_alarms: list[Incident]


class Spread(msgspec.Struct, frozen=True):
    """Of delays."""

    median: float
    p90: float


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """How well the alerts fit the windows."""

    windows: int
    found: int
    false_alarms: int
    precision: float | None
    """None where nothing was found and nothing raised."""
    recall: float
    delay_events: Spread | None
    """None where nothing was found."""
    delay_s: Spread | None
    false_alarms_per_day: float
    """By days of history."""


class Pair(NamedTuple):
    """One trouble as two rule sets saw it; None for the one that did not."""

    first: Incident | None
    second: Incident | None


def incidents_of(transitions: Iterable[Transition]) -> list[Incident]:
    """Transitions to incidents, in the order they fired.

    Args:
        transitions: those of one alert in their order.
    """
    by_id: dict[str, list[Transition]] = {}
    for transition in transitions:
        by_id.setdefault(transition.alert.id, []).append(transition)
    incidents = [_incident(of_one) for of_one in by_id.values()]
    return sorted(incidents, key=lambda each: (each.fired_ms, each.product_id, each.id))


def _incident(transitions: Sequence[Transition]) -> Incident:
    place, fired = transitions[0]
    last = transitions[-1].alert
    return Incident(
        id=fired.id,
        product_id=fired.product_id,
        channel=fired.channel,
        rule=fired.rule,
        severity=last.severity,
        onset_ms=milliseconds(fired.onset),
        fired_ms=milliseconds(fired.at),
        place=place,
        events=fired.events,
        negatives=fired.negatives,
        share=fired.current_share,
        share_interval=fired.current_interval,
        baseline_share=fired.baseline_share,
        baseline_interval=fired.baseline_interval,
        distinct_authors=fired.distinct_authors,
        resolved_ms=milliseconds(last.at) if last.state == "resolved" else None,
        peak_share=last.peak_share,
        quotes=last.quotes,
    )


def milliseconds(text: str) -> int:
    """The inverse of ``stream.core.events.rfc3339``.

    >>> milliseconds("2023-11-14T22:13:20.123Z")
    1700000000123
    """
    return event_time_ms(datetime.fromisoformat(text))


def matched(
    incidents: Sequence[Incident], windows: Sequence[Window], arrivals_ms: Mapping[str, Sequence[int]]
) -> Matching:
    """Which windows were found, how soon, and which alerts were for nothing.

    Args:
        incidents: in the order they fired.
        windows: labelled; they may overlap, and then one alert finds them all.
        arrivals_ms: of every product's events, ascending.
    """
    of_product: defaultdict[str, list[Incident]] = defaultdict(list)
    for each in incidents:
        of_product[each.product_id].append(each)
    in_a_window: set[str] = set()
    found = []
    for window in windows:
        inside = [each for each in of_product[window.product_id] if _is_inside(each, window)]
        in_a_window.update(each.id for each in inside)
        first = inside[0] if inside else None
        if first is None:
            found.append(Found(window, None, None, None))
            continue
        before = bisect_left(arrivals_ms[window.product_id], window.start_ms)
        found.append(Found(window, first, first.place + 1 - before, first.fired_ms - window.start_ms))
    return Matching(found, [each for each in incidents if each.id not in in_a_window])


def _is_inside(incident: Incident, window: Window) -> bool:
    there = window.channel in (None, incident.channel)
    return there and window.start_ms <= incident.fired_ms <= window.end_ms


def quality(matching: Matching, days: float) -> Quality:
    """Figures of a matching.

    Args:
        matching: of at least one window.
        days: of history.
    """
    found = [each for each in matching.windows if each.incident is not None]
    false_alarms = len(matching.false_alarms)
    raised = len(found) + false_alarms
    return Quality(
        windows=len(matching.windows),
        found=len(found),
        false_alarms=false_alarms,
        precision=len(found) / raised if raised else None,
        recall=len(found) / len(matching.windows),
        delay_events=spread([each.delay_events for each in found if each.delay_events is not None]),
        delay_s=spread([each.delay_ms / 1000 for each in found if each.delay_ms is not None]),
        false_alarms_per_day=false_alarms / days,
    )


def spread(values: Sequence[float]) -> Spread | None:
    """Median and 90th percentile; None of nothing.

    >>> spread([5, 1, 9])
    Spread(median=5, p90=9)
    """
    return Spread(ranked(values, 0.5), ranked(values, 0.9)) if values else None


def ranked(values: Sequence[float], share: float) -> float:
    """The least of ``values`` that at least ``share`` of them do not exceed (nearest rank).

    >>> ranked([1, 2, 3, 4], 0.5), ranked([7], 0.9)
    (2, 7)
    """
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def days_between(first_ms: int, last_ms: int) -> float:
    """Days of a history, at least one: a rate a day that an hour's history suggests is no figure.

    >>> days_between(0, 36 * 3_600_000), days_between(5, 5)
    (1.5, 1.0)
    """
    return max(1.0, (last_ms - first_ms) / DAY_MS)


def paired(first: Sequence[Incident], second: Sequence[Incident]) -> list[Pair]:
    """The incidents of two rule sets side by side, by the time the earlier of a pair fired.

    Two are of the same trouble when they are of one product and channel and their times from onset to end
    overlap. One that could be paired with several is paired with the earliest.
    """
    left: defaultdict[tuple[str, Channel], list[Incident]] = defaultdict(list)
    for each in second:
        left[each.product_id, each.channel].append(each)
    pairs = []
    for one in first:
        candidates = left[one.product_id, one.channel]
        place = next((at for at, other in enumerate(candidates) if _overlap(one, other)), None)
        pairs.append(Pair(one, None if place is None else candidates.pop(place)))
    pairs += [Pair(None, each) for candidates in left.values() for each in candidates]
    return sorted(pairs, key=_earliest_ms)


def _overlap(one: Incident, other: Incident) -> bool:
    return one.onset_ms <= _end_ms(other) and other.onset_ms <= _end_ms(one)


def _end_ms(incident: Incident) -> float:
    return math.inf if incident.resolved_ms is None else incident.resolved_ms


def _earliest_ms(pair: Pair) -> int:
    return min(each.fired_ms for each in pair if each is not None)
