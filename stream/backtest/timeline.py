"""A product's history as a drawing: where each line, bar and band goes. Pure.

Rules:
- Places are shares of the drawing's width and height, from the top left; the page gives them a size.
- The upper part has the negative share of the last ``RECENT`` events at every event; the lower part the
  events and the negatives among them, in bars of equal time.
- The band before an alert is the baseline that it fired against.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.core.backtest import Incident, Window
    from stream.core.spike import Observation

RECENT = 20
FEWEST = 5
"""A share of fewer events says nothing, and is not drawn."""
BARS = 72
MOST_POINTS = 500
SHARE_HEIGHT = 0.7
"""Of the drawing; the bars have the rest but a gap."""
BARS_TOP = 0.76
AROUND_EVENTS = 30
"""Events before the onset and after the end that a close-up shows."""


class Box(NamedTuple):
    """A rectangle."""

    left: float
    top: float
    width: float
    height: float


class Mark(NamedTuple):
    """A moment."""

    kind: Literal["onset", "fired", "resolved", "other"]
    """``other``: fired under the rule set that is compared."""
    left: float


class Timeline(NamedTuple):
    """What is drawn of one product."""

    from_ms: int
    to_ms: int
    share: list[tuple[float, float]]
    bars: list[Box]
    negative_bars: list[Box]
    most_events: int
    """What the tallest bar stands for."""
    bands: list[Box]
    windows: list[Box]
    marks: list[Mark]


def timeline(
    observations: Sequence[Observation],
    incidents: Sequence[Incident],
    others: Sequence[Incident],
    windows: Sequence[Window],
    from_ms: int,
    to_ms: int,
) -> Timeline:
    """Lays out one product's history.

    Args:
        observations: all of the product's, in order.
        incidents: its alerts, in the order they fired.
        others: its alerts under the rule set that is compared.
        windows: its labelled incidents.
        from_ms: the left end.
        to_ms: the right end, after it.
    """

    def place(ms: float) -> float:
        return min(1.0, max(0.0, (ms - from_ms) / (to_ms - from_ms)))

    def stretch(start_ms: float, end_ms: float, top: float, bottom: float) -> Box:
        left = place(start_ms)
        return Box(left, top, place(end_ms) - left, bottom - top)

    bands = []
    since_ms = from_ms
    for each in incidents:
        end_ms = to_ms if each.resolved_ms is None else each.resolved_ms
        low, high = each.baseline_interval
        bands.append(stretch(since_ms, end_ms, share_top(high), share_top(low)))
        since_ms = end_ms
    marks = [Mark("other", place(each.fired_ms)) for each in others if from_ms <= each.fired_ms <= to_ms]
    for each in incidents:
        moments = (("onset", each.onset_ms), ("fired", each.fired_ms), ("resolved", each.resolved_ms))
        marks += [Mark(kind, place(ms)) for kind, ms in moments if ms is not None and from_ms <= ms <= to_ms]  # type: ignore[arg-type]
    bars, negative_bars, most_events = _bars(observations, from_ms, to_ms)
    return Timeline(
        from_ms,
        to_ms,
        [(place(ms), share_top(share)) for ms, share in _recent_shares(observations, from_ms, to_ms)],
        bars,
        negative_bars,
        most_events,
        [band for band in bands if band.width > 0],
        [stretch(each.start_ms, each.end_ms, 0.0, 1.0) for each in windows if _meets(each, from_ms, to_ms)],
        marks,
    )


def share_top(share: float) -> float:
    """How far from the top a share is drawn.

    >>> share_top(1.0), share_top(0.0)
    (0.0, 0.7)
    """
    return (1.0 - share) * SHARE_HEIGHT


def close_up(observations: Sequence[Observation], incident: Incident) -> tuple[int, int]:
    """From when to when an alert is shown from near."""
    arrivals_ms = [each.arrival_ms for each in observations]
    onset = bisect_left(arrivals_ms, incident.onset_ms)
    end = incident.place
    if incident.resolved_ms is not None:
        end = bisect_right(arrivals_ms, incident.resolved_ms) - 1
    first = arrivals_ms[max(0, onset - AROUND_EVENTS)]
    last = arrivals_ms[min(len(arrivals_ms) - 1, end + AROUND_EVENTS)]
    return first, max(last, first + 1)


def _meets(window: Window, from_ms: int, to_ms: int) -> bool:
    return window.start_ms <= to_ms and window.end_ms >= from_ms


def _recent_shares(observations: Sequence[Observation], from_ms: int, to_ms: int) -> list[tuple[int, float]]:
    """The share of the last events at each event, thinned to what a drawing can show."""
    shares = []
    negatives = 0
    for at, each in enumerate(observations):
        negatives += each.negative
        if at >= RECENT:
            negatives -= observations[at - RECENT].negative
        events = min(at + 1, RECENT)
        if events >= FEWEST and from_ms <= each.arrival_ms <= to_ms:
            shares.append((each.arrival_ms, negatives / events))
    step = -(-len(shares) // MOST_POINTS) or 1
    return shares[::step]


def _bars(observations: Sequence[Observation], from_ms: int, to_ms: int) -> tuple[list[Box], list[Box], int]:
    events, negatives = [0] * BARS, [0] * BARS
    for each in observations:
        if from_ms <= each.arrival_ms <= to_ms:
            bar = min(BARS - 1, (each.arrival_ms - from_ms) * BARS // (to_ms - from_ms))
            events[bar] += 1
            negatives[bar] += each.negative
    most = max(*events, 1)
    return _boxes(events, most), _boxes(negatives, most), most


def _boxes(counts: Sequence[int], most: int) -> list[Box]:
    room = 1.0 - BARS_TOP
    return [
        Box((bar + 0.1) / BARS, 1.0 - room * count / most, 0.8 / BARS, room * count / most)
        for bar, count in enumerate(counts)
        if count
    ]
