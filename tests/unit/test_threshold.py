"""Plain threshold rules: when they fire, when they resolve, and what they remember."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core import detection
from stream.core.detection import alert_ids, follow
from stream.core.events import Alert, rfc3339
from stream.core.rules import ThresholdRule
from stream.core.spike import Observation, wilson
from stream.core.threshold import (
    MAX_AUTHORS,
    MOST_PAST_EVENTS,
    MOST_STEP_BACK_MS,
    ThresholdDetector,
    pack,
    unpack,
)

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
START_MS = 1_700_000_400_000  # a whole number of hours, and of twelfths of one


def rule(**fields: Any) -> ThresholdRule:
    """Fires at 40% of at least 10 events in an hour, resolves below 30%."""
    stated = {"name": "many", "window": "1h", "share": 0.4, "min_events": 10, **fields}
    return msgspec.convert({key: each for key, each in stated.items() if each is not None}, ThresholdRule)


def counting(negatives: int, **fields: Any) -> ThresholdRule:
    return rule(**{"share": None, "min_events": None, "negatives": negatives, **fields})


def event(minute: float, negative: bool, **changes: Any) -> Observation:
    at_ms = START_MS + round(minute * MINUTE_MS)
    made = Observation(
        event_id=f"e{minute:g}",
        arrival_ms=at_ms,
        event_ms=at_ms - 500,
        negative=negative,
        p_negative=0.9 if negative else 0.1,
        author_id=f"author {minute:g}",
        text=f"complaint of minute {minute:g}" if negative else "fine",
    )
    return msgspec.structs.replace(made, **changes)


def told(signs: str, start: float = 0.0, every: float = 1.0, **changes: Any) -> list[Observation]:
    """An event for each sign, ``every`` so many minutes: ``-`` is negative, ``+`` is not."""
    return [event(start + place * every, sign == "-", **changes) for place, sign in enumerate(signs)]


def judged(
    observations: list[Observation], *rules: ThresholdRule, state: bytes | None = None, product: str = "p1"
) -> tuple[bytes | None, list[Alert]]:
    detector = ThresholdDetector(rules or [rule()], "m1", DAY_MS)
    return detector.judge(product, "reviews", state, observations)


def minutes(alerts: list[Alert]) -> list[tuple[str, float]]:
    """What happened, and in which minute."""
    return [
        (alert.state, round((datetime.fromisoformat(alert.at).timestamp() - START_MS / 1_000) / 60, 3))
        for alert in alerts
    ]


# Firing


def test_a_rule_fires_with_the_event_that_reaches_the_share_and_not_before() -> None:
    assert minutes(judged(told("++++++---"))[1]) == []
    assert minutes(judged(told("++++++----"))[1]) == [("firing", 9)]


def test_a_share_of_few_events_fires_nothing() -> None:
    assert judged(told("-" * 9))[1] == []
    assert minutes(judged(told("-" * 10))[1]) == [("firing", 9)]


def test_a_count_fires_whatever_the_share() -> None:
    signs = "+++++-" * 4
    assert minutes(judged(told(signs), counting(4))[1]) == [("firing", 23)]
    assert judged(told(signs), counting(5))[1] == []


def test_with_both_lines_both_must_hold() -> None:
    both = rule(negatives=6)
    assert minutes(judged(told("++++++------"), both)[1]) == [("firing", 11)]
    assert judged(told("++++++-----"), both)[1] == []
    assert judged(told("+" * 20 + "-" * 6), both)[1] == []


def test_what_left_the_window_counts_no_more() -> None:
    # Ten negatives in 65 minutes are never ten in a window of at most 65.
    assert judged(told("-" * 10, every=7.5), counting(10))[1] == []
    assert minutes(judged(told("-" * 10, every=6), counting(10))[1]) == [("firing", 54)]


def test_a_window_is_twelve_whole_twelfths_and_the_newest() -> None:
    first_ms = START_MS + 5 * MINUTE_MS  # begins a twelfth
    for later_ms, fires in (
        (HOUR_MS, True),
        (HOUR_MS + 5 * MINUTE_MS - 1, True),
        (HOUR_MS + 5 * MINUTE_MS, False),
    ):
        pair = [event(0, True, arrival_ms=first_ms), event(1, True, arrival_ms=first_ms + later_ms)]
        assert bool(judged(pair, counting(2))[1]) is fires


def test_a_window_is_never_shorter_than_it_says() -> None:
    for offset in range(0, 300, 7):
        first_ms = START_MS + offset * 1_000
        pair = [event(0, True, arrival_ms=first_ms), event(1, True, arrival_ms=first_ms + HOUR_MS)]
        assert len(judged(pair, counting(2))[1]) == 1


def test_a_rule_with_a_wait_is_pending_until_it_has_passed() -> None:
    waiting = rule(**{"for": "5m"})
    assert minutes(judged(told("-" * 30), waiting)[1]) == [("firing", 14)]
    assert judged(told("-" * 14), waiting)[1] == []
    assert unpack(judged(told("-" * 14), waiting)[0])["many"].incident is not None


def test_an_event_at_which_the_condition_fails_begins_the_wait_anew() -> None:
    # It holds in minutes 9 to 11, not at 12 (5 of 13 negative), and again from 14 on (6 of 15).
    signs = "++++++----" + "-+++" + "-" * 10
    _, alerts = judged(told(signs), rule(**{"for": "5m"}))
    assert minutes(alerts) == [("firing", 19)]
    assert alerts[0].onset == rfc3339(START_MS + 14 * MINUTE_MS)


def test_silence_as_long_as_the_window_begins_the_wait_anew() -> None:
    waiting = counting(1, **{"for": "1h"})
    # Each of them holds by itself, but nothing was seen in between.
    assert judged([event(0, True), event(65, True), event(130, True)], waiting)[1] == []
    assert minutes(judged([event(0, True), event(40, True), event(80, True)], waiting)[1]) == [("firing", 80)]


# Resolving


def test_an_alert_resolves_below_its_resolving_line_and_not_between() -> None:
    signs = "++++++----" + "+" * 3 + "+" * 10
    _, alerts = judged(told(signs))
    # 4 of 13 is above 30%, 4 of 14 is below it.
    assert minutes(alerts) == [("firing", 9), ("resolved", 13)]
    assert [alert.sequence for alert in alerts] == [1, 2]
    assert alerts[0].id == alerts[1].id


def test_a_share_that_hovers_between_the_lines_does_not_flap() -> None:
    signs = "++++++----" + "++-+-" * 10
    assert minutes(judged(told(signs))[1]) == [("firing", 9)]


def test_the_file_may_say_where_an_alert_resolves() -> None:
    signs = "++++++----" + "+" * 30
    assert minutes(judged(told(signs), rule(resolve_share=0.2))[1]) == [("firing", 9), ("resolved", 20)]
    assert minutes(judged(told(signs), rule(resolve_share=0.4))[1]) == [("firing", 9), ("resolved", 10)]


def test_a_count_resolves_when_enough_has_left_the_window() -> None:
    quiet = told("+" * 20, start=10, every=5)
    _, alerts = judged([*told("-" * 8), *quiet], counting(8))
    # The first five negatives leave together, with the event of minute 65.
    assert minutes(alerts) == [("firing", 7), ("resolved", 65)]
    assert (alerts[1].events, alerts[1].negatives, alerts[1].current_share) == (20, 8, 3 / 15)


def test_silence_never_resolves_and_the_event_after_it_does() -> None:
    burst = told("-" * 12)
    state, alerts = judged(burst)
    assert minutes(alerts) == [("firing", 9)]
    for sign in (True, False):
        _, more = judged([event(2_000, sign)], state=state)
        assert minutes(more) == [("resolved", 2_000)]


def test_fewer_than_half_of_the_events_it_needs_show_that_it_is_over() -> None:
    late = told("-----", start=70, every=0.5)
    assert minutes(judged([*told("-" * 12), *late])[1]) == [("firing", 9), ("resolved", 70)]
    # While the twelfth of minutes 5 to 9 is in the window, eight are enough to go on.
    late = told("-----", start=66, every=0.5)
    assert minutes(judged([*told("-" * 12), *late])[1]) == [("firing", 9)]


def test_an_alert_keeps_firing_until_it_has_been_over_for_long_enough() -> None:
    keeping = rule(keep_firing_for="10m")
    assert minutes(judged(told("++++++----" + "+" * 30), keeping)[1]) == [("firing", 9), ("resolved", 23)]
    # It is back above the resolving line in minute 16, and over again from 23 on.
    signs = "++++++----" + "++++" + "---" + "+" * 30
    assert minutes(judged(told(signs), keeping)[1]) == [("firing", 9), ("resolved", 33)]


def test_the_next_incident_is_another_alert() -> None:
    signs = "++++++----" + "+" * 10 + "-" * 20
    _, alerts = judged(told(signs))
    assert [alert.state for alert in alerts] == ["firing", "resolved", "firing"]
    assert [alert.sequence for alert in alerts] == [1, 2, 1]
    assert alerts[2].id != alerts[0].id


# Time


def test_clocks_that_step_back_neither_end_nor_repeat_anything() -> None:
    shuffled = [*told("++++++----"), event(3, True), event(5, True), event(4, True), *told("--", start=10)]
    state, alerts = judged(shuffled)
    assert minutes(alerts) == [("firing", 9)]
    assert unpack(state)["many"].latest_ms == START_MS + 11 * MINUTE_MS


def test_a_wait_does_not_pass_while_the_clock_is_behind() -> None:
    behind = [*told("-" * 10), *told("-" * 4, start=2)]
    assert judged(behind, rule(**{"for": "1m"}))[1] == []
    assert minutes(judged([*behind, event(10, True)], rule(**{"for": "1m"}))[1]) == [("firing", 10)]


def test_a_clock_that_was_days_ahead_is_not_waited_for() -> None:
    ahead = [event(0, True, arrival_ms=START_MS + 400 * DAY_MS)]
    back = told("++++++----")
    _, alerts = judged([*ahead, *back])
    assert minutes(alerts) == [("firing", 9)]
    edge = [event(0, True, arrival_ms=START_MS + MOST_STEP_BACK_MS)]
    assert unpack(judged([*edge, event(0, True)])[0])["many"].counts == [2, 2]


# What an alert says


def test_a_firing_alert_says_all_about_the_window() -> None:
    signs = "++++++----"
    _, (alert,) = judged(told(signs), rule(severity="critical"))
    usual = wilson(1.5, 10.0)
    assert msgspec.to_builtins(alert) == {
        "schema": 1,
        "id": "eac6e5edd5375660",
        "sequence": 1,
        "state": "firing",
        "rule": "many",
        "severity": "critical",
        "product_id": "p1",
        "channel": "reviews",
        "at": rfc3339(START_MS + 9 * MINUTE_MS),
        "onset": rfc3339(START_MS + 9 * MINUTE_MS),
        "events": 10,
        "negatives": 4,
        "current_share": 0.4,
        "current_interval": wilson(4, 10),
        "baseline_share": 0.15,
        "baseline_interval": usual,
        "baseline_events": 10.0,
        "false_alarm_run_length": 0.0,
        # Near its lines from the ninth event on: 3 of 9.
        "distinct_authors": 2,
        "quotes": [
            {
                "event_id": f"e{minute}",
                "text": f"complaint of minute {minute}",
                "p_negative": 0.9,
                "event_time": rfc3339(START_MS + minute * MINUTE_MS - 500),
            }
            for minute in (8, 9)
        ],
        "peak_share": 0.4,
        "duration_s": 0.0,
        "model_version": "m1",
        "historic": False,
        "resolution": None,
        "category": None,
        "phrases": [],
        "summary": [],
        "vocabulary": "",
        "priors": "",
        "rate": None,
    }


def test_a_resolved_alert_says_all_about_the_incident() -> None:
    signs = "++++++----" + "--" + "+" * 10
    _, alerts = judged(told(signs))
    resolved = alerts[1]
    assert minutes(alerts) == [("firing", 9), ("resolved", 20)]
    assert (resolved.events, resolved.negatives) == (21, 6)
    assert (resolved.current_share, resolved.peak_share) == (6 / 21, 6 / 12)
    assert resolved.duration_s == 11 * 60
    assert (resolved.distinct_authors, len(resolved.quotes)) == (4, 4)


def test_the_onset_is_where_the_condition_began_to_hold() -> None:
    _, (alert,) = judged(told("-" * 30), rule(**{"for": "5m"}))
    assert alert.onset == rfc3339(START_MS + 9 * MINUTE_MS)
    assert (alert.duration_s, alert.events, alert.negatives) == (300.0, 15, 15)


def test_the_baseline_is_what_had_left_the_window() -> None:
    quiet = told("+" * 54 + "-" * 6)
    state, _ = judged(quiet)
    gap = 600.0
    _, (alert,) = judged(told("-" * 10, start=gap), state=state)
    assert (alert.baseline_events, alert.baseline_share) == (70.0, 7.5 / 70)
    assert alert.baseline_interval == wilson(7.5, 70.0)


def test_an_incident_is_not_learned_while_it_fires() -> None:
    long = told("-" * 600)
    state, alerts = judged(long)
    assert minutes(alerts) == [("firing", 9)]
    now = unpack(state)["many"]
    assert (now.past_events, now.past_negatives) == (0, 0)


def test_a_baseline_forgets_slowly() -> None:
    now = unpack(judged(told("+++-" * 2_000))[0])["many"]
    assert MOST_PAST_EVENTS / 2 < now.past_events <= MOST_PAST_EVENTS
    assert now.past_negatives / now.past_events == pytest.approx(0.25, abs=0.01)


def test_an_alert_on_old_events_is_historic() -> None:
    old = [msgspec.structs.replace(each, event_ms=each.arrival_ms - DAY_MS - 1) for each in told("-" * 10)]
    assert judged(old)[1][0].historic
    assert not judged(told("-" * 10))[1][0].historic
    assert judged([*told("-" * 9), old[9]])[1][0].historic


def test_quotes_are_the_surest_distinct_masked_and_at_most_a_window_old() -> None:
    complaints = [
        msgspec.structs.replace(
            each, text=f"Broken {number % 7}! Mail a{number}@b.example", p_negative=0.9 + number % 7 / 100
        )
        for number, each in enumerate(told("-" * 30))
    ]
    _, (alert,) = judged(complaints, rule(**{"for": "20m"}))
    assert [quote.text for quote in alert.quotes] == [
        f"Broken {sure}! Mail [email]" for sure in (6, 5, 4, 3, 2)
    ]
    # A product that hovers near the line for hours quotes what is of now.
    near = told("++-" * 100)
    state, alerts = judged(near)
    evidence = unpack(state)["many"].evidence
    assert alerts == []
    assert evidence is not None
    assert evidence.since_ms >= START_MS + (300 - 62) * MINUTE_MS


def test_authors_are_counted_once_and_up_to_a_bound() -> None:
    one = [msgspec.structs.replace(each, author_id="one") for each in told("-" * 40)]
    assert judged(one, rule(**{"for": "20m"}))[1][0].distinct_authors == 1
    assert judged(told("-" * 59), rule(**{"for": "45m"}))[1][0].distinct_authors == MAX_AUTHORS
    unknown = [msgspec.structs.replace(each, author_id=None) for each in told("-" * 40)]
    assert judged(unknown)[1][0].distinct_authors == 0


def test_hostile_texts_and_authors_do_no_harm() -> None:
    nasty = ["\ud800" * 50, "\x00\x1b[2J" * 9, "", "   ", "\u202e" * 30]
    hostile = [
        msgspec.structs.replace(each, text=nasty[number % len(nasty)], author_id="\ud800\x00")
        for number, each in enumerate(told("-" * 12))
    ]
    state, alerts = judged(hostile, product="p\udfff")
    assert [alert.state for alert in alerts] == ["firing"]
    assert all(quote.text.isprintable() for quote in alerts[0].quotes)
    assert unpack(state)["many"].incident is not None


# Scope


def test_a_product_in_no_rules_scope_is_not_looked_at() -> None:
    detector = ThresholdDetector([rule(pattern="B*"), rule(name="chats", channel="chats")], "m1", DAY_MS)
    assert detector.judge("A1", "reviews", None, told("-" * 50)) == (None, [])
    assert detector.judge("B1", "reviews", None, told("-" * 50))[1][0].rule == "many"
    assert detector.judge("A1", "chats", None, told("-" * 50))[1][0].rule == "chats"


def test_a_category_rule_takes_its_categorys_events_alone() -> None:
    kettles = told("-" * 10, category="kettles")
    others = told("+" * 40, start=0.5, every=0.2, category="toys") + told("+" * 9, start=0.7, category=None)
    mixed = sorted([*kettles, *others], key=lambda each: each.arrival_ms)
    assert minutes(judged(mixed, rule(category="kettles"))[1]) == [("firing", 9)]
    assert judged(others, rule(category="kettles")) == (None, [])


def test_each_rule_keeps_its_own_counts_and_alerts() -> None:
    rules = [
        rule(),
        counting(3, name="three", window="15m"),
        rule(name="critical", share=0.9, severity="critical"),
    ]
    state, alerts = judged(told("-" * 10), *rules)
    assert [(alert.rule, alert.severity) for alert in alerts] == [
        ("three", "warning"),
        ("many", "warning"),
        ("critical", "critical"),
    ]
    assert len({alert.id for alert in alerts}) == 3
    assert sorted(unpack(state)) == ["critical", "many", "three"]


def test_alert_ids_depend_on_product_channel_rule_and_onset_alone() -> None:
    def fired(product: str = "p1", channel: str = "reviews", model: str = "m1", **fields: Any) -> str:
        detector = ThresholdDetector([rule(**fields)], model, DAY_MS)
        return detector.judge(product, channel, None, told("-" * 10))[1][0].id  # type: ignore[arg-type]

    base = fired()
    # Pinned: another value would make every replay announce old alerts as new ones.
    assert base == "eac6e5edd5375660"
    assert fired(model="m2", severity="critical", resolve_share=0.1) == base
    assert len({base, fired("p2"), fired(channel="chats"), fired(name="other")}) == 4


# A file that changes


def test_lines_may_be_edited_while_a_rule_fires() -> None:
    state, _ = judged(told("-" * 10))
    state, alerts = judged(told("++", start=10), rule(share=0.9, resolve_share=0.87), state=state)
    assert minutes(alerts) == [("resolved", 11)]


@pytest.mark.parametrize(
    "edited",
    [[], [rule(window="2h")], [rule(category="kettles")], [rule(pattern="B*")], [rule(name="other")]],
)
def test_what_an_edited_rule_had_firing_is_resolved_at_the_next_event(edited: list[ThresholdRule]) -> None:
    state, (fired,) = judged(told("-" * 10))
    detector = ThresholdDetector(edited, "m1", DAY_MS)
    assert detector.judge("p1", "reviews", state, []) == (state, [])
    after, (resolved,) = detector.judge("p1", "reviews", state, told("+", start=10))
    assert (resolved.id, resolved.sequence, resolved.state) == (fired.id, 2, "resolved")
    assert (resolved.rule, resolved.events) == ("many", 10)
    assert all(now.incident is None and now.counts == [1, 0] for now in unpack(after).values())
    assert (after is None) == all(not each.covers("p1", "reviews") or each.category for each in edited)


def test_what_an_edited_rule_had_pending_is_forgotten() -> None:
    state, _ = judged(told("-" * 10), rule(**{"for": "5m"}))
    assert judged(told("+", start=10), rule(pattern="B*"), state=state) == (None, [])


# State


STRETCHES = st.lists(
    st.tuples(st.integers(1, 9), st.booleans(), st.sampled_from([0.2, 1.0, 7.0, 70.0, -3.0])), max_size=7
)
RULES = (
    rule(min_events=4),
    rule(name="waits", min_events=3, window="15m", keep_firing_for="3m", **{"for": "2m"}),
    counting(3, name="three", window="10m", category="kettles"),
)


@settings(max_examples=80, deadline=None)
@given(stretches=STRETCHES, cuts=st.lists(st.integers(0, 63), max_size=9))
def test_how_observations_are_split_into_calls_changes_nothing(
    stretches: list[tuple[int, bool, float]], cuts: list[int]
) -> None:
    events: list[Observation] = []
    minute = 0.0
    for count, negative, step in stretches:
        for _ in range(count):
            minute += step
            number = len(events)
            category = "kettles" if number % 2 else None
            events.append(
                event(minute, negative, event_id=f"e{number}", author_id=f"a{number % 3}", category=category)
            )
    at_once = judged(events, *RULES)

    def in_pieces(bounds: list[int]) -> tuple[bytes | None, list[Alert]]:
        state, alerts = None, []
        for start, end in pairwise(bounds):
            # A detector of its own for each call: nothing may be carried but the state.
            state, more = judged(events[start:end], *RULES, state=state)
            alerts += more
        return state, alerts

    assert in_pieces([*range(len(events) + 1)]) == at_once
    assert in_pieces([0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]) == at_once


def test_split_invariance_reaches_pending_firing_and_resolving() -> None:
    """The property above is worth something only if its inputs go through every state."""
    events = [*told("-" * 12, category="kettles"), *told("+" * 30, start=12, category="kettles")]
    state, alerts, seen = None, [], set()
    for each in events:
        state, more = judged([each], *RULES, state=state)
        alerts += more
        seen |= {
            "resting" if now.incident is None else "firing" if now.incident.severity else "pending"
            for now in unpack(state).values()
        }
    assert (state, alerts) == judged(events, *RULES)
    assert seen == {"resting", "pending", "firing"}
    assert sorted((alert.rule, alert.state) for alert in alerts) == [
        (name, state) for name in ("many", "three", "waits") for state in ("firing", "resolved")
    ]


@settings(max_examples=40, deadline=None)
@given(STRETCHES)
def test_a_rule_does_what_it_does_whatever_stands_beside_it(stretches: list[tuple[int, bool, float]]) -> None:
    events: list[Observation] = []
    minute = 0.0
    for count, negative, step in stretches:
        for _ in range(count):
            minute += step
            events.append(event(minute, negative, event_id=f"e{len(events)}"))
    together = judged(events, *RULES)[1]
    for each in RULES:
        assert judged(events, each)[1] == [alert for alert in together if alert.rule == each.name]


def test_the_window_holds_what_a_list_of_all_events_says() -> None:
    """The sliding counts against their definition, over gaps of every length."""
    state, arrivals = None, []
    minute = 0.0
    for number in range(400):
        minute += (0.3, 4.9, 5.0, 13.0, 59.9, 65.1, 0.0)[number * number % 7]
        seen = event(minute, number % 3 == 0)
        arrivals.append((seen.arrival_ms, seen.negative))
        state, _ = judged([seen], state=state)
        counts = unpack(state)["many"].counts
        oldest = seen.arrival_ms // (5 * MINUTE_MS) - 12
        inside = [negative for at_ms, negative in arrivals if at_ms // (5 * MINUTE_MS) >= oldest]
        assert (sum(counts[::2]), sum(counts[1::2])) == (len(inside), sum(inside))


def test_a_resting_state_is_small() -> None:
    state, _ = judged(told("+"))
    assert state is not None
    assert len(state) == 29
    busy, _ = judged(told("+++-" * 100, every=0.7), counting(100))
    assert busy is not None
    assert len(busy) <= 60
    ordinary, _ = judged(told("+++++-" * 2_000, every=0.01), rule(share=0.9))
    assert ordinary is not None
    assert len(ordinary) <= 100


def test_a_firing_state_stays_small_however_long_the_incident() -> None:
    endless = [
        msgspec.structs.replace(each, text=f"{number} bad " * 200)
        for number, each in enumerate(told("--+" * 1_000))
    ]
    state, alerts = judged(endless)
    assert [alert.state for alert in alerts] == ["firing"]
    assert state is not None
    assert len(state) < 2_500


def test_a_state_of_any_kind_survives_packing() -> None:
    state = None
    for each in told("++++++----" + "+" * 10 + "-" * 20):
        state, _ = judged([each], *RULES, state=state)
        assert pack(unpack(state)) == state


@pytest.mark.parametrize("damaged", [b"\x01", b"\x01\xff", b"\x01\x91\x92", b"\x07\x90"])
def test_a_damaged_state_is_refused_by_name(damaged: bytes) -> None:
    with pytest.raises(ValueError, match="threshold rules' state"):
        judged(told("+"), state=damaged)


def test_nothing_is_remembered_of_nothing() -> None:
    assert unpack(None) == unpack(b"") == {}
    assert pack({}) is None
    assert judged([]) == (None, [])


# A recount


def all_rules(thresholds: bytes | None) -> bytes:
    return detection.pack(detection._States(thresholds=thresholds))


def test_a_recount_sees_which_alerts_fire_and_which_may() -> None:
    state, alerts = judged(
        told("-" * 10), rule(), rule(name="waits", **{"for": "5m"}), counting(99, name="quiet")
    )
    firing = alerts[0].id
    ids = alert_ids(all_rules(state))
    assert ids[firing]
    assert sorted(ids.values()) == [False, True]
    assert alert_ids(None) == {}


def test_transitions_after_a_recount_follow_what_was_told() -> None:
    rules = (rule(), rule(name="waits", **{"for": "5m"}))
    state, (fired,) = judged(told("-" * 10), *rules)
    assert state is not None
    waiting = next(each for each, firing in alert_ids(all_rules(state)).items() if not firing)
    followed = detection.unpack(follow(all_rules(state), {fired.id: 5, waiting: 2, "another": 9})).thresholds
    _, alerts = judged([*told("-" * 10, start=10), *told("+" * 60, start=20)], *rules, state=followed)
    assert sorted((alert.id, alert.sequence) for alert in alerts) == sorted(
        [(fired.id, 6), (waiting, 3), (waiting, 4)]
    )
    assert follow(all_rules(state), {}) == all_rules(state)
