from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.bench import rate as bench
from stream.core.profile import Profile, flat, learn_profile
from stream.core.rate import Pace
from stream.core.spike import Observation
from stream.core.surge import Firing, State, SurgeDetector, SurgeRule, pack, surge_rule_from, unpack

if TYPE_CHECKING:
    from stream.core.events import Alert

START_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def rule(run: float = 2_000.0, **changes: object) -> SurgeRule:
    made = surge_rule_from(1.0, run, min_negatives=8, historic_after_ms=DAY_MS)
    return msgspec.structs.replace(made, **changes)


def observation(at_ms: int, *, negative: bool = True, **changes: object) -> Observation:
    made = Observation(
        event_id=f"e{at_ms}",
        arrival_ms=START_MS + at_ms,
        event_ms=START_MS + at_ms - 500,
        negative=negative,
        p_negative=0.9 if negative else 0.1,
        author_id=f"author {at_ms}",
        text="bad" if negative else "fine",
    )
    return msgspec.structs.replace(made, **changes)


def every(
    gap_ms: int, count: int, start_ms: int = 0, *, negative: bool = True, **changes: object
) -> list[Observation]:
    moments = [start_ms + number * gap_ms for number in range(1, count + 1)]
    return [observation(at_ms, negative=negative, **changes) for at_ms in moments]


def judged(
    told: list[Observation], under: SurgeRule | None = None, product: str = "p1"
) -> tuple[bytes | None, list[Alert]]:
    return SurgeDetector(under or rule(), "m1").judge(product, "reviews", None, told)


