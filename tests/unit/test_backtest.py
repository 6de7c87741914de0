"""Alerts held against labelled windows, and against those of another rule set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stream.core.backtest import (
    Incident,
    Quality,
    Spread,
    Transition,
    Window,
    incidents_of,
    matched,
    paired,
    quality,
)
from stream.core.events import rfc3339
from tests.builders import alert

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.core.events import Alert

DAY_MS = 86_400_000
START_MS = 1_700_000_000_000


def day(number: float) -> int:
    return START_MS + round(number * DAY_MS)


def fired(id_: str, onset: float, at: float, product: str = "kettle", **changes: object) -> Alert:
    return alert(id=id_, product_id=product, onset=rfc3339(day(onset)), at=rfc3339(day(at)), **changes)


def life(id_: str, onset: float, at: float, end: float | None = None, product: str = "kettle") -> Incident:
    """An incident whose event's place is its day: the streams here have one event a day."""
    transitions = [Transition(int(at), fired(id_, onset, at, product))]
    if end is not None:
        resolved = fired(id_, onset, end, product, state="resolved", sequence=2)
        transitions.append(Transition(int(end), resolved))
    return incidents_of(transitions)[0]


def window(start: float, end: float, product: str = "kettle", channel: str | None = None) -> Window:
    return Window(product, channel, day(start), day(end))  # type: ignore[arg-type]


EVERY_DAY = [day(number) for number in range(100)]


def found(incidents: Sequence[Incident], *windows: Window) -> tuple[list[str | None], list[str]]:
    """Which alert found each window, and which were for nothing."""
    matching = matched(incidents, windows, {"kettle": EVERY_DAY, "lamp": EVERY_DAY})
    return (
        [None if each.incident is None else each.incident.id for each in matching.windows],
        [each.id for each in matching.false_alarms],
    )


# --- incidents --------------------------------------------------------------------------------------------


def test_transitions_of_one_id_are_one_incident_with_the_counts_it_fired_with() -> None:
    first = fired("a", 1, 3, events=40, negatives=20)
    last = fired("a", 1, 9, state="resolved", events=90, negatives=33, peak_share=0.8, severity="critical")
    [incident] = incidents_of([Transition(52, first), Transition(99, last)])
    assert (incident.onset_ms, incident.fired_ms, incident.resolved_ms) == (day(1), day(3), day(9))
    assert (incident.place, incident.events, incident.negatives) == (52, 40, 20)
    assert (incident.peak_share, incident.severity) == (0.8, "critical")
    assert incident.delay_ms == 2 * DAY_MS


def test_an_incident_that_never_resolves_has_no_end() -> None:
    assert life("a", 1, 3).resolved_ms is None


def test_incidents_come_in_the_order_they_fired() -> None:
    transitions = [Transition(7, fired("late", 1, 7)), Transition(3, fired("soon", 2, 3, "lamp"))]
    assert [each.id for each in incidents_of(transitions)] == ["soon", "late"]


# --- windows ----------------------------------------------------------------------------------------------


def test_an_alert_on_a_windows_first_or_last_moment_finds_it() -> None:
    assert found([life("a", 1, 10), life("b", 1, 20)], window(10, 15), window(15, 20)) == (["a", "b"], [])


def test_an_alert_a_moment_outside_is_a_false_alarm() -> None:
    early, late = life("early", 1, 10), life("late", 1, 20)
    moment = 1 / DAY_MS
    assert found([early, late], window(10 + moment, 20 - moment)) == ([None], ["early", "late"])


def test_several_alerts_in_a_window_count_once_and_none_is_false() -> None:
    assert found([life("a", 1, 11), life("b", 12, 13)], window(10, 20)) == (["a"], [])


def test_an_alert_that_was_up_before_a_window_does_not_find_it() -> None:
    assert found([life("a", 1, 5, end=30)], window(10, 20)) == ([None], ["a"])


def test_an_alert_of_another_product_or_channel_does_not_find_a_window() -> None:
    incidents = [life("a", 1, 11), life("b", 1, 12, product="lamp")]
    assert found(incidents, window(10, 20, channel="chats")) == ([None], ["a", "b"])
    assert found(incidents, window(10, 20, channel="reviews")) == (["a"], ["b"])


def test_one_alert_finds_every_window_it_lies_in() -> None:
    assert found([life("a", 1, 15)], window(10, 20), window(14, 30)) == (["a", "a"], [])


def test_delays_count_from_the_labelled_start_the_firing_event_included() -> None:
    [one] = matched([life("a", 1, 12)], [window(9.5, 20)], {"kettle": EVERY_DAY}).windows
    assert (one.delay_events, one.delay_ms) == (3, round(2.5 * DAY_MS))  # days 10, 11 and 12


def test_the_least_delay_is_one_event_also_among_events_of_one_moment() -> None:
    eleventh = life("a", 10, 10)
    arrivals_ms = [*[day(0)] * 10, *[day(10)] * 3]
    [one] = matched([eleventh], [window(10, 11)], {"kettle": arrivals_ms}).windows
    assert (one.delay_events, one.delay_ms) == (1, 0)


def test_quality_counts_incidents_on_both_sides() -> None:
    incidents = [life("a", 1, 11), life("b", 1, 12), life("c", 1, 33), life("false", 1, 50)]
    windows = [window(10, 20), window(30, 40), window(60, 70)]
    assert quality(matched(incidents, windows, {"kettle": EVERY_DAY}), days=100) == Quality(
        windows=3,
        found=2,
        false_alarms=1,
        precision=2 / 3,
        recall=2 / 3,
        delay_events=Spread(2, 4),
        delay_s=Spread(86_400.0, 3 * 86_400.0),
        false_alarms_per_day=0.01,
    )


def test_quality_of_silence_has_no_precision_and_no_delay() -> None:
    silent = quality(matched([], [window(10, 20)], {"kettle": EVERY_DAY}), days=100)
    assert (silent.precision, silent.recall, silent.delay_events) == (None, 0.0, None)


# --- two rule sets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "together"),
    [
        (life("b", 4, 6, end=8), True),
        (life("b", 5, 6), True),  # begins on the moment the first ends
        (life("b", 5.5, 6), False),
        (life("b", 4, 6, product="lamp"), False),
    ],
)
def test_alerts_are_of_the_same_trouble_when_their_times_overlap(other: Incident, together: bool) -> None:
    pairs = paired([life("a", 1, 3, end=5)], [other])
    assert len(pairs) == (1 if together else 2)


def test_an_alert_pairs_with_the_earliest_that_overlaps_and_the_rest_stand_alone() -> None:
    pairs = paired([life("a", 1, 20)], [life("x", 2, 3, end=4), life("y", 5, 6, end=7)])
    assert [(p.first and p.first.id, p.second and p.second.id) for p in pairs] == [("a", "x"), (None, "y")]