QUIET = sorted(
    every(4 * HOUR_MS, 180) + every(HOUR_MS, 720, 60_000, negative=False), key=lambda each: each.arrival_ms
)
"""Thirty days with six negatives and twenty-four others a day."""
QUIET_MS = 30 * DAY_MS
BURST = every(HOUR_MS // 4, 40, QUIET_MS)
AFTER_MS = QUIET_MS + 10 * HOUR_MS
CALM = sorted(
    every(4 * HOUR_MS, 40, AFTER_MS) + every(HOUR_MS, 160, AFTER_MS + 60_000, negative=False),
    key=lambda each: each.arrival_ms,
)
INCIDENT = [*QUIET, *BURST, *CALM]


# Lifecycle


def test_a_surge_fires_once_and_resolves_once() -> None:
    _, alerts = judged(INCIDENT)
    assert [(alert.state, alert.sequence) for alert in alerts] == [("firing", 1), ("resolved", 2)]
    fired, resolved = alerts
    assert fired.id == resolved.id
    assert fired.onset == resolved.onset == "2023-12-14T22:13:20.000Z"
    assert fired.rule == "negative_rate"
    assert (fired.negatives, fired.events) == (8, 9)
    assert fired.rate is not None
    assert fired.rate.usual_per_day == pytest.approx(6.0, rel=0.05)
    assert fired.rate.per_day > 90.0
    assert fired.rate.evidence >= fired.rate.threshold
    assert fired.rate.profile == "flat"
    assert fired.baseline_share == pytest.approx(0.2, abs=0.01)
    assert fired.current_share == 8 / 9
    assert resolved.rate is not None
    assert resolved.rate.per_day < 15.0
    assert resolved.at == "2023-12-15T17:14:20.000Z"
    assert resolved.duration_s == 19 * 3_600 + 60


def test_the_usual_rate_does_not_learn_the_incident() -> None:
    before, after = (unpack(judged(told)[0] or b"") for told in (QUIET, [*QUIET, *BURST]))
    assert after.firing is not None
    assert after.pace.negatives / after.pace.days == pytest.approx(
        before.pace.negatives / before.pace.days, rel=0.02
    )


def test_silence_resolves_nothing_and_one_event_after_it_is_no_proof() -> None:
    state, alerts = judged([*QUIET, *BURST])
    detector = SurgeDetector(rule(), "m1")
    assert detector.judge("p1", "reviews", state, []) == (state, [])
    late = observation(QUIET_MS + 12 * DAY_MS, negative=False)
    _, more = detector.judge("p1", "reviews", state, [late])
    assert ([alert.state for alert in alerts], more) == (["firing"], [])


def test_events_of_other_labels_show_that_time_has_passed() -> None:
    state, _ = judged([*QUIET, *BURST])
    _, alerts = SurgeDetector(rule(), "m1").judge(
        "p1", "reviews", state, every(HOUR_MS, 72, AFTER_MS, negative=False)
    )
    assert [alert.state for alert in alerts] == ["resolved"]
    assert alerts[0].rate is not None
    assert alerts[0].rate.per_day == 0.0


def test_a_rate_that_stays_is_the_new_usual() -> None:
    state, alerts = judged([*QUIET, *every(HOUR_MS, 24 * 20, QUIET_MS)])
    assert [alert.state for alert in alerts] == ["firing", "resolved"]
    assert alerts[1].rate is not None
    assert alerts[1].rate.per_day == pytest.approx(24.0, rel=0.05)
    pace = unpack(state or b"").pace
    assert pace.negatives / pace.days == pytest.approx(24.0, rel=0.05)


def test_severity_is_critical_when_the_rate_surely_is_many_times_the_usual() -> None:
    assert judged(INCIDENT)[1][0].severity == "critical"
    slow = [*QUIET, *every(70 * 60_000, 200, QUIET_MS)]
    assert judged(slow)[1][0].severity == "warning"


# What fires nothing


def test_a_product_with_three_reviews_never_alerts() -> None:
    assert judged(every(1_000, 3), rule(50.0, min_negatives=1, min_days=0.0))[1] == []


def test_the_first_days_are_learned_and_never_judged() -> None:
    launch = [*every(8 * HOUR_MS, 6), *every(60_000, 300, 2 * DAY_MS)]
    assert judged(launch)[1] == []


def test_ten_posts_of_one_author_are_no_surge() -> None:
    state, alerts = judged([*QUIET, *every(HOUR_MS // 4, 40, QUIET_MS, author_id="Ann")])
    assert alerts == []
    assert unpack(state or b"").negatives <= 3


def test_a_text_copied_under_many_names_is_no_surge() -> None:
    copied = "The kettle leaked all over my desk after two days, and nobody answers my mails."
    assert judged([*QUIET, *every(HOUR_MS // 4, 40, QUIET_MS, text=copied)])[1] == []


def test_a_backfill_is_no_surge() -> None:
    old = [msgspec.structs.replace(each, event_ms=each.event_ms - 30 * DAY_MS) for each in BURST]
    assert judged([*QUIET, *old])[1] == []


def test_nothing_fires_before_the_minimum_of_negatives() -> None:
    for least in (8, 15, 30):
        assert judged(INCIDENT, rule(min_negatives=least))[1][0].negatives == least


def test_clocks_that_step_back_stop_time_and_harm_nothing() -> None:
    back = [
        msgspec.structs.replace(each, arrival_ms=START_MS - number) for number, each in enumerate(INCIDENT)
    ]
    state, alerts = judged(back)
    assert alerts == []
    assert unpack(state or b"").at_ms == START_MS


def test_hostile_texts_and_authors_do_no_harm() -> None:
    nasty = ["\ud800" * 50, "\x00\x1b[2J" * 9, "a@" * 10_000, "", "\u202e" * 30]
    told = [
        msgspec.structs.replace(each, text=nasty[number % 5], author_id=f"\ud800\x00{number}")
        for number, each in enumerate(INCIDENT)
    ]
    _, alerts = judged(told, product="p\udfff")
    assert all(quote.text.isprintable() for alert in alerts for quote in alert.quotes)


# The budget


def alarms_of_budget(run: float, mean_count: int, total: int) -> float:
    return bench.fleet(run, bench.zipf_like(np.random.default_rng(7), mean_count), total).of_budget


def test_a_steady_fleet_learned_from_nothing_keeps_the_budget() -> None:
    # Some 130 false alarms: a standard error of 0.08.
    assert 0.7 <= alarms_of_budget(2_000.0, 3_000, 300_000) <= 1.3


def test_a_known_daily_pattern_keeps_the_budget_and_an_unknown_one_does_not() -> None:
    def of_budget(profile: Profile) -> float:
        streams = bench.endless(lambda rng: bench.in_evenings(bench.steady(rng, 5.0, 3_000)))
        return bench.fleet(2_000.0, streams, 40_000, profile).of_budget

    assert 0.5 <= of_budget(bench.EVENING) <= 1.5
    assert of_budget(flat()) > 2.0


def test_a_profile_is_named_in_the_alert() -> None:
    named = learn_profile([10.0] * 168, version="2024-05")
    alerts = SurgeDetector(rule(), "m1", named).judge("p1", "reviews", None, INCIDENT)[1]
    assert [alert.rate and alert.rate.profile for alert in alerts] == ["2024-05", "2024-05"]


# Determinism and state


def test_alert_ids_depend_on_product_channel_rule_and_onset_alone() -> None:
    def fired(product: str, channel: str, under: SurgeRule, model: str) -> str:
        return SurgeDetector(under, model).judge(product, channel, None, INCIDENT)[1][0].id  # type: ignore[arg-type]

    base = fired("p1", "reviews", rule(), "m1")
    # Pinned: another value would make every replay announce old alerts as new ones.
    assert base == "100015fb2a32d384"
    assert fired("p1", "reviews", rule(), "m2") == base
    assert len({base, fired("p2", "reviews", rule(), "m1"), fired("p1", "chats", rule(), "m1")}) == 3
    assert fired("p1", "reviews", rule(name="other"), "m1") != base


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(
        st.tuples(st.integers(-HOUR_MS, 8 * HOUR_MS), st.booleans(), st.integers(0, 5)), max_size=60
    ),
    burst=st.integers(0, 50),
    cuts=st.lists(st.integers(0, 400), max_size=12),
)
def test_how_observations_are_split_into_calls_changes_nothing(
    gaps: list[tuple[int, bool, int]], burst: int, cuts: list[int]
) -> None:
    told = [*every(4 * HOUR_MS, 40), *every(HOUR_MS // 4, burst, 7 * DAY_MS)]
    at_ms = 8 * DAY_MS
    for gap_ms, negative, author in gaps:
        at_ms += gap_ms
        told.append(observation(at_ms, negative=negative, author_id=f"a{author}"))
    told += every(HOUR_MS, 30, at_ms, negative=False)
    under = rule(200.0)
    at_once = judged(told, under)

    def in_pieces(bounds: list[int]) -> tuple[bytes | None, list[Alert]]:
        state, alerts = None, []
        for start, end in pairwise(bounds):
            # A detector of its own for each call: nothing may be carried but the state.
            state, more = SurgeDetector(under, "m1").judge("p1", "reviews", state, told[start:end])
            alerts += more
        return state, alerts

    assert in_pieces(list(range(len(told) + 1))) == at_once
    assert in_pieces([0, *sorted(min(cut, len(told)) for cut in cuts), len(told)]) == at_once


def test_split_invariance_reaches_firing_and_resolving() -> None:
    state, alerts, kinds = None, [], set()
    for each in INCIDENT:
        state, more = SurgeDetector(rule(), "m1").judge("p1", "reviews", state, [each])
        assert state is not None
        kinds.add(state[0])
        alerts += more
    assert (state, alerts) == judged(INCIDENT)
    assert kinds == {1, 2}
    assert len(alerts) == 2


def test_nothing_observed_of_an_unknown_product_leaves_no_state() -> None:
    assert judged([]) == (None, [])


def test_a_state_is_99_bytes_and_4_an_author() -> None:
    state, _ = judged(every(4 * HOUR_MS, 40, author_id=None))
    assert len(state or b"") == 99
    known, _ = judged(every(4 * HOUR_MS, 40))
    assert len(known or b"") == 99 + 4 * len(unpack(known or b"").heard.authors)


numbers = st.floats(0.0, 1e6)


@given(
    pace=st.builds(Pace, *[numbers] * 7),
    negatives=st.integers(1, 2**32 - 1),
    firing=st.none() | st.builds(Firing, st.just("warning"), numbers, numbers, numbers),
)
def test_unpack_undoes_pack(pace: Pace, negatives: int, firing: Firing | None) -> None:
    state = State(START_MS, pace, negatives, negatives, 0.25, START_MS, b"12345678", firing=firing)
    assert unpack(pack(state)) == state


@pytest.mark.parametrize("packed", [b"", b"\x07", b"\x01short", b"\x02\xff"])
def test_bytes_that_are_no_state_are_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match="the surge detector's state is"):
        unpack(packed)
